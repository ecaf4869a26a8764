//! A strict reader of `OpenMetrics` 1.0 text, for tests.
//!
//! It takes less than the specification allows (no timestamps, no exemplars) and checks what a scraper
//! would refuse: a TYPE before the samples of its family, no family twice, names with the ending of their
//! type, labels that end, buckets that only grow up to `+Inf` = count, and `# EOF` at the end.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

/// The samples of a text: a name with its labels as they were written, and the value.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    values: BTreeMap<String, f64>,
}

impl Samples {
    /// Reads a text.
    ///
    /// # Errors
    /// When it is no `OpenMetrics`; says in which line.
    pub fn read(text: &str) -> Result<Self> {
        let body = text.strip_suffix("# EOF\n").context("the text does not end with `# EOF`")?;
        let mut reader = Reader::default();
        for (at, line) in body.lines().enumerate() {
            reader.line(line).with_context(|| format!("line {}: {line}", at + 1))?;
        }
        reader.end_family()?;
        Ok(Self { values: reader.values })
    }

    /// The value of a sample, named as it was written: `pump_connections{class="idle"}`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    /// All names, with their labels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}

#[derive(Default)]
struct Reader {
    values: BTreeMap<String, f64>,
    seen: BTreeSet<String>,
    family: String,
    kind: String,
    began: bool,
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<()> {
        let Some(about) = line.strip_prefix("# ") else { return self.sample(line) };
        let (word, rest) = about.split_once(' ').context("a comment without a name")?;
        let (name, value) = rest.split_once(' ').context("a comment without a value")?;
        match word {
            "TYPE" => {
                self.end_family()?;
                ensure!(self.seen.insert(name.to_owned()), "the family `{name}` is there twice");
                ensure!(!name.ends_with("_total"), "a family is named without `_total`");
                let known = ["counter", "gauge", "histogram", "info"];
                ensure!(known.contains(&value), "`{value}` is no type of ours");
                (self.family, self.kind) = (name.to_owned(), value.to_owned());
            }
            "UNIT" => ensure!(name.ends_with(&format!("_{value}")), "the unit is not in the name"),
            "HELP" => {}
            _ => bail!("`{word}` is no comment"),
        }
        ensure!(name == self.family, "it is about another family than the one that began");
        ensure!(!self.began || word == "TYPE", "it comes after the samples");
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<()> {
        let (series, value) = line.rsplit_once(' ').context("a sample without a value")?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => {
                (name, read_labels(labels.strip_suffix('}').context("labels without an end")?)?)
            }
            None => (series, BTreeMap::new()),
        };
        let value: f64 = value.parse().context("the value is no number")?;
        let ending = name.strip_prefix(&self.family).context("it is of no family that began")?;
        let fits = match self.kind.as_str() {
            "counter" => ending == "_total" && value >= 0.0,
            "gauge" => ending.is_empty(),
            "info" => ending == "_info" && value == 1.0,
            _ => ["_bucket", "_count", "_sum"].contains(&ending),
        };
        ensure!(fits, "it does not fit the type `{}`", self.kind);
        match ending {
            "_bucket" => {
                let le = labels.get("le").context("a bucket without `le`")?;
                let bound: f64 = le.parse().context("`le` is no number")?;
                let float = le.contains(['.', 'e']) || le == "+Inf";
                ensure!(float, "`le` is written as an integer");
                let grows = self.buckets.last().is_none_or(|(b, v)| *b < bound && *v <= value);
                ensure!(grows, "buckets do not grow");
                self.buckets.push((bound, value));
            }
            "_count" => self.count = Some(value),
            _ => {}
        }
        self.began = true;
        let twice = self.values.insert(series.to_owned(), value).is_some();
        ensure!(!twice, "this sample is there twice");
        Ok(())
    }

    fn end_family(&mut self) -> Result<()> {
        if self.kind == "histogram" {
            let (bound, all) = *self.buckets.last().context("a histogram without buckets")?;
            ensure!(bound == f64::INFINITY, "{}: the last bucket is not `+Inf`", self.family);
            ensure!(self.count == Some(all), "{}: `+Inf` is not the count", self.family);
        }
        (self.buckets, self.count, self.began) = (Vec::new(), None, false);
        Ok(())
    }
}

/// `a="x",b="y"`, with `\\`, `\"` and `\n` in values.
fn read_labels(text: &str) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").context("a label without a value")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        ensure!(!name.is_empty() && name.chars().all(plain), "`{name}` is no name of a label");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().context("a label's value without an end")? {
                (at, '"') => break at,
                (_, '\\') => match chars.next().context("a value that ends with `\\`")?.1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => bail!("`\\{c}` is nothing"),
                },
                (_, c) => value.push(c),
            }
        };
        ensure!(labels.insert(name.to_owned(), value).is_none(), "`{name}` is there twice");
        rest = &after[end + 1..];
        if let Some(more) = rest.strip_prefix(',') {
            rest = more;
        } else {
            ensure!(rest.is_empty(), "something follows a label's value");
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# TYPE a counter\n# HELP a Help.\na_total{x=\"1\\\"\\n,}\"} 3\n\
        # TYPE b_seconds histogram\n# UNIT b_seconds seconds\n\
        b_seconds_bucket{le=\"0.5\"} 1\nb_seconds_bucket{le=\"+Inf\"} 2\n\
        b_seconds_count 2\nb_seconds_sum 1.5\n# EOF\n";

    #[test]
    fn a_good_text_is_read() {
        let samples = Samples::read(GOOD).expect("it is good");
        assert_eq!(samples.get("b_seconds_sum"), Some(1.5));
        assert_eq!(samples.names().count(), 5);
    }

    #[test]
    fn what_a_scraper_would_refuse_is_refused() {
        for (from, to) in [
            ("# EOF\n", ""),
            ("# TYPE a counter\n", ""),
            ("a_total{", "a{"),
            ("# TYPE a counter", "# TYPE a_total counter"),
            ("{x=\"1\\\"\\n,}\"}", "{x=\"1}"),
            ("le=\"0.5\"} 1", "le=\"0.5\"} 3"),
            ("le=\"0.5\"", "le=\"5\""),
            ("+Inf", "9.0"),
            ("_count 2", "_count 3"),
            ("b_seconds_sum 1.5", "b_seconds_sum 1.5\n# HELP b_seconds Late."),
            ("# UNIT b_seconds seconds", "# UNIT b_seconds bytes"),
            ("a_total{x=\"1\\\"\\n,}\"} 3\n", "a_total 3\na_total 3\n"),
        ] {
            let bad = GOOD.replacen(from, to, 1);
            assert_ne!(bad, GOOD, "{from}");
            assert!(Samples::read(&bad).is_err(), "{bad}");
        }
    }
}

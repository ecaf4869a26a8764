//! A crate's licence, from the form of SPDX to the form of Debian's copyright files.
//!
//! Debian's form has no parentheses: `or` binds less than `and`, and a comma less than both (copyright format 1.0,
//! "License"). What crates say is all of some groups, each a choice, and that is all that is understood here.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::Context;

/// What one has to obey: of each group one licence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Licence(Vec<Vec<String>>);

impl Licence {
    /// Reads an expression as it stands in a manifest.
    ///
    /// # Errors
    /// When it is of another form than groups of choices.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        // Before SPDX, a slash was the choice.
        let text = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut groups: Vec<Vec<String>> = vec![Vec::new()];
        let mut inside = false;
        let mut and = false;
        let mut or = false;
        for word in words {
            let group = groups.last_mut().expect("there is a group from the start");
            match word {
                "(" if !inside && group.is_empty() => inside = true,
                ")" if inside => inside = false,
                "AND" if !inside => {
                    and = true;
                    groups.push(Vec::new());
                }
                "OR" => or |= !inside,
                "WITH" | "LLVM-exception" => {
                    let name = group.last_mut().context("an exception from nothing")?;
                    name.push_str(if word == "WITH" { " with" } else { " LLVM exception" });
                }
                "(" | ")" | "AND" => anyhow::bail!("this is nested too deeply"),
                name => group.push(debian_s(name)),
            }
        }
        anyhow::ensure!(!(and && or), "`AND` and `OR` stand side by side");
        anyhow::ensure!(!groups.iter().any(Vec::is_empty), "something is missing");
        Ok(Self(without_needless(groups)))
    }

    /// The licences in it.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().flatten().cloned()
    }
}

impl fmt::Display for Licence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let choice = self.0.iter().any(|group| group.len() > 1);
        let groups: Vec<String> = self.0.iter().map(|group| group.join(" or ")).collect();
        f.write_str(&groups.join(if choice { ", and " } else { " and " }))
    }
}

/// Debian's name of a licence.
fn debian_s(name: &str) -> String {
    name.strip_suffix("-or-later").map_or_else(|| name.to_owned(), |name| format!("{name}+"))
}

/// Without groups that are obeyed by obeying another one: `A AND (A OR B)` is `A`.
fn without_needless(groups: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let sets: Vec<BTreeSet<String>> =
        groups.iter().map(|group| group.iter().cloned().collect()).collect();
    let needless = |at: usize| {
        sets.iter().enumerate().any(|(other, set)| {
            set.is_subset(&sets[at]) && other != at && (*set != sets[at] || other < at)
        })
    };
    let kept = groups.into_iter().enumerate().filter(|(at, _)| !needless(*at));
    kept.map(|(_, mut group)| {
        group.sort();
        group
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_told_in_debian_s_form_or_not_understood() {
        for (spdx, debian) in [
            ("MIT OR Apache-2.0", "Apache-2.0 or MIT"),
            ("MIT/Apache-2.0", "Apache-2.0 or MIT"),
            ("ISC AND (Apache-2.0 OR ISC)", "ISC"),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", "Apache-2.0 or MIT, and Unicode-3.0"),
            ("MIT AND BSD-3-Clause", "MIT and BSD-3-Clause"),
            ("Apache-2.0 WITH LLVM-exception OR MIT", "Apache-2.0 with LLVM exception or MIT"),
            ("MIT OR LGPL-2.1-or-later", "LGPL-2.1+ or MIT"),
        ] {
            assert_eq!(Licence::parse(spdx).unwrap().to_string(), debian, "{spdx}");
        }
        for odd in ["", "MIT AND", "MIT AND ISC OR Zlib", "((MIT OR ISC) AND Zlib) OR 0BSD"] {
            assert!(Licence::parse(odd).is_err(), "{odd}");
        }
    }
}

//! Which form of a thing is asked for (RFC 9110, 12.5.1).

use http::{HeaderMap, HeaderValue, header};
use pump_activity::{ACTIVITY_JSON, LD_JSON};

/// Longest `Accept` that is read, in media ranges.
const MAX_RANGES: usize = 32;

/// The form to answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `application/activity+json`.
    Activity,
    /// `application/ld+json` with the profile.
    Ld,
    /// A page.
    Page,
}

impl Form {
    /// What the client prefers among all three, or nothing that it accepts.
    ///
    /// A page only for those who name HTML: `*/*` alone is what programs send. Where HTML and an
    /// activity type weigh the same it is a program too, for no browser names the latter.
    pub(crate) fn preferred(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(header::ACCEPT) {
            return Some(Self::Activity);
        }
        let (mut activity, mut ld, mut page, mut json, mut any) = (0, 0, 0, 0, 0);
        for (range, weight) in ranges(headers) {
            match range.as_str() {
                "application/activity+json" => activity = activity.max(weight),
                "application/ld+json" => ld = ld.max(weight),
                "text/html" | "application/xhtml+xml" | "text/*" => page = page.max(weight),
                "application/json" => json = json.max(weight),
                "application/*" | "*/*" => any = any.max(weight),
                _ => {}
            }
        }
        let best = activity.max(ld);
        if page > best && page >= json {
            Some(Self::Page)
        } else if best > 0 {
            Some(if ld > activity { Self::Ld } else { Self::Activity })
        } else {
            (json > 0 || any > 0).then_some(Self::Activity)
        }
    }

    /// For what has no page: the JSON type that is asked for, else the usual one.
    pub(crate) fn json(headers: &HeaderMap) -> Self {
        match Self::preferred(headers) {
            Some(Self::Ld) => Self::Ld,
            _ => Self::Activity,
        }
    }

    /// The answer's `Content-Type`.
    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Activity => ACTIVITY_JSON,
            Self::Ld => LD_JSON,
            Self::Page => "text/html; charset=utf-8",
        })
    }
}

/// Whether somebody with a browser is waiting for the answer.
pub(crate) fn is_browser(headers: &HeaderMap) -> bool {
    ranges(headers).any(|(range, weight)| range == "text/html" && weight > 0)
}

/// Whether a body of this `Content-Type` is an activity (ActivityPub section 6).
pub(crate) fn is_activity(content_type: Option<&HeaderValue>) -> bool {
    let Some(text) = content_type.and_then(|value| value.to_str().ok()) else { return false };
    let essence = text.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    matches!(essence.as_str(), "application/activity+json" | "application/ld+json")
}

/// The media ranges, lower-cased and without parameters, with their weight in thousandths.
fn ranges(headers: &HeaderMap) -> impl Iterator<Item = (String, u32)> {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).take(MAX_RANGES).map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or("").to_ascii_lowercase();
        let weight = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(1000, weight);
        (name, weight)
    })
}

/// `0.25` in thousandths; what is no weight counts as none.
fn weight(text: &str) -> u32 {
    let weight = text.trim().parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight));
    weight.map_or(0, |weight| (weight * 1000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())])
    }

    #[test]
    fn each_gets_what_it_asks_for() {
        const LD: &str = "application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"";
        const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, want) in [
            ("application/activity+json", Some(Form::Activity)),
            (LD, Some(Form::Ld)),
            ("application/activity+json, application/ld+json", Some(Form::Activity)),
            ("application/ld+json, application/activity+json;q=0.9", Some(Form::Ld)),
            (BROWSER, Some(Form::Page)),
            ("text/html", Some(Form::Page)),
            ("application/activity+json, text/html;q=0.5", Some(Form::Activity)),
            ("application/activity+json;q=0.5, text/html", Some(Form::Page)),
            ("application/activity+json, text/html", Some(Form::Activity)),
            ("*/*", Some(Form::Activity)),
            ("application/json, text/html;q=0.5", Some(Form::Activity)),
            ("text/html, application/json", Some(Form::Page)),
            ("text/*", Some(Form::Page)),
            ("application/json", Some(Form::Activity)),
            ("image/png", None),
            ("text/html;q=0", None),
            ("application/activity+json;q=nan", None),
            ("", None),
        ] {
            assert_eq!(Form::preferred(&headers(accept)), want, "{accept}");
        }
        assert_eq!(Form::preferred(&HeaderMap::new()), Some(Form::Activity));
        assert!(is_browser(&headers(BROWSER)));
        assert!(!is_browser(&headers("*/*")));
    }

    #[test]
    fn only_an_activity_is_one() {
        let is = |text: &str| is_activity(Some(&text.parse().unwrap()));
        assert!(is("application/activity+json"));
        assert!(is("Application/LD+JSON; profile=\"https://www.w3.org/ns/activitystreams\""));
        assert!(!is("application/json"));
        assert!(!is("text/plain; application/activity+json"));
        assert!(!is_activity(None));
    }
}

//! Names: of an account here (`alice`), of a server (`social.example`), and of somebody anywhere
//! (`alice@social.example`, RFC 7565 without its scheme).

use std::fmt;
use std::str::FromStr;

use crate::limits::{MAX_DOMAIN, MAX_NAME};

/// Names that nobody may register: the first parts of our own paths and of paths we may want, names
/// that other people's mail goes to (RFC 2142), and names that let somebody speak for the server.
const RESERVED: &[&str] = &[
    "about",
    "abuse",
    "account",
    "accounts",
    "activities",
    "actor",
    "admin",
    "administrator",
    "api",
    "assets",
    "auth",
    "favicon",
    "followers",
    "following",
    "healthz",
    "help",
    "home",
    "host",
    "hostmaster",
    "inbox",
    "likes",
    "login",
    "logout",
    "me",
    "media",
    "metrics",
    "moderator",
    "nodeinfo",
    "noreply",
    "notes",
    "notifications",
    "null",
    "oauth",
    "outbox",
    "owner",
    "postmaster",
    "privacy",
    "public",
    "pump",
    "pumpd",
    "readyz",
    "register",
    "root",
    "search",
    "security",
    "settings",
    "share",
    "shared_inbox",
    "signin",
    "signout",
    "signup",
    "static",
    "staff",
    "statuses",
    "support",
    "system",
    "tags",
    "terms",
    "undefined",
    "users",
    "web",
    "webfinger",
    "webmaster",
    "well_known",
    "www",
];

/// The name of an account on this server: 1 to [`MAX_NAME`] of `a` to `z`, `0` to `9` and `_`.
///
/// Parsing lowers the case. It lets reserved names pass, because a name that was given away before it
/// became reserved must still be found; who makes a new account asks [`LocalName::for_new_account`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalName(String);

/// Why a text cannot be the name of an account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing there.
    #[error("a name needs at least one character")]
    Empty,
    /// Longer than [`MAX_NAME`].
    #[error("the name is longer than {MAX_NAME} characters")]
    TooLong,
    /// Something other than a letter, a digit or `_`.
    #[error("a name is made of `a` to `z`, `0` to `9` and `_`, and this one contains {0:?}")]
    Character(char),
    /// Kept for the server itself.
    #[error("the name `{0}` is kept for the server itself")]
    Reserved(LocalName),
}

impl LocalName {
    /// Parses the name of an account that is to be made.
    ///
    /// # Errors
    /// As [`LocalName::from_str`], and for a reserved name.
    pub fn for_new_account(text: &str) -> Result<Self, InvalidName> {
        let name: Self = text.parse()?;
        if name.is_reserved() { Err(InvalidName::Reserved(name)) } else { Ok(name) }
    }

    /// Whether nobody may register it.
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&self.0.as_str())
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LocalName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if let Some(other) = text.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '_') {
            return Err(InvalidName::Character(other));
        }
        if text.len() > MAX_NAME {
            return Err(InvalidName::TooLong);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for LocalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name of a server: `social.example`, or `localhost:8000` where somebody tries things out.
/// Lower case, ASCII (an international name in its `xn--` form).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

/// A name of somebody anywhere: `alice@social.example`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// Who.
    pub name: LocalName,
    /// Where.
    pub domain: Domain,
}

/// Why a text is no handle or no domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHandle {
    /// No `@` between a name and a domain.
    #[error("a handle is a name, `@` and a domain, as in `alice@social.example`")]
    NoDomain,
    /// The part before the `@`.
    #[error("the part before `@` is no name of an account here")]
    Name(#[source] InvalidName),
    /// The part after the `@`.
    #[error("{0:?} is no domain: it should look like `social.example`")]
    Domain(String),
}

impl Domain {
    /// The domain in lower case, with its port if it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = InvalidHandle;

    fn from_str(text: &str) -> Result<Self, InvalidHandle> {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let label = |part: &str| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        let good_port = |port: &str| {
            port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        if host.len() <= MAX_DOMAIN && host.split('.').all(label) && port.is_none_or(good_port) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            // Quoted back to a person, so no longer than a domain can be.
            Err(InvalidHandle::Domain(text.chars().take(MAX_DOMAIN).collect()))
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// With or without an `@` in front, as people write it.
impl FromStr for Handle {
    type Err = InvalidHandle;

    fn from_str(text: &str) -> Result<Self, InvalidHandle> {
        let text = text.strip_prefix('@').unwrap_or(text);
        let (name, domain) = text.split_once('@').ok_or(InvalidHandle::NoDomain)?;
        let name = name.parse().map_err(InvalidHandle::Name)?;
        Ok(Self { name, domain: domain.parse()? })
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_lowered_and_bounded() {
        let parse = |text: &str| text.parse::<LocalName>();
        assert_eq!(parse("Alice_99").map(|name| name.to_string()), Ok("alice_99".into()));
        assert_eq!(parse(""), Err(InvalidName::Empty));
        assert!(parse(&"a".repeat(MAX_NAME)).is_ok());
        assert_eq!(parse(&"a".repeat(MAX_NAME + 1)), Err(InvalidName::TooLong));
        for (text, found) in
            [("a b", ' '), ("../x", '.'), ("zoë", 'ë'), ("a\0", '\0'), ("\u{212a}", '\u{212a}')]
        {
            assert_eq!(parse(text), Err(InvalidName::Character(found)), "{text:?}");
        }
    }

    #[test]
    fn a_reserved_name_is_found_but_not_given_away() {
        for name in ["admin", "Inbox", "users", "oauth", "postmaster"] {
            assert!(name.parse::<LocalName>().is_ok(), "{name}");
            let refused = LocalName::for_new_account(name);
            assert!(matches!(refused, Err(InvalidName::Reserved(_))), "{name}: {refused:?}");
        }
        assert!(LocalName::for_new_account("alice").is_ok());
    }

    #[test]
    fn every_reserved_name_could_be_a_name() {
        for name in RESERVED {
            assert_eq!(name.parse::<LocalName>().unwrap().as_str(), *name);
        }
    }

    #[test]
    fn a_handle_is_read_as_people_write_it() {
        for text in ["alice@social.example", "@Alice@Social.Example"] {
            assert_eq!(text.parse::<Handle>().unwrap().to_string(), "alice@social.example");
        }
        assert!("alice@localhost:8000".parse::<Handle>().is_ok());
        let long = format!("alice@{}", "a.".repeat(200));
        for text in [
            "",
            "@",
            "alice",
            "@alice",
            "alice@",
            "@@x",
            "a b@c",
            "alice@-x",
            "alice@x..y",
            "alice@x:",
            "alice@x:0",
            "alice@x:99999",
            "alice@x:+1",
            "alice@x/y",
            "alice@[::1]",
            &long,
        ] {
            assert!(text.parse::<Handle>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parsers(text: String) {
            if let Ok(name) = text.parse::<LocalName>() {
                prop_assert_eq!(name.to_string().parse(), Ok(name));
            }
            if let Ok(handle) = text.parse::<Handle>() {
                prop_assert_eq!(handle.to_string().parse(), Ok(handle));
            }
        }
    }
}

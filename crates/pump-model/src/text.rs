//! What people write: notes, how they call themselves, passwords. Each is checked for its length when
//! it is made, so that nothing behind the edge has to.

use std::fmt;

use crate::limits::{MAX_DISPLAY_NAME, MAX_NOTE, MAX_PASSWORD, MAX_SUMMARY, MIN_PASSWORD};

/// Why a text was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Nothing but space.
    #[error("{what} needs some text")]
    Blank {
        /// Which text.
        what: &'static str,
    },
    /// Too short.
    #[error("{what} has {found} {unit}, and at least {limit} are needed")]
    TooShort {
        /// Which text.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// How long it has to be.
        limit: usize,
        /// What was counted.
        unit: &'static str,
    },
    /// Too long.
    #[error("{what} has {found} {unit}, and at most {limit} are taken")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// How long it may be.
        limit: usize,
        /// What was counted.
        unit: &'static str,
    },
    /// A control character where none belongs.
    #[error("{what} contains a control character")]
    Control {
        /// Which text.
        what: &'static str,
    },
}

fn at_most(what: &'static str, text: &str, limit: usize) -> Result<(), InvalidText> {
    let found = text.chars().count();
    if found > limit {
        return Err(InvalidText::TooLong { what, found, limit, unit: "characters" });
    }
    Ok(())
}

/// The source of a note: not blank, at most [`MAX_NOTE`] characters, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteText(String);

impl NoteText {
    /// Takes a text.
    ///
    /// # Errors
    /// When it is blank, too long, or has control characters other than tab, line feed and carriage
    /// return.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidText> {
        let (what, text) = ("a note", text.into());
        at_most(what, &text, MAX_NOTE)?;
        if text.trim().is_empty() {
            return Err(InvalidText::Blank { what });
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
            return Err(InvalidText::Control { what });
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How somebody wants to be called: one line of at most [`MAX_DISPLAY_NAME`] characters, without space
/// around it, perhaps empty (the account's name is shown then).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DisplayName(String);

impl DisplayName {
    /// Takes a name.
    ///
    /// # Errors
    /// When it is too long or has control characters, a line feed among them.
    pub fn new(text: &str) -> Result<Self, InvalidText> {
        let (what, text) = ("a display name", text.trim());
        at_most(what, text, MAX_DISPLAY_NAME)?;
        if text.chars().any(char::is_control) {
            return Err(InvalidText::Control { what });
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What somebody says about themselves: plain text of at most [`MAX_SUMMARY`] characters, without space
/// around it, perhaps empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary(String);

impl Summary {
    /// Takes a text.
    ///
    /// # Errors
    /// When it is too long, or has control characters other than tab, line feed and carriage return.
    pub fn new(text: &str) -> Result<Self, InvalidText> {
        let (what, text) = ("a summary", text.trim());
        at_most(what, text, MAX_SUMMARY)?;
        if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
            return Err(InvalidText::Control { what });
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A password for a new account: [`MIN_PASSWORD`] to [`MAX_PASSWORD`] bytes, of any kind (NIST SP
/// 800-63B, 5.1.1.2: length matters, composition rules do not). Its `Debug` keeps it to itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes a password.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidText> {
        let (what, unit, text) = ("a password", "bytes", text.into());
        let found = text.len();
        if found < MIN_PASSWORD {
            return Err(InvalidText::TooShort { what, found, limit: MIN_PASSWORD, unit });
        }
        if found > MAX_PASSWORD {
            return Err(InvalidText::TooLong { what, found, limit: MAX_PASSWORD, unit });
        }
        Ok(Self(text))
    }

    /// The password itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_counted_in_characters_and_kept_as_written() {
        assert_eq!(NoteText::new("  hello\n").unwrap().as_str(), "  hello\n");
        assert!(NoteText::new("é".repeat(MAX_NOTE)).is_ok());
        let refused = NoteText::new("é".repeat(MAX_NOTE + 1)).unwrap_err();
        assert_eq!(refused.to_string(), "a note has 5001 characters, and at most 5000 are taken");
        assert!(matches!(NoteText::new(" \n\t"), Err(InvalidText::Blank { .. })));
        assert!(matches!(NoteText::new("a\0b"), Err(InvalidText::Control { .. })));
    }

    #[test]
    fn a_display_name_is_one_line() {
        assert_eq!(DisplayName::new(" Ada Lovelace ").unwrap().as_str(), "Ada Lovelace");
        assert!(DisplayName::new("").is_ok());
        assert!(DisplayName::new("a\nb").is_err());
        assert!(DisplayName::new(&"x".repeat(MAX_DISPLAY_NAME + 1)).is_err());
    }

    #[test]
    fn a_summary_may_have_lines() {
        assert_eq!(Summary::new("a\nb ").unwrap().as_str(), "a\nb");
        assert!(Summary::new(&"x".repeat(MAX_SUMMARY + 1)).is_err());
    }

    #[test]
    fn a_password_is_counted_in_bytes_and_not_shown() {
        assert!(Password::new("1234567").is_err());
        assert!(Password::new("12345678").is_ok());
        assert!(Password::new("é".repeat(129)).is_err());
        assert_eq!(format!("{:?}", Password::new("correct horse").unwrap()), "Password(…)");
    }
}

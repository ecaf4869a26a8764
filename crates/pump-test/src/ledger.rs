//! Proof that no note was lost and none stands twice.
//!
//! Each note of a load has a token in its text that no other text has. Afterwards the whole
//! collection (an author's outbox, a follower's home feed) is read through the public API and held
//! against what the server acknowledged. The server knows nothing of tokens: no unique key and no
//! idempotency key helps it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::load::Post;

/// What a token starts with.
const TOKEN: &str = "token";

/// Length of a token: `token`, then 16 digits of the seed, 4 of the client, 8 of the note, in hex.
const TOKEN_LENGTH: usize = TOKEN.len() + 16 + 4 + 8;

pub(crate) fn token(seed: u64, client: usize, number: u64) -> String {
    format!("{TOKEN}{seed:016x}{client:04x}{number:08x}")
}

/// A note as a collection shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The id of the activity that created it.
    pub activity: String,
    /// Its text.
    pub content: String,
}

/// What was sent, and what of it was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Ledger<'a> {
    posts: &'a [Post],
}

/// What a collection showed.
#[derive(Debug, Default)]
pub struct Audit {
    /// Notes of this load that were acknowledged.
    pub acknowledged: usize,
    /// Notes of this load whose answer nobody saw, and that are there. Each is a failed request.
    pub unseen: usize,
    /// What is wrong. Empty when all is well.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Acknowledged and not there.
    Lost {
        /// The acknowledged id.
        activity: String,
    },
    /// Its token stands in more than one note.
    Doubled {
        /// The token.
        token: String,
        /// In how many.
        times: usize,
    },
    /// An acknowledged id is shown more than once.
    ShownTwice {
        /// The id.
        activity: String,
    },
    /// An acknowledged id is there with a text that is not its own.
    Altered {
        /// The id.
        activity: String,
        /// The text it should have.
        token: String,
    },
    /// Two answers named the same id.
    SameId {
        /// The id.
        activity: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { activity } => write!(f, "lost: {activity} was acknowledged, is not there"),
            Self::Doubled { token, times } => write!(f, "doubled: {token} stands {times} times"),
            Self::ShownTwice { activity } => write!(f, "doubled: {activity} is shown twice"),
            Self::Altered { activity, token } => {
                write!(f, "altered: {activity} is there without its text {token}")
            }
            Self::SameId { activity } => write!(f, "same id: two posts were told {activity}"),
        }
    }
}

impl<'a> Ledger<'a> {
    /// Over these posts.
    pub fn new(posts: &'a [Post]) -> Self {
        Self { posts }
    }

    /// The names of all who posted.
    pub fn authors(&self) -> BTreeSet<&'a str> {
        self.posts.iter().map(|post| post.author.as_str()).collect()
    }

    /// Holds a collection against the posts of one author, or of all (a feed of who follows all).
    pub fn check(&self, author: Option<&str>, shown: &[Shown]) -> Audit {
        let mut by_id: BTreeMap<&str, Vec<&Shown>> = BTreeMap::new();
        let mut by_token: BTreeMap<&str, usize> = BTreeMap::new();
        for note in shown {
            by_id.entry(&note.activity).or_default().push(note);
            if let Some(token) = token_in(&note.content) {
                *by_token.entry(token).or_default() += 1;
            }
        }
        let mut audit = Audit::default();
        let mut acknowledged = BTreeSet::new();
        for post in self.posts.iter().filter(|post| author.is_none_or(|who| who == post.author)) {
            let times = by_token.get(post.token.as_str()).copied().unwrap_or(0);
            if times > 1 {
                audit.problems.push(Problem::Doubled { token: post.token.clone(), times });
            }
            let Some(id) = &post.acknowledged else {
                audit.unseen += times.min(1);
                continue;
            };
            audit.acknowledged += 1;
            let activity = id.clone();
            if !acknowledged.insert(id) {
                audit.problems.push(Problem::SameId { activity: activity.clone() });
            }
            match by_id.get(id.as_str()).map(Vec::as_slice) {
                None => audit.problems.push(Problem::Lost { activity }),
                Some([note]) if token_in(&note.content) == Some(&post.token) => {}
                Some([_]) => {
                    audit.problems.push(Problem::Altered { activity, token: post.token.clone() });
                }
                Some(_) => audit.problems.push(Problem::ShownTwice { activity }),
            }
        }
        audit
    }
}

fn token_in(content: &str) -> Option<&str> {
    let begin = content.find(TOKEN)?;
    content.get(begin..begin + TOKEN_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(number: u64, acknowledged: Option<&str>) -> Post {
        let acknowledged = acknowledged.map(str::to_owned);
        Post { token: token(1, 2, number), author: "alice".into(), acknowledged }
    }

    fn shown(activity: &str, number: u64) -> Shown {
        let content = format!("<p>load {}</p>", token(1, 2, number));
        Shown { activity: activity.into(), content }
    }

    #[test]
    fn a_ledger_names_each_thing_that_is_wrong() {
        let posts = [post(0, Some("a")), post(1, Some("b")), post(2, None), post(3, None)];
        let ledger = Ledger::new(&posts);
        let check = |shown: &[Shown]| ledger.check(Some("alice"), shown).problems;

        let good = [shown("a", 0), shown("b", 1), shown("c", 2)];
        let audit = ledger.check(Some("alice"), &good);
        assert_eq!((audit.acknowledged, audit.unseen, audit.problems.len()), (2, 1, 0));

        assert_eq!(check(&good[1..]), [Problem::Lost { activity: "a".into() }]);
        let doubled = [shown("a", 0), shown("b", 1), shown("c", 2), shown("d", 2)];
        assert_eq!(check(&doubled), [Problem::Doubled { token: token(1, 2, 2), times: 2 }]);
        let altered = [shown("a", 9), shown("b", 1)];
        let wanted = Problem::Altered { activity: "a".into(), token: token(1, 2, 0) };
        assert_eq!(check(&altered), [wanted]);
        let twice = [shown("a", 0), shown("a", 9), shown("b", 1)];
        assert_eq!(check(&twice), [Problem::ShownTwice { activity: "a".into() }]);

        let same = [post(0, Some("a")), post(1, Some("a"))];
        let problems = Ledger::new(&same).check(None, &[shown("a", 0)]).problems;
        assert!(problems.contains(&Problem::SameId { activity: "a".into() }), "{problems:?}");
    }
}

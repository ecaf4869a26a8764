//! `packaging/files.list`: what an installation consists of.
//!
//! Install takes modes and owners from it, uninstall what to remove, and a test compares it with a
//! machine. So the three cannot drift apart.

use std::path::PathBuf;
use std::str::FromStr;

use pump_control::Layout;

const LIST: &str = include_str!("../../packaging/files.list");

/// When an entry goes, and where it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// The program itself.
    Program,
    /// What the administrator decides.
    Config,
    /// What people wrote, and root's records of upgrades.
    Data,
    /// What only a machine with systemd has.
    Unit,
    /// What ends with the boot.
    Runtime,
    /// What only a private place has.
    Private,
    /// What only an installation has whose program a package manager owns.
    Packaged,
    /// What a release brings, below its own folder.
    Release,
    /// What a package brings, and its manager makes and removes.
    Shipped,
    /// What only packages of Debian bring.
    Deb,
    /// What only packages of rpm bring.
    Rpm,
}

/// What kind of file an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A folder that goes when it is empty.
    Dir,
    /// A folder whose content is ours as well.
    Tree,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
}

/// One line of the list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// When it goes.
    pub(crate) group: Group,
    /// What it is.
    pub(crate) kind: Kind,
    /// Permission bits.
    pub(crate) mode: Option<u32>,
    /// User and group, on a machine. In a private place everything belongs to whoever made it.
    pub(crate) owner: Option<(&'static str, &'static str)>,
    /// Where it is, below `/` or the private place.
    pub(crate) path: &'static str,
}

impl Entry {
    /// Its path in this installation.
    pub(crate) fn at(&self, layout: &Layout) -> PathBuf {
        layout.under(self.path)
    }

    /// Whether this installation has such an entry.
    pub(crate) fn belongs_to(&self, layout: &Layout) -> bool {
        match self.group {
            Group::Unit => !layout.is_private() && !layout.is_packaged(),
            Group::Private => layout.is_private(),
            Group::Packaged => layout.is_packaged(),
            Group::Program => !layout.is_packaged(),
            Group::Release | Group::Shipped | Group::Deb | Group::Rpm => false,
            Group::Config | Group::Data | Group::Runtime => true,
        }
    }
}

/// Every entry, in the order of the list.
///
/// # Panics
/// When the list that was compiled in is malformed; a test reads it.
pub(crate) fn entries() -> Vec<Entry> {
    LIST.lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| parse(line).unwrap_or_else(|| panic!("`files.list` has a bad line: `{line}`")))
        .collect()
}

/// The entry of a path.
///
/// # Panics
/// When the list has none: what is not in it is neither made nor removed.
pub(crate) fn entry(path: &str) -> Entry {
    entries()
        .into_iter()
        .find(|entry| entry.path == path)
        .unwrap_or_else(|| panic!("`files.list` does not have `{path}`"))
}

fn parse(line: &'static str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let group = words.next()?.parse().ok()?;
    let kind = words.next()?.parse().ok()?;
    let mode = match words.next()? {
        "-" => None,
        bits => Some(u32::from_str_radix(bits, 8).ok()?),
    };
    let owner = match words.next()? {
        "-" => None,
        names => Some(names.split_once(':')?),
    };
    let path = words.next()?;
    words.next().is_none().then_some(Entry { group, kind, mode, owner, path })
}

impl FromStr for Group {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Ok(match word {
            "program" => Self::Program,
            "config" => Self::Config,
            "data" => Self::Data,
            "unit" => Self::Unit,
            "runtime" => Self::Runtime,
            "private" => Self::Private,
            "packaged" => Self::Packaged,
            "release" => Self::Release,
            "shipped" => Self::Shipped,
            "deb" => Self::Deb,
            "rpm" => Self::Rpm,
            _ => return Err(()),
        })
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Ok(match word {
            "dir" => Self::Dir,
            "tree" => Self::Tree,
            "file" => Self::File,
            "link" => Self::Link,
            _ => return Err(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_and_the_layout_name_the_same_places() {
        let layout = Layout::private("/place");
        for path in [
            layout.program(),
            layout.releases(),
            layout.current(),
            layout.previous(),
            layout.pump_link(),
            layout.config(),
            layout.upgrade_config(),
            layout.data(),
            layout.upgrade_data(),
            layout.runtime(),
        ] {
            assert!(entries().iter().any(|entry| entry.at(&layout) == path), "{}", path.display());
        }
    }
}

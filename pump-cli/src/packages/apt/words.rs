//! What dpkg and apt say in the C locale, read. Pure.

use std::path::PathBuf;

use url::Url;

use crate::packages::{OURS, is_ours};

/// A package, as dpkg knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) package: String,
    pub(super) held: bool,
    pub(super) half_done: bool,
}

/// `iU |pumpd`: what is wanted of it, how it is, and whether it has to be installed anew (dpkg-query(1)).
pub(super) fn known_as(line: &str) -> Option<Known> {
    let (abbreviated, package) = line.split_once('|')?;
    let [wanted, is, error] = abbreviated.as_bytes().first_chunk()?;
    Some(Known {
        package: package.to_owned(),
        held: *wanted == b'h',
        half_done: b"UFH".contains(is) || *error == b'R',
    })
}

/// Package, what is installed and what would be, of each that is (apt-cache(8)).
pub(super) fn policies(text: &str) -> Vec<(String, String, String)> {
    let mut all: Vec<(String, String, String)> = Vec::new();
    for line in text.lines() {
        if let Some(package) = line.strip_suffix(':').filter(|line| !line.starts_with(' ')) {
            all.push((package.to_owned(), String::new(), String::new()));
        } else if let (Some(last), Some((key, value))) = (all.last_mut(), line.split_once(':')) {
            match key.trim() {
                "Installed" => last.1 = value.trim().to_owned(),
                "Candidate" => last.2 = value.trim().to_owned(),
                _ => {}
            }
        }
    }
    let there = |version: &str| !version.is_empty() && version != "(none)";
    all.retain(|(_, installed, candidate)| there(installed) && there(candidate));
    // In our order, the daemon first.
    all.sort_by_key(|(package, ..)| OURS.iter().position(|ours| ours == package));
    all
}

/// `Phased-Update-Percentage: 10` (the field that apt itself reads for `apt upgrade`).
pub(super) fn percent(text: &str) -> Option<u32> {
    let told = text.lines().find_map(|line| line.strip_prefix("Phased-Update-Percentage:"));
    told.and_then(|told| told.trim().parse().ok())
}

/// What would change besides our packages: `Inst libc6 [1] (2 …)` and `Remv other [1]`.
pub(super) fn changes_others(simulated: &str) -> Vec<String> {
    let changes = simulated.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (what, package) = (words.next()?, words.next()?);
        let ours = what == "Inst" && is_ours(package.split(':').next().unwrap_or(package));
        (["Inst", "Remv", "Purg"].contains(&what) && !ours).then(|| package.to_owned())
    });
    changes.collect()
}

/// A package that lies in a folder of this machine, of what `--print-uris` says:
/// `'file:/srv/apt/pool/pumpd_1_amd64.deb' pumpd_1_amd64.deb 123 SHA256:…`.
pub(super) fn local(uris: &str) -> Option<PathBuf> {
    let daemon = format!(" {}_", OURS[0]);
    let line = uris.lines().find(|line| line.contains(&daemon))?;
    let address = line.strip_prefix('\'')?.split('\'').next()?;
    Url::parse(address).ok().filter(|it| it.scheme() == "file")?.to_file_path().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpkg_says_of_packages_is_read() {
        let known = |line| known_as(line).map(|it| (it.held, it.half_done));
        assert_eq!(known("ii |pumpd"), Some((false, false)));
        assert_eq!(known("hi |pumpd"), Some((true, false)));
        assert_eq!(known("iU |pumpd"), Some((false, true)));
        assert_eq!(known("iF |other"), Some((false, true)));
        assert_eq!(known("iHR|other"), Some((false, true)));
        assert_eq!(known("rc |gone"), Some((false, false)));
        // Waits for another package's trigger: apt sees to it by itself.
        assert_eq!(known("it |man-db"), Some((false, false)));
        assert_eq!(known(""), None);
    }

    #[test]
    fn what_apt_would_install_is_read_and_what_is_not_installed_is_passed_over() {
        let text = "pump:\n  Installed: 1.0\n  Candidate: 1.1\n  Version table:\n     1.1 500\n        500 file:/r stable/main\n\
                    pumpd:\n  Installed: 1.0\n  Candidate: 1.1\nother:\n  Installed: (none)\n  Candidate: 2\n";
        let read = policies(text);
        let want = |name: &str| (name.to_owned(), "1.0".to_owned(), "1.1".to_owned());
        assert_eq!(read, [want("pumpd"), want("pump")]);
        assert_eq!(policies("N: Unable to locate package pumpd\n"), []);
    }

    #[test]
    fn what_would_change_besides_our_packages_is_found() {
        let ours = "Inst pump [1] (2 Pump:stable [amd64]) []\nInst pumpd [1] (2 Pump:stable [amd64])\nConf pump (2)\n";
        assert_eq!(changes_others(ours), [""; 0]);
        let others = format!("{ours}Inst libc6 [2.36] (2.41 Debian:13 [amd64])\nRemv exim4 [4]\n");
        assert_eq!(changes_others(&others), ["libc6", "exim4"]);
    }

    #[test]
    fn a_package_in_a_folder_is_found_and_one_that_is_fetched_is_not_taken_for_one() {
        let line = "'file:/srv/a%20b/pumpd_1_amd64.deb' pumpd_1_amd64.deb 12 SHA256:0\n";
        assert_eq!(local(line), Some(PathBuf::from("/srv/a b/pumpd_1_amd64.deb")));
        assert_eq!(
            local("'https://a.example/pumpd_1_amd64.deb' pumpd_1_amd64.deb 12 SHA256:0"),
            None
        );
        assert_eq!(local("'file:/srv/pump_1_amd64.deb' pump_1_amd64.deb 12 SHA256:0"), None);
        assert_eq!(local(""), None);
    }

    #[test]
    fn a_share_of_machines_is_read() {
        assert_eq!(percent("Package: pumpd\nPhased-Update-Percentage: 10\n"), Some(10));
        assert_eq!(percent("Package: pumpd\n"), None);
    }
}

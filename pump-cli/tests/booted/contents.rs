//! What bundles and packages bring, compared with `packaging/files.list`; and how large it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use pump_control::constants::MAGIC;
use pump_release::FileList;

use super::packages::Packages;
use super::releases::Releases;

/// What the list and a package say of one path: `file`, `dir` or `link`, and the mode and owner of all but links.
type Told = (String, Option<(u32, String)>);

/// Largest size of the package `pumpd`, in bytes.
const MAX_PUMPD: u64 = 12 << 20;

/// What both packages may take on a disk, in bytes.
const MAX_INSTALLED: u64 = 40 << 20;

/// The entries of some groups of the list.
fn listed(groups: &[&str]) -> BTreeMap<PathBuf, Told> {
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/files.list");
    let list = std::fs::read_to_string(list).expect("the list is part of the source");
    let mut found = BTreeMap::new();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [group, kind, mode, owner, path] = words[..] else { continue };
        let bits = (mode != "-")
            .then(|| (u32::from_str_radix(mode, 8).expect("octal digits"), owner.to_owned()));
        let page = path.strip_prefix("/usr/local/share/man/man1/");
        let told = |kind: &str| (kind.to_owned(), Some((0o644, "root:root".to_owned())));
        match page {
            // Named once, for all.
            Some(page) if groups.contains(&"release") => {
                found.insert(
                    format!("/opt/pump/current/share/man/man1/{page}").into(),
                    told("file"),
                );
            }
            Some(page) => {
                found.insert(format!("/usr/share/man/man1/{page}.gz").into(), told("file"));
            }
            None if groups.contains(&group) => {
                found.insert(path.into(), (kind.to_owned(), bits));
            }
            None => {}
        }
    }
    found
}

/// Holds what a package has against the list. Folders that are everybody's need not be listed.
#[track_caller]
fn same(what: &str, found: &BTreeMap<PathBuf, Told>, listed: &BTreeMap<PathBuf, Told>) {
    for (path, told) in listed {
        assert_eq!(found.get(path), Some(told), "{what}: `{}`", path.display());
    }
    let above: BTreeSet<&Path> = listed.keys().flat_map(|path| path.ancestors().skip(1)).collect();
    for path in found.keys() {
        let known = listed.contains_key(path) || above.contains(path.as_path());
        assert!(known, "{what}: `{}` is not in the list", path.display());
    }
}

/// The package of a folder whose name begins and ends so.
fn package(folder: &Path, begins: &str, ends: &str) -> PathBuf {
    let all = std::fs::read_dir(folder).expect("xtask made it");
    let mut all = all.map(|entry| entry.expect("a folder can be read").path());
    all.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(begins) && name.ends_with(ends)
    })
    .unwrap_or_else(|| panic!("no `{begins}…{ends}` in `{}`", folder.display()))
}

#[track_caller]
fn printed(program: &str, words: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(words).arg(file).output().expect("it can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// `drwxr-xr-x` as kind and bits.
fn mode(text: &str) -> (&'static str, u32) {
    let kind = match text.as_bytes()[0] {
        b'd' => "dir",
        b'l' => "link",
        _ => "file",
    };
    (kind, text[1..].bytes().fold(0, |bits, at| bits << 1 | u32::from(at != b'-')))
}

fn told(permissions: &str, owner: &str) -> Told {
    let (kind, bits) = mode(permissions);
    (kind.to_owned(), (kind != "link").then(|| (bits, owner.to_owned())))
}

/// What a Debian package unpacks. `/lib` is a link to `/usr/lib` wherever it is installed.
fn in_deb(file: &Path, into: &mut BTreeMap<PathBuf, Told>) {
    for line in printed("dpkg-deb", &["--contents"], file).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let path = words[5].trim_start_matches('.');
        let path = if path == "/" { path } else { path.trim_end_matches('/') };
        let path = if path.starts_with("/lib") { format!("/usr{path}") } else { path.to_owned() };
        into.insert(path.into(), told(words[0], &words[1].replace('/', ":")));
    }
}

fn in_rpm(file: &Path, into: &mut BTreeMap<PathBuf, Told>) {
    let form = "[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILENAMES}\\n]";
    for line in printed("rpm", &["--query", "--queryformat", form, "--package"], file).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        into.insert(words[2].into(), told(words[0], words[1]));
    }
}

#[test]
#[ignore = "needs the releases that `cargo xtask test` makes"]
fn p8_bundles_and_packages_bring_what_the_list_says_and_nothing_else() {
    let packages = Packages::made();
    let (mut deb, mut rpm) = (BTreeMap::new(), BTreeMap::new());
    for name in ["pump", "pumpd"] {
        in_deb(&package(&packages.folders[0], &format!("{name}_"), ".deb"), &mut deb);
        in_rpm(&package(&packages.rpm_folders[0], &format!("{name}-0"), ".rpm"), &mut rpm);
    }
    same("deb", &deb, &listed(&["shipped", "deb"]));
    same("rpm", &rpm, &listed(&["shipped", "rpm"]));
    // What `pump upgrade` asks a repository's index for.
    let pumpd = package(&packages.rpm_folders[0], "pumpd-0", ".rpm");
    let told = printed("rpm", &["--query", "--provides", "--package"], &pumpd);
    let (_, build) = packages.first.split_once('+').expect("a name of a release");
    for wanted in [format!("pumpd(magic) = {MAGIC}\n"), format!("pumpd(build) = {build}")] {
        assert!(told.contains(&wanted), "{wanted}: {told}");
    }

    let bundle = File::open(Releases::made().bundle()).expect("xtask made it");
    let unpacked = zstd::Decoder::new(bundle).expect("a bundle is packed by zstd");
    let mut archive = tar::Archive::new(unpacked);
    let (mut found, mut files) = (BTreeMap::new(), None);
    for entry in archive.entries().expect("a bundle is a tar") {
        let mut entry = entry.expect("a whole entry");
        let path = entry.path().expect("a path").into_owned();
        if path == Path::new("FILES") {
            files = Some(std::io::read_to_string(&mut entry).expect("text"));
        }
        let bits = entry.header().mode().expect("a mode") & 0o7777;
        // Whoever unpacks it has it.
        found.insert(
            Path::new("/opt/pump/current").join(path),
            ("file".to_owned(), Some((bits, "root:root".to_owned()))),
        );
    }
    same("bundle", &found, &listed(&["release"]));

    // What `pump verify` holds a release against, which does not name itself.
    let files = files.expect("a bundle has its list");
    let files = FileList::parse(&files).expect("a list of files");
    let verified: BTreeSet<PathBuf> =
        files.iter().map(|(path, _)| Path::new("/opt/pump/current").join(path)).collect();
    let mut wanted: BTreeSet<PathBuf> = listed(&["release"]).into_keys().collect();
    wanted.remove(Path::new("/opt/pump/current/FILES"));
    assert_eq!(verified, wanted);
}

#[test]
#[ignore = "needs the releases that `cargo xtask test` makes"]
fn packages_are_small() {
    let packages = Packages::made();
    let size = |path: &Path| std::fs::metadata(path).expect("xtask made it").len();
    let pumpd = size(&package(&packages.folders[0], "pumpd_", ".deb"));
    assert!(pumpd <= MAX_PUMPD, "pumpd.deb has {pumpd} bytes");
    let pumpd = size(&package(&packages.rpm_folders[0], "pumpd-", ".rpm"));
    assert!(pumpd <= MAX_PUMPD, "pumpd.rpm has {pumpd} bytes");
    let installed = |name: &str| -> u64 {
        let deb = package(&packages.folders[0], name, ".deb");
        let kib = printed("dpkg-deb", &["--show", "--showformat=${Installed-Size}"], &deb);
        kib.trim().parse::<u64>().expect("a number") << 10
    };
    let installed = installed("pump_") + installed("pumpd_");
    assert!(installed <= MAX_INSTALLED, "both packages take {installed} bytes");
}

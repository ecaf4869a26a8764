//! The attacks that the TUF specification names (1.5.2), each of them by hand: what the command ends
//! with, that nothing of the attacker's ran, and that nothing was changed.
//!
//! The attacker has the server and the line to it, and the keys that are named. Each row prints a line
//! that `cargo xtask torture upgrades` makes its table from.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use pump_release::{Channel, TARGET};
use pump_repository::{Forgery, Quorum};
use pump_test::releases::{Deed, ReleaseServer};
use serde_json::Value;

use crate::master::Master;
use crate::place::{Place, Ran, Wanted, version};

/// Where an attack happens: an installation that fetches from a server of the attacker's.
pub(crate) struct Stage {
    pub(crate) place: Place,
    pub(crate) server: ReleaseServer,
    /// Comes to be when a program of the attacker's runs.
    mark: PathBuf,
}

/// One attack.
struct Attack {
    class: &'static str,
    name: &'static str,
    exit: i32,
    says: &'static str,
    mount: fn(&Stage),
}

impl Stage {
    fn new() -> Self {
        let place = Place::signed_by(Quorum::ROOT, Quorum::TARGETS);
        let server = ReleaseServer::of(place.source.dir());
        // Some fall silent at every try.
        place.fetch_from_within(&server.url(), "", 1);
        let mark = place.folder().join("ran");
        Self { place, server, mark }
    }

    /// A release whose program leaves a mark.
    fn evil(&self, number: &'static str) -> Wanted {
        let script = format!("touch '{}'", self.mark.display());
        // For the rest of the test, which is short.
        Wanted { instead: Some(Box::leak(script.into_boxed_str())), ..version(number) }
    }

    /// What the installation has seen before the attack.
    fn has_looked(&self) {
        self.place.offer(&version("1.0.1"));
        self.place.offer(&self.evil("1.1.0"));
        let kept = self.place.folder().join("before");
        copy(self.place.source.dir(), &kept);
        self.place.offer(&self.evil("1.2.0"));
        self.place.pump(&["upgrade", "--check"]).ended(10, "1.2.0");
    }

    /// Everything as it was one release ago.
    fn plays_back(&self) {
        self.server.always("", Deed::ServesFrom(self.place.folder().join("before")));
    }

    fn metadata(&self, name: &str) -> PathBuf {
        self.place.source.dir().join("metadata").join(name)
    }

    fn forge(&self, change: impl FnOnce(&mut Forgery)) {
        self.place.source.forge(change).expect("anything can be signed");
    }

    /// The hash of a file is said nowhere, so only its signatures speak for it.
    fn nobody_says_the_hash(forged: &mut Forgery) {
        let told = forged.snapshot.meta.get_mut("targets.json").expect("it is listed");
        (told.hashes, told.length) = (None, None);
    }

    fn next_root(&self, change: impl FnOnce(&mut tough::schema::Root)) {
        let change = |_: &_, root: &mut _| {
            change(root);
            Ok(())
        };
        self.place.keys().succeed(change).expect("a root can be signed");
        self.place.source.publish_root().expect("our own folder");
    }
}

fn yesterday() -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(24)
}

/// The source of somebody else, who offers what the attacker made.
fn strangers(stage: &Stage) -> PathBuf {
    let stranger = Place::new();
    stranger.offer(&stage.evil("6.6.6"));
    let kept = stage.place.folder().join("stranger");
    copy(stranger.source.dir(), &kept);
    kept
}

fn change_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let text = fs::read(path).expect("our own file");
    let mut value: Value = serde_json::from_slice(&text).expect("JSON");
    change(&mut value);
    fs::write(path, value.to_string()).expect("our own file");
}

const ATTACKS: &[Attack] = &[
    Attack {
        class: "arbitrary installation",
        name: "another file in the place of the bundle",
        exit: 40,
        says: "is not what was signed",
        mount: |stage| {
            stage.place.offer(&version("1.1.0"));
            stage.server.always("tar.zst", Deed::Poses(stage.evil("1.1.0").bundle().bytes));
        },
    },
    Attack {
        class: "arbitrary installation",
        name: "everything signed by a stranger",
        exit: 40,
        says: "not signed by keys that are trusted here",
        mount: |stage| stage.server.always("", Deed::ServesFrom(strangers(stage))),
    },
    Attack {
        class: "arbitrary installation",
        name: "no signature at all",
        exit: 40,
        says: "not signed by keys that are trusted here",
        mount: |stage| {
            stage.place.offer(&stage.evil("1.1.0"));
            for key in ["targets-1", "targets-2", "targets-3", "snapshot", "timestamp"] {
                stage.place.lose_key(key);
            }
            stage.forge(|_| {});
        },
    },
    Attack {
        class: "arbitrary installation",
        name: "the signatures of an older file",
        exit: 40,
        says: "not signed by keys that are trusted here",
        mount: |stage| {
            stage.place.offer(&stage.evil("1.1.0"));
            stage.forge(Stage::nobody_says_the_hash);
            let old = fs::read(stage.metadata("1.targets.json")).expect("our own file");
            let old: Value = serde_json::from_slice(&old).expect("JSON");
            change_json(&stage.metadata("2.targets.json"), |new| {
                new["signatures"] = old["signatures"].clone();
            });
        },
    },
    Attack {
        class: "endless data",
        name: "a time stamp without an end",
        exit: 40,
        says: "has more than its",
        mount: |stage| stage.server.always("timestamp.json", Deed::Endless),
    },
    Attack {
        class: "endless data",
        name: "a root without an end",
        exit: 40,
        says: "has more than its",
        mount: |stage| stage.server.always("2.root.json", Deed::Endless),
    },
    Attack {
        class: "endless data",
        name: "a bundle without an end",
        exit: 40,
        says: "has more than its",
        mount: |stage| {
            stage.place.offer(&stage.evil("1.1.0"));
            stage.server.always("tar.zst", Deed::Endless);
        },
    },
    Attack {
        class: "endless data",
        name: "one root more than are followed",
        exit: 40,
        says: "has more than 256 roots",
        mount: |stage| {
            let (keys, source) = (stage.place.keys(), &stage.place.source);
            // Every root is the publisher's own.
            for _ in 0..257 {
                keys.succeed(|_, _| Ok(())).expect("a root can be signed");
                source.publish_root().expect("our own folder");
            }
        },
    },
    Attack {
        class: "endless data",
        name: "silence in the middle of a bundle",
        exit: 75,
        says: "could not fetch",
        mount: |stage| {
            stage.place.offer(&stage.evil("1.1.0"));
            stage.server.always("tar.zst", Deed::StallAfter(0));
        },
    },
    Attack {
        class: "extraneous dependencies",
        name: "a release more in the index, on the way",
        exit: 40,
        says: "is not what was signed",
        mount: |stage| {
            stage.place.offer(&version("1.1.0"));
            let index = find(&strangers(stage).join("targets"), "index-stable.json");
            let bytes = fs::read(index).expect("our own file");
            stage.server.always("index-stable", Deed::Poses(bytes));
        },
    },
    Attack {
        class: "extraneous dependencies",
        name: "a file more in the bundle than is listed, signed",
        exit: 40,
        says: "not listed in `FILES`",
        mount: |stage| {
            let evil = stage.evil("1.1.0");
            stage.place.offer_bundle(&evil, &crate::bundles::with_unlisted(&evil), TARGET);
        },
    },
    Attack {
        class: "indefinite freeze",
        name: "a time stamp that has expired",
        exit: 41,
        says: "the timestamp metadata",
        mount: |stage| stage.forge(|forged| forged.timestamp.expires = yesterday()),
    },
    Attack {
        class: "indefinite freeze",
        name: "a snapshot that has expired",
        exit: 41,
        says: "the snapshot metadata",
        mount: |stage| stage.forge(|forged| forged.snapshot.expires = yesterday()),
    },
    Attack {
        class: "indefinite freeze",
        name: "targets that have expired",
        exit: 41,
        says: "the targets metadata",
        mount: |stage| stage.forge(|forged| forged.targets.expires = yesterday()),
    },
    Attack {
        class: "indefinite freeze",
        name: "a root that has expired",
        exit: 41,
        says: "the root metadata",
        mount: |stage| stage.next_root(|root| root.expires = yesterday()),
    },
    Attack {
        class: "indefinite freeze",
        name: "the next root is held back",
        exit: 75,
        says: "503",
        mount: |stage| {
            stage.place.offer(&stage.evil("1.1.0"));
            stage.next_root(|_| {});
            stage.server.always("2.root.json", Deed::Status(503, None));
        },
    },
    Attack {
        class: "malicious mirrors",
        name: "the same page for everything",
        exit: 40,
        says: "is not what was signed",
        mount: |stage| stage.server.always("", Deed::Serves(b"<html>Welcome!</html>".to_vec())),
    },
    Attack {
        class: "malicious mirrors",
        name: "nothing is there",
        exit: 75,
        says: "does not have",
        mount: |stage| stage.server.always("", Deed::Status(404, None)),
    },
    Attack {
        class: "malicious mirrors",
        name: "it leads in circles",
        exit: 75,
        says: "leads on more than",
        mount: |stage| stage.server.always("", Deed::RedirectsToItself),
    },
    Attack {
        class: "malicious mirrors",
        name: "come again in an hour",
        exit: 75,
        says: "come again in 3600 s",
        mount: |stage| stage.server.always("", Deed::Status(503, Some("3600"))),
    },
    Attack {
        class: "malicious mirrors",
        name: "it accepts and says nothing",
        exit: 75,
        says: "could not fetch",
        mount: |stage| stage.server.always("", Deed::Silent),
    },
    Attack {
        class: "mix and match",
        name: "the targets of before with the snapshot of now",
        exit: 40,
        says: "is not what was signed",
        mount: |stage| {
            stage.has_looked();
            fs::copy(stage.metadata("3.targets.json"), stage.metadata("4.targets.json"))
                .expect("our own files");
        },
    },
    Attack {
        class: "mix and match",
        name: "the snapshot of before with the time stamp of now",
        exit: 40,
        says: "is not what was signed",
        mount: |stage| {
            stage.has_looked();
            fs::copy(stage.metadata("3.snapshot.json"), stage.metadata("4.snapshot.json"))
                .expect("our own files");
        },
    },
    Attack {
        class: "mix and match",
        name: "the index of before with the targets of now",
        exit: 40,
        says: "is not what was signed",
        mount: |stage| {
            stage.has_looked();
            let old = find(&stage.place.folder().join("before/targets"), "index-stable.json");
            let bytes = fs::read(old).expect("our own file");
            stage.server.always("index-stable", Deed::Serves(bytes));
        },
    },
    Attack {
        class: "rollback",
        name: "everything as it was before",
        exit: 42,
        says: "somebody plays back an old state",
        mount: |stage| {
            stage.has_looked();
            stage.plays_back();
        },
    },
    Attack {
        class: "rollback",
        name: "a lower number, freshly signed",
        exit: 42,
        says: "",
        mount: |stage| {
            stage.has_looked();
            stage.forge(|forged| forged.targets.version = 1.try_into().expect("not 0"));
        },
    },
    Attack {
        class: "rollback",
        name: "after the kept metadata was lost",
        exit: 42,
        says: "somebody plays back an old state",
        mount: |stage| {
            stage.has_looked();
            fs::remove_dir_all(stage.place.path("var/lib/pump-upgrade/tuf")).expect("it is kept");
            stage.plays_back();
        },
    },
    Attack {
        class: "rollback",
        name: "after the kept metadata was torn",
        exit: 42,
        says: "somebody plays back an old state",
        mount: |stage| {
            stage.has_looked();
            for file in every_file(&stage.place.path("var/lib/pump-upgrade/tuf")) {
                fs::write(file, "").expect("our own file");
            }
            stage.plays_back();
        },
    },
    Attack {
        class: "rollback",
        name: "after the floor was lost",
        exit: 42,
        says: "",
        mount: |stage| {
            stage.has_looked();
            fs::remove_file(stage.place.path("var/lib/pump-upgrade/floor.json"))
                .expect("it is kept");
            stage.plays_back();
        },
    },
    Attack {
        class: "rollback",
        name: "after one figure of the floor was changed",
        exit: 42,
        says: "its checksum is another",
        mount: |stage| {
            stage.has_looked();
            let floor = stage.place.path("var/lib/pump-upgrade/floor.json");
            change_json(&floor, |floor| floor["floors"][0]["targets"] = 1.into());
            stage.plays_back();
        },
    },
    Attack {
        class: "key compromise",
        name: "a root by two of five keys",
        exit: 40,
        says: "the root metadata",
        mount: |stage| {
            for key in ["root-1", "root-2", "root-3"] {
                stage.place.lose_key(key);
            }
            stage.next_root(|_| {});
        },
    },
    Attack {
        class: "key compromise",
        name: "a root that names the thief's keys, by two of five",
        exit: 40,
        says: "the root metadata",
        mount: |stage| {
            for key in ["root-1", "root-2", "root-3"] {
                stage.place.lose_key(key);
            }
            let keys = stage.place.keys();
            let change = |keys: &pump_repository::Keys, root: &mut _| {
                keys.appoint(root, tough::schema::RoleType::Root, "thief", Quorum::ONE)
            };
            keys.succeed(change).expect("anything can be signed");
            stage.place.source.publish_root().expect("our own folder");
        },
    },
    Attack {
        class: "key compromise",
        name: "targets by one of three keys",
        exit: 40,
        says: "the targets metadata",
        mount: |stage| {
            stage.place.offer(&stage.evil("1.1.0"));
            stage.place.lose_key("targets-1");
            stage.place.lose_key("targets-2");
            stage.forge(|_| {});
        },
    },
    Attack {
        class: "key compromise",
        name: "the same key twice",
        exit: 40,
        says: "the targets metadata",
        mount: |stage| {
            stage.place.offer(&stage.evil("1.1.0"));
            stage.place.lose_key("targets-1");
            stage.place.lose_key("targets-2");
            stage.forge(Stage::nobody_says_the_hash);
            change_json(&stage.metadata("2.targets.json"), |file| {
                let signatures = file["signatures"].as_array_mut().expect("a list");
                let again = signatures.clone();
                signatures.extend(again);
            });
        },
    },
    Attack {
        class: "key compromise",
        name: "both online keys, and a file of one's own",
        exit: 40,
        says: "the targets metadata",
        mount: |stage| {
            stage.place.offer(&stage.evil("1.1.0"));
            for key in ["targets-1", "targets-2", "targets-3"] {
                stage.place.lose_key(key);
            }
            stage.forge(|_| {});
        },
    },
    Attack {
        class: "wrong software",
        name: "the index of another channel under the name of this one",
        exit: 40,
        says: "of channel `beta`",
        mount: |stage| {
            let beta = pump_release::Index::empty(Channel::Beta, Timestamp::now());
            let bytes = serde_json::to_vec(&beta).expect("JSON");
            let target = stage.place.source.add_file("index-stable.json", &bytes);
            let target = target.expect("our own folder");
            stage.forge(|forged| {
                let name = tough::TargetName::new("index-stable.json").expect("a name");
                forged.targets.targets.insert(name, target);
            });
        },
    },
    Attack {
        class: "wrong software",
        name: "a release for another machine",
        exit: 40,
        says: "made for riscv64gc",
        mount: |stage| {
            let evil = stage.evil("1.1.0");
            stage.place.offer_bundle(&evil, &evil.bundle(), "riscv64gc-unknown-linux-gnu");
        },
    },
    Attack {
        class: "wrong software",
        name: "the bundle of another release under this name",
        exit: 40,
        says: "and the signed metadata says 1.1.0",
        mount: |stage| {
            let evil = stage.evil("1.2.0");
            stage.place.offer_bundle(&version("1.1.0"), &evil.bundle(), TARGET);
        },
    },
    Attack {
        class: "wrong software",
        name: "two signed files that contradict each other",
        exit: 40,
        says: "contradicts itself",
        mount: |stage| {
            let evil = stage.evil("1.1.0");
            stage.place.offer(&evil);
            let name = format!("pump-1.1.0-{TARGET}.tar.zst");
            let target = stage.place.source.add_file(&name, b"another").expect("our own folder");
            stage.forge(|forged| {
                let name = tough::TargetName::new(name).expect("a name");
                forged.targets.targets.insert(name, target);
            });
        },
    },
];

#[expect(clippy::print_stdout, reason = "the table is made from it")]
fn tell(class: &str, name: &str, ran: &Ran) {
    println!("attack\t{class}\t{name}\t{}", ran.code.unwrap_or(-1));
}

/// Mounts every attack of a class, and tells how each ended.
fn refused(class: &str) {
    let mut seen = 0;
    for attack in ATTACKS.iter().filter(|it| it.class == class) {
        let stage = Stage::new();
        let master = Master::of(&stage.place, &version("1.0.0"));
        (attack.mount)(&stage);
        let before = stage.place.program();
        let ran = stage.place.pump(&["upgrade"]);
        tell(class, attack.name, &ran);
        ran.ended(attack.exit, attack.says);
        stage.place.is_untouched(&before);
        assert_eq!(stage.place.releases(), [version("1.0.0").info().name()], "{}", attack.name);
        assert!(!stage.mark.exists(), "{}: a program of the attacker's ran", attack.name);
        assert!(master.asked().is_empty(), "{}: the server was asked", attack.name);
        if attack.exit != 75 {
            let told = format!("exit {}", attack.exit);
            stage.place.pump(&["history"]).ended(0, &told);
        }
        seen += 1;
    }
    assert!(seen > 0, "there is no attack of the class `{class}`");
}

#[test]
fn attack_arbitrary_installation() {
    refused("arbitrary installation");
}

#[test]
fn attack_endless_data() {
    refused("endless data");
}

#[test]
fn attack_extraneous_dependencies() {
    refused("extraneous dependencies");
}

/// Its effect is that what is honest looks older; what is installed stays, and a new root ends it.
#[test]
fn attack_fast_forward() {
    let stage = Stage::new();
    let _master = Master::of(&stage.place, &version("1.0.0"));
    let honest = stage.place.folder().join("honest");
    copy(&stage.metadata(""), &honest);
    let before = stage.place.program();
    stage.forge(|forged| forged.timestamp.version = (u64::MAX / 2).try_into().expect("not 0"));
    stage.place.pump(&["upgrade"]).ended(0, "nothing to do");
    copy(&honest, &stage.metadata(""));
    let ran = stage.place.pump(&["upgrade"]);
    tell("fast-forward", "the highest number there is, by a stolen key", &ran);
    ran.ended(42, "");
    stage.place.is_untouched(&before);
    // The publisher appoints another key and starts counting afresh.
    stage.place.lose_key("timestamp");
    let change = |keys: &pump_repository::Keys, root: &mut _| {
        keys.appoint(root, tough::schema::RoleType::Timestamp, "timestamp", Quorum::ONE)
    };
    stage.place.keys().succeed(change).expect("a root can be signed");
    stage.place.source.publish_root().expect("our own folder");
    stage.forge(|_| {});
    stage.place.pump(&["upgrade"]).ended(0, "nothing to do");
    stage.place.offer(&version("1.1.0"));
    stage.place.pump(&["upgrade"]).ended(0, "");
    assert_eq!(stage.place.link("current"), Some(version("1.1.0").info().name()));
}

#[test]
fn attack_indefinite_freeze() {
    refused("indefinite freeze");
}

#[test]
fn attack_key_compromise() {
    refused("key compromise");
}

#[test]
fn attack_malicious_mirrors() {
    refused("malicious mirrors");
}

#[test]
fn attack_mix_and_match() {
    refused("mix and match");
}

#[test]
fn attack_rollback() {
    refused("rollback");
}

#[test]
fn attack_wrong_software() {
    refused("wrong software");
}

fn find(folder: &Path, part: &str) -> PathBuf {
    let mut found = every_file(folder);
    found.retain(|path| path.to_string_lossy().contains(part));
    found.pop().expect("there is such a file")
}

fn every_file(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("our own folder") {
        let path = entry.expect("our own folder").path();
        match path.is_dir() {
            true => found.extend(every_file(&path)),
            false => found.push(path),
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for path in every_file(from) {
        let copy = to.join(path.strip_prefix(from).expect("it is below"));
        fs::create_dir_all(copy.parent().expect("it has one")).expect("our own folder");
        fs::copy(&path, copy).expect("our own file");
    }
}

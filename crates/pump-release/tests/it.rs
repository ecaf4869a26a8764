//! The rules of releases, over made-up histories.

use proptest::prelude::*;
use pump_release::{
    Artifact, Channel, Choice, Digest, FileList, Index, ListedFile, Reason, Release, ReleaseInfo,
    Rules, Schema, TARGET, Wanted, Way, choose, may_open, may_run_beside, safe_path, way,
};

fn digest(byte: u8) -> Digest {
    Digest::from([byte; 32])
}

fn info() -> impl Strategy<Value = ReleaseInfo> {
    let schema = (1u32..12).prop_flat_map(|version| (Just(version), 1..=version));
    (0u64..4, 0u64..4, any::<u8>(), 1u32..5, prop::collection::vec(1u32..5, 0..3), 1u32..4, schema)
        .prop_map(|(major, minor, build, magic, accepts, unit, (version, compat))| ReleaseInfo {
            version: semver::Version::new(major, minor, 0),
            build: digest(build),
            magic,
            accepts,
            unit,
            schema: Schema { version, compat },
        })
}

proptest! {
    #[test]
    fn running_beside_is_mutual(a in info(), b in info()) {
        prop_assert_eq!(may_run_beside(&a, &b).is_ok(), may_run_beside(&b, &a).is_ok());
        prop_assert!(may_run_beside(&a, &a).is_ok());
    }

    #[test]
    fn a_roll_is_chosen_only_when_every_rule_allows_it(a in info(), b in info()) {
        let beside = may_run_beside(&a, &b).is_ok();
        let sandbox = b.unit <= a.unit;
        let new_opens = b.schema.version >= a.schema.compat;
        let old_works = a.schema.version >= b.schema.compat;
        match way(&a, &b) {
            Way::Roll => prop_assert!(beside && sandbox && new_opens && old_works),
            Way::Refused(_) => prop_assert!(!new_opens),
            Way::RestartConnectionsWait { reason: Reason::Magic(_) } => prop_assert!(!beside && new_opens),
            Way::RestartConnectionsWait { reason: Reason::Unit { .. } } => prop_assert!(!sandbox),
            Way::RestartConnectionsWait { reason: Reason::Schema { .. } } => prop_assert!(!old_works),
        }
    }

    #[test]
    fn a_build_always_rolls_onto_itself(a in info()) {
        prop_assert_eq!(way(&a, &a), Way::Roll);
    }

    #[test]
    fn what_was_rolled_onto_without_a_new_unit_can_be_rolled_back(a in info(), b in info()) {
        let b = ReleaseInfo { unit: a.unit, ..b };
        if way(&a, &b) != Way::Roll {
            return Ok(());
        }
        prop_assert_eq!(way(&b, &a), Way::Roll);
    }

    #[test]
    fn what_a_build_prints_is_what_is_read(a in info()) {
        let line = serde_json::to_string(&a).unwrap();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(serde_json::from_str::<ReleaseInfo>(&line).unwrap(), a);
    }

    #[test]
    fn the_newest_is_taken_and_never_an_older_one(
        installed in info(), offered in prop::collection::vec(info(), 0..6),
    ) {
        let index = index(&offered);
        let newest = offered.iter().map(|it| &it.version).max();
        match choose(&index, Some(&installed), &Wanted::Newest, TARGET) {
            Choice::Take { release, .. } => {
                prop_assert!(release.version > installed.version);
                prop_assert_eq!(Some(&release.version), newest);
            }
            Choice::Installed => prop_assert_eq!(newest, Some(&installed.version)),
            Choice::NothingNewer { newest } => prop_assert!(newest < installed.version),
            Choice::Empty => prop_assert!(offered.is_empty()),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn bytes_of_a_stranger_are_refused_and_nothing_worse(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Index::parse(&bytes, Channel::Stable);
        let _ = FileList::parse(&String::from_utf8_lossy(&bytes));
        let _ = String::from_utf8_lossy(&bytes).parse::<Digest>();
    }

    #[test]
    fn a_safe_path_stays_inside(path in "[a-z./]{0,12}") {
        if safe_path(&path) {
            let path = std::path::Path::new(&path);
            prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
        }
    }
}

fn index(offered: &[ReleaseInfo]) -> Index {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let mut index = Index::empty(Channel::Stable, now);
    for info in offered {
        let artifact = Artifact {
            target: TARGET.to_owned(),
            name: format!("pump-{}-{TARGET}.tar.zst", info.version),
            size: 1,
            installed_size: 1,
            sha256: digest(0),
            build: info.build,
            files: None,
        };
        let release = Release {
            version: info.version.clone(),
            published: now,
            security: false,
            notes_url: None,
            magic: info.magic,
            accepts: info.accepts.clone(),
            unit: info.unit,
            schema: info.schema,
            rules: Rules::default(),
            artifacts: vec![artifact],
        };
        index.put(release, now);
    }
    index
}

fn build(version: &str, magic: u32, accepts: &[u32]) -> ReleaseInfo {
    ReleaseInfo {
        version: version.parse().unwrap(),
        build: digest(magic as u8),
        magic,
        accepts: accepts.to_vec(),
        unit: 1,
        schema: Schema { version: 1, compat: 1 },
    }
}

#[test]
fn a_bridge_release_runs_beside_both_its_neighbours() {
    let (old, bridge, new) =
        (build("1.0.0", 1, &[]), build("1.1.0", 2, &[1, 3]), build("2.0.0", 3, &[]));
    assert!(may_run_beside(&old, &new).is_err());
    assert!(may_run_beside(&old, &bridge).is_ok());
    assert!(may_run_beside(&bridge, &new).is_ok());
    assert!(may_run_beside(&new, &bridge).is_ok());
}

#[test]
fn a_database_is_refused_only_when_its_compat_is_newer_than_the_code() {
    let code = Schema { version: 12, compat: 10 };
    assert!(may_open(Schema { version: 14, compat: 12 }, code).is_ok(), "newer, but allowed");
    assert!(may_open(Schema { version: 3, compat: 3 }, code).is_ok(), "older: it is migrated");
    let refused = may_open(Schema { version: 14, compat: 13 }, code).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the database has schema 14 and needs code of schema 13 or later; this build has 12"
    );
}

#[test]
fn a_field_of_a_later_release_is_dropped() {
    let text = r#"{"version":"1.4.0","build":"0101010101010101010101010101010101010101010101010101010101010101",
        "magic":4,"unit":2,"schema":{"version":12,"compat":10,"phase":"x"},"colour":"blue"}"#;
    let info: ReleaseInfo = serde_json::from_str(text).unwrap();
    assert_eq!((info.magic, info.accepts.len(), info.schema.compat), (4, 0, 10));
    assert_eq!(info.name(), "1.4.0+01010101");
}

#[test]
fn an_index_of_another_form_or_channel_is_refused_by_name() {
    let parse =
        |text: &str| Index::parse(text.as_bytes(), Channel::Stable).unwrap_err().to_string();
    assert_eq!(
        parse(r#"{"format":2,"anything":true}"#),
        "the release index has format 2 and this `pump` reads 1"
    );
    let beta = r#"{"format":1,"channel":"beta","generated":"2026-01-01T00:00:00Z","releases":[]}"#;
    assert_eq!(parse(beta), "the release index is of channel `beta` and `stable` was asked for");
}

#[test]
fn an_older_version_is_taken_when_it_is_asked_for() {
    let offered = [build("1.0.0", 1, &[]), build("1.1.0", 2, &[])];
    let index = index(&offered);
    let ask = |version: &str| {
        choose(&index, Some(&offered[1]), &Wanted::Version(version.parse().unwrap()), TARGET)
    };
    assert!(matches!(ask("1.0.0"), Choice::Take { .. }));
    assert_eq!(ask("1.1.0"), Choice::Installed);
    assert!(matches!(ask("9.0.0"), Choice::NotThere { offered } if offered.len() == 2));
    let elsewhere = choose(&index, None, &Wanted::Newest, "riscv64gc-unknown-linux-gnu");
    assert!(matches!(elsewhere, Choice::OtherTarget { .. }));
}

#[test]
fn a_prerelease_is_older_than_its_release() {
    let index = index(&[build("1.0.0-rc.1", 1, &[])]);
    let choice = choose(&index, Some(&build("1.0.0", 1, &[])), &Wanted::Newest, TARGET);
    assert!(matches!(choice, Choice::NothingNewer { .. }));
}

#[test]
fn a_list_of_files_reads_as_it_was_written() {
    let mut list = FileList::default();
    list.insert("bin/pumpd", ListedFile { mode: 0o755, sha256: digest(1) });
    list.insert("share/man/man1/pump.1", ListedFile { mode: 0o644, sha256: digest(2) });
    assert_eq!(FileList::parse(&list.to_string()).unwrap(), list);
}

#[test]
fn a_list_of_files_names_the_line_that_is_wrong() {
    let hash = digest(1);
    for (line, fault) in [
        (format!("4755 {hash} bin/pump"), "mode"),
        (format!("0755 {hash} ../bin/pump"), "leads out"),
        (format!("0755 {hash} /bin/pump"), "leads out"),
        (format!("0755 {hash} bin/a\u{202e}b"), "odd characters"),
        ("0755 abc bin/pump".to_owned(), "SHA-256"),
        ("bin/pump".to_owned(), "MODE SHA256 PATH"),
        (format!("0644 {hash} ok"), "twice"),
    ] {
        let error = FileList::parse(&format!("0644 {hash} ok\n{line}\n")).unwrap_err();
        assert_eq!(error.line, 2);
        assert!(error.to_string().contains(fault), "{error} should say {fault}");
    }
}

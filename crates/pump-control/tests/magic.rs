//! Whoever changes what processes say to each other decides about `MAGIC`; this is where it is asked.
//!
//! `channel.txt` holds each message of the channel as it is on the wire, under the magic it was
//! written for. When a message changes, either the other side can follow (a field with a default, a
//! message that old builds may drop) and the file is written anew, or it cannot and `MAGIC` is raised
//! too. `PUMP_WRITE_SNAPSHOTS=1 cargo test -p pump-control` writes the file.

use std::fs;
use std::path::Path;

use pump_control::channel::{Classes, Figures, FromWorker, Listener, Start, ToWorker};
use pump_control::constants::MAGIC;
use pump_control::encode;

fn channel() -> String {
    let start = Start {
        generation: 2,
        worker: 7,
        build: "00ff".to_owned(),
        config_path: "/etc/pump/pumpd.toml".into(),
        config: "domain = \"social.example\"\n".to_owned(),
        listeners: vec![Listener { fd: 5, address: "127.0.0.1:8000".to_owned() }],
        master: Some(6),
        even_if_full: true,
    };
    let to_worker = [
        ToWorker::Start(start),
        ToWorker::Drain { hand_over: true },
        ToWorker::TakeOver,
        ToWorker::Adopted,
        ToWorker::Figures,
        ToWorker::Probe,
        ToWorker::Nudge,
    ];
    let from_worker = [
        FromWorker::Ready { generation: 2 },
        FromWorker::Refused { generation: 2, reason: "no".to_owned(), exhausted: false },
        FromWorker::Refused { generation: 2, reason: "full".to_owned(), exhausted: true },
        FromWorker::Draining {
            generation: 2,
            connections: 3,
            classes: Classes { idle: 1, in_flight: 0, upload: 2, stream: 0 },
            uploaded: 4096,
        },
        FromWorker::Figures { generation: 2, figures: Figures::default() },
        FromWorker::Probed { generation: 2, failure: Some("no".to_owned()), micros: 9 },
        FromWorker::Published { generation: 2 },
    ];
    let lines = to_worker.iter().map(encode).chain(from_worker.iter().map(encode));
    let lines: Vec<u8> = lines.flatten().collect();
    format!("magic {MAGIC}\n{}", String::from_utf8_lossy(&lines))
}

#[test]
fn the_channel_is_what_its_magic_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/channel.txt");
    if std::env::var_os("PUMP_WRITE_SNAPSHOTS").is_some() {
        fs::write(&path, channel()).expect("the source tree can be written");
    }
    let written = fs::read_to_string(&path).expect("the snapshot is in the source tree");
    assert_eq!(
        channel(),
        written,
        "the messages changed: raise MAGIC unless builds of magic {MAGIC} can follow, then run \
         `PUMP_WRITE_SNAPSHOTS=1 cargo test -p pump-control`"
    );
}

/// A field that a later build adds is dropped.
#[test]
fn what_a_later_build_adds_is_dropped() {
    for line in channel().lines().skip(1) {
        let later = line.replacen('{', "{\"later\":[1,{\"x\":null}],", 1);
        let to = serde_json::from_str::<ToWorker>(&later).is_ok();
        let from = serde_json::from_str::<FromWorker>(&later).is_ok();
        assert!(to || from, "{later}");
    }
}

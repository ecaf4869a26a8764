//! 7: what becomes of the candidate's file while it is rolled, and before.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pump_control::ExitStatus;
use pump_test::process::sha256;

use super::{QUICK, Tried, Until, pids};

#[test]
fn b07_a_file_that_is_no_whole_program_is_refused_and_nothing_is_touched() {
    let tried = Tried::new(QUICK);
    let before = pids(&tried.cluster.workers());
    let program = fs::read(crate::pumpd()).expect("it is there");
    let mut other_machine = program.clone();
    // `e_machine` of an ELF file: 183 is AArch64.
    other_machine[18..20].copy_from_slice(&[183, 0]);
    let cases: [(&str, &[u8], u32); 6] = [
        ("half-written", &program[..1 << 20], 0o755),
        ("its first kilobyte", &program[..1024], 0o755),
        ("empty", b"", 0o755),
        ("of another machine", &other_machine, 0o755),
        ("not executable", &program, 0o644),
        ("without its interpreter", b"#!/nowhere/interpreter\n", 0o755),
    ];
    for (name, bytes, mode) in cases {
        let path = tried.builds.path().join("case");
        fs::write(&path, bytes).expect("ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        let rolled = tried.cluster.roll(Some(&path));
        assert_eq!(rolled.outcome.exit, ExitStatus::Preflight, "{name}: {rolled:?}");
        assert!(!rolled.outcome.text.is_empty(), "{name}");
        assert_eq!(pids(&tried.cluster.workers()), before, "{name}: no worker was touched");
        // It may be open for execution a moment longer.
        fs::remove_file(&path).expect("ours");
    }
    tried.good_roll();
}

#[test]
fn b07_a_link_that_is_flipped_in_the_middle_of_a_roll_changes_nothing_in_it() {
    let tried = Tried::new(QUICK);
    let (first, second) = (tried.other("first"), tried.other("second"));
    let link = tried.builds.path().join("current");
    for round in 0..4 {
        let (now, then) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        flip(&link, now);
        let rolled = tried.cluster.control().restart(
            pump_control::control::Restart { candidate: Some(link.clone()), ..Default::default() },
            |step| {
                if step.ends_with("is ready") {
                    flip(&link, then);
                }
            },
        );
        let outcome = rolled.expect("the master tells").outcome;
        assert_eq!(outcome.exit, ExitStatus::Done, "{outcome:?}");
        let want = sha256(now).expect("it is there");
        tried.whole(&want);
        let workers = tried.cluster.workers();
        assert!(workers.iter().all(|worker| worker.build().expect("it lives") == want));
    }
    tried.good_roll();
}

fn flip(link: &Path, to: &Path) {
    let beside = link.with_extension("new");
    // There is one left only if we were interrupted.
    let _ = fs::remove_file(&beside);
    std::os::unix::fs::symlink(to, &beside).expect("a link");
    fs::rename(&beside, link).expect("ours");
}

/// A careless deployment writes into the file instead of beside it. The kernel forbids that only while it
/// is executed.
#[test]
fn b07_a_file_that_is_written_into_while_it_is_rolled_is_never_two_builds() {
    let tried = Tried::new(QUICK);
    let (over, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    let path = tried.other("rewritten");
    std::thread::scope(|scope| {
        scope.spawn(|| rewrite(&path, &over, &writes));
        let _until = Until(&over);
        // Once a build of it serves, there may be no more chance to.
        pump_test::eventually(Duration::from_secs(60), || match writes.load(Ordering::Relaxed) {
            0 => Err("the file was never written into"),
            _ => Ok(()),
        });
        for round in 0..8 {
            let rolled = tried.cluster.roll(Some(&path));
            let status = tried
                .cluster
                .eventually(|status| status.roll.is_none() && status.workers.len() == 2);
            // Refused, or one build and that one's name.
            for worker in tried.cluster.workers() {
                let build = worker.build().expect("it lives");
                assert_eq!(build, status.workers_build.build, "round {round}: {rolled:?}");
            }
        }
    });
    tried.good_roll();
}

/// Changes the last byte of a file, which stands behind the program, again and again.
fn rewrite(path: &Path, over: &AtomicBool, writes: &AtomicU64) {
    while !over.load(Ordering::Relaxed) {
        // Refused while it is executed.
        if let Ok(mut file) = File::options().write(true).open(path) {
            file.seek(SeekFrom::End(-1)).expect("a file");
            let before = writes.load(Ordering::Relaxed);
            file.write_all(&[b'a' + (before % 26) as u8]).expect("ours");
            writes.store(before + 1, Ordering::Relaxed);
        }
        std::thread::yield_now();
    }
}

//! Machines as they are out there: one address family, little room, names that are taken, a proxy in front, and a
//! reboot at any moment. Each says how the service is afterwards, and what was said.
//!
//! `cargo xtask test --long` runs them.

#![allow(clippy::print_stderr, reason = "what was measured, and what was skipped")]

use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use pump_test::Api;
use pump_test::fake::{Faults, faulty};
use pump_test::machine::{Machine, said};

use super::asking::{AT_MOST, json, must_exit, status, until_it_is_watched};
use super::packages::{self, INSIDE};
use super::state::State;
use super::{INSTALL, LISTEN, machine};

const SIX: &str = "[::1]:8000";

fn is_active(machine: &Machine) -> bool {
    let told = machine.run(&["systemctl", "is-active", "pumpd.service"]).expect("it can be run");
    said(&told).contains("\nactive")
}

/// The status of a page at an address of the machine.
fn page(machine: &Machine, address: &str) -> u16 {
    let address = address.parse().expect("an address");
    machine.within(|| {
        let api = Api::new(address, "https://social.example");
        api.call("GET", "/", &[], b"").expect("an answer").status
    })
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test --long` runs it"]
fn matrix_a_machine_with_ipv6_only_serves_on_it() {
    let (machine, releases) = machine("pump-six");
    machine.must(&["ip", "address", "delete", "127.0.0.1/8", "dev", "lo"]);
    must_exit(&machine, 0, &[INSTALL, &["--listen", SIX]].concat());
    assert!(is_active(&machine));
    assert_eq!(page(&machine, SIX), 200);
    releases.publish(&machine);
    must_exit(&machine, 0, &["pump", "upgrade", "--zero-downtime", "--yes", "--bake", "0"]);
    assert_eq!(status(&machine).workers_build.short(), releases.second);
    assert_eq!(page(&machine, SIX), 200);
    must_exit(&machine, 0, &["pump", "doctor"]);
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test --long` runs it"]
fn matrix_a_port_that_another_program_has_is_named_with_the_next_command() {
    let (machine, _) = machine("pump-port");
    let other = machine.within(|| TcpListener::bind(LISTEN)).expect("the port is free");
    let before = State::of(&machine);
    let refused = json(&must_exit(&machine, 51, &[INSTALL, &["--listen", LISTEN]].concat()));
    let told = format!("{} {}", refused["error"], refused["hint"]);
    assert!(told.contains(LISTEN) && refused["hint"].is_string(), "{told}");
    assert_eq!(before.differences(&State::of(&machine)), [""; 0]);
    drop(other);
    must_exit(&machine, 0, INSTALL);
    must_exit(&machine, 0, &["pump", "stop"]);
    // Somebody was quicker.
    let other = machine.within(|| TcpListener::bind(LISTEN)).expect("the port is free");
    let refused = machine.run(&["pump", "start"]).expect("it can be run");
    assert_eq!(refused.status.code(), Some(51), "{}", said(&refused));
    assert!(said(&refused).contains(LISTEN), "{}", said(&refused));
    assert!(!is_active(&machine));
    drop(other);
    must_exit(&machine, 0, &["pump", "start"]);
    assert_eq!(page(&machine, LISTEN), 200);
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test --long` runs it"]
fn matrix_a_user_of_that_name_is_taken_as_it_is_and_stays() {
    let (machine, _) = machine("pump-user");
    machine.must(&[
        "systemd-sysusers",
        "--inline",
        "u pump 4711 \"somebody\" /srv /bin/sh",
        "u pumpd 4712",
    ]);
    must_exit(&machine, 0, INSTALL);
    assert!(is_active(&machine));
    let owner = machine.must(&["stat", "--format=%u", "/var/lib/pump/pump.sqlite3"]);
    assert_eq!(owner.trim(), "4711");
    must_exit(&machine, 0, &["pump", "doctor"]);
    must_exit(&machine, 0, &["pump", "uninstall", "--purge", "--yes"]);
    let left = machine.must(&["getent", "passwd", "pump"]);
    assert!(left.starts_with("pump:x:4711:") && left.contains(":/srv:/bin/sh"), "{left}");
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test --long` runs it"]
fn matrix_where_usr_cannot_be_written_it_serves_or_says_so_and_leaves_nothing() {
    let (machine, releases) = machine("pump-usr");
    machine.must(&["mount", "--bind", "/usr", "/usr"]);
    machine.must(&["mount", "-o", "remount,bind,ro", "/usr"]);
    let before = State::of(&machine);
    let refused = json(&must_exit(&machine, 50, INSTALL));
    let told = refused["error"].as_str().unwrap_or_default().to_owned();
    assert!(told.contains("/usr/local") && refused["hint"].is_string(), "{refused}");
    assert_eq!(before.differences(&State::of(&machine)), [""; 0]);
    // Once it is installed nothing is written there: an upgrade goes as everywhere.
    machine.must(&["mount", "-o", "remount,bind,rw", "/usr"]);
    must_exit(&machine, 0, INSTALL);
    machine.must(&["mount", "-o", "remount,bind,ro", "/usr"]);
    releases.publish(&machine);
    must_exit(&machine, 0, &["pump", "upgrade", "--zero-downtime", "--yes", "--bake", "0"]);
    assert_eq!(status(&machine).workers_build.short(), releases.second);
    assert_eq!(page(&machine, LISTEN), 200);
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test --long` runs it"]
fn matrix_a_small_disk_is_told_and_nothing_is_left_on_it() {
    let (machine, releases) = machine("pump-small");
    machine.must(&["sh", "-ec", "mkdir -p /opt/pump; mount -t tmpfs -o size=4m tmpfs /opt/pump"]);
    let before = State::of(&machine);
    let refused = json(&must_exit(&machine, 50, INSTALL));
    let told = refused["error"].as_str().unwrap_or_default().to_owned();
    assert!(told.contains("No space left") && told.contains("nothing was changed"), "{refused}");
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("df")), "{refused}");
    assert_eq!(before.differences(&State::of(&machine)), [""; 0]);
    machine.must(&["umount", "/opt/pump"]);
    must_exit(&machine, 0, INSTALL);
    let begun = status(&machine);
    // As much as the release has, and a little: too little for another one.
    machine.must(&[
        "sh",
        "-ec",
        "size=$(du --summarize --block-size=1M /opt/pump | cut -f1)
         cp -a /opt/pump /run/kept
         mount -t tmpfs -o size=$((size + 4))m,mode=755 tmpfs /opt/pump
         cp -a /run/kept/. /opt/pump/; rm -r /run/kept",
    ]);
    releases.publish(&machine);
    let refused =
        json(&must_exit(&machine, 50, &["pump", "upgrade", "--zero-downtime", "--yes", "--json"]));
    assert!(refused["error"].as_str().is_some_and(|text| text.contains("MiB")), "{refused}");
    assert_eq!(status(&machine).workers_build, begun.workers_build, "what served serves");
    assert_eq!(page(&machine, LISTEN), 200);
}

/// After each reboot the service is up with a release that has proven itself, and nobody had to do anything.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test --long` runs it"]
fn matrix_a_reboot_in_any_state_ends_with_a_proven_release_that_serves() {
    let (mut machine, releases) = machine("pump-reboot");
    let installed = json(&must_exit(&machine, 0, &[INSTALL, &["--account", "alice"]].concat()));
    let password = installed["password"].as_str().expect("a password was made").to_owned();
    // `/run` is empty after a reboot, and the source would be gone.
    machine.must(&["mkdir", "/srv/source"]);
    let comes_up = |machine: &mut Machine, cut: bool, release: &str| {
        machine.reboot(cut);
        let status = pump_test::eventually(AT_MOST, || {
            let told = machine.run(&["pump", "status", "--json"]).expect("it can be run");
            match told.status.code() {
                Some(0) => Ok(status(machine)),
                _ => Err(said(&told)),
            }
        });
        assert_eq!(status.workers_build.short(), release);
        assert_eq!(page(machine, LISTEN), 200);
        machine.within(|| {
            let api = Api::new(LISTEN.parse().expect("an address"), "https://social.example");
            api.sign_in("alice", &password).expect("alice is there");
        });
    };
    // Running, in good order and not.
    comes_up(&mut machine, false, &releases.first);
    comes_up(&mut machine, true, &releases.first);

    // Held: an upgrade is refused before and after.
    must_exit(&machine, 0, &["pump", "hold", "--reason", "holidays"]);
    comes_up(&mut machine, true, &releases.first);
    releases.carry(&machine);
    releases.publish(&machine);
    let held = said(&must_exit(&machine, 20, &["pump", "upgrade", "--zero-downtime", "--yes"]));
    assert!(held.contains("holidays"), "{held}");
    must_exit(&machine, 0, &["pump", "unhold"]);

    // In the middle of an upgrade: the new release serves and was not confirmed.
    let mut upgrade = machine
        .command("pump")
        .args(["upgrade", "--zero-downtime", "--yes", "--bake", "120"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nsenter can be run");
    until_it_is_watched(&machine);
    comes_up(&mut machine, true, &releases.first);
    upgrade.wait().expect("our own child");
    releases.carry(&machine);
    releases.publish(&machine);
    let told = said(&must_exit(&machine, 0, &["pump", "status"]));
    assert!(told.contains("pump resume"), "{told}");
    must_exit(&machine, 0, &["pump", "resume"]);
    must_exit(&machine, 0, &["pump", "upgrade", "--zero-downtime", "--yes", "--bake", "0"]);
    assert_eq!(status(&machine).workers_build.short(), releases.second);
    comes_up(&mut machine, false, &releases.second);

    // Latched: a build that dies at its start is not tried again, by whatever is started next either.
    let folder = tempfile::tempdir().expect("a folder");
    let own = pump_test::pumpd().expect("a build for tests");
    let faults = Faults { exits: Some(3), ..Faults::default() };
    let bad = faulty(&own, folder.path(), "pumpd", &faults).expect("a copy");
    machine.put(&bad, "/srv/bad").expect("files can be copied");
    let program = "/opt/pump/current/bin/pumpd";
    machine.must(&["cp", "-a", program, "/srv/good"]);
    machine.must(&["mv", "/srv/bad", program]);
    must_exit(&machine, 62, &["pump", "restart", "--wait"]);
    machine.must(&["mv", "/srv/good", program]);
    comes_up(&mut machine, true, &releases.second);
    let latch = status(&machine).latch;
    assert!(latch.is_some_and(|latch| latch.reason.contains("exited with 3")), "it is forgotten");
}

/// The one hop in front that everybody has, here on a port of the machine's own network.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test --long` runs it"]
fn matrix_behind_nginx_an_upgrade_is_not_noticed() {
    let nginx = "/usr/sbin/nginx";
    if !std::path::Path::new(nginx).exists() {
        eprintln!("skipped: there is no nginx");
        return;
    }
    let (machine, releases) = machine("pump-nginx");
    must_exit(&machine, 0, &[INSTALL, &["--listen", "unix:/run/pump/http.sock"]].concat());
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().display();
    let socket = machine.path("/run/pump/http.sock");
    let file = format!(
        "daemon off; master_process off; pid {place}/pid; error_log {place}/log; events {{}}\n\
         http {{ access_log off; client_body_temp_path {place}/a; proxy_temp_path {place}/b;\n\
         fastcgi_temp_path {place}/c; uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;\n\
         upstream pump {{ server unix:{}; keepalive 32; keepalive_timeout 4s; }}\n\
         server {{ listen 127.0.0.1:8080; location / {{ proxy_pass http://pump; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host social.example;\n\
         proxy_set_header X-Forwarded-Proto https; }} }} }}\n",
        socket.display()
    );
    let path = folder.path().join("nginx.conf");
    std::fs::write(&path, file).expect("ours");
    releases.publish(&machine);
    let report = machine.within(|| {
        let mut proxy = std::process::Command::new(nginx)
            .arg("-c")
            .arg(&path)
            .arg("-e")
            .arg(folder.path().join("log"))
            .spawn()
            .expect("nginx starts");
        pump_test::eventually(AT_MOST, || TcpStream::connect("127.0.0.1:8080").map(drop));
        let api = Api::new("127.0.0.1:8080".parse().expect("an address"), "https://social.example");
        let mut plan = pump_test::load::Plan::new(api.address().clone(), api.host());
        plan.lasts = AT_MOST;
        plan.pages = vec!["/".into(), "/healthz".into()];
        let load = pump_test::load::Load::start(plan);
        let some = |more: u64| {
            let wanted = load.requests() + more;
            pump_test::eventually(AT_MOST, || match load.requests() {
                now if now >= wanted => Ok(()),
                now => Err(now),
            });
        };
        some(1500);
        must_exit(&machine, 0, &["pump", "upgrade", "--zero-downtime", "--yes", "--bake", "0"]);
        some(1500);
        let report = load.stop();
        proxy.kill().expect("our own child");
        proxy.wait().expect("our own child");
        report
    });
    assert_eq!(report.failures(), 0, "{report}\n{}", report.time_line_text());
    assert_eq!(status(&machine).workers_build.short(), releases.second);
}

/// From nothing to the first post, with the bundle at hand or the packages: told, and shown in the README.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test --long` runs it"]
fn matrix_one_command_leads_from_a_bare_machine_to_the_first_post() {
    let (machine, _) = machine("pump-first");
    posts_first(&machine, &[INSTALL, &["--account", "alice"]].concat());
    let (machine, _) = packages::machine("pump-first-deb");
    let line = format!(
        "apt-get --quiet=2 install {INSIDE}/first/pump_*.deb {INSIDE}/first/pumpd_*.deb >&2 && \
         pump install --domain social.example --account alice --yes --json"
    );
    posts_first(&machine, &["sh", "-c", &line]);
}

/// Runs a command that installs, and posts.
#[track_caller]
fn posts_first(machine: &Machine, command: &[&str]) {
    let begun = std::time::Instant::now();
    let installed = json(&must_exit(machine, 0, command));
    let commanded = begun.elapsed();
    let password = installed["password"].as_str().expect("a password was made").to_owned();
    machine.within(|| {
        let api = Api::new(LISTEN.parse().expect("an address"), "https://social.example");
        let alice = api.sign_in("alice", &password).expect("alice can sign in");
        api.post(&alice, "hello").expect("it is posted");
    });
    let command = command[0];
    eprintln!(
        "`{command} …` took {commanded:?}, the first post was there after {:?}",
        begun.elapsed()
    );
}

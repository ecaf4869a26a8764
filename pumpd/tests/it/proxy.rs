//! The nginx file of `docs/OPERATING.md`, run as it is shown but without encryption.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use pump_control::ExitStatus;
use pump_test::load::{Load, Mix, Plan};
use pump_test::wire::Address;
use pump_test::{Setup, TestCluster, eventually};

use crate::pumpd;

/// A running nginx.
struct Nginx {
    child: Child,
    socket: PathBuf,
}

impl Nginx {
    /// Runs the documented file in front of a cluster, listening on a unix socket.
    fn in_front_of(cluster: &TestCluster) -> Self {
        let place = cluster.place();
        let socket = place.join("nginx.sock");
        let operating = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATING.md");
        let text = fs::read_to_string(operating).expect("the document is in the source tree");
        let (_, block) = text.split_once("```nginx\n").expect("it shows an nginx file");
        let (block, _) = block.split_once("```").expect("the block ends");
        let shown = block
            .replace("listen 443 ssl;", &format!("listen unix:{};", socket.display()))
            .replace("/run/pump/http.sock", &place.join("run/http.sock").display().to_string());
        let encrypted = |line: &&str| line.trim_start().starts_with("ssl_");
        let shown: Vec<&str> = shown.lines().filter(|line| !encrypted(line)).collect();
        let place_text = place.display();
        let file = format!(
            "daemon off;\nmaster_process off;\npid {place_text}/nginx.pid;\n\
             error_log {place_text}/nginx.log;\nevents {{}}\nhttp {{\naccess_log off;\n\
             client_body_temp_path {place_text}/body;\nproxy_temp_path {place_text}/proxy;\n\
             fastcgi_temp_path {place_text}/fastcgi;\nuwsgi_temp_path {place_text}/uwsgi;\n\
             scgi_temp_path {place_text}/scgi;\n{}\n}}\n",
            shown.join("\n")
        );
        let path = place.join("nginx.conf");
        fs::write(&path, file).expect("the place takes a file");
        // Where Debian puts it; that folder is not on everybody's path.
        let program = Path::new("/usr/sbin/nginx");
        let mut command = Command::new(if program.exists() { program } else { Path::new("nginx") });
        command.arg("-p").arg(place).arg("-c").arg(path).arg("-e").arg(place.join("nginx.log"));
        let child = command.spawn().expect("nginx is installed");
        let nginx = Self { child, socket };
        eventually(Duration::from_secs(20), || UnixStream::connect(&nginx.socket));
        nginx
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers and closes");
        answer
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs nginx; `cargo xtask test` runs it where nginx is"]
fn nginx_serves_what_the_document_promises_through_rolls() {
    let listen = vec!["127.0.0.1:0".to_owned(), "unix:run/http.sock".to_owned()];
    let pumpd = Some(pumpd().to_owned());
    let cluster = TestCluster::start(Setup { pumpd, listen, ..Setup::default() });
    let nginx = Nginx::in_front_of(&cluster);
    let home = nginx.ask("GET / HTTP/1.0\r\nHost: social.example\r\n\r\n");
    assert!(home.starts_with("HTTP/1.1 200"), "{home}");
    let large = format!("Content-Length: {}", 3 << 20);
    let refused = nginx.ask(&format!("POST /login HTTP/1.0\r\n{large}\r\n\r\n"));
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");

    let author = cluster.account("alice");
    let mut plan = Plan::new(Address::Unix(nginx.socket.clone()), "social.example");
    plan.mix = Mix { slow_upload: 2, slow_reader: 1, ..Mix::USUAL };
    plan.authors = vec![author];
    plan.lasts = Duration::from_secs(60);
    let load = Load::start(plan);
    let mut rolls = 0;
    while rolls < 2 || load.requests() < 3_000 {
        assert_eq!(cluster.roll(None).outcome.exit, ExitStatus::Done);
        rolls += 1;
    }
    let report = load.stop();
    assert_eq!(report.failures_by_kind(), std::collections::BTreeMap::new());
}

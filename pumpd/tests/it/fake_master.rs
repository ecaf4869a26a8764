//! A worker without a cluster: the test is its master and says what it likes.
//!
//! The worker is the real program, started as the master starts it: with one end of a channel, a
//! listening socket and the pidfd of a process that stands in for the master.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pump_control::channel::{Figures, FromWorker, Listener, Start, ToWorker};
use pump_control::encode;
use pump_test::{Account, Api};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;

use crate::pumpd;

/// How long a worker may take to say something.
const SAYS_WITHIN: Duration = Duration::from_secs(30);

/// Where a worker's data are, and the socket it listens on. Two workers may share them.
pub(crate) struct Place {
    folder: TempDir,
    config: String,
    listener: TcpListener,
}

impl Place {
    pub(crate) fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        for name in ["data", "run"] {
            fs::create_dir(path.join(name)).expect("ours");
        }
        let config = format!(
            "domain = \"social.example\"\ndata_dir = {:?}\nruntime_dir = {:?}\n{more}\n\
             [test]\ngeneration_header = true\n",
            path.join("data"),
            path.join("run"),
        );
        fs::write(path.join("pumpd.toml"), &config).expect("ours");
        let migrated = Command::new(pumpd())
            .arg("migrate")
            .arg("--config")
            .arg(path.join("pumpd.toml"))
            .output()
            .expect("it runs");
        assert!(migrated.status.success(), "{migrated:?}");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        // It is the worker's to wait on, and flags are shared with it.
        listener.set_nonblocking(true).expect("a socket option");
        Self { folder, config, listener }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// Somebody who is signed in by a worker that serves.
    pub(crate) fn account(&self, name: &str) -> Account {
        let (config, password) = (self.path().join("pumpd.toml"), "correct horse");
        pump_test::create_account(pumpd(), &config, name, password).expect("made");
        self.api().sign_in(name, password).expect("signed in")
    }

    pub(crate) fn api(&self) -> Api {
        let address = self.address().to_string().parse().expect("an address");
        Api::new(address, "https://social.example")
    }

    /// A connection of a client that waits for up to 30 s.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("it listens");
        stream.set_read_timeout(Some(SAYS_WITHIN)).expect("a socket option");
        stream
    }
}

/// A process that is somebody's master by name only.
pub(crate) struct StandIn(Child);

impl StandIn {
    pub(crate) fn new() -> Self {
        // Bounded, so that one which a test forgot ends by itself.
        Self(Command::new("sleep").arg("600").spawn().expect("it runs"))
    }

    pub(crate) fn pidfd(&self) -> OwnedFd {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("it lives")
    }

    pub(crate) fn die(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("our own child");
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// A worker and the channel to it.
pub(crate) struct TestWorker {
    child: Child,
    channel: UnixStream,
    said: BufReader<UnixStream>,
    log: std::path::PathBuf,
}

impl TestWorker {
    /// Starts a worker of a generation and waits until it is ready.
    pub(crate) fn start(place: &Place, generation: u64, master: &StandIn) -> Self {
        Self::start_program(pumpd(), place, generation, master)
    }

    /// Starts a worker of another build.
    pub(crate) fn start_program(
        program: &Path,
        place: &Place,
        generation: u64,
        master: &StandIn,
    ) -> Self {
        let mut worker = Self::start_unready(program, place, generation, master);
        assert_eq!(worker.hear(), FromWorker::Ready { generation });
        worker
    }

    fn start_unready(program: &Path, place: &Place, generation: u64, master: &StandIn) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        ours.set_read_timeout(Some(SAYS_WITHIN)).expect("a socket option");
        let log = place.path().join(format!("worker-{generation}.log"));
        File::create(&log).expect("ours");
        // A child has its standard streams and nothing else of ours, whatever other tests start meanwhile.
        let script = "exec 5<&0 6<&1 7<&2 0</dev/null 1>/dev/null 2>>\"$1\"\n\
                      exec \"$0\" worker --channel 5";
        let child = Command::new("bash")
            .args(["-c", script])
            .args([program, &log])
            .stdin(OwnedFd::from(theirs))
            .stdout(OwnedFd::from(place.listener.try_clone().expect("a socket")))
            .stderr(Stdio::from(master.pidfd()))
            .spawn()
            .expect("it runs");
        let said = BufReader::new(ours.try_clone().expect("a socket"));
        let mut worker = Self { child, channel: ours, said, log };
        worker.say(&ToWorker::Start(Start {
            generation,
            worker: generation,
            build: "0".repeat(64),
            config_path: place.path().join("pumpd.toml"),
            config: place.config.clone(),
            listeners: vec![Listener { fd: 6, address: place.address().to_string() }],
            master: Some(7),
            even_if_full: false,
        }));
        worker
    }

    pub(crate) fn say(&mut self, message: &ToWorker) {
        self.channel.write_all(&encode(message)).expect("it reads");
    }

    pub(crate) fn say_with(&self, message: &ToWorker, descriptor: impl AsFd) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let line = encode(message);
        let sent =
            sendmsg(&self.channel, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent, Ok(line.len()));
    }

    /// The next thing it says.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> FromWorker {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it says something");
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line:?}; {}", self.log()))
    }

    /// What it says to a question for its figures; what it said before is dropped.
    #[track_caller]
    pub(crate) fn figures(&mut self) -> Figures {
        self.say(&ToWorker::Figures);
        loop {
            if let FromWorker::Figures { figures, .. } = self.hear() {
                return figures;
            }
        }
    }

    /// Asks for its figures until they are as wanted.
    #[track_caller]
    pub(crate) fn eventually(&mut self, wanted: impl Fn(&Figures) -> bool) -> Figures {
        pump_test::eventually(SAYS_WITHIN, || {
            let figures = self.figures();
            if wanted(&figures) { Ok(figures) } else { Err(Box::new(figures)) }
        })
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn eventually_logs(&self, text: &str) {
        pump_test::eventually(SAYS_WITHIN, || {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(log) }
        });
    }

    /// Waits until it has ended by itself and returns its exit code.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        pump_test::eventually(SAYS_WITHIN, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status.code()),
            other => Err(other),
        })
    }

    /// Stops it with SIGSTOP, and waits until it stands.
    pub(crate) fn stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it lives");
        pump_test::eventually(SAYS_WITHIN, || {
            match pump_test::process::Process::of(self.child.id()) {
                Ok(process) if process.state == 'T' => Ok(()),
                other => Err(other),
            }
        });
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("our own child");
    }

    pub(crate) fn close_channel(&self) {
        self.channel.shutdown(std::net::Shutdown::Both).expect("connected");
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

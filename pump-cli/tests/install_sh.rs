//! `packaging/install.sh`, run by the shells that minimal machines have.
//!
//! What it fetches is a script in place of `pump`, which tells how it was called.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pump_repository::Keys;
use pump_test::fake::write_executable;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/install.sh");

/// Tells its arguments and the text of the bundle that it was given.
const PUMP: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\"\ncat \"$3\"\nexit 7\n";

/// The shells that are here; one is enough for a test, several are better.
fn shells() -> Vec<Vec<&'static str>> {
    let all = [vec!["/bin/dash"], vec!["/bin/busybox", "sh"], vec!["/bin/bash", "--posix"]];
    all.into_iter().filter(|words| Path::new(words[0]).exists()).collect()
}

/// A source with a bundle and a `pump`.
fn source() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::create_dir(folder.path().join("targets")).expect("it is ours");
    for (list, name, text) in [
        ("stable.sha256", "pump-0.1.0-x86_64-unknown-linux-gnu.tar.zst", "the bundle\n"),
        ("stable-pump.sha256", "pump-0.1.0-x86_64-unknown-linux-gnu", PUMP),
    ] {
        let hash: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = format!("targets/{hash}.{name}");
        fs::write(folder.path().join(&path), text).expect("it is ours");
        fs::write(folder.path().join(list), format!("{hash}  {path}\n")).expect("it is ours");
    }
    folder
}

fn target(source: &Path, list: &str) -> PathBuf {
    let line = fs::read_to_string(source.join(list)).expect("it was written");
    source.join(line.split_whitespace().nth(1).expect("a path"))
}

/// Runs the script as a user who may not install, but for `--root`.
fn run(shell: &[&str], source: &str, words: &[&str]) -> Output {
    Command::new(shell[0])
        .args(&shell[1..])
        .arg(SCRIPT)
        .arg(source)
        .args(words)
        .output()
        .expect("a shell can be run")
}

#[track_caller]
fn assert_installed(output: &Output, source: &str) {
    // 7 is what the stand-in ends with, and the script passes it on.
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    let [install, from, bundle, source_flag, named, rest @ .., last] = &lines[..] else {
        panic!("{text}");
    };
    assert_eq!((*install, *from, *source_flag, *named), ("install", "--from", "--source", source));
    assert_eq!(rest, ["--root", "/nowhere", "--site-name", "two words"]);
    assert_eq!(*last, "the bundle");
    assert!(!Path::new(bundle).exists(), "`{bundle}` is left over");
    assert!(String::from_utf8_lossy(&output.stderr).contains("signatures were not checked"));
}

const WORDS: &[&str] = &["--root", "/nowhere", "--site-name", "two words"];

#[test]
fn a_release_is_taken_from_a_folder() {
    let source = source();
    let path = source.path().to_str().expect("a plain path");
    for shell in shells() {
        assert_installed(&run(&shell, path, WORDS), path);
    }
}

#[test]
fn a_release_is_taken_from_a_web_server() {
    let source = source();
    let address = serve(source.path().to_owned());
    let url = format!("http://{address}");
    for shell in shells() {
        assert_installed(&run(&shell, &url, WORDS), &url);
    }
}

#[test]
fn a_flipped_byte_is_found_and_nothing_is_run() {
    for list in ["stable.sha256", "stable-pump.sha256"] {
        let source = source();
        fs::write(target(source.path(), list), "something else").expect("it is ours");
        for shell in shells() {
            let output = run(&shell, source.path().to_str().expect("a plain path"), WORDS);
            assert_eq!(output.status.code(), Some(40), "{output:?}");
            assert_eq!(output.stdout, b"", "{output:?}");
        }
    }
}

/// Signs both files of a source as a publisher would. The key to check with.
fn sign(source: &Path) -> String {
    let keys = Keys::make(&source.join("keys"), jiff::Timestamp::MAX).expect("keys can be made");
    let key = keys.minisign().expect("a key can be made");
    for list in ["stable.sha256", "stable-pump.sha256"] {
        let path = target(source, list);
        key.sign_file(&path, offered_as(&path)).expect("it is ours");
    }
    key.public()
}

/// A file's name without the hash before it.
fn offered_as(path: &Path) -> &str {
    let name = path.file_name().and_then(|it| it.to_str()).expect("a plain name");
    name.split_once('.').expect("a hash and a name").1
}

/// As [`run`], with a key that somebody has from the publisher.
fn run_with_key(shell: &[&str], source: &Path, key: &str, path: &str) -> Output {
    Command::new(shell[0])
        .args(&shell[1..])
        .arg(SCRIPT)
        .arg(source)
        .args(WORDS)
        .env("PUMP_MINISIGN_KEY", key)
        .env("PATH", path)
        .output()
        .expect("a shell can be run")
}

/// Where programs are, for who has a `minisign`. `cargo xtask test` installs it.
fn with_minisign() -> Option<String> {
    Path::new("/usr/bin/minisign").exists().then(|| std::env::var("PATH").unwrap_or_default())
}

#[test]
fn who_has_a_key_has_both_files_checked() {
    let Some(path) = with_minisign() else { return };
    let source = source();
    let key = sign(source.path());
    for shell in shells() {
        let output = run_with_key(&shell, source.path(), &key, &path);
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("both files are signed by the key {key}")), "{said}");
    }
}

#[test]
fn a_bad_a_missing_and_a_borrowed_signature_are_refused() {
    let Some(path) = with_minisign() else { return };
    for list in ["stable.sha256", "stable-pump.sha256"] {
        for (how, says) in [
            ("another file", "is not signed by the key"),
            ("another key", "is not signed by the key"),
            ("none", "has no signature, and this publisher signs"),
            ("another name", "was signed as something else"),
            ("another comment", "is not signed by the key"),
        ] {
            let source = source();
            let key = sign(source.path());
            let file = target(source.path(), list);
            let signature = PathBuf::from(format!("{}.minisig", file.display()));
            match how {
                "another file" => {
                    // With a hash that fits: who has the source has the lists.
                    let evil = b"#!/bin/sh\necho evil\n";
                    let hash = pump_repository::sha256(evil);
                    let to = format!("targets/{hash}.{}", offered_as(&file));
                    fs::write(source.path().join(&to), evil).expect("it is ours");
                    fs::copy(&signature, source.path().join(format!("{to}.minisig")))
                        .expect("it is ours");
                    fs::write(source.path().join(list), format!("{hash}  {to}\n"))
                        .expect("it is ours");
                }
                "another key" => {
                    let keys = Keys::make(&source.path().join("theirs"), jiff::Timestamp::MAX);
                    let theirs = keys.and_then(|it| it.minisign()).expect("a key can be made");
                    theirs.sign_file(&file, offered_as(&file)).expect("it is ours");
                }
                "none" => fs::remove_file(&signature).expect("it is ours"),
                "another name" => {
                    let keys = Keys::open(&source.path().join("keys")).expect("it was made");
                    let key = keys.minisign().expect("it was made");
                    key.sign_file(&file, "pump-9.9.9").expect("it is ours");
                }
                _ => {
                    let text = fs::read_to_string(&signature).expect("it is ours");
                    fs::write(&signature, text.replace("file:pump", "file:dump")).expect("ours");
                }
            }
            for shell in shells() {
                let output = run_with_key(&shell, source.path(), &key, &path);
                assert_eq!(output.status.code(), Some(40), "{list}, {how}: {output:?}");
                assert_eq!(output.stdout, b"", "{list}, {how}: something was run");
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(said.contains(says), "{list}, {how}: {said}");
            }
        }
    }
}

#[test]
fn who_gives_a_key_and_has_nothing_to_check_with_is_told() {
    let source = source();
    let key = sign(source.path());
    // Every program that the script needs, and no minisign.
    let bin = source.path().join("bin");
    fs::create_dir(&bin).expect("it is ours");
    for name in ["uname", "id", "mktemp", "rm", "cp", "cut", "sha256sum", "chmod", "cat"] {
        let program = ["/bin", "/usr/bin"].map(|it| Path::new(it).join(name));
        let program = program.iter().find(|it| it.exists()).expect("every machine has it");
        std::os::unix::fs::symlink(program, bin.join(name)).expect("it is ours");
    }
    for shell in shells() {
        // A shell that brings programs of its own has no minisign either.
        let output = run_with_key(&shell, source.path(), &key, bin.to_str().expect("text"));
        assert_eq!(output.status.code(), Some(50), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("apt install minisign"), "{said}");
    }
}

#[test]
fn a_list_that_leads_out_of_the_source_is_refused() {
    let hash = "0".repeat(64);
    for line in [
        format!("{hash}  targets/../../etc/passwd"),
        format!("{hash}  /etc/passwd"),
        format!("{hash}  targets/a b"),
        "short  targets/x".to_owned(),
        String::new(),
    ] {
        let source = source();
        fs::write(source.path().join("stable.sha256"), &line).expect("it is ours");
        for shell in shells() {
            let output = run(&shell, source.path().to_str().expect("a plain path"), WORDS);
            assert_eq!(output.status.code(), Some(40), "{line}: {output:?}");
        }
    }
}

#[test]
fn what_cannot_be_fetched_is_named() {
    let source = source();
    fs::remove_file(target(source.path(), "stable.sha256")).expect("it is ours");
    let url = format!("http://{}", serve(source.path().to_owned()));
    for shell in shells() {
        for from in [&url, source.path().to_str().expect("a plain path")] {
            let output = run(&shell, from, WORDS);
            assert_eq!(output.status.code(), Some(75), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("tar.zst"), "{output:?}");
        }
    }
}

#[test]
fn an_unencrypted_address_elsewhere_and_a_missing_one_are_refused() {
    for shell in shells() {
        for source in ["http://releases.example/pump", "http://127.0.0.1.example/", "/nowhere", ""]
        {
            let output = run(&shell, source, WORDS);
            assert_eq!(output.status.code(), Some(2), "{source}: {output:?}");
        }
    }
}

#[test]
fn an_encrypted_source_does_not_lead_to_an_unencrypted_one() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (curl, words) = (folder.path().join("curl"), folder.path().join("words"));
    let stand_in = format!("#!/bin/sh\nprintf '%s ' \"$@\" >'{}'\nexit 1\n", words.display());
    write_executable(&curl, stand_in.as_bytes()).expect("it is ours");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
    for shell in shells() {
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .args([SCRIPT, "https://releases.example"])
            .args(WORDS)
            .env("PATH", &path)
            .output()
            .expect("a shell can be run");
        assert_eq!(output.status.code(), Some(75), "{output:?}");
        let words = fs::read_to_string(&words).expect("the stand-in was run");
        assert!(words.contains("--proto-redir =https "), "{words}");
    }
}

#[test]
fn whoever_is_not_root_is_given_the_exact_command() {
    let source = source();
    let open = PermissionsExt::from_mode(0o755);
    fs::set_permissions(source.path(), open).expect("the folder is ours");
    let script = source.path().join("install.sh");
    fs::copy(SCRIPT, &script).expect("it can be copied");
    for shell in shells() {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg(&script).arg(source.path()).args(["--domain", "a.example"]);
        if nix::unistd::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        let output = command.output().expect("a shell can be run");
        assert_eq!(output.status.code(), Some(77), "{output:?}");
        let wanted = format!("sudo sh install.sh {} --domain a.example", source.path().display());
        assert!(String::from_utf8_lossy(&output.stderr).contains(&wanted), "{output:?}");
    }
}

/// Serves the files of a folder for as long as the test runs.
fn serve(folder: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is not the server's failure.
            let _ = answer(stream, &folder);
        }
    });
    address
}

fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = first.split(' ').nth(1).unwrap_or("/").trim_start_matches('/');
    match fs::read(folder.join(path)) {
        Ok(body) => {
            write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
            stream.write_all(&body)
        }
        Err(_) => write!(stream, "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}

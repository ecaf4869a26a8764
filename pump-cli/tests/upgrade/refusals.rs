//! Every kind of refusal as it is read: what was found, why it matters, the next command.
//!
//! `refusals.txt` has them all. `PUMP_WRITE_SNAPSHOTS=1 cargo test -p pump-cli --test upgrade refusals`
//! writes it; read the difference before it is kept. What differs from run to run is masked. A terminal wraps
//! lines by itself, so that a command in a hint can be copied whole: nothing else hangs on its width.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use pump_control::ExitStatus;
use pump_release::{Rules, Schema, TARGET};
use pump_repository::Expiry;

use crate::master::Master;
use crate::place::{Place, Wanted, version};

/// Somebody who answers for the running server, or nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Runs,
    IsDown,
}

type Set = fn(&Place, &Master);

/// One refusal, before it is met.
struct Case {
    name: &'static str,
    words: &'static [&'static str],
    server: Server,
    set: Set,
}

fn case(name: &'static str, words: &'static [&'static str], set: Set) -> Case {
    Case { name, words, server: Server::Runs, set }
}

fn down(name: &'static str, words: &'static [&'static str], set: Set) -> Case {
    Case { name, words, server: Server::IsDown, set }
}

impl Case {
    /// A place in which it is met.
    fn place(&self) -> (Place, Option<Master>) {
        let place = Place::new();
        fs::write(place.path("etc/pump/pumpd.toml"), "").expect("our own file");
        let master = Master::of(&place, &version("1.0.0"));
        (self.set)(&place, &master);
        let runs = self.server == Server::Runs;
        (place, Some(master).filter(|_| runs))
    }

    /// Whether it is another refusal the second time.
    fn changes(&self) -> bool {
        self.words.contains(&"--bake") || self.name == "the roll fails"
    }
}

fn next(place: &Place) {
    place.offer(&version("1.1.0"));
}

fn config(place: &Place, lines: &str) {
    let path = place.path("etc/pump/upgrade.toml");
    let text = fs::read_to_string(&path).expect("our own file");
    fs::write(path, format!("{text}{lines}\n")).expect("our own file");
}

fn cases() -> Vec<Case> {
    let mut all = vec![
        case("no such flag", &["upgrade", "--fast"], |_, _| {}),
        case("no such version", &["upgrade", "--to", "7.0.0"], |_, _| {}),
        case("no source", &["upgrade"], |place, _| {
            fs::write(place.path("etc/pump/upgrade.toml"), "").expect("our own file");
        }),
        case("a window that is none", &["upgrade"], |place, _| {
            config(place, "window = \"at night\"")
        }),
        case("a zone that is none", &["upgrade"], |place, _| {
            config(place, "time_zone = \"Europe/Atlantis\"")
        }),
        case("a pin that is none", &["upgrade"], |place, _| config(place, "pin = \"newest\"")),
        case("a key that is none", &["upgrade"], |place, _| {
            config(place, "windows = \"02:00-05:00\"")
        }),
        case("held", &["upgrade"], |place, _| {
            next(place);
            place.pump(&["hold", "--reason", "the fair"]).ended(0, "");
        }),
        case("held until a time that is over", &["hold", "--until", "2001-01-01"], |_, _| {}),
        case("pinned", &["upgrade"], |place, _| {
            config(place, "pin = \"1.0\"");
            next(place);
        }),
        case("outside of the window", &["upgrade", "--unattended"], |place, _| {
            let at = |hours| {
                (Timestamp::now() + SignedDuration::from_hours(hours)).strftime("%H:%M").to_string()
            };
            config(place, &format!("window = \"{}-{}\"\ntime_zone = \"UTC\"", at(2), at(3)));
        }),
        case("before its wave", &["upgrade"], |place, _| {
            let start = Timestamp::now() + SignedDuration::from_hours(30);
            let rollout = serde_json::from_str(&format!("{{\"start\":\"{start}\"}}"));
            let rules = Rules { rollout: Some(rollout.expect("a rollout")), ..Rules::default() };
            place.offer(&Wanted { rules, ..version("1.1.0") });
        }),
        case("found wanting", &["upgrade", "--bake", "60"], |place, master| {
            next(place);
            master.fails_probes("GET / was answered with 500 Internal Server Error");
        }),
        case("found wanting before", &["upgrade"], |place, master| {
            next(place);
            master.fails_probes("GET / was answered with 500 Internal Server Error");
            place.pump(&["upgrade", "--bake", "60"]).ended(60, "");
        }),
        case("going back fails", &["upgrade", "--bake", "60"], |place, master| {
            next(place);
            master.fails_probes("GET / was answered with 500 Internal Server Error");
            master.fails_after(1, ExitStatus::RollFailed, "worker 5 ended with exit 9");
        }),
        case("the roll fails", &["upgrade"], |place, master| {
            next(place);
            master.fails(ExitStatus::RollFailed, "worker 3 ended with exit 9; 1.0.0 serves");
        }),
        case("other magic", &["upgrade", "--zero-downtime"], |place, _| {
            place.offer(&Wanted { magic: 2, ..version("2.0.0") });
        }),
        case("nobody to ask", &["upgrade"], |place, _| {
            place.offer(&Wanted { magic: 2, ..version("2.0.0") })
        }),
        case("a path is needed", &["upgrade", "--unattended", "--zero-downtime"], |place, _| {
            place.offer(&Wanted { magic: 2, accepts: &[1], ..version("1.5.0") });
            place.offer(&Wanted { magic: 2, ..version("2.0.0") });
        }),
        case("revoked", &["upgrade", "--to", "1.1.0"], |place, _| {
            let rules = Rules { revoked: Some("it lost posts".to_owned()), ..Rules::default() };
            place.offer(&Wanted { rules, ..version("1.1.0") });
        }),
        case("the database is too new", &["upgrade", "--to", "0.9.0", "--yes"], |place, _| {
            place.offer(&Wanted { schema: Schema { version: 2, compat: 2 }, ..version("0.9.0") });
        }),
        case("for another machine", &["upgrade"], |place, _| {
            let new = version("1.1.0");
            place.offer_bundle(&new, &new.bundle(), "sparc-unknown-linux-gnu");
        }),
        case("a stale plan", &["upgrade", "--plan", "0123456789abcdef"], |place, _| next(place)),
        case("expired", &["upgrade"], |place, _| {
            let new = version("1.1.0");
            let yesterday = Expiry::in_days(Timestamp::now(), -1);
            place.offer_until(&new, &new.bundle(), TARGET, yesterday);
        }),
        case("nothing to go back to", &["rollback"], |_, _| {}),
        case(
            "a source that is not there",
            &["upgrade", "--source", "http://127.0.0.1:9/"],
            |_, _| {},
        ),
        case("no timer", &["auto-upgrade", "enable"], |_, _| {}),
        down("not running", &["status"], |_, _| {}),
        down("not installed", &["upgrade"], |place, _| {
            fs::remove_dir_all(place.path("opt")).expect("our own folder");
        }),
    ];
    all.sort_by_key(|case| case.name);
    all
}

/// What differs from run to run.
fn masked(text: &str, place: &Place) -> String {
    let text = text.replace(&place.root().display().to_string(), "ROOT");
    let text = text.replace(&place.folder().display().to_string(), "FOLDER");
    let text = between(&text, " after ", " of 60 s", "N");
    // A user whom nobody has given a name, as in a container, is told by the number.
    let text = between(&text.replace(" by uid ", " by "), " by ", ", until", "SOMEBODY");
    let words = text.split_inclusive([' ', '\n', '`', ',', ';', '(', ')', '"']);
    words.map(word).collect()
}

/// Masks the one word between these two.
fn between(text: &str, before: &str, behind: &str, mask: &str) -> String {
    let Some((first, rest)) = text.split_once(before) else { return text.to_owned() };
    match rest.split_once(behind) {
        Some((word, last)) if !word.contains(' ') => format!("{first}{before}{mask}{behind}{last}"),
        _ => format!("{first}{before}{}", between(rest, before, behind, mask)),
    }
}

fn word(word: &str) -> String {
    let end = word.len()
        - word.chars().last().map_or(0, |c| if c.is_alphanumeric() { 0 } else { c.len_utf8() });
    let (bare, tail) = word.split_at(end);
    let is_time = bare.len() > 15 && bare.parse::<Timestamp>().is_ok();
    let is_day = bare.parse::<jiff::civil::Date>().is_ok() && bare.len() == 10;
    let is_hour = bare.len() == 5
        && bare.as_bytes()[2] == b':'
        && bare.starts_with(|c: char| c.is_ascii_digit());
    let is_window = bare.len() == 11 && bare.split('-').all(|at| at.len() == 5 && at.contains(':'));
    let is_weekday = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].contains(&bare);
    let hex = |text: &str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match bare.split_once('+') {
        Some((version, build)) if hex(build) => format!("{version}+BUILD{tail}"),
        _ if is_time => format!("TIME{tail}"),
        _ if is_day => format!("DAY{tail}"),
        _ if is_hour || is_window => format!("HOUR{tail}"),
        _ if is_weekday => format!("WEEKDAY{tail}"),
        _ => word.to_owned(),
    }
}

/// Runs it, and holds what JSON says against what is read.
fn shown(case: &Case) -> String {
    let (place, _master) = case.place();
    let ran = place.pump(case.words);
    let read = masked(&ran.err, &place);
    assert!(read.contains("error: "), "{}: {ran:?}", case.name);
    assert!(read.contains("\nhint: "), "{} has no next command: {ran:?}", case.name);
    if !case.changes() {
        let json = place.pump(&[case.words, &["--json"]].concat());
        assert_eq!((json.code, json.err.as_str()), (ran.code, ""), "{}", case.name);
        let last = json.json();
        assert_eq!(last["exit"].as_i64(), ran.code.map(i64::from), "{}: {last}", case.name);
        for (key, label) in [("error", "error"), ("hint", "hint")] {
            let text = masked(last[key].as_str().expect("a sentence"), &place);
            assert!(read.contains(&format!("{label}: {text}\n")), "{}: {text}\n{read}", case.name);
        }
    }
    let code = ran.code.expect("it ended by itself");
    format!("# {}\n$ pump {}\n{read}exit {code}\n\n", case.name, case.words.join(" "))
}

/// As text, and the same words and the exit code in JSON.
#[test]
fn p10_refusals_say_what_was_found_why_it_matters_and_what_to_type() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade/refusals.txt");
    let text: String = cases().iter().map(shown).collect();
    if std::env::var_os("PUMP_WRITE_SNAPSHOTS").is_some() {
        fs::write(&path, &text).expect("the source tree can be written");
    }
    let written = fs::read_to_string(&path).expect("the snapshot is in the source tree");
    assert_eq!(
        text, written,
        "refusals read otherwise: if that is wanted, `PUMP_WRITE_SNAPSHOTS=1 cargo test -p pump-cli \
         --test upgrade refusals` writes them anew"
    );
}

/// On a terminal of this many columns (script(1) makes one), as a person has it.
fn on_a_terminal(case: &Case, place: &Place, columns: u32, no_color: bool) -> Option<String> {
    let mut words = vec![env!("CARGO_BIN_EXE_pump").to_owned()];
    words.extend(case.words.iter().map(|word| (*word).to_owned()));
    words.extend(["--root".to_owned(), place.root().display().to_string()]);
    let line = format!("stty cols {columns} rows 24; exec {}", words.join(" "));
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null());
    command.env("TERM", "xterm-256color").env("COLUMNS", columns.to_string());
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let output = command.output().ok()?;
    assert_ne!(output.status.code(), Some(0), "{}", case.name);
    Some(String::from_utf8(output.stdout).expect("text").replace("\r\n", "\n"))
}

#[test]
fn p10_refusals_read_the_same_on_narrow_and_wide_terminals_and_without_colours() {
    let wanted = ["held", "not running", "no such flag", "before its wave"];
    for case in cases().into_iter().filter(|case| wanted.contains(&case.name)) {
        let (place, _master) = case.place();
        let plain = masked(&place.pump(case.words).err, &place);
        for (columns, no_color) in [(40, false), (80, true), (200, false)] {
            // A machine without script(1) has no terminal to look at.
            let Some(seen) = on_a_terminal(&case, &place, columns, no_color) else { return };
            let escapes = seen.chars().any(|c| c.is_control() && c != '\n');
            assert!(!escapes, "{} steers a terminal: {seen:?}", case.name);
            let seen = masked(&seen, &place);
            assert!(seen.ends_with(&plain), "{} at {columns}: {seen:?}, {plain:?}", case.name);
        }
    }
}

//! The master and its workers: a table where there is room, two lines for each where there is not.

use pump_control::control::{Status, Worker, WorkerState};

/// What the table needs, with the two blanks before it.
const WIDE: usize = 100;

/// One process, in words. A figure that is not known is a dash.
struct Row {
    name: String,
    pid: String,
    build: String,
    state: &'static str,
    age: String,
    memory: String,
    open: [String; 4],
}

const CLASSES: [&str; 4] = ["idle", "in flight", "upload", "stream"];

/// Every process, as lines of at most this width if they can be.
pub(super) fn lines(status: &Status, width: usize) -> Vec<String> {
    let master = Row {
        name: "master".to_owned(),
        pid: status.pid.to_string(),
        build: status.master.short(),
        state: "",
        age: duration(status.up_seconds),
        memory: String::new(),
        open: Default::default(),
    };
    let rows: Vec<Row> = std::iter::once(master).chain(status.workers.iter().map(row)).collect();
    match width < WIDE {
        true => rows.iter().flat_map(narrow).collect(),
        false => std::iter::once(header()).chain(rows).map(|row| wide(&row)).collect(),
    }
}

fn header() -> Row {
    Row {
        name: String::new(),
        pid: "pid".to_owned(),
        build: "build".to_owned(),
        state: "state",
        age: "age".to_owned(),
        memory: "memory".to_owned(),
        open: CLASSES.map(str::to_owned),
    }
}

fn row(worker: &Worker) -> Row {
    let unknown = || "-".to_owned();
    Row {
        name: format!("worker {}", worker.worker),
        pid: worker.pid.to_string(),
        build: worker.build.short(),
        state: match worker.state {
            WorkerState::Starting => "starting",
            WorkerState::Ready => "ready",
            WorkerState::Draining => "draining",
            WorkerState::Killed => "killed",
            WorkerState::Stuck => "stuck",
        },
        age: duration(worker.age_seconds),
        memory: worker.resident.map_or_else(unknown, bytes),
        open: match (worker.classes, worker.connections) {
            (Some(open), _) => {
                [open.idle, open.in_flight, open.upload, open.stream].map(|count| count.to_string())
            }
            // An older build counts them together.
            (None, Some(count)) => [format!("{count} open"), unknown(), unknown(), unknown()],
            (None, None) => [unknown(), unknown(), unknown(), unknown()],
        },
    }
}

fn wide(row: &Row) -> String {
    let Row { name, pid, build, state, age, memory, open } = row;
    let line = format!(
        "{name:<9} {pid:>7}  {build:<15} {state:<8} {age:>11} {memory:>9} {:>7} {:>9} {:>6} {:>6}",
        open[0], open[1], open[2], open[3]
    );
    line.trim_end().to_owned()
}

fn narrow(row: &Row) -> Vec<String> {
    let Row { name, pid, build, state, age, memory, open } = row;
    let first = format!("{name}  pid {pid}  {build}  {state}");
    let mut figures = vec![age.clone()];
    figures.extend((!memory.is_empty() && memory != "-").then(|| memory.clone()));
    let counted =
        open.iter().zip(CLASSES).filter(|(count, _)| !["", "-", "0"].contains(&count.as_str()));
    figures.extend(counted.map(|(count, class)| match count.ends_with("open") {
        true => count.clone(),
        false => format!("{count} {class}"),
    }));
    vec![first.trim_end().to_owned(), format!("  {}", figures.join(", "))]
}

/// Seconds as a person says them.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// Bytes as a person says them.
pub(super) fn bytes(count: u64) -> String {
    let (kib, mib) = (count / 1024, count as f64 / 1024.0 / 1024.0);
    if kib < 1024 { format!("{kib} KiB") } else { format!("{mib:.1} MiB") }
}

#[cfg(test)]
mod tests {
    use pump_control::channel::Classes;
    use pump_control::control::Build;

    use super::*;

    fn status() -> Status {
        let build = "abcdef0123456789".to_owned();
        let build = Build { version: "0.1.0".to_owned(), build, ..Build::default() };
        let open = Classes { idle: 9999, in_flight: 3, upload: 0, stream: 1000 };
        let ready = Worker {
            worker: 12,
            pid: 4_194_304,
            build: build.clone(),
            state: WorkerState::Ready,
            classes: Some(open),
            connections: Some(open.all()),
            resident: Some(18 * 1024 * 1024),
            age_seconds: 100_000,
            ..Worker::default()
        };
        // Of a build that says less.
        let state = WorkerState::Draining;
        let old = Worker {
            worker: 1,
            connections: Some(7),
            classes: None,
            resident: None,
            state,
            ..ready.clone()
        };
        Status {
            pid: 17,
            master: build,
            up_seconds: 59,
            workers: vec![ready, old],
            ..Status::default()
        }
    }

    #[test]
    fn where_there_is_room_it_is_a_table() {
        let lines = lines(&status(), WIDE);
        assert!(lines.iter().all(|line| line.len() + 2 <= WIDE), "{lines:#?}");
        assert_eq!(
            lines,
            [
                "              pid  build           state            age    memory    idle in flight upload stream",
                "master         17  0.1.0+abcdef01                  59 s",
                "worker 12 4194304  0.1.0+abcdef01  ready        1 d 3 h  18.0 MiB    9999         3      0   1000",
                "worker 1  4194304  0.1.0+abcdef01  draining     1 d 3 h         -  7 open         -      -      -",
            ]
        );
    }

    #[test]
    fn on_a_narrow_terminal_each_process_has_two_lines() {
        let lines = lines(&status(), 60);
        assert!(lines.iter().all(|line| line.len() <= 60), "{lines:#?}");
        assert_eq!(
            lines,
            [
                "master  pid 17  0.1.0+abcdef01",
                "  59 s",
                "worker 12  pid 4194304  0.1.0+abcdef01  ready",
                "  1 d 3 h, 18.0 MiB, 9999 idle, 3 in flight, 1000 stream",
                "worker 1  pid 4194304  0.1.0+abcdef01  draining",
                "  1 d 3 h, 7 open",
            ]
        );
    }
}

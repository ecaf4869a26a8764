//! Point after point, and what was found after each.

use super::place::{Place, Ran};
use super::trace::{Fault, Point, points};
use crate::torture::say;

/// What came of one command under one fault.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    command: &'static str,
    fault: Fault,
    /// Calls of the recorded run that change something.
    calls: usize,
    /// Points that stand for them.
    points: usize,
    /// Points that were met.
    met: usize,
    /// After which `pump resume` left nothing to be done.
    converged: usize,
    /// After which no version served.
    dark: usize,
    /// After which a further run changed something.
    restless: usize,
    pub(super) reasons: Vec<String>,
}

/// One fault, over all commands.
pub(super) struct Sweep<'a> {
    place: &'a Place,
    fault: Fault,
    most: usize,
    wanted: &'a dyn Fn(&str) -> bool,
}

impl Tally {
    fn new(command: &'static str, fault: Fault, (calls, points): (usize, usize)) -> Self {
        let (met, converged, dark, restless) = (0, 0, 0, 0);
        Self { command, fault, calls, points, met, converged, dark, restless, reasons: Vec::new() }
    }

    fn wrong(&mut self, point: &Point, what: &str, ran: &Ran) {
        let all = if point.all { " of a child" } else { "" };
        self.reasons.push(format!(
            "{} {} at {} {}{all}: {what}: {:?} {}",
            self.fault.word(),
            self.command,
            point.call,
            point.when,
            ran.code,
            ran.said.trim()
        ));
    }
}

impl<'a> Sweep<'a> {
    /// At most so many points of each command, spread over it.
    pub(super) fn new(
        place: &'a Place,
        fault: Fault,
        most: usize,
        wanted: &'a dyn Fn(&str) -> bool,
    ) -> Self {
        Self { place, fault, most, wanted }
    }

    /// Those that are tried of all points of a command.
    fn tried(&self, command: &str, points: Vec<Point>) -> Vec<Point> {
        if (self.wanted)(command) { spread(points, self.most) } else { Vec::new() }
    }

    /// Upgrade and rollback, in turn, on a server that serves all the time.
    pub(super) fn there_and_back(&self) -> anyhow::Result<[Tally; 2]> {
        let place = self.place;
        place.clear()?;
        self.must("install")?;
        place.hurry()?;
        self.must("start")?;
        // Once before: what is made once is not made at every upgrade.
        for command in ["upgrade", "rollback"] {
            self.must(command)?;
        }
        place.forget_second()?;
        let (there, there_all) = points(&place.record("upgrade")?, self.fault);
        let (back, back_all) = points(&place.record("rollback")?, self.fault);
        say(
            "sweep",
            &format!(
                "{}: {} points of an upgrade, {} of a rollback",
                self.fault.word(),
                there.len(),
                back.len()
            ),
        );
        let mut up = Tally::new("upgrade", self.fault, (there_all, there.len()));
        let mut down = Tally::new("rollback", self.fault, (back_all, back.len()));
        let (there, back) = (self.tried("upgrade", there), self.tried("rollback", back));
        for number in 0..there.len().max(back.len()) {
            place.forget_second()?;
            match there.get(number) {
                Some(point) => self.point(&mut up, point)?,
                None => self.must("upgrade")?,
            }
            match back.get(number) {
                Some(point) => self.point(&mut down, point)?,
                None => self.must("rollback")?,
            }
            if number % 20 == 19 {
                say("sweep", &format!("{number} of {}", there.len().max(back.len())));
            }
        }
        self.must("stop")?;
        Ok([up, down])
    }

    /// Install and uninstall, in turn.
    pub(super) fn in_and_out(&self) -> anyhow::Result<[Tally; 2]> {
        let place = self.place;
        place.clear()?;
        let (into, into_all) = points(&place.record("install")?, self.fault);
        let (out, out_all) = points(&place.record("uninstall")?, self.fault);
        say(
            "sweep",
            &format!(
                "{}: {} points of an installation, {} of its removal",
                self.fault.word(),
                into.len(),
                out.len()
            ),
        );
        let mut installs = Tally::new("install", self.fault, (into_all, into.len()));
        let mut removals = Tally::new("uninstall", self.fault, (out_all, out.len()));
        let (into, out) = (self.tried("install", into), self.tried("uninstall", out));
        for number in 0..into.len().max(out.len()) {
            place.clear()?;
            match into.get(number) {
                Some(point) => self.installation(&mut installs, point)?,
                None => self.must("install")?,
            }
            if let Some(point) = out.get(number) {
                // What was just told to be unfinished is no beginning for the next point.
                if !place.root().join("etc/pump/pumpd.toml").exists() {
                    place.clear()?;
                    self.must("install")?;
                }
                self.removal(&mut removals, point)?;
            }
            if number % 20 == 19 {
                say("sweep", &format!("{number} of {}", into.len().max(out.len())));
            }
        }
        place.clear()?;
        Ok([installs, removals])
    }

    /// One point of an upgrade or a rollback. Afterwards it is made.
    fn point(&self, tally: &mut Tally, point: &Point) -> anyhow::Result<()> {
        let place = self.place;
        let (first, second) = (place.first.name(), place.second.name());
        let goal = if tally.command == "upgrade" { second.clone() } else { first.clone() };
        let (met, ran) = place.fail(tally.command, point, self.fault)?;
        tally.met += usize::from(met);
        let current = place.link("current");
        if !place.serves() || !current.as_ref().is_some_and(|it| *it == first || *it == second) {
            tally.dark += 1;
            tally.wrong(point, &format!("nothing serves, or {current:?} is current"), &ran);
        }
        let resumed = place.say("resume")?;
        let at_rest = place.serving()? == place.link("current").unwrap_or_default();
        if resumed.code == Some(0) && at_rest && place.serves() {
            tally.converged += usize::from(met);
        } else {
            tally.wrong(
                point,
                &format!("`pump resume` left it undone (at rest: {at_rest})"),
                &resumed,
            );
        }
        // What was cut before anything was noted is as if it had not been asked for.
        if place.link("current").as_ref() != Some(&goal) {
            let again = place.say(tally.command)?;
            if again.code != Some(0) || place.link("current").as_ref() != Some(&goal) {
                tally.wrong(point, "the same command did not finish it", &again);
            }
        }
        let before = place.files();
        let mut further = vec!["resume"];
        if tally.command == "upgrade" {
            further.push("upgrade");
        }
        for command in further {
            let ran = place.say(command)?;
            if ran.code != Some(0) || place.files() != before {
                tally.restless += 1;
                let changed = difference(place, &before);
                tally.wrong(point, &format!("a further `pump {command}` changed {changed}"), &ran);
            }
        }
        Ok(())
    }

    fn installation(&self, tally: &mut Tally, point: &Point) -> anyhow::Result<()> {
        let place = self.place;
        let (met, _) = place.fail("install", point, self.fault)?;
        tally.met += usize::from(met);
        let resumed = place.say("resume")?;
        // Where nothing of it is left to be found there is nothing to resume.
        let resumes = matches!(resumed.code, Some(0 | 50));
        let again = place.say("install")?;
        if again.code != Some(0) {
            tally.wrong(point, "`pump install` did not finish it", &again);
            return Ok(());
        }
        place.hurry()?;
        let started = place.say("start")?;
        let serves = place.serves();
        if !serves {
            tally.dark += 1;
            tally.wrong(point, "it does not serve afterwards", &started);
        }
        if resumes && serves {
            tally.converged += usize::from(met);
        } else {
            tally.wrong(point, "`pump resume` did not understand it", &resumed);
        }
        let before = place.files();
        for command in ["resume", "install"] {
            let ran = place.say(command)?;
            if ran.code != Some(0) || place.files() != before {
                tally.restless += 1;
                let changed = difference(place, &before);
                tally.wrong(point, &format!("a further `pump {command}` changed {changed}"), &ran);
            }
        }
        self.must("stop")
    }

    fn removal(&self, tally: &mut Tally, point: &Point) -> anyhow::Result<()> {
        let place = self.place;
        let (met, _) = place.fail("uninstall", point, self.fault)?;
        tally.met += usize::from(met);
        let resumed = place.say("resume")?;
        // Where nothing was begun it is installed, and where all was done it is not.
        let resumes = matches!(resumed.code, Some(0 | 50));
        let again = place.say("uninstall")?;
        let gone = !place.root().join("opt/pump").exists() && !place.root().join("usr").exists();
        let kept = place.root().join("etc/pump/pumpd.toml").exists()
            && place.root().join("var/lib/pump/pump.sqlite3").exists();
        if resumes && again.code == Some(0) && gone && kept {
            tally.converged += usize::from(met);
        } else {
            tally.wrong(
                point,
                &format!("gone: {gone}, configuration and data kept: {kept}"),
                &again,
            );
        }
        let before = place.files();
        let ran = place.say("uninstall")?;
        if ran.code != Some(0) || place.files() != before {
            tally.restless += 1;
            tally.wrong(point, "a further `pump uninstall` changed something", &ran);
        }
        Ok(())
    }

    fn must(&self, command: &str) -> anyhow::Result<()> {
        let ran = self.place.say(command)?;
        anyhow::ensure!(ran.code == Some(0), "`pump {command}`: {ran:?}");
        Ok(())
    }
}

/// What is different now, by its first name.
fn difference(
    place: &Place,
    before: &std::collections::BTreeMap<std::path::PathBuf, (u64, i64, u64)>,
) -> String {
    let now = place.files();
    let of = |one: &std::collections::BTreeMap<_, _>, other: &std::collections::BTreeMap<_, _>| {
        one.iter()
            .find(|(path, meta)| other.get(*path) != Some(*meta))
            .map(|(path, _): (&std::path::PathBuf, &(u64, i64, u64))| path.display().to_string())
    };
    of(&now, before).or_else(|| of(before, &now)).unwrap_or_else(|| "nothing".to_owned())
}

/// At most so many, spread over all.
fn spread(points: Vec<Point>, most: usize) -> Vec<Point> {
    let count = points.len();
    if count <= most {
        return points;
    }
    (0..most).map(|number| points[number * (count - 1) / (most - 1).max(1)].clone()).collect()
}

/// What was found, as a table.
pub(super) fn table(tallies: &[Tally]) -> String {
    let mut text = String::from(
        "| command | fault | calls that change something | points | tried and met | brought to an end by `pump resume` or the same command | no version served | changed by a further run |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for tally in tallies.iter().filter(|tally| tally.met > 0) {
        let Tally { command, calls, points, met, converged, dark, restless, .. } = tally;
        let share = *converged as f64 * 100.0 / (*met).max(1) as f64;
        text.push_str(&format!(
            "| {command} | {} | {calls} | {points} | {met} | {converged} ({share:.1} %) | {dark} | {restless} |\n",
            tally.fault.word()
        ));
    }
    text
}

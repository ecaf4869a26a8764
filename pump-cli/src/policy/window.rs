//! `Mon-Fri 02:00-05:00`: when something may be done, in the time of a place.
//!
//! A window that reaches over midnight belongs to the day on which it begins. Where clocks are put forward
//! over its beginning, it begins when they have been, and lasts as long as it is written; where they are put
//! back within it, it lasts the hour longer. So no day is without its window.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time, Weekday};
use jiff::{SignedDuration, ToSpan, Zoned};

use super::Gate;

/// How many days from a time its next window may begin: each comes every week.
const DAYS_AHEAD: i64 = 8;

const NAMES: [(Weekday, &str); 7] = [
    (Weekday::Monday, "Mon"),
    (Weekday::Tuesday, "Tue"),
    (Weekday::Wednesday, "Wed"),
    (Weekday::Thursday, "Thu"),
    (Weekday::Friday, "Fri"),
    (Weekday::Saturday, "Sat"),
    (Weekday::Sunday, "Sun"),
];

/// One window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    text: String,
    days: Vec<Weekday>,
    /// Minutes since midnight.
    begins: i64,
    /// Minutes since the same midnight, more than `begins`.
    ends: i64,
}

impl Window {
    /// From when to when it is open on the day that it begins on. None beyond the calendar's end.
    fn on(&self, day: Date, at: &Zoned) -> Option<(Zoned, Zoned)> {
        if !self.days.contains(&day.weekday()) {
            return None;
        }
        let time = |minutes: i64| {
            let day = day.checked_add((minutes / (24 * 60)).days()).ok()?;
            let (hour, minute) = (minutes % (24 * 60) / 60, minutes % 60);
            let time = Time::new(hour as i8, minute as i8, 0, 0).ok()?;
            Some(at.time_zone().to_ambiguous_zoned(day.to_datetime(time)))
        };
        let begins = time(self.begins)?.compatible().ok()?;
        let ends = time(self.ends)?.later().ok()?;
        let lasts = SignedDuration::from_mins(self.ends - self.begins);
        let whole = begins.checked_add(lasts).ok()?;
        let ends = if ends < whole { whole } else { ends };
        Some((begins, ends))
    }
}

/// Whether any of the windows is open, until when, or when the next one opens.
pub(super) fn gate(windows: &[Window], now: &Zoned) -> Gate {
    let mut next: Option<Zoned> = None;
    for ahead in -1..=DAYS_AHEAD {
        let Ok(day) = now.date().checked_add(ahead.days()) else { continue };
        for window in windows {
            match window.on(day, now) {
                Some((begins, ends)) if begins <= *now && *now < ends => return Gate::Open(ends),
                Some((begins, _)) if begins > *now => {
                    next = Some(next.map_or(begins.clone(), |next| next.min(begins)));
                }
                _ => {}
            }
        }
    }
    // Each comes within a week, so there is one.
    Gate::Closed(next.unwrap_or_else(|| now.clone()))
}

/// A time as an administrator reads it: `Sat 2026-11-28 02:00 CET`.
pub(crate) fn at(time: &Zoned) -> String {
    time.strftime("%a %Y-%m-%d %H:%M %Z").to_string()
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("`{text}` {why}; `02:00-05:00` and `Sat,Sun 23:00-04:00` are windows")
        };
        let mut words = text.split_whitespace();
        let (days, hours) = match (words.next(), words.next(), words.next()) {
            (Some(hours), None, _) => (NAMES.map(|(day, _)| day).to_vec(), hours),
            (Some(days), Some(hours), None) => {
                (self::days(days).ok_or_else(|| wrong("names no days"))?, hours)
            }
            _ => return Err(wrong("is no window")),
        };
        let (begins, ends) = hours.split_once('-').ok_or_else(|| wrong("names no hours"))?;
        let hours = || wrong("names no hours");
        let begins = minutes(begins).filter(|at| *at < 24 * 60).ok_or_else(hours)?;
        let mut ends = minutes(ends).ok_or_else(hours)?;
        if ends == begins {
            return Err(wrong("ends when it begins"));
        }
        if ends < begins {
            ends += 24 * 60;
        }
        Ok(Self { text: text.to_owned(), days, begins, ends })
    }
}

/// `Mon-Fri`, `Sat,Sun`, `Fri-Mon`.
fn days(text: &str) -> Option<Vec<Weekday>> {
    let place = |name: &str| NAMES.iter().position(|(_, known)| known.eq_ignore_ascii_case(name));
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (place(first)?, place(last)?);
        all.push(NAMES[at].0);
        while at != last {
            at = (at + 1) % NAMES.len();
            all.push(NAMES[at].0);
        }
    }
    Some(all)
}

/// `05:30` in minutes; `24:00` is the end of a day.
fn minutes(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| {
        let fine = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        fine.then(|| digits.parse::<i64>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= 24 * 60).then_some(all)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use jiff::{Timestamp, civil};

    use super::*;

    #[track_caller]
    fn check(windows: &[&str], now: &str, want: &str) {
        let windows: Vec<Window> = windows.iter().map(|text| text.parse().unwrap()).collect();
        let now: civil::DateTime = now.parse().unwrap();
        let now = now.to_zoned(TimeZone::get("Europe/Berlin").unwrap()).unwrap();
        let told = match gate(&windows, &now) {
            Gate::Always => "always".to_owned(),
            Gate::Open(until) => format!("until {}", at(&until)),
            Gate::Closed(until) => format!("opens {}", at(&until)),
        };
        assert_eq!(told, want, "{windows:?} at {now}");
    }

    #[test]
    fn a_window_is_open_from_its_beginning_to_its_end_on_its_days() {
        // 2026-11-22 is a Sunday.
        check(&["02:00-05:00"], "2026-11-22T02:00", "until Sun 2026-11-22 05:00 CET");
        check(&["02:00-05:00"], "2026-11-22T04:59:59", "until Sun 2026-11-22 05:00 CET");
        check(&["02:00-05:00"], "2026-11-22T05:00", "opens Mon 2026-11-23 02:00 CET");
        check(&["Mon-Fri 02:00-05:00"], "2026-11-22T03:00", "opens Mon 2026-11-23 02:00 CET");
        check(&["Sun 02:00-03:00"], "2026-11-22T04:00", "opens Sun 2026-11-29 02:00 CET");
        check(&["Fri-Mon 02:00-05:00"], "2026-11-22T03:00", "until Sun 2026-11-22 05:00 CET");
        check(&["00:00-24:00"], "2026-11-22T23:59", "until Mon 2026-11-23 00:00 CET");
        // Over midnight it belongs to the day on which it begins.
        check(&["Sat 23:00-04:00"], "2026-11-22T03:00", "until Sun 2026-11-22 04:00 CET");
        check(&["Sun 23:00-04:00"], "2026-11-22T03:00", "opens Sun 2026-11-22 23:00 CET");
        let two = ["Mon 02:00-03:00", "Wed 12:00-13:00"];
        check(&two, "2026-11-24T00:00", "opens Wed 2026-11-25 12:00 CET");
    }

    #[test]
    fn b18_no_day_is_without_its_window_whatever_becomes_of_the_clocks() {
        // On 2026-03-29 clocks go from 02:00 to 03:00. The window has only the hour that is not there.
        check(&["02:00-03:00"], "2026-03-29T01:59", "opens Sun 2026-03-29 03:00 CEST");
        check(&["02:00-03:00"], "2026-03-29T03:30", "until Sun 2026-03-29 04:00 CEST");
        check(&["02:30-05:00"], "2026-03-29T01:00", "opens Sun 2026-03-29 03:30 CEST");
        check(&["01:00-05:00"], "2026-03-29T04:59", "until Sun 2026-03-29 06:00 CEST");
        // On 2026-10-25 they go from 03:00 to 02:00: it is open in both.
        let windows: [Window; 1] = ["02:00-03:00".parse().unwrap()];
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        for (at, open) in [("00:00", true), ("00:59", true), ("01:30", true), ("02:00", false)] {
            let now: Timestamp = format!("2026-10-25T{at}:00Z").parse().unwrap();
            let now = now.to_zoned(zone.clone());
            assert_eq!(matches!(gate(&windows, &now), Gate::Open(_)), open, "{now}");
        }
    }

    #[test]
    fn what_is_no_window_is_told() {
        for (text, says) in [
            ("", "is no window"),
            ("Mon", "names no hours"),
            ("Someday 02:00-03:00", "names no days"),
            ("Mon- 02:00-03:00", "names no days"),
            ("2-3", "names no hours"),
            ("02:00-24:01", "names no hours"),
            ("24:00-02:00", "names no hours"),
            ("02:60-03:00", "names no hours"),
            ("02:00-02:00", "ends when it begins"),
            ("Mon 02:00-03:00 UTC", "is no window"),
        ] {
            let error = text.parse::<Window>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}

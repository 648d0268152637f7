//! When bytes may be fetched: one schedule for all downloads together.
//!
//! It may change while threads wait at the gate; they notice at once. Knows neither files nor the network.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use jiff::Zoned;
use jiff::civil::Weekday;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::storage::locked;
use crate::text::quoted;

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LOOK_AROUND: Duration = Duration::from_millis(100);

/// The hours of local time in which downloads run, over midnight when `end` is earlier than `start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schedule {
    start: String,
    end: String,
    days: Vec<String>,
}

impl Schedule {
    /// From `start` to `end` as `HH:MM`; `days` are those on which the window begins, none means all.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn new(start: String, end: String, days: Vec<String>) -> Result<Self> {
        for (field, value) in [("start", &start), ("end", &end)] {
            if minutes(value).is_none() {
                let reason = "must be a time of day such as 22:30";
                return Err(Error::invalid(format!("schedule.{field}"), reason));
            }
        }
        if start == end {
            let reason = "start and end are the same; pass any_time to download at any time";
            return Err(Error::invalid("schedule", reason));
        }
        let unknown = days.iter().filter(|day| !WEEKDAYS.contains(&day.as_str())).min();
        if let Some(unknown) = unknown {
            let reason = format!("{} is not one of {}", quoted(unknown, 20), WEEKDAYS.join(", "));
            return Err(Error::invalid("schedule.days", reason));
        }
        Ok(Self { start, end, days })
    }

    /// The same with the days in the order of the week, each once.
    ///
    /// # Errors
    /// As [`Schedule::new`].
    pub fn tidy(start: String, end: String, mut days: Vec<String>) -> Result<Self> {
        let place = |day: &String| WEEKDAYS.iter().position(|known| known == day).unwrap_or(7);
        days.sort_by_key(|day| (place(day), day.clone()));
        days.dedup();
        Self::new(start, end, days)
    }

    /// Whether downloads may run at this minute of the day (from 0) on this day of the week (from Monday).
    fn is_open(&self, now: u16, today: usize) -> bool {
        let (start, end) = (minutes(&self.start).unwrap_or(0), minutes(&self.end).unwrap_or(0));
        if start < end {
            return start <= now && now < end && self.begins_on(today);
        }
        (now >= start && self.begins_on(today)) || (now < end && self.begins_on((today + 6) % 7))
    }

    fn begins_on(&self, weekday: usize) -> bool {
        self.days.is_empty() || self.days.iter().any(|day| day == WEEKDAYS[weekday])
    }
}

/// Of `HH:MM`, from 00:00 to 23:59.
fn minutes(clock: &str) -> Option<u16> {
    let (hours, minutes) = clock.split_once(':')?;
    let number = |text: &str| {
        let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

/// Open while downloads may run; what waits at it goes on as soon as it opens.
#[derive(Default)]
pub(super) struct Gate {
    schedule: Mutex<Option<Schedule>>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn set(&self, schedule: Option<Schedule>) {
        *locked(&self.schedule) = schedule;
        self.changed.notify_all();
    }

    pub(super) fn is_open(&self) -> bool {
        is_open(locked(&self.schedule).as_ref())
    }

    /// Return once the gate is open; `check` is called while waiting and may fail to stop.
    pub(super) fn wait(&self, check: impl Fn() -> Result<()>) -> Result<()> {
        let mut schedule = locked(&self.schedule);
        while !is_open(schedule.as_ref()) {
            schedule = self
                .changed
                .wait_timeout(schedule, LOOK_AROUND)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            check()?;
        }
        Ok(())
    }
}

fn is_open(schedule: Option<&Schedule>) -> bool {
    let Some(schedule) = schedule else { return true };
    let now = Zoned::now();
    let minute = u16::try_from(i16::from(now.hour()) * 60 + i16::from(now.minute())).unwrap_or_default();
    let today = now.weekday().since(Weekday::Monday);
    schedule.is_open(minute, usize::try_from(today).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(start: &str, end: &str, days: &[&str]) -> Result<Schedule> {
        let days = days.iter().map(ToString::to_string).collect();
        Schedule::tidy(start.to_owned(), end.to_owned(), days)
    }

    #[test]
    fn windows_may_go_over_midnight() {
        let (noon, night) = (12 * 60, 60);
        let day = schedule("09:00", "17:30", &[]).unwrap();
        assert!(day.is_open(noon, 0) && !day.is_open(night, 0) && !day.is_open(17 * 60 + 30, 0));
        let late = schedule("22:30", "06:00", &["fri", "mon", "mon"]).unwrap();
        assert_eq!(late.days, ["mon", "fri"]);
        assert!(late.is_open(23 * 60, 0) && late.is_open(night, 1) && late.is_open(night, 5));
        assert!(!late.is_open(night, 0) && !late.is_open(23 * 60, 1) && !late.is_open(noon, 0));
    }

    #[test]
    fn impossible_times_are_refused() {
        for (start, end) in [
            ("24:00", "06:00"),
            ("9:00", "10:00"),
            ("09:60", "10:00"),
            ("", "1"),
        ] {
            let error = schedule(start, end, &[]).unwrap_err().to_string();
            assert!(error.ends_with("must be a time of day such as 22:30"), "{error}");
        }
        assert!(schedule("10:00", "10:00", &[]).is_err());
        let error = schedule("10:00", "11:00", &["mon", "x"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "schedule.days: 'x' is not one of mon, tue, wed, thu, fri, sat, sun"
        );
    }
}

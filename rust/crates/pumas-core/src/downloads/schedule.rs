//! When bytes may be fetched: one schedule for all downloads together.
//!
//! It may change while threads wait at the gate; they notice at once. Knows neither files nor the network.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use jiff::Zoned;
use jiff::civil::{DateTime, Weekday};
use serde::Serialize;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::error::{Error, Result};
use crate::storage::locked;
use crate::text::quoted;

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY: u16 = 24 * 60;
const LOOK_AROUND: Duration = Duration::from_millis(100);
/// So long may it go unnoticed that somebody set the clock, or that the machine slept.
const LOOK: Duration = Duration::from_mins(5);

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

    /// From this minute to the one in which downloads begin or cease to be allowed: a week at most.
    ///
    /// By the clock on the wall: the hour that it skips or has twice a year is not counted.
    fn minutes_to_change(&self, now: u16, today: usize) -> u16 {
        let mut turns = [&self.start, &self.end].map(|clock| minutes(clock).unwrap_or(0));
        turns.sort_unstable();
        let is_open = self.is_open(now, today);
        let mut turns = (0..8).flat_map(|day| turns.map(|turn| (day, turn)));
        let changes = |(day, turn): &(u16, u16)| {
            day * DAY + turn > now && self.is_open(*turn, (today + usize::from(*day)) % 7) != is_open
        };
        turns
            .find(changes)
            .map_or(7 * DAY, |(day, turn)| day * DAY + turn - now)
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
pub(super) struct Gate {
    schedule: Mutex<Option<Schedule>>,
    changed: Condvar,
    /// The local time.
    clock: Box<dyn Fn() -> DateTime + Send + Sync>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::with_clock(|| Zoned::now().datetime())
    }
}

impl Gate {
    fn with_clock(clock: impl Fn() -> DateTime + Send + Sync + 'static) -> Self {
        Self {
            schedule: Mutex::default(),
            changed: Condvar::new(),
            clock: Box::new(clock),
        }
    }

    pub(super) fn set(&self, schedule: Option<Schedule>) {
        *locked(&self.schedule) = schedule;
        self.changed.notify_all();
    }

    pub(super) fn is_open(&self) -> bool {
        self.lets_through(locked(&self.schedule).as_ref())
    }

    fn lets_through(&self, schedule: Option<&Schedule>) -> bool {
        schedule.is_none_or(|schedule| {
            let (now, today) = minute_and_day(&(self.clock)());
            schedule.is_open(now, today)
        })
    }

    /// Whether it is open, and for how long yet by the clock; `None`: until the schedule is another.
    fn outlook(&self) -> (bool, Option<Duration>) {
        let schedule = locked(&self.schedule);
        let Some(schedule) = schedule.as_ref() else {
            return (true, None);
        };
        let moment = (self.clock)();
        let (now, today) = minute_and_day(&moment);
        let whole = Duration::from_mins(schedule.minutes_to_change(now, today).into());
        let gone = Duration::new(
            u64::try_from(moment.second()).unwrap_or_default(),
            u32::try_from(moment.subsec_nanosecond()).unwrap_or_default(),
        );
        (schedule.is_open(now, today), Some(whole.saturating_sub(gone)))
    }

    /// Return once the gate is open; `check` is called while waiting and may fail to stop.
    pub(super) fn wait(&self, check: impl Fn() -> Result<()>) -> Result<()> {
        let mut schedule = locked(&self.schedule);
        while !self.lets_through(schedule.as_ref()) {
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

/// The minute of the day from 0, the day of the week from Monday.
fn minute_and_day(moment: &DateTime) -> (u16, usize) {
    let minute = i16::from(moment.hour()) * 60 + i16::from(moment.minute());
    let today = moment.weekday().since(Weekday::Monday);
    (
        u16::try_from(minute).unwrap_or_default(),
        usize::try_from(today).unwrap_or_default(),
    )
}

/// Notices that a gate opens or closes by the clock. Nothing wakes it without a schedule.
pub(super) struct Watch {
    task: Mutex<Option<AbortHandle>>,
    /// The longest time between two looks at the clock.
    look: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            task: Mutex::default(),
            look: LOOK,
        }
    }
}

impl Watch {
    /// Begin anew with the schedule that the gate has now; `known` is what everybody was told. `changed(is_open)` is
    /// called each time.
    pub(super) fn follow<F: Future<Output = ()> + Send + 'static>(
        &self,
        gate: Arc<Gate>,
        mut known: bool,
        changed: impl Fn(bool) -> F + Send + Sync + 'static,
    ) {
        self.stop();
        if known && gate.outlook().1.is_none() {
            return;
        }
        let look = self.look;
        let task = tokio::spawn(async move {
            loop {
                let (is_open, wait) = gate.outlook();
                if is_open != known {
                    known = is_open;
                    changed(is_open).await;
                }
                let Some(wait) = wait else { return };
                sleep(wait.min(look)).await;
            }
        });
        *locked(&self.task) = Some(task.abort_handle());
    }

    pub(super) fn stop(&self) {
        if let Some(task) = locked(&self.task).take() {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;
    use jiff::civil::date;
    use proptest::prelude::*;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::time::timeout;

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
    fn a_window_of_one_day_comes_again_after_a_week() {
        let monday = schedule("10:00", "10:01", &["mon"]).unwrap();
        assert_eq!(monday.minutes_to_change(10 * 60, 0), 1);
        assert_eq!(monday.minutes_to_change(10 * 60 + 1, 0), 7 * DAY - 1);
        let night = schedule("23:59", "00:00", &["sun"]).unwrap();
        assert_eq!(night.minutes_to_change(0, 0), 7 * DAY - 1);
        assert_eq!(night.minutes_to_change(DAY - 1, 6), 1);
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

    proptest! {
        #[test]
        fn the_next_change_is_the_one_that_a_walk_minute_by_minute_finds(
            (start, end) in (0..DAY, 0..DAY).prop_filter("a window", |(start, end)| start != end),
            days in proptest::sample::subsequence(&WEEKDAYS[..], 0..=7),
            minute in 0..14 * DAY,
        ) {
            let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            let schedule = schedule(&clock(start), &clock(end), &days).unwrap();
            let monday = date(2026, 6, 1).at(0, 0, 0, 0);
            let is_open = |later: u16| {
                let (now, today) = minute_and_day(&(monday + i64::from(minute + later).minutes()));
                schedule.is_open(now, today)
            };
            let (now, today) = minute_and_day(&(monday + i64::from(minute).minutes()));
            let found = (1..=7 * DAY).find(|later| is_open(*later) != is_open(0));
            prop_assert_eq!(Some(schedule.minutes_to_change(now, today)), found);
        }
    }

    /// A clock that a test sets.
    type Wall = Arc<Mutex<DateTime>>;

    fn wall(hour: i8, minute: i8, second: i8, millis: i32) -> Wall {
        Arc::new(Mutex::new(at(hour, minute, second, millis)))
    }

    /// On a Monday.
    fn at(hour: i8, minute: i8, second: i8, millis: i32) -> DateTime {
        date(2026, 6, 1).at(hour, minute, second, millis * 1_000_000)
    }

    /// What a watch says of a gate that is open from nine to five.
    fn followed(wall: &Wall, watch: &Watch, known: bool) -> UnboundedReceiver<bool> {
        let clock = Arc::clone(wall);
        let gate = Gate::with_clock(move || *locked(&clock));
        gate.set(Some(schedule("09:00", "17:00", &[]).unwrap()));
        let (say, told) = unbounded_channel();
        watch.follow(Arc::new(gate), known, move |is_open| {
            let say = say.clone();
            async move { say.send(is_open).unwrap() }
        });
        told
    }

    async fn next(told: &mut UnboundedReceiver<bool>) -> bool {
        timeout(Duration::from_secs(30), told.recv())
            .await
            .unwrap()
            .unwrap()
    }

    #[tokio::test]
    async fn it_is_told_at_the_minute_at_which_the_gate_opens_and_closes() {
        for (before, after, opens) in [
            (at(8, 59, 59, 900), at(9, 0, 0, 0), true),
            (at(16, 59, 59, 900), at(17, 0, 0, 0), false),
        ] {
            let (wall, watch) = (Arc::new(Mutex::new(before)), Watch::default());
            let mut told = followed(&wall, &watch, !opens);
            tokio::task::yield_now().await;
            assert!(told.try_recv().is_err(), "not before");
            *locked(&wall) = after;
            assert_eq!(next(&mut told).await, opens);
        }
    }

    #[tokio::test]
    async fn a_clock_that_was_set_is_noticed() {
        let wall = wall(8, 0, 0, 0);
        let watch = Watch {
            look: Duration::from_millis(10),
            ..Watch::default()
        };
        let mut told = followed(&wall, &watch, false);
        for (hour, opens) in [(12, true), (20, false), (10, true)] {
            *locked(&wall) = at(hour, 0, 0, 0);
            assert_eq!(next(&mut told).await, opens);
        }
        watch.stop();
        assert_eq!(
            timeout(Duration::from_secs(30), told.recv()).await,
            Ok(None),
            "it has ended"
        );
    }

    #[tokio::test]
    async fn what_has_changed_since_it_was_told_is_told_at_once() {
        let watch = Watch::default();
        assert!(next(&mut followed(&wall(12, 0, 0, 0), &watch, false)).await);
    }

    #[tokio::test]
    async fn nothing_wakes_it_without_a_schedule() {
        let watch = Watch::default();
        watch.follow(Arc::default(), true, |_| async {});
        assert!(locked(&watch.task).is_none());
    }
}

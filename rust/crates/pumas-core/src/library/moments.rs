//! Moments as older sidecars wrote them, in the one form that the index knows: UTC with microseconds and `Z`.
//!
//! What is accepted is ISO 8601 as Python's `datetime.fromisoformat` reads it
//! (<https://docs.python.org/3.11/library/datetime.html#datetime.datetime.fromisoformat>): it wrote those files. But not what
//! that lets through by mistake. A moment without an offset is local time.

use jiff::civil::{Date, DateTime, ISOWeekDate, Time, Weekday};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::storage::clock;

const LONGEST: usize = 40;

/// The moment in a metadata field; None for anything that is none.
#[must_use]
pub fn timestamp(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| text.chars().count() <= LONGEST)?;
    let (moment, offset) = parse(text.trim())?;
    let moment = match offset {
        Some(seconds) => at_offset(moment, seconds)?,
        None => TimeZone::system()
            .to_ambiguous_timestamp(moment)
            .compatible()
            .ok()?,
    };
    // As our own form it stays as it is, leap seconds of others aside.
    if text.len() == 27 && text.ends_with('Z') && text.as_bytes()[10] == b'T' {
        return Some(text.to_owned());
    }
    shown(moment)
}

/// Seconds since 1970 as text; None for what no calendar holds.
#[must_use]
pub fn utc_text(seconds: f64) -> Option<String> {
    let (whole, part) = (seconds.trunc(), seconds.fract());
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float beyond the range of the calendar is refused below"
    )]
    let micros = SignedDuration::from_secs(whole as i64)
        .checked_add(SignedDuration::from_micros((part * 1e6).round_ties_even() as i64))?;
    shown(Timestamp::from_duration(micros).ok()?)
}

fn shown(moment: Timestamp) -> Option<String> {
    is_in_calendar(moment).then(|| clock::text(moment))
}

fn is_in_calendar(moment: Timestamp) -> bool {
    (1..=9999).contains(&Offset::UTC.to_datetime(moment).year())
}

/// The moment that a text names; one without an offset is UTC. None for what the years 1 to 9999 do not hold.
#[must_use]
pub fn utc_moment(text: &str) -> Option<Timestamp> {
    let (moment, offset) = parse(text)?;
    at_offset(moment, offset.unwrap_or(0)).filter(|moment| is_in_calendar(*moment))
}

fn at_offset(moment: DateTime, seconds: i64) -> Option<Timestamp> {
    Offset::UTC
        .to_timestamp(moment)
        .ok()?
        .checked_sub(SignedDuration::from_secs(seconds))
        .ok()
}

/// The moment, and its offset in seconds when it has one; None unless all of `text` is a moment.
fn parse(text: &str) -> Option<(DateTime, Option<i64>)> {
    // Every part but the separator is ASCII, and it may be any one character.
    let chars: Vec<char> = text.chars().collect();
    let end = date_length(&chars)?;
    let date = parse_date(chars.get(..end)?)?;
    let (time, offset) = if chars.len() > end {
        parse_time(&chars[end + 1..])?
    } else {
        (Time::midnight(), None)
    };
    Some((DateTime::from_parts(date, time), offset))
}

/// Where the date ends.
fn date_length(chars: &[char]) -> Option<usize> {
    let at = |position: usize| chars.get(position).copied();
    let is_digit = |position: usize| at(position).is_some_and(|c| c.is_ascii_digit());
    match (chars.len(), at(4), at(5)) {
        (0..7, ..) => None,
        (7, ..) => Some(7),
        (_, Some('-'), Some('W')) => match (at(8), chars.len()) {
            (Some('-'), 9) => None,
            (Some('-'), 11..) if is_digit(10) => Some(8),
            (Some('-'), _) => Some(10),
            _ => Some(8),
        },
        (_, Some('-'), _) => Some(10),
        (_, Some('W'), _) => {
            let digits_end = (7..chars.len())
                .find(|&position| !is_digit(position))
                .unwrap_or(chars.len());
            Some(match digits_end {
                0..9 => digits_end,
                even if even % 2 == 0 => 7,
                _ => 8,
            })
        }
        _ => Some(8),
    }
}

fn number(chars: &[char]) -> Option<i16> {
    let all_digits = !chars.is_empty() && chars.iter().all(char::is_ascii_digit);
    all_digits
        .then(|| chars.iter().collect::<String>().parse().ok())
        .flatten()
}

fn parse_date(chars: &[char]) -> Option<Date> {
    let year = number(chars.get(..4)?).filter(|year| *year > 0)?;
    let separated = chars.get(4) == Some(&'-');
    let step = usize::from(separated);
    let mut at = 4 + step;
    let small = |chars: Option<&[char]>| number(chars?).and_then(|n| i8::try_from(n).ok());
    let stays_separated = |position: usize| (chars.get(position) == Some(&'-')) == separated;
    if chars.get(at) == Some(&'W') {
        let week = small(chars.get(at + 1..at + 3))?;
        at += 3;
        let mut day = 1;
        if chars.len() > at {
            if !stays_separated(at) {
                return None;
            }
            day = small(chars.get(at + step..).filter(|rest| rest.len() == 1))?;
        }
        let weekday = Weekday::from_monday_one_offset(day).ok()?;
        return Some(ISOWeekDate::new(year, week, weekday).ok()?.date());
    }
    let month = small(chars.get(at..at + 2))?;
    if !stays_separated(at + 2) {
        return None;
    }
    let day = small(chars.get(at + 2 + step..).filter(|rest| rest.len() == 2))?;
    Date::new(year, month, day).ok()
}

/// The time of day, and the offset in seconds when there is one.
fn parse_time(chars: &[char]) -> Option<(Time, Option<i64>)> {
    if chars.len() < 2 {
        return None;
    }
    let find = |wanted: char| chars.iter().position(|&c| c == wanted);
    let zone = find('-').or_else(|| find('+')).or_else(|| find('Z'));
    let [hour, minute, second, micros] = clock_parts(&chars[..zone.unwrap_or(chars.len())])?;
    let small = |value: i32| i8::try_from(value).ok();
    let time = Time::new(
        small(hour)?,
        small(minute)?,
        small(second)?,
        micros.checked_mul(1000)?,
    )
    .ok()?;
    let Some(zone) = zone else {
        return Some((time, None));
    };
    let rest = &chars[zone + 1..];
    if chars[zone] == 'Z' {
        return rest.is_empty().then_some((time, Some(0)));
    }
    if matches!(rest.len(), 0 | 1 | 3) || rest.iter().any(|c| matches!(c, '.' | ',')) {
        return None;
    }
    let [hours, minutes, seconds, _] = clock_parts(rest)?;
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let offset = i64::from(hours) * 3600 + i64::from(minutes) * 60 + i64::from(seconds);
    let sign = if chars[zone] == '-' { -1 } else { 1 };
    Some((time, Some(sign * offset)))
}

/// Hours, minutes, seconds and microseconds of `HH[[:]MM[[:]SS[.ffffff…]]]`.
fn clock_parts(chars: &[char]) -> Option<[i32; 4]> {
    let mut parts = [0; 4];
    let mut at = 0;
    let mut separated = false;
    for (position, part) in parts.iter_mut().take(3).enumerate() {
        *part = number(chars.get(at..at + 2)?)?.into();
        at += 2;
        let next = chars.get(at);
        if position == 0 {
            separated = next == Some(&':');
        }
        if next.is_none() || position == 2 {
            break;
        }
        if separated && next != Some(&':') {
            return None;
        }
        at += usize::from(separated);
    }
    match chars.get(at) {
        None => Some(parts),
        Some('.' | ',') => {
            parts[3] = micros(&chars[at + 1..])?;
            Some(parts)
        }
        Some(_) => None,
    }
}

fn micros(digits: &[char]) -> Option<i32> {
    if digits.is_empty() || !digits.iter().all(char::is_ascii_digit) {
        return None;
    }
    let six: String = digits
        .iter()
        .copied()
        .chain(std::iter::repeat('0'))
        .take(6)
        .collect();
    six.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(timestamp(&json!(text)).as_deref(), expected, "{text:?}");
    }

    #[test]
    fn the_forms_of_older_sidecars() {
        check("2030-02-03T04:05:06.000001Z", Some("2030-02-03T04:05:06.000001Z"));
        check("2030-02-03T04:05:06Z", Some("2030-02-03T04:05:06.000000Z"));
        check("2030-02-03T04:05:06+02:00", Some("2030-02-03T02:05:06.000000Z"));
        check("2030-02-03 04:05:06.5-0130", Some("2030-02-03T05:35:06.500000Z"));
        check("20300203T040506,123456789Z", Some("2030-02-03T04:05:06.123456Z"));
        check("2030-W05-7T04Z", Some("2030-02-03T04:00:00.000000Z"));
        check("2030W057T04:05Z", Some("2030-02-03T04:05:00.000000Z"));
    }

    #[test]
    fn what_is_no_moment() {
        for text in [
            "",
            "yesterday",
            "2030",
            "2030-13-01",
            "2030-02-30",
            "2030-02-03T25:00Z",
            "2030-02-03T",
            "2030-02-03T04:0",
            "2030-02-03T04:05:06+1",
            "2030-02-03T04:05:06+24:00",
            "0000-01-01",
            "2030-02-03T04.5Z",
            "0001-01-01T00:00+01:00",
            "2030-02-03T04:05:06.Zx",
            "2030-02-03T04:05:06.",
            "2030-02-03T04:05:06 Z",
            "2030-02-03T04:05:06 +01:00",
            "2030-02-03T04:05:06.123456 Z",
            "2030-02-03T04xZ",
            "2030-02-03T04:05:06.Z",
            "2030-02-03T04050678Z",
            "2030-02-03T04:05:06:7Z",
            "2030-02-03T04:05:06Z00:50",
            "2030-02-03T04:05:06+01:60",
            "2030-02-03T04:05:06+01:00:00.5",
            "2030-02-03T24:00Z",
            "2030-02-03T04:05:60Z",
            " 2030-02-03T04:05:06Z",
            "2030-02-03T04:05:06z",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(utc_moment(text), None, "{text:?}");
            if !text.starts_with(' ') {
                check(text, None);
            }
        }
        assert_eq!(timestamp(&json!(7)), None);
        check(&" ".repeat(50), None);
    }

    #[test]
    fn without_an_offset_it_is_utc() {
        for (text, expected) in [
            ("2030-02-03T04:05:06", "2030-02-03T04:05:06.000000Z"),
            ("2030-02-03", "2030-02-03T00:00:00.000000Z"),
            ("2030-02-03T04:05:06.5Z", "2030-02-03T04:05:06.500000Z"),
            ("2030-02-03T04:05:06+02:00", "2030-02-03T02:05:06.000000Z"),
            ("2030-02-03 04:05:06,5-0130", "2030-02-03T05:35:06.500000Z"),
        ] {
            assert_eq!(utc_moment(text).map(clock::text).as_deref(), Some(expected));
        }
    }

    #[test]
    fn seconds_are_rounded_to_microseconds() {
        assert_eq!(
            utc_text(1_896_322_506.000_000_8).as_deref(),
            Some("2030-02-03T04:15:06.000001Z")
        );
        assert_eq!(utc_text(-0.5).as_deref(), Some("1969-12-31T23:59:59.500000Z"));
        for seconds in [f64::NAN, f64::INFINITY, 1e18] {
            let _ = utc_text(seconds);
        }
        assert_eq!(utc_text(1e18), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_moment_or_none(text in "[0-9TWZ:.,+ -]{0,30}|.{0,20}") {
            if let Some(shown) = timestamp(&json!(text)) {
                prop_assert_eq!(shown.len(), 27);
            }
        }
    }
}

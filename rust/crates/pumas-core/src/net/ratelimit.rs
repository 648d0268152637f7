//! When a host wants to be asked again: what its answers say about waiting, and the gates that make everybody wait.
//!
//! Nothing here sleeps.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::HeaderMap;
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::address::Address;
use crate::storage::locked;

/// Longer waits than this are taken for a mistake, and the host is asked again after it.
const LONGEST_S: f64 = 300.0;
const MAX_LIST: usize = 4096;

/// How long to wait before the next request, `None` when the answer does not ask for it.
///
/// Read are `Retry-After` in both its forms (RFC 9110 10.2.3) where the status asks to come back, `RateLimit` with no
/// request left (draft-ietf-httpapi-ratelimit-headers-09, as Hugging Face sends it), and `X-RateLimit-Reset` as GitHub
/// sends it (<https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api>).
pub(super) fn told(status: u16, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let now_s = now.as_duration().as_secs_f64();
    let mut longest: f64 = quota(text("ratelimit"));
    if matches!(status, 429 | 503) || (status == 403 && headers.contains_key("retry-after")) {
        longest = longest.max(retry_after(text("retry-after"), now_s));
    }
    if matches!(status, 403 | 429) && text("x-ratelimit-remaining").trim() == "0" {
        longest = longest.max(seconds(text("x-ratelimit-reset")) - now_s);
    }
    (longest > 0.0).then(|| Duration::from_secs_f64(longest.min(LONGEST_S)))
}

fn retry_after(value: &str, now_s: f64) -> f64 {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit()) {
        return seconds(value);
    }
    // HTTP dates are always in UTC.
    let when = rfc2822::parse(&value.replace(" GMT", " +0000").replace(" -0000", " +0000"));
    when.map_or(0.0, |when| when.timestamp().as_duration().as_secs_f64() - now_s)
}

/// The longest wait of the quotas in the list that have nothing left.
fn quota(value: &str) -> f64 {
    let value = crate::text::cut(value, MAX_LIST);
    let number = |item: &str, name: &str| -> Option<f64> {
        item.split(';').skip(1).find_map(|parameter| {
            let (key, value) = parameter.split_once('=')?;
            (key.trim() == name).then(|| value.trim().parse().ok())?
        })
    };
    let empty = |item: &str| {
        number(item, "r")
            .filter(|left| *left == 0.0)
            .and(number(item, "t"))
    };
    value.split(',').filter_map(empty).fold(0.0, f64::max)
}

fn seconds(text: &str) -> f64 {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if digits {
        text[..text.len().min(15)].parse().unwrap_or(0.0)
    } else {
        0.0
    }
}

/// Which of a host's quotas an address draws on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Quota {
    Api,
    Resolvers,
    Pages,
}

/// The hub counts its API, its file links and its pages apart (<https://huggingface.co/docs/hub/rate-limits>). Other hosts
/// then have one quota for `/api/` and one for the rest.
pub(super) fn quota_of(address: &Address) -> Quota {
    if address.path().starts_with("/api/") {
        Quota::Api
    } else if address.path().contains("/resolve/") {
        Quota::Resolvers
    } else {
        Quota::Pages
    }
}

/// The gates of one host, one per quota.
#[derive(Debug, Default)]
pub(super) struct Gates {
    opens: Mutex<HashMap<Quota, Instant>>,
}

impl Gates {
    /// Ask everybody who draws on the quota to wait. A later answer never shortens what an earlier one asked.
    pub(super) fn shut(&self, quota: Quota, until: Instant) {
        let mut opens = locked(&self.opens);
        let known = opens.entry(quota).or_insert(until);
        *known = until.max(*known);
    }

    /// Until the gate opens.
    pub(super) fn wait(&self, quota: Quota, now: Instant) -> Duration {
        locked(&self.opens)
            .get(&quota)
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    pub(super) fn longest(&self, now: Instant) -> Duration {
        let waits = locked(&self.opens)
            .values()
            .map(|until| until.saturating_duration_since(now))
            .max();
        waits.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(status: u16, headers: &[(&'static str, &str)]) -> Option<u64> {
        let headers = headers.iter().map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                http::HeaderValue::from_str(value).unwrap(),
            )
        });
        let now = Timestamp::from_second(1_000_000).unwrap();
        told(status, &headers.collect(), now).map(|wait| wait.as_secs())
    }

    #[test]
    fn answers_say_how_long_to_wait() {
        assert_eq!(wait(429, &[("retry-after", "7")]), Some(7));
        assert_eq!(wait(200, &[("retry-after", "7")]), None);
        assert_eq!(
            wait(503, &[("retry-after", "Mon, 12 Jan 1970 13:46:50 GMT")]),
            Some(10)
        );
        assert_eq!(wait(429, &[("retry-after", "soon")]), None);
        assert_eq!(
            wait(200, &[("ratelimit", "\"api\";r=0;t=55, \"pages\";r=1;t=99")]),
            Some(55)
        );
        assert_eq!(
            wait(
                403,
                &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1000020")]
            ),
            Some(20)
        );
        assert_eq!(wait(429, &[("retry-after", "99999999999999999999")]), Some(300));
    }

    #[test]
    fn a_gate_is_never_opened_earlier() {
        let (gates, now) = (Gates::default(), Instant::now());
        gates.shut(Quota::Api, now + Duration::from_secs(9));
        gates.shut(Quota::Api, now + Duration::from_secs(2));
        assert_eq!(gates.wait(Quota::Api, now), Duration::from_secs(9));
        assert_eq!(gates.wait(Quota::Pages, now), Duration::ZERO);
        assert_eq!(gates.longest(now), Duration::from_secs(9));
    }
}

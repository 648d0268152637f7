//! Trying again: which failures pass, and how long to wait between attempts.

use std::time::Duration;

use crate::error::Error;

pub(super) const ATTEMPTS: u32 = 5;
const BASE_S: f64 = 0.5;
const CAP_S: f64 = 30.0;
const PASSING: [u16; 6] = [408, 429, 500, 502, 503, 504];

/// RFC 9110 9.2.2.
pub(super) fn is_idempotent(method: &http::Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE"
    )
}

/// Whether the same request may get another answer in a moment.
pub(super) fn status_passes(status: u16) -> bool {
    PASSING.contains(&status)
}

/// Whether the same request may work in a moment. A certificate does not become good by asking again.
pub(super) fn error_passes(error: &Error) -> bool {
    matches!(error, Error::ConnectionFailed { cause, .. } if *cause != "tls")
}

/// Before the attempt that follows the `number`th: full jitter.
pub(super) fn jitter(number: u32) -> Duration {
    let most = (BASE_S * f64::from(2_u32.saturating_pow(number.min(16) - 1))).min(CAP_S);
    Duration::from_secs_f64(random() * most)
}

/// A wait that a host asked for, a little longer, so that not everybody is back at the same moment.
pub(super) fn spread(wait: Duration) -> Duration {
    wait + Duration::from_secs_f64(random() * (0.1 * wait.as_secs_f64()).min(0.5))
}

/// From 0 to 1.
pub(crate) fn random() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        for number in 1..20 {
            assert!(jitter(number) <= Duration::from_secs_f64(CAP_S));
        }
        assert!(jitter(1) <= Duration::from_millis(500));
        let wait = Duration::from_secs(100);
        assert!(spread(wait) >= wait && spread(wait) <= wait + Duration::from_millis(500));
    }
}

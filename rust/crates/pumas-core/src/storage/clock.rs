//! Moments as text, the way every file and reply of ours writes them.

use jiff::Timestamp;

/// Now, as ISO-8601 UTC with microseconds and `Z`.
#[must_use]
pub fn now() -> String {
    text(Timestamp::now())
}

/// A moment as ISO-8601 UTC with microseconds and `Z`.
#[must_use]
pub fn text(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Now, in a form that can be part of a file name: `20300203T040506000001Z`.
#[must_use]
pub fn compact_now() -> String {
    Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_has_a_fixed_length() {
        assert_eq!(now().len(), "2030-02-03T04:05:06.000001Z".len());
        assert_eq!(compact_now().len(), "20300203T040506000001Z".len());
    }
}

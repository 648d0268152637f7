//! Which characters are words, and which can be shown, decided by Unicode's general categories.
//!
//! The standard library's `char::is_alphanumeric` also counts combining vowel signs; the index's tokenizer does not.

use unicode_general_category::{GeneralCategory, get_general_category};

/// Whether the character is a letter or a number (categories `L*` and `N*`).
#[must_use]
pub fn is_alphanumeric(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    matches!(
        get_general_category(c),
        GeneralCategory::UppercaseLetter
            | GeneralCategory::LowercaseLetter
            | GeneralCategory::TitlecaseLetter
            | GeneralCategory::ModifierLetter
            | GeneralCategory::OtherLetter
            | GeneralCategory::DecimalNumber
            | GeneralCategory::LetterNumber
            | GeneralCategory::OtherNumber
    )
}

/// Letters, numbers and the underscore.
#[must_use]
pub fn is_word(c: char) -> bool {
    c == '_' || is_alphanumeric(c)
}

/// Whether the character can be shown as it is: no control or format character, no separator but the plain space,
/// assigned and not private.
#[must_use]
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    !matches!(
        get_general_category(c),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::Surrogate
            | GeneralCategory::PrivateUse
            | GeneralCategory::Unassigned
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::SpaceSeparator
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_numbers_of_all_scripts_are_words() {
        for c in ['a', '9', 'é', 'Ж', '漢', 'ß', '٣', 'Ⅻ', '½'] {
            assert!(is_alphanumeric(c), "{c:?}");
        }
        for c in ['-', '_', ' ', '\u{0301}', '\u{093e}', '😀', '\u{f0000}'] {
            assert!(!is_alphanumeric(c), "{c:?}");
        }
        assert!(is_word('_'));
    }

    #[test]
    fn what_can_hide_is_not_printable() {
        for c in [
            '\n', '\u{7f}', '\u{85}', '\u{a0}', '\u{200b}', '\u{202e}', '\u{2028}', '\u{e000}', '\u{378}',
        ] {
            assert!(!is_printable(c), "{c:?}");
        }
        for c in [' ', '~', 'é', '漢', '😀'] {
            assert!(is_printable(c), "{c:?}");
        }
    }
}

//! Shell patterns of names: `*`, `?` and `[…]`, with regard to case.

/// Whether the whole of `name` fits `pattern`.
#[must_use]
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut place) = (0, 0);
    // Where the last star stands, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while place < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, place));
            at += 1;
        } else if let Some(next) = one(&pattern, at, name[place]) {
            at = next;
            place += 1;
        } else if let Some((behind, taken)) = star {
            star = Some((behind, taken + 1));
            at = behind + 1;
            place = taken + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on when its next part takes `c`.
fn one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match *pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => match set(pattern, at) {
            Some((end, taken)) => taken(c).then_some(end),
            None => (c == '[').then_some(at + 1),
        },
        plain => (plain == c).then_some(at + 1),
    }
}

/// The end of a set and what it takes; None for a bracket that is not closed.
fn set(pattern: &[char], at: usize) -> Option<(usize, impl Fn(char) -> bool)> {
    let inverted = pattern.get(at + 1) == Some(&'!');
    let begin = at + 1 + usize::from(inverted);
    let close = begin + 1 + pattern.get(begin + 1..)?.iter().position(|c| *c == ']')?;
    let members = pattern[begin..close].to_vec();
    let taken = move |c: char| {
        let mut rest = &members[..];
        let mut found = false;
        while let [first, tail @ ..] = rest {
            if let ['-', last, after @ ..] = tail {
                found |= (*first..=*last).contains(&c);
                rest = after;
            } else {
                found |= *first == c;
                rest = tail;
            }
        }
        found != inverted
    };
    Some((close + 1, taken))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, expected) in [
            (
                "llama-*-bin-ubuntu-x64.zip",
                "llama-b7001-bin-ubuntu-x64.zip",
                true,
            ),
            (
                "llama-*-bin-ubuntu-x64.zip",
                "llama-b7001-bin-ubuntu-x64.zip.sig",
                false,
            ),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[ab]-[!0-9]", "b-x", true),
            ("[ab]-[!0-9]", "b-7", false),
            ("[x", "[x", true),
            ("*a*b*", "xxaxxbxx", true),
            ("Ollama", "ollama", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}

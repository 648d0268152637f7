//! Shell patterns over relative paths, without regard to case: `*` and `?` stay inside one part, `**` is any number of
//! parts, `[…]` is one character. Matching takes time proportional to pattern times path, whatever is written.

/// One pattern.
#[derive(Debug, Clone)]
pub struct Glob {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone)]
enum Token {
    /// Any number of whole parts; the place before the first character of one.
    Folders,
    /// Inside such a part; always behind `Folders`.
    InFolder,
    /// Any number of characters of one part.
    Star,
    /// One character of a part.
    Any,
    One(char),
    /// One of these spans, or none of them.
    Set {
        spans: Vec<(char, char)>,
        inverted: bool,
    },
}

impl Glob {
    /// Every text is a pattern.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        let mut tokens = Vec::new();
        for (position, part) in parts.iter().enumerate() {
            let is_last = position + 1 == parts.len();
            if *part == "**" && !is_last {
                tokens.extend([Token::Folders, Token::InFolder]);
                continue;
            }
            push_part(&mut tokens, part);
            if !is_last {
                tokens.push(Token::One('/'));
            }
        }
        Self { tokens }
    }

    /// Whether the whole of `path` fits.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut at = self.reached([0]);
        for c in path.chars() {
            let next: Vec<usize> = (0..self.tokens.len())
                .filter(|place| at[*place])
                .filter_map(|place| self.step(place, c))
                .collect();
            if next.is_empty() {
                return false;
            }
            at = self.reached(next);
        }
        at[self.tokens.len()]
    }

    /// The places in the pattern that can be reached from these without taking a character.
    fn reached(&self, from: impl IntoIterator<Item = usize>) -> Vec<bool> {
        let mut at = vec![false; self.tokens.len() + 1];
        for place in from {
            at[place] = true;
        }
        for place in 0..self.tokens.len() {
            match self.tokens[place] {
                Token::Star if at[place] => at[place + 1] = true,
                Token::Folders if at[place] => at[place + 2] = true,
                _ => {}
            }
        }
        at
    }

    fn step(&self, place: usize, c: char) -> Option<usize> {
        let (taken, next) = match &self.tokens[place] {
            Token::InFolder if c == '/' => (true, place - 1),
            Token::InFolder | Token::Star => (c != '/', place),
            Token::Folders | Token::Any => (c != '/', place + 1),
            Token::One(one) => (is_same(*one, c), place + 1),
            Token::Set { spans, inverted } => (is_in(spans, c) != *inverted, place + 1),
        };
        taken.then_some(next)
    }
}

fn is_same(one: char, other: char) -> bool {
    one == other || one.to_lowercase().eq(other.to_lowercase())
}

fn is_in(spans: &[(char, char)], c: char) -> bool {
    let holds = |c: char| spans.iter().any(|(from, to)| (*from..=*to).contains(&c));
    holds(c) || c.to_lowercase().any(holds) || c.to_uppercase().any(holds)
}

fn push_part(tokens: &mut Vec<Token>, part: &str) {
    let chars: Vec<char> = part.chars().collect();
    let mut at = 0;
    while let Some(c) = chars.get(at) {
        match c {
            '*' if matches!(tokens.last(), Some(Token::Star)) => {}
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::Any),
            '[' => {
                // A set holds no wild cards.
                let end = chars[at..].iter().position(|c| matches!(c, '*' | '?'));
                let piece = end.map_or(&chars[at..], |end| &chars[at..at + end]);
                match set(piece) {
                    Some((token, length)) => {
                        tokens.push(token);
                        at += length;
                        continue;
                    }
                    None => tokens.push(Token::One('[')),
                }
            }
            c => tokens.push(Token::One(*c)),
        }
        at += 1;
    }
}

/// The set at the beginning, and its length; None for a bracket that is not closed. The rules are those of fnmatch(3).
fn set(piece: &[char]) -> Option<(Token, usize)> {
    let inverted = piece.get(1) == Some(&'!');
    let begin = 1 + usize::from(inverted);
    let close = begin + 1 + piece.get(begin + 1..)?.iter().position(|c| *c == ']')?;
    let mut spans = Vec::new();
    let mut rest = &piece[begin..close];
    while let [first, tail @ ..] = rest {
        if let ['-', last, after @ ..] = tail {
            spans.push((*first, *last));
            rest = after;
        } else {
            spans.push((*first, *first));
            rest = tail;
        }
    }
    Some((Token::Set { spans, inverted }, close + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_fit_whole_paths() {
        for (pattern, path, expected) in [
            ("*.safetensors", "a.SafeTensors", true),
            ("*.safetensors", "x/a.safetensors", false),
            ("*", "a", true),
            ("**", "a/b", false),
            ("**/*.gguf", "a.gguf", true),
            ("**/*.gguf", "x/y/a.gguf", true),
            ("x/**/y/*", "x/y/a", true),
            ("x/**/y/*", "x/1/2/y/a", true),
            ("x/**/y/*", "x/1/2/a", false),
            ("/a//b/", "a/b", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "Bx", true),
            ("[!a-c]x", "bx", false),
            ("[!a-c]x", "dx", true),
            ("[]]", "]", true),
            ("[c-a]", "b", false),
            ("[x", "[x", true),
            ("[*]", "[ab]", true),
            ("model-0000?-of-*.bin", "model-00001-of-00002.bin", true),
            ("Ünï*", "üNÏx", true),
            ("", "", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(path), expected, "{pattern} {path}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_wild_cards_fits_itself(text in "[a-z./]{0,20}") {
            let plain: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
            prop_assert!(Glob::new(&text).matches(&plain.join("/")));
        }

        #[test]
        fn nothing_takes_long(pattern in "[*?a/]{0,60}", path in "[a/]{0,200}") {
            let _ = Glob::new(&pattern).matches(&path);
        }
    }
}

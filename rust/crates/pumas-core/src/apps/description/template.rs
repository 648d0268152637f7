//! Texts with placeholders in braces, such as the words of a command.

const PLACEHOLDERS: [&str; 7] = ["folder", "host", "models", "port", "program", "python", "shared"];

/// The parts of a template: plain text, and names in braces. A doubled brace is one of the text.
fn parts(template: &str) -> Result<Vec<Result<String, String>>, String> {
    let mut found = Vec::new();
    let mut text = String::new();
    let mut rest = template.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.next_if_eq(&c).is_some() => text.push(c),
            '{' => {
                found.push(Ok(std::mem::take(&mut text)));
                let mut name = String::new();
                loop {
                    match rest.next() {
                        Some('}') => break,
                        Some(c) => name.push(c),
                        None => return Err("a brace is not closed".to_owned()),
                    }
                }
                found.push(Err(name));
            }
            '}' => return Err("a brace is not opened".to_owned()),
            _ => text.push(c),
        }
    }
    found.push(Ok(text));
    Ok(found)
}

pub(super) fn check_template(template: &str) -> Result<(), String> {
    for name in parts(template)?.into_iter().filter_map(Result::err) {
        if !PLACEHOLDERS.contains(&name.as_str()) {
            let known = PLACEHOLDERS.join(", ");
            return Err(format!("unknown placeholder {{{name}}}; known are {known}"));
        }
    }
    Ok(())
}

/// The template with its placeholders replaced.
#[must_use]
pub fn fill(template: &str, value: &dyn Fn(&str) -> String) -> String {
    let parts = parts(template).unwrap_or_default();
    parts
        .into_iter()
        .map(|part| part.unwrap_or_else(|name| value(&name)))
        .collect()
}

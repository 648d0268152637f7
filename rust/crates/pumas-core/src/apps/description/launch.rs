//! How an app is started, and how it shows that it is there.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;

use super::template::check_template;

/// How a running app shows that it is there: GET `path` answers 200, and where `field` is given, with a JSON object that
/// has it (`a.b` goes inside), `equals` that.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ready {
    /// What is asked for.
    pub path: String,
    field: String,
    equals: String,
    header: String,
    /// Seconds that it may take.
    pub timeout_s: f64,
}

impl Default for Ready {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            field: String::new(),
            equals: String::new(),
            header: String::new(),
            timeout_s: 60.0,
        }
    }
}

impl Ready {
    /// Whether such an answer (`body`: its JSON, `Null` when it is none) shows that the app is ready.
    #[must_use]
    pub fn accepts(&self, status: u16, has_header: impl Fn(&str) -> bool, body: &Value) -> bool {
        if status != 200 || (!self.header.is_empty() && !has_header(&self.header)) {
            return false;
        }
        let mut at = body;
        for name in self.field.split('.').filter(|name| !name.is_empty()) {
            match at.get(name) {
                Some(inner) if at.is_object() => at = inner,
                _ => return false,
            }
        }
        self.equals.is_empty() || at == &self.equals
    }
}

/// How it is started, in the version's folder, with placeholders.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// The words of the command.
    pub command: Vec<String>,
    /// What it uses by itself.
    pub port: u16,
    /// For a short try after an install; empty: as `command`.
    #[serde(default)]
    pub smoke_command: Vec<String>,
    /// Further variables.
    #[serde(default)]
    pub environment: IndexMap<String, String>,
    /// Where its page is, "" when it has none for people.
    #[serde(default = "usual_page")]
    pub page: String,
    /// How it shows that it is there.
    #[serde(default)]
    pub ready: Ready,
}

fn usual_page() -> String {
    "/".to_owned()
}

impl Launch {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.command.is_empty() || self.port == 0 {
            return Err("launch needs a command and a port".to_owned());
        }
        if !self.ready.path.starts_with('/') {
            return Err("ready.path must begin with /".to_owned());
        }
        for text in self
            .command
            .iter()
            .chain(&self.smoke_command)
            .chain(self.environment.values())
        {
            check_template(text)?;
        }
        Ok(())
    }
}

//! What a user chose about the network, as it is kept in `network.json`, and what is accepted.
//!
//! Keys of the file that are not known here stay in it.

use std::path::Path;

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::address::{Address, Mirrors};
use super::transport::certificates;
use crate::error::{Error, Result};
use crate::storage::files::reason;
use crate::storage::json_file::JsonObject;
use crate::storage::paths::display_name;

const MAX_MIRRORS: usize = 100;
const MAX_BUNDLE_BYTES: u64 = 16 * 1024 * 1024;
const HIDDEN: &str = "***";
/// The proxy setting that means: none, whatever the environment says.
pub(super) const DIRECT: &str = "direct";

/// How hosts are reached.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Whether nothing is sent.
    pub offline: bool,
    /// An http(s) URL, maybe with user name and password; `direct` for none; `None` as the environment says.
    pub proxy: Option<String>,
    /// As [`Mirrors`].
    pub mirrors: IndexMap<String, String>,
    /// A PEM file of root certificates trusted beside the system's.
    pub ca_bundle: Option<String>,
}

/// The proxy may hold a password.
impl std::fmt::Debug for NetworkSettings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "NetworkSettings(offline: {}, mirrors: {})",
            self.offline,
            self.mirrors.len()
        )
    }
}

/// What a caller wants to change; `None` leaves it. `""` takes `proxy` or `ca_bundle` back to nothing.
#[derive(Clone, Default)]
pub struct Changes {
    /// Whether nothing is to be sent.
    pub offline: Option<bool>,
    /// As shown, it keeps its password.
    pub proxy: Option<String>,
    /// Replaces all that were set.
    pub mirrors: Option<IndexMap<String, String>>,
    /// An absolute path.
    pub ca_bundle: Option<String>,
}

impl NetworkSettings {
    /// The proxy without its password.
    #[must_use]
    pub fn shown_proxy(&self) -> Option<String> {
        self.proxy.as_deref().map(masked)
    }

    /// As in the file.
    #[must_use]
    pub fn to_json(&self) -> JsonObject {
        let mirrors: JsonObject = self
            .mirrors
            .iter()
            .map(|(key, url)| (key.clone(), json!(url)))
            .collect();
        JsonObject::from_iter([
            ("offline".to_owned(), json!(self.offline)),
            ("proxy".to_owned(), json!(self.proxy)),
            ("mirrors".to_owned(), Value::Object(mirrors)),
            ("ca_bundle".to_owned(), json!(self.ca_bundle)),
        ])
    }

    /// What may be told to anybody who may ask: the proxy without its password.
    #[must_use]
    pub fn shown(&self) -> JsonObject {
        let mut shown = self.to_json();
        shown.insert("proxy".to_owned(), json!(self.shown_proxy()));
        shown
    }

    /// The settings in a file, and the keys whose values make no sense; for those the defaults hold.
    #[must_use]
    pub fn read(stored: &JsonObject) -> (Self, Vec<&'static str>) {
        let mut settings = Self::default();
        let mut wrong = Vec::new();
        let mut take = |key: &'static str, set: &mut dyn FnMut(&Value) -> bool| {
            if stored
                .get(key)
                .is_some_and(|value| !value.is_null() && !set(value))
            {
                wrong.push(key);
            }
        };
        take("offline", &mut |value| {
            value.as_bool().map(|flag| settings.offline = flag).is_some()
        });
        take("proxy", &mut |value| {
            let proxy = value.as_str().and_then(|text| proxy(text).ok());
            proxy.map(|proxy| settings.proxy = Some(proxy)).is_some()
        });
        take("mirrors", &mut |value| {
            let mirrors = texts(value).filter(|mirrors| check_mirrors(mirrors).is_ok());
            mirrors.map(|mirrors| settings.mirrors = mirrors).is_some()
        });
        take("ca_bundle", &mut |value| {
            let bundle = value.as_str().filter(|text| check_bundle(text).is_ok());
            bundle
                .map(|bundle| settings.ca_bundle = Some(bundle.to_owned()))
                .is_some()
        });
        (settings, wrong)
    }

    /// These settings with `changes`. Reads the bundle; blocks.
    ///
    /// # Errors
    /// `InvalidInput`: a value that cannot be used; the message does not repeat it. `FileUnavailable`: the bundle cannot be
    /// read.
    pub fn changed(&self, changes: Changes) -> Result<Self> {
        let mut settings = self.clone();
        if let Some(offline) = changes.offline {
            settings.offline = offline;
        }
        if let Some(wanted) = changes.proxy
            && Some(&wanted) != self.shown_proxy().as_ref()
        {
            settings.proxy = if wanted.is_empty() {
                None
            } else {
                Some(proxy(&wanted)?)
            };
        }
        if let Some(mirrors) = changes.mirrors {
            check_mirrors(&mirrors)?;
            settings.mirrors = mirrors;
        }
        if let Some(bundle) = changes.ca_bundle {
            if !bundle.is_empty() {
                check_readable(&bundle)?;
            }
            settings.ca_bundle = Some(bundle).filter(|bundle| !bundle.is_empty());
        }
        Ok(settings)
    }
}

/// A proxy's URL with the password hidden.
pub(super) fn masked(proxy: &str) -> String {
    let (scheme, rest) = proxy.split_once("://").unwrap_or(("", proxy));
    match rest.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{name}:{HIDDEN}@{host}")
        }
        _ => proxy.to_owned(),
    }
}

fn texts(value: &Value) -> Option<IndexMap<String, String>> {
    let entries = value.as_object()?.iter();
    entries
        .map(|(key, url)| Some((key.clone(), url.as_str()?.to_owned())))
        .collect()
}

fn proxy(value: &str) -> Result<String> {
    if value == DIRECT {
        return Ok(value.to_owned());
    }
    if value.contains('@') && value.contains(HIDDEN) {
        return Err(Error::invalid("proxy", "it is no URL with a usable password"));
    }
    let (scheme, rest) = value.split_once("://").unwrap_or((value, ""));
    let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    let unusable = |letter: char| letter <= ' ' || letter >= '\u{7f}' || "/?#\\".contains(letter);
    if user.contains(unusable) {
        return Err(Error::invalid(
            "proxy",
            "its user name or password must be percent-encoded",
        ));
    }
    let address = Address::base(&format!("{scheme}://{host}"), "proxy")?;
    if address.target() != "/" {
        return Err(Error::invalid("proxy", "it has a path"));
    }
    if user.is_empty() {
        return Ok(address.url().trim_end_matches('/').to_owned());
    }
    Ok(format!("{scheme}://{user}@{}", address.origin.netloc()))
}

fn check_mirrors(mirrors: &IndexMap<String, String>) -> Result<()> {
    if mirrors.len() > MAX_MIRRORS {
        let reason = format!("it is not an object of at most {MAX_MIRRORS} entries");
        return Err(Error::invalid("mirrors", reason));
    }
    Mirrors::new(mirrors).map(|_| ())
}

fn check_bundle(value: &str) -> Result<&Path> {
    let path = Path::new(value);
    if value.contains('\0') || !path.is_absolute() {
        return Err(Error::invalid("ca_bundle", "it is no absolute path"));
    }
    Ok(path)
}

fn check_readable(value: &str) -> Result<()> {
    let path = check_bundle(value)?;
    let unavailable =
        |reason: String| Error::unavailable(display_name(path.file_name().unwrap_or_default()), reason);
    let facts = path.metadata().map_err(|error| unavailable(reason(&error)))?;
    if !facts.is_file() || facts.len() > MAX_BUNDLE_BYTES {
        return Err(unavailable("it is no file of certificates".to_owned()));
    }
    let text = std::fs::read(path).map_err(|error| unavailable(reason(&error)))?;
    if certificates(&text).is_empty() {
        return Err(Error::invalid("ca_bundle", "it holds no certificate in PEM form"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_checked_and_shown_without_password() {
        assert_eq!(
            proxy("http://me:secret@Proxy.example:3128").unwrap(),
            "http://me:secret@proxy.example:3128"
        );
        assert_eq!(masked("http://me:secret@p:1"), "http://me:***@p:1");
        assert_eq!(masked("direct"), "direct");
        for (bad, said) in [
            ("socks5://p:1", "only http and https are possible"),
            ("http://p/path", "it has a path"),
            ("http://me:***@p", "it is no URL with a usable password"),
            (
                "http://m e:x@p",
                "its user name or password must be percent-encoded",
            ),
        ] {
            assert_eq!(proxy(bad).unwrap_err().to_string(), format!("proxy: {said}"));
        }
    }

    #[test]
    fn a_proxy_as_shown_keeps_its_password() {
        let settings = NetworkSettings {
            proxy: Some("http://me:secret@p:1".to_owned()),
            ..NetworkSettings::default()
        };
        let same = Changes {
            proxy: settings.shown_proxy(),
            offline: Some(true),
            ..Changes::default()
        };
        let changed = settings.changed(same).unwrap();
        assert_eq!((changed.proxy, changed.offline), (settings.proxy.clone(), true));
        let none = Changes {
            proxy: Some(String::new()),
            ..Changes::default()
        };
        assert_eq!(settings.changed(none).unwrap().proxy, None);
    }

    #[test]
    fn what_makes_no_sense_in_the_file_is_named() {
        let stored =
            json!({"offline": 1, "proxy": "http://p:1", "mirrors": {"a": 7}, "ca_bundle": "relative"});
        let (settings, wrong) = NetworkSettings::read(stored.as_object().unwrap());
        assert_eq!(wrong, ["offline", "mirrors", "ca_bundle"]);
        assert_eq!(settings.proxy.as_deref(), Some("http://p:1"));
    }
}

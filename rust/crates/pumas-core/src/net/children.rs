//! The user's way out, if there is to be one, and whom to trust there, told to programs that make their own connections:
//! git, uv and pip read it from their environment.
//!
//! One for the whole process, as the environment itself is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Mutex;

use super::settings::{DIRECT, NetworkSettings};
use crate::error::{Error, Result};
use crate::storage::locked;

const PROXIES: [&str; 3] = ["http_proxy", "https_proxy", "all_proxy"];
const SKIPPED: &str = "no_proxy";
const LOOPBACK: &str = "localhost,127.0.0.1,::1";
/// Of git; of uv, and of all that is made with `OpenSSL`; of pip:
/// <https://git-scm.com/docs/git#Documentation/git.txt-GITSSLCAINFO>,
/// <https://docs.astral.sh/uv/concepts/authentication/certificates/>,
/// <https://pip.pypa.io/en/stable/topics/https-certificates/>
const TRUSTED: [&str; 3] = ["GIT_SSL_CAINFO", "SSL_CERT_FILE", "PIP_CERT"];
/// Nobody: the port of RFC 863. pip asks addresses among requirements also without an index, and some of them by git.
const NOBODY: &str = "http://127.0.0.1:9";
/// What is at hand may be used: a cache of uv's, a folder of wheels.
const OFFLINE: [(&str, &str); 3] = [("UV_OFFLINE", "1"), ("PIP_NO_INDEX", "1"), ("PIP_PROXY", NOBODY)];
static CHOSEN: Mutex<Chosen> = Mutex::new(Chosen {
    proxy: None,
    certificates: None,
    offline: false,
});

#[derive(Clone)]
struct Chosen {
    proxy: Option<String>,
    certificates: Option<PathBuf>,
    offline: bool,
}

/// `certificates`: a PEM file of all to trust, `None` for the system's.
pub(super) fn choose(settings: &NetworkSettings, certificates: Option<PathBuf>) {
    *locked(&CHOSEN) = Chosen {
        proxy: settings.proxy.clone(),
        certificates,
        offline: settings.offline,
    };
}

/// # Errors
/// `Offline`.
pub(crate) fn require_online(host: &str) -> Result<()> {
    if locked(&CHOSEN).offline {
        return Err(Error::Offline {
            host: host.to_owned(),
        });
    }
    Ok(())
}

/// `environment` with what the network settings say in it; as it is where they say nothing.
pub(crate) fn with_network(mut environment: BTreeMap<OsString, OsString>) -> BTreeMap<OsString, OsString> {
    let chosen = locked(&CHOSEN).clone();
    if chosen.offline {
        environment = through(environment, NOBODY, &OsString::new());
        environment.extend(OFFLINE.map(|(name, value)| (name.into(), value.into())));
    } else if let Some(proxy) = chosen.proxy {
        environment = with_proxy(environment, &proxy);
    }
    if let Some(file) = chosen.certificates {
        environment.extend(TRUSTED.map(|name| (name.into(), file.clone().into())));
    }
    environment
}

fn with_proxy(mut environment: BTreeMap<OsString, OsString>, proxy: &str) -> BTreeMap<OsString, OsString> {
    if proxy == DIRECT {
        environment.retain(|name, _| !PROXIES.iter().any(|known| name.eq_ignore_ascii_case(known)));
        return environment;
    }
    let named = environment
        .iter()
        .find(|(name, value)| name.eq_ignore_ascii_case(SKIPPED) && !value.is_empty());
    let mut skipped = named.map_or_else(OsString::new, |(_, value)| value.clone());
    if !skipped.is_empty() {
        skipped.push(",");
    }
    skipped.push(LOOPBACK);
    through(environment, proxy, &skipped)
}

fn through(
    mut environment: BTreeMap<OsString, OsString>,
    proxy: &str,
    skipped: &OsString,
) -> BTreeMap<OsString, OsString> {
    let ours = [PROXIES.as_slice(), &[SKIPPED]].concat();
    environment.retain(|name, _| !ours.iter().any(|known| name.eq_ignore_ascii_case(known)));
    // Some programs read the one spelling, some the other; curl, and with it git, never `HTTP_PROXY`.
    for (name, value) in [
        ("http_proxy", proxy.into()),
        ("https_proxy", proxy.into()),
        (SKIPPED, skipped.clone()),
    ] {
        environment.insert(name.to_uppercase().into(), value.clone());
        environment.insert(name.into(), value);
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(proxy: &str, given: &[(&str, &str)], wanted: &[(&str, &str)]) {
        let values = |list: &[(&str, &str)]| -> BTreeMap<OsString, OsString> {
            list.iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect()
        };
        assert_eq!(with_proxy(values(given), proxy), values(wanted));
    }

    #[test]
    fn a_proxy_takes_the_place_of_those_around_us() {
        let loopback = "localhost,127.0.0.1,::1";
        let wanted = |skipped| {
            [
                ("HTTPS_PROXY", "http://p:1"),
                ("HTTP_PROXY", "http://p:1"),
                ("NO_PROXY", skipped),
                ("http_proxy", "http://p:1"),
                ("https_proxy", "http://p:1"),
                ("no_proxy", skipped),
            ]
        };
        check("http://p:1", &[], &wanted(loopback));
        check(
            "http://p:1",
            &[("ALL_PROXY", "x"), ("Https_Proxy", "y")],
            &wanted(loopback),
        );
        let both = format!("corp.example,{loopback}");
        check("http://p:1", &[("NO_PROXY", "corp.example")], &wanted(&both));
        check(
            "http://p:1",
            &[("NO_PROXY", "corp.example"), ("no_proxy", "")],
            &wanted(&both),
        );
    }

    #[test]
    fn none_at_all() {
        check(
            "direct",
            &[("https_proxy", "y"), ("PATH", "/bin")],
            &[("PATH", "/bin")],
        );
    }
}

//! Which port an app gets, and whose program listens there.
//!
//! That something answers on a port proves nothing: it may be a server of the user's, or another sidecar's app. So the kernel
//! is asked who owns each socket that listens on it (`proc_pid_net(5)`).

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::ops::Range;

use crate::error::{Error, Result};

/// Where apps listen.
pub(crate) const HOST: &str = "127.0.0.1";
/// No system gives one of these to a connection, or to a program that takes any port (RFC 6335, section 6: from 49152 on;
/// Linux: from 32768 on), so that an app seldom finds its port taken when it comes to bind it.
const OFFERED: Range<u16> = 20_000..30_000;
const TRIES: usize = 100;
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
const LISTENING: &str = "0A";

/// Who listens on a port for connections from this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Nobody,
    Ours,
    Others,
}

/// `wanted` when nobody uses it, else another one (0: any); never one of `taken`. Somebody may still take it before the app
/// binds it, which [`holder`] then shows.
///
/// # Errors
/// `LaunchFailed`: none was found.
pub(crate) fn free_port(wanted: u16, taken: &HashSet<u16>) -> Result<u16> {
    let any = (0..TRIES).filter_map(|_| {
        let number = getrandom::u32().ok()? % u32::from(OFFERED.end - OFFERED.start);
        Some(OFFERED.start + u16::try_from(number).ok()?)
    });
    Some(wanted)
        .filter(|port| *port != 0)
        .into_iter()
        .chain(any)
        .find(|port| !taken.contains(port) && holder(*port, &[]) == Holder::Nobody && can_bind(*port))
        .ok_or_else(|| {
            let last = OFFERED.end - 1;
            Error::LaunchFailed(format!(
                "No free port was found from {} to {last}.",
                OFFERED.start
            ))
        })
}

/// The standard library sets `SO_REUSEADDR`, as apps do: connections of the one before that linger are no hindrance.
fn can_bind(port: u16) -> bool {
    TcpListener::bind((HOST, port)).is_ok()
}

/// Whether those who listen on `port` are all among `pids`. One stranger, on a more special address say, would get
/// connections that are meant for the app, so that counts as a stranger's port.
pub(crate) fn holder(port: u16, pids: &[u32]) -> Holder {
    let listening: HashSet<u64> = TABLES
        .iter()
        .flat_map(|table| listening_in(&fs::read_to_string(table).unwrap_or_default(), port))
        .collect();
    if listening.is_empty() {
        return Holder::Nobody;
    }
    let held: HashSet<u64> = pids.iter().flat_map(|pid| sockets(*pid)).collect();
    if listening.is_subset(&held) {
        Holder::Ours
    } else {
        Holder::Others
    }
}

/// Inodes of the sockets that listen on `port` and that a connection to loopback could reach.
fn listening_in(table: &str, port: u16) -> Vec<u64> {
    let inode = |row: &str| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let (address, number) = fields.get(1)?.split_once(':')?;
        let is_it = u16::from_str_radix(number, 16).ok()? == port
            && *fields.get(3)? == LISTENING
            && is_reachable(address)?;
        is_it.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().filter_map(inode).collect()
}

/// `/proc/net/tcp` shows each 32-bit word of an address in host byte order.
fn is_reachable(text: &str) -> Option<bool> {
    let mut bytes = Vec::new();
    for place in (0..text.len()).step_by(8) {
        let word = u32::from_str_radix(text.get(place..place + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address == Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(address) => address.is_loopback() || address == Ipv6Addr::UNSPECIFIED,
    })
}

fn sockets(pid: u32) -> Vec<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            inode.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_port_it_is() {
        let listener = TcpListener::bind((HOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(holder(port, &[std::process::id()]), Holder::Ours);
        assert_eq!(holder(port, &[]), Holder::Others);
        let any = HashSet::new();
        assert!(OFFERED.contains(&free_port(port, &any).unwrap()));
        drop(listener);
        assert_eq!(free_port(port, &any).unwrap(), port);
        assert!(OFFERED.contains(&free_port(port, &HashSet::from([port])).unwrap()));
        let refused = free_port(0, &OFFERED.collect()).unwrap_err().to_string();
        assert_eq!(refused, "No free port was found from 20000 to 29999.");
        assert_eq!(holder(port, &[]), Holder::Nobody);
    }

    #[test]
    fn only_what_loopback_reaches_counts() {
        for (address, expected) in [
            ("0100007F", Some(true)),
            ("00000000", Some(true)),
            ("0101A8C0", Some(false)),
            ("00000000000000000000000001000000", Some(true)),
            ("0000000000000000FFFF00000100007F", Some(true)),
            ("x", None),
        ] {
            assert_eq!(is_reachable(address), expected, "{address}");
        }
    }
}

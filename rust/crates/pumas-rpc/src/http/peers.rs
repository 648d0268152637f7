//! Which user of this machine is at the other end of a loopback connection, as the kernel knows it.
//!
//! Linux answers for one connection by netlink (`sock_diag(7)`) or, where that is closed, by its TCP tables in /proc. Asked
//! once per connection, and only when the server runs without a token.

use std::net::SocketAddr;

/// Whether the other end of a loopback connection belongs to our own user.
///
/// Where the kernel offers no way to know, the answer is true: the socket is bound to loopback and nothing better exists.
/// A socket that its owner has closed already is nobody's: the kernel shows uid 0 for it, whoever it was.
#[must_use]
pub(super) fn peer_is_us(peer: SocketAddr, local: SocketAddr) -> bool {
    #[cfg(target_os = "linux")]
    {
        linux::owner(peer, local)
            .is_none_or(|(uid, inode)| inode != 0 && uid == rustix::process::getuid().as_raw())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (peer, local);
        true
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt::Write as _;
    use std::net::{IpAddr, SocketAddr};

    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
    };

    /// (uid, inode) of a socket.
    type Owner = (u32, u32);
    const NOBODY: Owner = (u32::MAX, 0);

    // linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const NLMSG_ERROR: u16 = 2;
    const HEADER: usize = 16;
    const ALL_STATES: u32 = u32::MAX;
    const NO_COOKIE: u64 = u64::MAX;
    const ENOENT: i32 = 2;
    const PROTOCOL_TCP: u8 = 6;

    pub(super) fn owner(peer: SocketAddr, local: SocketAddr) -> Option<Owner> {
        ask_kernel(peer, local).or_else(|| look_up(peer, local))
    }

    /// None when netlink does not answer. Takes the same short time however many connections there are.
    pub(super) fn ask_kernel(peer: SocketAddr, local: SocketAddr) -> Option<Owner> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC; // the kernel answers before send returns
        let door = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            flags,
            Some(netlink::SOCK_DIAG),
        )
        .ok()?;
        send(&door, &question(peer, local), SendFlags::empty()).ok()?;
        let mut reply = [0; 4096];
        let (length, _) = recv(&door, &mut reply[..], RecvFlags::empty()).ok()?;
        answer(reply.get(..length)?, peer, local)
    }

    fn answer(reply: &[u8], peer: SocketAddr, local: SocketAddr) -> Option<Owner> {
        let word = |at: usize| reply.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let kind = reply.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
        if kind == NLMSG_ERROR {
            let code = reply
                .get(HEADER..HEADER + 4)?
                .try_into()
                .ok()
                .map(i32::from_ne_bytes)?;
            return (code == -ENOENT).then_some(NOBODY);
        }
        // struct inet_diag_msg: four bytes, the socket's id (48 bytes, ports first), expiry and queues, uid, inode.
        let ports = reply.get(HEADER + 4..HEADER + 8)?;
        let found = (word(HEADER + 64)?, word(HEADER + 68)?);
        // Without such a connection the kernel may answer with a listener on that port.
        let wanted = [peer.port().to_be_bytes(), local.port().to_be_bytes()].concat();
        Some(if ports == wanted { found } else { NOBODY })
    }

    fn question(peer: SocketAddr, local: SocketAddr) -> Vec<u8> {
        let family: u8 = if peer.is_ipv4() { 2 } else { 10 };
        let mut body = vec![family, PROTOCOL_TCP, 0, 0];
        body.extend(ALL_STATES.to_ne_bytes());
        body.extend(peer.port().to_be_bytes());
        body.extend(local.port().to_be_bytes());
        for end in [peer.ip(), local.ip()] {
            let mut packed = match end {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            packed.resize(16, 0);
            body.extend(packed);
        }
        body.extend(0_u32.to_ne_bytes());
        body.extend(NO_COOKIE.to_ne_bytes());
        let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message.extend(NLM_F_REQUEST.to_ne_bytes());
        message.extend(1_u32.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(body);
        message
    }

    /// The peer's row in the kernel's TCP tables; None when there are no tables.
    pub(super) fn look_up(peer: SocketAddr, local: SocketAddr) -> Option<Owner> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
        let tables: Vec<String> = tables.into_iter().filter_map(Result::ok).collect();
        if tables.is_empty() {
            return None;
        }
        let found = tables
            .iter()
            .find_map(|rows| forms(peer, local).iter().find_map(|pair| in_table(rows, pair)));
        Some(found.unwrap_or(NOBODY))
    }

    fn in_table(rows: &str, pair: &str) -> Option<Owner> {
        let (_, rest) = rows.split_once(pair)?;
        let mut fields = rest.lines().next()?.split_whitespace().skip(4);
        let uid = fields.next()?.parse().ok()?;
        Some((uid, fields.nth(1)?.parse().ok()?))
    }

    /// The pair as given, and with IPv4 mapped into IPv6, as a dual-stack client's row shows it.
    fn forms(peer: SocketAddr, local: SocketAddr) -> [String; 2] {
        let mapped = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), address.port()),
            IpAddr::V6(_) => address,
        };
        [(peer, local), (mapped(peer), mapped(local))]
            .map(|(a, b)| format!(" {} {} ", kernel_form(a), kernel_form(b)))
    }

    /// /proc/net/tcp shows each 32-bit word of an address in host byte order.
    pub(super) fn kernel_form(address: SocketAddr) -> String {
        let packed = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let mut out = String::new();
        for word in packed.chunks_exact(4) {
            let word = word.try_into().map(u32::from_ne_bytes).unwrap_or_default();
            let _ = write!(out, "{word:08X}");
        }
        let _ = write!(out, ":{:04X}", address.port());
        out
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn addresses_as_the_kernel_writes_them() {
        assert_eq!(
            linux::kernel_form("127.0.0.1:80".parse().unwrap()),
            "0100007F:0050"
        );
        let six = linux::kernel_form("[::1]:65535".parse().unwrap());
        assert_eq!(six, "00000000000000000000000001000000:FFFF");
    }

    #[test]
    fn our_own_connection_is_ours_until_it_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, peer) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
        assert!(peer_is_us(peer, local));
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(linux::look_up(peer, local).unwrap().0, uid);
        if let Some(row) = linux::ask_kernel(peer, local) {
            assert_eq!(Some(row), linux::look_up(peer, local));
        }
        assert!(!peer_is_us("127.0.0.1:1".parse().unwrap(), local));
        let (server, _) = listener.accept().unwrap();
        drop((client, server));
        assert!(!peer_is_us(peer, local));
    }
}

//! Where a request comes from: its connection's peer, or whom a trusted proxy names.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};

/// Where a request comes from and by which door: an extension of every request, for limits and
/// audit lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The caller's address, whole.
    pub from: IpAddr,
    /// The door's name.
    pub door: &'static str,
}

/// The other end of the connection: an extension that whoever accepted it sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer(pub IpAddr);

impl Origin {
    /// Whom limits count this as: an IPv4 address, or the /64 that an IPv6 host has to itself.
    #[must_use]
    pub fn network(self) -> IpAddr {
        network(self.from)
    }
}

/// The networks whose word about a caller's address is believed. None unless configured.
///
/// Only `X-Forwarded-For` is read, which every proxy in use writes; `Forwarded` (RFC 7239) is not,
/// since a proxy that knows the one alone would pass the other on as its client forged it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

impl TrustedProxies {
    /// Believes the proxies of these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The caller's address: the peer's, or behind trusted proxies the rightmost hop that isn't
    /// one of them. What stands left of that, or of a hop that can't be read, anybody may have
    /// written.
    #[must_use]
    pub fn resolve(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut address = peer.to_canonical();
        // Several lines are one list, in their order (RFC 9110, 5.3).
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        while self.trust(address) {
            match hops.next().and_then(hop) {
                Some(before) => address = before,
                None => break,
            }
        }
        address
    }

    /// Whether a request says for whom it was passed on, and nobody is believed.
    #[must_use]
    pub fn disbelieve(&self, headers: &HeaderMap) -> bool {
        self.0.is_empty() && (headers.contains_key(FORWARDED_FOR) || headers.contains_key(FORWARDED))
    }

    /// Who is counted for connections from this peer: nobody for a proxy, behind which many are.
    #[must_use]
    pub fn crowd(&self, peer: IpAddr) -> Option<IpAddr> {
        (!self.trust(peer)).then(|| network(peer))
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// A network, or a single address.
impl<'de> Deserialize<'de> for TrustedProxies {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let network = |text: String| {
            let single = || text.parse::<IpAddr>().map(IpNet::from);
            let read = text.parse::<IpNet>().or_else(|_| single());
            let read = read
                .map_err(|_| D::Error::custom(format!("{text:?} is no network such as 10.0.0.0/8, and no address")))?;
            if read.prefix_len() == 0 {
                let fault = "is everybody, and so anybody could call from any address; name the proxies' own networks";
                return Err(D::Error::custom(format!("{text:?} {fault}")));
            }
            Ok(read)
        };
        Vec::<String>::deserialize(from)?.into_iter().map(network).collect::<Result<_, _>>().map(Self)
    }
}

/// What limits count as one caller: an IPv4 address, or the /64 that an IPv6 host has to itself and
/// could change its address within at will.
#[must_use]
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

/// One hop: an address, with a port or without, as proxies differ.
fn hop(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn resolved(trusted: &[&str], peer: &str, lines: &[&str]) -> String {
        let proxies = TrustedProxies::new(trusted.iter().map(|network| network.parse().unwrap()).collect());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        proxies.resolve(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_address_is_the_rightmost_hop_that_isnt_trusted() {
        let inner = ["10.0.0.0/8", "fd00::/8"].as_slice();
        for (trusted, peer, lines, address) in [
            // Without configuration the header is anybody's claim.
            (&[][..], "192.0.2.1", &["198.51.100.1"][..], "192.0.2.1"),
            (inner, "192.0.2.1", &["198.51.100.1"], "192.0.2.1"),
            (inner, "10.0.0.1", &[], "10.0.0.1"),
            (inner, "10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            (inner, "10.0.0.1", &["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
            (inner, "10.0.0.1", &["203.0.113.9, 198.51.100.1 ,10.2.3.4"], "198.51.100.1"),
            // Several lines are one list.
            (inner, "10.0.0.1", &["203.0.113.9", "198.51.100.1", "10.2.3.4, 10.2.3.5"], "198.51.100.1"),
            (inner, "10.0.0.1", &["10.2.3.4"], "10.2.3.4"),
            // What can't be read ends the belief, with what was good so far.
            (inner, "10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            (inner, "10.0.0.1", &["198.51.100.1, unknown, 10.2.3.4"], "10.2.3.4"),
            (inner, "10.0.0.1", &["198.51.100.1,"], "10.0.0.1"),
            (inner, "10.0.0.1", &["198.51.100.1, 10.0.0.300"], "10.0.0.1"),
            (inner, "10.0.0.1", &["198.51.100.1, \u{e9}"], "10.0.0.1"),
            (inner, "10.0.0.1", &[""], "10.0.0.1"),
            // Spellings of one address.
            (inner, "::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            (inner, "10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            (inner, "fd00::1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            (inner, "fd00::1", &["[2001:db8::7]"], "2001:db8::7"),
            (inner, "fd00::1", &["2001:db8::7"], "2001:db8::7"),
        ] {
            assert_eq!(resolved(trusted, peer, lines), address, "{peer} {lines:?}");
        }
    }

    #[test]
    fn what_says_for_whom_it_was_passed_on_is_noticed_where_nobody_is_believed() {
        for (trusted, header, disbelieved) in [
            (&[][..], "x-forwarded-for", true),
            (&[], "forwarded", true),
            (&[], "x-forwarded-proto", false),
            (&["10.0.0.0/8"], "x-forwarded-for", false),
        ] {
            let proxies = TrustedProxies::new(trusted.iter().map(|network: &&str| network.parse().unwrap()).collect());
            let mut headers = HeaderMap::new();
            headers.insert(header, HeaderValue::from_static("192.0.2.1"));
            assert_eq!(proxies.disbelieve(&headers), disbelieved, "{trusted:?} {header}");
        }
    }

    #[test]
    fn an_ipv6_caller_is_a_64_and_an_ipv4_caller_an_address() {
        for (one, other, same) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let network = |text: &str| network(text.parse().unwrap());
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        }
    }

    #[test]
    fn networks_and_single_addresses_are_configured_and_nothing_else() {
        let read = |text: &str| toml::from_str::<std::collections::BTreeMap<String, TrustedProxies>>(text);
        let good = read(r#"t = ["10.0.0.0/8", "::1", "192.0.2.1"]"#).unwrap();
        assert_eq!(good["t"].0.len(), 3);
        for everybody in ["0.0.0.0/0", "::/0", "10.0.0.0/0"] {
            let error = read(&format!("t = [\"10.0.0.0/8\", \"{everybody}\"]")).unwrap_err().to_string();
            assert!(error.contains("is everybody"), "{error}");
        }
        for bad in [r#"t = ["10.0.0.0/33"]"#, r#"t = ["proxy.example"]"#, r#"t = "10.0.0.0/8""#, "t = [1]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

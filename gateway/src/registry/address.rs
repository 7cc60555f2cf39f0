//! Which addresses a registry may have that a caller named, and the receiver of a webhook.
//!
//! A caller may name any of them, so Kiln could be made to ask addresses that only it can reach:
//! the cloud's metadata service, the cluster, its own loopback. Therefore a host that the operator
//! hasn't configured is reached at public addresses only, whether its name is an address, resolves
//! to one, or redirects to one. The names are checked where they are resolved, at each connection,
//! so an answer that changes between two look-ups gains nothing. With an HTTP proxy, names are
//! resolved by the proxy, and the rule for names is the proxy's to keep.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::{Attempt, Policy},
};

/// More than any registry needs to get to its blobs.
const REDIRECTS: usize = 5;

/// The address isn't public.
#[derive(Debug, thiserror::Error)]
#[error("its address isn't public")]
pub(crate) struct AddressRefused;

/// The redirection leads where it may not.
#[derive(Debug, thiserror::Error)]
enum RedirectRefused {
    #[error("it redirects more than {REDIRECTS} times")]
    TooMany,
    #[error("it redirects from https to http")]
    Downgrade,
}

/// Which addresses may be reached: the public ones, and those in networks that the operator has named.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach(Arc<[IpNet]>);

/// Resolves names as the system does.
pub(crate) struct SystemNames;

/// Resolves names, leaving out addresses that may not be reached. The connection is made to what is
/// left, so nobody resolves the name a second time.
pub(crate) struct Guarded<R> {
    /// What resolves.
    pub(crate) names: R,
    /// What may be reached.
    pub(crate) reach: Reach,
    /// Names that may be anywhere: those of the proxies.
    pub(crate) exempt: Arc<[String]>,
}

impl Reach {
    pub(crate) fn with(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Whether this address may be reached.
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether a URL's host is a name, which the resolver checks, or an address that may be reached.
    pub(crate) fn admits_host(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        host.parse::<IpAddr>().map_or(true, |address| self.admits(address))
    }
}

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl<R: Resolve> Resolve for Guarded<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let exempt = self.exempt.iter().any(|exempt| exempt == name.as_str());
        let (reach, found) = (self.reach.clone(), self.names.resolve(name));
        Box::pin(async move {
            let found: Vec<_> = found.await?.collect();
            let permitted: Vec<_> = found.iter().filter(|at| exempt || reach.admits(at.ip())).copied().collect();
            if permitted.is_empty() && !found.is_empty() {
                return Err(Box::from(AddressRefused));
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// Follows redirections as registries use them for blobs, but none that leaves TLS, and, where
/// `guarded`, none to an address that isn't public.
pub(super) fn redirects(guarded: bool) -> Policy {
    Policy::custom(move |attempt: Attempt<'_>| {
        let from_tls = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECTS {
            attempt.error(RedirectRefused::TooMany)
        } else if from_tls && attempt.url().scheme() != "https" {
            attempt.error(RedirectRefused::Downgrade)
        } else if guarded && !may_be_asked(attempt.url()) {
            attempt.error(AddressRefused)
        } else {
            attempt.follow()
        }
    })
}

/// Whether a URL's host is a name, which the resolver checks, or a public address.
pub(super) fn may_be_asked(url: &Url) -> bool {
    Reach::default().admits_host(url)
}

/// Whether an address is one that anybody could reach.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// Leaves out what the IANA registry of special addresses says isn't globally reachable. The shared
/// range 100.64/10 is among it: one cloud has its metadata service there.
fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    !(v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let segments = v6.segments();
    let embedded = |high: u16, low: u16| is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match segments {
        // IPv4 in IPv6's clothes: mapped, compatible, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => embedded(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo carries one too, and nobody has a registry there.
        [0x2001, 0, ..] | [0x2001, 0xdb8, ..] => false,
        // All else that is in use is 2000::/3.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_addresses_are_not_public_in_any_clothes() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "100.100.100.200",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001:0:1::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["8.8.8.8", "100.63.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn shorthands_of_addresses_are_seen_through() {
        for url in
            ["http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://[::ffff:10.0.0.1]/", "http://0177.0.0.1/"]
        {
            assert!(!may_be_asked(&Url::parse(url).unwrap()), "{url}");
        }
        assert!(may_be_asked(&Url::parse("https://registry.example/").unwrap()));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_is_refused_unless_it_is_the_proxy() {
        let resolver = |exempt: &[&str]| Guarded {
            names: SystemNames,
            reach: Reach::default(),
            exempt: exempt.iter().map(|&name| name.to_owned()).collect(),
        };
        let name = || "localhost".parse::<Name>().unwrap();
        let refused = resolver(&[]).resolve(name()).await.err().unwrap();
        assert!(refused.is::<AddressRefused>());
        assert!(resolver(&["localhost"]).resolve(name()).await.is_ok());
    }
}

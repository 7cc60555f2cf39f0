//! Where plain HTTP may be spoken: what crosses a network that others share can be read there, and answered
//! by others.

use std::net::IpAddr;

use http::Uri;

/// What the names of an installation's own network end with: a cluster's services, and what is reserved for
/// private use.
const INTERNAL: [&str; 3] = [".svc", ".cluster.local", ".internal"];

/// Whether a URL is plain HTTP to another machine.
pub(crate) fn leaves_the_machine(url: &Uri) -> bool {
    url.scheme_str() == Some("http") && !is_loopback(url)
}

/// Whether a URL is plain HTTP to a host that isn't of the installation's own network: neither a private
/// address nor a name that has no meaning elsewhere.
pub(crate) fn leaves_the_installation(url: &Uri) -> bool {
    leaves_the_machine(url) && !is_internal(url)
}

fn host(url: &Uri) -> &str {
    url.host().unwrap_or_default().trim_matches(['[', ']'])
}

fn is_loopback(url: &Uri) -> bool {
    match host(url).parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host(url).eq_ignore_ascii_case("localhost"),
    }
}

fn is_internal(url: &Uri) -> bool {
    match host(url).parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => address.is_private() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_unique_local() || address.is_unicast_link_local(),
        Err(_) => {
            let name = host(url).trim_end_matches('.').to_ascii_lowercase();
            !name.contains('.') || INTERNAL.iter().any(|end| name.ends_with(end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_is_told_by_the_host() {
        for (url, machine, installation) in [
            ("https://issuer.example/keys", false, false),
            ("http://localhost:8080/", false, false),
            ("http://127.8.0.1/", false, false),
            ("http://[::1]:80/", false, false),
            ("http://[::ffff:127.0.0.1]/", false, false),
            ("http://10.96.0.7/", true, false),
            ("http://192.168.1.1/", true, false),
            ("http://[fd00::7]/", true, false),
            ("http://couchdb:5984/", true, false),
            ("http://couchdb.nuvolaris.svc:5984/", true, false),
            ("http://couchdb.nuvolaris.svc.cluster.local./", true, false),
            ("http://couch.internal/", true, false),
            ("http://couch.example/", true, true),
            ("http://localhost.example/", true, true),
            ("http://svc.example/", true, true),
            ("http://192.0.2.1/", true, true),
            ("http://127.0.0.1.example/", true, true),
            ("http://[2001:db8::1]/", true, true),
        ] {
            let parsed: Uri = url.parse().unwrap();
            let told = (leaves_the_machine(&parsed), leaves_the_installation(&parsed));
            assert_eq!(told, (machine, installation), "{url}");
        }
    }
}

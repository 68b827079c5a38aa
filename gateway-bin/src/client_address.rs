//! Where a request comes from, behind proxies of ours.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderMap;
use thiserror::Error;

/// The header that every proxy appends its peer's address to.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Proxies whose word counts; clones share them.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[Network]>);

/// A network in CIDR notation (RFC 4632, RFC 4291 §2.3); an address alone is a network of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    address: u128,
    prefix: u32,
}

/// A text is not a network.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("is not an address or a network like 10.0.0.0/8")]
pub struct NotANetwork;

// === impl TrustedProxies ===

impl TrustedProxies {
    /// Proxies in these networks.
    #[must_use]
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Self {
        Self(networks.into_iter().collect())
    }

    /// The address nearest to the client that somebody we trust has seen: the peer, and while that is a proxy of ours,
    /// what it says its peer was. What a client writes into the header itself stands left of that and is never reached.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut address = peer;
        let hops = headers.get_all(FORWARDED_FOR).iter().rev();
        let hops = hops.flat_map(|value| value.to_str().unwrap_or("").rsplit(','));
        for hop in hops {
            if !self.trusts(address) {
                break;
            }
            // A proxy that writes nonsense is the last one that is known.
            let Ok(before) = hop.trim().parse() else {
                break;
            };
            address = before;
        }
        address.to_canonical()
    }

    /// Whether somebody is one of them.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = bits(address);
        self.0.iter().any(|network| network.holds(address))
    }
}

// === impl Network ===

impl Network {
    fn holds(&self, address: u128) -> bool {
        let unlike = self.address ^ address;
        unlike.leading_zeros() >= self.prefix
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u32 = prefix
            .map_or(Ok(width), str::parse)
            .map_err(|_| NotANetwork)?;
        if prefix > width {
            return Err(NotANetwork);
        }
        Ok(Self {
            address: bits(address),
            prefix: prefix + 128 - width,
        })
    }
}

/// An address as IPv6 has it; IPv4 in its mapped form (RFC 4291 §2.5.5.2).
fn bits(address: IpAddr) -> u128 {
    let address: Ipv6Addr = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    address.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, headers: &[&str]) -> String {
        let proxies = TrustedProxies::new(trusted.iter().map(|text| text.parse().unwrap()));
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(FORWARDED_FOR, header.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn a_client_cannot_say_where_it_is() {
        assert_eq!(
            client(&[], "203.0.113.9", &["198.51.100.1"]),
            "203.0.113.9",
            "nobody is trusted"
        );
        assert_eq!(
            client(&["127.0.0.1/32"], "203.0.113.9", &["198.51.100.1"]),
            "203.0.113.9",
            "not a proxy of ours"
        );
        assert_eq!(
            client(&["127.0.0.1"], "127.0.0.1", &["198.51.100.1, 203.0.113.9"]),
            "203.0.113.9"
        );
        assert_eq!(
            client(
                &["127.0.0.1"],
                "127.0.0.1",
                &["198.51.100.1", "203.0.113.9"]
            ),
            "203.0.113.9",
            "two lines"
        );
        assert_eq!(
            client(&["127.0.0.1"], "127.0.0.1", &["203.0.113.9, unknown"]),
            "127.0.0.1"
        );
        assert_eq!(client(&["127.0.0.1"], "127.0.0.1", &[]), "127.0.0.1");
    }

    #[test]
    fn proxies_before_proxies_are_gone_through() {
        let trusted = ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"];
        assert_eq!(
            client(&trusted, "127.0.0.1", &["203.0.113.9, 10.1.2.3"]),
            "203.0.113.9"
        );
        assert_eq!(
            client(&trusted, "::ffff:127.0.0.1", &["fd00::7, fd00::8"]),
            "fd00::7"
        );
        assert_eq!(
            client(&["0.0.0.0/0"], "127.0.0.1", &["2001:db8::1, 8.8.8.8"]),
            "2001:db8::1"
        );
    }

    #[test]
    fn other_texts_are_no_networks() {
        for text in [
            "",
            "/8",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "::/129",
            "localhost",
            "10.0.0/8",
            "1.2.3.4/",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
    }
}

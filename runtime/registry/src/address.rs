//! Addresses that nobody's Dockerfile, image or registry may lead us to: link-local ones, the metadata services of clouds, and, for what a host elsewhere
//! leads to, this machine itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// What a connection may not be made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Everything but link-local and metadata addresses.
    Machine,
    /// Not this machine either.
    Elsewhere,
}

impl Reach {
    /// Whether an address is out of reach.
    pub(crate) fn refuses(self, address: IpAddr) -> bool {
        is_refused(address) || (self == Reach::Elsewhere && is_own(address))
    }

    /// The address in a URL, when it is one and out of reach. Names are looked at when they are resolved.
    pub(crate) fn refused(self, url: &Url) -> Option<IpAddr> {
        literal(url).filter(|address| self.refuses(*address))
    }
}

/// Looks names up and lets no name stand for an address that is out of reach. The connection is made to these very addresses: a second answer of the name
/// server cannot change them.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    reach: Reach,
    /// The name that was asked for in the first place: it may be this machine's.
    own: Option<String>,
}

impl Guarded {
    pub(crate) fn new(reach: Reach) -> Self {
        Guarded { reach, own: None }
    }

    /// What an address may lead to: one of this machine to all of it, another to it only under the very name that was written.
    pub(crate) fn of(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        Guarded { reach: if is_this_machine(host) { Reach::Machine } else { Reach::Elsewhere }, own: Some(host.to_owned()) }
    }

    fn reach(&self, host: &str) -> Reach {
        if self.own.as_deref() == Some(host) { Reach::Machine } else { self.reach }
    }

    /// The address in a URL, when it is one and out of reach.
    pub(crate) fn refused(&self, url: &Url) -> Option<IpAddr> {
        self.reach(url.host_str().unwrap_or_default()).refused(url)
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.reach(name.as_str());
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(bad) = found.iter().map(SocketAddr::ip).find(|address| reach.refuses(*address)) {
                return Err(Box::new(Forbidden(bad)) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// An address that is out of reach.
#[derive(Debug, thiserror::Error)]
#[error("{0} is an address that may not be reached from here")]
pub(crate) struct Forbidden(pub(crate) IpAddr);

/// The forbidden address that an error of the HTTP client is about.
pub(crate) fn forbidden(error: &reqwest::Error) -> Option<IpAddr> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(Forbidden(address)) = inner.downcast_ref::<Forbidden>() {
            return Some(*address);
        }
        cause = inner.source();
    }
    None
}

/// The address in a URL that names one instead of a host.
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether a registry's host (with or without a port) is this machine.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(is_own)
}

fn is_own(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// Link-local addresses and the metadata services of clouds that have another, in any of the ways of writing an IPv4 address in IPv6.
pub(crate) fn is_refused(address: IpAddr) -> bool {
    const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
    const METADATA_V6: [Ipv6Addr; 2] = [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || METADATA_V4.contains(&v4),
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            let embedded = v6.to_ipv4_mapped().or_else(|| {
                // NAT64 (RFC 6052), 6to4 (RFC 3056) and the compatible form.
                let [.., high, low] = segments;
                let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
                match segments {
                    [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0, ..] => Some(of(high, low)),
                    [0x2002, high, low, ..] => Some(of(high, low)),
                    _ => None,
                }
            });
            v6.is_unicast_link_local() || METADATA_V6.contains(&v6) || embedded.is_some_and(|v4| is_refused(IpAddr::V4(v4)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Guarded, Reach, is_refused, is_this_machine, literal};
    use reqwest::Url;
    use reqwest::dns::Resolve;

    #[test]
    fn s19_metadata_services_are_out_of_reach_however_they_are_written() {
        for text in [
            "http://169.254.169.254/latest",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://169.254.1.1:80/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::]/",
            "http://[fd00:ec2::254]/",
            "http://100.100.100.200/",
        ] {
            let url = Url::parse(text).unwrap();
            assert!(literal(&url).is_some_and(is_refused), "{text}");
            assert!(Reach::Machine.refused(&url).is_some() && Reach::Elsewhere.refused(&url).is_some(), "{text}");
        }
        for text in ["http://127.0.0.1/", "http://10.0.0.1/", "http://[::1]/", "http://[2001:db8::1]/", "http://169.253.0.1/"] {
            assert!(Reach::Machine.refused(&Url::parse(text).unwrap()).is_none(), "{text}");
        }
        for (text, refused) in [("http://127.9.0.1/", true), ("http://[::1]/", true), ("http://0.0.0.0/", true), ("http://10.0.0.1/", false)] {
            assert_eq!(Reach::Elsewhere.refused(&Url::parse(text).unwrap()).is_some(), refused, "{text}");
        }
    }

    #[tokio::test]
    async fn s19_no_name_stands_for_this_machine_that_was_not_written_so() {
        let resolves = async |guard: &Guarded| guard.resolve("localhost".parse().unwrap()).await.is_ok();
        let of = |text: &str| Guarded::of(&Url::parse(text).unwrap());
        assert!(resolves(&Guarded::new(Reach::Machine)).await && resolves(&of("http://localhost/f")).await && resolves(&of("http://127.0.0.1/f")).await);
        assert!(!resolves(&Guarded::new(Reach::Elsewhere)).await && !resolves(&of("https://example.org/f")).await);
        let elsewhere = of("https://example.org/f");
        assert!(elsewhere.refused(&Url::parse("http://127.0.0.1:6443/").unwrap()).is_some());
        assert!(elsewhere.refused(&Url::parse("http://10.0.0.1/").unwrap()).is_none());
        assert!(of("http://169.254.169.254/").refused(&Url::parse("http://169.254.169.254/").unwrap()).is_some());
    }

    #[test]
    fn tells_this_machine_from_others() {
        for (host, here) in [
            ("localhost:5000", true),
            ("127.0.0.1:1", true),
            ("[::1]:5000", true),
            ("localhost.example.org", false),
            ("127.0.0.1.example.org", false),
            ("ghcr.io", false),
        ] {
            assert_eq!(is_this_machine(host), here, "{host}");
        }
    }
}

//! Which addresses a webhook may reach: the public internet, and nothing that stands behind a server.
//!
//! An address is looked at twice: as it is written, when a webhook is made, and as it is resolved, each time a
//! connection is made ([`Checked`]). A name that has one address that is not public is refused as a whole, and the
//! connection goes to what was checked, so that a name that changes in between (DNS rebinding) reaches nothing.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Result, codes};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

const URL_BYTES_MAX: usize = 2_048;

/// Answers the metadata and health questions of machines at Azure, from a public range.
const AZURE_HOST: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// What is allowed beyond https to the public internet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Addresses that are not public.
    pub private: bool,
    /// Plain http.
    pub http: bool,
}

impl Allowed {
    /// Checks an address as it is written.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for `url`, with the rule.
    pub fn check(self, text: &str) -> Result<Url> {
        let fault = |rule: &str| Error::new(codes::VALIDATION_ERROR, rule).with_field("url");
        if text.len() > URL_BYTES_MAX {
            return Err(fault("has at most 2048 bytes"));
        }
        let url = Url::parse(text).map_err(|cause| fault("is not an address").with_source(cause))?;
        match url.scheme() {
            "https" => {}
            "http" if self.http => {}
            _ => return Err(fault("must begin with `https://`")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fault("must not hold a user or a password; the signature proves who sends"));
        }
        match self.refuses(&url) {
            Some(reason) => Err(fault(&reason)),
            None => Ok(url),
        }
    }

    /// Why no request goes there, as far as the text tells. A client resolves no host that is an address, so that this is
    /// asked again before each request.
    pub(crate) fn refuses(self, url: &Url) -> Option<String> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                let is_local = name == "localhost" || name.ends_with(".localhost");
                return (is_local && !self.private).then(|| refusal(name));
            }
            None => return Some("names no host".to_owned()),
        };
        (!self.private && !is_public(address)).then(|| refusal(&address.to_string()))
    }
}

fn refusal(place: &str) -> String {
    format!("`{place}` is not a public address, and webhooks.allow_private is not set")
}

/// Whether it is an address of the public internet (the IANA special-purpose registries of IPv4 and IPv6).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => embedded(address).map_or_else(|| is_public_v6(address), is_public_v4),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special && address != AZURE_HOST
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match parts {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let is_global_unicast = parts[0] & 0xe000 == 0x2000;
    // Protocol assignments (Teredo among them), documentation.
    let is_special = matches!((parts[0], parts[1]), (0x2001, 0..0x200 | 0xdb8) | (0x3fff, 0..0x1000));
    is_global_unicast && !is_special
}

/// Where names are looked up.
#[async_trait]
pub trait Lookup: Send + Sync + Debug {
    /// Every address of a name.
    ///
    /// # Errors
    /// Those of the system.
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The resolver of the system.
#[derive(Debug)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// A resolver that gives a client only addresses it may connect to.
pub(crate) struct Checked {
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) allowed: Allowed,
}

impl Checked {
    async fn resolved(lookup: &dyn Lookup, allowed: Allowed, name: &str) -> std::io::Result<Vec<SocketAddr>> {
        let found = lookup.addresses(name).await?;
        let fault = |text: String| std::io::Error::new(std::io::ErrorKind::PermissionDenied, text);
        if let Some(address) = found.iter().find(|address| !allowed.private && !is_public(**address)) {
            return Err(fault(format!("{} (`{name}`)", refusal(&address.to_string()))));
        }
        if found.is_empty() {
            return Err(fault(format!("`{name}` has no address")));
        }
        Ok(found.into_iter().map(|address| SocketAddr::new(address, 0)).collect())
    }
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, allowed) = (Arc::clone(&self.lookup), self.allowed);
        Box::pin(async move {
            let found = Self::resolved(lookup.as_ref(), allowed, name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_https_to_the_public_internet_is_taken() {
        let check = |url: &str, allowed: Allowed, good: bool| {
            let found = allowed.check(url);
            assert_eq!(found.is_ok(), good, "{url}: {found:?}");
            assert!(found.err().is_none_or(|error| error.field() == Some("url")));
        };
        let strict = Allowed::default();
        let lax = Allowed { private: true, http: true };
        for url in ["https://hooks.example/in?x=1", "https://1.1.1.1:8443/", "https://[2606:4700::1111]/"] {
            check(url, strict, true);
            check(url, lax, true);
        }
        for url in ["http://hooks.example/", "http://127.0.0.1/", "https://localhost/", "https://10.0.0.1/"] {
            check(url, strict, false);
            check(url, lax, true);
        }
        // Other ways to write an address that is not public.
        for url in [
            "https://0x7f.1/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://0/",
            "https://[::]/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[64:ff9b::a9fe:a9fe]/",
            "https://[2002:7f00:1::]/",
            "https://[fd00:ec2::254]/",
            "https://[fe80::1]/",
            "https://[2001::1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://100.100.100.200/",
            "https://168.63.129.16/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://192.168.1.1/",
            "https://172.31.0.1/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
        ] {
            check(url, strict, false);
        }
        for url in [
            "",
            "hooks.example",
            "ftp://hooks.example/",
            "file:///etc/passwd",
            "https://u:p@hooks.example/",
            "https://",
            "gopher://x/",
        ] {
            check(url, lax, false);
        }
        check(&format!("https://hooks.example/{}", "x".repeat(URL_BYTES_MAX)), lax, false);
    }

    #[derive(Debug)]
    struct Fixed(Vec<IpAddr>);

    #[async_trait]
    impl Lookup for Fixed {
        async fn addresses(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
            Ok(self.0.clone())
        }
    }

    #[tokio::test]
    async fn one_address_that_is_not_public_refuses_the_name() {
        let check = async |addresses: &[&str], private: bool, expected: usize| {
            let lookup = Fixed(addresses.iter().map(|address| address.parse().unwrap()).collect());
            let allowed = Allowed { private, http: false };
            let found = Checked::resolved(&lookup, allowed, "hooks.example").await;
            assert_eq!(found.as_ref().map_or(0, Vec::len), expected, "{addresses:?}: {found:?}");
        };
        check(&["1.1.1.1", "2606:4700::1111"], false, 2).await;
        check(&["1.1.1.1", "127.0.0.1"], false, 0).await;
        check(&["1.1.1.1", "::ffff:169.254.169.254"], false, 0).await;
        check(&["1.1.1.1", "127.0.0.1"], true, 2).await;
        check(&[], false, 0).await;
    }

    proptest! {
        #[test]
        fn what_leads_to_an_ipv4_address_is_public_only_where_that_is(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let [high, low] = [(bits >> 16) as u16, bits as u16];
            let ways = [
                address.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ];
            for way in ways {
                prop_assert_eq!(is_public(IpAddr::V6(way)), is_public(IpAddr::V4(address)), "{}", way);
            }
            // The standard library knows a part of the ranges.
            let known = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_unspecified();
            prop_assert!(!(known && is_public(IpAddr::V4(address))));
        }
    }
}

//! Which addresses a destination may have (reliability.md B4): one judgement, asked when the configuration is loaded
//! (literals) and again whenever a connection is made (resolved addresses).
//!
//! IPv4 has a list of refused networks. IPv6 needs the shorter rule: only global unicast (`2000::/3`) less four networks.
//! Forms that carry an IPv4 address inside (mapped, NAT64) are judged by that address, so that no spelling slips through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// `allow_private`: what an operator opens beyond the public Internet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum AllowPrivate {
    /// Public addresses only.
    #[default]
    No,
    /// Any address.
    All,
    /// Public addresses and these networks.
    Networks(Vec<IpNet>),
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: u16, second: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), prefix)
}

/// IANA special-purpose registry, and what clouds answer on.
const REFUSED_V4: [(Ipv4Net, &str); 20] = [
    (v4(0, 0, 0, 0, 8), "it means this host itself (0.0.0.0/8)"),
    (v4(10, 0, 0, 0, 8), "it is private (10.0.0.0/8)"),
    (v4(100, 64, 0, 0, 10), "it is shared carrier space (100.64.0.0/10)"),
    (v4(127, 0, 0, 0, 8), "it is loopback (127.0.0.0/8)"),
    (v4(168, 63, 129, 16, 32), "it is a cloud host service (168.63.129.16)"),
    (v4(169, 254, 0, 0, 16), "it is link-local, where clouds keep their metadata (169.254.0.0/16)"),
    (v4(172, 16, 0, 0, 12), "it is private (172.16.0.0/12)"),
    (v4(192, 0, 0, 0, 24), "it is reserved for protocols (192.0.0.0/24)"),
    (v4(192, 0, 2, 0, 24), "it is for documentation (192.0.2.0/24)"),
    (v4(192, 31, 196, 0, 24), "it is reserved (192.31.196.0/24)"),
    (v4(192, 52, 193, 0, 24), "it is reserved (192.52.193.0/24)"),
    (v4(192, 88, 99, 0, 24), "it is a retired relay range (192.88.99.0/24)"),
    (v4(192, 168, 0, 0, 16), "it is private (192.168.0.0/16)"),
    (v4(192, 175, 48, 0, 24), "it is reserved (192.175.48.0/24)"),
    (v4(198, 18, 0, 0, 15), "it is for benchmarks (198.18.0.0/15)"),
    (v4(198, 51, 100, 0, 24), "it is for documentation (198.51.100.0/24)"),
    (v4(203, 0, 113, 0, 24), "it is for documentation (203.0.113.0/24)"),
    (v4(224, 0, 0, 0, 4), "it is multicast (224.0.0.0/4)"),
    (v4(255, 255, 255, 255, 32), "it is the broadcast address"),
    (v4(240, 0, 0, 0, 4), "it is reserved (240.0.0.0/4)"),
];

const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 16);
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 96);

const REFUSED_V6: [(Ipv6Net, &str); 4] = [
    (v6(0x2001, 0, 23), "it is reserved for protocols (2001::/23)"),
    (v6(0x2001, 0xdb8, 32), "it is for documentation (2001:db8::/32)"),
    (SIX_TO_FOUR, "it is a retired 6to4 address (2002::/16)"),
    (v6(0x3fff, 0, 20), "it is for documentation (3fff::/20)"),
];

/// Names for what is not global unicast, the commonest first; anything else is "not public".
const NAMED_V6: [(Ipv6Net, &str); 5] = [
    (v6(0, 0, 96), "it is loopback or unspecified (::/96)"),
    (v6(0xfc00, 0, 7), "it is private (fc00::/7)"),
    (v6(0xfe80, 0, 10), "it is link-local (fe80::/10)"),
    (v6(0xff00, 0, 8), "it is multicast (ff00::/8)"),
    (v6(0x64, 0xff9b, 16), "it is a translated address of local use (64::/16)"),
];

/// Why an address is refused, in words; `None` where it may be used.
pub fn refuse(address: IpAddr, allow: &AllowPrivate) -> Option<&'static str> {
    let judged = canonical(address);
    match allow {
        AllowPrivate::All => None,
        AllowPrivate::Networks(networks)
            if networks.iter().any(|net| net.contains(&address) || net.contains(&judged)) =>
        {
            None
        }
        AllowPrivate::Networks(_) | AllowPrivate::No => match judged {
            IpAddr::V4(inner) => refuse_v4(inner),
            IpAddr::V6(inner) => refuse_v6(inner),
        },
    }
}

/// Why the host of a URL is refused as it is written; `None` where it may be used or where only its resolved addresses
/// can tell. Names that never leave the machine or its network are refused unless something private is allowed: which
/// network they lie in is judged again when they are resolved.
pub fn refuse_host(host: &url::Host<&str>, allow: &AllowPrivate) -> Option<&'static str> {
    match host {
        url::Host::Ipv4(address) => refuse(IpAddr::V4(*address), allow),
        url::Host::Ipv6(address) => refuse(IpAddr::V6(*address), allow),
        url::Host::Domain(name) => match allow {
            AllowPrivate::All | AllowPrivate::Networks(_) => None,
            AllowPrivate::No => refuse_name(name),
        },
    }
}

/// As [`refuse_host`], where a proxy resolves names and their addresses are never seen here: names that point into a
/// private network are refused unless every address is allowed, because nobody can tell in which network they lie.
pub fn refuse_unseen_host(host: &url::Host<&str>, allow: &AllowPrivate) -> Option<&'static str> {
    match (host, allow) {
        (url::Host::Domain(name), AllowPrivate::Networks(_)) => refuse_name(name),
        (_, _) => refuse_host(host, allow),
    }
}

/// The address that is really meant: the IPv4 address inside a mapped or a NAT64 one, else the address itself.
pub fn canonical(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(inner) if NAT64.contains(&inner) => {
            let [.., a, b, c, d] = inner.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        other @ (IpAddr::V4(_) | IpAddr::V6(_)) => other,
    }
}

/// Whether a connection to `address` arrives at a listener on `listener`, as far as the two of them tell.
pub fn reaches(address: IpAddr, listener: IpAddr) -> bool {
    let (address, ours) = (canonical(address), listener.to_canonical());
    let near = address.is_loopback() || address.is_unspecified();
    address == ours || (near && (ours.is_unspecified() || (address.is_unspecified() && ours.is_loopback())))
}

fn refuse_v4(address: Ipv4Addr) -> Option<&'static str> {
    REFUSED_V4.iter().find(|(net, _)| net.contains(&address)).map(|(_, why)| *why)
}

fn refuse_v6(address: Ipv6Addr) -> Option<&'static str> {
    if !GLOBAL_V6.contains(&address) {
        let named = NAMED_V6.iter().find(|(net, _)| net.contains(&address));
        return Some(named.map_or("it is not a public address", |(_, why)| *why));
    }
    if SIX_TO_FOUR.contains(&address) {
        let [_, _, a, b, c, d, ..] = address.octets();
        if let Some(why) = refuse_v4(Ipv4Addr::new(a, b, c, d)) {
            return Some(why);
        }
    }
    REFUSED_V6.iter().find(|(net, _)| net.contains(&address)).map(|(_, why)| *why)
}

fn refuse_name(name: &str) -> Option<&'static str> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let (rest, last) = name.rsplit_once('.').unwrap_or(("", &name));
    match last {
        "" => Some("it has no host name"),
        "localhost" => Some("it is this machine (localhost)"),
        "local" => Some("it is a name of the local network (.local)"),
        "internal" => Some("it is a name of a private network (.internal)"),
        _ if rest.is_empty() => Some("a name without a dot lies in a private network"),
        _ => None,
    }
}

/// Addresses of this machine and of private networks as an attacker would spell them.
#[cfg(test)]
pub(crate) const SPELLINGS: [&str; 24] = [
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://0177.1/",
    "http://017700000001/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.0.0.1./",
    "http://0/",
    "http://0xa9fea9fe/",
    "http://①②⑦.0.0.1/",
    "http://１２７.0.0.1/",
    "http://127。0。0。1/",
    "http://127．0．0．1/",
    "http://127｡0｡0｡1/",
    "http://%31%32%37.0.0.1/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A second opinion, by the standard library's own classes.
    fn is_special(address: Ipv4Addr) -> bool {
        address.is_private()
            || address.is_loopback()
            || address.is_link_local()
            || address.is_broadcast()
            || address.is_documentation()
            || address.is_multicast()
            || address.is_unspecified()
    }

    proptest! {
        // Row 42: two classifiers, and every form an IPv4 address hides in.
        #[test]
        fn what_the_standard_library_calls_special_is_refused_in_every_form(bits: u32, first in prop::sample::select(
            &[0_u8, 10, 127, 169, 172, 192, 198, 203, 224, 240, 255],
        ), second: bool) {
            let [a, b, c, d] = bits.to_be_bytes();
            let inner = Ipv4Addr::new(if second { first } else { a }, b, c, d);
            let nat64 = Ipv6Addr::from_bits(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0).to_bits() | u128::from(inner.to_bits()));
            for form in [IpAddr::V4(inner), IpAddr::V6(inner.to_ipv6_mapped()), IpAddr::V6(nat64)] {
                let said = refuse(form, &AllowPrivate::No);
                prop_assert!(said.is_some() || !is_special(inner), "{form}");
                prop_assert_eq!(said, refuse(IpAddr::V4(inner), &AllowPrivate::No));
            }
            prop_assert!(refuse(IpAddr::V6(inner.to_ipv6_compatible()), &AllowPrivate::No).is_some());
        }
    }

    // Row 42.
    #[test]
    fn no_spelling_of_an_address_slips_through() {
        for url in SPELLINGS {
            assert!(host(url, &AllowPrivate::No).is_some(), "{url}");
        }
    }

    fn refused(text: &str, allow: &AllowPrivate) -> Option<&'static str> {
        refuse(text.parse().unwrap(), allow)
    }

    fn host(url: &str, allow: &AllowPrivate) -> Option<&'static str> {
        refuse_host(&url::Url::parse(url).unwrap().host().unwrap(), allow)
    }

    #[test]
    fn the_first_and_last_address_of_every_refused_network_is_refused() {
        for (net, _) in REFUSED_V4 {
            assert!(refuse(net.network().into(), &AllowPrivate::No).is_some(), "{net}");
            assert!(refuse(net.broadcast().into(), &AllowPrivate::No).is_some(), "{net}");
        }
        for (net, _) in REFUSED_V6 {
            assert!(refuse(net.network().into(), &AllowPrivate::No).is_some(), "{net}");
            assert!(refuse(net.broadcast().into(), &AllowPrivate::No).is_some(), "{net}");
        }
    }

    #[test]
    fn the_neighbours_of_refused_networks_are_public() {
        for text in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.1.255",
            "192.0.3.0",
            "192.31.195.255",
            "192.31.197.0",
            "192.52.192.255",
            "192.52.194.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "192.175.47.255",
            "192.175.49.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2000::",
            "2001:200::",
            "2001:db7::",
            "2001:db9::",
            "2001:ffff:ffff::",
            "2003::",
            "3ffe:ffff::",
            "3fff:1000::",
            "3fff:ffff::",
            "2606:4700::1111",
        ] {
            assert_eq!(refused(text, &AllowPrivate::No), None, "{text}");
        }
    }

    // Row 42.
    #[test]
    fn known_traps_are_refused() {
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::a83f:8110",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "2001::1",
            "100::1",
            "100:0:0:1::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "4000::",
        ] {
            assert!(refused(text, &AllowPrivate::No).is_some(), "{text}");
        }
        assert_eq!(refused("2002:7f00:1::", &AllowPrivate::No), Some("it is loopback (127.0.0.0/8)"));
    }

    #[test]
    fn a_public_address_inside_another_form_stays_public() {
        assert_eq!(refused("::ffff:8.8.8.8", &AllowPrivate::No), None);
        assert_eq!(refused("64:ff9b::808:808", &AllowPrivate::No), None);
    }

    #[test]
    fn allowed_networks_open_themselves_and_nothing_else() {
        let allow = AllowPrivate::Networks(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for text in ["10.255.255.255", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd12::1", "8.8.8.8"] {
            assert_eq!(refused(text, &allow), None, "{text}");
        }
        for text in ["127.0.0.1", "172.16.0.1", "fc00::1", "2002:a01:203::"] {
            assert!(refused(text, &allow).is_some(), "{text}");
        }
        assert_eq!(refused("169.254.169.254", &AllowPrivate::All), None);
    }

    // Row 42.
    #[test]
    fn literals_are_judged_however_they_are_spelled() {
        for url in [
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::ffff:7f00:1]/",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "http://printer.local/",
            "http://metadata.google.internal/",
            "http://intranet/",
            "http://①②⑦.0.0.1/",
        ] {
            assert!(host(url, &AllowPrivate::No).is_some(), "{url}");
            assert_eq!(host(url, &AllowPrivate::All), None, "{url}");
        }
        for url in ["https://hooks.example.com/", "https://example.com./", "https://localhost.example.com/"] {
            assert_eq!(host(url, &AllowPrivate::No), None, "{url}");
        }
    }

    #[test]
    fn names_wait_for_their_addresses_where_a_network_is_allowed() {
        let allow = AllowPrivate::Networks(vec!["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(host("http://intranet/", &allow), None);
        assert!(host("http://127.0.0.1/", &allow).is_some());
    }

    #[test]
    fn names_that_a_proxy_resolves_cannot_wait_for_their_addresses() {
        let unseen = |url: &str, allow: &AllowPrivate| {
            refuse_unseen_host(&url::Url::parse(url).unwrap().host().unwrap(), allow).is_some()
        };
        let networks = AllowPrivate::Networks(vec!["10.0.0.0/8".parse().unwrap()]);
        for url in ["http://localhost/", "http://a.internal/", "http://printer.local./", "http://intranet/"] {
            assert!(unseen(url, &AllowPrivate::No) && unseen(url, &networks), "{url}");
            assert!(!unseen(url, &AllowPrivate::All), "{url}");
        }
        assert!(!unseen("http://10.0.0.1/", &networks) && unseen("http://127.0.0.1/", &networks));
        assert!(!unseen("http://example.com/", &AllowPrivate::No));
    }
}

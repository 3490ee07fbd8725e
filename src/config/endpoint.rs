//! Where a destination sends to: what can be judged of a URL before anything is connected.
//!
//! Resolved addresses are judged again at each connection; here fall the spellings that can be seen in the file. URLs are
//! never shown in an error text: their query may carry a token.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use super::snapshot::NetworkPolicy;
use crate::domain::net::{self, AllowPrivate};

/// What a URL is judged by.
pub(crate) struct Judge<'a> {
    /// Our own addresses: a destination there would feed its own events back.
    pub(crate) listen: &'a [SocketAddr],
    pub(crate) network: &'a NetworkPolicy,
}

/// Longest name a host can have (RFC 1035); SOCKS carries two bytes more.
const HOST_BYTES: usize = 253;

impl Judge<'_> {
    /// Reads a URL, or says what is wrong with it and what to write instead.
    pub(crate) fn url(&self, text: &str) -> Result<Url, String> {
        let example = "write one like https://hooks.example.com/path";
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error}); {example}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("has the scheme \"{}\"; {example}", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let remedy = "remove what stands before @ and send it as a header instead";
            return Err(format!("holds a user name or password; {remedy}"));
        }
        self.host(&url)?;
        Ok(url)
    }

    /// Judges the address of an S2S template. Macros may stand in path and query only; one before that is the
    /// template's own problem and is left to it.
    pub(crate) fn template(&self, text: &str) -> Result<Option<Url>, String> {
        let rest = text.split_once(':').map_or("", |(_, rest)| rest).trim_start_matches(['/', '\\']);
        let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
        if text.split_once(':').is_some_and(|(scheme, _)| scheme.contains('{')) || authority.contains('{') {
            return Ok(None);
        }
        self.url(&without_macros(text)).map(Some)
    }

    fn host(&self, url: &Url) -> Result<(), String> {
        let Some(host) = url.host() else {
            return Err("has no host; write one like https://hooks.example.com".to_owned());
        };
        let port = url.port_or_known_default().unwrap_or_default();
        if port == 25 {
            return Err("has port 25, which belongs to mail servers; write the port of a web server".to_owned());
        }
        if self.listen.iter().any(|ours| ours.port() == port && is_ours(&host, ours.ip())) {
            return Err(format!(
                "is postbackd's own address ({host}:{port}): its events would come back; write another"
            ));
        }
        self.behind_a_proxy(url, &host)?;
        let NetworkPolicy { allow_private: allow, .. } = self.network;
        let unseen = self.network.is_named_to_a_proxy();
        let refused = if unseen { net::refuse_unseen_host(&host, allow) } else { net::refuse_host(&host, allow) };
        match refused {
            None => Ok(()),
            Some(why) if unseen && matches!((&host, allow), (Host::Domain(_), AllowPrivate::Networks(_))) => {
                let remedy = "write its address instead, or allow_private = true";
                Err(format!(
                    "may not be {host}: {why}, and the proxy resolves it, so its network cannot be told; {remedy}"
                ))
            }
            Some(why) => {
                let list = match &host {
                    Host::Ipv4(address) => format!(", or allow_private = [\"{address}/32\"]"),
                    Host::Ipv6(address) => format!(", or allow_private = [\"{address}/128\"]"),
                    Host::Domain(_) => String::new(),
                };
                let remedy = format!("if that is meant, add allow_private = true{list}");
                Err(format!("may not be {host}: {why}; {remedy}"))
            }
        }
    }
}

impl Judge<'_> {
    /// What cannot be said to a proxy.
    fn behind_a_proxy(&self, url: &Url, host: &Host<&str>) -> Result<(), String> {
        if self.network.proxies.is_empty() {
            return Ok(());
        }
        match host {
            Host::Domain(name) if name.len() > HOST_BYTES => Err(format!(
                "has a host name of more than {HOST_BYTES} bytes, which no proxy takes; write a shorter one"
            )),
            // The TLS of a connection through a proxy takes no IPv6 address for a server's name.
            Host::Ipv6(_) if url.scheme() == "https" => {
                Err("is an https address with an IPv6 address in it, which cannot be reached through a proxy; \
                     write its host name"
                    .to_owned())
            }
            Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_) => Ok(()),
        }
    }
}

/// Whether a host reaches a listener on `ours`.
fn is_ours(host: &Host<&str>, ours: IpAddr) -> bool {
    let here = |address: IpAddr| net::reaches(address, ours);
    match host {
        Host::Ipv4(address) => here(IpAddr::V4(*address)),
        Host::Ipv6(address) => here(IpAddr::V6(*address)),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            (name == "localhost" || name.ends_with(".localhost")) && (ours.is_loopback() || ours.is_unspecified())
        }
    }
}

/// Whether a request to the URL crosses the Internet without TLS.
pub(crate) fn is_plain_public(url: &Url) -> bool {
    let public = |host: Host<&str>| net::refuse_host(&host, &AllowPrivate::No).is_none();
    url.scheme() == "http" && url.host().is_some_and(public)
}

/// The template with a harmless letter in place of each `{macro}`.
fn without_macros(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        clean.push_str(before);
        clean.push('m');
        rest = after.split_once('}').map_or("", |(_, tail)| tail);
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::proxy::Proxy;
    use crate::domain::time::DurationMs;

    fn network(allow_private: AllowPrivate, proxies: &[&str]) -> NetworkPolicy {
        let proxies = proxies.iter().map(|proxy| Proxy::parse(proxy).unwrap()).collect();
        NetworkPolicy { timeout: DurationMs::from_secs(1), allow_private, proxies }
    }

    fn judged(text: &str, listen: &str, allow: &AllowPrivate) -> Result<Url, String> {
        Judge { listen: &[listen.parse().unwrap()], network: &network(allow.clone(), &[]) }.url(text)
    }

    // Row 76: a name no SOCKS request can carry. Rows 41 and 42 where a proxy resolves.
    #[test]
    fn behind_a_proxy_names_are_judged_by_what_they_are_called() {
        let long = format!("https://{}example.com/", "a23456789.".repeat(25));
        let networks = AllowPrivate::Networks(vec!["10.0.0.0/8".parse().unwrap()]);
        for (proxy, url, good) in [
            ("socks5h://127.0.0.1:1080", "http://nas.local/", false),
            ("http://127.0.0.1:3128", "http://nas.local/", false),
            ("https://127.0.0.1:3128", "http://nas.local/", false),
            ("socks5://127.0.0.1:1080", "http://nas.local/", true),
            ("socks5h://127.0.0.1:1080", "http://10.0.0.5/", true),
            ("socks5h://127.0.0.1:1080", "http://127.0.0.1/", false),
            ("socks5h://127.0.0.1:1080", "https://hooks.example.com/", true),
            ("socks5h://127.0.0.1:1080", "https://[2606:4700::1111]/", false),
            ("socks5://127.0.0.1:1080", "http://[2606:4700::1111]/", true),
            ("socks5h://127.0.0.1:1080", &long, false),
        ] {
            let said = Judge { listen: &[], network: &network(networks.clone(), &[proxy]) }.url(url);
            assert_eq!(said.is_ok(), good, "{proxy} {url} {said:?}");
            let direct = Judge { listen: &[], network: &network(networks.clone(), &[]) }.url(url);
            assert!(direct.is_ok() || url.contains("127.0.0.1"), "{url}");
        }
        let mixed = network(networks, &["socks5://127.0.0.1:1080", "http://127.0.0.1:3128"]);
        let said = Judge { listen: &[], network: &mixed }.url("http://nas.local/").unwrap_err();
        assert!(said.contains("the proxy resolves it"), "{said}");
    }

    // Row 43.
    #[test]
    fn our_own_address_is_found_in_every_spelling() {
        for (url, listen) in [
            ("http://127.0.0.1:8460/", "127.0.0.1:8460"),
            ("http://localhost:8460/", "127.0.0.1:8460"),
            ("http://[::ffff:127.0.0.1]:8460/", "127.0.0.1:8460"),
            ("http://0.0.0.0:8460/", "127.0.0.1:8460"),
            ("http://127.0.0.9:8460/", "0.0.0.0:8460"),
            ("http://[::1]:8460/", "[::]:8460"),
            ("http://8.8.4.4:80/", "8.8.4.4:80"),
        ] {
            let said = judged(url, listen, &AllowPrivate::All);
            assert!(said.as_ref().is_err_and(|why| why.contains("own address")), "{url} {said:?}");
        }
        for (url, listen) in [("http://127.0.0.1:8461/", "127.0.0.1:8460"), ("http://10.0.0.1:8460/", "0.0.0.0:8460")] {
            assert!(judged(url, listen, &AllowPrivate::All).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_template_is_judged_by_its_fixed_host() {
        let judge = Judge { listen: &[], network: &network(AllowPrivate::No, &[]) };
        assert!(judge.template("https://t.example/p/{uid}?a={event}&b={data.x").is_ok_and(|url| url.is_some()));
        assert!(judge.template("http://127.1/{uid}").is_err());
        assert!(judge.template("http:\\\\127.1\\{uid}").is_err());
        assert!(judge.template("https://u:p@t.example/{uid}").is_err());
        assert_eq!(judge.template("https://{uid}.example/"), Ok(None));
        assert_eq!(judge.template("{uid}://t.example/"), Ok(None));
    }
}

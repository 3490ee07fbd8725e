//! A proxy a destination is reached through: its address, which anybody may see, and its login, which nobody may.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::secret::Secret;

/// Longest user name and password of SOCKS 5, bytes (RFC 1929).
const SOCKS_LOGIN_BYTES: usize = 255;
const EXAMPLE: &str =
    "write one like \"http://user:password@proxy.example.com:3128\" or \"socks5h://proxy.example.com:1080\"";

/// How a proxy is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyScheme {
    /// HTTP: a tunnel (CONNECT) to https destinations, the whole request for http ones.
    Http,
    /// The same inside TLS.
    Https,
    /// SOCKS 5; names are resolved here, so that their addresses can be judged.
    Socks5,
    /// SOCKS 5; the proxy resolves names.
    Socks5h,
}

/// One proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub scheme: ProxyScheme,
    /// As it stands in a URL: a name in ASCII and lower case, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    pub port: u16,
    pub login: Option<Login>,
}

/// User and password; both are secrets, as user names of proxy providers carry account numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    pub user: Secret,
    pub password: Secret,
}

impl ProxyScheme {
    const ALL: [Self; 4] = [Self::Http, Self::Https, Self::Socks5, Self::Socks5h];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    /// Whether the proxy resolves the destination's name, so that nobody here sees the address.
    pub fn resolves_names(self) -> bool {
        match self {
            Self::Http | Self::Https | Self::Socks5h => true,
            Self::Socks5 => false,
        }
    }

    fn is_socks(self) -> bool {
        match self {
            Self::Http | Self::Https => false,
            Self::Socks5 | Self::Socks5h => true,
        }
    }
}

impl Proxy {
    /// Reads `scheme://[user[:password]@]host:port`, or says what is wrong and what to write instead, without any part
    /// of the text but its scheme.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("does not begin with a scheme; {EXAMPLE}"));
        };
        let scheme = scheme_of(scheme)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let address = authority.rsplit('@').next().unwrap_or_default();
        if address.contains(['/', '?', '#', '\\']) {
            return Err(format!(
                "has more than user, password, host and port (in user and password, @ : / ? # % are written %40 %3A %2F %3F %23 %25); {EXAMPLE}"
            ));
        }
        let digits = address.rsplit_once(':').map_or("", |(_, digits)| digits);
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            let usual = if scheme.is_socks() { "1080" } else { "3128 or 8080" };
            return Err(format!("has no port; add the one your proxy listens on, often {usual}: {EXAMPLE}"));
        }
        // With the scheme of the web, so that host names and addresses are read as they are everywhere else.
        let url = Url::parse(&format!("http://{authority}"))
            .map_err(|error| format!("is not the address of a proxy ({error}; in user and password, @ : / ? # % are written %40 %3A %2F %3F %23 %25); {EXAMPLE}"))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| format!("has no host; {EXAMPLE}"))?;
        let port = url.port_or_known_default().filter(|port| *port != 0);
        let port = port.ok_or_else(|| format!("has port 0; {EXAMPLE}"))?;
        Ok(Self { scheme, host: host.to_owned(), port, login: login(&url, scheme)? })
    }

    /// What may be shown: scheme, host and port.
    pub fn address(&self) -> String {
        format!("{}://{}:{}", self.scheme.as_str(), self.host, self.port)
    }

    /// The whole address with its login, encoded so that every URL parser reads the same; `host` stands in for its own.
    pub fn url_with_host(&self, host: &str) -> Secret {
        let encoded = |secret: &Secret| utf8_percent_encode(secret.expose(), NON_ALPHANUMERIC).to_string();
        let login = self.login.as_ref();
        let login = login.map(|login| format!("{}:{}@", encoded(&login.user), encoded(&login.password)));
        Secret::new(format!("{}://{}{host}:{}", self.scheme.as_str(), login.unwrap_or_default(), self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = if self.login.is_some() { ", with a login" } else { "" };
        write!(f, "Proxy({}{login})", self.address())
    }
}

fn scheme_of(text: &str) -> Result<ProxyScheme, String> {
    let given = text.to_ascii_lowercase();
    if let Some(scheme) = ProxyScheme::ALL.into_iter().find(|scheme| scheme.as_str() == given) {
        return Ok(scheme);
    }
    Err(match given.as_str() {
        "socks4" | "socks4a" => {
            "is a SOCKS 4 proxy, which knows no password and no IPv6; write socks5:// or socks5h:// if it speaks SOCKS 5"
                .to_owned()
        }
        "socks" => "does not say which SOCKS; write socks5h:// (the proxy resolves names) or socks5:// (names are resolved here)".to_owned(),
        _ => format!("has a scheme that is none of http, https, socks5, socks5h; {EXAMPLE}"),
    })
}

fn login(url: &Url, scheme: ProxyScheme) -> Result<Option<Login>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(String::from).map_err(|_| "has a user or password that is not UTF-8; encode them as UTF-8".to_owned())
    };
    let (user, password) = (decoded(url.username())?, decoded(url.password().unwrap_or_default())?);
    if user.is_empty() {
        return Err("has a password and no user; write user:password before the @".to_owned());
    }
    if scheme.is_socks() && user.len().max(password.len()) > SOCKS_LOGIN_BYTES {
        return Err(format!(
            "has a user or password longer than {SOCKS_LOGIN_BYTES} bytes, which SOCKS 5 cannot carry; \
             use a shorter one, or the proxy's http:// address"
        ));
    }
    if scheme.is_socks() && password.is_empty() {
        return Err(
            "has a user and no password, which SOCKS 5 does not know; write user:password before the @".to_owned()
        );
    }
    if !scheme.is_socks() && user.contains(':') {
        return Err("has a user with a colon, which Basic authentication cannot carry; use another user".to_owned());
    }
    Ok(Some(Login { user: Secret::new(user), password: Secret::new(password) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, Option<(String, String)>) {
        let proxy = Proxy::parse(text).unwrap();
        let login = proxy.login.as_ref();
        let login = login.map(|login| (login.user.expose().to_owned(), login.password.expose().to_owned()));
        (proxy.address(), login)
    }

    #[test]
    fn an_address_is_read_in_every_spelling() {
        for (text, address) in [
            ("http://proxy.example.com:80", "http://proxy.example.com:80"),
            ("HTTPS://Proxy.Example.COM:443/", "https://proxy.example.com:443"),
            ("socks5://127.1:1080", "socks5://127.0.0.1:1080"),
            ("socks5h://[::1]:1080", "socks5h://[::1]:1080"),
            ("socks5h://bücher.example:1080", "socks5h://xn--bcher-kva.example:1080"),
        ] {
            assert_eq!(parts(text), (address.to_owned(), None), "{text}");
        }
    }

    #[test]
    fn a_login_is_decoded_and_encoded_again() {
        let (address, login) = parts("http://us%3Fer:p%40ss%3A%2F@h:3128");
        assert_eq!((address.as_str(), login.unwrap()), ("http://h:3128", ("us?er".to_owned(), "p@ss:/".to_owned())));
        assert_eq!(parts("http://user@h:1").1.unwrap(), ("user".to_owned(), String::new()));
        let proxy = Proxy::parse("socks5://a%20b:c%25d@h:1").unwrap();
        assert_eq!(proxy.url_with_host("other").expose(), "socks5://a%20b:c%25d@other:1");
    }

    #[test]
    fn nothing_of_a_login_is_shown() {
        let proxy = Proxy::parse("socks5h://hunter1:hunter2@gate.example.com:7000").unwrap();
        assert_eq!(format!("{proxy:?}"), "Proxy(socks5h://gate.example.com:7000, with a login)");
        assert_eq!(proxy.address(), "socks5h://gate.example.com:7000");
    }

    #[test]
    fn what_is_wrong_is_told_without_the_text() {
        let long = "hunter2".repeat(40);
        for (text, said) in [
            ("hunter2.example.com:3128", "does not begin with a scheme"),
            ("ftp://hunter2:1", "none of http, https, socks5, socks5h"),
            ("socks4://hunter2:1080", "SOCKS 4"),
            ("socks://hunter2:1080", "which SOCKS"),
            ("http://hunter2", "has no port"),
            ("http://u:hunter2@h", "has no port"),
            ("http://u:hunter2@[::1]", "has no port"),
            ("http://u:hunter2@h:0", "has port 0"),
            ("http://u:hunter2@h:70000", "is not the address of a proxy"),
            ("http://u:hunter2@:3128", "is not the address of a proxy"),
            ("http://u:hunter2@h:1/path", "has more than user"),
            ("http://u:hunter2@h:1?q", "has more than user"),
            ("http://u:hunt/er2@h:1", "in user and password"),
            ("http://:hunter2@h:1", "a password and no user"),
            ("socks5://hunter2@h:1", "a user and no password"),
            ("http://hunter%3A2:x@h:1", "a user with a colon"),
            ("http://u%ff:hunter2@h:1", "not UTF-8"),
            (&format!("socks5://u:{long}@h:1"), "longer than 255 bytes"),
        ] {
            let why = Proxy::parse(text).unwrap_err();
            assert!(why.contains(said), "{text}: {why}");
            assert!(!why.contains("hunt"), "{why}");
        }
        assert!(Proxy::parse(&format!("http://u:{long}@h:1")).is_ok(), "only SOCKS has that limit");
    }
}

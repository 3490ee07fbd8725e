//! Lines for what is not HTTP, which is mail: a connection that is made directly, or through the first proxy that makes one.
//!
//! A server of mail speaks first, so that of what comes behind a proxy's own words not a byte may be taken for them; what
//! reqwest speaks to proxies with reads on, and would lose its greeting. Where there is a proxy nothing is ever sent directly.
//! Nobody remembers which proxy failed: a channel speaks seldom, and each message begins with the first one.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_socks::tcp::Socks5Stream;

use super::proxy::phase_in_words;
use super::{resolve, tls};
use crate::config::snapshot::NetworkPolicy;
use crate::domain::net::AllowPrivate;
use crate::domain::proxy::{Proxy, ProxyScheme};

/// A proxy's answer to CONNECT that is longer is none.
const HEAD_BYTES: usize = 8 << 10;
/// The time of a message is shared by this many proxies at most, and by the conversation with the server.
const SHARES_MAX: u32 = 3;

/// Whatever bytes go over.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug> Duplex for S {}

pub(super) type Line = Box<dyn Duplex>;

/// How lines of a channel are opened.
#[derive(Debug)]
pub(super) struct Lines {
    proxies: Vec<Proxy>,
    allow: Arc<AllowPrivate>,
    /// What one proxy gets of the time of a message.
    share: Duration,
}

impl Lines {
    pub(super) fn of(network: &NetworkPolicy) -> Self {
        let shares = u32::try_from(network.proxies.len()).unwrap_or(SHARES_MAX).min(SHARES_MAX);
        let share = network.timeout.to_std() / (shares + 1);
        Self { proxies: network.proxies.clone(), allow: Arc::new(network.allow_private.clone()), share }
    }

    /// A line to `host`, or in words why there is none.
    pub(super) async fn open(&self, host: &str, port: u16) -> Result<Line, String> {
        if self.proxies.is_empty() {
            let address = resolve::one(host, Arc::clone(&self.allow)).await?;
            let stream = TcpStream::connect((address, port)).await;
            let told = |error| format!("cannot connect to the mail server; check host and port ({error})");
            return Ok(Box::new(stream.map_err(told)?));
        }
        let mut complaints = Vec::new();
        for proxy in &self.proxies {
            let opened = timeout(self.share, self.through(proxy, host, port)).await;
            match opened.unwrap_or_else(|_| Err("no connection through it in time".to_owned())) {
                Ok(line) => return Ok(line),
                Err(why) => complaints.push(format!("proxy {}: {why}", proxy.address())),
            }
        }
        Err(complaints.join("; "))
    }

    async fn through(&self, proxy: &Proxy, host: &str, port: u16) -> Result<Line, String> {
        let address = resolve::of_proxy(&proxy.host).await?;
        let stream = TcpStream::connect((address, proxy.port)).await;
        let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
        // Only there are names looked up here, so that their addresses are judged.
        let host = if proxy.scheme.resolves_names() {
            host.to_owned()
        } else {
            resolve::one(host, Arc::clone(&self.allow)).await?.to_string()
        };
        match proxy.scheme {
            ProxyScheme::Http => tunnel(Box::new(stream), proxy, &host, port).await,
            ProxyScheme::Https => {
                let line = inside_tls(Box::new(stream), proxy.host.trim_matches(['[', ']'])).await;
                tunnel(line.map_err(|error| format!("no TLS with it: {error}"))?, proxy, &host, port).await
            }
            ProxyScheme::Socks5 | ProxyScheme::Socks5h => {
                let target = (host.as_str(), port);
                let spoken = match &proxy.login {
                    None => Socks5Stream::connect_with_socket(stream, target).await,
                    Some(login) => {
                        let (user, password) = (login.user.expose(), login.password.expose());
                        Socks5Stream::connect_with_password_and_socket(stream, target, user, password).await
                    }
                };
                // Its words are the library's own; nothing a proxy says is among them.
                Ok(Box::new(
                    spoken.map_err(|error| format!("no connection by SOCKS through it: {error}"))?.into_inner(),
                ))
            }
        }
    }
}

/// Asks a proxy for a tunnel by CONNECT.
async fn tunnel(mut line: Line, proxy: &Proxy, host: &str, port: u16) -> Result<Line, String> {
    let host =
        if host.parse().is_ok_and(|address: IpAddr| address.is_ipv6()) { format!("[{host}]") } else { host.to_owned() };
    let login = proxy.login.as_ref().map_or_else(String::new, |login| {
        let login = BASE64_STANDARD.encode(format!("{}:{}", login.user.expose(), login.password.expose()));
        format!("Proxy-Authorization: Basic {login}\r\n")
    });
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{login}\r\n");
    let asked = async {
        line.write_all(request.as_bytes()).await?;
        line.flush().await?;
        head(&mut line).await
    };
    let head = asked
        .await
        .map_err(|error: io::Error| format!("the connection to it broke before the tunnel stood: {error}"))?;
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)).unwrap_or_default();
    let wrong = match status {
        b"200" => return Ok(line),
        b"407" => "tunnel error: proxy authorization required",
        _ => "tunnel error: unsuccessful",
    };
    Err(phase_in_words(wrong).unwrap_or(wrong).to_owned())
}

/// An answer up to the empty line, and not a byte more.
async fn head(line: &mut Line) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES {
            return Err(io::Error::other("its answer to CONNECT does not end"));
        }
        head.push(line.read_u8().await?);
    }
    Ok(head)
}

/// TLS with a peer whose certificate the system's CAs vouch for under this name.
pub(super) async fn inside_tls(line: Line, name: &str) -> io::Result<Line> {
    tls::install().map_err(io::Error::other)?;
    let config = ClientConfig::builder().with_platform_verifier().map_err(io::Error::other)?;
    let config = config.with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, line).await?))
}

//! Mail: one message, one connection to the operator's own server, nothing kept open. Its address is judged as those of
//! destinations are, and the connection is made to exactly the address that was judged, or by a proxy.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, MessageId};
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message};

use super::line::{self, Line, Lines};
use crate::config::alerts::{Mail, MailTls};
use crate::config::snapshot::NetworkPolicy;
use crate::domain::time::DurationMs;

/// Shown as the sender's name.
const SENDER: &str = "postbackd";

#[derive(Debug)]
pub(super) struct Mailer {
    mail: Mail,
    from: Address,
    to: Vec<Address>,
    lines: Lines,
    timeout: Duration,
}

impl AsyncTokioStream for Line {
    /// Nobody asks, and behind a proxy nobody would know.
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Mailer {
    pub(super) fn build(mail: &Mail, network: &NetworkPolicy) -> Result<Self, String> {
        let address = |text: &String| text.parse::<Address>().map_err(|error| format!("{text} is no address: {error}"));
        Ok(Self {
            from: address(&mail.from)?,
            to: mail.to.iter().map(address).collect::<Result<_, _>>()?,
            mail: mail.clone(),
            lines: Lines::of(network),
            timeout: network.timeout.to_std(),
        })
    }

    /// Sends one message within the channel's timeout.
    pub(super) async fn send(&self, subject: String, body: String) -> Result<(), String> {
        let sending = self.send_at_leisure(subject, body);
        tokio::time::timeout(self.timeout, sending).await.unwrap_or_else(|_| {
            let span = DurationMs(u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX));
            Err(format!(
                "no answer in time ({span}); check host and port: tls = \"tls\" belongs to 465, \"starttls\" to 587, \"none\" to 25"
            ))
        })
    }

    async fn send_at_leisure(&self, subject: String, body: String) -> Result<(), String> {
        let mut message = Message::builder()
            .from(Mailbox::new(Some(SENDER.to_owned()), self.from.clone()))
            .subject(subject)
            .message_id(None)
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            message = message.to(Mailbox::new(None, to.clone()));
        }
        let mut message = message.body(body).map_err(|error| format!("the message cannot be written: {error}"))?;
        self.set_id(&mut message);
        let mut connection = self.connect().await?;
        self.converse(&mut connection, &message).await.map_err(|error| words(&error))?;
        // It was taken; how the goodbye fares is nobody's business.
        connection.quit().await.ok();
        Ok(())
    }

    /// Large receivers refuse a message without an id of its own. It names the sender's domain, and nothing of this machine.
    fn set_id(&self, message: &mut Message) {
        let made = message.headers().get::<MessageId>().map(|id| id.as_ref().to_owned()).unwrap_or_default();
        let random = made.split('@').next().unwrap_or_default();
        message.headers_mut().set(MessageId::from(format!("{random}@{}>", self.from.domain())));
    }

    /// A connection over which everything may be said.
    async fn connect(&self) -> Result<AsyncSmtpConnection, String> {
        // The name of this machine would be nobody's business.
        let hello = ClientId::Domain("postbackd.invalid".to_owned());
        let host = self.mail.host.as_str();
        let line = self.lines.open(host, self.mail.port).await?;
        let greeted = match self.mail.tls {
            MailTls::Tls => {
                let line = line::inside_tls(line, host).await.map_err(|error| no_tls(&error))?;
                AsyncSmtpConnection::connect_with_transport(Box::new(line), &hello).await
            }
            MailTls::None | MailTls::Starttls => {
                AsyncSmtpConnection::connect_with_transport(Box::new(line), &hello).await
            }
        };
        let mut connection = greeted.map_err(|error| words(&error))?;
        if self.mail.tls == MailTls::Starttls {
            let parameters = TlsParameters::new_rustls(host.to_owned());
            let parameters = parameters.map_err(|error| format!("TLS cannot be used: {error}"))?;
            connection.starttls(parameters, &hello).await.map_err(|error| words(&error))?;
        }
        Ok(connection)
    }

    async fn converse(&self, connection: &mut AsyncSmtpConnection, message: &Message) -> Result<(), smtp::Error> {
        if let Some((user, password)) = &self.mail.login {
            let login = Credentials::new(user.expose().to_owned(), password.expose().to_owned());
            connection.auth(DEFAULT_MECHANISMS, &login).await?;
        }
        connection.send(message.envelope(), &message.formatted()).await.map(drop)
    }
}

/// What went wrong, and what to write instead where that is known.
fn words(error: &smtp::Error) -> String {
    let said = causes(error).last().map(ToString::to_string).unwrap_or_default();
    if let Some(code) = error.status() {
        let advice = match u16::from(code) {
            530 | 534 | 535 | 538 => "refuses the login; check username and password",
            400..=499 => "wants to be asked again later",
            _ => "refuses the message; check from and to",
        };
        return format!("the mail server {advice} ({code}: {said})");
    }
    if let Some(fault) = causes(error).find_map(tls_fault) {
        return tls_words(fault);
    }
    match said.as_str() {
        "STARTTLS is not supported on this server" => NO_STARTTLS.to_owned(),
        "No compatible authentication mechanism was found" => NO_LOGIN.to_owned(),
        _ => format!("the mail server breaks off or does not speak SMTP; check host, port and tls ({error})"),
    }
}

/// TLS from the first byte did not come to stand.
fn no_tls(error: &io::Error) -> String {
    match causes(error).find_map(tls_fault) {
        Some(fault) => tls_words(fault),
        None => format!("the mail server breaks off or does not speak TLS; check host, port and tls ({error})"),
    }
}

fn tls_words(fault: &rustls::Error) -> String {
    let is_untrusted = matches!(fault, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented);
    match (is_untrusted, matches!(fault, rustls::Error::InvalidMessage(_))) {
        (true, _) => format!(
            "the mail server's certificate is not to be trusted; host must be a name in it, signed by a CA that this \
             system trusts ({fault})"
        ),
        (false, true) => format!(
            "the mail server speaks no TLS at this port; write tls = \"starttls\" and its port (587), or the port for \
             tls = \"tls\" (465) ({fault})"
        ),
        (false, false) => format!("no TLS with the mail server: {fault}"),
    }
}

const NO_STARTTLS: &str = "the mail server offers no STARTTLS at this port, so nothing was sent; write the port where it does \
                           (587), or tls = \"tls\" and the port for that (465)";
const NO_LOGIN: &str = "the mail server offers no login that can be used (PLAIN, LOGIN); remove username and password where \
                        it needs none";

/// The error, and what it stands on.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next.take()?;
        next = error.source();
        Some(error)
    })
}

fn tls_fault<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let inside = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    inside.downcast_ref::<rustls::Error>()
}

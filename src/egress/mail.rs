//! Mail: one message, one connection to the operator's own server, nothing kept open. Its address is judged as those of
//! destinations are, and the connection is made to exactly the address that was judged.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::resolve;
use crate::config::alerts::{Mail, MailTls};
use crate::config::snapshot::NetworkPolicy;
use crate::domain::net::AllowPrivate;
use crate::domain::time::DurationMs;

/// Shown as the sender's name.
const SENDER: &str = "postbackd";

#[derive(Debug)]
pub(super) struct Mailer {
    mail: Mail,
    from: Address,
    to: Vec<Address>,
    allow: Arc<AllowPrivate>,
    timeout: Duration,
}

impl Mailer {
    pub(super) fn build(mail: &Mail, network: &NetworkPolicy) -> Result<Self, String> {
        let address = |text: &String| text.parse::<Address>().map_err(|error| format!("{text} is no address: {error}"));
        Ok(Self {
            from: address(&mail.from)?,
            to: mail.to.iter().map(address).collect::<Result<_, _>>()?,
            mail: mail.clone(),
            allow: Arc::new(network.allow_private.clone()),
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
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            message = message.to(Mailbox::new(None, to.clone()));
        }
        let message = message.body(body).map_err(|error| format!("the message cannot be written: {error}"))?;
        let host = self.mail.host.as_str();
        let address = resolve::one(host, Arc::clone(&self.allow)).await?;
        let transport = self.transport(address)?;
        transport.send(message).await.map(drop).map_err(|error| words(&error))
    }

    fn transport(&self, address: IpAddr) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
        let parameters = || {
            TlsParameters::new_rustls(self.mail.host.clone()).map_err(|error| format!("TLS cannot be used: {error}"))
        };
        let tls = match self.mail.tls {
            MailTls::Tls => Tls::Wrapper(parameters()?),
            MailTls::Starttls => Tls::Required(parameters()?),
            MailTls::None => Tls::None,
        };
        // The name of this machine would be nobody's business.
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.to_string())
            .hello_name(ClientId::Domain("postbackd.invalid".to_owned()))
            .port(self.mail.port)
            .tls(tls)
            // A moment more than ours, so that it is always ours that tells.
            .timeout(Some(self.timeout + Duration::from_secs(1)));
        if let Some((user, password)) = &self.mail.login {
            builder = builder.credentials(Credentials::new(user.expose().to_owned(), password.expose().to_owned()));
        }
        Ok(builder.build())
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
        let is_untrusted =
            matches!(fault, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented);
        return match (is_untrusted, matches!(fault, rustls::Error::InvalidMessage(_))) {
            (true, _) => format!(
                "the mail server's certificate is not to be trusted; host must be a name in it, signed by a CA that this \
                 system trusts ({fault})"
            ),
            (false, true) => format!(
                "the mail server speaks no TLS at this port; write tls = \"starttls\" and its port (587), or the port for \
                 tls = \"tls\" (465) ({fault})"
            ),
            (false, false) => format!("no TLS with the mail server: {fault}"),
        };
    }
    match said.as_str() {
        "STARTTLS is not supported on this server" => NO_STARTTLS.to_owned(),
        "No compatible authentication mechanism was found" => NO_LOGIN.to_owned(),
        _ if error.to_string().starts_with("Connection error") => {
            format!("cannot connect to the mail server; check host and port ({said})")
        }
        _ => format!("the mail server breaks off or does not speak SMTP; check host, port and tls ({error})"),
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

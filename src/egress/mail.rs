//! Mail: one message, one connection to the operator's own server, nothing kept open. Its address is judged as those of
//! destinations are, and the connection is made to exactly the address that was judged.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::resolve;
use crate::config::alerts::{Mail, MailTls};
use crate::config::snapshot::NetworkPolicy;
use crate::domain::net::AllowPrivate;

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
        tokio::time::timeout(self.timeout, sending).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
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
            .timeout(Some(self.timeout));
        if let Some((user, password)) = &self.mail.login {
            builder = builder.credentials(Credentials::new(user.expose().to_owned(), password.expose().to_owned()));
        }
        Ok(builder.build())
    }
}

/// The error and its causes on one line.
fn words(error: &lettre::transport::smtp::Error) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = inner.source();
    }
    format!("the mail server: {said}")
}

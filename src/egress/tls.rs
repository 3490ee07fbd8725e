//! The one TLS stack: rustls with ring, trust roots from the operating system.
//!
//! reqwest is built without a provider of its own and panics when none is installed, so every client here is finished by
//! `Trust` or by `build_plain`, which install it first.

use std::sync::{Arc, Once};

use reqwest::{Client, ClientBuilder};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls_platform_verifier::Verifier;

/// No provider could be installed; the program cannot speak TLS.
#[derive(Debug, thiserror::Error)]
#[error("the TLS provider (ring) could not be installed; this build of postbackd is broken")]
pub struct TlsError;

/// Installs the process-wide TLS provider. Calling it again, from any thread, does nothing.
pub fn install() -> Result<(), TlsError> {
    static INSTALLED: Once = Once::new();
    // Once, because a second attempt of `install_default` is an error; whether one is in place is asked below.
    INSTALLED.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    CryptoProvider::get_default().map(|_| ()).ok_or(TlsError)
}

/// Whom a client believes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Roots {
    /// The operating system's CA certificates.
    System,
    /// Nobody: this system has no CA certificates. Plain HTTP works, nothing is sent over TLS.
    None,
}

/// Why nothing is sent over TLS, and what to do.
pub const NO_ROOTS: &str = "this system has no CA certificates, so no certificate can be told from a forged one: install the \
                            package ca-certificates";

/// Whether the system has CA certificates, as a client that is built now would find them.
pub fn has_roots() -> Result<bool, String> {
    Trust::read().map(|trust| trust.0.is_some())
}

/// The system's CA certificates as they were at one moment, or that there were none. Read once for all clients of a
/// configuration: it takes some 20 ms and 100 KB, which a thousand destinations would not have to themselves.
#[derive(Clone)]
pub(super) struct Trust(Option<Arc<Verifier>>);

impl Trust {
    pub(super) fn read() -> Result<Self, String> {
        install().map_err(|error| error.to_string())?;
        let provider = CryptoProvider::get_default().ok_or_else(|| TlsError.to_string())?;
        let verifier = Verifier::new(Arc::clone(provider)).inspect_err(|error| {
            tracing::warn!(%error, "No CA certificates: HTTPS destinations wait; install the package ca-certificates.");
        });
        Ok(Self(verifier.ok().map(Arc::new)))
    }

    /// What is in `place`, read where nothing is yet.
    pub(super) fn once(place: &mut Option<Self>) -> Result<&Self, String> {
        match place {
            Some(trust) => Ok(trust),
            none @ None => Ok(none.insert(Self::read()?)),
        }
    }

    /// Finishes a client with these roots, or without any where the system has none.
    pub(super) fn build(&self, builder: ClientBuilder) -> Result<(Client, Roots), String> {
        let Some(verifier) = &self.0 else {
            return build_plain(builder).map(|client| (client, Roots::None));
        };
        let mut config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Verifier>::clone(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = builder.tls_backend_preconfigured(config).build();
        client.map(|client| (client, Roots::System)).map_err(|error| super::error::words(&error))
    }
}

/// Finishes a client that trusts no certificate: for plain HTTP, without reading the system's certificates.
pub(super) fn build_plain(builder: ClientBuilder) -> Result<Client, String> {
    install().map_err(|error| error.to_string())?;
    builder.tls_certs_only([]).build().map_err(|error| super::error::words(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Row 46.
    #[test]
    fn installing_the_provider_twice_is_no_error() {
        assert!(install().is_ok());
        assert!(install().is_ok());
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the builder itself is what is tested")]
    fn all_clients_of_a_configuration_share_what_was_read_once() {
        let trust = Trust::read().unwrap();
        // As ours are: one that looks for proxies of the environment keeps its settings twice.
        let clients = [(); 3].map(|()| trust.build(Client::builder().no_proxy()).unwrap());
        let wanted = if has_roots().unwrap() { Roots::System } else { Roots::None };
        assert!(clients.iter().all(|(_, roots)| *roots == wanted));
        if let Some(verifier) = &trust.0 {
            assert_eq!(Arc::strong_count(verifier), 4, "each has the same, and none a copy");
        }
    }

    // Row 46.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "the builder itself is what is tested")]
    fn a_client_without_trust_roots_can_be_built() {
        assert!(build_plain(Client::builder()).is_ok());
    }
}

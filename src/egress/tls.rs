//! The one TLS stack: rustls with ring, trust roots from the operating system.
//!
//! reqwest is built without a provider of its own and panics when none is installed, so every client here is finished by
//! `build`, which installs it first.

use std::sync::Once;

use reqwest::{Client, ClientBuilder};

/// No provider could be installed; the program cannot speak TLS.
#[derive(Debug, thiserror::Error)]
#[error("the TLS provider (ring) could not be installed; this build of postbackd is broken")]
pub struct TlsError;

/// Installs the process-wide TLS provider. Calling it again, from any thread, does nothing.
pub fn install() -> Result<(), TlsError> {
    static INSTALLED: Once = Once::new();
    // Once, because a second attempt of `install_default` is an error; whether one is in place is asked below.
    INSTALLED.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    rustls::crypto::CryptoProvider::get_default().map(|_| ()).ok_or(TlsError)
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
    #[allow(clippy::disallowed_methods, reason = "it is never sent anything")]
    build(Client::builder).map(|(_, roots)| roots == Roots::System)
}

/// Finishes a client with the system's trust roots, or without any where the system has none.
pub(super) fn build(builder: impl Fn() -> ClientBuilder) -> Result<(Client, Roots), String> {
    install().map_err(|error| error.to_string())?;
    match builder().build() {
        Ok(client) => Ok((client, Roots::System)),
        Err(error) => match build_plain(builder()) {
            Ok(client) => {
                tracing::warn!(
                    error = %super::error::words(&error),
                    "No CA certificates: HTTPS destinations wait; install the package ca-certificates."
                );
                Ok((client, Roots::None))
            }
            // Not the roots, then: the first error is the one that matters.
            Err(_) => Err(super::error::words(&error)),
        },
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

    // Row 46.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "the builder itself is what is tested")]
    fn a_client_without_trust_roots_can_be_built() {
        assert!(build_plain(Client::builder()).is_ok());
    }
}

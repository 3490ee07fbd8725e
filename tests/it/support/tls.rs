//! TLS before something that speaks none: it ends here, and the bytes go on to another address.
//!
//! The certificate in `fixtures` is good for `localhost`, `hooks.example.com` and `127.0.0.1`, from 2020 to 2100, and
//! signed by one of the two CAs in `ca.pem`, which every daemon under test trusts (and nothing else). The CAs' own keys
//! were thrown away. Of the second are `expired.pem` (ended in 2021) and `elsewhere.pem` (for another name);
//! `self-signed.pem` is nobody's. All have the same key.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// What speaks TLS for a server with this certificate.
pub fn acceptor(certificate: &[u8]) -> TlsAcceptor {
    postbackd::egress::tls::install().unwrap();
    let certificate = CertificateDer::from_pem_slice(certificate).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../fixtures/server.key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A running front; gone, with all its connections, when dropped.
#[derive(Debug)]
pub struct TlsFront {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl TlsFront {
    pub async fn start(behind: SocketAddr) -> Self {
        Self::with(include_bytes!("../fixtures/server.pem"), behind).await
    }

    /// As [`TlsFront::start`], with another certificate of the same key.
    pub async fn with(certificate: &[u8], behind: SocketAddr) -> Self {
        let acceptor = acceptor(certificate);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    // A peer that does not trust the certificate goes away: what some tests want.
                    let Ok(mut outside) = acceptor.accept(stream).await else { return };
                    let Ok(mut inside) = TcpStream::connect(behind).await else { return };
                    copy_bidirectional(&mut outside, &mut inside).await.unwrap_or_default();
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

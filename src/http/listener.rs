//! What connections come in through: TCP, or a Unix socket.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::pipeline::pulse::Probe;

/// A socket that listens already.
#[derive(Debug)]
pub enum Socket {
    Tcp(std::net::TcpListener),
    Unix(StdUnixListener),
}

impl From<std::net::TcpListener> for Socket {
    fn from(socket: std::net::TcpListener) -> Self {
        Self::Tcp(socket)
    }
}

impl From<StdUnixListener> for Socket {
    fn from(socket: StdUnixListener) -> Self {
        Self::Unix(socket)
    }
}

/// A socket for [`super::serve`], whose task can be asked whether it still turns.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    probes: mpsc::Receiver<Probe>,
}

/// Where the task behind a [`Listener`] is asked.
pub type Probes = mpsc::Sender<Probe>;

impl Listener {
    pub fn new(socket: Socket) -> (Self, Probes) {
        let (ask, probes) = mpsc::channel(1);
        (Self { socket, probes }, ask)
    }

    pub(super) fn open(self) -> std::io::Result<Open> {
        let socket = match self.socket {
            Socket::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                OpenSocket::Tcp(TcpListener::from_std(socket)?)
            }
            Socket::Unix(socket) => {
                socket.set_nonblocking(true)?;
                OpenSocket::Unix(UnixListener::from_std(socket)?)
            }
        };
        Ok(Open { socket, probes: self.probes })
    }
}

/// A [`Listener`] that the runtime knows.
pub(super) struct Open {
    pub(super) socket: OpenSocket,
    pub(super) probes: mpsc::Receiver<Probe>,
}

pub(super) enum OpenSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection.
pub(super) enum Accepted {
    Net(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl OpenSocket {
    pub(super) async fn accept(&self) -> std::io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => socket.accept().await.map(|(stream, address)| Accepted::Net(stream, address)),
            Self::Unix(socket) => socket.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}

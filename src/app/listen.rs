//! Where connections come in: sockets that the service manager passed, else those that the configuration names.
//!
//! A passed socket outlives us: while we restart, the kernel keeps the connections that come in meanwhile, and nobody is
//! refused. Where one was passed, `server.listen` opens nothing.
//!
//! The file of a Unix socket outlives a crash. It is removed at the next start where nobody answers behind it, and never
//! where somebody does; between looking and binding the directory is locked, so that of two starts at once only one does.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use listenfd::ListenFd;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt,
};
use tracing::{debug, info};

use crate::config::snapshot::{Server, Snapshot};
use crate::http::{Listener, Probes, Socket};

/// Connections that may wait to be taken; Linux cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What the service manager passed, if anything (`LISTEN_FDS`).
pub struct Passed(ListenFd);

impl std::fmt::Debug for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Passed({})", self.0.len())
    }
}

impl Passed {
    /// Takes it out of the environment, so that nobody we start mistakes it for their own: call it while there is but one
    /// thread.
    pub fn take() -> Self {
        Self(ListenFd::from_env())
    }

    /// The passed sockets; empty where there are none.
    ///
    /// # Errors
    /// Where one of them cannot be listened on.
    fn sockets(mut self) -> anyhow::Result<Vec<Socket>> {
        (0..self.0.len()).map(|index| self.socket(index)).collect()
    }

    fn socket(&mut self, index: usize) -> anyhow::Result<Socket> {
        let advice = || {
            format!(
                "socket {} that the service manager passed is none to take connections from; \
                 write ListenStream= and Accept=no into the .socket unit",
                index + 1
            )
        };
        let tcp = self.0.take_tcp_listener(index).ok().flatten().map(Socket::Tcp);
        let unix = || self.0.take_unix_listener(index).ok().flatten().map(Socket::Unix);
        let socket = tcp.or_else(unix).with_context(advice)?;
        let listens = match &socket {
            Socket::Tcp(socket) => sockopt::socket_acceptconn(socket),
            Socket::Unix(socket) => sockopt::socket_acceptconn(socket),
        };
        if !listens.unwrap_or(false) {
            bail!(advice());
        }
        Ok(socket)
    }
}

/// Sockets that listen.
#[derive(Debug)]
pub(super) struct Listening {
    pub listeners: Vec<Listener>,
    /// Where the tasks behind the listeners are asked whether they turn, by address.
    pub probes: Vec<(String, Probes)>,
    /// Our own sockets' files, which go with us: drop them after the listeners.
    pub files: Vec<SocketFile>,
}

impl Listening {
    /// Opens what has to be opened, and has `snapshot` say what is open.
    ///
    /// # Errors
    /// Where an address or path cannot be listened on; the text says what to do.
    pub(super) fn open(passed: Passed, snapshot: &mut Snapshot) -> anyhow::Result<Self> {
        let mut open = Self { listeners: Vec::new(), probes: Vec::new(), files: Vec::new() };
        let passed = passed.sockets()?;
        if passed.is_empty() {
            open.configured(&snapshot.server)?;
        } else {
            open.passed(passed, &mut snapshot.server)?;
        }
        Ok(open)
    }

    fn configured(&mut self, server: &Server) -> anyhow::Result<()> {
        for address in &server.listen {
            let listener = TcpListener::bind(address)
                .map_err(|error| anyhow!("cannot listen on {address}: {error}; {}", what_to_do(&error)))?;
            let address = listener.local_addr()?;
            info!(%address, "Listening.");
            self.add(address.to_string(), listener.into());
        }
        for path in &server.sockets {
            let (listener, file) = bind_unix(path, server.socket_mode)
                .with_context(|| format!("cannot listen on unix:{}", path.display()))?;
            info!(path = %path.display(), mode = format!("{:04o}", server.socket_mode), "Listening.");
            self.files.push(file);
            self.add(format!("unix:{}", path.display()), listener.into());
        }
        Ok(())
    }

    fn passed(&mut self, sockets: Vec<Socket>, server: &mut Server) -> anyhow::Result<()> {
        let (mut addresses, mut paths): (Vec<SocketAddr>, Vec<PathBuf>) = (Vec::new(), Vec::new());
        for socket in sockets {
            let name = match &socket {
                Socket::Tcp(socket) => {
                    let address = socket.local_addr()?;
                    addresses.push(address);
                    address.to_string()
                }
                Socket::Unix(socket) => {
                    let path = socket.local_addr()?.as_pathname().map(Path::to_path_buf);
                    let name =
                        path.as_ref().map_or_else(|| "unix:".to_owned(), |path| format!("unix:{}", path.display()));
                    paths.extend(path);
                    name
                }
            };
            info!(address = %name, "Listening on a socket that the service manager passed.");
            self.add(name, socket);
        }
        server.hand_over(addresses, paths);
        match server.exposed() {
            Some(problem) => bail!(problem),
            None => Ok(()),
        }
    }

    fn add(&mut self, address: String, socket: Socket) {
        let (listener, probes) = Listener::new(socket);
        self.listeners.push(listener);
        self.probes.push((address, probes));
    }
}

/// The file of a socket of ours. It is removed when this goes, which has to be after the socket: where somebody answers
/// behind it, it is a successor's by then. (The number of its inode would not tell; they are used again.)
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever has the lock is about to start there, and removes it.
        let Ok(_lock) = lock(&self.0) else { return };
        if let Err(error) = clear(&self.0) {
            debug!(path = %self.0.display(), error = format!("{error:#}"), "The socket's file stays.");
        }
    }
}

/// Nobody can connect before the permissions are set: the socket listens only after that.
fn bind_unix(path: &Path, mode: u32) -> anyhow::Result<(UnixListener, SocketFile)> {
    let lock = lock(path)?;
    clear(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?).context("the socket's file cannot be made")?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).context("the socket's permissions cannot be set")?;
    listen(&socket, BACKLOG)?;
    drop(lock);
    Ok((UnixListener::from(socket), SocketFile(path.to_path_buf())))
}

/// Held while the file is looked at, removed or made.
fn lock(path: &Path) -> anyhow::Result<File> {
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    let directory = File::open(parent).with_context(|| {
        let parent = parent.display();
        format!("its directory {parent} cannot be opened; make it, or write RuntimeDirectory= into the systemd unit")
    })?;
    flock(&directory, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("{} is locked; is another postbackd just starting?", parent.display()))?;
    Ok(directory)
}

/// Removes what a crash left behind.
fn clear(path: &Path) -> anyhow::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        bail!("there is a file of that name that is no socket; remove it, or write another path");
    }
    let probe =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => {
            debug!(path = %path.display(), "Removing the file of a socket that nobody answers behind.");
            fs::remove_file(path).context("the socket's file of a daemon that is gone cannot be removed")
        }
        Err(Errno::NOENT) => Ok(()),
        // Its queue is full: somebody has it.
        Ok(()) | Err(Errno::AGAIN) => bail!("a program listens there already; is postbackd running?"),
        Err(error) => {
            Err(error).context("whether a program listens there already cannot be told; remove the file by hand")
        }
    }
}

/// What an operator does about an address that cannot be had.
fn what_to_do(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        "is postbackd running already, or does another program use this address?"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "ports below 1024 are for privileged programs: write another into server.listen, with a reverse proxy before it"
    } else if error.kind() == io::ErrorKind::AddrNotAvailable {
        "no interface of this machine has this address: write one into server.listen that `ip address` shows"
    } else {
        "write another address into server.listen"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn refused(path: &Path) -> String {
        format!("{:#}", bind_unix(path, 0o660).unwrap_err())
    }

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        for wanted in [0o660, 0o600, 0o666] {
            let (listener, file) = bind_unix(&path, wanted).unwrap();
            assert_eq!(mode(&path), wanted);
            drop(listener);
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_a_crash_left_is_replaced_and_what_lives_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "its file outlives it");
        let (listener, file) = bind_unix(&path, 0o660).unwrap();
        assert!(refused(&path).contains("listens there already"), "{}", refused(&path));
        assert!(UnixStream::connect(&path).is_ok(), "who lives goes on");
        // A queue that is full is no sign of death. As one can connect to it, so often that it is.
        let full = UnixListener::bind(dir.path().join("full.sock")).unwrap();
        listen(&full, 0).unwrap();
        let waiting: Vec<_> = (0..1).map(|_| UnixStream::connect(dir.path().join("full.sock")).unwrap()).collect();
        assert!(refused(&dir.path().join("full.sock")).contains("listens there already"));
        drop(waiting);
        drop(listener);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn an_address_that_cannot_be_had_is_told_with_the_way_out() {
        let told = |error: Errno| what_to_do(&error.into());
        assert!(told(Errno::ADDRINUSE).contains("running already"));
        for (error, words) in [(Errno::ACCESS, "below 1024"), (Errno::ADDRNOTAVAIL, "no interface")] {
            assert!(told(error).contains(words) && !told(error).contains("running already"), "{error}");
        }
    }

    #[test]
    fn the_file_of_a_successor_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let (listener, file) = bind_unix(&path, 0o660).unwrap();
        drop(listener);
        let (_successor, theirs) = bind_unix(&path, 0o660).unwrap();
        drop(file);
        assert!(UnixStream::connect(&path).is_ok());
        drop(theirs);
    }

    #[test]
    fn other_files_and_missing_directories_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("precious");
        fs::write(&file, "text").unwrap();
        assert!(refused(&file).contains("no socket"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        let nowhere = refused(&dir.path().join("missing/api.sock"));
        assert!(nowhere.contains("RuntimeDirectory="), "{nowhere}");
        let _held = lock(&file).unwrap();
        assert!(refused(&dir.path().join("new.sock")).contains("is locked"));
    }
}

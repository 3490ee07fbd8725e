//! Connections: accepting, bounding and ending them.
//!
//! HTTP/1.1 only. Limits: [`Slots`] of connections, [`HEAD_BYTES`] and [`HEAD_TIME`] for a head (an idle connection
//! is closed after the same time), [`UNREAD_MS`] for an answer that nobody takes. At shutdown no new connection is taken, idle ones close at once, requests in flight
//! are finished within `server.drain`.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Duration, sleep, timeout};

use super::AppState;
use super::auth::Peer;
use super::framing::{Contradiction, Watched};
use super::listener::{Accepted, Listener, Open, OpenSocket};
use super::problem::Problem;

/// Connections at the same time; more wait in the kernel's queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slots {
    /// Over TCP, all listeners together.
    pub network: usize,
    /// Over Unix sockets. They have their own, so that an operator gets in there however many senders there are.
    pub local: usize,
}

/// Request line and headers together, bytes; `GET /e` carries its event there.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
/// From the first byte awaited to the end of a head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Pause after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A client that takes nothing of its answer, or does not say that it got it, for so long is cut off, milliseconds.
const UNREAD_MS: u32 = 20_000;
/// At shutdown, a connection that has only just come in may still say what it came for: its request is under way, and
/// whoever takes over the listening socket will never see this connection.
const FIRST_REQUEST: Duration = Duration::from_millis(500);

/// Serves until `shutdown` is ready, then finishes what is in flight.
pub async fn serve(
    listeners: Vec<Listener>,
    slots: Slots,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let pipeline = state.pipeline.clone();
    run(listeners, super::router(state), slots, shutdown, || pipeline.snapshot().server.drain.to_std()).await
}

async fn run(
    listeners: Vec<Listener>,
    router: Router,
    slots: Slots,
    shutdown: impl Future<Output = ()>,
    drain: impl FnOnce() -> Duration,
) -> std::io::Result<()> {
    let (network, local) = (Arc::new(Semaphore::new(slots.network)), Arc::new(Semaphore::new(slots.local)));
    let (stop, stopping) = watch::channel(false);
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        let listener = listener.open()?;
        let slots = match listener.socket {
            OpenSocket::Tcp(_) => Arc::clone(&network),
            OpenSocket::Unix(_) => Arc::clone(&local),
        };
        acceptors.spawn(accept(listener, slots, router.clone(), stopping.clone()));
    }
    shutdown.await;
    stop.send_replace(true);
    let finish = async { while acceptors.join_next().await.is_some() {} };
    if timeout(drain(), finish).await.is_err() {
        tracing::warn!("Some requests were not finished in time; their connections are cut (server.drain).");
    }
    acceptors.shutdown().await;
    Ok(())
}

/// Accepts until stopped, then waits for its connections.
async fn accept(listener: Open, slots: Arc<Semaphore>, router: Router, mut stopping: watch::Receiver<bool>) {
    let Open { socket, mut probes } = listener;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut stopping) => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            Some(probe) = probes.recv() => probe.answer(),
            accepted = next(&socket, &slots) => match accepted {
                Ok((slot, Accepted::Net(stream, address))) => {
                    if let Err(error) = prepare(&stream) {
                        tracing::debug!(%error, "A connection's options could not be set.");
                    }
                    let peer = Peer::Net(address);
                    connections.spawn(connection(slot, stream, peer, router.clone(), stopping.clone()));
                }
                Ok((slot, Accepted::Unix(stream))) => {
                    connections.spawn(connection(slot, stream, Peer::Unix, router.clone(), stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "A connection could not be accepted.");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(socket);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_tcp_user_timeout(stream, UNREAD_MS)?;
    Ok(())
}

async fn next(socket: &OpenSocket, slots: &Arc<Semaphore>) -> std::io::Result<(OwnedSemaphorePermit, Accepted)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    Ok((slot, socket.accept().await?))
}

/// Ready once the daemon is stopping; or whatever else turned true.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    stopping.wait_for(|stop| *stop).await.map(|_| ()).unwrap_or_default();
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "A connection ended by a defect of ours; the others go on.");
    }
}

async fn connection(
    slot: OwnedSemaphorePermit,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let (stream, contradiction) = Watched::new(stream);
    let router = TowerToHyperService::new(router);
    let (asked, mut first_request) = watch::channel(false);
    let service = service_fn(move |request| {
        asked.send_replace(true);
        answer(router.clone(), request, peer, Arc::clone(&contradiction))
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_header_size(HEAD_BYTES)
            .max_headers(HEADERS_MAX)
            // A client may close its side and still wait for the answer.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            let first = timeout(FIRST_REQUEST, stopped(&mut first_request));
            tokio::select! {
                ended = connection.as_mut() => ended,
                _ = first => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "A connection ended early.");
    }
    drop(slot);
}

/// One request. A connection ends with a chunked one: see [`super::framing`].
async fn answer(
    router: TowerToHyperService<Router>,
    mut request: Request<Incoming>,
    peer: Peer,
    contradiction: Contradiction,
) -> Result<Response, std::convert::Infallible> {
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    if chunked && contradiction.load(Ordering::Acquire) {
        return Ok(contradicting_lengths().into_response());
    }
    request.extensions_mut().insert(peer);
    let mut response = router.call(request).await?;
    super::plain_headers(response.headers_mut());
    if chunked {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn contradicting_lengths() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "two_lengths",
        "The request has two lengths",
        "Content-Length and Transfer-Encoding contradict each other; send only one of them",
    )
    .closing()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use axum::body::Bytes;
    use axum::extract::Request;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{Notify, oneshot};

    use super::*;

    const SLOTS: Slots = Slots { network: 100, local: 10 };

    /// A running server with a few handlers of its own.
    struct Server {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        ended: tokio::task::JoinHandle<std::io::Result<()>>,
    }

    fn start(router: Router, drain: Duration) -> Server {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (listener, _) = Listener::new(listener.into());
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or_default() };
        Server { address, stop, ended: tokio::spawn(run(vec![listener], router, SLOTS, shutdown, move || drain)) }
    }

    fn echo() -> Router {
        let peer = |request: Request| async move {
            let peer = request.extensions().get::<Peer>().copied();
            let ip = if let Some(Peer::Net(address)) = peer { Some(address.ip()) } else { None };
            format!("from loopback: {}", ip == Some(Ipv4Addr::LOCALHOST.into()))
        };
        Router::new().route("/", post(|body: Bytes| async move { body }).get(peer))
    }

    /// Sends `text` and reads until the connection ends.
    async fn exchange(address: SocketAddr, text: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn two_lengths_are_refused_and_the_connection_is_closed() {
        let server = start(echo(), Duration::ZERO);
        let smuggled = "0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for lengths in
            ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"]
        {
            let text = format!("POST / HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n{smuggled}");
            let answer = exchange(server.address, &text).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            assert!(answer.contains("two_lengths") && !answer.contains("from loopback"), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_connection_ends_with_a_chunked_request() {
        let server = start(echo(), Duration::ZERO);
        let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let answer = exchange(server.address, &format!("{get}{chunked}{get}")).await;
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
        assert!(answer.contains("from loopback: true") && answer.ends_with("abc"), "{answer}");
    }

    /// A handler that says when it was asked and answers when it may.
    fn held_back(begun: &Arc<Notify>, go: &Arc<Notify>) -> Router {
        let (begun, go) = (Arc::clone(begun), Arc::clone(go));
        let handler = || async move {
            begun.notify_one();
            go.notified().await;
            "done"
        };
        echo().route("/slow", axum::routing::get(handler))
    }

    #[tokio::test]
    async fn a_client_that_closed_its_side_still_gets_its_answer() {
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let server = start(held_back(&begun, &go), Duration::ZERO);
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        begun.notified().await;
        stream.shutdown().await.unwrap();
        // Once a later connection is served, the server has seen that this side is closed.
        exchange(server.address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        go.notify_one();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
    }

    #[tokio::test]
    async fn shutdown_finishes_what_is_in_flight_and_takes_nothing_new() {
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let server = start(held_back(&begun, &go), Duration::from_mins(1));
        let mut idle = TcpStream::connect(server.address).await.unwrap();
        let request = tokio::spawn(exchange(server.address, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"));
        begun.notified().await;
        server.stop.send(()).unwrap();
        let mut nothing = Vec::new();
        idle.read_to_end(&mut nothing).await.unwrap();
        assert!(nothing.is_empty(), "an idle connection is closed soon");
        assert!(TcpStream::connect(server.address).await.is_err(), "nothing new is taken");
        go.notify_one();
        assert!(request.await.unwrap().ends_with("done"));
        server.ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_has_just_come_in_at_shutdown_is_still_answered() {
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let server = start(held_back(&begun, &go), Duration::from_mins(1));
        let mut fresh = TcpStream::connect(server.address).await.unwrap();
        // Once a later connection is served, the first one is taken, too.
        exchange(server.address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        server.stop.send(()).unwrap();
        while TcpStream::connect(server.address).await.is_ok() {}
        // Its request is on its way for so long.
        sleep(Duration::from_millis(50)).await;
        fresh.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        fresh.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        server.ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_does_not_end_is_cut_when_the_drain_is_over() {
        let (begun, never) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let server = start(held_back(&begun, &never), Duration::ZERO);
        let request = tokio::spawn(exchange(server.address, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"));
        begun.notified().await;
        server.stop.send(()).unwrap();
        server.ended.await.unwrap().unwrap();
        assert_eq!(request.await.unwrap(), "");
    }
}

//! The HTTP side of the sink: takes connections, asks [`Behaviour`] about each request, keeps a [`Record`] of it.
//!
//! A record is made before the answer leaves, so that whoever got an answer finds the request recorded. Dropping or
//! stopping the sink closes every connection at once.

use std::fs::{File, OpenOptions};
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::faults::{Answer, Behaviour};
use super::record::Record;
use crate::domain::time::DurationMs;
use crate::env::clock::{Clock, SystemClock};

/// Connections at once; the next waits until one ends.
const CONNECTIONS: usize = 1024;
/// Bytes of a request body; more is answered 413.
const BODY_BYTES: usize = 16 * 1024 * 1024;

/// What a sink is started with.
#[derive(Debug)]
pub struct Options {
    pub listen: SocketAddr,
    pub behaviour: Behaviour,
    /// Appended to, one JSON object per line.
    pub record: Option<PathBuf>,
    /// Requests kept in memory for [`Sink::received`]; later ones are not kept.
    pub keep: usize,
    /// Where every request is told; full means that nobody is told of this one.
    pub tell: Option<mpsc::Sender<Record>>,
}

/// A running sink.
#[derive(Debug)]
pub struct Sink {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    keep: usize,
    tell: Option<mpsc::Sender<Record>>,
    clock: SystemClock,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    /// Requests since the behaviour was set.
    requests: u64,
    kept: Vec<Record>,
    file: Option<File>,
}

/// Why a request gets no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("the connection is reset on purpose")]
    Reset,
}

type Answered = Result<Response<Full<Bytes>>, NoAnswer>;

impl Sink {
    /// Listens and serves until it is stopped or dropped.
    pub async fn start(options: Options) -> io::Result<Self> {
        let file = match &options.record {
            Some(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
            None => None,
        };
        let listener = TcpListener::bind(options.listen).await?;
        let addr = listener.local_addr()?;
        let state = State { behaviour: options.behaviour, requests: 0, kept: Vec::new(), file };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            keep: options.keep,
            tell: options.tell,
            clock: SystemClock::new(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { addr, shared, task })
    }

    /// From now on requests are treated so; the count of requests starts anew.
    pub fn behave(&self, behaviour: Behaviour) {
        let mut state = self.shared.lock();
        state.behaviour = behaviour;
        state.requests = 0;
    }

    /// What has come in so far, oldest first.
    pub fn received(&self) -> Vec<Record> {
        self.shared.lock().kept.clone()
    }

    /// Closes everything and waits until it is closed.
    pub async fn stop(mut self) {
        self.task.abort();
        // Cancelled is what it was asked to be.
        (&mut self.task).await.ok();
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// A record is written whole or not at all under this lock, so a poisoned one still holds sound values.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about a request and keeps it.
    fn take(&self, mut record: Record) -> io::Result<(Record, Behaviour)> {
        let mut state = self.lock();
        record.answer = state.behaviour.decide(state.requests);
        state.requests = state.requests.saturating_add(1);
        if state.kept.len() < self.keep {
            state.kept.push(record.clone());
        }
        if let Some(file) = &mut state.file {
            file.write_all(format!("{}\n", record.to_json()).as_bytes())?;
        }
        if let Some(tell) = &self.tell {
            // A terminal that is slower than the requests misses some; the file misses none.
            tell.try_send(record.clone()).ok();
        }
        Ok((record, state.behaviour.clone()))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
            // A connection that was gone before it was taken, or no file handles for now: the next may do better.
            Err(_) => tokio::time::sleep(DurationMs(20).to_std()).await,
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).ok();
    let service = service_fn(move |request| -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        let shared = Arc::clone(&shared);
        Box::pin(async move { answer(request, &shared).await })
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let ended = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let mut stream = connection.into_parts().io.into_inner();
    match ended {
        Ok(()) => {
            stream.shutdown().await.ok();
        }
        // Whatever else ended the connection, there is nobody left to be polite to.
        Err(_) => {
            stream.set_zero_linger().ok();
        }
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Answered {
    let at = shared.clock.now();
    let (head, body) = request.into_parts();
    let Ok(body) = pin!(Limited::new(body, BODY_BYTES).collect()).await else {
        return Ok(respond(413, "text/plain", format!("the body ends early or has more than {BODY_BYTES} bytes\n")));
    };
    let path = head.uri.path_and_query().map_or_else(|| head.uri.path().to_owned(), ToString::to_string);
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let record = Record {
        at,
        method: head.method.to_string(),
        path,
        headers: head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        answer: Answer::Hang,
    };
    let (record, behaviour) = match shared.take(record) {
        Ok(taken) => taken,
        Err(error) => return Ok(respond(500, "text/plain", format!("the record cannot be written: {error}\n"))),
    };
    tokio::time::sleep(behaviour.delay.to_std()).await;
    match record.answer {
        Answer::Reset => Err(NoAnswer::Reset),
        Answer::Hang => std::future::pending().await,
        Answer::Status(status) => Ok(reply(status, &record, behaviour)),
    }
}

fn reply(status: u16, record: &Record, behaviour: Behaviour) -> Response<Full<Bytes>> {
    let Behaviour { answer, retry_after, status: normal, .. } = behaviour;
    let meta = record.meta_answer().filter(|_| (200..300).contains(&status));
    let mut response = match (answer.filter(|_| status == normal), meta, status) {
        (Some(text), ..) => respond(status, "text/plain", text),
        (None, Some(body), _) => respond(status, "application/json", body.to_string()),
        (None, None, 200..300) => respond(status, "text/plain", "ok\n".to_owned()),
        (None, None, _) => respond(status, "text/plain", format!("the sink was told to answer {status}\n")),
    };
    if let (Some(seconds), 429 | 503) = (retry_after, status) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn respond(status: u16, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::io::AsyncReadExt;

    async fn sink(behaviour: Behaviour) -> Sink {
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        Sink::start(Options { listen, behaviour, record: None, keep: 10, tell: None }).await.unwrap()
    }

    /// Sends one request and reads to the end of the connection.
    async fn exchange(sink: &Sink, path: &str, body: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(sink.addr).await?;
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: sink\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_request_is_answered_and_kept_as_it_came() {
        let sink = sink(Behaviour::default()).await;
        let answer = exchange(&sink, "/hook?a=%20", "body").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let records = sink.received();
        assert_eq!(records.len(), 1);
        assert_eq!((records[0].path.as_str(), records[0].body.as_str()), ("/hook?a=%20", "body"));
        assert_eq!(records[0].header("host"), Some("sink"));
        sink.stop().await;
    }

    #[tokio::test]
    async fn meta_is_answered_with_the_number_of_its_events() {
        let sink = sink(Behaviour::default()).await;
        let answer = exchange(&sink, "/v26.0/1/events", r#"{"data":[{},{}]}"#).await.unwrap();
        assert!(answer.contains(r#""events_received":2"#), "{answer}");
    }

    #[tokio::test]
    async fn a_told_answer_is_that_of_every_request_that_does_not_fail() {
        let told = Behaviour { answer: Some("success=true;".to_owned()), ..Behaviour::default() };
        let sink = sink(Behaviour { fail: vec!["1:500".parse().unwrap()], ..told }).await;
        let failed = exchange(&sink, "/", "").await.unwrap();
        assert!(failed.ends_with("the sink was told to answer 500\n"), "{failed}");
        let taken = exchange(&sink, "/", "{\"data\":[{}]}").await.unwrap();
        assert!(taken.ends_with("\r\n\r\nsuccess=true;"), "{taken}");
    }

    #[tokio::test]
    async fn failures_carry_retry_after_and_end_when_the_behaviour_changes() {
        let sink = sink(Behaviour { retry_after: Some(7), ..Behaviour::always(503) }).await;
        let answer = exchange(&sink, "/", "").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 7"), "{answer}");
        sink.behave(Behaviour::always(204));
        assert!(exchange(&sink, "/", "").await.unwrap().starts_with("HTTP/1.1 204 "));
    }

    #[tokio::test]
    async fn a_reset_is_a_reset_and_is_kept() {
        let sink = sink(Behaviour { reset: 1.0, ..Behaviour::default() }).await;
        let error = exchange(&sink, "/", "x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(sink.received()[0].answer, Answer::Reset);
    }

    #[tokio::test]
    async fn a_hanging_request_ends_with_the_sink() {
        let sink = Arc::new(sink(Behaviour { hang: 1.0, ..Behaviour::default() }).await);
        let waiting = tokio::spawn({
            let sink = Arc::clone(&sink);
            async move { exchange(&sink, "/", "x").await }
        });
        while sink.received().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        sink.task.abort();
        // Closed or reset, but over and without an answer.
        assert!(waiting.await.unwrap().is_ok_and(|answer| answer.is_empty()));
    }
}

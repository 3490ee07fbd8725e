//! A receiver that behaves like the Conversions API of Meta (platforms.md 1): it takes up to 1000 events in one request,
//! refuses the whole request for one bad or old event, answers with the bodies of the error table, and counts an event once
//! by its name and id for 48 hours. It can be told to have trouble now and then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub const PIXEL: &str = "1234567890";
pub const TOKEN: &str = "meta-token-0123456789";

const EVENTS_MAX: usize = 1000;
const DAY: u64 = 86_400;
const WINDOW: u64 = 7 * DAY;
const WINDOW_STORE: u64 = 62 * DAY;
const DEDUPE: Duration = Duration::from_hours(48);

/// A content id that only the receiver knows to be wrong: nobody who sends it can see it.
pub const BANNED: &str = "sku-recalled";

/// Trouble with one request, whatever is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// HTTP 500 with an error body.
    Down,
    /// A page of somebody between us.
    Html,
    /// The token is refused (190), with HTTP 500 as Meta does.
    Token,
    /// The app's call limit (4), with HTTP 400.
    Limit,
    /// A bad parameter that is none: code 100 with `is_transient`.
    Passing,
    /// A code nobody has described.
    Unknown,
    /// Everything is taken and counted, and the answer is lost.
    Lost,
}

/// One request as it was answered.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Ids of the events in it.
    pub ids: Vec<String>,
    pub said: Said,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    Taken,
    /// Refused for what is in it.
    Refused,
    Trouble(Trouble),
}

#[derive(Debug, Default)]
struct Books {
    /// By name and id: when it was counted. A repeat within 48 hours does not count.
    counted: BTreeMap<(String, String), Instant>,
    /// How often an event was counted, which must never be twice.
    counts: BTreeMap<String, u32>,
    asked: Vec<Asked>,
    /// Trouble to have once that many events are counted, in order.
    troubles: VecDeque<(usize, Trouble)>,
}

/// A running receiver; gone when dropped.
#[derive(Debug)]
pub struct Meta {
    pub address: SocketAddr,
    books: Arc<Mutex<Books>>,
    task: JoinHandle<()>,
}

impl Meta {
    /// Starts with trouble planned: each strikes the first request after that many events were counted.
    pub async fn start(troubles: &[(usize, Trouble)]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let books = Arc::new(Mutex::new(Books { troubles: troubles.iter().copied().collect(), ..Books::default() }));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&books));
        let task = tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
        Self { address, books, task }
    }

    /// All requests so far, in order of arrival.
    pub fn asked(&self) -> Vec<Asked> {
        self.books.lock().unwrap().asked.clone()
    }

    /// Ids of the events that count, with how often they were counted.
    pub fn counts(&self) -> BTreeMap<String, u32> {
        self.books.lock().unwrap().counts.clone()
    }

    /// Trouble that has not struck yet.
    pub fn troubles_left(&self) -> usize {
        self.books.lock().unwrap().troubles.len()
    }
}

impl Drop for Meta {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(books): State<Arc<Mutex<Books>>>, uri: Uri, body: Bytes) -> Response {
    if uri.path() != format!("/v26.0/{PIXEL}/events") {
        return error(404, 100, Some(34), "Unsupported post request. Object does not exist", false);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let events = body["data"].as_array().cloned().unwrap_or_default();
    let ids = events.iter().map(|event| event["event_id"].as_str().unwrap_or_default().to_owned()).collect();
    let mut books = books.lock().unwrap();
    let (said, response) = books.judge(&body, &events);
    books.asked.push(Asked { ids, said });
    response
}

impl Books {
    fn judge(&mut self, body: &Value, events: &[Value]) -> (Said, Response) {
        if body["access_token"] != TOKEN {
            return (Said::Refused, error(401, 190, None, "Invalid OAuth access token.", false));
        }
        if events.is_empty() || events.len() > EVENTS_MAX {
            return (Said::Refused, error(400, 100, None, "Param data must be an array of 1 to 1000 events", false));
        }
        let trouble =
            self.troubles.front().filter(|(after, _)| self.counts.len() >= *after).map(|(_, trouble)| *trouble);
        if let Some(trouble) = trouble {
            // What is lost must have been good, or it would be refused when it comes again.
            if trouble != Trouble::Lost || events.iter().all(|event| fault(event).is_none()) {
                self.troubles.pop_front();
                if trouble == Trouble::Lost {
                    self.count(events);
                }
                return (Said::Trouble(trouble), trouble.response());
            }
        }
        if let Some((subcode, message)) = events.iter().find_map(fault) {
            return (Said::Refused, error(400, 100, subcode, message, false));
        }
        self.count(events);
        let taken = json!({"events_received": events.len(), "messages": [], "fbtrace_id": "AbC"});
        (Said::Taken, (StatusCode::OK, axum::Json(taken)).into_response())
    }

    fn count(&mut self, events: &[Value]) {
        for event in events {
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let key = (text("event_name"), text("event_id"));
            if self.counted.get(&key).is_none_or(|at| at.elapsed() > DEDUPE) {
                *self.counts.entry(key.1.clone()).or_default() += 1;
                self.counted.insert(key, Instant::now());
            }
        }
    }
}

/// What is wrong with one event: a subcode of 100 and what Meta says of it.
fn fault(event: &Value) -> Option<(Option<u32>, &'static str)> {
    let filled = |value: &Value| value.as_object().is_some_and(|object| !object.is_empty());
    let custom = &event["custom_data"];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let window = if event["action_source"] == "physical_store" { WINDOW_STORE } else { WINDOW };
    let Some(time) = event["event_time"].as_u64() else { return Some((Some(2_804_001), "event_time is missing")) };
    let ids: BTreeSet<&str> =
        custom["content_ids"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let lead_id = &event["user_data"]["lead_id"];
    if !event["event_name"].is_string() || !event["action_source"].is_string() {
        Some((Some(2_804_001), "a required field is missing"))
    } else if time + window < now {
        Some((Some(2_804_003), "Event Timestamp Too Old"))
    } else if time > now + 60 {
        Some((Some(2_804_004), "Event Timestamp In The Future"))
    } else if !filled(&event["user_data"]) {
        Some((Some(2_804_050), "Insufficient Customer Information"))
    } else if event["event_name"] == "Purchase" && !custom["value"].is_number() {
        Some((Some(2_804_009), "Missing Value For Purchase Event"))
    } else if custom["value"].is_number() && custom["currency"].as_str().is_none_or(|text| text.len() != 3) {
        Some((Some(2_804_023), "Value Without Currency"))
    } else if ids.contains(BANNED) {
        Some((Some(2_804_008), "Invalid Content Ids"))
    } else if lead_id.as_str().is_some_and(|id| id.len() < 15) {
        Some((Some(2_804_036), "Invalid Lead Id"))
    } else if custom["content_type"] == "nonsense" {
        Some((None, "Invalid parameter"))
    } else {
        None
    }
}

impl Trouble {
    fn response(self) -> Response {
        match self {
            Self::Down => error(500, 2, None, "Service temporarily unavailable", true),
            Self::Token => error(500, 190, Some(463), "Error validating access token: Session has expired", false),
            Self::Limit => error(400, 4, None, "(#4) Application request limit reached", true),
            Self::Passing => error(400, 100, None, "Invalid parameter, this time", true),
            Self::Unknown => error(400, 4_711, None, "What was that", false),
            Self::Html | Self::Lost => {
                let page = "<!DOCTYPE html><title>Sorry, something went wrong.</title>";
                (StatusCode::BAD_GATEWAY, [(header::CONTENT_TYPE, "text/html")], page).into_response()
            }
        }
    }
}

fn error(status: u16, code: u32, subcode: Option<u32>, message: &str, is_transient: bool) -> Response {
    let mut error = json!({"message": message, "type": "OAuthException", "code": code, "is_transient": is_transient,
        "error_user_title": "Etwas ist schiefgelaufen", "error_user_msg": "Bitte versuche es erneut.", "fbtrace_id": "AbC"});
    if let Some(subcode) = subcode {
        error["error_subcode"] = subcode.into();
    }
    (StatusCode::from_u16(status).unwrap(), axum::Json(json!({ "error": error }))).into_response()
}

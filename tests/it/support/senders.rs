//! Senders that post one event after the other, and remember what they were told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::sender;

/// What senders were told, by the sender's own id: the event's id.
pub type Acknowledged = Arc<Mutex<BTreeMap<String, String>>>;

/// Senders that post one event after the other until they are stopped, and remember every 202.
#[derive(Debug)]
pub struct Senders {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Senders {
    pub fn start(port: u16, acknowledged: &Acknowledged, next: &Arc<AtomicU64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (stop, acknowledged, next) = (Arc::clone(&stop), Arc::clone(acknowledged), Arc::clone(next));
            tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let id = format!("order-{}", next.fetch_add(1, Ordering::SeqCst));
                    if let Some(stored) = post(port, &id).await {
                        acknowledged.lock().unwrap().insert(id, stored);
                    }
                }
            });
        }
        Self { stop, tasks }
    }

    pub async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.tasks.join_all().await;
    }
}

/// Posts one event; the stored event's id where it was acknowledged.
pub async fn post(port: u16, id: &str) -> Option<String> {
    let body = json!({ "event": "deposit", "event_id": id, "value": "25.00", "uid": "u" }).to_string();
    let answer = sender::post(port, &body).await.filter(|answer| answer.status == 202)?;
    let answer: Value = serde_json::from_slice(&answer.body).ok()?;
    answer["id"].as_str().map(str::to_owned)
}

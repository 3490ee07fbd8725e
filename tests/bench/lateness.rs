//! A receiver that refuses each delivery once for a time it knows, and measures how late the retry comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::wire::read_message;

/// The receiver. Deliveries are told apart by their `webhook-id`.
#[derive(Debug, Clone)]
pub struct Late {
    pub port: u16,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    refused: HashMap<String, Instant>,
    late_ms: Vec<f64>,
}

impl Late {
    /// `pause` is how long the daemon waits before it tries again.
    pub async fn start(pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let told = Arc::new(Mutex::new(Told::default()));
        let kept = Arc::clone(&told);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, pause, Arc::clone(&kept)));
            }
        });
        Self { port, told }
    }

    /// Milliseconds from when each retry was due to its arrival, sorted.
    pub fn late_ms(&self) -> Vec<f64> {
        let mut late = self.told.lock().unwrap_or_else(PoisonError::into_inner).late_ms.clone();
        late.sort_by(f64::total_cmp);
        late
    }
}

async fn answer(mut stream: TcpStream, pause: Duration, told: Arc<Mutex<Told>>) {
    stream.set_nodelay(true).ok();
    let mut buffer = Vec::with_capacity(4096);
    while let Some(head) = read_message(&mut stream, &mut buffer).await {
        let id = head.lines().find_map(|line| line.strip_prefix("webhook-id:")).expect("an id").trim().to_owned();
        let first = {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            match told.refused.remove(&id) {
                None => {
                    told.refused.insert(id, Instant::now());
                    true
                }
                Some(refused) => {
                    let late = refused.elapsed().saturating_sub(pause);
                    told.late_ms.push(late.as_secs_f64() * 1000.0);
                    false
                }
            }
        };
        let said: &[u8] = if first {
            b"HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n"
        } else {
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        };
        if stream.write_all(said).await.is_err() {
            return;
        }
    }
}

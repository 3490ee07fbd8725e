//! A mail server that says yes to everything and remembers what it heard.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

#[derive(Debug, Default)]
struct Heard {
    lines: Mutex<String>,
    done: Notify,
}

/// Gone when dropped.
#[derive(Debug)]
pub struct MailServer {
    pub port: u16,
    heard: Arc<Heard>,
    task: JoinHandle<()>,
}

impl MailServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Heard::default());
        let shared = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &shared).await.unwrap_or_default();
            }
        });
        Self { port, heard, task }
    }

    /// Everything that was said up to the end of the first message.
    pub async fn wait_for_mail(&self) -> String {
        loop {
            let done = self.heard.done.notified();
            let heard = self.heard.lines.lock().unwrap().clone();
            if heard.contains("\r\n.\r\n") {
                return heard;
            }
            done.await;
        }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, heard: &Heard) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mail.test ESMTP\r\n").await?;
    let mut in_message = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        heard.lines.lock().unwrap().push_str(&line);
        let answer = match line.trim_end() {
            "." if in_message => {
                in_message = false;
                "250 taken\r\n"
            }
            _ if in_message => continue,
            "DATA" => {
                in_message = true;
                "354 go on\r\n"
            }
            "QUIT" => "221 bye\r\n",
            _ => "250 yes\r\n",
        };
        stream.write_all(answer.as_bytes()).await?;
        heard.done.notify_waiters();
    }
}

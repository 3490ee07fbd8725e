//! A mail server that does as it is told and remembers what it heard, in the open and inside TLS.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::tls::acceptor;

/// What it offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offers {
    /// Nothing but plain text.
    Plain,
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// A connection, and not a word.
    Silence,
}

/// How it behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub offers: Offers,
    /// The ways to log in that it names, inside TLS only.
    pub auth: &'static str,
    /// Its answer to a login, and to the recipients.
    pub to_login: &'static str,
    pub to_rcpt: &'static str,
    pub certificate: &'static [u8],
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            offers: Offers::Plain,
            auth: "",
            to_login: "235 come in",
            to_rcpt: "250 yes",
            certificate: include_bytes!("../fixtures/server.pem"),
        }
    }
}

#[derive(Debug, Default)]
struct Heard {
    open: Mutex<String>,
    inside: Mutex<String>,
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
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Heard::default());
        let shared = Arc::clone(&heard);
        let acceptor = acceptor(manner.certificate);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
                connections.spawn(async move { Connection { manner, heard: &shared }.serve(stream, acceptor).await });
            }
        });
        Self { port, heard, task }
    }

    /// What was said in the open so far.
    pub fn open(&self) -> String {
        self.heard.open.lock().unwrap().clone()
    }

    /// What was said inside TLS so far.
    pub fn inside(&self) -> String {
        self.heard.inside.lock().unwrap().clone()
    }

    /// Everything that was said up to the end of the first message, in the open and inside.
    pub async fn wait_for_mail(&self) -> String {
        loop {
            let done = self.heard.done.notified();
            let heard = self.open() + &self.inside();
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

/// How a stretch of a connection ended.
#[derive(PartialEq, Eq)]
enum End {
    Gone,
    Starttls,
}

struct Connection<'a> {
    manner: Manner,
    heard: &'a Heard,
}

impl Connection<'_> {
    async fn serve(&self, mut stream: TcpStream, acceptor: TlsAcceptor) {
        match self.manner.offers {
            Offers::Silence => std::future::pending().await,
            Offers::Tls => {
                // A peer that does not trust the certificate goes away.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                self.talk(stream, &self.heard.inside, "220 mail.test ESMTP\r\n").await.ok();
            }
            Offers::Plain | Offers::Starttls => {
                let end = self.talk(&mut stream, &self.heard.open, "220 mail.test ESMTP\r\n").await;
                if !matches!(end, Ok(End::Starttls)) {
                    return;
                }
                let Ok(stream) = acceptor.accept(stream).await else { return };
                self.talk(stream, &self.heard.inside, "").await.ok();
            }
        }
    }

    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        heard: &Mutex<String>,
        hello: &str,
    ) -> std::io::Result<End> {
        let is_inside = std::ptr::eq(heard, &raw const self.heard.inside);
        let mut stream = BufReader::new(stream);
        stream.write_all(hello.as_bytes()).await?;
        let mut in_message = false;
        let mut login_lines = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(End::Gone);
            }
            heard.lock().unwrap().push_str(&line);
            let word = line.trim_end();
            let answer = match word {
                "." if in_message => {
                    in_message = false;
                    "250 taken".to_owned()
                }
                _ if in_message => continue,
                _ if login_lines > 0 => {
                    login_lines -= 1;
                    // The second question, then the verdict.
                    if login_lines == 1 { "334 UGFzc3dvcmQ6".to_owned() } else { self.verdict(word) }
                }
                "DATA" => {
                    in_message = true;
                    "354 go on".to_owned()
                }
                "QUIT" => "221 bye".to_owned(),
                "AUTH LOGIN" => {
                    login_lines = 2;
                    "334 VXNlcm5hbWU6".to_owned()
                }
                "STARTTLS" => {
                    stream.write_all(b"220 go ahead\r\n").await?;
                    return Ok(End::Starttls);
                }
                _ if word.starts_with("AUTH ") => self.verdict(word),
                _ if word.starts_with("EHLO") => self.offers(is_inside),
                _ if word.starts_with("RCPT") => self.manner.to_rcpt.to_owned(),
                _ => "250 yes".to_owned(),
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
            stream.flush().await?;
            self.heard.done.notify_waiters();
        }
    }

    /// A server that refuses may repeat what it refuses.
    fn verdict(&self, line: &str) -> String {
        if self.manner.to_login.starts_with('2') {
            return self.manner.to_login.to_owned();
        }
        format!("{} {line}", self.manner.to_login)
    }

    fn offers(&self, is_inside: bool) -> String {
        let starttls = if self.manner.offers == Offers::Starttls && !is_inside { "250-STARTTLS\r\n" } else { "" };
        let auth = if is_inside && !self.manner.auth.is_empty() {
            format!("250-AUTH {}\r\n", self.manner.auth)
        } else {
            String::new()
        };
        format!("250-mail.test\r\n{starttls}{auth}250 8BITMIME")
    }
}

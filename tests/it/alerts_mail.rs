//! Alerts by mail, against servers that offer TLS in each way or none, take a login or refuse it, and lie: nothing is said in
//! the open where TLS is configured, the password is nowhere, and every refusal says what to mend.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::support::daemon::{Daemon, Said};
use crate::support::proxy::{End, Manner as By, Proxy, says};
use crate::support::smtp::{MailServer, Manner, Offers};
use crate::support::tls::TlsFront;

const PASSWORD: &str = "canary-password";

fn channel(server: &MailServer, more: &str) -> String {
    format!(
        "[alerts.channels.mail]\nkind = \"email\"\nhost = \"127.0.0.1\"\nport = {}\nallow_private = true\ntimeout = \"2s\"\n\
         from = \"postbackd@example.com\"\nto = \"you@example.com\"\n{more}\n",
        server.port
    )
}

fn with_login(tls: &str) -> String {
    format!("tls = \"{tls}\"\nusername = \"robot\"\npassword = \"{PASSWORD}\"")
}

/// What `alerts test` says of a channel to `server`; the password is in none of what can be seen.
async fn tested(server: &MailServer, more: &str) -> Said {
    let daemon = Daemon::start(&channel(server, more)).await;
    let said = daemon.cli(&["alerts", "test"], "").await;
    let seen = format!(
        "{said:?}{}{}{}",
        daemon.get("/status").await.text(),
        daemon.get("/v1/audit").await.text(),
        daemon.cli(&["alerts", "list"], "").await.out
    );
    for secret in
        [PASSWORD.to_owned(), BASE64_STANDARD.encode(PASSWORD), BASE64_STANDARD.encode(format!("\0robot\0{PASSWORD}"))]
    {
        assert!(!seen.contains(&secret), "{secret} is in {seen}");
    }
    said
}

/// A server that does not take the mail, and the part of what is said about it behind the verdict.
async fn refused(manner: Manner, more: &str) -> (MailServer, String) {
    let server = MailServer::start(manner).await;
    let said = tested(&server, more).await;
    assert_eq!(said.code, 1, "{said:?}");
    let detail = said.out.strip_prefix("mail: did not take it: ").unwrap_or_else(|| panic!("{said:?}")).trim_end();
    assert!(!server.inside().contains("DATA") && !server.open().contains("DATA"), "nothing was sent");
    (server, detail.to_owned())
}

#[tokio::test]
async fn by_starttls_nothing_but_the_wish_for_it_is_said_in_the_open() {
    let server = MailServer::start(Manner { offers: Offers::Starttls, auth: "PLAIN LOGIN", ..Manner::default() }).await;
    let said = tested(&server, &with_login("starttls")).await;
    assert_eq!((said.code, said.out.as_str()), (0, "mail: took it\n"), "{said:?}");
    assert_eq!(server.open(), "EHLO postbackd.invalid\r\nSTARTTLS\r\n");
    let inside = server.wait_for_mail().await;
    let login = BASE64_STANDARD.encode(format!("\0robot\0{PASSWORD}"));
    assert!(inside.contains(&format!("AUTH PLAIN {login}\r\n")), "{inside}");
    assert!(inside.contains("Subject: postbackd: a test of alerts\r\n"), "{inside}");
    let id = inside.lines().find_map(|line| line.strip_prefix("Message-ID: <")).expect("large receivers want one");
    let (random, domain) = id.strip_suffix('>').unwrap().split_once('@').unwrap();
    assert_eq!((random.len() > 16, domain), (true, "example.com"), "{id}");
}

#[tokio::test]
async fn by_implicit_tls_nothing_is_said_in_the_open_and_login_is_used_where_plain_is_not_offered() {
    let server = MailServer::start(Manner { offers: Offers::Tls, auth: "LOGIN", ..Manner::default() }).await;
    let said = tested(&server, &with_login("tls")).await;
    assert_eq!((said.code, said.out.as_str()), (0, "mail: took it\n"), "{said:?}");
    assert_eq!(server.open(), "");
    let inside = server.wait_for_mail().await;
    let (user, password) = (BASE64_STANDARD.encode("robot"), BASE64_STANDARD.encode(PASSWORD));
    assert!(inside.contains(&format!("AUTH LOGIN\r\n{user}\r\n{password}\r\n")), "{inside}");
}

#[tokio::test]
async fn a_server_without_starttls_is_told_nothing() {
    let (server, detail) = refused(Manner::default(), &with_login("starttls")).await;
    assert_eq!(
        detail,
        "the mail server offers no STARTTLS at this port, so nothing was sent; write the port where it does (587), or \
         tls = \"tls\" and the port for that (465)"
    );
    assert_eq!(server.open().replace("QUIT\r\n", ""), "EHLO postbackd.invalid\r\n");
}

#[tokio::test]
async fn a_refused_login_names_the_keys_and_repeats_no_password() {
    let starttls = Manner { offers: Offers::Starttls, to_login: "535 5.7.8 no:", ..Manner::default() };
    for auth in ["PLAIN", "LOGIN"] {
        let (_, detail) = refused(Manner { auth, ..starttls }, &with_login("starttls")).await;
        assert!(
            detail.starts_with("the mail server refuses the login; check username and password (535: 5.7.8 no:"),
            "{detail}"
        );
        assert!(detail.contains("[redacted]"), "{detail}");
    }
    let (_, detail) = refused(Manner { auth: "", ..starttls }, &with_login("starttls")).await;
    assert_eq!(
        detail,
        "the mail server offers no login that can be used (PLAIN, LOGIN); remove username and password where it needs none"
    );
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_told_nothing() {
    let forged = include_bytes!("fixtures/self-signed.pem");
    let elsewhere = include_bytes!("fixtures/elsewhere.pem");
    for certificate in [forged.as_slice(), elsewhere] {
        for (offers, tls) in [(Offers::Starttls, "starttls"), (Offers::Tls, "tls")] {
            let manner = Manner { offers, certificate, auth: "PLAIN", ..Manner::default() };
            let (server, detail) = refused(manner, &with_login(tls)).await;
            assert!(
                detail.starts_with(
                    "the mail server's certificate is not to be trusted; host must be a name in it, signed by a \
                                    CA that this system trusts ("
                ),
                "{detail}"
            );
            assert_eq!(server.inside(), "");
            assert!(!server.open().contains("AUTH"));
        }
    }
}

#[tokio::test]
async fn the_wrong_port_is_told_with_the_key_to_change() {
    // STARTTLS where TLS begins at once: each waits for the other.
    let (_, detail) = refused(Manner { offers: Offers::Tls, ..Manner::default() }, &with_login("starttls")).await;
    assert!(detail.starts_with("no answer in time"), "{detail}");
    let (_, detail) = refused(Manner::default(), &with_login("tls")).await;
    assert!(
        detail.starts_with("the mail server speaks no TLS at this port; write tls = \"starttls\" and its port (587)"),
        "{detail}"
    );
    let (_, detail) = refused(Manner { offers: Offers::Silence, ..Manner::default() }, "tls = \"none\"").await;
    assert_eq!(
        detail,
        "no answer in time (2s); check host and port: tls = \"tls\" belongs to 465, \"starttls\" to 587, \"none\" to 25"
    );
    let server = MailServer::start(Manner::default()).await;
    let gone = channel(&server, &with_login("tls"));
    drop(server);
    let said = Daemon::start(&gone).await.cli(&["alerts", "test"], "").await;
    assert!(said.out.contains("cannot connect to the mail server; check host and port ("), "{said:?}");
}

#[tokio::test]
async fn a_refused_recipient_names_the_keys() {
    let (_, detail) = refused(Manner { to_rcpt: "550 5.1.1 nobody here", ..Manner::default() }, "tls = \"none\"").await;
    assert_eq!(detail, "the mail server refuses the message; check from and to (550: 5.1.1 nobody here)");
    let (_, detail) = refused(Manner { to_rcpt: "451 4.7.1 greylisted", ..Manner::default() }, "tls = \"none\"").await;
    assert_eq!(detail, "the mail server wants to be asked again later (451: 4.7.1 greylisted)");
}

/// A proxy before `server`, which is the only one that can make anything of the host's name.
async fn before(server: &MailServer, by: By) -> Proxy {
    Proxy::with_login(([127, 0, 0, 1], server.port).into(), by, Some(("robot", PASSWORD))).await
}

fn login() -> String {
    format!("robot:{PASSWORD}@")
}

#[tokio::test]
async fn mail_goes_through_proxies_in_every_way_and_its_tls_is_with_the_server() {
    for (scheme, asked) in [("http", "CONNECT"), ("socks5h", "SOCKS"), ("socks5", "SOCKS")] {
        for (offers, tls) in [(Offers::Starttls, "starttls"), (Offers::Tls, "tls")] {
            let server = MailServer::start(Manner { offers, auth: "PLAIN", ..Manner::default() }).await;
            let proxy = before(&server, By::Works).await;
            let by = format!("{}\nproxy = \"{}\"", with_login(tls), proxy.url(scheme, &login()));
            let said = tested(&server, &by).await;
            assert_eq!((said.code, said.out.as_str()), (0, "mail: took it\n"), "{scheme} {tls}: {said:?}");
            assert!(server.wait_for_mail().await.contains("Subject: postbackd: a test of alerts\r\n"));
            assert_eq!(proxy.asked(), [format!("{asked} 127.0.0.1:{}", server.port)], "{scheme} {tls}");
        }
    }
}

#[tokio::test]
async fn a_proxy_behind_tls_must_show_a_certificate_that_the_system_trusts() {
    let server = MailServer::start(Manner { offers: Offers::Starttls, auth: "PLAIN", ..Manner::default() }).await;
    let proxy = before(&server, By::Works).await;
    let good = TlsFront::start(proxy.address).await;
    let forged = TlsFront::with(include_bytes!("fixtures/self-signed.pem"), proxy.address).await;
    let by = |front: &TlsFront| format!("{}\nproxy = \"https://{}{}\"", with_login("starttls"), login(), front.address);
    let said = tested(&server, &by(&forged)).await;
    assert!(said.code == 1 && said.out.contains("no TLS with it: "), "{said:?}");
    assert_eq!(proxy.connections(), 0);
    let said = tested(&server, &by(&good)).await;
    assert_eq!((said.code, said.out.as_str()), (0, "mail: took it\n"), "{said:?}");
}

#[tokio::test]
async fn a_name_that_only_the_proxy_knows_is_asked_of_nobody_else() {
    let server = MailServer::start(Manner::default()).await;
    for scheme in ["http", "socks5h"] {
        let proxy = before(&server, By::Works).await;
        let by = format!("tls = \"none\"\nproxy = \"{}\"", proxy.url(scheme, &login()));
        let config = channel(&server, &by).replace("host = \"127.0.0.1\"", "host = \"mail.nowhere.invalid\"");
        let said = Daemon::start(&config).await.cli(&["alerts", "test"], "").await;
        assert_eq!((said.code, said.out.as_str()), (0, "mail: took it\n"), "{scheme}: {said:?}");
        assert!(proxy.asked()[0].ends_with(&format!(" mail.nowhere.invalid:{}", server.port)), "{:?}", proxy.asked());
    }
}

/// A proxy that is the mail server too, and greets in one piece with its own last word.
async fn hasty(listener: TcpListener) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let greeting = "220 mail.test ESMTP\r\n";
    if stream.fill_buf().await.unwrap()[0] == 5 {
        for (asked, said) in
            [(3, vec![5, 0]), (4 + 1 + 9 + 2, [&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0], greeting.as_bytes()].concat())]
        {
            stream.read_exact(&mut vec![0; asked]).await.unwrap();
            stream.write_all(&said).await.unwrap();
        }
    } else {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
        }
        stream.write_all(format!("HTTP/1.1 200 ok\r\nVia: x\r\n\r\n{greeting}").as_bytes()).await.unwrap();
    }
    let mut lines = stream.lines();
    let mut in_message = false;
    while let Ok(Some(line)) = lines.next_line().await {
        let said = match &*line {
            "DATA" => "354 go on\r\n",
            "." => "250 taken\r\n",
            _ if in_message => continue,
            _ => "250 yes\r\n",
        };
        in_message = line == "DATA";
        lines.get_mut().write_all(said.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn not_a_byte_of_the_server_is_taken_for_the_proxy_s() {
    let server = MailServer::start(Manner::default()).await;
    for scheme in ["http", "socks5h"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let by = format!("tls = \"none\"\nproxy = \"{scheme}://{}\"", listener.local_addr().unwrap());
        let proxy = tokio::spawn(hasty(listener));
        let config = channel(&server, &by).replace("host = \"127.0.0.1\"", "host = \"mail.test\"");
        let said = Daemon::start(&config).await.cli(&["alerts", "test"], "").await;
        assert_eq!((said.code, said.out.as_str()), (0, "mail: took it\n"), "{scheme}: {said:?}");
        proxy.abort();
    }
}

#[tokio::test]
async fn the_next_proxy_is_taken_where_one_fails_and_nothing_goes_directly_where_none_works() {
    let server = MailServer::start(Manner::default()).await;
    let good = before(&server, By::Works).await;
    let refusing = Proxy::start(([127, 0, 0, 1], server.port).into(), says("HTTP/1.1 403 no\r\n\r\n")).await;
    let silent = Proxy::start(([127, 0, 0, 1], server.port).into(), By::Says(Vec::new(), End::Hang)).await;
    let (refusing, silent) = (refusing.url("http", ""), silent.url("socks5h", ""));
    let list = format!("tls = \"none\"\nproxy = [\"{refusing}\", \"{silent}\", \"{}\"]", good.url("http", &login()));
    let said = tested(&server, &list).await;
    assert_eq!((said.code, said.out.as_str()), (0, "mail: took it\n"), "{said:?}");
    let (fresh, strict) = (MailServer::start(Manner::default()).await, before(&server, By::Works).await);
    let wrong = strict.url("http", "robot:guess@");
    let (fresh, detail) = {
        let said =
            tested(&fresh, &format!("tls = \"none\"\nproxy = [\"{refusing}\", \"{silent}\", \"{wrong}\"]")).await;
        (fresh, said.out)
    };
    for part in [
        format!("proxy {refusing}: it did not open a tunnel"),
        format!("proxy {silent}: no connection through it in time"),
        format!("proxy {}: it asks for a user and password", strict.url("http", "")),
    ] {
        assert!(detail.contains(&part), "{part} is not in {detail}");
    }
    assert_eq!(fresh.open(), "", "nothing was said to the server");
}

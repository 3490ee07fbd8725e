//! `server.listen`: TCP addresses and Unix sockets, one or a list of them, and `server.socket_mode`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::findings::{Reading, shown};
use super::raw::{Node, Value};
use super::section::{Section, text_of};

const DEFAULT: ([u8; 4], u16) = ([127, 0, 0, 1], 8460);
/// Whoever is in the group may talk to the daemon.
const MODE_DEFAULT: u32 = 0o660;
/// The kernel's limit is 108 with the zero at the end.
const PATH_BYTES: usize = 107;
/// What an address begins with that is the path of a Unix socket.
pub(crate) const UNIX: &str = "unix:";
/// What to do where other machines reach a listener.
pub(crate) const TOKEN_MISSING: &str =
    "admin_token is missing; add admin_token, or listen on 127.0.0.1 behind a reverse proxy";
const WANTED: &str =
    "write an IP address with a port, like \"127.0.0.1:8460\" or \"[::1]:8460\", or \"unix:/run/postbackd/api.sock\"";

/// Where to listen.
#[derive(Debug, Default)]
pub(crate) struct Listen {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) sockets: Vec<PathBuf>,
    pub(crate) mode: u32,
}

enum Address {
    Net(SocketAddr),
    Unix(PathBuf),
}

pub(crate) fn read(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Listen {
    let mut listen = Listen { mode: mode(section, cx), ..Listen::default() };
    let key = section.key("listen");
    let Some(node) = section.node("listen", cx) else {
        listen.addresses.push(DEFAULT.into());
        return listen;
    };
    let Value::List(items) = &node.value else {
        listen.add(node, &key, cx);
        return listen;
    };
    if items.is_empty() {
        cx.problem(&node.at, key.as_str(), "is an empty list; write an address like \"127.0.0.1:8460\"");
    }
    for (index, item) in items.iter().enumerate() {
        listen.add(item, &format!("{key}[{index}]"), cx);
    }
    listen
}

/// Whether other machines reach one of the addresses.
pub(crate) fn is_public(addresses: &[SocketAddr]) -> bool {
    addresses.iter().any(|address| !address.ip().to_canonical().is_loopback())
}

impl Listen {
    fn add(&mut self, node: &Node, key: &str, cx: &mut Reading<'_>) {
        let Some(text) = text_of(node, key, cx) else { return };
        match address(text) {
            Ok(Address::Net(address)) if self.addresses.contains(&address) && address.port() != 0 => {
                cx.problem(&node.at, key, format!("{address} is given twice; remove one"));
            }
            Ok(Address::Unix(path)) if self.sockets.contains(&path) => {
                cx.problem(&node.at, key, format!("{} is given twice; remove one", shown(text)));
            }
            Ok(Address::Net(address)) => self.addresses.push(address),
            Ok(Address::Unix(path)) => self.sockets.push(path),
            Err(detail) => cx.problem(&node.at, key, detail),
        }
    }
}

fn address(text: &str) -> Result<Address, String> {
    let Some(path) = text.strip_prefix(UNIX) else {
        let read = text.parse().map(Address::Net);
        return read.map_err(|_| format!("{} is not an address to listen on; {WANTED}", shown(text)));
    };
    // As some other programs write it.
    let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(format!(
            "{} names no socket; write its whole path, like \"unix:/run/postbackd/api.sock\"",
            shown(text)
        ));
    }
    if path.len() > PATH_BYTES {
        let is = path.len();
        return Err(format!("has a path of {is} bytes, and Linux takes {PATH_BYTES} at most; write a shorter one"));
    }
    Ok(Address::Unix(path.into()))
}

/// Text, because a bare `0660` is no TOML and a bare `660` is another number.
fn mode(section: &mut Section<'_>, cx: &mut Reading<'_>) -> u32 {
    let Some(text) = section.text("socket_mode", cx) else { return MODE_DEFAULT };
    let digits = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o777 => mode,
        Ok(_) | Err(_) => {
            let detail = format!("{} is not a file mode; write it in octal, like \"0660\" or \"0600\"", shown(text));
            cx.problem(&section.place("socket_mode"), section.key("socket_mode"), detail);
            MODE_DEFAULT
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load_text;
    use super::*;
    use crate::config::snapshot::Server;

    fn server(text: &str) -> Server {
        let text = format!("[server]\n{text}\n[sources.app]\ntoken = \"t\"\n");
        load_text(&text).map(|(snapshot, _)| snapshot.server).unwrap()
    }

    #[test]
    fn a_list_may_hold_both_kinds() {
        let both = server(
            "listen = [\"unix:/run/p/a.sock\", \"127.0.0.1:1\", \"unix:///run/p/b.sock\"]\nsocket_mode = \"0600\"",
        );
        assert_eq!(both.listen, ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(both.sockets, [PathBuf::from("/run/p/a.sock"), PathBuf::from("/run/p/b.sock")]);
        assert_eq!(both.socket_mode, 0o600);
    }

    #[test]
    fn a_unix_socket_alone_is_enough_and_open_to_its_group() {
        let alone = server("listen = \"unix:/run/p.sock\"");
        assert!(alone.listen.is_empty(), "no port is opened that nobody asked for");
        assert_eq!((alone.sockets, alone.socket_mode), (vec![PathBuf::from("/run/p.sock")], 0o660));
    }
}

//! From one snapshot to the next: what stays, what changed, and what has to wait for a restart.

use std::sync::Arc;

use super::snapshot::{Destination, Snapshot};
use crate::domain::name::DestinationName;

/// What a reload changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    pub added: Vec<DestinationName>,
    pub changed: Vec<DestinationName>,
    pub removed: Vec<DestinationName>,
    /// Keys whose new value waits for a restart, as `server.listen`.
    pub needs_restart: Vec<&'static str>,
}

impl Changes {
    /// Whether any destination is not what it was.
    pub fn touches_destinations(&self) -> bool {
        let Self { added, changed, removed, needs_restart: _ } = self;
        [added, changed, removed].iter().any(|names| !names.is_empty())
    }
}

/// The next snapshot: `fresh`, but for destinations that did not change, which are shared with `running`, and settings that
/// cannot change while the daemon runs, which are kept.
pub fn merge(running: &Snapshot, mut fresh: Snapshot) -> (Snapshot, Changes) {
    let mut changes = Changes { needs_restart: keep(running, &mut fresh), ..Changes::default() };
    for (name, destination) in &mut fresh.destinations {
        match running.destinations.get(name) {
            Some(known) if is_same(known, destination) => *destination = Arc::clone(known),
            Some(_) => changes.changed.push(name.clone()),
            None => changes.added.push(name.clone()),
        }
    }
    changes.removed =
        running.destinations.keys().filter(|name| !fresh.destinations.contains_key(*name)).cloned().collect();
    (fresh, changes)
}

fn is_same(known: &Destination, fresh: &Destination) -> bool {
    known.kind == fresh.kind && known.fingerprint == fresh.fingerprint
}

/// Sockets and the store are opened once.
fn keep(running: &Snapshot, fresh: &mut Snapshot) -> Vec<&'static str> {
    let mut waiting = Vec::new();
    let mut kept = |key: &'static str, differs: bool| {
        if differs {
            waiting.push(key);
        }
    };
    // Sockets that were handed over win, whatever the files say.
    let ours = !running.server.handed_over;
    let (before, after) = (&running.server, &fresh.server);
    kept("server.listen", ours && (&after.listen, &after.sockets) != (&before.listen, &before.sockets));
    kept("server.socket_mode", ours && after.socket_mode != before.socket_mode);
    kept("storage.path", fresh.storage.path != running.storage.path);
    kept("storage.cache", fresh.storage.cache != running.storage.cache);
    kept("storage.reserve", fresh.storage.reserve != running.storage.reserve);
    fresh.server.listen.clone_from(&running.server.listen);
    fresh.server.sockets.clone_from(&running.server.sockets);
    fresh.server.socket_mode = running.server.socket_mode;
    fresh.server.handed_over = running.server.handed_over;
    fresh.storage.clone_from(&running.storage);
    waiting
}

#[cfg(test)]
mod tests {
    use super::super::tests::load_text;
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        let source = "[sources.app]\ntoken = \"t-app\"\n";
        load_text(&format!("{text}\n{source}")).map(|(snapshot, _)| snapshot).unwrap()
    }

    fn hook(name: &str, url: &str) -> String {
        format!("[destinations.{name}]\nkind = \"webhook\"\nurl = \"https://{url}\"\n")
    }

    #[test]
    fn what_did_not_change_is_shared_and_the_rest_is_named() {
        let running = snapshot(&[hook("a", "a.example"), hook("b", "b.example"), hook("c", "c.example")].concat());
        let fresh = snapshot(&[hook("a", "a.example"), hook("b", "other.example"), hook("d", "d.example")].concat());
        let (next, changes) = merge(&running, fresh);
        let names = |list: &[DestinationName]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&changes.added), ["d"]);
        assert_eq!(names(&changes.changed), ["b"]);
        assert_eq!(names(&changes.removed), ["c"]);
        let of = |snapshot: &Snapshot, name: &str| {
            let name: DestinationName = name.parse().unwrap();
            Arc::clone(&snapshot.destinations[&name])
        };
        assert!(Arc::ptr_eq(&of(&running, "a"), &of(&next, "a")));
        assert!(!Arc::ptr_eq(&of(&running, "b"), &of(&next, "b")));
    }

    #[test]
    fn what_needs_a_restart_is_kept_and_named() {
        let running = snapshot("[server]\nlisten = \"127.0.0.1:1001\"\nadmin_token = \"one\"\n");
        let fresh = snapshot(
            "[server]\nlisten = \"127.0.0.1:1002\"\nadmin_token = \"two\"\n[storage]\npath = \"/tmp/x\"\ncache = \"32MiB\"\n",
        );
        let (next, changes) = merge(&running, fresh);
        assert_eq!(changes.needs_restart, ["server.listen", "storage.path", "storage.cache"]);
        assert_eq!(next.server.listen, running.server.listen);
        assert_eq!(next.storage, running.storage);
        assert_ne!(next.server.admin_token, running.server.admin_token, "the rest is in force at once");
        let (_, none) = merge(&running, snapshot("[server]\nlisten = \"127.0.0.1:1001\"\nadmin_token = \"one\"\n"));
        assert_eq!(none, Changes::default());
    }
}

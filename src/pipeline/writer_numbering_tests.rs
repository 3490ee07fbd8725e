//! Destinations that return to the configuration while what they are owed is given up.

use super::*;
use crate::pipeline::Numbered;
use crate::store::Counts;
use crate::store::write::Purge;

fn purge() -> WriteOp {
    let (destination, reason) = (FIRST.destination, "left us".to_owned());
    WriteOp::Purge(Purge { destination, at: NOW, reason, under_way: [].into(), limit: 10 })
}

impl Bench {
    fn number(&self, names: &[&str]) -> oneshot::Receiver<Result<Numbered, Unavailable>> {
        let (reply, answer) = oneshot::channel();
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        self.commands.blocking_send(Command::Number { names, reply }).unwrap();
        answer
    }

    fn owed(&self) -> u64 {
        self.reader.ledger().deliveries.get(&FIRST.destination).map_or(0, Counts::owed)
    }
}

#[test]
fn nothing_is_given_up_of_a_destination_that_is_configured() {
    let bench = Bench::new();
    bench.accept("a").unwrap();
    bench.number(&["app"]).blocking_recv().unwrap().unwrap();
    assert_eq!(bench.ask(purge()).blocking_recv().unwrap().unwrap().len(), 0, "not even begun");
    assert_eq!(bench.owed(), 1);
    bench.number(&["other"]).blocking_recv().unwrap().unwrap();
    assert_eq!(bench.ask(purge()).blocking_recv().unwrap().unwrap().len(), 1);
    assert_eq!(bench.owed(), 0);
    bench.stop().unwrap();
}

#[test]
fn a_configuration_is_numbered_behind_the_purges_that_were_asked_for_before_it() {
    let bench = Bench::new();
    bench.accept("a").unwrap();
    // The writer is held in the commit of another event, so that it finds the rest together.
    let held = bench.disk.0.lock().unwrap();
    let event = bench.ask(bench.event("b"));
    let (purged, numbered) = (bench.ask(purge()), bench.number(&["app"]));
    drop(held);
    numbered.blocking_recv().unwrap().unwrap();
    assert_eq!(bench.owed(), 0, "whoever is answered now reads what is owed, and sends it");
    assert_eq!(purged.blocking_recv().unwrap().unwrap().len(), 1);
    event.blocking_recv().unwrap().unwrap();
    bench.stop().unwrap();
}

//! A run of a store on a tape, with what must be found at each place of the tape.

use std::rc::Rc;

use postbackd::store::{Options, Rush, Store};

use super::image::{Cutter, Image};
use super::moment::Moment;
use super::script::{Deed, Script};
use super::tape::{Op, Tape};
use crate::rng::Rng;

const OPTIONS: Options = Options { cache: 256 * 1024 };

/// From here on (in changes of the tape) one of these moments must be found, and what senders were told holds.
pub struct Span {
    from: usize,
    pub allowed: Vec<Rc<Moment>>,
    pub script: Script,
}

/// What was recorded.
pub struct Run {
    base: Image,
    pub ops: Vec<Op>,
    spans: Vec<Span>,
}

impl Run {
    pub fn cutter(&self) -> Cutter<'_> {
        Cutter::new(&self.base, &self.ops)
    }

    /// What holds at a place; `None` before there was a store.
    pub fn span(&self, place: usize) -> Option<&Span> {
        self.spans.iter().rev().find(|span| span.from <= place)
    }

    /// Where the store was complete for the first time.
    pub fn begins(&self) -> usize {
        self.spans.first().map_or(0, |span| span.from)
    }
}

/// A store at work.
pub struct Hand {
    base: Image,
    tape: Tape,
    store: Store,
    script: Script,
    allowed: Vec<Rc<Moment>>,
    spans: Vec<Span>,
}

/// The store on a tape, taken for a large one, so that hurried transactions leave less for an opening after a crash; what is
/// wrong with it, in words.
pub fn open(tape: &Tape, rng: &Rng) -> Result<Store, String> {
    let tape = tape.clone();
    let store = Store::open_backend(move || Ok(tape.clone()), OPTIONS, rng).map_err(|error| error.to_string())?;
    Ok(store.quick_up_to(0))
}

impl Hand {
    /// A new store, with its destinations.
    pub fn create(rng: &Rng) -> Self {
        let base = Image::default();
        let tape = Tape::new(base.clone());
        let mut store = open(&tape, rng).expect("nothing fails yet");
        store.number_destinations(&Script::names()).expect("nothing fails yet");
        Self::new(base, tape, store, Script::default()).expect("nothing fails yet")
    }

    /// A store as it is found; what is wrong with it, in words.
    pub fn find(base: Image, script: Script, rng: &Rng) -> Result<Self, String> {
        let tape = Tape::new(base.clone());
        let store = open(&tape, rng)?;
        let mut hand = Self::new(base, tape, store, script)?;
        // What is found is what is on disk: no cut may take it away again.
        hand.spans[0].from = 0;
        Ok(hand)
    }

    fn new(base: Image, tape: Tape, store: Store, script: Script) -> Result<Self, String> {
        let moment = Moment::read(&store.reader(), script.newest).map_err(|error| error.to_string())?;
        let allowed = vec![Rc::new(moment)];
        let spans = vec![Span { from: tape.position(), allowed: allowed.clone(), script: script.clone() }];
        Ok(Self { base, tape, store, script, allowed, spans })
    }

    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    pub fn moment(&self) -> &Moment {
        &self.allowed[0]
    }

    /// The rules between rows.
    pub fn verify(&self) -> Result<(), String> {
        let findings = self.store.reader().verify().map_err(|error| error.to_string())?;
        if findings.is_empty() { Ok(()) } else { Err(format!("{findings:#?}")) }
    }

    /// One deed, whatever becomes of it.
    pub fn step(&mut self, rng: &Rng) -> Result<Step, String> {
        let deed = self.script.next(&self.store, rng);
        self.carry_out(&deed, rng)
    }

    /// A sender that was answered sends again, and is told the same.
    pub fn repeat(&mut self, rng: &Rng) -> Result<(), String> {
        let Some((op, _)) = self.script.repeat(&self.store, rng) else { return Ok(()) };
        // The script knows what the answer must be.
        self.carry_out(&Deed::Commit(vec![op], Rush::Calm), rng).map(drop)
    }

    fn carry_out(&mut self, deed: &Deed, rng: &Rng) -> Result<Step, String> {
        let (before, from) = (self.tape.live(), self.tape.position());
        match deed.execute(&mut self.store) {
            Ok(applied) => {
                let old = self.script.clone();
                self.script.told(deed, &applied);
                let moment = Rc::new(self.look()?);
                let until = self.tape.position();
                if until > from {
                    self.spans.push(Span { from: from + 1, allowed: self.with(&moment), script: old });
                }
                // Opening anew shows what the page cache holds; only a commit makes it certain.
                if self.tape.synced_since(from) && !matches!(deed, Deed::Reopen) {
                    self.allowed = vec![moment];
                }
                self.mark();
                Ok(Step::Done)
            }
            Err(_) => self.stumble(deed, before, from, rng).map(|()| Step::Failed),
        }
    }

    fn look(&self) -> Result<Moment, String> {
        let moment = Moment::read(&self.store.reader(), self.script.newest).map_err(|error| error.to_string())?;
        if moment.is_balanced() { Ok(moment) } else { Err(format!("the books do not balance: {:?}", moment.books)) }
    }

    fn with(&self, moment: &Rc<Moment>) -> Vec<Rc<Moment>> {
        self.allowed.iter().chain([moment]).cloned().collect()
    }

    fn mark(&mut self) {
        let (allowed, script) = (self.allowed.clone(), self.script.clone());
        self.spans.push(Span { from: self.tape.position(), allowed, script });
    }

    /// Nobody knows whether it was done: all of it may be there, or nothing. As the writer does, open again until it works.
    fn stumble(&mut self, deed: &Deed, before: Image, from: usize, rng: &Rng) -> Result<(), String> {
        let mut shadow = open(&Tape::new(before), rng)?;
        deed.execute(&mut shadow).map_err(|error| error.to_string())?;
        let newest = self.script.newest;
        let would = Rc::new(Moment::read(&shadow.reader(), newest).map_err(|error| error.to_string())?);
        self.script.newest = newest.max(would.newest());
        self.allowed = self.with(&would);
        self.spans.push(Span { from: from + 1, allowed: self.allowed.clone(), script: self.script.clone() });
        while self.store.reopen().is_err() {
            self.tape.mend();
        }
        let found = self.look()?;
        if !self.allowed.iter().any(|allowed| **allowed == found) {
            return Err(format!("after a failed commit: {}", difference(&self.allowed, &found)));
        }
        self.verify()?;
        self.mark();
        Ok(())
    }

    /// The power goes in mid-air; what is still in memory is gone.
    pub fn drop_dead(self) -> Run {
        let ops = self.tape.ops();
        self.tape.kill();
        drop(self.store);
        Run { base: self.base, ops, spans: self.spans }
    }

    /// Closed as at a stop.
    pub fn close(self) -> Result<Run, String> {
        self.store.close().map_err(|error| error.to_string())?;
        Ok(Run { base: self.base, ops: self.tape.ops(), spans: self.spans })
    }
}

/// What became of a deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Done,
    Failed,
}

/// The first thing in which what was found differs from each moment that it may be.
pub fn difference(allowed: &[Rc<Moment>], found: &Moment) -> String {
    let all: Vec<String> = allowed.iter().map(|moment| moment.difference(found)).collect();
    format!("what is found is none of the {} moments it may be: {all:#?}", allowed.len())
}

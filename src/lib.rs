//! postbackd takes each conversion once, makes it durable and unique, and delivers it to every destination.
//!
//! # The road of one event
//!
//! ```text
//!  client ── bytes ──> http::ingest ── Incoming ──> pipeline::Pipeline ── WriteOp ──> writer ══ one transaction ══ store
//!     ^                                                   ^                             │
//!     └───────────────────── 202 ────────── Receipt ──────┘                             │ facts, after the commit
//!                                                                                       v
//!               WriteOp::Settle <── Effect::Settle ── driver ── Input ──> scheduler (pure: lanes, paging, wheel)
//!                                                       ^ │
//!                                                 Ended │ └─ Effect::Send ──> dispatch ──> env::Transport (egress)
//!                                                       └──────────────────────────────────────┘
//! ```
//!
//! 1. **Disk first.** No reply, no timer and no ended lease before the commit returned. A commit that failed has an unknown
//!    outcome: the sender gets 503, the file is opened again, and a repeat of the same event is recognised. Where the disk
//!    itself failed, the process ends and leaves a mark if it can, by which the next start reads the whole file first.
//! 2. **One writer, natural group commit.** A thread owns every write transaction; a batch is what gathered while the last
//!    commit ran. Ingest, outcomes of attempts and operator commands share batches; work that nobody waits for (retention, pages
//!    of jobs) goes along with them, paid from one budget.
//! 3. **Decide, then do.** Every decision is a synchronous function of state, input, time and dice; async code waits and
//!    moves data.
//! 4. **No lease rows.** What is in flight lives in memory; a crash means one repeat with the same id. Start, recovery and
//!    reopening are the same path.
//! 5. **The database is the queue**, the wheel and the lanes a bounded cache of it that may be dropped at any time.
//! 6. **One lane per destination**: one destination's trouble is nobody else's.
//! 7. **Render late.** The canonical event is stored; requests are made from the current configuration at each attempt.
//! 8. **A snapshot is immutable.** A reload (`app::reload`) reads, validates, builds and numbers a new one, and swaps it whole
//!    or not at all; destinations that did not change are shared with the one before, and keep client and lane.
//!
//! # Layers
//!
//! Imports point down only; folders of one layer do not import each other (`tests/tidy.rs` checks it).
//!
//! ```text
//! L6  main        L5  app (composition root)
//! L4  http  cli                     faces: axum (API, and the status page in http/page), command line
//! L3  pipeline  egress  alerts      pipeline and alerts never name egress: they see env::transport and env::courier only
//! L2  config  store                 neither names the other
//! L1  env  destination  inbound  telemetry   time, chance and wire | pure kinds | pure postbacks | statistics and log
//! L0  domain                        values and rules; no async, no clock, no I/O
//! ```
//!
//! # Glossary
//!
//! *event*: one accepted conversion · *canonical name*: the sender's name for it · *destination*: one configured receiver ·
//! *target name*: the destination's name for it · *delivery*: event × destination · *attempt*: one HTTP exchange · *lease*:
//! the right to attempt a delivery, from being chosen until its outcome is committed · *commit*: the database's · *ack*: the
//! reply to the sender · *settle*: writing an outcome · *outbox*: what is owed, by destination and due time · *DLQ*: what
//! failed permanently · *replay*: owing it again · *job*: a replay or discard of many that goes on by itself · *deed*: what an
//! operator did, as the audit trail keeps it · *hold*: a destination waits because every delivery would fare the same ·
//! *pause*: it waits because an operator said so, or because its receiver said that it is gone; durable, unlike a hold ·
//! *problem*: what alerts tell once, remind of and tell as over · *channel*: whom they tell.

pub mod domain;

pub mod destination;
pub mod env;
pub mod inbound;
pub mod telemetry;

pub mod config;
pub mod store;

pub mod alerts;
pub mod egress;
pub mod pipeline;

pub mod cli;
pub mod http;

pub mod app;

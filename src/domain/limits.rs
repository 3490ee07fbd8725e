//! Every bound in one place, as numbers with their reason.

/// A sender's event id, bytes (SPEC 3).
pub const EVENT_ID_BYTES: usize = 256;
/// A sender's uid, bytes (SPEC 3).
pub const UID_BYTES: usize = 512;
/// `action_source` and other short texts, bytes.
pub const SHORT_TEXT_BYTES: usize = 64;
/// One event as JSON, bytes: far above any real conversion, small enough that a batch stays within its body limit.
pub const EVENT_BYTES: usize = 256 * 1024;
/// Default and largest `server.batch_limit` and `server.body_limit`.
pub const BATCH_LIMIT_DEFAULT: usize = 1000;
pub const BATCH_LIMIT_MAX: usize = 10_000;
pub const BODY_LIMIT_DEFAULT: u64 = 8 * 1024 * 1024;
pub const BODY_LIMIT_MAX: u64 = 64 * 1024 * 1024;

/// A destination's answer is read up to here; the rest is not waited for (platforms.md 0.2).
pub const RESPONSE_BODY_BYTES: usize = 64 * 1024;
/// Headers kept of an answer; those that matter (`retry-after`, `content-type`) stand well before.
pub const RESPONSE_HEADERS: usize = 64;
/// What is kept of a header's value, bytes.
pub const RESPONSE_HEADER_BYTES: usize = 1024;
/// Addresses tried of one name.
pub const RESOLVED_ADDRESSES: usize = 64;
/// What the DLQ keeps of an answer, bytes (SPEC 5).
pub const RESPONSE_EXCERPT_BYTES: usize = 4096;
/// What the trace keeps of an answer for each attempt, bytes: a hundred attempts stay below 64 KiB.
pub const ATTEMPT_EXCERPT_BYTES: usize = 512;
/// Fields the trace names for each attempt as left out.
pub const LEFT_OUT_KEPT: usize = 16;
/// What the trace keeps of the name of such a field, and of the reason, bytes each.
pub const LEFT_OUT_BYTES: usize = 128;
/// The body of a request that carries several deliveries, bytes: platforms.md 1.1 asks to stay under about 1 MB.
pub const BATCH_BODY_BYTES: usize = 900 * 1024;
/// What the DLQ keeps of a request body, bytes.
pub const REQUEST_EXCERPT_BYTES: usize = 64 * 1024;
/// The longest URL a template may make, bytes: servers stop between 8 and 64 KiB, our HTTP client at 64.
pub const URL_BYTES: usize = 32 * 1024;

/// Any encoded row, bytes: more than an event can be, so that only damage is refused.
pub const ROW_BYTES: usize = 1024 * 1024;

/// Operations in one transaction; a thousand rows commit in 6 to 10 ms (performance.md 5).
pub const TRANSACTION_OPS: usize = 1024;
/// Outcomes that one transaction takes at most; half as many do not wait for more.
pub const OUTCOMES_AT_ONCE: usize = 1024;
/// Bytes of events in one transaction; the request that exceeds it is the last one.
pub const TRANSACTION_BYTES: usize = 4 * 1024 * 1024;
/// Requests waiting for the writer before ingest answers 503.
pub const WRITER_QUEUE: usize = 4096;
/// Commits whose facts wait for the driver: each of at most two for an operation and one for an outcome.
pub const DRIVER_QUEUE: usize = 16;

/// Deliveries the scheduler holds in memory over all lanes; the rest wait in the outbox on disk.
pub const SCHEDULER_ENTRIES: usize = 65_536;
/// The fewest a lane may hold, however many lanes there are.
pub const LANE_ENTRIES_MIN: usize = 64;
/// The most a lane may hold, however few lanes there are.
pub const LANE_ENTRIES_MAX: usize = 8192;
/// Outcomes of one lane that may wait for their commit before it sends no more: what cannot be recorded must not be sent,
/// since a crash would send it all again. A commit takes some 10 ms and takes them all, so this bounds no healthy lane.
pub const LANE_UNSETTLED: usize = 1024;
/// Bytes of events the scheduler keeps at hand over all lanes; the others are read when it is their turn.
pub const SCHEDULER_BYTES: usize = 8 * 1024 * 1024;
/// Outbox rows read at once.
pub const PAGE_ROWS: usize = 512;

/// Why a destination is paused, bytes: a line for people.
pub const PAUSE_REASON_BYTES: usize = 256;

/// Rows of one API page.
pub const API_PAGE_DEFAULT: usize = 100;
pub const API_PAGE_MAX: usize = 1000;
/// Work one API request may do before it answers with a cursor: bounds the life of a read transaction. A delivery looked at
/// or a zone passed over is one; a row read beside it is four (an event) or eight (the delivery of a dead one), and one for
/// each half kilobyte. Measured at some 1 µs each.
pub const API_PAGE_WORK: usize = 20_000;

/// Rows one retention slice may remove, so that the writer is never held for long.
pub const SWEEP_ROWS: usize = 500;
/// Deliveries one step of a purge gives up, for the same reason.
pub const PURGE_ROWS: usize = 500;

//! How values are written: `[version][bincode 2, standard configuration][CRC-32 of all before, little-endian]`.
//!
//! This is the only file that names bincode, so that a successor with the same bytes can take its place here. The types
//! are what the file promises; [`super::convert`] turns them into the domain's and back. Reasons are stored as the
//! words users see, so that no reordering of an enum can change their meaning. Reading never panics, whatever the
//! bytes; a row of another version, with a wrong checksum, with anything left over or too large is a [`RowError`].

mod attempt;
mod operating;
mod tallies;

use bincode::{Decode, Encode};

pub(super) use attempt::AttemptRow;
pub(super) use operating::{AuditRow, JobFilterRow, JobRow, PauseRow, ProblemRow, RhythmRow, WaitingRow};
pub(super) use tallies::{
    CountsRow, EventCountsRow, FilterRow, StatsHeadRow, StatsSlotRow, ZoneCountsRow, ZoneRow, ZoneUidsRow,
};

use crate::domain::delivery::Status;
use crate::domain::limits::ROW_BYTES;

const CRC_BYTES: usize = 4;

/// Why bytes are no row, or a value makes none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum RowError {
    #[error("a row of {0} bytes is too short")]
    Short(usize),
    #[error("a row of {0} bytes is longer than {ROW_BYTES} bytes")]
    Long(usize),
    #[error("the row's checksum is wrong")]
    Checksum,
    #[error("the row has version {0}, which this version does not read")]
    Version(u8),
    #[error("the row cannot be read: {0}")]
    Form(String),
    #[error("the row holds no valid {0}")]
    Value(&'static str),
}

/// A type the file holds. A type that gained fields has a higher version, and reads what was written before.
pub(super) trait Row: Encode + Decode<()> {
    /// What is written.
    const VERSION: u8 = 1;

    /// Bytes it takes, by a generous guess: a buffer that has to grow on the way costs more than the rest of the writing.
    fn room(&self) -> usize {
        128
    }

    /// The row in a body of an older version, with the bytes it took; `None` where there is no such version.
    fn read_older(_version: u8, _body: &[u8]) -> Option<Result<(Self, usize), RowError>> {
        None
    }
}

/// The bytes of `row`.
pub(super) fn encode<R: Row>(row: &R) -> Result<Vec<u8>, RowError> {
    let mut bytes = Vec::with_capacity(row.room());
    bytes.push(R::VERSION);
    bincode::encode_into_std_write(row, &mut bytes, bincode::config::standard())
        .map_err(|error| RowError::Form(error.to_string()))?;
    if bytes.len() > ROW_BYTES {
        return Err(RowError::Long(bytes.len()));
    }
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// The row in `bytes`, all of them.
pub(super) fn decode<R: Row>(bytes: &[u8]) -> Result<R, RowError> {
    let (version, body) = checked(bytes)?;
    let (row, read) = decode_front(version, body)?;
    if read == body.len() { Ok(row) } else { Err(RowError::Form(format!("{} bytes left over", body.len() - read))) }
}

/// The first fields of a row that go by `R`; what follows is not looked at.
pub(super) fn decode_head<R: Row>(bytes: &[u8]) -> Result<R, RowError> {
    let (version, body) = checked(bytes)?;
    decode_front(version, body).map(|(row, _)| row)
}

fn decode_front<R: Row>(version: u8, body: &[u8]) -> Result<(R, usize), RowError> {
    if version == R::VERSION {
        return decode_plain(body);
    }
    R::read_older(version, body).unwrap_or(Err(RowError::Version(version)))
}

fn decode_plain<R: Decode<()>>(body: &[u8]) -> Result<(R, usize), RowError> {
    let config = bincode::config::standard().with_limit::<ROW_BYTES>();
    bincode::decode_from_slice(body, config).map_err(|error| RowError::Form(error.to_string()))
}

/// The version, and the body between it and the checksum.
fn checked(bytes: &[u8]) -> Result<(u8, &[u8]), RowError> {
    if bytes.len() > ROW_BYTES + CRC_BYTES {
        return Err(RowError::Long(bytes.len()));
    }
    let (front, checksum) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(RowError::Short(bytes.len()))?;
    let (version, body) = front.split_first().ok_or(RowError::Short(bytes.len()))?;
    if crc32fast::hash(front) != u32::from_le_bytes(*checksum) {
        return Err(RowError::Checksum);
    }
    Ok((*version, body))
}

/// Inbox: an event. Objects are JSON text, empty ones the empty text.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(super) struct EventRow {
    /// First, so that [`EventHead`] is the front of it.
    pub received_at: u64,
    pub source: String,
    pub canonical: String,
    pub event_id: Option<String>,
    pub uid: Option<String>,
    /// `None` where the time of receipt stands in.
    pub occurred_at: Option<u64>,
    pub value: Option<String>,
    pub currency: Option<String>,
    pub action_source: Option<String>,
    pub user: String,
    pub click: String,
    pub page: String,
    pub data: String,
}

impl EventRow {
    /// What of it can be large.
    pub fn bytes(&self) -> usize {
        [&self.user, &self.click, &self.page, &self.data].iter().map(|text| text.len()).sum()
    }
}

/// The front of an [`EventRow`].
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(super) struct EventHead {
    pub received_at: u64,
}

/// Deliveries: where a delivery stands.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(super) struct DeliveryRow {
    pub received_at: u64,
    pub target: Option<String>,
    pub state: StateRow,
    pub history: HistoryRow,
}

/// New states are added at the end.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(super) enum StateRow {
    Pending { due_at: u64 },
    Failed { due_at: u64, reason: String },
    Sent { at: u64 },
    FailedPermanently { at: u64, reason: String },
    Skipped { reason: String },
    Discarded { at: u64, reason: String },
}

impl StateRow {
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Pending { .. } | Self::Sent { .. } => None,
            Self::Failed { reason, .. }
            | Self::FailedPermanently { reason, .. }
            | Self::Skipped { reason }
            | Self::Discarded { reason, .. } => Some(reason),
        }
    }

    pub fn status(&self) -> Status {
        match self {
            Self::Pending { .. } => Status::Pending,
            Self::Failed { .. } => Status::Failed,
            Self::Sent { .. } => Status::Sent,
            Self::FailedPermanently { .. } => Status::FailedPermanently,
            Self::Skipped { .. } => Status::Skipped,
            Self::Discarded { .. } => Status::Discarded,
        }
    }
}

#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(super) struct HistoryRow {
    pub owed_since: u64,
    pub counted_since_owed: u32,
    pub counted: u32,
    pub exchanges: u32,
    pub first_attempt_at: Option<u64>,
    pub last_attempt_at: Option<u64>,
    pub last_http_status: Option<u16>,
}

/// DLQ: what was kept of a delivery's end.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(super) struct AutopsyRow {
    pub detail: String,
    pub request: Option<RequestRow>,
    pub http_status: Option<u16>,
    pub response: String,
}

#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(super) struct RequestRow {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// Dedupe: the event that came first with this key.
#[derive(Encode, Decode, Clone, Copy, PartialEq, Debug)]
pub(super) struct DedupeRow {
    pub seq: u64,
    pub received_at: u64,
    pub content: u64,
}

/// Meta: who this store is.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(super) struct IdentityRow {
    pub instance: u64,
    pub hash_key: [u8; 16],
}

/// A single number: a destination's, or one of meta's.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(super) struct NumberRow(pub u64);

/// Meta: what is known of the time.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(super) struct KnownTimeRow {
    pub at: u64,
    pub ahead: u64,
    pub ran: u64,
}

impl Row for EventRow {
    fn room(&self) -> usize {
        self.bytes() + 384
    }
}
impl Row for EventHead {}
impl Row for DeliveryRow {}
impl Row for AutopsyRow {}
impl Row for DedupeRow {}
impl Row for IdentityRow {}
impl Row for NumberRow {}
impl Row for KnownTimeRow {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every reader there is; none may panic.
    fn decode_as_everything(bytes: &[u8]) -> usize {
        [
            decode::<EventRow>(bytes).is_ok(),
            decode_head::<EventHead>(bytes).is_ok(),
            decode::<DeliveryRow>(bytes).is_ok(),
            decode::<AttemptRow>(bytes).is_ok(),
            decode::<AutopsyRow>(bytes).is_ok(),
            decode::<DedupeRow>(bytes).is_ok(),
            decode::<CountsRow>(bytes).is_ok(),
            decode::<EventCountsRow>(bytes).is_ok(),
            decode::<PauseRow>(bytes).is_ok(),
            decode::<JobRow>(bytes).is_ok(),
            decode::<AuditRow>(bytes).is_ok(),
            decode::<StatsHeadRow>(bytes).is_ok(),
            decode::<StatsSlotRow>(bytes).is_ok(),
            decode::<ZoneRow>(bytes).is_ok(),
            decode::<ZoneUidsRow>(bytes).is_ok(),
            decode::<FilterRow>(bytes).is_ok(),
            decode::<ProblemRow>(bytes).is_ok(),
            decode::<WaitingRow>(bytes).is_ok(),
            decode::<RhythmRow>(bytes).is_ok(),
            decode::<IdentityRow>(bytes).is_ok(),
            decode::<NumberRow>(bytes).is_ok(),
            decode::<KnownTimeRow>(bytes).is_ok(),
        ]
        .into_iter()
        .filter(|read| *read)
        .count()
    }

    pub(super) fn sealed(version: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![version];
        bytes.extend_from_slice(body);
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    proptest! {
        // Row 82.
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode_as_everything(&bytes), 0, "a checksum has let noise through");
        }

        /// Noise behind a right version and checksum, as a bug of ours could write it.
        #[test]
        fn sealed_noise_is_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for version in 0..4 {
                decode_as_everything(&sealed(version, &body));
            }
        }

        // Row 11.
        #[test]
        fn every_flipped_bit_is_found(seq in any::<u64>(), content in any::<u64>(), bit in any::<prop::sample::Index>()) {
            let mut bytes = encode(&DedupeRow { seq, received_at: 7, content }).unwrap();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode::<DedupeRow>(&bytes).is_err());
        }
    }

    #[test]
    fn the_rows_of_every_event_fit_into_the_room_they_are_given() {
        let event = EventRow::from(&crate::domain::event::tests::sample());
        assert_eq!(encode(&event).unwrap().capacity(), event.room());
        let long = EventRow { data: "x".repeat(10_000), ..event };
        assert_eq!(encode(&long).unwrap().capacity(), long.room());
        let found = DedupeRow { seq: u64::MAX, received_at: u64::MAX, content: u64::MAX };
        assert_eq!(encode(&found).unwrap().capacity(), found.room());
    }

    #[test]
    fn wrong_rows_say_what_is_wrong() {
        assert_eq!(decode::<NumberRow>(b"abc"), Err(RowError::Short(3)));
        assert_eq!(decode::<NumberRow>(b"abcd"), Err(RowError::Short(4)));
        assert_eq!(decode::<NumberRow>(b"abcdefgh"), Err(RowError::Checksum));
        assert_eq!(decode::<NumberRow>(&sealed(9, &[1])), Err(RowError::Version(9)));
        assert_eq!(decode::<NumberRow>(&sealed(1, &[1])), Ok(NumberRow(1)));
        assert!(matches!(decode::<NumberRow>(&sealed(1, &[1, 2])), Err(RowError::Form(_))), "left over");
        assert!(matches!(decode::<NumberRow>(&sealed(1, &[])), Err(RowError::Form(_))), "cut short");
        let unknown_state = sealed(1, &[0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        assert!(matches!(decode::<DeliveryRow>(&unknown_state), Err(RowError::Form(_))), "unknown state");
    }

    #[test]
    fn a_length_beyond_all_rows_is_refused_before_it_is_believed() {
        // A text that claims 2^62 bytes: 253 announces a 64-bit length.
        let mut body = vec![253];
        body.extend_from_slice(&(1_u64 << 62).to_le_bytes());
        assert!(matches!(decode::<AutopsyRow>(&sealed(1, &body)), Err(RowError::Form(_))));
        let huge =
            AutopsyRow { detail: "x".repeat(ROW_BYTES), request: None, http_status: None, response: String::new() };
        assert!(matches!(encode(&huge), Err(RowError::Long(_))));
    }

    /// The bytes of version 1, written down: a change here orphans every store there is.
    // Row 80.
    #[test]
    fn the_bytes_on_disk_stay_what_they_were() {
        let row = DeliveryRow {
            received_at: 1,
            target: Some("Buy".to_owned()),
            state: StateRow::Failed { due_at: 300, reason: "tls".to_owned() },
            history: HistoryRow {
                owed_since: 1,
                counted_since_owed: 2,
                counted: 3,
                exchanges: 4,
                first_attempt_at: None,
                last_attempt_at: Some(5),
                last_http_status: Some(503),
            },
        };
        let bytes = encode(&row).unwrap();
        let wanted: &[u8] =
            &[1, 1, 1, 3, b'B', b'u', b'y', 1, 251, 44, 1, 3, b't', b'l', b's', 1, 2, 3, 4, 0, 1, 5, 1, 251, 247, 1];
        assert_eq!(&bytes[..bytes.len() - CRC_BYTES], wanted);
        assert_eq!(decode::<DeliveryRow>(&bytes), Ok(row));
    }
}

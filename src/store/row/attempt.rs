//! Rows of the table of attempts, with the forms that older versions wrote.

use super::{Decode, Encode, Row, RowError, decode_plain};

/// Attempts: one exchange; its number is in the key.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(in crate::store) struct AttemptRow {
    pub at: u64,
    pub took: u64,
    pub http_status: Option<u16>,
    pub verdict: String,
    pub response: String,
    /// Fields and why they were left out. Since version 2.
    pub left_out: Vec<(String, String)>,
    /// Milliseconds until a connection stood, the answer began, and it ended. Since version 3, as is the rest.
    pub phases: (Option<u64>, Option<u64>, Option<u64>),
    pub proxy: Option<String>,
}

/// [`AttemptRow`] as version 2 wrote it.
#[derive(Encode, Decode)]
struct AttemptRowV2 {
    at: u64,
    took: u64,
    http_status: Option<u16>,
    verdict: String,
    response: String,
    left_out: Vec<(String, String)>,
}

/// [`AttemptRow`] as version 1 wrote it.
#[derive(Encode, Decode)]
struct AttemptRowV1 {
    at: u64,
    took: u64,
    http_status: Option<u16>,
    verdict: String,
    response: String,
}

impl Row for AttemptRow {
    const VERSION: u8 = 3;

    fn read_older(version: u8, body: &[u8]) -> Option<Result<(Self, usize), RowError>> {
        match version {
            1 => Some(
                decode_plain(body).map(|(row, read): (AttemptRowV1, usize)| (AttemptRowV2::from(row).into(), read)),
            ),
            2 => Some(decode_plain(body).map(|(row, read): (AttemptRowV2, usize)| (row.into(), read))),
            _ => None,
        }
    }
}

impl From<AttemptRowV1> for AttemptRowV2 {
    fn from(AttemptRowV1 { at, took, http_status, verdict, response }: AttemptRowV1) -> Self {
        Self { at, took, http_status, verdict, response, left_out: Vec::new() }
    }
}

impl From<AttemptRowV2> for AttemptRow {
    fn from(AttemptRowV2 { at, took, http_status, verdict, response, left_out }: AttemptRowV2) -> Self {
        Self { at, took, http_status, verdict, response, left_out, phases: (None, None, None), proxy: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sealed;
    use super::super::{CRC_BYTES, decode, encode};
    use super::*;

    // Row 80.
    #[test]
    fn attempts_of_the_first_version_are_read() {
        let body = [5, 7, 1, 251, 247, 1, 1, b'x', 2, b'n', b'o'];
        let row = decode::<AttemptRow>(&sealed(1, &body)).unwrap();
        assert_eq!((row.at, row.took, row.http_status, row.response.as_str()), (5, 7, Some(503), "no"));
        assert!(row.left_out.is_empty());
        let bytes = encode(&AttemptRow { left_out: vec![("a".to_owned(), "b".to_owned())], ..row.clone() }).unwrap();
        assert_eq!(bytes[0], 3);
        assert_eq!(decode::<AttemptRow>(&bytes).unwrap().left_out.len(), 1);
        assert_eq!(decode::<AttemptRow>(&sealed(4, &body)), Err(RowError::Version(4)));
        for later in [2, 3] {
            assert!(matches!(decode::<AttemptRow>(&sealed(later, &body)), Err(RowError::Form(_))), "cut short");
        }
    }

    // Row 80.
    #[test]
    fn attempts_of_the_second_version_are_read() {
        let body = [5, 7, 1, 251, 247, 1, 1, b'x', 2, b'n', b'o', 1, 1, b'f', 1, b'w'];
        let row = decode::<AttemptRow>(&sealed(2, &body)).unwrap();
        assert_eq!((row.at, row.took, row.http_status, row.response.as_str()), (5, 7, Some(503), "no"));
        assert_eq!(row.left_out, [("f".to_owned(), "w".to_owned())]);
        assert_eq!((row.phases, &row.proxy), ((None, None, None), &None), "nothing was measured then");
        let bytes = encode(&row).unwrap();
        assert_eq!(bytes.len(), 1 + body.len() + 4 + CRC_BYTES, "a byte for each thing that is not known");
        assert_eq!(decode::<AttemptRow>(&bytes), Ok(row));
    }

    /// The bytes of version 3, written down: a change here orphans every attempt there is.
    #[test]
    fn the_bytes_of_an_attempt_stay_what_they_are() {
        let row = AttemptRow {
            at: 5,
            took: 7,
            http_status: Some(503),
            verdict: "x".to_owned(),
            response: "no".to_owned(),
            left_out: Vec::new(),
            phases: (Some(1), Some(300), None),
            proxy: Some("p".to_owned()),
        };
        let bytes = encode(&row).unwrap();
        let wanted: &[u8] = &[3, 5, 7, 1, 251, 247, 1, 1, b'x', 2, b'n', b'o', 0, 1, 1, 1, 251, 44, 1, 0, 1, 1, b'p'];
        assert_eq!(&bytes[..bytes.len() - CRC_BYTES], wanted);
        assert_eq!(decode::<AttemptRow>(&bytes), Ok(row));
    }
}

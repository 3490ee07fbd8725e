//! What Meta's error codes mean, as one table (platforms.md 1.6). The first row that fits counts, so that a subcode stands
//! before its code.

use crate::domain::outcome::DeadReason;

/// What becomes of the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Transient,
    /// Transient, but it may be a bad call: a few attempts only, whatever `is_transient` says.
    Unsure,
    Throttled,
    DestinationFault,
    /// The event's own fault, whatever else the answer says.
    Event(DeadReason),
    /// The event's own fault unless the answer says `is_transient`.
    Parameter,
    /// Taken before.
    Duplicate,
}

pub(super) struct Row {
    /// From and to, inclusive.
    codes: (i64, i64),
    subcode: Option<i64>,
    pub class: Class,
    pub meaning: &'static str,
}

/// The row for an error, if the table knows it.
pub(super) fn find(code: i64, subcode: Option<i64>) -> Option<&'static Row> {
    TABLE
        .iter()
        .find(|row| (row.codes.0..=row.codes.1).contains(&code) && (row.subcode.is_none() || row.subcode == subcode))
}

const fn any(code: i64, class: Class, meaning: &'static str) -> Row {
    range(code, code, class, meaning)
}

const fn range(from: i64, to: i64, class: Class, meaning: &'static str) -> Row {
    Row { codes: (from, to), subcode: None, class, meaning }
}

const fn sub(code: i64, subcode: i64, class: Class, meaning: &'static str) -> Row {
    Row { codes: (code, code), subcode: Some(subcode), class, meaning }
}

const REFUSED: Class = Class::Event(DeadReason::Permanent);
const FAULT: Class = Class::DestinationFault;

static TABLE: [Row; 50] = [
    sub(1, 99, Class::Unsure, "an unknown error, which may be a bad call"),
    any(1, Class::Transient, "an unknown error"),
    any(2, Class::Transient, "the service is down"),
    any(3, FAULT, "the app lacks a capability"),
    any(4, Class::Throttled, "the app's call limit is reached"),
    any(10, FAULT, "a permission is missing"),
    any(17, Class::Throttled, "the user's call limit is reached"),
    any(32, Class::Throttled, "the page's call limit is reached"),
    sub(100, 33, FAULT, "the pixel does not exist or the token may not use it; check pixel_id and the token"),
    sub(100, 34, FAULT, "the pixel does not exist; check pixel_id"),
    sub(100, 2_804_001, REFUSED, "the payload is refused"),
    sub(100, 2_804_003, Class::Event(DeadReason::Expired), "the event is too old"),
    sub(100, 2_804_004, REFUSED, "the event's time is in the future"),
    sub(100, 2_804_007, REFUSED, "the payload is refused"),
    sub(100, 2_804_008, REFUSED, "the content ids are refused"),
    sub(100, 2_804_009, REFUSED, "the purchase has no value"),
    sub(100, 2_804_010, REFUSED, "the currency is refused"),
    sub(100, 2_804_016, REFUSED, "the payload is refused"),
    sub(100, 2_804_017, REFUSED, "the payload is refused"),
    sub(100, 2_804_019, REFUSED, "the payload is refused"),
    sub(100, 2_804_023, REFUSED, "there is a value without a currency"),
    sub(100, 2_804_036, REFUSED, "the lead id is refused"),
    sub(100, 2_804_043, REFUSED, "the device info (extinfo) is refused"),
    sub(100, 2_804_048, REFUSED, "the payload is refused"),
    sub(100, 2_804_050, REFUSED, "there are too few identifiers to find a person"),
    sub(100, 2_804_069, REFUSED, "the messaging fields are refused"),
    sub(100, 2_804_116, REFUSED, "the messaging fields are refused"),
    any(100, Class::Parameter, "a parameter is refused"),
    any(102, FAULT, "the session or token is not valid"),
    any(105, REFUSED, "there are too many parameters"),
    sub(190, 458, FAULT, "the access token is not valid: the app was removed"),
    sub(190, 459, FAULT, "the access token is not valid: the user must log in to Facebook first"),
    sub(190, 460, FAULT, "the access token is not valid: the password was changed"),
    sub(190, 461, FAULT, "the access token is not valid"),
    sub(190, 462, FAULT, "the access token is not valid"),
    sub(190, 463, FAULT, "the access token has expired"),
    sub(190, 464, FAULT, "the access token is not valid: the user is not confirmed"),
    sub(190, 465, FAULT, "the access token is not valid"),
    sub(190, 466, FAULT, "the access token is not valid"),
    sub(190, 467, FAULT, "the access token is not valid: it was revoked or logged out"),
    any(190, FAULT, "the access token is not valid"),
    range(200, 299, FAULT, "a permission is missing"),
    any(341, Class::Transient, "the application's limit is reached"),
    any(368, FAULT, "the account is blocked for a breach of policy"),
    any(506, Class::Duplicate, "the same post was taken before"),
    any(613, Class::Throttled, "a custom rate limit is reached"),
    any(2635, FAULT, "the API version is retired; set api_version to a current one"),
    any(5000, Class::Transient, "an unknown error"),
    any(21_009, Class::Transient, "the data set is not ready yet"),
    range(80_000, 80_014, Class::Throttled, "a business use case's limit is reached"),
];

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Every row of the table decides at least one answer of the contract fixtures, a range at both of its ends, and what
    /// is the event's own fault alone and in company.
    #[test]
    fn every_row_has_a_fixture() {
        let file = include_str!("../../../tests/contract/fixtures/fb_capi/answers.json");
        let groups: Value = serde_json::from_str(file).unwrap();
        let rows = groups.as_array().unwrap().iter().flat_map(|group| group["rows"].as_array().unwrap());
        let answers: Vec<(i64, Option<i64>, bool)> = rows
            .filter_map(|row| {
                let error = &row["body"]["error"];
                let several = row["sent"].as_u64().is_some_and(|sent| sent > 1);
                Some((error["code"].as_i64()?, error["error_subcode"].as_i64(), several))
            })
            .collect();
        for row in &TABLE {
            let decides = |code: i64, several: bool| {
                answers.iter().any(|(found, subcode, company)| {
                    let by = find(*found, *subcode);
                    *found == code && *company == several && by.is_some_and(|by| std::ptr::eq(by, row))
                })
            };
            for code in [row.codes.0, row.codes.1] {
                assert!(decides(code, false), "{code}/{:?} has no fixture", row.subcode);
                let own_fault = matches!(row.class, Class::Event(_) | Class::Parameter | Class::Duplicate);
                assert!(!own_fault || decides(code, true), "{code}/{:?} has no fixture with others", row.subcode);
            }
        }
    }
}

//! The log of one platform: that of each of its destinations, put together in the order of the whole.

use super::log::Rows;
use crate::http::AppState;
use crate::http::problem::Problem;

/// The configured destinations of that kind.
pub(super) fn destinations(state: &AppState, wanted: &str) -> Result<Vec<String>, Problem> {
    let kinds = crate::destination::Kind::ALL.map(crate::destination::Kind::as_str);
    if !kinds.contains(&wanted) {
        return Err(Problem::field("kind", "invalid", format!("not a kind; write one of {}", kinds.join(", "))));
    }
    let snapshot = state.pipeline.snapshot();
    let of_kind = snapshot.destinations.iter().filter(|(_, destination)| destination.kind.as_str() == wanted);
    Ok(of_kind.map(|(name, _)| name.to_string()).collect())
}

/// Pages that begin at the same place become one, newest first: ids of one store are ordered as their receipt. A page
/// that stopped at its cursor says nothing about what lies behind it, so nothing behind any cursor is shown yet.
pub(super) fn merge(pages: Vec<Rows>, limit: usize) -> Rows {
    let mut horizon = pages.iter().filter_map(|page| page.cursor.clone()).max();
    let mut rows: Vec<_> = pages.into_iter().flat_map(|page| page.deliveries).collect();
    rows.retain(|row| horizon.as_deref().is_none_or(|horizon| row.id.as_str() >= horizon));
    rows.sort_by(|one, other| other.id.cmp(&one.id));
    if rows.len() > limit {
        rows.truncate(limit);
        horizon = rows.last().map(|row| row.id.to_string());
    }
    Rows { deliveries: rows, cursor: horizon }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(ids: &[u32], cursor: Option<u32>) -> Rows {
        let id = |number: u32| format!("dlv_{number:04}");
        let row = |number: &u32| {
            json!({
                "id": id(*number), "event": { "id": "e", "event_id": null, "event": "deposit" }, "destination": "a",
                "status": "sent", "target": null, "reason": null, "received_at": "", "attempt_count": 1,
                "last_status": null, "next_attempt_at": null
            })
        };
        let rows: Vec<_> = ids.iter().map(row).collect();
        serde_json::from_value(json!({ "deliveries": rows, "cursor": cursor.map(id) })).unwrap()
    }

    fn merged(pages: Vec<Rows>, limit: usize) -> (Vec<String>, Option<String>) {
        let Rows { deliveries, cursor } = merge(pages, limit);
        let short = |id: &str| id.trim_start_matches("dlv_000").to_owned();
        (deliveries.iter().map(|row| short(row.id.as_str())).collect(), cursor.as_deref().map(short))
    }

    #[test]
    fn pages_are_merged_in_the_order_of_receipt() {
        let words = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(merged(vec![page(&[9, 5], None), page(&[7, 6], None)], 10), (words(&["9", "7", "6", "5"]), None));
        let full = merged(vec![page(&[9, 5], Some(5)), page(&[7, 6], None)], 3);
        assert_eq!(full, (words(&["9", "7", "6"]), Some("6".to_owned())), "what did not fit comes on the next page");
        let behind = merged(vec![page(&[9, 8], Some(8)), page(&[7, 3], None)], 10);
        assert_eq!(behind, (words(&["9", "8"]), Some("8".to_owned())), "5 of the first might still come between");
        let searching = merged(vec![page(&[], Some(4)), page(&[7, 3], None)], 10);
        assert_eq!(searching, (words(&["7"]), Some("4".to_owned())), "a page may be empty and still go on");
    }
}

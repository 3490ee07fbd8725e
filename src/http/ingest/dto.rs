//! What a sender is answered once its events are on disk.

use serde::Serialize;

use super::items::Rejected;
use crate::domain::id::EventId;
use crate::http::problem::FieldError;
use crate::pipeline::Receipt;

/// The answer to a single event.
#[derive(PartialEq, Eq, Debug, Serialize)]
pub(super) struct Single {
    ok: bool,
    #[serde(flatten)]
    told: Told,
    /// Parameters that came as macros nobody filled in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unexpanded: Vec<String>,
}

/// The answer to a postback that the source's map ignores.
#[derive(PartialEq, Eq, Debug, Serialize)]
pub(super) struct Ignored {
    ok: bool,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unexpanded: Vec<String>,
}

/// What became of a good event.
#[derive(PartialEq, Eq, Debug, Serialize)]
pub(super) struct Told {
    status: &'static str,
    id: String,
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflict: Option<bool>,
}

/// An item of a batch once the good ones are durable: its receipt and the sender's id, or why it is refused.
pub(super) type Answered = Result<(Receipt, Option<String>), Rejected>;

/// The answer to a batch.
#[derive(PartialEq, Eq, Debug, Serialize)]
pub(super) struct Batch {
    ok: bool,
    pub(super) queued: usize,
    pub(super) duplicate: usize,
    pub(super) rejected: usize,
    pub(super) results: Vec<Item>,
}

#[derive(PartialEq, Eq, Debug, Serialize)]
pub(super) struct Item {
    index: usize,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Good(Told),
    Rejected {
        status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        event_id: Option<String>,
        #[serde(flatten)]
        first: Option<FieldError>,
        /// All of them, where there are several.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        errors: Vec<FieldError>,
    },
}

impl Single {
    pub(super) fn new(receipt: Receipt, event_id: Option<String>) -> Self {
        Self { ok: true, told: Told::new(receipt, event_id), unexpanded: Vec::new() }
    }

    /// Names the parameters that came as macros.
    pub(super) fn with_unexpanded(self, unexpanded: Vec<String>) -> Self {
        Self { unexpanded, ..self }
    }
}

impl Ignored {
    pub(super) fn new(unexpanded: Vec<String>) -> Self {
        Self { ok: true, status: "ignored", unexpanded }
    }
}

impl Told {
    fn new(receipt: Receipt, event_id: Option<String>) -> Self {
        let shown = |id: EventId| id.to_string();
        match receipt {
            Receipt::Queued { id, deliveries } => {
                Self { status: "queued", id: shown(id), event_id, deliveries: Some(deliveries), conflict: None }
            }
            Receipt::Duplicate { id, conflict } => {
                let conflict = conflict.then_some(true);
                Self { status: "duplicate", id: shown(id), event_id, deliveries: None, conflict }
            }
        }
    }
}

impl Batch {
    /// `items` in the order of the request; a receipt for each good one.
    pub(super) fn new(items: Vec<Answered>) -> Self {
        let mut batch =
            Self { ok: true, queued: 0, duplicate: 0, rejected: 0, results: Vec::with_capacity(items.len()) };
        for (index, item) in items.into_iter().enumerate() {
            let outcome = match item {
                Ok((receipt, event_id)) => {
                    match receipt {
                        Receipt::Queued { .. } => batch.queued += 1,
                        Receipt::Duplicate { .. } => batch.duplicate += 1,
                    }
                    Outcome::Good(Told::new(receipt, event_id))
                }
                Err(Rejected { event_id, mut errors }) => {
                    batch.rejected += 1;
                    let first = errors.first().cloned();
                    if errors.len() == 1 {
                        errors.clear();
                    }
                    Outcome::Rejected { status: "rejected", event_id, first, errors }
                }
            };
            batch.results.push(Item { index, outcome });
        }
        batch.ok = batch.rejected < batch.results.len();
        batch
    }

    /// Every fault of every rejected item.
    pub(super) fn errors(&self) -> Vec<FieldError> {
        let rejected = self.results.iter().flat_map(|item| match &item.outcome {
            Outcome::Rejected { first, errors, .. } if errors.is_empty() => first.as_slice(),
            Outcome::Rejected { errors, .. } => errors.as_slice(),
            Outcome::Good(_) => &[],
        });
        rejected.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{EventSeq, InstanceId};

    fn id(seq: u64) -> EventId {
        EventId { instance: InstanceId::from_random(0), seq: EventSeq(seq) }
    }

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn single_answers_have_the_contracted_shape() {
        let queued = Single::new(Receipt::Queued { id: id(1), deliveries: 3 }, Some("t-1".to_owned()));
        insta::assert_snapshot!(json(&queued), @r#"{"ok":true,"status":"queued","id":"evt_000000000000000000001","event_id":"t-1","deliveries":3}"#);
        let repeat = Single::new(Receipt::Duplicate { id: id(1), conflict: false }, None);
        insta::assert_snapshot!(json(&repeat), @r#"{"ok":true,"status":"duplicate","id":"evt_000000000000000000001","event_id":null}"#);
        let conflict = Single::new(Receipt::Duplicate { id: id(1), conflict: true }, None);
        assert!(json(&conflict).contains(r#""conflict":true"#));
    }

    #[test]
    fn macros_are_named_in_the_answer() {
        let queued = Single::new(Receipt::Queued { id: id(1), deliveries: 3 }, None);
        let queued = queued.with_unexpanded(vec!["uid".to_owned()]);
        assert!(json(&queued).ends_with(r#""deliveries":3,"unexpanded":["uid"]}"#));
        assert_eq!(json(&Ignored::new(Vec::new())), r#"{"ok":true,"status":"ignored"}"#);
    }

    #[test]
    fn batch_answers_list_every_item_in_order() {
        let error = |field: &str| FieldError::new(format!("$[1].{field}"), "invalid", "why");
        let batch = Batch::new(vec![
            Ok((Receipt::Queued { id: id(1), deliveries: 0 }, Some("a".to_owned()))),
            Err(Rejected { event_id: Some("b".to_owned()), errors: vec![error("x")] }),
            Err(Rejected { event_id: None, errors: vec![error("x"), error("y")] }),
            Ok((Receipt::Duplicate { id: id(2), conflict: false }, None)),
        ]);
        let told: Vec<_> = batch.errors().into_iter().map(|error| error.path).collect();
        assert_eq!(told, ["$[1].x", "$[1].x", "$[1].y"], "every fault of each rejected one");
        let pretty = serde_json::to_string_pretty(&batch).unwrap();
        insta::assert_snapshot!(pretty, @r#"
        {
          "ok": true,
          "queued": 1,
          "duplicate": 1,
          "rejected": 2,
          "results": [
            {
              "index": 0,
              "status": "queued",
              "id": "evt_000000000000000000001",
              "event_id": "a",
              "deliveries": 0
            },
            {
              "index": 1,
              "status": "rejected",
              "event_id": "b",
              "path": "$[1].x",
              "code": "invalid",
              "detail": "why"
            },
            {
              "index": 2,
              "status": "rejected",
              "path": "$[1].x",
              "code": "invalid",
              "detail": "why",
              "errors": [
                {
                  "path": "$[1].x",
                  "code": "invalid",
                  "detail": "why"
                },
                {
                  "path": "$[1].y",
                  "code": "invalid",
                  "detail": "why"
                }
              ]
            },
            {
              "index": 3,
              "status": "duplicate",
              "id": "evt_000000000000000000002",
              "event_id": null
            }
          ]
        }
        "#);
    }

    #[test]
    fn a_batch_without_a_good_item_is_not_ok() {
        let rejected = || Rejected { event_id: None, errors: vec![FieldError::new("$[0]", "type", "why")] };
        assert!(
            json(&Batch::new(vec![Err(rejected())]))
                .starts_with(r#"{"ok":false,"queued":0,"duplicate":0,"rejected":1"#)
        );
    }
}

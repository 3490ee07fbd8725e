//! `POST /v1/destinations/{name}/purge`: give up what a destination is owed that is gone from the configuration.
//!
//! What is owed becomes `discarded`, a slice at a time and never more than was counted first; between slices the writer does
//! everything else. Nobody needs to remember how far it came: what is done is done, and asking again goes on with the rest.
//! Left alone are the DLQ, which has a verb of its own, and what is under way, which ends by its own outcome.
//!
//! Refused for a destination that is configured, also a disabled one: to destroy what it is owed takes two steps, and the
//! first is to take it out of the file.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::Value;

use super::AppState;
use super::destinations::{self, Name};
use super::json::Json;
use super::problem::{FieldError, Problem};
use crate::domain::audit::{Deed, Who};
use crate::domain::event::Object;
use crate::domain::id::DestinationId;
use crate::domain::limits::PURGE_ROWS;
use crate::domain::name::DestinationName;
use crate::store::Counts;

/// The answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
struct Purged {
    /// Owed when it began.
    matched: u64,
    discarded: u64,
    /// Being attempted then, and left to their outcome.
    in_flight: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Order {
    reason: String,
    dry_run: bool,
}

pub(super) async fn purge(
    State(state): State<AppState>,
    Extension(who): Extension<Who>,
    name: Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let given = destinations::given(name)?;
    let Order { reason, dry_run } =
        order(&destinations::said(&state, &headers, body).await?).map_err(Problem::fields)?;
    let names = state.names().await?;
    let found = names.id(&given).and_then(|id| Some((names.name(id)?.clone(), id)));
    let (name, id) = found.ok_or_else(|| {
        Problem::not_found(format!("no destination {given:?} was ever configured here; postbackd status lists all"))
    })?;
    if is_configured(&state, &name) {
        return Err(configured(&format!(
            "{name} is in the running configuration: what it is owed will be sent. To give it up, take {name} out of the \
             file, reload, and ask again; to keep it unsent, pause the destination or write enabled = false; what is in \
             the DLQ is discarded by dlq discard"
        )));
    }
    let (matched, in_flight) = (owed(&state, id), state.pipeline.under_way(id).await?.len());
    let mut done = Purged { matched, discarded: 0, in_flight };
    if !dry_run {
        let worked = work(&state, (&name, id), &reason, &mut done).await;
        let Purged { discarded, .. } = done;
        let came_of = format!("{discarded} of {matched} given up");
        state.keep(Deed::new(who, "purge").on(&name).because(&reason).ended(&came_of)).await;
        worked?;
        tracing::info!(destination = %name, reason, matched, discarded, in_flight, "An operator gave up what was owed.");
    }
    Ok(Json(done).into_response())
}

async fn work(
    state: &AppState,
    (name, id): (&DestinationName, DestinationId),
    reason: &str,
    done: &mut Purged,
) -> Result<(), Problem> {
    loop {
        let left = done.matched.saturating_sub(done.discarded);
        let slice = PURGE_ROWS.min(usize::try_from(left).unwrap_or(usize::MAX));
        if slice == 0 {
            return Ok(());
        }
        let purged = state.pipeline.purge(id, reason.to_owned(), slice).await;
        let Some(purged) = purged.map_err(|cause| with_progress(cause.into(), *done))? else {
            return Err(with_progress(configured(&returned(name, *done)), *done));
        };
        done.discarded = done.discarded.saturating_add(purged);
        if usize::try_from(purged).unwrap_or(usize::MAX) < slice {
            return Ok(());
        }
    }
}

fn is_configured(state: &AppState, name: &DestinationName) -> bool {
    state.pipeline.destination_ids().contains_key(name)
}

fn owed(state: &AppState, id: DestinationId) -> u64 {
    let ledger = state.reader.ledger();
    ledger.deliveries.get(&id).map_or(0, Counts::owed)
}

fn configured(detail: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, "configured", "The destination is configured", detail)
}

fn returned(name: &DestinationName, Purged { matched, discarded, .. }: Purged) -> String {
    format!(
        "{name} has returned to the configuration meanwhile: {discarded} of {matched} were given up, the rest is sent there"
    )
}

/// What was done before it ended is done.
fn with_progress(problem: Problem, done: Purged) -> Problem {
    problem.with_member("matched", done.matched).with_member("discarded", done.discarded)
}

fn order(said: &Object) -> Result<Order, Vec<FieldError>> {
    let mut errors = destinations::nothing_else(said, &["reason", "dry_run"]).err().unwrap_or_default();
    let given = |name: &str| said.get(name).filter(|value| !value.is_null());
    let asked = "say why they are given up; each of them shows it";
    let reason = destinations::reason(given("reason"), asked).map_err(|error| errors.push(error)).ok();
    let dry_run = match given("dry_run") {
        None => false,
        Some(Value::Bool(dry_run)) => *dry_run,
        Some(_) => {
            errors.push(FieldError::new("$.dry_run", "type", "write true or false"));
            false
        }
    };
    match reason {
        Some(reason) if errors.is_empty() => Ok(Order { reason, dry_run }),
        Some(_) | None => Err(errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever reads the words alone, as on the command line, learns how far it came too.
    #[test]
    fn a_name_that_returned_is_told_with_what_was_given_up() {
        let name = "shop".parse().unwrap();
        let told = returned(&name, Purged { matched: 3000, discarded: 500, in_flight: 2 });
        assert!(told.contains("500 of 3000 were given up"), "{told}");
    }

    #[test]
    fn nothing_is_given_up_without_a_reason_or_by_a_misspelt_word() {
        let read = |text: &str| order(&serde_json::from_str(text).unwrap());
        let wanted = |dry_run| Ok(Order { reason: "left us".to_owned(), dry_run });
        assert_eq!(read(r#"{"reason":" left us "}"#), wanted(false));
        assert_eq!(read(r#"{"reason":"left us","dry_run":true}"#), wanted(true));
        for (text, paths) in [
            ("{}", vec!["$.reason"]),
            (r#"{"dry_run":true}"#, vec!["$.reason"]),
            (r#"{"reason":"x","dry_run":"yes"}"#, vec!["$.dry_run"]),
            (r#"{"reason":"x","dryrun":true}"#, vec!["$"]),
        ] {
            let errors = read(text).expect_err(text);
            assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), paths, "{text}");
        }
    }
}

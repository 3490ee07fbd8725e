//! What was sent since a backup was taken, as another file knows it: a newer store of the same instance, or an export of
//! deliveries. Deliveries it knows as sent need not be owed again after a restore.
//!
//! An export is a stream of JSON values, one a line or not: deliveries (`{"id": "dlv_…", "status": "sent"}`), or objects that
//! hold some under `deliveries`, as `postbackd deliveries --all`, `--json`, `--follow --json` and `event --json` print them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use serde_json::Value;

use super::examine;
use crate::domain::delivery::{State, Status};
use crate::domain::id::{DeliveryId, DeliveryKey, InstanceId};
use crate::domain::time::UnixMs;
use crate::store::directory::{is_engine_file, refuse, refuse_io};
use crate::store::error::{OpenError, StoreError};
use crate::store::{Options, Store};

/// See the module's page.
pub(super) enum Sent {
    Store(Box<Store>),
    Export(BTreeMap<DeliveryKey, UnixMs>),
}

impl Sent {
    /// What `path` knows of the deliveries of `instance`; `now` is when those of an export were sent that do not say it.
    pub fn read(path: &Path, instance: InstanceId, now: UnixMs, options: Options) -> Result<Self, OpenError> {
        let mut front = Vec::new();
        let file = File::open(path).map_err(|error| refuse_io(path, "opening what knows what was sent", &error))?;
        let read = (&file).take(16).read_to_end(&mut front);
        read.map_err(|error| refuse_io(path, "reading what knows what was sent", &error))?;
        if !is_engine_file(&front) {
            return Ok(Self::Export(export(path, instance, now)?));
        }
        let store = examine(path, options)?;
        if store.instance() != instance {
            return Err(refuse(
                path,
                format!(
                    "this is the store of instance {:010x} and the backup is of {:010x}: it does not know what that one sent; \
                     name a newer store, backup or export of the same one",
                    store.instance().get(),
                    instance.get()
                ),
            ));
        }
        Ok(Self::Store(Box::new(store)))
    }

    /// When this delivery was sent, if it was.
    pub fn at(&self, key: DeliveryKey) -> Result<Option<UnixMs>, StoreError> {
        match self {
            Self::Export(sent) => Ok(sent.get(&key).copied()),
            Self::Store(store) => {
                let delivery = store.reader().delivery(key)?;
                Ok(delivery.and_then(|delivery| match delivery.state {
                    State::Sent { at } => Some(at),
                    State::Pending { .. }
                    | State::Failed { .. }
                    | State::FailedPermanently { .. }
                    | State::Skipped { .. }
                    | State::Discarded { .. } => None,
                }))
            }
        }
    }
}

fn export(path: &Path, instance: InstanceId, now: UnixMs) -> Result<BTreeMap<DeliveryKey, UnixMs>, OpenError> {
    let file = File::open(path).map_err(|error| refuse_io(path, "opening the export", &error))?;
    let (mut sent, mut deliveries) = (BTreeMap::new(), 0_u64);
    for value in serde_json::Deserializer::from_reader(BufReader::new(file)).into_iter::<Value>() {
        let value = value.map_err(|error| refuse(path, format!("{NEITHER} ({error})")))?;
        let listed = value.get("deliveries").and_then(Value::as_array);
        let all = listed.map_or_else(|| std::slice::from_ref(&value), Vec::as_slice);
        for delivery in all {
            deliveries = deliveries.saturating_add(1);
            let (key, at) = one(delivery, instance, now)
                .map_err(|why| refuse(path, format!("delivery {deliveries} of the export {why}; {NEITHER}")))?;
            sent.extend(at.map(|at| (key, at)));
        }
    }
    if deliveries == 0 {
        return Err(refuse(path, format!("there is no delivery in it; {NEITHER}")));
    }
    Ok(sent)
}

const NEITHER: &str = "what is wanted is a newer store or backup of the same daemon, or what \
                       `postbackd deliveries --status sent --all` prints";

/// A delivery of an export, with its time where it was sent.
fn one(delivery: &Value, instance: InstanceId, now: UnixMs) -> Result<(DeliveryKey, Option<UnixMs>), String> {
    let text = |name: &str| delivery.get(name).and_then(Value::as_str);
    let id = text("id").ok_or("has no id")?;
    let id: DeliveryId = id.parse().map_err(|error: crate::domain::id::IdError| format!("has no id: {error}"))?;
    if id.instance != instance {
        return Err(format!("is of instance {:010x} and the backup of {:010x}", id.instance.get(), instance.get()));
    }
    let status = text("status").ok_or("has no status")?;
    let status = Status::parse(status).ok_or_else(|| format!("has an unknown status {status:?}"))?;
    let at = text("last_at").and_then(UnixMs::parse_rfc3339).unwrap_or(now);
    Ok((id.key, (status == Status::Sent).then_some(at)))
}

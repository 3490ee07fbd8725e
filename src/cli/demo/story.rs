//! What happens in the demo, act by act. Each act says what it does and fails where the outcome is not the promised one.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::arrivals::{Arrivals, ReadIds, meta_ids, postback_ids, webhook_ids};
use super::child::{DaemonProcess, GLANCE};
use super::say;
use super::workspace::{Addresses, Tokens, Workspace};
use crate::cli::client::{self, Daemon};
use crate::cli::out;
use crate::cli::sink::faults::Fault;
use crate::cli::sink::{Behaviour, Options, Sink};
use crate::domain::secret::Secret;
use crate::domain::time::DurationMs;
use crate::egress::api_client::ApiResponse;
use crate::env::clock::{Clock, SystemClock};

/// One step: the daemon's retries are at most a second apart here.
const STEP: Duration = Duration::from_secs(15);
/// Events of the crash, and how many requests a receiver has seen when it comes.
const CRASH_EVENTS: usize = 200;
const CRASH_AFTER: usize = 20;
/// How slow that receiver is: sixteen at a time, so all of them would take it almost three seconds.
const SLOW: DurationMs = DurationMs(200);
/// More requests than the demo can cause.
const KEEP: usize = 10_000;
const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Everybody on the stage.
struct Stage<'a> {
    workspace: &'a Workspace,
    clock: &'a SystemClock,
    daemon: Daemon,
    shop: Secret,
    crm: Sink,
    network: Sink,
    meta: Sink,
    /// Sender's ids of what the daemon has acknowledged.
    acknowledged: BTreeSet<String>,
}

pub async fn tell(workspace: &Workspace, clock: &SystemClock) -> anyhow::Result<()> {
    let mut stage = Stage::set(workspace, clock).await?;
    let mut process = DaemonProcess::start(workspace, &stage.daemon, clock).await?;
    say("The daemon runs, with three destinations: crm (webhook), network (S2S postback) and meta (Conversions API).");
    stage.ingest().await?;
    stage.retry().await?;
    stage.dead_letter().await?;
    stage.crash(&mut process).await?;
    stage.balance().await?;
    let status = process.stop(clock).await?;
    ensure!(status.success(), "the daemon did not stop cleanly ({status})");
    say("SIGTERM: the daemon finished what was in flight and stopped.");
    Ok(())
}

impl<'a> Stage<'a> {
    async fn set(workspace: &'a Workspace, clock: &'a SystemClock) -> anyhow::Result<Self> {
        let (crm, network, meta) = (receiver().await?, receiver().await?, receiver().await?);
        let addresses =
            Addresses { daemon: free_address().await?, crm: crm.addr, network: network.addr, meta: meta.addr };
        let tokens = Tokens::random();
        workspace.write_config(&addresses, &tokens)?;
        let daemon = Daemon::at(&format!("http://{}", addresses.daemon), Some(tokens.admin))?;
        say(&format!("The demo works in {} and removes it at the end.", workspace.dir().display()));
        Ok(Self { workspace, clock, daemon, shop: tokens.shop, crm, network, meta, acknowledged: BTreeSet::new() })
    }

    /// Act one: accepted once, a repeat is recognised, nonsense is refused.
    async fn ingest(&mut self) -> anyhow::Result<()> {
        // The crm is having a bad moment when the events come.
        let fail = vec![Fault::Count { requests: 2, status: 503 }];
        self.crm.behave(Behaviour { fail, ..Behaviour::default() });
        let first = self.accept("order-1").await?;
        self.accept("order-2").await?;
        self.accept("order-3").await?;
        say(&format!("Three deposits were sent; each was on disk before its 202. order-1 is {}.", text(&first, "id")));

        let again = self.post(&event("order-1")).await?;
        let body = client::success(&again)?;
        ensure!(text(&body, "status") == "duplicate", "a repeat of order-1 was answered {body}");
        ensure!(text(&body, "id") == text(&first, "id"), "a repeat of order-1 was answered another id: {body}");
        say("order-1 was sent once more: \"duplicate\", with the same id.");

        let mut wrong = event("order-4");
        if let Some(event) = wrong.as_object_mut() {
            event.insert("value".to_owned(), "25,00".into());
        }
        let refused = self.post(&wrong).await?;
        ensure!(refused.status == 422, "an amount of \"25,00\" was answered {}", refused.status);
        say(&format!("An amount of \"25,00\" was refused: {}", client::problem_text(&refused)));
        Ok(())
    }

    /// Act two: a destination fails, the daemon tries again, nobody else waits for it.
    async fn retry(&self) -> anyhow::Result<()> {
        self.wait_all_sent().await?;
        let mut retried = Vec::new();
        for id in &self.acknowledged {
            let delivery = self.delivery(id, "crm").await?;
            let attempts = delivery.get("attempts").and_then(Value::as_array).map_or(0, Vec::len);
            if attempts > 1 {
                retried.push(format!("{id} was sent at attempt {attempts}"));
            }
        }
        ensure!(!retried.is_empty(), "the crm answered 503 twice and no delivery shows a second attempt");
        say(&format!("crm answered 503 twice; the daemon tried again: {}.", retried.join(", ")));
        Ok(())
    }

    /// Act three: refused for good, kept with its reason, mended, replayed under the same id.
    async fn dead_letter(&mut self) -> anyhow::Result<()> {
        self.network.behave(Behaviour::always(400));
        self.accept("order-5").await?;
        let entry = self.wait_for("a delivery in the DLQ", async || self.dead().await).await?;
        ensure!(text(&entry, "destination") == "network", "the wrong delivery is in the DLQ: {entry}");
        let id = text(&entry, "id").to_owned();
        say(&format!(
            "network answered 400 to order-5: that is permanent. {id} is in the DLQ: {}",
            text(&entry, "detail")
        ));

        self.network.behave(Behaviour::default());
        let answer = self.daemon.post("/v1/dlq/replay", &json!({ "ids": [id] })).await?;
        ensure!(answer.get("replayed").and_then(Value::as_u64) == Some(1), "the replay was answered {answer}");
        self.wait_all_sent().await?;
        let delivery = self.delivery("order-5", "network").await?;
        ensure!(text(&delivery, "id") == id, "the replay made another delivery: {delivery}");
        let requests = Arrivals::new(&self.network.received(), postback_ids).requests("order-5");
        ensure!(requests == 2, "network should have seen order-5 twice, it saw it {requests} times");
        say("The receiver was mended and the delivery replayed: sent, with the same id.");
        Ok(())
    }

    /// Act four: the process is killed with work in flight.
    async fn crash(&mut self, process: &mut DaemonProcess) -> anyhow::Result<()> {
        self.crm.behave(Behaviour { delay: SLOW, ..Behaviour::default() });
        let before = self.crm.received().len();
        let batch: Vec<Value> = (0..CRASH_EVENTS).map(|number| event(&format!("rush-{number}"))).collect();
        let answer = client::success(&self.post(&Value::Array(batch.clone())).await?)?;
        ensure!(count(&answer, "queued") == CRASH_EVENTS, "a batch of {CRASH_EVENTS} was answered {answer}");
        self.acknowledged.extend(batch.iter().map(|event| text(event, "event_id").to_owned()));

        let arrived = || self.crm.received().len().saturating_sub(before);
        self.wait_for("the slow crm to be busy", async || Ok((arrived() >= CRASH_AFTER).then_some(()))).await?;
        process.kill()?;
        let at_crash = arrived();
        ensure!(at_crash < CRASH_EVENTS, "the crash came too late: crm had everything");
        say(&format!(
            "{CRASH_EVENTS} events in one batch, all acknowledged. With {at_crash} of them at crm the daemon was killed \
             (SIGKILL)."
        ));
        self.crm.behave(Behaviour::default());
        *process = DaemonProcess::start(self.workspace, &self.daemon, self.clock).await?;
        say("It was started again, and the sender, being unsure, repeats the whole batch.");
        let answer = client::success(&self.post(&Value::Array(batch)).await?)?;
        ensure!(count(&answer, "duplicate") == CRASH_EVENTS, "the repeated batch was answered {answer}");
        self.wait_all_sent().await?;
        say(&format!("All {CRASH_EVENTS} were duplicates: nothing that was acknowledged had been forgotten."));
        Ok(())
    }

    /// The end: what was acknowledged is what arrived, and the books agree.
    async fn balance(&self) -> anyhow::Result<()> {
        let receivers: [(&str, &Sink, ReadIds); 3] =
            [("crm", &self.crm, webhook_ids), ("network", &self.network, postback_ids), ("meta", &self.meta, meta_ids)];
        let mut faults = Vec::new();
        let mut repeats = Vec::new();
        for (name, sink, read) in receivers {
            let arrivals = Arrivals::new(&sink.received(), read);
            faults.extend(arrivals.faults(&self.acknowledged).into_iter().map(|fault| format!("{name}: {fault}")));
            repeats.push(format!("{} at {name}", arrivals.repeated()));
        }
        if !faults.is_empty() {
            let first = faults.iter().take(10).cloned().collect::<Vec<_>>().join("\n  ");
            bail!("{} things are wrong with what arrived:\n  {first}", faults.len());
        }
        let events = self.acknowledged.len();
        say(&format!(
            "Each of the {events} acknowledged events arrived at every destination. The crash made repeats ({}), each \
             under the id it had before.",
            repeats.join(", ")
        ));
        let status = self.daemon.get("/status").await?;
        let owed = events.saturating_mul(3);
        let balance = status.get("balance").cloned().unwrap_or_default();
        ensure!(count(&balance, "accepted") == owed, "the books should say {owed} accepted: {balance}");
        ensure!(count(&balance, "sent") == owed, "the books should say {owed} sent: {balance}");
        ensure!(balance.get("balanced") == Some(&Value::Bool(true)), "the books do not balance: {balance}");
        say(&balance_table(&status));
        Ok(())
    }

    async fn post(&self, events: &Value) -> anyhow::Result<ApiResponse> {
        Ok(self.daemon.ingest(client::JSON, events.to_string().into_bytes(), &self.shop).await?)
    }

    /// Sends an event that must be queued for all three destinations.
    async fn accept(&mut self, id: &str) -> anyhow::Result<Value> {
        let answer = client::success(&self.post(&event(id)).await?)?;
        ensure!(text(&answer, "status") == "queued", "{id} was answered {answer}");
        ensure!(count(&answer, "deliveries") == 3, "{id} should be owed to three destinations: {answer}");
        self.acknowledged.insert(id.to_owned());
        Ok(answer)
    }

    /// The one dead delivery, if there is one.
    async fn dead(&self) -> anyhow::Result<Option<Value>> {
        let page = self.daemon.get("/v1/dlq").await?;
        Ok(page.pointer("/entries/0").cloned())
    }

    async fn delivery(&self, event_id: &str, destination: &str) -> anyhow::Result<Value> {
        let event = self.daemon.get(&format!("/v1/events/{}", client::encoded(event_id))).await?;
        let mut deliveries = event.get("deliveries").and_then(Value::as_array).into_iter().flatten();
        let found = deliveries.find(|delivery| text(delivery, "destination") == destination);
        found.cloned().with_context(|| format!("{event_id} shows no delivery to {destination}: {event}"))
    }

    async fn wait_all_sent(&self) -> anyhow::Result<()> {
        let owed = self.acknowledged.len().saturating_mul(3);
        let all_sent = async || {
            let status = self.daemon.get("/status").await?;
            Ok(status.get("balance").filter(|balance| count(balance, "sent") >= owed).map(|_| ()))
        };
        match self.wait_for("everything to be sent", all_sent).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let status = self.daemon.get("/status").await.unwrap_or_default();
                Err(anyhow!("{error:#}; the daemon says {}", status.get("balance").cloned().unwrap_or_default()))
            }
        }
    }

    async fn wait_for<T>(&self, what: &str, look: impl AsyncFn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
        let deadline = self.clock.monotonic().saturating_add(STEP);
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            if self.clock.monotonic() > deadline {
                bail!("waited {} s for {what}", STEP.as_secs());
            }
            tokio::time::sleep(GLANCE).await;
        }
    }
}

async fn receiver() -> anyhow::Result<Sink> {
    let behaviour = Behaviour::default();
    let options = Options { listen: ANYWHERE, behaviour, record: None, keep: KEEP, tell: None };
    Sink::start(options).await.context("a receiver cannot listen on 127.0.0.1")
}

/// An address that was free a moment ago; the daemon must know its port before it starts.
async fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(ANYWHERE).await?.local_addr()?)
}

fn event(id: &str) -> Value {
    json!({
        "event": "deposit",
        "event_id": id,
        "uid": format!("player-{id}"),
        "value": "25.00",
        "currency": "USD",
        "user": { "email": format!("{id}@example.com"), "ip": "203.0.113.7", "user_agent": "Mozilla/5.0" },
        "click": { "campaign_name": "Demo" },
    })
}

fn balance_table(status: &Value) -> String {
    let names = ["accepted", "sent", "pending", "failed", "failed_permanently", "skipped", "discarded"];
    let row = |name: &str, counts: &Value| {
        let mut cells = vec![name.to_owned()];
        cells.extend(names.map(|name| count(counts, name).to_string()));
        cells
    };
    let destinations = status.get("destinations").and_then(Value::as_object).into_iter().flatten();
    let mut rows: Vec<Vec<String>> =
        destinations.map(|(name, view)| row(name, view.get("counts").unwrap_or(&Value::Null))).collect();
    rows.push(row("total", status.get("balance").unwrap_or(&Value::Null)));
    let mut header = vec![""];
    header.extend(names);
    out::table(&header, rows)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn count(value: &Value, name: &str) -> usize {
    value.get(name).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

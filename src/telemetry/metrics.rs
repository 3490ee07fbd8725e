//! What happens, counted for Prometheus (SPEC 8.1): attempts, how long deliveries and exchanges take, commits.
//!
//! In memory and from the start of the process, as counters are there; what the store counts itself (deliveries, events) is
//! read from it when it is asked for. Labels come from the configuration and from our own words, never from a sender, so
//! that their number is bounded.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::domain::name::DestinationName;
use crate::domain::time::DurationMs;

/// Receipt to `sent`, seconds: from at once to a day of retries.
const DELIVERY_SECONDS: [f64; 13] =
    [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0];
/// One HTTP exchange, seconds.
const EXCHANGE_SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// One commit, seconds.
const COMMIT_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AttemptLabels {
    destination: String,
    verdict: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DestinationLabels {
    destination: String,
}

/// See the module's page. Cloning shares the counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    attempts: Family<AttemptLabels, Counter>,
    delivery: Family<DestinationLabels, Histogram>,
    exchange: Family<DestinationLabels, Histogram>,
    commit: Histogram,
    panics: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            attempts: Family::default(),
            delivery: Family::new_with_constructor(|| Histogram::new(DELIVERY_SECONDS)),
            exchange: Family::new_with_constructor(|| Histogram::new(EXCHANGE_SECONDS)),
            commit: Histogram::new(COMMIT_SECONDS),
            panics: Counter::default(),
        }
    }
}

impl Metrics {
    /// A delivery was in an exchange that ended with `verdict`.
    pub fn attempt(&self, destination: &DestinationName, verdict: &'static str) {
        self.attempts.get_or_create(&AttemptLabels { destination: destination.to_string(), verdict }).inc();
    }

    /// An exchange, whatever it carried, that took so long.
    pub fn exchange(&self, destination: &DestinationName, took: DurationMs) {
        self.exchange.get_or_create(&labels(destination)).observe(took.to_std().as_secs_f64());
    }

    /// A delivery was taken so long after its event came in.
    pub fn delivered(&self, destination: &DestinationName, latency: DurationMs) {
        self.delivery.get_or_create(&labels(destination)).observe(latency.to_std().as_secs_f64());
    }

    /// An attempt ended by a defect of ours.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// How many those were.
    pub fn panics(&self) -> u64 {
        self.panics.get()
    }

    pub fn committed(&self, took: Duration) {
        self.commit.observe(took.as_secs_f64());
    }

    /// Adds all of it to what a scrape shows; names go without the prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("attempts", "Attempts by what they meant", self.attempts.clone());
        let panics = self.panics.clone();
        registry.register("attempt_panics", "Attempts that ended by a defect of postbackd", panics);
        registry.register_with_unit(
            "delivery",
            "From an event's receipt to its delivery",
            Unit::Seconds,
            self.delivery.clone(),
        );
        registry.register_with_unit("exchange", "One HTTP exchange alone", Unit::Seconds, self.exchange.clone());
        registry.register_with_unit("commit", "One durable commit", Unit::Seconds, self.commit.clone());
    }
}

fn labels(destination: &DestinationName) -> DestinationLabels {
    DestinationLabels { destination: destination.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_have_the_contracted_names() {
        let metrics = Metrics::default();
        let name: DestinationName = "crm".parse().unwrap();
        metrics.attempt(&name, "delivered");
        metrics.exchange(&name, DurationMs(31));
        metrics.delivered(&name, DurationMs(900));
        metrics.committed(Duration::from_millis(4));
        metrics.panicked();
        let mut registry = Registry::with_prefix("postbackd");
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "postbackd_attempts_total{destination=\"crm\",verdict=\"delivered\"} 1",
            "postbackd_exchange_seconds_bucket{le=\"0.05\",destination=\"crm\"} 1",
            "postbackd_delivery_seconds_count{destination=\"crm\"} 1",
            "postbackd_commit_seconds_count 1",
            "postbackd_attempt_panics_total 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}

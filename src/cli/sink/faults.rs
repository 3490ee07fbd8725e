//! How the sink answers: a pure function of what it was told, the seed and how many requests came before.

use std::str::FromStr;

use crate::domain::time::DurationMs;

/// What a failing answer says where nothing else is said.
const FAILURE: u16 = 503;

/// How a sink treats requests.
#[derive(Clone, PartialEq, Debug)]
pub struct Behaviour {
    /// The status of a normal answer.
    pub status: u16,
    /// The body of a normal answer, where it is told.
    pub answer: Option<String>,
    /// Counts use themselves up one after the other, then the rates are asked in order.
    pub fail: Vec<Fault>,
    /// Before every answer.
    pub delay: DurationMs,
    /// Seconds, sent with 429 and 503.
    pub retry_after: Option<u64>,
    /// Share of requests whose connection is reset.
    pub reset: f64,
    /// Share of requests that are never answered.
    pub hang: f64,
    pub seed: u64,
}

/// One fault.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
    /// The next `requests` requests.
    Count { requests: u64, status: u16 },
    /// A share of all requests, from 0 to 1.
    Rate { share: f64, status: u16 },
}

/// What happens to one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Status(u16),
    /// The connection is reset without an answer.
    Reset,
    /// No answer ever comes.
    Hang,
}

impl Default for Behaviour {
    /// Takes everything with 200.
    fn default() -> Self {
        Self {
            status: 200,
            answer: None,
            fail: Vec::new(),
            delay: DurationMs::ZERO,
            retry_after: None,
            reset: 0.0,
            hang: 0.0,
            seed: 1,
        }
    }
}

impl Behaviour {
    /// Answers everything with `status`.
    pub fn always(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// What happens to the request that `before` others came before.
    pub fn decide(&self, before: u64) -> Answer {
        let mut passed: u64 = 0;
        for fault in &self.fail {
            if let Fault::Count { requests, status } = *fault {
                passed = passed.saturating_add(requests);
                if before < passed {
                    return Answer::Status(status);
                }
            }
        }
        let mut dice = Dice(self.seed ^ before.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if dice.hits(self.reset) {
            return Answer::Reset;
        }
        if dice.hits(self.hang) {
            return Answer::Hang;
        }
        for fault in &self.fail {
            if let Fault::Rate { share, status } = *fault
                && dice.hits(share)
            {
                return Answer::Status(status);
            }
        }
        Answer::Status(self.status)
    }
}

/// The splitmix64 generator: good enough to spread faults, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn hits(&mut self, share: f64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(u32::MAX);
        f64::from(high) / 4_294_967_296.0 < share
    }
}

/// `3` (the first three), `0.2` or `20%` (a share), each with `:STATUS` if 503 is not meant.
impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (amount, status) = match text.split_once(':') {
            Some((amount, status)) => {
                let status = status.parse().ok().filter(|status| (200..=599).contains(status));
                (amount, status.ok_or("write the status after the colon as 200 to 599, as in 3:429")?)
            }
            None => (text, FAILURE),
        };
        if let Ok(requests) = amount.parse() {
            return Ok(Self::Count { requests, status });
        }
        let share = rate(amount).map_err(|error| format!("{error}, or a number of requests as 3"))?;
        Ok(Self::Rate { share, status })
    }
}

/// A share: `0.2` or `20%`.
pub fn rate(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.parse::<f64>().ok().map(|number| number / scale).filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a share as 0.2 or 20%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_counts_or_shares_with_a_status() {
        let fault = |text: &str| text.parse::<Fault>();
        assert_eq!(fault("3"), Ok(Fault::Count { requests: 3, status: 503 }));
        assert_eq!(fault("2:429"), Ok(Fault::Count { requests: 2, status: 429 }));
        assert_eq!(fault("20%:500"), Ok(Fault::Rate { share: 0.2, status: 500 }));
        assert_eq!(fault("1.0"), Ok(Fault::Rate { share: 1.0, status: 503 }));
        for bad in ["", "x", "1.5", "-1", "NaN", "101%", "3:x", "3:99", ":503"] {
            assert!(fault(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_are_used_up_in_order_before_the_normal_answer() {
        let fail = vec![Fault::Count { requests: 2, status: 503 }, Fault::Count { requests: 1, status: 429 }];
        let behaviour = Behaviour { fail, status: 204, ..Behaviour::default() };
        let answers: Vec<Answer> = (0..5).map(|before| behaviour.decide(before)).collect();
        assert_eq!(answers, [503, 503, 429, 204, 204].map(Answer::Status));
    }

    #[test]
    fn shares_are_kept_and_repeat_with_the_same_seed() {
        let behaviour = Behaviour {
            fail: vec![Fault::Rate { share: 0.3, status: 500 }],
            reset: 0.1,
            hang: 0.05,
            ..Behaviour::default()
        };
        let answers = |behaviour: &Behaviour| (0..10_000).map(|before| behaviour.decide(before)).collect::<Vec<_>>();
        let first = answers(&behaviour);
        let count = |wanted: Answer| first.iter().filter(|answer| **answer == wanted).count();
        assert!((900..1100).contains(&count(Answer::Reset)), "{}", count(Answer::Reset));
        assert!((380..520).contains(&count(Answer::Hang)), "{}", count(Answer::Hang));
        assert!((2400..2750).contains(&count(Answer::Status(500))), "{}", count(Answer::Status(500)));
        assert_eq!(first, answers(&behaviour));
        assert_ne!(first, answers(&Behaviour { seed: 2, ..behaviour }));
    }

    #[test]
    fn all_or_nothing_is_exact() {
        let always = Behaviour { reset: 1.0, ..Behaviour::default() };
        assert!((0..1000).all(|before| always.decide(before) == Answer::Reset));
        assert!((0..1000).all(|before| Behaviour::always(418).decide(before) == Answer::Status(418)));
    }
}

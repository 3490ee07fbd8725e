//! A gentle start after an outage: a receiver that has just come back is not met by everything that waited.
//!
//! The probe was one exchange alone; two follow it, and each that shows that the receiver lives allows one more, so what is
//! in flight doubles with every round trip. One that fails halves it.

use super::super::breaker::Sign;

/// Exchanges in flight that a recovering destination may have, at least 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ramp(usize);

impl Ramp {
    /// After a probe that went through; `None` where the lane may not do more anyway.
    pub(super) fn start(concurrency: usize) -> Option<Self> {
        (concurrency > 2).then_some(Self(2))
    }

    pub(super) fn allowed(self) -> usize {
        self.0
    }

    /// An exchange has ended; `None` where the lane may do all it may again.
    pub(super) fn after(self, sign: Sign, concurrency: usize) -> Option<Self> {
        let next = match sign {
            Sign::Lives => self.0.saturating_add(1),
            Sign::Fails => (self.0 / 2).max(1),
            Sign::Nothing => self.0,
        };
        (next < concurrency).then_some(Self(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_doubles_with_every_round_trip_and_halves_with_a_failure() {
        let mut ramp = Ramp::start(16);
        let mut rounds = Vec::new();
        while let Some(now) = ramp {
            rounds.push(now.allowed());
            for _ in 0..now.allowed() {
                ramp = ramp.and_then(|ramp| ramp.after(Sign::Lives, 16));
            }
        }
        assert_eq!(rounds, [2, 4, 8]);
        assert_eq!(Ramp(8).after(Sign::Fails, 16), Some(Ramp(4)));
        assert_eq!(Ramp(1).after(Sign::Fails, 16), Some(Ramp(1)), "never to a standstill");
        assert_eq!(Ramp(3).after(Sign::Nothing, 16), Some(Ramp(3)));
        assert_eq!(Ramp::start(2), None, "two may be in flight at once");
    }
}

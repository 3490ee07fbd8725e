//! Twenty-four bars: attempts by the hour, what failed of them in another colour. The picture is drawn with attributes
//! only, since the page allows no style of its own.

use crate::telemetry::rolling::{HOURS, HourTally};

/// Height of the picture, in its own units; a bar has a width of 4 and a gap of 1.
const HEIGHT: u64 = 24;

/// A sparkline.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Spark {
    pub(super) bars: Vec<Bar>,
    /// The same in words, for whoever does not see it.
    pub(super) words: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bar {
    pub(super) x: u64,
    /// Where the delivered part begins, and how high it is.
    pub(super) good_y: u64,
    pub(super) good: u64,
    /// The failed part stands on the delivered one.
    pub(super) bad_y: u64,
    pub(super) bad: u64,
}

impl Spark {
    pub(super) fn new(series: &[HourTally; HOURS]) -> Self {
        let most = series.iter().map(|hour| hour.attempts).max().unwrap_or_default();
        let sum = |of: fn(&HourTally) -> u64| series.iter().map(of).fold(0, u64::saturating_add);
        let (attempts, failures) = (sum(|hour| hour.attempts), sum(|hour| hour.failures));
        let bars = (0..).zip(series).filter_map(|(place, hour)| bar(place, *hour, most)).collect();
        let words = match attempts {
            0 => "no attempts in the last 24 hours".to_owned(),
            _ => format!(
                "{attempts} attempts in the last 24 hours, {failures} of them failed; at most {most} in an hour"
            ),
        };
        Self { bars, words }
    }
}

/// `None` where nothing happened. What happened at all is at least one unit high, and so is what failed.
fn bar(place: u64, hour: HourTally, most: u64) -> Option<Bar> {
    if hour.attempts == 0 {
        return None;
    }
    let scaled = |part: u64| {
        let units = u128::from(part) * u128::from(HEIGHT) / u128::from(most.max(1));
        u64::try_from(units).unwrap_or(HEIGHT).clamp(1, HEIGHT)
    };
    let bad = if hour.failures == 0 { 0 } else { scaled(hour.failures) };
    let delivered = hour.attempts.saturating_sub(hour.failures);
    let good = if delivered == 0 { 0 } else { scaled(delivered).min(HEIGHT - bad) };
    let good_y = HEIGHT - good;
    Some(Bar { x: place * 5, good_y, good, bad_y: good_y - bad, bad })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_to_scale_and_failures_are_always_seen() {
        let mut series = [HourTally::default(); HOURS];
        series[1] = HourTally { attempts: 1000, failures: 1 };
        series[3] = HourTally { attempts: 500, failures: 500 };
        series[23] = HourTally { attempts: 1, failures: 0 };
        let spark = Spark::new(&series);
        let parts: Vec<_> = spark.bars.iter().map(|bar| (bar.x, bar.good_y, bar.good, bar.bad_y, bar.bad)).collect();
        assert_eq!(parts, [(5, 1, 23, 0, 1), (15, 24, 0, 12, 12), (115, 23, 1, 23, 0)]);
        assert!(spark.words.starts_with("1501 attempts in the last 24 hours, 501 of them failed"));
    }

    #[test]
    fn numbers_of_any_size_stay_within_the_picture() {
        let spark = Spark::new(&[HourTally { attempts: u64::MAX, failures: u64::MAX / 2 }; HOURS]);
        assert_eq!(spark.bars.len(), HOURS);
        assert!(spark.bars.iter().all(|bar| bar.good + bar.bad + bar.bad_y == HEIGHT && bar.x < 120));
        assert!(Spark::new(&[HourTally::default(); HOURS]).bars.is_empty());
    }
}

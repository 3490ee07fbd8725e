//! Sums of amounts, exact: hundreds of thousands of them, without binary float.

use std::fmt;
use std::str::FromStr;

use super::money::{Decimal, DecimalError};

/// The decimals an amount may have.
const PLACES: usize = 12;

/// A sum of amounts, in units of 10^-12. It stays at the end of its range: 10^26 is no sum of real amounts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Sum(i128);

impl Sum {
    pub fn add(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl From<&Decimal> for Sum {
    fn from(amount: &Decimal) -> Self {
        let text = amount.as_str();
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        // At most 32 digits with a sign, which an i128 holds.
        Self(format!("{whole}{fraction:0<PLACES$}").parse().unwrap_or(0))
    }
}

impl FromStr for Sum {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        text.parse::<Decimal>().map(|amount| Self::from(&amount))
    }
}

/// With two decimals at least, as money is written, and more only where they are not zero.
impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let one = 10_u128.pow(12);
        let (whole, fraction) = (self.0.unsigned_abs() / one, self.0.unsigned_abs() % one);
        let fraction = format!("{fraction:0>PLACES$}");
        let fraction = fraction.trim_end_matches('0');
        write!(f, "{sign}{whole}.{fraction:0<2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_and_read_back_as_they_are_written() {
        let total = |amounts: &[&str]| {
            let mut sum = Sum::default();
            for amount in amounts {
                sum.add(amount.parse().unwrap());
            }
            assert_eq!(sum.to_string().parse(), Ok(sum));
            sum.to_string()
        };
        assert_eq!(total(&[]), "0.00");
        assert_eq!(total(&["0.1", "0.2"]), "0.30");
        assert_eq!(total(&["25", "-0.000000000001"]), "24.999999999999");
        assert_eq!(total(&["-0.5", "-1"]), "-1.50");
        assert_eq!(total(&["-0.25"; 3]), "-0.75");
        assert_eq!(total(&["12345678901234567890.5"]), "12345678901234567890.50");
    }
}

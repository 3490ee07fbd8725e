//! Amounts as decimal text: what the sender wrote is what every destination gets, without binary float in between.

use std::fmt;
use std::str::FromStr;

/// A decimal number kept in its written digits: `-?`, 1 to 20 digits, optionally `.` and 1 to 12 digits.
/// No exponent, no grouping, no leading `+` (SPEC 8.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decimal(String);

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a decimal number; write digits with an optional point, like 25.00 (up to 20 digits before and 12 after it)"
)]
pub struct DecimalError;

impl Decimal {
    /// The digits as written: `25.00`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shortest way to write the same number: no leading or trailing zeros, no `-0`. Two amounts are equal as
    /// numbers exactly where their canonical texts are equal.
    pub fn canonical(&self) -> String {
        let (sign, whole, fraction) = self.parts();
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        match (whole, fraction) {
            ("0", "") => "0".to_owned(),
            (whole, "") => format!("{sign}{whole}"),
            (whole, fraction) => format!("{sign}{whole}.{fraction}"),
        }
    }

    /// As a JSON number with its digits kept; only zeros that JSON does not allow in front are dropped.
    pub fn to_json_number(&self) -> serde_json::Number {
        let (sign, whole, fraction) = self.parts();
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let text = if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
        text.parse().unwrap_or_else(|_| serde_json::Number::from(0))
    }

    fn parts(&self) -> (&str, &str, &str) {
        let (sign, digits) = match self.0.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", self.0.as_str()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        (sign, whole, fraction)
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (digits, None),
        };
        let good = |part: &str, max: usize| (1..=max).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if good(whole, 20) && fraction.is_none_or(|part| good(part, 12)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(DecimalError)
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A currency as three upper-case ASCII letters. Which codes exist is each platform's business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Currency([u8; 3]);

/// Why a text is no currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a currency; write its three letters, like USD")]
pub struct CurrencyError;

impl Currency {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        let letters: [u8; 3] = text.as_bytes().try_into().map_err(|_| CurrencyError)?;
        if letters.iter().all(u8::is_ascii_alphabetic) {
            Ok(Self(letters.map(|letter| letter.to_ascii_uppercase())))
        } else {
            Err(CurrencyError)
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_keep_their_written_digits() {
        for text in ["25.00", "0.1", "-3", "00.50", "12345678901234567890.123456789012"] {
            assert_eq!(text.parse::<Decimal>().map(|d| d.to_string()), Ok(text.to_owned()));
        }
        for bad in
            ["", "-", ".5", "5.", "1e3", "+1", "1,5", "1 000", "NaN", "123456789012345678901", "0.1234567890123", "٣"]
        {
            assert_eq!(bad.parse::<Decimal>(), Err(DecimalError), "{bad}");
        }
    }

    #[test]
    fn equal_numbers_have_one_canonical_text() {
        let canonical = |text: &str| text.parse::<Decimal>().map(|d| d.canonical());
        for (text, wanted) in [("25.00", "25"), ("025.10", "25.1"), ("-0.0", "0"), ("0", "0"), ("-0.50", "-0.5")] {
            assert_eq!(canonical(text), Ok(wanted.to_owned()), "{text}");
        }
    }

    #[test]
    fn json_numbers_have_no_float_noise() {
        let json = |text: &str| text.parse::<Decimal>().map(|d| d.to_json_number().to_string());
        for (text, wanted) in [("25.00", "25.00"), ("0.1", "0.1"), ("007.5", "7.5"), ("-00", "-0")] {
            assert_eq!(json(text), Ok(wanted.to_owned()), "{text}");
        }
    }

    #[test]
    fn currencies_are_three_letters_in_upper_case() {
        assert_eq!("usd".parse::<Currency>().map(|c| c.to_string()), Ok("USD".to_owned()));
        for bad in ["", "US", "USDT", "U5D", "€"] {
            assert_eq!(bad.parse::<Currency>(), Err(CurrencyError), "{bad}");
        }
    }
}

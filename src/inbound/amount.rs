//! Amounts as networks write them: `25`, `25.00`, `1,234.50`, `$25` or `25,00`, `1.234,50`, `25 €`.
//!
//! The style is declared, never guessed, and what does not fit it is refused. One group of three digits behind a grouping
//! sign and nothing else (`1,234`) is refused as well: written by a network of the other style it is a thousandth of it.

use crate::domain::money::Currency;

/// Which sign stands before the fraction; the other one groups thousands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Style {
    /// `1,234.50`
    #[default]
    Dot,
    /// `1.234,50`
    Comma,
}

/// An amount in plain digits, and the currency sign that stood beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Amount {
    /// As [`crate::domain::money::Decimal`] reads it; its limits are not checked here.
    pub digits: String,
    pub sign: Option<char>,
}

/// Currency signs and the currencies they stand for.
const SIGNS: [(char, &[&str]); 6] = [
    ('$', &["USD", "CAD", "AUD", "NZD", "SGD", "HKD", "TWD", "MXN", "ARS", "CLP", "COP", "BRL"]),
    ('€', &["EUR"]),
    ('£', &["GBP"]),
    ('¥', &["JPY", "CNY"]),
    ('₽', &["RUB"]),
    ('₹', &["INR"]),
];

impl Style {
    fn signs(self) -> (char, char) {
        match self {
            Self::Dot => ('.', ','),
            Self::Comma => (',', '.'),
        }
    }

    /// How amounts of this style look, for error texts.
    pub fn examples(self) -> &'static str {
        match self {
            Self::Dot => "25.00 or 1,234.50",
            Self::Comma => "25,00 or 1.234,50",
        }
    }

    /// The key's word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Dot => "dot",
            Self::Comma => "comma",
        }
    }

    /// Reads an amount written in this style, or says why it is none.
    pub fn read(self, text: &str) -> Result<Amount, String> {
        let refused = |why: &str| {
            let (style, examples) = (self.word(), self.examples());
            format!("{why}; this source sends amounts like {examples} (decimal = \"{style}\")")
        };
        let (minus, rest) = text.trim().strip_prefix('-').map_or(("", text.trim()), |rest| ("-", rest));
        let (sign, number) = without_sign(rest);
        let (point, group) = self.signs();
        let (whole, fraction) = match number.split_once(point) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (number, None),
        };
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if fraction.is_some_and(|fraction| !digits(fraction)) {
            return Err(refused("is not an amount"));
        }
        let groups: Vec<&str> = whole.split(group).collect();
        let fits = match groups.split_first() {
            Some((first, [])) => digits(first),
            Some((first, rest)) => {
                digits(first)
                    && first.len() <= 3
                    && !first.starts_with('0')
                    && rest.iter().all(|part| part.len() == 3 && digits(part))
            }
            None => false,
        };
        if !fits {
            return Err(refused("is not an amount"));
        }
        if groups.len() == 2 && fraction.is_none() {
            let (plain, other) = (groups.concat(), groups.join("."));
            return Err(refused(&format!("can be read as {plain} or as {other}: send all digits without grouping")));
        }
        let fraction = fraction.map(|fraction| format!(".{fraction}")).unwrap_or_default();
        Ok(Amount { digits: format!("{minus}{}{fraction}", groups.concat()), sign })
    }
}

/// Takes one currency sign from the front or the back.
fn without_sign(text: &str) -> (Option<char>, &str) {
    for (sign, _) in SIGNS {
        if let Some(rest) = text.strip_prefix(sign) {
            return (Some(sign), rest.trim_start());
        }
        if let Some(rest) = text.strip_suffix(sign) {
            return (Some(sign), rest.trim_end());
        }
    }
    (None, text)
}

/// Whether an amount with that sign can be one in `currency`.
pub fn fits(sign: char, currency: Currency) -> bool {
    SIGNS.iter().any(|(known, currencies)| *known == sign && currencies.contains(&currency.as_str()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(style: Style, text: &str) -> Option<String> {
        style.read(text).ok().map(|amount| amount.digits)
    }

    #[test]
    fn amounts_are_read_in_their_style() {
        for (style, text, wanted) in [
            (Style::Dot, "25", "25"),
            (Style::Dot, "25.00", "25.00"),
            (Style::Dot, "1,234.50", "1234.50"),
            (Style::Dot, "1,234,567", "1234567"),
            (Style::Dot, "1.234", "1.234"),
            (Style::Dot, "$25", "25"),
            (Style::Dot, "-$1,234.50", "-1234.50"),
            (Style::Dot, "25 €", "25"),
            (Style::Dot, " 0.015 ", "0.015"),
            (Style::Comma, "25", "25"),
            (Style::Comma, "25,00", "25.00"),
            (Style::Comma, "1.234,50", "1234.50"),
            (Style::Comma, "1.234.567", "1234567"),
            (Style::Comma, "1,234", "1.234"),
            (Style::Comma, "25,00 €", "25.00"),
        ] {
            assert_eq!(read(style, text).as_deref(), Some(wanted), "{style:?} {text}");
        }
    }

    #[test]
    fn what_does_not_fit_the_style_is_refused() {
        for text in [
            "25,00",
            "1,23",
            "0,123",
            "1,234",
            "1.234,50",
            "1,2345.00",
            "12,34,567.00",
            ",123.00",
            "1,,234.00",
            "25.",
            ".5",
            "",
            "-",
            "$",
            "1e3",
            "+5",
            "25 USD",
            "1 234.50",
            "1.2.3",
            "$$5",
            "--5",
            "٣",
            "1234,567.00",
            "NaN",
        ] {
            assert_eq!(read(Style::Dot, text), None, "{text}");
        }
        for text in ["25.00", "1.23", "1.234", "1,234.50", "1234.567,00", "0.123,00"] {
            assert_eq!(read(Style::Comma, text), None, "{text}");
        }
        let why = Style::Dot.read("25,00").unwrap_err();
        assert!(why.contains("1,234.50") && why.contains("decimal = \"dot\""), "{why}");
    }

    #[test]
    fn a_sign_stands_for_its_currencies_only() {
        let currency = |text: &str| text.parse::<Currency>().unwrap();
        assert_eq!(Style::Dot.read("$5").unwrap().sign, Some('$'));
        assert!(fits('$', currency("USD")) && fits('€', currency("EUR")));
        assert!(!fits('$', currency("EUR")) && !fits('€', currency("USD")));
    }

    proptest! {
        /// No text has two readings that are both accepted and differ, save where the styles truly differ on a fraction.
        #[test]
        fn any_text_is_an_amount_of_plain_digits_or_refused(text in "[-$€0-9., ]{0,14}|\\PC{0,8}") {
            for style in [Style::Dot, Style::Comma] {
                if let Ok(amount) = style.read(&text) {
                    let plain = amount.digits.strip_prefix('-').unwrap_or(&amount.digits);
                    prop_assert!(plain.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
                    prop_assert!(plain.bytes().filter(|byte| *byte == b'.').count() <= 1);
                    let kept: String = text.chars().filter(char::is_ascii_digit).collect();
                    let read: String = plain.chars().filter(char::is_ascii_digit).collect();
                    prop_assert_eq!(kept, read, "every digit is kept");
                }
            }
        }
    }
}

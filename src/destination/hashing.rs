//! Identifiers of people as Meta wants them: brought to a normal form, then SHA-256 as lower-case hex of the UTF-8 text.
//!
//! A value that is already a digest (after trimming, exactly 64 or 32 hex digits in any case) passes through in lower
//! case and is never hashed again. Where Meta's two libraries (the business SDK and the parameter builder) agree, the
//! result is theirs. Where they differ, this is the rule, which follows the vendor's written one:
//!
//! | field | rule |
//! |---|---|
//! | email | trimmed, lower-cased; letters beyond ASCII are kept (SDK); one `@` and a dotted domain are needed |
//! | phone | digits only, dots too are dropped (parameter builder), no leading zeros, 7 to 15 digits; letters refuse it |
//! | names | lower-cased, white space and punctuation dropped (parameter builder), letters of any script kept |
//! | city | lower-cased, only letters kept: digits are dropped and accents stay (SDK) |
//! | state | codes stay, names of states and provinces of the US and Canada become codes (parameter builder) |
//! | zip | lower-cased, no white space, cut at `-` (SDK) |
//! | country | ISO 3166 alpha-2; alpha-3 and English names are mapped (parameter builder); `UK` is refused (SDK) |
//! | gender | `f` or `m`, common English words are mapped (parameter builder) |
//! | date of birth | `YYYYMMDD`; month first where a slashed date could be read both ways (parameter builder) |
//! | external id | lower-cased, no white space |
//!
//! A value that cannot be brought to its form is refused with a reason; leaving it out is the caller's part.

use sha2::{Digest, Sha256};

use super::places;

/// The hashed fields of `user_data`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    Email,
    Phone,
    Name,
    /// First five letters of a name.
    NameStart,
    /// First letter of a name.
    Initial,
    DateOfBirth,
    BirthDay,
    BirthMonth,
    BirthYear,
    Gender,
    City,
    State,
    Zip,
    Country,
    ExternalId,
}

impl Field {
    pub const ALL: [Self; 15] = [
        Self::Email,
        Self::Phone,
        Self::Name,
        Self::NameStart,
        Self::Initial,
        Self::DateOfBirth,
        Self::BirthDay,
        Self::BirthMonth,
        Self::BirthYear,
        Self::Gender,
        Self::City,
        Self::State,
        Self::Zip,
        Self::Country,
        Self::ExternalId,
    ];
}

/// Why a value has no normal form. The text never shows the value: it is about a person.
pub type Refusal = &'static str;

/// What goes into `user_data` for a raw or already hashed `value`.
pub fn digest(field: Field, value: &str) -> Result<String, Refusal> {
    let trimmed = value.trim();
    if is_digest(trimmed) {
        return Ok(trimmed.to_ascii_lowercase());
    }
    let normal = normalise(field, trimmed)?;
    // White space or punctuation may have stood inside a digest.
    if is_digest(&normal) {
        return Ok(normal);
    }
    let digits = Sha256::digest(normal.as_bytes()).into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    Ok(digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect())
}

/// SHA-256 or MD5 as hex, nothing around it.
fn is_digest(text: &str) -> bool {
    (text.len() == 64 || text.len() == 32) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The normal form of a value that is not hashed yet.
pub fn normalise(field: Field, value: &str) -> Result<String, Refusal> {
    let text = value.trim().to_lowercase();
    if text.is_empty() {
        return Err("is empty");
    }
    match field {
        Field::Email => email(text),
        Field::Phone => phone(&text),
        Field::Name => name(&text),
        Field::NameStart => name(&text).map(|name| name.chars().take(5).collect()),
        Field::Initial => name(&text).map(|name| name.chars().take(1).collect()),
        Field::DateOfBirth => date_of_birth(&text),
        Field::BirthDay => two_digits(&text, 31).ok_or("is not a day from 1 to 31"),
        Field::BirthMonth => two_digits(&text, 12).ok_or("is not a month from 1 to 12"),
        Field::BirthYear => Some(text)
            .filter(|year| year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or("is not a year of four digits"),
        Field::Gender => gender(&text),
        Field::City => keep(&text, char::is_alphabetic).ok_or("holds no letters"),
        Field::State => state(&text),
        Field::Zip => zip(&text),
        Field::Country => country(&text),
        Field::ExternalId => keep(&text, |letter| !letter.is_whitespace()).ok_or("is empty"),
    }
}

fn keep(text: &str, wanted: impl Fn(char) -> bool) -> Option<String> {
    let kept: String = text.chars().filter(|letter| wanted(*letter)).collect();
    (!kept.is_empty()).then_some(kept)
}

fn email(text: String) -> Result<String, Refusal> {
    let wrong = "is not an e-mail address";
    let (local, domain) = text.split_once('@').ok_or(wrong)?;
    let plain = !text.chars().any(|letter| letter.is_whitespace() || letter.is_control());
    let dotted = domain.contains('.') && !domain.contains('@') && domain.split('.').all(|label| !label.is_empty());
    if plain && dotted && !local.is_empty() { Ok(text) } else { Err(wrong) }
}

fn phone(text: &str) -> Result<String, Refusal> {
    // Dropping the letters of "ext. 5" would leave another person's number.
    if text.chars().any(|letter| letter.is_alphanumeric() && !letter.is_ascii_digit()) {
        return Err("holds letters; write digits with the country code");
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_start_matches('0');
    match digits.len() {
        7..=15 => Ok(digits.to_owned()),
        _ => Err("has not 7 to 15 digits; write digits with the country code"),
    }
}

fn name(text: &str) -> Result<String, Refusal> {
    keep(text, |letter| !letter.is_whitespace() && !letter.is_control() && !is_punctuation(letter))
        .ok_or("holds no letters")
}

/// Punctuation that turns up in names and places: ASCII, Latin-1, the general block, CJK and full width.
fn is_punctuation(letter: char) -> bool {
    letter.is_ascii_punctuation()
        || matches!(letter,
            '\u{a1}'..='\u{a9}' | '\u{ab}'..='\u{b1}' | '\u{b4}' | '\u{b6}'..='\u{b8}' | '\u{bb}' | '\u{bf}'
            | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}'
            | '\u{30fb}' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}')
}

fn state(text: &str) -> Result<String, Refusal> {
    let plain = keep(text, char::is_alphanumeric).ok_or("holds no letters; write a two-letter code like ca")?;
    Ok(places::state_code(&plain).map_or(plain, str::to_owned))
}

fn zip(text: &str) -> Result<String, Refusal> {
    let head = text.split('-').next().unwrap_or_default();
    keep(head, char::is_alphanumeric).ok_or("holds neither digits nor letters")
}

fn country(text: &str) -> Result<String, Refusal> {
    let letters = keep(text, char::is_alphabetic).unwrap_or_default();
    if letters == "uk" {
        return Err("is UK, which is no ISO 3166 code; write GB");
    }
    places::country_code(&letters).map(str::to_owned).ok_or("is no country; write its two-letter ISO 3166 code like DE")
}

fn gender(text: &str) -> Result<String, Refusal> {
    let letters = keep(text, char::is_alphabetic).unwrap_or_default();
    match letters.as_str() {
        "f" | "female" | "woman" | "girl" | "she" | "her" | "mrs" | "ms" | "miss" => Ok("f".to_owned()),
        "m" | "male" | "man" | "boy" | "he" | "him" | "mr" => Ok("m".to_owned()),
        _ => Err("is neither f nor m, the only two that Meta takes"),
    }
}

fn two_digits(text: &str, max: u8) -> Option<String> {
    let short = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u8 = text.parse().ok().filter(|number| short && (1..=max).contains(number))?;
    Some(format!("{number:02}"))
}

fn date_of_birth(text: &str) -> Result<String, Refusal> {
    let wrong = "is not a date; write YYYY-MM-DD";
    // A time of day after an ISO date says nothing about the date.
    let date = match text.split_at_checked(10) {
        Some((date, rest)) if rest.starts_with('t') || rest.starts_with(' ') => date,
        _ => text,
    };
    let groups: Vec<&str> =
        date.split(|letter: char| !letter.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
    if date.chars().any(char::is_alphabetic) {
        return Err(wrong);
    }
    let number = |text: &str| text.parse::<i8>().map_err(|_| wrong);
    let (year, month, day) = match *groups.as_slice() {
        [whole] if whole.len() == 8 => {
            let (year, rest) = whole.split_at_checked(4).ok_or(wrong)?;
            let (month, day) = rest.split_at_checked(2).ok_or(wrong)?;
            (year, number(month)?, number(day)?)
        }
        [year, month, day] if year.len() == 4 => (year, number(month)?, number(day)?),
        [first, second, year] if year.len() == 4 => match (number(first)?, number(second)?) {
            (day, month) if day > 12 => (year, month, day),
            (month, day) => (year, month, day),
        },
        _ => return Err(wrong),
    };
    let year: i16 = year.parse().map_err(|_| wrong)?;
    if !(1900..=2100).contains(&year) {
        return Err("has a year that is not from 1900 to 2100");
    }
    jiff::civil::Date::new(year, month, day).map_err(|_| "is a day that does not exist")?;
    Ok(format!("{year:04}{month:02}{day:02}"))
}

#[cfg(test)]
#[path = "hashing_tests.rs"]
mod tests;

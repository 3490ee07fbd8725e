//! Who is logged in, and how often a token may be guessed: rules over times that are handed in.
//!
//! A visitor is a random id in a cookie. Of the ids that are logged in only a digest is kept, in memory: a restart logs
//! everybody out, and so does another admin token. What belongs to a visitor without being stored (the token of its
//! forms, the seal of its notices) is a MAC over its id under a key of this process.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// From the login on, whatever is done: a working day.
pub(super) const SESSION: Duration = Duration::from_hours(12);
/// Logged in at once; one more ends the oldest.
const SESSIONS_MAX: usize = 32;
/// Wrong tokens from one address within [`GUESS_WINDOW`].
const GUESSES_MAX: u32 = 5;
pub(super) const GUESS_WINDOW: Duration = Duration::from_mins(1);
/// Addresses remembered for their guesses; while there are so many, no others may guess.
const GUESSERS_MAX: usize = 1024;

/// Letters of an id: 32 bytes in base 64.
const ID_LETTERS: usize = 43;

/// What is mixed into a MAC, so that one can never stand for another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Form,
    Notice,
    Session,
    Token,
}

/// The key of this process.
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    /// `None` where the system has no randomness to give.
    pub(super) fn random() -> Option<Self> {
        Hmac::new_from_slice(&random()?).ok().map(Self)
    }

    pub(super) fn mac(&self, purpose: Purpose, parts: &[&str]) -> String {
        let mut mac = self.0.clone();
        mac.update(&[match purpose {
            Purpose::Form => 1,
            Purpose::Notice => 2,
            Purpose::Session => 3,
            Purpose::Token => 4,
        }]);
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }
}

fn random() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok().map(|()| bytes)
}

/// A fresh id; `None` where the system has no randomness to give.
pub(super) fn fresh_id() -> Option<String> {
    random().map(|bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether a cookie's value has the form of an id.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID_LETTERS && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Those who are logged in. Times are monotonic.
#[derive(Debug, Default)]
pub(super) struct Sessions(Vec<Session>);

#[derive(Debug)]
struct Session {
    /// MAC of the visitor's id.
    who: String,
    /// MAC of the admin token that was given.
    token: String,
    ends: Duration,
}

impl Sessions {
    pub(super) fn open(&mut self, who: String, token: String, now: Duration) {
        self.0.retain(|session| session.ends > now && session.who != who);
        if self.0.len() >= SESSIONS_MAX {
            self.0.remove(0);
        }
        self.0.push(Session { who, token, ends: now + SESSION });
    }

    /// Whether `who` is logged in with what is still the admin token.
    pub(super) fn is_open(&self, who: &str, token: &str, now: Duration) -> bool {
        self.0.iter().any(|session| session.who == who && session.token == token && session.ends > now)
    }

    pub(super) fn close(&mut self, who: &str) {
        self.0.retain(|session| session.who != who);
    }
}

/// Wrong tokens by the address they came from.
#[derive(Debug, Default)]
pub(super) struct Guesses(BTreeMap<IpAddr, (u32, Duration)>);

impl Guesses {
    /// Counts a guess before it is looked at; false where it must not be looked at.
    pub(super) fn take(&mut self, from: IpAddr, now: Duration) -> bool {
        self.0.retain(|_, (_, began)| now.saturating_sub(*began) < GUESS_WINDOW);
        let from = network(from);
        if self.0.len() >= GUESSERS_MAX && !self.0.contains_key(&from) {
            return false;
        }
        let (count, _) = self.0.entry(from).or_insert((0, now));
        *count = count.saturating_add(1);
        *count <= GUESSES_MAX
    }

    /// A right token takes the wrong ones before it back.
    pub(super) fn forgive(&mut self, from: IpAddr) {
        self.0.remove(&network(from));
    }
}

/// One subscriber has a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn ids_are_random_and_have_one_form() {
        let (one, other) = (fresh_id().unwrap(), fresh_id().unwrap());
        assert!(one != other && is_id(&one) && is_id(&other));
        for wrong in ["", "x", &"a".repeat(ID_LETTERS - 1), &format!("{one}a"), &"=".repeat(ID_LETTERS)] {
            assert!(!is_id(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_mac_is_for_one_purpose_one_visitor_and_one_text() {
        let key = Key::random().unwrap();
        let base = key.mac(Purpose::Form, &["a", "b"]);
        assert_eq!(base, key.mac(Purpose::Form, &["a", "b"]));
        for other in [
            key.mac(Purpose::Notice, &["a", "b"]),
            key.mac(Purpose::Form, &["ab"]),
            key.mac(Purpose::Form, &["a", "bb"]),
            key.mac(Purpose::Form, &["ab", ""]),
            Key::random().unwrap().mac(Purpose::Form, &["a", "b"]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_session_ends_by_time_by_logout_and_by_another_token() {
        let mut sessions = Sessions::default();
        sessions.open("me".to_owned(), "t1".to_owned(), NOW);
        assert!(sessions.is_open("me", "t1", NOW));
        assert!(!sessions.is_open("me", "t2", NOW) && !sessions.is_open("you", "t1", NOW));
        assert!(sessions.is_open("me", "t1", Duration::from_secs(999) + SESSION));
        assert!(!sessions.is_open("me", "t1", NOW + SESSION));
        sessions.close("me");
        assert!(!sessions.is_open("me", "t1", NOW));
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_goes() {
        let mut sessions = Sessions::default();
        for number in 0..=SESSIONS_MAX {
            sessions.open(number.to_string(), "t".to_owned(), NOW);
        }
        assert!(!sessions.is_open("0", "t", NOW) && sessions.is_open("1", "t", NOW));
        assert_eq!(sessions.0.len(), SESSIONS_MAX);
    }

    #[test]
    fn wrong_tokens_are_few_and_only_for_whoever_guesses() {
        let mut guesses = Guesses::default();
        let (mallory, alice): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "203.0.113.7".parse().unwrap());
        assert!((0..GUESSES_MAX).all(|_| guesses.take(mallory, NOW)));
        assert!(!guesses.take(mallory, NOW) && !guesses.take("2001:db8::2".parse().unwrap(), NOW));
        assert!(guesses.take(alice, NOW), "others are not locked out");
        assert!(!guesses.take(mallory, Duration::from_secs(999) + GUESS_WINDOW));
        assert!(guesses.take(mallory, NOW + GUESS_WINDOW));
        for _ in 0..GUESSES_MAX {
            guesses.forgive(alice);
            assert!(guesses.take(alice, NOW + GUESS_WINDOW));
        }
    }

    #[test]
    fn memory_for_guessers_is_bounded() {
        let mut guesses = Guesses::default();
        let address = |number: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
        let taken = (0..2 * u32::try_from(GUESSERS_MAX).unwrap()).filter(|number| guesses.take(address(*number), NOW));
        assert_eq!(taken.count(), GUESSERS_MAX);
    }
}

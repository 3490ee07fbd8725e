//! The names users choose: sources, destinations, canonical events, targets.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A name that breaks its rule. The text says what the rule is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{given}\" is not {wanted}")]
pub struct NameError {
    given: String,
    wanted: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $max:literal, $allowed:expr, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let allowed: fn(char) -> bool = $allowed;
                if text.is_empty() || text.len() > $max || !text.chars().all(allowed) {
                    return Err(NameError { given: text.chars().take(80).collect(), wanted: $wanted });
                }
                Ok(Self(Arc::from(text)))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

fn plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-')
}

name!(
    /// Who may send events: a `[sources.NAME]` of the configuration.
    SourceName, 64, plain, "a source name (1 to 64 of A-Z a-z 0-9 _ . -)"
);
name!(
    /// One configured receiver: a `[destinations.NAME]` of the configuration.
    DestinationName, 64, plain, "a destination name (1 to 64 of A-Z a-z 0-9 _ . -)"
);
name!(
    /// The sender's name for an event (`deposit`).
    CanonicalName, 64, |letter| plain(letter) || letter == ':', "an event name (1 to 64 of A-Z a-z 0-9 _ . : -)"
);
name!(
    /// A destination's name for an event (`Purchase`).
    TargetName, 128, |letter| !letter.is_control(), "a target name (1 to 128 bytes without control characters)"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_letters_and_lengths() {
        assert!("deposit:first.v2-x_1".parse::<CanonicalName>().is_ok());
        assert!("a".repeat(64).parse::<CanonicalName>().is_ok());
        for bad in ["", "ü", "a b", "a/b", &"a".repeat(65)] {
            assert!(bad.parse::<CanonicalName>().is_err(), "{bad}");
            assert!(bad.parse::<DestinationName>().is_err(), "{bad}");
        }
        assert!("a:b".parse::<SourceName>().is_err());
        assert!("Complete Payment ü".parse::<TargetName>().is_ok());
        assert!("a\nb".parse::<TargetName>().is_err());
    }
}

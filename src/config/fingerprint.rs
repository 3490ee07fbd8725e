//! Whether a destination changed: a hash over its effective settings and its secrets.
//!
//! Effective, so that writing a default out or moving a secret to a file changes nothing. The hash is compared, never
//! shown: 64 bits of a known function would let a short secret be guessed.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::destination::registry::Spec;
use crate::domain::secret::Secret;

/// The secrets of a spec in a fixed order; their `Debug` does not tell them apart.
pub(crate) fn secrets(spec: &Spec) -> Vec<Secret> {
    match spec {
        Spec::Webhook(spec) => {
            let headers = spec.headers.iter().map(|(_, value)| value);
            headers.chain(&spec.signing_secrets).cloned().collect()
        }
        Spec::S2sPostback(spec) => spec.secrets.values().cloned().collect(),
        Spec::FbCapi(spec) => vec![spec.access_token.clone()],
    }
}

/// The hash of `settings` (which print no secret) and `secrets`.
pub(crate) fn of(settings: &[String], secrets: &[Secret]) -> u64 {
    let mut hasher = SipHasher13::new();
    let mut part = |text: &str| {
        // The length keeps two texts apart from one that is both joined.
        hasher.write_u64(u64::try_from(text.len()).unwrap_or(u64::MAX));
        hasher.write(text.as_bytes());
    };
    for text in settings {
        part(text);
    }
    for secret in secrets {
        part(secret.expose());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_secrets_are_kept_apart() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let settings = ["a".to_owned()];
        assert_ne!(of(&settings, &[secret("bc"), secret("d")]), of(&settings, &[secret("b"), secret("cd")]));
        assert_eq!(of(&settings, &[secret("b")]), of(&settings, &[secret("b")]));
    }
}

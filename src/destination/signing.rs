//! Standard Webhooks signatures, scheme v1: HMAC-SHA256 over `{id}.{timestamp}.{body}`.
//!
//! - The body is signed as its bytes, exactly as sent. The time is that of the attempt, so every attempt signs anew; only
//!   the id stays. Our ids hold no dot, which the scheme forbids.
//! - Several keys sign side by side while one replaces another: the first is current, one space stands between.
//! - A secret is base64 of the key, with or without `whsec_` in front and padding behind. An empty key is refused.
//!
//! Absent on purpose: v1a (ed25519), and verifying, which is the receiver's part.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::secret::Secret;

/// Reads keys with and without padding, and like other libraries does not mind stray bits in the last letter.
const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The keys of one destination, first is current. Cloning a keyed MAC spares the key schedule of every signature.
#[derive(Clone, Default)]
pub struct SigningKeys {
    keys: Vec<Hmac<Sha256>>,
}

/// Why a secret is no key. The text never shows the secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    #[error("is empty; write whsec_ and the base64 of 24 to 64 random bytes (openssl rand -base64 32)")]
    Empty,
    #[error("is not base64; write whsec_ and the base64 of 24 to 64 random bytes (openssl rand -base64 32)")]
    NotBase64,
    #[error("is a key of scheme v1a (ed25519), which postbackd does not sign with; write a whsec_ key")]
    Asymmetric,
}

impl SigningKeys {
    /// All keys, or what is wrong with each bad one, by its place from 0.
    pub fn parse(secrets: &[Secret]) -> Result<Self, Vec<(usize, KeyError)>> {
        let mut keys = Vec::new();
        let mut wrong = Vec::new();
        for (place, secret) in secrets.iter().enumerate() {
            match parse_key(secret.expose()) {
                Ok(key) => keys.push(key),
                Err(error) => wrong.push((place, error)),
            }
        }
        if wrong.is_empty() { Ok(Self { keys }) } else { Err(wrong) }
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The value of `webhook-signature`; `timestamp` is the attempt's, in whole seconds since 1970.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut header = String::new();
        for key in &self.keys {
            let mut mac = key.clone();
            mac.update(id.as_bytes());
            mac.update(format!(".{timestamp}.").as_bytes());
            mac.update(body);
            if !header.is_empty() {
                header.push(' ');
            }
            header.push_str("v1,");
            BASE64_STANDARD.encode_string(mac.finalize().into_bytes(), &mut header);
        }
        header
    }
}

fn parse_key(text: &str) -> Result<Hmac<Sha256>, KeyError> {
    let text = text.trim();
    if text.starts_with("whsk_") || text.starts_with("whpk_") {
        return Err(KeyError::Asymmetric);
    }
    let encoded = text.strip_prefix("whsec_").unwrap_or(text);
    let bytes = TOLERANT.decode(encoded).map_err(|_| KeyError::NotBase64)?;
    if bytes.is_empty() {
        return Err(KeyError::Empty);
    }
    // HMAC takes a key of any length; the error cannot happen, and would be the key's fault if it did.
    Hmac::new_from_slice(&bytes).map_err(|_| KeyError::NotBase64)
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({})", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(texts: &[&str]) -> Result<SigningKeys, Vec<(usize, KeyError)>> {
        SigningKeys::parse(&texts.iter().map(|text| Secret::new((*text).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn every_vector_of_the_reference_is_reproduced() {
        let file = include_str!("../../tests/contract/vectors/standard_webhooks_vectors.json");
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 5);
        for vector in vectors {
            let secrets: Vec<&str> =
                vector["secrets"].as_array().unwrap().iter().map(|secret| secret.as_str().unwrap()).collect();
            let body = BASE64_STANDARD.decode(vector["body_utf8_base64"].as_str().unwrap()).unwrap();
            let id = vector["webhook_id"].as_str().unwrap();
            let time = vector["webhook_timestamp"].as_u64().unwrap();
            let header = keys(&secrets).unwrap().sign(id, time, &body);
            assert_eq!(header, vector["webhook_signature"].as_str().unwrap(), "{}", vector["note"]);
        }
    }

    #[test]
    fn prefix_and_padding_are_optional() {
        let sign = |text: &str| keys(&[text]).unwrap().sign("id", 1, b"body");
        let padded = sign("whsec_QKqCJZhDtJY4wLJ1stAg0lggA+NtgInl5F/025xZPn0=");
        for same in [
            "whsec_QKqCJZhDtJY4wLJ1stAg0lggA+NtgInl5F/025xZPn0",
            "QKqCJZhDtJY4wLJ1stAg0lggA+NtgInl5F/025xZPn0=",
            " QKqCJZhDtJY4wLJ1stAg0lggA+NtgInl5F/025xZPn0\n",
        ] {
            assert_eq!(sign(same), padded, "{same}");
        }
    }

    #[test]
    fn the_signature_covers_id_time_and_body() {
        let keys = keys(&["QKqCJZhDtJY4wLJ1stAg0lggA+NtgInl5F/025xZPn0="]).unwrap();
        let first = keys.sign("id", 1, b"body");
        for other in [keys.sign("ie", 1, b"body"), keys.sign("id", 2, b"body"), keys.sign("id", 1, b"bodz")] {
            assert_ne!(other, first);
        }
    }

    #[test]
    fn bad_keys_are_named_by_place_and_not_shown() {
        let wrong = keys(&["whsec_", "QKqC", "not base64!", "whsk_QKqC"]).unwrap_err();
        assert_eq!(wrong, [(0, KeyError::Empty), (2, KeyError::NotBase64), (3, KeyError::Asymmetric)]);
        assert!(wrong.iter().all(|(_, error)| !error.to_string().contains("not base64!")));
    }
}

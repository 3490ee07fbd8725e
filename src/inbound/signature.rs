//! Hashes by which networks sign their postbacks: `md5(clickid . payout . secret)` and the like, or an HMAC.
//!
//! What is hashed are the parameters' values as they are after decoding, in the order of the configuration, with nothing
//! between them but what the configuration puts there. A parameter that is missing is empty. The hash is written in hex.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::digest::Digest;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use super::parameters::Parameters;
use super::pick::{self, Piece};
use crate::domain::secret::Secret;

/// What stands for the secret in a template.
pub const SECRET: &str = "secret";

/// The function. Whether md5 or sha1 are worth anything is the network's choice: they are what it offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Md5,
    Sha1,
    Sha256,
    Sha512,
    HmacMd5,
    HmacSha1,
    HmacSha256,
    HmacSha512,
}

/// Words of the configuration.
pub const KINDS: [(&str, Kind); 8] = [
    ("md5", Kind::Md5),
    ("sha1", Kind::Sha1),
    ("sha256", Kind::Sha256),
    ("sha512", Kind::Sha512),
    ("hmac-md5", Kind::HmacMd5),
    ("hmac-sha1", Kind::HmacSha1),
    ("hmac-sha256", Kind::HmacSha256),
    ("hmac-sha512", Kind::HmacSha512),
];

/// One part of what is hashed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    Text(String),
    Parameter(String),
    Secret,
}

/// `hash = { param, secret, kind, over }`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HashCheck {
    pub parameter: String,
    pub secret: Secret,
    pub kind: Kind,
    /// Never empty.
    pub over: Vec<Part>,
}

/// Why a postback is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disbelief {
    Missing,
    Wrong,
}

impl Kind {
    /// Whether the secret is the function's key; else it must stand in what is hashed.
    pub fn is_keyed(self) -> bool {
        match self {
            Self::Md5 | Self::Sha1 | Self::Sha256 | Self::Sha512 => false,
            Self::HmacMd5 | Self::HmacSha1 | Self::HmacSha256 | Self::HmacSha512 => true,
        }
    }

    fn hash(self, secret: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => Md5::digest(message).to_vec(),
            Self::Sha1 => Sha1::digest(message).to_vec(),
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
            Self::HmacMd5 => keyed::<Hmac<Md5>>(secret, message),
            Self::HmacSha1 => keyed::<Hmac<Sha1>>(secret, message),
            Self::HmacSha256 => keyed::<Hmac<Sha256>>(secret, message),
            Self::HmacSha512 => keyed::<Hmac<Sha512>>(secret, message),
        }
    }
}

/// HMAC takes a key of any length; a function that does not would give nothing, which equals no hash.
fn keyed<M: Mac + KeyInit>(secret: &[u8], message: &[u8]) -> Vec<u8> {
    <M as KeyInit>::new_from_slice(secret).map_or_else(
        |_| Vec::new(),
        |mut mac| {
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        },
    )
}

impl HashCheck {
    /// Judges a postback; `parameters` still hold the hash.
    pub fn check(&self, parameters: &Parameters) -> Result<(), Disbelief> {
        let given = parameters.value(&self.parameter).ok_or(Disbelief::Missing)?;
        let mut message = String::new();
        for part in &self.over {
            message.push_str(match part {
                Part::Text(text) => text,
                Part::Parameter(name) => parameters.raw(name).unwrap_or_default(),
                Part::Secret => self.secret.expose(),
            });
        }
        let wanted = self.kind.hash(self.secret.expose().as_bytes(), message.as_bytes());
        let given = unhex(given.trim()).ok_or(Disbelief::Wrong)?;
        let same = !wanted.is_empty() && bool::from(wanted.ct_eq(&given));
        if same { Ok(()) } else { Err(Disbelief::Wrong) }
    }
}

/// Reads one item of `over`: a parameter's name, or a template with `{name}`s and `{secret}`.
pub fn parts(text: &str) -> Result<Vec<Part>, String> {
    if !text.contains(['{', '}']) {
        if text == SECRET {
            return Err("is the name of a parameter here; write {secret} for the secret itself".to_owned());
        }
        return Ok(vec![Part::Parameter(text.to_owned())]);
    }
    let part = |piece| match piece {
        Piece::Text(text) => Part::Text(text),
        Piece::Parameter(name) if name == SECRET => Part::Secret,
        Piece::Parameter(name) => Part::Parameter(name),
    };
    Ok(pick::pieces(text)?.into_iter().map(part).collect())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<u8> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(high << 4 | low),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::parameters::Parameter;
    use super::*;

    fn check(kind: Kind, over: &[&str], pairs: &[(&str, &str)]) -> Result<(), Disbelief> {
        let over = over.iter().flat_map(|text| parts(text).unwrap()).collect();
        let check = HashCheck { parameter: "hash".to_owned(), secret: Secret::new("key".to_owned()), kind, over };
        check.check(&Parameters::join(pairs.iter().map(|(name, value)| Parameter::text(*name, *value))).unwrap())
    }

    /// From RFC 2202, RFC 4231 in spirit: the well-known sentence under the key "key".
    const SENTENCE: &str = "The quick brown fox jumps over the lazy dog";

    #[test]
    fn every_function_gives_its_published_value() {
        for (kind, hash) in [
            (Kind::Md5, "9e107d9d372bb6826bd81d3542a419d6"),
            (Kind::Sha1, "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"),
            (Kind::Sha256, "d7a8fbb307d7809469ca9abcb0082e4f8d5651e46d3cdb762d02d0bf37c9e592"),
            (Kind::HmacMd5, "80070713463e7749b90c2dc24911e275"),
            (Kind::HmacSha1, "de7c9b85b8b78aa6bc8a7a36f70a90701c9db4d9"),
            (Kind::HmacSha256, "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"),
        ] {
            assert_eq!(check(kind, &["text"], &[("text", SENTENCE), ("hash", hash)]), Ok(()), "{kind:?}");
            let upper = hash.to_ascii_uppercase();
            assert_eq!(check(kind, &["text"], &[("text", SENTENCE), ("hash", &upper)]), Ok(()), "{kind:?}");
            let other = [("text", "The quick brown fox jumps over the lazy cog"), ("hash", hash)];
            assert_eq!(check(kind, &["text"], &other), Err(Disbelief::Wrong), "{kind:?}");
        }
        let hash = "07e547d9586f6a73f73fbac0435ed76951218fb7d0c8d788a309d785436bbb64\
                    2e93a252a954f23912547d1e8a3b5ed6e1bfd7097821233fa0538f3db854fee6";
        assert_eq!(check(Kind::Sha512, &["text"], &[("text", SENTENCE), ("hash", hash)]), Ok(()));
        let hash = "b42af09057bac1e2d41708e48a902e09b5ff7f12ab428a4fe86653c73dd248fb\
                    82f948a549f7b791a5b41915ee4d1ec3935357e4e2317250d0372afa2ebeeb3a";
        assert_eq!(check(Kind::HmacSha512, &["text"], &[("text", SENTENCE), ("hash", hash)]), Ok(()));
    }

    #[test]
    fn parts_are_joined_in_order_with_the_secret_where_it_is_put() {
        // md5("c1:25.00:key")
        let hash = "f29627fb81fa42175c80f2a159f960af";
        let pairs = [("clickid", "c1"), ("payout", "25.00"), ("hash", hash)];
        for over in [&["{clickid}:{payout}:{secret}"][..], &["clickid", ":{payout}:", "{secret}"]] {
            assert_eq!(check(Kind::Md5, over, &pairs), Ok(()), "{over:?}");
        }
        for over in [&["clickid", "payout", "{secret}"][..], &["{secret}:{payout}:{clickid}"]] {
            assert_eq!(check(Kind::Md5, over, &pairs), Err(Disbelief::Wrong), "{over:?}");
        }
    }

    #[test]
    fn a_missing_or_malformed_hash_is_no_hash() {
        for (hash, wanted) in [
            ("", Disbelief::Missing),
            ("{hash}", Disbelief::Missing),
            ("zz", Disbelief::Wrong),
            ("abc", Disbelief::Wrong),
        ] {
            assert_eq!(check(Kind::Sha256, &["a"], &[("a", "1"), ("hash", hash)]), Err(wanted), "{hash}");
        }
        assert_eq!(check(Kind::Sha256, &["a"], &[("a", "1")]), Err(Disbelief::Missing));
    }

    #[test]
    fn the_secret_is_written_in_braces() {
        assert!(parts("secret").is_err());
        assert_eq!(parts("{secret}").unwrap(), [Part::Secret]);
        assert_eq!(parts("a").unwrap(), [Part::Parameter("a".to_owned())]);
    }
}

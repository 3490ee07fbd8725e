//! Chance: jitter, the store's instance and keys.

/// A source of random bits.
pub trait Entropy: Send + Sync {
    /// 64 random bits.
    fn next_u64(&self) -> u64;
}

/// The operating system's generator.
#[derive(Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// Zero where the system has no entropy to give, which Linux never says after boot: jitter is then absent, no
    /// promise is broken. The store asks its own way when it makes keys.
    fn next_u64(&self) -> u64 {
        getrandom::u64().unwrap_or(0)
    }
}

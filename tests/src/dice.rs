//! Numbers that look random and are the same for the same seed.

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// A generator of such numbers (xorshift64*).
#[derive(Debug)]
pub struct Dice {
    seed: u64,
    state: AtomicU64,
}

impl Dice {
    /// By the seed in a variable of the environment, if it is set.
    #[must_use]
    pub fn from_env(name: &str) -> Self {
        let seed = env::var(name).ok().and_then(|text| text.parse().ok());
        Self::new(seed.unwrap_or(0x9E37_79B9_7F4A_7C15))
    }

    /// By this seed, which is not zero.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            state: AtomicU64::new(seed),
        }
    }

    /// A number below another.
    pub fn roll(&self, below: u64) -> u64 {
        let mut x = self.state.load(Relaxed);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.state.store(x, Relaxed);
        (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below
    }

    /// What it was made with, to have the same numbers again.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }
}

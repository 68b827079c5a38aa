use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use crate::StoreError;

/// What tells counters that are there from counters that are gone: a name that the server has beside them.
pub(super) struct Epoch {
    name: AtomicU32,
    lost: AtomicBool,
    /// Whether it goes by one in which others have counted again, without being told.
    follows: bool,
    /// Whether it is to be told anew, since the server may be another one by now.
    doubted: AtomicBool,
}

/// An epoch as the server has it: its name, and how it came to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Begun {
    pub(super) name: u32,
    /// After everything was counted again, and not since nothing was there.
    pub(super) reseeded: bool,
}

/// The server has not got the counters that this client knew.
#[derive(Debug, thiserror::Error)]
#[error(
    "Redis has lost its counters: they have to be counted again from a ledger, or a new epoch begun without"
)]
pub(super) struct Lost;

// === impl Epoch ===

impl Epoch {
    /// `None`: there is none yet, and somebody else begins it.
    pub(super) fn new(begun: Option<Begun>, follows: bool) -> Self {
        Self {
            follows,
            doubted: AtomicBool::new(false),
            name: AtomicU32::new(begun.map_or_else(random_name, |begun| begun.name)),
            lost: AtomicBool::new(begun.is_none()),
        }
    }

    pub(super) fn name(&self) -> u32 {
        self.name.load(Ordering::Acquire)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire) || self.is_doubted()
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Acquire)
    }

    /// The server may be another one by now, or an older one. Who follows takes it as it is.
    pub(super) fn doubt(&self) {
        self.doubted.store(!self.follows, Ordering::Release);
    }

    /// Goes by that epoch from now on.
    pub(super) fn begin(&self, name: u32) {
        self.doubted.store(false, Ordering::Release);
        self.name.store(name, Ordering::Release);
        self.lost.store(false, Ordering::Release);
    }

    /// A decision was taken in this epoch.
    pub(super) fn is_there(&self, name: u32) {
        if self.is_lost() && self.name() == name {
            self.lost.store(false, Ordering::Release);
        }
    }

    /// The server has this epoch. If it is another than this client's, that is one in which somebody has counted everything
    /// again, or the counters are lost.
    pub(super) fn found(&self, text: &str) -> Result<(), StoreError> {
        match Begun::parse(text) {
            Some(begun) if begun.name == self.name() => self.lost.store(false, Ordering::Release),
            Some(begun) if begun.reseeded && self.follows => self.begin(begun.name),
            _ => {
                self.lost.store(true, Ordering::Release);
                return Err(StoreError::new(Lost));
            }
        }
        Ok(())
    }
}

// === impl Begun ===

impl Begun {
    pub(super) fn first() -> Self {
        Self {
            name: random_name(),
            reseeded: false,
        }
    }

    pub(super) fn again() -> Self {
        Self {
            name: random_name(),
            reseeded: true,
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, how) = text.split_once(' ')?;
        Some(Self {
            name: u32::from_str_radix(name, 16).ok()?,
            reseeded: match how {
                "first" => false,
                "reseeded" => true,
                _ => return None,
            },
        })
    }
}

impl fmt::Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.reseeded { "reseeded" } else { "first" };
        write!(f, "{} {how}", text_of(self.name))
    }
}

/// A name as scripts compare it.
pub(super) fn text_of(name: u32) -> String {
    format!("{name:08x}")
}

/// A number that nobody has had before. A seeded hasher is std's source of chance.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one("tower-quota")
}

fn random_name() -> u32 {
    // Any bits of it will do.
    (random() >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_comes_back_from_its_text() {
        for begun in [Begun::first(), Begun::again()] {
            assert_eq!(Begun::parse(&begun.to_string()), Some(begun));
        }
        assert_eq!(Begun::parse(""), None);
        assert_eq!(Begun::parse("00000001 elsewhere"), None);
    }

    #[test]
    fn only_one_that_was_reseeded_takes_the_place_of_another() {
        let epoch = Epoch::new(Some(Begun::first()), true);
        assert!(epoch.found(&Begun::first().to_string()).is_err());
        assert!(epoch.is_lost());
        assert!(epoch.found("").is_err());
        let again = Begun::again();
        assert!(epoch.found(&again.to_string()).is_ok());
        assert!(!epoch.is_lost() && epoch.name() == again.name);
    }

    #[test]
    fn who_does_not_follow_goes_by_no_other_until_it_is_told() {
        let epoch = Epoch::new(None, false);
        let again = Begun::again();
        assert!(epoch.found(&again.to_string()).is_err() && epoch.is_lost());
        epoch.begin(again.name);
        assert!(epoch.found(&again.to_string()).is_ok() && !epoch.is_lost());
        assert!(epoch.found(&Begun::again().to_string()).is_err() && epoch.is_lost());
    }
}

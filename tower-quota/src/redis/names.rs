use std::fmt::Write as _;

use fred::util::redis_keyslot;

use crate::Subject;

/// Under which keys the server has what.
#[derive(Debug)]
pub(super) struct Names {
    prefix: Box<str>,
}

/// The keys of one family, which are in one slot of a Cluster: what is in braces decides on it.
pub(super) struct Family {
    prefix: Box<str>,
    /// The outermost name in braces, with nothing in it that would end them.
    tag: String,
}

// === impl Names ===

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: encoded(prefix).into(),
        }
    }

    pub(super) fn family(&self, subject: &Subject) -> Family {
        let root = match &**subject.root() {
            // Braces around nothing do not count. No name is encoded as this.
            "" => "%".to_owned(),
            root => encoded(root),
        };
        Family {
            prefix: self.prefix.clone(),
            tag: format!("{{{root}}}"),
        }
    }

    pub(super) fn epoch(&self) -> String {
        format!("{}:epoch", self.prefix)
    }

    /// Copies of the epoch, one in every 256 slots of a Cluster that follow one another, so that each of its servers has
    /// some.
    pub(super) fn copies(&self) -> Vec<String> {
        let mut copies = [const { None }; 64];
        let mut number = 0_u32;
        while copies.iter().any(Option::is_none) {
            let slot = redis_keyslot(number.to_string().as_bytes());
            if let Some(copy) = copies.get_mut(usize::from(slot) / 256) {
                *copy = Some(format!("{}:{{{number}}}", self.epoch()));
            }
            number = number.saturating_add(1);
        }
        copies.into_iter().flatten().collect()
    }

    /// The epoch that is to come. It is in the slot of the epoch.
    pub(super) fn coming_epoch(&self) -> String {
        format!("{}:coming:{{{}}}", self.prefix, self.epoch())
    }

    /// In which run of the server it was counted. It is in the slot of the epoch.
    pub(super) fn run(&self) -> String {
        format!("{}:run:{{{}}}", self.prefix, self.epoch())
    }

    /// Who counts for it. It is in the slot of the epoch.
    pub(super) fn members(&self) -> String {
        format!("{}:members:{{{}}}", self.prefix, self.epoch())
    }

    /// What the numbers of reservations under these names begin with, so that they are told from other stores'.
    pub(super) fn mark(&self) -> u32 {
        // FNV-1a.
        let bytes = self.prefix.bytes().chain(*b" of tower-quota");
        bytes.fold(0x811c_9dc5, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
    }
}

// === impl Family ===

impl Family {
    pub(super) fn account(&self, subject: &Subject) -> String {
        self.accounts() + &Self::account_in(subject)
    }

    /// What the keys of all accounts begin with.
    pub(super) fn accounts(&self) -> String {
        format!("{}:{}", self.prefix, self.tag)
    }

    /// How they go on.
    pub(super) fn account_in(subject: &Subject) -> String {
        match subject.is_root() {
            true => String::new(),
            false => format!(":{}", subject.name()),
        }
    }

    pub(super) fn leases(&self) -> String {
        format!("{}:leases:{}", self.prefix, self.tag)
    }

    /// What the keys of all reservations begin with.
    pub(super) fn held(&self) -> String {
        format!("{}:held:{}:", self.prefix, self.tag)
    }
}

fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '%' | '{' | '}' => {
                // Writing to a string does not fail.
                let _ = write!(encoded, "%{:02X}", u32::from(character));
            }
            _ => encoded.push(character),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn keys(names: &Names, subject: &Subject) -> Vec<String> {
        let family = names.family(subject);
        let mut keys: Vec<_> = subject
            .chain()
            .map(|level| family.account(&level))
            .collect();
        keys.extend([family.leases(), format!("{}7", family.held())]);
        keys
    }

    #[test]
    fn keys_are_named_after_those_they_are_of() {
        let names = Names::new("quota");
        let lawful = [
            "quota:{o%7Drg}:al}ice",
            "quota:{o%7Drg}",
            "quota:leases:{o%7Drg}",
            "quota:held:{o%7Drg}:7",
        ];
        assert_eq!(keys(&names, &Subject::new("al}ice").under("o}rg")), lawful);
        assert_eq!(names.epoch(), "quota:epoch");
    }

    #[test]
    fn no_two_subjects_share_an_account() {
        let names = Names::new("quota");
        let texts = ["", "a", "{", "}", "%", "%7D", "epoch", "leases", ":", "a}:"];
        let mut seen = HashSet::new();
        for name in texts {
            assert!(seen.insert(names.family(&name.into()).account(&name.into())));
            for parent in texts {
                let subject = Subject::new(name).under(parent);
                let family = names.family(&subject);
                assert!(seen.insert(family.account(&subject)), "{subject:?}");
                assert!(!seen.contains(&family.leases()));
            }
        }
        for own in [
            names.epoch(),
            names.coming_epoch(),
            names.members(),
            names.run(),
        ] {
            assert!(!seen.contains(&own));
        }
    }

    #[test]
    fn every_server_of_a_cluster_has_copies_of_the_epoch() {
        let slots = |key: &String| redis_keyslot(key.as_bytes()) / 256;
        let slots: Vec<u16> = Names::new("a{b").copies().iter().map(slots).collect();
        assert!(slots.into_iter().eq(0..64));
    }

    proptest! {
        #[test]
        fn a_family_is_in_one_slot(name: String, parents: Vec<String>, prefix: String) {
            let subject = parents.into_iter().fold(Subject::new(name), Subject::under);
            let names = Names::new(&prefix);
            let slots: HashSet<u16> =
                keys(&names, &subject).iter().map(|key| redis_keyslot(key.as_bytes())).collect();
            prop_assert_eq!(slots.len(), 1);
            let of_epoch = [names.epoch(), names.coming_epoch(), names.members(), names.run()];
            let of_epoch: HashSet<u16> =
                of_epoch.iter().map(|key| redis_keyslot(key.as_bytes())).collect();
            prop_assert_eq!(of_epoch.len(), 1);
        }
    }
}

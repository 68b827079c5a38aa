//! The vault, and what may happen to what it sealed.
#![cfg(feature = "vault")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{collections::HashSet, thread};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use proptest::prelude::*;
use tower_workspace::vault::{MasterKeys, Sealed, SecretBytes, Vault, VaultError};

const OLD: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
const NEW: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

const SECRET: &[u8] = b"sk-ant-canary-0123456789";

/// Version and id of the master key.
const HEADER: usize = 1 + 8;

fn keys(keys: &[&str]) -> MasterKeys {
    MasterKeys::parse(keys.join("\n")).unwrap()
}

fn vault(held: &[&str]) -> Vault {
    Vault::new(keys(held))
}

fn hex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// Alice's key for `anthropic`, under the first of these.
fn sealed(held: &[&str]) -> Sealed {
    vault(held).seal("alice", "anthropic", SECRET).unwrap()
}

fn open(vault: &Vault, sealed: &Sealed) -> Result<Vec<u8>, VaultError> {
    let opened = vault.open("alice", "anthropic", sealed);
    opened.map(|secret| secret.expose().to_vec())
}

/// A stored row, opened for alice.
fn read(vault: &Vault, row: &[u8]) -> Result<Vec<u8>, VaultError> {
    open(vault, &Sealed::from_bytes(row)?)
}

#[test]
fn d8_69_what_is_sealed_opens_for_its_user_and_name_only() {
    let vault = vault(&[OLD]);
    let sealed = sealed(&[OLD]);
    assert_eq!(open(&vault, &sealed).unwrap(), SECRET);
    for (user_id, key_name) in [
        ("bob", "anthropic"),
        ("alice", "openai"),
        ("anthropic", "alice"),
        ("alicea", "nthropic"),
        ("alic", "eanthropic"),
        ("aliceanthropic", ""),
        ("", "aliceanthropic"),
        ("Alice", "anthropic"),
        ("alice ", "anthropic"),
        ("alice", "anthropic\0"),
        ("", ""),
    ] {
        let moved = vault.open(user_id, key_name, &sealed).unwrap_err();
        assert_eq!(moved, VaultError::NotAuthentic, "{user_id:?} {key_name:?}");
    }
}

#[test]
fn d8_69_no_nonce_comes_twice_in_100_000_sealings() {
    let vault = vault(&[OLD]);
    let mut nonces = HashSet::new();
    let mut sealings = HashSet::new();
    for _ in 0..100_000 {
        let bytes = vault.seal("alice", "anthropic", b"k").unwrap().to_bytes();
        nonces.insert(bytes[HEADER..HEADER + NONCE_LEN].to_vec());
        sealings.insert(bytes[HEADER + NONCE_LEN..].to_vec());
    }
    assert_eq!((nonces.len(), sealings.len()), (100_000, 100_000));
}

/// Sealed by another implementation, `AESGCM` of Python's `cryptography` 48.
#[test]
fn d8_69_what_was_sealed_once_opens_in_every_later_version() {
    let row = hex(
        "010186a0ed75b1dc95101112131415161718191a1bf85524ce2c5cf4f1d203a54381a9bae78953905130ec0cb1e396d44f2ff8c55b64e2a6",
    );
    let row = Sealed::from_bytes(&row).unwrap();
    let opened = vault(&[NEW, OLD]).open("auth0|alice", "anthropic", &row);
    assert_eq!(opened.unwrap().expose(), b"sk-ant-known-answer");

    let nobody = hex("010186a0ed75b1dc95101112131415161718191a1bc10b8f674e2b459a0f1a24540a8f6e55");
    let nobody = Sealed::from_bytes(&nobody).unwrap();
    let opened = vault(&[OLD]).open("", "", &nobody);
    assert_eq!(opened.unwrap().expose(), b"");
}

/// What is sealed has the format that the module page says, read by hand.
#[test]
fn d8_69_the_format_is_the_documented_one() {
    let bytes = sealed(&[OLD]).to_bytes();
    assert_eq!(bytes.len(), SECRET.len() + 37);
    assert_eq!(bytes[..HEADER], hex("010186a0ed75b1dc95"));

    let mut associated = bytes[..HEADER].to_vec();
    associated.extend([0, 0, 0, 0, 0, 0, 0, 5]);
    associated.extend(b"alice");
    associated.extend([0, 0, 0, 0, 0, 0, 0, 9]);
    associated.extend(b"anthropic");

    let (nonce, text) = bytes[HEADER..].split_at(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &hex(OLD)).unwrap());
    let mut text = text.to_vec();
    let opened = key.open_in_place(nonce, Aad::from(associated), &mut text);
    assert_eq!(opened.unwrap(), SECRET);
}

#[test]
fn d8_69_a_row_that_was_changed_in_any_bit_does_not_open() {
    let vault = vault(&[OLD, NEW]);
    let row = sealed(&[OLD]).to_bytes();
    for bit in 0..row.len() * 8 {
        let (at, mut changed) = (bit / 8, row.clone());
        changed[at] ^= 1 << (bit % 8);
        match (at, read(&vault, &changed).unwrap_err()) {
            (0, VaultError::UnknownVersion { version }) => assert_eq!(version, changed[0]),
            (1..HEADER, VaultError::UnknownMasterKey { .. }) => {}
            (HEADER.., VaultError::NotAuthentic) => {}
            (_, other) => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn d8_69_a_row_that_names_another_master_key_does_not_open() {
    let vault = vault(&[OLD, NEW]);
    let mut row = sealed(&[OLD]).to_bytes();
    row[..HEADER].copy_from_slice(&sealed(&[NEW]).to_bytes()[..HEADER]);
    assert_eq!(read(&vault, &row), Err(VaultError::NotAuthentic));
}

#[test]
fn d8_69_a_row_that_was_cut_or_went_on_does_not_open() {
    let vault = vault(&[OLD]);
    let row = sealed(&[OLD]).to_bytes();
    for length in 0..row.len() {
        let refused = read(&vault, &row[..length]).unwrap_err();
        let expected = match length {
            ..37 => VaultError::Malformed { length },
            _ => VaultError::NotAuthentic,
        };
        assert_eq!(refused, expected, "{length} bytes");
        if length > 0 {
            assert!(read(&vault, &row[length..]).is_err(), "without {length}");
        }
    }
    let longer = [&row[..], &[0]].concat();
    assert_eq!(read(&vault, &longer), Err(VaultError::NotAuthentic));
    let mut endless = row;
    endless.resize(1 << 20, 0);
    let length = endless.len();
    assert_eq!(
        read(&vault, &endless),
        Err(VaultError::Malformed { length }),
        "longer than anything sealed"
    );
}

#[test]
fn d8_69_a_secret_has_a_longest_length() {
    let vault = vault(&[OLD]);
    let longest = vec![7; Vault::SECRET_MAX];
    for secret in [&longest[..], &[]] {
        let row = vault.seal("alice", "anthropic", secret).unwrap().to_bytes();
        assert_eq!(read(&vault, &row).unwrap(), secret);
    }
    let length = Vault::SECRET_MAX + 1;
    let refused = vault.seal("alice", "anthropic", &vec![7; length]);
    assert_eq!(refused, Err(VaultError::SecretTooLong { length }));
}

#[test]
fn d8_69_old_master_keys_open_until_they_are_taken_away() {
    let vault = vault(&[OLD]);
    let elsewhere = vault.clone();
    let before = sealed(&[OLD]);
    assert!(!vault.needs_reseal(&before));

    vault.replace(keys(&[NEW, OLD]));
    assert!(elsewhere.needs_reseal(&before), "a clone has heard of it");
    assert_eq!(open(&elsewhere, &before).unwrap(), SECRET);
    let after = elsewhere.reseal("alice", "anthropic", &before).unwrap();
    assert!(!elsewhere.needs_reseal(&after));
    assert_eq!(after.master_key_id(), elsewhere.master_key_ids()[0]);
    assert_eq!(open(&elsewhere, &before).unwrap(), SECRET, "still");

    vault.replace(keys(&[NEW]));
    assert_eq!(open(&elsewhere, &after).unwrap(), SECRET);
    assert!(elsewhere.needs_reseal(&before));
    let id = before.master_key_id();
    let removed = VaultError::UnknownMasterKey { id };
    assert_eq!(open(&elsewhere, &before), Err(removed));
    let resealed = elsewhere.reseal("alice", "anthropic", &before);
    assert_eq!(resealed, Err(removed));
    assert_eq!(
        removed.to_string(),
        "sealed secret needs master key 0186a0ed75b1dc95, which is not there"
    );

    vault.replace(keys(&[NEW, OLD]));
    assert_eq!(open(&vault, &before).unwrap(), SECRET, "put back");
}

#[test]
fn d8_69_a_new_key_below_the_old_one_opens_and_does_not_seal() {
    let careful = vault(&[OLD, NEW]);
    assert_eq!(open(&careful, &sealed(&[NEW])).unwrap(), SECRET);
    let id = sealed(&[OLD]).master_key_id();
    let row = careful.seal("alice", "anthropic", SECRET).unwrap();
    assert_eq!(row.master_key_id(), id);
}

#[test]
fn d8_69_reseal_opens_for_nobody_else() {
    let vault = vault(&[NEW, OLD]);
    let moved = vault.reseal("bob", "anthropic", &sealed(&[OLD]));
    assert_eq!(moved, Err(VaultError::NotAuthentic));
}

#[test]
fn d8_69_keys_are_rotated_while_others_seal_and_open() {
    let vault = vault(&[OLD, NEW]);
    thread::scope(|scope| {
        let workers = ["alice", "bob"].map(|user| {
            let vault = vault.clone();
            scope.spawn(move || {
                let mut row = vault.seal(user, "anthropic", SECRET).unwrap();
                let mut rotated = 0;
                for _ in 0..1_000_000 {
                    let next = vault.reseal(user, "anthropic", &row).unwrap();
                    rotated += u32::from(next.master_key_id() != row.master_key_id());
                    let opened = vault.open(user, "anthropic", &next).unwrap();
                    assert_eq!(opened.expose(), SECRET);
                    row = next;
                    if rotated == 100 {
                        return;
                    }
                }
                panic!("rotated {rotated} times only");
            })
        });
        while !workers.iter().all(|worker| worker.is_finished()) {
            vault.replace(keys(&[NEW, OLD]));
            vault.replace(keys(&[OLD, NEW]));
        }
    });
}

#[test]
fn d8_69_the_stored_bytes_hold_nothing_of_the_secret() {
    let row = sealed(&[OLD]).to_bytes();
    for part in SECRET.windows(4) {
        assert!(!row.windows(4).any(|window| window == part));
    }
    for key in [OLD, NEW] {
        for part in hex(key).windows(4) {
            assert!(!row.windows(4).any(|window| window == part));
        }
    }
}

#[test]
fn d8_71_debug_shows_ids_only() {
    let vault = vault(&[OLD, NEW]);
    let sealed = sealed(&[OLD]);
    let secret = vault.open("alice", "anthropic", &sealed).unwrap();
    assert_eq!(format!("{secret:?}"), "SecretBytes(…)");
    assert_eq!(
        format!("{sealed:?}"),
        "Sealed { master_key_id: 0186a0ed75b1dc95, .. }"
    );
    let shown = format!("{vault:?} {vault:#?}");
    assert!(shown.contains("[0186a0ed75b1dc95, 7e5c997ef1f8d588]"));
    for key in [OLD, NEW] {
        assert!(!shown.contains(&key[..8]), "{shown}");
        let bytes = format!("{:?}", hex(key));
        assert!(!shown.contains(&bytes[1..20]), "{shown}");
    }
}

#[test]
fn is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Vault>();
    shared::<MasterKeys>();
    shared::<Sealed>();
    shared::<SecretBytes>();
    shared::<VaultError>();
}

proptest! {
    #[test]
    fn d8_69_anything_sealed_opens(
        user_id in "\\PC{0,40}",
        key_name in "\\PC{0,20}",
        secret in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let row = vault(&[OLD]).seal(&user_id, &key_name, &secret).unwrap().to_bytes();
        let read = Sealed::from_bytes(&row).unwrap();
        prop_assert_eq!(read.to_bytes(), row);
        let opened = vault(&[NEW, OLD]).open(&user_id, &key_name, &read).unwrap();
        prop_assert_eq!(opened.expose(), &secret);
    }

    #[test]
    fn d8_69_no_two_pairs_of_user_and_name_are_taken_for_one_another(
        whole in "[a-c|]{0,8}",
        cut in 0..9_usize,
        other in 0..9_usize,
    ) {
        let (user_id, key_name) = whole.split_at(cut.min(whole.len()));
        let (other_id, other_name) = whole.split_at(other.min(whole.len()));
        let vault = vault(&[OLD]);
        let row = vault.seal(user_id, key_name, SECRET).unwrap();
        let same = user_id == other_id;
        prop_assert_eq!(vault.open(other_id, other_name, &row).is_ok(), same);
    }

    #[test]
    fn d8_69_a_row_with_changed_bytes_does_not_open(
        changes in prop::collection::btree_map(0..SECRET.len() + 37, 1..=u8::MAX, 1..5),
    ) {
        let mut row = sealed(&[OLD]).to_bytes();
        for (at, change) in changes {
            row[at] ^= change;
        }
        prop_assert!(read(&vault(&[OLD, NEW]), &row).is_err());
    }

    #[test]
    fn d8_69_any_bytes_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        version in any::<bool>(),
        known in any::<bool>(),
    ) {
        let mut bytes = bytes;
        let header = sealed(&[OLD]).to_bytes();
        let kept = if known { HEADER } else { usize::from(version) };
        std::iter::zip(&mut bytes, &header[..kept]).for_each(|(to, from)| *to = *from);
        prop_assert!(read(&vault(&[OLD]), &bytes).is_err());
    }
}

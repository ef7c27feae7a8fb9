//! Key files against damage, truncation and losing power at every step.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::journal::simulated_disk::{SimulatedDisk, Trouble};

const ID: JournalId = JournalId([9; 16]);

fn span() -> KeySpan {
    let closed = ClosedSegment { first_sequence: 100, last_sequence: 900, chain: [7; 32] };
    KeySpan { segment: 3, closed, first_time_ms: -5, last_time_ms: 1_000 }
}

fn entries(count: u64) -> Vec<KeyEntry> {
    let mut rng = ChaCha8Rng::seed_from_u64(count);
    (0..count)
        .map(|place| KeyEntry { key: rng.random(), position: 100 + place, kind: 1 + (place % 4) as u16 })
        .collect()
}

fn on(disk: &SimulatedDisk) -> KeyFiles {
    KeyFiles::new(Arc::new(disk.clone()), ID)
}

#[test]
fn every_key_is_found_and_no_other_and_the_newest_of_a_key_wins() {
    for count in [0, 1, 2, 169, 170, 171, 340, 20_000] {
        let files = on(&SimulatedDisk::new());
        let mut all = entries(count);
        let older =
            all.iter().step_by(3).map(|entry| KeyEntry { position: entry.position - 90, kind: 9, ..*entry });
        let mut given: Vec<KeyEntry> = older.chain(all.iter().copied()).collect();
        files.write(span(), &mut given).expect("it is written");
        let file = files.open(3).expect("it reads back");
        assert_eq!((file.span(), file.entries()), (&span(), count));
        for entry in &all {
            assert!(file.filter().may_have(filter_hash(entry.key)));
            assert_eq!(file.find(entry.key).expect("it is whole"), Some(*entry));
            assert_eq!(file.find(entry.key ^ 1).expect("it is whole"), None);
        }
        assert_eq!(file.find(0).expect("it is whole"), None);
        assert_eq!(file.find(u128::MAX).expect("it is whole"), None);
        let mut listed = Vec::new();
        file.for_each(&mut |entry| listed.push(entry)).expect("it is whole");
        all.sort_unstable_by_key(|entry| entry.key);
        assert_eq!(listed, all);
    }
}

/// Opens a damaged file and looks everything up; the number of look-ups that were refused. Panics where one is wrong.
fn refused_look_ups(bytes: &[u8], all: &[KeyEntry], what: &str) -> usize {
    let disk = SimulatedDisk::holding(&BTreeMap::from([(name_of(3), bytes.to_vec())]));
    let file = match on(&disk).open(3) {
        Ok(file) => file,
        Err(error) => {
            assert!(error.to_string().contains("0000000003.keys"), "{what}: {error}");
            return all.len();
        }
    };
    let mut refused = 0;
    for entry in all {
        assert!(file.filter().may_have(filter_hash(entry.key)), "{what}: a key is denied");
        match file.find(entry.key) {
            Ok(found) => assert_eq!(found, Some(*entry), "{what}: a wrong answer"),
            Err(error) => {
                assert!(error.to_string().contains("byte 4096"), "{what}: {error}");
                refused += 1;
            }
        }
    }
    refused
}

#[test]
fn no_flipped_byte_and_no_truncation_gives_a_wrong_answer() {
    let all = entries(40);
    let disk = SimulatedDisk::new();
    on(&disk).write(span(), &mut all.clone()).expect("it is written");
    let good = disk.files().remove(&name_of(3)).expect("it is there");
    assert_eq!(refused_look_ups(&good, &all, "undamaged"), 0);
    for offset in 0..good.len() {
        for flip in [0x01, 0xff] {
            let mut bytes = good.clone();
            bytes[offset] ^= flip;
            let refused = refused_look_ups(&bytes, &all, &format!("byte {offset} flipped by {flip:#x}"));
            assert_eq!(refused, all.len(), "byte {offset}: the damage was not noticed");
        }
    }
    for length in 0..good.len() {
        assert_eq!(refused_look_ups(&good[..length], &all, &format!("cut to {length} bytes")), all.len());
    }
    let longer = [&good[..], &[0]].concat();
    assert_eq!(refused_look_ups(&longer, &all, "a byte more"), all.len());
}

#[test]
fn a_file_of_another_journal_or_segment_is_not_taken_for_ours() {
    let disk = SimulatedDisk::new();
    on(&disk).write(span(), &mut entries(5)).expect("it is written");
    assert!(KeyFiles::new(Arc::new(disk.clone()), JournalId([8; 16])).open(3).is_err());
    disk.rename(&name_of(3), &name_of(4)).expect("a new name");
    assert!(on(&disk).open(4).is_err());
    assert_eq!(on(&disk).segments().expect("a list"), [4]);
}

#[test]
fn a_crash_at_any_step_of_writing_leaves_no_file_or_a_whole_one() {
    let all = entries(400);
    let undisturbed = SimulatedDisk::new();
    on(&undisturbed).write(span(), &mut all.clone()).expect("it is written");
    let steps = undisturbed.operations();
    assert!(steps >= 6, "create, blocks, summary, header, sync, rename, directory");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut whole, mut absent) = (0, 0);
    for step in 1..=steps + 1 {
        for trouble in [Trouble::PowerOffAt(step), Trouble::FailAt(step)] {
            let disk = SimulatedDisk::new();
            disk.set_trouble(trouble);
            let written = on(&disk).write(span(), &mut all.clone());
            assert_eq!(written.is_ok(), step > steps, "{trouble:?}");
            for round in 0..8 {
                let after = match round {
                    0 => disk.after_kill(),
                    _ => disk.after_power_loss(&mut rng),
                };
                let files = on(&after);
                let found = files.segments().expect("a list");
                assert!(after.files().keys().all(|name| !name.ends_with(UNFINISHED_SUFFIX)), "{trouble:?}");
                if found.is_empty() {
                    assert!(written.is_err(), "{trouble:?}: a file that was durable is lost");
                    absent += 1;
                    continue;
                }
                whole += 1;
                let file = files.open(3).unwrap_or_else(|error| panic!("{trouble:?}: {error}"));
                all.iter().for_each(|entry| assert_eq!(file.find(entry.key).expect("whole"), Some(*entry)));
            }
        }
    }
    assert!(whole > 0 && absent > 0, "both ends were seen: {whole}, {absent}");
}

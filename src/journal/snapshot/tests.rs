//! The frame of snapshots against damage, foreign files and a log that is not theirs.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::journal::{
    Class, Directory, Journal, LogError, OpenError, Options,
    simulated_disk::{SimulatedDisk, Trouble},
    take,
};

const FREELY: Terms = Terms { bytes_per_s: u64::MAX, expected_bytes: 0, kept_free: 0 };
const SECTION: u32 = FIRST_FREE_SECTION;

fn options() -> Options {
    Options {
        segment_bytes: 64 * 1024,
        ring_slots: 64,
        ring_reserve: 8,
        idle_mark_ms: 60_000,
        ..Options::default()
    }
}

fn open(disk: &SimulatedDisk) -> Journal {
    take(Arc::new(disk.clone())).unwrap().open(options(), None, &mut |_| Ok(())).unwrap().0
}

/// Appends a record and waits until it is durable.
fn append(journal: &Journal, payload: &[u8]) -> u64 {
    let mut slot = loop {
        match journal.reserve(Class::Essential) {
            Ok(slot) => break slot,
            Err(_) => std::thread::sleep(Duration::from_micros(50)),
        }
    };
    let position = slot.take_sequence();
    slot.buffer().extend_from_slice(payload);
    slot.publish();
    while journal.durable() < position {
        std::thread::yield_now();
    }
    position
}

/// The end of the last group is noted just after that group was announced.
fn settled(journal: &Journal) {
    while journal.anchor().position() < journal.taken() {
        std::thread::yield_now();
    }
}

fn payload(position: u64) -> Vec<u8> {
    vec![position as u8; 100 + position as usize % 900]
}

fn snapshot(snapshots: &Snapshots, journal: &Journal, items: &[&[u8]]) -> Written {
    let mut writer = snapshots.begin(journal, FREELY).unwrap();
    writer.section(SECTION).unwrap();
    for item in items {
        writer.item(|out| out.extend_from_slice(item)).unwrap();
    }
    writer.finish(journal, &|| true).unwrap()
}

fn items(snapshot: &Snapshot) -> Result<Vec<Vec<u8>>, LogError> {
    let (mut found, mut buffer) = (Vec::new(), Vec::new());
    for place in snapshot.blocks(SECTION) {
        found.extend(snapshot.read(place, &mut buffer)?.items().map(<[u8]>::to_vec));
    }
    Ok(found)
}

/// A journal of several segments with a snapshot of `records` of its records.
fn with_snapshot(records: u64, items: &[&[u8]]) -> (SimulatedDisk, SimulatedDisk, Journal, Written) {
    let (disk, files) = (SimulatedDisk::new(), SimulatedDisk::new());
    let journal = open(&disk);
    for position in 1..=records {
        assert_eq!(append(&journal, &payload(position)), position);
    }
    settled(&journal);
    let written = snapshot(&Snapshots::new(Arc::new(files.clone())), &journal, items);
    (disk, files, journal, written)
}

fn directory(disk: &SimulatedDisk) -> Directory {
    take(Arc::new(disk.clone())).unwrap()
}

#[test]
fn a_log_is_read_on_from_a_snapshot_and_what_is_before_it_is_still_found() {
    let (disk, files, journal, written) = with_snapshot(300, &[b"one", b"", b"three"]);
    assert_eq!((written.position, written.reach), (300, 300));
    for position in 301..=400 {
        append(&journal, &payload(position));
    }
    journal.close().unwrap();
    drop(journal);

    let snapshots = Snapshots::new(Arc::new(files));
    assert_eq!(snapshots.names().unwrap(), ["00000000000000000300.snapshot"]);
    let directory = directory(&disk);
    let found = directory.snapshot(&snapshots, &written.name).unwrap();
    assert_eq!(items(&found).unwrap(), [&b"one"[..], b"", b"three"]);
    assert_eq!((found.items(SECTION), found.position()), (3, 300));
    let mut positions = Vec::new();
    let (journal, report) = directory
        .open(options(), Some(&found), &mut |record| {
            positions.push(record.position);
            Ok(())
        })
        .unwrap();
    assert_eq!(positions, (301..=400).collect::<Vec<_>>());
    assert_eq!((report.read_from, report.summary.records), (300, 100));
    for position in 1..=400 {
        assert_eq!(journal.read(position).unwrap(), Some(payload(position)), "{position}");
    }
    // And the chain goes on as if the log had been read from its beginning.
    append(&journal, &payload(401));
    journal.close().unwrap();
    drop(journal);
    let verified = crate::journal::verify::verify_storage(&disk, &mut |_| Ok(())).unwrap();
    assert_eq!(verified.summary.last_position, Some(401));
}

#[test]
fn a_snapshot_of_an_empty_journal_is_one_too() {
    let (disk, files, journal, written) = with_snapshot(0, &[]);
    append(&journal, b"first");
    drop(journal);
    let found = directory(&disk).snapshot(&Snapshots::new(Arc::new(files)), &written.name).unwrap();
    let mut records = 0;
    let counted = directory(&disk).open(options(), Some(&found), &mut |_| {
        records += 1;
        Ok(())
    });
    counted.unwrap();
    assert_eq!((written.position, records), (0, 1));
}

#[test]
fn every_flipped_byte_and_every_cut_is_seen_with_its_place() {
    let large = vec![7; 300 * 1024];
    let (disk, files, journal, written) = with_snapshot(20, &[b"one", b"two", &large, b"three"]);
    drop(journal);
    let directory = directory(&disk);
    let whole = files.files()[&written.name].clone();
    let read = |bytes: Vec<u8>| {
        let damaged = SimulatedDisk::holding(&[(written.name.clone(), bytes)].into());
        let snapshot = directory.snapshot(&Snapshots::new(Arc::new(damaged)), &written.name)?;
        items(&snapshot)
    };
    assert_eq!(read(whole.clone()).unwrap().len(), 4);
    let step = |at: usize| if (2_000..whole.len() - 2_000).contains(&at) { 1_009 } else { 1 };
    let mut at = 0;
    while at < whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        match read(flipped) {
            Err(LogError::Fault(fault)) => {
                assert_eq!(fault.file, written.name);
                assert!(fault.offset <= at as u64, "{at}: {fault}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
        match read(whole[..at].to_vec()) {
            Err(LogError::Fault(fault)) => assert!(fault.offset <= at as u64, "{at}: {fault}"),
            other => panic!("cut at {at}: {other:?}"),
        }
        at += step(at);
    }
    assert!(read([&whole[..], &[0]].concat()).is_err(), "something behind the end");
}

#[test]
fn a_snapshot_of_another_journal_or_version_is_named_as_such() {
    let (disk, ..) = with_snapshot(5, &[]);
    let (_, files, _, written) = with_snapshot(5, &[]);
    let refused =
        directory(&disk.after_kill()).snapshot(&Snapshots::new(Arc::new(files.clone())), &written.name);
    let Err(LogError::Fault(fault)) = refused else { panic!("it is another journal's") };
    assert_eq!((fault.offset, fault.kind), (16, FaultKind::ForeignFile));

    let mut all = files.files();
    all.get_mut(&written.name).unwrap()[8] = 9;
    let later = Snapshots::new(Arc::new(SimulatedDisk::holding(&all)));
    let refused = directory(&disk.after_kill()).snapshot(&later, &written.name);
    let Err(LogError::Fault(fault)) = refused else { panic!("it is of another version") };
    assert_eq!((fault.offset, fault.kind), (8, FaultKind::Version { found: 9 }));
}

#[test]
fn a_log_that_has_no_such_group_does_not_fit_the_snapshot() {
    let (disk, files, journal, written) = with_snapshot(40, &[]);
    let anchor = journal.anchor();
    drop(journal);
    let snapshots = Snapshots::new(Arc::new(files));
    let name = segment_name(anchor.segment);
    for (offset, what) in [
        (anchor.offset as usize - SEAL_BYTES + 30, "no group with its hash ends there"),
        (anchor.offset as usize - 1, "no group with its hash ends there"),
        (100, "the segment's header is damaged"),
    ] {
        let mut all = disk.files();
        all.get_mut(&name).unwrap()[offset] ^= 1;
        let refused = directory(&SimulatedDisk::holding(&all)).snapshot(&snapshots, &written.name);
        let Err(LogError::Fault(fault)) = refused else { panic!("byte {offset} of the log was flipped") };
        assert_eq!(
            (fault.file.as_str(), fault.kind),
            (&*name, FaultKind::AnchorDiffers { what: what.into() })
        );
    }
    let mut all = disk.files();
    all.remove(&name);
    assert!(directory(&SimulatedDisk::holding(&all)).snapshot(&snapshots, &written.name).is_err());
}

/// The durable mark lags behind a busy log, so that a damaged last group looks like a torn end. A snapshot that was
/// taken behind it knows better.
#[test]
fn a_log_that_lost_what_a_snapshot_has_is_refused() {
    let (disk, files, journal, written) = with_snapshot(30, &[]);
    let anchor = journal.anchor();
    let left = disk.after_kill();
    drop(journal);
    let snapshots = Snapshots::new(Arc::new(files));

    // What is copied while records are made: an anchor at 30, and the log must reach 30 as well.
    let mut all = left.files();
    let segment = all.get_mut(&segment_name(anchor.segment)).unwrap();
    segment[anchor.offset as usize - 10] ^= 1;
    let cut = SimulatedDisk::holding(&all);
    assert!(directory(&cut).snapshot(&snapshots, &written.name).is_err(), "its anchor is gone");

    // One whose anchor is whole and whose end is not there any more.
    let journal = open(&left.after_kill());
    let writer = snapshots.begin(&journal, FREELY).unwrap();
    for position in 31..=40 {
        append(&journal, &payload(position));
    }
    let later = writer.finish(&journal, &|| true).unwrap();
    assert_eq!((later.position, later.reach), (30, 40));
    drop(journal);
    let short = directory(&left);
    let found = short.snapshot(&snapshots, &later.name).unwrap();
    let refused = short.open(options(), Some(&found), &mut |_| Ok(()));
    let Err(OpenError::Log(LogError::Fault(fault))) = refused else { panic!("ten durable records are gone") };
    assert_eq!(fault.kind, FaultKind::EndsBeforeSnapshot { log_sequence: 30, reach: 40 });
}

#[test]
fn a_snapshot_gets_no_name_before_what_it_copied_is_durable() {
    let (disk, files) = (SimulatedDisk::new(), SimulatedDisk::new());
    let journal = open(&disk);
    append(&journal, b"one");
    settled(&journal);
    let snapshots = Snapshots::new(Arc::new(files.clone()));
    let writer = snapshots.begin(&journal, FREELY).unwrap();
    let mut slot = journal.reserve(Class::Essential).unwrap();
    slot.take_sequence();
    let waited = std::cell::Cell::new(0);
    let refused = writer.finish(&journal, &|| {
        waited.set(waited.get() + 1);
        waited.get() < 20
    });
    assert!(matches!(refused, Err(SnapshotError::GivenUp)));
    assert_eq!(snapshots.names().unwrap(), [""; 0]);
    assert_eq!(files.files().len(), 0, "nothing unfinished is left");
    slot.publish();

    let writer = snapshots.begin(&journal, FREELY).unwrap();
    let mut slot = journal.reserve(Class::Essential).unwrap();
    slot.take_sequence();
    disk.set_trouble(Trouble::PowerOffAt(0));
    slot.publish();
    assert!(matches!(writer.finish(&journal, &|| true), Err(SnapshotError::Stopped)));
    assert_eq!(snapshots.names().unwrap(), [""; 0]);
}

#[test]
fn the_newest_two_are_kept_and_those_that_were_passed_over_do_not_count() {
    let (disk, files) = (SimulatedDisk::new(), SimulatedDisk::new());
    let journal = open(&disk);
    let snapshots = Snapshots::new(Arc::new(files));
    let mut names = Vec::new();
    for position in 1..=5 {
        append(&journal, b"x");
        settled(&journal);
        names.push(snapshot(&snapshots, &journal, &[]).name);
        assert_eq!(names[position - 1], format!("{position:020}.snapshot"));
    }
    snapshots.keep_newest(2, &names[3..4]).unwrap();
    assert_eq!(snapshots.names().unwrap(), [&*names[4], &*names[3], &*names[2]]);
}

#[test]
fn a_snapshot_leaves_the_journal_its_room() {
    let (disk, files) = (SimulatedDisk::new(), SimulatedDisk::new());
    let journal = open(&disk);
    append(&journal, b"one");
    settled(&journal);
    let snapshots = Snapshots::new(Arc::new(files.clone()));
    let terms = Terms { expected_bytes: 1_000, kept_free: 5_000, ..FREELY };

    files.set_capacity(5_999);
    let refused = snapshots.begin(&journal, terms);
    let Err(SnapshotError::NoRoom { free: 5_999, needed: 6_000, kept_free: 5_000 }) = refused else {
        panic!("one byte is wanting")
    };
    assert_eq!(files.operations(), 0, "nothing is written where there is no room");

    // It turns out longer than it was expected to be, and is given up before the room is used.
    files.set_capacity(20_000_000);
    let terms = Terms { kept_free: 15_000_000, ..terms };
    let mut writer = snapshots.begin(&journal, terms).unwrap();
    writer.section(SECTION).unwrap();
    let mut written = 0;
    let refused = loop {
        match writer.item(|out| out.resize(out.len() + 100_000, 7)) {
            Ok(()) => written += 100_000,
            Err(error) => break error,
        }
    };
    let SnapshotError::NoRoom { free, .. } = refused else { panic!("{refused}") };
    assert!(free >= 15_000_000 && written > 4_000_000, "{free} bytes were left behind {written}");
    drop(writer);
    assert_eq!(files.files().len(), 0, "nothing unfinished is left");

    files.set_capacity(u64::MAX);
    snapshots.begin(&journal, terms).unwrap().finish(&journal, &|| true).unwrap();
}

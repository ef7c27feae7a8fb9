//! The journal against power loss, damage, full disks and many threads.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    frame::{self, ChainHash, Kind, Seal, append, append_seal, chain},
    mark::{MARK_NAME, Mark, MarkFile},
    recovery::{mark_of, recover},
    segment::{JournalId, SegmentHeader, segment_name},
    simulated_disk::{SimulatedDisk, Trouble},
    verify::verify_storage,
    *,
};
use crate::limits::RECORD_BYTES_MAX;

/// The smallest segment there can be, so that tests cross many of them.
const SEGMENT_BYTES: u64 = (SEGMENT_HEADER_BYTES + FRAME_BYTES_MAX + SEAL_BYTES) as u64;

type Files = BTreeMap<String, Vec<u8>>;

fn options() -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        ring_slots: 64,
        ring_reserve: 8,
        idle_mark_ms: 1,
        prepare_retry_ms: 1,
        ..Options::default()
    }
}

/// What stands at `position`: of different lengths, and recognisable.
fn payload(position: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(position);
    let length = if position.is_multiple_of(9) { RECORD_BYTES_MAX * 5 / 8 } else { rng.random_range(0..600) };
    (0..length).map(|_| rng.random()).collect()
}

fn open(
    storage: Arc<dyn Storage>,
    options: Options,
    on_record: &mut dyn FnMut(Record<'_>) -> Result<(), String>,
) -> Result<(Journal, RecoveryReport), OpenError> {
    take(storage)?.open(options, None, on_record)
}

fn open_on(disk: &SimulatedDisk) -> Result<(Journal, RecoveryReport), OpenError> {
    open(Arc::new(disk.clone()), options(), &mut |_| Ok(()))
}

fn reserve(journal: &Journal) -> Result<Slot<'_>, ReserveError> {
    loop {
        match journal.reserve(Class::Essential) {
            Err(ReserveError::Full | ReserveError::DiskLow) => std::thread::sleep(Duration::from_micros(50)),
            other => return other,
        }
    }
}

/// Publishes one record; `None` where the journal has stopped.
fn publish(journal: &Journal) -> Option<u64> {
    reserve(journal).ok().map(publish_into)
}

fn publish_into(mut slot: Slot<'_>) -> u64 {
    let position = slot.take_sequence();
    slot.buffer().extend_from_slice(&payload(position));
    slot.publish();
    position
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(10), "waited too long for {what}");
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn wait_durable(journal: &Journal, position: u64) {
    wait_for("durability", || journal.durable() >= position || journal.failure().is_some());
}

/// Bursts of records, some with a pause after them that is long enough for the mark. Ends where the power is off: then
/// the journal fails at its next write, or waits for a segment that cannot be prepared.
fn write_bursts(disk: &SimulatedDisk, journal: &Journal, bursts: u64) {
    for burst in 0..bursts {
        let mut last = 0;
        for _ in 0..=burst % 4 {
            let slot = loop {
                match journal.reserve(Class::Essential) {
                    Ok(slot) => break slot,
                    Err(ReserveError::Full | ReserveError::DiskLow) if !disk.is_off() => {
                        std::thread::yield_now()
                    }
                    Err(_) => return,
                }
            };
            last = publish_into(slot);
        }
        let settled = || journal.durable() >= last || journal.failure().is_some() || disk.is_off();
        wait_for("durability", settled);
        if burst % 5 == 4 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Recovers and returns the records, which must be an unbroken run of the right ones.
fn recovered_records(disk: &SimulatedDisk) -> Result<u64, LogError> {
    let mut last = 0;
    recover(disk, mark_of(disk)?, SEGMENT_BYTES, None, &mut |record| {
        assert_eq!(record.position, last + 1);
        assert_eq!(record.payload, payload(record.position), "position {}", record.position);
        last = record.position;
        Ok(())
    })?;
    Ok(last)
}

/// The files of a journal of `records` that was closed.
fn closed_journal(records: u64) -> Files {
    let disk = SimulatedDisk::new();
    let (journal, report) = open_on(&disk).expect("a new journal");
    assert!(report.created);
    for position in 1..=records {
        assert_eq!(publish(&journal), Some(position));
        if position % 3 == 0 {
            wait_durable(&journal, position);
        }
    }
    journal.close().expect("a clean close");
    let mut files = disk.files();
    files.retain(|name, _| !name.ends_with(".prepared"));
    files
}

fn fault(result: Result<u64, LogError>) -> Fault {
    match result {
        Err(LogError::Fault(fault)) => fault,
        other => panic!("expected a fault, not {other:?}"),
    }
}

/// Where each group of a segment file ends, with the mark that would stand there.
fn group_ends(name: &str, files: &Files, from: &Mark) -> Vec<(usize, Mark)> {
    let mut cursor = scan::Cursor {
        next_sequence: from.sequence + 1,
        next_group: from.group + 1,
        chain: from.chain,
        offset: SEGMENT_HEADER_BYTES,
    };
    let mut ends = Vec::new();
    let whole = scan::Stretch { bytes: &files[name], offset: 0, is_last: true };
    let end = scan::scan::<Fault>(name, whole, from.id.salt(), &mut cursor, &mut |group| {
        let mark =
            Mark { id: from.id, sequence: group.last_sequence, group: group.number, chain: group.chain };
        ends.push((group.end, mark));
        Ok(())
    });
    assert_eq!(end, Ok(scan::End::Clean));
    ends
}

fn id_of(files: &Files) -> JournalId {
    SegmentHeader::decode(&files[&segment_name(1)]).expect("an intact header").id
}

fn start_of(files: &Files) -> Mark {
    let id = id_of(files);
    Mark { id, sequence: 0, group: 0, chain: id.genesis() }
}

fn put_mark(files: &mut Files, mark: &Mark) {
    let disk = SimulatedDisk::new();
    MarkFile::create(&disk, mark).expect("a mark");
    files.extend(disk.files());
}

#[test]
fn power_loss_at_any_operation_loses_nothing_acknowledged() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut operation = 0;
    let mut torn = 0;
    loop {
        operation += 1;
        let disk = SimulatedDisk::new();
        disk.set_trouble(Trouble::PowerOffAt(operation));
        let acknowledged = match open_on(&disk) {
            Ok((journal, _)) => {
                write_bursts(&disk, &journal, 24);
                let _ = journal.close();
                journal.durable()
            }
            Err(_) => 0,
        };
        for _ in 0..4 {
            let found = disk.after_power_loss(&mut rng);
            // The power goes again in the middle of the recovery.
            let again = found.after_kill();
            again.set_trouble(Trouble::PowerOffAt(rng.random_range(1..12)));
            let _ = recovered_records(&again);
            for disk in [found, again.after_power_loss(&mut rng)] {
                let records = match recovered_records(&disk) {
                    Ok(records) => records,
                    Err(error) => panic!("operation {operation}, {acknowledged} acknowledged: {error}"),
                };
                assert!(
                    records >= acknowledged,
                    "operation {operation}: {records} of {acknowledged} records"
                );
                torn += u64::from(disk.files().keys().any(|name| name.starts_with("torn-")));
                let later = disk.after_power_loss(&mut rng);
                assert_eq!(recovered_records(&later).ok(), Some(records), "what was recovered stays");
            }
        }
        let killed = recovered_records(&disk.after_kill()).expect("a killed process leaves a whole log");
        assert!(killed >= acknowledged);
        if disk.operations() < operation {
            break;
        }
    }
    assert!(operation > 80, "only {operation} operations were tried");
    assert!(torn > 20, "only {torn} torn ends were met");
}

#[test]
fn a_failed_operation_stops_the_journal_and_is_never_tried_again() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (mut stopped, mut healed) = (0, 0);
    for operation in 1.. {
        let disk = SimulatedDisk::new();
        disk.set_trouble(Trouble::FailAt(operation));
        let Ok((journal, _)) = open_on(&disk) else { continue };
        write_bursts(&disk, &journal, 16);
        let closed = journal.close();
        if disk.failed() > 0 {
            stopped += 1;
            assert!(closed.is_err(), "operation {operation}");
            assert!(matches!(journal.reserve(Class::Essential), Err(ReserveError::Stopped)));
            assert_eq!(disk.writes_after_failure(), [""; 0], "operation {operation}");
        } else {
            healed += 1;
            assert_eq!(closed, Ok(()));
        }
        for disk in [disk.after_power_loss(&mut rng), disk.after_kill()] {
            let records = recovered_records(&disk).expect("a readable log");
            assert!(records >= journal.durable());
            // A failed sync leaves pages that read well and are not on the disk.
            let later = disk.after_power_loss(&mut rng);
            assert_eq!(recovered_records(&later).ok(), Some(records), "operation {operation}");
        }
        if disk.operations() < operation {
            break;
        }
    }
    assert!(stopped > 40 && healed > 5, "{stopped} stopped, {healed} healed");
}

#[test]
fn a_failure_is_told_to_everybody_at_once() {
    #[derive(Default)]
    struct Told(Mutex<Option<Failure>>);
    impl Observer for Told {
        fn failed(&self, failure: &Failure) {
            *self.0.lock() = Some(failure.clone());
        }
    }
    let disk = SimulatedDisk::new();
    let told = Arc::new(Told::default());
    let observer = Arc::clone(&told);
    let (journal, _) =
        open(Arc::new(disk.clone()), Options { observer, ..options() }, &mut |_| Ok(())).expect("a journal");
    let lane = journal.lane();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let runner = tokio::spawn(Arc::clone(&lane).run());
        let good = publish(&journal).expect("a position");
        assert_eq!(lane.durable(good).await, Ok(()));
        wait_for("the second segment", || disk.files().keys().any(|name| name.ends_with(".prepared")));
        disk.set_trouble(Trouble::PowerOffAt(disk.operations() + 1));
        let bad = publish(&journal).expect("a position");
        assert_eq!(lane.durable(bad).await, Err(Stopped));
        assert_eq!(lane.durable(good).await, Ok(()), "what was durable stays so");
        runner.await.expect("the runner ends");
    });
    wait_for("the observer", || told.0.lock().is_some());
    assert_eq!(journal.failure(), *told.0.lock());
    assert_eq!(journal.failure().map(|failure| failure.durable), Some(1));
    assert_eq!(journal.close(), Err(journal.failure().expect("the failure")));
}

#[test]
fn any_flipped_byte_is_repaired_or_refused_with_its_place() {
    let files = closed_journal(18);
    assert!(files.contains_key(&segment_name(2)));
    let (mut same, mut refused) = (0, 0);
    for (name, bytes) in &files {
        let mut damaged = files.clone();
        for offset in 0..bytes.len() {
            let flip = if offset % 2 == 0 { 0xFF } else { 1 << (offset / 2 % 8) };
            damaged.get_mut(name).expect("the file")[offset] ^= flip;
            match recovered_records(&SimulatedDisk::holding(&damaged)) {
                Ok(records) => {
                    assert_eq!(records, 18, "{name}, byte {offset}");
                    same += 1;
                }
                Err(LogError::Fault(fault)) => {
                    assert_eq!(fault.file, *name, "byte {offset}: {fault}");
                    refused += 1;
                }
                Err(other) => panic!("{name}, byte {offset}: {other}"),
            }
            damaged.get_mut(name).expect("the file")[offset] ^= flip;
        }
    }
    assert!(same > 1_000 && refused > 10_000, "{same} the same, {refused} refused");
}

#[test]
fn any_prefix_recovers_with_its_own_mark_and_is_refused_with_a_later_one() {
    let files = closed_journal(18);
    let first_ends = group_ends(&segment_name(1), &files, &start_of(&files));
    let (_, middle) = *first_ends.last().expect("a group");
    let second_ends = group_ends(&segment_name(2), &files, &middle);
    let (_, head) = *second_ends.last().expect("a group");
    let mut refused = 0;
    for (number, ends, before) in [(1, first_ends, start_of(&files)), (2, second_ends, middle)] {
        let name = segment_name(number);
        let mut prefix: Files =
            (1..number).map(|number| (segment_name(number), files[&segment_name(number)].clone())).collect();
        let written = ends.last().expect("a group").0;
        for length in 0..=written + 40 {
            prefix.insert(name.clone(), files[&name][..length].to_vec());
            let whole = ends.iter().rev().find(|(end, _)| *end <= length).map_or(before, |(_, mark)| *mark);
            put_mark(&mut prefix, &whole);
            let records = recovered_records(&SimulatedDisk::holding(&prefix));
            assert_eq!(records.ok(), Some(whole.sequence), "segment {number} cut to {length}");
            if whole.sequence == head.sequence {
                continue;
            }
            put_mark(&mut prefix, &head);
            let fault = fault(recovered_records(&SimulatedDisk::holding(&prefix)));
            let kind =
                FaultKind::EndsBeforeMark { log_sequence: whole.sequence, mark_sequence: head.sequence };
            assert_eq!(fault.kind, kind, "segment {number} cut to {length}");
            let text = fault.to_string();
            assert!(text.contains(&head.sequence.to_string()) && text.contains(&whole.sequence.to_string()));
            refused += 1;
        }
    }
    assert!(refused > 10_000);
}

/// A journal written by hand, with every group as given: sequences, and whether the chain is right.
struct Forgery {
    files: Files,
    id: JournalId,
    chain: ChainHash,
}

impl Forgery {
    fn new() -> Forgery {
        let id = JournalId([7; 16]);
        let header = SegmentHeader {
            segment: 1,
            first_sequence: 1,
            first_group: 1,
            created_ms: 0,
            id,
            chain: id.genesis(),
        };
        let mut files = Files::from([(segment_name(1), header.encode().to_vec())]);
        put_mark(&mut files, &Mark { id, sequence: 0, group: 0, chain: id.genesis() });
        Forgery { files, id, chain: id.genesis() }
    }

    fn group(mut self, number: u64, sequences: &[u64]) -> Forgery {
        let mut group = Vec::new();
        for sequence in sequences {
            append(&mut group, self.id.salt(), Kind::Record, *sequence, number, &payload(*sequence));
        }
        self.chain = chain(&self.chain, &group);
        let seal = Seal {
            first_sequence: sequences[0],
            last_sequence: sequences[sequences.len() - 1],
            frames: sequences.len() as u32,
            bytes: group.len() as u32,
            hash: self.chain,
        };
        append_seal(&mut group, self.id.salt(), number, &seal);
        self.files.get_mut(&segment_name(1)).expect("the segment").extend_from_slice(&group);
        self
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        self.files.get_mut(&segment_name(1)).expect("the segment")
    }

    fn recovered(&self) -> Result<u64, LogError> {
        recovered_records(&SimulatedDisk::holding(&self.files))
    }
}

#[test]
fn a_torn_end_is_cut_reported_and_kept() {
    let mut forgery = Forgery::new().group(1, &[1, 2]);
    let whole = forgery.bytes().len();
    forgery = forgery.group(2, &[3, 4, 5]);
    let torn_bytes = forgery.bytes().len() - whole;
    // The middle of the group did not arrive, its end did.
    let gap = whole + 24 + payload(3).len().next_multiple_of(8);
    forgery.bytes()[gap..gap + 30].fill(0);
    let cut = forgery.bytes()[whole..].to_vec();

    let disk = SimulatedDisk::holding(&forgery.files);
    let verified = verify_storage(&disk, &mut |_| Ok(())).expect("a torn end is no fault");
    assert_eq!(verified.summary.last_position, Some(2));
    assert_eq!(verified.tail.map(|tail| (tail.offset, tail.bytes)), Some((whole as u64, torn_bytes as u64)));

    let recovered = recover(&disk, mark_of(&disk).expect("a mark"), SEGMENT_BYTES, None, &mut |_| Ok(()))
        .expect("a torn end is no fault");
    let torn = recovered.report.torn.expect("the report of the cut");
    assert_eq!((torn.offset, torn.bytes), (whole as u64, torn_bytes as u64));
    assert_eq!((torn.first_sequence, torn.last_sequence), (3, Some(5)));
    let files = disk.files();
    assert_eq!(files[&torn.copy], cut);
    assert!(scan::is_zero(&files[&segment_name(1)][whole..]));
    assert_eq!(files[&segment_name(1)].len() as u64, SEGMENT_BYTES, "the short file has its length again");

    // The journal goes on with the sequence that was cut.
    let (journal, report) = open_on(&disk).expect("a journal");
    assert_eq!((report.torn, report.summary.last_position), (None, Some(2)));
    assert_eq!(publish(&journal), Some(3));
    journal.close().expect("a clean close");
    assert_eq!(recovered_records(&disk).ok(), Some(3));
}

#[test]
fn a_torn_end_below_the_durable_mark_is_refused() {
    let mut forgery = Forgery::new().group(1, &[1, 2]).group(2, &[3]);
    let mark = Mark { id: forgery.id, sequence: 3, group: 2, chain: forgery.chain };
    put_mark(&mut forgery.files, &mark);
    assert_eq!(forgery.recovered().ok(), Some(3));
    let end = forgery.bytes().len();
    forgery.bytes()[end - 1] ^= 1;
    let before = forgery.files.clone();
    let disk = SimulatedDisk::holding(&forgery.files);
    let fault = fault(recovered_records(&disk));
    assert_eq!(fault.kind, FaultKind::EndsBeforeMark { log_sequence: 2, mark_sequence: 3 });
    assert_eq!((fault.offset, fault.sequence), ((end - SEAL_BYTES) as u64, 3));
    assert_eq!(disk.files(), before, "nothing is changed by a refusal");
}

#[test]
fn a_damaged_middle_is_refused_with_its_place_and_what_follows() {
    let mut forgery = Forgery::new().group(1, &[1, 2]);
    let damaged = forgery.bytes().len();
    forgery = forgery.group(2, &[3]);
    let later = forgery.bytes().len();
    forgery = forgery.group(3, &[4]);
    forgery.bytes()[damaged + 30] ^= 4;
    let fault = fault(forgery.recovered());
    assert_eq!((fault.offset, fault.sequence), (damaged as u64, 3));
    let kind = FaultKind::Damaged { later_offset: later as u64, later_group: 3, later_sequence: 4 };
    assert_eq!(fault.kind, kind);
}

#[test]
fn a_gap_a_repeat_and_a_broken_chain_are_refused() {
    let gap = fault(Forgery::new().group(1, &[1, 2]).group(2, &[4]).recovered());
    assert_eq!((gap.sequence, gap.kind), (3, FaultKind::Gap { found_sequence: 4, found_group: 2 }));
    let repeat = fault(Forgery::new().group(1, &[1, 2]).group(1, &[3]).recovered());
    assert_eq!(repeat.kind, FaultKind::Gap { found_sequence: 3, found_group: 1 });
    let mut forgery = Forgery::new().group(1, &[1, 2]);
    forgery.chain = [1; 32];
    let broken = fault(forgery.group(2, &[3]).recovered());
    assert_eq!(broken.kind, FaultKind::ChainBroken { group: 2 });
}

#[test]
fn a_rewritten_log_of_the_same_length_is_not_the_one_that_was_marked() {
    let mut forgery = Forgery::new().group(1, &[1, 2]);
    let mark = Mark { id: forgery.id, sequence: 2, group: 1, chain: [5; 32] };
    put_mark(&mut forgery.files, &mark);
    assert_eq!(fault(forgery.recovered()).kind, FaultKind::MarkDiffers { mark_sequence: 2 });
}

#[test]
fn swapped_missing_and_foreign_segments_are_refused() {
    let files = closed_journal(40);
    let (one, two) = (segment_name(1), segment_name(2));
    let recovered = |files: &Files| fault(recovered_records(&SimulatedDisk::holding(files)));

    let mut swapped = files.clone();
    swapped.insert(one.clone(), files[&two].clone());
    swapped.insert(two.clone(), files[&one].clone());
    let misplaced = recovered(&swapped);
    assert_eq!(misplaced.file, one);
    assert!(matches!(misplaced.kind, FaultKind::SegmentMisplaced { segment: 2, .. }));

    let mut missing = files.clone();
    missing.remove(&two);
    assert_eq!(recovered(&missing).file, two);

    let mut foreign = files.clone();
    foreign.insert(two.clone(), closed_journal(40)[&two].clone());
    assert_eq!((recovered(&foreign).file, recovered(&foreign).kind), (two.clone(), FaultKind::ForeignFile));

    let mut stranger = files.clone();
    stranger.insert(two.clone(), b"not a journal at all".repeat(500));
    assert_eq!(recovered(&stranger).kind, FaultKind::ForeignFile);

    let mut later = files.clone();
    later.get_mut(&two).expect("the segment")[8] = 2;
    assert_eq!(recovered(&later).kind, FaultKind::Version { found: 2 });

    let mut later_mark = files.clone();
    for copy in [0, 4096] {
        later_mark.get_mut(MARK_NAME).expect("the mark")[copy + 8] = 3;
    }
    assert_eq!(
        (recovered(&later_mark).file, recovered(&later_mark).kind),
        (MARK_NAME.to_owned(), FaultKind::Version { found: 3 })
    );

    let mut unmarked = files.clone();
    unmarked.remove(MARK_NAME);
    assert_eq!(recovered(&unmarked).kind, FaultKind::MarkUnreadable);

    let last = files.keys().filter(|name| name.ends_with(".segment")).max().expect("a segment").clone();
    let mut shorter = files;
    shorter.remove(&last);
    assert!(matches!(recovered(&shorter).kind, FaultKind::EndsBeforeMark { mark_sequence: 40, .. }));
}

#[test]
fn a_record_that_its_reader_refuses_stops_the_opening() {
    let disk = SimulatedDisk::holding(&closed_journal(5));
    let refused = open(Arc::new(disk), options(), &mut |record| match record.position {
        4 => Err("unknown kind".to_owned()),
        _ => Ok(()),
    });
    match refused {
        Err(OpenError::Log(LogError::Refused { position: 4, reason })) => assert_eq!(reason, "unknown kind"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_in_use_is_refused_and_free_after_close() {
    let dir = tempfile::tempdir().expect("a directory");
    let storage = || Arc::new(FileStorage::new(dir.path().join("journal")).expect("a directory"));
    let (journal, _) = open(storage(), options(), &mut |_| Ok(())).expect("a journal");
    assert!(matches!(open(storage(), options(), &mut |_| Ok(())), Err(OpenError::InUse { .. })));
    journal.close().expect("a clean close");
    drop(open(storage(), options(), &mut |_| Ok(())).expect("the directory is free"));
    drop(open(storage(), options(), &mut |_| Ok(())).expect("dropping the last handle frees it too"));
}

#[test]
fn many_threads_lose_nothing_and_every_position_reads_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let storage = Arc::new(FileStorage::new(dir.path()).expect("a directory"));
    let options = Options { segment_bytes: 256 * 1024, ring_slots: 256, ..options() };
    let (journal, _) = open(storage.clone(), options.clone(), &mut |_| Ok(())).expect("a journal");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let journal = &journal;
            scope.spawn(move || {
                let mut rng = ChaCha8Rng::seed_from_u64(thread);
                for _ in 0..600 {
                    let mut slot = reserve(journal).expect("a running journal");
                    let position = slot.take_sequence();
                    if rng.random_ratio(1, 20) {
                        std::thread::sleep(Duration::from_micros(rng.random_range(0..300)));
                    }
                    slot.buffer().extend_from_slice(&payload(position));
                    slot.publish();
                }
            });
        }
        scope.spawn(|| {
            // A verification beside the writers sees a whole log, however far it has come.
            while journal.durable() < 2_400 {
                let before = journal.durable();
                let report = verify(dir.path(), &mut |record| {
                    assert_eq!(record.payload, payload(record.position));
                    Ok(())
                })
                .expect("a whole log");
                assert!(report.summary.last_position.unwrap_or(0) >= before);
            }
        });
    });
    wait_durable(&journal, 2_400);
    assert_eq!(journal.queue(), QueueState::default());
    for position in 1..=2_400 {
        assert_eq!(journal.read(position).expect("a readable record"), Some(payload(position)));
    }
    assert_eq!(journal.read(0).ok(), Some(None));
    assert_eq!(journal.read(2_401).ok(), Some(None));
    journal.close().expect("a clean close");
    let mut next = 1;
    let (journal, report) = open(storage, options, &mut |record| {
        assert_eq!((record.position, record.payload), (next, &payload(next)[..]));
        next += 1;
        Ok(())
    })
    .expect("the same journal");
    assert_eq!((report.summary.records, report.summary.last_position), (2_400, Some(2_400)));
    assert!(report.summary.segments > 3);
    assert_eq!(journal.read(1_234).expect("a readable record"), Some(payload(1_234)));
}

/// Whoever is told that a record is durable may ask for it at once: a repeat does. The first record of a segment is the one
/// that nothing before it leads to.
#[test]
fn a_record_can_be_read_in_the_moment_that_it_is_durable_also_where_a_segment_begins() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open_on(&disk).unwrap();
    const RECORDS: u64 = 6_000;
    // Each lane that is told of it takes a moment.
    let _lanes: Vec<_> = (0..2_000).map(|_| journal.lane()).collect();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = 0;
            while last < RECORDS {
                let durable = journal.durable();
                if durable != last {
                    let read = journal.read(durable).unwrap_or_else(|error| panic!("{durable}: {error}"));
                    assert_eq!(read, Some(payload(durable)));
                    last = durable;
                }
                std::hint::spin_loop();
            }
        });
        for position in 1..=RECORDS {
            if reader.is_finished() {
                break;
            }
            assert_eq!(publish(&journal), Some(position));
        }
        wait_durable(&journal, RECORDS);
        reader.join().unwrap();
    });
    assert!(journal.closed_segments() > 100, "{} segments", journal.closed_segments());
    journal.close().unwrap();
}

#[test]
fn a_panic_between_sequence_and_publish_leaves_no_gap() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open_on(&disk).expect("a journal");
    publish(&journal).expect("a position");
    let mut slot = journal.reserve(Class::Authorisation).expect("a slot");
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        assert_eq!(slot.take_sequence(), 2);
        slot.buffer().extend_from_slice(b"half a record");
        panic!("a bug in the middle of a decision");
    }));
    assert!(panicked.is_err());
    drop(journal.reserve(Class::Authorisation).expect("a slot that is not used takes no sequence"));
    assert_eq!(publish(&journal), Some(3));
    wait_durable(&journal, 3);
    assert_eq!(journal.read(2).expect("a readable log"), None);
    assert_eq!(journal.read(3).expect("a readable log"), Some(payload(3)));
    journal.close().expect("a clean close");
    let mut positions = Vec::new();
    let recovered = recover(&disk, mark_of(&disk).expect("a mark"), SEGMENT_BYTES, None, &mut |record| {
        positions.push(record.position);
        Ok(())
    })
    .expect("a whole log");
    assert_eq!(positions, [1, 3]);
    assert_eq!(recovered.report.summary.abandoned, 1);
}

#[test]
fn a_full_ring_refuses_authorisations_first_and_then_everything() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open_on(&disk).expect("a journal");
    let mut slots = Vec::new();
    let refused = loop {
        match journal.reserve(Class::Authorisation) {
            Ok(slot) => slots.push(slot),
            Err(error) => break error,
        }
    };
    assert_eq!((slots.len(), refused), (56, ReserveError::Full));
    while let Ok(slot) = journal.reserve(Class::Essential) {
        slots.push(slot);
    }
    assert_eq!(slots.len(), 64);
    let first = slots[0].take_sequence();
    std::thread::sleep(Duration::from_millis(3));
    let queue = journal.queue();
    assert_eq!(queue.records, 1);
    assert!(queue.oldest_us >= 3_000, "{queue:?}");
    drop(slots);
    wait_durable(&journal, first);
    wait_for("a free slot", || journal.reserve(Class::Authorisation).is_ok());
    journal.close().expect("a clean close");
    assert!(matches!(journal.reserve(Class::Essential), Err(ReserveError::Stopped)));
}

#[test]
fn a_full_disk_keeps_essential_records_going_and_heals() {
    #[derive(Default)]
    struct Changes(AtomicU64);
    impl Observer for Changes {
        fn disk_low(&self, low: Option<&LowDisk>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            if let Some(low) = low {
                let expected = LowDisk {
                    place: "the simulated disk".to_owned(),
                    needed_bytes: SEGMENT_BYTES,
                    free_bytes: Some(SEGMENT_BYTES / 2),
                    reason: io::Error::from(io::ErrorKind::StorageFull).to_string(),
                };
                assert_eq!(*low, expected);
            }
        }
    }
    let disk = SimulatedDisk::new();
    // Room for the mark, the first segment and half of the second.
    disk.set_capacity(8_192 + SEGMENT_BYTES + SEGMENT_BYTES / 2);
    let changes = Arc::new(Changes::default());
    let observer = Arc::clone(&changes);
    let (journal, _) =
        open(Arc::new(disk.clone()), Options { observer, ..options() }, &mut |_| Ok(())).expect("a journal");
    wait_for("the low disk", || journal.low_disk());
    assert!(matches!(journal.reserve(Class::Authorisation), Err(ReserveError::DiskLow)));
    let mut last = 0;
    while let Ok(mut slot) = journal.reserve(Class::Essential) {
        last = slot.take_sequence();
        slot.buffer().extend_from_slice(&payload(last));
        slot.publish();
        // Until the one that does not fit any more.
        let begun = Instant::now();
        while journal.durable() < last && begun.elapsed() < Duration::from_millis(100) {
            std::thread::yield_now();
        }
    }
    assert!(last > 5, "what is left of the segment is used");
    assert_eq!(journal.durable(), last - 1);
    assert!(matches!(journal.reserve(Class::Essential), Err(ReserveError::DiskLow)));
    disk.set_capacity(u64::MAX);
    wait_durable(&journal, last);
    wait_for("healing", || journal.reserve(Class::Authorisation).is_ok());
    assert!(!journal.low_disk());
    assert_eq!(changes.0.load(Ordering::SeqCst), 2, "told once of the trouble and once of its end");
    journal.close().expect("a clean close");
    assert_eq!(recovered_records(&disk).ok(), Some(last));
}

#[test]
fn a_disk_that_is_full_at_the_start_is_known_before_anything_is_promised() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(8_192 + SEGMENT_BYTES);
    // Sooner than the thread that prepares would say by itself.
    disk.delay_writes("saker-prepare", Duration::from_millis(50));
    let (journal, _) = open_on(&disk).expect("a journal");
    assert!(journal.low_disk());
    assert_eq!(journal.reserve(Class::Authorisation).err(), Some(ReserveError::DiskLow));
    assert!(journal.reserve(Class::Essential).is_ok());
    journal.close().expect("a clean close");
    // Where there is room, nobody waits for all the zeros to be written.
    disk.set_capacity(u64::MAX);
    disk.hold("saker-prepare");
    let begun = Instant::now();
    let (journal, _) = open_on(&disk).expect("it opens again");
    assert!(begun.elapsed() < Duration::from_millis(500) && !journal.low_disk());
    disk.let_go();
    journal.close().expect("a clean close");
}

/// Publishes records of one class as fast as the disk takes them, until they are refused for want of room; returns the
/// bytes of the group frames that became durable, and why it ended.
fn rush(journal: &Journal, class: Class) -> (u64, ReserveError) {
    let before = journal.durable();
    let mut bytes = 0;
    loop {
        match journal.reserve(class) {
            Ok(slot) => {
                let position = publish_into(slot);
                let begun = Instant::now();
                // One after the other, so that nothing is given out beyond what is refused a moment later.
                while journal.durable() < position && begun.elapsed() < Duration::from_millis(200) {
                    std::thread::yield_now();
                }
                if journal.durable() >= position {
                    bytes += (frame::frame_bytes(payload(position).len()) + SEAL_BYTES) as u64;
                }
            }
            Err(error) => {
                assert!(journal.durable() > before, "nothing was taken at all: {error}");
                return (bytes, error);
            }
        }
    }
}

#[test]
fn a_rush_of_authorisations_leaves_the_reserve_to_essential_records() {
    let segment_bytes = 256 * 1024;
    let disk = SimulatedDisk::new();
    let options = Options { segment_bytes, ..options() };
    disk.hold("saker-prepare");
    let (journal, _) = open(Arc::new(disk.clone()), options, &mut |_| Ok(())).expect("a journal");
    // The next segment is being prepared for longer than the rush lasts, and the disk turns out to be full.
    let (ordinary_bytes, refused) = rush(&journal, Class::Authorisation);
    assert_eq!(refused, ReserveError::Unprepared);
    let usable = segment_bytes - SEGMENT_HEADER_BYTES as u64;
    let longest = (FRAME_BYTES_MAX + SEAL_BYTES) as u64;
    assert!(ordinary_bytes + prepare::reserve_bytes(segment_bytes) <= usable + longest, "{ordinary_bytes}");
    disk.set_capacity(8_192 + segment_bytes);
    disk.let_go();
    wait_for("the low disk", || journal.low_disk());
    assert_eq!(journal.reserve(Class::Authorisation).err(), Some(ReserveError::DiskLow));

    let (essential_bytes, refused) = rush(&journal, Class::Essential);
    assert_eq!(refused, ReserveError::DiskLow);
    assert!(essential_bytes + 2 * longest >= prepare::reserve_bytes(segment_bytes), "{essential_bytes}");
    assert!(journal.full_disk());

    disk.set_capacity(u64::MAX);
    wait_for("healing without another record", || journal.reserve(Class::Authorisation).is_ok());
    wait_for("the last one", || journal.queue().records == 0);
    let last = journal.durable();
    journal.close().expect("a clean close");
    let (_, report) = open_on(&disk).expect("it opens again");
    assert_eq!(report.summary.last_position, Some(last));
}

#[test]
fn a_next_segment_that_is_ready_late_opens_the_gate_by_itself() {
    let disk = SimulatedDisk::new();
    disk.hold("saker-prepare");
    let (journal, _) = open_on(&disk).expect("a journal");
    let (_, refused) = rush(&journal, Class::Authorisation);
    assert_eq!(refused, ReserveError::Unprepared);
    assert!(!journal.low_disk() && journal.reserve(Class::Essential).is_ok());
    disk.let_go();
    wait_for("the gate", || journal.reserve(Class::Authorisation).is_ok());
    // Opened again where little is left, it is shut before the first record.
    journal.close().expect("a clean close");
    disk.hold("saker-prepare");
    let (journal, _) = open_on(&disk).expect("it opens again");
    assert_eq!(journal.reserve(Class::Authorisation).err(), Some(ReserveError::Unprepared));
    disk.let_go();
    journal.close().expect("a clean close");
}

#[derive(Default)]
struct Told {
    stalls: Mutex<Vec<bool>>,
    failures: Mutex<Vec<Failure>>,
}

impl Observer for Told {
    fn disk_stalled(&self, stalled: bool) {
        self.stalls.lock().push(stalled);
    }

    fn failed(&self, failure: &Failure) {
        self.failures.lock().push(failure.clone());
    }
}

#[test]
fn a_slow_disk_refuses_authorisations_until_it_answers() {
    let disk = SimulatedDisk::new();
    let told = Arc::new(Told::default());
    let observer = Arc::clone(&told);
    let options = Options { stall_ms: 20, observer, ..options() };
    let (journal, _) = open(Arc::new(disk.clone()), options, &mut |_| Ok(())).expect("a journal");
    disk.hold("saker-journal");
    let position = publish(&journal).expect("a record");
    wait_for("the stall", || journal.stalled());
    assert_eq!(journal.reserve(Class::Authorisation).err(), Some(ReserveError::Stalled));
    assert!(journal.reserve(Class::Essential).is_ok(), "these wait for the disk");
    assert!(journal.durable() < position);
    disk.let_go();
    wait_durable(&journal, position);
    wait_for("the end of the stall", || journal.reserve(Class::Authorisation).is_ok());
    assert_eq!(*told.stalls.lock(), [true, false]);
    journal.close().expect("a clean close");
}

#[test]
fn a_disk_that_never_answers_stops_the_journal_and_holds_up_nobody() {
    let disk = SimulatedDisk::new();
    let told = Arc::new(Told::default());
    let observer = Arc::clone(&told);
    let options = Options { stall_ms: 10, hang_ms: 60, observer, ..options() };
    let (journal, _) = open(Arc::new(disk.clone()), options, &mut |_| Ok(())).expect("a journal");
    disk.hold("saker-journal");
    let position = publish(&journal).expect("a record");
    let lane = journal.lane();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let waited = runtime.block_on(async {
        tokio::spawn(Arc::clone(&lane).run());
        lane.durable(position).await
    });
    assert_eq!(waited, Err(Stopped));
    assert_eq!(journal.reserve(Class::Essential).err(), Some(ReserveError::Stopped));
    let closing = Instant::now();
    let failure = journal.close().expect_err("it has failed");
    assert!(closing.elapsed() < Duration::from_secs(3), "a thread that is stuck is not waited for");
    assert!(failure.to_string().contains("has not answered for"), "{failure}");
    assert!(matches!(open_on(&disk), Err(OpenError::InUse { .. })), "the stuck thread may still write");

    disk.let_go();
    let mut reopened = None;
    wait_for("the directory", || {
        reopened = open_on(&disk).ok();
        reopened.is_some()
    });
    assert!(journal.durable() < position, "what was told open stays open for those who wait");
    let (reopened, report) = reopened.expect("it opens");
    assert_eq!(
        report.summary.last_position,
        Some(position),
        "and the record that was being written is there"
    );
    assert_eq!(told.failures.lock().len(), 1);
    reopened.close().expect("a clean close");
}

/// A journal whose first segment is of the smallest length, reopened with longer ones to come.
fn before_a_long_segment(disk: &SimulatedDisk, options: Options) -> Journal {
    open_on(disk).expect("a new journal").0.close().expect("a clean close");
    // What was prepared in the short length is not taken over.
    open(Arc::new(disk.clone()), options, &mut |_| Ok(())).expect("it opens again").0
}

#[test]
fn a_slow_preparation_that_gets_on_is_neither_a_stall_nor_a_hang() {
    let disk = SimulatedDisk::new();
    let told = Arc::new(Told::default());
    let observer = Arc::clone(&told);
    // Some two hundred writes of 10 ms are more than both, and each of them is far less.
    disk.delay_writes("saker-prepare", Duration::from_millis(10));
    let segment_bytes = 12 * 4 * 1024 * 1024;
    let options = Options { segment_bytes, stall_ms: 1_000, hang_ms: 1_000, observer, ..options() };
    let journal = before_a_long_segment(&disk, options);
    let begun = Instant::now();
    let mut last = 0;
    while begun.elapsed() < Duration::from_secs(10) && journal.closed_segments() == 0 {
        if journal.queue().records < 8 {
            last = publish(&journal).expect("the journal goes on");
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    wait_durable(&journal, last);
    assert_eq!(journal.failure(), None);
    assert!(told.stalls.lock().is_empty(), "the disk answered all the time");
    assert!(begun.elapsed() > Duration::from_millis(1_000), "the journal waited for the segment");
    journal.close().expect("a clean close");
}

#[test]
fn a_preparation_that_hangs_on_a_disk_that_was_full_is_declared_although_nothing_is_written() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(8_192 + SEGMENT_BYTES + SEGMENT_BYTES / 2);
    let told = Arc::new(Told::default());
    let observer = Arc::clone(&told);
    let options = Options { stall_ms: 20, hang_ms: 100, observer, ..options() };
    let (journal, _) = open(Arc::new(disk.clone()), options, &mut |_| Ok(())).expect("a journal");
    wait_for("the low disk", || journal.low_disk());
    assert_eq!(journal.failure(), None, "a full disk has answered");
    disk.hold("saker-prepare");
    disk.set_capacity(u64::MAX);
    wait_for("the hang", || journal.failure().is_some());
    let failure = journal.close().expect_err("it has failed");
    assert_eq!(failure.operation, "prepare the next segment of");
    assert!(matches!(open_on(&disk), Err(OpenError::InUse { .. })), "the stuck thread may still write");
    disk.let_go();
    wait_for("the directory", || open_on(&disk).is_ok());
    assert_eq!(told.failures.lock().len(), 1);
}

#[test]
fn a_preparation_that_hangs_while_nobody_needs_it_stops_nothing() {
    let disk = SimulatedDisk::new();
    disk.hold("saker-prepare");
    let options = Options { segment_bytes: 256 * 1024, stall_ms: 20, hang_ms: 60, ..options() };
    let (journal, _) = open(Arc::new(disk.clone()), options, &mut |_| Ok(())).expect("a journal");
    wait_for("the hang", || disk.is_holding());
    std::thread::sleep(Duration::from_millis(200));
    let position = publish(&journal).expect("a record");
    wait_durable(&journal, position);
    assert_eq!((journal.failure(), journal.stalled()), (None, false));
    // But as soon as something is refused for want of the segment, it counts.
    while publish(&journal).is_some() {}
    assert_eq!(journal.failure().expect("it has failed").operation, "prepare the next segment of");
    disk.let_go();
}

#[test]
fn a_write_beside_the_log_that_hangs_keeps_the_directory_and_none_follows_after_the_close() {
    let (disk, files) = (SimulatedDisk::new(), SimulatedDisk::new());
    let directory = take(Arc::new(disk.clone())).expect("a new journal");
    let beside = directory.beside(Arc::new(files.clone()));
    let (journal, _) = directory.open(options(), None, &mut |_| Ok(())).expect("a journal");
    files.hold("beside");
    let writing = std::thread::Builder::new().name("beside".to_owned()).spawn(move || {
        let file = beside.create("a")?;
        file.write_at(0, b"before")?;
        file.write_at(6, b"after")
    });
    let writing = writing.expect("a thread");
    wait_for("the write", || files.is_holding());
    journal.close().expect("a clean close");
    assert!(matches!(take(Arc::new(disk.clone())), Err(OpenError::InUse { .. })));
    files.let_go();
    let written = writing.join().expect("no panic");
    assert!(written.expect_err("refused").to_string().contains("closed"));
    assert_eq!(files.files()["a"], b"before");
    assert!(take(Arc::new(disk.clone())).is_ok());
}

#[test]
fn waiting_tasks_of_two_runtimes_are_all_woken_by_few_wakes() {
    struct Groups(AtomicU64);
    impl Observer for Groups {
        fn group_synced(&self, group: &GroupSynced) {
            assert!(group.records > 0 && group.bytes > 0);
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    let groups = Arc::new(Groups(AtomicU64::new(0)));
    let options = Options {
        segment_bytes: 1 << 20,
        ring_slots: 1_024,
        observer: Arc::clone(&groups) as Arc<dyn Observer>,
        ..options()
    };
    let storage = Arc::new(FileStorage::new(dir.path()).expect("a directory"));
    let (journal, _) = open(storage, options, &mut |_| Ok(())).expect("a journal");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                let lane = journal.lane();
                runtime.block_on(async {
                    tokio::spawn(Arc::clone(&lane).run());
                    let mut tasks = Vec::new();
                    for _ in 0..64 {
                        let (journal, lane) = (journal.clone(), Arc::clone(&lane));
                        tasks.push(tokio::spawn(async move {
                            for _ in 0..20 {
                                let position = publish(&journal).expect("a running journal");
                                assert_eq!(lane.durable(position).await, Ok(()));
                                assert!(journal.durable() >= position);
                            }
                        }));
                    }
                    for task in tasks {
                        task.await.expect("a task that ends");
                    }
                });
            });
        }
    });
    assert_eq!(journal.durable(), 2 * 64 * 20);
    let groups = groups.0.load(Ordering::SeqCst);
    assert!(groups * 4 < 2 * 64 * 20, "{groups} groups: records gather while a sync runs");
}

#[test]
fn a_wait_that_is_polled_without_a_runner_sees_the_stop() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open_on(&disk).expect("a journal");
    let lane = journal.lane();
    let mut wait = lane.durable(1);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(wait.poll_durable(&mut cx).is_pending());
    journal.close().expect("a clean close");
    assert_eq!(wait.poll_durable(&mut cx), std::task::Poll::Ready(Err(Stopped)));
}

#[test]
fn a_record_that_is_too_long_stops_the_journal_and_is_not_acknowledged() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open_on(&disk).expect("a journal");
    let mut slot = journal.reserve(Class::Essential).expect("a slot");
    slot.buffer().resize(RECORD_BYTES_MAX + 1, 7);
    slot.publish();
    wait_for("the failure", || journal.failure().is_some());
    assert_eq!(journal.durable(), 0);
    assert_eq!(recovered_records(&disk.after_kill()).ok(), Some(0));
}

#[test]
fn a_record_of_the_longest_length_fits_the_smallest_segment() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open_on(&disk).expect("a journal");
    for position in 1..=3 {
        let mut slot = reserve(&journal).expect("a slot");
        slot.buffer().resize(RECORD_BYTES_MAX, position);
        slot.publish();
    }
    wait_durable(&journal, 3);
    for position in 1..=3_u8 {
        let payload = journal.read(u64::from(position)).expect("a readable record").expect("a record");
        assert!(payload.len() == RECORD_BYTES_MAX && payload.iter().all(|byte| *byte == position));
    }
}

#[test]
fn a_key_of_a_journal_is_the_same_at_every_start_and_known_before_the_log_is_read() {
    let disk = SimulatedDisk::new();
    let key = |purpose| take(Arc::new(disk.clone())).expect("the directory is free").key(purpose);
    let first = key("a purpose");
    drop(open_on(&disk).expect("a journal"));
    assert_eq!(key("a purpose"), first);
    assert_ne!(key("another purpose"), first);
    let other = take(Arc::new(SimulatedDisk::new())).expect("an empty directory");
    assert_ne!(other.key("a purpose"), first);
}

#[test]
fn an_option_out_of_bounds_is_named() {
    for (options, named) in [
        (Options { ring_slots: 100, ..options() }, "ring_slots"),
        (Options { ring_reserve: 64, ..options() }, "ring_reserve"),
        (Options { segment_bytes: 4_096, ..options() }, "segment_bytes"),
        (Options { group_bytes_max: 10, ..options() }, "group_bytes_max"),
    ] {
        match open(Arc::new(SimulatedDisk::new()), options, &mut |_| Ok(())) {
            Err(OpenError::Option(text)) => assert!(text.starts_with(named), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Follows until everything is seen that is durable at this moment.
fn follow_on(follower: &mut Follower, journal: &Journal, seen: &mut Vec<u64>) {
    let read = &mut |record: Record<'_>| {
        assert_eq!(record.payload, payload(record.position), "{}", record.position);
        seen.push(record.position);
    };
    while follower.follow(journal, read).expect("the log can be read") {}
}

#[test]
fn whoever_follows_the_log_sees_each_record_once_and_in_order_over_segments_and_gaps() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open_on(&disk).expect("a journal");
    let (mut follower, mut seen, mut expected) = (Follower::new(1), Vec::new(), Vec::new());
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    while expected.len() < 600 {
        for _ in 0..rng.random_range(1..20) {
            if rng.random_bool(0.1) {
                reserve(&journal).expect("a slot").take_sequence();
                continue;
            }
            expected.extend(publish(&journal));
        }
        if rng.random_bool(0.5) {
            wait_durable(&journal, journal.taken());
        }
        follow_on(&mut follower, &journal, &mut seen);
    }
    wait_durable(&journal, journal.taken());
    follow_on(&mut follower, &journal, &mut seen);
    assert_eq!(seen, expected);
    assert_eq!(follower.next(), journal.durable() + 1);
    assert!(journal.closed_segments() > 3, "several segments were crossed");
    for first in [2, 37, 300, *expected.last().unwrap_or(&0), journal.durable() + 1] {
        let (mut follower, mut seen) = (Follower::new(first), Vec::new());
        follow_on(&mut follower, &journal, &mut seen);
        let behind: Vec<u64> = expected.iter().copied().filter(|position| *position >= first).collect();
        assert_eq!(seen, behind, "from {first}");
    }
}

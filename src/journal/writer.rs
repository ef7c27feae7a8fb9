//! The journal thread: gathers what is published, writes it as one group, syncs it, tells the lanes.
//!
//! Group commit is natural: whatever gathered while the last sync ran is the next group. There is no time window; every
//! window that was measured lost. Group n+1 is written only after group n is durable, which is what lets recovery
//! tell a torn end from damage. This thread never locks an account, and no failed operation is ever tried again.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    GroupSynced, Shared,
    error::Failure,
    frame::{self, ChainHash, Kind, SEAL_BYTES, Salt, Seal, frame_bytes},
    index::Place,
    mark::{MARK_NAME, Mark, MarkFile},
    prepare::{Preparer, install, reserve_bytes},
    recovery::{Recovered, now_ms},
    ring::{Consumer, Taken},
    segment::{JournalId, SEGMENT_HEADER_BYTES, SegmentHeader, segment_name},
    snapshot::Anchor,
    storage::StorageFile,
    watchdog::Task,
};
use crate::{canary, limits::RECORD_BYTES_MAX};

/// How long [`Writer::run`] waits at close for a record whose sequence is taken and that is not published.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// Turns of waiting for such a record before the thread goes to sleep; its author holds an account and is quick.
const GAP_SPINS: u32 = 200;

pub(super) struct Writer {
    shared: Arc<Shared>,
    consumer: Consumer,
    preparer: Preparer,
    id: JournalId,
    salt: Salt,
    segment: ActiveSegment,
    next_group: u64,
    chain: ChainHash,
    mark: MarkFile,
    /// The sequence in the mark.
    marked: u64,
    group_bytes_max: usize,
    idle_mark: Duration,
    /// The group being gathered, its seal at the end once it is complete.
    group: Vec<u8>,
    last_sync: Instant,
}

struct ActiveSegment {
    number: u64,
    name: String,
    file: Arc<dyn StorageFile>,
    offset: u64,
    capacity: u64,
}

impl ActiveSegment {
    /// Whether only its reserve is left.
    fn is_low(&self) -> bool {
        self.capacity - self.offset < reserve_bytes(self.capacity)
    }
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        consumer: Consumer,
        preparer: Preparer,
        recovered: Recovered,
        group_bytes_max: usize,
        idle_mark: Duration,
    ) -> Writer {
        let writer = Writer {
            shared,
            consumer,
            preparer,
            id: recovered.id,
            salt: recovered.id.salt(),
            segment: ActiveSegment {
                number: recovered.segment,
                name: segment_name(recovered.segment),
                file: recovered.file,
                offset: recovered.cursor.offset as u64,
                capacity: recovered.capacity,
            },
            next_group: recovered.cursor.next_group,
            chain: recovered.cursor.chain,
            mark: recovered.mark,
            marked: recovered.cursor.next_sequence - 1,
            group_bytes_max,
            idle_mark,
            group: Vec::with_capacity(group_bytes_max),
            last_sync: Instant::now(),
        };
        writer.preparer.present_is_low(writer.segment.is_low());
        writer
    }

    /// Writes until the journal is closed or fails.
    pub(super) fn run(&mut self) -> Result<(), Failure> {
        self.shared.bell.attend();
        let mut closing_since = None;
        loop {
            self.check_not_stopped()?;
            let first = self.consumer.next_sequence();
            self.gather()?;
            if self.consumer.next_sequence() > first {
                self.write_group(first)?;
                continue;
            }
            if self.shared.closing.load(Ordering::SeqCst) {
                if self.shared.ring.taken() < first {
                    return self.write_mark();
                }
                // Somebody is about to publish, or has been lost between the two steps.
                if closing_since.get_or_insert_with(Instant::now).elapsed() > CLOSE_PATIENCE {
                    let gone = io::Error::other("a record was taken and never published");
                    return Err(self.failure("close", &self.segment.name, &gone));
                }
                std::thread::yield_now();
                continue;
            }
            self.wait()?;
        }
    }

    /// Copies published records into the group, as many as are ready and fit.
    fn gather(&mut self) -> Result<(), Failure> {
        self.group.clear();
        while let Some(payload_bytes) = self.consumer.peek() {
            if payload_bytes > RECORD_BYTES_MAX {
                let too_long = io::Error::other(format!("a record of {payload_bytes} bytes"));
                return Err(self.failure("write to", &self.segment.name, &too_long));
            }
            if self.group.len() + frame_bytes(payload_bytes) + SEAL_BYTES > self.group_bytes_max {
                break;
            }
            let sequence = self.consumer.next_sequence();
            let (kind, payload) = match self.consumer.take() {
                Some(Taken::Record(payload)) => (Kind::Record, payload),
                Some(Taken::Abandoned) => (Kind::Abandoned, &[][..]),
                None => break,
            };
            frame::append(&mut self.group, self.salt, kind, sequence, self.next_group, payload);
        }
        Ok(())
    }

    /// Seals the gathered group, makes it durable and tells everybody who waits.
    fn write_group(&mut self, first: u64) -> Result<(), Failure> {
        let last = self.consumer.next_sequence() - 1;
        let frames_bytes = self.group.len();
        let whole_bytes = (frames_bytes + SEAL_BYTES) as u64;
        if self.segment.offset + whole_bytes > self.segment.capacity {
            self.change_segment(first)?;
        }
        let hash = frame::chain(&self.chain, &self.group);
        let seal = Seal {
            first_sequence: first,
            last_sequence: last,
            frames: (last - first + 1) as u32,
            bytes: frames_bytes as u32,
            hash,
        };
        frame::append_seal(&mut self.group, self.salt, self.next_group, &seal);
        assert_eq!(self.group.len() as u64, whole_bytes, "the room was reckoned with this length");

        let begun = Instant::now();
        self.shared.disk_task.begin(Task::Group, self.shared.us_at(begun));
        if let Err(error) = self.segment.file.write_at(self.segment.offset, &self.group) {
            return Err(self.failure("write to", &self.segment.name, &error));
        }
        let written = Instant::now();
        if canary::active("reply_before_sync") {
            self.announce(last);
        }
        if !canary::active("no_sync")
            && let Err(error) = self.segment.file.sync()
        {
            return Err(self.failure("sync", &self.segment.name, &error));
        }
        self.last_sync = Instant::now();
        self.shared.disk_task.end();
        // Who waited for a disk that hung has been told that the outcome is open, and stays told.
        self.check_not_stopped()?;
        // First, because whoever is told of a position may read it at once.
        self.note_places(frames_bytes);
        self.announce(last);

        *self.shared.end.lock() = Anchor {
            sequence: last,
            group: self.next_group,
            chain: hash,
            segment: self.segment.number,
            offset: self.segment.offset + whole_bytes,
        };
        self.consumer.release();
        self.shared.observer.group_synced(&GroupSynced {
            records: last - first + 1,
            bytes: whole_bytes,
            write_ns: (written - begun).as_nanos() as u64,
            sync_ns: (self.last_sync - written).as_nanos() as u64,
        });
        self.segment.offset += whole_bytes;
        self.preparer.present_is_low(self.segment.is_low());
        self.next_group += 1;
        self.chain = hash;
        Ok(())
    }

    fn announce(&self, durable: u64) {
        self.shared.progress.durable.store(durable, Ordering::SeqCst);
        for lane in self.shared.lanes.lock().iter() {
            lane.announce();
        }
    }

    fn note_places(&self, frames_bytes: usize) {
        let mut index = self.shared.index.lock();
        let mut at = 0;
        while let Some(header) = self.group[at..frames_bytes].first_chunk::<16>() {
            let payload_bytes = (frame::u32_at(header, 0) & 0x00FF_FFFF) as usize;
            index.note(Place {
                sequence: frame::u64_at(header, 8),
                segment: self.segment.number as u32,
                offset: self.segment.offset as u32 + at as u32,
            });
            at += frame_bytes(payload_bytes);
        }
    }

    /// Goes on in the prepared segment, whose first record is `first_sequence`. Waits for it as long as it takes:
    /// the records gathered are acknowledged to nobody, and a disk that is full may become free.
    fn change_segment(&mut self, first_sequence: u64) -> Result<(), Failure> {
        self.shared.awaits_segment.store(true, Ordering::SeqCst);
        // What is left is too little for this group.
        self.preparer.present_is_low(true);
        let (number, file) = loop {
            if let Some(prepared) = self.preparer.take(Duration::from_millis(20)) {
                break prepared;
            }
            self.check_not_stopped()?;
            if self.shared.disk_low.load(Ordering::SeqCst) {
                self.shared.disk_full.store(true, Ordering::SeqCst);
                if self.shared.closing.load(Ordering::SeqCst) {
                    let full = io::Error::from(io::ErrorKind::StorageFull);
                    return Err(self.failure("prepare", &segment_name(self.segment.number + 1), &full));
                }
            }
        };
        self.shared.awaits_segment.store(false, Ordering::SeqCst);
        self.shared.disk_full.store(false, Ordering::SeqCst);
        self.shared.disk_task.begin(Task::Segment, self.shared.now_us());
        let header = SegmentHeader {
            segment: number,
            first_sequence,
            first_group: self.next_group,
            created_ms: now_ms(),
            id: self.id,
            chain: self.chain,
        };
        let capacity = file.len().map_err(|error| self.failure("measure", &segment_name(number), &error))?;
        install(&*self.shared.storage, &*file, &header)
            .map_err(|(operation, error)| self.failure(operation, &segment_name(number), &error))?;
        let offset = SEGMENT_HEADER_BYTES as u64;
        self.shared.disk_task.end();
        self.shared.segment.store(number, Ordering::SeqCst);
        self.segment = ActiveSegment { number, name: segment_name(number), file, offset, capacity };
        self.write_mark()
    }

    /// Writes the durable mark, if it lags behind.
    fn write_mark(&mut self) -> Result<(), Failure> {
        let durable = self.shared.progress.durable.load(Ordering::SeqCst);
        if durable > self.marked {
            let mark = Mark { id: self.id, sequence: durable, group: self.next_group - 1, chain: self.chain };
            self.shared.disk_task.begin(Task::Mark, self.shared.now_us());
            self.mark.write(&mark).map_err(|error| self.failure("write", MARK_NAME, &error))?;
            self.shared.disk_task.end();
            self.marked = durable;
        }
        Ok(())
    }

    /// Waits for the next record; writes the mark when nothing came for a while.
    fn wait(&mut self) -> Result<(), Failure> {
        let next = self.consumer.next_sequence();
        if self.shared.ring.taken() >= next {
            for turn in 0..GAP_SPINS {
                if self.consumer.peek().is_some() {
                    return Ok(());
                }
                // The author may need this very core.
                if turn % 50 == 49 { std::thread::yield_now() } else { std::hint::spin_loop() }
            }
        }
        let durable = self.shared.progress.durable.load(Ordering::SeqCst);
        let limit = if durable > self.marked {
            let idle = self.last_sync.elapsed();
            if idle >= self.idle_mark {
                return self.write_mark();
            }
            Some(self.idle_mark - idle)
        } else {
            None
        };
        let closing = || self.shared.closing.load(Ordering::SeqCst);
        self.shared.bell.sleep(limit, || self.consumer.peek().is_some() || closing());
        Ok(())
    }

    /// Ends this thread where the watchdog has declared the journal stopped meanwhile: nothing more is written.
    fn check_not_stopped(&self) -> Result<(), Failure> {
        match self.shared.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    fn failure(&self, operation: &'static str, file: &str, error: &io::Error) -> Failure {
        Failure {
            operation,
            file: file.to_owned(),
            durable: self.shared.progress.durable.load(Ordering::SeqCst),
            reason: error.to_string(),
        }
    }
}

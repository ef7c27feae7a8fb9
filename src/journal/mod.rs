//! The hash-chained decision log, which is the write-ahead log: what stands in it has happened, what does not has not.
//!
//! It orders, groups, chains, writes and reads back opaque records, and decides nothing: it knows no requests, no
//! accounts and no time but the disk's. No reply may leave before [`Journal::durable`] has reached its record.
//!
//! # Layout
//! - `frame`, `segment`, `mark`: the bytes on disk, each drawn where it is written
//! - `ring`, `bell`, `lane`: the way of a record from a decision to the disk, and of the news back
//! - `writer`, `prepare`, `watchdog`: the three threads
//! - `scan`, `walk`, `recovery`, `verify`, `index`, `closed`: reading it again
//! - `follow`: reading it while it is written
//! - [`snapshot`]: files from which a start need not read it all
//! - `beside`: directories beside the log, written under its lock
//! - `keys`, `filter`, `filters`: one file of keys per closed segment, so that what stands under an old key is found
//! - `storage`: the disk, behind a trait. A journal replicated over several machines would implement
//!   [`Storage`] (segments elsewhere), or take the place of [`Journal`] (the same records, per partition of accounts, in
//!   a replicated log); its callers need only slots, sequences and a durable position.

mod bell;
mod beside;
mod closed;
mod error;
mod filter;
mod filters;
mod follow;
mod frame;
mod index;
mod keys;
mod lane;
mod mark;
mod prepare;
pub mod record;
mod recovery;
mod ring;
mod scan;
mod segment;
pub mod snapshot;
mod storage;
mod verify;
mod walk;
mod watchdog;
mod writer;

#[cfg(test)]
pub(crate) mod simulated_disk;
#[cfg(test)]
mod tests;

use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

pub use closed::ClosedSegment;
pub use error::{Failure, Fault, FaultKind, LogError, OpenError, ReadError, ReserveError, Stopped};
pub use filter::Filter;
pub use filters::{FilterGroup, Filters, SIEVE_SEGMENTS, Sieve};
pub use follow::Follower;
pub use keys::{KeyEntry, KeyFile, KeyFiles, KeySpan, filter_hash};
pub use lane::{Durable, Lane};
pub use recovery::{RecoveryReport, TornTail};
pub use segment::FORMAT_VERSION;
pub use storage::{FileStorage, Storage, StorageFile};
pub use verify::{Tail, VerifyReport, verify};
pub use walk::LogSummary;

use crate::limits::{RING_RESERVE, RING_SLOTS};
use bell::Bell;
use beside::Beside;
use frame::{FRAME_BYTES_MAX, SEAL_BYTES};
use index::{Index, Place};
use lane::Progress;
use prepare::{Preparer, Terms};
use recovery::{Marked, Recovered};
use ring::{Claim, Ring, SLOTS_MAX};
use segment::{JournalId, SEGMENT_HEADER_BYTES};
use snapshot::{Anchor, Snapshot, Snapshots};
use watchdog::{DiskTask, Task};
use writer::Writer;

/// How long [`Journal::close`] waits for the threads of a journal that has stopped; one may be stuck in the kernel.
pub(crate) const STUCK_PATIENCE: Duration = Duration::from_millis(500);

/// How long an opening waits for the disk to say whether it has room for the next segment, so that a full one is known
/// before anything is promised. Taking room is one call, which says so at once.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);

/// How a journal is run.
#[derive(Clone)]
pub struct Options {
    /// Length of a segment file, at most 1 GiB.
    pub segment_bytes: u64,
    /// Records between the decisions and the disk: a power of two, at most 65,536.
    pub ring_slots: usize,
    /// Of them, kept for [`Class::Essential`].
    pub ring_reserve: usize,
    /// Longest group, in bytes.
    pub group_bytes_max: usize,
    /// Idleness after which the durable mark is written, in milliseconds.
    pub idle_mark_ms: u64,
    /// Time between two attempts to prepare a segment on a full disk, in milliseconds.
    pub prepare_retry_ms: u64,
    /// While one operation of the disk takes longer than this, authorisations are refused, in milliseconds.
    pub stall_ms: u64,
    /// One that takes longer than this has failed, in milliseconds.
    pub hang_ms: u64,
    /// Who is told of groups, of a low disk and of the end.
    pub observer: Arc<dyn Observer>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 * 1024 * 1024,
            ring_slots: RING_SLOTS,
            ring_reserve: RING_RESERVE,
            group_bytes_max: 1024 * 1024,
            idle_mark_ms: 10,
            prepare_retry_ms: 500,
            stall_ms: 1_000,
            hang_ms: 10_000,
            observer: Arc::new(()),
        }
    }
}

/// What the journal's threads tell of themselves. Called on those threads: an implementation must not block.
pub trait Observer: Send + Sync + 'static {
    /// A group is durable and its waiters have been told.
    fn group_synced(&self, group: &GroupSynced) {
        let _ = group;
    }
    /// The next segment cannot be prepared, for want of this; `None`: it can again.
    fn disk_low(&self, low: Option<&LowDisk>) {
        let _ = low;
    }
    /// An operation of the disk takes too long; `false`: it has returned.
    fn disk_stalled(&self, stalled: bool) {
        let _ = stalled;
    }
    /// The journal has stopped for ever.
    fn failed(&self, failure: &Failure) {
        let _ = failure;
    }
}

/// Nobody.
impl Observer for () {}

/// Why the next segment cannot be prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowDisk {
    /// Where the journal lives.
    pub place: String,
    /// Length of a segment.
    pub needed_bytes: u64,
    /// What its file system has left, where it says.
    pub free_bytes: Option<u64>,
    /// What the operating system said.
    pub reason: String,
}

/// One write and sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSynced {
    /// Records in the group.
    pub records: u64,
    /// Its length with all frames and its seal.
    pub bytes: u64,
    /// Time of the write, in nanoseconds.
    pub write_ns: u64,
    /// Time of the sync, in nanoseconds.
    pub sync_ns: u64,
}

/// Who may use the last slots and the last of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A decision that can be refused for now: the network stands in.
    Authorisation,
    /// A reversal, clearing, advice, expiry or change of status: keeps money right, so it goes on longest.
    Essential,
}

/// One record as it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its sequence.
    pub position: u64,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// What waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct QueueState {
    /// Records whose sequence is taken and that are not durable.
    pub records: u64,
    /// Time since the oldest of them reserved its slot, in microseconds.
    pub oldest_us: u64,
}

/// The open journal. Clones are the same journal; the last one dropped closes it.
#[derive(Clone)]
pub struct Journal {
    handle: Arc<Handle>,
}

/// The permit to write one record. Reserved before the account is locked, so that nothing can fail under its lock.
///
/// Dropping a slot without a sequence gives it back. Dropping it after [`Slot::take_sequence`], as a panic does,
/// leaves an abandoned frame, so that the sequence has no gap; recovery and reading pass over it.
#[must_use = "a slot that is dropped writes no record"]
pub struct Slot<'a> {
    claim: Claim<'a>,
    bell: &'a Bell,
}

/// What the journal's threads, slots and handles share.
struct Shared {
    storage: Arc<dyn Storage>,
    id: JournalId,
    observer: Arc<dyn Observer>,
    ring: Arc<Ring>,
    ring_reserve: usize,
    bell: Bell,
    progress: Arc<Progress>,
    lanes: Mutex<Vec<Arc<Lane>>>,
    index: Mutex<Index>,
    /// Behind the last durable group; the index has everything up to it.
    end: Mutex<Anchor>,
    /// Number of the segment that is written to.
    segment: AtomicU64,
    closing: AtomicBool,
    /// The next segment cannot be prepared.
    disk_low: AtomicBool,
    /// And the present one has no room for the next group.
    disk_full: AtomicBool,
    /// The next segment is not ready yet, and the present one is down to its reserve.
    unprepared: Arc<AtomicBool>,
    /// An operation of the disk takes too long.
    stalled: AtomicBool,
    /// The journal thread has a group for which there is no segment yet.
    awaits_segment: AtomicBool,
    /// What the journal thread waits for the disk with.
    disk_task: DiskTask,
    /// And the one that prepares segments.
    preparing: DiskTask,
    failure: OnceLock<Failure>,
    opened: Instant,
}

struct Handle {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

struct Running {
    thread: JoinHandle<()>,
    /// Disconnected when the thread is about to end.
    ended: mpsc::Receiver<()>,
}

/// A journal's directory, taken for this process: its id is known, its log has not been read. Dropping it gives the
/// directory back.
pub struct Directory {
    storage: Arc<dyn Storage>,
    /// Every thread that may write holds it: only when the last one has ended may another process open the directory.
    lock: Arc<dyn Any + Send + Sync>,
    mark: Marked,
}

/// Takes the directory in `storage` for this process and reads its durable mark, or creates that in an empty one: a
/// journal has its id from then on.
///
/// # Errors
/// [`OpenError::InUse`] where another process holds it; [`LogError::Fault`] where the mark is missing beside a log
/// or is damaged; what the operating system refused.
pub fn take(storage: Arc<dyn Storage>) -> Result<Directory, OpenError> {
    let lock: Arc<dyn Any + Send + Sync> = Arc::from(storage.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse { place: storage.place() },
        _ => recovery::io_at("lock", "the directory")(error).into(),
    })?);
    let mark = recovery::mark_of(&*storage)?;
    Ok(Directory { storage, lock, mark })
}

impl Directory {
    /// 32 bytes that are the same for this journal at every start, and others for another journal or `purpose`:
    /// BLAKE3's key derivation from the journal's id.
    pub fn key(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.mark.mark.id.0)
    }

    /// Reads the frame of the snapshot `name` and holds it against the log, without reading either whole.
    ///
    /// # Errors
    /// [`LogError::Fault`] with its place where it is damaged or cut, of another journal or version, or where the log
    /// has no group that ends where the snapshot was taken.
    pub fn snapshot(&self, snapshots: &Snapshots, name: &str) -> Result<Snapshot, LogError> {
        let snapshot = snapshots.read(name, self.mark.mark.id)?;
        let (anchor, mark) = (snapshot.anchor(), &self.mark.mark);
        anchor.check(&*self.storage, mark.id)?;
        if anchor.sequence == mark.sequence && anchor.chain != mark.chain {
            let kind = FaultKind::MarkDiffers { mark_sequence: mark.sequence };
            return Err(Fault { file: name.to_owned(), offset: 48, sequence: anchor.sequence, kind }.into());
        }
        Ok(snapshot)
    }

    /// `storage`, a directory beside the log, as it is written to while this process has the log: every change there
    /// holds the directory's lock until it returns, and is refused once the journal's threads have ended.
    pub fn beside(&self, storage: Arc<dyn Storage>) -> Arc<dyn Storage> {
        Arc::new(Beside::new(storage, &self.lock))
    }

    /// The key files of this journal in `storage`, a directory of their own [beside](Directory::beside) the log.
    pub fn key_files(&self, storage: Arc<dyn Storage>) -> KeyFiles {
        KeyFiles::new(self.beside(storage), self.mark.mark.id)
    }

    /// See [`Journal::closed_segment`].
    ///
    /// # Errors
    /// Where a header cannot be read, or there is no segment after this one.
    pub fn closed_segment(&self, segment: u64) -> Result<ClosedSegment, ReadError> {
        closed::closed_segment(&*self.storage, self.mark.mark.id, segment)
    }

    /// Opens the journal: checks the log from its beginning, or from where the snapshot `from` was taken, gives every
    /// record there to `on_record` in order, cuts a torn end and starts the journal thread.
    ///
    /// What lies before a snapshot is not read and not checked; `verify` does that. All its segments must be there.
    ///
    /// # Errors
    /// [`LogError::Fault`] with its place for damage that no crash explains; what `on_record` or the operating
    /// system refused. Nothing has been changed then. A log that ends before a position which the snapshot shows to
    /// have been durable is such damage: the snapshot got its name only after that position was on disk, so it stands
    /// beside the durable mark.
    pub fn open(
        self,
        options: Options,
        from: Option<&Snapshot>,
        on_record: &mut dyn FnMut(Record<'_>) -> Result<(), String>,
    ) -> Result<(Journal, RecoveryReport), OpenError> {
        options.check()?;
        let Directory { storage, lock, mark } = self;
        let recovered = recovery::recover(&*storage, mark, options.segment_bytes, from, on_record)?;
        start(storage, lock, options, recovered)
    }
}

/// Starts the threads on a directory that was read and repaired.
fn start(
    storage: Arc<dyn Storage>,
    lock: Arc<dyn Any + Send + Sync>,
    options: Options,
    mut recovered: Recovered,
) -> Result<(Journal, RecoveryReport), OpenError> {
    let report = recovered.report.clone();
    let next_sequence = recovered.cursor.next_sequence;
    let (ring, consumer) = Ring::new(options.ring_slots, next_sequence);
    let progress = Arc::new(Progress::default());
    progress.durable.store(next_sequence - 1, Ordering::SeqCst);
    let shared = Arc::new(Shared {
        storage: Arc::clone(&storage),
        id: recovered.id,
        observer: Arc::clone(&options.observer),
        ring,
        ring_reserve: options.ring_reserve,
        bell: Bell::default(),
        progress,
        lanes: Mutex::new(Vec::new()),
        index: Mutex::new(std::mem::take(&mut recovered.index)),
        end: Mutex::new(recovered.end()),
        segment: AtomicU64::new(recovered.segment),
        closing: AtomicBool::new(false),
        disk_low: AtomicBool::new(false),
        disk_full: AtomicBool::new(false),
        unprepared: Arc::default(),
        stalled: AtomicBool::new(false),
        awaits_segment: AtomicBool::new(false),
        disk_task: DiskTask::default(),
        preparing: DiskTask::default(),
        failure: OnceLock::new(),
        opened: Instant::now(),
    });
    let on_change = {
        let shared = Arc::clone(&shared);
        Box::new(move |low: Option<&LowDisk>| {
            shared.disk_low.store(low.is_some(), Ordering::SeqCst);
            shared.observer.disk_low(low);
        })
    };
    let at_disk = {
        let shared = Arc::clone(&shared);
        Box::new(move |is_at_work: bool| match is_at_work {
            true => shared.preparing.begin(Task::Preparation, shared.now_us()),
            false => shared.preparing.end(),
        })
    };
    let terms = Terms {
        segment_bytes: options.segment_bytes,
        retry: Duration::from_millis(options.prepare_retry_ms),
        on_change,
        at_disk,
        unprepared: Arc::clone(&shared.unprepared),
    };
    let preparer = Preparer::start(storage, Arc::clone(&lock), recovered.segment + 1, terms)
        .map_err(recovery::io_at("start the thread that prepares", "segments"))?;
    preparer.wait_for_room(ROOM_PATIENCE);
    let group_bytes_max = options.group_bytes_max.min(options.segment_bytes as usize - SEGMENT_HEADER_BYTES);
    let idle_mark = Duration::from_millis(options.idle_mark_ms);
    let writer = Writer::new(Arc::clone(&shared), consumer, preparer, recovered, group_bytes_max, idle_mark);
    let (stall, hang) = (Duration::from_millis(options.stall_ms), Duration::from_millis(options.hang_ms));
    watchdog::start(Arc::clone(&shared), stall, hang)
        .map_err(recovery::io_at("start the thread that watches", "the journal"))?;
    let (ending, ended) = mpsc::channel();
    let thread = {
        let shared = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("saker-journal".to_owned())
            .spawn(move || {
                shared.run_writer(writer);
                drop((lock, ending));
            })
            .map_err(recovery::io_at("start the thread of", "the journal"))?
    };
    let handle = Handle { shared, running: Mutex::new(Some(Running { thread, ended })) };
    Ok((Journal { handle: Arc::new(handle) }, report))
}

impl Options {
    fn check(&self) -> Result<(), OpenError> {
        let smallest = SEGMENT_HEADER_BYTES + FRAME_BYTES_MAX + SEAL_BYTES;
        let bounds = [
            (self.segment_bytes >= smallest as u64, "segment_bytes: too small for one record"),
            (self.segment_bytes <= 1 << 30, "segment_bytes: at most 1 GiB"),
            (self.ring_slots.is_power_of_two(), "ring_slots: must be a power of two"),
            (self.ring_slots <= SLOTS_MAX, "ring_slots: at most 65,536"),
            (self.ring_reserve < self.ring_slots, "ring_reserve: must be below ring_slots"),
            (
                self.group_bytes_max >= FRAME_BYTES_MAX + SEAL_BYTES,
                "group_bytes_max: too small for one record",
            ),
            (self.group_bytes_max <= 1 << 28, "group_bytes_max: at most 256 MiB"),
        ];
        match bounds.iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(OpenError::Option(broken)),
            None => Ok(()),
        }
    }
}

impl Journal {
    /// A slot for one record. Lock-free; never waits.
    ///
    /// # Errors
    /// [`ReserveError`]; nothing has changed.
    pub fn reserve(&self, class: Class) -> Result<Slot<'_>, ReserveError> {
        self.reserve_at(class, Instant::now())
    }

    /// [`Journal::reserve`] for a caller that has just read the clock.
    ///
    /// # Errors
    /// [`ReserveError`]; nothing has changed.
    pub fn reserve_at(&self, class: Class, now: Instant) -> Result<Slot<'_>, ReserveError> {
        self.admits(class)?;
        let shared = &self.handle.shared;
        let kept_back = match class {
            Class::Authorisation => shared.ring_reserve,
            Class::Essential => 0,
        };
        let claim = shared.ring.claim(kept_back, shared.us_at(now)).ok_or(ReserveError::Full)?;
        Ok(Slot { claim, bell: &shared.bell })
    }

    /// Whether the disk is fit for such a record; a slot may still be wanting.
    ///
    /// # Errors
    /// [`ReserveError`] other than [`ReserveError::Full`].
    pub fn admits(&self, class: Class) -> Result<(), ReserveError> {
        let shared = &self.handle.shared;
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        if is(&shared.closing) || is(&shared.progress.stopped) {
            return Err(ReserveError::Stopped);
        }
        match class {
            Class::Essential if is(&shared.disk_full) => Err(ReserveError::DiskLow),
            Class::Essential => Ok(()),
            Class::Authorisation if is(&shared.disk_low) => Err(ReserveError::DiskLow),
            Class::Authorisation if is(&shared.stalled) => Err(ReserveError::Stalled),
            Class::Authorisation if is(&shared.unprepared) => Err(ReserveError::Unprepared),
            Class::Authorisation => Ok(()),
        }
    }

    /// The last position that is on disk; 0 for none.
    pub fn durable(&self) -> u64 {
        self.handle.shared.progress.durable.load(Ordering::SeqCst)
    }

    /// A new lane; each runtime needs one and runs [`Lane::run`] on it. Lanes last as long as the journal.
    pub fn lane(&self) -> Arc<Lane> {
        let lane = Arc::new(Lane::new(Arc::clone(&self.handle.shared.progress)));
        self.handle.shared.lanes.lock().push(Arc::clone(&lane));
        lane
    }

    /// The payload at `position`; `None` where no record is durable there. Reads the file: not for a runtime's thread.
    ///
    /// # Errors
    /// [`ReadError`] where the file cannot be read or no longer holds what was written.
    pub fn read(&self, position: u64) -> Result<Option<Vec<u8>>, ReadError> {
        if position == 0 || position > self.durable() {
            return Ok(None);
        }
        let shared = &self.handle.shared;
        let place = shared.index.lock().before(position);
        match place {
            Some(place) => index::read_from(&*shared.storage, shared.id.salt(), place, position),
            None => Ok(None),
        }
    }

    /// The highest position that was taken so far, durable or not.
    pub fn taken(&self) -> u64 {
        self.handle.shared.ring.taken()
    }

    /// Whether nothing becomes durable any more.
    pub fn has_stopped(&self) -> bool {
        self.handle.shared.progress.stopped.load(Ordering::SeqCst)
    }

    fn id(&self) -> JournalId {
        self.handle.shared.id
    }

    /// Behind the last durable group, or the one before while that one is being announced.
    fn anchor(&self) -> Anchor {
        *self.handle.shared.end.lock()
    }

    /// Entries of the index, see [`Index::part`].
    fn places(&self, from: usize, count: usize, last_sequence: u64) -> Vec<Place> {
        self.handle.shared.index.lock().part(from, count, last_sequence)
    }

    /// Number of the last segment that is closed: nothing is written to it or to those before any more. 0 for none.
    pub fn closed_segments(&self) -> u64 {
        self.handle.shared.segment.load(Ordering::SeqCst) - 1
    }

    /// The first position of a segment, from its header alone.
    ///
    /// # Errors
    /// [`ReadError`] where that cannot be read or is not of this journal.
    pub fn first_position(&self, segment: u64) -> Result<u64, ReadError> {
        let shared = &self.handle.shared;
        closed::first_position(&*shared.storage, shared.id, segment)
    }

    /// What a closed segment holds, from its header and that of the segment after it.
    ///
    /// # Errors
    /// [`ReadError`] where one of them cannot be read or is not of this journal.
    pub fn closed_segment(&self, segment: u64) -> Result<ClosedSegment, ReadError> {
        let shared = &self.handle.shared;
        closed::closed_segment(&*shared.storage, shared.id, segment)
    }

    /// Gives every record of a closed segment to `on_record`. Reads the whole file: not for a runtime's thread.
    ///
    /// # Errors
    /// [`ReadError`] where the file cannot be read, no longer holds what was written, or `on_record` refused.
    pub fn read_closed(
        &self,
        segment: u64,
        on_record: &mut dyn FnMut(Record<'_>) -> Result<(), String>,
    ) -> Result<ClosedSegment, ReadError> {
        let shared = &self.handle.shared;
        closed::read_closed(&*shared.storage, shared.id, segment, on_record)
    }

    /// What waits for the disk.
    pub fn queue(&self) -> QueueState {
        self.queue_at(Instant::now())
    }

    /// [`Journal::queue`] for a caller that has just read the clock.
    pub fn queue_at(&self, now: Instant) -> QueueState {
        let shared = &self.handle.shared;
        let durable = self.durable();
        let records = shared.ring.taken().saturating_sub(durable);
        if records == 0 {
            return QueueState::default();
        }
        // Its sequence may just be taken, or a newer record have the entry by now: then there is no age to speak of.
        let reserved_us = shared.ring.reserved_us(durable + 1);
        let oldest_us = reserved_us.map_or(0, |reserved_us| shared.us_at(now).saturating_sub(reserved_us));
        QueueState { records, oldest_us }
    }

    /// Whether the next segment cannot be prepared. Authorisations are refused until it can.
    pub fn low_disk(&self) -> bool {
        self.handle.shared.disk_low.load(Ordering::Relaxed)
    }

    /// Whether the reserve for essential records is used up as well: everything is refused until there is room.
    pub fn full_disk(&self) -> bool {
        self.handle.shared.disk_full.load(Ordering::Relaxed)
    }

    /// Whether an operation of the disk takes too long. Authorisations are refused until it has returned.
    pub fn stalled(&self) -> bool {
        self.handle.shared.stalled.load(Ordering::Relaxed)
    }

    /// Why the journal has stopped, if it has failed.
    pub fn failure(&self) -> Option<Failure> {
        self.handle.shared.failure.get().cloned()
    }

    /// Makes what is queued durable, writes the durable mark, stops the threads and frees the directory. Slots are
    /// refused from here on; later calls, of any clone, only tell how it went.
    ///
    /// # Errors
    /// The [`Failure`] that stopped the journal before or during this call.
    pub fn close(&self) -> Result<(), Failure> {
        self.handle.close();
        match self.failure() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("place", &self.handle.shared.storage.place()).finish_non_exhaustive()
    }
}

impl Slot<'_> {
    /// The position of this record, taken at the first call: under the account's lock, so that an account's records
    /// stand in the order of its decisions. Positions start at 1 and have no gaps.
    pub fn take_sequence(&mut self) -> u64 {
        self.claim.take_sequence()
    }

    /// Where the payload goes: empty at first, with room for [`crate::limits::RECORD_BYTES_MAX`] bytes. A longer
    /// payload stops the journal.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.claim.buffer()
    }

    /// Hands the record to the journal thread. Cannot fail and does not wait; takes the sequence if it was not taken.
    pub fn publish(mut self) {
        self.claim.publish();
        self.bell.ring();
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if self.claim.abandon() {
            self.bell.ring();
        }
    }
}

impl Shared {
    fn now_us(&self) -> u64 {
        self.us_at(Instant::now())
    }

    /// The journal's own time at an instant, in microseconds.
    fn us_at(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.opened).as_micros() as u64
    }

    /// Whether something is refused or waits because the next segment is not prepared.
    fn wants_segment(&self) -> bool {
        let is = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
        is(&self.awaits_segment) || is(&self.disk_low) || is(&self.unprepared)
    }

    /// Stops the journal for ever and tells everybody; the first failure is the one that is told.
    fn fail(&self, failure: Failure) {
        // Set before the flag, so that whoever sees the flag finds the reason.
        if self.failure.set(failure.clone()).is_ok() {
            self.end_waits();
            self.observer.failed(&failure);
        }
    }

    fn end_waits(&self) {
        self.progress.stopped.store(true, Ordering::SeqCst);
        for lane in self.lanes.lock().iter() {
            lane.announce();
        }
    }

    /// The whole life of the journal thread. Whatever ends it, everybody who waits is told.
    fn run_writer(&self, mut writer: Writer) {
        let result = catch_unwind(AssertUnwindSafe(|| writer.run())).unwrap_or_else(|_| {
            let durable = self.progress.durable.load(Ordering::SeqCst);
            let reason = "the journal thread panicked".to_owned();
            Err(Failure { operation: "run", file: "the journal".to_owned(), durable, reason })
        });
        match result {
            Ok(()) => self.end_waits(),
            Err(failure) => self.fail(failure),
        }
        // Last, because it waits for the thread that prepares segments, which may hang on the same disk.
        drop(writer);
    }
}

impl Handle {
    fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.shared.bell.ring();
        let mut running = self.running.lock();
        let Some(Running { thread, ended }) = running.take() else { return };
        // An observer may drop the last handle on the journal thread, which cannot wait for itself.
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(STUCK_PATIENCE) {
            // It, or the thread that prepares, does not come back from the disk. It keeps the directory's lock.
            if self.shared.progress.stopped.load(Ordering::SeqCst) {
                return;
            }
        }
        // A panic of the thread is caught inside it and told as a failure.
        let _ = thread.join();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

//! Answers that have left memory: found through the key files of closed segments, read on blocking threads.
//!
//! One thread of low priority makes a key file of each segment that closes, lets keys of some age leave memory, and
//! removes files past the retention. What must always hold: a key is in memory, or in a key file whose filter stands in
//! [`Answers`](crate::authorise::answers::Answers), or was forgotten at its time; and what a file cannot tell is an
//! error, never "not seen before". A look-up believes no file: it reads the record that the file names, and the
//! record must have the key.
//!
//! That an answer was handed over is known in memory only (see [`What::Answered`]); here it is kept beside the file as
//! long as the process lives.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{Engine, recover::time_of};
use crate::{
    authorise::{
        answers::{KeyHash, NO_ACCOUNT, OnFile, Remembered, What},
        keys,
    },
    journal::{
        ClosedSegment, Directory, Filter, FilterGroup, Filters, KeyEntry, KeyFile, KeyFiles, KeySpan,
        ReadError, SIEVE_SEGMENTS, Sieve, filter_hash, record::Record,
    },
    limits::ANSWER_RETENTION_MS,
    observe::{KeyFileMade, LookUp},
    types::{
        auth::Subject,
        fault::Fault,
        time::{HOUR_MS, Timestamp},
    },
};

/// Between two rounds of the thread.
const EVERY: Duration = Duration::from_secs(1);
/// Keys that are read from a file before they leave memory together.
const DEMOTED_AT_ONCE: usize = 64 * 1024;
/// Before a file that could not be made is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// Above this share of the capacity keys leave memory before their time, in eighths, until below the other.
const PRESSED_EIGHTHS: usize = 7;
const RELIEVED_EIGHTHS: usize = 6;
/// One segment's keys on disk.
struct OlderSegment {
    segment: u64,
    /// `None` where neither the file nor the segment could be read: every look-up tries again.
    file: Option<KeyFile>,
    filter: Arc<Filter>,
    /// Whether its keys have left memory.
    is_demoted: AtomicBool,
    /// Positions of its authorisations whose answer was handed over, rising.
    answered: Arc<Mutex<Vec<u64>>>,
}

impl OlderSegment {
    fn new(file: KeyFile, is_demoted: bool) -> OlderSegment {
        OlderSegment {
            segment: file.span().segment,
            filter: Arc::clone(file.filter()),
            file: Some(file),
            is_demoted: is_demoted.into(),
            answered: Arc::default(),
        }
    }

    fn unreadable(segment: u64) -> OlderSegment {
        OlderSegment {
            segment,
            file: None,
            filter: Arc::new(Filter::of_everything()),
            is_demoted: true.into(),
            answered: Arc::default(),
        }
    }

    fn is_demoted(&self) -> bool {
        self.is_demoted.load(Ordering::Relaxed)
    }

    fn has_position(&self, position: u64) -> bool {
        self.file.as_ref().is_some_and(|file| {
            let closed = &file.span().closed;
            (closed.first_sequence..=closed.last_sequence).contains(&position)
        })
    }

    fn is_older_than(&self, age_ms: i64, now: Timestamp) -> bool {
        self.file.as_ref().is_some_and(|file| now.since_ms(Timestamp(file.span().last_time_ms)) > age_ms)
    }
}

/// All segments whose keys are on disk, rising by number.
#[derive(Default)]
pub(super) struct Shelf {
    segments: Vec<Arc<OlderSegment>>,
    sieves: BTreeMap<u64, Arc<Sieve>>,
}

impl Shelf {
    fn has(&self, segment: u64) -> bool {
        self.segments.iter().any(|older| older.segment == segment && older.file.is_some())
    }

    fn filters(&self) -> Filters {
        let of = |older: &OlderSegment| older.segment / SIEVE_SEGMENTS;
        let groups = self.segments.chunk_by(|a, b| of(a) == of(b));
        let groups = groups.map(|segments| FilterGroup {
            sieve: self.sieves.get(&of(&segments[0])).cloned(),
            filters: segments.iter().map(|older| Arc::clone(&older.filter)).collect(),
        });
        Filters(groups.collect())
    }
}

/// The key files of one engine.
pub(super) struct Older {
    files: KeyFiles,
    shelf: ArcSwap<Shelf>,
    /// Held by whoever writes a file or changes the shelf.
    pub(super) work: Mutex<()>,
    /// Keys that look-ups brought back into memory, of this round and of the one before.
    returned: Mutex<[Vec<OnFile>; 2]>,
    /// Segments below this are past their retention and need no file.
    first_wanted: AtomicU64,
    /// Segments of which no file could be made, and when that was.
    failed: Mutex<BTreeMap<u64, Instant>>,
    stopping: AtomicBool,
    thread: Mutex<Option<(mpsc::Sender<()>, JoinHandle<()>)>>,
}

/// What the files hold, for the figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct OnDisk {
    pub(super) keys: u64,
    pub(super) files: u64,
    pub(super) filter_bytes: u64,
}

/// The keys of a segment, read from it.
struct SegmentKeys {
    span: KeySpan,
    entries: Vec<KeyEntry>,
}

impl Older {
    /// Opens the key files that are there and fit the journal in `directory`. Of those whose newest record is older than
    /// `memory_ms` before the newest of all, or that would not fit into memory beside the others, the keys stay out of
    /// memory: see [`Older::covers`].
    ///
    /// # Errors
    /// Where the directory of the files cannot be read.
    pub(super) fn open(
        files: KeyFiles,
        directory: &Directory,
        memory_ms: i64,
        capacity: usize,
    ) -> io::Result<Older> {
        let mut opened: Vec<KeyFile> = Vec::new();
        for segment in files.segments()? {
            let closed = directory.closed_segment(segment).map_err(|error| error.to_string());
            let file = files.open(segment).map_err(|error| error.to_string());
            match (file, closed) {
                (Ok(file), Ok(closed)) if file.span().closed == closed => opened.push(file),
                (Ok(_), Ok(_)) => warn_of(segment, "it belongs to another segment of this number"),
                (Err(error), _) | (_, Err(error)) => warn_of(segment, &error),
            }
        }
        let newest = opened.iter().map(|file| file.span().last_time_ms).max().unwrap_or_default();
        let (mut in_memory, room) = (0, capacity as u64 / 8 * RELIEVED_EIGHTHS as u64);
        let mut segments: Vec<_> = opened
            .into_iter()
            .rev()
            .map(|file| {
                let age_ms = Timestamp(newest).since_ms(Timestamp(file.span().last_time_ms));
                let stays_out = age_ms > memory_ms || in_memory + file.entries() > room;
                in_memory += if stays_out { 0 } else { file.entries() };
                Arc::new(OlderSegment::new(file, stays_out))
            })
            .collect();
        segments.reverse();
        Ok(Older {
            files,
            shelf: ArcSwap::from_pointee(Shelf { segments, sieves: BTreeMap::new() }),
            work: Mutex::default(),
            returned: Mutex::default(),
            first_wanted: 1.into(),
            failed: Mutex::default(),
            stopping: false.into(),
            thread: Mutex::default(),
        })
    }

    /// Whether the keys of the record at `position` are found in a file and need no place in memory.
    pub(super) fn covers(&self, position: u64) -> bool {
        let shelf = self.shelf.load();
        let after = shelf.segments.partition_point(|older| {
            older.file.as_ref().is_some_and(|file| file.span().closed.first_sequence <= position)
        });
        let older = after.checked_sub(1).map(|place| &shelf.segments[place]);
        older.is_some_and(|older| older.is_demoted() && older.has_position(position))
    }

    /// A snapshot brought back the keys that were in memory when it was taken, whatever their age: all of them are to
    /// leave it again by their segments.
    pub(super) fn recall(&self) {
        for older in self.shelf.load().segments.iter().filter(|older| older.file.is_some()) {
            older.is_demoted.store(false, Ordering::Relaxed);
        }
    }

    /// The filters of what is there now.
    pub(super) fn filters(&self) -> Filters {
        self.shelf.load().filters()
    }

    pub(super) fn on_disk(&self) -> OnDisk {
        let shelf = self.shelf.load();
        let mut on_disk = OnDisk { filter_bytes: shelf.filters().bytes() as u64, ..OnDisk::default() };
        for file in shelf.segments.iter().filter(|older| older.is_demoted()).filter_map(|o| o.file.as_ref()) {
            on_disk.keys += file.entries();
            on_disk.files += 1;
        }
        on_disk
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some((sender, thread)) = self.thread.lock().take() {
            drop(sender);
            // A thread that panicked has nothing left to do either.
            let _ = thread.join();
        }
    }
}

fn warn_of(segment: u64, what: &str) {
    tracing::warn!(segment, what, "a key file is not used and is made again from its segment");
}

/// Starts the thread; it ends with the engine or with [`Older::stop`].
pub(super) fn start(engine: &Arc<Engine>) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel::<()>();
    let weak: Weak<Engine> = Arc::downgrade(engine);
    let thread = std::thread::Builder::new().name("saker-keys".into()).spawn(move || {
        // SAFETY: a call with three numbers. On Linux 0 is the calling thread; where it fails, nothing is worse.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
        while receiver.recv_timeout(EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
            let Some(engine) = weak.upgrade() else { return };
            engine.tend_older_answers();
        }
    })?;
    *engine.older.thread.lock() = Some((sender, thread));
    Ok(())
}

impl Engine {
    /// One round: files for segments that closed, keys out of memory, files past the retention removed, sieves.
    pub(super) fn tend_older_answers(&self) {
        let now = self.time.now();
        self.write_missing_key_files(now);
        self.demote_older_answers(now);
        self.remove_outlived_key_files(now);
        self.forget_old_answers();
        self.build_sieves();
    }

    /// Looks a key up in the key files. `None` is proof that none has it. Blocks: not for a runtime's thread.
    ///
    /// # Errors
    /// In words, where a file that may have it cannot be read and cannot be made again.
    pub(super) fn find_older(&self, key: KeyHash) -> Result<Option<Remembered>, String> {
        let shelf = self.older.shelf.load_full();
        for older in shelf.segments.iter().rev() {
            if !older.filter.may_have(filter_hash(key.bits())) {
                continue;
            }
            let found = match older.file.as_ref().map(|file| file.find(key.bits())) {
                Some(Ok(None)) => continue,
                Some(Ok(Some(entry))) => self.confirm(key, &entry),
                Some(Err(error)) => Err(error.to_string()),
                None => Err("its segment could not be read".to_owned()),
            };
            let found = match found {
                Ok(found) => Some(found),
                // Removed between two looks because it is past its retention.
                Err(_) if !self.is_on_shelf(older.segment) => continue,
                Err(error) => self.find_in_segment(older.segment, key, &error)?,
            };
            let Some(mut found) = found else { continue };
            if found.what == What::Authorisation
                && older.answered.lock().binary_search(&found.position).is_ok()
            {
                found.what = What::Answered;
            }
            return Ok(Some(found));
        }
        Ok(None)
    }

    fn is_on_shelf(&self, segment: u64) -> bool {
        self.older.shelf.load().segments.iter().any(|older| older.segment == segment)
    }

    /// What an entry stands for, once the record it names is seen to have the key.
    fn confirm(&self, key: KeyHash, entry: &KeyEntry) -> Result<Remembered, String> {
        let position = entry.position;
        let payload = self.journal.read(position).map_err(|error| error.to_string())?;
        let record = payload.map(|payload| Record::decode(&payload, position, &*self.names));
        let record = record.transpose().map_err(|error| error.to_string())?;
        let mut settled = None;
        if let Some(record) = &record {
            keys::keys_of(record, |client, own, what| {
                if what as u16 == entry.kind && self.state.answers.hash(client, own) == key {
                    let account = keys::account_of(record).map(Subject::Account);
                    let at = account.and_then(|account| self.state.store.find(&account));
                    settled = Some(keys::remembered(position, what, at.unwrap_or(NO_ACCOUNT)));
                }
            });
        }
        settled.ok_or_else(|| format!("the record at position {position} has not the key that leads to it"))
    }

    /// A key file failed: it is made again, and the key looked up in what was read from the segment.
    fn find_in_segment(&self, segment: u64, key: KeyHash, error: &str) -> Result<Option<Remembered>, String> {
        warn_of(segment, error);
        let _work = self.older.work.lock();
        let keys = self.keys_of_segment(segment).map_err(|error| error.to_string())?;
        let of_key = keys.entries.iter().filter(|entry| entry.key == key.bits());
        let found = of_key.max_by_key(|entry| entry.position).copied();
        // The answer is known also where the file cannot be written; the next look-up tries again.
        if let Err(error) = self.write_key_file(keys, KeyFileMade::Again) {
            tracing::warn!(segment, %error, "a key file cannot be written");
        }
        found.map(|entry| self.confirm(key, &entry)).transpose()
    }

    /// Reads a closed segment for its keys.
    fn keys_of_segment(&self, segment: u64) -> Result<SegmentKeys, ReadError> {
        let mut entries = Vec::new();
        let (mut first_time, mut last_time) = (Timestamp(i64::MAX), Timestamp(i64::MIN));
        let closed = self.journal.read_closed(segment, &mut |frame| {
            if self.older.stopping.load(Ordering::Relaxed) {
                return Err("the engine stops".to_owned());
            }
            let position = frame.position;
            let record =
                Record::decode(frame.payload, position, &*self.names).map_err(|error| error.to_string())?;
            let time = time_of(&record);
            (first_time, last_time) = (first_time.min(time), last_time.max(time));
            keys::keys_of(&record, |client, key, what| {
                let key = self.state.answers.hash(client, key).bits();
                entries.push(KeyEntry { key, position, kind: what as u16 });
            });
            Ok(())
        })?;
        let span = KeySpan { segment, closed, first_time_ms: first_time.0, last_time_ms: last_time.0 };
        Ok(SegmentKeys { span, entries })
    }

    /// Writes a key file and puts it on the shelf, in the place of the one that was there. The caller holds `work`.
    fn write_key_file(&self, keys: SegmentKeys, made: KeyFileMade) -> io::Result<()> {
        let file = self.older.files.write(keys.span, keys.entries)?;
        self.metrics.key_file_made(made);
        self.put_on_shelf(OlderSegment::new(file, false));
        Ok(())
    }

    fn put_on_shelf(&self, mut new: OlderSegment) {
        let (shelf, segment) = (self.older.shelf.load_full(), new.segment);
        let mut segments = shelf.segments.clone();
        match segments.binary_search_by_key(&new.segment, |older| older.segment) {
            Ok(place) => {
                new.answered = Arc::clone(&segments[place].answered);
                new.is_demoted = segments[place].is_demoted().into();
                segments[place] = Arc::new(new);
            }
            Err(place) => segments.insert(place, Arc::new(new)),
        }
        let mut sieves = shelf.sieves.clone();
        if segments.len() > shelf.segments.len() {
            // A sieve that was made without this segment would say that its keys are new.
            sieves.remove(&(segment / SIEVE_SEGMENTS));
        }
        self.show(Shelf { segments, sieves });
    }

    /// The caller holds `work`. The shelf goes first, so that whoever is told by a filter finds the file; a key leaves
    /// memory after both.
    pub(super) fn show(&self, shelf: Shelf) {
        let filters = shelf.filters();
        self.older.shelf.store(Arc::new(shelf));
        self.state.answers.set_older(filters);
    }

    fn write_missing_key_files(&self, now: Timestamp) {
        let older = &self.older;
        for segment in older.first_wanted.load(Ordering::Relaxed)..=self.journal.closed_segments() {
            let tried = older.failed.lock().get(&segment).copied();
            if older.shelf.load().has(segment) || tried.is_some_and(|at| at.elapsed() < TRY_AGAIN) {
                continue;
            }
            if self.is_outlived(segment, now) {
                if older.first_wanted.load(Ordering::Relaxed) == segment {
                    older.first_wanted.store(segment + 1, Ordering::Relaxed);
                }
                continue;
            }
            let made = self.make_key_file(segment, KeyFileMade::First);
            if older.stopping.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = made {
                tracing::warn!(
                    segment,
                    error,
                    "no key file can be made of a segment; its keys stay in memory"
                );
                older.failed.lock().insert(segment, Instant::now());
            }
        }
    }

    fn make_key_file(&self, segment: u64, made: KeyFileMade) -> Result<(), String> {
        let _work = self.older.work.lock();
        let keys = self.keys_of_segment(segment).map_err(|error| error.to_string())?;
        self.write_key_file(keys, made).map_err(|error| error.to_string())
    }

    /// Makes the files that are missing of segments whose keys may not be in memory: those that begin before
    /// `first_replayed`. Where even the segment cannot be read, nothing can be said of any key that is not in memory,
    /// and every look-up tries again.
    pub(super) fn make_key_files_before_serving(&self, first_replayed: u64) {
        let now = self.time.now();
        for segment in 1..=self.journal.closed_segments() {
            let begins_before =
                self.journal.closed_segment(segment).map(|closed| closed.first_sequence < first_replayed);
            if matches!(begins_before, Ok(false))
                || self.older.shelf.load().has(segment)
                || self.is_outlived(segment, now)
            {
                continue;
            }
            tracing::warn!(
                segment,
                "the key file is missing or damaged and is made again before the engine serves"
            );
            if let Err(error) = self.make_key_file(segment, KeyFileMade::Again) {
                tracing::error!(
                    segment,
                    error,
                    "neither the key file nor the segment can be read: ids that are not in memory are answered \
                     UNAVAILABLE until one of them can"
                );
                let _work = self.older.work.lock();
                self.put_on_shelf(OlderSegment::unreadable(segment));
            }
        }
    }

    /// Whether all records of a segment are past their retention. An hour more, because records of one moment may
    /// stand in another order than their times.
    fn is_outlived(&self, segment: u64, now: Timestamp) -> bool {
        let newest = || -> Option<Timestamp> {
            let ClosedSegment { first_sequence, last_sequence, .. } =
                self.journal.closed_segment(segment).ok()?;
            let position = (first_sequence..=last_sequence).rev().take(8).find_map(|position| {
                let payload = self.journal.read(position).ok()??;
                Record::decode(&payload, position, &*self.names).ok()
            });
            position.map(|record| time_of(&record))
        };
        newest().is_some_and(|newest| now.since_ms(newest) > ANSWER_RETENTION_MS + HOUR_MS)
    }

    /// Lets keys leave memory: those of segments that are old enough, and while memory is pressed the oldest others.
    fn demote_older_answers(&self, now: Timestamp) {
        let answers = &self.state.answers;
        let memory_ms =
            i64::try_from(self.config.answers.memory_hours).unwrap_or(i64::MAX / HOUR_MS) * HOUR_MS;
        let eighths = |eighths: usize| answers.capacity() / 8 * eighths;
        let mut is_pressed = answers.len() > eighths(PRESSED_EIGHTHS);
        for older in self.older.shelf.load().segments.iter() {
            if self.older.stopping.load(Ordering::Relaxed) {
                return;
            }
            is_pressed &= answers.len() > eighths(RELIEVED_EIGHTHS);
            if older.is_demoted() || !(is_pressed || older.is_older_than(memory_ms, now)) {
                continue;
            }
            if let Err(error) = self.demote(older) {
                // What has left memory was read and checked; the rest stays until the file is whole again.
                warn_of(older.segment, &error.to_string());
                if let Err(error) = self.make_key_file(older.segment, KeyFileMade::Again) {
                    tracing::warn!(segment = older.segment, error, "a key file cannot be made again");
                }
                return;
            }
        }
        self.demote_returned();
    }

    fn demote(&self, older: &OlderSegment) -> Result<(), ReadError> {
        let Some(file) = &older.file else { return Ok(()) };
        let mut keys = Vec::with_capacity(DEMOTED_AT_ONCE.min(file.entries() as usize));
        file.for_each(&mut |entry| {
            if let Some(what) = What::from_number(entry.kind) {
                keys.push(OnFile { key: KeyHash::from_bits(entry.key), what, position: entry.position });
            }
            if keys.len() >= DEMOTED_AT_ONCE {
                self.demote_keys(older, &keys);
                keys.clear();
            }
        })?;
        self.demote_keys(older, &keys);
        older.is_demoted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// `keys` are all of this segment, in the order of their bits.
    fn demote_keys(&self, older: &OlderSegment, keys: &[OnFile]) {
        let to_note = self.state.answers.demote(keys, |_| false);
        if to_note.is_empty() {
            return;
        }
        let mut answered = older.answered.lock();
        answered.extend(&to_note);
        answered.sort_unstable();
        answered.dedup();
        drop(answered);
        self.state.answers.demote(keys, |position| to_note.contains(&position));
    }

    /// What look-ups brought back leaves again after a whole round.
    fn demote_returned(&self) {
        let mut of_last_round = {
            let mut returned = self.older.returned.lock();
            let [now, before] = &mut *returned;
            std::mem::swap(now, before);
            std::mem::take(now)
        };
        of_last_round.sort_unstable_by_key(|returned| returned.key.bits());
        for older in self.older.shelf.load().segments.iter().filter(|older| older.is_demoted()) {
            let keys: Vec<OnFile> =
                of_last_round.iter().filter(|key| older.has_position(key.position)).copied().collect();
            self.demote_keys(older, &keys);
        }
    }

    fn remove_outlived_key_files(&self, now: Timestamp) {
        let _work = self.older.work.lock();
        let shelf = self.older.shelf.load_full();
        let mut segments = shelf.segments.clone();
        // From the oldest on, so that no older entry of a key outlives a newer one.
        let kept = segments.iter().position(|older| !older.is_older_than(ANSWER_RETENTION_MS, now));
        let outlived: Vec<_> = segments.drain(..kept.unwrap_or(segments.len())).collect();
        if outlived.is_empty() {
            return;
        }
        let oldest_group = segments.first().map_or(u64::MAX, |older| older.segment / SIEVE_SEGMENTS);
        let sieves = shelf.sieves.range(oldest_group..).map(|(group, sieve)| (*group, Arc::clone(sieve)));
        self.show(Shelf { segments, sieves: sieves.collect() });
        // With the file go those of its keys that never left memory, or were brought back.
        let last = outlived
            .iter()
            .filter_map(|older| older.file.as_ref())
            .map(|file| file.span().closed.last_sequence);
        self.state.answers.forget_before(last.max().map_or(0, |last| last + 1));
        for older in outlived {
            if let Err(error) = self.older.files.remove(older.segment) {
                tracing::warn!(segment = older.segment, %error, "an outlived key file cannot be removed");
            }
        }
    }

    /// Puts a sieve before the filters of each group that is complete, one a round: it reads that group's files whole.
    fn build_sieves(&self) {
        let shelf = self.older.shelf.load_full();
        let closed = self.journal.closed_segments();
        let of = |older: &OlderSegment| older.segment / SIEVE_SEGMENTS;
        let wanted = shelf.segments.chunk_by(|a, b| of(a) == of(b)).find(|group| {
            let number = of(&group[0]);
            let is_complete = (number + 1) * SIEVE_SEGMENTS - 1 <= closed
                && group.last().is_some_and(|last| last.segment == (number + 1) * SIEVE_SEGMENTS - 1);
            let follow = group.windows(2).all(|pair| pair[0].segment + 1 == pair[1].segment);
            is_complete
                && follow
                && group.iter().all(|o| o.file.is_some())
                && !shelf.sieves.contains_key(&number)
        });
        let Some(group) = wanted else { return };
        let files = || group.iter().filter_map(|older| older.file.as_ref());
        let mut sieve = Sieve::new(files().map(KeyFile::entries).sum());
        for file in files() {
            // A file that fails is found and mended by a look-up; without a sieve nothing is wrong, only slower.
            if file.for_each(&mut |entry| sieve.insert(filter_hash(entry.key))).is_err() {
                return;
            }
        }
        let number = of(&group[0]);
        let _work = self.older.work.lock();
        let shelf = self.older.shelf.load_full();
        let mut sieves = shelf.sieves.clone();
        sieves.insert(number, Arc::new(sieve));
        self.show(Shelf { segments: shelf.segments.clone(), sieves });
    }

    /// Looks a claimed key up on a blocking thread.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] where what might have it cannot be read.
    pub(super) async fn look_up_older(self: &Arc<Self>, key: KeyHash) -> Result<Option<Remembered>, Fault> {
        let (engine, begun) = (self.clone(), Instant::now());
        let found = tokio::task::spawn_blocking(move || engine.find_older(key));
        let found = found.await.map_err(|_| Fault::Internal)?;
        let look_up = match &found {
            Ok(Some(_)) => LookUp::Found,
            Ok(None) => LookUp::Absent,
            Err(_) => LookUp::Failed,
        };
        let took_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.metrics.looked_up(look_up, took_ns);
        if let Ok(Some(found)) = &found {
            let what = if found.what == What::Answered { What::Authorisation } else { found.what };
            self.older.returned.lock()[0].push(OnFile { key, what, position: found.position });
        }
        found.map_err(|error| {
            tracing::error!(error, "what stands under an old key cannot be told");
            Fault::Unavailable(super::ANSWERS_UNREADABLE)
        })
    }
}

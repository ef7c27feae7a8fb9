//! Answers that have left memory: found through the key files of closed segments, read on blocking threads.
//!
//! One thread of low priority makes a key file of each segment that closes, lets keys of some age leave memory, and
//! removes files past the retention. What must always hold: a key is in memory, or on the shelf behind a filter that
//! stands in [`Answers`](crate::authorise::answers::Answers), or was forgotten at its time; and what cannot be told is
//! an error, never "not seen before". A look-up believes no file: it reads the record that the file names, and the
//! record must have the key.
//!
//! A file that fails is made again from its segment. Where the segment can be read and the file cannot be written (a
//! full disk), its keys are answered from memory, or from the segment where they are too many; where the segment cannot
//! be read, nothing can be said of a key that its filter does not exclude.
//!
//! That an answer was handed over is known in memory only (see [`What::Answered`]); here it is kept beside the file as
//! long as the process lives.

mod shelf;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{Engine, background::Background, recover::time_of};
use crate::{
    authorise::{
        answers::{KeyHash, NO_ACCOUNT, OnFile, Remembered, What},
        keys,
    },
    journal::{
        Directory, Filters, Journal, KeyEntry, KeyFile, KeyFiles, KeySpan, ReadError, Sieve, filter_hash,
        record::Record,
    },
    limits::ANSWER_RETENTION_MS,
    observe::{KeyFileMade, LookUp},
    types::{
        auth::Subject,
        fault::Fault,
        time::{HOUR_MS, Timestamp},
    },
};
pub(super) use shelf::Shelf;
use shelf::{OlderSegment, Place, SegmentKeys};

/// Between two rounds of the thread.
const EVERY: Duration = Duration::from_secs(1);
/// Keys that are read from a file before they leave memory together.
const DEMOTED_AT_ONCE: usize = 64 * 1024;
/// Before a file that could not be made is tried again, and any other where the disk takes none.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// Before a segment that could not be read is read again for a look-up.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// Records looked at for the time of a place in the log, some of which may be unreadable.
const TIMES_TRIED: usize = 8;
/// Above this share of the capacity keys leave memory before their time, in eighths, until below the other.
const PRESSED_EIGHTHS: usize = 7;
const RELIEVED_EIGHTHS: usize = 6;

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
    /// Segments of which no file could be made, when that was and why.
    pub(super) failed: Mutex<BTreeMap<u64, (Instant, NoKeyFile)>>,
    stopping: AtomicBool,
    thread: Background,
}

/// Why there is no key file of a segment, in words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NoKeyFile {
    /// The segment cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The segment was read and the file cannot be written.
    #[error("the file cannot be written: {0}")]
    Unwritable(String),
}

/// What the files hold, for the figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct OnDisk {
    pub(super) keys: u64,
    pub(super) files: u64,
    pub(super) filter_bytes: u64,
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
                let older = OlderSegment::in_file(file);
                older.set_demoted(stays_out);
                Arc::new(older)
            })
            .collect();
        segments.reverse();
        Ok(Older {
            files,
            shelf: ArcSwap::from_pointee(Shelf::of(segments)),
            work: Mutex::default(),
            returned: Mutex::default(),
            first_wanted: 1.into(),
            failed: Mutex::default(),
            stopping: false.into(),
            thread: Background::default(),
        })
    }

    /// Whether the keys of the record at `position` are found in a file and need no place in memory.
    pub(super) fn covers(&self, position: u64) -> bool {
        let shelf = self.shelf.load();
        let after = shelf
            .segments
            .partition_point(|older| older.span().is_some_and(|span| span.closed.first_sequence <= position));
        let older = after.checked_sub(1).map(|place| &shelf.segments[place]);
        older.is_some_and(|older| older.is_demoted() && older.has_position(position))
    }

    /// A snapshot brought back the keys that were in memory when it was taken, whatever their age: all of them are to
    /// leave it again by their segments.
    pub(super) fn recall(&self) {
        self.shelf.load().segments.iter().for_each(|older| older.set_demoted(false));
    }

    /// The filters of what is there now.
    pub(super) fn filters(&self) -> Filters {
        self.shelf.load().filters()
    }

    pub(super) fn on_disk(&self) -> OnDisk {
        let shelf = self.shelf.load();
        let mut on_disk = OnDisk { filter_bytes: shelf.filters().bytes() as u64, ..OnDisk::default() };
        for file in shelf.segments.iter().filter(|older| older.is_demoted()).filter_map(|o| o.file()) {
            on_disk.keys += file.entries();
            on_disk.files += 1;
        }
        on_disk
    }

    /// Ends the thread, giving up what it is at; see [`Background::stop`].
    pub(super) fn stop(&self, journal: &Journal, until: Instant) {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.stop(journal, until);
    }

    /// Why the segment could not be read, where that was lately.
    fn lately_unreadable(&self, segment: u64, now: Instant) -> Option<String> {
        match self.failed.lock().get(&segment) {
            Some((at, NoKeyFile::Unreadable(why))) if now.saturating_duration_since(*at) < READ_AGAIN => {
                Some(why.clone())
            }
            _ => None,
        }
    }

    /// Whether the file of a segment is not to be tried yet.
    fn rests(&self, segment: u64) -> bool {
        self.failed.lock().iter().any(|(failed, (at, why))| {
            (*failed == segment || matches!(why, NoKeyFile::Unwritable(_))) && at.elapsed() < TRY_AGAIN
        })
    }
}

fn warn_of(segment: u64, what: &str) {
    tracing::warn!(segment, what, "a key file is not used and is made again from its segment");
}

/// Starts the thread; it ends with the engine or with [`Older::stop`].
pub(super) fn start(engine: &Arc<Engine>) -> io::Result<()> {
    engine.older.thread.start(engine, "saker-keys", EVERY, |engine| {
        engine.tend_older_answers();
        EVERY
    })
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
    /// In words, where what may have it cannot be read.
    pub(super) fn find_older(&self, key: KeyHash, now: Instant) -> Result<Option<Remembered>, String> {
        let shelf = self.older.shelf.load_full();
        for older in shelf.segments.iter().rev() {
            if !older.may_have(key.bits()) {
                continue;
            }
            let found = match self.find_on_shelf(older, key) {
                Ok(found) => found,
                // Removed between two looks because it is past its retention.
                Err(_) if !self.is_on_shelf(older.segment) => continue,
                Err(error) => self.find_in_segment(older, key, &error, now)?,
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

    fn find_on_shelf(&self, older: &OlderSegment, key: KeyHash) -> Result<Option<Remembered>, String> {
        let entry = older.find(key.bits())?;
        entry.map(|entry| self.confirm(key, &entry)).transpose()
    }

    fn is_on_shelf(&self, segment: u64) -> bool {
        self.older.shelf.load().get(segment).is_some()
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

    /// What was `seen` on the shelf failed: its segment is read, its file made again, and the key looked up in what was
    /// read. One look-up does so for all that wait; where the segment cannot be read, they fail with it, and those of
    /// the next moment.
    fn find_in_segment(
        &self,
        seen: &Arc<OlderSegment>,
        key: KeyHash,
        error: &str,
        now: Instant,
    ) -> Result<Option<Remembered>, String> {
        let (segment, begun) = (seen.segment, Instant::now());
        let lately_unreadable = || match self.older.lately_unreadable(segment, now) {
            Some(why) => Err(why),
            None => Ok(()),
        };
        lately_unreadable()?;
        let _work = self.older.work.lock();
        lately_unreadable()?;
        let mended = self.older.shelf.load().get(segment).filter(|there| !Arc::ptr_eq(there, seen)).cloned();
        if let Some(Ok(found)) = mended.map(|mended| self.find_on_shelf(&mended, key)) {
            return Ok(found);
        }
        warn_of(segment, error);
        let keys = self.keys_of_segment(segment).map_err(|error| {
            let why = error.to_string();
            let failed = (now + begun.elapsed(), NoKeyFile::Unreadable(why.clone()));
            self.older.failed.lock().insert(segment, failed);
            why
        })?;
        let of_key = keys.entries.iter().filter(|entry| entry.key == key.bits());
        let found = of_key.max_by_key(|entry| entry.position).copied();
        // The answer is known also where the file cannot be written.
        if let Err(error) = self.shelve(keys, KeyFileMade::Again) {
            tracing::warn!(segment, %error, "no key file can be made again: its keys are answered without");
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

    /// Puts keys into a file and that on the shelf, in the place of what was there. Where the file cannot be written and
    /// the keys may have left memory's index, they are put on the shelf without. The caller holds `work`.
    fn shelve(&self, mut keys: SegmentKeys, made: KeyFileMade) -> Result<(), NoKeyFile> {
        let segment = keys.span.segment;
        match self.older.files.write(keys.span, &mut keys.entries) {
            Ok(file) => {
                self.older.failed.lock().remove(&segment);
                self.metrics.key_file_made(made);
                self.put_on_shelf(OlderSegment::in_file(file));
                Ok(())
            }
            Err(error) => {
                if made == KeyFileMade::Again || self.is_on_shelf(segment) {
                    let answers = &self.state.answers;
                    let taken = answers.len() + self.older.shelf.load().keys_in_memory_but_of(segment);
                    let room = answers.capacity().saturating_sub(taken);
                    self.put_on_shelf(OlderSegment::without_file(keys, room));
                }
                let why = NoKeyFile::Unwritable(error.to_string());
                self.older.failed.lock().insert(segment, (Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    fn put_on_shelf(&self, new: OlderSegment) {
        self.show(self.older.shelf.load().with(new));
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
            if older.shelf.load().has_file_of(segment) || older.rests(segment) {
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
                    %error,
                    "no key file can be made of a segment; its keys stay where they are"
                );
            }
        }
    }

    fn make_key_file(&self, segment: u64, made: KeyFileMade) -> Result<(), NoKeyFile> {
        let _work = self.older.work.lock();
        let kept = self.older.shelf.load().get(segment).and_then(|older| match &older.place {
            Place::Memory(keys) => Some(keys.clone()),
            Place::File(_) | Place::Segment => None,
        });
        let keys = match kept {
            Some(keys) => keys,
            None => self.keys_of_segment(segment).map_err(|error| {
                let why = NoKeyFile::Unreadable(error.to_string());
                self.older.failed.lock().insert(segment, (Instant::now(), why.clone()));
                why
            })?,
        };
        self.shelve(keys, made)
    }

    /// Makes the files that are missing of segments whose keys may not be in memory: those that begin before
    /// `first_replayed`. Where even the segment cannot be read, nothing can be said of any key that is not in memory,
    /// and look-ups try again.
    pub(super) fn make_key_files_before_serving(&self, first_replayed: u64) {
        let now = self.time.now();
        for segment in 1..=self.journal.closed_segments() {
            let begins_before =
                self.journal.closed_segment(segment).map(|closed| closed.first_sequence < first_replayed);
            if matches!(begins_before, Ok(false))
                || self.older.shelf.load().has_file_of(segment)
                || self.is_outlived(segment, now)
            {
                continue;
            }
            tracing::warn!(
                segment,
                "the key file is missing or damaged and is made again before the engine serves"
            );
            match self.make_key_file(segment, KeyFileMade::Again) {
                Ok(()) => {}
                Err(error @ NoKeyFile::Unwritable(_)) => tracing::warn!(
                    segment,
                    %error,
                    "no key file can be made again: its keys are answered from memory or from the segment until it can"
                ),
                Err(error @ NoKeyFile::Unreadable(_)) => {
                    tracing::error!(
                        segment,
                        %error,
                        "neither the key file nor the segment can be read: ids that are not in memory are answered \
                         UNAVAILABLE until one of them can, or is past its retention"
                    );
                    let _work = self.older.work.lock();
                    self.put_on_shelf(OlderSegment::unreadable(segment));
                }
            }
        }
    }

    /// Whether all records of a segment are past their retention. An hour more, because records of one moment may
    /// stand in another order than their times.
    fn is_outlived(&self, segment: u64, now: Timestamp) -> bool {
        let newest = self.time_at_end_of(segment);
        newest.is_some_and(|newest| now.since_ms(newest) > ANSWER_RETENTION_MS + HOUR_MS)
    }

    /// The time of the last record of a segment; where that cannot be read, of one that came a little later: the first
    /// that can be read of the segments behind it.
    fn time_at_end_of(&self, segment: u64) -> Option<Timestamp> {
        let time_at = |position: u64| -> Option<Timestamp> {
            let payload = self.journal.read(position).ok()??;
            Record::decode(&payload, position, &*self.names).ok().map(|record| time_of(&record))
        };
        let own = || {
            let closed = self.journal.closed_segment(segment).ok()?;
            (closed.first_sequence..=closed.last_sequence).rev().take(TIMES_TRIED).find_map(time_at)
        };
        let later = |later: u64| {
            let first = self.journal.first_position(later).ok()?;
            (first..).take(TIMES_TRIED).find_map(time_at)
        };
        own().or_else(|| (segment + 1..=self.journal.closed_segments() + 1).find_map(later))
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
                    tracing::warn!(segment = older.segment, %error, "a key file cannot be made again");
                }
                return;
            }
        }
        self.demote_returned();
    }

    fn demote(&self, older: &OlderSegment) -> Result<(), ReadError> {
        let Some(file) = older.file() else { return Ok(()) };
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
        older.set_demoted(true);
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
        let is_kept = |older: &Arc<OlderSegment>| match older.span() {
            Some(_) => !older.is_older_than(ANSWER_RETENTION_MS, now),
            None => !self.is_outlived(older.segment, now),
        };
        // From the oldest on, so that no older entry of a key outlives a newer one.
        let count = shelf.segments.iter().position(is_kept).unwrap_or(shelf.segments.len());
        if count == 0 {
            return;
        }
        let (kept, outlived) = shelf.without_first(count);
        self.show(kept);
        // With the file go those of its keys that never left memory, or were brought back.
        let last = outlived.iter().filter_map(|older| older.span()).map(|span| span.closed.last_sequence);
        self.state.answers.forget_before(last.max().map_or(0, |last| last + 1));
        for segment in outlived.iter().map(|older| older.segment) {
            match self.older.files.remove(segment) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(segment, %error, "an outlived key file cannot be removed");
                }
                _ => {}
            }
        }
    }

    /// Puts a sieve before the filters of each group that is complete, one a round: it reads that group's files whole.
    fn build_sieves(&self) {
        let shelf = self.older.shelf.load_full();
        let Some((group, files)) = shelf.group_without_sieve(self.journal.closed_segments()) else { return };
        let mut sieve = Sieve::new(files.iter().map(|file| file.entries()).sum());
        for file in files {
            // A file that fails is found and mended by a look-up; without a sieve nothing is wrong, only slower.
            if file.for_each(&mut |entry| sieve.insert(filter_hash(entry.key))).is_err() {
                return;
            }
        }
        let _work = self.older.work.lock();
        self.show(self.older.shelf.load().with_sieve(group, sieve));
    }

    /// Looks a claimed key up on a blocking thread.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] where what might have it cannot be read.
    pub(super) async fn look_up_older(self: &Arc<Self>, key: KeyHash) -> Result<Option<Remembered>, Fault> {
        let (engine, begun) = (self.clone(), Instant::now());
        let found = tokio::task::spawn_blocking(move || engine.find_older(key, begun));
        self.looked_up(key, begun, found.await.map_err(|_| Fault::Internal)?)
    }

    /// What a look-up that began at `begun` came to, counted.
    pub(super) fn looked_up(
        &self,
        key: KeyHash,
        begun: Instant,
        found: Result<Option<Remembered>, String>,
    ) -> Result<Option<Remembered>, Fault> {
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

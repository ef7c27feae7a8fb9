//! Prepares the next segment ahead of its use, on a thread of its own: takes its room, writes its zeros, syncs them.
//!
//! Preparing starts the moment the last prepared segment is taken, so a disk that fills up is noticed while nearly a
//! whole segment is left. That rest is the reserve for essential records. Preparing may be slower than a rush of
//! authorisations, so they are also refused while the present segment is nearly used up and the next one is not ready:
//! at least [`reserve_bytes`] of every segment are left when the disk turns out to be full. Preparing is tried again
//! until it succeeds, each time with a new file, since a file whose sync failed cannot be trusted.

use std::{
    any::Any,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::{
    LowDisk,
    segment::{SegmentHeader, prepared_name, segment_name},
    storage::{Storage, StorageFile},
};
use crate::limits::SEGMENT_RESERVE_BYTES_MAX;

/// Zeros are synced in steps of this, so that no sync of a group has to wait for a whole segment.
const SYNC_STEP_BYTES: u64 = 4 * 1024 * 1024;
/// Zeros are written in pieces of this. The page cache may keep what one call writes as one folio, and ext4 walks all
/// blocks of a folio at each write and sync inside it: behind pieces of 4 MiB a group cost a third more CPU. A piece also
/// stays in the processor's cache, so that filling a segment costs a quarter.
const PIECE_BYTES: u64 = 256 * 1024;

/// Called when preparing fails (with what was wanting) and when it succeeds again (`None`).
pub(super) type OnChange = Box<dyn Fn(Option<&LowDisk>) + Send>;

/// Called with true before each step that waits for the disk, and with false before the thread rests.
pub(super) type AtDisk = Box<dyn Fn(bool) + Send>;

/// What the thread that prepares needs besides the storage.
pub(super) struct Terms {
    pub(super) segment_bytes: u64,
    /// Between two attempts on a full disk.
    pub(super) retry: Duration,
    pub(super) on_change: OnChange,
    pub(super) at_disk: AtDisk,
    /// Set while the present segment is nearly used up and the next one is not ready.
    pub(super) unprepared: Arc<AtomicBool>,
}

/// The thread that prepares, as its owner sees it.
pub(super) struct Preparer {
    state: Arc<(Mutex<State>, Condvar)>,
    unprepared: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    /// The segment to prepare, or prepared.
    number: u64,
    ready: Option<Arc<dyn StorageFile>>,
    /// Whether the disk has said if it has room for a segment.
    is_room_known: bool,
    stop: bool,
}

impl Preparer {
    /// Starts with segment `number`. The thread holds `lock` for as long as it may write.
    pub(super) fn start(
        storage: Arc<dyn Storage>,
        lock: Arc<dyn Any + Send + Sync>,
        number: u64,
        terms: Terms,
    ) -> io::Result<Preparer> {
        let state = Arc::new((
            Mutex::new(State { number, ready: None, is_room_known: false, stop: false }),
            Condvar::new(),
        ));
        let shared = Arc::clone(&state);
        let unprepared = Arc::clone(&terms.unprepared);
        let thread = std::thread::Builder::new().name("saker-prepare".to_owned()).spawn(move || {
            run(&*storage, &terms, &shared);
            drop(lock);
        })?;
        Ok(Preparer { state, unprepared, thread: Some(thread) })
    }

    /// Waits until the disk has said whether it has room for the first segment that is prepared, at most so long.
    pub(super) fn wait_for_room(&self, patience: Duration) {
        let (state, changed) = &*self.state;
        changed.wait_while_for(&mut state.lock(), |state| !state.is_room_known, patience);
    }

    /// To be told whether the present segment is down to its reserve, after every group.
    pub(super) fn present_is_low(&self, low: bool) {
        if low || self.unprepared.load(Ordering::Relaxed) {
            // Decided under the lock, so that a segment that becomes ready meanwhile is not overlooked.
            let state = self.state.0.lock();
            self.unprepared.store(low && state.ready.is_none(), Ordering::SeqCst);
        }
    }

    /// The prepared segment, if it is ready within `patience`. The next one is begun at once.
    pub(super) fn take(&self, patience: Duration) -> Option<(u64, Arc<dyn StorageFile>)> {
        let (state, changed) = &*self.state;
        let mut state = state.lock();
        if state.ready.is_none() {
            changed.wait_for(&mut state, patience);
        }
        let file = state.ready.take()?;
        let number = state.number;
        state.number += 1;
        changed.notify_all();
        Some((number, file))
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        let (state, changed) = &*self.state;
        state.lock().stop = true;
        changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there has already been reported by the panic hook, and nothing depends on the thread any more.
            let _ = thread.join();
        }
    }
}

/// The last bytes of a segment, which authorisations leave to essential records while no next one is ready. What they
/// had been given slots for by then may still take some of it.
pub(super) fn reserve_bytes(capacity: u64) -> u64 {
    (capacity / 4).min(SEGMENT_RESERVE_BYTES_MAX)
}

/// Creates the file of a segment that is not in use yet, all zeros and durable.
pub(super) fn prepare(
    storage: &dyn Storage,
    number: u64,
    segment_bytes: u64,
    go_on: &dyn Fn() -> bool,
) -> io::Result<Arc<dyn StorageFile>> {
    let file = storage.create(&prepared_name(number))?;
    file.allocate(segment_bytes)?;
    zero_fill(&*file, 0, segment_bytes, go_on)?;
    Ok(file)
}

/// Writes zeros from `from` up to `to` and syncs them.
pub(super) fn zero_fill(
    file: &dyn StorageFile,
    from: u64,
    to: u64,
    go_on: &dyn Fn() -> bool,
) -> io::Result<()> {
    let zeros = vec![0; PIECE_BYTES.min(to.saturating_sub(from)) as usize];
    let mut at = from;
    let next = || if go_on() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::Interrupted)) };
    while at < to {
        let step_end = to.min(at + SYNC_STEP_BYTES);
        while at < step_end {
            next()?;
            let piece = PIECE_BYTES.min(step_end - at);
            file.write_at(at, &zeros[..piece as usize])?;
            at += piece;
        }
        next()?;
        file.sync()?;
    }
    Ok(())
}

/// Takes a prepared file into use: its header, its name, the directory.
pub(super) fn install(
    storage: &dyn Storage,
    file: &dyn StorageFile,
    header: &SegmentHeader,
) -> Result<(), (&'static str, io::Error)> {
    file.write_at(0, &header.encode()).map_err(|error| ("write the header of", error))?;
    file.sync().map_err(|error| ("sync", error))?;
    storage
        .rename(&prepared_name(header.segment), &segment_name(header.segment))
        .map_err(|error| ("rename", error))?;
    storage.sync_dir().map_err(|error| ("sync the directory of", error))
}

fn run(storage: &dyn Storage, terms: &Terms, shared: &(Mutex<State>, Condvar)) {
    let Terms { segment_bytes, retry, on_change, at_disk, unprepared } = terms;
    let (state, changed) = shared;
    let mut failing = false;
    loop {
        at_disk(false);
        let number = {
            let mut state = state.lock();
            while state.ready.is_some() && !state.stop {
                changed.wait(&mut state);
            }
            if state.stop {
                return;
            }
            state.number
        };
        let room_is_known = || {
            if !std::mem::replace(&mut state.lock().is_room_known, true) {
                changed.notify_all();
            }
        };
        // The first step comes once the room is taken.
        let next_step = || {
            room_is_known();
            at_disk(true);
            !state.lock().stop
        };
        at_disk(true);
        match prepare(storage, number, *segment_bytes, &next_step) {
            Ok(file) => {
                {
                    let mut state = state.lock();
                    state.ready = Some(file);
                    unprepared.store(false, Ordering::SeqCst);
                }
                changed.notify_all();
                if std::mem::take(&mut failing) {
                    on_change(None);
                }
            }
            Err(error) => {
                // What was written so far would only keep the disk full.
                let _ = storage.remove(&prepared_name(number));
                if !state.lock().stop && !std::mem::replace(&mut failing, true) {
                    on_change(Some(&LowDisk {
                        place: storage.place(),
                        needed_bytes: *segment_bytes,
                        free_bytes: storage.free_bytes(),
                        reason: error.to_string(),
                    }));
                }
                room_is_known();
                at_disk(false);
                let mut state = state.lock();
                if !state.stop {
                    changed.wait_for(&mut state, *retry);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::{super::simulated_disk::SimulatedDisk, *};

    #[test]
    fn no_zero_is_missing_or_lost_where_a_segment_ends_amid_a_piece() {
        let end = SYNC_STEP_BYTES + PIECE_BYTES + 7;
        for from in [0, 3, PIECE_BYTES - 1, SYNC_STEP_BYTES, end] {
            let disk = SimulatedDisk::new();
            let file = disk.create("segment").expect("an empty disk");
            let before = vec![1; from as usize];
            file.write_at(0, &before).expect("a disk without trouble");
            file.sync().expect("a disk without trouble");
            zero_fill(&*file, from, end, &|| true).expect("a disk without trouble");
            disk.sync_dir().expect("a disk without trouble");
            let found = disk.after_power_loss(&mut ChaCha8Rng::seed_from_u64(from)).files();
            let (written, zeros) = found["segment"].split_at(from as usize);
            assert_eq!(written, before);
            assert_eq!(zeros.len() as u64, end - from);
            assert!(zeros.iter().all(|byte| *byte == 0));
        }
    }
}

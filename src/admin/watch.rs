//! When a file that is watched is to be read: it is another than the one that was read, and nobody is writing it.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    engine::Engine,
    observe::{ConfiguredFile, Metrics},
};

/// Between two looks at the file.
const LOOK: Duration = Duration::from_millis(150);
/// Looks in a row that must find the same before a file counts as written: one that replaced another was whole when it
/// got its name, one that is written in place may be in the middle of it.
const LOOKS_REPLACED: u32 = 1;
const LOOKS_IN_PLACE: u32 = 4;
/// Looks in a row that must not find a file before it counts as gone: some programs take a file away and put another in its
/// place.
const LOOKS_GONE: u32 = 7;
/// Before a file that could not be read, or a version that could not be kept, are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Looks at a file until it is dropped or the engine is gone.
pub struct Watch(Arc<AtomicBool>);

impl Watch {
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn start(
        name: &str,
        engine: &Arc<Engine>,
        mut look: impl FnMut(&Engine) + Send + 'static,
    ) -> io::Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, engine) = (Arc::clone(&stop), Arc::downgrade(engine));
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let Some(engine) = engine.upgrade() else { return };
                look(&engine);
                drop(engine);
                thread::sleep(LOOK);
            }
        })?;
        Ok(Watch(stop))
    }
}

/// The thread is not waited for: the file system of the file may hang, and a stop must not.
impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What tells one state of a file from the next. The time of its last change of any kind, permissions included, is
/// among it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FileState {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    fn of(path: &Path) -> Option<FileState> {
        let found = fs::metadata(path).ok()?;
        Some(FileState {
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// A file and those beside it that belong to it, as rules have files of their lists. That one of those is not there is a
/// state too; a main file that is gone changes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct State {
    main: FileState,
    beside: Vec<Option<FileState>>,
}

impl State {
    pub(super) fn of(path: &Path, beside: &[PathBuf]) -> Option<State> {
        let beside = beside.iter().map(|file| FileState::of(file)).collect();
        Some(State { main: FileState::of(path)?, beside })
    }

    /// Whether a file that differs from what it was `before` is that file still, perhaps in the middle of being written.
    fn is_written_in_place(&self, before: &State) -> bool {
        let files = |state: &State| -> Vec<Option<FileState>> {
            std::iter::once(Some(state.main)).chain(state.beside.iter().copied()).collect()
        };
        let (now, before) = (files(self), files(before));
        let in_place = |(now, before): (&Option<FileState>, &Option<FileState>)| {
            let same = now.zip(*before).is_some_and(|(now, before)| now.inode == before.inode);
            now != before && (same || before.is_none())
        };
        now.len() != before.len() || now.iter().zip(&before).any(in_place)
    }
}

/// Which of the configured files of one kind are not there. What was read before goes on deciding, so that nobody would
/// notice until the next start, which is refused: each is told of once when it is gone, and once when it is back.
pub(super) struct Presence {
    kind: ConfiguredFile,
    /// Looks in a row that did not find them, of those that the last one did not find.
    unfound: HashMap<PathBuf, u32>,
}

impl Presence {
    pub(super) fn new(kind: ConfiguredFile) -> Presence {
        Presence { kind, unfound: HashMap::new() }
    }

    /// Looks for all files that are configured at this moment. One that is no longer among them is not missed.
    pub(super) fn look<'a>(&mut self, metrics: &Metrics, files: impl IntoIterator<Item = &'a Path>) {
        let (what, mut unfound) = (self.kind.name(), HashMap::new());
        for file in files {
            let before = self.unfound.get(file).copied().unwrap_or_default();
            let path = file.display();
            match fs::metadata(file) {
                Err(error) => {
                    let looks = before.saturating_add(1);
                    if looks == LOOKS_GONE && !unfound.contains_key(file) {
                        tracing::warn!(
                            what, %path, %error,
                            "a configured file is not there: what was read before goes on deciding, and the next start is \
                             refused unless it is there again by then"
                        );
                    }
                    unfound.insert(file.to_owned(), looks);
                }
                Ok(_) if before >= LOOKS_GONE => {
                    tracing::info!(what, %path, "a configured file is there again")
                }
                Ok(_) => {}
            }
        }
        self.unfound = unfound;
        metrics.files_missing(self.kind, self.unfound.values().filter(|looks| **looks >= LOOKS_GONE).count());
    }
}

/// What was seen of a file, look by look.
#[derive(Default)]
pub(super) struct Standing {
    /// The state in which it was read.
    read: Option<State>,
    /// It was not there since then.
    was_gone: bool,
    last: Option<State>,
    /// Looks in a row that found `last`.
    looks: u32,
    /// Not before this is a state tried again that failed for another cause than its text.
    retry_at: Option<Instant>,
}

impl Standing {
    /// Whether the file is to be read: it is another than the one that was, and nobody is writing it.
    pub(super) fn is_due(&mut self, now: Option<State>, time: Instant) -> bool {
        self.looks = if now == self.last { self.looks.saturating_add(1) } else { 0 };
        self.last.clone_from(&now);
        self.was_gone |= now.is_none();
        let Some(now) = now.filter(|now| Some(now) != self.read.as_ref()) else { return false };
        // One that did not take the place of another may just be being written.
        let in_place = self.was_gone || self.read.as_ref().is_none_or(|read| now.is_written_in_place(read));
        let looks = if in_place { LOOKS_IN_PLACE } else { LOOKS_REPLACED };
        self.looks >= looks && self.retry_at.is_none_or(|at| time >= at)
    }

    /// Looks at other files beside the main one from now on, in this state. False where the main file is no longer as it
    /// was when it was due.
    pub(super) fn widen(&mut self, now: Option<State>) -> bool {
        let main = |state: &Option<State>| state.as_ref().map(|state| state.main);
        let is_same = now.is_some() && main(&now) == main(&self.last);
        if is_same {
            self.last = now;
        }
        is_same
    }

    /// Whether a file that was due is still as it was then.
    pub(super) fn is_still(&self, now: &Option<State>) -> bool {
        *now == self.last
    }

    /// What was due was read, whatever came of it.
    pub(super) fn was_read(&mut self) {
        (self.read, self.was_gone, self.retry_at) = (self.last.clone(), false, None);
    }

    /// What was due could not be read, or not be kept: it is tried again.
    pub(super) fn failed(&mut self, now: Instant) {
        self.retry_at = Some(now + RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(inode: u64, bytes: u64) -> Option<State> {
        let main = FileState { inode, bytes, modified: (1, 0), changed: (1, 0) };
        Some(State { main, beside: Vec::new() })
    }

    #[test]
    fn a_file_is_read_once_it_stands_still_and_not_again_until_it_changes() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        standing.read = state(1, 10);
        assert!(!standing.is_due(state(1, 10), now), "it is the one that was read");
        // Written in place: not while it grows, nor in a pause of the writer.
        for bytes in [20, 30, 30, 30, 30] {
            assert!(!standing.is_due(state(1, bytes), now), "{bytes}");
        }
        assert!(standing.is_due(state(1, 30), now));
        standing.read = state(1, 30);
        assert!(!standing.is_due(state(1, 30), now));
        // Replaced: one look to see that it stays.
        assert!(!standing.is_due(state(2, 30), now));
        assert!(standing.is_due(state(2, 30), now));
        assert!(!standing.is_due(None, now), "a file that is gone changes nothing");
    }

    #[test]
    fn a_file_that_is_written_where_one_was_taken_away_is_not_read_half() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        standing.read = state(1, 10);
        assert!(!standing.is_due(None, now));
        for bytes in [5, 5, 9, 9, 9, 9] {
            assert!(!standing.is_due(state(2, bytes), now), "{bytes}");
        }
        assert!(standing.is_due(state(2, 9), now));
        standing.was_read();
        // And the next one takes its place.
        assert!(!standing.is_due(state(3, 20), now));
        assert!(standing.is_due(state(3, 20), now));
    }

    #[test]
    fn a_file_that_is_gone_is_missed_once_it_stays_away_and_as_long_as_it_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["a.csv", "b.csv"].map(|name| directory.path().join(name));
        files.iter().for_each(|file| fs::write(file, "value\n").unwrap());
        let metrics = Metrics::new(1);
        let mut presence = Presence::new(ConfiguredFile::List);
        let mut missing = |files: &[PathBuf], looks: u32| {
            (0..looks).for_each(|_| presence.look(&metrics, files.iter().map(PathBuf::as_path)));
            let shown = metrics.render();
            let line = "saker_configured_files_missing{file=\"list\"} ";
            shown.lines().find_map(|shown| shown.strip_prefix(line)?.parse::<u32>().ok()).unwrap()
        };
        assert_eq!(missing(&files, 2 * LOOKS_GONE), 0);
        files.iter().for_each(|file| fs::remove_file(file).unwrap());
        assert_eq!(missing(&files, LOOKS_GONE - 1), 0, "another one may be about to take its place");
        assert_eq!(missing(&files, 1), 2);
        assert_eq!(missing(&files, LOOKS_GONE), 2);
        fs::write(&files[0], "value\n").unwrap();
        assert_eq!(missing(&files, 1), 1);
        // Rules that do not name it any more.
        assert_eq!(missing(&files[..1], 1), 0);
    }

    #[test]
    fn a_list_s_file_is_looked_at_like_the_rules_that_name_it() {
        let file = |inode, bytes| FileState { inode, bytes, modified: (1, 0), changed: (1, 0) };
        let with = |list| Some(State { main: file(1, 10), beside: vec![list] });
        let (mut standing, now) = (Standing::default(), Instant::now());
        standing.read = with(Some(file(2, 5)));
        assert!(!standing.is_due(with(Some(file(2, 5))), now));
        // Written in place, the list waits like the rules do, although those stand still.
        for _ in 0..4 {
            assert!(!standing.is_due(with(Some(file(2, 6))), now));
        }
        assert!(standing.is_due(with(Some(file(2, 6))), now));
        // Replaced, or gone, which is told when it is read.
        for list in [Some(file(3, 6)), None] {
            assert!(!standing.is_due(with(list), now));
            assert!(standing.is_due(with(list), now), "{list:?}");
        }
    }

    #[test]
    fn what_failed_for_another_cause_than_its_text_is_tried_again() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        standing.read = state(1, 10);
        standing.is_due(state(2, 10), now);
        assert!(standing.is_due(state(2, 10), now));
        standing.retry_at = Some(now + RETRY);
        assert!(!standing.is_due(state(2, 10), now));
        assert!(standing.is_due(state(2, 10), now + RETRY));
    }
}

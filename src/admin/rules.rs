//! The rules file of a running engine: read again when it changes on disk, on SIGHUP and where a call asks for it. With
//! it go the files that its lists name.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    engine::{Engine, ReloadError, Reloaded, Source},
    rules,
};

/// Between two looks at the file.
const LOOK: Duration = Duration::from_millis(150);
/// Looks in a row that must find the same before a file counts as written: one that replaced another was whole when it
/// got its name, one that is written in place may be in the middle of it.
const LOOKS_REPLACED: u32 = 1;
const LOOKS_IN_PLACE: u32 = 4;
/// Before a file that could not be read, or rules that could not be kept, are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The rules that a configuration names: the file at `path` with what stands in the files of its lists, or those that
/// ship.
///
/// # Errors
/// Where a file cannot be read.
pub fn source(path: Option<&Path>) -> io::Result<Source> {
    match path {
        None => Ok(Source { name: "the shipped rules".to_owned(), text: rules::SHIPPED.to_owned() }),
        Some(path) => {
            let text = with_lists(path, fs::read_to_string(path)?)?;
            Ok(Source { name: path.display().to_string(), text })
        }
    }
}

/// The text of the rules file at `path` with what stands in the files that its lists name, beside it.
fn with_lists(path: &Path, mut text: String) -> io::Result<String> {
    for name in rules::list_files(&text) {
        // What cannot be a name is told by the check of the rules.
        if name.contains(char::is_control) || rules::has_list_file(&text, &name) {
            continue;
        }
        let file = beside(path, &name);
        let content = fs::read_to_string(&file)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
        rules::append_list_file(&mut text, &name, &content)
            .map_err(|bad| io::Error::other(format!("{}, {bad}", file.display())))?;
    }
    Ok(text)
}

fn lists_beside(path: &Path, text: &str) -> Vec<PathBuf> {
    rules::list_files(text).iter().map(|name| beside(path, name)).collect()
}

fn beside(path: &Path, name: &str) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(name)
}

/// Puts the configured rules in force as they stand now.
///
/// # Errors
/// Where they cannot be read or are not taken; the rules before go on deciding.
pub fn reload_configured(engine: &Engine) -> Result<Reloaded, ReloadError> {
    let path = engine.rules_path();
    engine.reload_rules_read(|| {
        source(path).map_err(|error| {
            let path = path.unwrap_or(Path::new("the shipped rules"));
            ReloadError::Unreadable { path: path.to_owned(), error }
        })
    })
}

/// Watches the configured file until it is dropped or the engine is gone.
pub struct Watch(Arc<AtomicBool>);

impl Watch {
    /// `None` where the shipped rules decide, which never change. What the engine was started with is taken for the
    /// file's present text.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(engine: &Arc<Engine>) -> io::Result<Option<Watch>> {
        let Some(path) = engine.rules_path().map(Path::to_owned) else { return Ok(None) };
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, text) = (Arc::clone(&stop), rules::without_modes(&engine.rules().source));
        let lists = lists_beside(&path, &text);
        let engine = Arc::downgrade(engine);
        thread::Builder::new()
            .name("rules".to_owned())
            .spawn(move || Watcher::new(text, lists).watch(&path, &engine, &stopped))?;
        Ok(Some(Watch(stop)))
    }
}

/// The thread is not waited for: the file system of the rules may hang, and a stop must not.
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

/// The rules file and those of its lists. One of a list that is not there is a state too; a rules file that is gone
/// changes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
struct State {
    rules: FileState,
    lists: Vec<Option<FileState>>,
}

impl State {
    fn of(path: &Path, lists: &[PathBuf]) -> Option<State> {
        let lists = lists.iter().map(|list| FileState::of(list)).collect();
        Some(State { rules: FileState::of(path)?, lists })
    }

    /// Whether a file that differs from what it was `before` is that file still, perhaps in the middle of being written.
    fn is_written_in_place(&self, before: &State) -> bool {
        let files = |state: &State| -> Vec<Option<FileState>> {
            std::iter::once(Some(state.rules)).chain(state.lists.iter().copied()).collect()
        };
        let (now, before) = (files(self), files(before));
        let in_place = |(now, before): (&Option<FileState>, &Option<FileState>)| {
            let same = now.zip(*before).is_some_and(|(now, before)| now.inode == before.inode);
            now != before && (same || before.is_none())
        };
        now.len() != before.len() || now.iter().zip(&before).any(in_place)
    }
}

struct Watcher {
    /// The text that was last read from the file. The same text again is no change, whatever was put in force by a call
    /// in the meantime.
    text: String,
    /// The files that its lists name.
    lists: Vec<PathBuf>,
    /// The state in which it was read.
    read: Option<State>,
    last: Option<State>,
    /// Looks in a row that found `last`.
    looks: u32,
    /// Not before this is a state tried again that failed for another cause than its text.
    retry_at: Option<Instant>,
}

impl Watcher {
    fn new(text: String, lists: Vec<PathBuf>) -> Watcher {
        Watcher { text, lists, read: None, last: None, looks: 0, retry_at: None }
    }

    fn watch(mut self, path: &Path, engine: &Weak<Engine>, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            if self.is_due(State::of(path, &self.lists), Instant::now()) {
                let Some(engine) = engine.upgrade() else { return };
                self.take(path, &engine);
            }
            thread::sleep(LOOK);
        }
    }

    /// Whether the file is to be read: it is another than the one that was, and nobody is writing it.
    fn is_due(&mut self, now: Option<State>, time: Instant) -> bool {
        self.looks = if now == self.last { self.looks.saturating_add(1) } else { 0 };
        self.last.clone_from(&now);
        let Some(now) = now.filter(|now| Some(now) != self.read.as_ref()) else { return false };
        let in_place = self.read.as_ref().is_none_or(|read| now.is_written_in_place(read));
        let looks = if in_place { LOOKS_IN_PLACE } else { LOOKS_REPLACED };
        self.looks >= looks && self.retry_at.is_none_or(|at| time >= at)
    }

    /// Reads the file and has it put in force. What comes of it is counted and logged there.
    fn take(&mut self, path: &Path, engine: &Engine) {
        let (state, text) = (self.last.clone(), source(Some(path)));
        // A write that began after the last look is waited for like any other.
        if State::of(path, &self.lists) != state {
            return;
        }
        if text.as_ref().is_ok_and(|source| source.text == self.text) {
            self.read = state;
            return;
        }
        match reload_configured(engine) {
            Err(
                ReloadError::Unreadable { .. }
                | ReloadError::Keep(_)
                | ReloadError::Journal(_)
                | ReloadError::Windows(_),
            ) => {
                self.retry_at = Some(Instant::now() + RETRY);
            }
            Ok(_) | Err(ReloadError::Rules(_)) => {
                (self.read, self.retry_at) = (state, None);
                self.text = text.map_or_else(|_| String::new(), |source| source.text);
                self.lists = lists_beside(path, &self.text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(inode: u64, bytes: u64) -> Option<State> {
        let rules = FileState { inode, bytes, modified: (1, 0), changed: (1, 0) };
        Some(State { rules, lists: Vec::new() })
    }

    #[test]
    fn a_file_is_read_once_it_stands_still_and_not_again_until_it_changes() {
        let (mut watcher, now) = (Watcher::new(String::new(), Vec::new()), Instant::now());
        watcher.read = state(1, 10);
        assert!(!watcher.is_due(state(1, 10), now), "it is the one that was read");
        // Written in place: not while it grows, nor in a pause of the writer.
        for bytes in [20, 30, 30, 30, 30] {
            assert!(!watcher.is_due(state(1, bytes), now), "{bytes}");
        }
        assert!(watcher.is_due(state(1, 30), now));
        watcher.read = state(1, 30);
        assert!(!watcher.is_due(state(1, 30), now));
        // Replaced: one look to see that it stays.
        assert!(!watcher.is_due(state(2, 30), now));
        assert!(watcher.is_due(state(2, 30), now));
        assert!(!watcher.is_due(None, now), "a file that is gone changes nothing");
    }

    #[test]
    fn a_list_s_file_is_looked_at_like_the_rules_that_name_it() {
        let file = |inode, bytes| FileState { inode, bytes, modified: (1, 0), changed: (1, 0) };
        let with = |list| Some(State { rules: file(1, 10), lists: vec![list] });
        let (mut watcher, now) = (Watcher::new(String::new(), Vec::new()), Instant::now());
        watcher.read = with(Some(file(2, 5)));
        assert!(!watcher.is_due(with(Some(file(2, 5))), now));
        // Written in place, the list waits like the rules do, although those stand still.
        for _ in 0..4 {
            assert!(!watcher.is_due(with(Some(file(2, 6))), now));
        }
        assert!(watcher.is_due(with(Some(file(2, 6))), now));
        // Replaced, or gone, which is told when it is read.
        for list in [Some(file(3, 6)), None] {
            assert!(!watcher.is_due(with(list), now));
            assert!(watcher.is_due(with(list), now), "{list:?}");
        }
    }

    #[test]
    fn a_list_s_file_is_found_beside_the_rules_and_named_where_it_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let rules = directory.path().join("rules.toml");
        fs::write(&rules, "version = 1\n[lists.a]\nfile = 'lists/a.csv'\n[lists.b]\nfile = 'lists/a.csv'\n")
            .unwrap();
        let missing = source(Some(&rules)).unwrap_err();
        assert!(missing.kind() == io::ErrorKind::NotFound && missing.to_string().contains("lists/a.csv"));
        let list = directory.path().join("lists/a.csv");
        fs::create_dir(directory.path().join("lists")).unwrap();
        fs::write(&list, "\u{feff}value\r\nM-1\r\n").unwrap();
        let text = source(Some(&rules)).unwrap().text;
        assert!(text.ends_with("file = 'lists/a.csv'\n#@ list lists/a.csv\n#| value\n#| M-1\n"), "{text}");
        assert_eq!(rules::compile("rules.toml", &text).unwrap().lists.len(), 2);
        fs::write(&list, "value\nM-\u{1b}1\n").unwrap();
        let wrong = source(Some(&rules)).unwrap_err().to_string();
        assert!(
            wrong.ends_with("a.csv, line 2, column 3: a control character cannot stand in a list"),
            "{wrong}"
        );
    }

    #[test]
    fn what_failed_for_another_cause_than_its_text_is_tried_again() {
        let (mut watcher, now) = (Watcher::new(String::new(), Vec::new()), Instant::now());
        watcher.read = state(1, 10);
        watcher.is_due(state(2, 10), now);
        assert!(watcher.is_due(state(2, 10), now));
        watcher.retry_at = Some(now + RETRY);
        assert!(!watcher.is_due(state(2, 10), now));
        assert!(watcher.is_due(state(2, 10), now + RETRY));
    }
}

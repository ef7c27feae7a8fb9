//! The rules file of a running engine: read again when it changes on disk, on SIGHUP and where a call asks for it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    engine::{Engine, ReloadError, Reloaded, Source},
    observe::RulesRead,
    rules,
};

/// Between two looks at the file. A change counts once two looks in a row found the same, so that a file is not read
/// while it is written; twice this and the time to compile stay well below a second.
const LOOK: Duration = Duration::from_millis(200);

/// The rules that a configuration names: the file at `path`, or those that ship.
///
/// # Errors
/// Where the file cannot be read.
pub fn source(path: Option<&Path>) -> io::Result<Source> {
    match path {
        None => Ok(Source { name: "the shipped rules".to_owned(), text: rules::SHIPPED.to_owned() }),
        Some(path) => Ok(Source { name: path.display().to_string(), text: fs::read_to_string(path)? }),
    }
}

/// Why the configured rules were not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfiguredError {
    #[error("{path} cannot be read: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Refused(#[from] ReloadError),
}

/// Puts the configured rules in force as they stand now.
///
/// # Errors
/// Where they cannot be read or are not taken; the rules before go on deciding.
pub fn reload_configured(engine: &Engine) -> Result<Reloaded, ConfiguredError> {
    let path = engine.rules_path();
    let source = source(path).map_err(|error| {
        let path = path.unwrap_or(Path::new("")).to_owned();
        engine.metrics().rules_read(RulesRead::Failed);
        tracing::error!(path = %path.display(), %error, "the rules file cannot be read: the rules before decide");
        ConfiguredError::Unreadable { path, error }
    })?;
    Ok(engine.reload_rules(&source)?)
}

/// Watches the configured file; ends when dropped, or when the engine is gone.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    /// `None` where the shipped rules decide, which never change.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(engine: &Arc<Engine>) -> io::Result<Option<Watch>> {
        let Some(path) = engine.rules_path().map(Path::to_owned) else { return Ok(None) };
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, engine) = (Arc::clone(&stop), Arc::downgrade(engine));
        let thread =
            thread::Builder::new().name("rules".to_owned()).spawn(move || watch(&path, &engine, &stopped))?;
        Ok(Some(Watch { stop, thread: Some(thread) }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // One that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

/// What tells one state of a file from the next; a file that was replaced by another has another inode.
type State = Option<(u64, u64, i64, i64)>;

fn state(path: &Path) -> State {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

fn watch(path: &Path, engine: &Weak<Engine>, stop: &AtomicBool) {
    // Whatever changed between the start's reading and this look is found by its text: equal rules change nothing.
    let (mut taken, mut last): (State, State) = (None, None);
    while !stop.load(Ordering::Acquire) {
        let now = state(path);
        let is_steady = now == last;
        last = now;
        if is_steady && now != taken && now.is_some() {
            let Some(engine) = engine.upgrade() else { return };
            taken = now;
            // Counted and logged there; the next change tries again.
            let _ = reload_configured(&engine);
        }
        thread::park_timeout(LOOK);
    }
}

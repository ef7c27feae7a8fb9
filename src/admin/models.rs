//! The model file of a running engine: read again when it changes on disk, on SIGHUP and where a call asks for it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::watch::{Standing, State, Watch};
use crate::{
    engine::{Engine, ReloadError, Reloaded, Source, versions::version_of},
    model,
};

/// What stands where a model file could, for no model.
pub const NONE: &str = "none";

/// The model that a configuration names: the file at `path`, or the one that ships; `None` where none is to score.
///
/// # Errors
/// Where the file cannot be read.
pub fn source(path: Option<&Path>) -> io::Result<Option<Source>> {
    match path {
        None => Ok(Some(Source { name: "the shipped model".to_owned(), text: model::SHIPPED.to_owned() })),
        Some(path) if path == Path::new(NONE) => Ok(None),
        Some(path) => Ok(Some(Source { name: path.display().to_string(), text: fs::read_to_string(path)? })),
    }
}

/// Lets the configured model score as it stands now.
///
/// # Errors
/// Where it cannot be read or is not taken; the model before goes on scoring.
pub fn reload_configured(engine: &Engine) -> Result<Reloaded, ReloadError> {
    let path = engine.model_path();
    engine.reload_model_read(|| {
        source(path).map_err(|error| {
            let path = path.unwrap_or(Path::new("the shipped model"));
            ReloadError::Unreadable { path: path.to_owned(), error }
        })
    })
}

/// Watches the configured file; `None` where there is none. What the engine was started with is taken for the file's present
/// text.
///
/// # Errors
/// Where no thread can be started.
pub fn watch(engine: &Arc<Engine>) -> io::Result<Option<Watch>> {
    let path = engine.model_path().filter(|path| *path != Path::new(NONE)).map(Path::to_owned);
    let Some(path) = path else { return Ok(None) };
    let read = engine.model_version().to_string();
    let mut watcher = Watcher { path, read, standing: Standing::default() };
    Watch::start("model", engine, move |engine| watcher.look(engine)).map(Some)
}

struct Watcher {
    path: PathBuf,
    /// The version of the text that was last read from the file. The same text again is no change, whatever was put in
    /// force by a call in the meantime.
    read: String,
    standing: Standing,
}

impl Watcher {
    fn look(&mut self, engine: &Engine) {
        if self.standing.is_due(State::of(&self.path, &[]), Instant::now()) {
            self.take(engine);
        }
    }

    /// Reads the file and has it put in force. What comes of it is counted and logged there.
    fn take(&mut self, engine: &Engine) {
        let text = fs::read_to_string(&self.path);
        // A write that began after the last look is waited for like any other.
        if !self.standing.is_still(&State::of(&self.path, &[])) {
            return;
        }
        let version = text.map(|text| version_of(&text)).unwrap_or_default();
        if version == self.read {
            self.standing.was_read();
            return;
        }
        match reload_configured(engine) {
            Err(error) if !error.is_of_the_text() => self.standing.failed(Instant::now()),
            Ok(_) | Err(_) => {
                self.standing.was_read();
                self.read = version;
            }
        }
    }
}

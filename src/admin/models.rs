//! The model files of a running engine: read again when they change on disk, on SIGHUP and where a call asks for it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::watch::{Standing, State, Watch};
use crate::{
    engine::{Engine, ModelRole, ReloadError, Reloaded, Source, versions::version_of},
    model,
};

/// What stands where a model file could, for no model.
pub const NONE: &str = "none";

/// The model that a configuration names: the file at `path`, or the one that ships; `None` where none is to score. Without a
/// path there is no challenger.
///
/// # Errors
/// Where the file cannot be read.
pub fn source(role: ModelRole, path: Option<&Path>) -> io::Result<Option<Source>> {
    match (role, path) {
        (ModelRole::Champion, None) => {
            Ok(Some(Source { name: "the shipped model".to_owned(), text: model::SHIPPED.to_owned() }))
        }
        (ModelRole::Challenger, None) => Ok(None),
        (_, Some(path)) if path == Path::new(NONE) => Ok(None),
        (_, Some(path)) => {
            Ok(Some(Source { name: path.display().to_string(), text: fs::read_to_string(path)? }))
        }
    }
}

/// Lets the configured model score as it stands now.
///
/// # Errors
/// Where it cannot be read or is not taken; the model before goes on scoring.
pub fn reload_configured(engine: &Engine, role: ModelRole) -> Result<Reloaded, ReloadError> {
    let path = engine.model_path(role);
    engine.reload_model_read(role, || {
        source(role, path).map_err(|error| {
            let path = path.unwrap_or(Path::new("the shipped model"));
            ReloadError::Unreadable { path: path.to_owned(), error }
        })
    })
}

/// Has the model files read again that are configured. What comes of it is counted and logged.
pub fn reload_files(engine: &Engine) {
    for role in [ModelRole::Champion, ModelRole::Challenger] {
        if file(engine, role).is_some() {
            // Each is whole in itself: neither waits for the other to be right.
            let _ = reload_configured(engine, role);
        }
    }
}

fn file(engine: &Engine, role: ModelRole) -> Option<&Path> {
    engine.model_path(role).filter(|path| *path != Path::new(NONE))
}

/// Watches the configured file; `None` where there is none. What the engine was started with is taken for the file's present
/// text.
///
/// # Errors
/// Where no thread can be started.
pub fn watch(engine: &Arc<Engine>, role: ModelRole) -> io::Result<Option<Watch>> {
    let Some(path) = file(engine, role).map(Path::to_owned) else { return Ok(None) };
    let read = engine.model_version(role).to_string();
    let mut watcher = Watcher { role, path, read, standing: Standing::default() };
    Watch::start("model", engine, move |engine| watcher.look(engine)).map(Some)
}

struct Watcher {
    role: ModelRole,
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
        match reload_configured(engine, self.role) {
            Err(error) if !error.is_refusal() => self.standing.failed(Instant::now()),
            Ok(_) | Err(_) => {
                self.standing.was_read();
                self.read = version;
            }
        }
    }
}

//! The model files of a running engine: read again when they change on disk, on SIGHUP and where a call asks for it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::watch::{Presence, Standing, State, Watch};
use crate::{
    engine::{Engine, ModelRole, NO_MODEL, ReloadError, Reloaded, Source, versions::version_of},
    model::{self, Model},
    observe::ConfiguredFile,
};

/// The model that a configuration names: the file at `path`, or the one that ships; `None` where none is to score. Without a
/// path there is no challenger.
///
/// # Errors
/// [`ReloadError::Unreadable`] where the file cannot be read, [`ReloadError::Model`] where it is no text.
pub fn source(role: ModelRole, path: Option<&Path>) -> Result<Option<Source>, ReloadError> {
    let name = name_of(role, path);
    match (role, path) {
        (ModelRole::Champion, None) => Ok(Some(Source { name, text: model::SHIPPED.to_owned() })),
        (ModelRole::Challenger, None) => Ok(None),
        (_, Some(path)) if path == Path::new(NO_MODEL) => Ok(None),
        (_, Some(path)) => {
            let bytes =
                fs::read(path).map_err(|error| ReloadError::Unreadable { path: path.to_owned(), error })?;
            match Model::text_of(bytes) {
                Ok(text) => Ok(Some(Source { name, text })),
                Err(error) => Err(ReloadError::Model { name, error }),
            }
        }
    }
}

/// What a configured model is called in messages.
fn name_of(role: ModelRole, path: Option<&Path>) -> String {
    match (role, path) {
        (_, Some(path)) => path.display().to_string(),
        (ModelRole::Champion, None) => "the shipped model".to_owned(),
        (ModelRole::Challenger, None) => NO_MODEL.to_owned(),
    }
}

/// Lets the configured model score as it stands now.
///
/// # Errors
/// Where it cannot be read or is not taken; the model before goes on scoring.
pub fn reload_configured(engine: &Engine, role: ModelRole) -> Result<Reloaded, ReloadError> {
    let path = engine.model_path(role);
    engine.reload_model_read(role, &name_of(role, path), || source(role, path))
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
    engine.model_path(role).filter(|path| *path != Path::new(NO_MODEL))
}

/// Watches the configured file; `None` where there is none. What the engine was started with is taken for the file's present
/// text.
///
/// # Errors
/// Where no thread can be started.
pub fn watch(engine: &Arc<Engine>, role: ModelRole) -> io::Result<Option<Watch>> {
    let Some(path) = file(engine, role).map(Path::to_owned) else { return Ok(None) };
    let mut watcher = Watcher::of(role, path, engine);
    Watch::start("model", engine, move |engine| watcher.look(engine, Instant::now())).map(Some)
}

struct Watcher {
    role: ModelRole,
    path: PathBuf,
    /// The version of what was last read from the file, which need not be text; `None` where it could not be read. The
    /// same again is no change, whatever was put in force by a call in the meantime.
    read: Option<String>,
    standing: Standing,
    presence: Presence,
}

impl Watcher {
    fn of(role: ModelRole, path: PathBuf, engine: &Engine) -> Watcher {
        let read = Some(engine.model_version(role).to_string());
        let presence = Presence::new(match role {
            ModelRole::Champion => ConfiguredFile::Model,
            ModelRole::Challenger => ConfiguredFile::Challenger,
        });
        Watcher { role, path, read, standing: Standing::default(), presence }
    }

    fn look(&mut self, engine: &Engine, now: Instant) {
        self.presence.look(engine.metrics(), [&*self.path]);
        if self.standing.is_due(State::of(&self.path, &[]), now) {
            self.take(engine, now);
        }
    }

    /// Reads the file and has it put in force. What comes of it is counted and logged there.
    fn take(&mut self, engine: &Engine, now: Instant) {
        let version = fs::read(&self.path).ok().map(version_of);
        // A write that began after the last look is waited for like any other.
        if !self.standing.is_still(&State::of(&self.path, &[])) {
            return;
        }
        if version.is_some() && version == self.read {
            self.standing.was_read();
            return;
        }
        match reload_configured(engine, self.role) {
            Err(error) if !error.is_refusal() => self.standing.failed(now),
            Ok(_) | Err(_) => {
                self.standing.was_read();
                self.read = version;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::Config,
        engine::{recover::Settings, time::TimeSource},
        observe::Metrics,
        rules,
    };

    #[test]
    fn a_model_s_file_that_is_no_text_is_refused_once_and_taken_once_it_is_mended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.json");
        fs::write(&path, model::SHIPPED).unwrap();
        let mut config = Config::default();
        config.decide.model = Some(path.clone());
        config.journal.segment_bytes = 1024 * 1024;
        let settings = Settings {
            data_dir: directory.path().join("data"),
            rules: Source { name: "rules".to_owned(), text: rules::SHIPPED.to_owned() },
            model: source(ModelRole::Champion, Some(&path)).unwrap(),
            challenger: None,
            config,
            time: TimeSource::Transactions,
            metrics: Metrics::new(1),
        };
        let (engine, _) = Engine::open(settings).unwrap();
        let shipped = engine.model_version(ModelRole::Champion);
        let mut watcher = Watcher::of(ModelRole::Champion, path.clone(), &engine);
        let mut now = Instant::now();
        // As long as a file that may be read later is tried again several times.
        let mut look_for_long = || {
            for _ in 0..20 {
                watcher.look(&engine, now);
                now += Duration::from_secs(1);
            }
            let text = engine.metrics().render();
            let shown = |series: &str| {
                let mut values = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
                values.next().unwrap_or_else(|| panic!("no {series} in\n{text}")).to_owned()
            };
            assert_eq!(engine.model_version(ModelRole::Champion), shipped);
            let read = |result: &str| {
                shown(&format!("saker_model_reloads_total{{model=\"model\",result=\"{result}\"}}"))
            };
            let missing = shown("saker_configured_files_missing{file=\"model\"}");
            (read("refused"), read("failed"), read("unchanged"), missing)
        };
        let told = |refused: &str, unchanged: &str, missing: &str| {
            (refused.to_owned(), "0".to_owned(), unchanged.to_owned(), missing.to_owned())
        };
        assert_eq!(look_for_long(), told("0", "0", "0"));
        fs::write(&path, b"{\"format\": \"caf\xe9\"}").unwrap();
        assert_eq!(look_for_long(), told("1", "0", "0"));
        // Another one that is none either is another mistake.
        fs::write(&path, b"\xff\xfe{\0").unwrap();
        assert_eq!(look_for_long(), told("2", "0", "0"));
        fs::write(&path, model::SHIPPED).unwrap();
        assert_eq!(look_for_long(), told("2", "1", "0"));
        fs::remove_file(&path).unwrap();
        assert_eq!(look_for_long(), told("2", "1", "1"));
        engine.close().unwrap();
    }

    #[test]
    fn a_start_on_a_model_s_file_that_is_no_text_says_where_it_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.json");
        fs::write(&path, b"{\"format\": \"caf\xe9\"}").unwrap();
        let refused = source(ModelRole::Challenger, Some(&path)).unwrap_err();
        let said = format!("{}: this is no model file: byte 15, 0xe9, is not UTF-8", path.display());
        assert!(refused.is_refusal() && refused.to_string().starts_with(&said), "{refused}");
    }
}

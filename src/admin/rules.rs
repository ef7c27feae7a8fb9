//! The rules file of a running engine: read again when it changes on disk, on SIGHUP and where a call asks for it. With
//! it go the files that its lists name.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::watch::{Standing, State, Watch};
use crate::{
    engine::{Engine, ReloadError, Reloaded, Source},
    rules,
};

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

/// Watches the configured file; `None` where the shipped rules decide, which never change. What the engine was started with
/// is taken for the file's present text.
///
/// # Errors
/// Where no thread can be started.
pub fn watch(engine: &Arc<Engine>) -> io::Result<Option<Watch>> {
    let Some(path) = engine.rules_path().map(Path::to_owned) else { return Ok(None) };
    let text = rules::without_modes(&engine.rules().source);
    let lists = lists_beside(&path, &text);
    let mut watcher = Watcher { text, lists, standing: Standing::default() };
    Watch::start("rules", engine, move |engine| watcher.look(&path, engine)).map(Some)
}

struct Watcher {
    /// The text that was last read from the file. The same text again is no change, whatever was put in force by a call
    /// in the meantime.
    text: String,
    /// The files that its lists name.
    lists: Vec<PathBuf>,
    standing: Standing,
}

impl Watcher {
    fn look(&mut self, path: &Path, engine: &Engine) {
        if self.standing.is_due(State::of(path, &self.lists), Instant::now()) {
            self.take(path, engine);
        }
    }

    /// Reads the file and has it put in force. What comes of it is counted and logged there.
    fn take(&mut self, path: &Path, engine: &Engine) {
        let text = source(Some(path));
        // A write that began after the last look is waited for like any other.
        if !self.standing.is_still(&State::of(path, &self.lists)) {
            return;
        }
        if text.as_ref().is_ok_and(|source| source.text == self.text) {
            self.standing.was_read();
            return;
        }
        match reload_configured(engine) {
            Err(error) if !error.is_refusal() => self.standing.failed(Instant::now()),
            Ok(_) | Err(_) => {
                self.standing.was_read();
                self.text = text.map_or_else(|_| String::new(), |source| source.text);
                self.lists = lists_beside(path, &self.text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}

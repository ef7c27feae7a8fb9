//! The versions that ever decided: rules, model and configuration are kept in the data directory under their hash,
//! introduced in the journal once and named by number afterwards, so that every decision can be made again.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;

use crate::{
    journal::record::{Introduced, VersionNames, Versioned},
    types::reasons::Label,
};

/// The first hexadecimal digits of the BLAKE3 hash of a text: its version.
pub fn version_of(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..12].to_owned()
}

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("versions")
}

fn file_of(data_dir: &Path, what: Versioned, version: &str) -> PathBuf {
    let name = match what {
        Versioned::Rules => format!("rules-{version}.toml"),
        Versioned::Model => format!("model-{version}.json"),
        Versioned::Config => format!("config-{version}.toml"),
    };
    folder(data_dir).join(name)
}

/// Keeps a text under its version, on disk before this returns.
///
/// # Errors
/// Those of the file system, with the file that could not be kept.
pub fn keep(data_dir: &Path, what: Versioned, version: &str, text: &str) -> io::Result<()> {
    let path = file_of(data_dir, what, version);
    let kept = fs::read_to_string(&path).is_ok_and(|kept| kept == text);
    let written = if kept { Ok(()) } else { write_whole(data_dir, &path, text) };
    // Also for what is there: the start that wrote it may have been broken off before its name was durable.
    written
        .and_then(|()| File::open(folder(data_dir))?.sync_all())
        .and_then(|()| File::open(data_dir)?.sync_all())
        .map_err(|error| io::Error::new(error.kind(), format!("cannot keep {}: {error}", path.display())))
}

fn write_whole(data_dir: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder(data_dir))?;
    let unfinished = path.with_extension("new");
    let mut file = File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// Reads a kept text back and checks it against its version.
///
/// # Errors
/// In words with the file's name, where it is missing or is no longer what it was.
pub fn read(data_dir: &Path, what: Versioned, version: &str) -> Result<String, String> {
    let path = file_of(data_dir, what, version);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    match version_of(&text) == version {
        true => Ok(text),
        false => Err(format!("{}: the content is not that of version {version}", path.display())),
    }
}

/// What the journal has introduced, by number.
#[derive(Default)]
pub struct Names(RwLock<Vec<(Versioned, u32, Arc<str>)>>);

impl Names {
    pub fn introduce(&self, introduced: &Introduced) {
        let Introduced { what, number, version, .. } = introduced;
        let mut names = self.0.write();
        // One that comes back is again the newest, and takes no more room.
        let known =
            names.iter().rposition(|(known, n, name)| known == what && n == number && **name == **version);
        let name = match known {
            Some(place) => names.remove(place),
            None => (*what, *number, version.as_str().into()),
        };
        names.push(name);
    }

    /// Everything introduced so far, in order.
    pub(super) fn all(&self) -> Vec<(Versioned, u32, Arc<str>)> {
        self.0.read().clone()
    }

    /// These introductions, which [`Names::all`] gave.
    pub(super) fn of(all: Vec<(Versioned, u32, Arc<str>)>) -> Names {
        Names(RwLock::new(all))
    }

    /// The number and version introduced last.
    pub fn newest(&self, what: Versioned) -> Option<(u32, Arc<str>)> {
        let names = self.0.read();
        let found = names.iter().rev().find(|(known, ..)| *known == what);
        found.map(|(_, number, version)| (*number, version.clone()))
    }

    /// The highest number given so far; 0 where none was.
    pub fn newest_number(&self, what: Versioned) -> u32 {
        let names = self.0.read();
        names.iter().filter(|(known, ..)| *known == what).map(|(_, number, _)| *number).max().unwrap_or(0)
    }

    /// The number of a version, where it was introduced before.
    pub fn number(&self, what: Versioned, version: &str) -> Option<u32> {
        let names = self.0.read();
        names
            .iter()
            .find(|(known, _, name)| *known == what && **name == *version)
            .map(|(_, number, _)| *number)
    }

    pub fn version(&self, what: Versioned, number: u32) -> Option<Arc<str>> {
        let names = self.0.read();
        names.iter().find(|(known, n, _)| *known == what && *n == number).map(|(.., version)| version.clone())
    }
}

impl VersionNames for Names {
    fn name(&self, what: Versioned, number: u32) -> Label {
        self.version(what, number).map_or(Label::Static(""), |version| Label::new(&version))
    }
}

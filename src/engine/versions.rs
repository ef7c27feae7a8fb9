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
    types::{
        reasons::Label,
        time::{DAY_MS, Timestamp},
    },
};

/// The first hexadecimal digits of the BLAKE3 hash of a text: its version.
pub fn version_of(text: impl AsRef<[u8]>) -> String {
    blake3::hash(text.as_ref()).to_hex()[..12].to_owned()
}

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("versions")
}

fn file_of(data_dir: &Path, what: Versioned, version: &str) -> PathBuf {
    let name = match what {
        Versioned::Rules => format!("rules-{version}.toml"),
        Versioned::Model | Versioned::Challenger => format!("model-{version}.json"),
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
pub struct Names(RwLock<Known>);

#[derive(Default)]
struct Known {
    /// Each once, in the order in which they were introduced last.
    versions: Vec<(Versioned, u32, Arc<str>)>,
    /// When which rules were introduced, first and again: those of the last day, and the ones before them.
    rules: Vec<(Timestamp, u32)>,
}

/// For how long the order in which rules decided is known.
const RULES_KNOWN_MS: i64 = DAY_MS;
/// Introductions of rules within that time that are told apart; where there are more, the first and the newest.
const RULES_KNOWN_MAX: usize = 256;

impl Names {
    pub fn introduce(&self, introduced: &Introduced) {
        let Introduced { what, number, version, time } = introduced;
        let mut known = self.0.write();
        if *what == Versioned::Rules {
            known.rules_came(*time, *number);
        }
        let names = &mut known.versions;
        // One that comes back is again the newest, and takes no more room.
        let place =
            names.iter().rposition(|(known, n, name)| known == what && n == number && **name == **version);
        let name = match place {
            Some(place) => names.remove(place),
            None => (*what, *number, version.as_str().into()),
        };
        names.push(name);
    }

    /// Everything introduced so far, in order.
    pub(super) fn all(&self) -> Vec<(Versioned, u32, Arc<str>)> {
        self.0.read().versions.clone()
    }

    /// When which rules began to decide, in order: those of the last day, and the ones before them.
    pub(super) fn rules_since_a_day(&self) -> Vec<(Timestamp, u32)> {
        self.0.read().rules.clone()
    }

    /// A start goes on with what was introduced last. Where it is not known since when that decides, it is known from now
    /// on: a snapshot may be older than that knowledge.
    pub fn go_on(&self, what: Versioned, now: Timestamp, number: u32) {
        let mut known = self.0.write();
        if what == Versioned::Rules && known.rules.is_empty() {
            known.rules_came(now, number);
        }
    }

    /// These introductions, which [`Names::all`] and [`Names::rules_since_a_day`] gave.
    pub(super) fn of(versions: Vec<(Versioned, u32, Arc<str>)>, rules: Vec<(Timestamp, u32)>) -> Names {
        Names(RwLock::new(Known { versions, rules }))
    }

    /// The number and version introduced last.
    pub fn newest(&self, what: Versioned) -> Option<(u32, Arc<str>)> {
        let names = &self.0.read().versions;
        let found = names.iter().rev().find(|(known, ..)| *known == what);
        found.map(|(_, number, version)| (*number, version.clone()))
    }

    /// The highest number given so far; 0 where none was.
    pub fn newest_number(&self, what: Versioned) -> u32 {
        let names = &self.0.read().versions;
        names.iter().filter(|(known, ..)| *known == what).map(|(_, number, _)| *number).max().unwrap_or(0)
    }

    /// The number of a version, where it was introduced before.
    pub fn number(&self, what: Versioned, version: &str) -> Option<u32> {
        let names = &self.0.read().versions;
        names
            .iter()
            .find(|(known, _, name)| *known == what && **name == *version)
            .map(|(_, number, _)| *number)
    }

    pub fn version(&self, what: Versioned, number: u32) -> Option<Arc<str>> {
        let names = &self.0.read().versions;
        names.iter().find(|(known, n, _)| *known == what && *n == number).map(|(.., version)| version.clone())
    }
}

impl Known {
    fn rules_came(&mut self, time: Timestamp, number: u32) {
        // A start reads introductions again that its snapshot knew.
        if self.rules.contains(&(time, number)) {
            return;
        }
        self.rules.push((time, number));
        let is_past = |(at, _): &(Timestamp, u32)| time.since_ms(*at) >= RULES_KNOWN_MS;
        while self.rules.get(1).is_some_and(is_past) {
            self.rules.remove(0);
        }
        if self.rules.len() > RULES_KNOWN_MAX {
            self.rules.remove(1);
        }
    }
}

impl VersionNames for Names {
    fn name(&self, what: Versioned, number: u32) -> Label {
        self.version(what, number).map_or(Label::Static(""), |version| Label::new(&version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::time::HOUR_MS;

    fn introduced(hours: i64, number: u32) -> Introduced {
        let time = Timestamp(hours * HOUR_MS);
        Introduced { time, what: Versioned::Rules, number, version: format!("v{number}") }
    }

    #[test]
    fn what_decided_a_day_ago_is_known_whatever_came_since_and_no_storm_of_reloads_grows_it() {
        let names = Names::default();
        let in_order = |names: &Names| {
            let hours = |(time, number): &(Timestamp, u32)| (time.0 / HOUR_MS, *number);
            names.rules_since_a_day().iter().map(hours).collect::<Vec<_>>()
        };
        for (hours, number) in [(0, 1), (5, 2), (30, 3), (40, 1), (50, 3)] {
            names.introduce(&introduced(hours, number));
            names.introduce(&introduced(hours, number));
        }
        assert_eq!(in_order(&names), [(5, 2), (30, 3), (40, 1), (50, 3)]);
        assert_eq!(names.newest(Versioned::Rules), Some((3, "v3".into())));
        assert_eq!(names.all().len(), 3, "each once");
        for n in 0..10_000 {
            let time = Timestamp(51 * HOUR_MS + n);
            names.introduce(&Introduced { time, ..introduced(0, 4 + (n % 2) as u32) });
        }
        let known = names.rules_since_a_day();
        assert_eq!((known.len(), known[0]), (RULES_KNOWN_MAX, (Timestamp(5 * HOUR_MS), 2)));
    }
}

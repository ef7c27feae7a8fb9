//! Whether the process before closed what it had opened.
//!
//! A file stands in the data directory for as long as a process has it open, and goes once the journal is closed. Where it
//! is found at a start, the process before stopped itself after a failed write or sync, was killed, or went down with the
//! machine. Nothing is decided by that, and the journal tells by itself what it holds; people are told, because whoever
//! starts a process again at once leaves nothing else to be seen of how the one before ended.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::types::time::Timestamp;

const NAME: &str = "unclosed";

/// The file of this process. A start that comes to nothing takes it away again.
pub(super) struct Unclosed {
    path: PathBuf,
    /// What this process wrote there.
    text: String,
    /// Whether it stays where this is dropped.
    stays: bool,
}

impl Unclosed {
    /// Puts the file into a directory whose lock is held, and says what the process before left there. One that cannot be
    /// written keeps nobody from starting.
    pub(super) fn begin(data_dir: &Path) -> (Unclosed, Option<String>) {
        let path = data_dir.join(NAME);
        let left = match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim_end().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // It is there, whatever it says.
            Err(error) => Some(error.to_string()),
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let text = format!("process {} since {}\n", process::id(), Timestamp(since));
        if let Err(error) = fs::write(&path, &text) {
            let path = path.display();
            tracing::warn!(%path, %error, "the next start will not know whether this process closed its journal");
        }
        (Unclosed { path, text, stays: left.is_some() }, left)
    }

    /// The start has come to something: from now on only [`Unclosed::closed`] takes the file away.
    pub(super) fn stays(mut self) -> Unclosed {
        self.stays = true;
        self
    }

    /// The journal is closed.
    pub(super) fn closed(&self) {
        // The directory is free by now, and may be another process's.
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
            && let Err(error) = fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the next start will say that this process did not close its journal");
        }
    }
}

impl Drop for Unclosed {
    fn drop(&mut self) {
        if !self.stays {
            self.closed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_closing_is_told_at_the_next_start_and_not_again() {
        let directory = tempfile::tempdir().unwrap();
        let begin = || Unclosed::begin(directory.path());
        let (first, left) = begin();
        assert_eq!(left, None);
        first.stays().closed();
        let (second, left) = begin();
        assert_eq!(left, None, "the one before closed it");
        drop(second);
        let (third, left) = begin();
        assert_eq!(left, None, "the one before did not come to serve");
        // As a process does that is killed.
        drop(third.stays());
        let (fourth, left) = begin();
        assert!(left.is_some_and(|text| text.starts_with(&format!("process {} since 20", process::id()))));
        // A start that was refused after it leaves that to be told.
        drop(fourth);
        let (fifth, left) = begin();
        assert!(left.is_some());
        fifth.stays().closed();
        assert_eq!(begin().1, None);
    }

    #[test]
    fn the_file_of_the_next_process_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (mine, _) = Unclosed::begin(directory.path());
        let mine = mine.stays();
        fs::write(&mine.path, "process 1 since 2099-01-01T00:00:00Z\n").unwrap();
        mine.closed();
        assert!(mine.path.exists());
    }
}

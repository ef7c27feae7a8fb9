//! Checks a journal from its first to its last record without changing it, whether a process is writing to it or not.
//!
//! In use, the log is checked up to its last whole group; the mark is read first, so the log can only be ahead of it.

use std::path::Path;

use super::{
    Record,
    error::{Fault, FaultKind, LogError},
    mark::MARK_NAME,
    recovery::{io_at, read_mark},
    segment::{segment_name, segment_numbers},
    storage::{FileStorage, Storage},
    walk::{LogSummary, Start, WalkTail, walk},
};

/// How often a last segment that looks damaged is read again before that is believed.
const REREADS: u32 = 5;

/// A log that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// What it holds.
    pub summary: LogSummary,
    /// The sequence in the durable mark; 0 where nothing had been durable.
    pub mark_position: u64,
    /// What stands behind the last whole group.
    pub tail: Option<Tail>,
}

/// An unfinished group at the end: one being written just now, or one that the next start will cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Name of the segment.
    pub file: String,
    /// Offset of its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Checks the journal in the directory `dir`, giving every record to `on_record` in order.
///
/// # Errors
/// The first [`Fault`] with its place, an operation that the system refused, or what `on_record` refused. A
/// directory without a journal is a fault.
pub fn verify(
    dir: &Path,
    on_record: &mut dyn FnMut(Record<'_>) -> Result<(), String>,
) -> Result<VerifyReport, LogError> {
    verify_storage(&FileStorage::read_only(dir), on_record)
}

/// As [`verify`], for any storage.
pub(super) fn verify_storage(
    storage: &dyn Storage,
    on_record: &mut dyn FnMut(Record<'_>) -> Result<(), String>,
) -> Result<VerifyReport, LogError> {
    let list = || storage.list().map_err(io_at("list", "the directory"));
    let (mark, _, absent) = read_mark(storage, &segment_numbers(&list()?)?)?;
    if absent {
        let kind = FaultKind::MarkUnreadable;
        return Err(Fault { file: MARK_NAME.to_owned(), offset: 0, sequence: 0, kind }.into());
    }
    // Listed again: a segment may have been begun, and the mark moved to it, since the first look.
    let numbers = segment_numbers(&list()?)?;
    let walk = walk(storage, &numbers, &mark, Start::of(&mark, None), REREADS, on_record)?;
    let tail = match walk.tail {
        WalkTail::Nothing => None,
        WalkTail::Torn(torn) => Some(Tail {
            file: segment_name(walk.segment),
            offset: walk.cursor.offset as u64,
            bytes: torn.bytes as u64,
        }),
        WalkTail::Stub { segment, bytes } => Some(Tail { file: segment_name(segment), offset: 0, bytes }),
    };
    Ok(VerifyReport { summary: walk.summary, mark_position: mark.sequence, tail })
}

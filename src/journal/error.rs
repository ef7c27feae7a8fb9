//! What can be wrong with a journal, each with its place: the file, the byte, the sequence.
//!
//! Nothing here is a decline and nothing is repaired silently: a [`Fault`] refuses the start until a person has
//! looked, a [`Failure`] stops the running journal for ever.

use std::io;

/// Damage that no crash of ours can explain. The journal is not opened and nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}, byte {offset}, sequence {sequence}: {kind}")]
pub struct Fault {
    /// Name of the file inside the journal's directory.
    pub file: String,
    /// Offset of the first byte concerned.
    pub offset: u64,
    /// Sequence expected at that place; 0 where the file tells none.
    pub sequence: u64,
    /// What is wrong there.
    pub kind: FaultKind,
}

/// What is wrong at the place of a [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// The file does not begin as a segment of this journal, or bears a name that no segment has.
    #[error("not a file of this journal")]
    ForeignFile,
    /// Written by another version of the format.
    #[error("format version {found} is not known here")]
    Version { found: u32 },
    /// The first block of a segment is damaged.
    #[error("the segment's header is damaged")]
    SegmentHeader,
    /// The header names another segment, first sequence, group or chain than must stand here.
    #[error("the header is that of another place: segment {segment}, first sequence {first_sequence}")]
    SegmentMisplaced { segment: u64, first_sequence: u64 },
    /// A segment between two others, or the first one, is absent.
    #[error("the segment is missing although {next} exists")]
    SegmentMissing { next: String },
    /// A damaged frame before intact ones of a later group: what lies between was acknowledged.
    #[error(
        "damaged, and followed by an intact frame of group {later_group}, sequence {later_sequence}, \
         at byte {later_offset}: not a torn end"
    )]
    Damaged { later_offset: u64, later_group: u64, later_sequence: u64 },
    /// A damaged or unfinished group before the next segment.
    #[error("damaged, although a later segment exists: not a torn end")]
    DamagedBeforeSegment,
    /// An intact frame with another sequence or group than must follow.
    #[error("found sequence {found_sequence} of group {found_group}: a gap or a misplaced write")]
    Gap { found_sequence: u64, found_group: u64 },
    /// The seal does not fit its group, or not the seal before.
    #[error("the hash chain is broken at the seal of group {group}")]
    ChainBroken { group: u64 },
    /// A record that was written and read before cannot be read any more.
    #[error("the frame is damaged")]
    Unreadable,
    /// The log ends before a sequence that is known to have been durable.
    #[error("the log ends with sequence {log_sequence}, but sequence {mark_sequence} was durable")]
    EndsBeforeMark { log_sequence: u64, mark_sequence: u64 },
    /// The chain at the durable mark is not the one that the mark recorded.
    #[error("the chain at sequence {mark_sequence} is not the one that the durable mark recorded")]
    MarkDiffers { mark_sequence: u64 },
    /// Both copies of the durable mark are unreadable, or the file is missing beside a log.
    #[error("the durable mark is missing or unreadable")]
    MarkUnreadable,
    /// The first bytes of a snapshot are damaged or no snapshot's.
    #[error("the snapshot's header is damaged")]
    SnapshotHeader,
    /// A block does not have the hash it says.
    #[error("block {number} of the snapshot is damaged")]
    SnapshotBlock { number: u64 },
    /// The file ends in the middle.
    #[error("the snapshot ends before its end")]
    SnapshotCut,
    /// The last block does not fit what is before it, or something follows it.
    #[error("the end of the snapshot does not fit what is before it")]
    SnapshotEnd,
    /// A block is whole and its content is not what this program writes.
    #[error("an item of the snapshot cannot be read: {what}")]
    SnapshotItem { what: String },
    /// The log has no group that ends where a snapshot says that it stood.
    #[error("the log does not go on from where the snapshot was taken: {what}")]
    AnchorDiffers { what: String },
    /// The log ends before a position that was durable before a whole snapshot got its name.
    #[error("the log ends with sequence {log_sequence}, but a snapshot shows that {reach} was durable")]
    EndsBeforeSnapshot { log_sequence: u64, reach: u64 },
}

impl FaultKind {
    /// Whether a file read while it was written to can look like this.
    pub(super) fn may_be_half_read(&self) -> bool {
        matches!(self, FaultKind::Damaged { .. } | FaultKind::Gap { .. } | FaultKind::ChainBroken { .. })
    }
}

/// Why a log could not be read from end to end.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Damage, with its place.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The operating system refused an operation.
    #[error("{operation} {file}: {source}")]
    Io { operation: &'static str, file: String, source: io::Error },
    /// The reader of the records would not have this one.
    #[error("record {position}: {reason}")]
    Refused { position: u64, reason: String },
}

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another journal of this one) holds the directory.
    #[error("{place} is in use by another process")]
    InUse { place: String },
    /// An option is outside its bounds.
    #[error("journal option {0}")]
    Option(&'static str),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> OpenError {
        OpenError::Log(LogError::Fault(fault))
    }
}

/// Why [`super::Journal::read`] could not give a record that must exist.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused an operation.
    #[error("{operation} {file}: {source}")]
    Io { operation: &'static str, file: String, source: io::Error },
    /// The frame is no longer what was written.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a running journal stopped. It never starts again in this process: after a failed sync nobody knows what
/// the disk holds, so the failed operation must not be tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} {file} after sequence {durable}: {reason}")]
pub struct Failure {
    /// What was tried: "write", "sync", "rename" and so on.
    pub operation: &'static str,
    /// The file it was tried on.
    pub file: String,
    /// The last sequence that is durable.
    pub durable: u64,
    /// What the operating system said.
    pub reason: String,
}

/// Why no slot was given. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// Too many records wait for the disk.
    #[error("too many records wait for the disk")]
    Full,
    /// The next segment cannot be prepared; what is left is kept for [`super::Class::Essential`].
    #[error("the disk has no room for the next segment of the journal")]
    DiskLow,
    /// The present segment is nearly used up and the next one is still being prepared; what is left is kept for
    /// [`super::Class::Essential`].
    #[error("the next segment of the journal is still being prepared")]
    Unprepared,
    /// The disk has not answered for too long.
    #[error("the disk does not answer")]
    Stalled,
    /// The journal has failed or was closed.
    #[error("the journal has stopped")]
    Stopped,
}

/// The journal stopped before the awaited position was durable: whether that record survives is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal stopped before the record was known to be durable")]
pub struct Stopped;

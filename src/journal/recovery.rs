//! Brings a journal's directory to a state from which writing can go on, or refuses and changes nothing.
//!
//! Everything is read and checked before the first byte is changed. What is changed then, in an order that a crash at
//! any point leaves to be done again: a torn end is copied to a file of its own, zeroed, and only after that is
//! durable may anything be written in its place; then what lies beyond the mark is written again and synced, because it
//! may have been read from the page cache alone, and the durable mark moves up to what was found.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    Record,
    error::{Fault, FaultKind, LogError},
    index::Index,
    mark::{self, MARK_NAME, Mark, MarkFile, MarkFound},
    prepare::{install, prepare, zero_fill},
    scan::Cursor,
    segment::{
        JournalId, PREPARED_SUFFIX, SEGMENT_HEADER_BYTES, SegmentHeader, prepared_name, segment_name,
        segment_numbers,
    },
    snapshot::{Anchor, Snapshot},
    storage::{Storage, StorageFile},
    walk::{LogSummary, Start, Walk, WalkTail, walk},
};

/// What opening a journal found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the journal is new.
    pub created: bool,
    /// The log was read behind this position; 0 from its beginning.
    pub read_from: u64,
    /// What was read of the log, as it stands now.
    pub summary: LogSummary,
    /// What was cut off its end.
    pub torn: Option<TornTail>,
}

/// A group that was being written when the power went. It was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment it was cut from.
    pub file: String,
    /// Offset of its first byte.
    pub offset: u64,
    /// How many bytes were cut.
    pub bytes: u64,
    /// The first sequence cut; it is given to the next record.
    pub first_sequence: u64,
    /// The highest sequence of which an intact frame was among them.
    pub last_sequence: Option<u64>,
    /// Name of the file that keeps what was cut.
    pub copy: String,
}

/// A directory ready to be written on.
pub(super) struct Recovered {
    pub(super) id: JournalId,
    pub(super) cursor: Cursor,
    pub(super) segment: u64,
    pub(super) file: Arc<dyn StorageFile>,
    /// Bytes of the file, all written.
    pub(super) capacity: u64,
    pub(super) mark: MarkFile,
    pub(super) index: Index,
    pub(super) report: RecoveryReport,
}

impl Recovered {
    /// Behind the last group.
    pub(super) fn end(&self) -> Anchor {
        Anchor {
            sequence: self.cursor.next_sequence - 1,
            group: self.cursor.next_group - 1,
            chain: self.cursor.chain,
            segment: self.segment,
            offset: self.cursor.offset as u64,
        }
    }
}

/// The durable mark of a directory, and its open file.
pub(super) struct Marked {
    pub(super) mark: Mark,
    pub(super) file: MarkFile,
    /// Whether it was made just now.
    pub(super) created: bool,
}

/// Reads the mark, or makes the first one in a directory without a log. The caller holds the lock.
pub(super) fn mark_of(storage: &dyn Storage) -> Result<Marked, LogError> {
    let names = storage.list().map_err(io_at("list", "the directory"))?;
    let (mark, counter, created) = read_mark(storage, &segment_numbers(&names)?)?;
    let file = match counter {
        Some(counter) => MarkFile::open(storage, counter).map_err(io_at("open", MARK_NAME))?,
        None => MarkFile::create(storage, &mark).map_err(io_at("create", MARK_NAME))?,
    };
    Ok(Marked { mark, file, created })
}

/// Reads the log through `on_record`, from its beginning or from a snapshot whose anchor was checked, repairs its end
/// and leaves the directory ready. The caller holds the lock.
pub(super) fn recover(
    storage: &dyn Storage,
    marked: Marked,
    segment_bytes: u64,
    from: Option<&Snapshot>,
    on_record: &mut dyn FnMut(Record<'_>) -> Result<(), String>,
) -> Result<Recovered, LogError> {
    let names = storage.list().map_err(io_at("list", "the directory"))?;
    let numbers = segment_numbers(&names)?;
    let Marked { mark, file: mut mark_file, created } = marked;
    let mut walk = walk(storage, &numbers, &mark, Start::of(&mark, from), 0, on_record)?;

    for name in names.iter().filter(|name| name.ends_with(PREPARED_SUFFIX)) {
        storage.remove(name).map_err(io_at("remove", name))?;
    }
    let torn = cut(storage, &walk)?;
    let (segment, file) = match walk.segment {
        0 => (1, first_segment(storage, segment_bytes, &mut walk, mark.id)?),
        segment => {
            let name = segment_name(segment);
            (segment, storage.open(&name).map_err(io_at("open", &name))?)
        }
    };
    let name = segment_name(segment);
    let length = file.len().map_err(io_at("measure", &name))?;
    zero_fill(&*file, length, segment_bytes, &|| true).map_err(io_at("lengthen", &name))?;
    write_again(&*file, walk.marked_offset, walk.cursor.offset).map_err(io_at("write again", &name))?;
    storage.sync_dir().map_err(io_at("sync the directory of", &name))?;

    let last = walk.cursor.next_sequence - 1;
    if last > mark.sequence {
        let reached =
            Mark { id: mark.id, sequence: last, group: walk.cursor.next_group - 1, chain: walk.cursor.chain };
        mark_file.write(&reached).map_err(io_at("write", MARK_NAME))?;
    }
    let read_from = from.map_or(0, Snapshot::position);
    let report = RecoveryReport { created, read_from, summary: walk.summary, torn };
    Ok(Recovered {
        id: mark.id,
        cursor: walk.cursor,
        segment,
        file,
        capacity: length.max(segment_bytes),
        mark: mark_file,
        index: walk.index,
        report,
    })
}

/// The mark, its counter where the file exists, and whether the journal is a new one.
pub(super) fn read_mark(
    storage: &dyn Storage,
    numbers: &[u64],
) -> Result<(Mark, Option<u64>, bool), LogError> {
    match mark::read(storage).map_err(io_at("read", MARK_NAME))? {
        MarkFound::Good { mark, counter } => Ok((mark, Some(counter), false)),
        MarkFound::NoFile if numbers.is_empty() => {
            let id = new_id();
            Ok((Mark { id, sequence: 0, group: 0, chain: id.genesis() }, None, true))
        }
        found => {
            let kind = match found {
                MarkFound::OtherVersion(version) => FaultKind::Version { found: version },
                _ => FaultKind::MarkUnreadable,
            };
            Err(Fault { file: MARK_NAME.to_owned(), offset: 0, sequence: 0, kind }.into())
        }
    }
}

/// Milliseconds since 1970, for people who read headers; nothing is decided by it.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

pub(super) fn io_at(operation: &'static str, file: &str) -> impl FnOnce(io::Error) -> LogError {
    let file = file.to_owned();
    move |source| LogError::Io { operation, file, source }
}

fn first_segment(
    storage: &dyn Storage,
    segment_bytes: u64,
    walk: &mut Walk,
    id: JournalId,
) -> Result<Arc<dyn StorageFile>, LogError> {
    let header = SegmentHeader {
        segment: 1,
        first_sequence: walk.cursor.next_sequence,
        first_group: walk.cursor.next_group,
        created_ms: now_ms(),
        id,
        chain: walk.cursor.chain,
    };
    let file = prepare(storage, 1, segment_bytes, &|| true).map_err(io_at("prepare", &prepared_name(1)))?;
    install(storage, &*file, &header)
        .map_err(|(operation, error)| io_at(operation, &segment_name(1))(error))?;
    walk.cursor.offset = SEGMENT_HEADER_BYTES;
    walk.marked_offset = SEGMENT_HEADER_BYTES;
    walk.summary.segments = 1;
    Ok(file)
}

/// Writes the groups that the mark does not cover once more and syncs them. A process that was killed may have left
/// them in the page cache; one that stopped because a sync failed may have left them there marked as clean, so that a
/// sync alone would succeed without writing them. Groups in earlier segments were synced before this one began.
fn write_again(file: &dyn StorageFile, from: usize, to: usize) -> io::Result<()> {
    let mut bytes = vec![0; to.saturating_sub(from)];
    file.read_at(from as u64, &mut bytes)?;
    file.write_at(from as u64, &bytes)?;
    file.sync()
}

/// Copies what stands behind the last whole group to a file of its own, then removes it.
fn cut(storage: &dyn Storage, walk: &Walk) -> Result<Option<TornTail>, LogError> {
    let (segment, offset, bytes, last_sequence) = match &walk.tail {
        WalkTail::Nothing => return Ok(None),
        WalkTail::Torn(torn) => (walk.segment, walk.cursor.offset as u64, torn.bytes, torn.last_sequence),
        WalkTail::Stub { segment, bytes } => (*segment, 0, *bytes as usize, None),
    };
    let name = segment_name(segment);
    let file = storage.open(&name).map_err(io_at("open", &name))?;
    let mut torn = vec![0; bytes];
    file.read_at(offset, &mut torn).map_err(io_at("read", &name))?;

    let first_sequence = walk.cursor.next_sequence;
    let copy = copy_name(storage, first_sequence, segment, offset)?;
    let kept = storage.create(&copy).map_err(io_at("create", &copy))?;
    kept.write_at(0, &torn).map_err(io_at("write", &copy))?;
    kept.sync().map_err(io_at("sync", &copy))?;
    storage.sync_dir().map_err(io_at("sync the directory of", &copy))?;

    if let WalkTail::Stub { .. } = walk.tail {
        storage.remove(&name).map_err(io_at("remove", &name))?;
    } else {
        torn.fill(0);
        file.write_at(offset, &torn).map_err(io_at("zero the end of", &name))?;
        file.sync().map_err(io_at("sync", &name))?;
    }
    Ok(Some(TornTail { file: name, offset, bytes: bytes as u64, first_sequence, last_sequence, copy }))
}

/// A name that is not taken: a recovery that is interrupted and repeated must not overwrite the first copy.
fn copy_name(storage: &dyn Storage, sequence: u64, segment: u64, offset: u64) -> Result<String, LogError> {
    let names = storage.list().map_err(io_at("list", "the directory"))?;
    let name = |attempt: u64| format!("torn-{sequence}-segment-{segment}-byte-{offset}-{attempt}");
    let free = (1..).map(name).find(|name| !names.contains(name));
    Ok(free.unwrap_or_default())
}

/// 16 bytes that no other journal has and no client can guess, from the keys that the standard library draws from the
/// operating system for its hash maps.
fn new_id() -> JournalId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&now_ms().to_le_bytes());
    for word in 0..4_u64 {
        let mut keyed = RandomState::new().build_hasher();
        keyed.write_u64(word);
        hasher.update(&keyed.finish().to_le_bytes());
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    JournalId(id)
}

//! Reads a whole log in order, segment by segment, and holds it against the durable mark. Changes nothing: recovery
//! and `journal verify` both stand on it, and only recovery then cuts.

use std::{io, sync::Arc, time::Duration};

use super::{
    Record,
    error::{Fault, FaultKind, LogError},
    frame::Kind,
    index::{Index, Place},
    mark::{MARK_NAME, Mark},
    scan::{Cursor, End, Group, Stretch, TornEnd, frames_of, is_zero, scan},
    segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name},
    snapshot::Snapshot,
    storage::{Storage, StorageFile},
};

/// A longer file is none of ours, and would not fit the index.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a segment that are in memory at once, where its groups are not longer. The tests' segments are short: theirs
/// have several stretches too.
const STRETCH_BYTES: usize = if cfg!(test) { 2 * SEGMENT_HEADER_BYTES } else { 4 * 1024 * 1024 };
/// The zeros behind the last group are read in steps of this.
const ZERO_STEP_BYTES: usize = STRETCH_BYTES / 2;

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogSummary {
    /// Records, without abandoned frames.
    pub records: u64,
    /// Frames whose author failed between taking the sequence and publishing.
    pub abandoned: u64,
    /// Groups, each written and synced at once.
    pub groups: u64,
    /// Segment files.
    pub segments: u64,
    /// The first sequence, if there is one.
    pub first_position: Option<u64>,
    /// The last sequence, if there is one.
    pub last_position: Option<u64>,
    /// Head of the hash chain: binds everything before it.
    pub chain_hash: [u8; 32],
}

/// A log read from end to end.
pub(super) struct Walk {
    pub(super) summary: LogSummary,
    /// Where the next group belongs; its offset counts from the start of `segment`.
    pub(super) cursor: Cursor,
    /// The last segment with a header; 0 where there is none.
    pub(super) segment: u64,
    /// Offset in that segment behind the last group that the mark covers.
    pub(super) marked_offset: usize,
    pub(super) tail: WalkTail,
    pub(super) index: Index,
}

/// What stands behind the last whole group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WalkTail {
    Nothing,
    /// An unfinished group in the segment of the walk.
    Torn(TornEnd),
    /// A following segment file that is shorter than its own header.
    Stub {
        segment: u64,
        bytes: u64,
    },
}

/// Where a walk begins.
pub(super) struct Start {
    cursor: Cursor,
    /// The segment that the cursor's offset is in; 0 before the first.
    segment: u64,
    index: Index,
    /// A position that was durable, so that the log must reach it.
    reach: u64,
}

impl Start {
    /// At the beginning of the log, or behind a snapshot, whose anchor was checked against the log.
    pub(super) fn of(mark: &Mark, snapshot: Option<&Snapshot>) -> Start {
        let Some(snapshot) = snapshot else {
            let cursor = Cursor { next_sequence: 1, next_group: 1, chain: mark.id.genesis(), offset: 0 };
            return Start { cursor, segment: 0, index: Index::default(), reach: 0 };
        };
        let anchor = snapshot.anchor();
        let cursor = Cursor {
            next_sequence: anchor.sequence + 1,
            next_group: anchor.group + 1,
            chain: anchor.chain,
            offset: anchor.offset as usize,
        };
        let (index, reach) = (snapshot.index().clone(), snapshot.reach());
        Start { cursor, segment: anchor.segment, index, reach }
    }
}

/// Walks the segments `numbers` on from `start`, giving every record to `on_record`. The last segment is read again up
/// to `rereads` times where it looks damaged, for the case that somebody is writing to it.
pub(super) fn walk(
    storage: &dyn Storage,
    numbers: &[u64],
    mark: &Mark,
    start: Start,
    rereads: u32,
    on_record: &mut dyn FnMut(Record<'_>) -> Result<(), String>,
) -> Result<Walk, LogError> {
    let mut walk = Walk {
        summary: LogSummary::default(),
        cursor: start.cursor,
        segment: 0,
        marked_offset: 0,
        tail: WalkTail::Nothing,
        index: start.index,
    };
    let mut bytes = Vec::new();
    for number in numbers.iter().skip_while(|number| **number < start.segment) {
        let last = Some(number) == numbers.last();
        let name = segment_name(*number);
        let mut segment = SegmentBytes::open(storage, &name, std::mem::take(&mut bytes))?;
        if *number == start.segment {
            // The header and the group before were held against the snapshot; what is before that was durable.
            walk.marked_offset = walk.cursor.offset;
        } else {
            segment.read(0, STRETCH_BYTES)?;
            if segment.bytes.len() < SEGMENT_HEADER_BYTES {
                walk.tail = stub(&walk, mark, *number, last, &segment.bytes)?;
                break;
            }
            check_header(&walk, mark, *number, &segment.bytes)?;
            walk.cursor.offset = SEGMENT_HEADER_BYTES;
            walk.marked_offset = SEGMENT_HEADER_BYTES;
        }
        walk.segment = *number;
        walk.summary.segments += 1;
        let rereads = if last { rereads } else { 0 };
        let end = segment.scan(mark, walk.cursor.clone(), rereads, &mut |group| {
            take_group(&mut walk, mark, *number, group, on_record)
        })?;
        match end {
            End::Torn(torn) if last => walk.tail = WalkTail::Torn(torn),
            End::Torn(torn) => {
                let kind = FaultKind::DamagedBeforeSegment;
                let offset = torn.damaged_offset as u64;
                return Err(Fault { file: name, offset, sequence: walk.cursor.next_sequence, kind }.into());
            }
            End::Clean | End::Open => {}
        }
        bytes = segment.bytes;
    }
    let log_sequence = walk.cursor.next_sequence - 1;
    let mark_sequence = mark.sequence;
    if log_sequence < mark_sequence {
        let kind = FaultKind::EndsBeforeMark { log_sequence, mark_sequence };
        return Err(ends_early(&walk, kind).into());
    }
    if log_sequence < start.reach {
        let kind = FaultKind::EndsBeforeSnapshot { log_sequence, reach: start.reach };
        return Err(ends_early(&walk, kind).into());
    }
    walk.summary.chain_hash = walk.cursor.chain;
    Ok(walk)
}

fn take_group(
    walk: &mut Walk,
    mark: &Mark,
    segment: u64,
    group: &Group<'_>,
    on_record: &mut dyn FnMut(Record<'_>) -> Result<(), String>,
) -> Result<(), LogError> {
    let first_sequence = walk.cursor.next_sequence;
    let covers_mark = (first_sequence..=group.last_sequence).contains(&mark.sequence);
    if covers_mark
        && (mark.sequence, mark.group, mark.chain) != (group.last_sequence, group.number, group.chain)
    {
        let kind = FaultKind::MarkDiffers { mark_sequence: mark.sequence };
        let file = segment_name(segment);
        return Err(Fault { file, offset: group.offset as u64, sequence: first_sequence, kind }.into());
    }
    for (offset, frame) in frames_of(group.frames) {
        let offset = (group.offset + offset) as u32;
        walk.index.note(Place { sequence: frame.sequence, segment: segment as u32, offset });
        if frame.kind == Kind::Abandoned {
            walk.summary.abandoned += 1;
            continue;
        }
        walk.summary.records += 1;
        on_record(Record { position: frame.sequence, payload: frame.payload })
            .map_err(|reason| LogError::Refused { position: frame.sequence, reason })?;
    }
    walk.summary.groups += 1;
    walk.summary.first_position.get_or_insert(first_sequence);
    walk.summary.last_position = Some(group.last_sequence);
    walk.cursor = group.after();
    if group.last_sequence <= mark.sequence {
        walk.marked_offset = group.end;
    }
    Ok(())
}

fn check_header(walk: &Walk, mark: &Mark, number: u64, bytes: &[u8]) -> Result<(), Fault> {
    let fault =
        |kind| Fault { file: segment_name(number), offset: 0, sequence: walk.cursor.next_sequence, kind };
    let header = SegmentHeader::decode(bytes).map_err(fault)?;
    if header.id != mark.id {
        return Err(fault(FaultKind::ForeignFile));
    }
    if header != expected_header(walk, mark, number, header.created_ms) {
        let kind =
            FaultKind::SegmentMisplaced { segment: header.segment, first_sequence: header.first_sequence };
        return Err(fault(kind));
    }
    Ok(())
}

/// Accepts a last segment whose header is not complete: nothing can have been written behind it.
fn stub(walk: &Walk, mark: &Mark, number: u64, last: bool, bytes: &[u8]) -> Result<WalkTail, Fault> {
    if !last || !expected_header(walk, mark, number, 0).begins_with(bytes) {
        let offset = bytes.len() as u64;
        let (file, sequence) = (segment_name(number), walk.cursor.next_sequence);
        return Err(Fault { file, offset, sequence, kind: FaultKind::SegmentHeader });
    }
    Ok(WalkTail::Stub { segment: number, bytes: bytes.len() as u64 })
}

fn expected_header(walk: &Walk, mark: &Mark, number: u64, created_ms: u64) -> SegmentHeader {
    SegmentHeader {
        segment: number,
        first_sequence: walk.cursor.next_sequence,
        first_group: walk.cursor.next_group,
        created_ms,
        id: mark.id,
        chain: walk.cursor.chain,
    }
}

/// The fault of a log that ends before something that was durable.
fn ends_early(walk: &Walk, kind: FaultKind) -> Fault {
    let (file, offset) = match &walk.tail {
        _ if walk.segment == 0 => (MARK_NAME.to_owned(), 0),
        WalkTail::Torn(torn) => (segment_name(walk.segment), torn.damaged_offset as u64),
        _ => (segment_name(walk.segment), walk.cursor.offset as u64),
    };
    Fault { file, offset, sequence: walk.cursor.next_sequence, kind }
}

/// A segment that is read stretch by stretch, so that what is checked is still in the cache.
struct SegmentBytes<'a> {
    name: &'a str,
    file: Arc<dyn StorageFile>,
    length: usize,
    /// The stretch in memory, and where it begins.
    bytes: Vec<u8>,
    offset: usize,
}

impl<'a> SegmentBytes<'a> {
    /// `bytes` is a buffer of which nothing is kept but its room.
    fn open(storage: &dyn Storage, name: &'a str, mut bytes: Vec<u8>) -> Result<SegmentBytes<'a>, LogError> {
        let io = |operation, source| LogError::Io { operation, file: name.to_owned(), source };
        let file = storage.open(name).map_err(|error| io("open", error))?;
        let length = file.len().map_err(|error| io("measure", error))?;
        if length > SEGMENT_BYTES_MAX {
            let kind = FaultKind::ForeignFile;
            return Err(Fault { file: name.to_owned(), offset: SEGMENT_BYTES_MAX, sequence: 0, kind }.into());
        }
        bytes.clear();
        Ok(SegmentBytes { name, file, length: length as usize, bytes, offset: 0 })
    }

    /// Walks the segment on from `cursor`. Where it looks damaged it is read again up to `rereads` times.
    fn scan(
        &mut self,
        mark: &Mark,
        mut cursor: Cursor,
        mut rereads: u32,
        on_group: &mut dyn FnMut(&Group<'_>) -> Result<(), LogError>,
    ) -> Result<End, LogError> {
        self.read(cursor.offset, STRETCH_BYTES)?;
        loop {
            let before = cursor.offset;
            let stretch = Stretch { bytes: &self.bytes, offset: self.offset, is_last: self.is_at_end() };
            match scan(self.name, stretch, mark.id.salt(), &mut cursor, on_group) {
                Err(LogError::Fault(fault)) if rereads > 0 && fault.kind.may_be_half_read() => {
                    rereads -= 1;
                    std::thread::sleep(Duration::from_millis(20));
                    self.read_rest(cursor.offset)?;
                }
                Ok(End::Clean) if !self.is_at_end() && !self.is_zero_behind()? => {
                    self.read_rest(cursor.offset)?;
                }
                Ok(End::Open) if cursor.offset == before => self.read_rest(cursor.offset)?,
                Ok(End::Open) => self.read(cursor.offset, STRETCH_BYTES)?,
                verdict => return verdict,
            }
        }
    }

    fn is_at_end(&self) -> bool {
        self.offset + self.bytes.len() >= self.length
    }

    /// Makes the stretch begin at `offset`, keeping what is there of it, and reads on until it has `count` bytes.
    fn read(&mut self, offset: usize, count: usize) -> Result<(), LogError> {
        let passed = offset.saturating_sub(self.offset);
        let kept = if offset < self.offset { 0 } else { self.bytes.len().saturating_sub(passed) };
        let stays_from = self.bytes.len() - kept;
        self.bytes.copy_within(stays_from.., 0);
        let wanted = self.length.saturating_sub(offset).min(count);
        self.bytes.resize(wanted.max(kept), 0);
        self.offset = offset;
        let filled = self.file.read_at((offset + kept) as u64, &mut self.bytes[kept..]);
        let filled = filled.map_err(|source| self.io("read", source))?;
        if kept + filled < self.bytes.len() {
            // It is shorter than it was when it was opened.
            self.bytes.truncate(kept + filled);
            self.length = offset + self.bytes.len();
        }
        Ok(())
    }

    /// Reads all from `offset` on, keeping nothing: only what is looked at whole can be called damaged.
    fn read_rest(&mut self, offset: usize) -> Result<(), LogError> {
        self.bytes.clear();
        self.read(offset, usize::MAX)
    }

    /// Whether nothing but zeros follows the stretch. Keeps none of it.
    fn is_zero_behind(&self) -> Result<bool, LogError> {
        let mut step = vec![0; ZERO_STEP_BYTES];
        let mut at = self.offset + self.bytes.len();
        while at < self.length {
            let filled = self.file.read_at(at as u64, &mut step).map_err(|source| self.io("read", source))?;
            if filled == 0 {
                break;
            }
            if !is_zero(&step[..filled]) {
                return Ok(false);
            }
            at += filled;
        }
        Ok(true)
    }

    fn io(&self, operation: &'static str, source: io::Error) -> LogError {
        LogError::Io { operation, file: self.name.to_owned(), source }
    }
}

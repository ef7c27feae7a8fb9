//! Reads a whole log in order, segment by segment, and holds it against the durable mark. Changes nothing: recovery
//! and `journal verify` both stand on it, and only recovery then cuts.

use std::time::Duration;

use super::{
    Record,
    error::{Fault, FaultKind, LogError},
    frame::Kind,
    index::{Index, Place},
    mark::{MARK_NAME, Mark},
    scan::{Cursor, End, Group, TornEnd, frames_of, scan},
    segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name},
    snapshot::Snapshot,
    storage::Storage,
};

/// A longer file is none of ours, and would not fit the index.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

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

/// Walks the segments `numbers` on from `start`, giving every record to `on_record`. The last segment is read again up to `rereads`
/// times where it looks damaged, for the case that somebody is writing to it.
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
        read_whole(storage, &name, &mut bytes)?;
        if bytes.len() < SEGMENT_HEADER_BYTES {
            walk.tail = stub(&walk, mark, *number, last, &bytes)?;
            break;
        }
        if *number == start.segment {
            // The header and the group before were held against the snapshot; what is before that was durable.
            walk.marked_offset = walk.cursor.offset;
        } else {
            check_header(&walk, mark, *number, &bytes)?;
            walk.cursor.offset = SEGMENT_HEADER_BYTES;
            walk.marked_offset = SEGMENT_HEADER_BYTES;
        }
        walk.segment = *number;
        walk.summary.segments += 1;
        let mut rereads_left = if last { rereads } else { 0 };
        let end = loop {
            let mut cursor = walk.cursor.clone();
            let scanned = scan(&name, &bytes, mark.id.salt(), &mut cursor, &mut |group| {
                take_group(&mut walk, mark, *number, group, on_record)
            });
            match scanned {
                Err(LogError::Fault(fault)) if rereads_left > 0 && fault.kind.may_be_half_read() => {
                    rereads_left -= 1;
                    std::thread::sleep(Duration::from_millis(20));
                    read_whole(storage, &name, &mut bytes)?;
                }
                other => break other?,
            }
        };
        match end {
            End::Clean => {}
            End::Torn(torn) if last => walk.tail = WalkTail::Torn(torn),
            End::Torn(torn) => {
                let kind = FaultKind::DamagedBeforeSegment;
                let offset = torn.damaged_offset as u64;
                return Err(Fault { file: name, offset, sequence: walk.cursor.next_sequence, kind }.into());
            }
        }
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
    for (offset, frame) in frames_of(group.frames, mark.id.salt()) {
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

fn read_whole(storage: &dyn Storage, name: &str, bytes: &mut Vec<u8>) -> Result<(), LogError> {
    let io = |operation, source| LogError::Io { operation, file: name.to_owned(), source };
    let file = storage.open(name).map_err(|error| io("open", error))?;
    let length = file.len().map_err(|error| io("measure", error))?;
    if length > SEGMENT_BYTES_MAX {
        let kind = FaultKind::ForeignFile;
        return Err(Fault { file: name.to_owned(), offset: SEGMENT_BYTES_MAX, sequence: 0, kind }.into());
    }
    bytes.resize(length as usize, 0);
    let filled = file.read_at(0, bytes).map_err(|error| io("read", error))?;
    bytes.truncate(filled);
    Ok(())
}

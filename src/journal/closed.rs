//! Reads a segment that is closed, record by record, while the journal goes on: in steps, so that no segment is held in
//! memory whole. Every frame's checksum and the sequence are checked; the chain is recovery's and `verify`'s affair.

use super::{
    Record,
    error::{Fault, FaultKind, ReadError},
    frame::{FRAME_BYTES_MAX, Kind, SEAL_BYTES, parse},
    segment::{JournalId, SEGMENT_HEADER_BYTES, SegmentHeader, segment_name},
    storage::Storage,
};

/// Bytes read at once.
const WINDOW_BYTES: usize = 1024 * 1024 + FRAME_BYTES_MAX + SEAL_BYTES;

/// What a closed segment holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClosedSegment {
    pub first_sequence: u64,
    /// Below the first one where the segment has no record.
    pub last_sequence: u64,
    /// The hash in its last seal: what it holds and all that came before.
    pub chain: [u8; 32],
}

/// The first sequence of segment `number`, from its header alone.
pub(super) fn first_position(storage: &dyn Storage, id: JournalId, number: u64) -> Result<u64, ReadError> {
    Ok(header(storage, id, number)?.first_sequence)
}

/// What closed segment `number` holds, from its header and that of the segment after it.
pub(super) fn closed_segment(
    storage: &dyn Storage,
    id: JournalId,
    number: u64,
) -> Result<ClosedSegment, ReadError> {
    let next = header(storage, id, number + 1)?;
    Ok(ClosedSegment {
        first_sequence: header(storage, id, number)?.first_sequence,
        last_sequence: next.first_sequence - 1,
        chain: next.chain,
    })
}

/// Gives every record of closed segment `number` to `on_record`.
///
/// # Errors
/// Where it cannot be read, or does not hold every record up to the first one of the segment after it.
pub(super) fn read_closed(
    storage: &dyn Storage,
    id: JournalId,
    number: u64,
    on_record: &mut dyn FnMut(Record<'_>) -> Result<(), String>,
) -> Result<ClosedSegment, ReadError> {
    let file = segment_name(number);
    let io = |operation, source| ReadError::Io { operation, file: segment_name(number), source };
    let closed = closed_segment(storage, id, number)?;
    let next = closed.last_sequence + 1;
    let handle = storage.open(&file).map_err(|error| io("open", error))?;
    let mut offset = SEGMENT_HEADER_BYTES as u64;
    let mut expected = closed.first_sequence;
    let mut window = vec![0; WINDOW_BYTES];
    while expected < next {
        let filled = handle.read_at(offset, &mut window).map_err(|error| io("read", error))?;
        let mut at = 0;
        while let Some(frame) = parse(&window[at..filled], id.salt()) {
            at += frame.bytes;
            if frame.kind == Kind::Seal {
                continue;
            }
            if frame.sequence != expected || expected >= next {
                let kind = FaultKind::Gap { found_sequence: frame.sequence, found_group: frame.group };
                let offset = offset + (at - frame.bytes) as u64;
                return Err(Fault { file, offset, sequence: expected, kind }.into());
            }
            if frame.kind == Kind::Record {
                on_record(Record { position: frame.sequence, payload: frame.payload }).map_err(|reason| {
                    let source = std::io::Error::other(format!("record {}: {reason}", frame.sequence));
                    io("understand", source)
                })?;
            }
            expected += 1;
        }
        if at == 0 {
            return Err(Fault { file, offset, sequence: expected, kind: FaultKind::Unreadable }.into());
        }
        offset += at as u64;
    }
    Ok(closed)
}

fn header(storage: &dyn Storage, id: JournalId, number: u64) -> Result<SegmentHeader, ReadError> {
    let file = segment_name(number);
    let io = |operation, source| ReadError::Io { operation, file: segment_name(number), source };
    let handle = storage.open(&file).map_err(|error| io("open", error))?;
    let mut block = vec![0; SEGMENT_HEADER_BYTES];
    let filled = handle.read_at(0, &mut block).map_err(|error| io("read", error))?;
    let header = match filled == SEGMENT_HEADER_BYTES {
        true => SegmentHeader::decode(&block),
        false => Err(FaultKind::SegmentHeader),
    };
    let fault = |kind| Fault { file: segment_name(number), offset: 0, sequence: 0, kind };
    match header.map_err(fault)? {
        header if header.id == id && header.segment == number => Ok(header),
        _ => Err(fault(FaultKind::ForeignFile).into()),
    }
}

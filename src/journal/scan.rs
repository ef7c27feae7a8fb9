//! Walks one segment frame by frame and says where it ends and why. Pure: bytes in, verdict out. The bytes may come
//! stretch by stretch; nothing is believed damaged before all that follow have been looked at.
//!
//! A seal is the commit mark of its group: no answer leaves before the seal is on disk, so a group without an intact
//! seal was never acknowledged. What follows a damaged frame decides what the damage is:
//!
//! - nothing, or only frames of the same group: the write was torn. The whole group is cut, its intact frames too;
//!   keeping them would only give effect to requests whose senders were never answered. The one other explanation,
//!   a bad bit in the seal of a group that was acknowledged, is caught by the durable mark, which covers every group
//!   of a log that was closed or idle; between the two the copy of what was cut is kept for a person to judge.
//! - a frame of a later group: it was written only after this one was durable, so the damage is not ours. Refuse.

use super::{
    error::{Fault, FaultKind},
    frame::{ChainHash, FRAME_ALIGNMENT, FRAME_HEADER_BYTES, Frame, Kind, Salt, chain, checked, parse},
};

/// How far a walk has come. It can go on from here with more bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) next_sequence: u64,
    pub(super) next_group: u64,
    pub(super) chain: ChainHash,
    /// Offset in the segment of the next group.
    pub(super) offset: usize,
}

/// A whole group, checked.
pub(super) struct Group<'a> {
    pub(super) offset: usize,
    /// Its frames without the seal.
    pub(super) frames: &'a [u8],
    pub(super) last_sequence: u64,
    pub(super) number: u64,
    /// The hash in its seal.
    pub(super) chain: ChainHash,
    /// Where the next group starts.
    pub(super) end: usize,
}

impl Group<'_> {
    /// The cursor behind this group.
    pub(super) fn after(&self) -> Cursor {
        Cursor {
            next_sequence: self.last_sequence + 1,
            next_group: self.number + 1,
            chain: self.chain,
            offset: self.end,
        }
    }
}

/// A part of a segment's bytes.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'a> {
    pub(super) bytes: &'a [u8],
    /// Where in the segment they begin.
    pub(super) offset: usize,
    /// Whether the segment ends with them.
    pub(super) is_last: bool,
}

/// How a stretch ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With zeros, or exactly at the end of a group.
    Clean,
    /// With something that is no whole group.
    Torn(TornEnd),
    /// So too, and the bytes that follow may make a whole group of it.
    Open,
}

/// The end of a log that was being written when the power went. It starts at the cursor's offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TornEnd {
    /// Where the first damaged frame is.
    pub(super) damaged_offset: usize,
    /// From the cursor's offset to the last byte that is not zero.
    pub(super) bytes: usize,
    /// The highest sequence of an intact frame in it.
    pub(super) last_sequence: Option<u64>,
}

/// Walks a stretch of segment `file` on from `cursor`, which lies in it or at its end, calling `on_group` for each whole
/// group before the cursor moves past it.
pub(super) fn scan<E: From<Fault>>(
    file: &str,
    stretch: Stretch<'_>,
    salt: Salt,
    cursor: &mut Cursor,
    on_group: &mut dyn FnMut(&Group<'_>) -> Result<(), E>,
) -> Result<End, E> {
    let Stretch { bytes, offset: base, is_last } = stretch;
    let fault = |at: usize, sequence, kind| Fault {
        file: file.to_owned(),
        offset: (base + at) as u64,
        sequence,
        kind,
    };
    loop {
        let start = cursor.offset - base;
        let rest = bytes.get(start..).unwrap_or_default();
        if rest.len() < FRAME_HEADER_BYTES && !is_last {
            return Ok(End::Open);
        }
        if rest.first_chunk::<FRAME_HEADER_BYTES>().is_none_or(|header| *header == [0; FRAME_HEADER_BYTES])
            && is_zero(rest)
        {
            return Ok(End::Clean);
        }
        let mut at = start;
        let mut sequence = cursor.next_sequence;
        let (seal, seal_at, end) = loop {
            let Some(frame) = parse(&bytes[at..], salt) else {
                if !is_last {
                    return Ok(End::Open);
                }
                let torn = torn_end(bytes, salt, start, at, cursor.next_group).map_err(|later| {
                    let kind = FaultKind::Damaged {
                        later_offset: (base + later.0) as u64,
                        later_group: later.1.group,
                        later_sequence: later.1.sequence,
                    };
                    fault(at, sequence, kind)
                })?;
                return Ok(End::Torn(TornEnd { damaged_offset: base + torn.damaged_offset, ..torn }));
            };
            let in_place = match frame.kind {
                Kind::Seal => sequence > cursor.next_sequence && frame.sequence == sequence - 1,
                Kind::Record | Kind::Abandoned => frame.sequence == sequence,
            };
            if !in_place || frame.group != cursor.next_group {
                let kind = FaultKind::Gap { found_sequence: frame.sequence, found_group: frame.group };
                return Err(fault(at, sequence, kind).into());
            }
            if let Some(seal) = frame.seal() {
                break (seal, at, at + frame.bytes);
            }
            sequence += 1;
            at += frame.bytes;
        };
        let frames = &bytes[start..seal_at];
        let chain = chain(&cursor.chain, frames);
        let whole = seal.first_sequence == cursor.next_sequence
            && seal.last_sequence == sequence - 1
            && u64::from(seal.frames) == sequence - cursor.next_sequence
            && seal.bytes as usize == frames.len()
            && seal.hash == chain;
        if !whole {
            let kind = FaultKind::ChainBroken { group: cursor.next_group };
            return Err(fault(seal_at, cursor.next_sequence, kind).into());
        }
        let number = cursor.next_group;
        let group = Group {
            offset: base + start,
            frames,
            last_sequence: sequence - 1,
            number,
            chain,
            end: base + end,
        };
        on_group(&group)?;
        *cursor = group.after();
    }
}

/// The frames of a group that [`scan`] has checked, each with its offset from the group's start.
pub(super) fn frames_of(group: &[u8]) -> impl Iterator<Item = (usize, Frame<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let frame = checked(group.get(at..)?)?;
        at += frame.bytes;
        Some((at - frame.bytes, frame))
    })
}

/// Whether all of `bytes` are zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// What is left from `damaged_offset` on of group `group`, which starts at `start`; the place of an intact frame of
/// another group, if there is one.
fn torn_end(
    bytes: &[u8],
    salt: Salt,
    start: usize,
    damaged_offset: usize,
    group: u64,
) -> Result<TornEnd, (usize, Frame<'_>)> {
    let mut last_sequence = None;
    let mut at = start;
    while at < bytes.len() {
        match parse(&bytes[at..], salt) {
            Some(frame) if frame.group == group => {
                last_sequence = last_sequence.max(Some(frame.sequence));
                at += frame.bytes;
            }
            Some(other) => return Err((at, other)),
            None => at += FRAME_ALIGNMENT,
        }
    }
    let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    Ok(TornEnd { damaged_offset, bytes: used.saturating_sub(start), last_sequence })
}

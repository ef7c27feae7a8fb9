//! Where a sequence stands in the log: one entry in memory per 64 KiB of frames, the rest is found by reading on.
//!
//! 16 bytes per 64 KiB: a log of 100 GB costs 25 MB. Rebuilt from what a recovery reads; what lies before a snapshot
//! is kept in the snapshot.

use super::{
    error::{Fault, FaultKind, ReadError},
    frame::{FRAME_BYTES_MAX, Kind, SEAL_BYTES, Salt, parse, u32_at, u64_at},
    segment::segment_name,
    storage::Storage,
};

/// Bytes of frames between two entries, at least.
const STRIDE_BYTES: u32 = 64 * 1024;
/// One read from the file; the frame looked for is nearly always in the first.
const WINDOW_BYTES: usize = STRIDE_BYTES as usize + FRAME_BYTES_MAX + SEAL_BYTES;

/// The place of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) segment: u32,
    pub(super) offset: u32,
}

/// Bytes of a stored place: sequence u64 | segment u32 | offset u32.
pub(super) const PLACE_BYTES: usize = 16;

impl Place {
    pub(super) fn to_bytes(self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        bytes[0..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.segment.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; PLACE_BYTES]) -> Place {
        Place { sequence: u64_at(bytes, 0), segment: u32_at(bytes, 8), offset: u32_at(bytes, 12) }
    }
}

/// Entries in the order of the log.
#[derive(Clone, Default, Debug)]
pub(super) struct Index {
    places: Vec<Place>,
}

impl Index {
    /// Takes note of a frame, if it is far enough from the last one noted.
    pub(super) fn note(&mut self, place: Place) {
        let due = self.places.last().is_none_or(|last| {
            last.segment != place.segment || place.offset.saturating_sub(last.offset) >= STRIDE_BYTES
        });
        if due {
            self.places.push(place);
        }
    }

    /// Takes in a place that was stored; `None` where it does not follow the last one.
    pub(super) fn append(&mut self, place: Place) -> Option<()> {
        let follows = self.places.last().is_none_or(|last| last.sequence < place.sequence);
        follows.then(|| self.places.push(place))
    }

    /// At most `count` entries on from number `from`, none of them behind `last_sequence`.
    pub(super) fn part(&self, from: usize, count: usize, last_sequence: u64) -> Vec<Place> {
        let rest = self.places.get(from..).unwrap_or_default();
        rest.iter().take(count).take_while(|place| place.sequence <= last_sequence).copied().collect()
    }

    /// The nearest noted frame at or before `sequence`.
    pub(super) fn before(&self, sequence: u64) -> Option<Place> {
        let after = self.places.partition_point(|place| place.sequence <= sequence);
        self.places.get(after.checked_sub(1)?).copied()
    }
}

/// Reads the payload of `sequence`, walking on from `from`. `None` where an abandoned frame stands there.
pub(super) fn read_from(
    storage: &dyn Storage,
    salt: Salt,
    from: Place,
    sequence: u64,
) -> Result<Option<Vec<u8>>, ReadError> {
    let file = segment_name(u64::from(from.segment));
    let io =
        |operation, source| ReadError::Io { operation, file: segment_name(u64::from(from.segment)), source };
    let handle = storage.open(&file).map_err(|error| io("open", error))?;
    let mut offset = u64::from(from.offset);
    let mut expected = from.sequence;
    let mut window = vec![0; WINDOW_BYTES];
    loop {
        let filled = handle.read_at(offset, &mut window).map_err(|error| io("read", error))?;
        let mut at = 0;
        while let Some(frame) = parse(&window[at..filled], salt) {
            at += frame.bytes;
            if frame.kind == Kind::Seal {
                continue;
            }
            if frame.sequence != expected {
                break;
            }
            if frame.sequence == sequence {
                return Ok((frame.kind == Kind::Record).then(|| frame.payload.to_vec()));
            }
            expected += 1;
        }
        if at == 0 {
            // Not even one frame where there must be one: this was written and is no longer there.
            let kind = FaultKind::Unreadable;
            return Err(Fault { file, offset, sequence: expected, kind }.into());
        }
        offset += at as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_stays_sparse_and_points_at_or_before() {
        let mut index = Index::default();
        assert_eq!(index.before(1), None);
        for sequence in 1..=10_000_u64 {
            let segment = 1 + (sequence / 5_000) as u32;
            let offset = 4096 + (sequence % 5_000) as u32 * 512;
            index.note(Place { sequence, segment, offset });
        }
        assert!(index.places.len() < 90, "{} entries for 5 MB", index.places.len());
        for sequence in 1..=10_000 {
            let place = index.before(sequence).expect("the first frame is noted");
            assert!(place.sequence <= sequence && sequence - place.sequence <= 128);
        }
    }
}

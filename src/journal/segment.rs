//! What a segment file is called and what its first block says, byte by byte.
//!
//! A segment is written from the front and never recycled; behind its last group it holds zeros that were written
//! when it was prepared, so that a group's sync moves no file metadata. Numbers are little-endian.
//!
//! ```text
//!     0  magic "SAKERLOG"               40  created, ms since 1970     u64
//!     8  format version        u32      48  journal id, 16 random bytes
//!    12  CRC-32 of the block   u32      64  hash of the chain at its start, 32 bytes
//!    16  segment number        u64      96  zeros
//!    24  first sequence        u64    4096  frames
//!    32  first group           u64
//! ```
//!
//! The block is a page of its own because what follows is written over and over until the page is full.

use super::{
    error::{Fault, FaultKind},
    frame::{ChainHash, Salt, hash_at, u32_at, u64_at},
};

/// Bytes before the first frame.
pub(super) const SEGMENT_HEADER_BYTES: usize = 4096;
/// Version of the layout of segments, frames and the durable mark.
pub const FORMAT_VERSION: u32 = 1;
/// Ending of a segment's file name.
pub(super) const SEGMENT_SUFFIX: &str = ".segment";
/// Ending of the name of a segment that is prepared and not yet in use.
pub(super) const PREPARED_SUFFIX: &str = ".prepared";

const MAGIC: &[u8; 8] = b"SAKERLOG";

/// Which journal a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JournalId(pub(super) [u8; 16]);

impl JournalId {
    /// What the checksums of this journal's frames start from.
    pub(super) fn salt(&self) -> Salt {
        Salt(crc32fast::hash(&self.0))
    }

    /// Where this journal's chain begins.
    pub(super) fn genesis(&self) -> ChainHash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"saker journal ");
        hasher.update(&self.0);
        *hasher.finalize().as_bytes()
    }
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) segment: u64,
    pub(super) first_sequence: u64,
    pub(super) first_group: u64,
    pub(super) created_ms: u64,
    pub(super) id: JournalId,
    pub(super) chain: ChainHash,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut block = [0; SEGMENT_HEADER_BYTES];
        block[0..8].copy_from_slice(MAGIC);
        block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&self.segment.to_le_bytes());
        block[24..32].copy_from_slice(&self.first_sequence.to_le_bytes());
        block[32..40].copy_from_slice(&self.first_group.to_le_bytes());
        block[40..48].copy_from_slice(&self.created_ms.to_le_bytes());
        block[48..64].copy_from_slice(&self.id.0);
        block[64..96].copy_from_slice(&self.chain);
        let crc = checksum(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads the block at the start of `bytes`, which holds at least [`SEGMENT_HEADER_BYTES`].
    pub(super) fn decode(bytes: &[u8]) -> Result<SegmentHeader, FaultKind> {
        let block = &bytes[..SEGMENT_HEADER_BYTES];
        if &block[0..8] != MAGIC {
            return Err(FaultKind::ForeignFile);
        }
        let version = u32_at(block, 8);
        if version != FORMAT_VERSION {
            return Err(FaultKind::Version { found: version });
        }
        if checksum(block) != u32_at(block, 12) {
            return Err(FaultKind::SegmentHeader);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&block[48..64]);
        Ok(SegmentHeader {
            segment: u64_at(block, 16),
            first_sequence: u64_at(block, 24),
            first_group: u64_at(block, 32),
            created_ms: u64_at(block, 40),
            id: JournalId(id),
            chain: hash_at(block, 64),
        })
    }

    /// Whether `bytes`, shorter than a block, could be the beginning of this one, apart from its time of creation.
    pub(super) fn begins_with(&self, bytes: &[u8]) -> bool {
        let expected = self.encode();
        let unknown = |offset: usize| (12..16).contains(&offset) || (40..48).contains(&offset);
        bytes.len() < SEGMENT_HEADER_BYTES
            && bytes.iter().enumerate().all(|(offset, byte)| *byte == expected[offset] || unknown(offset))
    }
}

/// File name of segment `number`.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:010}{SEGMENT_SUFFIX}")
}

/// File name of segment `number` until it is taken into use.
pub(super) fn prepared_name(number: u64) -> String {
    format!("{number:010}{PREPARED_SUFFIX}")
}

/// Numbers of the segments among `names`, checked to run without a gap from 1.
pub(super) fn segment_numbers(names: &[String]) -> Result<Vec<u64>, Fault> {
    let mut numbers = Vec::new();
    for name in names {
        let Some(stem) = name.strip_suffix(SEGMENT_SUFFIX) else { continue };
        match stem.parse::<u64>() {
            Ok(number) if segment_name(number) == *name => numbers.push(number),
            _ => return Err(Fault { file: name.clone(), offset: 0, sequence: 0, kind: FaultKind::ForeignFile }),
        }
    }
    numbers.sort_unstable();
    for (expected, number) in (1..).zip(&numbers) {
        if *number != expected {
            let kind = FaultKind::SegmentMissing { next: segment_name(*number) };
            return Err(Fault { file: segment_name(expected), offset: 0, sequence: 0, kind });
        }
    }
    Ok(numbers)
}

fn checksum(block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..12]);
    hasher.update(&block[16..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        let id = JournalId([3; 16]);
        SegmentHeader {
            segment: 2,
            first_sequence: 17,
            first_group: 5,
            created_ms: 9,
            id,
            chain: id.genesis(),
        }
    }

    #[test]
    fn a_header_reads_back_and_any_flipped_byte_is_seen() {
        let mut block = header().encode();
        assert_eq!(SegmentHeader::decode(&block), Ok(header()));
        for offset in 0..block.len() {
            block[offset] ^= 0x10;
            assert!(SegmentHeader::decode(&block).is_err(), "byte {offset}");
            block[offset] ^= 0x10;
        }
    }

    #[test]
    fn a_later_format_is_named_as_such() {
        let mut block = header().encode();
        block[8] = 9;
        assert_eq!(SegmentHeader::decode(&block), Err(FaultKind::Version { found: 9 }));
    }

    #[test]
    fn a_missing_segment_and_a_foreign_name_are_refused() {
        let named = |numbers: &[u64]| numbers.iter().map(|number| segment_name(*number)).collect::<Vec<_>>();
        assert_eq!(segment_numbers(&named(&[2, 1, 3])), Ok(vec![1, 2, 3]));
        let gap = segment_numbers(&named(&[1, 3])).expect_err("segment 2 is missing");
        assert_eq!(gap.file, segment_name(2));
        let foreign = segment_numbers(&["old.segment".to_owned()]).expect_err("not our name");
        assert_eq!(foreign.kind, FaultKind::ForeignFile);
        assert_eq!(segment_numbers(&["notes.txt".to_owned()]), Ok(vec![]));
    }
}

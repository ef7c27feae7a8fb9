//! Files that say what stood at a place of the log, so that a start need not read the log from its beginning: framed,
//! checked and bound to this journal here, and opaque but for their frame.
//!
//! ```text
//! file      header, blocks, end block; nothing behind it
//! header      0  magic "SAKERSNP"           40  group of that sequence        u64
//!             8  format version      u32    48  hash in that group's seal, 32 bytes
//!            12  zeros               u32    80  segment it stands in          u64
//!            16  journal id, 16 bytes       88  offset behind it              u64
//!            32  anchor: sequence    u64    96  BLAKE3 of all before, 32 bytes
//! block       0  bytes of the payload u32   16  number of the block, from 0   u64
//!             4  items in it          u32   24  items of the section before   u64
//!             8  section              u32   32  keyed BLAKE3 of bytes 0-31 and the payload, 32 bytes
//!            12  zeros                u32   64  payload: items, each length u32 | bytes
//! end block   a block of section 0 with one item: position that the log must reach u64 | blocks before u64 |
//!             then for every section: section u32 | items u64
//! ```
//!
//! Numbers are little-endian. A file is written under another name, synced and renamed, so that it is whole or absent;
//! the hashes are there for what a disk does afterwards. They are BLAKE3 and not a CRC because one pass at several
//! gigabytes a second costs nothing beside decoding, and because their key comes from the header: a block of another
//! snapshot, or one in another place of this one, is seen as well as a flipped byte. Blocks can be checked and read by
//! several threads.
//!
//! A snapshot is fuzzy: it is copied while records are made. It holds the effect of every record up to its **anchor**,
//! which is the end of a group that was durable before copying began, and of some after it up to the position the log
//! **must reach**, which was durable before the file got its name. Its reader applies the records behind the anchor
//! again, to what does not have them yet.

mod read;
mod write;

use std::io;
use std::sync::Arc;

use super::{
    error::{Fault, FaultKind},
    frame::{ChainHash, SEAL_BYTES, parse},
    segment::{JournalId, SEGMENT_HEADER_BYTES, SegmentHeader, segment_name},
    storage::Storage,
};
pub use read::{Block, BlockPlace, Snapshot};
pub use write::{SnapshotError, SnapshotWriter, Terms, Written};

/// Version of the layout above.
pub const SNAPSHOT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"SAKERSNP";
const HEADER_BYTES: usize = 128;
const HEADER_HASHED: usize = 96;
const BLOCK_HEADER_BYTES: usize = 64;
const BLOCK_HEADER_HASHED: usize = 32;
/// Ends the file.
const END_SECTION: u32 = 0;
/// The journal's own index of positions.
const INDEX_SECTION: u32 = 1;
/// Sections below this are the journal's own.
pub const FIRST_FREE_SECTION: u32 = 16;

const SUFFIX: &str = ".snapshot";
const UNFINISHED_SUFFIX: &str = ".unfinished";

/// The end of a durable group: where a log can be read from without what is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The group's last sequence; 0 before the first.
    pub(super) sequence: u64,
    pub(super) group: u64,
    pub(super) chain: ChainHash,
    pub(super) segment: u64,
    /// Offset in that segment behind the group.
    pub(super) offset: u64,
}

impl Anchor {
    /// The last position before it.
    pub fn position(&self) -> u64 {
        self.sequence
    }

    /// Whether the log in `storage` has a group that ends here with this hash. Reads two short pieces of one segment.
    pub(super) fn check(&self, storage: &dyn Storage, id: JournalId) -> Result<(), Fault> {
        let file = segment_name(self.segment);
        let fault = |offset: u64, what: &str| Fault {
            file: file.clone(),
            offset,
            sequence: self.sequence,
            kind: FaultKind::AnchorDiffers { what: what.to_owned() },
        };
        let read = |offset: usize, bytes: &mut [u8]| -> Result<(), Fault> {
            let whole = storage.open(&file).and_then(|handle| handle.read_at(offset as u64, bytes));
            match whole {
                Ok(count) if count == bytes.len() => Ok(()),
                Ok(_) => Err(fault(offset as u64, "the segment ends before it")),
                Err(error) => Err(fault(offset as u64, &error.to_string())),
            }
        };
        let mut header = vec![0; SEGMENT_HEADER_BYTES];
        read(0, &mut header)?;
        let header = SegmentHeader::decode(&header).map_err(|kind| fault(0, &kind.to_string()))?;
        if header.id != id || header.segment != self.segment {
            return Err(fault(0, "the segment is not that of this journal"));
        }
        let next = (self.sequence + 1, self.group + 1);
        let offset = self.offset as usize;
        if offset == SEGMENT_HEADER_BYTES {
            let begins = (header.first_sequence, header.first_group) == next && header.chain == self.chain;
            return begins
                .then_some(())
                .ok_or_else(|| fault(40, "the segment begins at another place of the chain"));
        }
        let mut seal = [0; SEAL_BYTES];
        let seal_offset = offset.saturating_sub(SEAL_BYTES).max(SEGMENT_HEADER_BYTES);
        read(seal_offset, &mut seal)?;
        let ends = parse(&seal, id.salt()).and_then(|frame| Some((frame.group, frame.seal()?)));
        match ends {
            Some((group, seal))
                if (group, seal.last_sequence, seal.hash) == (self.group, self.sequence, self.chain) =>
            {
                Ok(())
            }
            _ => Err(fault(seal_offset as u64, "no group with its hash ends there")),
        }
    }
}

/// The directory that holds the snapshots of one journal.
#[derive(Clone)]
pub struct Snapshots {
    storage: Arc<dyn Storage>,
}

impl Snapshots {
    pub fn new(storage: Arc<dyn Storage>) -> Snapshots {
        Snapshots { storage }
    }

    /// Names of the snapshots there are, the newest first.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.storage.list()?;
        names.retain(|name| name.ends_with(SUFFIX));
        // Twenty digits before the ending: their order is that of the positions.
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    /// Removes what an interrupted process left unfinished.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn clean(&self) -> io::Result<()> {
        for name in self.storage.list()?.iter().filter(|name| name.ends_with(UNFINISHED_SUFFIX)) {
            self.storage.remove(name)?;
        }
        Ok(())
    }

    /// Removes all but the newest `count` of those that are not in `passed_over`. What was passed over does not
    /// count and is left for a person to look at.
    ///
    /// # Errors
    /// What the operating system says; what is left then is removed the next time.
    pub fn keep_newest(&self, count: usize, passed_over: &[String]) -> io::Result<()> {
        for name in self.names()?.iter().filter(|name| !passed_over.contains(name)).skip(count) {
            self.storage.remove(name)?;
        }
        Ok(())
    }
}

/// What the hashes of a file's blocks are keyed with.
fn block_key(header: &[u8; HEADER_BYTES]) -> [u8; 32] {
    blake3::derive_key("saker 2026 snapshot blocks", &header[..HEADER_HASHED])
}

fn block_hash(key: &[u8; 32], header: &[u8], payload: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&header[..BLOCK_HEADER_HASHED]);
    hasher.update(payload);
    hasher.finalize()
}

fn encode_header(id: JournalId, anchor: &Anchor) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
    header[16..32].copy_from_slice(&id.0);
    header[32..40].copy_from_slice(&anchor.sequence.to_le_bytes());
    header[40..48].copy_from_slice(&anchor.group.to_le_bytes());
    header[48..80].copy_from_slice(&anchor.chain);
    header[80..88].copy_from_slice(&anchor.segment.to_le_bytes());
    header[88..96].copy_from_slice(&anchor.offset.to_le_bytes());
    let hash = blake3::hash(&header[..HEADER_HASHED]);
    header[HEADER_HASHED..].copy_from_slice(hash.as_bytes());
    header
}

#[cfg(test)]
mod tests;

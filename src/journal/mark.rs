//! The durable mark: up to where the log is known to have been on disk.
//!
//! A log that was cut cleanly at a group's edge looks whole; only this file, synced apart from it, tells that something
//! is missing. It holds two copies that are written in turn, so that a torn write leaves the other one. It lags
//! behind the log while the log is busy: it is written at segment change, close and after idleness, not per group.
//!
//! ```text
//!  0  magic "SAKERMRK"            32  counter: the higher one is newer  u64
//!  8  format version     u32      40  sequence that was durable         u64
//! 12  CRC-32 of the rest u32      48  its group                         u64
//! 16  journal id, 16 bytes        56  hash in that group's seal, 32 bytes      (the second copy starts at 4096)
//! ```

use std::{io, sync::Arc};

use super::{
    frame::{ChainHash, hash_at, u32_at, u64_at},
    segment::{FORMAT_VERSION, JournalId},
    storage::{Storage, StorageFile},
};

/// Name of the mark's file.
pub(super) const MARK_NAME: &str = "mark";

const MAGIC: &[u8; 8] = b"SAKERMRK";
const COPY_BYTES: usize = 88;
const COPY_OFFSETS: [u64; 2] = [0, 4096];
const FILE_BYTES: usize = 8192;

/// The end of a group that was durable when the mark was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) id: JournalId,
    pub(super) sequence: u64,
    pub(super) group: u64,
    pub(super) chain: ChainHash,
}

/// What the mark's file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkFound {
    /// No file, or one whose creation was interrupted.
    Nothing,
    Good {
        mark: Mark,
        counter: u64,
    },
    Unreadable,
}

/// Reads the newer of the two copies.
pub(super) fn read(storage: &dyn Storage) -> io::Result<MarkFound> {
    let file = match storage.open(MARK_NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(MarkFound::Nothing),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; FILE_BYTES];
    let filled = file.read_at(0, &mut bytes)?;
    let copies = COPY_OFFSETS.iter().filter_map(|offset| decode(&bytes[*offset as usize..]));
    Ok(match copies.max_by_key(|(_, counter)| *counter) {
        Some((mark, counter)) => MarkFound::Good { mark, counter },
        None if filled < FILE_BYTES || bytes.iter().all(|byte| *byte == 0) => MarkFound::Nothing,
        None => MarkFound::Unreadable,
    })
}

/// The open file of the mark.
pub(super) struct MarkFile {
    file: Arc<dyn StorageFile>,
    counter: u64,
}

impl MarkFile {
    /// Opens the file that [`read`] found good, to write after `counter`.
    pub(super) fn open(storage: &dyn Storage, counter: u64) -> io::Result<MarkFile> {
        Ok(MarkFile { file: storage.open(MARK_NAME)?, counter })
    }

    /// Creates the file with both copies; the directory still has to be synced.
    pub(super) fn create(storage: &dyn Storage, mark: &Mark) -> io::Result<MarkFile> {
        let file = storage.create(MARK_NAME)?;
        file.write_at(0, &[0; FILE_BYTES])?;
        let mut created = MarkFile { file, counter: 0 };
        created.write(mark)?;
        created.write(mark)?;
        Ok(created)
    }

    /// Writes `mark` over the older copy and syncs it.
    pub(super) fn write(&mut self, mark: &Mark) -> io::Result<()> {
        self.counter += 1;
        let offset = COPY_OFFSETS[(self.counter % 2) as usize];
        self.file.write_at(offset, &encode(mark, self.counter))?;
        self.file.sync()
    }
}

fn encode(mark: &Mark, counter: u64) -> [u8; COPY_BYTES] {
    let mut copy = [0; COPY_BYTES];
    copy[0..8].copy_from_slice(MAGIC);
    copy[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    copy[16..32].copy_from_slice(&mark.id.0);
    copy[32..40].copy_from_slice(&counter.to_le_bytes());
    copy[40..48].copy_from_slice(&mark.sequence.to_le_bytes());
    copy[48..56].copy_from_slice(&mark.group.to_le_bytes());
    copy[56..88].copy_from_slice(&mark.chain);
    let crc = checksum(&copy);
    copy[12..16].copy_from_slice(&crc.to_le_bytes());
    copy
}

fn decode(bytes: &[u8]) -> Option<(Mark, u64)> {
    let copy = bytes.get(..COPY_BYTES)?;
    let ours = &copy[0..8] == MAGIC && u32_at(copy, 8) == FORMAT_VERSION && u32_at(copy, 12) == checksum(copy);
    if !ours {
        return None;
    }
    let mut id = [0; 16];
    id.copy_from_slice(&copy[16..32]);
    let mark = Mark {
        id: JournalId(id),
        sequence: u64_at(copy, 40),
        group: u64_at(copy, 48),
        chain: hash_at(copy, 56),
    };
    Some((mark, u64_at(copy, 32)))
}

fn checksum(copy: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&copy[..12]);
    hasher.update(&copy[16..COPY_BYTES]);
    hasher.finalize()
}

//! One file of keys per closed segment: under which key the segment settled something, where and what. The keys are
//! opaque 16-byte hashes here, sorted, behind a [`Filter`]; a look-up reads and checks one block of 4 KiB.
//!
//! A key file is made from its segment and can be made again, so nothing is ever repaired in it: what does not read
//! back as written is an error with its place. It is written under another name, synced, and only then gets its own.
//!
//! All numbers are little-endian.
//!
//! ```text
//! header, 4096 bytes                              block, 4096 bytes, from byte 4096 on
//!    0  magic "SAKERKEY"                             0  CRC-32 of segment, block number and the rest  u32
//!    8  format version             u32               4  entries in it: 170, fewer in the last one     u32
//!   12  CRC-32 of the rest         u32               8  entries, 24 bytes each:
//!   16  journal id, 16 bytes                              0  key       u128, rising over the whole file
//!   32  segment number             u64                   16  position  u48
//!   40  first and last sequence    u64, u64              22  kind      u16
//!   56  entries                    u64                   then zeros
//!   64  earliest and latest time   i64, i64
//!   80  seed of the filter         u64            behind the blocks
//!   88  slots of a filter segment  u32               slots of the filter           u16 each
//!   92  slots of the filter        u32               first key of each block       u128 each
//!   96  CRC-32 behind the blocks   u32
//!  100  the segment's last hash, 32 bytes
//!  132  zeros
//! ```

use std::{io, sync::Arc};

use super::{
    closed::ClosedSegment,
    error::{Fault, FaultKind, ReadError},
    filter::Filter,
    frame::{hash_at, u32_at, u64_at},
    segment::JournalId,
    storage::{Storage, StorageFile},
};

/// Version of the layout above.
const KEYS_VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"SAKERKEY";
const SUFFIX: &str = ".keys";
const UNFINISHED_SUFFIX: &str = ".keys.unfinished";
const BLOCK_BYTES: usize = 4096;
const BLOCK_HEAD_BYTES: usize = 8;
const ENTRY_BYTES: usize = 24;
const BLOCK_ENTRIES: usize = (BLOCK_BYTES - BLOCK_HEAD_BYTES) / ENTRY_BYTES;
/// Positions have 48 bits here.
const POSITION_MAX: u64 = (1 << 48) - 1;
/// Blocks written or read at once.
const BLOCKS_AT_ONCE: usize = 64;

/// What a segment settled under one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyEntry {
    pub key: u128,
    /// Of the record.
    pub position: u64,
    /// What stands there, in the writer's own numbering.
    pub kind: u16,
}

/// What a key file covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeySpan {
    pub segment: u64,
    /// What the segment held when the file was made, which is for ever: another journal's segment has another hash.
    pub closed: ClosedSegment,
    /// Of the segment's records, in milliseconds of engine time.
    pub first_time_ms: i64,
    pub last_time_ms: i64,
}

/// The directory of a journal's key files.
#[derive(Clone)]
pub struct KeyFiles {
    storage: Arc<dyn Storage>,
    id: JournalId,
}

/// One key file, with its filter and the first key of each block in memory.
pub struct KeyFile {
    storage: Arc<dyn Storage>,
    name: String,
    span: KeySpan,
    entries: u64,
    filter: Arc<Filter>,
    fences: Box<[u128]>,
}

impl KeyFiles {
    pub(super) fn new(storage: Arc<dyn Storage>, id: JournalId) -> KeyFiles {
        KeyFiles { storage, id }
    }

    /// Numbers of the segments that have a file of this name, rising. Unfinished files are removed.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn segments(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for name in self.storage.list()? {
            if name.ends_with(UNFINISHED_SUFFIX) {
                self.storage.remove(&name)?;
            } else if let Some(number) = name.strip_suffix(SUFFIX).and_then(|stem| stem.parse().ok())
                && name_of(number) == name
            {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Writes the file of a segment; durable when this returns. `entries` are put in the order of their keys first, and
    /// of several of one key the one with the highest position stays.
    ///
    /// # Errors
    /// Those of the operating system; the file does not exist then, or is the one that was there before, or is whole
    /// and only not known to be durable under its name.
    pub fn write(&self, span: KeySpan, entries: &mut Vec<KeyEntry>) -> io::Result<KeyFile> {
        entries.sort_unstable_by_key(|entry| (entry.key, std::cmp::Reverse(entry.position)));
        entries.dedup_by_key(|entry| entry.key);
        if entries.iter().any(|entry| entry.position > POSITION_MAX) {
            return Err(io::Error::other("a position beyond 48 bits"));
        }
        let unfinished = format!("{:010}{UNFINISHED_SUFFIX}", span.segment);
        self.write_as(&unfinished, span, entries).inspect_err(|_| {
            // What was written so far would only keep a full disk full; a start removes what is left.
            let _ = self.storage.remove(&unfinished);
        })
    }

    fn write_as(&self, unfinished: &str, span: KeySpan, entries: &[KeyEntry]) -> io::Result<KeyFile> {
        let file = self.storage.create(unfinished)?;
        let mut fences = Vec::with_capacity(entries.len().div_ceil(BLOCK_ENTRIES));
        let mut offset = BLOCK_BYTES as u64;
        let mut bytes = Vec::with_capacity(BLOCKS_AT_ONCE * BLOCK_BYTES);
        for chunk in entries.chunks(BLOCKS_AT_ONCE * BLOCK_ENTRIES) {
            bytes.clear();
            for block in chunk.chunks(BLOCK_ENTRIES) {
                append_block(&mut bytes, span.segment, fences.len() as u64, block);
                fences.push(block[0].key);
            }
            file.write_at(offset, &bytes)?;
            offset += bytes.len() as u64;
        }
        let filter = Filter::new(&mut entries.iter().map(|entry| filter_hash(entry.key)).collect());
        let mut summary = Vec::with_capacity(filter.slots.len() * 2 + fences.len() * 16);
        filter.slots.iter().for_each(|slot| summary.extend_from_slice(&slot.to_le_bytes()));
        fences.iter().for_each(|fence| summary.extend_from_slice(&fence.to_le_bytes()));
        file.write_at(offset, &summary)?;
        let header = Header {
            span,
            entries: entries.len() as u64,
            seed: filter.seed,
            segment_slots: filter.segment_slots,
            slots: filter.slots.len() as u32,
            summary_crc: crc32fast::hash(&summary),
        };
        file.write_at(0, &header.encode(self.id))?;
        file.sync()?;
        let name = name_of(span.segment);
        self.storage.rename(unfinished, &name)?;
        self.storage.sync_dir()?;
        Ok(KeyFile {
            storage: Arc::clone(&self.storage),
            name,
            span,
            entries: entries.len() as u64,
            filter: Arc::new(filter),
            fences: fences.into_boxed_slice(),
        })
    }

    /// Opens the file of a segment: reads its header, filter and first keys, not its entries.
    ///
    /// # Errors
    /// Where the file cannot be read, or is not as it was written.
    pub fn open(&self, segment: u64) -> Result<KeyFile, ReadError> {
        let name = name_of(segment);
        let io = |operation| {
            let file = name.clone();
            move |source| ReadError::Io { operation, file, source }
        };
        let file = self.storage.open(&name).map_err(io("open"))?;
        let length = file.len().map_err(io("measure"))?;
        let mut block = [0; BLOCK_BYTES];
        let filled = file.read_at(0, &mut block).map_err(io("read"))?;
        let fault = |offset: u64, kind| fault(&name, offset, 0, kind);
        if filled < BLOCK_BYTES {
            return Err(fault(filled as u64, FaultKind::KeysDamaged("the header is cut short")));
        }
        let header = Header::decode(&block, self.id, segment).map_err(|kind| fault(0, kind))?;
        let summary_offset = header.summary_offset();
        let summary_bytes = header.summary_bytes();
        if length != summary_offset + summary_bytes {
            let offset = length.min(summary_offset + summary_bytes);
            return Err(fault(offset, FaultKind::KeysDamaged("the file has another length than it names")));
        }
        let mut summary = vec![0; summary_bytes as usize];
        let filled = file.read_at(summary_offset, &mut summary).map_err(io("read"))?;
        if filled < summary.len() || crc32fast::hash(&summary) != header.summary_crc {
            return Err(fault(summary_offset, FaultKind::KeysDamaged("the filter's checksum does not hold")));
        }
        let (slots, fences) = summary.split_at(2 * header.slots as usize);
        let slots = slots.chunks_exact(2).map(|slot| u16::from_le_bytes([slot[0], slot[1]])).collect();
        // A filter that found no seed was stored without slots and must go on saying maybe.
        let filter = match header.slots == 0 && header.entries > 0 {
            true => Filter::of_everything(),
            false => Filter::from_parts(header.seed, header.segment_slots, slots),
        };
        Ok(KeyFile {
            storage: Arc::clone(&self.storage),
            span: header.span,
            entries: header.entries,
            filter: Arc::new(filter),
            fences: fences.chunks_exact(16).map(|fence| u128_at(fence, 0)).collect(),
            name,
        })
    }

    /// Removes the file of a segment.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn remove(&self, segment: u64) -> io::Result<()> {
        self.storage.remove(&name_of(segment))?;
        self.storage.sync_dir()
    }
}

impl KeyFile {
    pub fn span(&self) -> &KeySpan {
        &self.span
    }

    /// Number of keys in it.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    pub fn filter(&self) -> &Arc<Filter> {
        &self.filter
    }

    /// What stands under `key`. Reads the file: not for a runtime's thread.
    ///
    /// # Errors
    /// Where the block that would have it cannot be read, or is not as it was written.
    pub fn find(&self, key: u128) -> Result<Option<KeyEntry>, ReadError> {
        let Some(number) = self.fences.partition_point(|fence| *fence <= key).checked_sub(1) else {
            return Ok(None);
        };
        let mut block = [0; BLOCK_BYTES];
        let file = self.open()?;
        self.read(&*file, number, &mut block)?;
        let entries = self.checked(number, &block)?;
        let place = entries.partition_point(|entry| u128_at(entry, 0) < key);
        Ok(entries.get(place).map(decode_entry).filter(|entry| entry.key == key))
    }

    /// Gives every entry to `each`, in the order of keys. Reads the whole file.
    ///
    /// # Errors
    /// Where a block cannot be read, or is not as it was written; those before it have been given.
    pub fn for_each(&self, each: &mut dyn FnMut(KeyEntry)) -> Result<(), ReadError> {
        let file = self.open()?;
        let mut blocks = vec![0; BLOCKS_AT_ONCE * BLOCK_BYTES];
        let mut number = 0;
        while number < self.fences.len() {
            let count = BLOCKS_AT_ONCE.min(self.fences.len() - number);
            self.read(&*file, number, &mut blocks[..count * BLOCK_BYTES])?;
            for block in blocks[..count * BLOCK_BYTES].as_chunks::<BLOCK_BYTES>().0 {
                self.checked(number, block)?.iter().for_each(|entry| each(decode_entry(entry)));
                number += 1;
            }
        }
        Ok(())
    }

    fn open(&self) -> Result<Arc<dyn StorageFile>, ReadError> {
        self.storage.open(&self.name).map_err(|error| self.io("open", error))
    }

    fn read(&self, file: &dyn StorageFile, number: usize, blocks: &mut [u8]) -> Result<(), ReadError> {
        let offset = block_offset(number as u64);
        let filled = file.read_at(offset, blocks).map_err(|error| self.io("read", error))?;
        match filled == blocks.len() {
            true => Ok(()),
            false => Err(self.fault(offset + filled as u64, "the file is cut short")),
        }
    }

    /// The entries of a block, once it is known to be as it was written.
    fn checked<'a>(
        &self,
        number: usize,
        block: &'a [u8; BLOCK_BYTES],
    ) -> Result<&'a [[u8; ENTRY_BYTES]], ReadError> {
        let expected = (self.entries as usize - number * BLOCK_ENTRIES).min(BLOCK_ENTRIES);
        if u32_at(block, 0) != block_crc(self.span.segment, number as u64, block)
            || u32_at(block, 4) as usize != expected
        {
            return Err(self.fault(block_offset(number as u64), "the block's checksum does not hold"));
        }
        let entries = &block[BLOCK_HEAD_BYTES..BLOCK_HEAD_BYTES + expected * ENTRY_BYTES];
        Ok(entries.as_chunks::<ENTRY_BYTES>().0)
    }

    fn io(&self, operation: &'static str, source: io::Error) -> ReadError {
        ReadError::Io { operation, file: self.name.clone(), source }
    }

    fn fault(&self, offset: u64, what: &'static str) -> ReadError {
        fault(&self.name, offset, self.span.closed.first_sequence, FaultKind::KeysDamaged(what))
    }
}

/// The half of a key that the filter works on.
pub fn filter_hash(key: u128) -> u64 {
    key as u64
}

struct Header {
    span: KeySpan,
    entries: u64,
    seed: u64,
    segment_slots: u32,
    slots: u32,
    summary_crc: u32,
}

impl Header {
    fn encode(&self, id: JournalId) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[0..8].copy_from_slice(MAGIC);
        block[8..12].copy_from_slice(&KEYS_VERSION.to_le_bytes());
        block[16..32].copy_from_slice(&id.0);
        let span = &self.span;
        let closed = &span.closed;
        let words = [span.segment, closed.first_sequence, closed.last_sequence, self.entries];
        let times = [span.first_time_ms as u64, span.last_time_ms as u64, self.seed];
        for (place, word) in words.into_iter().chain(times).enumerate() {
            block[32 + 8 * place..40 + 8 * place].copy_from_slice(&word.to_le_bytes());
        }
        for (place, word) in [self.segment_slots, self.slots, self.summary_crc].into_iter().enumerate() {
            block[88 + 4 * place..92 + 4 * place].copy_from_slice(&word.to_le_bytes());
        }
        block[100..132].copy_from_slice(&closed.chain);
        let crc = header_crc(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        block
    }

    fn decode(block: &[u8; BLOCK_BYTES], id: JournalId, segment: u64) -> Result<Header, FaultKind> {
        if &block[0..8] != MAGIC {
            return Err(FaultKind::ForeignFile);
        }
        let version = u32_at(block, 8);
        if version != KEYS_VERSION {
            return Err(FaultKind::Version { found: version });
        }
        if header_crc(block) != u32_at(block, 12) {
            return Err(FaultKind::KeysDamaged("the header's checksum does not hold"));
        }
        let header = Header {
            span: KeySpan {
                segment: u64_at(block, 32),
                closed: ClosedSegment {
                    first_sequence: u64_at(block, 40),
                    last_sequence: u64_at(block, 48),
                    chain: hash_at(block, 100),
                },
                first_time_ms: u64_at(block, 64) as i64,
                last_time_ms: u64_at(block, 72) as i64,
            },
            entries: u64_at(block, 56),
            seed: u64_at(block, 80),
            segment_slots: u32_at(block, 88),
            slots: u32_at(block, 92),
            summary_crc: u32_at(block, 96),
        };
        if block[16..32] != id.0 || header.span.segment != segment {
            return Err(FaultKind::ForeignFile);
        }
        match Filter::is_shape(header.segment_slots, u64::from(header.slots))
            && header.entries <= POSITION_MAX
        {
            true => Ok(header),
            false => Err(FaultKind::KeysDamaged("the header contradicts itself")),
        }
    }

    fn blocks(&self) -> u64 {
        self.entries.div_ceil(BLOCK_ENTRIES as u64)
    }

    fn summary_offset(&self) -> u64 {
        block_offset(self.blocks())
    }

    fn summary_bytes(&self) -> u64 {
        2 * u64::from(self.slots) + 16 * self.blocks()
    }
}

fn name_of(segment: u64) -> String {
    format!("{segment:010}{SUFFIX}")
}

fn block_offset(number: u64) -> u64 {
    (number + 1) * BLOCK_BYTES as u64
}

fn append_block(out: &mut Vec<u8>, segment: u64, number: u64, entries: &[KeyEntry]) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for entry in entries {
        out.extend_from_slice(&entry.key.to_le_bytes());
        out.extend_from_slice(&(entry.position | u64::from(entry.kind) << 48).to_le_bytes());
    }
    out.resize(start + BLOCK_BYTES, 0);
    let crc = block_crc(segment, number, &out[start..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

fn block_crc(segment: u64, number: u64, block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(&block[4..]);
    hasher.finalize()
}

fn header_crc(block: &[u8; BLOCK_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..12]);
    hasher.update(&block[16..]);
    hasher.finalize()
}

fn decode_entry(entry: &[u8; ENTRY_BYTES]) -> KeyEntry {
    let word = u64_at(entry, 16);
    KeyEntry { key: u128_at(entry, 0), position: word & POSITION_MAX, kind: (word >> 48) as u16 }
}

fn u128_at(bytes: &[u8], offset: usize) -> u128 {
    u128::from(u64_at(bytes, offset)) | u128::from(u64_at(bytes, offset + 8)) << 64
}

fn fault(file: &str, offset: u64, sequence: u64, kind: FaultKind) -> ReadError {
    Fault { file: file.to_owned(), offset, sequence, kind }.into()
}

#[cfg(test)]
mod tests;

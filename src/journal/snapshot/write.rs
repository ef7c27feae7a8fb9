//! Writing a snapshot: items into blocks, blocks into a file under an unfinished name, and the name last.

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Anchor, BLOCK_HEADER_BYTES, BLOCK_HEADER_HASHED, END_SECTION, FIRST_FREE_SECTION, HEADER_BYTES,
    INDEX_SECTION, SUFFIX, Snapshots, UNFINISHED_SUFFIX, block_hash, block_key, encode_header,
};
use crate::journal::{
    Journal,
    index::PLACE_BYTES,
    storage::{Storage, StorageFile},
};

/// A block is written once it has this much.
const BLOCK_BYTES: usize = 256 * 1024;
/// Bytes between two syncs: what the journal's own sync may have to wait behind.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;
/// Places of the index in one item.
const PLACES_PER_ITEM: usize = 4_096;
/// Between two looks whether the journal has come as far as the snapshot.
const POLL: Duration = Duration::from_millis(1);

/// Why a snapshot was not made. The journal and the engine are as they were.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("{operation} {file}: {source}")]
    Io { operation: &'static str, file: String, source: io::Error },
    /// It would take room that the journal may need.
    #[error("the disk has {free} bytes left, and {needed} are needed so that the journal keeps {kept_free}")]
    NoRoom { free: u64, needed: u64, kept_free: u64 },
    /// The journal stopped before everything that was copied was durable.
    #[error("the journal stopped before what was copied was durable")]
    Stopped,
    /// Whoever ordered it wants it no longer.
    #[error("given up")]
    GivenUp,
}

/// A snapshot that has its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    pub name: String,
    /// The position of its anchor.
    pub position: u64,
    /// The position that the log must reach.
    pub reach: u64,
    pub bytes: u64,
    pub duration: Duration,
}

/// What a snapshot may use of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Not more is written a second, so that the journal's syncs do not wait.
    pub bytes_per_s: u64,
    /// How long the file will be, about; it is not begun where there is no room for so much.
    pub expected_bytes: u64,
    /// What it leaves free: room that the journal may need before there is more.
    pub kept_free: u64,
}

/// A snapshot being written. Dropped unfinished, its file is removed.
pub struct SnapshotWriter {
    storage: Arc<dyn Storage>,
    file: Arc<dyn StorageFile>,
    unfinished: String,
    finished: bool,
    key: [u8; 32],
    anchor: Anchor,
    /// Header and payload of the block being filled.
    block: Vec<u8>,
    items_in_block: u32,
    section: u32,
    /// Items by section.
    items: BTreeMap<u32, u64>,
    blocks: u64,
    bytes: u64,
    unsynced: u64,
    terms: Terms,
    begun: Instant,
}

impl Snapshots {
    /// Begins a snapshot of what stands at this moment: takes the anchor, then writes the journal's own part. Whatever
    /// the caller copies from now on holds the effect of every record up to the anchor.
    ///
    /// Never much is written between two syncs, so that the journal's own syncs do not wait behind them.
    ///
    /// # Errors
    /// [`SnapshotError::Io`] and [`SnapshotError::NoRoom`].
    pub fn begin(&self, journal: &Journal, terms: Terms) -> Result<SnapshotWriter, SnapshotError> {
        let anchor = journal.anchor();
        let unfinished = format!("{:020}{UNFINISHED_SUFFIX}", anchor.sequence);
        let io = |operation| {
            let file = unfinished.clone();
            move |source| SnapshotError::Io { operation, file, source }
        };
        self.clean().map_err(io("clean before"))?;
        check_room(&*self.storage, terms, terms.expected_bytes)?;
        let file = self.storage.create(&unfinished).map_err(io("create"))?;
        let header = encode_header(journal.id(), &anchor);
        let mut writer = SnapshotWriter {
            storage: Arc::clone(&self.storage),
            file,
            unfinished,
            finished: false,
            key: block_key(&header),
            anchor,
            block: Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 4),
            items_in_block: 0,
            section: INDEX_SECTION,
            items: BTreeMap::new(),
            blocks: 0,
            bytes: 0,
            unsynced: 0,
            terms,
            begun: Instant::now(),
        };
        writer.block.resize(BLOCK_HEADER_BYTES, 0);
        writer.write(&header)?;
        writer.index(journal)?;
        Ok(writer)
    }
}

impl SnapshotWriter {
    /// The last position whose effect everything copied after [`Snapshots::begin`] has.
    pub fn position(&self) -> u64 {
        self.anchor.sequence
    }

    /// What follows belongs to `section`, which is [`FIRST_FREE_SECTION`] or above.
    ///
    /// # Errors
    /// [`SnapshotError::Io`] where the block before it cannot be written.
    pub fn section(&mut self, section: u32) -> Result<(), SnapshotError> {
        debug_assert!(section >= FIRST_FREE_SECTION);
        self.flush()?;
        self.section = section;
        Ok(())
    }

    /// Adds one item, which `put` appends. Only then, and outside of whatever `put` locks, a full block is written.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn item<R>(&mut self, put: impl FnOnce(&mut Vec<u8>) -> R) -> Result<R, SnapshotError> {
        let start = self.block.len();
        self.block.extend_from_slice(&[0; 4]);
        let result = put(&mut self.block);
        let length = (self.block.len() - start - 4) as u32;
        self.block[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.items_in_block += 1;
        if self.block.len() >= BLOCK_BYTES {
            self.flush()?;
        }
        Ok(result)
    }

    /// Ends the snapshot: notes how far the log must reach, waits until it does and gives the file its name.
    ///
    /// # Errors
    /// [`SnapshotError`]. Once the file has its name only the directory can still refuse to be synced: the snapshot
    /// is whole then, and there or not after a loss of power.
    pub fn finish(mut self, journal: &Journal, go_on: &dyn Fn() -> bool) -> Result<Written, SnapshotError> {
        self.flush()?;
        let reach = journal.taken();
        let items = std::mem::take(&mut self.items);
        self.section = END_SECTION;
        let blocks = self.blocks;
        self.item(|out| {
            out.extend_from_slice(&reach.to_le_bytes());
            out.extend_from_slice(&blocks.to_le_bytes());
            for (section, count) in &items {
                out.extend_from_slice(&section.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
        })?;
        self.flush()?;
        self.sync()?;
        // A snapshot is never ahead of the disk: what it says of a record that is lost would be wrong for ever.
        while journal.durable() < reach {
            if journal.has_stopped() {
                return Err(SnapshotError::Stopped);
            }
            if !go_on() {
                return Err(SnapshotError::GivenUp);
            }
            std::thread::sleep(POLL);
        }
        let name = format!("{:020}{SUFFIX}", self.anchor.sequence);
        let renamed = self.storage.rename(&self.unfinished, &name);
        renamed.map_err(|source| self.failed("rename", source))?;
        self.finished = true;
        self.storage.sync_dir().map_err(|source| self.failed("sync the directory of", source))?;
        let (position, bytes) = (self.anchor.sequence, self.bytes);
        Ok(Written { name, position, reach, bytes, duration: self.begun.elapsed() })
    }

    /// The index up to the anchor, part by part: the journal's thread needs it between two groups.
    fn index(&mut self, journal: &Journal) -> Result<(), SnapshotError> {
        let mut from = 0;
        loop {
            let part = journal.places(from, PLACES_PER_ITEM, self.anchor.sequence);
            if part.is_empty() {
                return Ok(());
            }
            from += part.len();
            self.item(|out| {
                out.reserve(part.len() * PLACE_BYTES);
                part.iter().for_each(|place| out.extend_from_slice(&place.to_bytes()));
            })?;
        }
    }

    /// Writes the block, if there is anything in it.
    fn flush(&mut self) -> Result<(), SnapshotError> {
        if self.items_in_block == 0 {
            return Ok(());
        }
        let before = self.items.entry(self.section).or_default();
        let (header, payload) = self.block.split_at_mut(BLOCK_HEADER_BYTES);
        header[0..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&self.items_in_block.to_le_bytes());
        header[8..12].copy_from_slice(&self.section.to_le_bytes());
        header[16..24].copy_from_slice(&self.blocks.to_le_bytes());
        header[24..32].copy_from_slice(&before.to_le_bytes());
        *before += u64::from(self.items_in_block);
        let hash = block_hash(&self.key, header, payload);
        header[BLOCK_HEADER_HASHED..].copy_from_slice(hash.as_bytes());
        let mut block = std::mem::take(&mut self.block);
        let written = self.write(&block);
        block.truncate(BLOCK_HEADER_BYTES);
        self.block = block;
        self.items_in_block = 0;
        self.blocks += 1;
        written
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.file.write_at(self.bytes, bytes).map_err(|source| self.failed("write", source))?;
        self.bytes += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_BYTES {
            self.sync()?;
            check_room(&*self.storage, self.terms, SYNC_BYTES)?;
        }
        let due = Duration::from_secs_f64(self.bytes as f64 / self.terms.bytes_per_s.max(1) as f64);
        if let Some(early) = due.checked_sub(self.begun.elapsed()) {
            std::thread::sleep(early);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SnapshotError> {
        self.unsynced = 0;
        self.file.sync().map_err(|source| self.failed("sync", source))
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> SnapshotError {
        SnapshotError::Io { operation, file: self.unfinished.clone(), source }
    }
}

/// Refuses where so many bytes more would leave too little. A disk that does not say what it has left is found out when
/// it is full.
fn check_room(storage: &dyn Storage, terms: Terms, bytes: u64) -> Result<(), SnapshotError> {
    let needed = bytes.saturating_add(terms.kept_free);
    match storage.free_bytes() {
        Some(free) if free < needed => {
            Err(SnapshotError::NoRoom { free, needed, kept_free: terms.kept_free })
        }
        _ => Ok(()),
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is removed before the next one.
            let _ = self.storage.remove(&self.unfinished);
        }
    }
}

const _: () = assert!(HEADER_BYTES < BLOCK_BYTES);

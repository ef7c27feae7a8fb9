//! Reading a snapshot: its frame is walked at once, its blocks are checked when they are read, by as many threads as
//! there are.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{
    Anchor, BLOCK_HEADER_BYTES, BLOCK_HEADER_HASHED, END_SECTION, HEADER_BYTES, HEADER_HASHED, INDEX_SECTION,
    MAGIC, SNAPSHOT_VERSION, Snapshots, block_hash, block_key,
};
use crate::{
    journal::{
        error::{Fault, FaultKind, LogError},
        frame::{hash_at, u32_at, u64_at},
        index::{Index, PLACE_BYTES, Place},
        segment::JournalId,
        storage::StorageFile,
    },
    types::bytes::Fields,
};

/// A snapshot whose frame is whole. Each block is checked when it is read.
pub struct Snapshot {
    name: String,
    file: Arc<dyn StorageFile>,
    anchor: Anchor,
    key: [u8; 32],
    reach: u64,
    bytes: u64,
    blocks: Vec<BlockPlace>,
    items: BTreeMap<u32, u64>,
    /// The journal's index up to the anchor.
    index: Index,
}

/// Where a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    pub section: u32,
    number: u64,
    offset: u64,
    payload_bytes: u32,
    items: u32,
    /// The number of its first item in its section.
    pub first_item: u64,
}

/// A block that was read and checked.
pub struct Block<'b> {
    payload: &'b [u8],
}

impl<'b> Block<'b> {
    /// Its items. They are as many as the block says: that was checked.
    pub fn items(&self) -> impl Iterator<Item = &'b [u8]> {
        let mut fields = Fields::new(self.payload);
        std::iter::from_fn(move || {
            let length = fields.u32().ok()?;
            fields.slice(length as usize).ok()
        })
    }
}

impl Snapshots {
    /// Reads the frame of a snapshot and the journal's own part of it.
    ///
    /// # Errors
    /// A fault with its place where the file is not a whole snapshot of the journal `id` and of this version.
    pub(in crate::journal) fn read(&self, name: &str, id: JournalId) -> Result<Snapshot, LogError> {
        let io =
            |operation| move |source: io::Error| LogError::Io { operation, file: name.to_owned(), source };
        let file = self.storage.open(name).map_err(io("open"))?;
        let length = file.len().map_err(io("measure"))?;
        let fault = |offset: u64, kind| Fault { file: name.to_owned(), offset, sequence: 0, kind };
        let mut header = [0; HEADER_BYTES];
        let read = file.read_at(0, &mut header).map_err(io("read"))?;
        if read < HEADER_BYTES || &header[0..8] != MAGIC {
            return Err(fault(0, FaultKind::SnapshotHeader).into());
        }
        let version = u32_at(&header, 8);
        if version != SNAPSHOT_VERSION {
            return Err(fault(8, FaultKind::Version { found: version }).into());
        }
        if blake3::hash(&header[..HEADER_HASHED]).as_bytes()[..] != header[HEADER_HASHED..] {
            return Err(fault(0, FaultKind::SnapshotHeader).into());
        }
        if header[16..32] != id.0 {
            return Err(fault(16, FaultKind::ForeignFile).into());
        }
        let anchor = Anchor {
            sequence: u64_at(&header, 32),
            group: u64_at(&header, 40),
            chain: hash_at(&header, 48),
            segment: u64_at(&header, 80),
            offset: u64_at(&header, 88),
        };
        let mut snapshot = Snapshot {
            name: name.to_owned(),
            file,
            anchor,
            key: block_key(&header),
            reach: 0,
            bytes: length,
            blocks: Vec::new(),
            items: BTreeMap::new(),
            index: Index::default(),
        };
        match snapshot.walk() {
            Ok(()) => {
                snapshot.index = snapshot.read_index()?;
                Ok(snapshot)
            }
            // A length that is wrong leads the walk astray: the place to name is the block that says it.
            Err(astray) => Err(snapshot.first_damaged().unwrap_or(astray)),
        }
    }
}

impl Snapshot {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last position whose effect everything in it has.
    pub fn position(&self) -> u64 {
        self.anchor.sequence
    }

    /// Length of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many items a section has.
    pub fn items(&self, section: u32) -> u64 {
        self.items.get(&section).copied().unwrap_or(0)
    }

    /// The blocks of a section, in order.
    pub fn blocks(&self, section: u32) -> impl Iterator<Item = BlockPlace> {
        self.blocks.iter().filter(move |block| block.section == section).copied()
    }

    /// Reads a block into `buffer` and checks it.
    ///
    /// # Errors
    /// A fault at the block where it is damaged; what the operating system says.
    pub fn read<'b>(&self, place: BlockPlace, buffer: &'b mut Vec<u8>) -> Result<Block<'b>, LogError> {
        let damaged = || self.fault(place.offset, FaultKind::SnapshotBlock { number: place.number });
        buffer.resize(BLOCK_HEADER_BYTES + place.payload_bytes as usize, 0);
        let read = self.file.read_at(place.offset, buffer);
        let read = read.map_err(|source| self.io("read", source))?;
        if read < buffer.len() {
            return Err(damaged().into());
        }
        let (header, payload) = buffer.split_at(BLOCK_HEADER_BYTES);
        let ours = block_hash(&self.key, header, payload).as_bytes()[..] == header[BLOCK_HEADER_HASHED..];
        if !ours || self.place(place.offset, header) != place {
            return Err(damaged().into());
        }
        let block = Block { payload };
        if block.items().count() != place.items as usize {
            return Err(damaged().into());
        }
        Ok(block)
    }

    /// What is wrong with an item of a block, as a fault with its place.
    pub fn unreadable(&self, place: BlockPlace, what: impl ToString) -> LogError {
        self.fault(place.offset, FaultKind::SnapshotItem { what: what.to_string() }).into()
    }

    /// That something is not in it.
    pub fn incomplete(&self, what: &str) -> LogError {
        self.fault(self.bytes, FaultKind::SnapshotItem { what: what.to_owned() }).into()
    }

    pub(in crate::journal) fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// The position that was durable before this file got its name.
    pub(in crate::journal) fn reach(&self) -> u64 {
        self.reach
    }

    pub(in crate::journal) fn index(&self) -> &Index {
        &self.index
    }

    fn read_index(&self) -> Result<Index, LogError> {
        let mut index = Index::default();
        let mut buffer = Vec::new();
        for place in self.blocks(INDEX_SECTION) {
            for item in self.read(place, &mut buffer)?.items() {
                let (places, rest) = item.as_chunks::<PLACE_BYTES>();
                let known = places.iter().map(Place::from_bytes).try_for_each(|place| index.append(place));
                if !rest.is_empty() || known.is_none() {
                    return Err(self.unreadable(place, "the index of positions is out of order"));
                }
            }
        }
        Ok(index)
    }

    /// Finds the blocks and holds them against the end, which is checked here.
    fn walk(&mut self) -> Result<(), LogError> {
        let cut = |snapshot: &Snapshot, offset| snapshot.fault(offset, FaultKind::SnapshotCut);
        let mut offset = HEADER_BYTES as u64;
        loop {
            let mut header = [0; BLOCK_HEADER_BYTES];
            let read = self.file.read_at(offset, &mut header).map_err(|source| self.io("read", source))?;
            let place = self.place(offset, &header);
            let end = offset + (BLOCK_HEADER_BYTES + place.payload_bytes as usize) as u64;
            if read < header.len() || end > self.bytes {
                return Err(cut(self, offset).into());
            }
            let damaged =
                || self.fault(offset, FaultKind::SnapshotBlock { number: self.blocks.len() as u64 });
            if place.section == END_SECTION {
                return self.check_end(place, end);
            }
            if place.number != self.blocks.len() as u64 || place.first_item != self.items(place.section) {
                return Err(damaged().into());
            }
            *self.items.entry(place.section).or_default() += u64::from(place.items);
            self.blocks.push(place);
            offset = end;
        }
    }

    /// What is wrong with the first block that does not have its hash.
    fn first_damaged(&self) -> Option<LogError> {
        let mut buffer = Vec::new();
        self.blocks.iter().find_map(|place| self.read(*place, &mut buffer).err())
    }

    fn check_end(&mut self, place: BlockPlace, end: u64) -> Result<(), LogError> {
        let mut buffer = Vec::new();
        let block = self.read(place, &mut buffer)?;
        let wrong = || self.fault(place.offset, FaultKind::SnapshotEnd);
        if end != self.bytes || place.number != self.blocks.len() as u64 || place.items != 1 {
            return Err(wrong().into());
        }
        let mut fields = Fields::new(block.items().next().unwrap_or_default());
        let mut totals = || {
            let (reach, blocks) = (fields.u64().ok()?, fields.u64().ok()?);
            let mut items = BTreeMap::new();
            while fields.end().is_err() {
                items.insert(fields.u32().ok()?, fields.u64().ok()?);
            }
            Some((reach, blocks, items))
        };
        match totals() {
            Some((reach, blocks, items))
                if blocks == self.blocks.len() as u64
                    && items == self.items
                    && reach >= self.anchor.sequence =>
            {
                self.reach = reach;
                Ok(())
            }
            _ => Err(wrong().into()),
        }
    }

    fn place(&self, offset: u64, header: &[u8]) -> BlockPlace {
        BlockPlace {
            section: u32_at(header, 8),
            number: u64_at(header, 16),
            offset,
            payload_bytes: u32_at(header, 0),
            items: u32_at(header, 4),
            first_item: u64_at(header, 24),
        }
    }

    fn fault(&self, offset: u64, kind: FaultKind) -> Fault {
        Fault { file: self.name.clone(), offset, sequence: self.anchor.sequence, kind }
    }

    fn io(&self, operation: &'static str, source: io::Error) -> LogError {
        LogError::Io { operation, file: self.name.clone(), source }
    }
}

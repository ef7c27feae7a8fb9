//! A disk for tests that loses what was not synced, tears writes at any byte and fails any operation.
//!
//! It keeps for each file what is durable and what was written since, and for the directory likewise. Losing power
//! keeps a random part of what was written since: some of its 512-byte sectors, one of them torn at any byte, and
//! some of the directory's changes in their order. What was synced stays, always. A sync that fails forgets what it
//! should have written, as Linux does: the process still reads it, and the next sync succeeds without it.

use std::{
    any::Any,
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::storage::{Storage, StorageFile};

const SECTOR_BYTES: usize = 512;

/// What happens at one operation, counted from 1 over all that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// This one operation fails, having done a part of its work.
    FailAt(u64),
    /// The power goes at this operation: it and all later ones fail.
    PowerOffAt(u64),
}

#[derive(Clone)]
pub(crate) struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    slow: Arc<(Mutex<Slow>, Condvar)>,
}

/// Which threads wait for this disk, by name.
#[derive(Default)]
struct Slow {
    /// The one that does not come back from a write or sync, until it is let go.
    held: Option<&'static str>,
    /// Whether it is there.
    is_waiting: bool,
    /// The one whose writes take so long.
    delayed: Option<(&'static str, Duration)>,
}

struct State {
    inodes: Vec<Inode>,
    /// The directory as the process sees it, and as it would be found after losing power.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    trouble: Trouble,
    operations: u64,
    /// Operations that failed, but for those of preparing a segment.
    failed: u64,
    /// Files on which an operation was tried after the first failure.
    writes_after_failure: Vec<String>,
    capacity: u64,
    locked: Arc<AtomicBool>,
}

#[derive(Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    present: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone)]
enum Change {
    Set(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
    name: String,
}

struct Lock(Arc<AtomicBool>);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl SimulatedDisk {
    pub(crate) fn new() -> SimulatedDisk {
        SimulatedDisk::with(Vec::new(), BTreeMap::new())
    }

    /// A disk with these files, all durable.
    pub(crate) fn holding(files: &BTreeMap<String, Vec<u8>>) -> SimulatedDisk {
        let inodes = files.values().map(|bytes| Inode {
            durable: bytes.clone(),
            present: bytes.clone(),
            pending: vec![],
        });
        let names = files.keys().cloned().zip(0..).collect();
        SimulatedDisk::with(inodes.collect(), names)
    }

    fn with(inodes: Vec<Inode>, names: BTreeMap<String, usize>) -> SimulatedDisk {
        let state = State {
            inodes,
            durable_names: names.clone(),
            names,
            changes: Vec::new(),
            trouble: Trouble::None,
            operations: 0,
            failed: 0,
            writes_after_failure: Vec::new(),
            capacity: u64::MAX,
            locked: Arc::new(AtomicBool::new(false)),
        };
        SimulatedDisk { state: Arc::new(Mutex::new(state)), slow: Arc::default() }
    }

    /// Lets a thread wait at its next write or sync, until it is let go.
    pub(crate) fn hold(&self, thread: &'static str) {
        self.slow.0.lock().held = Some(thread);
    }

    pub(crate) fn let_go(&self) {
        self.slow.0.lock().held = None;
        self.slow.1.notify_all();
    }

    /// Whether the thread that is held waits here.
    pub(crate) fn is_holding(&self) -> bool {
        self.slow.0.lock().is_waiting
    }

    /// Lets every write of a thread, and taking room, take so long.
    pub(super) fn delay_writes(&self, thread: &'static str, by: Duration) {
        self.slow.0.lock().delayed = Some((thread, by));
    }

    fn wait_while_held(&self) {
        let (slow, changed) = &*self.slow;
        let mut slow = slow.lock();
        while slow.held.is_some() && slow.held == std::thread::current().name() {
            slow.is_waiting = true;
            changed.wait(&mut slow);
            slow.is_waiting = false;
        }
    }

    fn wait_while_delayed(&self) {
        let delayed = self.slow.0.lock().delayed;
        if let Some((thread, by)) = delayed
            && std::thread::current().name() == Some(thread)
        {
            std::thread::sleep(by);
        }
    }

    pub(crate) fn set_trouble(&self, trouble: Trouble) {
        self.state.lock().trouble = trouble;
    }

    /// Bytes that all files together may have.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        self.state.lock().capacity = capacity;
    }

    pub(crate) fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Whether the power has gone.
    pub(crate) fn is_off(&self) -> bool {
        let state = self.state.lock();
        matches!(state.trouble, Trouble::PowerOffAt(operation) if state.operations >= operation)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.state.lock().failed
    }

    pub(crate) fn writes_after_failure(&self) -> Vec<String> {
        self.state.lock().writes_after_failure.clone()
    }

    /// The files as the process sees them.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state.lock();
        state.names.iter().map(|(name, inode)| (name.clone(), state.inodes[*inode].present.clone())).collect()
    }

    /// What a killed process leaves: everything written, synced or not.
    pub(crate) fn after_kill(&self) -> SimulatedDisk {
        let state = self.state.lock();
        let disk = SimulatedDisk::with(state.inodes.clone(), state.names.clone());
        {
            let mut next = disk.state.lock();
            next.durable_names = state.durable_names.clone();
            next.changes = state.changes.clone();
        }
        disk
    }

    /// What is found when the power is back.
    pub(crate) fn after_power_loss(&self, rng: &mut ChaCha8Rng) -> SimulatedDisk {
        let state = self.state.lock();
        let inodes: Vec<Inode> = state
            .inodes
            .iter()
            .map(|inode| {
                let mut bytes = inode.durable.clone();
                let share = rng.random_range(0.0..=1.0);
                for (offset, written) in &inode.pending {
                    keep_some(&mut bytes, *offset, written, share, rng);
                }
                Inode { durable: bytes.clone(), present: bytes, pending: Vec::new() }
            })
            .collect();
        let mut names = state.durable_names.clone();
        let kept = rng.random_range(0..=state.changes.len());
        for change in &state.changes[..kept] {
            change.apply(&mut names);
        }
        SimulatedDisk::with(inodes, names)
    }
}

/// Lets some sectors of one write arrive, and a part of one of them.
fn keep_some(bytes: &mut Vec<u8>, offset: usize, written: &[u8], share: f64, rng: &mut ChaCha8Rng) {
    let mut at = 0;
    while at < written.len() {
        let end = ((offset + at) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - offset).min(written.len());
        let kept = match rng.random_range(0.0..1.0) {
            _ if share == 0.0 => 0,
            draw if draw < share => end - at,
            _ if rng.random_ratio(1, 4) => rng.random_range(0..=end - at),
            _ => 0,
        };
        put(bytes, offset + at, &written[at..at + kept]);
        at = end;
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    if written.is_empty() {
        return;
    }
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(written);
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Change::Set(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Change::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Change::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl State {
    /// Counts an operation on `name`; tells whether it fails.
    fn fails(&mut self, name: &str) -> bool {
        self.operations += 1;
        // The thread that prepares segments may fail and go on; everything else must end with the first failure.
        let preparing = std::thread::current().name() == Some("saker-prepare");
        if self.failed > 0 && !preparing {
            self.writes_after_failure.push(name.to_owned());
        }
        let fails = match self.trouble {
            Trouble::None => false,
            Trouble::FailAt(operation) => self.operations == operation,
            Trouble::PowerOffAt(operation) => self.operations >= operation,
        };
        self.failed += u64::from(fails && !preparing);
        fails
    }

    fn change(&mut self, name: &str, change: Change) -> io::Result<()> {
        if self.fails(name) {
            return Err(io::Error::other("simulated failure"));
        }
        change.apply(&mut self.names);
        self.changes.push(change);
        Ok(())
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn free(&self) -> u64 {
        let used: u64 = self.names.values().map(|inode| self.inodes[*inode].present.len() as u64).sum();
        self.capacity.saturating_sub(used)
    }

    /// Refuses where a file of `bytes` bytes would be too much for the disk.
    fn room_for(&self, inode: usize, bytes: u64) -> io::Result<()> {
        let growth = bytes.saturating_sub(self.inodes[inode].present.len() as u64);
        if growth > self.free() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Storage for SimulatedDisk {
    fn place(&self) -> String {
        "the simulated disk".to_owned()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let locked = Arc::clone(&self.state.lock().locked);
        if locked.swap(true, Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock(locked)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state.lock();
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change(name, Change::Set(name.to_owned(), inode))?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), inode, name: name.to_owned() }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let inode = self.state.lock().inode(name)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), inode, name: name.to_owned() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.inode(from)?;
        state.change(to, Change::Rename(from.to_owned(), to.to_owned(), inode))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.inode(name)?;
        state.change(name, Change::Remove(name.to_owned()))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.fails("the directory") {
            return Err(io::Error::other("simulated failure"));
        }
        state.durable_names = state.names.clone();
        state.changes.clear();
        Ok(())
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(self.state.lock().free())
    }
}

impl StorageFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state.lock().inodes[self.inode].present.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state.lock();
        let present = state.inodes[self.inode].present.get(offset as usize..).unwrap_or_default();
        let count = present.len().min(buffer.len());
        buffer[..count].copy_from_slice(&present[..count]);
        Ok(count)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.wait_while_delayed();
        let mut state = self.disk.state.lock();
        if state.fails(&self.name) {
            return Err(io::Error::other("simulated failure"));
        }
        state.room_for(self.inode, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.wait_while_held();
        self.disk.wait_while_delayed();
        let mut state = self.disk.state.lock();
        let fails = state.fails(&self.name);
        state.room_for(self.inode, offset + bytes.len() as u64)?;
        // A write that fails may have come any part of the way.
        let written = if fails { &bytes[..bytes.len() * (state.operations as usize % 5) / 4] } else { bytes };
        let inode = &mut state.inodes[self.inode];
        put(&mut inode.present, offset as usize, written);
        inode.pending.push((offset as usize, written.to_vec()));
        if fails { Err(io::Error::other("simulated failure")) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.wait_while_held();
        let mut state = self.disk.state.lock();
        let fails = state.fails(&self.name);
        let inode = &mut state.inodes[self.inode];
        let pending = std::mem::take(&mut inode.pending);
        if fails {
            return Err(io::Error::other("simulated failure"));
        }
        for (offset, written) in pending {
            put(&mut inode.durable, offset, &written);
        }
        Ok(())
    }
}

//! Directories beside the log (snapshots, key files), written under the log's lock.
//!
//! Each operation that changes something holds the lock of the journal's directory until it returns, so that no second
//! process opens the directory while one of them is stuck in the kernel, whoever still waits for it. Once the journal's
//! threads have ended, nothing is written beside it any more.

use std::{
    any::Any,
    io,
    sync::{Arc, Weak},
};

use super::storage::{Storage, StorageFile};

/// What the journal's threads hold while they may write.
type Lock = dyn Any + Send + Sync;

/// A directory beside the log.
pub(super) struct Beside {
    storage: Arc<dyn Storage>,
    lock: Weak<Lock>,
}

struct FileBeside {
    file: Arc<dyn StorageFile>,
    lock: Weak<Lock>,
}

impl Beside {
    pub(super) fn new(storage: Arc<dyn Storage>, lock: &Arc<Lock>) -> Beside {
        Beside { storage, lock: Arc::downgrade(lock) }
    }

    fn file(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(FileBeside { file, lock: Weak::clone(&self.lock) })
    }
}

fn held(lock: &Weak<Lock>) -> io::Result<Arc<Lock>> {
    lock.upgrade().ok_or_else(|| io::Error::other("the journal beside it is closed"))
}

impl Storage for Beside {
    fn place(&self) -> String {
        self.storage.place()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.storage.free_bytes()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.storage.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.storage.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let _lock = held(&self.lock)?;
        Ok(self.file(self.storage.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.file(self.storage.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _lock = held(&self.lock)?;
        self.storage.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let _lock = held(&self.lock)?;
        self.storage.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let _lock = held(&self.lock)?;
        self.storage.sync_dir()
    }
}

impl StorageFile for FileBeside {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let _lock = held(&self.lock)?;
        self.file.allocate(bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let _lock = held(&self.lock)?;
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let _lock = held(&self.lock)?;
        self.file.sync()
    }
}

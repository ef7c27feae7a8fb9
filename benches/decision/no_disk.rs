//! A disk that keeps the first bytes of each file and takes about as long to sync as a disk: what is measured over it is
//! the way to the disk. One that was done at once would let the journal's thread sleep after every record, and each
//! decision would pay for waking it.

use std::{any::Any, collections::HashMap, io, sync::Arc, thread, time::Duration};

use parking_lot::Mutex;
use saker::journal::{Storage, StorageFile};

/// Headers and marks are read again when a journal is made; groups never are.
const KEPT_BYTES: usize = 4 * 1024;
const SYNC: Duration = Duration::from_micros(100);

#[derive(Default)]
pub struct NoDisk(Mutex<HashMap<String, Arc<NoFile>>>);

#[derive(Default)]
struct NoFile(Mutex<(u64, Vec<u8>)>);

impl Storage for NoDisk {
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn place(&self) -> String {
        "nowhere".to_owned()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let file = Arc::<NoFile>::default();
        self.0.lock().insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        match self.0.lock().get(name) {
            Some(file) => Ok(file.clone()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
}

impl StorageFile for NoFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().0)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, kept) = &*self.0.lock();
        let there = (length.saturating_sub(offset) as usize).min(buffer.len());
        buffer[..there].fill(0);
        let kept = kept.get(offset as usize..).unwrap_or_default();
        let known = kept.len().min(there);
        buffer[..known].copy_from_slice(&kept[..known]);
        Ok(there)
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (length, kept) = &mut *self.0.lock();
        *length = (*length).max(offset + bytes.len() as u64);
        let from = (offset as usize).min(KEPT_BYTES);
        let bytes = &bytes[..bytes.len().min(KEPT_BYTES - from)];
        if kept.len() < from + bytes.len() {
            kept.resize(from + bytes.len(), 0);
        }
        kept[from..from + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        thread::sleep(SYNC);
        Ok(())
    }
}

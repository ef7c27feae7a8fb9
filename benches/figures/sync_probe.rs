//! What the disk alone does in the same minute: 4 KiB written into a zero-filled file and fdatasync, one after the
//! other. No latency of a durable engine means anything without it.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use saker::cli::load::Percentiles;

const BLOCK_BYTES: usize = 4 * 1024;

/// Syncs for the given time in `directory`; microseconds from before the write to after the sync.
pub fn probe(directory: &Path, file_bytes: usize, time: Duration) -> anyhow::Result<Percentiles> {
    let path = directory.join("fdatasync-probe");
    let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
    let zeros = vec![0; 1024 * 1024];
    for at in (0..file_bytes).step_by(zeros.len()) {
        file.write_all_at(&zeros, at as u64)?;
    }
    file.sync_all()?;

    let block = [0x5a; BLOCK_BYTES];
    let mut histogram_ns = Histogram::<u64>::new(3)?;
    let start = Instant::now();
    let mut blocks = (0..file_bytes / BLOCK_BYTES).cycle();
    while start.elapsed() < time {
        let at = blocks.next().unwrap_or(0) * BLOCK_BYTES;
        let before = Instant::now();
        file.write_all_at(&block, at as u64)?;
        file.sync_data()?;
        histogram_ns.record(before.elapsed().as_nanos() as u64)?;
    }
    drop(file);
    fs::remove_file(&path)?;
    Ok(Percentiles::of(&histogram_ns))
}

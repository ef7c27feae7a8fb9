//! Power loss under load: the data directory is on an ext4 file system in a file, which is shut down without flushing
//! its log (`EXT4_IOC_SHUTDOWN`), so that everything not synced is gone, as after the plug was pulled. Needs root and
//! loop devices; elsewhere it says so in one line and is skipped. `SAKER_POWER_LOSSES=N` for more than two.

#![cfg(target_os = "linux")]

mod checker;

use std::{
    io::{self, Write as _},
    thread,
    time::Duration,
};

use checker::{Campaign, LoopDisk, count_from, fresh_directory, keep_if_wrong};

/// Sparse: only what is written takes room.
const DISK_BYTES: u64 = 4 * 1024 * 1024 * 1024;

#[test]
fn power_loss_under_load_loses_nothing() -> anyhow::Result<()> {
    let directory = fresh_directory("power-loss")?;
    let disk = match LoopDisk::new(directory.path(), DISK_BYTES) {
        Ok(disk) => disk,
        Err(error) => {
            writeln!(io::stdout(), "power_loss skipped: no ext4 on a loop device here ({error:#})")?;
            return Ok(());
        }
    };
    let campaign = Campaign {
        rung: "L4 power loss",
        restarts: count_from("SAKER_POWER_LOSSES", 2),
        load_ms: 100..=900,
        data: disk.mount_point.join("data"),
        evidence: directory.path().join("evidence"),
        seed: Campaign::seed(),
        settings: "",
    };
    let verdict = campaign.run(|server, _| {
        disk.pull_the_plug()?;
        // An engine that went on answering after the disk is gone would be found out here.
        thread::sleep(Duration::from_millis(30));
        server.kill()?;
        disk.unmount()?;
        disk.mount()
    });
    let judged = verdict.and_then(|verdict| verdict.judge());
    drop(disk);
    keep_if_wrong(directory, judged)
}

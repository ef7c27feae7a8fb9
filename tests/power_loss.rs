//! Power loss under load: the data directory is on an ext4 file system in a file, which is shut down without flushing
//! its log (`EXT4_IOC_SHUTDOWN`), so that everything not synced is gone, as after the plug was pulled. Needs root and
//! loop devices; elsewhere it says so in one line and is skipped. `SAKER_POWER_LOSSES=N` for more than two.

#![cfg(target_os = "linux")]

mod checker;

use std::{
    ffi::CString,
    fs::File,
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
    ptr, thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use checker::{Campaign, count_from, fresh_directory};

/// Sparse: only what is written takes room.
const DISK_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// `_IOR('X', 125, __u32)` of `fs/ext4/ext4.h`.
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587D;
/// Shut down at once; neither data nor the file system's own log is flushed.
const EXT4_GOING_FLAGS_NOLOGFLUSH: u32 = 2;

#[test]
fn power_loss_under_load_loses_nothing() -> anyhow::Result<()> {
    let directory = fresh_directory("power-loss")?;
    let disk = match Disk::new(directory.path()) {
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
    if judged.is_err() {
        eprintln!("evidence is kept in {}", directory.keep().display());
    }
    judged
}

/// An ext4 file system in a file. It is mounted in a mount namespace of this thread and its children alone, so that the
/// kernel takes it down whatever becomes of the test.
struct Disk {
    image: PathBuf,
    mount_point: PathBuf,
}

impl Disk {
    fn new(directory: &Path) -> anyhow::Result<Disk> {
        // SAFETY: the call takes no pointer.
        ensure!(unsafe { libc::geteuid() } == 0, "not root");
        private_mounts().context("mount namespace")?;
        let disk = Disk { image: directory.join("ext4"), mount_point: directory.join("mounted") };
        File::create(&disk.image)?.set_len(DISK_BYTES)?;
        std::fs::create_dir(&disk.mount_point)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.image))?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> anyhow::Result<()> {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount_point))
    }

    fn unmount(&self) -> anyhow::Result<()> {
        run(Command::new("umount").arg(&self.mount_point))
    }

    fn pull_the_plug(&self) -> anyhow::Result<()> {
        let root = File::open(&self.mount_point)?;
        let flags = EXT4_GOING_FLAGS_NOLOGFLUSH;
        // SAFETY: the descriptor is open, and the kernel reads one u32 that outlives the call.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const flags) };
        ensure!(done == 0, "EXT4_IOC_SHUTDOWN: {}", io::Error::last_os_error());
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Only so that the image can be deleted now; the namespace would end the mount anyway.
        let _ = self.unmount();
    }
}

/// From here on, mounts of this thread and its children are seen by nobody else and end with them.
fn private_mounts() -> io::Result<()> {
    let root = CString::from(c"/");
    // SAFETY: the only pointers are a string that outlives the call, and nulls where the kernel ignores the argument.
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                ptr::null(),
                root.as_ptr(),
                ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                ptr::null(),
            ) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

//! A disk of its own for a test: an ext4 file system in a file, which can lose power, fill up and turn read-only.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
    ptr,
};

use anyhow::{Context, ensure};

/// `_IOR('X', 125, __u32)` of `fs/ext4/ext4.h`.
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587D;
/// Shut down at once; neither data nor the file system's own log is flushed.
const EXT4_GOING_FLAGS_NOLOGFLUSH: u32 = 2;

/// An ext4 file system in a file. It is mounted in a mount namespace of this thread and its children alone, so that the
/// kernel takes it down whatever becomes of the test.
pub struct LoopDisk {
    image: PathBuf,
    pub mount_point: PathBuf,
}

impl LoopDisk {
    /// # Errors
    /// Where this is not root or the machine has no loop devices.
    pub fn new(directory: &Path, bytes: u64) -> anyhow::Result<LoopDisk> {
        // SAFETY: the call takes no pointer.
        ensure!(unsafe { libc::geteuid() } == 0, "not root");
        private_mounts().context("mount namespace")?;
        let disk = LoopDisk { image: directory.join("ext4"), mount_point: directory.join("mounted") };
        File::create(&disk.image)?.set_len(bytes)?;
        std::fs::create_dir(&disk.mount_point)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.image))?;
        disk.mount()?;
        Ok(disk)
    }

    pub fn mount(&self) -> anyhow::Result<()> {
        run(Command::new("mount")
            .args(["-o", "loop,errors=remount-ro"])
            .arg(&self.image)
            .arg(&self.mount_point))
    }

    pub fn unmount(&self) -> anyhow::Result<()> {
        run(Command::new("umount").arg(&self.mount_point))
    }

    /// As the kernel does when it finds the file system damaged: read-only from here on, under open files too.
    pub fn turn_read_only(&self) -> anyhow::Result<()> {
        let mounts = fs::read_to_string("/proc/thread-self/mounts")?;
        let here = self.mount_point.to_str().context("the mount point is text")?;
        let device = mounts
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(_, rest)| rest.split(' ').next() == Some(here))
            .and_then(|(device, _)| device.strip_prefix("/dev/"))
            .context("the disk is mounted")?;
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        fs::write(&trigger, "a test").context(trigger)
    }

    /// Mends the unmounted file system after [`LoopDisk::turn_read_only`].
    pub fn mend(&self) -> anyhow::Result<()> {
        let checked = Command::new("e2fsck").args(["-f", "-y"]).arg(&self.image).output()?;
        // 1: errors were found and mended.
        ensure!(matches!(checked.status.code(), Some(0 | 1)), "e2fsck: {checked:?}");
        Ok(())
    }

    /// Writes a file that leaves no room for anything else.
    pub fn fill(&self) -> anyhow::Result<PathBuf> {
        let path = self.mount_point.join("ballast");
        let mut file = File::create(&path)?;
        for chunk in [1 << 20, 1 << 14, 1 << 12] {
            let zeros = vec![0; chunk];
            let error = loop {
                if let Err(error) = file.write_all(&zeros).and_then(|()| file.sync_data()) {
                    break error;
                }
            };
            ensure!(error.kind() == io::ErrorKind::StorageFull, "filling the disk: {error}");
        }
        Ok(path)
    }

    pub fn pull_the_plug(&self) -> anyhow::Result<()> {
        let root = File::open(&self.mount_point)?;
        let flags = EXT4_GOING_FLAGS_NOLOGFLUSH;
        // SAFETY: the descriptor is open, and the kernel reads one u32 that outlives the call.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const flags) };
        ensure!(done == 0, "EXT4_IOC_SHUTDOWN: {}", io::Error::last_os_error());
        Ok(())
    }
}

impl Drop for LoopDisk {
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

//! What the operating system says of this process, read from `/proc/self` when somebody looks. Elsewhere than on
//! Linux nothing is known, and nothing is shown.

use std::{ffi::CString, path::Path};

/// One reading.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Usage {
    /// User and system time since the process started, in seconds.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub open_files: u64,
    /// How many it may have; `None` where that is not limited.
    pub open_files_max: Option<u64>,
    /// Seconds since 1970 at which the process started.
    pub started_seconds: f64,
}

impl Usage {
    /// Reads `/proc/self`; `None` where there is no such thing or it is not as Linux has it.
    pub fn read() -> Option<Usage> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot_seconds = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        parse(&stat, boot_seconds, open_files)
    }
}

/// Fields of proc(5), counted after the command's name, which may itself hold blanks and parentheses.
fn parse(stat: &str, boot_seconds: f64, open_files: u64) -> Option<Usage> {
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
    let ticks = |number| Some(field(number)? as f64 / ticks_per_second());
    Some(Usage {
        cpu_seconds: ticks(14)? + ticks(15)?,
        resident_bytes: field(24)? * page_bytes(),
        open_files,
        open_files_max: open_files_max(),
        started_seconds: boot_seconds + ticks(22)?,
    })
}

/// Bytes that an unprivileged process may still write on the file system of `path`; `None` where it does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).ok()?;
    // SAFETY: all zeroes is a valid statvfs.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL, and both pointers live for the call.
    let told = unsafe { libc::statvfs(path.as_ptr(), &raw mut found) };
    (told == 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

fn open_files_max() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer lives for the call, which writes one rlimit.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (told == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

fn ticks_per_second() -> f64 {
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

fn page_bytes() -> u64 {
    // SAFETY: as above.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4_096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "77 (a) b) (c) S 1 77 77 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 3 0 2000 10000 25 184467 1";
        let usage = parse(stat, 1_000.0, 4).unwrap();
        assert_eq!(usage.cpu_seconds, 200.0 / ticks_per_second());
        assert_eq!(usage.resident_bytes, 25 * page_bytes());
        assert_eq!(usage.started_seconds, 1_000.0 + 2_000.0 / ticks_per_second());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_something() {
        let usage = Usage::read().unwrap();
        assert!(usage.resident_bytes > 100_000 && usage.open_files >= 3 && usage.started_seconds > 1.6e9);
        assert!(usage.open_files_max.is_none_or(|most| most >= usage.open_files));
    }

    #[test]
    fn a_directory_tells_its_free_bytes_and_a_missing_one_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert!(free_bytes(directory.path()).unwrap() > 0);
        assert_eq!(free_bytes(&directory.path().join("missing")), None);
    }
}

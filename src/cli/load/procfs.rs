//! CPU time of processes and of the machine as Linux shows it under `/proc`. Elsewhere, and for processes that are not
//! ours to see, every figure is simply absent.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// The length of a tick in `/proc`: USER_HZ, which is 100 on every architecture Rust runs on.
const TICK_US: u64 = 10_000;

/// A reading of CPU time, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuTime(pub u64);

impl CpuTime {
    /// User and system time of a process, all its threads.
    pub fn of_process(pid: u32) -> Option<CpuTime> {
        process_cpu(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// User and system time of this process.
    pub fn of_self() -> Option<CpuTime> {
        process_cpu(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// Idle time of all cores together, waiting for the disk included.
    pub fn idle_of_machine() -> Option<CpuTime> {
        idle(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// Microseconds between two readings.
    pub fn since(self, earlier: CpuTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The process of this machine that listens on the address.
pub fn listener_pid(address: SocketAddr) -> Option<u32> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| table.lines().skip(1).find_map(|line| listening_inode(line, address)))?;
    let socket = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let fds = fs::read_dir(entry.path().join("fd")).ok()?;
        let holds = fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(&socket)));
        holds.then_some(pid)
    })
}

fn process_cpu(stat: &str) -> Option<CpuTime> {
    // The name in parentheses may hold blanks and parentheses of its own; what follows the last one is fixed.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(CpuTime((user + system) * TICK_US))
}

fn idle(stat: &str) -> Option<CpuTime> {
    let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let idle: u64 = fields.nth(3)?.parse().ok()?;
    let io_wait: u64 = fields.next()?.parse().ok()?;
    Some(CpuTime((idle + io_wait) * TICK_US))
}

/// The socket's inode where a line of `/proc/net/tcp` is a listener on the address, or on every address of a
/// machine whose loopback was asked for.
fn listening_inode(line: &str, wanted: SocketAddr) -> Option<u64> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (&local, &state, &inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (ip, port) = local.split_once(':')?;
    let ip = hex_ip(ip)?;
    let reaches = ip == wanted.ip() || (ip.is_unspecified() && wanted.ip().is_loopback());
    let listens = state == "0A" && u16::from_str_radix(port, 16) == Ok(wanted.port());
    if listens && reaches { inode.parse().ok() } else { None }
}

/// Addresses stand there as hexadecimal words of 32 bits in the byte order of the machine.
fn hex_ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| -> Option<[u8; 4]> {
        Some(u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) (b c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 9 1 1 1";
        assert_eq!(process_cpu(stat), Some(CpuTime(3_000_000)));
        assert_eq!(process_cpu("7 (cut"), None);
    }

    #[test]
    fn waiting_for_the_disk_counts_as_idle() {
        assert_eq!(idle("cpu  1 2 3 400 50 6 7 8 0 0\ncpu0 1\n"), Some(CpuTime(4_500_000)));
        assert_eq!(idle(""), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_listener_on_a_port_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(listener_pid(address), Some(std::process::id()));
        drop(listener);
        assert_eq!(listener_pid(address), None);
    }
}

//! The machine a table was made on. A table is only shown with its conditions.

use std::{fs, path::Path, process::Command, thread};

/// A few lines of Markdown.
pub fn describe(directory: &Path) -> Vec<String> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu = value_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory_kib =
        value_of("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let memory = memory_kib.map_or(String::new(), |kib| format!(", {:.0} GiB", kib as f64 / 1048576.0));
    let kernel = first_line("/proc/sys/kernel/osrelease").unwrap_or_else(|| std::env::consts::OS.to_owned());
    let load = first_line("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(2).collect::<Vec<_>>().join(" / ");
    let build = if cfg!(debug_assertions) { "debug build: not a figure" } else { "release build" };
    vec![
        format!("{cores} cores of {cpu}{memory}, Linux {kernel}, client and server on the same cores"),
        format!("data on {}, {}, load average {load}, {build}", file_system(directory), priority()),
        format!(
            "{}, commit {}",
            tool("rustc", &["--version"]),
            tool("git", &["rev-parse", "--short", "HEAD"])
        ),
    ]
}

/// The type of the file system a directory is on; memory is called what it is.
fn file_system(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let found = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (device, point, kind) = (words.next()?, words.next()?, words.next()?);
            directory.starts_with(point).then_some((point.len(), device.to_owned(), kind.to_owned()))
        })
        .max_by_key(|(length, ..)| *length);
    match found {
        Some((_, _, kind)) if kind == "tmpfs" => "tmpfs (memory: nothing here is durable)".to_owned(),
        Some((_, device, kind)) => format!("{kind} ({device})"),
        None => "an unknown file system".to_owned(),
    }
}

fn priority() -> &'static str {
    // Field 41 of the stat line is the scheduling policy; the first two fields end at the last parenthesis.
    let policy = fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(38)?.parse::<u32>().ok());
    match policy {
        Some(1 | 2) => "real-time priority",
        _ => "normal priority",
    }
}

fn value_of(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn first_line(file: &str) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.lines().next()?.to_owned())
}

fn tool(name: &str, arguments: &[&str]) -> String {
    match Command::new(name).args(arguments).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => format!("{name} unknown"),
    }
}

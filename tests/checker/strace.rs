//! Faults of the operating system, put in with `strace -e inject`: a call fails, comes late, or is the process's last.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

/// One fault.
#[derive(Clone, Debug)]
pub struct Injection {
    pub syscall: String,
    /// As strace writes it: `error=EIO`, `signal=SIGKILL`, `delay_enter=2s`.
    pub fault: &'static str,
    /// At which call of the thread, from 1; of those that touch one of `paths`, where there are any.
    pub when: usize,
    pub paths: Vec<PathBuf>,
}

impl Injection {
    fn arguments(&self) -> Vec<String> {
        let Injection { syscall, fault, when, paths } = self;
        let mut arguments = vec![
            "-qq".to_owned(),
            "-ttt".to_owned(),
            "-e".to_owned(),
            format!("trace={syscall}"),
            "-e".to_owned(),
            format!("inject={syscall}:{fault}:when={when}"),
        ];
        for path in paths {
            arguments.extend(["-P".to_owned(), path.display().to_string()]);
        }
        arguments
    }
}

/// A strace that is attached to one thread of a process.
pub struct Strace {
    child: Child,
    log: PathBuf,
}

impl Strace {
    /// Why faults cannot be put in here, if so.
    pub fn missing() -> Option<String> {
        let probe = Command::new("strace")
            .args(["-qq", "-o", "/dev/null", "-e", "inject=getppid:error=EIO:when=1", "true"])
            .output();
        match probe {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(format!("strace: {error}")),
        }
    }

    /// A command that runs `program` under strace, whose child is the program itself: its id and its exit status are
    /// those of the program. Its main thread alone is traced.
    pub fn around(program: &Path, log: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("strace");
        command.args(["-D", "-qq", "-o"]).arg(log).args(arguments).arg(program);
        command
    }

    /// As [`Strace::around`], with a fault.
    pub fn injecting(program: &Path, log: &Path, injection: &Injection) -> Command {
        let arguments = injection.arguments();
        Strace::around(program, log, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Attaches to the thread called `name` of a running process; returns once calls are counted.
    pub fn attach(pid: u32, name: &str, injection: &Injection, log: &Path) -> anyhow::Result<Strace> {
        let thread = thread_called(pid, name)?;
        let _ = fs::remove_file(log);
        let child = Command::new("strace")
            .arg("-o")
            .arg(log)
            .args(injection.arguments())
            .args(["-p", &thread.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("strace")?;
        let strace = Strace { child, log: log.to_owned() };
        let status = format!("/proc/{pid}/task/{thread}/status");
        let begun = Instant::now();
        loop {
            // A thread that ends at its first call may be gone before this looks.
            let Ok(text) = fs::read_to_string(&status) else { return Ok(strace) };
            if text.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")) {
                return Ok(strace);
            }
            ensure!(begun.elapsed() < Duration::from_secs(10), "strace did not attach");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// When the fault was put in, in seconds since 1970; `None` where it was not yet. A delayed call is logged when it
    /// ends.
    pub fn injected_at(&self) -> Option<f64> {
        let log = fs::read_to_string(&self.log).ok()?;
        let line = log.lines().find(|line| line.contains("INJECTED") || line.contains("DELAYED"))?;
        line.split(' ').next()?.parse().ok()
    }

    /// Waits until the fault was put in.
    ///
    /// # Errors
    /// Where the call did not come in time.
    pub fn wait_injected(&self, at_most: Duration) -> anyhow::Result<f64> {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.injected_at() {
                return Ok(at);
            }
            if begun.elapsed() > at_most {
                bail!("the call that was to fail did not come within {at_most:?}");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Ended in order it lets go of the thread; it is gone already where the thread is.
        if let Ok(pid) = libc::pid_t::try_from(self.child.id()) {
            // SAFETY: the call takes no pointer, and the child is not waited for yet, so that its id is still its own.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        let _ = self.child.wait();
    }
}

fn thread_called(pid: u32, name: &str) -> anyhow::Result<u32> {
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        // A thread may end while this looks.
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.trim_end() == name {
            return Ok(entry.file_name().to_string_lossy().parse()?);
        }
    }
    bail!("process {pid} has no thread called {name}")
}

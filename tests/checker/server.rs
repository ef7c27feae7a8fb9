//! The real binary as a child process: started on a data directory, killed or asked to stop. Also used by
//! `benches/figures`, which starts its echo server the same way.

use std::{
    fs::OpenOptions,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// From the start of the process to SERVING, recovery included.
const START_MAX: Duration = Duration::from_secs(120);

/// A server child; killed when dropped.
pub struct Server {
    child: Child,
    pub grpc: SocketAddr,
    /// Where metrics are, for servers that name it.
    pub admin: SocketAddr,
    /// The line on stdout that names both.
    pub serving: String,
}

impl Server {
    /// Starts `saker serve` on a data directory and free ports, and returns once it is SERVING. What it says on stderr
    /// is appended to `log`.
    pub fn start(data: &Path, log: &Path, more: &[&str]) -> anyhow::Result<Server> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_saker"));
        command.arg("serve").arg("--data").arg(data);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(more);
        Server::spawn(command, log)
    }

    /// Starts a command that names its gRPC address in one line on stdout, as `grpc=HOST:PORT`.
    pub fn spawn(mut command: Command, log: &Path) -> anyhow::Result<Server> {
        let log_file = OpenOptions::new().create(true).append(true).open(log)?;
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let (said, lines) = mpsc::channel();
        // Reads to the end, so that the child never blocks on a full pipe.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Server { child, grpc: nowhere, admin: nowhere, serving: String::new() };
        loop {
            let Ok(line) = lines.recv_timeout(START_MAX.saturating_sub(started.elapsed())) else {
                let status = server.child.try_wait()?;
                bail!(
                    "{command:?} did not come to SERVING ({}); its log is {}:\n{}",
                    status.map_or("still running".to_owned(), |status| status.to_string()),
                    log.display(),
                    last_lines(log)
                );
            };
            if let Some(grpc) = address_in(&line, "grpc=") {
                server.grpc = grpc;
                server.admin = address_in(&line, "admin=").unwrap_or(nowhere);
                server.serving = line;
                return Ok(server);
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads `/metrics` as Prometheus would.
    pub fn metrics(&self) -> anyhow::Result<String> {
        self.get("/metrics")
    }

    /// What the admin door answers, head and body.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin)?;
        Ok(std::io::read_to_string(stream)?)
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(mut self) -> anyhow::Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// SIGTERM; does not wait.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let pid = libc::pid_t::try_from(self.child.id())?;
        // SAFETY: the call takes no pointer, and the child is not waited for yet, so that its id is still its own.
        if unsafe { libc::kill(pid, libc::SIGTERM) } != 0 {
            return Err(std::io::Error::last_os_error()).context("SIGTERM");
        }
        Ok(())
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, at_most: Duration) -> anyhow::Result<ExitStatus> {
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if asked.elapsed() > at_most {
                bail!("the server still runs {} s after it was asked to stop", at_most.as_secs());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address behind `key` in a line such as `saker SERVING grpc=127.0.0.1:50051 admin=127.0.0.1:9464`.
fn address_in(line: &str, key: &str) -> Option<SocketAddr> {
    line.split([' ', ',', ';']).find_map(|word| word.strip_prefix(key)?.parse().ok())
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

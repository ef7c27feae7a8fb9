//! A real Prometheus with the committed configuration, where there is one on the PATH.

use std::{
    fs,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::{grafana, read, server::Server};

/// Whether a program is there to be run.
pub fn on_path(program: &str) -> bool {
    let said = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    said.is_ok_and(|status| status.success())
}

/// Says what is not done for want of it.
pub fn skipped(what: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "skipped: {what} (Debian package `prometheus`)")?;
    Ok(())
}

/// `saker load` against an engine; it opens its accounts itself. `more` says which traffic.
pub fn load(engine: &Server, more: &[&str]) -> anyhow::Result<Killed> {
    let child = Command::new(env!("CARGO_BIN_EXE_saker"))
        .args(["load", "--to", &engine.grpc.to_string()])
        .args(more)
        .stdout(Stdio::null())
        .spawn()?;
    Ok(Killed(child))
}

/// A child that does not outlive its test.
pub struct Killed(pub Child);

impl Killed {
    pub fn end(&mut self) {
        // Both fail only where the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.end();
    }
}

/// A Prometheus that scrapes one engine every second and knows the committed alerts.
pub struct Prometheus {
    child: Killed,
    at: SocketAddr,
    log: std::path::PathBuf,
}

impl Prometheus {
    /// Starts it on a free port with the committed configuration, changed in target and pace alone.
    pub fn start(directory: &Path, target: SocketAddr) -> anyhow::Result<Prometheus> {
        let mut config = read("prometheus.yml");
        for (committed, here) in [
            ("127.0.0.1:9464", target.to_string()),
            ("scrape_interval: 5s", "scrape_interval: 1s".to_owned()),
            ("evaluation_interval: 5s", "evaluation_interval: 1s".to_owned()),
            ("scrape_timeout: 4s", "scrape_timeout: 1s".to_owned()),
            ("- alerts.yml", format!("- {}", grafana("alerts.yml").display())),
        ] {
            ensure!(
                config.matches(committed).count() == 1,
                "prometheus.yml: `{committed}` stands there once"
            );
            config = config.replace(committed, &here);
        }
        let file = directory.join("prometheus.yml");
        fs::write(&file, config)?;
        // Given back at once: Prometheus cannot say which port it took itself.
        let at = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = directory.join("prometheus.log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("tsdb").display()))
            .arg(format!("--web.listen-address={at}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        Ok(Prometheus { child: Killed(child), at, log })
    }

    /// Waits until a query gives a number.
    ///
    /// # Errors
    /// With Prometheus' log, where it does not in time.
    pub fn wait_for(&self, expr: &str, at_most: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            match self.has_numbers(expr) {
                Ok(true) => return Ok(()),
                outcome if began.elapsed() > at_most => {
                    let log = fs::read_to_string(&self.log).unwrap_or_default();
                    bail!(
                        "prometheus (process {}) has no data for {expr} ({outcome:?}); its log:\n{log}",
                        self.child.0.id()
                    );
                }
                _ => thread::sleep(Duration::from_millis(250)),
            }
        }
    }

    /// Whether a query over the last seconds gives at least one number.
    pub fn has_numbers(&self, expr: &str) -> anyhow::Result<bool> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
        let path = format!(
            "/api/v1/query_range?query={}&start={:.3}&end={now:.3}&step=1",
            percent_encoded(expr),
            now - 3.0
        );
        let answer = self.get(&path)?;
        ensure!(answer["status"] == "success", "{expr}: {}", answer["error"]);
        let series = answer["data"]["result"].as_array().context("a range query gives series")?;
        let values = series.iter().flat_map(|series| series["values"].as_array().into_iter().flatten());
        let mut numbers = values.filter_map(|pair| pair[1].as_str()).filter(|number| *number != "NaN");
        Ok(numbers.next().is_some())
    }

    /// Every alert was loaded and evaluated without an error.
    pub fn judge_rules(&self, alerts: usize) -> anyhow::Result<()> {
        let answer = self.get("/api/v1/rules")?;
        let groups = answer["data"]["groups"].as_array().context("rules come in groups")?;
        let rules: Vec<&Value> =
            groups.iter().flat_map(|g| g["rules"].as_array().into_iter().flatten()).collect();
        ensure!(rules.len() == alerts, "prometheus has {} alerts, the tests read {alerts}", rules.len());
        for rule in rules {
            ensure!(rule["health"] == "ok", "{}: {} {}", rule["name"], rule["health"], rule["lastError"]);
        }
        Ok(())
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let mut stream = TcpStream::connect(self.at)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // HTTP/1.0, so that the answer comes in one piece and ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.at)?;
        let answer = io::read_to_string(stream)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
        serde_json::from_str(body)
            .with_context(|| format!("{path}: {}", head.lines().next().unwrap_or_default()))
    }
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

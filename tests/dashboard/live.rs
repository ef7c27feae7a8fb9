//! A real Prometheus with the committed configuration scrapes a real engine under load, and is asked every query of
//! the dashboard and of the alerts. Skipped with a line where there is no `prometheus` on the PATH.

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

use super::{alerts, dashboard, grafana, promql::named, read, server::Server};

/// What stands for Grafana's `$__rate_interval`: four scrapes, as Grafana takes.
const RATE_INTERVAL: &str = "4s";
const SCRAPES: u32 = 8;
const LOAD_S: u64 = 9;
/// Traffic and scrapes, on a busy machine.
const DATA_WITHIN: Duration = Duration::from_secs(30);

fn on_path(program: &str) -> bool {
    let said = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    said.is_ok_and(|status| status.success())
}

fn skipped(what: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "skipped: {what} (Debian package `prometheus`)")?;
    Ok(())
}

#[test]
fn a_real_prometheus_answers_every_query_of_dashboard_and_alerts() -> anyhow::Result<()> {
    if !on_path("prometheus") {
        return skipped("no prometheus on the PATH, the dashboard's queries are not run");
    }
    let directory = tempfile::Builder::new().prefix("dashboard").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let log = directory.path().join("server.log");
    // So that the panels of snapshots have something to show.
    let settings = directory.path().join("saker.toml");
    std::fs::write(&settings, "[snapshots]\nevery_s = 1\nafter_records = 1\n")?;
    let settings = settings.to_str().context("the path of the settings is text")?;
    let model = trained(directory.path())?;
    let more = ["--config", settings, "--model", &model];
    let engine = Server::start(&directory.path().join("data"), &log, &more)?;
    let prometheus = Prometheus::start(directory.path(), engine.admin)?;
    let mut loads = vec![load(&engine, "unary")?, load(&engine, "stream")?];
    prometheus.wait_for_data()?;

    let dashboard = dashboard();
    let (mut asked, mut empty, mut panels) = (0, Vec::new(), 0);
    for panel in dashboard.panels() {
        panels += 1;
        for query in &panel.queries {
            asked += 1;
            let expr = query.expr.replace("$of", r#"job="saker""#).replace("$__rate_interval", RATE_INTERVAL);
            if !prometheus.has_numbers(&expr)? {
                empty.push((panel, expr));
            }
        }
    }
    let with_data = asked - empty.len();
    let wrong: Vec<_> = empty
        .iter()
        .filter(|(panel, _)| panel.empty_when_healthy.is_none())
        .map(|(panel, expr)| (&panel.title, expr))
        .collect();
    ensure!(wrong.is_empty(), "no data for {wrong:#?}");

    for mark in &dashboard.marks {
        asked += 1;
        let expr = mark.expr.replace("$of", r#"job="saker""#);
        prometheus.has_numbers(&expr).with_context(|| mark.title.clone())?;
    }
    let alerts = alerts::read(&read("alerts.yml"));
    for alert in &alerts {
        asked += 1;
        prometheus.has_numbers(alert.get("expr")).with_context(|| alert.name.clone())?;
        // An alert on what never has data never fires.
        for selector in named(alert.get("expr")).selectors {
            let seen = prometheus.has_numbers(&selector.text)?;
            ensure!(seen, "{}: no data for {}", alert.name, selector.text);
        }
    }
    prometheus.judge_rules(alerts.len())?;
    writeln!(
        io::stdout(),
        "dashboard: {asked} queries answered ({panels} panels, {} marks, {} alerts); {with_data} of {} panel queries \
         with data",
        dashboard.marks.len(),
        alerts.len(),
        with_data + empty.len(),
    )?;
    for load in &mut loads {
        load.end();
    }
    Ok(())
}

#[test]
fn promtool_finds_nothing_wrong_and_the_alerts_fire_when_they_should() -> anyhow::Result<()> {
    if !on_path("promtool") {
        return skipped("no promtool on the PATH, the alerts are not tried");
    }
    for arguments in [["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]] {
        let said = Command::new("promtool").args(arguments).current_dir(grafana("")).output()?;
        ensure!(said.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
    }
    Ok(())
}

/// A small model that was trained here, so that its file says what its rows were like.
fn trained(directory: &Path) -> anyhow::Result<String> {
    let saker = |command: &str| {
        let mut saker = Command::new(env!("CARGO_BIN_EXE_saker"));
        saker.arg(command).current_dir(directory);
        saker
    };
    let mut simulate = saker("simulate");
    simulate.args(["--accounts", "200", "--days", "10", "--seed", "1", "--out", "world"]);
    let mut train = saker("train");
    train.args(["--transactions", "world/transactions.csv", "--accounts", "world/accounts.csv"]);
    train.args(["--label-delay", "0", "--trees", "4", "--out", "model.json"]);
    for mut command in [simulate, train] {
        let said = command.output()?;
        ensure!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
    }
    let model = directory.join("model.json");
    Ok(model.to_str().context("the path of the model is text")?.to_owned())
}

/// Traffic of one kind over a few accounts, so that velocity declines some; it opens them itself.
fn load(engine: &Server, call: &str) -> anyhow::Result<Killed> {
    let child = Command::new(env!("CARGO_BIN_EXE_saker"))
        .args(["load", "--to", &engine.grpc.to_string(), "--rate", "200", "--connections", "2"])
        .args(["--duration", &LOAD_S.to_string(), "--accounts", "60", "--call", call])
        .stdout(Stdio::null())
        .spawn()?;
    Ok(Killed(child))
}

/// A child that does not outlive its test.
struct Killed(Child);

impl Killed {
    fn end(&mut self) {
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

struct Prometheus {
    child: Killed,
    at: SocketAddr,
    log: std::path::PathBuf,
}

impl Prometheus {
    /// Starts it on a free port with the committed configuration, changed in target and pace alone.
    fn start(directory: &Path, target: SocketAddr) -> anyhow::Result<Prometheus> {
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

    /// Waits until enough was scraped and decided for rates to have data.
    fn wait_for_data(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        let enough = format!(
            r#"sum(rate(saker_decisions_total{{decision="declined"}}[{RATE_INTERVAL}])) > 0 and
               sum(count_over_time(up{{job="saker"}}[1m])) >= {SCRAPES} and count(saker_model_drift_psi) > 0"#
        );
        loop {
            match self.has_numbers(&enough) {
                Ok(true) => return Ok(()),
                outcome if began.elapsed() > DATA_WITHIN => {
                    let log = fs::read_to_string(&self.log).unwrap_or_default();
                    bail!(
                        "prometheus (process {}) has no data ({outcome:?}); its log:\n{log}",
                        self.child.0.id()
                    );
                }
                _ => thread::sleep(Duration::from_millis(250)),
            }
        }
    }

    /// Whether a query over the last seconds gives at least one number.
    fn has_numbers(&self, expr: &str) -> anyhow::Result<bool> {
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
    fn judge_rules(&self, alerts: usize) -> anyhow::Result<()> {
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

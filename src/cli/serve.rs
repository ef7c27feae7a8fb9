//! `saker serve`: settings, data directory, engine, doors, one line when it is SERVING, and the way down.
//!
//! A stop (SIGTERM or Ctrl-C) says NOT_SERVING first, answers what was read, closes the journal and ends with 0, or
//! with 1 where not every call ended inside the grace. A journal that stopped ends the process with 3, at once and
//! without another write: after a failed sync nobody knows what the disk holds.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing::{error, info, warn};

use super::{Exit, Failure};
use crate::{
    admin::{
        self,
        http::{Admin, AdminListener},
    },
    config::{Config, LogFormat, LogLevel},
    engine::{
        Engine, Health, ModelRole,
        recover::{OpenError, Settings, Source},
        time::{SystemClock, TimeSource},
    },
    journal::{self, LogError},
    observe::{Metrics, process::free_bytes},
    wire::{self, Bound, Server},
};

/// A flag stands above its environment variable, that above the file, and the file above the default.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Settings as TOML; `src/config.toml` shows every one with its default.
    #[arg(long, value_name = "FILE", env = "SAKER_CONFIG")]
    pub config: Option<PathBuf>,
    /// The one directory the engine writes to [default: ./saker-data].
    #[arg(long, value_name = "DIR", env = "SAKER_DATA")]
    pub data: Option<PathBuf>,
    /// Replaces the shipped rules.
    #[arg(long, value_name = "FILE", env = "SAKER_RULES")]
    pub rules: Option<PathBuf>,
    /// Replaces the shipped model; `none` serves without one.
    #[arg(long, value_name = "FILE", env = "SAKER_MODEL")]
    pub model: Option<PathBuf>,
    /// host:port of gRPC; port 0 takes a free one [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDR", env = "SAKER_LISTEN")]
    pub listen: Option<String>,
    /// host:port of HTTP for /metrics, /live and /ready [default: 127.0.0.1:9464].
    #[arg(long, value_name = "ADDR", env = "SAKER_ADMIN")]
    pub admin: Option<String>,
}

/// What stands behind the line on stdout where the disk is low or stalled from the start, as health says it.
const BUT_AUTHORISATIONS: &str = " authorisation=NOT_SERVING";

/// How long calls that were waiting for a journal that stopped have to hear of it.
const FAREWELL: Duration = Duration::from_millis(500);

/// A second signal that comes sooner is the same one sent twice.
const SECOND_SIGNAL_AFTER: Duration = Duration::from_secs(1);

/// Runs the engine until it is told to stop or stops itself.
///
/// # Errors
/// Exit code 2 where a setting, a file, a port or the data directory cannot be used; 3 where the data directory must
/// not be trusted, or the journal stopped; 1 where calls were cut off at the end.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = settings(args)?;
    start_log(&config)?;
    let grpc = Bound::new(address(&config.listen.grpc)?).map_err(taken("gRPC", &config.listen.grpc))?;
    let admin = bind_admin(&config.listen.admin)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Signals are listened to from here on, so that one that comes while the journal is read is not lost.
    let (mut stop, mut hang_up) =
        runtime.block_on(async { io::Result::Ok((StopSignals::new()?, signal(SignalKind::hangup())?)) })?;

    let time = TimeSource::Clock(Box::new(SystemClock));
    let service = Service::start(&config, time, grpc, admin)?;
    service.engine.start_sweeper().context("the sweeper cannot be started")?;
    service.engine.start_snapshots().context("the thread that takes snapshots cannot be started")?;
    service.engine.start_guard().context("the guard cannot be started")?;
    let watch = (
        admin::rules::watch(&service.engine).context("the rules file cannot be watched")?,
        admin::models::watch(&service.engine, ModelRole::Champion)
            .context("the model file cannot be watched")?,
        admin::models::watch(&service.engine, ModelRole::Challenger)
            .context("the challenger's file cannot be watched")?,
    );
    let mut stdout = io::stdout().lock();
    let but = if service.engine.health().borrow().authorisation { "" } else { BUT_AUTHORISATIONS };
    writeln!(stdout, "SERVING grpc={} admin={}{but}", service.grpc, service.admin)?;
    stdout.flush()?;
    drop(stdout);

    let mut failed = service.engine.failed();
    let failure = runtime.block_on(async {
        loop {
            tokio::select! {
                name = stop.next() => {
                    info!(signal = name, "stopping: what was read is answered first");
                    return None;
                }
                why = journal_stopped(&mut failed) => return Some(why),
                _ = hang_up.recv() => reload(&service.engine),
            }
        }
    });
    if let Some(why) = failure {
        error!(%why, "the journal stopped: nothing more is decided");
        std::thread::sleep(FAREWELL);
        // Closing in order would wait for threads, and one may be stuck in the kernel with the disk that failed. There
        // is nothing left to write; what is open is the operating system's to close.
        std::mem::forget(watch);
        std::mem::forget(service);
        std::mem::forget(runtime);
        return Err(Failure::protected(format!(
            "the journal stopped: {why}\nEvery answer given is on disk. Find out what is wrong with the disk, then \
             start again: the log is read back whole, or refused with its place."
        )));
    }
    drop(watch);
    let engine = Arc::clone(&service.engine);
    // A second signal means now: the operator has seen that the first one takes its time.
    let (sender, mut ended) = tokio::sync::oneshot::channel();
    let told = Instant::now();
    std::thread::spawn(move || sender.send(service.stop()));
    let stopped = runtime.block_on(async {
        loop {
            tokio::select! {
                stopped = &mut ended => return stopped.unwrap_or_else(|_| bail!("stopping failed")),
                // Supervisors send the same signal to a process and to its group.
                name = stop.next() => if told.elapsed() >= SECOND_SIGNAL_AFTER {
                    return Err(Failure::wrong(format!("cut off by a second {name}")));
                },
            }
        }
    });
    // Rules may be being read from a file system that hangs.
    runtime.shutdown_background();
    if stopped.is_ok() {
        let (took_s, durable_position) = (told.elapsed().as_secs_f64(), engine.durable_position());
        info!(took_s, durable_position, "stopped");
    }
    stopped
}

/// Reads the configured rules and model files anew, off the thread that waits for signals. What comes of it is logged
/// and counted.
fn reload(engine: &Arc<Engine>) {
    let engine = Arc::clone(engine);
    info!(signal = "SIGHUP", "the configured rules and models are read anew");
    tokio::task::spawn_blocking(move || {
        // What comes of it is counted and logged.
        let _ = admin::rules::reload_configured(&engine);
        admin::models::reload_files(&engine);
    });
}

/// An engine behind its doors.
pub(super) struct Service {
    pub(super) engine: Arc<Engine>,
    /// Where gRPC is served.
    pub(super) grpc: SocketAddr,
    /// Where metrics and health are.
    pub(super) admin: SocketAddr,
    server: Server,
    _admin: Admin,
    health: watch::Sender<Health>,
}

impl Service {
    /// Opens the engine and its doors. Metrics and liveness answer from the start, readiness once it is SERVING.
    ///
    /// # Errors
    /// Exit code 2 or 3 by the cause, see [`refused`].
    pub(super) fn start(
        config: &Config,
        time: TimeSource,
        grpc: Bound,
        admin: AdminListener,
    ) -> anyhow::Result<Service> {
        let metrics = Metrics::new(config.runtime.lanes());
        let (health, shown) = watch::channel(Health { authorisation: false, others: false });
        let admin_address = admin.address()?;
        let admin = admin.start(metrics.clone(), shown).context("the admin thread cannot be started")?;

        let settings = Settings {
            data_dir: config.data.clone(),
            rules: rules_source(config)?,
            model: model_source(config)?,
            challenger: challenger_source(config)?,
            config: config.clone(),
            time,
            metrics,
        };
        let (engine, recovered) = Engine::open(settings).map_err(|error| refused(config, error))?;
        let summary = &recovered.journal.summary;
        let rules = engine.rules();
        info!(
            saker = env!("CARGO_PKG_VERSION"),
            data = %config.data.display(),
            rules = %rules.version,
            rules_from = %config.decide.rules.as_deref().unwrap_or(Path::new("the shipped rules")).display(),
            model = %engine.model_version(ModelRole::Champion),
            challenger = %engine.model_version(ModelRole::Challenger),
            snapshot = recovered.snapshot.as_deref().unwrap_or("none"),
            snapshot_s = recovered.snapshot_time.as_secs_f64(),
            records = summary.records,
            segments = summary.segments,
            journal_s = recovered.journal_time.as_secs_f64(),
            "the state is back"
        );
        if let Some(torn) = &recovered.journal.torn {
            warn!(
                file = torn.file,
                byte = torn.offset,
                bytes = torn.bytes,
                "an unfinished group was cut off"
            );
        }

        let options = wire::Options {
            runtimes: config.runtime.lanes(),
            drain_grace: Duration::from_secs(config.runtime.drain_grace_s),
            reflection: config.listen.reflection,
            pans_allowed: config.listen.card_numbers,
            ..wire::Options::default()
        };
        let grpc = grpc.listen().map_err(taken("gRPC", &config.listen.grpc))?;
        let server = wire::serve(engine.clone(), grpc, options).context("gRPC cannot be served")?;
        follow_health(&engine, health.clone())?;
        Ok(Service { grpc: server.local_addr(), admin: admin_address, server, _admin: admin, health, engine })
    }

    /// Stops for good: NOT_SERVING, answers, journal. Exit code 1 where not every call ended inside the grace.
    ///
    /// # Errors
    /// Exit code 3 where the journal could not be closed.
    pub(super) fn stop(self) -> anyhow::Result<ExitCode> {
        self.health.send_replace(Health { authorisation: false, others: false });
        let all_ended = self.server.drain();
        self.engine
            .close()
            .map_err(|why| Failure::protected(format!("the journal could not be closed: {why}")))?;
        if !all_ended {
            warn!("not every call ended inside the grace");
        }
        Ok(if all_ended { ExitCode::SUCCESS } else { Exit::Wrong.into() })
    }
}

/// Shows the engine's health at the admin door too.
fn follow_health(engine: &Engine, shown: watch::Sender<Health>) -> anyhow::Result<()> {
    let mut health = engine.health();
    shown.send_replace(*health.borrow_and_update());
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    std::thread::Builder::new().name("saker-health".to_owned()).spawn(move || {
        runtime.block_on(async {
            while health.changed().await.is_ok() {
                shown.send_replace(*health.borrow_and_update());
            }
        });
    })?;
    Ok(())
}

/// Resolves once the journal has stopped, with why.
async fn journal_stopped(failed: &mut watch::Receiver<Option<String>>) -> String {
    match failed.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_) => "the engine has ended".to_owned(),
    }
}

/// SIGTERM and SIGINT.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Must be called inside a runtime.
    ///
    /// # Errors
    /// Where the operating system does not let signals be listened to.
    pub(super) fn new() -> io::Result<StopSignals> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The settings of the file with what flags and environment say laid over them.
fn settings(args: Args) -> anyhow::Result<Config> {
    let mut config = config_of(args.config.as_deref())?;
    config.data = args.data.unwrap_or(config.data);
    config.decide.rules = args.rules.or(config.decide.rules);
    config.decide.model = args.model.or(config.decide.model);
    config.listen.grpc = args.listen.unwrap_or(config.listen.grpc);
    config.listen.admin = args.admin.unwrap_or(config.listen.admin);
    Ok(config)
}

/// The settings of a file; without one the defaults.
///
/// # Errors
/// Where it cannot be read, or has what is no setting.
pub(super) fn config_of(file: Option<&Path>) -> anyhow::Result<Config> {
    match file {
        None => Ok(Config::default()),
        Some(path) => Ok(Config::parse(&path.display().to_string(), &read(path)?)?),
    }
}

/// The rules that the settings name.
///
/// # Errors
/// Where their file cannot be read.
pub(super) fn rules_source(config: &Config) -> anyhow::Result<Source> {
    Ok(admin::rules::source(config.decide.rules.as_deref())?)
}

/// The model that the settings name; `None` where none is to serve.
///
/// # Errors
/// Where its file cannot be read, or is no text.
pub(super) fn model_source(config: &Config) -> anyhow::Result<Option<Source>> {
    Ok(admin::models::source(ModelRole::Champion, config.decide.model.as_deref())?)
}

/// The challenger that the settings name; `None` without one.
///
/// # Errors
/// Where its file cannot be read, or is no text.
fn challenger_source(config: &Config) -> anyhow::Result<Option<Source>> {
    Ok(admin::models::source(ModelRole::Challenger, config.model.challenger.as_deref())?)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// An engine that will not open: damage protects itself with exit code 3, everything else is the operator's to mend.
fn refused(config: &Config, error: OpenError) -> anyhow::Error {
    let place = config.data.display();
    match error {
        OpenError::Journal(journal::OpenError::InUse { .. }) => anyhow!(
            "the data directory {place} is in use by another process; stop that one, or name another with --data"
        ),
        OpenError::Journal(journal::OpenError::Log(refused @ LogError::Io { .. })) => {
            let room = match &refused {
                LogError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => format!(
                    "; the disk has {} bytes left, and a new journal takes two segments of {} bytes",
                    free_bytes(&config.data)
                        .map_or("an unknown number of".to_owned(), |free| free.to_string()),
                    config.journal.segment_bytes
                ),
                _ => String::new(),
            };
            Failure::protected(format!(
                "{place} is not opened: {refused}{room}\nNothing that was acknowledged is lost by that. Find out what is wrong with \
             the disk, or make room on it, then start again: what was begun is begun anew."
            ))
        }
        OpenError::Journal(journal::OpenError::Log(damage)) => Failure::protected(format!(
            "{place} is not opened, and nothing in it was changed: {damage}\nKeep it as it is; `saker journal verify \
             {place}` says the same without starting, and a copy that verifies can take its place."
        )),
        error => anyhow!("{place}: {error}"),
    }
}

/// The first address of host:port.
pub(super) fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let mut found = text
        .to_socket_addrs()
        .with_context(|| format!("`{text}` is no address to listen on, such as 127.0.0.1:50051"))?;
    found.next().with_context(|| format!("the host of `{text}` has no address"))
}

fn bind_admin(text: &str) -> anyhow::Result<AdminListener> {
    AdminListener::bind(address(text)?).map_err(taken("the admin door", text))
}

/// Says of an address that could not be had what to do about it.
fn taken(what: &str, text: &str) -> impl FnOnce(io::Error) -> anyhow::Error {
    let (what, text) = (what.to_owned(), text.to_owned());
    move |error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let flag = if what == "gRPC" { "--listen" } else { "--admin" };
            anyhow!(
                "{what} cannot listen on {text}: the port is taken; name another with {flag}, or 0 for a free one"
            )
        }
        _ => anyhow!("{what} cannot listen on {text}: {error}"),
    }
}

/// Logs to stderr; `SAKER_LOG` stands above the file.
fn start_log(config: &Config) -> anyhow::Result<()> {
    let level = match config.log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let given = std::env::var("SAKER_LOG").ok().filter(|directives| !directives.trim().is_empty());
    let directives = given.as_deref().unwrap_or(level);
    let filter = log_filter(directives).with_context(|| {
        format!("SAKER_LOG: `{directives}` is neither a level (error, warn, info, debug, trace, off) nor a list such as \
                 `saker=debug,info`")
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let started = match config.log.format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| anyhow!("the log cannot be started: {error}"))
}

/// Reads levels, alone or by target. A word that is no level would be taken for a target, and silence all others.
fn log_filter(directives: &str) -> anyhow::Result<tracing_subscriber::EnvFilter> {
    let directives: Vec<&str> = directives.split(',').map(str::trim).collect();
    for level in directives.iter().filter(|directive| !directive.contains('=')) {
        level.parse::<tracing_subscriber::filter::LevelFilter>()?;
    }
    Ok(tracing_subscriber::EnvFilter::try_new(directives.join(","))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_does_not_silence_the_log() {
        for right in ["info", "OFF", "saker=debug,info", "warn, saker::journal=trace"] {
            assert!(log_filter(right).is_ok(), "{right}");
        }
        for wrong in ["loud", "saker", "info,loud", "saker=loud"] {
            assert!(log_filter(wrong).is_err(), "{wrong}");
        }
    }
}

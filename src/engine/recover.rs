//! Start: versions loaded, journal opened, every record put back in force, and only then an engine.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    Engine, Health,
    appliers::Restorer,
    background::Background,
    guard,
    live::{InForce, held, warn_of_held},
    older::{self, Older},
    shared::{self, SharedWindows},
    snapshot::{self, Begun, PassedOver, Taker},
    sweep,
    time::{EngineTime, TimeSource},
    unclosed::Unclosed,
    versions::{self, Names},
};
use crate::{
    authorise::{
        State,
        answers::Answers,
        entry::Store,
        listing,
        restore::Effect,
        setup::{Challenger, Setup},
    },
    config::Config,
    features::{
        Plan,
        shared::{Shared, SharedPlan},
    },
    journal::{
        self, Class, FileStorage, GroupSynced, Journal, LowDisk, Observer, Options, RecoveryReport, Storage,
        record::{Introduced, Record, VersionNumbers, Versioned},
        snapshot::{Snapshot, Snapshots},
    },
    limits::{RING_RESERVE, RING_SLOTS},
    model::{Model, ModelError},
    observe::Metrics,
    rules::{self, Finding, ListsInForce, RuleSet},
    types::{
        reasons::Label,
        time::{HOUR_MS, Timestamp},
    },
};

/// A text and where it came from, for messages.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// What an engine is opened with.
pub struct Settings {
    pub data_dir: PathBuf,
    pub rules: Source,
    /// `None` serves without a model.
    pub model: Option<Source>,
    /// Scores in shadow, where there is one.
    pub challenger: Option<Source>,
    pub config: Config,
    pub time: TimeSource,
    pub metrics: Metrics,
}

/// Why an engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the rules are wrong:\n{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Rules(Vec<Finding>),
    #[error("{name}: {error}")]
    Model { name: String, error: ModelError },
    #[error(transparent)]
    Journal(#[from] journal::OpenError),
    #[error("{path}: {error}")]
    Files { path: PathBuf, error: io::Error },
}

/// What was put back in force.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub journal: RecoveryReport,
    /// Records that were put back in force, one by one.
    pub records: u64,
    pub last_time: Timestamp,
    /// The snapshot that was begun with.
    pub snapshot: Option<String>,
    /// Newer ones that were not believed, and why.
    pub passed_over: Vec<PassedOver>,
    /// Time that reading the snapshot took, and then the journal behind it.
    pub snapshot_time: Duration,
    pub journal_time: Duration,
}

/// Makes what a record says stand, without deciding again.
#[cfg(test)]
pub(super) fn restore(state: &State, plan: &Plan, names: &Names, position: u64, record: Record) {
    if let Record::Introduced(introduced) = &record {
        names.introduce(introduced);
        return;
    }
    Effect::of(&state.answers, position, record).restore(state, plan);
}

/// The engine's time when a record was made.
pub(super) fn time_of(record: &Record) -> Timestamp {
    match record {
        Record::Introduced(record) => record.time,
        Record::Decided(record) => record.time,
        Record::Duplicated(record) => record.time,
        Record::Voided(record) => record.time,
        Record::Reversed(record) => record.time,
        Record::Maintained(record) => record.time,
        Record::Expiry(record) => record.time,
        Record::Listed(record) => record.time,
        Record::Labelled(record) => record.time,
    }
}

/// Loads rules and model that come from outside into what decisions are made with. Numbers are given once the journal is
/// known.
pub(super) fn setup_given(
    rules: &Source,
    model: Option<&Source>,
    config: &Config,
) -> Result<Setup, OpenError> {
    setup_with(rules::compile(&rules.name, &rules.text), model, config)
}

/// As [`setup_given`], with rules that the engine kept, or that were checked where they were read.
pub(super) fn setup_of(rules: &Source, model: Option<&Source>, config: &Config) -> Result<Setup, OpenError> {
    setup_with(rules::compile_kept(&rules.name, &rules.text), model, config)
}

fn setup_with(
    rules: Result<RuleSet, Vec<Finding>>,
    model: Option<&Source>,
    config: &Config,
) -> Result<Setup, OpenError> {
    let rules = rules.map_err(OpenError::Rules)?;
    let model = load_model(model)?;
    Ok(Setup {
        plan: Arc::new(Plan::new(&rules.aggregates)),
        shared: Arc::new(SharedPlan::new(&rules.aggregates)),
        base: config.base_currency.0.clone(),
        rules_version: Label::new(&rules.version),
        model_version: model.as_ref().map_or(Label::Static(""), |model| model.version().clone()),
        lists: ListsInForce::default(),
        rules: Arc::new(rules),
        model,
        challenger: None,
        control: config.model.control(),
        holds: config.holds.clone(),
        limits_assumed: config.accounts.assumed_limits,
        numbers: VersionNumbers::default(),
    })
}

fn load_model(source: Option<&Source>) -> Result<Option<Arc<Model>>, OpenError> {
    let load = |source: &Source| {
        let named = |error| OpenError::Model { name: source.name.clone(), error };
        Model::load(&source.text).map(Arc::new).map_err(named)
    };
    source.map(load).transpose()
}

pub(super) fn empty_state(config: &Config, secret: (u64, u64)) -> State {
    State {
        store: Store::new(config.accounts.shards as usize),
        answers: Answers::new(config.answers.capacity as usize, secret),
    }
}

/// What the hashes of keys are keyed with: the same at every start of one journal, because files name keys by their
/// hashes, and unknown to clients, because the journal's id is random, so that none can aim at one place of the index.
pub(super) fn secret_of(directory: &journal::Directory) -> (u64, u64) {
    let key = directory.key("saker 2026 hashes of request keys");
    let half = |from: usize| u64::from_le_bytes(std::array::from_fn(|place| key[from + place]));
    (half(0), half(8))
}

/// Where the journal lives in a data directory.
pub(super) fn journal_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("journal")
}

/// Feeds the journal's figures and its end to whoever watches.
struct Watcher {
    metrics: Metrics,
    health: watch::Sender<Health>,
    failed: watch::Sender<Option<String>>,
    disk_low: AtomicBool,
    disk_stalled: AtomicBool,
}

impl Watcher {
    /// Each trouble is told by a thread of its own; the flags are read under the channel's lock, so that the last word
    /// counts both. Before the engine is open and after it has stopped, health stays as it is.
    fn show(&self) {
        self.health.send_if_modified(|health| {
            let before = *health;
            let trouble = self.disk_low.load(Ordering::SeqCst) || self.disk_stalled.load(Ordering::SeqCst);
            health.authorisation = health.others && !trouble;
            before != *health
        });
    }
}

impl Observer for Watcher {
    fn group_synced(&self, group: &GroupSynced) {
        self.metrics.group_synced(group.records, group.bytes, group.write_ns, group.sync_ns);
    }

    fn failed(&self, failure: &journal::Failure) {
        self.health.send_replace(Health { authorisation: false, others: false });
        self.failed.send_replace(Some(failure.to_string()));
    }

    fn disk_low(&self, low: Option<&LowDisk>) {
        if let Some(LowDisk { place, needed_bytes, free_bytes, reason }) = low {
            tracing::warn!(
                directory = place,
                needed_bytes,
                free_bytes,
                reason,
                "the next segment of the journal cannot be prepared: authorisations are refused until it can"
            );
        } else {
            tracing::info!("the next segment of the journal is prepared: authorisations are decided again");
        }
        self.disk_low.store(low.is_some(), Ordering::SeqCst);
        self.show();
    }

    fn disk_stalled(&self, stalled: bool) {
        if stalled {
            tracing::warn!("the disk takes too long: authorisations are refused until it has answered");
        } else {
            tracing::info!("the disk has answered: authorisations are decided again");
        }
        self.disk_stalled.store(stalled, Ordering::SeqCst);
        self.show();
    }
}

impl Engine {
    /// Opens a data directory, or makes one, and puts everything it holds back in force.
    ///
    /// # Errors
    /// Where rules or model are wrong, the directory is in use, or the journal must not be trusted.
    pub fn open(settings: Settings) -> Result<(Arc<Engine>, Recovered), OpenError> {
        let data_dir = settings.data_dir.clone();
        let storage = |dir: PathBuf| {
            let made = FileStorage::new(&dir);
            made.map(|storage| Arc::new(storage) as Arc<dyn Storage>)
                .map_err(|error| OpenError::Files { path: dir, error })
        };
        let journal = storage(journal_dir(&data_dir))?;
        Engine::open_on(settings, journal, storage(data_dir.join("snapshots"))?)
    }

    /// As [`Engine::open`], with the journal and its snapshots on these storages.
    pub(super) fn open_on(
        settings: Settings,
        storage: Arc<dyn Storage>,
        snapshots: Arc<dyn Storage>,
    ) -> Result<(Arc<Engine>, Recovered), OpenError> {
        let Settings { data_dir, rules, model, challenger, mut config, time, metrics } = settings;
        let mut setup = setup_given(&rules, model.as_ref(), &config)?;
        let challenging = load_model(challenger.as_ref())?;
        let (health, _) = watch::channel(Health { authorisation: false, others: false });
        let (failed_sender, failed) = watch::channel(None);
        let watcher = Watcher {
            metrics: metrics.clone(),
            health: health.clone(),
            failed: failed_sender,
            disk_low: AtomicBool::default(),
            disk_stalled: AtomicBool::default(),
        };

        let files = |error| OpenError::Files { path: data_dir.clone(), error };
        let directory = journal::take(storage)?;
        let (unclosed, left) = Unclosed::begin(&data_dir);
        metrics.begun_after_unclosed(left.is_some());
        if let Some(process) = left {
            tracing::warn!(
                process,
                "the process before did not close its journal: it stopped itself after a failed write or sync, was \
                 killed, or went down with the machine"
            );
        }
        // Part of the settings from here on, so that a record names it with them.
        config.model.key_control(|| {
            let key = directory.key("saker 2026 control share of the model");
            std::array::from_fn(|place| key[place])
        });
        setup.control = config.model.control();
        let snapshots = Snapshots::new(directory.beside(snapshots));
        let began = Instant::now();
        let begun =
            snapshot::newest(&directory, &snapshots, &data_dir, &config, secret_of(&directory), &setup);
        let snapshot_time = began.elapsed();
        let Begun {
            state,
            names,
            plans,
            mut ages,
            mut last_time,
            shared,
            mut lists,
            mut labels,
            snapshot: begun_from,
            passed_over,
        } = begun;
        let budget_bytes = config.windows.shared_bytes as usize;
        // From an empty state the log is read from its beginning, and so are they.
        let mut shared = match begun_from.is_some() {
            true => shared,
            false => Some(Shared::new(&setup.shared, budget_bytes)),
        };
        let options = Options {
            segment_bytes: config.journal.segment_bytes,
            ring_slots: RING_SLOTS,
            ring_reserve: RING_RESERVE,
            idle_mark_ms: config.journal.idle_mark_ms,
            stall_ms: config.journal.stall_ms,
            hang_ms: config.journal.hang_ms,
            observer: Arc::new(watcher),
            ..Options::default()
        };
        let memory_ms = i64::try_from(config.answers.memory_hours).unwrap_or_default() * HOUR_MS;
        let key_storage = FileStorage::new(data_dir.join("keys")).map_err(files)?;
        let key_files = directory.key_files(Arc::new(key_storage));
        let older = Older::open(key_files, &directory, memory_ms, state.answers.capacity()).map_err(files)?;
        state.answers.set_older(older.filters());
        let mut first_replayed = None;
        let mut records = 0_u64;
        let began = Instant::now();
        let opened = std::thread::scope(|scope| {
            let mut restorer = Restorer::start(scope, &state, &plans, &older);
            let opened = directory.open(options, begun_from.as_ref(), &mut |record| {
                let position = record.position;
                let record =
                    Record::decode_brief(record.payload, position).map_err(|error| error.to_string())?;
                last_time = last_time.max(time_of(&record));
                ages.note_record(last_time, position);
                records += 1;
                first_replayed.get_or_insert(position);
                if let Some(shared) = shared.as_mut().filter(|shared| shared.complete_to() < position) {
                    let event = shared::restored(&record, position, &setup.base);
                    shared.apply(&setup.shared, position, event.as_ref());
                }
                if let Record::Introduced(introduced) = &record {
                    names.introduce(introduced);
                    return Ok(());
                }
                if let Some(after) = listing::restored(&lists, position, &record) {
                    lists = after;
                }
                if let Record::Labelled(labelled) = &record {
                    labels.put(labelled.of, position);
                }
                restorer.put(Effect::of(&state.answers, position, record))
            });
            restorer.finish();
            opened
        });
        let (journal, report) = opened?;
        if begun_from.is_some() {
            older.recall();
        }
        let journal_time = began.elapsed();
        snapshots.clean().map_err(files)?;
        let snapshot_position = begun_from.as_ref().map_or(0, Snapshot::position);
        let recovery_s = (snapshot_time + journal_time).as_secs_f64();
        metrics.recovered(snapshot_position, records, recovery_s, passed_over.len());

        hold_modes(&mut setup, &rules.name, &names, &data_dir)?;
        warn_of_held(&setup.rules);
        let shared = match shared {
            Some(shared) => shared,
            None => {
                let first = shared::first_needed(ages.marks(), last_time);
                tracing::warn!(
                    first,
                    "the windows across accounts are not those of the snapshot: they are filled from the journal"
                );
                shared::fill(&journal, &setup.shared, &setup.base, budget_bytes, first)
                    .map_err(|error| files(io::Error::other(error.to_string())))?
            }
        };
        let at_once = matches!(time, TimeSource::Transactions);
        let (plan, base) = (Arc::clone(&setup.shared), setup.base.clone());
        let shared = Arc::new(SharedWindows::new(plan, base, shared, at_once));
        setup.lists = setup.rules.lists_in_force(Arc::new(lists));
        let time = EngineTime::new(time, last_time);
        let now = time.now();
        let config_text = config.decision_text();
        let model_text = model.as_ref().map_or("", |model| &model.text);
        setup.numbers = VersionNumbers {
            rules: introduce(&journal, &names, &data_dir, now, Versioned::Rules, &setup.rules.source)
                .map_err(files)?,
            model: introduce(&journal, &names, &data_dir, now, Versioned::Model, model_text)
                .map_err(files)?,
            config: introduce(&journal, &names, &data_dir, now, Versioned::Config, &config_text)
                .map_err(files)?,
        };
        if let (Some(model), Some(Source { text, .. })) = (challenging, &challenger) {
            let number = introduce(&journal, &names, &data_dir, now, Versioned::Challenger, text);
            setup.challenger = Some(Challenger { model, number: number.map_err(files)? });
        }
        setup.plan = plans.note(setup.numbers.rules, setup.plan);
        metrics.expect_shed(&super::SHED_CAUSES);
        metrics.configured(&versions::version_of(&config_text));
        let engine = Arc::new(Engine {
            state,
            in_force: ArcSwap::from_pointee(InForce::new(setup, shared, &metrics)),
            reloading: Mutex::default(),
            lanes: AtomicUsize::new(0),
            journal,
            names,
            plans,
            data_dir,
            time,
            config,
            metrics,
            health,
            failed,
            draining: false.into(),
            clock_doubted: false.into(),
            former_rules: Mutex::default(),
            sweeper: sweep::Sweeper::default(),
            ages: Mutex::new(ages),
            snapshots: Taker::new(snapshots, begun_from.as_ref(), &passed_over),
            older,
            shared_thread: Background::default(),
            guard: guard::Guard::default(),
            labels: Mutex::new(labels),
            unclosed: unclosed.stays(),
        });
        engine.make_key_files_before_serving(first_replayed.unwrap_or(engine.journal.durable() + 1));
        shared::start(&engine).map_err(|error| OpenError::Files { path: engine.data_dir.clone(), error })?;
        older::start(&engine).map_err(|error| OpenError::Files { path: engine.data_dir.clone(), error })?;
        let weak = Arc::downgrade(&engine);
        engine.metrics.watch_live(move || weak.upgrade().map(|engine| engine.live()));
        // Read under the channel's lock: whatever happens later is told after this.
        engine.health.send_modify(|health| {
            let journal = &engine.journal;
            if journal.failure().is_none() {
                let fit = !journal.low_disk() && !journal.stalled();
                *health = Health { authorisation: fit, others: true };
            }
        });
        let recovered = Recovered {
            journal: report,
            records,
            last_time,
            snapshot: begun_from.map(|snapshot| snapshot.name().to_owned()),
            passed_over,
            snapshot_time,
            journal_time,
        };
        Ok((engine, recovered))
    }

    /// Starts expiring the holds of idle accounts once a second. Not for engines whose time the transactions make.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start_sweeper(self: &Arc<Self>) -> io::Result<()> {
        sweep::start(self)
    }
}

/// Gives the rules of a start the modes that calls had set under the rules that decided last.
fn hold_modes(setup: &mut Setup, name: &str, names: &Names, data_dir: &Path) -> Result<(), OpenError> {
    let Some((_, newest)) = names.newest(Versioned::Rules) else { return Ok(()) };
    match versions::read(data_dir, Versioned::Rules, &newest) {
        Ok(text) => {
            let before = rules::modes_of(&text);
            if let Some(held) = held(name, &setup.rules, &before).map_err(OpenError::Rules)? {
                setup.rules_version = Label::new(&held.version);
                setup.rules = Arc::new(held);
            }
        }
        // Service goes on: what cannot be read is a text, and every rule in it has the mode of its file.
        Err(error) => tracing::error!(
            error,
            "the rules that decided last cannot be read, and modes that were set by calls are not known: every rule has \
             the mode that the file says"
        ),
    }
    Ok(())
}

/// Gives a version its number: that of its first introduction, or the next, with its text kept first.
fn introduce(
    journal: &Journal,
    names: &Names,
    data_dir: &Path,
    now: Timestamp,
    what: Versioned,
    text: &str,
) -> io::Result<u32> {
    let version = if text.is_empty() { String::new() } else { versions::version_of(text) };
    versions::keep(data_dir, what, &version, text)?;
    if let Some((number, newest)) = names.newest(what) {
        if *newest == *version {
            names.go_on(what, now, number);
            return Ok(number);
        }
        tracing::warn!(?what, before = %newest, now = version, "another version decides than before this start");
    }
    // A version that comes back is introduced again under its own number, so that the newest is always the one in
    // force.
    let number = names.number(what, &version).unwrap_or_else(|| names.newest_number(what) + 1);
    let introduced = Introduced { time: now, what, number, version };
    let mut slot = journal
        .reserve(Class::Essential)
        .map_err(|error| io::Error::other(format!("the journal takes no record: {error}")))?;
    names.introduce(&introduced);
    slot.take_sequence();
    introduced.encode(slot.buffer());
    slot.publish();
    Ok(number)
}

//! Snapshots while serving, and the start from the newest good one: what goes into them, when they are taken, and
//! which of them a start believes.
//!
//! A snapshot is copied account by account and answer by answer, each under its own short lock, while decisions go on.
//! That is enough because of three things:
//!
//! - **Nothing up to the anchor is missing.** The anchor is a durable position, taken first. What a record did to its
//!   account was done before it was published, so that every later copy has it. Its answer may still be in flight, since
//!   claims are settled when the account's lock is free again: such a key is looked at until it is settled.
//! - **Nothing behind the anchor happens twice.** The records behind it are put back in force in order. An account
//!   passes over those that its copy has [seen](crate::ledger::Account::has_seen); of a key's answers the last one
//!   said counts, wherever the copy stood.
//! - **Nothing is ahead of the disk.** The file gets its name only when every position taken while it was copied is
//!   durable.
//!
//! ```text
//! section 16  one item: engine time i64 | answers there were, about u64 | versions u32, each: what u8 | number u32 |
//!             name | plans of windows u32, each: id u64 | number of the rules u32 | ages u32, each: time i64 |
//!             position u64
//! section 17  accounts in the order of their places, one item each
//! section 18  answers, any number in an item
//! section 19  lists: first an item with the position of the record that made them u64, then any number of values of
//!             one list in an item: name | kind u8 | values, each: value | 0 taken out, 1 added u8 | end i64 |
//!             bytes of the source u16 | source
//! section 20  newest labels, any number in an item, each: position of the authorisation u64 | of the label u64
//! section 21  windows across accounts: fingerprint of their plan, 16 bytes | currency u16, then their own items;
//!             absent where they had not reached the anchor
//! ```

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;

use super::{Engine, ages::Ages, background::Background, lists::Labels, plans::Plans, versions::Names};
use crate::{
    authorise::{
        State,
        answers::Answers,
        entry::{Entry, Store},
        setup::Setup,
    },
    config::Config,
    features::{Plan, shared::Shared},
    journal::{
        Directory, Journal, LogError,
        record::Versioned,
        snapshot::{
            BlockPlace, FIRST_FREE_SECTION, Snapshot, SnapshotError, SnapshotWriter, Snapshots, Terms,
            Written,
        },
    },
    rules::Lists,
    types::{
        bytes::{Fields, Misread, put_text},
        time::Timestamp,
    },
};

const ABOUT: u32 = FIRST_FREE_SECTION;
const ACCOUNTS: u32 = FIRST_FREE_SECTION + 1;
const ANSWERS: u32 = FIRST_FREE_SECTION + 2;
const LISTS: u32 = FIRST_FREE_SECTION + 3;
const LABELS: u32 = FIRST_FREE_SECTION + 4;
const SHARED: u32 = FIRST_FREE_SECTION + 5;

/// Good snapshots that are kept: should the newest be damaged, the one before still shortens the start.
const KEPT: usize = 2;
/// Between two looks whether one is due.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at a key in flight.
const IN_FLIGHT_POLL: Duration = Duration::from_micros(50);
/// How long a snapshot waits for the windows across accounts to reach its anchor.
const SHARED_PATIENCE: Duration = Duration::from_secs(5);
/// Segments that a snapshot leaves room for: the one being prepared, and the one after it.
const SEGMENTS_KEPT_FREE: u64 = 2;

/// A snapshot that a start did not believe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PassedOver {
    pub file: String,
    /// The place and what is wrong there.
    pub reason: String,
}

/// What a start begins with.
pub(super) struct Begun {
    pub(super) state: State,
    pub(super) names: Arc<Names>,
    pub(super) plans: Arc<Plans>,
    pub(super) ages: Ages,
    pub(super) last_time: Timestamp,
    /// The windows across accounts; `None` where the snapshot has none of this plan.
    pub(super) shared: Option<Shared>,
    pub(super) lists: Lists,
    pub(super) labels: Labels,
    /// Where it comes from; `None` for an empty one.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) passed_over: Vec<PassedOver>,
}

/// The state of the newest snapshot that can be believed and used, or an empty one.
pub(super) fn newest(
    directory: &Directory,
    snapshots: &Snapshots,
    data_dir: &Path,
    config: &Config,
    secret: (u64, u64),
    setup: &Setup,
) -> Begun {
    let mut passed_over = Vec::new();
    let mut pass_over = |file: &str, reason: String| {
        tracing::warn!(file, reason, "a snapshot is passed over");
        passed_over.push(PassedOver { file: file.to_owned(), reason });
    };
    let names = snapshots.names().unwrap_or_else(|error| {
        pass_over("snapshots", error.to_string());
        Vec::new()
    });
    for name in names {
        let loaded = directory.snapshot(snapshots, &name);
        match loaded.and_then(|snapshot| load(snapshot, data_dir, config, secret, setup)) {
            Ok(begun) => return Begun { passed_over, ..begun },
            Err(error) => pass_over(&name, error.to_string()),
        }
    }
    let state = super::recover::empty_state(config, secret);
    let (names, ages, last_time) = (Arc::new(Names::default()), Ages::default(), Timestamp::default());
    let (lists, labels) = (Lists::default(), Labels::default());
    let plans = plans(data_dir, &names, setup);
    let (shared, snapshot) = (None, None);
    Begun { state, names, plans, ages, last_time, shared, lists, labels, snapshot, passed_over }
}

/// Reads a whole snapshot, on every core.
fn load(
    snapshot: Snapshot,
    data_dir: &Path,
    config: &Config,
    secret: (u64, u64),
    setup: &Setup,
) -> Result<Begun, LogError> {
    let mut buffer = Vec::new();
    let about = snapshot.blocks(ABOUT).next().ok_or_else(|| missing(&snapshot))?;
    let block = snapshot.read(about, &mut buffer)?;
    let item = block.items().next().unwrap_or_default();
    let about = About::decode(item).map_err(|error| snapshot.unreadable(about, error))?;
    let About { last_time, answers, names, plans: kept_for, ages } = about;
    let names = Arc::new(names);
    let plans = plans(data_dir, &names, setup);
    let kept_for: Vec<Arc<Plan>> = kept_for.iter().map(|(_, number)| plans.of(*number)).collect();

    let places = snapshot.items(ACCOUNTS) as usize;
    let state = State {
        store: Store::with_places(config.accounts.shards as usize, places),
        answers: Answers::new(config.answers.capacity as usize, secret),
    };
    state.answers.reserve(answers.min(config.answers.capacity) as usize);
    let blocks: Vec<BlockPlace> = snapshot.blocks(ACCOUNTS).chain(snapshot.blocks(ANSWERS)).collect();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let work = || {
        let mut buffer = Vec::new();
        while let Some(place) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let read = match place.section {
                ACCOUNTS => load_accounts(&snapshot, *place, &state, &setup.plan, &kept_for, &mut buffer),
                _ => load_answers(&snapshot, *place, &state, &mut buffer),
            };
            if let Err(error) = read {
                failed.lock().get_or_insert(error);
                next.store(blocks.len(), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
        work();
    });
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    let shared = load_shared(&snapshot, config, setup)?;
    let (lists, labels) = (stored_lists::lists(&snapshot)?, stored_lists::labels(&snapshot)?);
    let (snapshot, passed_over) = (Some(snapshot), Vec::new());
    Ok(Begun { state, names, plans, ages, last_time, shared, lists, labels, snapshot, passed_over })
}

fn missing(snapshot: &Snapshot) -> LogError {
    snapshot.incomplete("it does not say what it is about")
}

fn load_accounts(
    snapshot: &Snapshot,
    place: BlockPlace,
    state: &State,
    plan: &Plan,
    kept_for: &[Arc<Plan>],
    buffer: &mut Vec<u8>,
) -> Result<(), LogError> {
    let plan_of = |id| kept_for.iter().find(|plan| plan.id() == id).map(|plan| &**plan);
    for (at, item) in (place.first_item..).zip(snapshot.read(place, buffer)?.items()) {
        let entry = Entry::decode(item, plan, plan_of)
            .map_err(|error| snapshot.unreadable(place, format!("place {at}: {error}")))?;
        if !state.store.put(at as u32, entry) {
            let what = format!("place {at}: its id or a card of it belongs to another account");
            return Err(snapshot.unreadable(place, what));
        }
    }
    Ok(())
}

fn load_answers(
    snapshot: &Snapshot,
    place: BlockPlace,
    state: &State,
    buffer: &mut Vec<u8>,
) -> Result<(), LogError> {
    for item in snapshot.read(place, buffer)?.items() {
        state.answers.decode(item).map_err(|error| snapshot.unreadable(place, error))?;
    }
    Ok(())
}

/// The windows across accounts, where the snapshot has those of this plan in this currency.
fn load_shared(snapshot: &Snapshot, config: &Config, setup: &Setup) -> Result<Option<Shared>, LogError> {
    let Some(first) = snapshot.blocks(SHARED).next() else { return Ok(None) };
    let mut buffer = Vec::new();
    let head = shared_head(setup);
    if snapshot.read(first, &mut buffer)?.items().next() != Some(&head[..]) {
        return Ok(None);
    }
    let mut items = Vec::new();
    for place in snapshot.blocks(SHARED) {
        items.extend(snapshot.read(place, &mut buffer)?.items().map(<[u8]>::to_vec));
    }
    let items = items.iter().skip(1).map(Vec::as_slice);
    let shared = Shared::decode(&setup.shared, config.windows.shared_bytes as usize, items);
    shared.map(Some).map_err(|error| snapshot.unreadable(first, error))
}

/// What the section of windows across accounts begins with: what they are of.
fn shared_head(setup: &Setup) -> Vec<u8> {
    let mut head = setup.shared.fingerprint().to_vec();
    head.extend_from_slice(&setup.base.currency.numeric().to_le_bytes());
    head
}

/// What is neither account nor answer.
struct About {
    last_time: Timestamp,
    /// How many answers there were, about.
    answers: u64,
    names: Names,
    /// What accounts' windows may be kept for: what they know it by, and the number of rules that keep it.
    plans: Vec<(u64, u32)>,
    ages: Ages,
}

/// The plans of versions under these names.
fn plans(data_dir: &Path, names: &Arc<Names>, setup: &Setup) -> Arc<Plans> {
    let (version, plan) = (setup.rules.version.clone(), setup.plan.clone());
    Arc::new(Plans::new(data_dir.to_owned(), names.clone(), version, plan))
}

/// Appends what is neither account nor answer.
fn encode_about(engine: &Engine, out: &mut Vec<u8>) {
    out.extend_from_slice(&engine.time.now().0.to_le_bytes());
    out.extend_from_slice(&(engine.state.answers.len() as u64).to_le_bytes());
    let names = engine.names.all();
    out.extend_from_slice(&(names.len() as u32).to_le_bytes());
    for (what, number, version) in &names {
        out.push(*what as u8);
        out.extend_from_slice(&number.to_le_bytes());
        put_text(out, version);
    }
    let plans = engine.plans.all();
    out.extend_from_slice(&(plans.len() as u32).to_le_bytes());
    for (id, number) in plans {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
    }
    let marks: Vec<(Timestamp, u64)> = engine.ages.lock().marks().collect();
    out.extend_from_slice(&(marks.len() as u32).to_le_bytes());
    for (time, position) in marks {
        out.extend_from_slice(&time.0.to_le_bytes());
        out.extend_from_slice(&position.to_le_bytes());
    }
    let rules = engine.names.rules_since_a_day();
    out.extend_from_slice(&(rules.len() as u32).to_le_bytes());
    for (time, number) in rules {
        out.extend_from_slice(&time.0.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
    }
}

impl About {
    fn decode(bytes: &[u8]) -> Result<About, Misread> {
        let mut fields = Fields::new(bytes);
        let (last_time, answers) = (Timestamp(fields.i64()?), fields.u64()?);
        let (mut names, mut plans, mut marks, mut rules) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..fields.u32()? {
            let what = match fields.u8()? {
                1 => Versioned::Rules,
                2 => Versioned::Model,
                3 => Versioned::Config,
                4 => Versioned::Challenger,
                _ => return Err(fields.misread("a version of nothing known")),
            };
            names.push((what, fields.u32()?, fields.text()?.into()));
        }
        for _ in 0..fields.u32()? {
            plans.push((fields.u64()?, fields.u32()?));
        }
        for _ in 0..fields.u32()? {
            marks.push((Timestamp(fields.i64()?), fields.u64()?));
        }
        // A snapshot of before ends here: what it does not know counts as no change.
        let introduced = if fields.is_at_end() { 0 } else { fields.u32()? };
        for _ in 0..introduced {
            rules.push((Timestamp(fields.i64()?), fields.u32()?));
        }
        fields.end()?;
        let (names, ages) = (Names::of(names, rules), Ages::of(marks, last_time));
        Ok(About { last_time, answers, names, plans, ages })
    }
}

/// Who takes the snapshots of one engine.
pub(super) struct Taker {
    snapshots: Snapshots,
    /// Names of those that this start did not believe.
    passed_over: Vec<String>,
    /// One at a time.
    taking: Mutex<()>,
    stop: AtomicBool,
    /// The position of the newest good one, and its length: the next will be about as long.
    newest: AtomicU64,
    newest_bytes: AtomicU64,
    thread: Background,
}

impl Taker {
    pub(super) fn new(
        snapshots: Snapshots,
        begun_from: Option<&Snapshot>,
        passed_over: &[PassedOver],
    ) -> Taker {
        Taker {
            snapshots,
            passed_over: passed_over.iter().map(|passed| passed.file.clone()).collect(),
            taking: Mutex::default(),
            stop: AtomicBool::new(false),
            newest: begun_from.map_or(0, Snapshot::position).into(),
            newest_bytes: begun_from.map_or(0, Snapshot::bytes).into(),
            thread: Background::default(),
        }
    }

    /// Ends the thread, giving up the snapshot that it is writing; see [`Background::stop`].
    pub(super) fn stop(&self, journal: &Journal, until: Instant) {
        self.stop.store(true, Ordering::Release);
        self.thread.stop(journal, until);
    }

    fn go_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }
}

impl Engine {
    /// Takes a snapshot at once, on this thread, while decisions go on; see [`super::yield_to_decisions`].
    ///
    /// # Errors
    /// [`SnapshotError`]: nothing else is any worse for it, and the snapshots before are still there.
    pub fn snapshot_now(&self) -> Result<Written, SnapshotError> {
        let taker = &self.snapshots;
        let _one_at_a_time = taker.taking.lock();
        match take(self) {
            Ok(written) => {
                taker.newest.store(written.position, Ordering::Release);
                taker.newest_bytes.store(written.bytes, Ordering::Relaxed);
                let taken_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let seconds = written.duration.as_secs_f64();
                self.metrics.snapshot_taken(written.position, written.bytes, seconds, taken_at.as_secs_f64());
                let Written { name, position, bytes, .. } = &written;
                tracing::info!(file = name, position, bytes, seconds, "a snapshot is taken");
                if let Err(error) = taker.snapshots.keep_newest(KEPT, &taker.passed_over) {
                    tracing::warn!(%error, "older snapshots cannot be removed");
                }
                Ok(written)
            }
            Err(SnapshotError::GivenUp) => Err(SnapshotError::GivenUp),
            Err(error) => {
                self.metrics.snapshot_failed(matches!(error, SnapshotError::NoRoom { .. }));
                tracing::warn!(%error, "no snapshot was taken; the ones before and the journal are as they were");
                Err(error)
            }
        }
    }

    /// Takes snapshots from now on, on a thread of its own, as the configuration says; the first one soon, where this
    /// start had much to read.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start_snapshots(self: &Arc<Self>) -> io::Result<()> {
        let settings = self.config.snapshots.clone();
        if settings.every_s == 0 {
            return Ok(());
        }
        let every = Duration::from_secs(settings.every_s);
        let mut tried: Option<Instant> = None;
        self.snapshots.thread.start(self, "snapshots", LOOK, move |engine| {
            let newest = engine.snapshots.newest.load(Ordering::Acquire);
            let records = engine.journal.durable().saturating_sub(newest);
            let due = tried.is_none_or(|tried| tried.elapsed() >= every);
            if due && records >= settings.after_records {
                tried = Some(Instant::now());
                // Counted and logged there; the next turn tries again.
                let _ = engine.snapshot_now();
            }
            LOOK
        })
    }
}

/// Copies everything while decisions go on.
fn take(engine: &Engine) -> Result<Written, SnapshotError> {
    let taker = &engine.snapshots;
    let go_on = || taker.go_on();
    let terms = Terms {
        bytes_per_s: engine.config.snapshots.bytes_per_s,
        expected_bytes: taker.newest_bytes.load(Ordering::Relaxed),
        kept_free: SEGMENTS_KEPT_FREE * engine.config.journal.segment_bytes,
    };
    let mut writer = taker.snapshots.begin(&engine.journal, terms)?;
    writer.section(ABOUT)?;
    writer.item(|out| encode_about(engine, out))?;
    copy_accounts(&engine.state.store, &mut writer, &go_on)?;
    copy_answers(&engine.state.answers, &mut writer, &go_on)?;
    stored_lists::copy_lists(engine.in_force.load().setup.lists.lists(), &mut writer)?;
    stored_lists::copy_labels(&engine.labels.lock().clone(), &mut writer)?;
    copy_shared(engine, &mut writer, &go_on)?;
    writer.finish(&engine.journal, &go_on)
}

/// Copies every place there is when it comes to it. One that is taken later is opened behind the anchor.
fn copy_accounts(
    store: &Store,
    writer: &mut SnapshotWriter,
    go_on: &dyn Fn() -> bool,
) -> Result<(), SnapshotError> {
    writer.section(ACCOUNTS)?;
    let mut at = 0;
    while (at as usize) < store.len() {
        if !go_on() {
            return Err(SnapshotError::GivenUp);
        }
        writer.item(|out| {
            if store.visit(at, |entry| entry.encode(out)).is_none() {
                Entry::default().encode(out);
            }
        })?;
        at += 1;
    }
    Ok(())
}

/// Copies the windows across accounts as they stand at one position, at or behind the anchor. Without them a start
/// fills them from the journal.
fn copy_shared(
    engine: &Engine,
    writer: &mut SnapshotWriter,
    go_on: &dyn Fn() -> bool,
) -> Result<(), SnapshotError> {
    let in_force = engine.in_force.load_full();
    let windows = &in_force.shared;
    if !windows.wait_for(writer.position(), Instant::now() + SHARED_PATIENCE, go_on) {
        return if go_on() { Ok(()) } else { Err(SnapshotError::GivenUp) };
    }
    writer.section(SHARED)?;
    writer.item(|out| out.extend_from_slice(&shared_head(&in_force.setup)))?;
    // Written afterwards: as long as they are copied nothing is taken in, and the disk may be slow, or hang.
    let mut items = Vec::new();
    windows.copy(|shared| shared.encode(&mut |item| items.push(item.to_vec())));
    for item in &items {
        writer.item(|out| out.extend_from_slice(item))?;
    }
    Ok(())
}

fn copy_answers(
    answers: &Answers,
    writer: &mut SnapshotWriter,
    go_on: &dyn Fn() -> bool,
) -> Result<(), SnapshotError> {
    writer.section(ANSWERS)?;
    let mut in_flight = Vec::new();
    for part in 0..Answers::PARTS {
        if !go_on() {
            return Err(SnapshotError::GivenUp);
        }
        writer.item(|out| answers.encode_part(part, out, &mut in_flight))?;
    }
    let mut late = Vec::new();
    for key in in_flight {
        while !answers.encode_key(key, &mut late) {
            if !go_on() {
                return Err(SnapshotError::GivenUp);
            }
            std::thread::sleep(IN_FLIGHT_POLL);
        }
    }
    writer.item(|out| out.extend_from_slice(&late))
}

mod stored_lists;

#[cfg(test)]
mod tests;

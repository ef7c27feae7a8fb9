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
//! section 16  one item: plan's fingerprint, 16 bytes | engine time i64 | answers there were, about u64 |
//!             versions u32, each: what u8 | number u32 | name | ages u32, each: time i64 | position u64
//! section 17  accounts in the order of their places, one item each
//! section 18  answers, any number in an item
//! section 19  lists: first an item with the position of the record that made them u64, then any number of values of
//!             one list in an item: name | kind u8 | values, each: value | 0 taken out, 1 added u8 | end i64 |
//!             bytes of the source u16 | source
//! section 20  newest labels, any number in an item, each: position of the authorisation u64 | of the label u64
//! ```

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;

use super::{Engine, ages::Ages, background::Background, lists::Labels, versions::Names};
use crate::{
    authorise::{
        State,
        answers::Answers,
        entry::{Entry, Store},
        stored::EntryError,
    },
    config::Config,
    features::Plan,
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

/// Good snapshots that are kept: should the newest be damaged, the one before still shortens the start.
const KEPT: usize = 2;
/// Between two looks whether one is due.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at a key in flight.
const IN_FLIGHT_POLL: Duration = Duration::from_micros(50);
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
    pub(super) names: Names,
    pub(super) ages: Ages,
    pub(super) last_time: Timestamp,
    pub(super) lists: Lists,
    pub(super) labels: Labels,
    /// Where it comes from; `None` for an empty one.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) passed_over: Vec<PassedOver>,
}

/// Why a snapshot gives no state.
enum Unusable {
    Damaged(LogError),
    OtherPlan,
}

impl From<LogError> for Unusable {
    fn from(error: LogError) -> Unusable {
        Unusable::Damaged(error)
    }
}

/// The state of the newest snapshot that can be believed and used, or an empty one.
pub(super) fn newest(
    directory: &Directory,
    snapshots: &Snapshots,
    config: &Config,
    secret: (u64, u64),
    plan: &Plan,
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
        let loaded = directory.snapshot(snapshots, &name).map_err(Unusable::from);
        match loaded.and_then(|snapshot| load(snapshot, config, secret, plan)) {
            Ok(begun) => return Begun { passed_over, ..begun },
            Err(Unusable::Damaged(error)) => pass_over(&name, error.to_string()),
            Err(Unusable::OtherPlan) => {
                // An older one holds less of what is missing, not more.
                tracing::info!(
                    file = name,
                    "the rules' aggregates have changed and an account's windows go back further than its single \
                     events: the whole journal is read"
                );
                break;
            }
        }
    }
    let state = super::recover::empty_state(config, secret);
    let (names, ages, last_time) = (Names::default(), Ages::default(), Timestamp::default());
    let (lists, labels) = (Lists::default(), Labels::default());
    Begun { state, names, ages, last_time, lists, labels, snapshot: None, passed_over }
}

/// Reads a whole snapshot, on every core.
fn load(snapshot: Snapshot, config: &Config, secret: (u64, u64), plan: &Plan) -> Result<Begun, Unusable> {
    let mut buffer = Vec::new();
    let about = snapshot.blocks(ABOUT).next().ok_or_else(|| missing(&snapshot))?;
    let block = snapshot.read(about, &mut buffer)?;
    let item = block.items().next().unwrap_or_default();
    let about = About::decode(item).map_err(|error| snapshot.unreadable(about, error))?;
    let same_plan = about.plan == plan.fingerprint();

    let places = snapshot.items(ACCOUNTS) as usize;
    let state = State {
        store: Store::with_places(config.accounts.shards as usize, places),
        answers: Answers::new(config.answers.capacity as usize, secret),
    };
    state.answers.reserve(about.answers.min(config.answers.capacity) as usize);
    let blocks: Vec<BlockPlace> = snapshot.blocks(ACCOUNTS).chain(snapshot.blocks(ANSWERS)).collect();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let work = || {
        let mut buffer = Vec::new();
        while let Some(place) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let read = match place.section {
                ACCOUNTS => load_accounts(&snapshot, *place, &state, plan, same_plan, &mut buffer),
                _ => load_answers(&snapshot, *place, &state, &mut buffer),
            };
            if let Err(unusable) = read {
                failed.lock().get_or_insert(unusable);
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
    if let Some(unusable) = failed.into_inner() {
        return Err(unusable);
    }
    let About { last_time, names, ages, .. } = about;
    let (lists, labels) = (stored_lists::lists(&snapshot)?, stored_lists::labels(&snapshot)?);
    let (snapshot, passed_over) = (Some(snapshot), Vec::new());
    Ok(Begun { state, names, ages, last_time, lists, labels, snapshot, passed_over })
}

fn missing(snapshot: &Snapshot) -> LogError {
    snapshot.incomplete("it does not say what it is about")
}

fn load_accounts(
    snapshot: &Snapshot,
    place: BlockPlace,
    state: &State,
    plan: &Plan,
    same_plan: bool,
    buffer: &mut Vec<u8>,
) -> Result<(), Unusable> {
    for (at, item) in (place.first_item..).zip(snapshot.read(place, buffer)?.items()) {
        let entry = match Entry::decode(item, plan, same_plan) {
            Ok(entry) => entry,
            Err(EntryError::OtherPlan) => return Err(Unusable::OtherPlan),
            Err(error) => return Err(snapshot.unreadable(place, format!("place {at}: {error}")).into()),
        };
        if !state.store.put(at as u32, entry) {
            let what = format!("place {at}: its id or a card of it belongs to another account");
            return Err(snapshot.unreadable(place, what).into());
        }
    }
    Ok(())
}

fn load_answers(
    snapshot: &Snapshot,
    place: BlockPlace,
    state: &State,
    buffer: &mut Vec<u8>,
) -> Result<(), Unusable> {
    for item in snapshot.read(place, buffer)?.items() {
        state.answers.decode(item).map_err(|error| snapshot.unreadable(place, error))?;
    }
    Ok(())
}

/// What is neither account nor answer.
struct About {
    plan: [u8; 16],
    last_time: Timestamp,
    /// How many answers there were, about.
    answers: u64,
    names: Names,
    ages: Ages,
}

/// Appends what is neither account nor answer.
fn encode_about(engine: &Engine, out: &mut Vec<u8>) {
    out.extend_from_slice(&engine.in_force.load().setup.plan.fingerprint());
    out.extend_from_slice(&engine.time.now().0.to_le_bytes());
    out.extend_from_slice(&(engine.state.answers.len() as u64).to_le_bytes());
    let names = engine.names.all();
    out.extend_from_slice(&(names.len() as u32).to_le_bytes());
    for (what, number, version) in &names {
        out.push(*what as u8);
        out.extend_from_slice(&number.to_le_bytes());
        put_text(out, version);
    }
    let marks: Vec<(Timestamp, u64)> = engine.ages.lock().marks().collect();
    out.extend_from_slice(&(marks.len() as u32).to_le_bytes());
    for (time, position) in marks {
        out.extend_from_slice(&time.0.to_le_bytes());
        out.extend_from_slice(&position.to_le_bytes());
    }
}

impl About {
    fn decode(bytes: &[u8]) -> Result<About, Misread> {
        let mut fields = Fields::new(bytes);
        let (plan, last_time, answers) = (fields.array()?, Timestamp(fields.i64()?), fields.u64()?);
        let (mut names, mut marks) = (Vec::new(), Vec::new());
        for _ in 0..fields.u32()? {
            let what = match fields.u8()? {
                1 => Versioned::Rules,
                2 => Versioned::Model,
                3 => Versioned::Config,
                _ => return Err(fields.misread("a version of nothing known")),
            };
            names.push((what, fields.u32()?, fields.text()?.into()));
        }
        for _ in 0..fields.u32()? {
            marks.push((Timestamp(fields.i64()?), fields.u64()?));
        }
        fields.end()?;
        Ok(About { plan, last_time, answers, names: Names::of(names), ages: Ages::of(marks, last_time) })
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

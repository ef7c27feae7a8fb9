//! The windows across accounts while decisions go on: who reads them, and the one thread that keeps them, which follows
//! the journal behind the durable position.
//!
//! Whoever decides reads them before it takes its account's lock and stores what it read, and up to which position
//! that was complete, with the decision. What is decided between that position and its own is not seen: the lag is a
//! metric. Under the replay clock, where one stream is decided in order, the deciding thread takes its own decisions in
//! at once, so that the same file always gives the same decisions.
//!
//! Rules that are put in force with other such aggregates get windows of their own, which are filled from the journal
//! beside the decisions. Until they are, what the rules before kept as well is read from there, and everything else is
//! unknown: a rule that reads it runs as shadow, so that none decides on half a window, or on there being none.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use arrayvec::ArrayVec;
use parking_lot::{Mutex, RwLock};

use super::Engine;
use crate::{
    authorise::{self, entry::Store, shared_event_of_record},
    features::shared::{Shared, SharedEvent, SharedFigures, SharedPlan, SharedRead},
    journal::{Follower, Journal, ReadError, record::Record},
    limits::WINDOW_MAX_MS,
    types::{
        auth::AuthRequest,
        base::BaseCurrency,
        time::{DAY_MS, Timestamp},
    },
};

/// Events taken in under one hold of the lock, so that nobody who decides waits long for it.
const AT_ONCE: usize = 16;
/// Between two looks while decisions come, and while none do.
const BUSY: Duration = Duration::from_millis(1);
const IDLE: Duration = Duration::from_millis(10);
/// Between two looks where those who decide take their own decisions in.
const UNUSED: Duration = Duration::from_millis(500);
/// After the log could not be read.
const RETRY: Duration = Duration::from_secs(1);
/// Records older than this are in no window of a decision that is made now: engine time does not go back.
const FILL_MS: i64 = WINDOW_MAX_MS + DAY_MS;

/// Of one core, what filling windows takes at most, in the background.
const FILL_SHARE: u32 = 5;
/// Where no more records are missing than this, filling no longer pauses: it would not catch up with a busy engine.
const NEARLY_FILLED: u64 = 10_000;

/// The windows, and how far they are.
pub(super) struct SharedWindows {
    plan: Arc<SharedPlan>,
    base: BaseCurrency,
    maps: RwLock<Shared>,
    /// Held by whoever changes the maps; never while an account is.
    applying: Mutex<Follower>,
    /// Those who decide take their own decisions in.
    at_once: bool,
    /// What is read until these are filled.
    before: ArcSwapOption<Before>,
}

/// Windows of the rules before, which are full.
struct Before {
    windows: Arc<SharedWindows>,
    /// Where they have what is asked for.
    found: Vec<Option<usize>>,
}

impl SharedWindows {
    /// Windows that are complete to where `shared` is.
    pub(super) fn new(
        plan: Arc<SharedPlan>,
        base: BaseCurrency,
        shared: Shared,
        at_once: bool,
    ) -> SharedWindows {
        let follower = Mutex::new(Follower::new(shared.complete_to() + 1));
        let (maps, before) = (RwLock::new(shared), ArcSwapOption::empty());
        SharedWindows { plan, base, maps, applying: follower, at_once, before }
    }

    /// Windows of another plan, to be filled from the record at `first` on. Those that are full go on being read until
    /// then; where they are of this very plan, nothing is to be filled.
    pub(super) fn of_other_rules(
        self: &Arc<SharedWindows>,
        plan: Arc<SharedPlan>,
        budget_bytes: usize,
        first: u64,
    ) -> Arc<SharedWindows> {
        let before = self.before.load();
        let full = before.as_ref().map_or(self, |before| &before.windows);
        if full.plan.fingerprint() == plan.fingerprint() {
            return Arc::clone(full);
        }
        let before = Before { found: plan.found_in(&full.plan), windows: Arc::clone(full) };
        Arc::new(SharedWindows {
            base: self.base.clone(),
            maps: RwLock::new(Shared::new(&plan, budget_bytes)),
            applying: Mutex::new(Follower::new(first)),
            at_once: self.at_once,
            before: ArcSwapOption::new(Some(Arc::new(before))),
            plan,
        })
    }

    /// What these windows are of.
    pub(super) fn plan(&self) -> Arc<SharedPlan> {
        Arc::clone(&self.plan)
    }

    /// What a decision at `now` needs. Allocates nothing.
    pub(super) fn read(&self, store: &Store, request: &AuthRequest, now: Timestamp) -> SharedRead {
        match &*self.before.load() {
            None => {
                // No lock on an account is held when that of the maps is taken.
                let (parts, owner) = authorise::parts_of(store, &self.plan, request);
                SharedRead { owner, ..SharedRead::of(&self.maps.read(), &self.plan, &parts, now) }
            }
            Some(before) => before.windows.read(store, request, now).moved(&self.plan, &before.found),
        }
    }

    /// The base currency, for those who take their own decisions in.
    pub(super) fn at_once(&self) -> Option<&BaseCurrency> {
        self.at_once.then_some(&self.base)
    }

    /// Takes in what was just decided.
    pub(super) fn apply_now(&self, position: u64, event: Option<&SharedEvent>) {
        let _applying = self.applying.lock();
        let mut maps = self.maps.write();
        // Two streams may overtake each other; what was overtaken is taken in as it comes.
        let position = position.max(maps.complete_to() + 1);
        maps.apply(&self.plan, position, event);
    }

    /// The position up to which everything is taken in that is read.
    pub(super) fn complete_to(&self) -> u64 {
        match &*self.before.load() {
            None => self.maps.read().complete_to(),
            Some(before) => before.windows.complete_to(),
        }
    }

    /// The position up to which windows are filled that are not full yet.
    pub(super) fn filled_to(&self) -> Option<u64> {
        let before = self.before.load();
        before.as_ref().map(|_| self.maps.read().complete_to())
    }

    /// What is held, with what is still read of the rules before.
    pub(super) fn figures(&self) -> SharedFigures {
        let mut figures = self.maps.read().figures();
        if let Some(before) = &*self.before.load() {
            figures.bytes += before.windows.figures().bytes;
        }
        figures
    }

    /// Waits until everything up to `position` is taken in. False where it is not by then, or `go_on` says so, or
    /// nobody could tell: whoever takes its own decisions in does so in no order with others.
    pub(super) fn wait_for(&self, position: u64, until: Instant, go_on: &dyn Fn() -> bool) -> bool {
        if self.at_once || self.filled_to().is_some() {
            return false;
        }
        while self.maps.read().complete_to() < position {
            if !go_on() || Instant::now() >= until {
                return false;
            }
            std::thread::sleep(BUSY);
        }
        true
    }

    /// Runs `copy` while nothing changes; readers go on.
    pub(super) fn copy<T>(&self, copy: impl FnOnce(&Shared) -> T) -> T {
        // Whoever waits to change the maps would keep later readers out; so those wait here instead.
        let _applying = self.applying.lock();
        copy(&self.maps.read())
    }

    /// Takes in some of what has become durable. False where there is nothing more at this moment.
    fn follow(&self, journal: &Journal) -> Result<bool, ReadError> {
        let mut follower = self.applying.lock();
        let mut events: ArrayVec<(u64, Option<SharedEvent>), AT_ONCE> = ArrayVec::new();
        let take_in = |events: &mut ArrayVec<_, AT_ONCE>| {
            let mut maps = self.maps.write();
            for (position, event) in events.drain(..) {
                let event: Option<SharedEvent> = event;
                maps.apply(&self.plan, position, event.as_ref());
            }
        };
        let found = follower.follow(journal, &mut |record| {
            events.push((record.position, event_of(record.position, record.payload, &self.base)));
            if events.is_full() {
                take_in(&mut events);
            }
        });
        take_in(&mut events);
        // Positions without a record count as taken in.
        let to = follower.next() - 1;
        let mut maps = self.maps.write();
        if maps.complete_to() < to {
            maps.apply(&self.plan, to, None);
        }
        found
    }

    /// Takes in everything that is durable.
    ///
    /// # Errors
    /// Where the log cannot be read; what was taken in stays.
    pub(super) fn catch_up(&self, journal: &Journal) -> Result<(), ReadError> {
        while self.follow(journal)? {}
        Ok(())
    }

    /// Nothing is taken in as long as this lives.
    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Drop + '_ {
        self.applying.lock()
    }

    /// Lets these windows be read from now on.
    pub(super) fn are_full(&self) {
        self.before.store(None);
    }
}

/// What windows across accounts remember of a record; nothing of one that cannot be understood, which recovery and
/// `journal verify` would refuse.
fn event_of(position: u64, payload: &[u8], base: &BaseCurrency) -> Option<SharedEvent> {
    match Record::decode_brief(payload, position) {
        Ok(record) => shared_event_of_record(position, &record, base),
        Err(_) => None,
    }
}

/// Starts the thread that follows the journal.
///
/// # Errors
/// Where no thread can be started.
pub(super) fn start(engine: &Arc<Engine>) -> io::Result<()> {
    let mut filler = Filler { not_before: Instant::now() };
    engine.shared_thread.start_swift(engine, "shared windows", BUSY, move |engine| {
        let windows = Arc::clone(&engine.in_force.load().shared);
        if windows.at_once {
            return UNUSED;
        }
        match turn(&windows, &mut filler, &engine.journal) {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(%error, "the windows across accounts cannot follow the journal");
                RETRY
            }
        }
    })
}

/// Takes in what there is to take in, and says how long to pause.
fn turn(windows: &SharedWindows, filler: &mut Filler, journal: &Journal) -> Result<Duration, ReadError> {
    let before = windows.before.load_full();
    let Some(before) = before else {
        windows.catch_up(journal)?;
        return Ok(match journal.taken() > windows.complete_to() {
            true => BUSY,
            false => IDLE,
        });
    };
    before.windows.catch_up(journal)?;
    if filler.is_due() && !filler.fill(windows, journal)? {
        windows.are_full();
        tracing::info!("the windows across accounts that the rules added are filled from the journal");
    }
    Ok(BUSY)
}

/// Fills windows in steps, with pauses between them.
struct Filler {
    not_before: Instant,
}

impl Filler {
    fn is_due(&self) -> bool {
        Instant::now() >= self.not_before
    }

    /// One step. False where nothing is missing any more.
    fn fill(&mut self, windows: &SharedWindows, journal: &Journal) -> Result<bool, ReadError> {
        let began = Instant::now();
        let more = windows.follow(journal)?;
        let missing = journal.durable().saturating_sub(windows.filled_to().unwrap_or(u64::MAX));
        if missing > NEARLY_FILLED {
            self.not_before = Instant::now() + began.elapsed() * (FILL_SHARE - 1);
        }
        Ok(more)
    }
}

/// Fills windows that no snapshot has from the journal: from the first record that may still be in one.
///
/// # Errors
/// Where the log cannot be read.
pub(super) fn fill(
    journal: &Journal,
    plan: &SharedPlan,
    base: &BaseCurrency,
    budget_bytes: usize,
    first: u64,
) -> Result<Shared, ReadError> {
    let mut shared = Shared::new(plan, budget_bytes);
    let mut follower = Follower::new(first);
    while follower.follow(journal, &mut |record| {
        let event = event_of(record.position, record.payload, base);
        shared.apply(plan, record.position, event.as_ref());
    })? {}
    let to = follower.next() - 1;
    if shared.complete_to() < to {
        shared.apply(plan, to, None);
    }
    Ok(shared)
}

/// The first position that a window of a decision at `now` may hold.
pub(super) fn first_needed(ages: impl Iterator<Item = (Timestamp, u64)>, now: Timestamp) -> u64 {
    let older = ages.take_while(|(time, _)| now.since_ms(*time) > FILL_MS).last();
    older.map_or(1, |(_, position)| position)
}

/// What a record does to windows across accounts, while a start reads the log.
pub(super) fn restored(record: &Record, position: u64, base: &BaseCurrency) -> Option<SharedEvent> {
    shared_event_of_record(position, record, base)
}

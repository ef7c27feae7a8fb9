//! The windows across accounts while decisions go on: who reads them, and the one thread that keeps them, which follows
//! the journal behind the durable position.
//!
//! Whoever decides reads them before it takes its account's lock and stores what it read, and up to which position
//! that was complete, with the decision. What is decided between that position and its own is not seen: the lag is a
//! metric. Under the replay clock, where one stream is decided in order, the deciding thread takes its own decisions in
//! at once, so that the same file always gives the same decisions.

use std::{io, sync::Arc, time::Duration};

use arrayvec::ArrayVec;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::{Engine, background::Background};
use crate::{
    authorise::shared_event_of_record,
    features::shared::{Parts, Shared, SharedEvent, SharedFigures, SharedPlan, SharedRead},
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
/// Between two looks where the rules keep no such windows.
const UNUSED: Duration = Duration::from_millis(500);
/// After the log could not be read.
const RETRY: Duration = Duration::from_secs(1);
/// Records older than this are in no window of a decision that is made now: engine time does not go back.
const FILL_MS: i64 = WINDOW_MAX_MS + DAY_MS;

/// The windows, and how far they are.
pub(super) struct SharedWindows {
    plan: Arc<SharedPlan>,
    base: BaseCurrency,
    maps: RwLock<Shared>,
    /// Held by whoever changes the maps; never while an account is.
    applying: Mutex<Follower>,
    /// Those who decide take their own decisions in.
    at_once: bool,
    thread: Background,
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
        let (maps, thread) = (RwLock::new(shared), Background::default());
        SharedWindows { plan, base, maps, applying: follower, at_once, thread }
    }

    /// What a decision at `now` needs.
    pub(super) fn read(&self, request: &AuthRequest, now: Timestamp) -> SharedRead {
        match self.plan.is_empty() {
            true => SharedRead::default(),
            false => SharedRead::of(&self.maps.read(), &self.plan, &Parts::of(request), now),
        }
    }

    /// The base currency, for those who take their own decisions in.
    pub(super) fn at_once(&self) -> Option<&BaseCurrency> {
        (self.at_once && !self.plan.is_empty()).then_some(&self.base)
    }

    /// Takes in what was just decided.
    pub(super) fn apply_now(&self, position: u64, event: Option<&SharedEvent>) {
        let _applying = self.applying.lock();
        let mut maps = self.maps.write();
        // Two streams may overtake each other; what was overtaken is taken in as it comes.
        let position = position.max(maps.complete_to() + 1);
        maps.apply(&self.plan, position, event);
    }

    /// The position up to which everything is taken in.
    pub(super) fn complete_to(&self) -> u64 {
        self.maps.read().complete_to()
    }

    pub(super) fn figures(&self) -> SharedFigures {
        self.maps.read().figures()
    }

    /// Runs `copy` while nothing changes; readers go on. `None` where the windows do not reach `anchor` yet.
    pub(super) fn copy<T>(
        &self,
        anchor: u64,
        copy: impl FnOnce(RwLockReadGuard<'_, Shared>) -> T,
    ) -> Option<T> {
        // Whoever waits to change the maps would keep later readers out; so those wait here instead.
        let _applying = self.applying.lock();
        let maps = self.maps.read();
        (maps.complete_to() >= anchor).then(|| copy(maps))
    }

    /// Takes in what has become durable. True where there was something.
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

    /// Ends the thread; see [`Background::stop`].
    pub(super) fn stop(&self, journal: &Journal, until: std::time::Instant) {
        self.thread.stop(journal, until);
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
    let windows = Arc::clone(&engine.shared);
    if windows.at_once {
        return Ok(());
    }
    engine.shared.thread.start_swift(engine, "shared windows", BUSY, move |engine| {
        if windows.plan.is_empty() {
            return UNUSED;
        }
        loop {
            match windows.follow(&engine.journal) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "the windows across accounts cannot follow the journal");
                    return RETRY;
                }
            }
        }
        match engine.journal.taken() > windows.complete_to() {
            true => BUSY,
            false => IDLE,
        }
    })
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

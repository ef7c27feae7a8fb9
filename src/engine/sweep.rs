//! The sweeper: expires the holds of accounts that nobody touches, through the same function as a touch does, and
//! counts what is held while it is there.

use std::{
    ops::Range,
    sync::{Arc, Weak, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;

use super::Engine;
use crate::{
    authorise::State,
    journal::{Class, Journal, record::Expiry},
    types::{money::Currency, time::Timestamp},
};

/// Between two rounds over all accounts.
const EVERY: Duration = Duration::from_secs(1);
/// Accounts looked at in one go: a few milliseconds of one core, so that millions of accounts do not push the decisions'
/// own data out of the caches at once.
const STRETCH: u32 = 20_000;
/// Between two stretches of one round: 200,000 accounts a second, so that a round over a million takes five.
const BREATH: Duration = Duration::from_millis(100);

/// What a round found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Round {
    pub holds: u64,
    /// Minor units held, by currency.
    pub held_minor: Vec<(Currency, i128)>,
    pub expired: u64,
}

/// The sweeper's thread and what it found.
#[derive(Default)]
pub(super) struct Sweeper {
    thread: Mutex<Option<(mpsc::Sender<()>, JoinHandle<()>)>>,
    found: Mutex<Round>,
}

impl Sweeper {
    /// What the last round found.
    pub(super) fn found(&self) -> Round {
        self.found.lock().clone()
    }

    pub(super) fn stop(&self) {
        if let Some((sender, thread)) = self.thread.lock().take() {
            drop(sender);
            // A sweeper that panicked has nothing left to do either.
            let _ = thread.join();
        }
    }
}

/// Starts the sweeper of an engine; it ends with the engine or with [`Sweeper::stop`].
pub(super) fn start(engine: &Arc<Engine>) -> std::io::Result<()> {
    let (sender, receiver) = mpsc::channel::<()>();
    let weak: Weak<Engine> = Arc::downgrade(engine);
    let thread = std::thread::Builder::new().name("sweeper".into()).spawn(move || run(&weak, &receiver))?;
    *engine.sweeper.thread.lock() = Some((sender, thread));
    Ok(())
}

fn run(engine: &Weak<Engine>, stop: &mpsc::Receiver<()>) {
    let (mut at, mut round) = (0_u32, Round::default());
    let mut pause = EVERY;
    while stop.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
        let Some(engine) = engine.upgrade() else { return };
        let end = engine.state.store.len() as u32;
        let until = end.min(at.saturating_add(STRETCH));
        let expired_before = round.expired;
        let is_whole = sweep(&engine.state, &engine.journal, engine.time.now(), at..until, &mut round);
        engine.metrics.expired_by_sweeper(round.expired - expired_before);
        if is_whole && until < end {
            (at, pause) = (until, BREATH);
            continue;
        }
        if is_whole {
            *engine.sweeper.found.lock() = std::mem::take(&mut round);
        }
        (at, round, pause) = (0, Round::default(), EVERY);
        engine.forget_old_answers();
        engine.warn_of_the_clock();
    }
}

/// Looks at the accounts at these places: every one whose earliest hold is due gets a record of its own. False where
/// the journal took no more records: the next touch of an account expires its holds as well.
pub(super) fn sweep(
    state: &State,
    journal: &Journal,
    now: Timestamp,
    places: Range<u32>,
    round: &mut Round,
) -> bool {
    for at in places {
        let due = state.store.visit(at, |entry| {
            let account = entry.account.as_ref()?;
            round.holds += account.holds().len() as u64;
            let held = i128::from(account.held_minor());
            match round.held_minor.iter_mut().find(|(currency, _)| *currency == account.currency) {
                Some((_, sum)) => *sum += held,
                None => round.held_minor.push((account.currency, held)),
            }
            Some(account.has_expired(now))
        });
        if due.flatten() != Some(true) {
            continue;
        }
        let Ok(mut slot) = journal.reserve(Class::Essential) else { return false };
        state.store.with_account(at, |entry| {
            let Some(account) = entry.account.as_mut().filter(|account| account.has_expired(now)) else {
                return;
            };
            let position = slot.take_sequence();
            let expired = account.expire(now);
            account.last_position = position;
            let record = Expiry {
                time: now,
                account: account.id.get(),
                holds: expired.holds as u64,
                amount_minor: expired.amount_minor,
            };
            record.encode(slot.buffer());
            slot.publish();
            round.expired += record.holds;
        });
    }
    true
}

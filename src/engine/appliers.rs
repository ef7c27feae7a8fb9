//! Recovery on several threads, in a row. The first reads the journal, checks it and decodes it; the keeper behind it
//! keeps the maps of accounts, cards and keys; the appliers behind that do to the accounts what the records did. Each
//! account belongs to one applier, which has its effects in the order of the journal. The first works for its part
//! with arithmetic, the others wait for memory.

use std::{
    panic::resume_unwind,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{Scope, ScopedJoinHandle, available_parallelism},
};

use super::{older::Older, plans::Plans};
use crate::authorise::{State, answers::NO_ACCOUNT, restore::Effect};

/// More would wait for the thread that reads.
const APPLIERS_MAX: usize = 4;
/// Effects that are handed over together, and so many handfuls at most that wait: two megabytes for each thread.
const HANDFUL: usize = 256;
const HANDFULS_WAITING: usize = 16;

/// A thread that takes handfuls, as the one before it sees it.
struct Lane<'scope, T> {
    /// What is not handed over yet.
    handful: Vec<T>,
    sender: SyncSender<Vec<T>>,
    thread: ScopedJoinHandle<'scope, ()>,
}

impl<'scope, T: Send + 'scope> Lane<'scope, T> {
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        run: impl FnOnce(Receiver<Vec<T>>) + Send + 'scope,
    ) -> Lane<'scope, T> {
        let (sender, receiver) = sync_channel(HANDFULS_WAITING);
        let thread = scope.spawn(move || run(receiver));
        Lane { handful: Vec::with_capacity(HANDFUL), sender, thread }
    }

    /// False where the thread has panicked.
    fn put(&mut self, item: T) -> bool {
        self.handful.push(item);
        if self.handful.len() < HANDFUL {
            return true;
        }
        let full = std::mem::replace(&mut self.handful, Vec::with_capacity(HANDFUL));
        self.sender.send(full).is_ok()
    }

    /// Waits until all of it is done. A panic of the thread goes on here.
    fn finish(self) {
        // Refused where the thread has panicked, which its end tells.
        let _ = self.sender.send(self.handful);
        drop(self.sender);
        self.thread.join().unwrap_or_else(|panic| resume_unwind(panic));
    }
}

/// What puts records back in force, as the thread that reads sees it.
pub(super) struct Restorer<'scope>(Lane<'scope, Effect>);

impl<'scope> Restorer<'scope> {
    pub(super) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        state: &'env State,
        plans: &'env Plans,
        older: &'env Older,
    ) -> Restorer<'scope> {
        Restorer(Lane::start(scope, move |effects| keep(scope, &effects, state, plans, older)))
    }

    /// Lets the effect be done, behind those before it.
    ///
    /// # Errors
    /// Where a thread has panicked.
    pub(super) fn put(&mut self, effect: Effect) -> Result<(), String> {
        match self.0.put(effect) {
            true => Ok(()),
            false => Err("a thread that puts records back in force panicked".to_owned()),
        }
    }

    /// Waits until all of it is done. A panic of another thread goes on here.
    pub(super) fn finish(self) {
        self.0.finish();
    }
}

fn keep<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    effects: &Receiver<Vec<Effect>>,
    state: &'env State,
    plans: &'env Plans,
    older: &'env Older,
) {
    let count = available_parallelism().map_or(1, usize::from).min(APPLIERS_MAX);
    let applier = |effects: Receiver<Vec<(u32, Effect)>>| {
        let mut latest = (0, plans.of(0));
        for (at, effect) in effects.iter().flatten() {
            if effect.rules() != 0 && effect.rules() != latest.0 {
                latest = (effect.rules(), plans.of(effect.rules()));
            }
            state.store.with_account(at, |entry| effect.apply(entry, &latest.1));
        }
    };
    let mut appliers: Vec<_> = (0..count).map(|_| Lane::start(scope, applier)).collect();
    for effect in effects.iter().flatten() {
        let at = effect.place(&state.store);
        effect.settle(&state.answers, at, older.covers(effect.position()));
        if at != NO_ACCOUNT && !appliers[at as usize % count].put((at, effect)) {
            break;
        }
    }
    appliers.into_iter().for_each(Lane::finish);
}

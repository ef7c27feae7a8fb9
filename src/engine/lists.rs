//! Lists and labels of a running engine: changed by calls, in force at once, and durable before the answer.
//!
//! A change works through a whole list's counts and may look its key up on disk, so that it is made on a blocking
//! thread, under the lock that keeps two changes of what decides apart.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    thread,
    time::Instant,
};

use super::{Answered, Arrival, Engine, Held, Lane, RETRY, full, stored};
use crate::{
    authorise::{
        self, Asked,
        answers::{Claimed, KeyHash, Remembered},
        listing::{self, Page, Transaction},
    },
    journal::{
        Class, ReserveError, Slot,
        record::{Counted, Labelled, Record},
    },
    limits::LABELS_AT_HAND_MAX,
    model::Scored,
    observe::ScoreLabelled,
    rules::Lists,
    types::{
        challenge::Challenged,
        fault::Fault,
        lists::{Labelling, ListOutcome, ListUpdate},
        outcome::Outcome,
    },
};

/// Older labels of one transaction that are shown behind the newest.
const FORMER_LABELS_SHOWN: usize = 15;
const NO_TRANSACTION: Fault = Fault::NotFound { what: "transaction" };

/// What the models made of a transaction that is labelled.
#[derive(Clone, Copy)]
struct Scores {
    /// Of the model that scores now; absent where another one decided.
    scored: Option<Scored>,
    challenged: Option<Challenged>,
}

/// The newest label of each transaction: the position of its record, by that of the transaction's authorisation. The
/// transactions that were first labelled longest ago make way; what was said of them stays in the journal.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Labels {
    newest: HashMap<u64, u64>,
    order: VecDeque<u64>,
}

impl Labels {
    pub(super) fn put(&mut self, of: u64, position: u64) {
        if let Some(newest) = self.newest.get_mut(&of) {
            *newest = position.max(*newest);
            return;
        }
        if self.newest.len() >= LABELS_AT_HAND_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.newest.remove(&oldest);
        }
        self.newest.insert(of, position);
        self.order.push_back(of);
    }

    /// The position of the newest label; 0 where none is known.
    fn of(&self, position: u64) -> u64 {
        self.newest.get(&position).copied().unwrap_or(0)
    }

    /// Those at hand, the transaction labelled longest ago first.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        self.order.iter().map(|of| (*of, self.of(*of)))
    }
}

/// What came of a change on a blocking thread.
enum Done<T> {
    Now(T),
    /// Its key was used before.
    Known(Remembered),
}

impl Engine {
    /// Adds values to a list and removes others.
    ///
    /// # Errors
    /// [`Fault::NoSuchList`], [`Fault::Invalid`] for a value that the list cannot hold, [`Fault::KeyReused`],
    /// [`Fault::Unavailable`] where nothing can be made durable.
    pub async fn update_list(
        self: &Arc<Self>,
        update: ListUpdate,
        pans_allowed: bool,
        arrival: &Arrival,
    ) -> Result<Answered<ListOutcome>, Fault> {
        self.check_deadline(arrival)?;
        self.check_running()?;
        let (engine, asked, client, deadline) =
            (self.clone(), update.clone(), arrival.client.0, arrival.deadline);
        let done = tokio::task::spawn_blocking(move || {
            let key = engine.state.answers.hash(client, &asked.key);
            let own = match engine.claim_here(key, deadline)? {
                Held::Claim(own) => own,
                Held::Known(found) => return Ok(Done::Known(found)),
                Held::Busy => return Err(Fault::Internal),
            };
            let slot = engine.slot_here()?;
            let one_at_a_time = engine.reloading.lock();
            let before = engine.in_force.load_full();
            let put = |lists: Lists| engine.in_force.store(Arc::new(before.with_lists(lists)));
            let asked_at = Asked { client, now: engine.time.now(), original: None };
            let outcome = listing::update(&before.setup, asked, pans_allowed, asked_at, own, slot, put)?;
            drop(one_at_a_time);
            engine.metrics.changed("update_list");
            Ok(Done::Now(outcome))
        });
        match done.await.map_err(|_| Fault::Internal)?? {
            Done::Now(outcome) => {
                self.on_disk(outcome.position, &arrival.lane).await?;
                Ok(Answered { answer: outcome, replayed: false })
            }
            Done::Known(found) => match self.stored(found.position, &arrival.lane).await? {
                Record::Listed(listed) if listed.update == update => {
                    self.metrics.replayed(arrival.lane.number());
                    let answer = ListOutcome { values: listed.values, position: found.position };
                    Ok(Answered { answer, replayed: true })
                }
                _ => {
                    self.metrics.duplicate_key(arrival.lane.number());
                    Err(Fault::KeyReused)
                }
            },
        }
    }

    /// The values of a list behind `after`, in the order of their bytes, as they are on disk.
    ///
    /// # Errors
    /// [`Fault::NoSuchList`], or [`Fault::Unavailable`] where the journal stopped before it was durable.
    pub async fn list(
        self: &Arc<Self>,
        name: String,
        after: String,
        limit: usize,
        lane: &Arc<Lane>,
    ) -> Result<Page, Fault> {
        let (engine, in_force) = (self.clone(), self.in_force.load_full());
        self.on_disk(in_force.setup.lists.version(), lane).await?;
        let read = tokio::task::spawn_blocking(move || {
            listing::page(&in_force.setup, &name, &after, limit, engine.time.now())
        });
        read.await.map_err(|_| Fault::Internal)?
    }

    /// Records what somebody found a transaction to be, and does what the label policies say.
    ///
    /// # Errors
    /// [`Fault::NotFound`] for an unknown transaction, [`Fault::Unavailable`] where nothing can be made durable.
    pub async fn label(
        self: &Arc<Self>,
        labelling: Labelling,
        arrival: &Arrival,
    ) -> Result<Answered<Outcome>, Fault> {
        self.check_deadline(arrival)?;
        self.check_running()?;
        let key = self.state.answers.hash(arrival.client.0, &labelling.key);
        // The key comes before the transaction.
        if let Some(found) = self.remembered(key).await? {
            return self.label_again(found, labelling, arrival).await;
        }
        let (transaction, Scores { scored, challenged }) = self.transaction(&labelling, arrival).await?;
        loop {
            let former = self.labels.lock().of(transaction.of);
            let said = self.said_with(former, &arrival.lane).await?;
            let counted = transaction.counted.map(|counted| Counted { said, ..counted });
            let transaction = Transaction { before: former, counted, ..transaction };
            let (engine, asked, client, deadline) =
                (self.clone(), labelling.clone(), arrival.client.0, arrival.deadline);
            let done = tokio::task::spawn_blocking(move || {
                let own = match engine.claim_here(key, deadline)? {
                    Held::Claim(own) => own,
                    Held::Known(found) => return Ok(Some(Done::Known(found))),
                    Held::Busy => return Err(Fault::Internal),
                };
                let slot = engine.slot_here()?;
                let one_at_a_time = engine.reloading.lock();
                // Another label may have come for it; what this one says of those before would be wrong.
                if engine.labels.lock().of(transaction.of) != former {
                    return Ok(None);
                }
                let before = engine.in_force.load_full();
                let put = |lists: Lists| engine.in_force.store(Arc::new(before.with_lists(lists)));
                let asked_at = Asked { client, now: engine.time.now(), original: None };
                let labelled = listing::label(&before.setup, asked, transaction, asked_at, own, slot, put);
                let position = labelled.outcome.position;
                engine.labels.lock().put(labelled.of, position);
                drop(one_at_a_time);
                if let Some(base) = before.shared.at_once() {
                    let event = authorise::labelled_event_of(position, &labelled, base);
                    before.shared.apply_now(position, event.as_ref());
                }
                engine.metrics.changed("label_transaction");
                let label = labelled.labelling.label;
                engine.metrics.labelled(label.name());
                let is_new = labelled.counted.is_none_or(|counted| !counted.has_said(label));
                let is_first = labelled.before == 0;
                // What windows do not remember keeps no note of the labels that came.
                if let Some(scored) = scored.filter(|_| is_first || (is_new && labelled.counted.is_some())) {
                    engine.metrics.score_labelled(ScoreLabelled { scored, label, is_first });
                }
                if let Some(challenged) = challenged.filter(|_| is_new) {
                    engine.metrics.challenge_labelled(challenged.declining, label);
                }
                Ok(Some(Done::Now(labelled.outcome)))
            });
            match done.await.map_err(|_| Fault::Internal)?? {
                Some(Done::Now(outcome)) => {
                    self.on_disk(outcome.position, &arrival.lane).await?;
                    return Ok(Answered { answer: outcome, replayed: false });
                }
                Some(Done::Known(found)) => return self.label_again(found, labelling, arrival).await,
                None => self.check_deadline(arrival)?,
            }
        }
    }

    /// The labels that have come with the one at `former` and before it, where there is one.
    async fn said_with(self: &Arc<Self>, former: u64, lane: &Arc<Lane>) -> Result<u8, Fault> {
        if former == 0 {
            return Ok(0);
        }
        let Record::Labelled(labelled) = self.stored(former, lane).await? else {
            return Err(Fault::Internal);
        };
        let before = labelled.counted.map_or(0, |counted| counted.said);
        Ok(before | Counted::bit(labelled.labelling.label))
    }

    async fn label_again(
        self: &Arc<Self>,
        found: Remembered,
        labelling: Labelling,
        arrival: &Arrival,
    ) -> Result<Answered<Outcome>, Fault> {
        let same = move |stored: &stored::StoredOutcome| stored.is_labelling(&labelling);
        self.repeat_outcome(found, same, arrival).await
    }

    /// The authorisation that is labelled, and what the models made of it.
    async fn transaction(
        self: &Arc<Self>,
        labelling: &Labelling,
        arrival: &Arrival,
    ) -> Result<(Transaction, Scores), Fault> {
        let key = self.state.answers.hash(arrival.client.0, &labelling.transaction);
        let found = self.remembered(key).await?.ok_or(NO_TRANSACTION)?;
        let stored = self.stored(found.position, &arrival.lane).await?;
        let decided = self.stored_decision(stored, &arrival.lane).await?;
        let (decided, _) = decided.ok_or(NO_TRANSACTION)?;
        let transaction = Transaction {
            of: decided.answer.position,
            account: decided.account,
            currency: decided.answer.approved.map(|approved| approved.currency),
            ids: listing::ids_of(&self.state.store, &decided.request, (decided.account, decided.card)),
            before: 0,
            counted: authorise::counted_of(decided.answer.position, &decided, 0),
        };
        let scores = decided.answer.margin.map(|margin| Scored { margin, score: decided.answer.score });
        let is_of_present = decided.answer.model_version == self.in_force.load().setup.model_version;
        let scored = scores.filter(|_| is_of_present);
        Ok((transaction, Scores { scored, challenged: decided.challenged }))
    }

    /// What was said of a transaction, the newest first; of one that was labelled long ago perhaps nothing.
    pub(super) async fn labels_of(
        self: &Arc<Self>,
        position: u64,
        lane: &Arc<Lane>,
    ) -> Result<Vec<Labelled>, Fault> {
        let mut labels: Vec<Labelled> = Vec::new();
        let mut next = self.labels.lock().of(position);
        while next != 0 && labels.len() <= FORMER_LABELS_SHOWN {
            let Record::Labelled(labelled) = self.stored(next, lane).await? else {
                return Err(Fault::Internal);
            };
            next = labelled.before;
            labels.push(*labelled);
        }
        Ok(labels)
    }

    /// Claims a key on this thread, which may wait and read the disk: never [`Held::Busy`].
    fn claim_here(&self, key: KeyHash, deadline: Option<Instant>) -> Result<Held<'_>, Fault> {
        loop {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Fault::DeadlineNotStarted);
            }
            match self.state.answers.claim(key) {
                Claimed::Older(claim) => {
                    let begun = Instant::now();
                    match self.looked_up(key, begun, self.find_older(key, begun))? {
                        Some(found) => claim.settle(found),
                        None if self.state.answers.is_over_capacity() => return Err(full()),
                        None => return Ok(Held::Claim(claim)),
                    }
                }
                Claimed::Busy => thread::sleep(RETRY),
                claimed => return claimed.held(),
            }
        }
    }

    fn slot_here(&self) -> Result<Slot<'_>, Fault> {
        loop {
            match self.journal.reserve(Class::Essential) {
                Ok(slot) => return Ok(slot),
                Err(ReserveError::Full) => thread::sleep(RETRY),
                Err(error) => return Err(self.refused(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! History decided again in one process: the code that serves, without doors, journal and threads.
//!
//! What the engine does around a decision is done here in the same way: time follows the transactions, an increment's
//! original is looked up first, a key that comes again gets its answer or is declined as a duplicate. There is no
//! sweeper, as there is none where time follows transactions: a hold expires when its account is touched, and no
//! answer is forgotten.

mod journal;

pub use self::journal::{PastJournal, Redone, ReplayError};

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::{
    recover::{OpenError, Source, empty_state, setup_given},
    replay::{Retention, Scratch, lists::ListHistory, unbounded},
    time::{EngineTime, TimeSource},
    versions::Names,
};
use crate::{
    authorise::{
        self, Asked, Attempt, Observed, Seen, Stage, State, Taken, Watch,
        answers::{Claimed, Remembered},
        listing, maintain,
        setup::Setup,
    },
    config::Config,
    features::{
        catalog::MODEL_FEATURES,
        shared::{Shared, SharedEvent, SharedRead},
    },
    journal::record::NO_CARD,
    model::Model,
    rules::RuleSet,
    types::{
        account::AccountChange,
        auth::{AuthAnswer, AuthRequest},
        base::BaseCurrency,
        codes::Kind,
        fault::Fault,
        ids::{AccountId, RequestKey},
        lists::{FraudLabel, TransactionIds},
        outcome::Maintenance,
        time::Timestamp,
    },
};

/// All callers of history are one client.
const CLIENT: u32 = 0;

/// How an answer came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replayed {
    /// Decided now.
    Decided,
    /// The key was there before with the same body: the stored answer.
    Repeated,
    /// The key was there before with another body.
    Duplicate,
}

/// Accounts, answers and versions of one replay.
pub struct Backtest {
    state: State,
    setup: Setup,
    time: EngineTime,
    /// Any instant will do where transactions make the time; asking for one at each of them would cost.
    began: Instant,
    position: u64,
    /// For records that nobody reads.
    record: Vec<u8>,
    /// Windows across accounts, complete to the position before.
    shared: Shared,
    /// Decisions of a journal that they are to take in once it had done so itself.
    waiting: VecDeque<(u64, SharedEvent)>,
    /// The last decision as those windows have it.
    last: Option<SharedEvent>,
    /// The account and the place of the card that the last request was decided on; `None` where nothing was decided.
    last_on: Option<(Option<AccountId>, u8)>,
    /// Labels that have yet to come, by their time, and the position of what they are of.
    coming: BTreeMap<(Timestamp, u64), Coming>,
    /// The lists of a journal.
    lists: ListHistory,
    names: Names,
    /// Requests whose key may come again, with their answers, by position.
    kept: HashMap<u64, (AuthRequest, AuthAnswer)>,
    /// For a journal: which keys the engine had forgotten.
    retention: Retention,
}

/// What a label will do when it comes.
struct Coming {
    label: FraudLabel,
    /// For windows that count it.
    event: Option<SharedEvent>,
    /// For policies that it has put something on a list.
    ids: Option<Box<TransactionIds>>,
}

impl Backtest {
    /// An engine without accounts.
    ///
    /// # Errors
    /// Where the rules or the model are wrong.
    pub fn new(rules: &Source, model: Option<&Source>) -> Result<Backtest, OpenError> {
        Backtest::under(&Config::default(), rules, model)
    }

    /// An engine without accounts, under these settings as far as they decide.
    ///
    /// # Errors
    /// As [`Backtest::new`].
    pub fn under(settings: &Config, rules: &Source, model: Option<&Source>) -> Result<Backtest, OpenError> {
        let mut config = settings.clone();
        // A replay forgets no answer.
        config.answers.capacity = u64::MAX;
        let setup = setup_given(rules, model, &config)?;
        Ok(Backtest::with(setup, &config))
    }

    fn with(setup: Setup, config: &Config) -> Backtest {
        let shared = Shared::new(&setup.shared, config.windows.shared_bytes as usize);
        Backtest {
            state: empty_state(config, (0, 0)),
            setup,
            shared,
            waiting: VecDeque::new(),
            last: None,
            last_on: None,
            coming: BTreeMap::new(),
            lists: ListHistory::new(),
            time: EngineTime::new(TimeSource::Transactions, Timestamp::default()),
            began: Instant::now(),
            position: 0,
            record: Vec::new(),
            names: Names::default(),
            kept: HashMap::new(),
            retention: Retention::default(),
        }
    }

    pub fn rules(&self) -> &RuleSet {
        &self.setup.rules
    }

    /// The same, for whoever outlives a borrow of this.
    pub fn rules_shared(&self) -> Arc<RuleSet> {
        Arc::clone(&self.setup.rules)
    }

    /// Whether decisions depend on labels as they come, which [`Backtest::label`] says: by windows of the rules, by their
    /// label policies, or by a model's features.
    pub fn reads_labels(&self) -> bool {
        let Setup { model, shared, rules, .. } = &self.setup;
        model.is_some() || shared.aggregates_count_labels() || !rules.label_policies.is_empty()
    }

    /// Says what the last request that was decided, which is this one, will be found to be, and when that will be known:
    /// from then on it counts as such, and is on the lists that the policies put it on. For a history without a journal.
    pub fn label(&mut self, request: &AuthRequest, label: FraudLabel, known_at: Timestamp) {
        // The engine follows no label of what reached no account, either.
        let reached = self.last_on.is_some_and(|(account, _)| account.is_some());
        let event = self.last.take().filter(|_| reached && self.setup.shared.counts(label));
        let event = event.map(|event| SharedEvent { label: Some(label), ..event });
        // Of a repeat and a duplicate nothing was decided.
        let is_listed = self.setup.rules.label_policies.iter().any(|policy| policy.label == label);
        let on = self.last_on.take().filter(|_| is_listed);
        let ids = on.map(|on| Box::new(listing::ids_of(&self.state.store, request, on)));
        if event.is_some() || ids.is_some() {
            // None is known before what it is of.
            let known_at = known_at.max(self.time.now());
            self.coming.insert((known_at, self.position), Coming { label, event, ids });
        }
    }

    /// Lets the labels come that are known at this time, each at its own.
    fn labels_come(&mut self, now: Timestamp) {
        while let Some(next) = self.coming.first_entry()
            && next.key().0 <= now
        {
            let ((known_at, _), Coming { label, event, ids }) = next.remove_entry();
            if let Some(event) = event {
                self.shared.take_in(&self.setup.shared, &event);
            }
            // A file says neither a label's kind nor where it comes from.
            let followed = ids.map(|ids| listing::follow(&self.setup, (label, "", ""), &ids, known_at));
            if let Some(lists) = followed.and_then(|followed| followed.lists) {
                let version = lists.version() + 1;
                self.setup.see(&Arc::new(lists.made_at(version)));
            }
        }
    }

    /// Whether the settings say that credit limits are made up: their use (`account.utilisation`) is missing then.
    pub fn limits_are_assumed(&self) -> bool {
        self.setup.limits_assumed
    }

    /// `None` where no model serves.
    pub fn model(&self) -> Option<&Model> {
        self.setup.model.as_deref()
    }

    /// Opens an account, or changes one, under a key of its own.
    ///
    /// # Errors
    /// As the engine refuses it; nothing changed then.
    pub fn upsert(&mut self, key: RequestKey, change: AccountChange) -> Result<(), Fault> {
        self.position += 1;
        self.record.clear();
        let sink = Scratch { position: self.position, bytes: &mut self.record, wants_record: false };
        let own = match self.state.answers.claim(self.state.answers.hash(CLIENT, &key)) {
            Claimed::Fresh(claim) => claim,
            _ => return Err(Fault::Internal),
        };
        let asked = Asked { client: CLIENT, now: self.time.now(), original: None };
        maintain::maintain(&self.state, Maintenance::Upsert { key, change }, asked, own, sink).map(drop)
    }

    /// Decides a request and puts the decision in force. `keep` where the key may come again.
    ///
    /// # Errors
    /// [`Fault::Overloaded`] where the account has as many holds as it may have; nothing changed then.
    pub fn decide(
        &mut self,
        request: &AuthRequest,
        keep: bool,
        watch: &mut impl Watch,
    ) -> Result<(AuthAnswer, Replayed), Fault> {
        self.replay(request, None, keep, watch)
    }

    fn replay(
        &mut self,
        request: &AuthRequest,
        observed: Option<Observed>,
        keep: bool,
        watch: &mut impl Watch,
    ) -> Result<(AuthAnswer, Replayed), Fault> {
        let now = self.time.at_door(request, self.began);
        self.labels_come(now);
        let original = request.original.filter(|_| request.kind == Kind::Incremental).and_then(|key| {
            let found = self.state.answers.lookup(self.state.answers.hash(CLIENT, &key));
            found.known().filter(Remembered::is_authorisation)
        });
        self.position += 1;
        self.record.clear();
        (self.last, self.last_on) = (None, None);
        let sink = Scratch { position: self.position, bytes: &mut self.record, wants_record: false };
        let asked = Asked { client: CLIENT, now, original };
        let plan = &self.setup.shared;
        let (parts, owner) = authorise::parts_of(&self.state.store, plan, request);
        let shared = SharedRead { owner, ..SharedRead::of(&self.shared, plan, &parts, now) };
        let mut watch = Noting { watch, base: &self.setup.base, event: None, on: (None, NO_CARD) };
        let (answer, how) = match authorise::authorise(
            &self.state,
            &self.setup,
            Attempt { request, asked, shared: &shared, features: MODEL_FEATURES, observed },
            sink,
            &mut watch,
        ) {
            Taken::Decided(answer, _) => {
                (self.last, self.last_on) = (watch.event, Some(watch.on));
                if keep {
                    self.kept.insert(self.position, (request.clone(), answer.clone()));
                }
                (answer, Replayed::Decided)
            }
            Taken::Known(found) => match self.kept.get(&found.position) {
                Some((first, answer)) if authorise::same_body(first, request) => {
                    (answer.clone(), Replayed::Repeated)
                }
                _ => (self.duplicate(now, self.position), Replayed::Duplicate),
            },
            Taken::TooManyHolds => {
                return Err(Fault::Overloaded { retry_after_ms: 0, what: super::HOLDS_FULL });
            }
            // One caller cannot be in its own way, there is room for every answer, and no key has left memory.
            Taken::Busy | Taken::Older | Taken::Again | Taken::Full => return Err(Fault::Internal),
        };
        self.shared.apply(&self.setup.shared, self.position, self.last.as_ref());
        Ok((answer, how))
    }

    /// Decides a request, but puts history's outcome in force instead of the decision.
    ///
    /// # Errors
    /// As [`Backtest::decide`].
    pub fn observe(
        &mut self,
        request: &AuthRequest,
        observed: Observed,
        keep: bool,
        watch: &mut impl Watch,
    ) -> Result<(AuthAnswer, Replayed), Fault> {
        self.replay(request, Some(observed), keep, watch)
    }
}

/// Watches for somebody else, and notes what windows across accounts remember.
struct Noting<'a, W> {
    watch: &'a mut W,
    base: &'a BaseCurrency,
    event: Option<SharedEvent>,
    /// The account and the place of the card.
    on: (Option<AccountId>, u8),
}

impl<W: Watch> Watch for Noting<'_, W> {
    fn ended(&mut self, stage: Stage) {
        self.watch.ended(stage);
    }

    fn decided(&mut self, seen: &Seen<'_>) {
        self.event = seen.shared_event(self.base);
        self.on = (seen.account, seen.card);
        self.watch.decided(seen);
    }
}

#[cfg(test)]
pub(super) mod tests;

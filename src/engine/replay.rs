//! Deciding again: every record of a journal is made anew from what it says was asked, with the versions it names,
//! and must come out the same, byte for byte.
//!
//! Windows go over to the aggregates of each record's rules as they did when it was decided, and what was read of windows
//! across accounts stands in the record.

pub(super) mod lists;

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    path::Path,
    sync::Arc,
};

use super::{
    ages::Ages,
    recover::{Source, empty_state, journal_dir, setup_of, time_of},
    versions::{self, Names},
};
use crate::{
    authorise::{
        self, Asked, Attempt, Sink, State, Taken, Watch,
        answers::{Claimed, NO_ACCOUNT, Remembered, Stands, What},
        keys,
        listing::{self, Transaction},
        maintain,
        reverse::{self, Target},
        setup::{Challenger, Setup},
    },
    config::Config,
    features::{catalog::MODEL_FEATURES, shared::SharedRead},
    journal::{
        self,
        record::{
            Decided, Expiry, Labelled, Listed, Maintained, Original, Record, Reversed, VersionNumbers,
            Versioned, Voided,
        },
    },
    limits::ANSWER_RETENTION_MS,
    model::Model,
    rules::Lists,
    types::{
        auth::{AuthAnswer, Subject},
        codes::Decision,
        reasons::Label,
    },
};
use lists::ListHistory;

const NOTHING_TO_DECIDE_WITH: &str = "there is nothing to decide it with";
/// How many differences are listed in full.
const DIFFERENCES_LISTED: usize = 20;

/// What was found.
#[derive(Clone, Debug)]
pub struct Verified {
    pub chain: journal::VerifyReport,
    /// Records by kind.
    pub counts: BTreeMap<&'static str, u64>,
    /// Decisions by decision and response code, such as `DECLINED 51`.
    pub decisions: BTreeMap<String, u64>,
    /// Decisions by the code of their deciding reason.
    pub reasons: BTreeMap<String, u64>,
    /// Records that came out otherwise.
    pub different: u64,
    /// The first of them, in words.
    pub differences: Vec<String>,
}

/// Why it could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Journal(#[from] journal::LogError),
    #[error("position {position}: {what}")]
    Versions { position: u64, what: String },
}

/// A stretch of the log with one version of everything.
pub(super) struct Epoch {
    from: u64,
    pub(super) numbers: VersionNumbers,
    /// Of the challenger that came last; 0 where none had.
    challenger: u32,
    /// Records to decide again; an epoch without any needs no versions.
    pub(super) records: u64,
}

/// Reads a data directory, in use or not, and decides everything in it again. `progress` is told each position.
///
/// # Errors
/// Where the chain is broken, a record cannot be read, or a version that decided was not kept.
pub fn verify(data_dir: &Path, progress: &mut dyn FnMut(u64)) -> Result<Verified, VerifyError> {
    let names = Names::default();
    let (chain, epochs, introduced) = epochs(data_dir, &names, &mut |_| {})?;
    // A directory in use grows meanwhile; every walk ends where the first one did.
    let last = chain.summary.last_position.unwrap_or(0);
    let mut verified = Verified {
        chain,
        counts: BTreeMap::from([("introduced", introduced)]),
        decisions: BTreeMap::new(),
        reasons: BTreeMap::new(),
        different: 0,
        differences: Vec::new(),
    };
    check_kept(data_dir, &epochs, &names)?;
    let mut setups = Setups {
        data_dir,
        names: &names,
        loaded: HashMap::new(),
        models: HashMap::new(),
        challengers: HashMap::new(),
    };
    let (state, mut retention) = (empty_state(&unbounded(), (0, 0)), Retention::default());
    let mut lists = ListHistory::new();
    journal::verify(&journal_dir(data_dir), &mut |frame| {
        let position = frame.position;
        let record = Record::decode(frame.payload, position, &names).map_err(|error| error.to_string())?;
        retention.note(position, &record);
        if position > last || matches!(record, Record::Introduced(_)) {
            return Ok(());
        }
        let again = again(&state, &mut setups, &mut lists, &mut retention, position, &record);
        lists.note(position, &record);
        count(&mut verified, &record);
        if again.as_deref() != Ok(frame.payload) {
            differ(&mut verified, &names, position, &record, again);
        }
        progress(position);
        Ok(())
    })?;
    Ok(verified)
}

/// Every version that decided must be there, said at once and with its place.
fn check_kept(data_dir: &Path, epochs: &[Epoch], names: &Names) -> Result<(), VerifyError> {
    let (mut checked, mut rules, mut challengers) = (HashSet::new(), HashSet::new(), HashSet::new());
    for epoch in epochs.iter().filter(|epoch| epoch.records > 0) {
        let missing = |what| VerifyError::Versions { position: epoch.from, what };
        if checked.insert((epoch.numbers.model, epoch.numbers.config)) {
            load(data_dir, epoch.numbers, names, None).map_err(missing)?;
        } else if rules.insert(epoch.numbers.rules) {
            kept(data_dir, Versioned::Rules, epoch.numbers.rules, names).map_err(missing)?;
        }
        if epoch.challenger != 0 && challengers.insert(epoch.challenger) {
            kept(data_dir, Versioned::Challenger, epoch.challenger, names).map_err(missing)?;
        }
    }
    Ok(())
}

/// What decided under each set of versions, loaded when a record names it.
struct Setups<'a> {
    data_dir: &'a Path,
    names: &'a Names,
    /// By what decides, and the number of the challenger beside it; 0 without one.
    loaded: HashMap<(VersionNumbers, u32), Setup>,
    /// By number: many rules decide beside one model.
    models: HashMap<u32, Option<Arc<Model>>>,
    challengers: HashMap<u32, Arc<Model>>,
}

impl Setups<'_> {
    fn of(&mut self, numbers: VersionNumbers, challenger: u32) -> Result<&mut Setup, String> {
        let challenging = match challenger {
            0 => None,
            number => Some(Challenger { model: self.challenger(number)?, number }),
        };
        match self.loaded.entry((numbers, challenger)) {
            Entry::Occupied(found) => Ok(found.into_mut()),
            Entry::Vacant(vacant) => {
                let model = self.models.get(&numbers.model).cloned();
                let setup = load(self.data_dir, numbers, self.names, model)?;
                self.models.insert(numbers.model, setup.model.clone());
                Ok(vacant.insert(Setup { challenger: challenging, ..setup }))
            }
        }
    }

    fn challenger(&mut self, number: u32) -> Result<Arc<Model>, String> {
        if let Some(known) = self.challengers.get(&number) {
            return Ok(Arc::clone(known));
        }
        let Source { name, text } = kept(self.data_dir, Versioned::Challenger, number, self.names)?;
        let model = Arc::new(Model::load(&text).map_err(|error| format!("challenger {name}: {error}"))?);
        self.challengers.insert(number, Arc::clone(&model));
        Ok(model)
    }
}

/// Settings for a state that decides what was decided: no capacity is in the way.
pub(super) fn unbounded() -> Config {
    let mut config = Config::default();
    config.answers.capacity = u64::MAX;
    config
}

/// Walks the log once for its versions, and counts their introductions. Whatever else there is, `on_record` sees in brief.
pub(super) fn epochs(
    data_dir: &Path,
    names: &Names,
    on_record: &mut dyn FnMut(&Record),
) -> Result<(journal::VerifyReport, Vec<Epoch>, u64), VerifyError> {
    let (mut numbers, mut challenger) = (VersionNumbers::default(), 0);
    let mut epochs: Vec<Epoch> = Vec::new();
    let mut introductions = 0;
    let chain = journal::verify(&journal_dir(data_dir), &mut |frame| {
        let record =
            Record::decode_brief(frame.payload, frame.position).map_err(|error| error.to_string())?;
        let Record::Introduced(introduced) = record else {
            on_record(&record);
            if let Some(epoch) = epochs.last_mut() {
                epoch.records += 1;
            }
            return Ok(());
        };
        match introduced.what {
            Versioned::Rules => numbers.rules = introduced.number,
            Versioned::Model => numbers.model = introduced.number,
            Versioned::Config => numbers.config = introduced.number,
            Versioned::Challenger => challenger = introduced.number,
        }
        names.introduce(&introduced);
        introductions += 1;
        // The introductions of one start follow each other: the epoch begins behind the last of them.
        let next = Epoch { from: frame.position + 1, numbers, challenger, records: 0 };
        match epochs.last_mut().filter(|epoch| epoch.from == frame.position) {
            Some(epoch) => *epoch = next,
            None => epochs.push(next),
        }
        Ok(())
    })?;
    Ok((chain, epochs, introductions))
}

/// The text of a version that decided; empty where there was none.
pub(super) fn kept(data_dir: &Path, what: Versioned, number: u32, names: &Names) -> Result<Source, String> {
    let version = names.version(what, number).ok_or("a version is named but was never introduced")?;
    let text = if version.is_empty() { String::new() } else { versions::read(data_dir, what, &version)? };
    Ok(Source { name: version.to_string(), text })
}

/// What decided under these versions, with `model` where that was loaded before.
fn load(
    data_dir: &Path,
    numbers: VersionNumbers,
    names: &Names,
    model: Option<Option<Arc<Model>>>,
) -> Result<Setup, String> {
    let rules = kept(data_dir, Versioned::Rules, numbers.rules, names)?;
    let config = kept(data_dir, Versioned::Config, numbers.config, names)?;
    let config = Config::parse(&config.name, &config.text).map_err(|error| error.to_string())?;
    let source = match model {
        Some(_) => None,
        None => Some(kept(data_dir, Versioned::Model, numbers.model, names)?)
            .filter(|model| !model.text.is_empty()),
    };
    let mut setup = setup_of(&rules, source.as_ref(), &config).map_err(|error| error.to_string())?;
    if let Some(model) = model {
        setup.model_version = model.as_ref().map_or(Label::Static(""), |model| model.version().clone());
        setup.model = model;
    }
    setup.numbers = numbers;
    Ok(setup)
}

/// Where a record made again goes: nowhere but into memory.
pub(super) struct Scratch<'a> {
    pub(super) position: u64,
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) wants_record: bool,
}

impl Sink for Scratch<'_> {
    fn take_sequence(&mut self) -> u64 {
        self.position
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        self.bytes
    }

    fn wants_record(&self) -> bool {
        self.wants_record
    }

    fn publish(self) {}
}

/// Which keys the engine had forgotten: by the hour in memory and by the file on disk. When it was shows only where a key
/// is used again, and then of that key alone.
#[derive(Default)]
pub(super) struct Retention {
    ages: Ages,
    /// Below this position every record is past its retention.
    outlived: u64,
}

impl Retention {
    /// To be told of every record, in order.
    pub(super) fn note(&mut self, position: u64, record: &Record) {
        self.ages.note_record(time_of(record), position);
    }

    /// Forgets the record's keys where they are past their retention.
    fn forget_keys_of(&mut self, state: &State, record: &Record) {
        if let Some(position) = self.ages.outlived(time_of(record), ANSWER_RETENTION_MS) {
            self.outlived = position;
        }
        keys::keys_of(record, |client, key, _| {
            state.answers.forget_if_before(state.answers.hash(client, key), self.outlived);
        });
    }
}

/// Makes a record again.
fn again(
    state: &State,
    setups: &mut Setups<'_>,
    lists: &mut ListHistory,
    retention: &mut Retention,
    position: u64,
    record: &Record,
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // While rules are replaced, records of the version before stand behind the introduction of the next.
    let numbers = match record {
        Record::Decided(decided) => Some(decided.versions),
        Record::Listed(listed) => Some(listed.versions),
        Record::Labelled(labelled) => Some(labelled.versions),
        _ => None,
    };
    let Some(numbers) = numbers else {
        make_again(state, None, &mut |_| {}, retention, (position, record), &mut bytes, &mut ())?;
        return Ok(bytes);
    };
    let challenger = match record {
        Record::Decided(decided) => decided.challenged.map_or(0, |challenged| challenged.number),
        _ => 0,
    };
    let setup = setups.of(numbers, challenger)?;
    let shared = match record {
        Record::Decided(decided) => {
            let considered = &decided.considered;
            let decided_by = setup.rules.aggregates_read_by(&considered.fired);
            SharedRead::again(
                considered.shared_to,
                &setup.shared,
                &considered.aggregates,
                &considered.vector,
                decided_by,
            )
        }
        _ => SharedRead::default(),
    };
    setup.see(lists.seen_by(record)?);
    let features = match record {
        Record::Decided(decided) => decided.considered.features,
        _ => MODEL_FEATURES,
    };
    let with = Some(With { setup, shared: &shared, features });
    let put = &mut |made: Lists| lists.put(made);
    make_again(state, with, put, retention, (position, record), &mut bytes, &mut ())?;
    Ok(bytes)
}

/// What a decision is made again with.
#[derive(Clone, Copy)]
pub(super) struct With<'a> {
    pub(super) setup: &'a Setup,
    pub(super) shared: &'a SharedRead,
    /// How many of the model's features are known: as many as were then, where the same is to come out; all, where
    /// another model is asked.
    pub(super) features: usize,
}

/// Makes a record again, on the accounts as the records before it left them, and appends it to `bytes`, which must be
/// empty. Gives the answer of an authorisation, which needs what it is decided with.
///
/// # Errors
/// In words, where the accounts and the keys do not stand as the record says; nothing changed then.
pub(super) fn make_again(
    state: &State,
    with: Option<With<'_>>,
    put: &mut dyn FnMut(Lists),
    retention: &mut Retention,
    (position, record): (u64, &Record),
    bytes: &mut Vec<u8>,
    watch: &mut impl Watch,
) -> Result<Option<AuthAnswer>, String> {
    let first = try_again(state, with, put, record, Scratch { position, bytes, wants_record: true }, watch);
    if first.is_ok() {
        return first;
    }
    retention.forget_keys_of(state, record);
    bytes.clear();
    try_again(state, with, put, record, Scratch { position, bytes, wants_record: true }, watch)
}

fn try_again(
    state: &State,
    with: Option<With<'_>>,
    put: &mut dyn FnMut(Lists),
    record: &Record,
    sink: Scratch<'_>,
    watch: &mut impl Watch,
) -> Result<Option<AuthAnswer>, String> {
    match record {
        Record::Introduced(_) | Record::Duplicated(_) => record.encode(sink.bytes),
        Record::Decided(decided) => {
            let with = with.ok_or(NOTHING_TO_DECIDE_WITH)?;
            return decide(state, with, decided, sink, watch).map(Some);
        }
        Record::Reversed(reversed) => reverse_again(state, reversed, sink)?,
        Record::Maintained(maintained) => maintain_again(state, maintained, sink)?,
        Record::Voided(voided) => void_again(state, voided, sink)?,
        Record::Expiry(expiry) => expire_again(state, expiry, sink)?,
        Record::Listed(listed) => {
            let With { setup, .. } = with.ok_or(NOTHING_TO_DECIDE_WITH)?;
            list_again(state, setup, listed, sink, put)?;
        }
        Record::Labelled(labelled) => {
            let With { setup, .. } = with.ok_or(NOTHING_TO_DECIDE_WITH)?;
            label_again(state, setup, labelled, sink, put)?;
        }
    }
    Ok(None)
}

fn list_again(
    state: &State,
    setup: &Setup,
    listed: &Listed,
    sink: Scratch<'_>,
    put: impl FnOnce(Lists),
) -> Result<(), String> {
    let asked = Asked { client: listed.client, now: listed.time, original: None };
    let key = state.answers.hash(listed.client, &listed.update.key);
    let Claimed::Fresh(own) = state.answers.claim(key) else { return Err("its key was used before".into()) };
    // Whether card numbers were taken was settled then.
    listing::update(setup, listed.update.clone(), true, asked, own, sink, put)
        .map(|_| ())
        .map_err(|fault| fault.to_string())
}

fn label_again(
    state: &State,
    setup: &Setup,
    labelled: &Labelled,
    sink: Scratch<'_>,
    put: impl FnOnce(Lists),
) -> Result<(), String> {
    let asked = Asked { client: labelled.client, now: labelled.time, original: None };
    let key = state.answers.hash(labelled.client, &labelled.labelling.key);
    let Claimed::Fresh(own) = state.answers.claim(key) else { return Err("its key was used before".into()) };
    let transaction = Transaction {
        of: labelled.of,
        account: labelled.account,
        currency: labelled.outcome.moved.map(|moved| moved.currency),
        ids: labelled.ids,
        before: labelled.before,
        counted: labelled.counted,
    };
    listing::label(setup, labelled.labelling.clone(), transaction, asked, own, sink, put);
    Ok(())
}

fn decide(
    state: &State,
    With { setup, shared, features }: With<'_>,
    decided: &Decided,
    sink: Scratch<'_>,
    watch: &mut impl Watch,
) -> Result<AuthAnswer, String> {
    let account = decided.account.and_then(|account| state.store.find(&Subject::Account(account)));
    let original = decided.original.zip(account).map(|(position, account)| Remembered {
        what: What::Authorisation,
        position,
        account,
    });
    let asked = Asked { client: decided.client, now: decided.time, original };
    match authorise::authorise(
        state,
        setup,
        Attempt { request: &decided.request, asked, shared, features, observed: None },
        sink,
        watch,
    ) {
        Taken::Decided(answer, _) => Ok(answer),
        Taken::Known(found) => Err(format!("its key stands already for position {}", found.position)),
        Taken::TooManyHolds => Err(super::HOLDS_FULL.into()),
        Taken::Busy | Taken::Older | Taken::Again | Taken::Full => Err("it could not be decided".into()),
    }
}

fn reverse_again(state: &State, reversed: &Reversed, sink: Scratch<'_>) -> Result<(), String> {
    let asked = Asked { client: reversed.client, now: reversed.time, original: None };
    let key = state.answers.hash(reversed.client, &reversed.reversal.key);
    let Claimed::Fresh(own) = state.answers.claim(key) else { return Err("its key was used before".into()) };
    let original_key = state.answers.hash(reversed.client, &reversed.reversal.original);
    let target = match (reversed.original, state.answers.claim(original_key)) {
        (Original::NotArrived, Claimed::Fresh(claim)) => Target::NotArrived(claim),
        (Original::NotArrived, _) => return Err("its original had arrived".into()),
        (_, Claimed::Known(found)) => Target::Found(found),
        (_, Claimed::ReversedBefore(_claim, found)) => Target::Found(found),
        _ => return Err("its original had not arrived".into()),
    };
    reverse::reverse(state, reversed.reversal.clone(), asked, own, target, sink)
        .map(|_| ())
        .map_err(|fault| fault.to_string())
}

fn maintain_again(state: &State, maintained: &Maintained, sink: Scratch<'_>) -> Result<(), String> {
    let asked = Asked { client: maintained.client, now: maintained.time, original: None };
    let key = state.answers.hash(maintained.client, &maintained.change.key());
    let Claimed::Fresh(own) = state.answers.claim(key) else { return Err("its key was used before".into()) };
    maintain::maintain(state, maintained.change.clone(), asked, own, sink)
        .map(|_| ())
        .map_err(|fault| fault.to_string())
}

fn void_again(state: &State, voided: &Voided, sink: Scratch<'_>) -> Result<(), String> {
    let key = state.answers.hash(voided.client, &voided.key);
    let found = match state.answers.lookup(key) {
        Stands::Known(found) if found.position == voided.of => found,
        _ => return Err("its authorisation is not there".into()),
    };
    let claim = state.answers.reclaim(key, found).ok_or("its authorisation is not there")?;
    let asked = Asked { client: voided.client, now: voided.time, original: None };
    reverse::void(state, voided.key, found, asked, claim, sink);
    Ok(())
}

fn expire_again(state: &State, expiry: &Expiry, mut sink: Scratch<'_>) -> Result<(), String> {
    let at = state.store.find(&Subject::Account(expiry.account)).unwrap_or(NO_ACCOUNT);
    if at == NO_ACCOUNT {
        return Err("its account is not there".into());
    }
    state.store.with_account(at, |entry| {
        let account = entry.account.as_mut().ok_or("its account is not open")?;
        let expired = account.expire(expiry.time);
        account.last_position = sink.take_sequence();
        let record =
            Expiry { holds: expired.holds as u64, amount_minor: expired.amount_minor, ..expiry.clone() };
        record.encode(sink.buffer());
        Ok(())
    })
}

fn count(verified: &mut Verified, record: &Record) {
    let kind = match record {
        Record::Introduced(_) => return,
        Record::Decided(_) => "decided",
        Record::Duplicated(_) => "duplicated",
        Record::Voided(_) => "voided",
        Record::Reversed(_) => "reversed",
        Record::Maintained(_) => "maintained",
        Record::Expiry(_) => "expired",
        Record::Listed(_) => "listed",
        Record::Labelled(_) => "labelled",
    };
    *verified.counts.entry(kind).or_default() += 1;
    if let Record::Decided(decided) = record {
        let answer = &decided.answer;
        let decision = format!("{} {}", answer.decision.name(), answer.response_code);
        *verified.decisions.entry(decision).or_default() += 1;
        if let (Some(reason), Decision::Declined | Decision::StepUp) =
            (answer.reasons.first(), answer.decision)
        {
            *verified.reasons.entry(reason.code.to_string()).or_default() += 1;
        }
    }
}

fn differ(
    verified: &mut Verified,
    names: &Names,
    position: u64,
    record: &Record,
    again: Result<Vec<u8>, String>,
) {
    verified.different += 1;
    if verified.differences.len() >= DIFFERENCES_LISTED {
        return;
    }
    let now = match again {
        Err(what) => what,
        Ok(bytes) => match Record::decode(&bytes, position, names) {
            Ok(now) => format!("now {now:?}"),
            Err(error) => error.to_string(),
        },
    };
    verified.differences.push(format!("position {position}: recorded {record:?}; {now}"));
}

//! Deciding again: every record of a journal is made anew from what it says was asked, with the versions it names,
//! and must come out the same, byte for byte.
//!
//! Windows are a function of the rules' aggregates, so that a log in which those change is walked once per stretch of
//! the same ones: up to its start records are put in force as they stand, inside it they are decided again.

mod lists;

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    path::Path,
    sync::Arc,
};

use super::{
    ages::Ages,
    recover::{Source, empty_state, journal_dir, restore, setup_of, time_of},
    versions::{self, Names},
};
use crate::{
    authorise::{
        self, Asked, Sink, State, Taken,
        answers::{Claimed, NO_ACCOUNT, Remembered, Stands, What},
        keys,
        listing::{self, Transaction},
        maintain,
        reverse::{self, Target},
        setup::Setup,
    },
    config::Config,
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
    types::{auth::Subject, codes::Decision, reasons::Label},
};
use lists::ListHistory;

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
struct Epoch {
    from: u64,
    numbers: VersionNumbers,
    /// Records to decide again; an epoch without any needs no versions.
    records: u64,
}

/// Reads a data directory, in use or not, and decides everything in it again. `progress` is told each position.
///
/// # Errors
/// Where the chain is broken, a record cannot be read, or a version that decided was not kept.
pub fn verify(data_dir: &Path, progress: &mut dyn FnMut(u64)) -> Result<Verified, VerifyError> {
    let names = Names::default();
    let (chain, epochs, introduced) = epochs(data_dir, &names)?;
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
    let stretches = stretches(data_dir, &epochs, &names)?;
    for (place, stretch) in stretches.iter().enumerate() {
        let end = stretches.get(place + 1).map_or(last + 1, |next| next.from);
        let mut setups = Setups { data_dir, names: &names, loaded: HashMap::new(), models: HashMap::new() };
        let (state, mut ages, mut outlived) = (empty_state(&unbounded(), (0, 0)), Ages::default(), 0);
        let mut lists = ListHistory::new();
        journal::verify(&journal_dir(data_dir), &mut |frame| {
            let position = frame.position;
            let record =
                Record::decode(frame.payload, position, &names).map_err(|error| error.to_string())?;
            ages.note_record(time_of(&record), position);
            if position < stretch.from {
                lists.note(position, &record);
                restore(&state, &setups.of(stretch.numbers)?.plan, &names, position, record);
            } else if position < end && !matches!(record, Record::Introduced(_)) {
                // While rules are replaced, records of the version before stand behind the introduction of the next.
                let numbers = match &record {
                    Record::Decided(decided) => decided.versions,
                    Record::Listed(listed) => listed.versions,
                    Record::Labelled(labelled) => labelled.versions,
                    _ => stretch.numbers,
                };
                let setup = setups.of(numbers)?;
                let mut again = again(&state, setup, &mut lists, position, &record);
                if again.is_err() {
                    // The engine forgets by the hour in memory and by the file on disk; when it was shows only where a
                    // key is used again, and then of that key alone.
                    if let Some(position) = ages.outlived(time_of(&record), ANSWER_RETENTION_MS) {
                        outlived = position;
                    }
                    keys::keys_of(&record, |client, key, _| {
                        state.answers.forget_if_before(state.answers.hash(client, key), outlived);
                    });
                    again = self::again(&state, setup, &mut lists, position, &record);
                }
                lists.note(position, &record);
                count(&mut verified, &record);
                if again.as_deref() != Ok(frame.payload) {
                    differ(&mut verified, &names, position, &record, again);
                }
                progress(position);
            }
            Ok(())
        })?;
    }
    Ok(verified)
}

/// A part of the log in which the windows were kept under the same aggregates.
struct Stretch {
    from: u64,
    /// Those of its beginning.
    numbers: VersionNumbers,
}

/// The stretches that have records.
fn stretches(data_dir: &Path, epochs: &[Epoch], names: &Names) -> Result<Vec<Stretch>, VerifyError> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let (mut plans, mut checked, mut plan) = (HashMap::new(), HashSet::new(), None);
    for epoch in epochs.iter().filter(|epoch| epoch.records > 0) {
        let missing = |what| VerifyError::Versions { position: epoch.from, what };
        // Every version that decided must be there, said at once and with its place.
        if checked.insert((epoch.numbers.model, epoch.numbers.config)) {
            load(data_dir, epoch.numbers, names, None).map_err(missing)?;
        }
        let found = match plans.entry(epoch.numbers.rules) {
            Entry::Occupied(found) => *found.into_mut(),
            Entry::Vacant(vacant) => {
                let rules = kept(data_dir, Versioned::Rules, epoch.numbers.rules, names).map_err(missing)?;
                let rules =
                    setup_of(&rules, None, &Config::default()).map_err(|error| missing(error.to_string()))?;
                *vacant.insert(rules.plan.fingerprint())
            }
        };
        if plan != Some(found) {
            plan = Some(found);
            stretches.push(Stretch { from: epoch.from, numbers: epoch.numbers });
        }
    }
    Ok(stretches)
}

/// What decided under each set of versions, loaded when a record names it.
struct Setups<'a> {
    data_dir: &'a Path,
    names: &'a Names,
    loaded: HashMap<VersionNumbers, Setup>,
    /// By number: many rules decide beside one model.
    models: HashMap<u32, Option<Arc<Model>>>,
}

impl Setups<'_> {
    fn of(&mut self, numbers: VersionNumbers) -> Result<&mut Setup, String> {
        match self.loaded.entry(numbers) {
            Entry::Occupied(found) => Ok(found.into_mut()),
            Entry::Vacant(vacant) => {
                let model = self.models.get(&numbers.model).cloned();
                let setup = load(self.data_dir, numbers, self.names, model)?;
                self.models.insert(numbers.model, setup.model.clone());
                Ok(vacant.insert(setup))
            }
        }
    }
}

/// Settings for a state that decides what was decided: no capacity is in the way.
pub(super) fn unbounded() -> Config {
    let mut config = Config::default();
    config.answers.capacity = u64::MAX;
    config
}

/// Walks the log once for its versions, and counts their introductions.
fn epochs(data_dir: &Path, names: &Names) -> Result<(journal::VerifyReport, Vec<Epoch>, u64), VerifyError> {
    let mut numbers = VersionNumbers::default();
    let mut epochs: Vec<Epoch> = Vec::new();
    let mut introductions = 0;
    let chain = journal::verify(&journal_dir(data_dir), &mut |frame| {
        let record =
            Record::decode(frame.payload, frame.position, names).map_err(|error| error.to_string())?;
        let Record::Introduced(introduced) = record else {
            if let Some(epoch) = epochs.last_mut() {
                epoch.records += 1;
            }
            return Ok(());
        };
        match introduced.what {
            Versioned::Rules => numbers.rules = introduced.number,
            Versioned::Model => numbers.model = introduced.number,
            Versioned::Config => numbers.config = introduced.number,
        }
        names.introduce(&introduced);
        introductions += 1;
        // The introductions of one start follow each other: the epoch begins behind the last of them.
        let next = Epoch { from: frame.position + 1, numbers, records: 0 };
        match epochs.last_mut().filter(|epoch| epoch.from == frame.position) {
            Some(epoch) => *epoch = next,
            None => epochs.push(next),
        }
        Ok(())
    })?;
    Ok((chain, epochs, introductions))
}

/// The text of a version that decided; empty where there was none.
fn kept(data_dir: &Path, what: Versioned, number: u32, names: &Names) -> Result<Source, String> {
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
}

impl Sink for Scratch<'_> {
    fn take_sequence(&mut self) -> u64 {
        self.position
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        self.bytes
    }

    fn publish(self) {}
}

/// Makes a record again.
fn again(
    state: &State,
    setup: &mut Setup,
    lists: &mut ListHistory,
    position: u64,
    record: &Record,
) -> Result<Vec<u8>, String> {
    let seen = match record {
        Record::Decided(decided) => lists.made_at(decided.lists)?,
        _ => lists.newest(),
    };
    if setup.lists.version() != seen.version() {
        setup.lists = setup.rules.lists_in_force(Arc::clone(seen));
    }
    let put = |made: Lists| lists.put(made);
    let mut bytes = Vec::new();
    let sink = Scratch { position, bytes: &mut bytes };
    match record {
        Record::Introduced(_) | Record::Duplicated(_) => record.encode(&mut bytes),
        Record::Decided(decided) => decide(state, setup, decided, sink)?,
        Record::Reversed(reversed) => reverse_again(state, reversed, sink)?,
        Record::Maintained(maintained) => maintain_again(state, maintained, sink)?,
        Record::Voided(voided) => void_again(state, voided, sink)?,
        Record::Expiry(expiry) => expire_again(state, expiry, sink)?,
        Record::Listed(listed) => list_again(state, setup, listed, sink, put)?,
        Record::Labelled(labelled) => label_again(state, setup, labelled, sink, put)?,
    }
    Ok(bytes)
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
    };
    listing::label(setup, labelled.labelling.clone(), transaction, asked, own, sink, put);
    Ok(())
}

fn decide(state: &State, setup: &Setup, decided: &Decided, sink: Scratch<'_>) -> Result<(), String> {
    let account = decided.account.and_then(|account| state.store.find(&Subject::Account(account)));
    let original = decided.original.zip(account).map(|(position, account)| Remembered {
        what: What::Authorisation,
        position,
        account,
    });
    let asked = Asked { client: decided.client, now: decided.time, original };
    match authorise::authorise(state, setup, &decided.request, asked, sink, &mut ()) {
        Taken::Decided(..) => Ok(()),
        Taken::Known(found) => Err(format!("its key stands already for position {}", found.position)),
        Taken::Busy | Taken::Older | Taken::Again | Taken::Full | Taken::TooManyHolds => {
            Err("it could not be decided".into())
        }
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

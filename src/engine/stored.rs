//! Answers read back from the journal: repeats, and decisions that somebody asks about.

use std::sync::Arc;

use super::{Client, Engine, Lane, Patience, versions};
use crate::{
    authorise::answers::{Claimed, KeyHash, Remembered, Stands, What},
    features::catalog,
    journal::record::{
        Decided, Labelled, Maintained, Record, Reversed, VersionNames, VersionNumbers, Versioned,
    },
    rules::{self, RuleSet},
    types::{
        auth::{AuthAnswer, AuthRequest, Degraded},
        base::BaseCurrency,
        challenge::Challenged,
        codes::{Decision, ResponseCode},
        fault::Fault,
        ids::{AccountId, RequestKey},
        lists::Labelling,
        outcome::{Maintenance, Outcome, Reversal},
        reasons::{Label, Reasons, engine as reason},
        time::Timestamp,
    },
};

/// Rules that no longer decide, compiled because somebody asked about their decisions; so many are kept.
const FORMER_RULES_MAX: usize = 32;

/// What names a decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecisionKey {
    Key(RequestKey),
    Position(u64),
}

/// A decision as the journal has it.
#[derive(Clone, PartialEq, Debug)]
pub struct DecisionRecord {
    pub request: AuthRequest,
    pub answer: AuthAnswer,
    /// Absent where card or account was unknown.
    pub account: Option<AccountId>,
    /// Ids of the rules that fired, live and shadow, in file order.
    pub rules_fired: Vec<String>,
    pub shadow_rules_fired: Vec<String>,
    /// The model's features and the aggregates, with their values where they had one; money in major units.
    pub features: Vec<(String, Option<f64>)>,
    /// Its deadline passed after it was queued, and what it held is free again.
    pub voided: bool,
    /// The position of the record that made the lists which the rules saw; 0 where none had.
    pub lists: u64,
    /// What was said of the transaction since, the newest first.
    pub labels: Vec<Labelled>,
    /// What a challenger made of it, and its version.
    pub challenged: Option<(Label, Challenged)>,
}

/// A reversal, a change or a label with its outcome.
pub enum StoredOutcome {
    Reversed(Box<Reversed>),
    Maintained(Box<Maintained>),
    Labelled(Box<Labelled>),
}

impl StoredOutcome {
    pub(super) fn new(record: Record) -> Option<StoredOutcome> {
        match record {
            Record::Reversed(reversed) => Some(StoredOutcome::Reversed(reversed)),
            Record::Maintained(maintained) => Some(StoredOutcome::Maintained(maintained)),
            Record::Labelled(labelled) => Some(StoredOutcome::Labelled(labelled)),
            _ => None,
        }
    }

    pub(super) fn is_reversal(&self, reversal: &Reversal) -> bool {
        matches!(self, StoredOutcome::Reversed(stored) if stored.reversal == *reversal)
    }

    pub(super) fn is_change(&self, change: &Maintenance) -> bool {
        matches!(self, StoredOutcome::Maintained(stored) if stored.change == *change)
    }

    pub(super) fn is_labelling(&self, labelling: &Labelling) -> bool {
        matches!(self, StoredOutcome::Labelled(stored) if stored.labelling == *labelling)
    }

    pub(super) fn outcome(self) -> Outcome {
        match self {
            StoredOutcome::Reversed(stored) => stored.outcome,
            StoredOutcome::Maintained(stored) => stored.outcome,
            StoredOutcome::Labelled(stored) => stored.outcome,
        }
    }
}

/// The answer to a key that was used before with another body.
pub(super) fn duplicate_answer(
    names: &dyn VersionNames,
    now: Timestamp,
    position: u64,
    numbers: &VersionNumbers,
) -> AuthAnswer {
    AuthAnswer {
        decision: Decision::Declined,
        response_code: ResponseCode::DUPLICATE,
        advice_code: None,
        approved: None,
        available: None,
        reasons: std::iter::once(reason::DUPLICATE_KEY).collect(),
        score: 0,
        margin: None,
        rules_version: names.name(Versioned::Rules, numbers.rules),
        model_version: names.name(Versioned::Model, numbers.model),
        degraded: Degraded::NONE,
        decided_at: now,
        hold_expires_at: None,
        position,
    }
}

/// The same for the calls that are answered by an [`Outcome`].
pub(super) fn duplicate_outcome(position: u64) -> Outcome {
    let mut reasons = Reasons::new();
    reasons.push(reason::DUPLICATE_KEY);
    Outcome {
        response_code: ResponseCode::DUPLICATE,
        moved: None,
        available: None,
        reasons,
        position,
        upserted: None,
    }
}

impl Engine {
    /// The record at a position, once it is durable.
    pub(super) async fn stored(self: &Arc<Self>, position: u64, lane: &Arc<Lane>) -> Result<Record, Fault> {
        self.stored_where_any(position, lane).await?.ok_or(Fault::Internal)
    }

    async fn stored_where_any(
        self: &Arc<Self>,
        position: u64,
        lane: &Arc<Lane>,
    ) -> Result<Option<Record>, Fault> {
        self.on_disk(position, lane).await?;
        let engine = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let payload = engine.journal.read(position).map_err(|error| error.to_string())?;
            let Some(payload) = payload else { return Ok(None) };
            Record::decode(&payload, position, &*engine.names).map(Some).map_err(|error| error.to_string())
        });
        read.await.map_err(|_| Fault::Internal)?.map_err(|error| {
            tracing::error!(position, error, "a record of the journal cannot be read back");
            Fault::Unavailable(super::RECORD_UNREADABLE)
        })
    }

    /// The decision that a record stands for, and whether it was voided.
    pub(super) async fn stored_decision(
        self: &Arc<Self>,
        record: Record,
        lane: &Arc<Lane>,
    ) -> Result<Option<(Box<Decided>, bool)>, Fault> {
        match record {
            Record::Decided(decided) => Ok(Some((decided, false))),
            Record::Voided(voided) => match self.stored(voided.of, lane).await? {
                Record::Decided(decided) => Ok(Some((decided, true))),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// A decision by its key or its position, with what it was made from.
    ///
    /// # Errors
    /// [`Fault::NotFound`] where there is no such decision.
    pub async fn decision(
        self: &Arc<Self>,
        client: Client,
        key: DecisionKey,
        lane: &Arc<Lane>,
    ) -> Result<DecisionRecord, Fault> {
        const NO_DECISION: Fault = Fault::NotFound { what: "decision" };
        let position = match key {
            DecisionKey::Position(position) if position > self.journal.durable() => return Err(NO_DECISION),
            DecisionKey::Position(position) => position,
            DecisionKey::Key(key) => {
                let hash = self.state.answers.hash(client.0, &key);
                self.remembered(hash).await?.ok_or(NO_DECISION)?.position
            }
        };
        let record = self.stored_where_any(position, lane).await?.ok_or(NO_DECISION)?;
        if let Record::Duplicated(duplicated) = record {
            return Ok(DecisionRecord {
                answer: duplicate_answer(&*self.names, duplicated.time, position, &duplicated.versions),
                request: duplicated.request,
                account: None,
                rules_fired: Vec::new(),
                shadow_rules_fired: Vec::new(),
                features: Vec::new(),
                voided: false,
                lists: 0,
                labels: Vec::new(),
                challenged: None,
            });
        }
        let (decided, mut voided) = self.stored_decision(record, lane).await?.ok_or(NO_DECISION)?;
        if !voided {
            let hash = self.state.answers.hash(decided.client, &decided.request.key);
            let stands = self.remembered(hash).await?;
            if let Some(found) = stands.filter(|found| found.what == What::Voided) {
                // What is shown is never ahead of the disk.
                self.on_disk(found.position, lane).await?;
                voided = true;
            }
        }
        let rules = self.rules_of(decided.versions.rules).await?;
        let labels = self.labels_of(decided.answer.position, lane).await?;
        let base = &self.config.base_currency.0;
        let named =
            |challenged: Challenged| (self.names.name(Versioned::Challenger, challenged.number), challenged);
        let challenged = decided.challenged.map(named);
        Ok(DecisionRecord { labels, challenged, ..explained(*decided, rules.as_deref(), base, voided) })
    }

    /// What stands under a key, in memory or in a key file; from there it is brought back into memory.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] where that cannot be told.
    pub(super) async fn remembered(self: &Arc<Self>, key: KeyHash) -> Result<Option<Remembered>, Fault> {
        let mut patience = Patience::default();
        loop {
            match self.state.answers.lookup(key) {
                Stands::Known(found) => return Ok(Some(found)),
                Stands::Nothing => return Ok(None),
                Stands::InFlight => patience.wait().await,
                Stands::PerhapsOlder => match self.claim_anywhere(key).await? {
                    Claimed::Known(found) | Claimed::ReversedBefore(_, found) => return Ok(Some(found)),
                    Claimed::Fresh(_) | Claimed::Full => return Ok(None),
                    Claimed::Busy | Claimed::Older(_) => patience.wait().await,
                },
            }
        }
    }

    /// The rules of a version that decided: those in force, or the kept text compiled again.
    async fn rules_of(self: &Arc<Self>, number: u32) -> Result<Option<Arc<RuleSet>>, Fault> {
        let in_force = self.in_force.load_full();
        if in_force.setup.numbers.rules == number {
            return Ok(Some(in_force.setup.rules.clone()));
        }
        if let Some(rules) = self.former_rules.lock().get(&number) {
            return Ok(Some(rules.clone()));
        }
        let Some(version) = self.names.version(Versioned::Rules, number) else { return Ok(None) };
        let engine = self.clone();
        let compiled = tokio::task::spawn_blocking(move || {
            let text = versions::read(&engine.data_dir, Versioned::Rules, &version).ok()?;
            rules::compile_kept(&version, &text).ok().map(Arc::new)
        });
        let rules = compiled.await.map_err(|_| Fault::Internal)?;
        if let Some(rules) = &rules {
            let mut former = self.former_rules.lock();
            if former.len() >= FORMER_RULES_MAX {
                former.clear();
            }
            former.insert(number, rules.clone());
        }
        Ok(rules)
    }
}

fn explained(decided: Decided, rules: Option<&RuleSet>, base: &BaseCurrency, voided: bool) -> DecisionRecord {
    let id = |place: &u16| match rules.and_then(|rules| rules.rules.get(usize::from(*place))) {
        Some(rule) => rule.id.to_string(),
        None => format!("rule {place}"),
    };
    let considered = &decided.considered;
    let model = considered.vector.iter().enumerate().map(|(place, value)| {
        let value = Some(f64::from(*value)).filter(|value| value.is_finite());
        (catalog::model_feature(place).name.to_owned(), value)
    });
    let currency = decided.answer.approved.map(|approved| approved.currency);
    let aggregates = considered.aggregates.iter().enumerate().map(|(place, value)| {
        let declared = rules.and_then(|rules| rules.aggregates.get(place));
        let name =
            declared.map_or_else(|| format!("aggregate {place}"), |aggregate| aggregate.name.to_string());
        let unit = match (declared, currency) {
            (Some(aggregate), _) if !aggregate.measure.is_money() => 1,
            (Some(aggregate), _) if aggregate.is_shared() => base.currency.minor_per_major(),
            (Some(_), Some(currency)) => currency.minor_per_major(),
            _ => 1,
        };
        (name, value.map(|value| value as f64 / unit as f64))
    });
    DecisionRecord {
        rules_fired: considered.fired.iter().map(id).collect(),
        shadow_rules_fired: considered.shadow_fired.iter().map(id).collect(),
        features: model.chain(aggregates).collect(),
        request: decided.request,
        answer: decided.answer,
        account: decided.account,
        voided,
        lists: decided.lists,
        labels: Vec::new(),
        challenged: None,
    }
}

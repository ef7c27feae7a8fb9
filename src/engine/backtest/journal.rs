//! History from the engine's own journal: what was asked, in the order and at the times of the journal, decided anew.
//!
//! Accounts open and change, holds are reversed, voided and expire as the records say; what those free depends on what
//! was approved here. Records keep their positions, so that a reversal finds its authorisation where it stood.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use super::{Backtest, Noting, Replayed};
use crate::{
    authorise::{self, Watch, entry::Entry, restore::Effect},
    config::Config,
    engine::{
        recover::{OpenError, Source, journal_dir, setup_of},
        replay::{VerifyError, With, epochs, kept, make_again},
        stored::duplicate_answer,
        versions::Names,
    },
    features::{
        catalog::{MODEL_FEATURES, MODEL_FEATURES_FIRST},
        shared::SharedRead,
    },
    journal::{
        self, VerifyReport,
        record::{Decided, NO_CARD, Record, Versioned},
    },
    types::{
        auth::{AuthAnswer, Subject},
        lists::FraudLabel,
        time::Timestamp,
    },
};

/// The journal of a data directory, in use or not; one in use as far as it was on disk when it was opened.
pub struct PastJournal {
    data_dir: PathBuf,
    names: Names,
    chain: VerifyReport,
    records: u64,
    /// The labels of each transaction that has any and when they came, in the order of the journal, by the position of
    /// its authorisation.
    labels: HashMap<u64, Vec<(Timestamp, FraudLabel)>>,
    last_time: Timestamp,
}

impl PastJournal {
    /// Reads the journal once, with every check that `journal verify` makes of its chain.
    ///
    /// # Errors
    /// Where the chain is broken or a record cannot be read.
    pub fn open(data_dir: &Path) -> Result<PastJournal, VerifyError> {
        let names = Names::default();
        let mut labels: HashMap<u64, Vec<(Timestamp, FraudLabel)>> = HashMap::new();
        let mut last_time = Timestamp(i64::MIN);
        let (chain, epochs, _) = epochs(data_dir, &names, &mut |record| match record {
            Record::Labelled(labelled) => {
                last_time = last_time.max(labelled.time);
                labels.entry(labelled.of).or_default().push((labelled.time, labelled.labelling.label));
            }
            Record::Decided(decided) => last_time = last_time.max(decided.time),
            _ => {}
        })?;
        let records = epochs.iter().map(|epoch| epoch.records).sum();
        Ok(PastJournal { data_dir: data_dir.to_owned(), names, chain, records, labels, last_time })
    }

    /// What its log holds.
    pub fn chain(&self) -> &VerifyReport {
        &self.chain
    }

    /// Records but for introductions of versions.
    pub fn records(&self) -> u64 {
        self.records
    }

    pub fn last_position(&self) -> u64 {
        self.chain.summary.last_position.unwrap_or(0)
    }

    /// What the transaction that was authorised at this position was found to be, by the newest label that the journal
    /// has of it; `None` where it has none.
    pub fn label_of(&self, position: u64) -> Option<FraudLabel> {
        self.label_by(position, Timestamp(i64::MAX)).map(|(_, label)| label)
    }

    /// The same of the labels that had come by a time, with when the newest of them came.
    pub fn label_by(&self, position: u64, until: Timestamp) -> Option<(Timestamp, FraudLabel)> {
        self.labels.get(&position)?.iter().rfind(|(came, _)| *came <= until).copied()
    }

    /// Whether anything was ever labelled.
    pub fn has_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// The time of the last decision or label.
    pub fn last_time(&self) -> Timestamp {
        self.last_time
    }

    /// The rules that the journal named last.
    ///
    /// # Errors
    /// In words, where it names none or their text was not kept.
    pub fn rules(&self) -> Result<Source, String> {
        self.newest(Versioned::Rules)
    }

    /// The model that the journal named last; `None` where none served.
    ///
    /// # Errors
    /// In words, where its text was not kept.
    pub fn model(&self) -> Result<Option<Source>, String> {
        self.newest(Versioned::Model).map(|model| Some(model).filter(|model| !model.text.is_empty()))
    }

    /// The model of a number that records name; `None` where none served.
    ///
    /// # Errors
    /// In words, where its text was not kept.
    pub fn model_of(&self, number: u32) -> Result<Option<Source>, String> {
        let model = kept(&self.data_dir, Versioned::Model, number, &self.names)?;
        Ok(Some(model).filter(|model| !model.text.is_empty()))
    }

    /// The number of the settings that the journal named last, under which it is decided anew; 0 where it names none.
    pub fn config_number(&self) -> u32 {
        self.names.newest(Versioned::Config).map_or(0, |(number, _)| number)
    }

    fn newest(&self, what: Versioned) -> Result<Source, String> {
        let newest = self.names.newest(what);
        let (number, version) = newest.ok_or("the journal has no decision: nothing ever decided")?;
        let kept = kept(&self.data_dir, what, number, &self.names)?;
        let word = match what {
            Versioned::Rules => "rules",
            Versioned::Model => "model",
            Versioned::Config => "settings",
            Versioned::Challenger => "challenger",
        };
        Ok(Source { name: format!("{word} {version} of the journal"), ..kept })
    }

    /// An engine without accounts, with the settings that the journal named last.
    ///
    /// # Errors
    /// Where the settings were not kept, or the rules or the model are wrong.
    pub fn backtest(&self, rules: &Source, model: Option<&Source>) -> Result<Backtest, ReplayError> {
        let text = self.newest(Versioned::Config).map_err(ReplayError::Versions)?;
        let config = Config::parse(&text.name, &text.text);
        let config = config.map_err(|error| ReplayError::Versions(error.to_string()))?;
        let setup = setup_of(rules, model, &config)?;
        let kept = Config { windows: config.windows, ..super::unbounded() };
        Ok(Backtest::with(setup, &kept))
    }

    /// Gives every record in order until it is told to stop.
    ///
    /// # Errors
    /// Where the log cannot be read any more, or what `on_record` refused.
    pub fn replay(&self, on_record: &mut OnRecord<'_>) -> Result<(), VerifyError> {
        let (last, mut is_over) = (self.last_position(), false);
        journal::verify(&journal_dir(&self.data_dir), &mut |frame| {
            // A directory in use has grown since.
            if is_over || frame.position > last {
                return Ok(());
            }
            let record = Record::decode(frame.payload, frame.position, &self.names);
            let record = record.map_err(|error| error.to_string())?;
            is_over = on_record(frame.position, &record)?.is_break();
            Ok(())
        })?;
        Ok(())
    }
}

/// Takes a record and its position, and says whether more are wanted.
pub type OnRecord<'a> = dyn FnMut(u64, &Record) -> Result<ControlFlow<()>, String> + 'a;

/// Why a journal cannot be decided anew.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{0}")]
    Versions(String),
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// What a record of a journal came to.
pub enum Redone {
    /// A request, and what is answered to it here.
    Answered(Box<AuthAnswer>, Replayed),
    /// What is no request: an opening, a change, a reversal, a void, holds that expired.
    Applied,
    /// It says nothing of accounts.
    Nothing,
}

impl Backtest {
    /// Decides a record of a journal anew where it is a request, and does again what it did where it is none. Where
    /// `observe`, the recorded decision is put in force instead of the new one.
    ///
    /// # Errors
    /// In words, where accounts and keys do not stand as the record needs them; nothing changed then.
    pub fn redo(
        &mut self,
        position: u64,
        record: &Record,
        observe: bool,
        watch: &mut impl Watch,
    ) -> Result<Redone, String> {
        self.retention.note(position, record);
        self.position = position;
        self.record.clear();
        if matches!(record, Record::Listed(_) | Record::Labelled(_)) {
            // What they did to lists stands, whatever these rules would make of it.
            self.lists.note(position, record);
            let effect = Effect::of(&self.state.answers, position, record.clone());
            effect.restore(&self.state, &self.setup.plan);
            if let Record::Labelled(labelled) = record {
                let labelled = authorise::labelled_event_of(position, labelled, &self.setup.base);
                self.waiting.extend(labelled.map(|event| (position, event)));
            }
            return Ok(Redone::Applied);
        }
        self.setup.see(self.lists.seen_by(record)?);
        let before = match record {
            Record::Decided(decided) if observe => self.entry_of(decided),
            _ => None,
        };
        let at = (position, record);
        let shared = match record {
            Record::Decided(decided) => self.shared_of(decided),
            _ => SharedRead::default(),
        };
        let mut watch = Noting { watch, base: &self.setup.base, event: None, on: (None, NO_CARD) };
        let with = Some(With { setup: &self.setup, shared: &shared, features: MODEL_FEATURES });
        let (put, retention) = (&mut |_| {}, &mut self.retention);
        let answer = make_again(&self.state, with, put, retention, at, &mut self.record, &mut watch)?;
        let mut event = watch.event;
        match (record, answer) {
            (Record::Decided(decided), Some(answer)) => {
                if observe {
                    event = authorise::shared_event_of(position, decided, &self.setup.base);
                }
                self.waiting.extend(event.map(|event| (position, event)));
                if let Some((at, before)) = before {
                    let recorded = Record::Decided(decided.clone());
                    let effect = Effect::of(&self.state.answers, position, recorded);
                    self.state.store.with_account(at, |entry| {
                        *entry = before;
                        effect.apply(entry, &self.setup.plan);
                    });
                }
                Ok(Redone::Answered(Box::new(answer), Replayed::Decided))
            }
            (Record::Duplicated(duplicated), _) => {
                let answer = self.duplicate(duplicated.time, position);
                Ok(Redone::Answered(Box::new(answer), Replayed::Duplicate))
            }
            (Record::Introduced(_), _) => Ok(Redone::Nothing),
            _ => Ok(Redone::Applied),
        }
    }

    /// What windows across accounts hold at the position up to which the recorded decision had them.
    fn shared_of(&mut self, decided: &Decided) -> SharedRead {
        let plan = &self.setup.shared;
        let considered = &decided.considered;
        let is_of_these_rules = decided.answer.rules_version == self.setup.rules_version;
        // An earlier program read no windows across accounts where its rules asked for none, and recorded a 0. That says
        // nothing of what they would have held: whoever asks now, as other rules and newer models do, is answered with all
        // that was before. A program that knows more features than the first ones always reads some, and means its 0; so
        // does one of these very rules where they ask, and what it read is in the record.
        let has_read = considered.shared_to > 0
            || considered.features > MODEL_FEATURES_FIRST
            || (is_of_these_rules && !plan.places().is_empty());
        let to = if has_read { considered.shared_to } else { decided.answer.position.saturating_sub(1) };
        while let Some((position, event)) = self.waiting.pop_front_if(|(position, _)| *position <= to) {
            self.shared.apply(plan, position, Some(&event));
        }
        // Two that decided at one time may have read in the other order than they were recorded.
        let is_behind = self.shared.complete_to() > to;
        if is_behind && is_of_these_rules {
            let decided_by = self.setup.rules.aggregates_read_by(&considered.fired);
            return SharedRead::again(to, plan, &considered.aggregates, &considered.vector, decided_by);
        }
        let parts = authorise::parts_on(&decided.request, (decided.account.as_ref(), decided.card));
        SharedRead { to, ..SharedRead::of(&self.shared, plan, &parts, decided.time) }
    }

    /// The account of a recorded decision as it stands.
    fn entry_of(&self, decided: &Decided) -> Option<(u32, Entry)> {
        let at = self.state.store.find(&Subject::Account(decided.account?))?;
        Some((at, self.state.store.with_account(at, |entry| entry.clone())))
    }

    pub(super) fn duplicate(&self, now: Timestamp, position: u64) -> AuthAnswer {
        duplicate_answer(&self.names, now, position, &self.setup.numbers)
    }
}

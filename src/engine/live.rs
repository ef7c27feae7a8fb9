//! What decides, and how it is replaced while decisions go on: a whole rules file, or nothing.
//!
//! A version is kept on disk first, then introduced in the journal, and only then in force, so that no record names a
//! version that is not there. A decision that began under the version before ends under it: each names exactly one.

use std::{io, path::PathBuf, sync::Arc};

use super::{Engine, RETRY, Source, versions};
use crate::{
    authorise::setup::Setup,
    features::Plan,
    journal::{
        Class, ReserveError,
        record::{Introduced, VersionNumbers, Versioned},
    },
    observe::{ListCounts, LoadedRule, Metrics, RuleCounts, RulesRead},
    rules::{self, Finding, Lists, RuleSet},
    types::reasons::Label,
};

/// What decisions are made with at this moment, and where its rules' hits are counted.
pub(super) struct InForce {
    pub(super) setup: Setup,
    pub(super) rule_counts: RuleCounts,
}

impl InForce {
    /// Rules whose hits are counted from now on.
    pub(super) fn new(setup: Setup, metrics: &Metrics) -> InForce {
        let counted = setup.rules.rules.iter().map(|rule| LoadedRule {
            id: &rule.id,
            mode: rule.mode.name(),
            reason: &rule.reason,
            group: &rule.group,
        });
        let rule_counts = metrics.rules_loaded(&setup.rules_version, &counted.collect::<Vec<_>>());
        InForce { setup, rule_counts }
    }

    /// How long the lists are that the rules declare.
    pub(super) fn lists(&self) -> Vec<ListCounts> {
        let lists = self.setup.rules.lists.iter().map(|list| {
            let changes = self.setup.lists.lists().of(&list.name, list.kind);
            ListCounts {
                list: list.name.to_string(),
                in_file: list.file.len() as u64,
                added: changes.map_or(0, |changes| changes.added() as u64),
                taken_out: changes.map_or(0, |changes| changes.taken_out() as u64),
            }
        });
        lists.collect()
    }

    /// Lists that calls have changed and the rules do not declare, or declare with other values.
    pub(super) fn lists_aside(&self) -> u64 {
        let rules = &self.setup.rules;
        let declared = |name: &str, kind| rules.list(name).is_some_and(|list| list.kind == kind);
        self.setup.lists.lists().all().filter(|(name, kind, _)| !declared(name, *kind)).count() as u64
    }

    /// The same rules with other lists.
    pub(super) fn with_lists(&self, lists: Lists) -> InForce {
        InForce { setup: self.setup.with_lists(Arc::new(lists)), rule_counts: self.rule_counts.clone() }
    }
}

/// Rules that were put in force.
#[derive(Clone, Debug)]
pub struct Reloaded {
    pub version: Label,
    /// The record that introduces them: once it is durable, a restart knows of them.
    pub position: u64,
    /// False where these very rules decided already.
    pub changed: bool,
    /// What is doubtful about them, but no error.
    pub warnings: Vec<Finding>,
}

/// Why the rules before go on deciding.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("the rules are wrong:\n{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Rules(Vec<Finding>),
    /// Their windows would have to be filled, which a start does.
    #[error(
        "the aggregates differ from those in force, and only a start fills the windows of new ones: start again with \
         this file, or leave the aggregates as they are"
    )]
    OtherAggregates,
    #[error("{path} cannot be read: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("the new version cannot be kept: {0}")]
    Keep(io::Error),
    #[error("the journal takes no record: {0}")]
    Journal(ReserveError),
}

impl Engine {
    /// The rules that decide at this moment.
    pub fn rules(&self) -> Arc<RuleSet> {
        Arc::clone(&self.in_force.load().setup.rules)
    }

    /// The version of the model that scores; empty without one.
    pub fn model_version(&self) -> Label {
        self.in_force.load().setup.model_version.clone()
    }

    /// The text of a version that decides or ever did; `None` where there was none of that name.
    ///
    /// # Errors
    /// In words, where its file is missing or no longer what it was.
    pub fn rules_text(&self, version: &str) -> Result<Option<String>, String> {
        let rules = self.rules();
        if *rules.version == *version {
            return Ok(Some(rules.source.to_string()));
        }
        match self.names.number(Versioned::Rules, version) {
            None => Ok(None),
            Some(_) => versions::read(&self.data_dir, Versioned::Rules, version).map(Some),
        }
    }

    /// Puts a whole rules file in force, or changes nothing. Waits for the disk, and so is not for a runtime's thread.
    ///
    /// # Errors
    /// [`ReloadError`]; the rules before go on deciding.
    pub fn reload_rules(&self, source: Source) -> Result<Reloaded, ReloadError> {
        self.reload_rules_read(|| Ok(source))
    }

    /// As [`Engine::reload_rules`], with rules that are read once no other reload is under way: what was read later is
    /// never put in force before what was read earlier.
    ///
    /// # Errors
    /// [`ReloadError`]; the rules before go on deciding.
    pub fn reload_rules_read(
        &self,
        read: impl FnOnce() -> Result<Source, ReloadError>,
    ) -> Result<Reloaded, ReloadError> {
        let one_at_a_time = self.reloading.lock();
        let (from, reloaded) = match read() {
            Ok(source) => (source.name.clone(), self.try_reload_rules(&source)),
            Err(error) => (String::new(), Err(error)),
        };
        drop(one_at_a_time);
        self.metrics.rules_read(match &reloaded {
            Ok(Reloaded { changed: true, .. }) => RulesRead::Loaded,
            Ok(Reloaded { changed: false, .. }) => RulesRead::Unchanged,
            Err(ReloadError::Rules(_) | ReloadError::OtherAggregates) => RulesRead::Refused,
            Err(ReloadError::Unreadable { .. } | ReloadError::Keep(_) | ReloadError::Journal(_)) => {
                RulesRead::Failed
            }
        });
        match &reloaded {
            Ok(Reloaded { version, changed: true, .. }) => {
                tracing::info!(from, %version, "the rules were read anew and decide from now on");
            }
            Ok(Reloaded { version, changed: false, .. }) => {
                tracing::info!(from, %version, "the rules were read anew and decide already");
            }
            Err(error) => {
                tracing::error!(from, %error, "the rules were not taken: those before go on deciding")
            }
        }
        reloaded
    }

    fn try_reload_rules(&self, source: &Source) -> Result<Reloaded, ReloadError> {
        let rules = rules::compile(&source.name, &source.text).map_err(ReloadError::Rules)?;
        let before = self.in_force.load_full();
        if rules.version == before.setup.rules.version {
            return Ok(Reloaded {
                version: before.setup.rules_version.clone(),
                // They may have been introduced a moment ago.
                position: self.journal.taken(),
                changed: false,
                warnings: rules.warnings.clone(),
            });
        }
        let plan = Plan::new(&rules.aggregates);
        if plan.fingerprint() != before.setup.plan.fingerprint() {
            return Err(ReloadError::OtherAggregates);
        }
        versions::keep(&self.data_dir, Versioned::Rules, &rules.version, &rules.source)
            .map_err(ReloadError::Keep)?;
        let known = self.names.number(Versioned::Rules, &rules.version);
        let introduced = Introduced {
            time: self.now(),
            what: Versioned::Rules,
            number: known.unwrap_or_else(|| self.names.newest_number(Versioned::Rules) + 1),
            version: rules.version.to_string(),
        };
        let mut slot = loop {
            match self.journal.reserve(Class::Essential) {
                Ok(slot) => break slot,
                Err(ReserveError::Full) => std::thread::sleep(RETRY),
                Err(error) => return Err(ReloadError::Journal(error)),
            }
        };
        // Named before it is published: a snapshot that begins behind the introduction must know the name.
        self.names.introduce(&introduced);
        let position = slot.take_sequence();
        introduced.encode(slot.buffer());
        slot.publish();
        let Setup { model, holds, model_version, numbers, .. } = &before.setup;
        let reloaded = Reloaded {
            version: Label::new(&rules.version),
            position,
            changed: true,
            warnings: rules.warnings.clone(),
        };
        let setup = Setup {
            plan,
            rules_version: reloaded.version.clone(),
            lists: rules.lists_in_force(Arc::clone(before.setup.lists.lists())),
            rules: Arc::new(rules),
            model: model.clone(),
            model_version: model_version.clone(),
            holds: holds.clone(),
            numbers: VersionNumbers { rules: introduced.number, ..*numbers },
        };
        self.in_force.store(Arc::new(InForce::new(setup, &self.metrics)));
        Ok(reloaded)
    }
}

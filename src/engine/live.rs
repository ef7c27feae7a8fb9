//! What decides, and how it is replaced while decisions go on: a whole rules file, a whole model, or nothing.
//!
//! A version is kept on disk first, then introduced in the journal, and only then in force, so that no record names a
//! version that is not there. A decision that began under the version before ends under it: each names exactly one.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Engine, RETRY, Source,
    shared::{self, SharedWindows},
    versions,
};
use crate::{
    authorise::setup::Setup,
    features::{Plan, shared::SharedPlan},
    journal::{
        Class, ReadError, ReserveError,
        record::{Introduced, VersionNumbers, Versioned},
    },
    model::ModelError,
    observe::{DriftCounts, ListCounts, LoadedRule, Metrics, ReadAnew, RuleCounts},
    rules::{self, Finding, Lists, Mode, ModeSet, RuleSet, did_you_mean},
    types::{
        auth::Degraded,
        reasons::Label,
        time::{SECOND_MS, Timestamp},
    },
};

/// What decisions are made with at this moment, and where its rules' hits are counted.
pub(super) struct InForce {
    pub(super) setup: Setup,
    /// The windows across accounts that the rules ask for.
    pub(super) shared: Arc<SharedWindows>,
    pub(super) rule_counts: RuleCounts,
    /// Where the model's rows are counted, if its file says what those of its training were like.
    pub(super) drift: Option<DriftCounts>,
    /// Whether a decision had to do without the model.
    without_model: Arc<AtomicBool>,
}

impl InForce {
    /// Rules whose hits are counted from now on.
    pub(super) fn new(setup: Setup, shared: Arc<SharedWindows>, metrics: &Metrics) -> InForce {
        let counted = setup.rules.rules.iter().enumerate().map(|(place, rule)| LoadedRule {
            id: &rule.id,
            may_run_in_shadow: setup.rules.may_run_in_shadow(place),
            response_code: rule.response_code,
            mode: rule.mode.name(),
            reason: &rule.reason,
            group: &rule.group,
            cost_ns: rule.cost_ns,
        });
        let rule_counts = metrics.rules_loaded(&setup.rules_version, &counted.collect::<Vec<_>>());
        let drift = model_loaded(&setup, metrics);
        InForce { setup, shared, rule_counts, drift, without_model: Arc::default() }
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
        self.with_setup(self.setup.with_lists(Arc::new(lists)))
    }

    /// The same rules beside what else this setup has.
    pub(super) fn with_setup(&self, setup: Setup) -> InForce {
        let (shared, rule_counts) = (Arc::clone(&self.shared), self.rule_counts.clone());
        let (drift, without_model) = (self.drift.clone(), Arc::clone(&self.without_model));
        InForce { setup, shared, rule_counts, drift, without_model }
    }

    /// The same rules beside other models, which have yet to fail.
    pub(super) fn with_models(&self, setup: Setup, metrics: &Metrics) -> InForce {
        let drift = model_loaded(&setup, metrics);
        InForce { drift, without_model: Arc::default(), ..self.with_setup(setup) }
    }

    /// Takes note of what a decision was made without, and tells the operator once.
    pub(super) fn note(&self, degraded: Degraded) {
        if degraded != Degraded::NONE && !self.without_model.swap(true, Ordering::Relaxed) {
            let version = &self.setup.model_version;
            tracing::error!(%version, "the model has no score for a request, and rules alone decide such: load another one");
        }
    }

    /// What decisions had to be made without since these models score.
    pub(super) fn degraded(&self) -> Degraded {
        match self.without_model.load(Ordering::Relaxed) {
            true => Degraded::MODEL,
            false => Degraded::NONE,
        }
    }
}

/// Tells of the models that score, and gives where the rows of the one that decides are counted.
fn model_loaded(setup: &Setup, metrics: &Metrics) -> Option<DriftCounts> {
    metrics.challenger_loaded(&setup.challenger_version());
    let reference = setup.model.as_ref().and_then(|model| model.drift());
    metrics.model_loaded(&setup.model_version, reference)
}

/// Rules or a model that were put in force.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// Empty for no model.
    pub version: Label,
    /// The record that introduces them: once it is durable, a restart knows of them.
    pub position: u64,
    /// False where these very ones decided already.
    pub changed: bool,
    /// What is doubtful about rules, but no error.
    pub warnings: Vec<Finding>,
}

/// Why the rules or the model before go on deciding.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("the rules are wrong:\n{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Rules(Vec<Finding>),
    #[error("{name}: {error}")]
    Model { name: String, error: ModelError },
    #[error("no challenger scores: there is none to promote")]
    NoChallenger,
    #[error("{path} cannot be read: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    /// The rules' file is there, but not all that belongs to it can be read.
    #[error("the rules cannot be read whole:\n{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    ReadInPart(Vec<Finding>),
    #[error("the new version cannot be kept: {0}")]
    Keep(io::Error),
    #[error("the journal takes no record: {0}")]
    Journal(ReserveError),
    #[error("the windows across accounts cannot be filled from the journal: {0}")]
    Windows(ReadError),
}

impl ReloadError {
    /// Whether what was asked for is wrong; else it may be done when it is tried again.
    pub fn is_refusal(&self) -> bool {
        matches!(self, ReloadError::Rules(_) | ReloadError::Model { .. } | ReloadError::NoChallenger)
    }
}

/// Why a rule keeps its mode.
#[derive(Debug, thiserror::Error)]
pub enum SetModeError {
    /// With what was probably meant.
    #[error("there is no such rule")]
    NoSuchRule(Option<String>),
    #[error(transparent)]
    Reload(#[from] ReloadError),
}

/// Who gives a rule another mode.
#[derive(Clone, Debug)]
pub struct ModeSetter {
    /// One word.
    pub by: &'static str,
    /// One line, or empty.
    pub why: String,
    /// Where given, only as long as the rule still decides by this.
    pub only: Option<u64>,
}

impl ModeSetter {
    /// A person, through the call of that name.
    pub const CALL: ModeSetter = ModeSetter { by: "SetRuleMode", why: String::new(), only: None };
}

/// These rules, from a text of that name, with the modes that calls had set under the rules that decided before, as far as
/// they do not say the same; `None` where that is what they are. A start and a reload both come by here, so that neither
/// lets go live what somebody has stopped.
pub(super) fn held(name: &str, rules: &RuleSet, before: &[ModeSet]) -> Result<Option<RuleSet>, Vec<Finding>> {
    rules.with_modes_of(before).map(|text| rules::compile(name, &text)).transpose()
}

/// Says of every rule whose mode is not what the file says that it is so, and since when.
pub(super) fn warn_of_held(rules: &RuleSet) {
    for rule in &rules.rules {
        if let Some((says, ModeSet { mode, since, by, .. })) = &rule.held {
            let (mode, file) = (mode.name(), says.name());
            tracing::warn!(rule = %rule.id, mode, %since, %by, file, "a rule's mode is not what the file says");
        }
    }
}

impl Engine {
    /// The rules that decide at this moment.
    pub fn rules(&self) -> Arc<RuleSet> {
        Arc::clone(&self.in_force.load().setup.rules)
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
        self.reload_one(Versioned::Rules, &source.name, || self.try_reload_rules(&source))
    }

    /// As [`Engine::reload_rules`], with rules that are read from the place of that name once no other reload is under
    /// way: what was read later is never put in force before what was read earlier.
    ///
    /// # Errors
    /// [`ReloadError`]; the rules before go on deciding.
    pub fn reload_rules_read(
        &self,
        from: &str,
        read: impl FnOnce() -> Result<Source, ReloadError>,
    ) -> Result<Reloaded, ReloadError> {
        self.reload_one(Versioned::Rules, from, || self.try_reload_rules(&read()?))
    }

    /// Does a reload while no other is under way, and counts and logs what came of it. `from` is where it reads, whether or
    /// not that can be read.
    pub(super) fn reload_one(
        &self,
        what: Versioned,
        from: &str,
        reload: impl FnOnce() -> Result<Reloaded, ReloadError>,
    ) -> Result<Reloaded, ReloadError> {
        let one_at_a_time = self.reloading.lock();
        let reloaded = reload();
        drop(one_at_a_time);
        let result = match &reloaded {
            Ok(Reloaded { changed: true, .. }) => ReadAnew::Loaded,
            Ok(Reloaded { changed: false, .. }) => ReadAnew::Unchanged,
            Err(error) if error.is_refusal() => ReadAnew::Refused,
            Err(_) => ReadAnew::Failed,
        };
        match what {
            Versioned::Rules => self.metrics.rules_read(result),
            _ => self.metrics.model_read(what.name(), result),
        }
        let what = what.name();
        match &reloaded {
            Ok(Reloaded { version, changed: true, .. }) => {
                tracing::info!(what, from, %version, "another version was read and decides from now on");
            }
            Ok(Reloaded { version, changed: false, .. }) => {
                tracing::info!(what, from, %version, "what was read decides already");
            }
            Err(error) => {
                tracing::error!(what, from, %error, "a new version was not taken: the one before goes on deciding");
            }
        }
        reloaded
    }

    fn try_reload_rules(&self, source: &Source) -> Result<Reloaded, ReloadError> {
        let before = self.in_force.load_full();
        let rules = rules::compile(&source.name, &source.text).map_err(ReloadError::Rules)?;
        let held = held(&source.name, &rules, &before.setup.rules.modes).map_err(ReloadError::Rules)?;
        let rules = held.unwrap_or(rules);
        warn_of_held(&rules);
        self.put_in_force(rules, &before)
    }

    /// Gives one rule another mode, which becomes part of the rules' text. Waits for the disk, and so is not for a
    /// runtime's thread. The mode that the rule has already changes nothing; the one that the file says takes away what
    /// was set before.
    ///
    /// # Errors
    /// [`SetModeError`]; the rules before go on deciding.
    pub fn set_rule_mode(&self, id: &str, mode: Mode, setter: ModeSetter) -> Result<Reloaded, SetModeError> {
        let one_at_a_time = self.reloading.lock();
        let before = self.in_force.load_full();
        let rules = &before.setup.rules;
        let Some(place) = rules.rules.iter().position(|rule| *rule.id == *id) else {
            let ids = rules.rules.iter().map(|rule| &*rule.id);
            return Err(SetModeError::NoSuchRule(did_you_mean(id, ids)));
        };
        // To the second: what people write is no finer.
        let now = self.now();
        let since = Timestamp(now.0.div_euclid(SECOND_MS) * SECOND_MS);
        let ModeSetter { by, why, only } = setter;
        let set = || ModeSet { rule: id.into(), mode, since, by: by.into(), why: why.as_str().into() };
        let still = only.is_none_or(|meaning| rules.rules[place].meaning == meaning);
        let text = if still { rules.with_mode(place, mode, set) } else { None };
        let reloaded = match text {
            None => self.unchanged(&before),
            Some(text) => {
                // They were taken already: no check of what comes from outside stands in the way of a stop.
                let rules = rules::compile_kept("the rules in force", &text).map_err(ReloadError::Rules)?;
                self.put_in_force(rules, &before)?
            }
        };
        drop(one_at_a_time);
        if reloaded.changed {
            self.metrics.changed("set_rule_mode");
            let (rule, mode, version) = (id, mode.name(), &reloaded.version);
            tracing::warn!(rule, mode, by, why, %version, "a rule has another mode from now on");
        }
        Ok(reloaded)
    }

    /// Says of the rules in force that they stay.
    fn unchanged(&self, in_force: &InForce) -> Reloaded {
        Reloaded {
            version: in_force.setup.rules_version.clone(),
            // They may have been introduced a moment ago.
            position: self.journal.taken(),
            changed: false,
            warnings: in_force.setup.rules.warnings.clone(),
        }
    }

    /// Lets rules decide from now on, once their text is kept and introduced.
    pub(super) fn put_in_force(&self, rules: RuleSet, before: &InForce) -> Result<Reloaded, ReloadError> {
        if rules.version == before.setup.rules.version {
            return Ok(Reloaded { warnings: rules.warnings.clone(), ..self.unchanged(before) });
        }
        let plan = Arc::new(Plan::new(&rules.aggregates));
        let windows = self.windows_for(SharedPlan::new(&rules.aggregates), &before.shared)?;
        let (number, position) = self.introduce(Versioned::Rules, &rules.version, &rules.source)?;
        let reloaded = Reloaded {
            version: Label::new(&rules.version),
            position,
            changed: true,
            warnings: rules.warnings.clone(),
        };
        let setup = Setup {
            plan: self.plans.note(number, plan),
            shared: windows.plan(),
            rules_version: reloaded.version.clone(),
            lists: rules.lists_in_force(Arc::clone(before.setup.lists.lists())),
            rules: Arc::new(rules),
            numbers: VersionNumbers { rules: number, ..before.setup.numbers },
            ..before.setup.clone()
        };
        self.in_force.store(Arc::new(InForce::new(setup, windows, &self.metrics)));
        Ok(reloaded)
    }

    /// Keeps the text of a version and introduces it in the journal. Gives its number and the position of the record. Waits
    /// for the disk; for whoever holds the reload lock.
    ///
    /// # Errors
    /// [`ReloadError::Keep`] and [`ReloadError::Journal`]; nothing names the version then.
    pub(super) fn introduce(
        &self,
        what: Versioned,
        version: &str,
        text: &str,
    ) -> Result<(u32, u64), ReloadError> {
        let known = self.names.number(what, version);
        // What was introduced was on disk before; that its file is still there costs no sync to see.
        let kept = || versions::read(&self.data_dir, what, version).is_ok_and(|kept| *kept == *text);
        if known.is_none() || !kept() {
            versions::keep(&self.data_dir, what, version, text).map_err(ReloadError::Keep)?;
        }
        let introduced = Introduced {
            time: self.now(),
            what,
            number: known.unwrap_or_else(|| self.names.newest_number(what) + 1),
            version: version.to_owned(),
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
        Ok((introduced.number, position))
    }

    /// The windows across accounts of other rules: those of before where they are of the same plan.
    fn windows_for(
        &self,
        plan: SharedPlan,
        before: &Arc<SharedWindows>,
    ) -> Result<Arc<SharedWindows>, ReloadError> {
        if plan.fingerprint() == before.plan().fingerprint() {
            return Ok(Arc::clone(before));
        }
        let first = shared::first_needed(self.ages.lock().marks(), self.now());
        let budget_bytes = self.config.windows.shared_bytes as usize;
        let windows = before.of_other_rules(Arc::new(plan), budget_bytes, first);
        // One stream, decided in order, waits.
        if windows.at_once().is_some() && windows.filled_to().is_some() {
            windows.catch_up(&self.journal).map_err(ReloadError::Windows)?;
            windows.are_full();
        }
        Ok(windows)
    }
}

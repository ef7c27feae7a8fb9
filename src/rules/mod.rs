//! Rules that analysts write: one TOML file with aggregates, lists, rules and their tests; conditions are CEL.
//!
//! A file is checked whole and either becomes a [`RuleSet`] or a list of [`Finding`]s with places. The way through
//! is `file` (shape) -> `parse` (the `cel` crate's parser) -> `check` (names, types) -> `program` (slots, ranges),
//! put together in `compile`. What a decision pays for is [`RuleSet::evaluate`] alone.
//!
//! Deliberately absent: files (the text is an argument), clocks, and what a fired rule leads to (`authorise`).

mod builtins;
mod cases;
mod check;
mod compile;
mod decimal;
mod explain;
mod file;
mod filter;
mod finding;
mod guesses;
mod listing;
pub mod lists;
mod modes;
mod parse;
mod policies;
mod program;
mod reach;
mod trailer;
mod typed;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::{
    cases::TestCase,
    file::At,
    finding::Report,
    modes::Restricted,
    program::{Condition, Program, Truth},
};
pub use self::{
    cases::{TestResult, run_tests},
    compile::{compile, compile_kept},
    explain::{Explanation, Reading, aggregate as explain_aggregate, names},
    finding::{Finding, Severity, did_you_mean, error_at, nearest, text_of},
    listing::{ListFile, append_list_file, has_list_file, list_files, without_wrong_lines},
    lists::{DeclaredList, Lists, ListsInForce},
    modes::{Entity, Suppression},
    policies::{LabelPolicy, PolicyField},
    program::Seen,
    trailer::{ModeSet, modes as modes_of, without_modes},
};
use crate::{
    features::{aggregate::Aggregate, values::Values},
    limits::RULES_MAX,
    types::{codes::ResponseCode, lists::ListKind, money::Currency, time::Timestamp},
};

/// The rules file that ships with the engine.
pub const SHIPPED: &str = include_str!("../../rules/default.toml");

/// A whole rules file, checked and compiled.
pub struct RuleSet {
    /// First 12 hex digits of BLAKE3 over the source.
    pub version: Arc<str>,
    pub source: Arc<str>,
    /// In the order of the file; the slot of each stands behind the catalogue in the same order.
    pub aggregates: Vec<Aggregate>,
    /// In the order of the file.
    pub lists: Vec<DeclaredList>,
    /// In the order of the file.
    pub label_policies: Vec<LabelPolicy>,
    /// In the order of the file.
    pub rules: Vec<Rule>,
    /// One per rule, in words.
    pub explanations: Vec<Explanation>,
    /// What is doubtful about the file but no error.
    pub warnings: Vec<Finding>,
    /// When each suppression ends, and where the source says so.
    endings: Vec<At<Timestamp>>,
    /// Indices into `rules`: by precedence, among equals in the order of the file.
    precedence: Vec<u16>,
    program: Program,
    /// One per rule.
    conditions: Vec<Condition>,
    /// Indices of the rules that are not switched off.
    evaluated: Vec<u16>,
    tests: Vec<TestCase>,
    /// The modes that calls have set, in the order of the text.
    pub modes: Vec<ModeSet>,
    /// The live rules that do not decide for everybody.
    restricted: Vec<Restricted>,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub id: Arc<str>,
    pub then: Effect,
    /// What a decline, a referral or a step-up answers with; `None` for the other effects.
    pub response_code: Option<ResponseCode>,
    /// Reason code: capitals and underscores.
    pub reason: Arc<str>,
    /// One sentence for the people who read the decision.
    pub text: Arc<str>,
    pub mode: Mode,
    /// What the file says instead, and what stands against it.
    pub held: Option<(Mode, ModeSet)>,
    /// The share of the cards for which it decides where it is live; `None` is all of them.
    pub live_percent: Option<u8>,
    /// Never set to shadow by the guard.
    pub protected: bool,
    /// Names what it decides by: its condition and effect, whether and for how many cards it is live, and the lists and
    /// aggregates it reads, lists as the text of the rules has them.
    pub meaning: u64,
    /// What it counts as in metrics and summaries, such as `velocity`; `other` unless the file says so.
    pub group: Arc<str>,
    /// The condition as written.
    pub when: Arc<str>,
    /// Estimated time of one evaluation.
    pub cost_ns: u32,
    /// The aggregates of the file that it reads, one bit for each place.
    pub aggregates: u64,
}

/// What a fired rule asks for, in the order of precedence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Effect {
    Decline,
    /// Declined with a request to call the issuer.
    Refer,
    /// Not declined, but the cardholder must authenticate.
    StepUp,
    /// Silences the model, and nothing else.
    ApproveDespiteScore,
    /// Only a remark.
    Flag,
}

impl Effect {
    pub const ALL: [Effect; 5] =
        [Effect::Decline, Effect::Refer, Effect::StepUp, Effect::ApproveDespiteScore, Effect::Flag];

    /// As the file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Decline => "decline",
            Effect::Refer => "refer",
            Effect::StepUp => "step_up",
            Effect::ApproveDespiteScore => "approve_despite_score",
            Effect::Flag => "flag",
        }
    }

    /// The response code unless the rule names another; `None` where the effect does not answer.
    pub fn response_code(self) -> Option<ResponseCode> {
        match self {
            Effect::Decline => Some(ResponseCode::SUSPECTED_FRAUD),
            Effect::Refer => Some(ResponseCode::REFER),
            Effect::StepUp => Some(ResponseCode::STEP_UP),
            Effect::ApproveDespiteScore | Effect::Flag => None,
        }
    }
}

/// Whether a rule decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    Live,
    /// Evaluated and counted, never decides.
    Shadow,
    /// Checked when the file is loaded, never evaluated.
    Off,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::Live, Mode::Shadow, Mode::Off];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Live => "live",
            Mode::Shadow => "shadow",
            Mode::Off => "off",
        }
    }
}

impl Rule {
    /// The mode that the file says.
    pub fn mode_in_file(&self) -> Mode {
        self.held.as_ref().map_or(self.mode, |(says, _)| *says)
    }
}

const WORDS: usize = RULES_MAX.div_ceil(64);

/// Which rules fired and which could not tell, by index in the file. Lives on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hits {
    fired: [u64; WORDS],
    unknown: [u64; WORDS],
    /// Of those that fired, the ones that are suppressed, those that are live for other cards, and those that read what is
    /// still being filled.
    suppressed: [u64; WORDS],
    not_here: [u64; WORDS],
    unfilled: [u64; WORDS],
}

impl Hits {
    /// Whether the condition of a rule is true, live or shadow.
    pub fn is_fired(&self, rule: usize) -> bool {
        self.fired.get(rule / 64).is_some_and(|word| word >> (rule % 64) & 1 == 1)
    }

    /// The rules whose condition is true, live or shadow, in the order of the file.
    pub fn fired(&self) -> impl Iterator<Item = usize> {
        ones(self.fired)
    }

    /// Whether a rule fired and is suppressed.
    pub fn is_suppressed(&self, rule: usize) -> bool {
        self.suppressed.get(rule / 64).is_some_and(|word| word >> (rule % 64) & 1 == 1)
    }

    /// Whether a live rule fired and decides nothing here: it is suppressed, live for other cards, or reads what is still
    /// being filled.
    pub fn is_held_back(&self, rule: usize) -> bool {
        let word = rule / 64;
        (self.suppressed[word] | self.not_here[word] | self.unfilled[word]) >> (rule % 64) & 1 == 1
    }

    /// The rules whose condition is neither true nor false for want of a value, in the order of the file.
    pub fn unknown(&self) -> impl Iterator<Item = usize> {
        ones(self.unknown)
    }
}

/// The places of the bits that are set, ascending.
fn ones(words: [u64; WORDS]) -> impl Iterator<Item = usize> {
    words.into_iter().enumerate().flat_map(|(index, mut word)| {
        std::iter::from_fn(move || {
            let bit = word.trailing_zeros() as usize;
            (word != 0).then(|| {
                word &= word - 1;
                index * 64 + bit
            })
        })
    })
}

impl RuleSet {
    /// Evaluates every rule that is not off, live and shadow alike. `currency` is the billing currency, which gives
    /// amounts in the rules their unit; `seen` is what lists hold besides the file's values, made for these rules by
    /// [`RuleSet::lists_in_force`]. Allocates nothing and cannot fail.
    pub fn evaluate(&self, values: &Values<'_>, currency: Currency, seen: Seen<'_>, hits: &mut Hits) {
        *hits = Hits::default();
        let exponent = currency.exponent();
        for &rule in &self.evaluated {
            let rule = usize::from(rule);
            let (word, bit) = (rule / 64, 1 << (rule % 64));
            match self.program.evaluate(&self.conditions[rule], values, exponent, &seen) {
                Truth::True => hits.fired[word] |= bit,
                Truth::Unknown => hits.unknown[word] |= bit,
                Truth::False => {}
            }
        }
    }

    /// What calls have made of the lists, by the places that they have in these rules.
    pub fn lists_in_force(&self, lists: Arc<Lists>) -> ListsInForce {
        let (mut texts, mut ints) = (Vec::new(), Vec::new());
        for list in &self.lists {
            let Some((set, changes)) = list.set.zip(lists.of(&list.name, list.kind)) else { continue };
            let (places, count) = match list.kind {
                ListKind::Texts => (&mut texts, self.program.text_sets()),
                ListKind::Ints => (&mut ints, self.program.int_sets()),
            };
            places.resize(count, None);
            places[set] = Some(Arc::clone(changes));
        }
        ListsInForce { lists, texts, ints }
    }

    /// What is doubtful about the file at a time but no error, in its order: [`RuleSet::warnings`], and suppressions that
    /// have ended; behind them values of its lists' files that have. `file_name` is only for messages.
    pub fn warnings_at(&self, file_name: &str, now: Timestamp) -> Vec<Finding> {
        let mut report = Report::new(file_name, &self.source);
        for At { value: end, span } in self.endings.iter().filter(|end| end.value <= now) {
            let message = format!("this suppression ended at {end} and excuses nobody any more");
            report.warning(span.clone(), message, Some("take it out, or give it a later end".into()));
        }
        let mut findings = [self.warnings.clone(), report.finish()].concat();
        findings.sort_by_key(|finding| (finding.line, finding.column));
        findings.extend(listing::ended(&self.source, now));
        findings
    }

    /// A list that the file declares.
    pub fn list(&self, name: &str) -> Option<&DeclaredList> {
        self.lists.iter().find(|list| *list.name == *name)
    }

    /// The rules that fired and decide, the deciding one first: by precedence of their effects, among equals in the order
    /// of the file.
    pub fn deciding<'a>(&'a self, hits: &'a Hits) -> impl Iterator<Item = &'a Rule> {
        let any = hits.fired.iter().any(|word| *word != 0);
        let precedence = if any { self.precedence.as_slice() } else { &[] };
        precedence.iter().filter(|rule| hits.is_fired(usize::from(**rule))).filter_map(|rule| {
            let rule = usize::from(*rule);
            self.decides(rule, hits).then(|| &self.rules[rule])
        })
    }
}

impl std::fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuleSet")
            .field("version", &self.version)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

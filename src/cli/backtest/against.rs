//! Two rule files over the same history, decision by decision: what changes, which rule begins it, and what that is
//! worth. Each file has accounts of its own, so that a change carries on into balances and windows as it would have.
//!
//! Accounts do not touch one another, so that the first decision that changes on an account is the work of the files
//! alone. What changes later may be that too, or may follow from it; both are shown.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Write as _},
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    figures::{Decided, Past, groups_of, is_against, row_of},
    report::{amounts, named, slice_json, yield_json},
    voices::Heard,
    volume::{Slice, Volume, Yield, share},
};
use crate::{
    engine::backtest::Replayed,
    observe::RuleGroups,
    rules::{Effect, Rule, RuleSet},
    types::{auth::AuthAnswer, codes::Decision},
};

/// Changed decisions that are printed one by one; `--changes` writes all of them.
const SHOWN: usize = 20;
const COLUMNS: [&str; 10] = [
    "transaction_id",
    "account",
    "before",
    "before_code",
    "before_reason",
    "after",
    "after_code",
    "after_reason",
    "cause",
    "first_change",
];

/// One decision that the two files take differently.
pub(super) struct Change {
    pub(super) transaction_id: String,
    pub(super) account: String,
    pub(super) before: Side,
    pub(super) after: Side,
    /// The rule that fires in one alone, or what else stands behind it.
    pub(super) cause: String,
    /// The account's first changed decision, where that is another one.
    pub(super) first: Option<String>,
}

/// A decision in short: what, with which code, and why.
#[derive(Clone)]
pub(super) struct Side {
    decision: Decision,
    response_code: String,
    reason: String,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Side { decision, response_code, reason } = self;
        write!(f, "{} {response_code}", named(*decision))?;
        if reason.is_empty() { Ok(()) } else { write!(f, " {reason}") }
    }
}

impl Side {
    pub(super) fn of(answer: &AuthAnswer) -> Side {
        Side {
            decision: answer.decision,
            response_code: answer.response_code.to_string(),
            reason: answer.reasons.first().map_or(String::new(), |reason| reason.code.to_string()),
        }
    }
}

/// Everything that changes from one file to the other.
pub(super) struct Against<'a> {
    pub(super) before: &'a RuleSet,
    pub(super) after: &'a RuleSet,
    pub(super) compared: u64,
    /// What the decisions that are compared come to under each file.
    pub(super) whole_before: Slice,
    pub(super) whole_after: Slice,
    groups_before: RuleGroups,
    groups_after: RuleGroups,
    /// By the decision before and after.
    pub(super) moves: BTreeMap<(Decision, Decision), Yield>,
    /// By the rule that begins the change on its account.
    pub(super) causes: BTreeMap<String, Yield>,
    /// Changed decisions on accounts where one had changed before.
    pub(super) followed: u64,
    /// Whether history's outcomes are in force, and not these decisions.
    observed: bool,
    /// The first changed decision of each account.
    first: HashMap<String, String>,
    pub(super) shown: Vec<Change>,
    changes: Option<(PathBuf, csv::Writer<BufWriter<File>>)>,
}

impl<'a> Against<'a> {
    /// # Errors
    /// Where the file of changes cannot be written.
    pub(super) fn new(
        before: &'a RuleSet,
        after: &'a RuleSet,
        changes: Option<&Path>,
        observed: bool,
    ) -> anyhow::Result<Against<'a>> {
        let changes = changes.map(|path| {
            let context = || format!("{} cannot be written", path.display());
            let mut csv = csv::Writer::from_writer(BufWriter::new(File::create(path).with_context(context)?));
            csv.write_record(COLUMNS).with_context(context)?;
            anyhow::Ok((path.to_owned(), csv))
        });
        Ok(Against {
            before,
            after,
            compared: 0,
            whole_before: Slice::default(),
            whole_after: Slice::default(),
            groups_before: groups_of(before),
            groups_after: groups_of(after),
            moves: BTreeMap::new(),
            causes: BTreeMap::new(),
            followed: 0,
            observed,
            first: HashMap::new(),
            shown: Vec::new(),
            changes: changes.transpose()?,
        })
    }

    /// Compares what the two files made of one row.
    ///
    /// # Errors
    /// Where the file of changes cannot be written.
    pub(super) fn count(&mut self, past: &Past<'_>, before: &Decided, after: &Decided) -> anyhow::Result<()> {
        let (Ok((was, Replayed::Decided)), Ok((is, Replayed::Decided))) = (&before.0, &after.0) else {
            return Ok(());
        };
        self.compared += 1;
        let (billed, is_fraud) = (past.request.billed(), past.is_fraud);
        self.whole_before.add(&row_of(was, billed, is_fraud, &self.groups_before));
        self.whole_after.add(&row_of(is, billed, is_fraud, &self.groups_after));
        if (was.decision, was.response_code) == (is.decision, is.response_code) {
            return Ok(());
        }
        self.moves.entry((was.decision, is.decision)).or_default().add(billed, is_fraud);
        let account = past.account.map(|account| account.to_string()).unwrap_or_default();
        let transaction_id = past.request.key.to_string();
        // Where history's outcomes are in force nothing follows from a decision.
        let first = self.first.get(&account).filter(|_| !self.observed).cloned();
        let cause = self.cause((was, &before.1), (is, &after.1));
        match &first {
            Some(_) => self.followed += 1,
            None => {
                self.causes.entry(cause.clone()).or_default().add(billed, is_fraud);
                self.first.insert(account.clone(), transaction_id.clone());
            }
        }
        let (before, after) = (Side::of(was), Side::of(is));
        let change = Change { transaction_id, account, before, after, cause, first };
        if let Some((path, csv)) = &mut self.changes {
            csv.write_record(change.cells())
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        if self.shown.len() < SHOWN {
            self.shown.push(change);
        }
        Ok(())
    }

    /// The rule that fires under one file alone and stands above the others that do, that of the decision against the
    /// cardholder first; else the deciding reason, which is then a matter of balance or model. A flag decides nothing, and
    /// what silences the model only where the model would have declined.
    fn cause(&self, (was, before): (&AuthAnswer, &Heard), (is, after): (&AuthAnswer, &Heard)) -> String {
        let (old, new) = (deciding(self.before, before), deciding(self.after, after));
        let only_new = new.iter().find(|rule| old.iter().all(|other| other.id != rule.id));
        let only_old = old.iter().find(|rule| new.iter().all(|other| other.id != rule.id));
        let speaks_against = |rule: &&&Rule| rule.then != Effect::ApproveDespiteScore;
        let in_order = match is_against(is.decision) {
            true => [only_new.filter(speaks_against), only_old],
            false => [only_old.filter(speaks_against), only_new],
        };
        if let Some(rule) = in_order.into_iter().flatten().next() {
            let side = if only_new.is_some_and(|new| std::ptr::eq(*new, *rule)) { "" } else { "without " };
            return format!("{side}{}", rule.id);
        }
        let reason = if is_against(is.decision) { &is.reasons } else { &was.reasons };
        reason.first().map_or_else(|| "the answer of a rule".to_owned(), |reason| reason.code.to_string())
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// Where the file of changes cannot be written.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        match &mut self.changes {
            None => Ok(()),
            Some((path, csv)) => csv.flush().with_context(|| format!("{} cannot be written", path.display())),
        }
    }

    pub(super) fn changed(&self) -> u64 {
        self.moves.values().map(|moved| moved.all.count).sum()
    }

    pub(super) fn text(&self) -> String {
        let changed = self.changed();
        let mut text = format!(
            "\nrules {} against {}: {changed} of {} decisions change, {} of them on accounts where one had changed \
             before\n",
            self.after.version, self.before.version, self.compared, self.followed
        );
        let head = "declined        %  step-ups        %  fraud caught  genuine wronged";
        let _ = writeln!(text, "\n{:<20}{head}", "the same history");
        for (name, rules, whole) in self.sides() {
            let [declined, step_ups, caught, wronged] = rates(whole);
            let name = format!("{name}, {}", rules.version);
            let _ = writeln!(
                text,
                "{name:<20}{:>8}{declined:>9}{:>10}{step_ups:>9}{caught:>14}{wronged:>17}",
                whole.declined.count, whole.step_ups.count
            );
        }
        if changed == 0 {
            return text;
        }
        let head = "decisions     fraud  genuine  amount";
        let _ = writeln!(text, "\n{:<48}{head}", "before -> after");
        for ((before, after), moved) in &self.moves {
            text += &row(&format!("{} -> {}", named(*before), named(*after)), moved);
        }
        let _ = writeln!(text, "\n{:<48}{head}", "first change of an account, by cause");
        for (cause, moved) in &self.causes {
            text += &row(cause, moved);
        }
        text += "\n";
        for change in &self.shown {
            let Change { transaction_id, account, before, after, cause, first } = change;
            let since =
                first.as_ref().map_or(String::new(), |first| format!(", account changed since {first}"));
            let _ = writeln!(text, "{transaction_id} of {account}: {before} -> {after}: {cause}{since}");
        }
        let more = changed.saturating_sub(self.shown.len() as u64);
        if more > 0 {
            let where_to = if self.changes.is_some() {
                "all are in the file of --changes"
            } else {
                "--changes OUT.csv writes them all"
            };
            let _ = writeln!(text, "and {more} more; {where_to}");
        }
        text
    }

    /// Both files with what they come to.
    pub(super) fn sides(&self) -> [(&'static str, &'a RuleSet, &Slice); 2] {
        [("before", self.before, &self.whole_before), ("after", self.after, &self.whole_after)]
    }

    pub(super) fn json(&self) -> Value {
        let moves = self.moves.iter().map(|((before, after), moved)| {
            let mut value = yield_json(moved);
            (value["before"], value["after"]) = (before.name().into(), after.name().into());
            value
        });
        let causes = self.causes.iter().map(|(cause, moved)| {
            let mut value = yield_json(moved);
            value["cause"] = cause.as_str().into();
            value
        });
        let shown = self.shown.iter().map(|change| {
            let cells = COLUMNS.iter().map(|name| (*name).to_owned()).zip(change.cells().map(Value::from));
            Value::Object(cells.collect())
        });
        json!({
            "rules_version_before": &*self.before.version,
            "rules_version_after": &*self.after.version,
            "compared": self.compared,
            "before": slice_json(&self.whole_before),
            "after": slice_json(&self.whole_after),
            "changed": self.changed(),
            "followed": self.followed,
            "moves": moves.collect::<Vec<_>>(),
            "causes": causes.collect::<Vec<_>>(),
            "changes": shown.collect::<Vec<_>>(),
        })
    }
}

impl Change {
    fn cells(&self) -> [String; 10] {
        let Change { transaction_id, account, before, after, cause, first } = self;
        let Side { decision: was, response_code: was_code, reason: was_reason } = before.clone();
        let Side { decision: is, response_code: is_code, reason: is_reason } = after.clone();
        [
            transaction_id.clone(),
            account.clone(),
            was.name().to_owned(),
            was_code,
            was_reason,
            is.name().to_owned(),
            is_code,
            is_reason,
            cause.clone(),
            first.clone().unwrap_or_default(),
        ]
    }
}

/// In per cent: what was declined, what was asked to step up, the fraud that was caught, the genuine payments that were
/// declined or asked to step up for suspicion; a dash where there is none to be caught or wronged.
pub(super) fn rates(whole: &Slice) -> [String; 4] {
    let of_all = |part: &Volume| share(part.count, whole.all.count);
    [of_all(&whole.declined), of_all(&whole.step_ups), whole.recall(), whole.false_positive_rate()]
        .map(|share| share.map_or("-".to_owned(), |share| format!("{:.2} %", 100.0 * share)))
}

/// The live rules that fired and that can change a decision, the one that stands above the others first.
fn deciding<'r>(rules: &'r RuleSet, heard: &'r Heard) -> Vec<&'r Rule> {
    rules.deciding(&heard.hits).filter(|rule| rule.then != Effect::Flag).collect()
}

fn row(name: &str, moved: &Yield) -> String {
    format!(
        "{name:<48}{:>9}{:>10}{:>9}  {}\n",
        moved.all.count,
        moved.fraud.count,
        moved.genuine,
        amounts(&moved.all)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_those_of_the_document() {
        assert_eq!(crate::history::documented::documented("changes"), COLUMNS);
    }
}

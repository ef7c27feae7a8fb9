//! The outcome of a replay, for people and as JSON.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use super::{
    Args,
    against::Against,
    figures::{Figures, Volume, Yield},
};
use crate::{
    cli::past::HOLDS_NOTE,
    engine::backtest::Backtest,
    history::Survey,
    model::quality::Quality,
    rules::Mode,
    types::{codes::Decision, money::Money},
};

/// What a reader must know of the labels.
const LABELS_NOTE: &str = "no rule and no window reads labels yet: the label delay changes nothing";

pub(super) struct Report<'a> {
    pub(super) args: &'a Args,
    pub(super) survey: &'a Survey,
    pub(super) backtest: &'a Backtest,
    pub(super) figures: &'a Figures,
    /// Where another rules file is compared with.
    pub(super) against: Option<&'a Against<'a>>,
    /// Of the replay, reading the file included.
    pub(super) took: Duration,
}

impl Report<'_> {
    pub(super) fn text(&self) -> String {
        let Report { args, survey, figures, .. } = self;
        let decided = figures.decided();
        let mut text = format!("{}: {} transactions", args.transactions.display(), survey.rows);
        if let Some((first, last)) = survey.period {
            text += &format!(", {first} to {last}");
        }
        let order = if survey.in_order { "" } else { ", sorted by time first" };
        let versions = match self.backtest.model() {
            Some(model) => format!("rules {} and model {}", self.backtest.rules().version, model.version()),
            None => format!("rules {} and no model", self.backtest.rules().version),
        };
        let in_force = if args.observe { "history's outcomes" } else { "these decisions" };
        let _ = writeln!(
            text,
            "{order}\n{decided} decided by {versions}, {in_force} in force; {:.1} s, {:.0} transactions/s",
            self.took.as_secs_f64(),
            self.per_second()
        );
        for (count, what) in [
            (figures.repeated, "repeats of an id, answered again"),
            (figures.duplicates, "ids used again with another body, declined with 94"),
            (survey.skipped.len() as u64, "rows passed over that cannot be read"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "{count} {what}");
            }
        }
        if let Some(why) = &figures.undecided_why {
            let _ = writeln!(text, "{} NOT DECIDED: {why}", figures.undecided);
        }
        let _ = writeln!(
            text,
            "{HOLDS_NOTE}\n{LABELS_NOTE}\n\ndecision                    count        %  amount"
        );
        for (decision, volume) in &figures.decisions {
            let name = named(*decision);
            let percent = 100.0 * share(volume.count, decided);
            let _ = writeln!(text, "{name:<22}{:>11}{percent:>9.2}  {}", volume.count, amounts(volume));
        }
        let head = "decisions     fraud  genuine  precision  of fraud";
        let _ = writeln!(text, "\n{:<34}{head}  amount", "by deciding reason");
        let mut reasons: Vec<_> = figures.reasons.iter().collect();
        reasons.sort_by(|a, b| b.1.all.count.cmp(&a.1.all.count).then(a.0.cmp(b.0)));
        for (code, brought) in reasons {
            text += &self.line(code, brought);
        }
        let _ = writeln!(text, "\n{:<34}{head}  amount", "by rule that fired");
        for (rule, brought) in self.backtest.rules().rules.iter().zip(&figures.rules) {
            match rule.mode {
                Mode::Off => {}
                Mode::Live => text += &self.line(&rule.id, brought),
                Mode::Shadow => text += &self.line(&format!("{} (shadow)", rule.id), brought),
            }
        }
        text += &self.against_labels();
        text + &self.against.map(Against::text).unwrap_or_default()
    }

    /// One reason or rule.
    fn line(&self, name: &str, brought: &Yield) -> String {
        let Yield { all, fraud, genuine } = brought;
        let percent =
            |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        let frauds = self.figures.labelled.fraud.count;
        let of_fraud = (frauds > 0).then(|| share(fraud.count, frauds));
        format!(
            "{name:<34}{:>9}{:>10}{genuine:>9}{:>11}{:>10}  {}\n",
            all.count,
            fraud.count,
            percent(brought.precision()),
            percent(of_fraud),
            amounts(all)
        )
    }

    fn against_labels(&self) -> String {
        let Figures { labelled, suspected, .. } = self.figures;
        if labelled.all.count == 0 {
            return "\nno row says whether it was fraud: nothing is said of fraud caught\n".to_owned();
        }
        let mut text = format!(
            "\nfraud: {} of {} caught by rules or model ({:.1} %), {} of {}\n\
             false positives: {} of {} genuine transactions ({:.2} %)\n",
            suspected.fraud.count,
            labelled.fraud.count,
            100.0 * share(suspected.fraud.count, labelled.fraud.count),
            amounts(&suspected.fraud),
            amounts(&labelled.fraud),
            suspected.genuine,
            labelled.genuine,
            100.0 * share(suspected.genuine, labelled.genuine)
        );
        if let Some(quality) = self.figures.quality() {
            let Quality { rows, frauds, auc, average_precision, .. } = quality;
            let _ = writeln!(
                text,
                "the model on {rows} scored rows with a label, {frauds} of them fraud: AUC {auc:.4}, average precision \
                 {average_precision:.4}, recall {:.3} at 1 % and {:.3} at 0.1 % of false positives",
                quality.recall_at_1_percent, quality.recall_at_0_1_percent
            );
        }
        text
    }

    fn per_second(&self) -> f64 {
        self.survey.rows as f64 / self.took.as_secs_f64().max(1e-9)
    }

    pub(super) fn json(&self) -> Value {
        let Report { args, survey, backtest, figures, took, .. } = self;
        let decisions = figures.decisions.iter().map(|(decision, volume)| {
            let mut value = volume_json(volume);
            value["decision"] = decision.name().into();
            value
        });
        let reasons = figures.reasons.iter().map(|(code, brought)| {
            let mut value = self.yield_json(brought);
            value["reason"] = code.as_str().into();
            value
        });
        let rules = backtest.rules().rules.iter().zip(&figures.rules).map(|(rule, brought)| {
            let mut value = self.yield_json(brought);
            value["rule"] = (*rule.id).into();
            value["mode"] = rule.mode.name().into();
            value
        });
        let (first, last) = survey.period.unzip();
        json!({
            "transactions_file": args.transactions.display().to_string(),
            "rows": survey.rows,
            "rows_skipped": survey.skipped.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "rows_sorted": !survey.in_order,
            "from": first.map(|time| time.to_string()),
            "to": last.map(|time| time.to_string()),
            "seconds": took.as_secs_f64(),
            "transactions_per_second": self.per_second(),
            "rules_version": &*backtest.rules().version,
            "model_version": backtest.model().map(|model| model.version().to_string()).unwrap_or_default(),
            "observed": args.observe,
            "label_delay_days": args.label_delay,
            "decided": figures.decided(),
            "repeated": figures.repeated,
            "duplicates": figures.duplicates,
            "undecided": figures.undecided,
            "decisions": decisions.collect::<Vec<_>>(),
            "reasons": reasons.collect::<Vec<_>>(),
            "rules": rules.collect::<Vec<_>>(),
            "labelled": self.yield_json(&figures.labelled),
            "caught_by_rules_or_model": self.yield_json(&figures.suspected),
            "model_quality": figures.quality(),
            "against": self.against.map(Against::json),
            "notes": [HOLDS_NOTE, LABELS_NOTE],
        })
    }

    fn yield_json(&self, brought: &Yield) -> Value {
        let mut value = yield_json(brought);
        let frauds = self.figures.labelled.fraud.count;
        value["share_of_fraud"] = (frauds > 0).then(|| share(brought.fraud.count, frauds)).into();
        value
    }
}

pub(super) fn yield_json(brought: &Yield) -> Value {
    let mut value = volume_json(&brought.all);
    value["fraud"] = volume_json(&brought.fraud);
    value["genuine"] = brought.genuine.into();
    value["precision"] = brought.precision().into();
    value
}

fn volume_json(volume: &Volume) -> Value {
    let minor: serde_json::Map<String, Value> = volume
        .minor
        .iter()
        .map(|(currency, minor)| {
            (currency.alpha().to_owned(), i64::try_from(*minor).unwrap_or(i64::MAX).into())
        })
        .collect();
    json!({ "count": volume.count, "minor": minor })
}

/// The sums of all currencies.
pub(super) fn amounts(volume: &Volume) -> String {
    let money = volume.minor.iter().map(|(currency, minor)| {
        Money::new(i64::try_from(*minor).unwrap_or(i64::MAX), *currency).to_string()
    });
    let text = money.collect::<Vec<_>>().join(" + ");
    if text.is_empty() { "0".to_owned() } else { text }
}

pub(super) fn named(decision: Decision) -> &'static str {
    match decision {
        Decision::Approved => "approved",
        Decision::PartiallyApproved => "approved in part",
        Decision::Declined => "declined",
        Decision::StepUp => "asked to step up",
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

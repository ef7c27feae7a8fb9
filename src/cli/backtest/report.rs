//! The outcome of a replay: in short for people here, in full as [JSON](json) and as [HTML](super::html).

mod json;

pub(super) use json::{slice_json, yield_json};

use std::{fmt::Write as _, time::Duration};

use super::{
    Args,
    against::Against,
    episodes::{EPISODE_GAP_DAYS, Episodes},
    figures::Figures,
    origin::{Input, Origin},
    recorded::Recorded,
    volume::{Slice, Volume, Yield, share},
    weights::Weighed,
};
use crate::{
    engine::backtest::Backtest,
    model::quality::Quality,
    rules::Mode,
    types::{codes::Decision, money::Money},
};

/// What `alone` says of rules that decide nothing.
const ADDED: &str =
    "of a rule in shadow or held back (live for other cards, or suppressed), those it would have added";

pub(super) struct Report<'a> {
    pub(super) args: &'a Args,
    pub(super) origin: &'a Origin,
    pub(super) inputs: &'a [Input],
    pub(super) backtest: &'a Backtest,
    pub(super) figures: &'a Figures,
    /// Of what the model would decline.
    pub(super) weights: Option<&'a Weighed>,
    /// Where another rules file is compared with.
    pub(super) against: Option<&'a Against<'a>>,
    /// Where a journal is replayed.
    pub(super) recorded: Option<&'a Recorded>,
    /// Of the replay, reading the history included.
    pub(super) took: Duration,
}

impl Report<'_> {
    pub(super) fn text(&self) -> String {
        let Report { args, origin, figures, .. } = self;
        let decided = figures.decided();
        let what = if args.journal.is_some() { "requests" } else { "transactions" };
        let mut text = format!("{}: {} {what}", origin.name, origin.rows);
        if let Some((first, last)) = origin.period {
            text += &format!(", {first} to {last}");
        }
        let order = if origin.is_sorted { ", sorted by time first" } else { "" };
        let in_force = if args.observe { "history's outcomes" } else { "these decisions" };
        let _ = writeln!(
            text,
            "{order}\n{decided} decided by {}, {in_force} in force; {:.1} s, {:.0} transactions/s",
            self.versions(),
            self.took.as_secs_f64(),
            self.per_second()
        );
        for (count, what) in self.remarks() {
            let _ = writeln!(text, "{count} {what}");
        }
        if let Some(why) = &figures.undecided_why {
            let _ = writeln!(text, "{} NOT DECIDED: {why}", figures.undecided);
        }
        for note in &origin.notes {
            let _ = writeln!(text, "{note}");
        }
        if let Some(recorded) = self.recorded {
            let _ = write!(text, "\n{}", recorded.text());
        }
        text += "\ndecision                    count        %  amount\n";
        for (decision, volume) in &figures.decisions {
            let name = named(*decision);
            let percent = 100.0 * share(volume.count, decided).unwrap_or_default();
            let _ = writeln!(text, "{name:<22}{:>11}{percent:>9.2}  {}", volume.count, amounts(volume));
        }
        let head = "decisions     fraud  genuine  precision  of fraud     alone";
        let _ = writeln!(text, "\n{:<34}{head}  amount", "by deciding reason");
        for (code, reason) in figures.reasons_by_count() {
            text += &self.line(code, &reason.decided, reason.is_suspicion.then_some(&reason.alone));
        }
        let _ = writeln!(text, "\n{:<34}{head}  amount", "by rule that fired");
        for (place, rule) in self.backtest.rules().rules.iter().enumerate() {
            let voice = &figures.voices.rules()[place];
            let speaks_against = rule.then.response_code().is_some();
            let alone = speaks_against.then_some(&voice.alone);
            match rule.mode {
                Mode::Off => {}
                Mode::Live => text += &self.line(&rule.id, &voice.fired, alone),
                Mode::Shadow => text += &self.line(&format!("{} (shadow)", rule.id), &voice.fired, alone),
            }
            if let Some(voice) = figures.voices.held_back(place) {
                text += &self.line(
                    &format!("{} (held back)", rule.id),
                    &voice.fired,
                    speaks_against.then_some(&voice.alone),
                );
            }
        }
        if self.backtest.model().is_some() {
            let model = figures.voices.model();
            text += &self.line("the model", &model.fired, Some(&model.alone));
        }
        text += &self.against_labels();
        text +=
            "\n--format json and --report OUT.html have all of it, also by MCC, country, amount and time\n";
        text + &self.against.map(Against::text).unwrap_or_default()
    }

    /// What decided, in words.
    pub(super) fn versions(&self) -> String {
        match self.backtest.model() {
            Some(model) => format!("rules {} and model {}", self.backtest.rules().version, model.version()),
            None => format!("rules {} and no model", self.backtest.rules().version),
        }
    }

    /// What was not simply decided, where there was any.
    pub(super) fn remarks(&self) -> Vec<(u64, &'static str)> {
        let whole = &self.figures.whole;
        // Where none has one, that is said instead.
        let unlabelled = if whole.labelled() > 0 { self.figures.unlabelled() } else { 0 };
        let all = [
            (unlabelled, "decisions without a label, in no figure of fraud"),
            (self.figures.repeated, "repeats of an id, answered again"),
            (self.figures.duplicates, "ids used again with another body, declined with 94"),
            (self.origin.skipped.len() as u64, "rows passed over that cannot be read"),
        ];
        all.into_iter().filter(|(count, _)| *count > 0).collect()
    }

    /// The rules by their ids, and behind them the model: what the overlap names by place.
    pub(super) fn voice_names(&self) -> Vec<String> {
        let rules = self.backtest.rules().rules.iter().map(|rule| rule.id.to_string());
        rules.chain(["the model".to_owned()]).collect()
    }

    /// One reason or rule.
    fn line(&self, name: &str, brought: &Yield, alone: Option<&Yield>) -> String {
        let Yield { all, fraud, genuine } = brought;
        let of_fraud = share(fraud.count, self.figures.whole.fraud.count);
        let has_labels = self.figures.whole.labelled() > 0;
        let alone = alone.map(|alone| if has_labels { alone.fraud.count } else { alone.all.count });
        let alone = alone.map_or("-".to_owned(), |alone| alone.to_string());
        format!(
            "{name:<34}{:>9}{:>10}{genuine:>9}{:>11}{:>10}{alone:>10}  {}\n",
            all.count,
            fraud.count,
            percent(brought.precision()),
            percent(of_fraud),
            amounts(all)
        )
    }

    fn against_labels(&self) -> String {
        let Figures { whole, episodes, .. } = self.figures;
        if whole.labelled() == 0 {
            return format!(
                "\n{}\nalone: decisions that nothing else spoke against; {ADDED}\n",
                self.origin.unlabelled
            );
        }
        let Slice { fraud, caught, genuine, false_positives, .. } = whole;
        let Episodes { lost, saved, step_ups, stopped_otherwise, .. } = episodes;
        let mut text = format!(
            "\nfraud: {} of {} caught by rules or model ({}), {} of {}\n\
             false positives: {false_positives} of {genuine} genuine transactions ({:.2} %)",
            caught.count,
            fraud.count,
            percent(whole.recall()),
            amounts(caught),
            amounts(fraud),
            100.0 * whole.false_positive_rate().unwrap_or_default(),
        );
        if let Some(each) = episodes.false_positives_per_caught_account(*false_positives) {
            let _ = write!(text, ", {each:.2} for each account with fraud caught");
        }
        let _ = writeln!(
            text,
            "\naccounts with fraud: {} of {} caught ({}); episodes: {} of {}",
            episodes.accounts_caught(),
            episodes.accounts(),
            percent(episodes.account_detection_rate()),
            episodes.episodes_caught,
            episodes.episodes
        );
        let beside = |volume: &Volume, what: &str| match volume.count {
            0 => String::new(),
            _ => format!(", {} {what} before it", amounts(volume)),
        };
        let _ = writeln!(
            text,
            "of the money {} is lost before the first decline for suspicion of an episode and {} saved from it on{}{} (an \
             episode: frauds of an account, at most {EPISODE_GAP_DAYS} days from one to the next)",
            amounts(lost),
            amounts(saved),
            beside(step_ups, "asked to step up"),
            beside(stopped_otherwise, "declined for credit or status"),
        );
        text += "caught, and false positive: declined or asked to step up by rules, lists or model\n";
        let _ = writeln!(text, "alone: frauds that nothing else spoke against; {ADDED}");
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

    pub(super) fn per_second(&self) -> f64 {
        self.origin.rows as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// A share as a percentage; a dash where there is none.
pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

/// The sums of all currencies, each by itself.
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

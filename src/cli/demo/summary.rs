//! What the demo counts from the answers alone, and how it is shown: decisions as they are made, then totals, one
//! explained decision per kind of decline, fraud caught, false positives and latency.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{
    check::Figures,
    explanation::Explanation,
    source::{Row, Truth},
    traffic::IN_FLIGHT,
};
use crate::{
    cli::{past::HOLDS_NOTE, say, scores::Line},
    observe::{ReasonGroup, RuleGroups},
    proto::AuthoriseResponse,
    sim::FraudKind,
    types::{
        auth::{AuthRequest, Subject},
        codes::{Decision, ReasonSource},
        money::{Currency, Money},
    },
};

/// Lines shown over the whole traffic, apart from the first ones of each kind.
const LINES: u64 = 20;
/// Decisions of each kind that are shown whatever comes up.
const LINES_PER_GROUP: usize = 2;

/// An answer with what it says in the engine's own words.
pub(super) struct Decided {
    answer: AuthoriseResponse,
    decision: Decision,
    /// What decided: nothing for an approval, else the group of the first reason.
    group: ReasonGroup,
}

impl Decided {
    /// # Errors
    /// In words, where the answer has no decision that this program knows.
    pub(super) fn new(answer: AuthoriseResponse, groups: &RuleGroups) -> Result<Decided, String> {
        let decision = u8::try_from(answer.decision).ok().and_then(Decision::from_number);
        let decision = decision.ok_or_else(|| format!("decision {} is unknown", answer.decision))?;
        let group = match (decision, answer.reasons.first()) {
            (Decision::Declined | Decision::StepUp, Some(reason)) => {
                let source = u8::try_from(reason.source).ok().and_then(ReasonSource::from_number);
                source.map_or(ReasonGroup::None, |source| ReasonGroup::of(source, &reason.code, groups))
            }
            _ => ReasonGroup::None,
        };
        Ok(Decided { answer, decision, group })
    }
}

/// The line of a row among the scores; without an answer where nothing was decided.
pub(super) fn scored(row: &Row, decided: &Result<Decided, String>) -> Line {
    let transaction_id = row.request.key.to_string();
    match decided {
        Err(_) => Line { transaction_id, ..Line::default() },
        Ok(Decided { answer, decision, .. }) => Line {
            transaction_id,
            margin: answer.score_margin,
            decision: decision.name(),
            response_code: answer.response_code.clone(),
            reasons: answer.reasons.iter().map(|reason| reason.code.clone()).collect(),
        },
    }
}

/// Decides which decisions are shown as they are made.
pub(super) struct Shown {
    every: u64,
    seen: u64,
    by_group: BTreeMap<ReasonGroup, usize>,
    talk: bool,
}

impl Shown {
    pub(super) fn new(transactions: u64, talk: bool) -> Shown {
        Shown { every: (transactions / LINES).max(1), seen: 0, by_group: BTreeMap::new(), talk }
    }

    pub(super) fn show(&mut self, row: &Row, decided: &Result<Decided, String>) {
        self.seen += 1;
        let Ok(decided) = decided else { return };
        let of_group = self.by_group.entry(decided.group).or_default();
        *of_group += 1;
        if self.talk && (*of_group <= LINES_PER_GROUP || self.seen.is_multiple_of(self.every)) {
            say(line(&row.request, decided));
        }
    }
}

/// The columns of [`line`].
pub(super) const HEADING: &str =
    "time                  card                     amount  at  decision  code score  reasons";

/// One decision in one line.
fn line(request: &AuthRequest, decided: &Decided) -> String {
    let Decided { answer, decision, .. } = decided;
    let time = request.transaction_time.map(|time| time.to_string()).unwrap_or_default();
    let card = match request.subject {
        Subject::Card(card) => card.to_string(),
        Subject::Account(account) => account.to_string(),
    };
    let amount = request.amount.map(|amount| amount.to_string()).unwrap_or_default();
    let country = request.merchant.country.map_or("--".to_owned(), |country| country.as_str().to_owned());
    let reasons: Vec<_> = answer.reasons.iter().map(|reason| reason.code.as_str()).collect();
    format!(
        "{time:<20}  {card:<14} {amount:>16}  {country}  {:<9} {:<4} {:>5}  {}",
        decision.name(),
        answer.response_code,
        answer.score,
        reasons.join(" ")
    )
    .trim_end()
    .to_owned()
}

/// Counts of the answers.
pub(super) struct Tally {
    decisions: BTreeMap<(Decision, ReasonGroup), u64>,
    /// The last transaction of each kind of decline and of step-up.
    examples: BTreeMap<(Decision, ReasonGroup), String>,
    undecided: u64,
    /// Why the first of them was not decided.
    undecided_why: Option<String>,
    /// Ids that came again and got the answer of the first time.
    repeated: u64,
    fraud: Fraud,
    /// Of them those of a known pattern.
    fraud_kinds: BTreeMap<FraudKind, Fraud>,
    fraud_amounts: BTreeMap<Currency, FraudAmount>,
    genuine: u64,
    /// Genuine ones declined or stepped up by rules or model.
    false_positives: u64,
    latency_us: Histogram<u64>,
    began: Instant,
    took: Duration,
}

#[derive(Clone, Copy, Default)]
struct Fraud {
    all: u64,
    /// Declined or stepped up by rules or model.
    caught: u64,
    /// Declined for another reason, such as credit.
    stopped: u64,
}

#[derive(Clone, Copy, Default)]
struct FraudAmount {
    all_minor: i128,
    caught_minor: i128,
}

/// Latencies are kept to three digits, up to a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            decisions: BTreeMap::new(),
            examples: BTreeMap::new(),
            undecided: 0,
            undecided_why: None,
            repeated: 0,
            fraud: Fraud::default(),
            fraud_kinds: BTreeMap::new(),
            fraud_amounts: BTreeMap::new(),
            genuine: 0,
            false_positives: 0,
            latency_us: Histogram::new_with_max(LATENCY_US_MAX, 3).expect("three digits of a minute fit"),
            began: Instant::now(),
            took: Duration::ZERO,
        }
    }

    pub(super) fn count(&mut self, row: &Row, decided: &Result<Decided, String>, latency: Duration) {
        self.took = self.began.elapsed();
        let Decided { answer, decision, group } = match decided {
            Ok(decided) => decided,
            Err(why) => {
                self.undecided += 1;
                self.undecided_why.get_or_insert_with(|| why.clone());
                return;
            }
        };
        if answer.replayed {
            self.repeated += 1;
            return;
        }
        let (decision, group) = (*decision, *group);
        *self.decisions.entry((decision, group)).or_default() += 1;
        self.latency_us.saturating_record(latency.as_micros().try_into().unwrap_or(LATENCY_US_MAX));
        let passed = matches!(decision, Decision::Approved | Decision::PartiallyApproved);
        if !passed {
            // The newest: the engine remembers ids for 35 days of its own time, and a file may span more.
            self.examples.insert((decision, group), answer.transaction_id.clone());
        }
        let suspected = !passed && group.suspects_fraud();
        // A key used again with another body says nothing of the transaction.
        let truth = if group == ReasonGroup::DuplicateKey { Truth::Unknown } else { row.truth };
        let kind = match truth {
            Truth::Unknown => return,
            Truth::Genuine => {
                self.genuine += 1;
                self.false_positives += u64::from(suspected);
                return;
            }
            Truth::Fraud(kind) => kind,
        };
        for fraud in [Some(&mut self.fraud), kind.map(|kind| self.fraud_kinds.entry(kind).or_default())]
            .into_iter()
            .flatten()
        {
            fraud.all += 1;
            fraud.caught += u64::from(suspected);
            fraud.stopped += u64::from(!passed && !suspected);
        }
        if let Some(billed) = row.request.billed() {
            let amount = self.fraud_amounts.entry(billed.currency).or_default();
            amount.all_minor += i128::from(billed.minor);
            amount.caught_minor += if suspected { i128::from(billed.minor) } else { 0 };
        }
    }

    /// The groups that declined or stepped up, each with its last transaction, as far as `GetDecision` shows that
    /// decision: of a key used twice it shows the first use.
    pub(super) fn explainable(&self) -> impl Iterator<Item = (ReasonGroup, &str)> {
        self.examples
            .iter()
            .filter(|((_, group), _)| *group != ReasonGroup::DuplicateKey)
            .map(|((_, group), transaction_id)| (*group, transaction_id.as_str()))
    }

    pub(super) fn decisions(&self, decision: Decision, group: ReasonGroup) -> u64 {
        self.decisions.get(&(decision, group)).copied().unwrap_or(0)
    }

    /// Ids that came again and got the answer of the first time.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    pub(super) fn decided(&self) -> u64 {
        self.decisions.values().sum()
    }

    fn of_decision(&self, decision: Decision) -> u64 {
        self.decisions.iter().filter(|((made, _), _)| *made == decision).map(|(_, count)| count).sum()
    }

    /// Fraud caught and customers wronged, as far as the rows say what they were.
    fn fmt_fraud(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fraud.all + self.genuine == 0 {
            return writeln!(f, "\nno row says whether it was fraud: nothing is said of fraud caught");
        }
        let fraud = self.fraud;
        writeln!(
            f,
            "\nfraud: {} of {} caught by rules or model ({:.1} %), {} more stopped otherwise",
            fraud.caught,
            fraud.all,
            100.0 * share(fraud.caught, fraud.all),
            fraud.stopped
        )?;
        for (kind, fraud) in &self.fraud_kinds {
            writeln!(f, "  {:<24} {:>5} of {}", kind.name().replace('_', " "), fraud.caught, fraud.all)?;
        }
        for (currency, amount) in &self.fraud_amounts {
            let money = |minor: i128| Money::new(whole(minor), *currency);
            writeln!(
                f,
                "  {:<24} {} of {}",
                "amount caught",
                money(amount.caught_minor),
                money(amount.all_minor)
            )?;
        }
        writeln!(
            f,
            "false positives: {} of {} genuine transactions ({:.2} %)",
            self.false_positives,
            self.genuine,
            100.0 * share(self.false_positives, self.genuine)
        )
    }
}

/// Everything the demo has to say at its end.
pub(super) struct Summary {
    /// Where the traffic came from.
    pub(super) name: String,
    pub(super) accounts: usize,
    pub(super) tally: Tally,
    pub(super) explanations: Vec<Explanation>,
    pub(super) figures: Figures,
    pub(super) grpc: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Summary {
    /// Whether every request was decided and the engine's own figures are those of the answers.
    pub(super) fn is_right(&self) -> bool {
        self.tally.undecided == 0 && self.figures.differences.is_empty()
    }

    pub(super) fn as_json(&self) -> Value {
        let Summary { name, accounts, tally, explanations, figures, grpc, admin } = self;
        let decisions: Vec<_> = tally
            .decisions
            .iter()
            .map(|((decision, group), count)| {
                json!({ "decision": decision.name(), "reason_group": group.name(), "count": count })
            })
            .collect();
        let fraud: BTreeMap<_, _> = tally
            .fraud_kinds
            .iter()
            .map(|(kind, fraud)| {
                let Fraud { all, caught, stopped } = fraud;
                (kind.name(), json!({ "all": all, "caught": caught, "stopped_otherwise": stopped }))
            })
            .collect();
        let amounts: BTreeMap<_, _> = tally
            .fraud_amounts
            .iter()
            .map(|(currency, amount)| {
                let minor = json!({
                    "all_minor": whole(amount.all_minor),
                    "caught_minor": whole(amount.caught_minor),
                });
                (currency.alpha(), minor)
            })
            .collect();
        let all = tally.fraud;
        json!({
            "source": name,
            "accounts": accounts,
            "decided": tally.decided(),
            "undecided": tally.undecided,
            "repeated": tally.repeated,
            "seconds": tally.took.as_secs_f64(),
            "approved": tally.of_decision(Decision::Approved),
            "partially_approved": tally.of_decision(Decision::PartiallyApproved),
            "declined": tally.of_decision(Decision::Declined),
            "stepped_up": tally.of_decision(Decision::StepUp),
            "decisions": decisions,
            "explained": explanations.iter().map(Explanation::as_json).collect::<Vec<_>>(),
            "fraud": {
                "all": all.all,
                "caught": all.caught,
                "caught_share": share(all.caught, all.all),
                "stopped_otherwise": all.stopped,
                "by_kind": fraud,
                "amounts": amounts,
            },
            "genuine": tally.genuine,
            "false_positives": tally.false_positives,
            "false_positive_share": share(tally.false_positives, tally.genuine),
            "latency_us": PERCENTILES
                .iter()
                .map(|(name, quantile)| ((*name).to_owned(), tally.latency_us.value_at_quantile(*quantile)))
                .collect::<BTreeMap<_, _>>(),
            "in_flight": IN_FLIGHT,
            "metrics_agree": figures.differences.is_empty(),
            "metrics_decisions": figures.counted,
            "metrics_differences": figures.differences,
            "grpc": grpc.to_string(),
            "admin": admin.to_string(),
        })
    }
}

const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// An amount as wide as others take it. No demo comes near the end of the range.
fn whole(minor: i128) -> i64 {
    i64::try_from(minor).unwrap_or(i64::MAX)
}

/// Part of the whole, 0 where there is no whole.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { name, accounts, tally, explanations, figures, grpc, admin } = self;
        let decided = tally.decided();
        writeln!(
            f,
            "{decided} authorisations on {accounts} accounts ({name}), decided in {:.1} s",
            tally.took.as_secs_f64()
        )?;
        let mut row = |name: &str, count: u64, example: &str| {
            let percent = 100.0 * share(count, decided);
            let text = format!("  {name:<24} {count:>8}  {percent:>6.2} %  {example}");
            writeln!(f, "{}", text.trim_end())
        };
        for (decision, name) in [
            (Decision::Approved, "approved"),
            (Decision::PartiallyApproved, "approved in part"),
            (Decision::StepUp, "asked to step up"),
            (Decision::Declined, "declined"),
        ] {
            let count = tally.of_decision(decision);
            if count == 0 && matches!(decision, Decision::PartiallyApproved | Decision::StepUp) {
                continue;
            }
            row(name, count, "")?;
            if matches!(decision, Decision::Approved | Decision::PartiallyApproved) {
                continue;
            }
            // Each decision's own reasons stand below it, so that they add up to it.
            for group in ReasonGroup::ALL {
                let count = tally.decisions(decision, group);
                if count > 0 {
                    let example = tally.examples.get(&(decision, group)).map_or("", String::as_str);
                    row(&format!("  {}", group.name().replace('_', " ")), count, example)?;
                }
            }
        }
        if tally.undecided > 0 {
            row("NOT DECIDED", tally.undecided, tally.undecided_why.as_deref().unwrap_or_default())?;
        }

        if tally.repeated > 0 {
            writeln!(f, "  {} repeats of an id, answered again", tally.repeated)?;
        }
        writeln!(f, "{HOLDS_NOTE}")?;

        writeln!(f, "\none of each, as GetDecision explains it")?;
        explanations.iter().try_for_each(|explanation| write!(f, "{explanation}"))?;

        tally.fmt_fraud(f)?;
        write!(f, "\nlatency at the client, one stream with {IN_FLIGHT} in flight, every answer on disk:")?;
        for (name, quantile) in PERCENTILES {
            write!(f, "  {name} {:.2} ms", tally.latency_us.value_at_quantile(quantile) as f64 / 1e3)?;
        }
        writeln!(f, "\ngRPC {grpc}   metrics http://{admin}/metrics")?;
        match figures.differences.as_slice() {
            [] => writeln!(
                f,
                "/metrics agrees: {} decisions, equal by decision and reason group",
                figures.counted
            ),
            differences => {
                writeln!(
                    f,
                    "/metrics DISAGREES: {} decisions, {} answers",
                    figures.counted, figures.answered
                )?;
                differences.iter().try_for_each(|difference| writeln!(f, "  {difference}"))
            }
        }
    }
}

//! Where rows come from: a file of transactions, played through the code that serves, or the journal, which has the very
//! vectors that were served.

use std::{ops::ControlFlow, path::Path};

use anyhow::Context as _;

use super::{
    Args,
    periods::{Known, Periods},
    table::Table,
};
use crate::{
    authorise::{Seen, Watch},
    cli::{past, progress::bar},
    config::Config,
    engine::{
        backtest::{Backtest, PastJournal, Replayed},
        recover::Source,
    },
    features::catalog::{MODEL_FEATURES, model_index_of, slot},
    history::{Placed, Selection, Transaction},
    journal::record::{Decided, Record},
    types::{account::AccountChange, codes::Kind, lists::FraudLabel},
};

/// Where rows go.
pub(super) struct Rows {
    pub(super) periods: Periods,
    pub(super) table: Option<Table>,
}

impl Rows {
    fn take(
        &mut self,
        transaction_id: &str,
        known: &Known<'_>,
        row: &[f32; MODEL_FEATURES],
    ) -> anyhow::Result<()> {
        let period = self.periods.take(known, row);
        self.table.as_mut().map_or(Ok(()), |table| table.put(transaction_id, known, period, row))
    }
}

/// Rows that are none to learn from, and what was assumed of others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeftOut {
    pub(super) repeated: u64,
    pub(super) of_unknown_accounts: u64,
    /// Rows that the engine would have refused: their account has as many open holds as it may have.
    pub(super) refused: u64,
    /// Rows of a journal that nobody labelled within the label delay.
    pub(super) assumed_genuine: u64,
}

/// The rows of a file of transactions.
///
/// # Errors
/// Where it cannot be read, or an output cannot be written.
pub(super) fn of_file(args: &Args, rows: &mut Rows) -> anyhow::Result<LeftOut> {
    let file = args.transactions.as_deref().context("name --transactions FILE or --journal DIR")?;
    let selection = Selection { skip_bad_rows: args.skip_bad_rows, limit: None };
    let survey = past::survey(file, selection)?;
    let accounts =
        past::openings(args.accounts.as_deref(), args.skip_bad_rows, &survey, &args.default_limit)?;
    let config = past::config(args.config.as_deref(), args.accounts.as_deref())?;
    let mut replay = Replay::new(&config, accounts, rows.periods.label_delay_ms())?;
    let progress = bar(survey.rows, "transactions replayed");
    let mut transactions = survey.replay()?;
    while let Some(placed) = transactions.next_row() {
        let Placed { transaction, .. } = placed?;
        if let Some(row) = replay.take(transaction) {
            let label = transaction.label.map(|label| (label.is_fraud, label.labelled_at));
            let time = transaction.request.transaction_time.unwrap_or_default();
            let known = Known { account: transaction.account.0.as_str(), time, label };
            rows.take(transaction.request.key.0.as_str(), &known, &row)?;
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(replay.left_out)
}

/// The decisions of a journal, with the vectors that were served. The newest label that came before the horizon counts,
/// in the test the newest of all; what nobody labelled and is older than the label delay counts as genuine. Where the
/// newest settings say that limits are made up, no row has the use of credit, as none that is served has it by now.
///
/// # Errors
/// Where the journal or its settings cannot be read, or an output cannot be written.
pub(super) fn of_journal(data_dir: &Path, args: &Args, rows: &mut Rows) -> anyhow::Result<LeftOut> {
    let journal = past::journal(data_dir)?;
    let unserved = unserved(&journal).with_context(|| data_dir.display().to_string())?;
    let mut taken_out = 0_u64;
    // What came after the last decision is known, too.
    let end = journal.last_time();
    let progress = bar(journal.last_position(), "positions read");
    let horizon = args.test_from.unwrap_or(end);
    rows.periods.horizon = Some(horizon);
    let label_delay_ms = rows.periods.label_delay_ms();
    let mut left_out = LeftOut::default();
    // The walk takes words alone: an error of an output is kept beside it.
    let mut failed = None;
    journal.replay(&mut |position, record| {
        if position.is_multiple_of(PROGRESS_EVERY) {
            progress.set_position(position);
        }
        let Record::Decided(decided) = record else { return Ok(ControlFlow::Continue(())) };
        let Decided { time, request, account: Some(account), considered, .. } = &**decided else {
            left_out.of_unknown_accounts += 1;
            return Ok(ControlFlow::Continue(()));
        };
        if request.kind == Kind::BalanceInquiry {
            return Ok(ControlFlow::Continue(()));
        }
        let until = if args.test_from.is_some_and(|test_from| *time >= test_from) { end } else { horizon };
        let label = match journal.label_by(position, until) {
            Some((came, label)) => Some((label == FraudLabel::Fraud, Some(came))),
            None if time.plus_ms(label_delay_ms) <= until => {
                left_out.assumed_genuine += 1;
                Some((false, None))
            }
            None => None,
        };
        let known = Known { account: account.0.as_str(), time: *time, label };
        let mut vector = considered.vector;
        if let Some(value) = unserved.and_then(|index| vector.get_mut(index)) {
            taken_out += u64::from(!value.is_nan());
            *value = f32::NAN;
        }
        match rows.take(request.key.0.as_str(), &known, &vector) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) => {
                failed = Some(error);
                Ok(ControlFlow::Break(()))
            }
        }
    })?;
    progress.finish_and_clear();
    if taken_out > 0 {
        eprintln!(
            "note: account.utilisation is missing in all rows, and was taken out of {taken_out}: the journal's newest \
             settings say that limits are made up ([accounts] assumed_limits), so it is served no more"
        );
    }
    failed.map_or(Ok(left_out), Err)
}

/// The place of the feature that older rows may have and that is not served under the journal's newest settings.
fn unserved(journal: &PastJournal) -> anyhow::Result<Option<usize>> {
    // Without settings there is no decision to learn from either, which is told elsewhere.
    if journal.config_number() == 0 {
        return Ok(None);
    }
    let limits_are_assumed = journal.backtest(&no_rules(), None)?.limits_are_assumed();
    Ok(model_index_of(slot::UTILISATION).filter(|_| limits_are_assumed))
}

/// Neither rules nor a model are read by what a model is trained on.
fn no_rules() -> Source {
    Source { name: "no rules".to_owned(), text: "version = 1\n".to_owned() }
}

/// Positions between two updates of the progress.
const PROGRESS_EVERY: u64 = 1_024;

/// History, played once through the code that serves, with history's outcomes in force.
pub(super) struct Replay {
    backtest: Backtest,
    label_delay_ms: i64,
    pub(super) left_out: LeftOut,
}

/// The features of the decision made last.
#[derive(Default)]
struct Features(Option<[f32; MODEL_FEATURES]>);

impl Watch for Features {
    fn decided(&mut self, seen: &Seen<'_>) {
        self.0 = Some(*seen.vector);
    }
}

impl Replay {
    pub(super) fn new(
        config: &Config,
        accounts: Vec<AccountChange>,
        label_delay_ms: i64,
    ) -> anyhow::Result<Replay> {
        let mut backtest = Backtest::under(config, &no_rules(), None)?;
        past::open(&mut backtest, accounts)?;
        Ok(Replay { backtest, label_delay_ms, left_out: LeftOut::default() })
    }

    /// The features of a transaction at its time; afterwards it is part of the past, and its label will be once that is
    /// known. None where it is no decision that the model would see.
    pub(super) fn take(&mut self, transaction: &Transaction) -> Option<[f32; MODEL_FEATURES]> {
        let mut features = Features::default();
        let left_out = &mut self.left_out;
        let request = &transaction.request;
        let observed = past::observed(transaction.outcome);
        let replayed = self.backtest.observe(request, observed, false, &mut features);
        past::label(&mut self.backtest, transaction, self.label_delay_ms);
        match replayed {
            Err(_) => left_out.refused += 1,
            Ok((_, Replayed::Repeated | Replayed::Duplicate)) => left_out.repeated += 1,
            Ok((answer, Replayed::Decided)) if answer.approved.is_none() => left_out.of_unknown_accounts += 1,
            Ok((_, Replayed::Decided)) => return features.0.filter(|_| request.kind != Kind::BalanceInquiry),
        }
        None
    }
}

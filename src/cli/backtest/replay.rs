//! The two ways through a history: the rows of a file by their timestamps, and the records of a journal in their order.

use std::ops::ControlFlow;

use anyhow::anyhow;

use super::{
    Tally,
    figures::{Decided, Past},
    origin::Origin,
    recorded::Recorded,
    voices::Heard,
};
use crate::{
    cli::{past, progress::bar},
    engine::backtest::{Backtest, PastJournal, Redone},
    history::{Placed, Survey, Transaction},
    journal::record::Record,
    types::lists::FraudLabel,
};

/// Rows between two updates of the progress.
const PROGRESS_EVERY: u64 = 1_024;

/// How the rows of a file are replayed.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// What history decided is put in force.
    pub(super) observe: bool,
    /// After its transaction a label is known, where the file does not say when.
    pub(super) label_delay_ms: i64,
}

/// Decides every row of a file.
///
/// # Errors
/// Where a row cannot be read, or an output cannot be written.
pub(super) fn file(
    survey: &Survey,
    how: How,
    backtest: &mut Backtest,
    mut other: Option<&mut Backtest>,
    tally: &mut Tally<'_>,
) -> anyhow::Result<()> {
    let progress = bar(survey.rows, "transactions replayed");
    let mut count = 0_u64;
    let mut rows = survey.replay()?;
    while let Some(placed) = rows.next_row() {
        let Placed { place, transaction } = placed?;
        let again = survey.may_repeat(&transaction.request.key);
        let decided = row(transaction, how, again, backtest);
        let other = other.as_mut().map(|other| row(transaction, how, again, other));
        let past = Past {
            request: &transaction.request,
            account: Some(transaction.account),
            is_fraud: transaction.label.map(|label| label.is_fraud),
        };
        tally.take(*place, &past, &decided, other.as_ref())?;
        count += 1;
        if count.is_multiple_of(PROGRESS_EVERY) {
            progress.set_position(count);
        }
    }
    progress.finish_and_clear();
    Ok(())
}

fn row(transaction: &Transaction, how: How, again: bool, backtest: &mut Backtest) -> Decided {
    let (request, mut heard) = (&transaction.request, Heard::default());
    let replayed = match how.observe {
        true => backtest.observe(request, past::observed(transaction.outcome), again, &mut heard),
        false => backtest.decide(request, again, &mut heard),
    };
    past::label(backtest, transaction, how.label_delay_ms);
    (replayed.map_err(|fault| fault.to_string()), heard)
}

/// Decides the requests of a journal, up to so many of them, and does again what its other records did.
///
/// # Errors
/// Where it cannot be read any more, or an output cannot be written.
pub(super) fn journal(
    journal: &PastJournal,
    (how, limit): (How, u64),
    backtest: &mut Backtest,
    mut other: Option<&mut Backtest>,
    tally: &mut Tally<'_>,
    origin: &mut Origin,
) -> anyhow::Result<Recorded> {
    let progress = bar(journal.last_position(), "positions replayed");
    let mut recorded = Recorded::beside(journal.config_number());
    // The walk takes words alone: an error of an output is kept beside it.
    let mut failed = None;
    let walked = journal.replay(&mut |position, record| {
        if position.is_multiple_of(PROGRESS_EVERY) {
            progress.set_position(position);
        }
        let (decided, again) = redo(backtest, position, record, how.observe);
        let other = other.as_mut().map(|other| redo(other, position, record, how.observe).0);
        let (past, time) = match record {
            Record::Decided(decided) => {
                // Nobody reports a payment that was all right.
                let is_silent =
                    journal.has_labels() && decided.time.plus_ms(how.label_delay_ms) <= journal.last_time();
                let said = journal.label_of(position).map(|label| label == FraudLabel::Fraud);
                let is_fraud = said.or_else(|| is_silent.then_some(false));
                (Past { request: &decided.request, account: decided.account, is_fraud }, decided.time)
            }
            Record::Duplicated(duplicated) => {
                (Past { request: &duplicated.request, account: None, is_fraud: None }, duplicated.time)
            }
            _ => {
                match again {
                    Ok(true) => recorded.applied += 1,
                    Ok(false) => {}
                    Err(why) => recorded.not_applied(position, &why),
                }
                return Ok(ControlFlow::Continue(()));
            }
        };
        if let (Record::Decided(then), Ok((now, _))) = (record, &decided.0) {
            recorded.compare(then, now);
        }
        let taken = tally.take(origin.rows, &past, &decided, other.as_ref());
        origin.note(time);
        if let Err(error) = taken {
            failed = Some(error);
            return Ok(ControlFlow::Break(()));
        }
        Ok(if origin.rows < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    });
    progress.finish_and_clear();
    match failed {
        Some(error) => Err(error),
        None => walked.map(|()| recorded).map_err(|error| anyhow!("the journal cannot be read on: {error}")),
    }
}

/// What a record comes to: the decision, where it is a request, and whether it was done again, where it is none.
fn redo(
    backtest: &mut Backtest,
    position: u64,
    record: &Record,
    observe: bool,
) -> (Decided, Result<bool, String>) {
    let mut heard = Heard::default();
    match backtest.redo(position, record, observe, &mut heard) {
        Ok(Redone::Answered(answer, how)) => ((Ok((*answer, how)), heard), Ok(false)),
        Ok(Redone::Applied) => ((Err(String::new()), heard), Ok(true)),
        Ok(Redone::Nothing) => ((Err(String::new()), heard), Ok(false)),
        Err(why) => ((Err(why.clone()), heard), Err(why)),
    }
}

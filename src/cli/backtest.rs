//! `saker backtest`: history decided again by the code that serves, with windows, holds and balances, and what that
//! was worth.
//!
//! One process and one thread decide; the file is read on another. Deliberately absent: replaying a journal, and a
//! report as HTML.

mod against;
mod figures;
mod report;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use self::{
    against::{Against, Decided},
    figures::{Figures, Seen},
    report::Report,
};
use super::{
    Format, output,
    past::{self, DEFAULT_LIMIT},
    progress::bar,
    say,
    scores::{Line, Scores},
    serve::{model_source, rules_source},
};
use crate::{
    config::Config,
    engine::backtest::Backtest,
    history::{Placed, Selection},
    types::{auth::AuthAnswer, ids::RequestKey},
};

/// Replays history through the code that serves and measures what it decides.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Transactions, CSV, plain or gzip; replayed by their timestamps.
    #[arg(long, value_name = "FILE")]
    pub transactions: PathBuf,
    /// Their accounts; without it an account opens with its first transaction.
    #[arg(long, value_name = "FILE")]
    pub accounts: Option<PathBuf>,
    /// Replaces the shipped rules.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Replaces the shipped model; `none` replays without one.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Compare with these rules, decision by decision: what they decide is `before`, what --rules decides `after`.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// Writes every decision that changes, with its cause.
    #[arg(long, value_name = "OUT.csv", requires = "against")]
    pub changes: Option<PathBuf>,
    /// Credit limit of an account that is in no file, in major units of the row's currency.
    #[arg(long, value_name = "AMOUNT", default_value = DEFAULT_LIMIT)]
    pub default_limit: String,
    /// Days until a label is known where the file does not say when. Nothing that decides reads labels yet.
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(0..=365))]
    pub label_delay: u32,
    /// Windows and holds follow what history decided (`outcome`; absent: approved), not what is decided here.
    #[arg(long)]
    pub observe: bool,
    /// Only so many rows from the start of the file.
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<u64>,
    /// Writes what was decided on each row.
    #[arg(long, value_name = "OUT.csv")]
    pub scores: Option<PathBuf>,
    /// Pass over up to this many rows that cannot be read, and list them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip_bad_rows: u64,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Rows between two updates of the progress.
const PROGRESS_EVERY: u64 = 1_024;

/// Replays the file and prints what came of it on stdout.
///
/// # Errors
/// Where a file, the rules or the model cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let inputs = [
        ("--transactions", Some(args.transactions.as_path())),
        ("--accounts", args.accounts.as_deref()),
        ("--rules", args.rules.as_deref()),
        ("--against", args.against.as_deref()),
        ("--model", args.model.as_deref()),
        ("--scores", args.scores.as_deref()),
    ];
    output::apart(("--scores", args.scores.as_deref()), &inputs[..5])?;
    output::apart(("--changes", args.changes.as_deref()), &inputs)?;
    let mut config = Config::default();
    (config.decide.rules, config.decide.model) = (args.rules.clone(), args.model.clone());
    let mut backtest = Backtest::new(&rules_source(&config)?, model_source(&config)?.as_ref())?;
    let selection = Selection { skip_bad_rows: args.skip_bad_rows, limit: args.limit };
    let survey = past::survey(&args.transactions, selection)?;
    let openings =
        past::openings(args.accounts.as_deref(), args.skip_bad_rows, &survey, &args.default_limit)?;
    let other = args.against.as_ref().map(|path| {
        config.decide.rules = Some(path.clone());
        let mut other = Backtest::new(&rules_source(&config)?, model_source(&config)?.as_ref())?;
        past::open(&mut other, openings.clone())?;
        anyhow::Ok(other)
    });
    let mut other = other.transpose()?;
    past::open(&mut backtest, openings)?;

    let (before, after) = (other.as_ref().map(Backtest::rules_shared), backtest.rules_shared());
    let against =
        before.as_deref().map(|before| Against::new(before, &after, args.changes.as_deref(), args.observe));
    let mut against = against.transpose()?;
    let mut scores = args.scores.as_deref().map(Scores::create).transpose()?;
    let mut figures = Figures::new(backtest.rules());
    let progress = bar(survey.rows, "transactions replayed");
    let began = Instant::now();
    for placed in survey.replay()? {
        let Placed { place, transaction } = placed?;
        let request = &transaction.request;
        let again = survey.may_repeat(&request.key);
        let replay = |backtest: &mut Backtest| -> Decided {
            let mut seen = Seen::default();
            let replayed = match args.observe {
                true => backtest.observe(request, past::observed(transaction.outcome), again, &mut seen),
                false => backtest.decide(request, again, &mut seen),
            };
            (replayed, seen)
        };
        let decided = replay(&mut backtest);
        if let (Some(other), Some(against)) = (&mut other, &mut against) {
            against.count(&transaction, &replay(other), &decided)?;
        }
        let (replayed, seen) = decided;
        figures.count(&transaction, &replayed, &seen);
        if let Some(scores) = &mut scores {
            scores.put(place, line(&request.key, replayed.as_ref().ok().map(|(answer, _)| answer)))?;
        }
        if place.is_multiple_of(PROGRESS_EVERY) {
            progress.set_position(place);
        }
    }
    let took = began.elapsed();
    progress.finish_and_clear();
    scores.map_or(Ok(()), Scores::finish)?;
    against.as_mut().map_or(Ok(()), Against::finish)?;

    let (survey, figures, against) = (&survey, &figures, against.as_ref());
    let report = Report { args: &args, survey, backtest: &backtest, figures, against, took };
    match args.format {
        Format::Text => say(report.text().trim_end()),
        Format::Json => say(report.json()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The line of a row; without an answer where nothing was decided.
fn line(key: &RequestKey, answer: Option<&AuthAnswer>) -> Line {
    Line {
        transaction_id: key.to_string(),
        margin: answer.and_then(|answer| answer.margin),
        decision: answer.map_or("", |answer| answer.decision.name()),
        response_code: answer.map(|answer| answer.response_code.to_string()).unwrap_or_default(),
        reasons: answer
            .map(|answer| answer.reasons.iter().map(|reason| reason.code.to_string()).collect())
            .unwrap_or_default(),
    }
}

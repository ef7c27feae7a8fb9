//! `saker backtest`: history decided again by the code that serves, with windows, holds and balances, and what that
//! was worth. History is a file of transactions or the engine's own journal.
//!
//! One process and one thread decide; a file is read on another. Deliberately absent: what a fraud cost beyond its
//! amount.

mod against;
mod episodes;
mod figures;
mod html;
mod origin;
mod recorded;
mod replay;
mod report;
mod slices;
mod thresholds;
mod voices;
mod volume;
mod weights;

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context as _;

use self::{
    against::Against,
    figures::{Decided, Figures, Past},
    origin::{Input, Origin},
    report::Report,
    weights::Weights,
};
use super::{
    Format, output,
    past::{self, DEFAULT_LIMIT, LABEL_DELAY_DAYS},
    say,
    scores::{Line, Scores},
    serve::{model_source, rules_source},
};
use crate::{
    config::Config,
    engine::{
        backtest::{Backtest, PastJournal},
        recover::Source,
    },
    history::{Selection, Survey},
    types::{account::AccountChange, auth::AuthAnswer, ids::RequestKey, time::DAY_MS},
};

/// Replays history through the code that serves and measures what it decides.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Transactions, CSV, plain or gzip; replayed by their timestamps.
    #[arg(long, value_name = "FILE", required_unless_present = "journal")]
    pub transactions: Option<PathBuf>,
    /// Their accounts; without it an account opens with its first transaction.
    #[arg(long, value_name = "FILE", conflicts_with = "journal")]
    pub accounts: Option<PathBuf>,
    /// A data directory instead of a file, in use or not: what its journal recorded, in its order and at its times.
    #[arg(long, value_name = "DIR", conflicts_with = "transactions")]
    pub journal: Option<PathBuf>,
    /// Settings to decide under, as `saker serve` has them: rates of the base currency, lives of holds, rules and model, but
    /// for a control group. A journal has its own.
    #[arg(long, value_name = "FILE", conflicts_with = "journal")]
    pub config: Option<PathBuf>,
    /// Replaces the shipped rules; with --journal, those that the journal named last.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Replaces the shipped model, or the journal's; `none` replays without one.
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
    /// Days until a label is known where the file does not say when. Windows over labels count it, and label policies
    /// follow it, from then on.
    #[arg(long, value_name = "DAYS", default_value_t = LABEL_DELAY_DAYS, value_parser = clap::value_parser!(u32).range(0..=365))]
    pub label_delay: u32,
    /// Windows and holds follow what history decided (`outcome`; absent: approved), not what is decided here.
    #[arg(long)]
    pub observe: bool,
    /// Only so many rows from the start of the file, or requests of the journal.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Writes what was decided on each row.
    #[arg(long, value_name = "OUT.csv")]
    pub scores: Option<PathBuf>,
    /// Writes all figures as one HTML file that needs no other, with plots.
    #[arg(long, value_name = "OUT.html")]
    pub report: Option<PathBuf>,
    /// Pass over up to this many rows that cannot be read, and list them.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "journal")]
    pub skip_bad_rows: u64,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Replays history and prints what came of it on stdout.
///
/// # Errors
/// Where a file, the journal, the rules or the model cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    check_outputs(&args)?;
    let history = History::open(&args)?;
    let mut inputs = history.inputs(&args)?;
    let (rules, model) = (history.rules(args.rules.as_deref())?, history.model(&args)?);
    inputs.push(Input::text("--rules", &rules.name, &rules.text));
    inputs.extend(model.as_ref().map(|model| Input::text("--model", &model.name, &model.text)));
    let mut backtest = history.engine(&rules, model.as_ref())?;
    let mut other = match &args.against {
        None => None,
        Some(path) => {
            let rules = history.rules(Some(path))?;
            inputs.push(Input::text("--against", &rules.name, &rules.text));
            Some(history.engine(&rules, model.as_ref())?)
        }
    };
    let (before, after) = (other.as_ref().map(Backtest::rules_shared), backtest.rules_shared());
    let against =
        before.as_deref().map(|before| Against::new(before, &after, args.changes.as_deref(), args.observe));
    let mut tally = Tally {
        figures: Figures::new(&backtest),
        weights: match (&model, args.report.is_some() || args.format == Format::Json) {
            (Some(model), true) => Some(Weights::new(model)?),
            _ => None,
        },
        against: against.transpose()?,
        scores: args.scores.as_deref().map(Scores::create).transpose()?,
    };
    let html = args.report.as_deref().map(Html::create).transpose()?;
    let began = Instant::now();
    let how = replay::How { observe: args.observe, label_delay_ms: i64::from(args.label_delay) * DAY_MS };
    let (origin, recorded) = match &history {
        History::File { path, survey, config, .. } => {
            replay::file(survey, how, &mut backtest, other.as_mut(), &mut tally)?;
            let reads_labels =
                [Some(&backtest), other.as_ref()].into_iter().flatten().any(Backtest::reads_labels);
            let base = &config.base_currency.0;
            (Origin::of_file(path, survey, base, args.observe, reads_labels), None)
        }
        History::Journal(path, journal) => {
            let limit = args.limit.unwrap_or(u64::MAX);
            let mut origin = Origin::of_journal(path, args.observe);
            let other = other.as_mut();
            let recorded =
                replay::journal(journal, (how, limit), &mut backtest, other, &mut tally, &mut origin)?;
            (origin, Some(recorded))
        }
    };
    let took = began.elapsed();
    let Tally { figures, weights, mut against, scores } = tally;
    let weights = weights.as_ref().map(Weights::weigh);
    scores.map_or(Ok(()), Scores::finish)?;
    against.as_mut().map_or(Ok(()), Against::finish)?;

    let report = Report {
        args: &args,
        origin: &origin,
        inputs: &inputs,
        backtest: &backtest,
        figures: &figures,
        weights: weights.as_ref(),
        against: against.as_ref(),
        recorded: recorded.as_ref(),
        took,
    };
    html.map_or(Ok(()), |html| html.write(&report))?;
    match args.format {
        Format::Text => say(report.text().trim_end()),
        Format::Json => say(report.json()),
    }
    Ok(ExitCode::SUCCESS)
}

/// No file that is written may be one that is read, or another that is written.
fn check_outputs(args: &Args) -> anyhow::Result<()> {
    let files = [
        ("--transactions", args.transactions.as_deref()),
        ("--accounts", args.accounts.as_deref()),
        ("--rules", args.rules.as_deref()),
        ("--against", args.against.as_deref()),
        ("--model", args.model.as_deref()),
        ("--config", args.config.as_deref()),
        ("--scores", args.scores.as_deref()),
        ("--changes", args.changes.as_deref()),
        ("--report", args.report.as_deref()),
    ];
    for written in 6..files.len() {
        output::apart(files[written], &files[..written])?;
        if let Some(journal) = &args.journal {
            output::outside(files[written], ("--journal", journal))?;
        }
    }
    Ok(())
}

/// No file that is written may be one that the settings name, either.
fn check_settings(args: &Args, config: &Config) -> anyhow::Result<()> {
    let read = [
        ("--config, [decide] rules", config.decide.rules.as_deref()),
        ("--config, [decide] model", config.decide.model.as_deref()),
    ];
    let written = [("--scores", &args.scores), ("--changes", &args.changes), ("--report", &args.report)];
    written.into_iter().try_for_each(|(option, file)| output::apart((option, file.as_deref()), &read))
}

/// What is replayed, with what is known before the first row of it.
enum History {
    File { path: PathBuf, survey: Survey, openings: Vec<AccountChange>, config: Box<Config> },
    Journal(PathBuf, PastJournal),
}

impl History {
    fn open(args: &Args) -> anyhow::Result<History> {
        if let Some(path) = &args.journal {
            return Ok(History::Journal(path.clone(), past::journal(path)?));
        }
        let path = args.transactions.clone().context("name --transactions FILE or --journal DIR")?;
        let selection = Selection { skip_bad_rows: args.skip_bad_rows, limit: args.limit };
        let survey = past::survey(&path, selection)?;
        let accounts = args.accounts.as_deref();
        let openings = past::openings(accounts, args.skip_bad_rows, &survey, &args.default_limit)?;
        let config = Box::new(past::config(args.config.as_deref(), accounts)?);
        check_settings(args, &config)?;
        let warnings = [
            origin::without_outcome(&survey).filter(|_| args.observe),
            origin::without_rate(&survey, &config.base_currency.0),
        ];
        for warning in warnings.into_iter().flatten() {
            eprintln!("warning: {warning}");
        }
        Ok(History::File { path, survey, openings, config })
    }

    fn inputs(&self, args: &Args) -> anyhow::Result<Vec<Input>> {
        let mut inputs = Vec::new();
        match self {
            History::File { path, .. } => inputs.push(Input::file("--transactions", path)?),
            History::Journal(path, journal) => inputs.push(Input::journal(path, journal)),
        }
        for (option, file) in [("--accounts", &args.accounts), ("--config", &args.config)] {
            inputs.extend(file.as_deref().map(|path| Input::file(option, path)).transpose()?);
        }
        Ok(inputs)
    }

    /// The rules of a file, or without one those that ship, or that the journal named last.
    fn rules(&self, file: Option<&Path>) -> anyhow::Result<Source> {
        match (self, file) {
            (History::Journal(path, journal), None) => {
                journal.rules().map_err(|why| not_kept(path, "rules", &why))
            }
            _ => {
                let mut config = self.config();
                config.decide.rules = file.map(Path::to_owned).or(config.decide.rules);
                rules_source(&config)
            }
        }
    }

    fn model(&self, args: &Args) -> anyhow::Result<Option<Source>> {
        match (self, &args.model) {
            (History::Journal(path, journal), None) => {
                journal.model().map_err(|why| not_kept(path, "model", &why))
            }
            (_, model) => {
                let mut config = self.config();
                config.decide.model = model.clone().or(config.decide.model);
                model_source(&config)
            }
        }
    }

    /// The settings of a file's replay; those of a journal are its own.
    fn config(&self) -> Config {
        match self {
            History::File { config, .. } => Config::clone(config),
            History::Journal(..) => Config::default(),
        }
    }

    /// An engine with the accounts that are open before the first row.
    fn engine(&self, rules: &Source, model: Option<&Source>) -> anyhow::Result<Backtest> {
        match self {
            History::Journal(path, journal) => {
                journal.backtest(rules, model).with_context(|| path.display().to_string())
            }
            History::File { openings, config, .. } => {
                let mut backtest = Backtest::under(config, rules, model)?;
                past::open(&mut backtest, openings.clone())?;
                Ok(backtest)
            }
        }
    }
}

fn not_kept(path: &Path, what: &str, why: &str) -> anyhow::Error {
    anyhow::anyhow!("{}: {why}; name the {what} with --{what} FILE", path.display())
}

/// Everything that is told of each row.
struct Tally<'a> {
    figures: Figures,
    /// Where the report shows them.
    weights: Option<Weights>,
    against: Option<Against<'a>>,
    scores: Option<Scores>,
}

impl Tally<'_> {
    /// Takes what was decided on the row at `place`, counted from 0, and under the other rules.
    fn take(
        &mut self,
        place: u64,
        past: &Past<'_>,
        decided: &Decided,
        other: Option<&Decided>,
    ) -> anyhow::Result<()> {
        if let (Some(other), Some(against)) = (other, &mut self.against) {
            against.count(past, other, decided)?;
        }
        self.figures.count(past, decided);
        let heard = &decided.1;
        if let (Some(weights), Some(score), Some(row)) = (&mut self.weights, heard.score, &heard.row) {
            weights.take(row, score);
        }
        if let Some(scores) = &mut self.scores {
            let answer = decided.0.as_ref().ok().map(|(answer, _)| answer);
            scores.put(place, line(&past.request.key, answer))?;
        }
        Ok(())
    }
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

/// The report's file. What stood there before goes only once the new one is made.
struct Html {
    path: PathBuf,
    file: File,
}

impl Html {
    /// # Errors
    /// Where the file cannot be written.
    fn create(path: &Path) -> anyhow::Result<Html> {
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = opened.with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Html { path: path.to_owned(), file })
    }

    fn write(mut self, report: &Report<'_>) -> anyhow::Result<()> {
        let text = html::page(report).into_string();
        let written = self.file.set_len(0).and_then(|()| self.file.write_all(text.as_bytes()));
        written.with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_file_that_the_settings_name_is_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(at("rules.toml"), "version = 1\n").unwrap();
        std::fs::write(at("t.csv"), "").unwrap();
        let mut config = Config::default();
        config.decide.rules = Some(at("rules.toml").into());
        for option in ["--scores", "--report"] {
            let args = |out: String| {
                let words = ["backtest".to_owned(), "--transactions".into(), at("t.csv"), option.into(), out];
                Cli::parse_from(words).args
            };
            let refused = check_settings(&args(at("rules.toml")), &config).unwrap_err().to_string();
            assert!(refused.contains("[decide] rules"), "{refused}");
            check_settings(&args(at("out")), &config).unwrap();
        }
    }
}

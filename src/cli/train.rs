//! `saker train`: labelled history to a model file.
//!
//! Features are computed by the code that serves, over windows that hold what history decided, never what this
//! program would have: the replay is that of `saker backtest --observe`, without rules and without a model. Rows before
//! `--train-from` only warm the windows; a label is used only where it was known when the test period began.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use serde_json::json;

use self::{
    card::Shown,
    periods::Periods,
    rows::{LeftOut, Rows},
    table::Table,
};
use super::{
    Format, output,
    past::{DEFAULT_LIMIT, LABEL_DELAY_DAYS},
    progress::bar,
    say,
    simulate::time,
};
use crate::{
    model::{
        Model,
        quality::{Intervals, Quality},
        shap::Explainer,
        train::{Named, Settings, Threshold, Trained, train},
    },
    types::time::{DAY_MS, Timestamp},
};

/// Trains the scoring model on labelled history.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Labelled transactions, CSV, plain or gzip.
    #[arg(long, value_name = "FILE", required_unless_present = "journal")]
    pub transactions: Option<PathBuf>,
    /// Their accounts; without it an account opens at its first transaction.
    #[arg(long, value_name = "FILE", conflicts_with = "journal")]
    pub accounts: Option<PathBuf>,
    /// A data directory instead, in use or not: the very features that were served, with the labels that came by
    /// `LabelTransaction`. What is older than the label delay and was never labelled counts as genuine.
    #[arg(long, value_name = "DIR", conflicts_with = "transactions")]
    pub journal: Option<PathBuf>,
    /// Settings that the transactions are replayed under, as `saker serve` has them: how long holds live counts here.
    #[arg(long, value_name = "FILE", conflicts_with = "journal")]
    pub config: Option<PathBuf>,
    /// The model file to write.
    #[arg(long, value_name = "MODEL.json")]
    pub out: PathBuf,
    /// Also write the rows as they are learned from and measured, for other tools.
    #[arg(long, value_name = "OUT.csv")]
    pub features: Option<PathBuf>,
    /// Rows before this time only warm the windows.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub train_from: Option<Timestamp>,
    /// Rows from this time on are held out, and only measured.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub test_from: Option<Timestamp>,
    /// Days until it is known whether a transaction was fraud; younger rows before the test are not used.
    #[arg(long, value_name = "DAYS", default_value_t = LABEL_DELAY_DAYS, value_parser = clap::value_parser!(u32).range(0..=365))]
    pub label_delay: u32,
    /// Credit limit of an account that is in no file, in major units of the row's currency.
    #[arg(long, value_name = "AMOUNT", default_value = DEFAULT_LIMIT)]
    pub default_limit: String,
    /// Most trees of the model: what a score costs grows with them.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub trees: u32,
    /// Wished share of genuine transactions at or above the decline threshold.
    #[arg(long, value_name = "SHARE", default_value_t = 0.003, value_parser = share)]
    pub false_positive_rate: f64,
    /// Instead: what a false positive costs, in major units; the threshold is where that and fraud that gets through cost
    /// least.
    #[arg(long, value_name = "AMOUNT", conflicts_with = "false_positive_rate", value_parser = cost)]
    pub false_positive_cost: Option<f64>,
    /// Seed of the training's own draws.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Pass over up to this many rows that cannot be read, and list them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip_bad_rows: u64,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// Runs the verb, writes the model and prints its quality on stdout.
///
/// # Errors
/// Where a file cannot be read or written, or nothing can be learned from it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let (Some(train_from), Some(test_from)) = (args.train_from, args.test_from)
        && train_from >= test_from
    {
        bail!("--train-from {train_from} is not before --test-from {test_from}");
    }
    let journal = args.journal.as_deref();
    let inputs = [
        ("--transactions", args.transactions.as_deref()),
        ("--accounts", args.accounts.as_deref()),
        ("--config", args.config.as_deref()),
    ];
    let written: Vec<PathBuf> = WRITTEN.iter().map(|ending| beside(&args.out, ending)).collect();
    for out in written.iter().chain([&args.out]) {
        output::apart(("--out, with what stands beside it,", Some(out)), &inputs)?;
    }
    let others = [inputs.as_slice(), &[("--out", Some(args.out.as_path()))]].concat();
    output::apart(("--features", args.features.as_deref()), &others)?;
    if let Some(journal) = journal {
        for (flag, out) in [("--out", Some(args.out.as_path())), ("--features", args.features.as_deref())] {
            output::outside((flag, out), ("--journal", journal))?;
        }
    }
    let directory = args.out.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(missing) = directory.filter(|directory| !directory.is_dir()) {
        bail!("--out {}: there is no directory {}; make it first", args.out.display(), missing.display());
    }
    let mut rows = Rows {
        periods: Periods::new(&args),
        table: args.features.as_deref().map(Table::create).transpose()?,
    };
    let left_out = match journal {
        Some(journal) => rows::of_journal(journal, &args, &mut rows)?,
        None => rows::of_file(&args, &mut rows)?,
    };
    let Rows { periods, table } = rows;
    table.map(Table::finish).transpose()?;

    periods.check(&args)?;
    let Periods { training, test, unused, unlabelled, .. } = periods;
    let threshold = match args.false_positive_cost {
        Some(cost) => Threshold::CostOfFalsePositive(cost),
        None => Threshold::FalsePositiveRate(args.false_positive_rate),
    };
    let settings = Settings {
        trees: args.trees as usize,
        threshold,
        label_delay_ms: i64::from(args.label_delay) * DAY_MS,
        seed: args.seed,
    };
    let progress = bar(1_000, "thousandths of the training");
    let held_out = args.test_from.is_some().then_some(&test);
    let Trained { champion, challenger, validation, validation_margins } =
        train(&training, held_out, settings, &mut |done| progress.set_position((1_000.0 * done) as u64))?;
    progress.finish_and_clear();
    let challenger_out = beside(&args.out, "challenger.json");
    write(&args.out, &champion.text)?;
    if let Some(challenger) = &challenger {
        write(&challenger_out, &challenger.text)?;
    }
    let Named { text, model } = champion;
    let shown = match held_out {
        Some(test) => {
            let margins = test.rows.iter().map(|row| model.score(row).margin).collect();
            Shown { name: "test", examples: test, margins }
        }
        None => Shown { name: "validation", examples: &validation, margins: validation_margins },
    };
    write_card(&args.out, &Explainer::load(&text)?, &shown)?;

    let report = Report { model, bytes: text.len(), unused, unlabelled, left_out };
    match args.format {
        Format::Text => say(report.text(&args.out).trim_end()),
        Format::Json => say(report.json(&args.out)),
    }
    Ok(ExitCode::SUCCESS)
}

/// What is written beside the model, by its ending.
const WRITTEN: [&str; 4] = ["challenger.json", "md", "precision.svg", "calibration.svg"];

/// Beside `m.json`: `m.md`, `m.precision.svg` and `m.calibration.svg`.
fn write_card(out: &Path, explainer: &Explainer, shown: &Shown<'_>) -> anyhow::Result<()> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let [markdown, precision, calibration] =
        ["md", "precision.svg", "calibration.svg"].map(|ending| beside(out, ending));
    let card = card::card(&name(out), explainer, shown, (&name(&precision), &name(&calibration)));
    write(&markdown, &card.markdown)?;
    write(&precision, &card.precision_and_recall)?;
    write(&calibration, &card.calibration)
}

fn write(out: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(out, text).with_context(|| format!("cannot write {}", out.display()))
}

/// The file of another ending beside this one: `m.json` and `m.challenger.json`.
fn beside(out: &Path, ending: &str) -> PathBuf {
    out.with_extension(ending)
}

fn cost(text: &str) -> Result<f64, String> {
    let cost: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (cost.is_finite() && cost > 0.0).then_some(cost).ok_or_else(|| "not above 0".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (0.0..=0.5).contains(&share).then_some(share).ok_or_else(|| "not between 0 and 0.5".to_owned())
}

/// What the command did.
struct Report {
    model: Model,
    bytes: usize,
    unused: u64,
    unlabelled: u64,
    left_out: LeftOut,
}

impl Report {
    fn text(&self, file: &Path) -> String {
        let training = self.model.training();
        let mut text = format!(
            "{}: model {}, {}, {} bytes, {} golden rows\n{}\n",
            file.display(),
            self.model.version(),
            self.model.form(),
            self.bytes,
            self.model.golden_rows(),
            training.algorithm
        );
        text += &format!("trained on {} rows with {} frauds", training.rows, training.frauds);
        for (rows, what) in [
            (self.unused, "not used, their label was not known when the test began"),
            (self.unlabelled, "without a label"),
            (self.left_out.repeated, "repeated"),
            (self.left_out.of_unknown_accounts, "of unknown accounts or cards"),
            (self.left_out.refused, "of accounts with too many open holds"),
            (self.left_out.assumed_genuine, "never labelled and taken for genuine"),
        ] {
            if rows > 0 {
                text += &format!("; {rows} {what}");
            }
        }
        text += "\n\n                            rows   frauds      AUC       AP   recall at 1 %   at 0.1 % of false positives\n";
        for tried in &training.tried {
            text += &line(&tried.algorithm, &tried.validation);
            text += &format!("  {}\n", tried.in_short());
        }
        for (period, quality, intervals) in [
            ("validation", training.validation, training.validation_intervals),
            ("test", training.test, training.test_intervals),
        ] {
            text += &quality.map_or(String::new(), |quality| line(period, &quality));
            text += &intervals.map_or(String::new(), |intervals| spread(&intervals));
        }
        text += &format!("\ndeclines from score {}", self.model.decline_threshold());
        if let Some(at) = training.test_at_threshold {
            text += &format!(
                ": {:.1} % of the test's frauds, {:.2} % of its genuine rows",
                100.0 * at.recall,
                100.0 * at.false_positive_rate
            );
        }
        text + "\n"
    }

    fn json(&self, file: &Path) -> serde_json::Value {
        json!({
            "model_file": file.display().to_string(),
            "model_version": &**self.model.version(),
            "bytes": self.bytes,
            "trees": self.model.trees(),
            "golden_rows": self.model.golden_rows(),
            "decline_threshold": self.model.decline_threshold(),
            "training": self.model.training(),
            "rows_label_unknown_at_test": self.unused,
            "rows_without_label": self.unlabelled,
            "rows_repeated": self.left_out.repeated,
            "rows_of_unknown_accounts": self.left_out.of_unknown_accounts,
            "rows_refused": self.left_out.refused,
            "rows_assumed_genuine": self.left_out.assumed_genuine,
        })
    }
}

/// One row of the table of qualities.
fn line(name: &str, quality: &Quality) -> String {
    let Quality { rows, frauds, auc, average_precision, recall_at_1_percent, recall_at_0_1_percent } =
        quality;
    format!(
        "{name:<22}{rows:>10}{frauds:>9}{auc:>9.4}{average_precision:>9.4}{recall_at_1_percent:>16.3}\
         {recall_at_0_1_percent:>11.3}\n"
    )
}

/// The row below it.
fn spread(intervals: &Intervals) -> String {
    let Intervals { auc, average_precision, recall_at_1_percent, recall_at_0_1_percent } = intervals;
    let pair = |(low, high): &(f64, f64)| format!("{low:.4} to {high:.4}");
    format!(
        "  95 of 100 samples of its accounts: AUC {}, AP {}, recall at 1 % {}, at 0.1 % {}\n",
        pair(auc),
        pair(average_precision),
        pair(recall_at_1_percent),
        pair(recall_at_0_1_percent)
    )
}

mod card;
mod periods;
mod plot;
mod rows;
mod table;
#[cfg(test)]
mod tests;

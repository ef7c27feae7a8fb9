//! `saker model`: what a model file is, why a row scores as it does, and models of other libraries.

pub(super) mod explain;

use std::{
    fs::{self, File},
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, bail};
use serde_json::json;

use super::{Format, output, say};
use crate::{
    features::catalog::{MODEL_FEATURES, model_feature},
    limits::MODEL_BYTES_MAX,
    model::{Model, Period, drift::ROWS_MIN, import, linear::Term, quality::Quality},
    types::time::Timestamp,
};

/// What a model is.
#[derive(clap::Args, Clone, Debug)]
pub struct ShowArgs {
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// A model of another library.
#[derive(clap::Args, Clone, Debug)]
pub struct ImportArgs {
    /// XGBoost's JSON or LightGBM's text, as `save_model` writes them.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The model file to write.
    #[arg(long, value_name = "MODEL.json")]
    pub out: PathBuf,
    /// Declined from this score on; 500 is where fraud is as likely as not.
    #[arg(long, value_name = "SCORE", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=999))]
    pub decline_from: u16,
    /// Rows with the library's raw margin (columns: features and `margin`; empty is missing), which the model must
    /// agree with.
    #[arg(long, value_name = "FILE.csv")]
    pub golden: Option<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Prints what a model is.
///
/// # Errors
/// Where the file cannot be read or is no model.
pub fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let text = read(&args.model)?;
    let model = Model::load(&text).with_context(|| args.model.display().to_string())?;
    match args.format {
        Format::Json => say(serde_json::to_string_pretty(&shown(&model))?),
        Format::Text => say_text(&model),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a model of another library as one of the engine.
///
/// # Errors
/// Where a file cannot be read or written, or the model cannot be used.
pub fn import(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let inputs = [("FILE", Some(args.file.as_path())), ("--golden", args.golden.as_deref())];
    output::apart(("--out", Some(&args.out)), &inputs)?;
    let text = read(&args.file)?;
    let golden = args.golden.as_deref().map(read).transpose()?;
    let imported = import::import(&text, args.decline_from, golden.as_deref())
        .map_err(|why| anyhow!("{}: {why}", args.file.display()))?;
    fs::write(&args.out, &imported.text).with_context(|| format!("cannot write {}", args.out.display()))?;
    if args.format == Format::Json {
        let result = json!({ "model": shown(&imported.model), "compared": imported.compared });
        say(serde_json::to_string_pretty(&result)?);
        return Ok(ExitCode::SUCCESS);
    }
    say_text(&imported.model);
    match imported.compared {
        Some(compared) => say(format_args!(
            "compared     {} rows of --golden with the library's own margins; they differ by at most {:.1e}",
            compared.rows, compared.largest
        )),
        None => {
            say("compared     nothing with the library's own margins; --golden gives rows that have them")
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A text file, plain or gzip, of no more bytes than a model may have.
fn read(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let (mut bytes, most) = (Vec::new(), MODEL_BYTES_MAX as u64 + 1);
    BufReader::new(File::open(path).with_context(cannot)?)
        .take(most)
        .read_to_end(&mut bytes)
        .with_context(cannot)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&bytes[..])
            .take(most)
            .read_to_end(&mut plain)
            .with_context(cannot)?;
        bytes = plain;
    }
    if bytes.len() > MODEL_BYTES_MAX {
        bail!("{} has more than {MODEL_BYTES_MAX} bytes", path.display());
    }
    String::from_utf8(bytes)
        .map_err(|_| anyhow!("{} is no text; save the model as JSON or text, not as UBJSON", path.display()))
}

/// The features that are asked for, the most used first, with their share of the splits.
fn used(model: &Model) -> Vec<(&'static str, u64, f64)> {
    let splits = model.splits();
    let all: u64 = splits.iter().sum();
    let asked = (0..MODEL_FEATURES).zip(splits).filter(|(_, splits)| *splits > 0);
    let mut used: Vec<_> =
        asked.map(|(f, splits)| (model_feature(f).name, splits, splits as f64 / all as f64)).collect();
    used.sort_by_key(|(_, splits, _)| std::cmp::Reverse(*splits));
    used
}

/// The terms of a straight line by how far each can move the margin, in log-odds, the furthest first.
fn terms(model: &Model) -> Vec<(&'static str, &Term, f64)> {
    let reach = |term: &Term| (term.weight * (term.high - term.low)).abs();
    let mut terms: Vec<_> = model
        .line()
        .iter()
        .map(|term| (model_feature(usize::from(term.feature)).name, term, reach(term)))
        .collect();
    terms.sort_by(|a, b| b.2.total_cmp(&a.2));
    terms
}

fn shown(model: &Model) -> serde_json::Value {
    let features = used(model).into_iter();
    let features: Vec<_> = features
        .map(|(name, splits, share)| json!({ "name": name, "splits": splits, "share": share }))
        .collect();
    let line = terms(model).into_iter();
    let line: Vec<_> = line
        .map(|(name, term, reach)| {
            json!({ "name": name, "weight": term.weight, "low": term.low, "high": term.high, "reach": reach })
        })
        .collect();
    json!({
        "version": &**model.version(),
        "trees": model.trees(),
        "line": line,
        "decline_threshold": model.decline_threshold(),
        "golden_rows": model.golden_rows(),
        "drift_rows": model.drift().map(|drift| drift.rows()),
        "features": features,
        "training": model.training(),
    })
}

fn say_text(model: &Model) {
    let training = model.training();
    say(format_args!("version      {}", &**model.version()));
    say(format_args!("algorithm    {}", training.algorithm));
    say(format_args!("form         {}", model.form()));
    say(format_args!("declines     from score {} on, {}", model.decline_threshold(), training.threshold_by));
    say(format_args!(
        "golden rows  {} in the file, with the margins that this program gave them",
        model.golden_rows()
    ));
    say(match model.drift() {
        Some(drift) => format!("drift        shown against {} of the rows that were fitted", drift.rows()),
        None => format!(
            "drift        not shown: the file does not say what was fitted; one of fewer than {ROWS_MIN} rows never does"
        ),
    });
    for (name, quality, period) in [
        ("validation", &training.validation, training.validation_period),
        ("test", &training.test, training.test_period),
    ] {
        say(format_args!("{name:<12} {}", quality_of(quality.as_ref(), period)));
    }
    if model.trees() > 0 {
        say("features     share of splits");
    }
    for (name, splits, share) in used(model) {
        say(format_args!("  {:5.1} %  {splits:>6}  {name}", 100.0 * share));
    }
    if !model.line().is_empty() {
        say("line         log-odds for each unit of the feature, and how far it can move the margin");
    }
    for (name, Term { weight, .. }, reach) in terms(model) {
        say(format_args!("  {weight:>+14.6}  {reach:>8.3}  {name}"));
    }
}

fn quality_of(quality: Option<&Quality>, period: Option<Period>) -> String {
    let Some(quality) = quality else { return "not measured".to_owned() };
    let when = period.map_or_else(String::new, |period| {
        format!(" from {} to {}", Timestamp(period.from_ms), Timestamp(period.to_ms))
    });
    format!(
        "{} rows, {} frauds{when}: AUC {:.4}, average precision {:.4}, recall {:.3} at 1 % false positives, {:.3} at 0.1 %",
        quality.rows,
        quality.frauds,
        quality.auc,
        quality.average_precision,
        quality.recall_at_1_percent,
        quality.recall_at_0_1_percent
    )
}

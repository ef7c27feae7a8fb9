//! `saker model explain`: which features a row's margin comes from.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, bail};
use serde_json::json;

use super::read;
use crate::{
    cli::{Format, say},
    features::catalog::{MODEL_FEATURES, model_feature},
    model::shap::Explainer,
};

/// A row and the model that is to be explained by it.
#[derive(clap::Args, Clone, Debug)]
pub struct ExplainArgs {
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Rows as `saker train --features` writes them.
    #[arg(long, value_name = "ROWS.csv")]
    pub features: PathBuf,
    /// Which of the rows, counted from 1.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub row: u64,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Prints the Shapley value of every feature for one row, the largest first.
///
/// # Errors
/// Where a file cannot be read, is no model, or has no such row.
pub fn explain(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let explainer = Explainer::load(&read(&args.model)?).with_context(|| args.model.display().to_string())?;
    let row = row(&args.features, args.row)?;
    match args.format {
        Format::Json => say(serde_json::to_string_pretty(&explained(&explainer, &row))?),
        Format::Text => say_text(&explainer, &row),
    }
    Ok(ExitCode::SUCCESS)
}

/// The features that move the margin of this row, the weightiest first, with their Shapley values.
fn weighed(explainer: &Explainer, row: &[f32; MODEL_FEATURES]) -> Vec<(usize, f64)> {
    let values = explainer.values(row).into_iter().enumerate();
    let mut weighed: Vec<_> = values.filter(|(_, value)| *value != 0.0).collect();
    weighed.sort_by(|(_, a), (_, b)| b.abs().total_cmp(&a.abs()));
    weighed
}

pub(in crate::cli) fn explained(explainer: &Explainer, row: &[f32; MODEL_FEATURES]) -> serde_json::Value {
    let scored = explainer.model().score(row);
    let features = weighed(explainer, row).into_iter().map(|(feature, value)| {
        let there = (!row[feature].is_nan()).then_some(row[feature]);
        json!({ "name": model_feature(feature).name, "value": there, "shap": value })
    });
    json!({
        "version": &**explainer.model().version(),
        "expected": explainer.expected(),
        "margin": scored.margin,
        "score": scored.score,
        "features": features.collect::<Vec<_>>(),
    })
}

fn say_text(explainer: &Explainer, row: &[f32; MODEL_FEATURES]) {
    let scored = explainer.model().score(row);
    let weighed = weighed(explainer, row);
    say("    log-odds  feature");
    say(format_args!("{:>+12.6}  expected of a row of which nothing is known", explainer.expected()));
    for (feature, value) in &weighed {
        let x = row[*feature];
        let there = if x.is_nan() { "missing".to_owned() } else { format!("= {x}") };
        say(format_args!("{value:>+12.6}  {} {there}", model_feature(*feature).name));
    }
    if weighed.len() < MODEL_FEATURES {
        say(format_args!("{:>12}  the other {} features", 0, MODEL_FEATURES - weighed.len()));
    }
    say(format_args!("{:>+12.6}  margin: score {}", scored.margin, scored.score));
}

/// One row of a table of features; columns that are none are passed over.
pub(in crate::cli) fn row(path: &Path, number: u64) -> anyhow::Result<[f32; MODEL_FEATURES]> {
    let cannot = || format!("cannot read {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(cannot)?;
    let header = reader.headers().with_context(cannot)?.clone();
    let column = |feature: usize| {
        let name = model_feature(feature).name;
        header.iter().position(|column| column == name).ok_or_else(|| {
            anyhow!(
                "{} has no column `{name}`; `saker train --features` writes all there are",
                path.display()
            )
        })
    };
    let columns = (0..MODEL_FEATURES).map(column).collect::<anyhow::Result<Vec<usize>>>()?;
    let mut rows = 0;
    for record in reader.records() {
        let record = record.with_context(cannot)?;
        rows += 1;
        if rows < number {
            continue;
        }
        let mut row = [f32::NAN; MODEL_FEATURES];
        for (feature, column) in columns.iter().enumerate() {
            let cell = record.get(*column).unwrap_or("").trim();
            if cell.is_empty() {
                continue;
            }
            row[feature] = cell.parse().ok().filter(|x: &f32| x.is_finite()).ok_or_else(|| {
                let (name, path) = (model_feature(feature).name, path.display());
                anyhow!(
                    "{path}, row {number}: `{name}` is `{cell:.40}`, no number; leave what is missing empty"
                )
            })?;
        }
        return Ok(row);
    }
    bail!("{} has {rows} rows; --row {number} is none of them", path.display())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_table_that_is_not_what_it_seems_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows.csv");
        let names: Vec<&str> = (0..MODEL_FEATURES).map(|feature| model_feature(feature).name).collect();
        let cells = |second: &str| [",2.5,", second, &",".repeat(MODEL_FEATURES - 2)].concat();
        let write = |header: &str, rows: &[String]| {
            fs::write(&path, format!("id,{header}\n{}\n", rows.join("\n"))).unwrap();
        };
        write(&names.join(","), &[cells(""), cells("nan"), cells("x")]);
        let first = row(&path, 1).unwrap();
        assert!(first[0] == 2.5 && first[1..].iter().all(|x| x.is_nan()));
        let why = |number| row(&path, number).unwrap_err().to_string();
        assert!(why(2).contains("row 2") && why(2).contains(names[1]), "{}", why(2));
        assert!(why(3).contains("`x`"), "{}", why(3));
        assert!(why(4).contains("has 3 rows"), "{}", why(4));
        write(&names.join(",").replace(names[1], "another"), &[cells("1")]);
        assert!(why(1).contains(&format!("no column `{}`", names[1])), "{}", why(1));
    }
}

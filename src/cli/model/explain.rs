//! `saker model explain`: which features a row's margin comes from.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};

use super::read;
use crate::{
    cli::{Format, past, say},
    engine::backtest::PastJournal,
    features::catalog::{MODEL_FEATURES, model_feature},
    journal::record::{Decided, Record},
    model::shap::Explainer,
    types::codes::Kind,
};

/// A row and the model that is to be explained by it.
#[derive(clap::Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub struct ExplainArgs {
    /// Without it the model that scored the transaction of the journal.
    #[arg(value_name = "MODEL", required_unless_present = "journal")]
    pub model: Option<PathBuf>,
    /// Rows as `saker train --features` writes them.
    #[arg(long, value_name = "ROWS.csv", group = "source")]
    pub features: Option<PathBuf>,
    /// A data directory, in use or not: what a transaction was scored with stands in its journal.
    #[arg(long, value_name = "DIR", group = "source", requires = "transaction")]
    pub journal: Option<PathBuf>,
    /// Which transaction, by its id; of one that was decided several times the last.
    #[arg(long, value_name = "ID", conflicts_with = "row")]
    pub transaction: Option<String>,
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
/// Where a file or a journal cannot be read, is no model, or has no such row.
pub fn explain(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let (row, served) = match (&args.features, &args.journal, &args.transaction) {
        (_, Some(data_dir), Some(id)) => {
            let served = Served::find(data_dir, id)?;
            (served.decided.considered.vector, Some(served))
        }
        (Some(file), _, Some(id)) => (row(file, Which::Transaction(id))?, None),
        (Some(file), ..) => (row(file, Which::Number(args.row))?, None),
        _ => bail!("name --features ROWS.csv, or --journal DIR and --transaction ID"),
    };
    let explainer = match (&args.model, &served) {
        (Some(file), _) => Explainer::load(&read(file)?).with_context(|| file.display().to_string())?,
        (None, Some(served)) => served.explainer()?,
        (None, None) => bail!("name the MODEL that is to be explained"),
    };
    match args.format {
        Format::Json => {
            let mut value = explained(&explainer, &row);
            value["served"] = served.map(|served| served.json()).into();
            say(serde_json::to_string_pretty(&value)?);
        }
        Format::Text => {
            if let Some(served) = served {
                say(served.text(explainer.model().version()));
            }
            say_text(&explainer, &row);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A decision of a journal and what it was scored with.
struct Served {
    journal: PastJournal,
    decided: Box<Decided>,
}

impl Served {
    fn find(data_dir: &Path, id: &str) -> anyhow::Result<Served> {
        let journal = past::journal(data_dir)?;
        let mut found = None;
        journal.replay(&mut |_, record| {
            if let Record::Decided(decided) = record
                && decided.request.key.0.as_str() == id
            {
                found = Some(decided.clone());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let place = data_dir.display();
        let Some(decided) = found else {
            bail!("{place}: the journal has no decision on transaction `{id}`")
        };
        // As with training: of these nothing was considered.
        let why = match decided.account {
            None => Some("no account of it was known"),
            Some(_) if decided.request.kind == Kind::BalanceInquiry => Some("it is a balance inquiry"),
            Some(_) => None,
        };
        match why {
            Some(why) => bail!("{place}: transaction `{id}` was not looked at by the model: {why}"),
            None => Ok(Served { journal, decided }),
        }
    }

    /// The model that scored it.
    fn explainer(&self) -> anyhow::Result<Explainer> {
        let number = self.decided.versions.model;
        let model =
            self.journal.model_of(number).map_err(|why| anyhow!("the model that scored it: {why}"))?;
        let model =
            model.context("no model scored the transaction; name the MODEL that is to be explained by it")?;
        Explainer::load(&model.text).with_context(|| model.name.clone())
    }

    fn json(&self) -> Value {
        let answer = &self.decided.answer;
        json!({
            "transaction_id": self.decided.request.key.to_string(),
            "position": answer.position,
            "decided_at": answer.decided_at.to_string(),
            "decision": answer.decision.name(),
            "score": answer.margin.map(|_| answer.score),
            "margin": answer.margin,
            "version": answer.model_version.to_string(),
        })
    }

    fn text(&self, explained_by: &str) -> String {
        let answer = &self.decided.answer;
        let (id, position, at) = (self.decided.request.key, answer.position, answer.decided_at);
        let scored = match answer.margin {
            Some(_) => format!("score {} by model {}", answer.score, answer.model_version),
            None => "without a score".to_owned(),
        };
        let other = match *answer.model_version == *explained_by {
            true => String::new(),
            false => format!("; this is model {explained_by}"),
        };
        format!("{id}, position {position}, {at}: {}, {scored}{other}", answer.decision.name())
    }
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

/// A row of a table.
#[derive(Clone, Copy)]
pub(in crate::cli) enum Which<'w> {
    /// Counted from 1.
    Number(u64),
    /// The first of this transaction.
    Transaction(&'w str),
}

/// One row of a table of features; columns that are none are passed over.
pub(in crate::cli) fn row(path: &Path, which: Which<'_>) -> anyhow::Result<[f32; MODEL_FEATURES]> {
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
    let ids = header.iter().position(|column| column == "transaction_id");
    if ids.is_none() && matches!(which, Which::Transaction(_)) {
        bail!("{} has no column `transaction_id`; name the row by --row N", path.display());
    }
    let mut rows = 0;
    for record in reader.records() {
        let record = record.with_context(cannot)?;
        rows += 1;
        let is_it = match which {
            Which::Number(number) => number == rows,
            Which::Transaction(id) => ids.and_then(|column| record.get(column)) == Some(id),
        };
        if !is_it {
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
                    "{path}, row {rows}: `{name}` is `{cell:.40}`, no number; leave what is missing empty"
                )
            })?;
        }
        return Ok(row);
    }
    match which {
        Which::Number(number) => bail!("{} has {rows} rows; --row {number} is none of them", path.display()),
        Which::Transaction(id) => bail!("{} has {rows} rows, none of transaction `{id}`", path.display()),
    }
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
        let cells = |second: &str| {
            [&*format!("T-{second}"), ",2.5,", second, &",".repeat(MODEL_FEATURES - 2)].concat()
        };
        let write = |header: &str, rows: &[String]| {
            fs::write(&path, format!("transaction_id,{header}\n{}\n", rows.join("\n"))).unwrap();
        };
        write(&names.join(","), &[cells(""), cells("nan"), cells("x")]);
        let first = row(&path, Which::Number(1)).unwrap();
        assert!(first[0] == 2.5 && first[1..].iter().all(|x| x.is_nan()));
        let why = |number| row(&path, Which::Number(number)).unwrap_err().to_string();
        assert!(why(2).contains("row 2") && why(2).contains(names[1]), "{}", why(2));
        assert!(why(3).contains("`x`"), "{}", why(3));
        assert!(why(4).contains("has 3 rows"), "{}", why(4));
        // By its id, a row is found wherever it stands.
        write(&names.join(","), &[cells(""), cells("7"), cells("x")]);
        let of = |id| row(&path, Which::Transaction(id));
        assert_eq!(of("T-7").unwrap()[1], 7.0);
        let why_of = |id| of(id).unwrap_err().to_string();
        assert!(why_of("T-x").contains("row 3: ") && why_of("T").contains("none of transaction `T`"));
        let text = fs::read_to_string(&path).unwrap().replace("transaction_id", "id");
        fs::write(&path, text).unwrap();
        assert!(why_of("T-7").contains("no column `transaction_id`"), "{}", why_of("T-7"));
        write(&names.join(",").replace(names[1], "another"), &[cells("1")]);
        assert!(why(1).contains(&format!("no column `{}`", names[1])), "{}", why(1));
    }
}

//! Rows that an imported model must score as it did where it came from, and rows at its own thresholds.

use super::{Compared, Foreign, Refused, features};
use crate::{features::catalog::MODEL_FEATURES, model::Model, model::trees::Tree, types::lines::Lines};

/// Largest difference to the library's margin, in log-odds.
pub(super) const TOLERANCE: f64 = 1e-6;
/// Rows made from thresholds, and most rows of a golden file that go into the model.
const MADE: usize = 64;
const KEPT: usize = 64;
/// Thresholds of one feature that are used.
const VALUES_MAX: usize = 256;

type Row = [f32; MODEL_FEATURES];

/// Rows of values at the trees' thresholds, just above them, of their categories, and missing ones.
pub(super) fn rows_of(trees: &[Tree]) -> Vec<Row> {
    let mut values: Vec<Vec<f32>> = vec![vec![f32::NAN, 0.0]; MODEL_FEATURES];
    for tree in trees {
        for node in (0..tree.left.len()).filter(|node| tree.left[*node] != 0) {
            let of_feature = &mut values[usize::from(tree.feature[node])];
            if of_feature.len() < VALUES_MAX {
                of_feature.extend([tree.threshold[node], tree.threshold[node].next_up()]);
            }
        }
        for categories in &tree.categories {
            let of_feature = &mut values[usize::from(tree.feature[categories.node as usize])];
            of_feature.extend(categories.listed.iter().take(4).map(|category| *category as f32));
        }
    }
    // Steps that share no factor, so that rows do not move through the values together. A file cannot hold infinity.
    let value = |row: usize, feature: usize| {
        let of_feature = &values[feature];
        let value = of_feature[(row * (2 * feature + 7) + feature) % of_feature.len()];
        if value.is_infinite() { f32::NAN } else { value }
    };
    (0..MADE).map(|row| std::array::from_fn(|feature| value(row, feature))).collect()
}

/// Compares the margins of a golden file with the model's; gives the rows to keep.
pub(super) fn compare(text: &str, foreign: &Foreign, model: &Model) -> Result<(Compared, Vec<Row>), Refused> {
    let mut reader = csv::Reader::from_reader(Lines::new(text.as_bytes()));
    let unreadable = |error: csv::Error| format!("the golden rows cannot be read: {error}");
    let header = reader.headers().map_err(unreadable)?.clone();
    let at = header.iter().position(|name| name == "margin");
    let at =
        at.ok_or("the golden rows have no column `margin`; add the library's raw margins under this name")?;
    let columns = features(header.iter().filter(|name| *name != "margin"))
        .map_err(|why| format!("the header of the golden rows: {why}"))?;
    let (mut compared, mut kept) = (Compared::default(), Vec::new());
    let mut record = csv::StringRecord::new();
    loop {
        let behind = reader.position().byte();
        let is_there = reader.read_record(&mut record);
        let line = reader.get_mut().of_text_behind(behind);
        let is_there = is_there.map_err(|error| match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("golden rows, line {line}: {len} cells where the header has {expected_len}")
            }
            _ => unreadable(error),
        })?;
        if !is_there {
            break;
        }
        let number = |cell: &str| {
            let parsed = cell.trim().parse::<f64>().ok().filter(|number| number.is_finite());
            parsed.ok_or_else(|| {
                format!("golden rows, line {line}: `{cell:.40}` is no number; leave what is missing empty")
            })
        };
        let mut row = [f32::NAN; MODEL_FEATURES];
        let cells = record.iter().enumerate().filter(|(column, _)| *column != at);
        for ((_, cell), feature) in cells.zip(&columns).filter(|((_, cell), _)| !cell.trim().is_empty()) {
            row[usize::from(*feature)] = number(cell)? as f32;
        }
        let wanted = number(record.get(at).unwrap_or(""))? * foreign.scale;
        let margin = model.score(&row).margin;
        let away = (margin - wanted).abs();
        if away > TOLERANCE {
            return Err(format!(
                "golden rows, line {line}: the margin is {margin} here, not {wanted}; the model and the rows do not \
                 belong together, or the rows were not written in full precision"
            ));
        }
        compared.rows += 1;
        compared.largest = compared.largest.max(away);
        if kept.len() < KEPT {
            kept.push(row);
        }
    }
    match compared.rows {
        0 => Err("there are no golden rows in the file; write some, or leave --golden out".to_owned()),
        _ => Ok((compared, kept)),
    }
}

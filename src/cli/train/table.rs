//! `--features OUT.csv`: the very rows that a model is trained and measured on, for whoever wants to train elsewhere
//! or to look at them. `saker model import` reads what came of it.

use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::periods::{Known, Period};
use crate::features::catalog::{MODEL_FEATURES, model_feature};

/// The columns before the features.
const FIXED: [&str; 5] = ["transaction_id", "timestamp", "account_id", "period", "is_fraud"];

/// The file being written: `transaction_id,timestamp,account_id,period,is_fraud`, then the features by name. A missing
/// value is empty, a number has the fewest digits that give back the same 32 bits.
pub(super) struct Table {
    path: PathBuf,
    csv: csv::Writer<BufWriter<File>>,
}

impl Table {
    /// # Errors
    /// Where the file cannot be written.
    pub(super) fn create(path: &Path) -> anyhow::Result<Table> {
        let context = || format!("{} cannot be written", path.display());
        let mut csv = csv::Writer::from_writer(BufWriter::new(File::create(path).with_context(context)?));
        let features = (0..MODEL_FEATURES).map(|feature| model_feature(feature).name);
        csv.write_record(FIXED.into_iter().chain(features)).with_context(context)?;
        Ok(Table { path: path.to_owned(), csv })
    }

    /// # Errors
    /// Where the file cannot be written.
    pub(super) fn put(
        &mut self,
        transaction_id: &str,
        known: &Known<'_>,
        period: Period,
        row: &[f32; MODEL_FEATURES],
    ) -> anyhow::Result<()> {
        let is_fraud = known.label.map_or("", |(is_fraud, _)| if is_fraud { "1" } else { "0" });
        let time = known.time.to_string();
        let fixed = [transaction_id, &time, known.account, period.name(), is_fraud];
        let cells = row.iter().map(|x| if x.is_nan() { String::new() } else { x.to_string() });
        let cells: Vec<String> = fixed.into_iter().map(str::to_owned).chain(cells).collect();
        self.csv.write_record(&cells).with_context(|| format!("{} cannot be written", self.path.display()))
    }

    /// Writes what is buffered; a full disk is an error, not a short file.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.csv.flush().with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_before_the_features_are_those_of_the_document() {
        assert_eq!(crate::history::documented::documented("features"), FIXED);
    }
}

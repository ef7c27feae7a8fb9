//! `saker simulate`: a labelled, seeded world as `accounts.csv` and `transactions.csv`.
//!
//! The same arguments write the same bytes. The world is drawn whole before it is written, which bounds its size.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use indicatif::ProgressIterator as _;

use super::{Format, progress::bar};
use crate::{
    history::{Transaction, write_accounts, write_transactions},
    sim::{self, FraudKind, Settings, World},
    types::time::Timestamp,
};

/// Accounts times days: about two million transactions, which take some three gigabytes before they are written.
const ACCOUNT_DAYS_MAX: u64 = 1_250_000;

/// Writes a labelled world of card traffic, the same for the same seed.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Cardholders, each with one account and one card.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub accounts: u32,
    /// Days of traffic.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3_660))]
    pub days: u32,
    /// The only source of chance.
    #[arg(long, value_name = "N")]
    pub seed: u64,
    /// Time of the first possible transaction, RFC 3339.
    #[arg(long, value_name = "TIME", default_value_t = sim::DEFAULT_START, value_parser = time)]
    pub start: Timestamp,
    /// Directory that gets `accounts.csv` and `transactions.csv`; made where it is missing.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// Runs the verb and prints what was written on stdout.
///
/// # Errors
/// Where the world is too large or cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let account_days = u64::from(args.accounts) * u64::from(args.days);
    if account_days > ACCOUNT_DAYS_MAX {
        bail!("{account_days} accounts times days are too many: at most {ACCOUNT_DAYS_MAX} fit in memory");
    }
    let settings =
        Settings { accounts: args.accounts as usize, days: args.days, seed: args.seed, start: args.start };
    let World { accounts, transactions } = sim::generate(settings);
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the directory {}", args.out.display()))?;

    let mut frauds: BTreeMap<FraudKind, u64> = BTreeMap::new();
    for kind in transactions.iter().filter_map(|t| t.fraud_kind) {
        *frauds.entry(kind).or_default() += 1;
    }
    let written = Written { accounts: accounts.len(), transactions: transactions.len(), frauds };
    write(&args.out.join("accounts.csv"), |file| write_accounts(file, &accounts))?;
    write(&args.out.join("transactions.csv"), |file| {
        let progress = bar(transactions.len() as u64, "transactions");
        write_transactions(file, transactions.into_iter().progress_with(progress).map(Transaction::from))
    })?;
    match args.format {
        Format::Text => print!("{}", written.text(&args.out)),
        Format::Json => println!("{}", written.json(&args.out)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a file through a buffer; a full disk is an error, not a short file.
fn write(path: &Path, body: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        body(&mut file)?;
        file.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "not an RFC 3339 time such as 2026-01-31T00:00:00Z".to_owned())
}

/// What the command did.
struct Written {
    accounts: usize,
    transactions: usize,
    frauds: BTreeMap<FraudKind, u64>,
}

impl Written {
    fn text(&self, directory: &Path) -> String {
        let frauds: u64 = self.frauds.values().sum();
        let share = 100.0 * frauds as f64 / self.transactions.max(1) as f64;
        let mut text = format!(
            "{}: {} accounts, {} transactions, {frauds} of them fraud ({share:.2} %)\n",
            directory.display(),
            self.accounts,
            self.transactions
        );
        for (kind, rows) in &self.frauds {
            text += &format!("  {:<22}{rows:>8}\n", kind.name());
        }
        text
    }

    fn json(&self, directory: &Path) -> serde_json::Value {
        let frauds: BTreeMap<&str, u64> =
            self.frauds.iter().map(|(kind, rows)| (kind.name(), *rows)).collect();
        serde_json::json!({
            "accounts_file": directory.join("accounts.csv").display().to_string(),
            "transactions_file": directory.join("transactions.csv").display().to_string(),
            "accounts": self.accounts,
            "transactions": self.transactions,
            "frauds": frauds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(seed: u64) -> (Vec<u8>, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("not/there/yet");
        let args = Args {
            accounts: 30,
            days: 5,
            seed,
            start: sim::DEFAULT_START,
            out: out.clone(),
            format: Format::Json,
        };
        run(args).unwrap();
        (fs::read(out.join("accounts.csv")).unwrap(), fs::read(out.join("transactions.csv")).unwrap())
    }

    #[test]
    fn the_same_seed_writes_the_same_bytes() {
        let (accounts, transactions) = files(4);
        assert_eq!((accounts, transactions.clone()), files(4));
        assert_ne!(transactions, files(5).1);
    }

    #[test]
    fn a_world_that_does_not_fit_is_refused_before_it_is_drawn() {
        let args = Args {
            accounts: 1_000_000,
            days: 3_660,
            seed: 1,
            start: sim::DEFAULT_START,
            out: "unused".into(),
            format: Format::Text,
        };
        assert!(run(args).unwrap_err().to_string().contains("too many"));
    }
}

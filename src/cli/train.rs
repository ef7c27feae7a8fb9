//! `saker train`: labelled history to a model file.
//!
//! Features are computed by the code that serves, over windows that hold what history decided, never what this
//! program would have. Rows before `--train-from` only warm the windows; a label is used only where it was known
//! when the test period began. Deliberately absent: rules and balances, which the model does not read.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Format, simulate::time};
use crate::{
    features::{
        AccountFacts, History, Moment, Plan,
        catalog::{MODEL_FEATURES, model_vector},
        event_of,
        values::Values,
    },
    history::{PastOutcome, Rows, Transaction},
    limits::CARDS_PER_ACCOUNT_MAX,
    model::{
        Model,
        quality::Quality,
        train::{Examples, Settings, Trained, train},
    },
    types::{
        account::AccountChange,
        codes::{Decision, Kind, ResponseCode},
        ids::{AccountId, CardToken, RequestKey},
        money::{Currency, Money},
        time::{DAY_MS, Timestamp},
    },
};

/// Trains the scoring model on labelled history.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Labelled transactions, CSV, plain or gzip.
    #[arg(long, value_name = "FILE")]
    pub transactions: PathBuf,
    /// Their accounts; without it an account opens at its first transaction.
    #[arg(long, value_name = "FILE")]
    pub accounts: Option<PathBuf>,
    /// The model file to write.
    #[arg(long, value_name = "MODEL.json")]
    pub out: PathBuf,
    /// Rows before this time only warm the windows.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub train_from: Option<Timestamp>,
    /// Rows from this time on are held out, and only measured.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub test_from: Option<Timestamp>,
    /// Days until it is known whether a transaction was fraud; younger rows before the test are not used.
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(0..=365))]
    pub label_delay: u32,
    /// Credit limit of an account that is in no file, in major units of the row's currency.
    #[arg(long, value_name = "AMOUNT", default_value = "10000.00")]
    pub default_limit: String,
    /// Trees of the model.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub trees: u32,
    /// Wished share of genuine transactions at or above the decline threshold.
    #[arg(long, value_name = "SHARE", default_value_t = 0.003, value_parser = share)]
    pub false_positive_rate: f64,
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
    let accounts: Option<Vec<AccountChange>> =
        args.accounts.as_ref().map(|file| read_all(file, args.skip_bad_rows)).transpose()?;
    let mut transactions: Vec<Transaction> = read_all(&args.transactions, args.skip_bad_rows)?;
    // Stable, so that rows of the same time stay in file order.
    transactions.sort_by_key(|t| t.request.transaction_time);

    let mut replay = Replay::new(accounts, args.default_limit.clone());
    let mut periods = Periods::new(&args);
    let bar = ProgressBar::new(transactions.len() as u64).with_style(
        ProgressStyle::with_template("features {bar:40} {pos} of {len}").expect("a valid template"),
    );
    for transaction in &transactions {
        bar.inc(1);
        if let Some(row) = replay.take(transaction)? {
            periods.take(transaction, row);
        }
    }
    bar.finish_and_clear();
    drop(transactions);

    let Periods { training, test, unused, unlabelled, .. } = periods;
    let settings = Settings {
        trees: args.trees as usize,
        false_positive_rate: args.false_positive_rate,
        seed: args.seed,
    };
    let bar = ProgressBar::new(1_000)
        .with_style(ProgressStyle::with_template("training {bar:40} {percent} %").expect("a valid template"));
    let held_out = args.test_from.is_some().then_some(&test);
    let Trained { text, model } =
        train(training, held_out, settings, &mut |done| bar.set_position((1_000.0 * done) as u64))?;
    bar.finish_and_clear();
    fs::write(&args.out, &text).with_context(|| format!("cannot write {}", args.out.display()))?;

    let report = Report { model, bytes: text.len(), unused, unlabelled, replay };
    match args.format {
        Format::Text => print!("{}", report.text(&args.out)),
        Format::Json => println!("{}", report.json(&args.out)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Every row of a file; says on stderr what was left aside.
fn read_all<T: crate::history::Row>(file: &Path, skip_bad_rows: u64) -> anyhow::Result<Vec<T>> {
    let mut reader = Rows::open(file, skip_bad_rows)?;
    if let Some(warning) = reader.warning() {
        eprintln!("warning: {warning}");
    }
    let rows = reader.by_ref().collect::<Result<_, _>>()?;
    for bad in reader.skipped() {
        eprintln!("skipped: {bad}");
    }
    Ok(rows)
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (0.0..=0.5).contains(&share).then_some(share).ok_or_else(|| "not between 0 and 0.5".to_owned())
}

/// One account as features see it.
struct Account {
    facts: AccountChange,
    currency: Currency,
    limit_minor: i64,
    cards: Vec<CardToken>,
    history: History,
}

/// History, played once through the windows.
struct Replay {
    plan: Plan,
    accounts: HashMap<AccountId, Account>,
    /// Whether accounts that no file names may open at their first transaction.
    opens: bool,
    default_limit: String,
    seen: HashSet<RequestKey>,
    sequence: u64,
    repeated: u64,
    of_unknown_accounts: u64,
}

impl Replay {
    fn new(accounts: Option<Vec<AccountChange>>, default_limit: String) -> Replay {
        let mut replay = Replay {
            plan: Plan::new(&[]),
            accounts: HashMap::new(),
            opens: accounts.is_none(),
            default_limit,
            seen: HashSet::new(),
            sequence: 0,
            repeated: 0,
            of_unknown_accounts: 0,
        };
        for row in accounts.into_iter().flatten() {
            let (Some(currency), Some(limit_minor)) = (row.currency, row.credit_limit_minor) else {
                continue;
            };
            let cards: Vec<CardToken> = row.cards.iter().map(|c| c.token).collect();
            let account = replay.accounts.entry(row.account).or_insert_with(|| Account {
                facts: row,
                currency,
                limit_minor,
                cards: Vec::new(),
                history: History::new(),
            });
            account.cards.extend(cards);
        }
        replay
    }

    /// The features of a transaction at its time; afterwards it is part of the past. None where it is no decision
    /// that the model would see.
    fn take(&mut self, transaction: &Transaction) -> anyhow::Result<Option<[f32; MODEL_FEATURES]>> {
        let request = &transaction.request;
        if request.kind == Kind::BalanceInquiry {
            return Ok(None);
        }
        if !self.seen.insert(request.key) {
            self.repeated += 1;
            return Ok(None);
        }
        if self.opens && !self.accounts.contains_key(&transaction.account) {
            self.accounts.insert(transaction.account, opened(transaction, &self.default_limit)?);
        }
        let Some(account) = self.accounts.get_mut(&transaction.account) else {
            self.of_unknown_accounts += 1;
            return Ok(None);
        };
        let card = card_place(&mut account.cards, transaction)?;
        let facts = AccountFacts {
            account_id: account.facts.account.as_str(),
            product: account.facts.product.as_ref().map(|p| p.as_str()),
            home_country: account.facts.home_country,
            home: account.facts.home,
            opened_on: account.facts.opened_on,
            currency: account.currency,
            credit_limit_minor: account.limit_minor,
            // No model input is a balance, so that none has to be played through.
            available_minor: account.limit_minor,
        };
        let moment = Moment {
            request,
            account: &facts,
            card,
            card_token: transaction.card.as_ref().map(CardToken::as_str),
            time: request.transaction_time.unwrap_or_default(),
        };
        let mut values = Values::new();
        let mut row = [f32::NAN; MODEL_FEATURES];
        account.history.read(&self.plan, &moment, &mut values);
        model_vector(&values, &mut row);
        self.sequence += 1;
        let (decision, for_credit) = decided(transaction.outcome);
        account.history.record(&self.plan, event_of(&moment, self.sequence, decision, for_credit));
        Ok(Some(row))
    }
}

/// What history decided, approved where it does not say, and whether it declined for want of credit.
fn decided(outcome: Option<PastOutcome>) -> (Decision, bool) {
    match outcome {
        Some(PastOutcome { approved: false, response_code }) => {
            (Decision::Declined, response_code == Some(ResponseCode::INSUFFICIENT_FUNDS))
        }
        _ => (Decision::Approved, false),
    }
}

/// The account of a transaction that no accounts file names.
fn opened(transaction: &Transaction, default_limit: &str) -> anyhow::Result<Account> {
    let Some(billed) = transaction.request.billed() else { bail!("a transaction without an amount") };
    // The limit is the same number in every currency: decimals that some do not have must not matter.
    let digits = match default_limit.contains('.') {
        true => default_limit.trim_end_matches('0').trim_end_matches('.'),
        false => default_limit,
    };
    let limit = Money::parse_major(digits, billed.currency)
        .map_err(|why| anyhow::anyhow!("--default-limit: {why}"))?;
    Ok(Account {
        facts: AccountChange {
            account: transaction.account,
            currency: Some(billed.currency),
            credit_limit_minor: Some(limit.minor),
            posted_minor: None,
            status: None,
            product: None,
            home_country: None,
            home: transaction.home,
            opened_on: None,
            cards: Vec::new(),
        },
        currency: billed.currency,
        limit_minor: limit.minor,
        cards: Vec::new(),
        history: History::new(),
    })
}

/// The place of the transaction's card in its account; a card that is new gets the next one.
fn card_place(cards: &mut Vec<CardToken>, transaction: &Transaction) -> anyhow::Result<u8> {
    let Some(card) = transaction.card else { return Ok(0) };
    let place = cards.iter().position(|c| *c == card).unwrap_or_else(|| {
        cards.push(card);
        cards.len() - 1
    });
    if place >= CARDS_PER_ACCOUNT_MAX {
        bail!("account {} has more than {CARDS_PER_ACCOUNT_MAX} cards", transaction.account);
    }
    Ok(place as u8)
}

/// Which rows are learned from and which are measured.
struct Periods {
    train_from: Option<Timestamp>,
    test_from: Option<Timestamp>,
    label_delay_ms: i64,
    training: Examples,
    test: Examples,
    /// Before the test, but too young for their label to have been known.
    unused: u64,
    unlabelled: u64,
}

impl Periods {
    fn new(args: &Args) -> Periods {
        Periods {
            train_from: args.train_from,
            test_from: args.test_from,
            label_delay_ms: i64::from(args.label_delay) * DAY_MS,
            training: Examples::default(),
            test: Examples::default(),
            unused: 0,
            unlabelled: 0,
        }
    }

    fn take(&mut self, transaction: &Transaction, row: [f32; MODEL_FEATURES]) {
        let time = transaction.request.transaction_time.unwrap_or_default();
        let Some(label) = transaction.label else {
            self.unlabelled += 1;
            return;
        };
        let known_at = time.plus_ms(self.label_delay_ms).max(label.labelled_at.unwrap_or(time));
        match self.test_from {
            Some(test_from) if time >= test_from => self.test.push(row, label.is_fraud),
            _ if self.train_from.is_some_and(|train_from| time < train_from) => {}
            Some(test_from) if known_at > test_from => self.unused += 1,
            _ => self.training.push(row, label.is_fraud),
        }
    }
}

/// What the command did.
struct Report {
    model: Model,
    bytes: usize,
    unused: u64,
    unlabelled: u64,
    replay: Replay,
}

impl Report {
    fn text(&self, file: &Path) -> String {
        let training = self.model.training();
        let mut text = format!(
            "{}: model {}, {} trees, {} bytes, {} golden rows\n{}\n",
            file.display(),
            self.model.version(),
            self.model.trees(),
            self.bytes,
            self.model.golden_rows(),
            training.algorithm
        );
        text += &format!("trained on {} rows with {} frauds", training.rows, training.frauds);
        for (rows, what) in [
            (self.unused, "not used, their label was not known when the test began"),
            (self.unlabelled, "without a label"),
            (self.replay.repeated, "repeated"),
            (self.replay.of_unknown_accounts, "of unknown accounts"),
        ] {
            if rows > 0 {
                text += &format!("; {rows} {what}");
            }
        }
        text += "\n\n                rows   frauds      AUC       AP   recall at 1 %   at 0.1 % of false positives\n";
        for (period, quality) in [("validation", Some(training.validation)), ("test", training.test)] {
            if let Some(Quality { rows, frauds, auc, average_precision, recall_at_1_percent, .. }) = quality {
                let strict = quality.map_or(0.0, |q| q.recall_at_0_1_percent);
                text += &format!(
                    "{period:<10}{rows:>10}{frauds:>9}{auc:>9.4}{average_precision:>9.4}{recall_at_1_percent:>16.3}\
                     {strict:>11.3}\n"
                );
            }
        }
        text += &format!("\ndeclines from score {}", self.model.decline_threshold());
        if let Some((caught, alarms)) = training.test_at_threshold {
            text += &format!(
                ": {:.1} % of the test's frauds, {:.2} % of its genuine rows",
                100.0 * caught,
                100.0 * alarms
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
            "rows_repeated": self.replay.repeated,
            "rows_of_unknown_accounts": self.replay.of_unknown_accounts,
        })
    }
}

#[cfg(test)]
mod tests;

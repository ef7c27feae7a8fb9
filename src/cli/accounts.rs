//! `saker accounts import`: accounts and cards from a CSV file into a running engine.
//!
//! The file is read twice: once to find every row that cannot be read before anything is sent, and once to send it on
//! one stream. The keys of the rows belong to this run alone: a row that asks for what already stands changes nothing by
//! itself, and an older file sent again after a newer one takes effect.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::{Exit, Format, progress::bar, say};
use crate::{
    history::Rows,
    proto::{
        Account, Card, UpsertAccountRequest, UpsertAccountsResponse, UpsertRefusal,
        accounts_client::AccountsClient,
    },
    types::account::{AccountChange, CardChange},
};

#[derive(clap::Args, Debug)]
pub struct ImportArgs {
    /// One row per card: account_id, credit_limit, currency, and what else is known; plain or gzip.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The engine's gRPC address, host:port.
    #[arg(long, value_name = "ADDR")]
    pub to: String,
    /// Rows that cannot be read and are passed over, and listed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip_bad_rows: u64,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Rows between the reader of the file and the stream.
const ROWS_AHEAD: usize = 1_024;
/// Refusals shown in text; all that the engine listed are in JSON.
const REFUSALS_SHOWN: usize = 20;

/// Sends every row and reports when all of them are durable.
///
/// # Errors
/// Where a row cannot be read (nothing was sent then) or the engine cannot be reached.
pub fn import(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let ImportArgs { file, to, skip_bad_rows, format } = args;
    let mut rows = Rows::<AccountChange>::open(&file, skip_bad_rows)?;
    if let Some(warning) = rows.warning() {
        eprintln!("warning: {warning}");
    }
    let mut count = 0_u64;
    for row in &mut rows {
        row.context("nothing was sent")?;
        count += 1;
    }
    for skipped in rows.skipped() {
        eprintln!("skipped: {skipped}");
    }
    let skipped = rows.skipped().len();

    let progress = bar(count, &format!("rows to {to}"));
    let answer = send(&file, &to, skip_bad_rows, &progress)?;
    progress.finish_and_clear();

    let UpsertAccountsResponse { accounts_opened, accounts_changed, unchanged, refusals } = &answer;
    let refused = count.saturating_sub(accounts_opened + accounts_changed + unchanged);
    let refusals = named(&file, skip_bad_rows, refusals)?;
    match format {
        Format::Json => say(json!({
            "rows": count,
            "opened": accounts_opened,
            "changed": accounts_changed,
            "unchanged": unchanged,
            "skipped": skipped,
            "refused": refused,
            "refusals": refusals.iter().map(|refusal| json!({
                "row": refusal.row, "account_id": refusal.account, "message": refusal.message,
            })).collect::<Vec<_>>(),
        })),
        Format::Text => {
            say(format_args!(
                "{count} rows: {accounts_opened} opened, {accounts_changed} changed, {unchanged} unchanged, \
                 {refused} refused"
            ));
            for refusal in refusals.iter().take(REFUSALS_SHOWN) {
                say(format_args!("  row {} (account {}): {}", refusal.row, refusal.account, refusal.message));
            }
            if refused > REFUSALS_SHOWN.min(refusals.len()) as u64 {
                say(format_args!("  and {} more", refused - REFUSALS_SHOWN.min(refusals.len()) as u64));
            }
        }
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { Exit::Refused.into() })
}

/// Connects to an engine.
///
/// # Errors
/// Where the address is none, or nobody answers there.
pub(super) async fn connect(to: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{to}"))
        .with_context(|| format!("{to} is no address such as 127.0.0.1:50051"))?
        .tcp_nodelay(true);
    endpoint.connect().await.with_context(|| {
        format!("no engine answers at {to}; is `saker serve` running, and is its --listen {to}?")
    })
}

/// The message that brings an account to what the change says.
pub(super) fn upsert(request_id: String, change: &AccountChange) -> UpsertAccountRequest {
    let card = |card: &CardChange| Card {
        card_token: card.token.to_string(),
        status: card.status.map_or(0, |status| i32::from(status.number())),
        expires_on: card.expires_on.map(|day| day.to_string()).unwrap_or_default(),
    };
    let account = Account {
        account_id: change.account.to_string(),
        currency_code: change.currency.map(|currency| currency.to_string()).unwrap_or_default(),
        credit_limit_minor: change.credit_limit_minor,
        posted_minor: change.posted_minor,
        status: change.status.map_or(0, |status| i32::from(status.number())),
        product: change.product.map(|product| product.to_string()).unwrap_or_default(),
        cards: change.cards.iter().map(card).collect(),
        home_country: change.home_country.map(|country| country.as_str().to_owned()).unwrap_or_default(),
        home_latitude: change.home.map(|home| home.latitude),
        home_longitude: change.home.map(|home| home.longitude),
        opened_on: change.opened_on.map(|day| day.to_string()).unwrap_or_default(),
        ..Account::default()
    };
    UpsertAccountRequest { request_id, account: Some(account) }
}

/// A name that no other run has.
fn run_name() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let random = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random())
}

fn send(
    file: &Path,
    to: &str,
    skip_bad_rows: u64,
    progress: &ProgressBar,
) -> anyhow::Result<UpsertAccountsResponse> {
    let (sender, receiver) = mpsc::channel(ROWS_AHEAD);
    let (path, run, sent) = (file.to_owned(), run_name(), progress.clone());
    // The file is read on a thread of its own: neither reading nor unpacking may hold up the connection.
    let reader = std::thread::spawn(move || -> anyhow::Result<()> {
        for (place, row) in Rows::<AccountChange>::open(&path, skip_bad_rows)?.enumerate() {
            let request_id = format!("import-{run}-{}", place + 1);
            if sender.blocking_send(upsert(request_id, &row?)).is_err() {
                // The stream has ended early; its status says why.
                break;
            }
            sent.inc(1);
        }
        Ok(())
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let mut client = AccountsClient::new(connect(to).await?);
        let answer = client.upsert_accounts(ReceiverStream::new(receiver)).await;
        anyhow::Ok(answer.with_context(|| format!("{to} did not take the rows"))?.into_inner())
    });
    match reader.join() {
        Ok(read) => read.with_context(|| format!("{} changed while it was sent", file.display()))?,
        Err(_) => bail!("reading {} failed", file.display()),
    }
    answer
}

struct Refusal {
    /// Among the rows that could be read, from 1; the header does not count.
    row: u64,
    account: String,
    message: String,
}

/// Finds the accounts of refused rows, which the engine names by their place alone.
fn named(file: &Path, skip_bad_rows: u64, refusals: &[UpsertRefusal]) -> anyhow::Result<Vec<Refusal>> {
    let mut named = Vec::with_capacity(refusals.len());
    if refusals.is_empty() {
        return Ok(named);
    }
    let mut wanted = refusals.iter().peekable();
    for (place, row) in Rows::<AccountChange>::open(file, skip_bad_rows)?.enumerate() {
        let account = row?.account;
        while let Some(refusal) = wanted.next_if(|refusal| refusal.row == place as u64 + 1) {
            let message = refusal.status.as_ref().map_or("no reason given", |status| status.message.as_str());
            named.push(Refusal {
                row: refusal.row,
                account: account.to_string(),
                message: message.to_owned(),
            });
        }
        if wanted.peek().is_none() {
            break;
        }
    }
    Ok(named)
}

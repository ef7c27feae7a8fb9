//! Opens the accounts that the traffic is spread over. Done before anything is measured; a second run finds them
//! open and changes nothing.

use std::net::SocketAddr;

use anyhow::{Context, bail};

use super::{calls, traffic};
use crate::proto::{Account, Card, UpsertAccountRequest, accounts_client::AccountsClient};

/// High enough that no load of this tool exhausts it: 10^12 minor units.
const CREDIT_LIMIT_MINOR: i64 = 1_000_000_000_000;

/// Opens accounts 0 to `count` with one card each. False where the server has no Accounts service, as a bare echo
/// server.
///
/// # Errors
/// Where the server cannot be reached, or refuses a row.
pub fn open_accounts(to: SocketAddr, count: u32) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let run = traffic::run_id();
        let rows = tokio_stream::iter((0..count).map(move |number| UpsertAccountRequest {
            request_id: format!("load-{run}-open-{number}"),
            account: Some(account(number)),
        }));
        let mut client = AccountsClient::new(calls::connect(to).await?);
        let answer = match client.upsert_accounts(rows).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == tonic::Code::Unimplemented => return Ok(false),
            Err(status) => return Err(status).context(format!("opening accounts on {to}")),
        };
        if let Some(refusal) = answer.refusals.first() {
            let why = refusal.status.as_ref().map_or("no reason given", |status| status.message.as_str());
            bail!(
                "{to} refused {} of {count} accounts, first row {}: {why}",
                answer.refusals.len(),
                refusal.row
            );
        }
        Ok(true)
    })
}

fn account(number: u32) -> Account {
    Account {
        account_id: traffic::account_id(number),
        currency_code: traffic::CURRENCY.to_owned(),
        credit_limit_minor: Some(CREDIT_LIMIT_MINOR),
        cards: vec![Card { card_token: traffic::card_token(number), ..Card::default() }],
        home_country: traffic::COUNTRY.to_owned(),
        ..Account::default()
    }
}

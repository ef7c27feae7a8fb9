//! The columns of `accounts.csv`: one row for each card, or for an account without one.

use std::io;

use super::{
    rows::{BadCell, Cells, Column, Row, bad_cell, columns, currency, decimal, id, name, own_id},
    transaction::country,
};
use crate::types::{
    account::{AccountChange, CardChange, Day},
    codes::{AccountStatus, CardStatus},
    ids::{AccountId, CardToken},
    money::Money,
};

columns! {
    ACCOUNT_ID "account_id" true,
    CREDIT_LIMIT "credit_limit" true,
    CURRENCY "currency" true,
    CARD_ID "card_id" false,
    CARD_EXPIRES_ON "card_expires_on" false,
    STATUS "status" false,
    ACCOUNT_STATUS "account_status" false,
    PRODUCT "product" false,
    POSTED_BALANCE "posted_balance" false,
    HOME_COUNTRY "home_country" false,
    HOME_LAT "home_lat" false,
    HOME_LON "home_lon" false,
    OPENED_ON "opened_on" false,
}

/// One row; an account with several cards comes once for each.
impl Row for AccountChange {
    const COLUMNS: &'static [Column] = COLUMNS;

    fn read(cells: &Cells<'_>) -> Result<AccountChange, BadCell> {
        let account = AccountId(cells.need(ACCOUNT_ID, own_id)?);
        let currency = cells.need(CURRENCY, currency)?;
        let money = |text: &str| Money::parse_major(text, currency).map(|m| m.minor);
        let credit_limit_minor = cells.need(CREDIT_LIMIT, money)?;
        if credit_limit_minor < 0 {
            return Err(bad_cell(CREDIT_LIMIT, "is negative"));
        }
        let card = cells.get(CARD_ID, own_id)?.map(CardToken);
        let status = cells.get(STATUS, name(CardStatus::from_name, CardStatus::ALL, CardStatus::name))?;
        let expires_on = cells.get(CARD_EXPIRES_ON, day)?;
        if card.is_none() && (status.is_some() || expires_on.is_some()) {
            return Err(bad_cell(CARD_ID, "is empty although the row describes a card"));
        }
        let account_status = name(AccountStatus::from_name, AccountStatus::ALL, AccountStatus::name);
        Ok(AccountChange {
            account,
            currency: Some(currency),
            credit_limit_minor: Some(credit_limit_minor),
            posted_minor: cells.get(POSTED_BALANCE, money)?,
            status: cells.get(ACCOUNT_STATUS, account_status)?,
            product: cells.get(PRODUCT, id)?,
            home_country: cells.get(HOME_COUNTRY, country)?,
            home: cells.place(HOME_LAT, HOME_LON)?,
            opened_on: cells.get(OPENED_ON, day)?,
            cards: card.into_iter().map(|token| CardChange { token, status, expires_on }).collect(),
        })
    }
}

/// Writes a header and one line for each card. Accounts must have a currency and a limit.
///
/// # Errors
/// Those of the output, and `InvalidInput` where an account lacks what its row needs.
pub fn write_accounts(output: impl io::Write, accounts: &[AccountChange]) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(output);
    csv.write_record(COLUMNS.iter().map(|c| c.name))?;
    for account in accounts {
        let (Some(currency), Some(limit)) = (account.currency, account.credit_limit_minor) else {
            let why = format!("account {} has no currency or no limit", account.account);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        };
        let none = [None];
        let some: Vec<_> = account.cards.iter().map(Some).collect();
        for card in if some.is_empty() { &none[..] } else { &some[..] } {
            let mut cells = vec![String::new(); COLUMNS.len()];
            let mut set =
                |column: Column, text: Option<String>| cells[column.index] = text.unwrap_or_default();
            set(ACCOUNT_ID, Some(account.account.to_string()));
            set(CREDIT_LIMIT, Some(decimal(Money::new(limit, currency))));
            set(CURRENCY, Some(currency.to_string()));
            set(CARD_ID, card.map(|c| c.token.to_string()));
            set(CARD_EXPIRES_ON, card.and_then(|c| c.expires_on).map(|d| d.to_string()));
            set(STATUS, card.and_then(|c| c.status).map(|s| s.name().to_owned()));
            set(ACCOUNT_STATUS, account.status.map(|s| s.name().to_owned()));
            set(PRODUCT, account.product.map(|p| p.to_string()));
            set(POSTED_BALANCE, account.posted_minor.map(|p| decimal(Money::new(p, currency))));
            set(HOME_COUNTRY, account.home_country.map(|c| c.as_str().to_owned()));
            set(HOME_LAT, account.home.map(|h| h.latitude.to_string()));
            set(HOME_LON, account.home.map(|h| h.longitude.to_string()));
            set(OPENED_ON, account.opened_on.map(|d| d.to_string()));
            csv.write_record(&cells)?;
        }
    }
    csv.flush()
}

fn day(text: &str) -> Result<Day, String> {
    Day::parse(text).ok_or_else(|| format!("`{text}` is no date such as 2026-01-31"))
}

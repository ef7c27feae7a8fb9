//! The columns of `transactions.csv`.

use std::io;

use super::{
    Label, PastOutcome, Transaction,
    rows::{BadCell, Cells, Column, Row, bad_cell, columns, currency, decimal, id, name, own_id},
};
use crate::{
    limits::AMOUNT_MINOR_MAX,
    types::{
        auth::{AuthRequest, Country, Merchant, Network, Subject, Verification},
        codes::{Channel, EntryMode, Kind, ResponseCode},
        ids::{AccountId, CardToken, RequestKey},
        money::{Currency, Money},
        time::Timestamp,
    },
};

columns! {
    TRANSACTION_ID "transaction_id" true,
    TIMESTAMP "timestamp" true,
    ACCOUNT_ID "account_id" true,
    CARD_ID "card_id" false,
    KIND "kind" false,
    AMOUNT "amount" true,
    CURRENCY "currency" true,
    BILLING_AMOUNT "billing_amount" false,
    BILLING_CURRENCY "billing_currency" false,
    MERCHANT_ID "merchant_id" true,
    TERMINAL_ID "terminal_id" false,
    MCC "mcc" false,
    COUNTRY "country" false,
    MERCHANT_LAT "merchant_lat" false,
    MERCHANT_LON "merchant_lon" false,
    CHANNEL "channel" false,
    ENTRY_MODE "entry_mode" false,
    DEVICE_ID "device_id" false,
    IP_ADDRESS "ip_address" false,
    HOME_LAT "home_lat" false,
    HOME_LON "home_lon" false,
    ORIGINAL_TRANSACTION_ID "original_transaction_id" false,
    OUTCOME "outcome" false,
    RESPONSE_CODE "response_code" false,
    IS_FRAUD "is_fraud" false,
    LABELLED_AT "labelled_at" false,
}

impl Row for Transaction {
    const COLUMNS: &'static [Column] = COLUMNS;

    fn read(cells: &Cells<'_>) -> Result<Transaction, BadCell> {
        let key = RequestKey(cells.need(TRANSACTION_ID, id)?);
        let time = cells.need(TIMESTAMP, timestamp)?;
        let account = AccountId(cells.need(ACCOUNT_ID, own_id)?);
        let card = cells.get(CARD_ID, own_id)?.map(CardToken);
        let kind = cells.get(KIND, name(Kind::from_name, Kind::ALL, Kind::name))?.unwrap_or(Kind::Purchase);
        let row_currency = cells.need(CURRENCY, currency)?;
        let amount = amount(cells, AMOUNT, row_currency)?.ok_or_else(|| bad_cell(AMOUNT, "is empty"))?;
        if kind == Kind::AccountVerification && amount.minor != 0 {
            return Err(bad_cell(AMOUNT, "must be 0 for an ACCOUNT_VERIFICATION"));
        }
        let billing_amount = match cells.get(BILLING_CURRENCY, currency)? {
            Some(billing) => amount_or_empty(cells, billing)?,
            None if cells.text(BILLING_AMOUNT).is_some() => {
                return Err(bad_cell(BILLING_CURRENCY, "is empty although `billing_amount` is not"));
            }
            None => None,
        };
        if let Some(billed) = billing_amount {
            if kind == Kind::AccountVerification && billed.minor != 0 {
                return Err(bad_cell(BILLING_AMOUNT, "must be 0 for an ACCOUNT_VERIFICATION"));
            }
            if kind != Kind::BalanceInquiry && (amount.minor == 0) != (billed.minor == 0) {
                return Err(bad_cell(BILLING_AMOUNT, "must be 0 where `amount` is, and only there"));
            }
        }
        let request = AuthRequest {
            key,
            kind,
            subject: card.map_or(Subject::Account(account), Subject::Card),
            amount: (kind != Kind::BalanceInquiry).then_some(amount),
            billing_amount,
            transaction_time: Some(time),
            merchant: Merchant {
                merchant_id: Some(cells.need(MERCHANT_ID, id)?),
                terminal_id: cells.get(TERMINAL_ID, id)?,
                mcc: cells.get(MCC, mcc)?,
                country: cells.get(COUNTRY, country)?,
                place: cells.place(MERCHANT_LAT, MERCHANT_LON)?,
                ..Merchant::default()
            },
            channel: cells.get(CHANNEL, name(Channel::from_name, Channel::ALL, Channel::name))?,
            entry_mode: cells.get(ENTRY_MODE, name(EntryMode::from_name, EntryMode::ALL, EntryMode::name))?,
            initiation: None,
            verification: Verification::default(),
            device_id: cells.get(DEVICE_ID, id)?,
            ip_address: cells.get(IP_ADDRESS, id)?,
            network: Network::default(),
            partial_approval_allowed: false,
            single_message: false,
            cashback_amount: None,
            original: cells.get(ORIGINAL_TRANSACTION_ID, id)?.map(RequestKey),
            instalments: 0,
        };
        let response_code = cells.get(RESPONSE_CODE, response_code)?;
        let outcome = cells.get(OUTCOME, approved)?.map(|approved| PastOutcome { approved, response_code });
        let labelled_at = cells.get(LABELLED_AT, timestamp)?;
        let label = cells.get(IS_FRAUD, is_fraud)?.map(|is_fraud| Label { is_fraud, labelled_at });
        Ok(Transaction {
            request,
            account,
            card,
            currency: billing_amount.map_or(row_currency, |billed| billed.currency),
            home: cells.place(HOME_LAT, HOME_LON)?,
            outcome,
            label,
        })
    }
}

/// Writes a header and one line for each transaction, as [`super::Rows`] reads them.
///
/// # Errors
/// Those of the output.
pub fn write_transactions(
    output: impl io::Write,
    transactions: impl IntoIterator<Item = Transaction>,
) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(output);
    csv.write_record(COLUMNS.iter().map(|c| c.name))?;
    let mut cells = vec![String::new(); COLUMNS.len()];
    for Transaction { request, account, card, currency, home, outcome, label } in transactions {
        cells.iter_mut().for_each(String::clear);
        let mut set = |column: Column, text: Option<String>| cells[column.index] = text.unwrap_or_default();
        set(TRANSACTION_ID, Some(request.key.to_string()));
        set(TIMESTAMP, request.transaction_time.map(|t| t.to_string()));
        set(ACCOUNT_ID, Some(account.to_string()));
        set(CARD_ID, card.map(|c| c.to_string()));
        set(KIND, Some(request.kind.name().to_owned()));
        // An inquiry has no amount of its own, but its row must have one.
        let amount = request.amount.or(request.billing_amount);
        set(AMOUNT, Some(amount.map_or_else(|| "0".to_owned(), decimal)));
        set(CURRENCY, Some(amount.map_or(currency, |a| a.currency).to_string()));
        set(BILLING_AMOUNT, request.billing_amount.map(decimal));
        set(BILLING_CURRENCY, request.billing_amount.map(|a| a.currency.to_string()));
        let merchant = &request.merchant;
        set(MERCHANT_ID, merchant.merchant_id.map(|m| m.to_string()));
        set(TERMINAL_ID, merchant.terminal_id.map(|t| t.to_string()));
        set(MCC, merchant.mcc.map(|m| format!("{m:04}")));
        set(COUNTRY, merchant.country.map(|c| c.as_str().to_owned()));
        set(MERCHANT_LAT, merchant.place.map(|p| p.latitude.to_string()));
        set(MERCHANT_LON, merchant.place.map(|p| p.longitude.to_string()));
        set(CHANNEL, request.channel.map(|c| c.name().to_ascii_lowercase()));
        set(ENTRY_MODE, request.entry_mode.map(|e| e.name().to_owned()));
        set(DEVICE_ID, request.device_id.map(|d| d.to_string()));
        set(IP_ADDRESS, request.ip_address.map(|a| a.to_string()));
        set(HOME_LAT, home.map(|h| h.latitude.to_string()));
        set(HOME_LON, home.map(|h| h.longitude.to_string()));
        set(ORIGINAL_TRANSACTION_ID, request.original.map(|o| o.to_string()));
        let approved = outcome.map(|o| if o.approved { "approved" } else { "declined" });
        set(OUTCOME, approved.map(str::to_owned));
        set(RESPONSE_CODE, outcome.and_then(|o| o.response_code).map(|c| c.to_string()));
        set(IS_FRAUD, label.map(|l| u8::from(l.is_fraud).to_string()));
        set(LABELLED_AT, label.and_then(|l| l.labelled_at).map(|t| t.to_string()));
        csv.write_record(&cells)?;
    }
    csv.flush()
}

/// An amount that the kinds of today allow: never negative, and inside the wire's range.
fn amount(cells: &Cells<'_>, column: Column, currency: Currency) -> Result<Option<Money>, BadCell> {
    cells.get(column, |text| match Money::parse_major(text, currency)? {
        money if money.minor < 0 => Err(format!("`{text}` is negative, which this kind does not allow")),
        money if money.minor > AMOUNT_MINOR_MAX => Err(format!("`{text}` is too large")),
        money => Ok(money),
    })
}

fn amount_or_empty(cells: &Cells<'_>, billing: Currency) -> Result<Option<Money>, BadCell> {
    let money = amount(cells, BILLING_AMOUNT, billing)?;
    money.map(Some).ok_or_else(|| bad_cell(BILLING_AMOUNT, "is empty although `billing_currency` is not"))
}

/// A time of the years that the wire takes.
fn timestamp(text: &str) -> Result<Timestamp, String> {
    /// 0001-01-01T00:00:00Z.
    const FIRST: Timestamp = Timestamp(-62_135_596_800_000);
    let time = Timestamp::parse(text).filter(|time| *time >= FIRST);
    time.ok_or_else(|| format!("`{text}` is no RFC 3339 time such as 2026-01-31T12:00:00Z"))
}

fn mcc(text: &str) -> Result<u16, String> {
    let digits = text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| format!("`{text}` is not four digits"))
}

pub(super) fn country(text: &str) -> Result<Country, String> {
    Country::new(text).ok_or_else(|| format!("`{text}` is not a country of two capital letters"))
}

fn response_code(text: &str) -> Result<ResponseCode, String> {
    ResponseCode::new(text).ok_or_else(|| format!("`{text}` is not two letters or digits"))
}

fn approved(text: &str) -> Result<bool, String> {
    match text {
        "approved" => Ok(true),
        "declined" => Ok(false),
        _ => Err(format!("`{text}` is neither `approved` nor `declined`")),
    }
}

fn is_fraud(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(format!("`{text}` is neither 0 nor 1")),
    }
}

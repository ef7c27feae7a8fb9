//! Requests on their way in: every rule of the contract about form, one function per request.
//!
//! Each returns the engine's type or a fault that names every bad field. Rules that need the account (its currency,
//! what the original was) are the engine's.

use std::time::Duration;

use super::checks::{Admission, Checks, Field, money_field};
use crate::{
    engine::ModelRole,
    limits::{AMOUNT_MINOR_MAX, CARDS_PER_ACCOUNT_MAX},
    proto,
    rules::Mode,
    types::{
        account::{AccountChange, CardChange},
        auth::{AuthRequest, Merchant, Network, Subject, Verification},
        codes::{AccountStatus, CardStatus, Channel, CheckResult, EntryMode, Initiation, Kind},
        fault::Fault,
        ids::{AccountId, CardToken, Id, RequestKey},
        outcome::{Maintenance, Reversal},
    },
};

/// What a `GetDecision` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::wire) enum DecisionBy {
    Key(RequestKey),
    Position(u64),
}

/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn authorise(
    request: &proto::AuthoriseRequest,
    admission: Admission,
) -> Result<AuthRequest, Fault> {
    let mut checks = Checks::new(admission);
    match authorise_fields(&mut checks, request) {
        Some(request) if checks.is_clean() => Ok(request),
        _ => Err(checks.into_fault()),
    }
}

/// One item of a stream or a batch, and how soon after its arrival it must be answered.
///
/// # Errors
/// [`Fault::Invalid`] with every bad field; the paths of the request's own fields start in the request.
pub(in crate::wire) fn authorise_item(
    item: &proto::AuthoriseItem,
    admission: Admission,
) -> Result<(AuthRequest, Option<Duration>), Fault> {
    // The item's own fields rank behind those of the request it carries.
    const REQUEST: Field = Field::new("request", 100);
    const ANSWER_WITHIN: Field = Field::new("answer_within", 101);
    let mut checks = Checks::new(admission);
    let request = match &item.request {
        Some(request) => authorise_fields(&mut checks, request),
        None => {
            checks.refuse(REQUEST, "must be given");
            None
        }
    };
    let answer_within = item.answer_within.as_ref().and_then(|bound| {
        let duration = positive_duration(bound);
        if duration.is_none() {
            checks.refuse(ANSWER_WITHIN, "must be a duration above zero");
        }
        duration
    });
    match request {
        Some(request) if checks.is_clean() => Ok((request, answer_within)),
        _ => Err(checks.into_fault()),
    }
}

/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn reverse(
    request: &proto::ReverseRequest,
    admission: Admission,
) -> Result<Reversal, Fault> {
    let mut checks = Checks::new(admission);
    let key = request_id(&mut checks, &request.request_id);
    let original =
        checks.required_id(&request.original_transaction_id, Field::new("original_transaction_id", 2));
    let replacement =
        checks.money(request.replacement_amount.as_ref(), money_field!("replacement_amount", 3));
    match (key, original) {
        (Some(key), Some(original)) if checks.is_clean() => {
            Ok(Reversal { key, original: RequestKey(original), replacement })
        }
        _ => Err(checks.into_fault()),
    }
}

/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn set_account_status(
    request: &proto::SetAccountStatusRequest,
    admission: Admission,
) -> Result<Maintenance, Fault> {
    let mut checks = Checks::new(admission);
    let key = request_id(&mut checks, &request.request_id);
    let account = account_id(&mut checks, &request.account_id, 2);
    let status = checks.required_code(request.status, AccountStatus::from_number, Field::new("status", 3));
    match (key, account, status) {
        (Some(key), Some(account), Some(status)) => {
            Ok(Maintenance::SetAccountStatus { key, account, status })
        }
        _ => Err(checks.into_fault()),
    }
}

/// A rule's id and its new mode.
///
/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn set_rule_mode(
    request: &proto::SetRuleModeRequest,
    admission: Admission,
) -> Result<(Id, Mode), Fault> {
    let mut checks = Checks::new(admission);
    let key = request_id(&mut checks, &request.request_id);
    let rule = checks.required_id(&request.rule_id, Field::new("rule_id", 2));
    let mode = checks.required_code(request.mode, rule_mode, Field::new("mode", 3));
    match (key, rule, mode) {
        (Some(_), Some(rule), Some(mode)) => Ok((rule, mode)),
        _ => Err(checks.into_fault()),
    }
}

fn rule_mode(number: u8) -> Option<Mode> {
    match proto::RuleMode::try_from(i32::from(number)).ok()? {
        proto::RuleMode::Unspecified => None,
        proto::RuleMode::Live => Some(Mode::Live),
        proto::RuleMode::Shadow => Some(Mode::Shadow),
        proto::RuleMode::Off => Some(Mode::Off),
    }
}

/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn set_card_status(
    request: &proto::SetCardStatusRequest,
    admission: Admission,
) -> Result<Maintenance, Fault> {
    let mut checks = Checks::new(admission);
    let key = request_id(&mut checks, &request.request_id);
    let card = checks.required_token(&request.card_token, Field::card("card_token", 2)).map(CardToken);
    let status = checks.required_code(request.status, CardStatus::from_number, Field::new("status", 3));
    match (key, card, status) {
        (Some(key), Some(card), Some(status)) => Ok(Maintenance::SetCardStatus { key, card, status }),
        _ => Err(checks.into_fault()),
    }
}

/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn set_credit_limit(
    request: &proto::SetCreditLimitRequest,
    admission: Admission,
) -> Result<Maintenance, Fault> {
    let mut checks = Checks::new(admission);
    let key = request_id(&mut checks, &request.request_id);
    let account = account_id(&mut checks, &request.account_id, 2);
    let limit = checks.minor_units(request.credit_limit_minor, Field::amount("credit_limit_minor", 3));
    match (key, account, limit) {
        (Some(key), Some(account), Some(limit_minor)) => {
            Ok(Maintenance::SetCreditLimit { key, account, limit_minor })
        }
        _ => Err(checks.into_fault()),
    }
}

/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn get_account(
    request: &proto::GetAccountRequest,
    admission: Admission,
) -> Result<AccountId, Fault> {
    let mut checks = Checks::new(admission);
    account_id(&mut checks, &request.account_id, 1).ok_or_else(|| checks.into_fault())
}

/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn upsert(
    request: &proto::UpsertAccountRequest,
    admission: Admission,
) -> Result<Maintenance, Fault> {
    let mut checks = Checks::new(admission);
    let key = request_id(&mut checks, &request.request_id);
    let change = match &request.account {
        Some(account) => account_change(&mut checks, account),
        None => {
            checks.refuse(Field::new("account", 2), "must be given");
            None
        }
    };
    match (key, change) {
        (Some(key), Some(change)) if checks.is_clean() => Ok(Maintenance::Upsert { key, change }),
        _ => Err(checks.into_fault()),
    }
}

/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn get_decision(
    request: &proto::GetDecisionRequest,
    admission: Admission,
) -> Result<DecisionBy, Fault> {
    use proto::get_decision_request::By;
    const TRANSACTION_ID: Field = Field::new("transaction_id", 1);
    let mut checks = Checks::new(admission);
    let by = match &request.by {
        Some(By::Position(position)) => Some(DecisionBy::Position(*position)),
        Some(By::TransactionId(key)) => {
            checks.required_id(key, TRANSACTION_ID).map(|key| DecisionBy::Key(RequestKey(key)))
        }
        None => {
            checks.refuse(TRANSACTION_ID, "one of transaction_id and position must be given");
            checks.refuse(Field::new("position", 2), "one of transaction_id and position must be given");
            None
        }
    };
    by.ok_or_else(|| checks.into_fault())
}

/// What a call is to do to a model.
pub(in crate::wire) enum ModelChange {
    Promote,
    Load(ModelRole, String),
}

/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn reload_model(
    request: proto::ReloadModelRequest,
    admission: Admission,
) -> Result<ModelChange, Fault> {
    const ALONE: &str = "must not be set where promote is";
    let proto::ReloadModelRequest { content, challenger, promote } = request;
    if !promote {
        let role = if challenger { ModelRole::Challenger } else { ModelRole::Champion };
        return Ok(ModelChange::Load(role, content));
    }
    let mut checks = Checks::new(admission);
    if !content.is_empty() {
        checks.refuse(Field::new("content", 1), ALONE);
    }
    if challenger {
        checks.refuse(Field::new("challenger", 2), ALONE);
    }
    if checks.is_clean() { Ok(ModelChange::Promote) } else { Err(checks.into_fault()) }
}

pub(super) fn request_id(checks: &mut Checks, text: &str) -> Option<RequestKey> {
    checks.required_id(text, Field::new("request_id", 1)).map(RequestKey)
}

fn account_id(checks: &mut Checks, text: &str, number: u32) -> Option<AccountId> {
    checks.required_token(text, Field::new("account_id", number)).map(AccountId)
}

/// `None` where a required field is missing or bad; violations are noted either way.
fn authorise_fields(checks: &mut Checks, request: &proto::AuthoriseRequest) -> Option<AuthRequest> {
    let key = checks.required_id(&request.transaction_id, Field::new("transaction_id", 1));
    let kind = checks.required_code(request.kind, Kind::from_number, Field::kind("kind", 2));
    let subject = subject(checks, &request.account_id, &request.card_token);
    let asks_only = kind == Some(Kind::BalanceInquiry);

    let amount_field = money_field!("amount", 5);
    if request.amount.is_none() && !asks_only {
        checks.refuse(amount_field.whole, "must be given");
    }
    let amount = checks.money(request.amount.as_ref(), amount_field);
    let billing_field = money_field!("billing_amount", 6);
    let billing_amount = checks.money(request.billing_amount.as_ref(), billing_field);
    if let (Some(amount), Some(billed)) = (amount, billing_amount)
        && kind != Some(Kind::AccountVerification)
        && (amount.minor == 0) != (billed.minor == 0)
    {
        checks.refuse(billing_field.whole, "must be zero where the amount is, and only there");
    }
    if kind == Some(Kind::AccountVerification) {
        for (money, field) in [(amount, amount_field), (billing_amount, billing_field)] {
            if money.is_some_and(|money| money.minor != 0) {
                checks.refuse(field.whole, "must be zero in an account verification");
            }
        }
    }

    let transaction_time = checks.time(request.transaction_time.as_ref(), Field::new("transaction_time", 7));
    let merchant = merchant(checks, request.merchant.as_ref(), !asks_only);
    let channel = checks.code(request.channel, Channel::from_number, Field::new("channel", 9));
    let entry_mode = checks.code(request.entry_mode, EntryMode::from_number, Field::new("entry_mode", 10));
    let initiation = checks.code(request.initiation, Initiation::from_number, Field::new("initiation", 11));
    let verification =
        request.verification.as_ref().map(|given| verification(checks, given)).unwrap_or_default();
    let (device_id, ip_address) = match &request.device {
        Some(device) => (
            checks.id(&device.device_id, Field::new("device.device_id", 13)),
            checks.id(&device.ip_address, Field::new("device.ip_address", 13)),
        ),
        None => (None, None),
    };
    let network = request.network.as_ref().map(|given| network(checks, given)).unwrap_or_default();
    let cashback_field = money_field!("cashback_amount", 17);
    let cashback_amount = checks.money(request.cashback_amount.as_ref(), cashback_field);
    if let (Some(cashback), Some(amount)) = (cashback_amount, amount)
        && (cashback.currency != amount.currency || cashback.minor > amount.minor)
    {
        checks.refuse(cashback_field.whole, "must be a part of the amount, in its currency");
    }
    let original = checks.id(&request.original_transaction_id, Field::new("original_transaction_id", 18));

    Some(AuthRequest {
        key: RequestKey(key?),
        kind: kind?,
        subject: subject?,
        amount,
        billing_amount,
        transaction_time,
        merchant,
        channel,
        entry_mode,
        initiation,
        verification,
        device_id,
        ip_address,
        network,
        partial_approval_allowed: request.partial_approval_allowed,
        single_message: request.single_message,
        cashback_amount,
        original: original.map(RequestKey),
        instalments: request.instalments,
    })
}

fn subject(checks: &mut Checks, account_id: &str, card_token: &str) -> Option<Subject> {
    const ACCOUNT_ID: Field = Field::new("account_id", 3);
    const CARD_TOKEN: Field = Field::card("card_token", 4);
    if account_id.is_empty() == card_token.is_empty() {
        // That it is one too few or one too many is the fault of neither field alone, hence 30 for both.
        for field in [ACCOUNT_ID, Field::new("card_token", 4)] {
            checks.refuse(field, "exactly one of account_id and card_token must be given");
        }
    }
    let account = checks.token(account_id, ACCOUNT_ID).map(|id| Subject::Account(AccountId(id)));
    let card = checks.token(card_token, CARD_TOKEN).map(|id| Subject::Card(CardToken(id)));
    account.or(card)
}

fn merchant(checks: &mut Checks, merchant: Option<&proto::Merchant>, required: bool) -> Merchant {
    const MERCHANT_ID: Field = Field::new("merchant.merchant_id", 8);
    let Some(merchant) = merchant else {
        if required {
            checks.refuse(MERCHANT_ID, "must be given");
        }
        return Merchant::default();
    };
    Merchant {
        merchant_id: if required {
            checks.required_id(&merchant.merchant_id, MERCHANT_ID)
        } else {
            checks.id(&merchant.merchant_id, MERCHANT_ID)
        },
        terminal_id: checks.id(&merchant.terminal_id, Field::new("merchant.terminal_id", 8)),
        acquirer_id: checks.id(&merchant.acquirer_id, Field::new("merchant.acquirer_id", 8)),
        mcc: checks.category_code(&merchant.category_code, Field::new("merchant.category_code", 8)),
        name: checks.text(&merchant.name, Field::new("merchant.name", 8)),
        country: checks.country(&merchant.country_code, Field::new("merchant.country_code", 8)),
        place: checks.place(
            (merchant.latitude, Field::new("merchant.latitude", 8)),
            (merchant.longitude, Field::new("merchant.longitude", 8)),
        ),
    }
}

fn verification(checks: &mut Checks, verification: &proto::Verification) -> Verification {
    /// Mastercard's scale, the wider of the two in use.
    const RISK_SCORE_MAX: u32 = 999;
    let mut result = |number, path| checks.code(number, CheckResult::from_number, Field::new(path, 12));
    let cvv = result(verification.cvv_result, "verification.cvv_result");
    let avs = result(verification.avs_result, "verification.avs_result");
    let pin = result(verification.pin_result, "verification.pin_result");
    let three_ds = result(verification.three_ds_result, "verification.three_ds_result");
    if verification.network_risk_score.is_some_and(|score| score > RISK_SCORE_MAX) {
        checks.refuse(Field::new("verification.network_risk_score", 12), "must be at most 999");
    }
    Verification {
        cvv,
        avs,
        pin,
        three_ds,
        eci: checks.two_digits(&verification.eci, Field::new("verification.eci", 12)),
        network_risk_score: verification.network_risk_score,
    }
}

fn network(checks: &mut Checks, network: &proto::Network) -> Network {
    let mut trace = |text, path| checks.text(text, Field::new(path, 14));
    Network {
        scheme: trace(&network.scheme, "network.scheme"),
        stan: trace(&network.stan, "network.stan"),
        retrieval_reference_number: trace(
            &network.retrieval_reference_number,
            "network.retrieval_reference_number",
        ),
        network_transaction_id: trace(&network.network_transaction_id, "network.network_transaction_id"),
        transmission_time: trace(&network.transmission_time, "network.transmission_time"),
    }
}

fn account_change(checks: &mut Checks, account: &proto::Account) -> Option<AccountChange> {
    const POSTED: Field = Field::amount("account.posted_minor", 2);
    let id = checks.required_token(&account.account_id, Field::new("account.account_id", 2));
    let currency = if account.currency_code.is_empty() {
        None
    } else {
        checks.currency(&account.currency_code, Field::amount("account.currency_code", 2))
    };
    let credit_limit_minor = account
        .credit_limit_minor
        .and_then(|limit| checks.minor_units(limit, Field::amount("account.credit_limit_minor", 2)));
    // A posted balance below zero is a credit balance: more was paid than was spent.
    if account.posted_minor.is_some_and(|posted| posted.unsigned_abs() > AMOUNT_MINOR_MAX.unsigned_abs()) {
        checks.refuse(POSTED, "must be within 999,999,999,999,999 minor units of zero");
    }
    if account.cards.len() > CARDS_PER_ACCOUNT_MAX {
        checks.refuse(
            Field::new("account.cards", 2),
            format!("must have at most {CARDS_PER_ACCOUNT_MAX} cards"),
        );
        return None;
    }
    let change = AccountChange {
        account: AccountId(id?),
        currency,
        credit_limit_minor,
        posted_minor: account.posted_minor,
        status: checks.code(account.status, AccountStatus::from_number, Field::new("account.status", 2)),
        product: checks.id(&account.product, Field::new("account.product", 2)),
        home_country: checks.country(&account.home_country, Field::new("account.home_country", 2)),
        home: checks.place(
            (account.home_latitude, Field::new("account.home_latitude", 2)),
            (account.home_longitude, Field::new("account.home_longitude", 2)),
        ),
        opened_on: checks.day(&account.opened_on, Field::new("account.opened_on", 2)),
        cards: account.cards.iter().filter_map(|given| card_change(checks, given)).collect(),
    };
    Some(change)
}

fn card_change(checks: &mut Checks, card: &proto::Card) -> Option<CardChange> {
    let token = checks.required_token(&card.card_token, Field::card("account.cards.card_token", 2));
    let status = checks.code(card.status, CardStatus::from_number, Field::new("account.cards.status", 2));
    let expires_on = checks.day(&card.expires_on, Field::new("account.cards.expires_on", 2));
    Some(CardChange { token: CardToken(token?), status, expires_on })
}

/// A duration of the protobuf range above zero.
fn positive_duration(duration: &prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let duration = Duration::new(seconds, nanos);
    (!duration.is_zero()).then_some(duration)
}

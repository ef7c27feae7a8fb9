//! Answers on their way out: the engine's types written as protobuf. Nothing here can fail.

use super::lists;
use crate::{
    engine::{Answered, DecisionRecord, ModelFound},
    model::quality::Quality,
    proto,
    rules::{Finding, Severity},
    types::{
        account::AccountView,
        auth::{AuthAnswer, AuthRequest, Merchant, Network, Subject, Verification},
        ids::Id,
        money::Money,
        outcome::Outcome,
        reasons::Reason,
        time::Timestamp,
    },
};

/// The answer to an authorisation. `transaction_id` is the text the client sent, moved and not copied.
pub(in crate::wire) fn authorise_response(
    transaction_id: String,
    answered: &Answered<AuthAnswer>,
) -> proto::AuthoriseResponse {
    response(transaction_id, &answered.answer, answered.replayed)
}

/// The answer to a reversal or a maintenance call. `request_id` is the text the client sent.
pub(in crate::wire) fn outcome(request_id: String, answered: &Answered<Outcome>) -> proto::Outcome {
    let Answered { answer, replayed } = answered;
    proto::Outcome {
        request_id,
        response_code: answer.response_code.as_str().to_owned(),
        amount_moved: answer.moved.map(money),
        available_credit: answer.available.map(money),
        position: answer.position,
        replayed: *replayed,
        reasons: answer.reasons.iter().map(reason).collect(),
    }
}

pub(in crate::wire) fn account(view: &AccountView) -> proto::Account {
    proto::Account {
        account_id: view.account.as_str().to_owned(),
        currency_code: view.currency.alpha().to_owned(),
        credit_limit_minor: Some(view.credit_limit_minor),
        posted_minor: Some(view.posted_minor),
        held_minor: view.held_minor,
        available_minor: view.available_minor,
        status: i32::from(view.status.number()),
        product: text(view.product),
        cards: view
            .cards
            .iter()
            .map(|card| proto::Card {
                card_token: card.token.as_str().to_owned(),
                status: i32::from(card.status.number()),
                expires_on: card.expires_on.map(|day| day.to_string()).unwrap_or_default(),
            })
            .collect(),
        last_position: view.last_position,
        home_country: view.home_country.map(|country| country.as_str().to_owned()).unwrap_or_default(),
        home_latitude: view.home.map(|home| home.latitude),
        home_longitude: view.home.map(|home| home.longitude),
        opened_on: view.opened_on.map(|day| day.to_string()).unwrap_or_default(),
    }
}

pub(in crate::wire) fn decision(record: DecisionRecord) -> proto::GetDecisionResponse {
    let key = record.request.key.as_str().to_owned();
    proto::GetDecisionResponse {
        response: Some(response(key, &record.answer, false)),
        request: Some(authorise_request(&record.request)),
        account_id: record.account.map(|account| account.as_str().to_owned()).unwrap_or_default(),
        rules_fired: record.rules_fired,
        shadow_rules_fired: record.shadow_rules_fired,
        features: record
            .features
            .into_iter()
            .map(|(name, value)| proto::FeatureValue { name: name.to_owned(), value })
            .collect(),
        voided: record.voided,
        lists_position: record.lists,
        labels: record.labels.iter().map(lists::label).collect(),
        challenge: record.challenged.map(|(version, challenged)| proto::Challenge {
            model_version: version.to_string(),
            score_margin: challenged.margin,
            score: challenged.score.into(),
            challenger_declines: challenged.declining.challenger(),
            champion_declines: challenged.declining.champion(),
        }),
    }
}

/// A model that scores or once did.
pub(in crate::wire) fn model(found: ModelFound) -> proto::GetModelResponse {
    let ModelFound { version, model, content, challenger_version } = found;
    let Some(model) = model else {
        let challenger_version = challenger_version.to_string();
        return proto::GetModelResponse { challenger_version, ..proto::GetModelResponse::default() };
    };
    let training = model.training();
    proto::GetModelResponse {
        version: version.to_string(),
        card: format!(
            "{}: {}, trained on {} transactions with {} frauds.",
            model.form(),
            training.algorithm,
            training.rows,
            training.frauds
        ),
        content,
        decline_threshold: model.decline_threshold().into(),
        trees: model.trees() as u32,
        validation: training.validation.as_ref().map(quality),
        test: training.test.as_ref().map(quality),
        challenger_version: challenger_version.to_string(),
    }
}

fn quality(quality: &Quality) -> proto::ModelQuality {
    let Quality { rows, frauds, auc, average_precision, recall_at_1_percent, recall_at_0_1_percent } =
        *quality;
    proto::ModelQuality { rows, frauds, auc, average_precision, recall_at_1_percent, recall_at_0_1_percent }
}

/// The request as it was taken in, which is as it was sent but for fields the contract does not know.
pub fn authorise_request(request: &AuthRequest) -> proto::AuthoriseRequest {
    let (account_id, card_token) = match request.subject {
        Subject::Account(account) => (account.as_str().to_owned(), String::new()),
        Subject::Card(card) => (String::new(), card.as_str().to_owned()),
    };
    proto::AuthoriseRequest {
        transaction_id: request.key.as_str().to_owned(),
        kind: i32::from(request.kind.number()),
        account_id,
        card_token,
        amount: request.amount.map(money),
        billing_amount: request.billing_amount.map(money),
        transaction_time: request.transaction_time.map(timestamp),
        merchant: merchant(&request.merchant),
        channel: request.channel.map_or(0, |code| i32::from(code.number())),
        entry_mode: request.entry_mode.map_or(0, |code| i32::from(code.number())),
        initiation: request.initiation.map_or(0, |code| i32::from(code.number())),
        verification: verification(&request.verification),
        device: (request.device_id.is_some() || request.ip_address.is_some()).then(|| proto::Device {
            device_id: text(request.device_id),
            ip_address: text(request.ip_address),
        }),
        network: network(&request.network),
        partial_approval_allowed: request.partial_approval_allowed,
        single_message: request.single_message,
        cashback_amount: request.cashback_amount.map(money),
        original_transaction_id: request.original.map(|key| key.as_str().to_owned()).unwrap_or_default(),
        instalments: request.instalments,
    }
}

fn response(transaction_id: String, answer: &AuthAnswer, replayed: bool) -> proto::AuthoriseResponse {
    proto::AuthoriseResponse {
        transaction_id,
        decision: i32::from(answer.decision.number()),
        response_code: answer.response_code.as_str().to_owned(),
        advice_code: answer.advice_code.map(|code| code.as_str().to_owned()).unwrap_or_default(),
        authorisation_code: answer
            .authorisation_code()
            .map(|code| code.as_str().to_owned())
            .unwrap_or_default(),
        approved_amount: answer.approved.map(money),
        available_credit: answer.available.map(money),
        reasons: answer.reasons.iter().map(reason).collect(),
        score: u32::from(answer.score),
        score_margin: answer.margin,
        rules_version: answer.rules_version.to_string(),
        model_version: answer.model_version.to_string(),
        degraded: answer.degraded.names().map(str::to_owned).collect(),
        decided_at: Some(timestamp(answer.decided_at)),
        hold_expires_at: answer.hold_expires_at.map(timestamp),
        position: answer.position,
        replayed,
    }
}

fn merchant(merchant: &Merchant) -> Option<proto::Merchant> {
    (*merchant != Merchant::default()).then(|| proto::Merchant {
        merchant_id: text(merchant.merchant_id),
        terminal_id: text(merchant.terminal_id),
        acquirer_id: text(merchant.acquirer_id),
        category_code: merchant.mcc.map(|mcc| format!("{mcc:04}")).unwrap_or_default(),
        name: merchant.name.as_deref().unwrap_or_default().to_owned(),
        country_code: merchant.country.map(|country| country.as_str().to_owned()).unwrap_or_default(),
        latitude: merchant.place.map(|place| place.latitude),
        longitude: merchant.place.map(|place| place.longitude),
    })
}

fn verification(verification: &Verification) -> Option<proto::Verification> {
    (*verification != Verification::default()).then(|| proto::Verification {
        cvv_result: verification.cvv.map_or(0, |result| i32::from(result.number())),
        avs_result: verification.avs.map_or(0, |result| i32::from(result.number())),
        pin_result: verification.pin.map_or(0, |result| i32::from(result.number())),
        three_ds_result: verification.three_ds.map_or(0, |result| i32::from(result.number())),
        eci: verification.eci.map(|eci| eci.as_str().to_owned()).unwrap_or_default(),
        network_risk_score: verification.network_risk_score,
    })
}

fn network(network: &Network) -> Option<proto::Network> {
    (*network != Network::default()).then(|| proto::Network {
        scheme: network.scheme.as_deref().unwrap_or_default().to_owned(),
        stan: network.stan.as_deref().unwrap_or_default().to_owned(),
        retrieval_reference_number: network
            .retrieval_reference_number
            .as_deref()
            .unwrap_or_default()
            .to_owned(),
        network_transaction_id: network.network_transaction_id.as_deref().unwrap_or_default().to_owned(),
        transmission_time: network.transmission_time.as_deref().unwrap_or_default().to_owned(),
    })
}

fn reason(reason: &Reason) -> proto::Reason {
    proto::Reason {
        code: reason.code.to_string(),
        source: i32::from(reason.source.number()),
        text: reason.text.to_string(),
        contribution: f64::from(reason.contribution),
    }
}

fn money(money: Money) -> proto::Money {
    proto::Money { currency_code: money.currency.alpha().to_owned(), minor_units: money.minor }
}

pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    // The remainder is 0 to 999, so the nanoseconds fit.
    let nanos = time.0.rem_euclid(1_000) as i32 * 1_000_000;
    prost_types::Timestamp { seconds: time.0.div_euclid(1_000), nanos }
}

fn text(id: Option<Id>) -> String {
    id.map(|id| id.as_str().to_owned()).unwrap_or_default()
}

/// What is wrong or doubtful about a rules file, at its place.
pub(in crate::wire) fn finding(finding: &Finding) -> proto::RuleFinding {
    let severity = match finding.severity {
        Severity::Error => proto::Severity::Error,
        Severity::Warning => proto::Severity::Warning,
    };
    proto::RuleFinding {
        line: finding.line,
        column: finding.column,
        message: finding.message.clone(),
        help: finding.help.clone().unwrap_or_default(),
        severity: severity.into(),
    }
}

/// An error that concerns no line.
pub(in crate::wire) fn unplaced_finding(message: &str) -> proto::RuleFinding {
    let severity = proto::Severity::Error.into();
    proto::RuleFinding { message: message.to_owned(), severity, ..proto::RuleFinding::default() }
}

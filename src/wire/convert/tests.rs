//! One row per way a field can be bad, and a round trip of whatever is well-formed.

use rand::{Rng as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

use super::{Admission, from_proto, to_proto};
use crate::{
    limits::{AMOUNT_MINOR_MAX, CARDS_PER_ACCOUNT_MAX},
    proto,
    types::{
        auth::{AuthRequest, Country, Merchant, Network, Place, Subject, Verification},
        codes::{Channel, CheckResult, EntryMode, Initiation, Kind},
        fault::{Fault, Violation},
        ids::{AccountId, CardToken, Id, RequestKey},
        money::{Currency, Money},
        time::{HOUR_MS, Timestamp},
    },
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const DOOR: Admission = Admission { pans_allowed: false, latest_time: Timestamp(NOW.0 + 24 * HOUR_MS) };
const PAN: &str = "4111 1111-1111 1111";

fn money(currency_code: &str, minor_units: i64) -> Option<proto::Money> {
    Some(proto::Money { currency_code: currency_code.to_owned(), minor_units })
}

/// Any text of a network trace: not only ASCII.
fn trace(rng: &mut ChaCha8Rng) -> Box<str> {
    format!("é{}", rng.random::<u32>()).into()
}

/// The smallest request there is.
fn good() -> proto::AuthoriseRequest {
    proto::AuthoriseRequest {
        transaction_id: "t-1".to_owned(),
        kind: 1,
        card_token: "tok-1".to_owned(),
        amount: money("USD", 1234),
        merchant: Some(proto::Merchant { merchant_id: "M-1".to_owned(), ..Default::default() }),
        ..Default::default()
    }
}

fn violations(fault: Fault) -> Vec<Violation> {
    match fault {
        Fault::Invalid(violations) => violations,
        other => panic!("expected violations, got {other:?}"),
    }
}

/// Paths and DE39 codes, in the order found.
fn bad_fields(fault: Fault) -> Vec<(&'static str, String)> {
    violations(fault).into_iter().map(|v| (v.field, v.response_code.to_string())).collect()
}

type Change = fn(&mut proto::AuthoriseRequest);
/// What is wrong, how to make it so, and the paths and DE39 codes expected.
type BadRow = (&'static str, Change, &'static [(&'static str, &'static str)]);

fn merchant(request: &mut proto::AuthoriseRequest) -> &mut proto::Merchant {
    request.merchant.get_or_insert_default()
}

fn time(seconds: i64, nanos: i32) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos })
}

#[test]
fn each_bad_field_is_named_with_its_response_code() {
    let rows: &[BadRow] = &[
        ("no key", |r| r.transaction_id.clear(), &[("transaction_id", "30")]),
        ("long key", |r| r.transaction_id = "x".repeat(65), &[("transaction_id", "30")]),
        ("key with NUL", |r| r.transaction_id = "a\0b".into(), &[("transaction_id", "30")]),
        ("key beyond ASCII", |r| r.transaction_id = "naïve".into(), &[("transaction_id", "30")]),
        ("no kind", |r| r.kind = 0, &[("kind", "12")]),
        ("unknown kind", |r| r.kind = 7, &[("kind", "12")]),
        ("negative kind", |r| r.kind = -1, &[("kind", "12")]),
        ("kind that wraps to one", |r| r.kind = 257, &[("kind", "12")]),
        ("neither", |r| r.card_token.clear(), &[("account_id", "30"), ("card_token", "30")]),
        ("both", |r| r.account_id = "a".into(), &[("account_id", "30"), ("card_token", "30")]),
        ("PAN as token", |r| r.card_token = PAN.into(), &[("card_token", "14")]),
        ("token beyond ASCII", |r| r.card_token = "é".into(), &[("card_token", "14")]),
        (
            "PAN as account",
            |r| (r.card_token, r.account_id) = (String::new(), PAN.into()),
            &[("account_id", "30")],
        ),
        ("no amount", |r| r.amount = None, &[("amount", "13")]),
        ("negative amount", |r| r.amount = money("USD", -1), &[("amount.minor_units", "13")]),
        ("huge amount", |r| r.amount = money("USD", AMOUNT_MINOR_MAX + 1), &[("amount.minor_units", "13")]),
        ("largest i64", |r| r.amount = money("USD", i64::MAX), &[("amount.minor_units", "13")]),
        ("smallest i64", |r| r.amount = money("USD", i64::MIN), &[("amount.minor_units", "13")]),
        ("unknown currency", |r| r.amount = money("ZZZ", 1), &[("amount.currency_code", "13")]),
        ("no currency", |r| r.amount = money("", 1), &[("amount.currency_code", "13")]),
        ("small letters", |r| r.amount = money("usd", 1), &[("amount.currency_code", "13")]),
        ("gold", |r| r.amount = money("XAU", 1), &[("amount.currency_code", "13")]),
        (
            "both parts of the amount",
            |r| r.amount = money("", -1),
            &[("amount.currency_code", "13"), ("amount.minor_units", "13")],
        ),
        ("billing", |r| r.billing_amount = money("EUR", -1), &[("billing_amount.minor_units", "13")]),
        ("cashback", |r| r.cashback_amount = money("?", 1), &[("cashback_amount.currency_code", "13")]),
        ("verification with an amount", |r| r.kind = 5, &[("amount", "13")]),
        (
            "verification with a billing amount",
            |r| (r.kind, r.amount, r.billing_amount) = (5, money("USD", 0), money("EUR", 1)),
            &[("billing_amount", "13")],
        ),
        ("no merchant", |r| r.merchant = None, &[("merchant.merchant_id", "30")]),
        ("no merchant id", |r| merchant(r).merchant_id.clear(), &[("merchant.merchant_id", "30")]),
        ("terminal", |r| merchant(r).terminal_id = "x".repeat(65), &[("merchant.terminal_id", "30")]),
        ("acquirer", |r| merchant(r).acquirer_id = "\n".into(), &[("merchant.acquirer_id", "30")]),
        ("mcc of three", |r| merchant(r).category_code = "541".into(), &[("merchant.category_code", "30")]),
        ("mcc signed", |r| merchant(r).category_code = "+541".into(), &[("merchant.category_code", "30")]),
        ("name of 257 bytes", |r| merchant(r).name = "é".repeat(129), &[("merchant.name", "30")]),
        ("country", |r| merchant(r).country_code = "usa".into(), &[("merchant.country_code", "30")]),
        ("latitude alone", |r| merchant(r).latitude = Some(1.0), &[("merchant.longitude", "30")]),
        ("longitude alone", |r| merchant(r).longitude = Some(1.0), &[("merchant.latitude", "30")]),
        (
            "not a number, and infinite",
            |r| (merchant(r).latitude, merchant(r).longitude) = (Some(f64::NAN), Some(f64::INFINITY)),
            &[("merchant.latitude", "30"), ("merchant.longitude", "30")],
        ),
        (
            "off the earth",
            |r| (merchant(r).latitude, merchant(r).longitude) = (Some(90.1), Some(-180.1)),
            &[("merchant.latitude", "30"), ("merchant.longitude", "30")],
        ),
        ("channel", |r| r.channel = 3, &[("channel", "30")]),
        ("entry mode", |r| r.entry_mode = i32::MAX, &[("entry_mode", "30")]),
        ("initiation", |r| r.initiation = -1, &[("initiation", "30")]),
        (
            "checks",
            |r| {
                r.verification = Some(proto::Verification {
                    cvv_result: 9,
                    avs_result: 9,
                    pin_result: 9,
                    three_ds_result: 9,
                    eci: "5".into(),
                    network_risk_score: Some(1_000),
                });
            },
            &[
                ("verification.cvv_result", "30"),
                ("verification.avs_result", "30"),
                ("verification.pin_result", "30"),
                ("verification.three_ds_result", "30"),
                ("verification.network_risk_score", "30"),
                ("verification.eci", "30"),
            ],
        ),
        (
            "device",
            |r| r.device = Some(proto::Device { device_id: "\t".into(), ip_address: "x".repeat(65) }),
            &[("device.device_id", "30"), ("device.ip_address", "30")],
        ),
        (
            "network",
            |r| r.network = Some(proto::Network { stan: "x".repeat(257), ..Default::default() }),
            &[("network.stan", "30")],
        ),
        ("original", |r| r.original_transaction_id = "x".repeat(65), &[("original_transaction_id", "30")]),
        (
            "more than a day ahead",
            |r| r.transaction_time = time(NOW.0 / 1_000 + 86_401, 0),
            &[("transaction_time", "30")],
        ),
        ("negative nanoseconds", |r| r.transaction_time = time(1, -1), &[("transaction_time", "30")]),
        (
            "too many nanoseconds",
            |r| r.transaction_time = time(1, 1_000_000_000),
            &[("transaction_time", "30")],
        ),
        ("before year 1", |r| r.transaction_time = time(i64::MIN, 0), &[("transaction_time", "30")]),
        ("after year 9999", |r| r.transaction_time = time(i64::MAX, 0), &[("transaction_time", "30")]),
    ];
    for (what, change, expected) in rows {
        let mut request = good();
        change(&mut request);
        let found = bad_fields(from_proto::authorise(&request, DOOR).expect_err(what));
        let found: Vec<(&str, &str)> = found.iter().map(|(path, code)| (*path, code.as_str())).collect();
        assert_eq!(found, *expected, "{what}");
    }
}

#[test]
fn what_the_contract_allows_passes() {
    let rows: &[(&str, Change)] = &[
        ("the smallest request", |_| ()),
        ("key of 64 bytes", |r| r.transaction_id = "~".repeat(64)),
        ("by account", |r| (r.card_token, r.account_id) = (String::new(), "a b".into())),
        ("digits that are no card number", |r| r.card_token = "4111111111111112".into()),
        ("nothing to pay", |r| r.amount = money("USD", 0)),
        ("the largest amount", |r| r.amount = money("JPY", AMOUNT_MINOR_MAX)),
        ("verification of nothing", |r| (r.kind, r.amount) = (5, money("KWD", 0))),
        ("balance inquiry without amount and merchant", |r| (r.kind, r.amount, r.merchant) = (6, None, None)),
        ("exactly a day ahead", |r| r.transaction_time = time(NOW.0 / 1_000 + 86_400, 0)),
        ("long ago", |r| r.transaction_time = time(0, 999_999_999)),
        ("the poles", |r| (merchant(r).latitude, merchant(r).longitude) = (Some(-90.0), Some(180.0))),
        ("name of 256 bytes", |r| merchant(r).name = "é".repeat(128)),
    ];
    for (what, change) in rows {
        let mut request = good();
        change(&mut request);
        assert!(from_proto::authorise(&request, DOOR).is_ok(), "{what}");
    }
}

#[test]
fn card_numbers_pass_only_where_they_are_switched_on() {
    let request = proto::AuthoriseRequest { card_token: PAN.to_owned(), ..good() };
    let open = Admission { pans_allowed: true, ..DOOR };
    assert!(from_proto::authorise(&request, open).is_ok());
    assert!(from_proto::authorise(&request, DOOR).is_err());
    let status = proto::SetCardStatusRequest { request_id: "r".into(), card_token: PAN.into(), status: 2 };
    assert_eq!(
        bad_fields(from_proto::set_card_status(&status, DOOR).unwrap_err()),
        [("card_token", "14".to_owned())]
    );
    let account = proto::GetAccountRequest { account_id: PAN.into() };
    assert!(from_proto::get_account(&account, DOOR).is_err());
}

#[test]
fn a_description_never_repeats_the_field() {
    const SECRET: &str = "4111111111111111";
    let request = proto::AuthoriseRequest {
        transaction_id: SECRET.repeat(5),
        account_id: SECRET.into(),
        card_token: SECRET.into(),
        amount: money(SECRET, -4_111_111_111_111_111),
        merchant: Some(proto::Merchant {
            merchant_id: SECRET.repeat(5),
            category_code: SECRET.into(),
            country_code: SECRET.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let found = violations(from_proto::authorise(&request, DOOR).unwrap_err());
    assert!(found.len() >= 8, "{found:?}");
    for violation in found {
        assert!(!violation.description.contains("4111"), "{violation:?}");
    }
}

#[test]
fn an_item_needs_a_request_and_a_bound_above_zero() {
    let bound = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let item = |answer_within| proto::AuthoriseItem { correlation: 7, request: Some(good()), answer_within };
    for (given, expected_ms) in
        [(None, None), (bound(1, 500_000_000), Some(1_500)), (bound(0, 1_000_000), Some(1))]
    {
        let (_, within) = from_proto::authorise_item(&item(given), DOOR).unwrap();
        assert_eq!(within.map(|within| within.as_millis()), expected_ms);
    }
    for given in [bound(0, 0), bound(-1, 0), bound(0, -1), bound(1, -1), bound(1, 1_000_000_000)] {
        let fault = from_proto::authorise_item(&item(given), DOOR).unwrap_err();
        assert_eq!(bad_fields(fault), [("answer_within", "30".to_owned())], "{given:?}");
    }
    let empty = proto::AuthoriseItem { correlation: 7, request: None, answer_within: bound(0, 0) };
    let fault = from_proto::authorise_item(&empty, DOOR).unwrap_err();
    assert_eq!(bad_fields(fault), [("request", "30".to_owned()), ("answer_within", "30".to_owned())]);
}

#[test]
fn maintenance_names_its_own_bad_fields() {
    let limit = proto::SetCreditLimitRequest { credit_limit_minor: -1, ..Default::default() };
    assert_eq!(
        bad_fields(from_proto::set_credit_limit(&limit, DOOR).unwrap_err()),
        [("request_id", "30".into()), ("account_id", "30".into()), ("credit_limit_minor", "13".to_owned())]
    );
    let status = proto::SetAccountStatusRequest { status: 4, ..Default::default() };
    assert_eq!(
        bad_fields(from_proto::set_account_status(&status, DOOR).unwrap_err()),
        [("request_id", "30".into()), ("account_id", "30".into()), ("status", "30".to_owned())]
    );
    let card = proto::SetCardStatusRequest::default();
    assert_eq!(
        bad_fields(from_proto::set_card_status(&card, DOOR).unwrap_err()),
        [("request_id", "30".into()), ("card_token", "14".into()), ("status", "30".to_owned())]
    );
    let reverse = proto::ReverseRequest { replacement_amount: money("?", -1), ..Default::default() };
    assert_eq!(
        bad_fields(from_proto::reverse(&reverse, DOOR).unwrap_err()),
        [
            ("request_id", "30".into()),
            ("original_transaction_id", "30".into()),
            ("replacement_amount.currency_code", "13".into()),
            ("replacement_amount.minor_units", "13".to_owned()),
        ]
    );
    let decision = proto::GetDecisionRequest { by: None };
    assert_eq!(
        bad_fields(from_proto::get_decision(&decision, DOOR).unwrap_err()),
        [("transaction_id", "30".into()), ("position", "30".to_owned())]
    );
}

#[test]
fn an_upsert_names_every_bad_field_of_account_and_cards() {
    let request = proto::UpsertAccountRequest {
        request_id: "r-1".into(),
        account: Some(proto::Account {
            account_id: "a-1".into(),
            currency_code: "EURO".into(),
            credit_limit_minor: Some(-1),
            posted_minor: Some(i64::MIN),
            status: 9,
            product: "é".into(),
            cards: vec![proto::Card { card_token: PAN.into(), status: 9, expires_on: "2027-02-30".into() }],
            home_country: "de".into(),
            home_latitude: Some(91.0),
            home_longitude: Some(0.0),
            opened_on: "20270131".into(),
            ..Default::default()
        }),
    };
    let found = bad_fields(from_proto::upsert(&request, DOOR).unwrap_err());
    let found: Vec<(&str, &str)> = found.iter().map(|(path, code)| (*path, code.as_str())).collect();
    assert_eq!(
        found,
        [
            ("account.currency_code", "13"),
            ("account.credit_limit_minor", "13"),
            ("account.posted_minor", "13"),
            ("account.status", "30"),
            ("account.product", "30"),
            ("account.home_country", "30"),
            ("account.home_latitude", "30"),
            ("account.opened_on", "30"),
            ("account.cards.card_token", "14"),
            ("account.cards.status", "30"),
            ("account.cards.expires_on", "30"),
        ]
    );
    let card = proto::Card { card_token: "c".into(), ..Default::default() };
    let crowded = proto::UpsertAccountRequest {
        request_id: "r-1".into(),
        account: Some(proto::Account {
            account_id: "a-1".into(),
            cards: vec![card; CARDS_PER_ACCOUNT_MAX + 1],
            ..Default::default()
        }),
    };
    assert_eq!(
        bad_fields(from_proto::upsert(&crowded, DOOR).unwrap_err()),
        [("account.cards", "30".to_owned())]
    );
    let empty = proto::UpsertAccountRequest { request_id: "r-1".into(), account: None };
    assert_eq!(bad_fields(from_proto::upsert(&empty, DOOR).unwrap_err()), [("account", "30".to_owned())]);
}

#[test]
fn a_credit_balance_may_be_posted_at_opening() {
    let request = proto::UpsertAccountRequest {
        request_id: "r-1".into(),
        account: Some(proto::Account {
            account_id: "a-1".into(),
            posted_minor: Some(-500),
            cards: vec![proto::Card { card_token: "c".into(), status: 0, expires_on: "2027-01-31".into() }],
            ..Default::default()
        }),
    };
    assert!(from_proto::upsert(&request, DOOR).is_ok());
}

fn id(rng: &mut ChaCha8Rng) -> Id {
    let length = rng.random_range(1..=64);
    let text: String = (0..length).map(|_| char::from(rng.random_range(0x20..=0x7e_u8))).collect();
    Id::new(&text).expect("printable ASCII")
}

fn maybe<T>(rng: &mut ChaCha8Rng, make: impl FnOnce(&mut ChaCha8Rng) -> T) -> Option<T> {
    if rng.random() { Some(make(rng)) } else { None }
}

fn amount(rng: &mut ChaCha8Rng) -> Money {
    let code = ["USD", "JPY", "KWD", "CLF", "EUR"].choose(rng).expect("not empty");
    Money::new(rng.random_range(0..=AMOUNT_MINOR_MAX), Currency::from_alpha(code).expect("ISO 4217"))
}

fn code<T: Copy>(all: &[T]) -> impl FnOnce(&mut ChaCha8Rng) -> T + '_ {
    |rng| *all.choose(rng).expect("not empty")
}

/// A request as the engine may hold it.
fn any_request(rng: &mut ChaCha8Rng) -> AuthRequest {
    let kind = code(Kind::ALL)(rng);
    let zero =
        |money: Money| if kind == Kind::AccountVerification { Money::new(0, money.currency) } else { money };
    let asked_for = zero(amount(rng));
    AuthRequest {
        key: RequestKey(id(rng)),
        kind,
        subject: if rng.random() {
            Subject::Account(AccountId(id(rng)))
        } else {
            Subject::Card(CardToken(id(rng)))
        },
        amount: Some(asked_for),
        billing_amount: maybe(rng, amount).map(zero),
        transaction_time: maybe(rng, |rng| {
            Timestamp(rng.random_range(-62_135_596_800_000..=NOW.0 + 24 * HOUR_MS))
        }),
        merchant: Merchant {
            merchant_id: Some(id(rng)),
            terminal_id: maybe(rng, id),
            acquirer_id: maybe(rng, id),
            mcc: maybe(rng, |rng| rng.random_range(0..=9_999)),
            name: maybe(rng, |rng| "Café ".repeat(rng.random_range(1..=40)).into()),
            country: maybe(rng, |rng| {
                Country::new(["DE", "US", "QZ"].choose(rng).expect("not empty")).expect("two capitals")
            }),
            place: maybe(rng, |rng| Place {
                latitude: rng.random_range(-90.0..=90.0),
                longitude: rng.random_range(-180.0..=180.0),
            }),
        },
        channel: maybe(rng, code(Channel::ALL)),
        entry_mode: maybe(rng, code(EntryMode::ALL)),
        initiation: maybe(rng, code(Initiation::ALL)),
        verification: Verification {
            cvv: maybe(rng, code(CheckResult::ALL)),
            avs: maybe(rng, code(CheckResult::ALL)),
            pin: maybe(rng, code(CheckResult::ALL)),
            three_ds: maybe(rng, code(CheckResult::ALL)),
            eci: maybe(rng, |_| arrayvec::ArrayString::from("05").expect("two bytes")),
            network_risk_score: maybe(rng, |rng| rng.random_range(0..=999)),
        },
        device_id: maybe(rng, id),
        ip_address: maybe(rng, id),
        network: Network {
            scheme: maybe(rng, trace),
            stan: maybe(rng, trace),
            retrieval_reference_number: maybe(rng, trace),
            network_transaction_id: maybe(rng, trace),
            transmission_time: maybe(rng, trace),
        },
        partial_approval_allowed: rng.random(),
        single_message: rng.random(),
        cashback_amount: maybe(rng, |rng| {
            Money::new(rng.random_range(0..=asked_for.minor), asked_for.currency)
        }),
        original: maybe(rng, id).map(RequestKey),
        instalments: rng.random(),
    }
}

#[test]
fn whatever_the_engine_may_hold_survives_the_wire() {
    use prost::Message as _;
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for _ in 0..2_000 {
        let request = any_request(&mut rng);
        let bytes = to_proto::authorise_request(&request).encode_to_vec();
        let decoded = proto::AuthoriseRequest::decode(bytes.as_slice()).expect("what was encoded decodes");
        assert_eq!(from_proto::authorise(&decoded, DOOR), Ok(request));
    }
}

#[test]
fn mangled_bytes_are_refused_or_taken_but_never_panic() {
    use prost::Message as _;
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let (mut decoded, mut taken) = (0, 0);
    for _ in 0..5_000 {
        let mut bytes = to_proto::authorise_request(&any_request(&mut rng)).encode_to_vec();
        for _ in 0..rng.random_range(1..=3) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        if let Ok(request) = proto::AuthoriseRequest::decode(bytes.as_slice()) {
            decoded += 1;
            match from_proto::authorise(&request, DOOR) {
                Ok(_) => taken += 1,
                Err(fault) => assert!(!violations(fault).is_empty(), "a refusal names a field"),
            }
        }
    }
    assert!(decoded > 500 && taken > 50 && taken < decoded, "decoded {decoded}, taken {taken}");
}

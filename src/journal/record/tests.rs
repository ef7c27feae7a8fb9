//! Every record comes back as it was written, the largest fits its frame, and no damaged payload panics.

use super::*;
use crate::{
    limits::{
        AGGREGATES_MAX, ID_BYTES_MAX, LABEL_POLICIES_MAX, LIST_UPDATE_VALUES_MAX, LIST_VALUE_BYTES_MAX,
        REASONS_MAX, RECORD_BYTES_MAX, RULES_MAX, TEXT_BYTES_MAX,
    },
    types::lists::{FraudLabel, ListEntry},
};

struct Named;

impl VersionNames for Named {
    fn name(&self, what: Versioned, number: u32) -> Label {
        Label::Shared(format!("{what:?} {number}").into())
    }
}

fn id() -> Id {
    Id::new(&"~".repeat(ID_BYTES_MAX)).unwrap()
}

fn text() -> Option<Box<str>> {
    Some("é".repeat(TEXT_BYTES_MAX / 2).into())
}

fn money() -> Money {
    Money::new(i64::MIN, Currency::from_alpha("KWD").unwrap())
}

fn largest_request() -> AuthRequest {
    AuthRequest {
        key: RequestKey(id()),
        kind: Kind::Incremental,
        subject: Subject::Card(CardToken(id())),
        amount: Some(money()),
        billing_amount: Some(money()),
        transaction_time: Some(Timestamp(i64::MIN)),
        merchant: Merchant {
            merchant_id: Some(id()),
            terminal_id: Some(id()),
            acquirer_id: Some(id()),
            mcc: Some(9_999),
            name: text(),
            country: Country::new("ZZ"),
            place: Place::new(-90.0, 180.0),
        },
        channel: Some(Channel::CardPresent),
        entry_mode: Some(EntryMode::Ecommerce),
        initiation: Some(Initiation::Recurring),
        verification: Verification {
            cvv: Some(CheckResult::Match),
            avs: Some(CheckResult::NoMatch),
            pin: Some(CheckResult::TriesExceeded),
            three_ds: Some(CheckResult::NotChecked),
            eci: Some(ArrayString::from("05").unwrap()),
            network_risk_score: Some(u32::MAX),
        },
        device_id: Some(id()),
        ip_address: Some(id()),
        network: Network {
            scheme: text(),
            stan: text(),
            retrieval_reference_number: text(),
            network_transaction_id: text(),
            transmission_time: text(),
        },
        partial_approval_allowed: true,
        single_message: true,
        cashback_amount: Some(money()),
        original: Some(RequestKey(id())),
        instalments: u32::MAX,
    }
}

fn smallest_request() -> AuthRequest {
    AuthRequest::new(
        RequestKey::new("k").unwrap(),
        Kind::BalanceInquiry,
        Subject::Account(AccountId::new("a").unwrap()),
    )
}

fn reasons(count: usize) -> Reasons {
    let reason = Reason {
        code: Label::Shared("C".repeat(ID_BYTES_MAX).into()),
        source: ReasonSource::Rule,
        text: Label::Shared("t".repeat(TEXT_BYTES_MAX).into()),
        contribution: -1.5,
    };
    std::iter::repeat_n(reason, count).collect()
}

const POSITION: u64 = 77;

fn decided(request: AuthRequest, largest: bool) -> Record {
    let versions = VersionNumbers { rules: 3, model: 0, config: u32::MAX };
    let time = Timestamp(1_700_000_000_000);
    let answer = AuthAnswer {
        decision: Decision::PartiallyApproved,
        response_code: ResponseCode::PARTIAL,
        advice_code: largest.then(|| ArrayString::from("03").unwrap()),
        approved: largest.then(money),
        available: largest.then(money),
        reasons: reasons(if largest { REASONS_MAX } else { 0 }),
        score: if largest { 999 } else { 0 },
        margin: largest.then_some(f64::MIN_POSITIVE),
        rules_version: Named.name(Versioned::Rules, 3),
        model_version: Named.name(Versioned::Model, 0),
        degraded: Degraded::MODEL,
        decided_at: time,
        hold_expires_at: largest.then_some(time),
        position: POSITION,
    };
    let considered = match largest {
        false => Considered::default(),
        true => Considered {
            vector: [f32::MIN; MODEL_FEATURES],
            features: MODEL_FEATURES,
            aggregates: vec![Some(i64::MAX); AGGREGATES_MAX],
            shared_to: 1,
            fired: (0..RULES_MAX as u16).collect(),
            shadow_fired: Vec::new(),
        },
    };
    Record::Decided(Box::new(Decided {
        client: u32::MAX,
        time,
        request,
        account: largest.then(|| AccountId(id())),
        card: NO_CARD,
        versions,
        lists: if largest { u64::MAX } else { 0 },
        answer,
        original: largest.then_some(u64::MAX),
        first: largest.then_some(u64::MAX),
        considered,
        challenged: largest.then_some(Challenged {
            number: u32::MAX,
            margin: f64::MAX,
            score: u16::MAX,
            declining: Declining::Both,
        }),
    }))
}

/// The same as a program wrote it that knew the first features alone.
fn by_earlier_program(mut record: Record) -> Record {
    let Record::Decided(decided) = &mut record else { return record };
    decided.considered.features = MODEL_FEATURES_FIRST;
    decided.considered.vector[MODEL_FEATURES_FIRST..].fill(f32::NAN);
    record
}

fn outcome(upserted: Option<Upserted>) -> Outcome {
    Outcome {
        response_code: ResponseCode::APPROVED,
        moved: Some(money()),
        available: None,
        reasons: reasons(1),
        position: POSITION,
        upserted,
    }
}

fn labelled(largest: bool) -> Record {
    let some = |text: &str| if largest { id() } else { Id::new(text).unwrap() };
    let source: Box<str> = if largest { text().unwrap() } else { "".into() };
    let listing = || Listing {
        list: some("l").as_str().into(),
        entry: ListEntry {
            value: some("v").as_str().into(),
            expires_at: largest.then_some(Timestamp(i64::MAX)),
            source: source.clone(),
        },
    };
    let of_transaction = largest.then(id);
    Record::Labelled(Box::new(Labelled {
        client: 1,
        time: Timestamp(5),
        labelling: Labelling {
            key: RequestKey(some("k")),
            transaction: RequestKey(some("t")),
            label: if largest { FraudLabel::Fraud } else { FraudLabel::Genuine },
            kind: source.clone(),
            source: source.clone(),
            occurred_at: largest.then_some(Timestamp(i64::MIN)),
        },
        of: u64::MAX,
        account: largest.then(|| AccountId(id())),
        before: 3,
        ids: TransactionIds {
            card: of_transaction,
            merchant: of_transaction,
            terminal: of_transaction,
            device: of_transaction,
            ip: of_transaction,
        },
        versions: VersionNumbers { rules: u32::MAX, model: u32::MAX, config: u32::MAX },
        listed: (0..if largest { LABEL_POLICIES_MAX } else { 1 }).map(|_| listing()).collect(),
        outcome: Outcome { reasons: reasons(if largest { REASONS_MAX } else { 0 }), ..outcome(None) },
        counted: largest.then(|| Counted {
            time: Timestamp(i64::MIN),
            kind: Kind::Purchase,
            decision: Decision::Declined,
            declined_for_credit: true,
            card: u8::MAX,
            billed: Some(Money::new(i64::MIN, money().currency)),
            channel: Some(Channel::Ecommerce),
            mcc: Some(9_999),
            country: Country::new("DE"),
            said: 3,
        }),
    }))
}

fn every_kind() -> Vec<Record> {
    let (key, account, time) = (RequestKey(id()), AccountId(id()), Timestamp(5));
    let reversal = Reversal { key, original: key, replacement: Some(money()) };
    let reversed = |original, account| {
        Record::Reversed(Box::new(Reversed {
            client: 0,
            time,
            reversal: reversal.clone(),
            original,
            account,
            outcome: outcome(None),
        }))
    };
    let maintained = |change, upserted| {
        let outcome = outcome(upserted);
        Record::Maintained(Box::new(Maintained { client: 0, time, change, account, outcome }))
    };
    let change = AccountChange {
        account,
        currency: Currency::from_alpha("JPY"),
        credit_limit_minor: Some(1),
        posted_minor: Some(-1),
        status: Some(AccountStatus::Closed),
        product: Some(id()),
        home_country: Country::new("JP"),
        home: Place::new(1.0, 2.0),
        opened_on: Some(Day(-9)),
        cards: vec![
            CardChange { token: CardToken(id()), status: Some(CardStatus::Lost), expires_on: Some(Day(9)) },
            CardChange { token: CardToken(id()), status: None, expires_on: None },
        ],
    };
    vec![
        Record::Introduced(Introduced { time, what: Versioned::Model, number: 4, version: "ab".into() }),
        decided(smallest_request(), false),
        decided(largest_request(), true),
        by_earlier_program(decided(smallest_request(), false)),
        by_earlier_program(decided(largest_request(), true)),
        Record::Duplicated(Box::new(Duplicated {
            client: 1,
            time,
            request: largest_request(),
            versions: VersionNumbers { rules: 1, model: 2, config: 3 },
            of: 3,
        })),
        Record::Voided(Voided { client: 1, time, key, of: 9, account: Some(account), freed_minor: 7 }),
        reversed(Original::NotArrived, None),
        reversed(Original::ReversedBefore(3), None),
        reversed(Original::At(u64::MAX), Some(account)),
        maintained(Maintenance::SetAccountStatus { key, account, status: AccountStatus::Blocked }, None),
        maintained(
            Maintenance::SetCardStatus { key, card: CardToken(id()), status: CardStatus::Stolen },
            None,
        ),
        maintained(Maintenance::SetCreditLimit { key, account, limit_minor: i64::MAX }, None),
        maintained(Maintenance::Upsert { key, change }, Some(Upserted::Unchanged)),
        Record::Expiry(Expiry { time, account, holds: 3, amount_minor: 9 }),
        Record::Listed(Box::new(Listed {
            client: 1,
            time,
            update: ListUpdate {
                key,
                list: id().as_str().into(),
                add: vec![
                    ListEntry {
                        value: "v".repeat(LIST_VALUE_BYTES_MAX).into(),
                        expires_at: Some(Timestamp(i64::MIN)),
                        source: text().unwrap(),
                    };
                    LIST_UPDATE_VALUES_MAX
                ],
                remove: Vec::new(),
            },
            kind: ListKind::Texts,
            versions: VersionNumbers { rules: 1, model: 2, config: 3 },
            kept_out: Vec::new(),
            values: u64::MAX,
        })),
        Record::Listed(Box::new(Listed {
            client: 0,
            time,
            update: ListUpdate {
                key,
                list: "l".into(),
                add: vec![ListEntry { value: "1".into(), expires_at: None, source: "".into() }],
                remove: vec!["2".into(), "3".into()],
            },
            kind: ListKind::Ints,
            versions: VersionNumbers::default(),
            kept_out: vec![true, false],
            values: 7,
        })),
        labelled(true),
        labelled(false),
    ]
}

#[test]
fn every_record_comes_back_as_it_was_written_and_fits_its_frame() {
    for record in every_kind() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert!(bytes.len() <= RECORD_BYTES_MAX, "{} bytes", bytes.len());
        assert_eq!(Record::decode(&bytes, POSITION, &Named), Ok(record));
    }
}

#[test]
fn a_decision_of_an_earlier_program_is_written_as_that_program_did() {
    let record = by_earlier_program(decided(smallest_request(), false));
    let Record::Decided(mut decided) = record else { unreachable!() };
    let (mut before, mut now) = (Vec::new(), Vec::new());
    Record::Decided(decided.clone()).encode(&mut before);
    assert_eq!(before[..2], [2, 3]);
    let (number, margin, score) = (300, -1.5, 900);
    decided.challenged = Some(Challenged { number, margin, score, declining: Declining::Challenger });
    Record::Decided(decided).encode(&mut now);
    let added = [&[0xac, 0x02][..], &margin.to_le_bytes(), &[0x84, 0x07], &[2]].concat();
    assert_eq!(now, [&[2, 4], &before[2..], &added].concat());
}

#[test]
fn a_payload_that_ends_early_or_late_is_refused_with_its_place() {
    for record in every_kind() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        for length in 0..bytes.len() {
            let error = Record::decode(&bytes[..length], POSITION, &Named).unwrap_err();
            assert!(error.byte <= length, "{error}");
        }
        bytes.push(0);
        assert_eq!(Record::decode(&bytes, POSITION, &Named).unwrap_err().what, "bytes left over");
    }
}

#[test]
fn no_flipped_byte_of_a_payload_panics() {
    for record in every_kind() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        for at in 0..bytes.len() {
            for bit in [0x01, 0x80, 0xff] {
                bytes[at] ^= bit;
                let _ = Record::decode(&bytes, POSITION, &Named);
                bytes[at] ^= bit;
            }
        }
    }
}

/// What [`Record::decode_brief`] leaves of a record.
fn brief(mut record: Record) -> Record {
    let shorten = |reasons: &mut Reasons| {
        reasons.truncate(1);
        reasons.iter_mut().for_each(|first| *first = Reason::engine("", first.source, ""));
    };
    match &mut record {
        Record::Decided(decided) => {
            shorten(&mut decided.answer.reasons);
            decided.answer.rules_version = Label::Static("");
            decided.answer.model_version = Label::Static("");
            let Considered { shared_to, features, .. } = decided.considered;
            decided.considered = Considered { shared_to, features, ..Considered::default() };
        }
        Record::Reversed(reversed) => shorten(&mut reversed.outcome.reasons),
        Record::Maintained(maintained) => shorten(&mut maintained.outcome.reasons),
        Record::Labelled(labelled) => shorten(&mut labelled.outcome.reasons),
        _ => {}
    }
    record
}

#[test]
fn what_is_read_in_brief_is_the_same_record_and_refused_where_the_whole_one_is() {
    for record in every_kind() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let same = |bytes: &[u8]| {
            let whole = Record::decode(bytes, POSITION, &Named).map(brief);
            let read = Record::decode_brief(bytes, POSITION);
            // As text, because what is flipped may become a number that equals nothing.
            assert_eq!(format!("{read:?}"), format!("{whole:?}"));
        };
        for length in 0..=bytes.len() {
            same(&bytes[..length]);
        }
        for at in 0..bytes.len() {
            for bit in [0x01, 0x80, 0xff] {
                bytes[at] ^= bit;
                same(&bytes);
                bytes[at] ^= bit;
            }
        }
    }
}

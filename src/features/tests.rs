//! The whole face: aggregates and built-in features, read through [`History`], against lists scanned from end to
//! end and against days worked out by hand.

use std::{collections::HashSet, sync::Arc};

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    aggregate::{Attribute, Keys, Measure},
    catalog::{Type, slot},
    *,
};
use crate::types::{
    auth::{Merchant, Subject, Verification},
    codes::{Channel, CheckResult, EntryMode, Initiation, Kind},
    ids::{CardToken, Id, RequestKey},
    money::Money,
    time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS},
};

fn usd() -> Currency {
    Currency::from_alpha("USD").unwrap()
}

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn request(amount_minor: i64) -> AuthRequest {
    AuthRequest {
        amount: Some(Money::new(amount_minor, usd())),
        merchant: Merchant { merchant_id: Some(id("M-1")), mcc: Some(5411), ..Merchant::default() },
        channel: Some(Channel::CardPresent),
        ..AuthRequest::new(
            RequestKey::new("t").unwrap(),
            Kind::Purchase,
            Subject::Card(CardToken::new("c").unwrap()),
        )
    }
}

fn account() -> AccountFacts<'static> {
    AccountFacts {
        account_id: "A-1",
        product: None,
        home_country: None,
        home: None,
        opened_on: None,
        currency: usd(),
        credit_limit_minor: 500_000,
        limit_is_assumed: false,
        available_minor: 400_000,
    }
}

fn at(time: &str) -> Timestamp {
    Timestamp::parse(time).unwrap()
}

fn aggregate(by: Keys, window_ms: i64, measure: Measure, filter: Option<Filter>) -> Aggregate {
    Aggregate { name: Arc::from("test"), by, window_ms, measure, filter }
}

/// A history with its plan that takes requests one after the other, all approved.
struct Past {
    plan: Plan,
    history: History,
    sequence: u64,
}

impl Past {
    fn new() -> Past {
        Past { plan: Plan::new(&[]), history: History::new(), sequence: 0 }
    }

    fn add(
        &mut self,
        request: &AuthRequest,
        card: u8,
        time: Timestamp,
        decision: Decision,
        for_credit: bool,
    ) {
        let account = account();
        let moment = Moment { request, account: &account, card, card_token: None, time };
        self.sequence += 1;
        self.history.record(&self.plan, event_of(&moment, self.sequence, decision, for_credit));
    }

    fn approve(&mut self, request: &AuthRequest, time: Timestamp) {
        self.add(request, 0, time, Decision::Approved, false);
    }

    fn read<'a>(
        &mut self,
        request: &'a AuthRequest,
        account: &'a AccountFacts<'a>,
        time: Timestamp,
    ) -> Values<'a> {
        let mut values = Values::new();
        let moment = Moment { request, account, card: 0, card_token: Some("c"), time };
        self.history.read(&self.plan, &moment, &mut values);
        values
    }
}

/// Whether an event has the same as a request in every part but card and account.
fn shares(keys: Keys, event: &Event, request: &AuthRequest) -> bool {
    let hash = |id: &Option<Id>| id.as_ref().map(|id| id_hash(id.as_str()));
    (!keys.has(Keys::MERCHANT) || event.merchant == hash(&request.merchant.merchant_id))
        && (!keys.has(Keys::DEVICE) || event.device == hash(&request.device_id))
        && (!keys.has(Keys::MCC) || event.mcc == request.merchant.mcc)
        && (!keys.has(Keys::COUNTRY) || event.country == request.merchant.country)
}

fn lacks(keys: Keys, request: &AuthRequest) -> bool {
    keys.has(Keys::MERCHANT) && request.merchant.merchant_id.is_none()
        || keys.has(Keys::DEVICE) && request.device_id.is_none()
        || keys.has(Keys::MCC) && request.merchant.mcc.is_none()
        || keys.has(Keys::COUNTRY) && request.merchant.country.is_none()
}

/// From 200.00 to 600.00 dollars, and of no other currency anything.
fn of_some_size() -> AmountRange {
    AmountRange::new(std::array::from_fn(|decimals| if decimals == 2 { (20_000, 60_000) } else { (1, 0) }))
}

/// Whether an event passes a filter, told from its name.
fn is_counted(filter: Option<&Filter>, event: &Event) -> bool {
    let is_declined = event.decision == Decision::Declined;
    let has_size = (20_000..=60_000).contains(&event.amount_minor);
    match filter.map(Filter::condition) {
        None => true,
        Some("declined") => is_declined,
        Some("some size") => has_size,
        Some("declined, some size") => is_declined && has_size,
        Some(unknown) => unreachable!("{unknown}"),
    }
}

#[test]
fn every_aggregate_agrees_with_a_naive_scan() {
    let attributes = [
        Attribute::Country,
        Attribute::Mcc,
        Attribute::Merchant,
        Attribute::Device,
        Attribute::Channel,
        Attribute::Card,
    ];
    let amounts = [Measure::Sum, Measure::Mean, Measure::Min, Measure::Max, Measure::StdDev];
    let measures = [Measure::Count].into_iter().chain(amounts).chain(attributes.map(Measure::Distinct));
    let several = [Keys::MERCHANT, Keys::DEVICE, Keys::MCC, Keys::COUNTRY.and(Keys::MERCHANT)];
    let is_declined = Filter::new("declined", |event: &Event| event.decision == Decision::Declined);
    let all = Filter::new("some size", |_: &Event| true).within(of_some_size());
    let declined = Filter::new("declined, some size", |event: &Event| event.decision == Decision::Declined);
    let filters = [is_declined, all, declined.within(of_some_size())];
    let mut aggregates = Vec::new();
    for (place, measure) in measures.enumerate() {
        for by in [Keys::CARD, Keys::ACCOUNT] {
            for window_ms in [HOUR_MS, WINDOW_MAX_MS - place as i64] {
                let filter = filters.get(aggregates.len() % 5).cloned();
                aggregates.push(aggregate(by, window_ms, measure, filter));
            }
            if place % 4 == aggregates.len() % 4 {
                aggregates.push(aggregate(by.and(several[place % 4]), 9 * DAY_MS, measure, None));
            }
        }
    }
    let plan = Plan::new(&aggregates);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let facts = account();
    let (mut history, mut list, mut now_ms) = (History::new(), Vec::<Event>::new(), 1_700_000_000_000);
    for sequence in 1..=4_000 {
        if sequence % 200 == 0 {
            (history, list) = (History::new(), Vec::new());
        }
        now_ms += rng.random_range(0..=1) * rng.random_range(0..12 * HOUR_MS);
        let country = |rng: &mut ChaCha8Rng| Country::new(["US", "MX", "ZZ"].choose(rng).unwrap());
        let mut recorded = request(rng.random_range(0..90_000));
        recorded.channel =
            [None, Some(Channel::Ecommerce), Some(Channel::CardPresent)].choose(&mut rng).copied().unwrap();
        recorded.device_id = rng.random_bool(0.5).then(|| id(&format!("D-{}", rng.random_range(0..9))));
        recorded.merchant.merchant_id = Some(id(&format!("M-{}", rng.random_range(0..40))));
        recorded.merchant.mcc = rng.random_bool(0.8).then(|| rng.random_range(0..30));
        recorded.merchant.country = rng.random_bool(0.8).then(|| country(&mut rng)).flatten();
        let card = rng.random_range(0..3);
        let time = Timestamp(now_ms);
        let moment = Moment { request: &recorded, account: &facts, card, card_token: None, time };

        let mut values = Values::new();
        history.read(&plan, &moment, &mut values);
        for (index, aggregate) in aggregates.iter().enumerate() {
            let inside: Vec<&Event> = list
                .iter()
                .filter(|event| now_ms - aggregate.window_ms <= event.time.0 && event.time.0 <= now_ms)
                .filter(|event| !aggregate.by.has(Keys::CARD) || event.card == card)
                .filter(|event| shares(aggregate.by, event, &recorded))
                .filter(|event| is_counted(aggregate.filter.as_ref(), event))
                .collect();
            let amounts = || inside.iter().map(|event| event.amount_minor);
            let sum: i64 = amounts().sum();
            let expected = match aggregate.measure {
                _ if lacks(aggregate.by, &recorded) => None,
                Measure::Count => Some(inside.len() as i64),
                Measure::Sum => Some(sum),
                Measure::Mean => (!inside.is_empty()).then(|| sum / inside.len() as i64),
                Measure::Min => amounts().min(),
                Measure::Max => amounts().max(),
                Measure::StdDev => (inside.len() > 1).then(|| {
                    let n = inside.len() as i128;
                    let deviations: i128 =
                        amounts().map(|amount| (n * i128::from(amount) - i128::from(sum)).pow(2)).sum();
                    (deviations / (n * n * (n - 1))).isqrt() as i64
                }),
                Measure::Distinct(attribute) => Some(match attribute {
                    Attribute::Country => distinct(&inside, |event| event.country),
                    Attribute::Mcc => distinct(&inside, |event| event.mcc),
                    Attribute::Merchant => distinct(&inside, |event| event.merchant),
                    Attribute::Device => distinct(&inside, |event| event.device),
                    Attribute::Channel => distinct(&inside, |event| event.channel),
                    Attribute::Card => distinct(&inside, |event| Some(event.card).filter(|card| *card != 0)),
                    _ => unreachable!(),
                }),
            };
            let slot = Plan::aggregate_slot(index);
            assert_eq!(values.int(slot), expected, "{sequence}: {:?} {:?}", aggregate.measure, aggregate.by);
            assert!(!values.is_saturated(slot));
        }
        let decision = if rng.random_bool(0.4) { Decision::Declined } else { Decision::Approved };
        let event = event_of(&moment, sequence, decision, false);
        history.record(&plan, event.clone());
        list.push(event);
    }
}

fn distinct<T: Eq + std::hash::Hash>(events: &[&Event], of: impl Fn(&Event) -> Option<T>) -> i64 {
    events.iter().filter_map(|event| of(event)).collect::<HashSet<T>>().len() as i64
}

#[test]
fn a_first_transaction_has_no_history_rather_than_a_clean_one() {
    let mut request = request(12_34);
    request.device_id = Some(id("D-1"));
    request.merchant.country = Country::new("US");
    request.merchant.place = Place::new(40.0, -74.0);
    let account = account();
    let values = Past::new().read(&request, &account, at("2023-06-07T12:00:00Z"));
    for missing in [
        slot::DISTANCE_FROM_HOME_KM,
        slot::DISTANCE_FROM_LAST_KM,
        slot::SPEED_KMH,
        slot::COUNTRY_CHANGED,
        slot::SECONDS_SINCE_LAST,
        slot::LAST_AMOUNT_MAJOR,
        slot::AMOUNT_OVER_MEAN_30D,
        slot::AMOUNT_OVER_MEAN_MCC_30D,
        slot::MEAN_7D_OVER_30D,
        slot::COUNT_24H_OVER_DAILY_MEAN,
        slot::FIRST_USE_OF_COUNTRY_30D,
        slot::MERCHANT_SEEN_30D,
        slot::MCC_SEEN_30D,
        slot::DEVICE_SEEN_30D,
        slot::IS_FOREIGN,
        slot::AGE_DAYS,
        slot::HOME_COUNTRY,
    ] {
        assert!(!values.has(missing), "{}", CATALOG[usize::from(missing)].name);
    }
    for zero in
        [slot::COUNT_1H, slot::COUNT_30D, slot::DECLINES_1H, slot::SMALL_COUNT_1H, slot::MERCHANTS_24H]
    {
        assert_eq!(values.int(zero), Some(0), "{}", CATALOG[usize::from(zero)].name);
    }
    assert_eq!(values.float(slot::SUM_30D_MAJOR), Some(0.0));
    assert_eq!(values.float(slot::AMOUNT_MAJOR), Some(12.34));
}

#[test]
fn every_field_of_the_request_reaches_its_slot() {
    let mut request = request(10_00);
    request.billing_amount = Some(Money::new(5_000, Currency::from_alpha("KWD").unwrap()));
    request.entry_mode = Some(EntryMode::MagneticStripe);
    request.initiation = Some(Initiation::Recurring);
    request.device_id = Some(id("D-1"));
    request.ip_address = Some(id("192.0.2.1"));
    request.instalments = 12;
    request.partial_approval_allowed = true;
    request.verification = Verification {
        cvv: Some(CheckResult::Match),
        avs: Some(CheckResult::NoMatch),
        pin: Some(CheckResult::TriesExceeded),
        three_ds: Some(CheckResult::NotChecked),
        eci: Some("05".try_into().unwrap()),
        network_risk_score: Some(87),
    };
    request.merchant = Merchant {
        merchant_id: Some(id("M-1009")),
        terminal_id: Some(id("T-1")),
        acquirer_id: Some(id("Q-1")),
        mcc: Some(742),
        name: Some("A vet".into()),
        country: Country::new("KW"),
        place: Place::new(29.5, 48.25),
    };
    let account = AccountFacts {
        product: Some("gold"),
        home_country: Country::new("FR"),
        opened_on: Day::parse("2023-06-01"),
        available_minor: -5,
        ..account()
    };
    let values = Past::new().read(&request, &account, at("2023-06-07T23:30:00Z"));
    for (name, text) in [
        ("currency", "KWD"),
        ("kind", "purchase"),
        ("channel", "card_present"),
        ("entry_mode", "magnetic_stripe"),
        ("initiation", "recurring"),
        ("merchant.merchant_id", "M-1009"),
        ("merchant.terminal_id", "T-1"),
        ("merchant.acquirer_id", "Q-1"),
        ("merchant.category_code", "0742"),
        ("merchant.name", "A vet"),
        ("merchant.country_code", "KW"),
        ("device.device_id", "D-1"),
        ("device.ip_address", "192.0.2.1"),
        ("card.token", "c"),
        ("account.id", "A-1"),
        ("account.product", "gold"),
        ("account.home_country", "FR"),
        ("verification.cvv", "match"),
        ("verification.avs", "no_match"),
        ("verification.pin", "tries_exceeded"),
        ("verification.three_ds", "not_checked"),
        ("verification.eci", "05"),
    ] {
        let (slot, entry) = catalog::lookup(name).unwrap();
        assert_eq!((entry.ty, values.text(slot)), (Type::Text, Some(text)), "{name}");
        assert!(entry.words.is_empty() || entry.words.contains(&text), "{name}");
    }
    for (name, number) in [
        ("amount", 5_000),
        ("verification.network_risk_score", 87),
        ("instalments", 12),
        ("partial_approval_allowed", 1),
        ("single_message", 0),
        ("account.credit_limit", 500_000),
        ("account.available", -5),
        ("account.age_days", 6),
        ("merchant.mcc_number", 742),
        ("hour_utc", 23),
        ("weekday_utc", 3),
        ("is_night", 1),
        ("is_foreign", 1),
        ("is_ecommerce", 0),
        ("is_magnetic_stripe", 1),
        ("is_keyed", 0),
    ] {
        assert_eq!(values.int(catalog::lookup(name).unwrap().0), Some(number), "{name}");
    }
    assert_eq!(values.float(slot::AMOUNT_MAJOR), Some(5.0), "KWD has three decimals");
    assert_eq!(values.float(slot::MERCHANT_LATITUDE), Some(29.5));
    assert_eq!(values.float(slot::MERCHANT_LONGITUDE), Some(48.25));
    assert!(
        !values.has(slot::AMOUNT_OVER_MEAN_30D),
        "another currency than the account's compares with nothing"
    );
}

#[test]
fn nothing_of_the_decision_before_is_left_in_the_values() {
    let mut past = Past::new();
    let (bare, account) = (request(1), account());
    let mut full = request(1);
    full.device_id = Some(id("D-1"));
    let mut values = Values::new();
    for (request, expected) in [(&full, Some("D-1")), (&bare, None)] {
        let moment = Moment { request, account: &account, card: 0, card_token: None, time: Timestamp(0) };
        past.history.read(&past.plan, &moment, &mut values);
        assert_eq!(values.text(slot::DEVICE_ID), expected);
    }
}

#[test]
fn an_impossible_journey_shows_and_a_web_shop_abroad_does_not() {
    let mut past = Past::new();
    let travel = |country: &str, latitude: f64, longitude: f64, channel: Channel| {
        let mut request = request(50_00);
        request.merchant.country = Country::new(country);
        request.merchant.place = Place::new(latitude, longitude);
        request.channel = Some(channel);
        request
    };
    let paris = travel("FR", 48.853, 2.349, Channel::CardPresent);
    let account = AccountFacts { home: paris.merchant.place, home_country: Country::new("FR"), ..account() };
    past.approve(&paris, at("2023-06-07T10:00:00Z"));
    // Neither moves the card, whatever country they are in.
    past.approve(&travel("AU", -33.9, 151.2, Channel::Ecommerce), at("2023-06-07T10:30:00Z"));
    past.add(
        &travel("BR", -23.5, -46.6, Channel::CardPresent),
        1,
        at("2023-06-07T10:40:00Z"),
        Decision::Approved,
        false,
    );

    let new_york = travel("US", 40.713, -74.006, Channel::CardPresent);
    let values = past.read(&new_york, &account, at("2023-06-07T11:00:00Z"));
    let distance_km = values.float(slot::DISTANCE_FROM_LAST_KM).unwrap();
    assert!((distance_km - 5_837.0).abs() < 5.0, "{distance_km}");
    assert_eq!(values.float(slot::SPEED_KMH), Some(distance_km), "it had one hour");
    assert_eq!(values.bool(slot::COUNTRY_CHANGED), Some(true));
    assert_eq!(values.bool(slot::IS_FOREIGN), Some(true));
    assert_eq!(values.bool(slot::FIRST_USE_OF_COUNTRY_30D), Some(true));
    assert_eq!(values.float(slot::SECONDS_SINCE_LAST), Some(1_800.0));
    assert!((values.float(slot::DISTANCE_FROM_HOME_KM).unwrap() - distance_km).abs() < 0.1);

    let shop = travel("US", 40.713, -74.006, Channel::Ecommerce);
    let values = past.read(&shop, &account, at("2023-06-07T11:00:00Z"));
    for slot in
        [slot::DISTANCE_FROM_LAST_KM, slot::SPEED_KMH, slot::COUNTRY_CHANGED, slot::DISTANCE_FROM_HOME_KM]
    {
        assert!(!values.has(slot), "{}", CATALOG[usize::from(slot)].name);
    }
    let values = past.read(&paris, &account, at("2023-06-07T11:00:00Z"));
    assert_eq!((values.float(slot::SPEED_KMH), values.bool(slot::COUNTRY_CHANGED)), (Some(0.0), Some(false)));
    assert_eq!(values.bool(slot::FIRST_USE_OF_COUNTRY_30D), Some(false));
}

#[test]
fn a_month_worked_out_by_hand() {
    let mut past = Past::new();
    let now = at("2023-06-30T12:00:00Z");
    let ago = |ms: i64| Timestamp(now.0 - ms);
    let shop = |merchant: &str, mcc: u16, amount_minor: i64| {
        let mut request = request(amount_minor);
        request.merchant.merchant_id = Some(id(merchant));
        request.merchant.mcc = Some(mcc);
        request
    };
    past.approve(&shop("M-OLD", 7995, 99_900), ago(31 * DAY_MS));
    past.approve(&shop("M-1", 5411, 10_00), ago(20 * DAY_MS));
    past.approve(&shop("M-2", 5812, 30_00), ago(5 * DAY_MS));
    past.approve(&shop("M-3", 5411, 20_00), ago(10 * HOUR_MS));
    past.add(&shop("M-4", 5999, 1_00), 0, ago(50 * MINUTE_MS), Decision::Declined, false);
    past.add(&shop("M-4", 5999, 4_99), 0, ago(40 * MINUTE_MS), Decision::Declined, true);
    past.add(&shop("M-4", 5999, 5_00), 0, ago(HOUR_MS + 1), Decision::Declined, false);
    past.add(&shop("M-9", 4111, 77_00), 1, ago(SECOND_MS), Decision::Declined, false);

    let (present, account) = (shop("M-1", 5411, 60_00), account());
    let values = past.read(&present, &account, now);
    let cents = [10_00, 30_00, 20_00, 1_00, 4_99, 5_00];
    let mean_30d = cents.iter().sum::<i64>() as f64 / 6.0;
    for (slot, expected) in [
        (slot::COUNT_1H, 2),
        (slot::COUNT_6H, 3),
        (slot::COUNT_24H, 4),
        (slot::COUNT_7D, 5),
        (slot::COUNT_30D, 6),
        (slot::DECLINES_1H, 1),
        (slot::DECLINES_24H, 2),
        (slot::SMALL_COUNT_1H, 2),
        (slot::NIGHT_COUNT_24H, 1),
        (slot::MERCHANTS_24H, 2),
        (slot::COUNTRIES_24H, 0),
        (slot::MERCHANT_SEEN_30D, 1),
        (slot::MCC_SEEN_30D, 1),
    ] {
        assert_eq!(values.int(slot), Some(expected), "{}", CATALOG[usize::from(slot)].name);
    }
    for (slot, expected) in [
        (slot::SUM_1H_MAJOR, 5.99),
        (slot::SUM_6H_MAJOR, 10.99),
        (slot::SUM_24H_MAJOR, 30.99),
        (slot::SUM_7D_MAJOR, 60.99),
        (slot::SUM_30D_MAJOR, 70.99),
        (slot::LAST_AMOUNT_MAJOR, 4.99),
        (slot::SECONDS_SINCE_LAST, 2_400.0),
        (slot::AMOUNT_OVER_MEAN_30D, 6_000.0 / mean_30d),
        (slot::AMOUNT_OVER_MEAN_MCC_30D, 4.0),
        (slot::MEAN_7D_OVER_30D, (6_099.0 / 5.0) / mean_30d),
        (slot::COUNT_24H_OVER_DAILY_MEAN, 4.0 / (6.0 / 20.0)),
    ] {
        let value = values.float(slot).unwrap();
        assert!((value - expected).abs() < 1e-9, "{}: {value}", CATALOG[usize::from(slot)].name);
    }
    let elsewhere = shop("M-OLD", 7995, 60_00);
    let values = past.read(&elsewhere, &account, now);
    assert_eq!(values.bool(slot::MERCHANT_SEEN_30D), Some(false), "31 days ago is forgotten");
    assert_eq!(values.bool(slot::MCC_SEEN_30D), Some(false));
}

#[test]
fn what_has_left_a_full_ring_marks_every_value_it_would_have_been_in() {
    let mut past = Past::new();
    let (attempt, account) = (request(10_00), account());
    let now = at("2023-06-30T12:00:00Z");
    let events = 5_000;
    for index in 0..events {
        past.approve(&attempt, Timestamp(now.0 - (events - index) * MINUTE_MS));
    }
    let values = past.read(&attempt, &account, now);
    for slot in [slot::COUNT_7D, slot::COUNT_30D, slot::MCC_SEEN_30D, slot::AMOUNT_OVER_MEAN_30D] {
        assert!(values.is_saturated(slot), "{}", CATALOG[usize::from(slot)].name);
    }
    assert_eq!(values.int(slot::COUNT_7D), Some(events), "the window holds every step whole");
    assert!(!values.is_saturated(slot::COUNT_24H));
    assert_eq!(values.int(slot::COUNT_24H), Some(1_440));
}

#[test]
fn an_account_with_sixty_events_stays_small() {
    let mut past = Past::new();
    let attempt = request(10_00);
    for index in 0..60 {
        past.approve(&attempt, Timestamp(index * 12 * HOUR_MS));
    }
    let bytes = size_of::<History>() + past.history.heap_bytes();
    assert!(bytes <= 3_000, "{bytes}");
}

mod stored;

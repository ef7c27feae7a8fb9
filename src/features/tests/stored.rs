//! Histories written to bytes and read again must go on as if nothing had happened, under the plan they were written
//! under and under any other.

use super::*;
use crate::limits::EVENTS_PER_KEY_MAX;

/// Two sets of aggregates with nothing in common but the built-in windows.
fn plans() -> [Plan; 2] {
    let declined = Filter::new("declined", |event: &Event| event.decision == Decision::Declined);
    let abroad = Filter::new("abroad", |event: &Event| event.country == Country::new("MX"));
    let probing = Filter::new("probing", |event: &Event| {
        event.kind == Kind::AccountVerification && !event.declined_for_credit
    });
    let large = Filter::new("large abroad", |event: &Event| event.country == Country::new("MX"));
    let large = large.within(of_some_size());
    let first = [
        aggregate(Keys::CARD, HOUR_MS, Measure::Count, Some(declined.clone())),
        aggregate(Keys::ACCOUNT, WINDOW_MAX_MS, Measure::Sum, Some(abroad.clone())),
        aggregate(Keys::CARD, DAY_MS, Measure::Max, None),
        aggregate(Keys::ACCOUNT, 9 * DAY_MS, Measure::Sum, Some(large.clone())),
    ];
    let second = [
        aggregate(Keys::ACCOUNT, 3 * DAY_MS, Measure::Mean, Some(probing)),
        aggregate(Keys::CARD, WINDOW_MAX_MS, Measure::Distinct(Attribute::Merchant), Some(abroad)),
        aggregate(Keys::CARD, 5 * MINUTE_MS, Measure::Count, None),
        aggregate(Keys::CARD, 20 * DAY_MS, Measure::Count, Some(large.clone())),
        aggregate(Keys::CARD, 20 * DAY_MS, Measure::Max, Some(large)),
        aggregate(Keys::ACCOUNT, 9 * DAY_MS, Measure::Count, Some(declined)),
    ];
    [Plan::new(&first), Plan::new(&second)]
}

fn random_request(rng: &mut ChaCha8Rng) -> AuthRequest {
    let mut drawn = request(rng.random_range(0..90_000));
    drawn.kind = *Kind::ALL.choose(rng).unwrap();
    drawn.channel =
        [None, Some(Channel::Ecommerce), Some(Channel::CardPresent)].choose(rng).copied().unwrap();
    drawn.device_id = rng.random_bool(0.5).then(|| id(&format!("D-{}", rng.random_range(0..5))));
    drawn.merchant.merchant_id = rng.random_bool(0.9).then(|| id(&format!("M-{}", rng.random_range(0..40))));
    drawn.merchant.mcc = rng.random_bool(0.8).then(|| rng.random_range(0..30));
    drawn.merchant.country = Country::new(["US", "MX", "ZZ", "-"].choose(rng).unwrap());
    drawn.merchant.place = Place::new(rng.random_range(-90.0..120.0), rng.random_range(-180.0..180.0));
    drawn
}

/// Everything a decision reads, bit for bit.
fn read(history: &mut History, plan: &Plan, moment: &Moment) -> Vec<(bool, u64, bool)> {
    let mut values = Values::new();
    history.read(plan, moment, &mut values);
    let slots = 0..(CATALOG.len() + plan.aggregates.len()) as Slot;
    slots
        .map(|slot| {
            let has = values.has(slot);
            (has, if has { values.raw(slot) } else { 0 }, values.is_saturated(slot))
        })
        .collect()
}

/// Written and read again, by somebody who knows of no plan but this one.
fn again(history: &History, plan: &Plan) -> Result<History, DecodeError> {
    let mut bytes = Vec::new();
    history.encode(&mut bytes);
    History::decode(&bytes, plan, |_| None)
}

/// Walks `histories`, each with its plan, through the same random life.
fn walk(rng: &mut ChaCha8Rng, events: u64, gap_max_ms: i64, mut each: impl FnMut(u64, &Moment, &Event)) {
    let facts = account();
    let mut now_ms = 1_700_000_000_000;
    for sequence in 1..=events {
        now_ms += rng.random_range(0..=gap_max_ms);
        let late_ms = if rng.random_bool(0.1) { rng.random_range(0..=7 * DAY_MS) } else { 0 };
        let drawn = random_request(rng);
        let time = Timestamp(now_ms - late_ms);
        let card = rng.random_range(0..3);
        let moment = Moment { request: &drawn, account: &facts, card, card_token: None, time };
        let decision = *Decision::ALL.choose(rng).unwrap();
        let for_credit = decision == Decision::Declined && rng.random_bool(0.3);
        each(sequence, &moment, &event_of(&moment, sequence, decision, for_credit));
    }
}

#[test]
fn a_history_read_from_bytes_goes_on_as_the_one_that_was_written() {
    let [plan, other] = plans();
    for (seed, gap_max_ms) in [(1, MINUTE_MS), (2, 6 * HOUR_MS), (3, 9 * DAY_MS)] {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let [mut kept, mut stored] = [History::new(), History::new()];
        let [mut kept_other, mut changed] = [History::new(), History::new()];
        walk(&mut rng, 1_500, gap_max_ms, |sequence, moment, event| {
            if sequence % 7 == 0 {
                stored = again(&kept, &plan).unwrap();
            }
            if sequence % 11 == 0 {
                changed = again(&kept, &other).unwrap();
            }
            assert_eq!(read(&mut kept, &plan, moment), read(&mut stored, &plan, moment), "{sequence}");
            assert_eq!(
                read(&mut kept_other, &other, moment),
                read(&mut changed, &other, moment),
                "{sequence}"
            );
            for (history, plan) in
                [(&mut kept, &plan), (&mut stored, &plan), (&mut kept_other, &other), (&mut changed, &other)]
            {
                history.record(plan, event.clone());
            }
        });
    }
}

#[test]
fn a_history_goes_over_to_other_rules_and_back_at_any_decision() {
    let plans = plans();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut draw = ChaCha8Rng::seed_from_u64(7);
    let (mut kept, mut wandering) = ([History::new(), History::new()], History::new());
    walk(&mut rng, 2_000, 6 * HOUR_MS, |sequence, moment, event| {
        let now = draw.random_range(0..2);
        assert_eq!(
            read(&mut wandering, &plans[now], moment),
            read(&mut kept[now], &plans[now], moment),
            "{sequence}"
        );
        for (history, plan) in kept.iter_mut().zip(&plans) {
            history.record(plan, event.clone());
        }
        wandering.record(&plans[draw.random_range(0..2)], event.clone());
    });
}

#[test]
fn what_has_left_the_ring_reads_unknown_under_other_rules_and_never_low() {
    let [plan, other] = plans();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let [mut kept, mut stored, mut kept_other] = [History::new(), History::new(), History::new()];
    let (mut unknown, mut known) = (0, 0);
    walk(&mut rng, EVENTS_PER_KEY_MAX as u64 + 1_500, 2 * MINUTE_MS, |sequence, moment, event| {
        if sequence % 512 == 0 {
            stored = again(&kept, &plan).unwrap();
            for mut changed in [again(&kept, &other).unwrap(), kept.clone()] {
                let expected = read(&mut kept_other, &other, moment);
                for (slot, (read, expected)) in
                    read(&mut changed, &other, moment).into_iter().zip(expected).enumerate()
                {
                    let is_unknown = slot >= CATALOG.len() && !read.0 && expected.0;
                    assert!(is_unknown || read == expected, "{sequence}: {slot}: {read:?} {expected:?}");
                    (unknown, known) = (unknown + u64::from(is_unknown), known + u64::from(read.0));
                }
            }
        }
        if sequence % 16 == 0 {
            assert_eq!(read(&mut kept, &plan, moment), read(&mut stored, &plan, moment), "{sequence}");
        }
        for (history, plan) in [(&mut kept, &plan), (&mut stored, &plan), (&mut kept_other, &other)] {
            history.record(plan, event.clone());
        }
    });
    assert!(unknown > 0 && known > 100);
}

#[test]
fn damaged_bytes_are_refused_or_read_as_some_history_and_never_panic() {
    let [plan, _] = plans();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for events in [0, 1, 40, EVENTS_PER_KEY_MAX as u64 + 20] {
        let mut history = History::new();
        let mut now = Timestamp(0);
        walk(&mut rng, events, HOUR_MS / 8, |_, moment, event| {
            history.record(&plan, event.clone());
            now = moment.time;
        });
        let mut bytes = Vec::new();
        history.encode(&mut bytes);
        for end in (0..bytes.len()).step_by(1 + bytes.len() / 300) {
            assert!(History::decode(&bytes[..end], &plan, |_| None).is_err(), "cut at {end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(History::decode(&longer, &plan, |_| None).is_err());
        for _ in 0..300 {
            let mut damaged = bytes.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..damaged.len());
                damaged[at] ^= 1 << rng.random_range(0..8);
            }
            let Ok(mut history) = History::decode(&damaged, &plan, |_| None) else { continue };
            let (asked, facts) = (random_request(&mut rng), account());
            let moment = Moment { request: &asked, account: &facts, card: 1, card_token: None, time: now };
            read(&mut history, &plan, &moment);
            history.record(&plan, event_of(&moment, u64::MAX, Decision::Approved, false));
        }
    }
}

/// 5.00 of a currency without decimals is 5 of its units, and of one with three is 5,000: whoever reads a history anew,
/// or goes over to other rules, must not take the one for the other.
#[test]
fn a_filter_over_amounts_keeps_to_the_account_s_currency_over_restarts_and_rules() {
    let five = AmountRange::new(std::array::from_fn(|decimals| (5 * 10_i64.pow(decimals as u32), i64::MAX)));
    let filter = Filter::new("amount >= 5.00", |_: &Event| true).within(five);
    let plan = Plan::new(&[
        aggregate(Keys::ACCOUNT, DAY_MS, Measure::Count, Some(filter.clone())),
        aggregate(Keys::CARD, DAY_MS, Measure::Min, Some(filter)),
    ]);
    let before = Plan::new(&[]);
    for (code, minor) in [("JPY", 5), ("USD", 500), ("KWD", 5_000), ("CLF", 50_000)] {
        let facts = AccountFacts { currency: Currency::from_alpha(code).unwrap(), ..account() };
        let attempts = [minor - 1, minor, minor + 7]
            .map(|minor| AuthRequest { amount: Some(Money::new(minor, facts.currency)), ..request(0) });
        let moment = |attempt, ms| Moment {
            request: attempt,
            account: &facts,
            card: 0,
            card_token: None,
            time: Timestamp(ms),
        };
        let [mut kept, mut changed] = [History::new(), History::new()];
        for (at, attempt) in attempts.iter().enumerate() {
            let event = event_of(&moment(attempt, at as i64), at as u64 + 1, Decision::Approved, false);
            kept.record(&plan, event.clone());
            changed.record(&before, event);
        }
        let again = again(&kept, &plan).unwrap();
        for mut history in [kept, again, changed] {
            let mut values = Values::new();
            history.read(&plan, &moment(&attempts[0], 3), &mut values);
            let read = [0, 1].map(|index| values.int(Plan::aggregate_slot(index)));
            assert_eq!(read, [Some(2), Some(minor)], "{code}");
        }
    }
}

#[test]
fn a_plan_is_known_by_what_it_keeps() {
    let base = || aggregate(Keys::CARD, HOUR_MS, Measure::Count, None);
    let filter = |text: &str| Some(Filter::new(text, |_: &Event| true));
    let plans = [
        vec![],
        vec![base()],
        vec![Aggregate { by: Keys::ACCOUNT, ..base() }],
        vec![Aggregate { window_ms: HOUR_MS + 1, ..base() }],
        vec![Aggregate { measure: Measure::Sum, ..base() }],
        vec![Aggregate { filter: filter("kind == 'purchase'"), ..base() }],
        vec![Aggregate { filter: filter("kind == 'cash_advance'"), ..base() }],
        vec![base(), base()],
    ];
    let fingerprints: HashSet<[u8; 16]> =
        plans.iter().map(|aggregates| Plan::new(aggregates).fingerprint()).collect();
    assert_eq!(fingerprints.len(), plans.len());
    let renamed = Aggregate { name: Arc::from("another name"), ..base() };
    assert_eq!(Plan::new(&[renamed]).fingerprint(), Plan::new(&[base()]).fingerprint());
}

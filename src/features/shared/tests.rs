//! The windows against a list of all events that is scanned from end to end for every question.

mod budget;
mod cap;
mod frauds;
mod stored;

use std::collections::HashSet;

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{
    features::{
        aggregate::{Aggregate, Attribute, Filter, Keys, Measure},
        amounts::AmountRange,
        event::Event,
    },
    limits::{LATENESS_MAX_MS, WINDOW_MAX_MS},
    types::{
        auth::Country,
        codes::{Channel, Decision, Kind},
        lists::FraudLabel,
        money::Currency,
        time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS},
    },
};

const START_MS: i64 = 1_700_000_000_000;
/// Never reached by what these tests keep.
const PLENTY: usize = 64 << 20;

fn aggregate(by: Keys, window_ms: i64, measure: Measure, filter: Option<Filter>) -> Aggregate {
    Aggregate { name: "a".into(), by, window_ms, measure, filter }
}

fn declines() -> Option<Filter> {
    Some(Filter::new("declined", |event| event.decision == Decision::Declined))
}

fn frauds() -> Option<Filter> {
    Some(Filter::new("label == 'fraud'", |_| true).labelled(FraudLabel::Fraud))
}

fn euros() -> Currency {
    Currency::from_alpha("EUR").unwrap()
}

/// Of 1,000.00 to 5,000.00 euros.
fn of_some_size() -> Option<Filter> {
    let web = Filter::new("web and 1000 to 5000", |event| event.channel == Some(Channel::Ecommerce));
    Some(web.within(AmountRange::new([(0, 0), (0, 0), SIZES, (0, 0), (0, 0)])))
}

const SIZES: (i64, i64) = (100_000, 500_000);

/// Whether an event passes a filter, told from its name.
fn is_counted(filter: Option<&Filter>, event: &Event) -> bool {
    match filter {
        Some(filter) if filter.condition() == "web and 1000 to 5000" => {
            event.channel == Some(Channel::Ecommerce)
                && event.currency.is_some()
                && SIZES.0 <= event.amount_minor
                && event.amount_minor <= SIZES.1
        }
        filter => filter.is_none_or(|filter| filter.passes(event)),
    }
}

fn in_the_web() -> Option<Filter> {
    Some(Filter::new("web", |event| event.channel == Some(Channel::Ecommerce)))
}

/// Every measure, keys of one part and of several, several windows and filters in one series, and one of a card that
/// is not kept here.
fn aggregates() -> Vec<Aggregate> {
    use Measure::{Count, Distinct, Max, Mean, Min, StdDev, Sum};
    let country_and_mcc = Keys::COUNTRY.and(Keys::MCC);
    vec![
        aggregate(Keys::MERCHANT, HOUR_MS, Count, None),
        aggregate(Keys::MERCHANT, DAY_MS, Sum, None),
        aggregate(Keys::CARD, DAY_MS, Sum, None),
        aggregate(Keys::MERCHANT, 7 * DAY_MS, Distinct(Attribute::Account), None),
        aggregate(Keys::MERCHANT, DAY_MS, Distinct(Attribute::Device), None),
        aggregate(Keys::MERCHANT, 5 * MINUTE_MS, Count, declines()),
        aggregate(Keys::DEVICE, DAY_MS, Distinct(Attribute::Card), declines()),
        aggregate(Keys::DEVICE, HOUR_MS, Mean, in_the_web()),
        aggregate(Keys::TERMINAL, SECOND_MS, Count, None),
        aggregate(Keys::IP, WINDOW_MAX_MS, Count, None),
        aggregate(Keys::IP, HOUR_MS, StdDev, None),
        aggregate(country_and_mcc, DAY_MS, Min, None),
        aggregate(country_and_mcc, DAY_MS, Max, declines()),
        aggregate(Keys::DEVICE.and(Keys::IP).and(Keys::MERCHANT), 7 * DAY_MS, Sum, None),
        aggregate(Keys::MCC, DAY_MS, Distinct(Attribute::Country), None),
        aggregate(Keys::COUNTRY, DAY_MS, Distinct(Attribute::Terminal), in_the_web()),
        aggregate(Keys::MERCHANT, DAY_MS, Sum, of_some_size()),
        aggregate(Keys::MERCHANT, 7 * DAY_MS, Count, frauds()),
        aggregate(Keys::DEVICE, DAY_MS, Distinct(Attribute::Card), frauds()),
        aggregate(Keys::CARD, 7 * DAY_MS, Count, frauds()),
        aggregate(Keys::ACCOUNT, DAY_MS, Distinct(Attribute::Terminal), frauds()),
        aggregate(Keys::CARD.and(Keys::MERCHANT), 7 * DAY_MS, Sum, frauds()),
        aggregate(Keys::DEVICE, HOUR_MS, Min, of_some_size()),
    ]
}

/// Keys in common among `spread` values of every part; one part in eight was not sent.
fn parts(rng: &mut ChaCha8Rng, spread: u64) -> Parts {
    let id = |rng: &mut ChaCha8Rng, salt: u64| {
        rng.random_bool(0.875)
            .then(|| (rng.random_range(1..=spread) + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    };
    Parts {
        account: Some(rng.random_range(1..20)),
        card: rng.random_bool(0.9).then(|| rng.random_range(21..40)),
        merchant: id(rng, 1 << 32),
        terminal: id(rng, 2 << 32),
        device: id(rng, 3 << 32),
        ip: id(rng, 4 << 32),
        mcc: rng.random_bool(0.875).then(|| rng.random_range(0..2)),
        country: [Country::new("DE"), Country::new("US"), None][rng.random_range(0..3)],
    }
}

fn event(rng: &mut ChaCha8Rng, parts: Parts, time_ms: i64) -> SharedEvent {
    SharedEvent {
        parts,
        event: Event {
            time: Timestamp(time_ms),
            sequence: 0,
            card: 0,
            kind: Kind::Purchase,
            decision: if rng.random_bool(0.4) { Decision::Declined } else { Decision::Approved },
            declined_for_credit: false,
            amount_minor: rng.random_range(0..1_000_000),
            currency: rng.random_bool(0.9).then(euros),
            channel: [None, Some(Channel::Ecommerce), Some(Channel::CardPresent)][rng.random_range(0..3)],
            mcc: parts.mcc,
            country: parts.country,
            merchant: parts.merchant,
            device: parts.device,
            place: None,
        },
        label: None,
    }
}

/// Whether `of` is sent in these parts, and is the same in those where they are given.
fn is_alike(parts: &Parts, of: Keys, other: &Parts) -> bool {
    let terminal = |parts: &Parts| parts.terminal.zip(parts.merchant);
    let is_same_card = match parts.card {
        Some(_) => parts.card == other.card,
        None => other.card.is_none() && parts.account.is_some() && parts.account == other.account,
    };
    [
        (Keys::ACCOUNT, parts.account.is_some() && parts.account == other.account),
        (Keys::CARD, is_same_card),
        (Keys::MERCHANT, parts.merchant.is_some() && parts.merchant == other.merchant),
        (Keys::TERMINAL, terminal(parts).is_some() && terminal(parts) == terminal(other)),
        (Keys::DEVICE, parts.device.is_some() && parts.device == other.device),
        (Keys::IP, parts.ip.is_some() && parts.ip == other.ip),
        (Keys::MCC, parts.mcc.is_some() && parts.mcc == other.mcc),
        (Keys::COUNTRY, parts.country.is_some() && parts.country == other.country),
    ]
    .into_iter()
    .all(|(key, alike)| !of.has(key) || alike)
}

/// The definition of the contract, word for word. `None` where a part is missing or there is nothing to measure.
fn naive(list: &[SharedEvent], aggregate: &Aggregate, parts: &Parts, time_ms: i64) -> Option<i64> {
    if !is_alike(parts, aggregate.by, parts) {
        return None;
    }
    let inside = list.iter().filter(|event| {
        time_ms - aggregate.window_ms <= event.event.time.0
            && event.event.time.0 <= time_ms
            && is_alike(parts, aggregate.by, &event.parts)
            && event.label == aggregate.filter.as_ref().and_then(Filter::label)
            && is_counted(aggregate.filter.as_ref(), &event.event)
    });
    let amounts: Vec<i64> = inside.clone().map(|event| event.event.amount_minor).collect();
    let (count, sum) = (amounts.len() as i64, amounts.iter().sum::<i64>());
    match aggregate.measure {
        Measure::Count => Some(count),
        Measure::Sum => Some(sum),
        Measure::Mean => (count > 0).then(|| sum / count),
        Measure::Min => amounts.iter().min().copied(),
        Measure::Max => amounts.iter().max().copied(),
        Measure::StdDev => {
            let (n, sum) = (i128::from(count), i128::from(sum));
            let squares: i128 = amounts.iter().map(|amount| i128::from(*amount).pow(2)).sum();
            (n > 1).then(|| ((n * squares - sum * sum) / (n * (n - 1))).isqrt() as i64)
        }
        Measure::Distinct(attribute) => {
            let values: HashSet<_> = inside.map(|event| value(event, attribute)).collect();
            Some(values.iter().flatten().count() as i64)
        }
    }
}

/// What is counted distinctly, without folding.
fn value(event: &SharedEvent, attribute: Attribute) -> Option<(u64, u64)> {
    let SharedEvent { parts, .. } = event;
    let Parts { card, account, .. } = parts;
    match attribute {
        Attribute::Account => account.map(|account| (account, 0)),
        Attribute::Card => card.map(|card| (card, 0)),
        Attribute::Device => parts.device.map(|device| (device, 0)),
        Attribute::Terminal => parts.terminal.zip(parts.merchant),
        Attribute::Country => match parts.country {
            country if country == Country::new("DE") => Some((1, 0)),
            country => country.map(|_| (2, 0)),
        },
        other => unreachable!("{other:?} is counted by none of these tests"),
    }
}

/// Windows and the list of what they took in.
struct World {
    aggregates: Vec<Aggregate>,
    plan: SharedPlan,
    shared: Shared,
    list: Vec<SharedEvent>,
    position: u64,
}

impl World {
    fn new(aggregates: Vec<Aggregate>, budget_bytes: usize) -> World {
        let plan = SharedPlan::of_aggregates(&aggregates);
        let shared = Shared::new(&plan, budget_bytes);
        World { aggregates, plan, shared, list: Vec::new(), position: 0 }
    }

    fn apply(&mut self, event: SharedEvent) {
        self.position += 1;
        self.shared.apply(&self.plan, self.position, Some(&event));
        self.list.push(event);
    }

    fn read(&self, parts: &Parts, time_ms: i64) -> ArrayVec<SharedValue, READINGS_MAX> {
        let mut out = ArrayVec::new();
        self.shared.read(&self.plan, parts, Timestamp(time_ms), &mut out);
        out
    }

    fn naive(&self, index: usize, parts: &Parts, time_ms: i64) -> Option<i64> {
        let aggregate = &self.aggregates[usize::from(self.plan.places()[index])];
        naive(&self.list, aggregate, parts, time_ms)
    }

    fn newest_ms(&self) -> i64 {
        self.list.iter().map(|event| event.event.time.0).max().unwrap_or(START_MS)
    }
}

/// A time that lies on or beside an edge: an event's own, or one window away from one.
fn edge(rng: &mut ChaCha8Rng, world: &World, now_ms: i64) -> i64 {
    let recent = &world.list[world.list.len().saturating_sub(40)..];
    let Some(near) = recent.choose(rng) else { return now_ms };
    let window_ms = world.aggregates.choose(rng).map_or(0, |aggregate| aggregate.window_ms);
    near.event.time.0 + rng.random_range(0..=1) * window_ms + rng.random_range(-1..=1)
}

/// The time of the next event: as a rule in order; sometimes at an edge, a little back, or late by up to a week.
fn next_time(rng: &mut ChaCha8Rng, world: &World, now_ms: i64) -> i64 {
    let newest_ms = world.newest_ms();
    let time_ms = match rng.random_range(0..10) {
        0..=1 => edge(rng, world, now_ms),
        2 => now_ms - rng.random_range(0..50),
        3 => now_ms - rng.random_range(0..=LATENESS_MAX_MS),
        _ => now_ms,
    };
    time_ms.clamp(newest_ms - LATENESS_MAX_MS, newest_ms.max(now_ms) + HOUR_MS)
}

/// A history of `events` events, with questions after each; says how many were asked.
fn walk(seed: u64, events: usize, spread: u64, gap_ms: impl Fn(&mut ChaCha8Rng) -> i64) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::new(aggregates(), PLENTY);
    let (mut now_ms, mut asked) = (START_MS, 0);
    for _ in 0..events {
        now_ms += gap_ms(&mut rng);
        let time_ms = next_time(&mut rng, &world, now_ms);
        let sent = parts(&mut rng, spread);
        let label = [None, None, Some(FraudLabel::Fraud), Some(FraudLabel::Genuine)].choose(&mut rng);
        let label = label.copied().flatten();
        // A label may come weeks after its transaction.
        let late_ms = label.map_or(0, |_| rng.random_range(0..=1) * rng.random_range(0..=35 * DAY_MS));
        let recorded = SharedEvent { label, ..event(&mut rng, sent, time_ms - late_ms) };
        world.apply(recorded);
        for _ in 0..2 {
            let newest_ms = world.newest_ms();
            let at_ms = match rng.random_range(0..4) {
                0 | 1 => edge(&mut rng, &world, now_ms),
                2 => now_ms - rng.random_range(0..50),
                _ => newest_ms,
            };
            let at_ms = at_ms.max(newest_ms - LATENESS_MAX_MS);
            // Of somebody who was here, or of anybody.
            let recent = &world.list[world.list.len().saturating_sub(10)..];
            let sent = match rng.random_bool(0.7) {
                true => recent.choose(&mut rng).unwrap().parts,
                false => parts(&mut rng, spread),
            };
            let read = world.read(&sent, at_ms);
            assert_eq!(read.len(), world.plan.places().len());
            for _ in 0..4 {
                let index = rng.random_range(0..read.len());
                let expected = SharedValue { value: world.naive(index, &sent, at_ms), saturated: false };
                assert_eq!(read[index], expected, "seed {seed}, {index}, {at_ms}, {sent:?}");
                asked += 1;
            }
        }
    }
    assert_eq!(world.shared.figures().evicted_keys, 0);
    asked
}

#[test]
fn dense_events_with_ties_and_edges_agree_with_a_naive_scan() {
    for seed in 0..10 {
        assert!(walk(seed, 1_000, 3, |rng| rng.random_range(0..=3) * rng.random_range(0..=700)) > 7_000);
    }
}

#[test]
fn events_of_days_and_weeks_agree_with_a_naive_scan() {
    for seed in 10..20 {
        walk(seed, 1_000, 4, |rng| rng.random_range(0..=2) * rng.random_range(0..=8 * HOUR_MS));
    }
}

#[test]
fn many_keys_agree_with_a_naive_scan() {
    walk(20, 3_000, 1_000, |rng| rng.random_range(0..=10 * MINUTE_MS));
}

#[test]
fn an_event_exactly_one_window_old_counts_and_one_millisecond_more_does_not() {
    let mut rng = ChaCha8Rng::seed_from_u64(30);
    let mut world = World::new(vec![aggregate(Keys::IP, HOUR_MS, Measure::Count, None)], PLENTY);
    let sent = Parts { ip: Some(7), ..Parts::default() };
    world.apply(event(&mut rng, sent, START_MS));
    for (offset_ms, expected) in [
        (0, 1),
        (HOUR_MS, 1),
        (HOUR_MS + 1, 0),
        (HOUR_MS, 1),
        (-1, 0),
        (0, 1),
        (40 * DAY_MS, 0),
        (HOUR_MS, 1),
    ] {
        let read = world.read(&sent, START_MS + offset_ms)[0];
        assert_eq!(read, SharedValue { value: Some(expected), saturated: false }, "{offset_ms}");
    }
}

/// Whoever decides at a time that long ago is told that nothing is known, not that there was nothing.
#[test]
fn a_window_that_reaches_back_behind_what_is_kept_reads_unknown() {
    let mut rng = ChaCha8Rng::seed_from_u64(31);
    let mut world = World::new(vec![aggregate(Keys::IP, HOUR_MS, Measure::Count, None)], PLENTY);
    let [one, other] = [1, 2].map(|ip| Parts { ip: Some(ip), ..Parts::default() });
    world.apply(event(&mut rng, one, START_MS));
    world.apply(event(&mut rng, other, START_MS + HOUR_MS + LATENESS_MAX_MS));
    assert_eq!(world.read(&one, START_MS + HOUR_MS)[0].value, Some(1), "nothing has left yet");
    world.apply(event(&mut rng, other, START_MS + HOUR_MS + LATENESS_MAX_MS + 1));
    for sent in [one, other] {
        assert_eq!(world.read(&sent, START_MS + HOUR_MS)[0], SharedValue::default());
        assert_eq!(world.read(&sent, START_MS + HOUR_MS + 1)[0].value, Some(0));
    }
    assert_eq!(world.shared.figures().keys, 1, "the first has left every window");
}

#[test]
fn a_record_that_is_taken_in_again_changes_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(32);
    let mut world = World::new(aggregates(), PLENTY);
    let sent = parts(&mut rng, 1);
    let recorded = event(&mut rng, sent, START_MS);
    world.apply(recorded.clone());
    let (figures, read) = (world.shared.figures(), world.read(&sent, START_MS));
    world.shared.apply(&world.plan, 1, Some(&recorded));
    assert_eq!((world.shared.figures(), world.read(&sent, START_MS)), (figures, read));
    world.shared.apply(&world.plan, 9, None);
    assert_eq!((world.shared.complete_to(), world.shared.figures()), (9, figures));
}

#[test]
fn a_plan_is_another_where_keys_windows_measures_filters_or_order_are() {
    let plan = |aggregates: &[Aggregate]| SharedPlan::of_aggregates(aggregates).fingerprint();
    let all = aggregates();
    let mut same = all.clone();
    same.remove(2);
    same[0].name = "another name".into();
    assert_eq!(plan(&all), plan(&same), "what is kept for a card alone is none of it");
    let mut seen = HashSet::from([plan(&all), plan(&[])]);
    for change in 0..5 {
        let mut other = all.clone();
        match change {
            0 => other[0].by = Keys::DEVICE,
            1 => other[0].window_ms += 1,
            2 => other[0].measure = Measure::Sum,
            3 => other[0].filter = declines(),
            _ => other.swap(0, 1),
        }
        assert!(seen.insert(plan(&other)), "{change}");
    }
    assert_eq!(SharedPlan::of_aggregates(&all).places()[..4], [0, 1, 3, 4]);
    assert!(SharedPlan::of_aggregates(&all[2..3]).is_empty());
}

//! What everybody does at a few thousand merchants, for the bench of windows over keys that cross accounts.

use std::{hint::black_box, time::Instant};

use arrayvec::ArrayVec;
use saker::{
    features::{
        aggregate::{Aggregate, Attribute, Filter, Keys, Measure},
        event::Event,
        shared::{Parts, Shared, SharedEvent, SharedPlan},
    },
    types::{
        auth::Country,
        codes::{Channel, Decision, Kind},
        time::{DAY_MS, HOUR_MS, MINUTE_MS, Timestamp},
    },
};

use crate::life::Draw;

/// What an analyst would declare: two of each key, one of two keys together, one that walks through a whole country.
pub fn aggregates() -> Vec<Aggregate> {
    use Measure::{Count, Distinct, Max, Mean, Sum};
    let declined = || Some(Filter::new("declined", |event| event.decision == Decision::Declined));
    [
        (Keys::MERCHANT, HOUR_MS, Count, None),
        (Keys::MERCHANT, 7 * DAY_MS, Mean, None),
        (Keys::MERCHANT, HOUR_MS, Count, declined()),
        (Keys::DEVICE, DAY_MS, Distinct(Attribute::Card), None),
        (Keys::DEVICE, DAY_MS, Count, declined()),
        (Keys::IP, DAY_MS, Distinct(Attribute::Card), None),
        (Keys::IP, HOUR_MS, Count, None),
        (Keys::TERMINAL, DAY_MS, Sum, None),
        (Keys::MERCHANT.and(Keys::DEVICE), 7 * DAY_MS, Sum, None),
        (Keys::MCC.and(Keys::COUNTRY), MINUTE_MS, Max, None),
    ]
    .into_iter()
    .map(|(by, window_ms, measure, filter)| Aggregate { name: "".into(), by, window_ms, measure, filter })
    .collect()
}

/// Some of the merchants have most of the traffic, as in life: the square of an even draw.
fn popular(draw: &mut Draw, end: u64) -> u64 {
    let even = draw.below(end);
    even * even / end
}

/// One authorisation; half of them are in the web, where a device and an address are known.
pub fn event(draw: &mut Draw, people: u64, time_ms: i64) -> SharedEvent {
    let (merchant, person) = (popular(draw, 5_000), draw.below(people));
    let is_web = draw.below(2) == 0;
    let hash = |salt: u64, id: u64| Draw(salt << 40 ^ id).next();
    let parts = Parts {
        account: Some(hash(5, person)),
        card: Some(hash(5, person)),
        merchant: Some(hash(1, merchant)),
        terminal: (!is_web).then(|| hash(2, draw.below(4))),
        device: is_web.then(|| hash(3, person)),
        ip: is_web.then(|| hash(4, person / 2)),
        mcc: Some(5_000 + (merchant % 60) as u16),
        country: Country::new(if draw.below(8) == 0 { "MX" } else { "US" }),
    };
    SharedEvent {
        parts,
        event: Event {
            time: Timestamp(time_ms),
            sequence: 0,
            card: 0,
            kind: Kind::Purchase,
            decision: draw.decision(),
            declined_for_credit: false,
            amount_minor: draw.below(20_000) as i64,
            currency: None,
            channel: Some(if is_web { Channel::Ecommerce } else { Channel::CardPresent }),
            mcc: parts.mcc,
            country: parts.country,
            merchant: parts.merchant,
            device: parts.device,
            place: None,
        },
        label: None,
    }
}

/// Prints a row for one size of crowd at 100 authorisations a second: nanoseconds of one event taken in and of one
/// reading, keys, bytes as they say and as the allocator does. `live` says how many bytes are on the heap.
pub fn row(people: u64, events: usize, budget: usize, live: impl Fn() -> u64, allocations: impl Fn() -> u64) {
    let plan = SharedPlan::new(&aggregates());
    let before = live();
    let mut shared = Shared::new(&plan, budget);
    let mut draw = Draw(people);
    let (mut now_ms, mut position) = (1_700_000_000_000, 0);
    let chunk = events / 10;
    let (mut apply_ns, mut read_ns) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..10 {
        let upcoming: Vec<SharedEvent> = (0..chunk)
            .map(|_| {
                now_ms += draw.below(21) as i64;
                event(&mut draw, people, now_ms)
            })
            .collect();
        let started = Instant::now();
        for event in &upcoming {
            position += 1;
            shared.apply(&plan, position, Some(event));
        }
        apply_ns = apply_ns.min(started.elapsed().as_nanos() as f64 / chunk as f64);
        let allocated = allocations();
        let started = Instant::now();
        for event in &upcoming {
            let mut out = ArrayVec::new();
            shared.read(&plan, &event.parts, Timestamp(now_ms), &mut out);
            black_box(&out);
        }
        read_ns = read_ns.min(started.elapsed().as_nanos() as f64 / chunk as f64);
        assert_eq!(allocations(), allocated, "a reading allocates nothing");
    }
    let (figures, live) = (shared.figures(), live() - before);
    println!(
        "| {people} | {apply_ns:.0} | {read_ns:.0} | {} | {} | {} | {live} | {} |",
        figures.keys, figures.events, figures.bytes, figures.evicted_keys
    );
    assert!(
        figures.bytes <= budget && live <= budget as u64 * 11 / 10,
        "{figures:?}, {live} bytes on the heap"
    );
}

//! Windows that were stored and read back.

use super::*;
use crate::limits::{SHARED_BUDGET_BYTES_MIN, SHARED_EVENTS_PER_KEY_MAX};

fn encoded(shared: &Shared) -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    shared.encode(&mut |item| items.push(item.to_vec()));
    assert!(items.iter().all(|item| !item.is_empty() && item.len() <= 64 * 1024));
    items
}

fn decoded(plan: &SharedPlan, budget: usize, items: &[Vec<u8>]) -> Result<Shared, SharedDecodeError> {
    Shared::decode(plan, budget, items.iter().map(Vec::as_slice))
}

/// A world of many keys in too little room.
fn crowded(seed: u64, events: usize, budget: usize) -> (ChaCha8Rng, World, i64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::new(aggregates(), budget);
    let mut now_ms = START_MS;
    for _ in 0..events {
        step(&mut rng, &mut world, &mut now_ms);
    }
    (rng, world, now_ms)
}

fn step(rng: &mut ChaCha8Rng, world: &mut World, now_ms: &mut i64) {
    *now_ms += rng.random_range(0..=2) * rng.random_range(0..=20 * MINUTE_MS);
    let time_ms = next_time(rng, world, *now_ms);
    let sent = parts(rng, 100);
    let recorded = event(rng, sent, time_ms);
    world.apply(recorded);
}

#[test]
fn windows_stored_at_any_moment_go_on_as_if_nothing_had_happened() {
    for (seed, budget) in [(70, SHARED_BUDGET_BYTES_MIN), (71, 3 * SHARED_BUDGET_BYTES_MIN), (72, PLENTY)] {
        let (mut rng, mut world, mut now_ms) = crowded(seed, 0, budget);
        let mut twin = Shared::new(&world.plan, budget);
        for number in 0..2_000 {
            step(&mut rng, &mut world, &mut now_ms);
            twin.apply(&world.plan, world.position, world.list.last());
            if number % 97 == 0 {
                twin = decoded(&world.plan, budget, &encoded(&twin)).unwrap();
            }
            assert_eq!(twin.figures(), world.shared.figures(), "seed {seed}, {number}");
            let sent = parts(&mut rng, 100);
            let mut read = ArrayVec::new();
            twin.read(&world.plan, &sent, Timestamp(now_ms), &mut read);
            assert_eq!(read, world.read(&sent, now_ms), "seed {seed}, {number}");
        }
        assert_eq!(encoded(&twin), encoded(&world.shared), "seed {seed}");
        assert_eq!(twin.complete_to(), world.position);
    }
}

#[test]
fn a_key_with_summaries_is_stored_whole() {
    let mut rng = ChaCha8Rng::seed_from_u64(73);
    let mut world = World::new(full_key_aggregates(), PLENTY);
    fill(&mut rng, &mut world, SHARED_EVENTS_PER_KEY_MAX + 3_000);
    let items = encoded(&world.shared);
    assert!(items.len() > 12, "more than one item");
    let twin = decoded(&world.plan, PLENTY, &items).unwrap();
    assert_eq!(twin.figures(), world.shared.figures());
    let other = std::mem::replace(&mut world.shared, twin);
    fill(&mut rng, &mut world, 10);
    let mut other = World { shared: other, ..World::new(full_key_aggregates(), PLENTY) };
    for (number, event) in world.list.iter().rev().take(10).rev().enumerate() {
        other.shared.apply(&other.plan, world.position - 9 + number as u64, Some(event));
    }
    assert_eq!(encoded(&other.shared), encoded(&world.shared));
    let saturated = world.read(&full_key(), world.newest_ms())[0];
    assert!(saturated.saturated && saturated.value > Some(SHARED_EVENTS_PER_KEY_MAX as i64));
}

fn full_key() -> Parts {
    Parts { mcc: Some(5_411), ..Parts::default() }
}

fn full_key_aggregates() -> Vec<Aggregate> {
    let count = |window_ms| aggregate(Keys::MCC, window_ms, Measure::Count, None);
    vec![count(DAY_MS), count(HOUR_MS)]
}

fn fill(rng: &mut ChaCha8Rng, world: &mut World, events: usize) {
    let mut now_ms = world.newest_ms();
    for _ in 0..events {
        now_ms += rng.random_range(0..2_000);
        let recorded = event(rng, full_key(), now_ms);
        world.apply(recorded);
    }
}

#[test]
fn a_budget_that_was_changed_makes_nothing_false() {
    for budget in [SHARED_BUDGET_BYTES_MIN, 2 * SHARED_BUDGET_BYTES_MIN, PLENTY] {
        let (mut rng, mut world, mut now_ms) = crowded(74, 1_500, 2 * SHARED_BUDGET_BYTES_MIN);
        world.shared = decoded(&world.plan, budget, &encoded(&world.shared)).unwrap();
        for _ in 0..500 {
            step(&mut rng, &mut world, &mut now_ms);
            assert!(world.shared.figures().bytes <= budget);
            let sent = world.list.choose(&mut rng).unwrap().parts;
            for (index, read) in world.read(&sent, now_ms).iter().enumerate() {
                let expected = world.naive(index, &sent, now_ms);
                assert!(read.value.is_none() || read.value == expected, "{budget}, {index}, {sent:?}");
            }
        }
    }
}

#[test]
fn windows_of_other_aggregates_are_refused() {
    let (_, world, _) = crowded(75, 50, PLENTY);
    let mut other = aggregates();
    other[0].window_ms += 1;
    let refused = decoded(&SharedPlan::of_aggregates(&other), PLENTY, &encoded(&world.shared)).err();
    assert_eq!(refused, Some(SharedDecodeError::OtherPlan));
}

/// Every byte is read: cut anywhere, lengthened or damaged, it is an error, or windows that can be used.
#[test]
fn damaged_bytes_are_an_error_and_never_a_panic() {
    // The first is small; the end of the second has summaries.
    let (_, small, _) = crowded(76, 4, PLENTY);
    let mut evicting = World::new(aggregates(), SHARED_BUDGET_BYTES_MIN);
    let mut rng = ChaCha8Rng::seed_from_u64(77);
    for number in 0..300 {
        let sent = parts(&mut rng, 5_000);
        let recorded = event(&mut rng, sent, START_MS + number);
        evicting.apply(recorded);
    }
    assert!(evicting.shared.figures().evicted_keys > 0);
    let mut full = World::new(full_key_aggregates(), PLENTY);
    fill(&mut rng, &mut full, SHARED_EVENTS_PER_KEY_MAX + 10);
    for (world, budget, behind, ahead) in
        [(small, PLENTY, usize::MAX, 0), (evicting, SHARED_BUDGET_BYTES_MIN, 0, 600), (full, PLENTY, 72, 0)]
    {
        let bytes = encoded(&world.shared).concat();
        let flipped = (0..bytes.len()).filter(|at| *at < ahead || bytes.len() - at <= behind);
        for at in flipped {
            assert!(decoded(&world.plan, budget, &[bytes[..at].to_vec()]).is_err(), "cut at {at}");
            for bit in [1, 1 << 7, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= bit;
                use_if_read(&world, decoded(&world.plan, budget, &[damaged]));
            }
        }
        let longer = [bytes, vec![0]].concat();
        assert!(decoded(&world.plan, budget, &[longer]).is_err());
    }
}

fn use_if_read(world: &World, read: Result<Shared, SharedDecodeError>) {
    let Ok(mut shared) = read else { return };
    let mut out = ArrayVec::new();
    for event in world.list.iter().rev().take(2) {
        for ahead_ms in [0, DAY_MS] {
            let mut event = event.clone();
            event.event.time.0 += ahead_ms;
            let position = shared.complete_to().saturating_add(1);
            shared.apply(&world.plan, position, Some(&event));
            out.clear();
            shared.read(&world.plan, &event.parts, event.event.time, &mut out);
        }
    }
    shared.figures();
    shared.encode(&mut |_| {});
}

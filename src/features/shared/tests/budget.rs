//! More keys than the budget holds: nothing is ever read that was not so.

use super::*;
use crate::limits::SHARED_BUDGET_BYTES_MIN;

/// Counts of an hour and of a day by device.
fn by_device() -> Vec<Aggregate> {
    [HOUR_MS, DAY_MS].map(|window_ms| aggregate(Keys::DEVICE, window_ms, Measure::Count, None)).to_vec()
}

fn device(number: u64) -> Parts {
    Parts { device: Some(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), ..Parts::default() }
}

fn values(world: &World, parts: &Parts, time_ms: i64) -> Vec<Option<i64>> {
    world.read(parts, time_ms).iter().map(|read| read.value).collect()
}

/// Somebody sends a device of its own with every request, for days: those who were here before are still known.
#[test]
fn a_flood_of_new_keys_stays_inside_the_budget_and_washes_out_no_busy_key() {
    let mut rng = ChaCha8Rng::seed_from_u64(50);
    let mut world = World::new(by_device(), 4 * SHARED_BUDGET_BYTES_MIN);
    let busy = 100;
    let mut now_ms = START_MS;
    // Known before the flood begins.
    for number in 0..2 * busy {
        let recorded = event(&mut rng, device(number % busy), now_ms);
        world.apply(recorded);
    }
    for number in 0..60_000 {
        now_ms += 100;
        let recorded = event(&mut rng, device(1_000 + number), now_ms);
        world.position += 1;
        world.shared.apply(&world.plan, world.position, Some(&recorded));
        // Each of the busy ones about once in 20 minutes.
        if number % 120 == 0 {
            let recorded = event(&mut rng, device(number / 120 % busy), now_ms);
            world.apply(recorded);
        }
        assert!(world.shared.figures().bytes <= 4 * SHARED_BUDGET_BYTES_MIN);
    }
    assert!(world.shared.figures().evicted_keys > 50_000, "{:?}", world.shared.figures());
    for number in 0..busy {
        let sent = device(number);
        let expected: Vec<_> = (0..2).map(|index| world.naive(index, &sent, now_ms)).collect();
        assert_eq!(values(&world, &sent, now_ms), expected, "{number}");
    }
    // The flood has left every window: whoever was never seen is known to be new again.
    let later_ms = now_ms + DAY_MS + MINUTE_MS;
    assert_eq!(values(&world, &device(u64::MAX), later_ms), [Some(0), Some(0)]);
}

#[test]
fn an_evicted_key_reads_unknown_until_its_window_has_passed_and_never_zero() {
    let mut rng = ChaCha8Rng::seed_from_u64(51);
    let mut world = World::new(by_device(), SHARED_BUDGET_BYTES_MIN);
    for number in 0..2_000 {
        let recorded = event(&mut rng, device(number), START_MS);
        world.apply(recorded);
    }
    let figures = world.shared.figures();
    assert!(
        figures.evicted_keys as usize == 2_000 - figures.keys && figures.evicted_keys > 1_000,
        "{figures:?}"
    );
    // Times are remembered to a 32,768th of the horizon.
    let blur_ms = (DAY_MS + LATENESS_MAX_MS) / 32_768 + 1;
    for number in 0..2_000 {
        let at = |offset_ms| values(&world, &device(number), START_MS + offset_ms);
        let is_kept = at(0) == [Some(1), Some(1)];
        assert!(is_kept || at(0) == [None, None], "{number}");
        let in_window = if is_kept { Some(1) } else { None };
        assert_eq!(at(HOUR_MS), [in_window, in_window], "{number}");
        assert_eq!(at(DAY_MS), [Some(0), in_window], "{number}");
        assert_eq!(at(DAY_MS + blur_ms), [Some(0), Some(0)], "{number}");
    }
}

#[test]
fn an_evicted_key_that_comes_again_is_unknown_as_far_as_it_was_forgotten() {
    let mut rng = ChaCha8Rng::seed_from_u64(52);
    let mut world = World::new(by_device(), SHARED_BUDGET_BYTES_MIN);
    for number in 0..2_000 {
        let recorded = event(&mut rng, device(number), START_MS);
        world.apply(recorded);
    }
    let gone =
        device((0..2_000).find(|number| values(&world, &device(*number), START_MS)[0].is_none()).unwrap());
    let again_ms = START_MS + 2 * HOUR_MS;
    let recorded = event(&mut rng, gone, again_ms);
    world.apply(recorded);
    assert_eq!(values(&world, &gone, again_ms), [Some(1), None]);
    assert_eq!(values(&world, &gone, START_MS + HOUR_MS), [None, None]);
    // Nor is that forgotten where it must go once more.
    for number in 2_000..4_000 {
        let recorded = event(&mut rng, device(number), again_ms + 1);
        world.apply(recorded);
    }
    assert_eq!(values(&world, &gone, again_ms + MINUTE_MS), [None, None]);
    let passed_ms = again_ms + DAY_MS + HOUR_MS;
    assert_eq!(values(&world, &gone, passed_ms), [Some(0), Some(0)]);
}

/// Every measure in too little room: what is read is so, or is said to be unknown.
#[test]
fn whatever_is_evicted_nothing_false_is_read() {
    for seed in 60..66 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut world = World::new(aggregates(), SHARED_BUDGET_BYTES_MIN);
        let (mut now_ms, mut known, mut unknown) = (START_MS, 0, 0);
        for _ in 0..2_500 {
            now_ms += rng.random_range(0..=2) * rng.random_range(0..=20 * MINUTE_MS);
            let time_ms = next_time(&mut rng, &world, now_ms);
            let sent = parts(&mut rng, 200);
            let recorded = event(&mut rng, sent, time_ms);
            world.apply(recorded);
            assert!(world.shared.figures().bytes <= SHARED_BUDGET_BYTES_MIN);
            let at_ms = match rng.random_bool(0.5) {
                true => edge(&mut rng, &world, now_ms),
                false => world.newest_ms(),
            };
            let sent = match rng.random_bool(0.7) {
                true => world.list.choose(&mut rng).unwrap().parts,
                false => parts(&mut rng, 200),
            };
            let read = world.read(&sent, at_ms);
            for _ in 0..4 {
                let index = rng.random_range(0..read.len());
                let expected = world.naive(index, &sent, at_ms);
                match read[index].value {
                    None => unknown += usize::from(expected.is_some()),
                    value => {
                        assert_eq!(value, expected, "seed {seed}, {index}, {at_ms}, {sent:?}");
                        known += 1;
                    }
                }
            }
        }
        assert!(world.shared.figures().evicted_keys > 500);
        assert!(known > 1_000 && unknown > 100, "{known} known, {unknown} unknown");
    }
}

/// One key that alone is larger than the budget cannot be kept, and says so.
#[test]
fn a_key_larger_than_the_budget_reads_unknown() {
    let mut rng = ChaCha8Rng::seed_from_u64(53);
    let mut world = World::new(by_device(), SHARED_BUDGET_BYTES_MIN);
    for number in 0..10_000 {
        let recorded = event(&mut rng, device(1), START_MS + number);
        world.apply(recorded);
        let expected = Some(number + 1);
        let read = values(&world, &device(1), START_MS + number);
        assert!(read.iter().all(|value| value.is_none() || *value == expected), "{number}: {read:?}");
        assert!(world.shared.figures().bytes <= SHARED_BUDGET_BYTES_MIN);
    }
    assert!(world.shared.figures().evicted_keys > 0);
}

#[test]
fn keys_that_have_left_every_window_make_room_by_themselves() {
    let mut rng = ChaCha8Rng::seed_from_u64(54);
    let mut world = World::new(by_device(), PLENTY);
    for number in 0..20_000 {
        let recorded = event(&mut rng, device(number), START_MS + number as i64 * MINUTE_MS);
        world.apply(recorded);
    }
    // Eight days of minutes, and no more.
    let figures = world.shared.figures();
    assert!(figures.keys <= 8 * 24 * 60 + 2 && figures.evicted_keys == 0, "{figures:?}");
}

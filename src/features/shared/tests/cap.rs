//! More events of one key than are kept one by one.

use super::*;
use crate::{
    features::window::overflow::step_ms,
    limits::{EVENTS_PER_KEY_MAX, SHARED_AMOUNT_BASE_MINOR_MAX, SHARED_EVENTS_PER_KEY_MAX},
};

#[test]
fn beyond_the_cap_counts_and_sums_never_read_low() {
    for (seed, gap_max_ms) in [(40, 400), (41, MINUTE_MS)] {
        let windows_ms = [SECOND_MS, HOUR_MS, DAY_MS, WINDOW_MAX_MS];
        let both = windows_ms.map(|window_ms| {
            [Measure::Count, Measure::Sum].map(|measure| aggregate(Keys::MCC, window_ms, measure, None))
        });
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut world = World::new(both.as_flattened().to_vec(), PLENTY);
        let sent = Parts { mcc: Some(5_411), ..Parts::default() };
        let (mut now_ms, mut marked) = (START_MS, 0);
        for number in 0..SHARED_EVENTS_PER_KEY_MAX * 5 / 4 {
            now_ms += rng.random_range(0..=gap_max_ms);
            let late_ms = if rng.random_bool(0.002) { rng.random_range(0..=LATENESS_MAX_MS) } else { 0 };
            let recorded = event(&mut rng, sent, now_ms - late_ms);
            world.apply(recorded);
            if number % 2_003 != 0 && !(number > SHARED_EVENTS_PER_KEY_MAX && number % 401 == 0) {
                continue;
            }
            let read = world.read(&sent, now_ms);
            for (index, read) in read.iter().enumerate() {
                let naive = |window_ms| {
                    let aggregate = Aggregate { window_ms, ..world.aggregates[index].clone() };
                    naive(&world.list, &aggregate, &sent, now_ms).unwrap()
                };
                let window_ms = world.aggregates[index].window_ms;
                let value = read.value.expect("a decision at the present is never unknown");
                if !read.saturated {
                    assert_eq!(value, naive(window_ms), "seed {seed}, {number}, {window_ms}");
                    continue;
                }
                marked += 1;
                assert!(value >= naive(window_ms), "seed {seed}, {number}, {window_ms}: low");
                let most = naive(window_ms + step_ms(window_ms));
                assert!(value <= most, "seed {seed}, {number}, {window_ms}: one step too many");
            }
        }
        let figures = world.shared.figures();
        assert_eq!((figures.saturated_keys, figures.events), (1, SHARED_EVENTS_PER_KEY_MAX as u64));
        assert!(marked > 0, "seed {seed} overflows");
    }
}

/// What walks through a window sees its newest events and says that it has not seen all.
#[test]
fn a_measure_of_more_events_than_are_walked_is_marked() {
    let measures = [Measure::Min, Measure::Max, Measure::StdDev, Measure::Distinct(Attribute::Account)];
    // Alone in their series, and beside a count that keeps more.
    for with_count in [false, true] {
        let mut all: Vec<_> = measures.map(|measure| aggregate(Keys::MCC, HOUR_MS, measure, None)).to_vec();
        if with_count {
            all.push(aggregate(Keys::MCC, HOUR_MS, Measure::Count, None));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(42);
        let mut world = World::new(all, PLENTY);
        let sent = Parts { mcc: Some(5_411), ..Parts::default() };
        for number in 1..=EVENTS_PER_KEY_MAX + 10 {
            let recorded = event(&mut rng, sent, START_MS + number as i64);
            world.apply(recorded);
            if number < EVENTS_PER_KEY_MAX - 2 {
                continue;
            }
            let read = world.read(&sent, START_MS + number as i64);
            let newest = &world.list[number.saturating_sub(EVENTS_PER_KEY_MAX)..];
            for (index, read) in read.iter().enumerate().take(measures.len()) {
                let expected = naive(newest, &world.aggregates[index], &sent, START_MS + number as i64);
                assert_eq!(read.value, expected, "{number}, {index}");
                assert_eq!(read.saturated, number > EVENTS_PER_KEY_MAX, "{number}, {index}");
            }
            if with_count {
                assert_eq!(read[4], SharedValue { value: Some(number as i64), saturated: false });
            }
        }
        // Where the window holds fewer than are walked again, nothing is marked.
        let later_ms = START_MS + HOUR_MS + 11;
        assert!(world.read(&sent, later_ms).iter().all(|read| !read.saturated), "{with_count}");
    }
}

#[test]
fn the_largest_amounts_of_a_full_key_do_not_overflow() {
    let mut rng = ChaCha8Rng::seed_from_u64(43);
    let both = [Measure::Sum, Measure::StdDev].map(|m| aggregate(Keys::MCC, WINDOW_MAX_MS, m, None));
    let mut world = World::new(both.to_vec(), PLENTY);
    let sent = Parts { mcc: Some(1), ..Parts::default() };
    let mut recorded = event(&mut rng, sent, START_MS);
    let most = SHARED_EVENTS_PER_KEY_MAX + SHARED_EVENTS_PER_KEY_MAX / 2;
    for number in 0..most {
        recorded.event.time = Timestamp(START_MS + number as i64);
        // The last four thousand take turns, so that they spread as widely as they can.
        let is_none = number + EVENTS_PER_KEY_MAX >= most && number % 2 == 0;
        recorded.event.amount_minor = if is_none { 0 } else { SHARED_AMOUNT_BASE_MINOR_MAX };
        world.position += 1;
        world.shared.apply(&world.plan, world.position, Some(&recorded));
    }
    let read = world.read(&sent, START_MS + DAY_MS);
    assert_eq!(read[0], SharedValue { value: Some(i64::MAX), saturated: true }, "as much as the type holds");
    let half = SHARED_AMOUNT_BASE_MINOR_MAX / 2;
    assert!(read[1].value.is_some_and(|value| value >= half && value < half + half / 1_000));
}

#[test]
fn a_summary_is_given_up_once_no_window_reaches_it() {
    let mut rng = ChaCha8Rng::seed_from_u64(44);
    let mut world = World::new(vec![aggregate(Keys::MCC, HOUR_MS, Measure::Max, None)], PLENTY);
    let sent = Parts { mcc: Some(1), ..Parts::default() };
    for _ in 0..=EVENTS_PER_KEY_MAX {
        let recorded = event(&mut rng, sent, START_MS);
        world.apply(recorded);
    }
    assert_eq!(world.shared.figures().saturated_keys, 1);
    let recorded = event(&mut rng, sent, START_MS + HOUR_MS + LATENESS_MAX_MS + 1);
    world.apply(recorded);
    let figures = world.shared.figures();
    assert_eq!((figures.saturated_keys, figures.keys, figures.events), (0, 1, 1));
    let fresh = World::new(world.aggregates.clone(), PLENTY).shared.figures().bytes;
    assert!(figures.bytes < fresh + 512, "the room of 4,096 events is given back: {figures:?}");
}

/// The memory of a short window is mostly that of the week in which something may still be told late, and is said to be.
#[test]
fn an_event_is_kept_until_nothing_late_can_ask_for_it_and_no_longer() {
    let kept = aggregate(Keys::MERCHANT, HOUR_MS, Measure::Count, None);
    let kept_ms = kept.footprint().event_kept_ms;
    assert_eq!(kept_ms, HOUR_MS + LATENESS_MAX_MS);
    let plan = SharedPlan::new(&[kept]);
    let merchant = Parts { merchant: Some(1), ..Parts::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (later_ms, events, late) in [(kept_ms, 2, Some(1)), (kept_ms + 1, 1, None)] {
        let mut shared = Shared::new(&plan, PLENTY);
        for (position, time_ms) in [(1, START_MS), (2, START_MS + later_ms)] {
            shared.apply(&plan, position, Some(&event(&mut rng, merchant, time_ms)));
        }
        assert_eq!(shared.figures().events, events, "{later_ms} ms later");
        // As late as may be, a decision reads what it would have read then; later still, it does not know.
        let mut out = ArrayVec::new();
        shared.read(&plan, &merchant, Timestamp(START_MS + HOUR_MS), &mut out);
        assert_eq!(out[0].value, late, "{later_ms} ms later");
    }
}

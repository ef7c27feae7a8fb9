//! The windows against a list that is scanned from end to end for every question.

mod lives;

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{
    features::event::Event,
    types::{
        codes::{Decision, Kind},
        time::{DAY_MS, HOUR_MS, SECOND_MS, Timestamp},
    },
};

const WINDOWS_MS: [i64; 6] = [SECOND_MS, 5 * MINUTE_MS, HOUR_MS, DAY_MS, 7 * DAY_MS, WINDOW_MAX_MS];
const PICKS: [Pick; 5] = [
    Pick::All,
    Pick::FraudDeclines,
    Pick::Filter(0),
    Pick::Filter(63),
    Pick::Within { filter: 0, amounts: 0 },
];
/// What that one lets pass.
const AMOUNTS: Bounds = (20_000, 60_000);
const CARDS: u8 = 4;

/// Every length with every pick, by card and by account.
fn plan() -> (WindowPlan, Vec<(TotalId, i64)>) {
    let mut plan = WindowPlan::default();
    let mut totals = Vec::new();
    for window_ms in WINDOWS_MS {
        for pick in PICKS {
            for by in [By::Card, By::Account] {
                totals.push((plan.total(by, window_ms, pick), window_ms));
            }
        }
    }
    plan.amounts = vec![AMOUNTS];
    (plan, totals)
}

/// One event as the list keeps it.
#[derive(Clone)]
struct Naive {
    time_ms: i64,
    sequence: u64,
    card: u8,
    compact: Compact,
}

/// The definition of the contract, word for word.
fn is_inside(event: &Naive, decision: (i64, u64), window_ms: i64) -> bool {
    decision.0 - window_ms <= event.time_ms && (event.time_ms, event.sequence) < decision
}

fn is_picked(pick: Pick, event: &Compact) -> bool {
    match pick {
        Pick::Within { filter: 0, .. } => {
            event.filters & 1 == 1 && (AMOUNTS.0..=AMOUNTS.1).contains(&event.amount_minor())
        }
        pick => pick.takes(event, &[]),
    }
}

fn naive_total(list: &[Naive], id: TotalId, card: u8, decision: (i64, u64), window_ms: i64) -> (u64, i128) {
    let inside = list.iter().filter(|event| {
        is_inside(event, decision, window_ms)
            && (id.by == By::Account || event.card == card)
            && is_picked(id.pick, &event.compact)
    });
    inside.fold((0, 0), |(count, sum), event| (count + 1, sum + i128::from(event.compact.amount_minor())))
}

fn event(rng: &mut ChaCha8Rng, time_ms: i64, sequence: u64) -> Naive {
    let card = rng.random_range(0..CARDS);
    let event = Event {
        time: Timestamp(time_ms),
        sequence,
        card,
        kind: Kind::Purchase,
        decision: if rng.random_bool(0.3) { Decision::Declined } else { Decision::Approved },
        declined_for_credit: rng.random_bool(0.3),
        amount_minor: rng.random_range(0..100_000),
        currency: None,
        channel: None,
        mcc: None,
        country: None,
        merchant: Some(rng.random_range(0..50)),
        device: None,
        place: None,
    };
    let filters = [0, 1, 1 << 63, 1 | 1 << 63][rng.random_range(0..4)];
    Naive { time_ms, sequence, card, compact: Compact::new(&event, filters) }
}

/// A time that lies on or beside an edge: an event's own, or one window away from one.
fn edge(rng: &mut ChaCha8Rng, list: &[Naive], now_ms: i64) -> i64 {
    let recent = &list[list.len().saturating_sub(40)..];
    let Some(near) = recent.choose(rng) else { return now_ms };
    let window_ms = *WINDOWS_MS.choose(rng).unwrap();
    near.time_ms + rng.random_range(0..=1) * window_ms + rng.random_range(-1..=1)
}

/// Walks through `events` events, one question after each, on accounts that start afresh now and then.
fn walk(seed: u64, events: u64, gap_ms: impl Fn(&mut ChaCha8Rng) -> i64, fresh_after: usize) {
    let (plan, totals) = plan();
    let lengths: Vec<Length> = totals.iter().map(|(id, _)| id.length).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut windows, mut list, mut now_ms) = (Windows::default(), Vec::<Naive>::new(), 1_700_000_000_000);
    for sequence in 1..=events {
        if list.len() == fresh_after {
            (windows, list) = (Windows::default(), Vec::new());
        }
        let newest_ms = list.iter().map(|event| event.time_ms).max().unwrap_or(now_ms);
        now_ms += gap_ms(&mut rng);
        // As a rule in order; sometimes at an edge, a little back, or late by up to a week.
        let time_ms = match rng.random_range(0..10) {
            0..=1 => edge(&mut rng, &list, now_ms),
            2 => now_ms - rng.random_range(0..50),
            3 => now_ms - rng.random_range(0..=LATENESS_MAX_MS),
            _ => now_ms,
        };
        let time_ms = time_ms.clamp(newest_ms - LATENESS_MAX_MS, newest_ms.max(now_ms) + HOUR_MS);
        let recorded = event(&mut rng, time_ms, sequence);
        windows.record(&plan, recorded.compact);
        list.push(recorded);

        let newest_ms = newest_ms.max(time_ms);
        let asked_ms = match rng.random_range(0..4) {
            0 | 1 => edge(&mut rng, &list, now_ms),
            2 => now_ms - rng.random_range(0..50),
            _ => newest_ms,
        };
        let asked_ms = asked_ms.max(newest_ms - LATENESS_MAX_MS);
        let decision = (asked_ms, sequence + 1);
        let view = windows.at(&plan, asked_ms);
        let card = rng.random_range(0..=CARDS);
        for _ in 0..4 {
            let place = rng.random_range(0..totals.len());
            let (id, window_ms) = totals[place];
            let (count, sum_minor) = naive_total(&list, id, card, decision, window_ms);
            let expected = Some(Reading { count, sum_minor, saturated: false });
            assert_eq!(
                view.of_card(card).total(id),
                expected,
                "seed {seed}, event {sequence}, {id:?}, {asked_ms}"
            );
            assert!(!view.is_truncated(id.length));
            if sequence % 16 == 0 {
                let mut inside: Vec<&Naive> =
                    list.iter().filter(|event| is_inside(event, decision, window_ms)).collect();
                inside.sort_by_key(|event| (event.time_ms, event.sequence));
                let amounts: Vec<i64> = inside.iter().map(|event| event.compact.amount_minor()).collect();
                let read: Vec<i64> = view.events(lengths[place]).map(Compact::amount_minor).collect();
                assert_eq!(read, amounts, "seed {seed}, event {sequence}, {id:?}, {asked_ms}");
            }
        }
    }
}

#[test]
fn dense_events_with_ties_and_edges_agree_with_a_naive_scan() {
    walk(1, 60_000, |rng| rng.random_range(0..=3) * rng.random_range(0..=700), 300);
}

#[test]
fn events_of_days_and_weeks_agree_with_a_naive_scan() {
    walk(2, 60_000, |rng| rng.random_range(0..=2) * rng.random_range(0..=8 * HOUR_MS), 400);
}

#[test]
fn an_event_exactly_one_window_old_counts_and_one_millisecond_more_does_not() {
    let mut plan = WindowPlan::default();
    let id = plan.total(By::Card, HOUR_MS, Pick::All);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut windows = Windows::default();
    let mut recorded = event(&mut rng, 1_000_000_000, 1);
    recorded.card = recorded.compact.card();
    windows.record(&plan, recorded.compact);
    // Forwards over the edge and back again: reading must not wear the window out.
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
        let view = windows.at(&plan, 1_000_000_000 + offset_ms);
        assert_eq!(
            view.of_card(recorded.card).total(id).map(|reading| reading.count),
            Some(expected),
            "{offset_ms}"
        );
    }
}

/// Five events within 4:59.1, spread so that no window that begins at a whole minute holds all of them: windows
/// made of buckets miss the attack.
#[test]
fn a_burst_across_the_edges_of_whole_minutes_is_seen_whole() {
    let mut plan = WindowPlan::default();
    let id = plan.total(By::Account, 5 * MINUTE_MS, Pick::All);
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for origin_ms in [0, 1_700_000_040_000] {
        let mut windows = Windows::default();
        for (sequence, at_ms) in [59_900, 120_000, 200_000, 300_000, 358_000].into_iter().enumerate() {
            windows.record(&plan, event(&mut rng, origin_ms + at_ms, sequence as u64).compact);
        }
        let count = |windows: &mut Windows, at_ms: i64| {
            windows.at(&plan, origin_ms + at_ms).of_card(0).total(id).map(|reading| reading.count)
        };
        assert_eq!(count(&mut windows, 359_000), Some(5));
        assert_eq!(count(&mut windows, 359_900), Some(5));
        assert_eq!(count(&mut windows, 359_901), Some(4), "nothing stays for the rest of its minute");
    }
}

#[test]
fn what_was_read_before_changes_nothing() {
    let (plan, totals) = plan();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut read, mut unread) = (Windows::default(), Windows::default());
    let mut now_ms = 1_700_000_000_000;
    for sequence in 0..2_000 {
        now_ms += rng.random_range(0..HOUR_MS);
        let late_ms = rng.random_range(0..2) * rng.random_range(0..DAY_MS);
        let recorded = event(&mut rng, now_ms - late_ms, sequence);
        read.record(&plan, recorded.compact);
        unread.record(&plan, recorded.compact);
        read.at(&plan, now_ms + rng.random_range(-LATENESS_MAX_MS..=40 * DAY_MS));
    }
    let (read, unread) = (read.at(&plan, now_ms), unread.at(&plan, now_ms));
    for (id, _) in totals {
        for card in 0..CARDS {
            assert_eq!(read.of_card(card).total(id), unread.of_card(card).total(id), "{id:?}");
        }
    }
}

/// More events than the ring holds, late ones among them: nothing reads low, and what is not marked is exact.
#[test]
fn beyond_the_cap_counts_and_sums_never_read_low() {
    for (seed, gap_max_ms) in [(6, 400), (7, 60_000), (8, 20 * MINUTE_MS)] {
        let (plan, totals) = plan();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut windows, mut list, mut now_ms) = (Windows::default(), Vec::new(), 1_700_000_000_000);
        let (mut marked, mut unknown) = (0, 0);
        for sequence in 1..=3 * EVENTS_PER_KEY_MAX as u64 {
            now_ms += rng.random_range(0..=gap_max_ms);
            let late_ms = if rng.random_bool(0.05) { rng.random_range(0..=LATENESS_MAX_MS) } else { 0 };
            let recorded = event(&mut rng, now_ms - late_ms, sequence);
            windows.record(&plan, recorded.compact);
            list.push(recorded);
            assert!(windows.events.len() <= EVENTS_PER_KEY_MAX);
            if sequence % 97 != 0 {
                continue;
            }
            let asked_ms = now_ms - rng.random_range(0..=1) * rng.random_range(0..=LATENESS_MAX_MS);
            let view = windows.at(&plan, asked_ms);
            for (id, window_ms) in &totals {
                let card = rng.random_range(0..CARDS);
                let expected = |window_ms| naive_total(&list, *id, card, (asked_ms, sequence + 1), window_ms);
                let (count, sum_minor) = expected(*window_ms);
                let Some(reading) = view.of_card(card).total(*id) else {
                    assert!(asked_ms < now_ms, "a decision at the present is never unknown");
                    unknown += 1;
                    continue;
                };
                if !reading.saturated {
                    assert_eq!((reading.count, reading.sum_minor), (count, sum_minor), "seed {seed}, {id:?}");
                    continue;
                }
                marked += 1;
                assert!(reading.count >= count && reading.sum_minor >= sum_minor, "seed {seed}, {id:?}");
                if asked_ms == now_ms {
                    let (most, _) = expected(window_ms + step_ms(*window_ms));
                    assert!(reading.count <= most, "seed {seed}, {id:?}: one step too many");
                }
            }
        }
        assert!(marked > 0, "seed {seed} overflows");
        assert!(unknown < marked, "seed {seed}: {unknown} of {marked}");
    }
}

#[test]
fn a_summary_is_given_up_once_no_window_reaches_it() {
    let (plan, totals) = plan();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut windows = Windows::default();
    for sequence in 0..2 * EVENTS_PER_KEY_MAX as u64 {
        windows.record(&plan, event(&mut rng, 1_700_000_000_000, sequence).compact);
    }
    assert!(windows.overflow.is_some());
    let later_ms = 1_700_000_000_000 + HORIZON_MS + 1;
    windows.record(&plan, event(&mut rng, later_ms, u64::MAX).compact);
    assert!(windows.overflow.is_none() && windows.events.len() == 1);
    let view = windows.at(&plan, later_ms);
    let (month, _) = totals[totals.len() - 9];
    assert_eq!((month.by, month.pick), (By::Account, Pick::All));
    assert_eq!(
        view.of_card(0).total(month).map(|reading| (reading.count, reading.saturated)),
        Some((1, false))
    );
}

#[test]
fn the_largest_amounts_of_a_full_ring_do_not_overflow() {
    let mut plan = WindowPlan::default();
    let id = plan.total(By::Account, WINDOW_MAX_MS, Pick::All);
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let mut largest = event(&mut rng, 0, 0).compact;
    let mut windows = Windows::default();
    let mut expected = 0;
    for time_ms in 0..3 * EVENTS_PER_KEY_MAX as i64 {
        largest = Compact::new(
            &Event {
                time: Timestamp(time_ms),
                sequence: time_ms as u64,
                card: largest.card(),
                kind: Kind::Purchase,
                decision: Decision::Approved,
                declined_for_credit: false,
                amount_minor: crate::limits::AMOUNT_MINOR_MAX,
                currency: None,
                channel: None,
                mcc: None,
                country: None,
                merchant: None,
                device: None,
                place: None,
            },
            0,
        );
        windows.record(&plan, largest);
        expected += i128::from(crate::limits::AMOUNT_MINOR_MAX);
    }
    let reading = windows.at(&plan, DAY_MS).of_card(0).total(id).unwrap();
    assert_eq!((reading.sum_minor, reading.saturated), (expected, true));
    assert!(expected > i128::from(i64::MAX));
}

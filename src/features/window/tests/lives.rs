//! Whole lives of accounts against a list that is scanned from end to end: bursts with ties, events and questions
//! exactly a window from another or a millisecond beside it, late events, more events than a ring holds, and restarts
//! in between. In the suite a few hundred thousand events; `SAKER_WINDOW_EVENTS=10000000 cargo test --locked --lib
//! lives_of_accounts` says how many.

use super::{super::stored, *};

/// What a run came to.
#[derive(Default, Debug)]
struct Counts {
    events: u64,
    accounts: u64,
    late: u64,
    ties: u64,
    restarts: u64,
    /// Readings of accounts whose ring has never been full: each of them exact.
    exact: u64,
    /// Readings exactly at an edge: an event lay on the window's beginning or a millisecond beside it.
    at_edge: u64,
    /// Readings marked as too high, if anything, each of them compared.
    saturated: u64,
    /// Readings of the past that a summary no longer reaches.
    unknown: u64,
}

/// Filters are a matter of the merchant, so that a restart can ask them again.
fn filters(merchant: u64) -> u64 {
    [0, 1, 1 << 63, 1 | 1 << 63][(merchant % 4) as usize]
}

fn next_event(rng: &mut ChaCha8Rng, time_ms: i64, sequence: u64) -> Naive {
    let drawn = event(rng, time_ms, sequence);
    let own = drawn.compact.shape.event().expect("a shape is that of an event");
    let filters = filters(own.merchant.unwrap_or(0));
    let whole =
        Event { time: Timestamp(time_ms), sequence, amount_minor: drawn.compact.amount_minor(), ..own };
    Naive { compact: Compact::new(&whole, filters), ..drawn }
}

/// How the time goes on in one account's life.
fn gap_ms(rng: &mut ChaCha8Rng, pace: u32) -> i64 {
    match pace {
        // Bursts: half of the events at the time of the one before.
        0 => rng.random_range(0..=1) * rng.random_range(0..=3),
        1 => rng.random_range(0..=3) * rng.random_range(0..=700),
        2 => rng.random_range(0..=20 * SECOND_MS),
        // On the edge of one window after the other.
        3 => *WINDOWS_MS[..4].choose(rng).unwrap_or(&1) + rng.random_range(-1..=1),
        4 => rng.random_range(0..=2) * rng.random_range(0..=8 * HOUR_MS),
        _ => rng.random_range(0..=3 * DAY_MS),
    }
}

fn restarted(windows: &Windows, plan: &WindowPlan) -> Windows {
    let mut bytes = Vec::new();
    stored::encode(windows, &mut bytes);
    let ask = |event: &Event| filters(event.merchant.unwrap_or(0));
    stored::decode(&bytes, plan, true, ask).expect("what was encoded can be decoded")
}

fn life(rng: &mut ChaCha8Rng, plan: &WindowPlan, totals: &[(TotalId, i64)], counts: &mut Counts) {
    let is_full = rng.random_bool(0.03);
    let length = match is_full {
        true => EVENTS_PER_KEY_MAX as u64 + rng.random_range(1..1_500),
        false => rng.random_range(1..=500),
    };
    let pace = if is_full { rng.random_range(0..3) } else { rng.random_range(0..6) };
    let (mut windows, mut list, mut now_ms) = (Windows::default(), Vec::<Naive>::new(), 1_700_000_000_000);
    let mut newest_ms = i64::MIN;
    counts.accounts += 1;
    for sequence in 1..=length {
        // The engine's time never goes back; what is late is late against it.
        now_ms = newest_ms.max(now_ms) + gap_ms(rng, pace);
        let time_ms = match rng.random_range(0..12) {
            0..=2 => edge(rng, &list, now_ms),
            3 => now_ms - rng.random_range(0..50),
            4 => now_ms - rng.random_range(0..=LATENESS_MAX_MS),
            _ => now_ms,
        };
        let earliest_ms = newest_ms.saturating_sub(LATENESS_MAX_MS).max(0);
        let time_ms = time_ms.clamp(earliest_ms, newest_ms.max(now_ms) + HOUR_MS);
        counts.late += u64::from(time_ms < newest_ms);
        counts.ties += u64::from(list.last().is_some_and(|last| last.time_ms == time_ms));
        let recorded = next_event(rng, time_ms, sequence);
        windows.record(plan, recorded.compact);
        list.push(recorded);
        newest_ms = newest_ms.max(time_ms);
        counts.events += 1;
        if rng.random_range(0..if is_full { 1_000 } else { 60 }) == 0 {
            windows = restarted(&windows, plan);
            counts.restarts += 1;
        }
        // Every question scans the list, and a long one becomes interesting where the ring is full.
        let asked_every = match sequence {
            _ if !is_full => 1,
            below if below < EVENTS_PER_KEY_MAX as u64 => 64,
            _ => 4,
        };
        if sequence % asked_every != 0 {
            continue;
        }
        let asked_ms = match rng.random_range(0..4) {
            0 | 1 => edge(rng, &list, now_ms),
            2 => now_ms - rng.random_range(0..50),
            _ => newest_ms,
        };
        let asked_ms = asked_ms.max(newest_ms - LATENESS_MAX_MS);
        let has_overflowed = windows.has_overflowed();
        let view = windows.at(plan, asked_ms);
        let card = rng.random_range(0..=CARDS);
        for _ in 0..2 {
            let (id, window_ms) = totals[rng.random_range(0..totals.len())];
            let read = view.of_card(card).total(id);
            judge(
                read,
                &list,
                (id, card, window_ms),
                (asked_ms, sequence + 1),
                newest_ms,
                has_overflowed,
                counts,
            );
        }
    }
}

fn judge(
    read: Option<Reading>,
    list: &[Naive],
    (id, card, window_ms): (TotalId, u8, i64),
    decision: (i64, u64),
    newest_ms: i64,
    has_overflowed: bool,
    counts: &mut Counts,
) {
    let (count, sum_minor) = naive_total(list, id, card, decision, window_ms);
    let start_ms = decision.0 - window_ms;
    counts.at_edge += u64::from(list.iter().any(|event| (event.time_ms - start_ms).abs() <= 1));
    let context = || format!("event {}, {id:?}, card {card}, at {}", decision.1, decision.0);
    if !has_overflowed {
        let expected = Some(Reading { count, sum_minor, saturated: false });
        assert_eq!(read, expected, "{}", context());
        counts.exact += 1;
        return;
    }
    let Some(reading) = read else {
        assert!(decision.0 < newest_ms, "a decision at the present is never unknown: {}", context());
        counts.unknown += 1;
        return;
    };
    if !reading.saturated {
        assert_eq!((reading.count, reading.sum_minor), (count, sum_minor), "{}", context());
        counts.exact += 1;
        return;
    }
    counts.saturated += 1;
    assert!(reading.count >= count && reading.sum_minor >= sum_minor, "reads low: {}", context());
    if decision.0 >= newest_ms {
        let (most, _) = naive_total(list, id, card, decision, window_ms + step_ms(window_ms));
        assert!(reading.count <= most, "more than one step too many: {}", context());
    }
}

#[test]
fn lives_of_accounts_with_edges_ties_late_events_full_rings_and_restarts_agree_with_a_naive_scan() {
    let setting = std::env::var("SAKER_WINDOW_EVENTS").ok();
    let wanted = setting.map_or(60_000, |text| text.parse().expect("SAKER_WINDOW_EVENTS is a number"));
    let (plan, totals) = plan();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut counts = Counts::default();
    while counts.events < wanted {
        life(&mut rng, &plan, &totals, &mut counts);
    }
    println!("{counts:?}");
    for (what, count) in [
        ("late", counts.late),
        ("ties", counts.ties),
        ("restarts", counts.restarts),
        ("at_edge", counts.at_edge),
        ("saturated", counts.saturated),
    ] {
        assert!(count > wanted / 1_000, "too few {what}: {counts:?}");
    }
}

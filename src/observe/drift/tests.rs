use super::*;
use crate::model::drift::{MISSING, tests::reference};

const HOUR: Duration = MARK_EVERY;

fn counts(lanes: usize, now: Instant) -> DriftCounts {
    DriftCounts::new(lanes, &reference(), now)
}

fn row(value: f32) -> [f32; MODEL_FEATURES] {
    [value; MODEL_FEATURES]
}

#[test]
fn nothing_is_said_of_a_few_decisions_and_the_same_of_lanes_as_of_one() {
    let now = Instant::now();
    let (one, several) = (counts(1, now), counts(3, now));
    let mut expected = [0; CELLS];
    for number in 0..ROWS_MIN {
        for counts in [&one, &several] {
            let drift = counts.drift(now);
            assert_eq!(drift, Drift { rows: number, window: Duration::ZERO, indices: None });
        }
        let value = if number % 10 == 0 { f32::NAN } else { number as f32 / 100.0 };
        expected[if value.is_nan() { MISSING } else { one.0.reference.features()[0].cell_of(value) }] += 1;
        one.saw(0, &row(value), 500);
        several.saw(number as usize, &row(value), 500);
    }
    let drift = one.drift(now);
    assert_eq!(several.drift(now), drift);
    let (features, score) = drift.indices.unwrap();
    assert_eq!(features.len(), MODEL_FEATURES);
    assert_eq!(features[0], one.0.reference.features()[0].stability_index(&expected));
    let mut scores = [0; CELLS];
    scores[one.0.reference.score().cell_of(500.0)] = ROWS_MIN;
    assert_eq!(score, one.0.reference.score().stability_index(&scores));
}

#[test]
fn what_is_older_than_a_day_is_forgotten_and_what_is_younger_is_not() {
    let start = Instant::now();
    let counts = counts(1, start);
    let see = |value: f32, rows: u64| (0..rows).for_each(|_| counts.saw(0, &row(value), 0));
    see(1e9, 5_000);
    let before = counts.drift(start + HOUR).indices.unwrap().0[0];
    // A thousand ordinary decisions an hour, and a scrape every quarter of one.
    for quarter in 5..100 {
        see((quarter % 10) as f32, 250);
        let drift = counts.drift(start + HOUR * quarter / 4);
        assert_eq!(
            drift.rows,
            5_000 + 250 * u64::from(quarter - 4),
            "all that came within {quarter} quarters"
        );
    }
    see(0.0, 250);
    let after = counts.drift(start + HOUR * 25);
    assert_eq!((after.rows, after.window), (24_000, WINDOW), "a day of them, without the strange ones");
    let after = after.indices.unwrap().0[0];
    assert!(before > 5.0 && after < 0.01, "{before} {after}");
    assert!(counts.0.marks.lock().len() <= 26);
}

#[test]
fn an_engine_that_nobody_scraped_for_days_shows_what_came_since_the_last_mark() {
    let start = Instant::now();
    let counts = counts(1, start);
    (0..3_000).for_each(|_| counts.saw(0, &row(1.0), 0));
    let first = counts.drift(start + HOUR);
    assert_eq!((first.rows, first.window), (3_000, HOUR));
    (0..2_000).for_each(|_| counts.saw(0, &row(2.0), 0));
    assert_eq!(counts.drift(start + HOUR * 100).rows, 2_000);
    assert_eq!(counts.drift(start + HOUR * 124).rows, 0);
    assert_eq!(counts.drift(start).rows, 0, "time that goes back is no trouble");
}

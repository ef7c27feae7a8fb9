//! Frauds whose labels have come, which features read whatever the rules declare.

use super::*;
use crate::{
    features::{
        catalog::{CATALOG, slot},
        values::Slot,
    },
    limits::SHARED_BUDGET_BYTES_MIN,
};

const AT_A_TERMINAL: Parts = Parts {
    account: None,
    card: None,
    merchant: Some(1),
    terminal: Some(2),
    device: Some(3),
    ip: None,
    mcc: None,
    country: None,
};

fn plan() -> SharedPlan {
    SharedPlan::new(&[aggregate(Keys::MERCHANT, HOUR_MS, Measure::Count, None)])
}

/// What a decision reads into a feature.
fn read(shared: &Shared, plan: &SharedPlan, parts: &Parts, time_ms: i64, feature: Slot) -> Option<i64> {
    let mut out = ArrayVec::new();
    shared.read(plan, parts, Timestamp(time_ms), &mut out);
    let place = plan.features().iter().position(|slot| *slot == feature).unwrap();
    out[plan.places().len() + place].value
}

fn labelled(label: Option<FraudLabel>, parts: Parts, time_ms: i64) -> SharedEvent {
    SharedEvent { label, ..event(&mut ChaCha8Rng::seed_from_u64(1), parts, time_ms) }
}

#[test]
fn a_fraud_counts_once_its_label_has_come_for_each_of_its_parts_and_no_attempt_or_genuine_one_does() {
    let plan = plan();
    let mut shared = Shared::new(&plan, PLENTY);
    for (position, label) in
        [None, Some(FraudLabel::Genuine), Some(FraudLabel::Fraud)].into_iter().enumerate()
    {
        shared.apply(&plan, position as u64 + 1, Some(&labelled(label, AT_A_TERMINAL, START_MS)));
    }
    let at =
        |parts: &Parts, days: i64, feature| read(&shared, &plan, parts, START_MS + days * DAY_MS, feature);
    for (feature, days) in [
        (slot::MERCHANT_FRAUDS_14D, 14),
        (slot::MERCHANT_FRAUDS_30D, 30),
        (slot::TERMINAL_FRAUDS_14D, 14),
        (slot::TERMINAL_FRAUDS_30D, 30),
        (slot::DEVICE_FRAUDS_30D, 30),
    ] {
        let name = CATALOG[usize::from(feature)].name;
        assert_eq!(at(&AT_A_TERMINAL, 0, feature), Some(1), "{name}");
        assert_eq!(at(&AT_A_TERMINAL, days, feature), Some(1), "{name}");
        let later = read(&shared, &plan, &AT_A_TERMINAL, START_MS + days * DAY_MS + 1, feature);
        assert_eq!(later, Some(0), "{name}");
        assert_eq!(at(&Parts::default(), 0, feature), None, "{name}: the part was not sent");
    }
    let other_terminal = Parts { terminal: Some(9), ..AT_A_TERMINAL };
    assert_eq!(at(&other_terminal, 0, slot::TERMINAL_FRAUDS_14D), Some(0));
    assert_eq!(at(&other_terminal, 0, slot::MERCHANT_FRAUDS_14D), Some(1));
    let same_number_elsewhere = Parts { merchant: Some(8), ..AT_A_TERMINAL };
    assert_eq!(
        at(&same_number_elsewhere, 0, slot::TERMINAL_FRAUDS_14D),
        Some(0),
        "a terminal is its merchant's"
    );
}

/// Whoever makes up merchants and devices cannot make the engine forget what it was told of frauds.
#[test]
fn a_flood_of_new_keys_washes_out_no_fraud() {
    let plan = plan();
    let mut shared = Shared::new(&plan, 4 * SHARED_BUDGET_BYTES_MIN);
    shared.apply(&plan, 1, Some(&labelled(Some(FraudLabel::Fraud), AT_A_TERMINAL, START_MS)));
    for number in 0..60_000 {
        let parts = Parts { merchant: Some(1_000 + number), ..Parts::default() };
        shared.apply(&plan, 2 + number, Some(&labelled(None, parts, START_MS + number as i64)));
    }
    assert!(shared.figures().evicted_keys > 10_000, "{:?}", shared.figures());
    let now_ms = START_MS + MINUTE_MS;
    assert_eq!(read(&shared, &plan, &AT_A_TERMINAL, now_ms, slot::TERMINAL_FRAUDS_30D), Some(1));
    assert_eq!(read(&shared, &plan, &AT_A_TERMINAL, now_ms, slot::MERCHANT_FRAUDS_30D), Some(1));
    // Nor what it has never been told of, or is told of afterwards.
    for number in 0..200 {
        let place = Parts { merchant: Some(500_000 + number), terminal: Some(7), ..Parts::default() };
        assert_eq!(read(&shared, &plan, &place, now_ms, slot::TERMINAL_FRAUDS_30D), Some(0), "{number}");
        let fraud = labelled(Some(FraudLabel::Fraud), place, now_ms);
        shared.apply(&plan, 100_000 + number, Some(&fraud));
        assert_eq!(read(&shared, &plan, &place, now_ms, slot::TERMINAL_FRAUDS_30D), Some(1), "{number}");
    }
}

/// Nor does a flood of labels take the room of everything else.
#[test]
fn labels_of_many_keys_make_way_for_attempts_beyond_their_share() {
    let plan = plan();
    let mut shared = Shared::new(&plan, 4 * SHARED_BUDGET_BYTES_MIN);
    for number in 0..60_000 {
        let parts = Parts { merchant: Some(1_000 + number), ..Parts::default() };
        let label = (number % 2 == 0).then_some(FraudLabel::Fraud);
        shared.apply(&plan, 1 + number, Some(&labelled(label, parts, START_MS + number as i64)));
    }
    // The aggregate's series is first, then that of the merchants' frauds.
    let kept = |series| (0..2).map(|list| shared.tracks.list(series, list).count()).sum::<usize>();
    let (attempts, frauds) = (kept(0), kept(1));
    assert!(frauds > 300 && attempts > 2 * frauds, "{attempts} attempts, {frauds} frauds");
}

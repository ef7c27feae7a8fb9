use std::thread;

use super::{
    super::rules::{RULE_SERIES_MAX, ShadowOutcome},
    *,
};
use crate::types::{
    codes::ResponseCode,
    money::{Currency, Money},
};

fn approved(score: u16) -> DecisionSeen {
    DecisionSeen {
        decision: Decision::Approved,
        reason_group: ReasonGroup::None,
        response_code: ResponseCode::APPROVED,
        score: Some(score),
        challenged: None,
        is_control: false,
        stage_ns: Some([100, 200, 300, 400, 500, 600, 700]),
        total_ns: 3_000,
    }
}

fn live(id: &str) -> LoadedRule<'_> {
    LoadedRule {
        id,
        mode: "live",
        may_run_in_shadow: false,
        response_code: Some(ResponseCode::AMOUNT_LIMIT),
        reason: "REASON",
        group: "other",
        cost_ns: 40,
    }
}

fn in_shadow(id: &str) -> LoadedRule<'_> {
    LoadedRule { mode: "shadow", may_run_in_shadow: true, ..live(id) }
}

/// The value of the one line that starts with this name and label set.
fn value(text: &str, series: &str) -> f64 {
    let mut found = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = found.next().unwrap_or_else(|| panic!("no {series} in\n{text}"));
    assert_eq!(found.next(), None, "{series} stands twice");
    value.parse().unwrap()
}

#[test]
fn no_count_is_lost_however_many_threads_share_the_lanes() {
    const EACH: u64 = 20_000;
    let metrics = Metrics::new(2);
    thread::scope(|scope| {
        for lane in 0..4 {
            let metrics = &metrics;
            scope.spawn(move || {
                for number in 0..EACH {
                    metrics.decided(lane, &approved((number % 1_000) as u16));
                    metrics.answered(lane, number);
                    if number % 5_000 == 0 {
                        metrics.render();
                    }
                }
            });
        }
    });
    let text = metrics.render();
    let all = (4 * EACH) as f64;
    assert_eq!(value(&text, r#"saker_decisions_total{decision="approved",reason_group="none"}"#), all);
    assert_eq!(value(&text, r#"saker_response_codes_total{response_code="00"}"#), all);
    assert_eq!(value(&text, "saker_score_count"), all);
    assert_eq!(value(&text, r#"saker_score_bucket{le="49"}"#), all / 20.0);
    assert_eq!(value(&text, r#"saker_stage_seconds_count{stage="rules"}"#), all);
    assert!((value(&text, r#"saker_stage_seconds_sum{stage="rules"}"#) - all * 400e-9).abs() < 1e-9);
    assert_eq!(value(&text, r#"saker_answer_seconds_bucket{le="0.00005"}"#), all);
}

#[test]
fn a_scrape_holds_every_family_of_the_table_and_none_beside() {
    let metrics = Metrics::new(1);
    metrics.decided(0, &approved(10));
    metrics.call_ended(0, Call::Reverse, CallResult::Ok, 5_000);
    metrics.changed("reverse");
    metrics.failed("UNAVAILABLE", "NOT_SERVING");
    metrics.shed("queue_age");
    let usd = Currency::from_alpha("USD").unwrap();
    let counts = metrics.rules_loaded("r1", &[live("card-testing"), in_shadow("b")]);
    counts.suppressed(0, 0);
    counts.would_have_declined(0, 1, ShadowOutcome::Alone(Some(Money::new(5, usd))));
    metrics.snapshot_taken(5, 1_000, 0.5, 1.7e9);
    metrics.recovered(0, 5, 0.1, 0);
    metrics.begun_after_unclosed(false);
    let lists = vec![ListCounts { list: "blocked".into(), in_file: 1, added: 2, taken_out: 0 }];
    let live = Live { held_minor: vec![(usd, 5)], disk_free_bytes: Some(7), lists, ..Live::default() };
    metrics.watch_live(move || Some(live.clone()));
    let text = metrics.render();
    let mut shown: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    shown.sort_unstable();
    let mut expected: Vec<_> = FAMILIES
        .iter()
        .map(|family| {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge | Kind::Info => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            (family.name.to_owned(), kind.to_owned())
        })
        .collect();
    expected.sort_unstable();
    assert_eq!(shown, expected);
    assert_eq!(text.matches("# HELP").count(), FAMILIES.len());
}

#[test]
fn drift_is_shown_of_the_model_that_scores_and_goes_with_it() {
    let metrics = Metrics::new(2);
    let reference = crate::model::drift::tests::reference();
    assert!(metrics.model_loaded("m1", None).is_none());
    assert!(!metrics.render().contains("\nsaker_model_drift_rows "), "its file says nothing of its rows");
    let counts = metrics.model_loaded("m2", Some(&reference)).unwrap();
    assert_eq!(value(&metrics.render(), "saker_model_drift_rows"), 0.0);
    let row = [f32::NAN; crate::features::catalog::MODEL_FEATURES];
    (0..1_500).for_each(|number| counts.saw(number % 2, &row, 400));
    for _ in 0..2 {
        let text = metrics.render();
        assert_eq!(value(&text, "saker_model_drift_rows"), 1_500.0);
        assert!(value(&text, r#"saker_model_drift_psi{feature="card.count_1h"}"#) > 5.0);
        assert!(value(&text, "saker_model_score_psi") > 1.0);
        // Rules that are read anew tell of the same model again.
        assert!(metrics.model_loaded("m2", Some(&reference)).is_some());
    }
    metrics.model_loaded("m3", Some(&reference)).unwrap();
    let text = metrics.render();
    assert_eq!(value(&text, "saker_model_drift_rows"), 0.0);
    assert!(!text.contains("saker_model_drift_psi{"), "what another model saw says nothing of this one");
}

#[test]
fn what_was_expected_stands_beside_what_was_observed_from_the_start() {
    let metrics = Metrics::new(1);
    assert_eq!(value(&metrics.render(), r#"saker_model_calibration_expected_total{band="900-999"}"#), 0.0);
    let scored = crate::model::Scored { margin: 0.0, score: 500 };
    metrics.score_labelled(ScoreLabelled { scored, label: FraudLabel::Fraud, is_first: true });
    let text = metrics.render();
    for (what, expected) in [("labelled", 1.0), ("observed", 1.0), ("expected", 0.5)] {
        let series = format!("saker_model_calibration_{what}_total{{band=\"500-599\"}}");
        assert_eq!(value(&text, &series), expected);
    }
}

#[test]
fn a_call_is_counted_by_who_was_at_fault_and_timed_from_its_first_use() {
    let metrics = Metrics::new(2);
    let unused = metrics.render();
    assert_eq!(value(&unused, r#"saker_calls_total{call="reverse",result="server_error"}"#), 0.0);
    assert!(!unused.contains(r#"saker_call_seconds_count{call="reverse"}"#));
    metrics.call_ended(0, Call::Reverse, CallResult::Ok, 40_000);
    metrics.call_ended(1, Call::Reverse, CallResult::ClientError, 60_000);
    // A stream lasts as long as its client likes.
    metrics.call_ended(1, Call::AuthoriseStream, CallResult::Ok, u64::MAX);
    let text = metrics.render();
    assert_eq!(value(&text, r#"saker_calls_total{call="reverse",result="ok"}"#), 1.0);
    assert_eq!(value(&text, r#"saker_calls_total{call="reverse",result="client_error"}"#), 1.0);
    assert_eq!(value(&text, r#"saker_calls_total{call="reverse",result="server_error"}"#), 0.0);
    assert_eq!(value(&text, r#"saker_call_seconds_bucket{call="reverse",le="0.00005"}"#), 1.0);
    assert_eq!(value(&text, r#"saker_call_seconds_count{call="reverse"}"#), 2.0);
    assert_eq!(value(&text, r#"saker_calls_total{call="authorise_stream",result="ok"}"#), 1.0);
    assert!(!text.contains(r#"saker_call_seconds_count{call="authorise_stream"}"#));
}

#[test]
fn what_may_fail_is_shown_as_nought_until_it_does() {
    let metrics = Metrics::new(1);
    metrics.expect_failures([("UNAVAILABLE", "DISK_LOW")]);
    metrics.expect_shed(&["the ring is full"]);
    let text = metrics.render();
    assert_eq!(value(&text, r#"saker_errors_total{code="UNAVAILABLE",reason="DISK_LOW"}"#), 0.0);
    assert_eq!(value(&text, r#"saker_shed_total{cause="the ring is full"}"#), 0.0);
    metrics.failed("UNAVAILABLE", "DISK_LOW");
    assert_eq!(value(&metrics.render(), r#"saker_errors_total{code="UNAVAILABLE",reason="DISK_LOW"}"#), 1.0);
}

#[test]
fn the_first_of_every_kind_is_seen_to_rise_from_nought() {
    let metrics = Metrics::new(1);
    metrics.rules_loaded(
        "v1",
        &[
            live("a"),
            in_shadow("b"),
            LoadedRule { may_run_in_shadow: true, response_code: None, ..live("c") },
        ],
    );
    let text = metrics.render();
    for call in Call::ALL {
        for result in CallResult::ALL {
            let series =
                format!("saker_calls_total{{call=\"{}\",result=\"{}\"}}", call.name(), result.name());
            assert_eq!(value(&text, &series), 0.0);
        }
    }
    for decision in Decision::ALL.iter().map(|decision| decision.name().to_ascii_lowercase()) {
        for group in ReasonGroup::ALL.map(ReasonGroup::name) {
            let series = format!("saker_decisions_total{{decision=\"{decision}\",reason_group=\"{group}\"}}");
            assert_eq!(value(&text, &series), 0.0);
        }
    }
    for series in [
        // Of the engine, and of a rule.
        r#"saker_response_codes_total{response_code="N7"}"#,
        r#"saker_response_codes_total{response_code="61"}"#,
        r#"saker_changes_total{call="update_list"}"#,
        r#"saker_rule_suppressed_total{rule="a"}"#,
        r#"saker_rule_hits_total{rule="a",mode="live"}"#,
        r#"saker_rule_hits_total{rule="b",mode="shadow"}"#,
        r#"saker_rule_hits_total{rule="c",mode="shadow"}"#,
        r#"saker_rule_shadow_outcomes_total{rule="c",outcome="alone"}"#,
    ] {
        assert_eq!(value(&text, series), 0.0);
    }
    assert!(!text.contains(r#"rule="a",mode="shadow""#), "it never runs so");
}

#[test]
fn hits_survive_a_reload_of_the_rules_and_are_counted_once() {
    let metrics = Metrics::new(2);
    let first = metrics.rules_loaded("v1", &[live("a"), in_shadow("b")]);
    first.hit(0, 0);
    first.hit(1, 0);
    first.unknown(1, 1);
    metrics.render();
    let second = metrics.rules_loaded("v2", &[live("b"), live("a")]);
    second.hit(0, 1);
    // A decision that began with the old rules still counts under them.
    first.hit(0, 0);
    drop(first);
    metrics.render();
    let text = metrics.render();
    assert_eq!(value(&text, r#"saker_rule_hits_total{rule="a",mode="live"}"#), 4.0);
    assert_eq!(value(&text, r#"saker_rule_unknowns_total{rule="b",mode="shadow"}"#), 1.0);
    assert_eq!(value(&text, r#"saker_rules_info{version="v2"}"#), 1.0);
    assert!(!text.contains("v1"), "the version before is not shown any more");
    assert_eq!(metrics.0.scrape.lock().rules.sets(), 1, "a set that nobody uses is dropped");
}

#[test]
fn reloads_for_ever_do_not_grow_the_series() {
    let metrics = Metrics::new(1);
    for reload in 0..RULE_SERIES_MAX + 50 {
        metrics.rules_loaded("v", &[live(&format!("rule-{reload}"))]).hit(0, 0);
    }
    let text = metrics.render();
    assert_eq!(value(&text, r#"saker_rule_hits_total{rule="other",mode="live"}"#), 50.0);
}

#[test]
fn a_rule_in_shadow_is_counted_by_what_it_would_have_added() {
    let metrics = Metrics::new(2);
    let counts = metrics.rules_loaded("v1", &[in_shadow("a"), live("b")]);
    let text = metrics.render();
    assert_eq!(value(&text, r#"saker_rule_shadow_outcomes_total{rule="a",outcome="alone"}"#), 0.0);
    assert_eq!(value(&text, r#"saker_rule_cost_seconds{rule="a",mode="shadow"}"#), 4e-8);
    let money = |minor, code| Some(Money::new(minor, Currency::from_alpha(code).unwrap()));
    counts.hit_in_shadow(0, 0);
    counts.hit_in_shadow(1, 1);
    counts.suppressed(1, 1);
    counts.would_have_declined(0, 0, ShadowOutcome::Overlap);
    for lane in 0..2 {
        counts.would_have_declined(lane, 0, ShadowOutcome::Alone(money(700, "USD")));
        counts.would_have_declined(lane, 0, ShadowOutcome::Alone(money(50, "JPY")));
        counts.would_have_declined(lane, 0, ShadowOutcome::Alone(None));
    }
    let text = metrics.render();
    assert_eq!(value(&text, r#"saker_rule_hits_total{rule="a",mode="shadow"}"#), 1.0);
    assert_eq!(value(&text, r#"saker_rule_hits_total{rule="b",mode="shadow"}"#), 1.0);
    assert_eq!(value(&text, r#"saker_rule_hits_total{rule="b",mode="live"}"#), 0.0);
    assert_eq!(value(&text, r#"saker_rule_suppressed_total{rule="b"}"#), 1.0);
    assert_eq!(value(&text, r#"saker_rule_shadow_outcomes_total{rule="a",outcome="alone"}"#), 6.0);
    assert_eq!(value(&text, r#"saker_rule_shadow_outcomes_total{rule="a",outcome="overlap"}"#), 1.0);
    // Amounts of two currencies are never one sum, and those of the ninth are not counted.
    assert_eq!(value(&text, r#"saker_rule_shadow_minor_units_total{rule="a",currency="USD"}"#), 1_400.0);
    assert_eq!(value(&text, r#"saker_rule_shadow_minor_units_total{rule="a",currency="JPY"}"#), 100.0);
    for code in ["EUR", "GBP", "CHF", "SEK", "NOK", "DKK", "PLN"] {
        counts.would_have_declined(0, 0, ShadowOutcome::Alone(money(1, code)));
    }
    let text = metrics.render();
    assert_eq!(text.matches("saker_rule_shadow_minor_units_total{").count(), 8);
    assert!(!text.contains(r#"currency="PLN""#));
}

#[test]
fn a_currency_without_holds_falls_to_zero() {
    let metrics = Metrics::new(1);
    let jpy = Currency::from_alpha("JPY").unwrap();
    metrics.watch_live(move || Some(Live { held_minor: vec![(jpy, 700)], ..Live::default() }));
    assert_eq!(value(&metrics.render(), r#"saker_held_minor_units{currency="JPY"}"#), 700.0);
    metrics.watch_live(|| Some(Live::default()));
    assert_eq!(value(&metrics.render(), r#"saker_held_minor_units{currency="JPY"}"#), 0.0);
}

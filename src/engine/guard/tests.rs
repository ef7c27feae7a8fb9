//! The guard at an engine: what it does becomes part of the rules' text, and what it must know outlives a restart.

use super::*;
use crate::{
    config::Config,
    engine::{
        Source,
        tests::{Bench, request, settings_with, verified},
    },
    model,
    types::{
        auth::AuthRequest,
        codes::{Channel, EntryMode},
        ids::Id,
        time::{DAY_MS, HOUR_MS, SECOND_MS},
    },
};

const NOON: i64 = 20_000 * DAY_MS + 12 * HOUR_MS;
/// Payments are of 6.00.
const CAREFUL: &str =
    "version = 1\n[[rules]]\nid = 'limit'\nwhen = 'amount > 1000'\nthen = 'decline'\nreason = 'LIMIT'\n";

fn mistyped() -> String {
    CAREFUL.replace("1000", "5")
}

async fn open(dir: &std::path::Path, rules: &str) -> Bench {
    let mut settings = settings_with(dir, rules, Config::default());
    settings.model = Some(Source { name: "the shipped model".into(), text: model::SHIPPED.into() });
    let (engine, _) = Engine::open(settings).unwrap_or_else(|error| panic!("{error}"));
    Bench::of(engine)
}

fn payment(card: usize, number: usize, at_ms: i64) -> AuthRequest {
    let mut request = request(&format!("t-{card}-{number}"), card, 600, at_ms);
    request.merchant.merchant_id = Some(Id::new(&format!("M{}", (card * 7 + number) % 300)).unwrap());
    // As ordinary as they come: the model is to have nothing against them.
    request.merchant.mcc = Some(5411);
    request.channel = Some(Channel::CardPresent);
    request.entry_mode = Some(EntryMode::Chip);
    request
}

/// One payment of each of these cards, all at the same time; how many were declined by a rule.
async fn pay(bench: &Bench, cards: std::ops::Range<usize>, number: usize, at_ms: i64) -> usize {
    let mut pending = Vec::new();
    for card in cards {
        let answer = bench.engine.authorise(payment(card, number, at_ms), &bench.arrival());
        pending.push(tokio::spawn(answer));
    }
    let mut declined = 0;
    for answer in pending {
        declined += usize::from(answer.await.unwrap().unwrap().answer.response_code.as_str() == "59");
    }
    declined
}

fn watchman(bench: &Bench) -> Watchman {
    let (sender, declines) = mpsc::sync_channel(QUEUE);
    assert!(bench.engine.guard.queue.set(sender).is_ok());
    let judge = Judge::new(&Config::default().guard);
    Watchman { declines, judge, meanings: HashMap::new(), told: None }
}

fn mode(bench: &Bench) -> (Mode, String) {
    let rules = bench.engine.rules();
    let by = rules.rules[0].held.as_ref().map_or(String::new(), |(_, set)| set.by.to_string());
    (rules.rules[0].mode, by)
}

fn value(bench: &Bench, series: &str) -> f64 {
    let text = bench.engine.metrics().render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
}

#[tokio::test]
async fn a_mistyped_amount_is_stopped_by_the_guard_and_stays_stopped_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path(), CAREFUL).await;
    for card in 0..500 {
        bench.account(card, 1_000_000).await;
    }
    let mut watchman = watchman(&bench);
    // The cards are used for a second time then: a first use is as likely to be fraud as anything.
    pay(&bench, 200..456, 9, NOON - 40 * HOUR_MS).await;
    for number in 0..6 {
        assert_eq!(pay(&bench, 0..200, number, NOON - 30 * HOUR_MS + number as i64 * HOUR_MS).await, 0);
        watchman.turn(&bench.engine);
    }
    pay(&bench, 200..201, 0, NOON).await;
    watchman.turn(&bench.engine);
    bench.engine.reload_rules(Source { name: "r".into(), text: mistyped() }).unwrap();
    let bad = bench.engine.rules().version.clone();

    let mut stopped_after = None;
    for second in 1..=30 {
        let cards = 200 + 8 * second..200 + 8 * (second + 1);
        let declined = pay(&bench, cards, 0, NOON + second as i64 * SECOND_MS).await;
        assert!(declined == 0 || stopped_after.is_none(), "a rule in shadow declines nothing");
        watchman.turn(&bench.engine);
        if mode(&bench) == (Mode::Shadow, "guard".to_owned()) {
            stopped_after.get_or_insert(second);
        }
    }
    assert!(stopped_after.is_some_and(|second| second <= 30), "{stopped_after:?}");
    let text = bench.engine.rules().source.to_string();
    assert!(
        text.contains("#@ mode limit shadow since=") && text.contains("by=guard why=it declined"),
        "{text}"
    );
    assert_eq!(value(&bench, r#"saker_guard_verdicts_total{rule="limit",verdict="demoted"}"#), 1.0);
    bench.engine.close().unwrap();
    drop((bench, watchman));

    let bench = open(dir.path(), &mistyped()).await;
    assert_eq!(mode(&bench), (Mode::Shadow, "guard".to_owned()));
    let known = bench.engine.names.rules_since_a_day();
    assert_eq!(known.len(), 3, "what it began with, the mistake, and what the guard made of it: {known:?}");
    let second = bench.engine.names.version(Versioned::Rules, known[1].1).unwrap();
    assert_eq!((*second).to_owned(), (*bad).to_owned());
    bench.engine.close().unwrap();
    drop(bench);
    verified(dir.path());
}

#[tokio::test]
async fn what_somebody_has_mended_in_the_meantime_is_not_set_to_shadow() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path(), &mistyped()).await;
    let judged = bench.engine.rules().rules[0].meaning;
    bench.engine.reload_rules(Source { name: "r".into(), text: CAREFUL.into() }).unwrap();
    let setter = ModeSetter { by: "guard", why: "it did harm".into(), only: Some(judged) };
    assert!(!bench.engine.set_rule_mode("limit", Mode::Shadow, setter).unwrap().changed);
    assert_eq!(mode(&bench).0, Mode::Live);
    bench.engine.close().unwrap();
}

#[tokio::test]
async fn a_queue_that_is_full_loses_declines_and_counts_them_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path(), CAREFUL).await;
    let guard = Guard::default();
    let decline = Decline {
        time: Timestamp(NOON),
        rules: 1,
        rule: 0,
        account: 0,
        merchant: 0,
        device: 0,
        ip: 0,
        score: None,
    };
    guard.saw(bench.engine.metrics(), decline);
    let (sender, declines) = mpsc::sync_channel(QUEUE);
    guard.queue.set(sender).unwrap();
    for _ in 0..QUEUE + 5 {
        guard.saw(bench.engine.metrics(), decline);
    }
    assert_eq!(value(&bench, "saker_guard_missed_total"), 5.0);
    assert_eq!(declines.try_iter().count(), QUEUE);
    bench.engine.close().unwrap();
}

//! Labels in windows across accounts: counted once each, from the moment they come and never before, over restarts from
//! the log and from a snapshot, and decided again.

use super::*;
use crate::types::{
    lists::{FraudLabel, Labelling},
    time::DAY_MS,
};

const FRAUDS: &str = r#"
version = 1
[aggregates.device_frauds_7d]
by = "device"
window = "7d"
count = true
where = "label == 'fraud' && channel == 'card_present'"
[aggregates.merchant_lost_7d]
by = "merchant"
window = "7d"
sum = "amount_base"
where = "amount_base >= 10.00 && label == 'fraud'"
[aggregates.device_attempts_7d]
by = "device"
window = "7d"
count = true
[[rules]]
id = "device-frauds"
when = "device_frauds_7d >= 2"
then = "decline"
reason = "FRAUDS"
[[rules]]
id = "merchant-lost"
when = "merchant_lost_7d >= 100.00"
then = "decline"
reason = "LOST"
[[rules]]
id = "attempts"
when = "device_attempts_7d >= 9"
then = "decline"
reason = "ATTEMPTS"
"#;

impl Bench {
    pub(in crate::engine) async fn labelled(&self, own: &str, transaction: &str, label: FraudLabel) {
        let labelling = Labelling {
            key: key(own),
            transaction: key(transaction),
            label,
            kind: "".into(),
            source: "desk".into(),
            occurred_at: None,
        };
        self.engine.label(labelling, &self.arrival()).await.unwrap();
    }

    /// The code of the deciding reason; empty for an approval.
    async fn tried(&self, name: &str, card: usize, minor: i64, at_ms: i64, device: &str) -> String {
        let mut wanted = request(name, card, minor, at_ms);
        wanted.device_id = Some(Id::new(device).unwrap());
        // Without a time the engine's own counts.
        wanted.transaction_time = wanted.transaction_time.filter(|at| at.0 != 0);
        let answered = self.authorise(wanted).await;
        answered.answer.reasons.first().map_or(String::new(), |reason| reason.code.to_string())
    }
}

#[tokio::test]
async fn a_label_counts_once_and_not_before_it_has_come() {
    use FraudLabel::{Fraud, Genuine};
    for (restart, snapshot) in [(false, false), (true, false), (true, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = open_with(dir.path(), FRAUDS);
        for account in 1..=4 {
            bench.account(account, 1_000_000).await;
        }
        assert_eq!(bench.tried("t1", 1, 60_00, 1_000_001, "D-1").await, "");
        assert_eq!(bench.tried("t2", 2, 5_00, 1_000_002, "D-1").await, "");
        assert_eq!(bench.tried("t3", 3, 40_00, 1_000_003, "D-2").await, "");
        // Whoever says the same twice, or takes it back and says it again, has told of one fraud.
        for (own, label) in [("l1", Fraud), ("l2", Fraud), ("l3", Genuine), ("l4", Fraud)] {
            bench.labelled(own, "t1", label).await;
            assert_eq!(bench.tried(&format!("after-{own}"), 3, 1_00, 1_000_004, "D-1").await, "", "{own}");
        }
        bench.labelled("l5", "t3", Genuine).await;
        if restart {
            if snapshot {
                bench.engine.snapshot_now().unwrap();
            }
            bench.engine.close().unwrap();
            drop(bench);
            bench = open_with(dir.path(), FRAUDS);
        }
        assert_eq!(bench.tried("t5", 4, 1_00, 1_000_005, "D-1").await, "");
        bench.labelled("l6", "t1", Fraud).await;
        assert_eq!(bench.tried("t6", 4, 1_00, 1_000_006, "D-1").await, "");
        bench.labelled("l7", "t2", Fraud).await;
        assert_eq!(bench.tried("t7", 4, 1_00, 1_000_007, "D-1").await, "FRAUDS");
        // The fraud of 5.00 is none of 10.00 or more.
        assert_eq!(bench.tried("t8", 4, 1_00, 1_000_008, "D-2").await, "");
        bench.labelled("l8", "t3", Fraud).await;
        assert_eq!(bench.tried("t9", 4, 1_00, 1_000_009, "D-2").await, "LOST");
        // They count at the time of the transaction, not at that of the label.
        assert_eq!(bench.tried("t10", 4, 1_00, 1_000_001 + 7 * DAY_MS, "D-3").await, "LOST");
        assert_eq!(bench.tried("t11", 4, 1_00, 1_000_002 + 7 * DAY_MS, "D-3").await, "");
        bench.engine.close().unwrap();
        drop(bench);
        let verified = verified(dir.path());
        assert_eq!((verified.counts["decided"], verified.counts["labelled"]), (14, 8));
    }
}

const OF_A_CARD: &str = r#"
version = 1
[aggregates.card_frauds_30d]
by = "card"
window = "30d"
count = true
where = "label == 'fraud'"
[aggregates.account_lost_30d]
by = "account"
window = "30d"
sum = "amount_base"
where = "label == 'fraud'"
[aggregates.card_frauds_there_30d]
by = ["card", "merchant", "terminal"]
window = "30d"
count = true
where = "label == 'fraud'"
[[rules]]
id = "there"
when = "card_frauds_there_30d >= 1"
then = "decline"
reason = "THERE"
[[rules]]
id = "card"
when = "card_frauds_30d >= 2"
then = "decline"
reason = "CARD"
[[rules]]
id = "account"
when = "account_lost_30d >= 100.00"
then = "decline"
reason = "ACCOUNT"
[[rules]]
id = "unknown"
when = "!has(card_frauds_30d)"
then = "flag"
reason = "NO_CARD"
"#;

/// Two cards of one account, and another account with one.
#[tokio::test]
async fn a_fraud_of_a_card_counts_for_it_and_its_account_alone_however_the_card_is_named() {
    use FraudLabel::{Fraud, Genuine};
    for (restart, snapshot) in [(false, false), (true, false), (true, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = open_with(dir.path(), OF_A_CARD);
        let mut two_cards = account(1, 1_000_000);
        two_cards.cards.extend(account(2, 0).cards);
        let opened = Maintenance::Upsert { key: key("open-1"), change: two_cards };
        bench.engine.maintain(opened, &bench.arrival()).await.unwrap();
        bench.account(3, 1_000_000).await;
        let terminal = |number: usize| Id::new(&format!("T{number}")).unwrap();
        let tried = async |bench: &Bench, name: &str, subject: Subject, at: (usize, i64), minor: i64| {
            let mut wanted = AuthRequest { subject, ..request(name, 1, minor, 1_000_000 + at.1) };
            wanted.merchant.terminal_id = Some(terminal(at.0));
            let answered = bench.authorise(wanted).await;
            answered.answer.reasons.first().map_or(String::new(), |reason| reason.code.to_string())
        };
        let card = |number: usize| Subject::Card(CardToken::new(&format!("C{number}")).unwrap());
        let whose = |number: usize| Subject::Account(AccountId::new(&format!("A{number}")).unwrap());

        assert_eq!(tried(&bench, "t1", card(1), (1, 1), 30_00).await, "");
        assert_eq!(tried(&bench, "t2", card(1), (2, 2), 30_00).await, "");
        assert_eq!(tried(&bench, "t3", card(2), (3, 3), 45_00).await, "");
        // The account's one card is meant; of one with two cards no card is, and no fraud of theirs counts there.
        assert_eq!(tried(&bench, "t4", whose(3), (1, 4), 30_00).await, "");
        assert_eq!(tried(&bench, "t5", whose(1), (4, 5), 1_00).await, "");
        bench.labelled("l1", "t1", Fraud).await;
        bench.labelled("l2", "t2", Genuine).await;
        bench.labelled("l3", "t4", Fraud).await;
        if restart {
            if snapshot {
                bench.engine.snapshot_now().unwrap();
            }
            bench.engine.close().unwrap();
            drop(bench);
            bench = open_with(dir.path(), OF_A_CARD);
        }
        assert_eq!(tried(&bench, "t6", card(1), (1, 6), 1_00).await, "THERE");
        assert_eq!(
            tried(&bench, "t7", card(1), (2, 7), 1_00).await,
            "",
            "no fraud there, and but one in all"
        );
        assert_eq!(tried(&bench, "t8", card(3), (1, 8), 1_00).await, "THERE", "as the account's one card");
        assert_eq!(tried(&bench, "cardless", whose(1), (1, 8), 1_00).await, "", "of no card of the two");
        assert_eq!(tried(&bench, "t9", card(2), (1, 9), 1_00).await, "", "another card of the account");
        bench.labelled("l4", "t2", Fraud).await;
        assert_eq!(tried(&bench, "t10", card(1), (9, 10), 1_00).await, "CARD");
        assert_eq!(tried(&bench, "t11", card(2), (9, 11), 1_00).await, "", "60.00 lost by the account");
        bench.labelled("l5", "t3", Fraud).await;
        assert_eq!(tried(&bench, "t12", card(2), (9, 12), 1_00).await, "ACCOUNT");
        assert_eq!(tried(&bench, "t13", whose(1), (9, 13), 1_00).await, "ACCOUNT");
        assert_eq!(tried(&bench, "t14", card(3), (9, 14), 1_00).await, "", "another account");
        assert_eq!(
            tried(&bench, "t15", card(1), (9, 2 + 30 * DAY_MS), 1_00).await,
            "",
            "one of two has left"
        );
        bench.engine.close().unwrap();
        drop(bench);
        verified(dir.path());
    }
}

/// A file of rules that begins to count labels by card knows those that came before it, decides nothing until it does, and
/// loses none over a snapshot.
#[tokio::test]
async fn rules_that_come_after_the_labels_of_a_card_know_them_and_a_snapshot_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let live = |rules: &str| Settings {
        time: TimeSource::Clock(Box::new(crate::engine::SystemClock)),
        ..settings(dir.path(), rules)
    };
    let (engine, _) = Engine::open(live(RULES)).unwrap();
    let bench = Bench::of(engine.clone());
    for account in 1..=2 {
        bench.account(account, 1_000_000).await;
    }
    let caught_up = async |engine: &Engine| {
        while engine.in_force.load().shared.complete_to() < engine.journal.durable() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    for name in ["t1", "t2"] {
        assert_eq!(bench.tried(name, 1, 1_00, 0, "D-1").await, "");
        bench.labelled(&format!("label {name}"), name, FraudLabel::Fraud).await;
    }
    caught_up(&engine).await;
    let before = Arc::clone(&engine.in_force.load().shared);
    // The thread that fills is busy elsewhere.
    let held = before.hold();
    let source = crate::engine::Source { name: "rules.toml".into(), text: OF_A_CARD.to_owned() };
    engine.reload_rules(source).unwrap();
    let filling = Arc::clone(&engine.in_force.load().shared);
    assert!(filling.filled_to().is_some());
    assert_eq!(bench.tried("cold", 1, 1_00, 0, "D-1").await, "", "`!has` says nothing yet");
    drop(held);
    while filling.filled_to().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    caught_up(&engine).await;
    assert_eq!(bench.tried("filled", 1, 1_00, 0, "D-1").await, "CARD");
    assert_eq!(bench.tried("other", 2, 1_00, 0, "D-1").await, "");
    caught_up(&engine).await;
    let keys = engine.in_force.load().shared.figures().keys;
    engine.snapshot_now().unwrap();
    engine.close().unwrap();
    drop((before, filling, bench, engine));
    verified(dir.path());

    let (engine, recovered) = Engine::open(live(OF_A_CARD)).unwrap();
    assert!(recovered.snapshot.is_some());
    assert_eq!(engine.in_force.load().shared.figures().keys, keys);
    let bench = Bench::of(engine.clone());
    assert_eq!(bench.tried("after", 1, 1_00, 0, "D-1").await, "CARD");
    assert_eq!(bench.tried("other after", 2, 1_00, 0, "D-1").await, "");
    engine.close().unwrap();
    drop((bench, engine));
    verified(dir.path());
}

/// What frauds of an account came to is counted, compared and shown in the base currency, whatever the account's is.
#[tokio::test]
async fn what_an_account_lost_is_in_the_base_currency_and_not_in_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[base_currency]\ncode = \"JPY\"\nrates = { USD = \"150\" }\n";
    let bench = open_as(dir.path(), OF_A_CARD, Config::parse("config.toml", config).unwrap());
    bench.account(1, 1_000_000).await;
    assert_eq!(bench.tried("t1", 1, 60, 1_000_001, "D-1").await, "");
    assert_eq!(bench.tried("t2", 1, 1_00, 1_000_002, "D-1").await, "");
    bench.labelled("l1", "t1", FraudLabel::Fraud).await;
    assert_eq!(bench.tried("t3", 1, 1, 1_000_003, "D-1").await, "", "90 yen are below 100");
    bench.labelled("l2", "t2", FraudLabel::Fraud).await;
    let whose = Subject::Account(AccountId::new("A1").unwrap());
    let wanted = AuthRequest { subject: whose, ..request("t4", 1, 1, 1_000_004) };
    let reasons = bench.authorise(wanted).await.answer.reasons;
    let codes: Vec<String> = reasons.iter().map(|reason| reason.code.to_string()).collect();
    assert!(codes.iter().any(|code| code == "ACCOUNT"), "{codes:?}");
    let by = DecisionKey::Key(key("t4"));
    let record = bench.engine.decision(Client::ANONYMOUS, by, &bench.lane).await.unwrap();
    let lost = record.features.iter().find(|(name, _)| name == "account_lost_30d");
    assert_eq!(lost.and_then(|(_, value)| *value), Some(240.0), "1.60 USD");
    bench.engine.close().unwrap();
    drop(bench);
    verified(dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_serving_a_label_is_seen_once_the_windows_have_followed_it() {
    let dir = tempfile::tempdir().unwrap();
    let live = Settings {
        time: TimeSource::Clock(Box::new(crate::engine::SystemClock)),
        ..settings(dir.path(), FRAUDS)
    };
    let (engine, _) = Engine::open(live).unwrap();
    let bench = Bench::of(engine.clone());
    bench.account(1, 1_000_000).await;
    for own in ["t1", "t2"] {
        assert_eq!(bench.tried(own, 1, 1_00, 0, "D-1").await, "");
    }
    // Eight people report the same fraud at the same time.
    let reports: Vec<_> = (0..8)
        .map(|number| {
            let bench = Bench { engine: engine.clone(), lane: bench.lane.clone() };
            tokio::spawn(async move { bench.labelled(&format!("l{number}"), "t1", FraudLabel::Fraud).await })
        })
        .collect();
    for report in reports {
        report.await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.tried("t3", 1, 1, 0, "D-1").await, "");
    bench.labelled("second", "t2", FraudLabel::Fraud).await;
    let mut reason = String::new();
    // Fewer than the attempts that another rule declines.
    for number in 0..5 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        reason = bench.tried(&format!("u{number}"), 1, 1, 0, "D-1").await;
        if !reason.is_empty() {
            break;
        }
    }
    assert_eq!(reason, "FRAUDS");
    let wanted = bench.tried("other", 1, 1, 0, "D-2").await;
    assert_eq!(wanted, "", "of another device nothing was told");
    engine.close().unwrap();
    drop((bench, engine));
    let verified = crate::engine::replay::verify(dir.path(), &mut |_| {}).unwrap();
    assert_eq!(verified.different, 0, "{:#?}", verified.differences);
}

/// What the model is given of a terminal: nothing until the label has come, the same again from the journal, whatever the
/// rules declare.
#[tokio::test]
async fn a_models_row_knows_of_frauds_at_the_terminal_once_their_labels_have_come_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = open_with(dir.path(), RULES);
    for account in 1..=2 {
        bench.account(account, 1_000_000).await;
    }
    let at_terminal = |name: &str, account, at_ms| {
        let mut wanted = request(name, account, 5_00, at_ms);
        wanted.merchant.terminal_id = Some(Id::new("TERMINAL-1").unwrap());
        wanted
    };
    bench.authorise(at_terminal("t1", 1, 1_000_001)).await;
    bench.authorise(at_terminal("t2", 2, 1_000_002)).await;
    bench.labelled("l1", "t1", FraudLabel::Fraud).await;
    bench.authorise(at_terminal("t3", 2, 1_000_003)).await;
    bench.engine.close().unwrap();
    drop(bench);
    bench = open_with(dir.path(), RULES);
    bench.authorise(at_terminal("t4", 2, 1_000_001 + 14 * DAY_MS)).await;
    bench.authorise(at_terminal("t5", 2, 1_000_002 + 14 * DAY_MS)).await;
    bench.engine.close().unwrap();
    drop(bench);
    let journal = crate::engine::backtest::PastJournal::open(dir.path()).unwrap();
    let names = ["terminal.frauds_14d", "terminal.frauds_30d", "merchant.frauds_14d", "device.frauds_30d"];
    let places = names.map(|name| crate::features::catalog::model_index(name).unwrap());
    let mut seen = Vec::new();
    let mut note = |_, record: &crate::journal::record::Record| {
        if let crate::journal::record::Record::Decided(decided) = record {
            seen.push(
                places.map(|place| decided.considered.vector[place]).map(|x| (!x.is_nan()).then_some(x)),
            );
        }
        Ok(std::ops::ControlFlow::Continue(()))
    };
    journal.replay(&mut note).unwrap();
    let with = |count: f32| [Some(count), Some(count), Some(count), None];
    let passed = [Some(0.0), Some(1.0), Some(0.0), None];
    assert_eq!(seen, [with(0.0), with(0.0), with(1.0), with(1.0), passed]);
    verified(dir.path());
}

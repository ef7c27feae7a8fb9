//! Windows across accounts in a whole engine: what is seen of others, over restarts and snapshots, and decided again.

use super::*;
use crate::features::aggregate::{Keys, Measure};

const DEVICES: &str = r#"
version = 1
[aggregates.device_cards_1h]
by = "device"
window = "1h"
distinct = "card.token"
[aggregates.merchant_sum_1h]
by = ["merchant", "country"]
window = "1h"
sum = "amount_base"
[[rules]]
id = "device-cards"
when = "device_cards_1h >= 3"
then = "decline"
reason = "DEVICE_CARDS"
[[rules]]
id = "merchant-sum"
when = "merchant_sum_1h + amount_base > 900.00"
then = "decline"
reason = "MERCHANT_SUM"
"#;

/// A purchase from a device, at the merchant of all in Utopia.
fn from_device(name: &str, card: usize, minor: i64, at_ms: i64, device: &str) -> AuthRequest {
    let mut wanted = request(name, card, minor, at_ms);
    wanted.device_id = Some(Id::new(device).unwrap());
    wanted.merchant.country = Some(crate::types::auth::Country::new("UT").unwrap());
    wanted
}

async fn reason_of(bench: &Bench, wanted: AuthRequest) -> String {
    let answered = bench.authorise(wanted).await;
    answered.answer.reasons.first().map_or(String::new(), |reason| reason.code.to_string())
}

fn verified(dir: &Path) -> u64 {
    let verified = crate::engine::replay::verify(dir, &mut |_| {}).unwrap();
    assert_eq!(verified.different, 0, "{:#?}", verified.differences);
    verified.counts["decided"]
}

/// Decisions of everybody else are seen by one, whether the engine was started in between from its log, from a
/// snapshot, or not at all.
#[tokio::test]
async fn a_device_that_tries_card_after_card_is_caught_over_restarts() {
    for (restart, snapshot) in [(false, false), (true, false), (true, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = open_with(dir.path(), DEVICES);
        for account in 1..=5 {
            bench.account(account, 1_000_000).await;
        }
        let tried = |number: usize, device| {
            from_device(&format!("t{number}-{device}"), number, 1_000, 1_000_000 + number as i64, device)
        };
        for card in [1, 2, 1, 9] {
            // A card that does not exist counts too: somebody tries numbers.
            let expected = if card == 9 { "UNKNOWN_CARD" } else { "" };
            assert_eq!(reason_of(&bench, tried(card, "D-1")).await, expected);
        }
        assert_eq!(reason_of(&bench, tried(3, "D-2")).await, "");
        if restart {
            if snapshot {
                bench.engine.snapshot_now().unwrap();
            }
            bench.engine.close().unwrap();
            drop(bench);
            bench = open_with(dir.path(), DEVICES);
        }
        assert_eq!(reason_of(&bench, tried(4, "D-1")).await, "DEVICE_CARDS");
        assert_eq!(reason_of(&bench, tried(4, "D-2")).await, "");
        let later = from_device("later", 4, 1_000, 1_000_000 + 3_600_001 + 9, "D-1");
        assert_eq!(reason_of(&bench, later).await, "");
        bench.engine.close().unwrap();
        drop(bench);
        // The second try of the first card is a repeat.
        assert_eq!(verified(dir.path()), 7);
    }
}

#[tokio::test]
async fn amounts_of_several_currencies_add_up_in_the_base_currency_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[base_currency]\ncode = \"EUR\"\nrates = { USD = \"0.9\" }\n";
    let bench = open_as(dir.path(), DEVICES, Config::parse("config.toml", config).unwrap());
    for account in 1..=3 {
        bench.account(account, 1_000_000).await;
    }
    // 450.00 and 450.00 euros are no more than 900.00; a cent more is.
    assert_eq!(reason_of(&bench, from_device("t1", 1, 50_000, 1_000_000, "D-1")).await, "");
    assert_eq!(reason_of(&bench, from_device("t2", 2, 50_000, 1_000_001, "D-2")).await, "");
    assert_eq!(reason_of(&bench, from_device("t3", 3, 1, 1_000_002, "D-3")).await, "MERCHANT_SUM");
    bench.engine.close().unwrap();
    drop(bench);
    assert_eq!(verified(dir.path()), 3);
}

#[tokio::test]
async fn while_serving_the_windows_follow_the_journal_and_every_decision_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let live = || Settings {
        time: TimeSource::Clock(Box::new(crate::engine::SystemClock)),
        ..settings(dir.path(), DEVICES)
    };
    let (engine, _) = Engine::open(live()).unwrap();
    let bench = Bench::of(engine.clone());
    for account in 0..20 {
        bench.account(account, 100_000_000).await;
    }
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let bench = Bench { engine: engine.clone(), lane: bench.lane.clone() };
            tokio::spawn(async move {
                for call in 0..150 {
                    let device = format!("D-{}", call % 7);
                    let card = (call * 3 + caller) % 20;
                    let mut wanted = from_device(&format!("t{caller}-{call}"), card, 10, 0, &device);
                    wanted.transaction_time = None;
                    bench.authorise(wanted).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    engine.snapshot_now().unwrap();
    while engine.in_force.load().shared.complete_to() < engine.journal.durable() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut wanted = from_device("last", 0, 10, 0, "D-3");
    wanted.transaction_time = None;
    assert_eq!(reason_of(&bench, wanted.clone()).await, "DEVICE_CARDS");
    let figures = engine.in_force.load().shared.figures();
    assert_eq!(figures.keys, 7 + 1, "seven devices and a merchant in a country");
    engine.close().unwrap();
    drop((bench, engine));
    assert_eq!(verified(dir.path()), 601);

    let (engine, recovered) = Engine::open(live()).unwrap();
    assert!(recovered.snapshot.is_some());
    let bench = Bench::of(engine.clone());
    wanted.key = key("after");
    assert_eq!(reason_of(&bench, wanted).await, "DEVICE_CARDS");
    assert_eq!(engine.in_force.load().shared.figures().keys, figures.keys);
    engine.close().unwrap();
}

#[tokio::test]
async fn windows_that_a_snapshot_does_not_have_are_filled_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_with(dir.path(), RULES);
    for account in 1..=5 {
        bench.account(account, 1_000_000).await;
    }
    for card in 1..=3 {
        bench.authorise(from_device(&format!("t{card}"), card, 1_000, 1_000_000, "D-1")).await;
    }
    bench.engine.snapshot_now().unwrap();
    bench.engine.close().unwrap();
    drop(bench);
    let bench = open_with(dir.path(), DEVICES);
    assert_eq!(reason_of(&bench, from_device("t4", 4, 1_000, 1_000_001, "D-1")).await, "DEVICE_CARDS");
    bench.engine.close().unwrap();
    drop(bench);
    assert_eq!(verified(dir.path()), 4);
}

/// Somebody who makes up a device id for every request fills the memory of windows, washes out nothing that was seen
/// before, and gets no customer declined.
#[tokio::test]
async fn a_flood_of_new_devices_stays_inside_its_memory_and_washes_out_no_device_that_is_known() {
    let dir = tempfile::tempdir().unwrap();
    // The least that the settings take.
    let budget_bytes = 1024 * 1024;
    let mut config = Config::default();
    config.windows.shared_bytes = budget_bytes as u64;
    let bench = open_as(dir.path(), DEVICES, config);
    for account in 1..=60 {
        bench.account(account, 1_000_000_000).await;
    }
    for card in [1, 2, 3] {
        let seen = from_device(&format!("t{card}"), card, 10, 1_000_000, "D-1");
        assert_eq!(reason_of(&bench, seen).await, "");
    }
    let figures = || bench.engine.in_force.load().shared.figures();
    let mut sent = 0;
    while figures().evicted_keys < 2_000 {
        let mut flood = Vec::new();
        for _ in 0..100 {
            sent += 1;
            let card = 4 + sent % 50;
            let mut wanted = from_device(&format!("f{sent}"), card, 1, 1_000_001, &format!("made-up-{sent}"));
            // Posted at once, so that no account runs out of holds.
            wanted.single_message = true;
            flood.push(bench.engine.authorise(wanted, &bench.arrival()));
        }
        for answer in flood {
            assert_eq!(answer.await.unwrap().answer.response_code.to_string(), "00");
        }
        assert!(figures().bytes <= budget_bytes, "{:?}", figures());
        assert!(sent < 200_000, "nothing ever has to go: {:?}", figures());
    }
    assert_eq!(reason_of(&bench, from_device("caught", 60, 10, 1_000_002, "D-1")).await, "DEVICE_CARDS");
    assert_eq!(reason_of(&bench, from_device("new", 60, 10, 1_000_002, "D-new")).await, "");
    bench.engine.close().unwrap();
    drop(bench);
    assert_eq!(verified(dir.path()), sent as u64 + 5);
}

/// Where rules stay, what they knew stays known; what comes new is unknown first, and whole once it is filled.
#[tokio::test]
async fn a_reload_of_other_windows_drops_nothing_and_begins_with_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let live = Settings {
        time: TimeSource::Clock(Box::new(crate::engine::SystemClock)),
        ..settings(dir.path(), DEVICES)
    };
    let (engine, _) = Engine::open(live).unwrap();
    let bench = Bench::of(engine.clone());
    for account in 0..20 {
        bench.account(account, 100_000_000).await;
    }
    let now = |name: &str, card, device| {
        let mut wanted = from_device(name, card, 10, 0, device);
        wanted.transaction_time = None;
        wanted
    };
    for card in 0..4 {
        bench.authorise(now(&format!("t{card}"), card, "D-1")).await;
    }
    let caught_up = async || {
        while engine.in_force.load().shared.complete_to() < engine.journal.durable() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    caught_up().await;
    let reload = |text: String| {
        engine.reload_rules(crate::engine::Source { name: "rules.toml".into(), text }).unwrap();
        Arc::clone(&engine.in_force.load().shared)
    };
    let accounts = |count: u32| {
        DEVICES.replace(
            "[[rules]]\nid = \"device",
            &format!(
                "[aggregates.merchant_count_1h]\nby = \"merchant\"\nwindow = \"1h\"\ncount = true\n\
             [[rules]]\nid = \"busy\"\nwhen = \"merchant_count_1h >= {count}\"\nthen = \"decline\"\n\
             reason = \"BUSY\"\n[[rules]]\nid = \"device"
            ),
        )
    };
    let before = Arc::clone(&engine.in_force.load().shared);
    // The thread that fills is busy elsewhere.
    let held = before.hold();
    let with_more = reload(accounts(4));
    assert!(with_more.filled_to().is_some());
    assert_eq!(reason_of(&bench, now("known", 5, "D-1")).await, "DEVICE_CARDS");
    assert_eq!(reason_of(&bench, now("unknown", 5, "D-2")).await, "");
    // A snapshot of this moment has no windows that are not full, and a way back is open.
    engine.snapshot_now().unwrap();
    assert!(Arc::ptr_eq(&reload(DEVICES.to_owned()), &before));
    assert_eq!(reason_of(&bench, now("again", 6, "D-1")).await, "DEVICE_CARDS");
    let with_more = reload(accounts(4));
    drop(held);
    while with_more.filled_to().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    caught_up().await;
    assert_eq!(reason_of(&bench, now("filled", 7, "D-3")).await, "BUSY");
    // Other rules over the same windows keep them.
    assert!(Arc::ptr_eq(&reload(accounts(400)), &with_more));
    assert_eq!(reason_of(&bench, now("same", 8, "D-1")).await, "DEVICE_CARDS");
    assert_eq!(reason_of(&bench, now("quiet", 8, "D-4")).await, "");
    engine.close().unwrap();
    drop((before, with_more, bench, engine));
    assert_eq!(verified(dir.path()), 10);
}

/// A rule that fires because something is unknown must not decline everybody while the engine does not know it yet.
#[tokio::test]
async fn a_rule_on_what_is_still_being_filled_decides_nothing_and_is_made_again_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let live = Settings {
        time: TimeSource::Clock(Box::new(crate::engine::SystemClock)),
        ..settings(dir.path(), DEVICES)
    };
    let (engine, _) = Engine::open(live).unwrap();
    let bench = Bench::of(engine.clone());
    for account in 0..20 {
        bench.account(account, 100_000_000).await;
    }
    let now = |name: &str, card, device: Option<&str>| {
        let mut wanted = from_device(name, card, 10, 0, "D");
        wanted.device_id = device.map(|device| Id::new(device).unwrap());
        wanted.transaction_time = None;
        wanted
    };
    let caught_up = async || {
        while engine.in_force.load().shared.complete_to() < engine.journal.durable() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    for card in 0..4 {
        bench.authorise(now(&format!("t{card}"), card, Some("D-1"))).await;
    }
    caught_up().await;
    let rule = |id: &str, when: &str| {
        let reason = id.to_uppercase();
        format!("[[rules]]\nid = \"{id}\"\nwhen = \"{when}\"\nthen = \"decline\"\nreason = \"{reason}\"\n")
    };
    let text = [
        DEVICES,
        "[aggregates.merchant_count_1h]\nby = \"merchant\"\nwindow = \"1h\"\ncount = true\n",
        &rule("missing", "!has(merchant_count_1h)"),
        &rule("either", "device_cards_1h >= 2 || merchant_count_1h >= 9"),
        &rule("nameless", "!has(device_cards_1h)"),
    ]
    .concat();
    let before = Arc::clone(&engine.in_force.load().shared);
    // The thread that fills is busy elsewhere.
    let held = before.hold();
    engine.reload_rules(crate::engine::Source { name: "rules.toml".into(), text }).unwrap();
    let filling = Arc::clone(&engine.in_force.load().shared);
    assert!(filling.filled_to().is_some());
    assert_eq!(reason_of(&bench, now("cold", 5, Some("D-2"))).await, "", "`!has` says nothing yet");
    assert_eq!(reason_of(&bench, now("warm", 5, Some("D-1"))).await, "DEVICE_CARDS", "all of it is known");
    assert_eq!(reason_of(&bench, now("none", 5, None)).await, "NAMELESS", "that is how the request is");
    drop(held);
    while filling.filled_to().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    caught_up().await;
    let mut nowhere = now("nowhere", 6, Some("D-2"));
    nowhere.merchant.merchant_id = None;
    assert_eq!(reason_of(&bench, nowhere).await, "MISSING", "no merchant was sent");
    for card in [6, 7] {
        assert_eq!(reason_of(&bench, now(&format!("full{card}"), card, Some("D-3"))).await, "");
    }
    caught_up().await;
    assert_eq!(reason_of(&bench, now("full", 8, Some("D-3"))).await, "EITHER");
    engine.close().unwrap();

    let mut fired = std::collections::BTreeMap::new();
    crate::journal::verify(&dir.path().join("journal"), &mut |frame| {
        if let Ok(Record::Decided(decided)) = Record::decode(frame.payload, frame.position, &*engine.names) {
            let considered = decided.considered;
            fired.insert(decided.request.key.to_string(), (considered.fired, considered.shadow_fired));
        }
        Ok(())
    })
    .unwrap();
    // By their places in the file: device-cards, merchant-sum, missing, either, nameless.
    assert_eq!(fired["cold"], (vec![], vec![2]), "it fired, and decided nothing");
    assert_eq!(fired["warm"], (vec![0], vec![2, 3]));
    assert_eq!(fired["none"], (vec![4], vec![2]));
    assert_eq!(fired["full"], (vec![3], vec![]));
    drop((before, filling, bench, engine));
    assert_eq!(verified(dir.path()), 11);
}

/// Under the replay clock nothing is ever unknown for a while.
#[tokio::test]
async fn a_reload_under_the_replay_clock_waits_for_its_windows() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_with(dir.path(), RULES);
    for account in 1..=4 {
        bench.account(account, 1_000_000).await;
    }
    for card in 1..=3 {
        bench.authorise(from_device(&format!("t{card}"), card, 1_000, 1_000_000, "D-1")).await;
    }
    let source = crate::engine::Source { name: "rules.toml".into(), text: DEVICES.to_owned() };
    bench.engine.reload_rules(source).unwrap();
    assert_eq!(reason_of(&bench, from_device("t4", 4, 1_000, 1_000_001, "D-1")).await, "DEVICE_CARDS");
    bench.engine.close().unwrap();
    drop(bench);
    assert_eq!(verified(dir.path()), 4);
}

#[test]
fn what_a_file_says_of_keys_is_what_is_kept() {
    let rules = crate::rules::compile("devices.toml", DEVICES).unwrap();
    let kept: Vec<_> = rules.aggregates.iter().map(|kept| (kept.by, kept.measure)).collect();
    assert_eq!(kept[0].0, Keys::DEVICE);
    assert_eq!(kept[1], (Keys::MERCHANT.and(Keys::COUNTRY), Measure::Sum));
}

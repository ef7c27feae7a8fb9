//! Modes that are set while decisions go on, rules that decide for some, what of it outlives a restart, and rules that
//! change all the time.

use super::*;
use crate::{rules::Mode, types::reasons::Label};

const LIMIT: &str = "version = 1\n\
    [[rules]]\nid = 'limit'\nwhen = 'amount > 5'\nthen = 'decline'\nresponse_code = '61'\nreason = 'LIMIT'\n\
    [[rules]]\nid = 'watch'\nwhen = 'amount > 5'\nthen = 'decline'\nreason = 'WATCH'\nmode = 'shadow'\n";

fn reload(bench: &Bench, text: &str) -> Reloaded {
    bench.engine.reload_rules(Source { name: "rules.toml".into(), text: text.into() }).unwrap()
}

fn set(bench: &Bench, rule: &str, mode: Mode) -> Reloaded {
    bench.engine.set_rule_mode(rule, mode, ModeSetter::CALL).unwrap()
}

async fn code(bench: &Bench, name: &str, at_ms: i64) -> (String, Label) {
    let answer = bench.authorise(request(name, 1, 600, at_ms)).await.answer;
    (answer.response_code.to_string(), answer.rules_version)
}

fn kept(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("versions")).unwrap().count()
}

#[tokio::test]
async fn a_mode_that_was_set_outlives_the_file_and_the_restart_and_goes_with_its_rule() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_with(dir.path(), LIMIT);
    bench.account(1, 1_000_000).await;
    let file = bench.engine.rules().version.clone();
    assert_eq!(code(&bench, "t1", 1_000_000).await.0, "61");

    let held = set(&bench, "limit", Mode::Shadow);
    assert!(held.changed && *held.version != *file);
    assert_eq!(code(&bench, "t2", 1_000_001).await, ("00".into(), held.version.clone()));
    let again = set(&bench, "limit", Mode::Shadow);
    assert!(!again.changed && again.version == held.version, "said twice it is still the same");
    let unknown = bench.engine.set_rule_mode("limmit", Mode::Off, ModeSetter::CALL).unwrap_err();
    assert!(
        matches!(&unknown, SetModeError::NoSuchRule(Some(meant)) if meant.contains("`limit`")),
        "{unknown:?}"
    );

    // The file anew, as it was and changed: the rule stays where it was put, and the findings say so.
    assert!(!reload(&bench, LIMIT).changed);
    let changed =
        LIMIT.replace("amount > 5'\nthen = 'decline'\nresponse", "amount > 4'\nthen = 'decline'\nresponse");
    let reloaded = reload(&bench, &changed);
    assert!(reloaded.changed && reloaded.warnings[0].message.contains("held in shadow by SetRuleMode since"));
    assert_eq!(code(&bench, "t3", 1_000_002).await.0, "00");
    bench.engine.close().unwrap();
    drop(bench);

    let bench = open_with(dir.path(), &changed);
    assert_eq!(
        code(&bench, "t4", 1_000_003).await,
        ("00".into(), reloaded.version.clone()),
        "after a restart"
    );
    // What the file says is back to the file's own version, also in the answer of a decision that it made.
    let back = set(&bench, "limit", Mode::Live);
    assert_eq!(*back.version, *versions::version_of(&changed));
    assert_eq!(code(&bench, "t5", 1_000_004).await, ("61".into(), back.version.clone()));
    // A file that takes the mode over ends the holding.
    set(&bench, "limit", Mode::Shadow);
    let taken_over = changed.replace("reason = 'LIMIT'", "reason = 'LIMIT'\nmode = 'shadow'");
    assert_eq!(*reload(&bench, &taken_over).version, *versions::version_of(&taken_over));
    assert_eq!(*reload(&bench, &changed).version, *back.version);
    // A rule that goes takes its mode with it.
    set(&bench, "limit", Mode::Off);
    let without = changed.replace("'limit'", "'other'");
    assert_eq!(*reload(&bench, &without).version, *versions::version_of(&without));
    bench.engine.close().unwrap();
    drop(bench);
    verified(dir.path());
}

#[tokio::test]
async fn a_version_that_comes_back_takes_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_with(dir.path(), LIMIT);
    let other = format!("{LIMIT}# other\n");
    reload(&bench, &other);
    let (names, files) = (bench.engine.names.all().len(), kept(dir.path()));
    for _ in 0..25 {
        assert!(reload(&bench, LIMIT).changed && reload(&bench, &other).changed);
    }
    assert_eq!((bench.engine.names.all().len(), kept(dir.path())), (names, files));
    bench.engine.close().unwrap();
    drop(bench);
    let bench = open_with(dir.path(), &other);
    assert_eq!(bench.engine.names.all().len(), names, "nor does a restart");
    bench.engine.close().unwrap();
}

#[tokio::test]
async fn a_rule_that_is_live_for_some_and_suppressed_for_one_decides_again_as_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let partly = LIMIT.replace("reason = 'LIMIT'", "reason = 'LIMIT'\nlive_percent = 50")
        + "[[suppressions]]\nrule = 'limit'\ncard = 'C5'\nuntil = 1970-01-01T00:20:00Z\n";
    let bench = open_with(dir.path(), &partly);
    let mut declined = Vec::new();
    for card in 1..=40 {
        bench.account(card, 1_000_000).await;
        let name = format!("t{card}");
        let answer = bench.authorise(request(&name, card, 600, 1_000_000)).await.answer;
        let by = DecisionKey::Key(key(&name));
        let record = bench.engine.decision(Client::ANONYMOUS, by, &bench.lane).await.unwrap();
        let decided = answer.response_code.as_str() == "61";
        let (fired, shadow): (&[&str], &[&str]) =
            if decided { (&["limit"], &["watch"]) } else { (&[], &["limit", "watch"]) };
        assert_eq!((record.rules_fired, record.shadow_rules_fired), (owned(fired), owned(shadow)), "{card}");
        declined.extend(decided.then_some(card));
    }
    assert!((8..=32).contains(&declined.len()) && !declined.contains(&5), "{declined:?}");
    // The suppression has ended: its card is one of either kind, and stays it.
    let after = bench.authorise(request("late", 5, 600, 1_200_000)).await.answer.response_code;
    let all = LIMIT.replace("reason = 'LIMIT'", "reason = 'LIMIT'\nlive_percent = 51");
    reload(&bench, &all);
    for card in &declined {
        let answer = bench.authorise(request(&format!("again{card}"), *card, 600, 1_300_000)).await.answer;
        assert_eq!(answer.response_code.as_str(), "61", "a card left when the share was raised");
    }
    if after.as_str() == "61" {
        assert_eq!(bench.authorise(request("later", 5, 600, 1_300_000)).await.answer.response_code, after);
    }
    bench.engine.close().unwrap();
    drop(bench);
    verified(dir.path());
}

/// Reloads, about a hundred of them a second; `SAKER_RELOADS` has more.
const RELOADS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_hundred_reloads_a_second_under_load_drop_nothing_and_every_decision_names_what_made_it() {
    let reloads = std::env::var("SAKER_RELOADS").map_or(RELOADS, |more| more.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let bench = Arc::new(open_with(dir.path(), LIMIT));
    for card in 0..100 {
        bench.account(card, 100_000_000).await;
    }
    let texts = [
        LIMIT.to_owned(),
        LIMIT.replace("amount > 5'", "amount > 500'"),
        LIMIT.replace("reason = 'LIMIT'", "reason = 'LIMIT'\nlive_percent = 50"),
    ];
    texts.iter().for_each(|text| drop(reload(&bench, text)));
    let (names, files) = (bench.engine.names.all().len(), kept(dir.path()));

    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> =
        (0..2).map(|caller| tokio::spawn(decide_until(bench.clone(), caller, stop.clone()))).collect();
    let reloader = bench.clone();
    let reloading = std::thread::spawn(move || {
        let began = Instant::now();
        for number in 0..reloads {
            assert!(reload(&reloader, &texts[number % 3]).changed);
            std::thread::sleep(
                Duration::from_millis(10 * (number as u64 + 1)).saturating_sub(began.elapsed()),
            );
        }
        (texts, began.elapsed())
    });
    let (texts, took) = tokio::task::spawn_blocking(|| reloading.join().unwrap()).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let mut decided = [0_usize; 3];
    for caller in callers {
        for AuthAnswer { rules_version, response_code, .. } in caller.await.unwrap() {
            let made_by = texts.iter().position(|text| *versions::version_of(text) == *rules_version);
            let made_by = made_by.expect("a version that was never loaded");
            decided[made_by] += 1;
            let expected: &[&str] = [&["61"] as &[&str], &["00"], &["00", "61"]][made_by];
            assert!(expected.contains(&response_code.as_str()), "{response_code} by {made_by}");
        }
    }
    println!("{reloads} reloads in {took:?}, decisions by version {decided:?}");
    assert!(decided.iter().all(|count| *count > 0), "{decided:?}");
    assert_eq!((bench.engine.names.all().len(), kept(dir.path())), (names, files), "versions that come back");
    assert!(bench.engine.names.rules_since_a_day().len() <= 256);
    bench.engine.close().unwrap();
    drop(bench);
    assert_eq!(verified(dir.path()).counts["decided"], decided.iter().sum::<usize>() as u64);
}

/// A list's lines stand in the text, and a quote takes the next one with it, as programs before took it.
const SWALLOWING: &str = "version = 1\n[lists.shops]\nfile = 'shops.csv'\n\
    [[rules]]\nid = 'limit'\nwhen = 'amount > 5 && !(merchant.id in lists.shops)'\nthen = 'decline'\nreason = 'LIMIT'\n\
    #@ list shops.csv\n#| value\n#| M-1\n#| \"M-2\n#| M-3\"\n";

#[tokio::test]
async fn a_text_that_was_kept_decides_stops_and_verifies_but_nobody_can_send_a_quote_that_swallows_rows() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_with(dir.path(), LIMIT);
    bench.account(1, 1_000_000).await;
    let sent = Source { name: "content".into(), text: SWALLOWING.into() };
    let Err(ReloadError::Rules(findings)) = bench.engine.reload_rules(sent.clone()) else { panic!() };
    let places = findings.iter().map(|finding| (&*finding.file, finding.line, finding.column));
    assert_eq!(places.collect::<Vec<_>>(), [("shops.csv", 3, 1)], "{findings:?}");
    assert_eq!(code(&bench, "t1", 1_000_000).await.0, "61");

    // What a program before this one had put in force.
    let before = bench.engine.in_force.load_full();
    let rules = crate::rules::compile_kept("kept", SWALLOWING).unwrap();
    let kept = bench.engine.put_in_force(rules, &before).unwrap();
    assert_eq!(code(&bench, "t2", 1_000_001).await, ("59".into(), kept.version.clone()));
    assert!(set(&bench, "limit", Mode::Shadow).changed, "a stop is never refused for it");
    assert_eq!(code(&bench, "t3", 1_000_002).await.0, "00");
    let given = bench.engine.rules().source.to_string();
    let again = bench.engine.reload_rules(Source { text: given, ..sent.clone() });
    assert!(matches!(again, Err(ReloadError::Rules(_))), "what is sent is checked, wherever it comes from");
    bench.engine.close().unwrap();
    drop(bench);

    let verified = crate::engine::replay::verify(dir.path(), &mut |_| {}).unwrap();
    assert_eq!((verified.decisions.values().sum::<u64>(), verified.different), (3, 0), "{verified:?}");
    let journal = crate::engine::backtest::PastJournal::open(dir.path()).unwrap();
    journal.backtest(&journal.rules().unwrap(), None).unwrap();
    assert!(matches!(Engine::open(settings(dir.path(), SWALLOWING)), Err(OpenError::Rules(_))));
    let bench = open_with(dir.path(), LIMIT);
    assert_eq!(code(&bench, "t4", 1_000_003).await.0, "00", "the mode goes on");
    bench.engine.close().unwrap();
}

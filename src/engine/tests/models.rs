//! Models that are replaced while decisions go on, and those that must not be taken.

use super::*;
use crate::{
    features::catalog::model_feature,
    model::{self, model_text, overflowing_model_text},
    types::{
        auth::Degraded,
        challenge::Declining,
        codes::{AccountStatus, ReasonSource},
        lists::FraudLabel,
        reasons::Label,
    },
};

/// Declines everything.
fn strict() -> String {
    model_text(40.0, 500)
}

/// Declines nothing.
fn lenient() -> String {
    model_text(-40.0, 500)
}

fn source(text: &str) -> Option<Source> {
    Some(Source { name: "model.json".into(), text: text.into() })
}

fn open_scored(dir: &Path, model: Option<Source>) -> Bench {
    let settings = Settings { model, ..settings(dir, "version = 1\n") };
    let (engine, _) = Engine::open(settings).unwrap_or_else(|error| panic!("{error}"));
    Bench::of(engine)
}

fn reload(bench: &Bench, text: &str) -> Reloaded {
    bench.engine.reload_model(ModelRole::Champion, source(text)).unwrap_or_else(|error| panic!("{error}"))
}

/// Response code and model of one decision.
async fn decided(bench: &Bench, name: &str, at_ms: i64) -> (String, Label) {
    let answer = bench.authorise(request(name, 1, 600, at_ms)).await.answer;
    (answer.response_code.to_string(), answer.model_version)
}

fn version(text: &str) -> Label {
    Label::new(&versions::version_of(text))
}

#[tokio::test]
async fn a_model_comes_and_goes_by_calls_and_a_start_goes_by_what_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_scored(dir.path(), None);
    bench.account(1, 1_000_000).await;
    assert_eq!(decided(&bench, "t1", 1_000_000).await, ("00".into(), Label::Static("")));
    assert!(!bench.engine.reload_model(ModelRole::Champion, None).unwrap().changed, "there is none already");

    let loaded = reload(&bench, &strict());
    assert!(loaded.changed && loaded.version == version(&strict()));
    assert_eq!(decided(&bench, "t2", 1_000_001).await, ("59".into(), loaded.version.clone()));
    assert!(!reload(&bench, &strict()).changed);
    let found = bench.engine.find_model("", true).unwrap().unwrap();
    assert_eq!((found.version, found.content), (loaded.version.clone(), strict()));
    assert_eq!(found.model.unwrap().decline_threshold(), 500);

    reload(&bench, &lenient());
    assert_eq!(decided(&bench, "t3", 1_000_002).await, ("00".into(), version(&lenient())));
    let former = bench.engine.find_model(&version(&strict()), true).unwrap().unwrap();
    assert_eq!((former.version, former.content), (version(&strict()), strict()));
    assert!(bench.engine.find_model("0123456789ab", false).unwrap().is_none());

    assert!(bench.engine.reload_model(ModelRole::Champion, None).unwrap().changed);
    assert_eq!(decided(&bench, "t4", 1_000_003).await, ("00".into(), Label::Static("")));
    reload(&bench, &strict());
    let record = bench.engine.decision(Client::ANONYMOUS, DecisionKey::Key(key("t3")), &bench.lane).await;
    assert_eq!(record.unwrap().answer.model_version, version(&lenient()), "what decided then");
    let shown = bench.engine.metrics().render();
    for series in [
        "saker_model_reloads_total{model=\"model\",result=\"loaded\"} 4".to_owned(),
        "saker_model_reloads_total{model=\"model\",result=\"unchanged\"} 2".to_owned(),
        format!("saker_model_info{{version=\"{}\"}} 1", version(&strict())),
    ] {
        assert!(shown.contains(&series), "{series}");
    }
    bench.engine.close().unwrap();
    drop(bench);

    let bench = open_scored(dir.path(), source(&lenient()));
    assert_eq!(decided(&bench, "t5", 1_000_004).await, ("00".into(), version(&lenient())));
    bench.engine.close().unwrap();
    drop(bench);
    verified(dir.path());
}

#[tokio::test]
async fn a_model_that_cannot_be_used_is_refused_with_its_reason_and_the_one_before_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_scored(dir.path(), source(&strict()));
    bench.account(1, 1_000_000).await;
    let good = lenient();
    let feature = format!("\"{}\"", model_feature(0).name);
    let files = std::fs::read_dir(dir.path().join("versions")).unwrap().count();
    let taken = bench.engine.durable_position();
    for (bad, why) in [
        (good[..good.len() / 2].to_owned(), "this is no model file"),
        (good.replacen(&feature, "\"something_else\"", 1), "trained on other features"),
        (good.replacen("\"format\": 2", "\"format\": 9", 1), "has format 9"),
        (good.replacen("\"bias\": -40", "\"bias\": -41", 1), "golden row 0"),
        (good.replacen("\"seed\":1", "\"seed\":2", 1), "checksum"),
        ("x".repeat(crate::limits::MODEL_BYTES_MAX + 1), "at most"),
        ("not a model".to_owned(), "this is no model file"),
    ] {
        assert_ne!(bad, good, "{why}");
        let error = bench.engine.reload_model(ModelRole::Champion, source(&bad)).unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains(why), "{why}: {error}");
        assert_eq!(bench.engine.model_version(ModelRole::Champion), version(&strict()));
    }
    let missing =
        || ReloadError::Unreadable { path: "m.json".into(), error: std::io::ErrorKind::NotFound.into() };
    assert!(
        !bench
            .engine
            .reload_model_read(ModelRole::Champion, "m.json", || Err(missing()))
            .unwrap_err()
            .is_refusal()
    );
    assert_eq!(decided(&bench, "t1", 1_000_000).await, ("59".into(), version(&strict())));
    assert_eq!(std::fs::read_dir(dir.path().join("versions")).unwrap().count(), files, "nothing is kept");
    assert_eq!(bench.engine.durable_position(), taken + 1, "a decision, and nothing else");
    let shown = bench.engine.metrics().render();
    assert!(shown.contains("saker_model_reloads_total{model=\"model\",result=\"refused\"} 7"));
    assert!(shown.contains("saker_model_reloads_total{model=\"model\",result=\"failed\"} 1"));
    bench.engine.close().unwrap();
    drop(bench);
    verified(dir.path());
}

/// What the challenger made of a request: its version, score and who would decline.
async fn challenged(bench: &Bench, name: &str) -> Option<(Label, u16, Declining)> {
    let by = DecisionKey::Key(key(name));
    let record = bench.engine.decision(Client::ANONYMOUS, by, &bench.lane).await.unwrap();
    record.challenged.map(|(version, challenged)| (version, challenged.score, challenged.declining))
}

#[tokio::test]
async fn a_challenger_scores_in_shadow_decides_nothing_and_is_counted_by_the_labels_that_come() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_scored(dir.path(), source(&lenient()));
    bench.account(1, 1_000_000).await;
    decided(&bench, "t0", 1_000_000).await;
    assert_eq!(challenged(&bench, "t0").await, None);
    let engine = &bench.engine;
    let loaded = engine.reload_model(ModelRole::Challenger, source(&strict())).unwrap();
    assert!(loaded.changed && engine.model_version(ModelRole::Challenger) == version(&strict()));

    // Whatever it would do, the champion decides.
    for (name, at_ms) in [("t1", 1_000_001), ("t2", 1_000_002)] {
        assert_eq!(decided(&bench, name, at_ms).await, ("00".into(), version(&lenient())));
        let expected = Some((version(&strict()), 999, Declining::Challenger));
        assert_eq!(challenged(&bench, name).await, expected);
    }
    let bad = engine.reload_model(ModelRole::Challenger, source("{}")).unwrap_err();
    assert!(bad.is_refusal() && engine.model_version(ModelRole::Challenger) == version(&strict()));
    assert!(!engine.reload_model(ModelRole::Challenger, source(&strict())).unwrap().changed);
    engine.reload_model(ModelRole::Challenger, source(&lenient())).unwrap();
    decided(&bench, "t3", 1_000_003).await;
    assert_eq!(challenged(&bench, "t3").await, Some((version(&lenient()), 0, Declining::Neither)));

    // An unknown card reaches no model.
    bench.authorise(request("t4", 9, 600, 1_000_004)).await;
    assert_eq!(challenged(&bench, "t4").await, None);
    engine.reload_model(ModelRole::Challenger, None).unwrap();
    decided(&bench, "t5", 1_000_005).await;
    assert_eq!(challenged(&bench, "t5").await, None);

    for (own, of, label) in [
        ("l1", "t1", FraudLabel::Fraud),
        ("l2", "t1", FraudLabel::Fraud),
        ("l3", "t2", FraudLabel::Genuine),
        ("l4", "t3", FraudLabel::Fraud),
        ("l5", "t5", FraudLabel::Fraud),
    ] {
        bench.labelled(own, of, label).await;
    }
    let shown = engine.metrics().render();
    for series in [
        "saker_challenges_total{declines=\"challenger\"} 2",
        "saker_challenges_total{declines=\"neither\"} 1",
        "saker_challenges_total{declines=\"both\"} 0",
        "saker_challenger_score_count 3",
        "saker_challenger_score_sum 1998",
        "saker_challenge_labels_total{declines=\"challenger\",label=\"fraud\"} 1",
        "saker_challenge_labels_total{declines=\"challenger\",label=\"genuine\"} 1",
        "saker_challenge_labels_total{declines=\"neither\",label=\"fraud\"} 1",
        "saker_challenger_info{version=\"\"} 1",
    ] {
        assert!(shown.lines().any(|line| line == series), "{series}\n{shown}");
    }
    bench.engine.close().unwrap();
    drop(bench);
    assert_eq!(verified(dir.path()).counts["decided"], 6);
}

#[tokio::test]
async fn a_challenger_that_is_promoted_decides_and_can_be_sent_back() {
    let dir = tempfile::tempdir().unwrap();
    let configured = Settings { challenger: source(&strict()), ..settings(dir.path(), "version = 1\n") };
    let bench = Bench::of(Engine::open(configured).unwrap_or_else(|error| panic!("{error}")).0);
    bench.account(1, 1_000_000).await;
    // Beside no model at all.
    assert_eq!(decided(&bench, "t1", 1_000_000).await, ("00".into(), Label::Static("")));
    assert_eq!(challenged(&bench, "t1").await, Some((version(&strict()), 999, Declining::Challenger)));
    let reload = |role, text: &str| bench.engine.reload_model(role, source(text)).unwrap();
    reload(ModelRole::Champion, &lenient());
    decided(&bench, "t2", 1_000_001).await;

    let promoted = bench.engine.promote_challenger().unwrap();
    assert!(promoted.changed && promoted.version == version(&strict()));
    assert_eq!(decided(&bench, "t3", 1_000_002).await, ("59".into(), version(&strict())));
    assert_eq!(challenged(&bench, "t3").await, Some((version(&lenient()), 0, Declining::Champion)));
    bench.engine.snapshot_now().unwrap();
    assert!(bench.engine.promote_challenger().unwrap().changed);
    assert_eq!(decided(&bench, "t4", 1_000_003).await, ("00".into(), version(&lenient())));
    assert_eq!(challenged(&bench, "t4").await, Some((version(&strict()), 999, Declining::Challenger)));
    reload(ModelRole::Champion, &strict());
    assert!(!bench.engine.promote_challenger().unwrap().changed, "it is the same model");
    decided(&bench, "t5", 1_000_004).await;
    assert_eq!(challenged(&bench, "t5").await, Some((version(&strict()), 999, Declining::Both)));
    bench.engine.reload_model(ModelRole::Challenger, None).unwrap();
    let none = bench.engine.promote_challenger().unwrap_err();
    assert!(matches!(none, ReloadError::NoChallenger), "{none}");
    bench.engine.close().unwrap();
    drop(bench);

    // A start goes by what it is given, and reads what stands before and behind its snapshot.
    let bench = open_scored(dir.path(), source(&lenient()));
    assert_eq!(bench.engine.model_version(ModelRole::Challenger), Label::Static(""));
    assert_eq!(challenged(&bench, "t1").await, Some((version(&strict()), 999, Declining::Challenger)));
    assert_eq!(challenged(&bench, "t4").await, Some((version(&strict()), 999, Declining::Challenger)));
    bench.engine.close().unwrap();
    drop(bench);
    assert_eq!(verified(dir.path()).counts["decided"], 5);

    // Without the challenger's text nothing can be decided again, which is said at once.
    let kept = dir.path().join("versions").join(format!("model-{}.json", version(&strict())));
    std::fs::remove_file(kept).unwrap();
    let missing = replay::verify(dir.path(), &mut |_| {}).unwrap_err();
    assert!(missing.to_string().contains("model-"), "{missing}");
}

#[test]
fn a_challenger_that_cannot_be_used_keeps_an_engine_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let bad = Settings { challenger: source("{}"), ..settings(dir.path(), "version = 1\n") };
    let error = Engine::open(bad).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("model.json"), "{error}");
}

const LARGE: &str = "version = 1\n[[rules]]\nid = 'large'\nwhen = 'amount > 50'\nthen = 'decline'\nresponse_code = '61'\n\
                     reason = 'LARGE'\n";

/// With a model that declines everything, and a control share as the text says.
fn open_with_control(dir: &Path, control: &str) -> Bench {
    let config = Config::parse("f", &format!("[model]\ncontrol_share = {control}\n")).unwrap();
    let settings = Settings { model: source(&strict()), ..settings_with(dir, LARGE, config) };
    Bench::of(Engine::open(settings).unwrap_or_else(|error| panic!("{error}")).0)
}

/// Response code and reasons of the engine and the rules.
fn reasons_of(answer: &AuthAnswer) -> (String, Vec<String>) {
    let own = |code: &String| {
        ["MODEL_CONTROL", "MODEL_SCORE", "LARGE"].contains(&code.as_str())
            || code.ends_with("CREDIT")
            || code.ends_with("BLOCKED")
    };
    let codes = answer.reasons.iter().map(|reason| reason.code.to_string()).filter(own);
    (answer.response_code.to_string(), codes.collect())
}

/// Of 2,000 transaction ids those that are let through.
async fn let_through(bench: &Bench) -> Vec<usize> {
    bench.account(1, 1_000_000).await;
    let mut through = Vec::new();
    for number in 0..2_000 {
        let answer = bench.authorise(request(&format!("t{number}"), 1, 100, 1_000_000 + number as i64)).await;
        match reasons_of(&answer.answer) {
            (code, reasons) if code == "00" => {
                assert_eq!(reasons, ["MODEL_CONTROL"]);
                let first = &answer.answer.reasons[0];
                assert_eq!((&*first.code, first.source), ("MODEL_CONTROL", ReasonSource::Model));
                through.push(number);
            }
            declined => assert_eq!(declined, ("59".into(), vec!["MODEL_SCORE".into()])),
        }
    }
    through
}

#[tokio::test]
async fn a_control_share_lets_through_what_the_model_alone_would_decline_and_nothing_else() {
    const KEYED: &str = "0.05\ncontrol_key = \"00112233445566778899aabbccddeeff\"";
    let dir = tempfile::tempdir().unwrap();
    let bench = open_with_control(dir.path(), KEYED);
    let through = let_through(&bench).await;
    assert!((60..=140).contains(&through.len()), "{}", through.len());
    let shown = bench.engine.metrics().render();
    let counted = format!("saker_model_control_total{{outcome=\"let_through\"}} {}", through.len());
    assert!(shown.lines().any(|line| line == counted), "{counted}");
    bench.engine.close().unwrap();
    drop(bench);
    // A repeat says the same, also where nothing is let through any more; and deciding again agrees with either.
    let bench = open_with_control(dir.path(), "0");
    let taken = format!("t{}", through[0]);
    let again = bench.authorise(request(&taken, 1, 100, 1_000_000 + through[0] as i64)).await;
    assert!(again.replayed && reasons_of(&again.answer).0 == "00");
    let late = bench.authorise(request("late", 1, 100, 2_000_000)).await.answer;
    assert_eq!(late.response_code.as_str(), "59");
    bench.engine.close().unwrap();
    drop(bench);
    assert_eq!(replay::verify(dir.path(), &mut |_| {}).unwrap().different, 0);

    // Ids that would be let through, under the same key.
    let dir = tempfile::tempdir().unwrap();
    let bench = open_with_control(dir.path(), KEYED);
    for (number, limit_minor) in [(1, 1_000_000), (2, 10), (3, 1_000_000)] {
        bench.account(number, limit_minor).await;
    }
    let (account, status) = (AccountId::new("A3").unwrap(), AccountStatus::Blocked);
    let block = Maintenance::SetAccountStatus { key: key("block"), account, status };
    bench.engine.maintain(block, &bench.arrival()).await.unwrap();
    for (place, (card, minor, code, reasons)) in [
        (1, 100, "00", &["MODEL_CONTROL"] as &[&str]),
        (1, 5_100, "61", &["LARGE", "MODEL_SCORE"]),
        (2, 100, "51", &["INSUFFICIENT_CREDIT", "MODEL_CONTROL"]),
        (3, 100, "62", &["ACCOUNT_BLOCKED", "MODEL_SCORE"]),
    ]
    .into_iter()
    .enumerate()
    {
        let request = request(&format!("t{}", through[place]), card, minor, 1_000_000);
        let answer = bench.authorise(request).await.answer;
        assert_eq!(reasons_of(&answer), (code.to_owned(), owned(reasons)), "{place}");
    }
    let shown = bench.engine.metrics().render();
    for (outcome, count) in [("let_through", 1), ("declined", 1)] {
        let counted = format!("saker_model_control_total{{outcome=\"{outcome}\"}} {count}");
        assert!(shown.lines().any(|line| line == counted), "{counted}");
    }
    bench.engine.close().unwrap();
    drop(bench);
    verified(dir.path());
}

#[tokio::test]
async fn each_data_directory_lets_others_through_and_keeps_to_them() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (open_with_control(one.path(), "0.05"), open_with_control(other.path(), "0.05"));
    let (of_one, of_other) = (let_through(&first).await, let_through(&second).await);
    assert_ne!(of_one, of_other, "who knows the program must not know the ids");
    first.engine.close().unwrap();
    drop(first);
    // Other ids after a restart would change decisions without a change of settings.
    let configs = || {
        let files = std::fs::read_dir(one.path().join("versions")).unwrap();
        files
            .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("config-"))
            .count()
    };
    assert_eq!(configs(), 1);
    let first = open_with_control(one.path(), "0.05");
    assert_eq!(configs(), 1);
    first.engine.close().unwrap();
    second.engine.close().unwrap();
    drop((first, second));
    verified(one.path());
}

#[tokio::test]
async fn a_model_that_has_no_score_for_a_request_leaves_the_rules_to_decide_and_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { model: source(&overflowing_model_text()), ..settings(dir.path(), LARGE) };
    let bench = Bench::of(Engine::open(settings).unwrap_or_else(|error| panic!("{error}")).0);
    bench.account(1, 1_000_000).await;
    let degraded = |bench: &Bench| {
        let shown = bench.engine.metrics().render();
        shown.lines().any(|line| line == "saker_degraded{part=\"model\"} 1")
    };
    assert!(!degraded(&bench), "it has yet to fail");
    for (name, minor, code) in [("t1", 100, "00"), ("t2", 5_100, "61")] {
        let answer = bench.authorise(request(name, 1, minor, 1_000_000)).await.answer;
        assert_eq!((answer.response_code.as_str(), answer.degraded), (code, Degraded::MODEL), "{name}");
        assert_eq!((answer.score, answer.margin), (0, None));
    }
    assert!(degraded(&bench));
    // As a challenger it has no say either.
    reload(&bench, &lenient());
    bench.engine.reload_model(ModelRole::Challenger, source(&overflowing_model_text())).unwrap();
    let answer = bench.authorise(request("t3", 1, 100, 1_000_001)).await.answer;
    assert_eq!((answer.degraded, answer.margin.is_some()), (Degraded::NONE, true));
    assert_eq!(challenged(&bench, "t3").await, None);
    assert!(!degraded(&bench), "another model scores");
    // No model at all is chosen.
    bench.engine.reload_model(ModelRole::Champion, None).unwrap();
    let answer = bench.authorise(request("t4", 1, 100, 1_000_002)).await.answer;
    assert_eq!((answer.degraded, answer.model_version), (Degraded::NONE, Label::Static("")));
    assert!(!degraded(&bench));
    bench.engine.close().unwrap();
    drop(bench);
    verified(dir.path());
}

/// Reloads, about a hundred of them a second.
const RELOADS: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn models_replaced_under_load_drop_nothing_and_every_record_comes_out_the_same_by_the_one_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let texts = [strict(), lenient(), model::SHIPPED.to_owned()];
    let bench = Arc::new(open_scored(dir.path(), source(&texts[2])));
    for card in 0..100 {
        bench.account(card, 100_000_000).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> =
        (0..2).map(|caller| tokio::spawn(decide_until(bench.clone(), caller, stop.clone()))).collect();
    let (reloader, reloaded) = (bench.clone(), texts.clone());
    let reloading = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        for number in 0..RELOADS {
            assert!(reload(&reloader, &reloaded[number % 3]).changed);
            let due = Duration::from_millis(10 * (number as u64 + 1));
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    });
    reloading.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let mut made = [0_usize; 3];
    for caller in callers {
        for AuthAnswer { model_version, response_code, .. } in caller.await.unwrap() {
            let by = texts.iter().position(|text| version(text) == model_version);
            let by = by.expect("a model that never scored");
            made[by] += 1;
            let expected: &[&str] = [&["59"] as &[&str], &["00"], &["00", "59"]][by];
            assert!(expected.contains(&response_code.as_str()), "{response_code} by {by}");
        }
    }
    assert!(made.iter().all(|count| *count > 0), "{made:?}");
    println!("{RELOADS} reloads, decisions by model {made:?}");
    bench.engine.close().unwrap();
    drop(bench);
    assert_eq!(verified(dir.path()).counts["decided"], made.iter().sum::<usize>() as u64);
}

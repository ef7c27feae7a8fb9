//! Models that are replaced while decisions go on, and those that must not be taken.

use super::*;
use crate::{
    features::catalog::model_feature,
    model::{self, model_text},
    types::reasons::Label,
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
    bench.engine.reload_model(source(text)).unwrap_or_else(|error| panic!("{error}"))
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
    assert!(!bench.engine.reload_model(None).unwrap().changed, "there is none already");

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

    assert!(bench.engine.reload_model(None).unwrap().changed);
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
        let error = bench.engine.reload_model(source(&bad)).unwrap_err();
        assert!(error.is_of_the_text() && error.to_string().contains(why), "{why}: {error}");
        assert_eq!(bench.engine.model_version(), version(&strict()));
    }
    let missing =
        || ReloadError::Unreadable { path: "m.json".into(), error: std::io::ErrorKind::NotFound.into() };
    assert!(!bench.engine.reload_model_read(|| Err(missing())).unwrap_err().is_of_the_text());
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

//! The drift of what is served from what a model was trained on, on simulated worlds; and calibration by labels.

use std::collections::BTreeMap;

use super::*;
use crate::{
    authorise::{Seen, Watch},
    engine::backtest::Backtest,
    features::catalog::MODEL_FEATURES,
    model::{
        model_text,
        train::{self, Example, Examples, train},
    },
    sim::{self, DEFAULT_START, World},
    types::lists::FraudLabel,
};

const NO_RULES: &str = "version = 1\n";

fn world(seed: u64) -> World {
    sim::generate(sim::Settings { accounts: 400, days: 14, seed, start: DEFAULT_START })
}

/// The row of the decision made last.
struct Row([f32; MODEL_FEATURES]);

impl Watch for Row {
    fn decided(&mut self, seen: &Seen<'_>) {
        self.0 = *seen.vector;
    }
}

/// A small model of a world, on the rows that the serving code makes of it.
fn trained_on(world: World) -> String {
    let rules = Source { name: "rules.toml".into(), text: NO_RULES.into() };
    let mut backtest = Backtest::new(&rules, None).unwrap();
    for (number, change) in world.accounts.into_iter().enumerate() {
        backtest.upsert(key(&format!("open-{number}")), change).unwrap();
    }
    let (mut examples, mut row) = (Examples::default(), Row([f32::NAN; MODEL_FEATURES]));
    for transaction in &world.transactions {
        backtest.decide(&transaction.request, false, &mut row).unwrap();
        let account = id_hash(transaction.account.as_str()) as u32;
        let time_ms = transaction.request.transaction_time.unwrap().0;
        examples.push(Example { row: &row.0, is_fraud: transaction.is_fraud, account, time_ms });
    }
    let settings = train::Settings { trees: 8, ..train::Settings::default() };
    train(&examples, None, settings, &mut |_| {}).unwrap().champion.text
}

/// The stability indices after a world was served by this model, by feature and of `score`.
async fn served(model: &str, world: World, shift: impl Fn(&mut AuthRequest)) -> BTreeMap<String, f64> {
    let dir = tempfile::tempdir().unwrap();
    let source = Source { name: "model.json".into(), text: model.into() };
    let (engine, _) =
        Engine::open(Settings { model: Some(source), ..settings(dir.path(), NO_RULES) }).unwrap();
    let bench = Bench::of(engine);
    for (number, change) in world.accounts.into_iter().enumerate() {
        let key = key(&format!("open-{number}"));
        bench.engine.maintain(Maintenance::Upsert { key, change }, &bench.arrival()).await.unwrap();
    }
    let rows = world.transactions.len();
    for some in world.transactions.chunks(64) {
        let asked = some.iter().map(|transaction| {
            let mut request = transaction.request.clone();
            shift(&mut request);
            bench.engine.authorise(request, &bench.arrival())
        });
        for pending in asked.collect::<Vec<_>>() {
            pending.await.unwrap();
        }
    }
    let text = bench.engine.metrics().render();
    bench.engine.close().unwrap();
    assert!(text.contains(&format!("\nsaker_model_drift_rows {rows}\n")), "every decision is counted");
    let index = |line: &str| {
        let (name, index) = line.rsplit_once(' ')?;
        let name =
            name.strip_prefix("saker_model_drift_psi{feature=\"").map(|rest| rest.trim_end_matches("\"}"));
        Some((
            name.or(line.starts_with("saker_model_score_psi ").then_some("score"))?.to_owned(),
            index.parse().ok()?,
        ))
    };
    let indices: BTreeMap<String, f64> = text.lines().filter_map(index).collect();
    assert_eq!(indices.len(), MODEL_FEATURES + 1);
    indices
}

/// Those above a bound.
fn above(indices: &BTreeMap<String, f64>, bound: f64) -> Vec<&str> {
    indices.iter().filter(|(_, index)| **index > bound).map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn another_world_of_the_same_kind_does_not_drift_and_a_shifted_one_does_where_it_was_shifted() {
    let model = trained_on(world(1));
    let same = served(&model, world(2), |_| {}).await;
    eprintln!("unshifted: {same:.3?}");
    assert_eq!(above(&same, 0.1), [""; 0]);

    let dear = served(&model, world(2), |request| {
        for money in request.amount.iter_mut().chain(&mut request.billing_amount) {
            money.minor *= 3;
        }
    })
    .await;
    eprintln!("amounts tripled: {dear:.3?}");
    for feature in ["amount_major", "card.last_amount_major", "card.sum_24h_major"] {
        assert!(dear[feature] > 0.25, "{feature}: {}", dear[feature]);
    }
    for feature in ["hour_utc", "is_ecommerce", "distance_from_home_km", "card.count_24h"] {
        assert!(dear[feature] < 0.1, "{feature} is what it was: {}", dear[feature]);
    }

    // A day goes by in six hours, from ten at night on: the order stays.
    let night = served(&model, world(2), |request| {
        request.transaction_time = request.transaction_time.map(|Timestamp(ms)| {
            let (day, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
            Timestamp(day * DAY_MS - DAY_MS / 12 + of_day / 4)
        });
    })
    .await;
    eprintln!("at night: {night:.3?}");
    for feature in ["is_night", "hour_utc", "card.night_count_24h", "score"] {
        assert!(night[feature] > 0.25, "{feature}: {}", night[feature]);
    }
    assert!(night["amount_major"] < 0.1 && night["is_ecommerce"] < 0.1);

    let on_the_web = served(&model, world(2), |request| {
        request.channel = Some(Channel::Ecommerce);
        request.merchant.place = None;
    })
    .await;
    eprintln!("on the web: {on_the_web:.3?}");
    for feature in ["is_ecommerce", "distance_from_home_km"] {
        assert!(on_the_web[feature] > 0.25, "{feature}: {}", on_the_web[feature]);
    }
    assert!(on_the_web["hour_utc"] < 0.1 && on_the_web["amount_major"] < 0.1);
}

#[tokio::test]
async fn a_label_counts_once_for_the_model_that_decided_and_not_for_the_one_that_came_after() {
    let dir = tempfile::tempdir().unwrap();
    let source = |bias| Some(Source { name: "model.json".into(), text: model_text(bias, 999) });
    let (engine, _) =
        Engine::open(Settings { model: source(40.0), ..settings(dir.path(), NO_RULES) }).unwrap();
    let bench = Bench::of(engine);
    bench.account(1, 1_000_000).await;
    for number in 0..4 {
        bench.authorise(request(&format!("t{number}"), 1, 600, 1_000_000 + number)).await;
    }
    // An unknown card reaches no model.
    bench.authorise(request("nobody", 9, 600, 1_000_009)).await;
    let mut told = 0;
    let mut said = async |of: &str, label| {
        told += 1;
        bench.labelled(&format!("l{told}"), of, label).await;
        let text = bench.engine.metrics().render();
        ["labelled", "observed", "expected"].map(|what| {
            let series = format!("saker_model_calibration_{what}_total{{band=\"900-999\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse::<f64>().unwrap()
        })
    };
    assert_eq!(said("t0", FraudLabel::Fraud).await, [1.0, 1.0, 1.0]);
    assert_eq!(said("t0", FraudLabel::Fraud).await, [1.0, 1.0, 1.0], "said again");
    assert_eq!(said("t0", FraudLabel::Genuine).await, [1.0, 1.0, 1.0], "taken back");
    assert_eq!(said("t1", FraudLabel::Genuine).await, [2.0, 1.0, 2.0]);
    assert_eq!(said("t1", FraudLabel::Fraud).await, [2.0, 2.0, 2.0], "told of late");
    assert_eq!(said("nobody", FraudLabel::Fraud).await, [2.0, 2.0, 2.0]);
    let loaded = bench.engine.reload_model(ModelRole::Champion, source(-40.0)).unwrap();
    assert!(loaded.changed);
    assert_eq!(said("t2", FraudLabel::Fraud).await, [2.0, 2.0, 2.0], "of a model that scores no more");
    bench.engine.close().unwrap();
}

use std::collections::HashMap;

use super::*;
use super::{periods::Known, rows::Replay};
use crate::{
    cli::{model, past, simulate},
    config::Config,
    engine::{Arrival, Client, Engine, Settings as Opened, Source, TimeSource},
    features::catalog::{MODEL_FEATURES, model_index},
    history::{Rows, Selection, Transaction},
    observe::Metrics,
    sim::World,
    types::{outcome::Maintenance, time::DAY_MS},
};

/// As `saker train` takes it where nothing else is asked for.
const LABEL_DELAY_MS: i64 = LABEL_DELAY_DAYS as i64 * DAY_MS;

fn world(directory: &Path) -> (PathBuf, PathBuf) {
    let out = directory.join("world");
    let args = simulate::Args {
        accounts: 400,
        days: 45,
        seed: 21,
        start: crate::sim::DEFAULT_START,
        out: out.clone(),
        format: Format::Json,
    };
    simulate::run(args).unwrap();
    (out.join("transactions.csv"), out.join("accounts.csv"))
}

fn args(transactions: PathBuf, accounts: Option<PathBuf>, out: PathBuf) -> Args {
    Args {
        transactions: Some(transactions),
        accounts,
        journal: None,
        config: None,
        out,
        features: None,
        train_from: None,
        test_from: Timestamp::parse("2026-02-01T00:00:00Z"),
        label_delay: 3,
        default_limit: "10000.00".to_owned(),
        trees: 10,
        false_positive_rate: 0.003,
        false_positive_cost: None,
        seed: 1,
        skip_bad_rows: 0,
        format: Format::Json,
    }
}

#[test]
fn a_model_of_a_simulated_world_finds_fraud_in_the_days_it_was_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let (transactions, accounts) = world(directory.path());
    let out = directory.path().join("model.json");
    let features = directory.path().join("rows.csv");
    let wanted =
        Args { features: Some(features.clone()), ..args(transactions.clone(), Some(accounts), out.clone()) };
    run(wanted).unwrap();
    let text = fs::read_to_string(&out).unwrap();
    let model = Model::load(&text).unwrap();
    let test = model.training().test.unwrap();
    assert!(test.auc > 0.9 && test.average_precision > 0.3, "{test:?}");
    the_written_rows_explain_the_model(&text, &features);
    let card = fs::read_to_string(out.with_extension("md")).unwrap();
    assert!(weights(&card)[0] > 0.0 && weights(&card).is_sorted_by(|a, b| a >= b), "{card}");

    let without_accounts = directory.path().join("other.json");
    run(args(transactions, None, without_accounts.clone())).unwrap();
    assert_ne!(fs::read_to_string(&without_accounts).unwrap(), text);
}

/// The column of weights of a card.
fn weights(card: &str) -> Vec<f64> {
    let table = card.split("| feature | mean absolute SHAP |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|line| line.split('|').nth(2).unwrap().trim().parse().unwrap()).collect()
}

fn the_written_rows_explain_the_model(text: &str, features: &Path) {
    let explainer = Explainer::load(text).unwrap();
    for number in [1, 7, 100] {
        let row = model::explain::row(features, model::explain::Which::Number(number)).unwrap();
        let explained = model::explain::explained(&explainer, &row);
        let values = explained["features"].as_array().unwrap().iter();
        let values: Vec<f64> = values.map(|feature| feature["shap"].as_f64().unwrap()).collect();
        assert!(!values.is_empty() && values.is_sorted_by(|a, b| a.abs() >= b.abs()), "{explained}");
        let sum = explained["expected"].as_f64().unwrap() + values.iter().sum::<f64>();
        assert!((sum - explained["margin"].as_f64().unwrap()).abs() < 1e-6, "{explained}");
    }
}

/// The model that ships, on demo-sized worlds with cold windows, none of them the one it was trained on.
#[test]
fn the_shipped_model_finds_fraud_in_worlds_it_has_never_seen() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/models/default.json")).unwrap();
    let model = Model::load(&text).unwrap();
    for seed in [1, 2, 3] {
        let settings =
            crate::sim::Settings { accounts: 400, days: 25, seed, start: crate::sim::DEFAULT_START };
        let world = crate::sim::generate(settings);
        let mut replay = Replay::new(&Config::default(), world.accounts, LABEL_DELAY_MS).unwrap();
        let mut rows: HashMap<&str, (u32, u32)> = HashMap::new();
        for transaction in world.transactions {
            let kind = transaction.fraud_kind.map_or("genuine", |kind| kind.name());
            let row = replay.take(&transaction.into()).unwrap();
            let (all, declined) = rows.entry(kind).or_default();
            *all += 1;
            *declined += u32::from(model.score(&row).score >= model.decline_threshold());
        }
        let (genuine, alarms) = rows.remove("genuine").unwrap();
        let (frauds, caught) = rows.values().fold((0, 0), |(a, c), (all, caught)| (a + all, c + caught));
        eprintln!("seed {seed}: {caught} of {frauds} frauds, {alarms} of {genuine} genuine; {rows:?}");
        assert!(f64::from(caught) > 0.5 * f64::from(frauds));
        assert!(f64::from(alarms) < 0.006 * f64::from(genuine));
    }
}

/// Writes rows to a file and plays them through.
fn replayed(rows: &str) -> (Replay, Vec<Option<[f32; MODEL_FEATURES]>>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("t.csv");
    let header = "transaction_id,timestamp,account_id,amount,currency,merchant_id,outcome\n";
    fs::write(&file, format!("{header}{rows}")).unwrap();
    let survey = past::survey(&file, Selection::default()).unwrap();
    let openings = survey.openings(DEFAULT_LIMIT).unwrap();
    let mut replay = Replay::new(&past::config(None, None).unwrap(), openings, LABEL_DELAY_MS).unwrap();
    let rows = survey.replay().unwrap().map(|placed| replay.take(&placed.unwrap().transaction)).collect();
    (replay, rows)
}

fn feature(name: &str) -> usize {
    model_index(name).unwrap()
}

#[test]
fn a_repeated_id_is_no_second_attempt_and_a_decline_of_history_counts_as_one() {
    let (replay, rows) = replayed(
        "T1,2026-01-01T00:00:00Z,A,5,USD,M,declined\n\
         T1,2026-01-01T00:00:01Z,A,5,USD,M,declined\n\
         T2,2026-01-01T00:00:02Z,A,5,USD,M,\n\
         T3,2026-01-01T00:00:03Z,B,500,JPY,M,\n",
    );
    assert_eq!(replay.left_out.repeated, 1);
    assert!(rows[1].is_none());
    let last = rows[2].unwrap();
    assert_eq!(last[feature("card.count_1h")], 1.0);
    assert_eq!(last[feature("card.declines_1h")], 1.0);
    assert_eq!(rows[3].unwrap()[feature("card.count_1h")], 0.0);
}

#[test]
fn no_label_from_after_the_test_began_is_learned_from() {
    let time = |text: &str| Timestamp::parse(text).unwrap();
    let mut args = args(PathBuf::new(), None, PathBuf::new());
    args.train_from = Some(time("2026-01-05T00:00:00Z"));
    args.test_from = Some(time("2026-01-20T00:00:00Z"));
    let mut periods = Periods::new(&args);
    let header = "transaction_id,timestamp,account_id,amount,currency,merchant_id,is_fraud,labelled_at\n";
    for row in [
        "warm,2026-01-04T23:59:59Z,A,5,USD,M,0,",
        "used,2026-01-05T00:00:00Z,A,5,USD,M,0,",
        "used,2026-01-17T00:00:00Z,A,5,USD,M,1,2026-01-18T00:00:00Z",
        "late,2026-01-17T00:00:01Z,A,5,USD,M,1,2026-01-18T00:00:00Z",
        "late,2026-01-10T00:00:00Z,A,5,USD,M,1,2026-01-20T00:00:01Z",
        "open,2026-01-10T00:00:00Z,A,5,USD,M,,",
        "test,2026-01-20T00:00:00Z,A,5,USD,M,1,2026-03-01T00:00:00Z",
    ] {
        let file = std::io::Cursor::new(format!("{header}{row}\n").into_bytes());
        let transaction = Rows::<Transaction>::new(row.to_owned(), file, 0).unwrap().next().unwrap().unwrap();
        let label = transaction.label.map(|label| (label.is_fraud, label.labelled_at));
        let time = transaction.request.transaction_time.unwrap();
        periods.take(&Known { account: "A", time, label }, &[0.0; MODEL_FEATURES]);
    }
    assert_eq!((periods.training.len(), periods.training.frauds()), (2, 1));
    assert_eq!((periods.test.len(), periods.unused, periods.unlabelled), (1, 2, 1));
}

#[test]
fn an_upside_down_period_is_refused() {
    let mut args = args("none.csv".into(), None, "none.json".into());
    args.train_from = args.test_from;
    assert!(run(args).unwrap_err().to_string().contains("is not before --test-from"));
}

/// Serves some transactions of a world from this directory, with limits that are made up or not.
async fn serve(data: &Path, world: &World, part: std::ops::Range<usize>, assumed_limits: bool) {
    let mut config = Config::default();
    config.accounts.assumed_limits = assumed_limits;
    config.journal.segment_bytes = 1024 * 1024;
    let opened = Opened {
        data_dir: data.to_owned(),
        rules: Source { name: "no rules".to_owned(), text: "version = 1\n".to_owned() },
        model: None,
        challenger: None,
        config,
        time: TimeSource::Transactions,
        metrics: Metrics::new(1),
    };
    let (engine, _) = Engine::open(opened).unwrap();
    let lane = engine.lane();
    tokio::spawn(lane.clone().run());
    let arrival = Arrival { client: Client::ANONYMOUS, deadline: None, lane };
    for (place, change) in world.accounts.iter().cloned().enumerate() {
        let key = past::opening_key(place);
        engine.maintain(Maintenance::Upsert { key, change }, &arrival).await.unwrap();
    }
    for transaction in &world.transactions[part] {
        engine.authorise(transaction.request.clone(), &arrival).await.unwrap();
    }
    engine.close().unwrap();
}

#[tokio::test]
async fn a_model_does_not_learn_the_use_of_credit_that_nobody_will_serve_it() {
    let directory = tempfile::tempdir().unwrap();
    let settings = crate::sim::Settings { accounts: 20, days: 3, seed: 3, start: crate::sim::DEFAULT_START };
    let world = crate::sim::generate(settings);
    let (data, table) = (directory.path().join("data"), directory.path().join("rows.csv"));
    // By row, whether it has the use of credit.
    let learned = || {
        let args = Args { journal: Some(data.clone()), ..args(PathBuf::new(), None, PathBuf::new()) };
        let mut rows =
            rows::Rows { periods: Periods::new(&args), table: Some(Table::create(&table).unwrap()) };
        rows::of_journal(&data, &args, &mut rows).unwrap();
        rows.table.unwrap().finish().unwrap();
        let mut written = csv::Reader::from_path(&table).unwrap();
        let column =
            written.headers().unwrap().iter().position(|name| name == "account.utilisation").unwrap();
        written.records().map(|row| !row.unwrap()[column].is_empty()).collect::<Vec<bool>>()
    };
    serve(&data, &world, 0..10, false).await;
    assert_eq!(learned(), [true; 10], "as it was served");
    // A start is enough: no decision need have been made under the new settings.
    serve(&data, &world, 10..10, true).await;
    assert_eq!(learned(), [false; 10], "it is served no more");
    serve(&data, &world, 10..15, true).await;
    assert_eq!(learned(), [false; 15]);
    serve(&data, &world, 15..20, false).await;
    assert_eq!(learned(), [[true; 10].as_slice(), &[false; 5], &[true; 5]].concat(), "as each was served");
}

//! The loop that makes the score better: fraud of a pattern that no model here was trained on gets through, is reported by
//! `LabelTransaction` while the engine runs, is learned from its journal, and is found by the model that a call puts in
//! force. The real program over a real connection, on the shipped rules and the shipped model; the shipped model goes on
//! as the challenger, so that both are measured on the very same requests.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use saker::proto::{
    self, AuthoriseBatchRequest, AuthoriseItem, AuthoriseRequest, Kind, Money,
    authorisation_client::AuthorisationClient, authorise_item_result::Result as ItemResult,
    decisions_client::DecisionsClient, get_decision_request::By, risk_client::RiskClient,
};
use tonic::transport::Endpoint;

type Row = BTreeMap<String, String>;

/// The world, the day from which thieves tap, and the day on which their taps are reported and learned from.
const WORLD: [&str; 6] = ["--accounts", "300", "--days", "45", "--seed", "77"];
const START: &str = "2026-01-01T00:00:00Z";
const THIEVES_FROM_DAY: i64 = 16;
const LEARNED_ON_DAY: i64 = 34;
const DAYS: i64 = 45;
const VICTIMS_A_DAY: usize = 5;
const BATCH: usize = 256;

/// Stopped when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn saker(arguments: &[&str]) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_saker")).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "saker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn second_of(row: &Row) -> i64 {
    row["timestamp"].parse::<jiff::Timestamp>().unwrap().as_second()
}

fn is_new_pattern(row: &Row) -> bool {
    row["transaction_id"].starts_with("TAP")
}

/// A simulated world, and thieves who tap phones with stolen cards in buses: three times within two hours by day, where
/// the cardholder pays a fare at some time, for more than a fare. Nothing of it is at night, large or from a device that
/// is new to the cardholder, and hardly any of it is far from home.
fn world(directory: &Path) -> (Vec<String>, Vec<Row>) {
    let out = directory.join("world");
    saker(&[&["simulate"], &WORLD[..], &["--out", text(&out)]].concat());
    let mut file = csv::Reader::from_path(out.join("transactions.csv")).unwrap();
    let columns: Vec<String> = file.headers().unwrap().iter().map(str::to_owned).collect();
    let mut rows: Vec<Row> = file.deserialize().map(Result::unwrap).collect();
    let start = START.parse::<jiff::Timestamp>().unwrap().as_second();
    let fares: Vec<Row> = rows
        .iter()
        .filter(|row| row["mcc"] == "4111" && row["currency"] == "USD" && row["billing_amount"].is_empty())
        .cloned()
        .collect();
    let mut taps = Vec::new();
    for day in THIEVES_FROM_DAY..DAYS {
        for victim in 0..VICTIMS_A_DAY {
            // Two primes that are no divisor of the count: other fares every day, though some cards pay several of them,
            // and the same in every run.
            let fare = &fares[(day as usize * 7_919 + victim * 104_729) % fares.len()];
            for tap in 0..3 {
                let second = start + day * 86_400 + 9 * 3_600 + victim as i64 * 4_000 + tap * 2_400;
                let mut row = fare.clone();
                for (column, value) in [
                    ("transaction_id", format!("TAP-{day}-{victim}-{tap}")),
                    ("timestamp", jiff::Timestamp::from_second(second).unwrap().to_string()),
                    ("amount", format!("{}.{}0", 18 + (day + tap) % 9, (victim + tap as usize) % 10)),
                    ("entry_mode", "CONTACTLESS".to_owned()),
                    ("is_fraud", "1".to_owned()),
                    ("labelled_at", String::new()),
                ] {
                    row.insert(column.to_owned(), value);
                }
                taps.push(row);
            }
        }
    }
    rows.extend(taps);
    rows.sort_by_key(second_of);
    (columns, rows)
}

fn request(row: &Row) -> AuthoriseRequest {
    let number = |column: &str| row[column].parse::<f64>().ok();
    // With decimals or, as yen have it, without.
    let minor = |amount: &str| amount.replace('.', "").parse().unwrap();
    let word = |prefix: &str, column: &str| format!("{prefix}_{}", row[column].to_uppercase());
    AuthoriseRequest {
        transaction_id: row["transaction_id"].clone(),
        kind: Kind::from_str_name(&word("KIND", "kind")).unwrap_or(Kind::Purchase).into(),
        card_token: row["card_id"].clone(),
        amount: Some(Money { currency_code: row["currency"].clone(), minor_units: minor(&row["amount"]) }),
        transaction_time: Some(prost_types::Timestamp { seconds: second_of(row), nanos: 0 }),
        merchant: Some(proto::Merchant {
            merchant_id: row["merchant_id"].clone(),
            terminal_id: row["terminal_id"].clone(),
            category_code: row["mcc"].clone(),
            country_code: row["country"].clone(),
            latitude: number("merchant_lat"),
            longitude: number("merchant_lon"),
            ..Default::default()
        }),
        channel: proto::Channel::from_str_name(&word("CHANNEL", "channel")).unwrap_or_default().into(),
        entry_mode: proto::EntryMode::from_str_name(&word("ENTRY_MODE", "entry_mode"))
            .unwrap_or_default()
            .into(),
        device: Some(proto::Device {
            device_id: row["device_id"].clone(),
            ip_address: row["ip_address"].clone(),
        }),
        ..Default::default()
    }
}

/// How often the model in force, and the shipped one beside it, would decline.
#[derive(Clone, Copy, Default, Debug)]
struct Declined {
    of: u32,
    by_new: u32,
    by_shipped: u32,
}

#[tokio::test]
async fn fraud_of_a_new_pattern_is_found_once_it_was_reported_and_learned_from() {
    let directory = tempfile::tempdir().unwrap();
    let (columns, rows) = world(directory.path());
    let learned_from = START.parse::<jiff::Timestamp>().unwrap().as_second() + LEARNED_ON_DAY * 86_400;
    // What is billed in another currency is left to the engine's other tests.
    let rows: Vec<Row> = rows.into_iter().filter(|row| row["billing_amount"].is_empty()).collect();
    let (first, second): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|row| second_of(row) < learned_from);
    let [history, data, retrained] = ["first.csv", "data", "m.json"].map(|name| directory.path().join(name));
    let mut file = csv::Writer::from_path(&history).unwrap();
    file.write_record(&columns).unwrap();
    for row in &first {
        file.write_record(columns.iter().map(|column| &row[column])).unwrap();
    }
    file.flush().unwrap();
    drop(file);

    // The engine decides the first weeks at their own times, and goes on serving.
    let mut child = Command::new(env!("CARGO_BIN_EXE_saker"))
        .args(["demo", "--transactions", text(&history), "--data", text(&data)])
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let _running = Running(child);
    let serving = lines.find(|line| line.starts_with("serving until")).expect("it goes on serving");
    let address = serving.split("gRPC ").nth(1).unwrap().split(',').next().unwrap();
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let mut risk = RiskClient::new(channel.clone());

    // Cardholders complain; of everything else nobody says anything.
    for row in first.iter().filter(|row| row["is_fraud"] == "1") {
        let labelling = proto::LabelTransactionRequest {
            request_id: format!("label {}", row["transaction_id"]),
            transaction_id: row["transaction_id"].clone(),
            label: proto::Label::Fraud.into(),
            source: "desk".into(),
            ..Default::default()
        };
        let outcome = risk.label_transaction(labelling).await.unwrap().into_inner();
        assert_eq!(outcome.response_code, "00");
    }
    saker(&["train", "--journal", text(&data), "--label-delay", "0", "--out", text(&retrained)]);
    let shipped =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/models/default.json")).unwrap();
    for (content, challenger) in [(std::fs::read_to_string(&retrained).unwrap(), false), (shipped, true)] {
        let reload = proto::ReloadModelRequest { content, challenger, promote: false };
        let loaded = risk.reload_model(reload).await.unwrap().into_inner();
        assert!(loaded.changed && loaded.refused.is_empty(), "{loaded:?}");
    }

    let mut authorisation = AuthorisationClient::new(channel.clone());
    for batch in second.chunks(BATCH) {
        let items = batch.iter().zip(1..).map(|(row, correlation)| AuthoriseItem {
            correlation,
            request: Some(request(row)),
            answer_within: None,
        });
        let answered = authorisation.authorise_batch(AuthoriseBatchRequest { items: items.collect() }).await;
        for item in answered.unwrap().into_inner().results {
            assert!(matches!(item.result, Some(ItemResult::Response(_))), "{item:?}");
        }
    }
    let mut decisions = DecisionsClient::new(channel);
    let mut figures = BTreeMap::<&str, Declined>::new();
    for row in &second {
        let by = Some(By::TransactionId(row["transaction_id"].clone()));
        let decision = decisions.get_decision(proto::GetDecisionRequest { by }).await.unwrap().into_inner();
        let Some(challenge) = decision.challenge else { continue };
        let kind = match (is_new_pattern(row), &*row["is_fraud"]) {
            (true, _) => "new pattern",
            (false, "1") => "other fraud",
            _ => "genuine",
        };
        let declined = figures.entry(kind).or_default();
        declined.of += 1;
        declined.by_new += u32::from(challenge.champion_declines);
        declined.by_shipped += u32::from(challenge.challenger_declines);
    }
    println!("{figures:#?}");
    let share = |kind: &str, of: fn(&Declined) -> u32| {
        let declined = &figures[kind];
        f64::from(of(declined)) / f64::from(declined.of)
    };
    assert!(figures["new pattern"].of >= 100 && figures["genuine"].of > 3_000);
    assert!(share("new pattern", |declined| declined.by_shipped) < 0.3, "it would be no new pattern");
    assert!(share("new pattern", |declined| declined.by_new) > 0.7);
    assert!(share("genuine", |declined| declined.by_new) < 0.015);
}

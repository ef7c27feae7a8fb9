//! The contract's situation table, one test per row or more, against the real program over a real connection.
//!
//! Each test starts `saker serve` on free ports with an empty rules file and no model, so that credit alone decides.
//! Not here: what needs a broken disk or an overload, which have tests of their own.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use bytes::{Buf as _, BufMut as _};
use saker::proto::{
    self, AuthoriseBatchRequest, AuthoriseItem, AuthoriseItemResult, AuthoriseRequest, AuthoriseResponse,
    Decision, Kind, Money, accounts_client::AccountsClient, authorisation_client::AuthorisationClient,
    authorise_item_result::Result as ItemResult, decisions_client::DecisionsClient, get_decision_request::By,
    risk_client::RiskClient,
};
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::{RpcStatusExt, StatusExt};

/// A running engine and its data, both gone at the end of the test.
struct Engine {
    child: Child,
    address: SocketAddr,
    channel: Channel,
    data: tempfile::TempDir,
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Engine {
    async fn start() -> Engine {
        let data = tempfile::tempdir().unwrap();
        let rules = data.path().join("rules.toml");
        std::fs::write(&rules, "version = 1\n").unwrap();
        Engine::on(data).await
    }

    /// Killed as a power cut would, and started again on what is on disk.
    async fn restarted(mut self) -> Engine {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Engine::on(std::mem::replace(&mut self.data, tempfile::tempdir().unwrap())).await
    }

    async fn on(data: tempfile::TempDir) -> Engine {
        Engine::scored(data, "none").await
    }

    async fn scored(data: tempfile::TempDir, model: &str) -> Engine {
        Engine::configured(data, model, &[]).await
    }

    async fn configured(data: tempfile::TempDir, model: &str, more: &[&str]) -> Engine {
        let rules = data.path().join("rules.toml");
        let mut child = Command::new(env!("CARGO_BIN_EXE_saker"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--model", model, "--data"])
            .arg(data.path().join("data"))
            .arg("--rules")
            .arg(&rules)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line
            .split_whitespace()
            .filter_map(|word| word.rsplit(['=', '/']).next())
            .find_map(|word| word.parse::<SocketAddr>().ok())
            .unwrap_or_else(|| panic!("no address in {line:?}"));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Engine { child, address, channel, data }
    }

    /// An engine with the USD account `acc` of the given limit and its card `tok`.
    async fn with_account(credit_limit_minor: i64) -> Engine {
        let engine = Engine::start().await;
        engine.open_account(credit_limit_minor).await;
        engine
    }

    async fn open_account(&self, credit_limit_minor: i64) {
        let account = proto::Account {
            account_id: "acc".into(),
            currency_code: "USD".into(),
            credit_limit_minor: Some(credit_limit_minor),
            cards: vec![proto::Card { card_token: "tok".into(), ..Default::default() }],
            ..Default::default()
        };
        let row = proto::UpsertAccountRequest { request_id: "open-acc".into(), account: Some(account) };
        let counts = self.accounts().upsert_accounts(tokio_stream::once(row)).await.unwrap().into_inner();
        assert_eq!((counts.accounts_opened, counts.refusals.len()), (1, 0), "{counts:?}");
    }

    fn authorisation(&self) -> AuthorisationClient<Channel> {
        AuthorisationClient::new(self.channel.clone())
    }

    fn accounts(&self) -> AccountsClient<Channel> {
        AccountsClient::new(self.channel.clone())
    }

    async fn authorise(&self, request: AuthoriseRequest) -> Result<AuthoriseResponse, Status> {
        self.authorisation().authorise(request).await.map(tonic::Response::into_inner)
    }

    async fn stream(&self, items: Vec<AuthoriseItem>) -> Result<Vec<AuthoriseItemResult>, Status> {
        let mut results = Vec::new();
        let mut answers =
            self.authorisation().authorise_stream(tokio_stream::iter(items)).await?.into_inner();
        while let Some(result) = answers.message().await? {
            results.push(result);
        }
        Ok(results)
    }

    async fn batch(&self, items: Vec<AuthoriseItem>) -> Result<Vec<AuthoriseItemResult>, Status> {
        let answer = self.authorisation().authorise_batch(AuthoriseBatchRequest { items }).await?;
        Ok(answer.into_inner().results)
    }

    async fn held_minor(&self) -> i64 {
        let request = proto::GetAccountRequest { account_id: "acc".into() };
        self.accounts().get_account(request).await.unwrap().into_inner().held_minor
    }

    async fn health(&self, service: &str) -> Result<ServingStatus, Status> {
        let request = HealthCheckRequest { service: service.into() };
        HealthClient::new(self.channel.clone())
            .check(request)
            .await
            .map(|answer| answer.into_inner().status())
    }

    /// Sends bytes that need not be protobuf to a unary call.
    async fn raw(&self, path: &'static str, message: Vec<u8>) -> Result<(), Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        grpc.unary(Request::new(message), path, Raw).await.map(drop)
    }
}

/// A codec that passes bytes through.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        Ok(Some(bytes.to_vec()))
    }
}

fn usd(minor_units: i64) -> Option<Money> {
    Some(Money { currency_code: "USD".into(), minor_units })
}

fn purchase(transaction_id: &str, minor_units: i64) -> AuthoriseRequest {
    AuthoriseRequest {
        transaction_id: transaction_id.into(),
        kind: Kind::Purchase.into(),
        card_token: "tok".into(),
        amount: usd(minor_units),
        merchant: Some(proto::Merchant { merchant_id: "M-1".into(), ..Default::default() }),
        ..Default::default()
    }
}

fn item(correlation: u64, request: AuthoriseRequest) -> AuthoriseItem {
    AuthoriseItem { correlation, request: Some(request), answer_within: None }
}

fn time_from_now(seconds: i64) -> Option<prost_types::Timestamp> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    Some(prost_types::Timestamp { seconds: i64::try_from(now).unwrap() + seconds, nanos: 0 })
}

fn response(result: &AuthoriseItemResult) -> &AuthoriseResponse {
    match result.result.as_ref().expect("exactly one result") {
        ItemResult::Response(response) => response,
        ItemResult::Error(status) => panic!("{status:?}"),
    }
}

fn error(result: &AuthoriseItemResult) -> &tonic_types::Status {
    match result.result.as_ref().expect("exactly one result") {
        ItemResult::Response(response) => panic!("{response:?}"),
        ItemResult::Error(status) => status,
    }
}

/// Code, reason and DE39 of a call's error.
fn told(status: &Status) -> (Code, String, String) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "saker.v1");
    (status.code(), info.reason, info.metadata["response_code"].clone())
}

fn bad_fields(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().expect("BadRequest").field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn a_decline_is_an_answer_and_never_an_error() {
    let engine = Engine::with_account(1_000).await;
    let approved = engine.authorise(purchase("t-1", 600)).await.unwrap();
    assert_eq!((approved.decision(), approved.response_code.as_str()), (Decision::Approved, "00"));
    assert_eq!((approved.approved_amount, approved.available_credit), (usd(600), usd(400)));
    assert_eq!(approved.authorisation_code.len(), 6);
    let declined = engine.authorise(purchase("t-2", 600)).await.unwrap();
    assert_eq!((declined.decision(), declined.response_code.as_str()), (Decision::Declined, "51"));
    assert_eq!(declined.reasons[0].code, "INSUFFICIENT_CREDIT");
    assert_eq!((declined.authorisation_code.as_str(), declined.available_credit), ("", usd(400)));
    assert!(declined.position > approved.position);

    let wrong = AuthoriseRequest {
        amount: Some(Money { currency_code: "EUR".into(), minor_units: 1 }),
        ..purchase("t-3", 0)
    };
    let wrong = engine.authorise(wrong).await.unwrap();
    assert_eq!((wrong.decision(), wrong.response_code.as_str()), (Decision::Declined, "13"));
    assert_eq!(wrong.reasons[0].code, "WRONG_CURRENCY");

    let nothing = engine.authorise(purchase("t-4", 0)).await.unwrap();
    assert_eq!((nothing.decision(), nothing.response_code.as_str()), (Decision::Approved, "85"));
    assert_eq!(nothing.authorisation_code, "");
    let balance = AuthoriseRequest {
        kind: Kind::BalanceInquiry.into(),
        amount: None,
        merchant: None,
        ..purchase("t-5", 0)
    };
    let balance = engine.authorise(balance).await.unwrap();
    assert_eq!((balance.response_code.as_str(), balance.available_credit), ("00", usd(400)));
    assert_eq!(engine.held_minor().await, 600);
}

#[tokio::test]
async fn a_malformed_request_names_every_bad_field_and_claims_no_key() {
    let engine = Engine::with_account(1_000).await;
    let bad = AuthoriseRequest {
        amount: Some(Money { currency_code: "ZZZ".into(), minor_units: -5 }),
        merchant: Some(proto::Merchant {
            latitude: Some(f64::NAN),
            longitude: Some(0.0),
            ..Default::default()
        }),
        channel: 99,
        ..purchase("t-1", 0)
    };
    let status = engine.authorise(bad).await.unwrap_err();
    assert_eq!(told(&status), (Code::InvalidArgument, "INVALID_REQUEST".into(), "13".into()));
    assert_eq!(
        bad_fields(&status),
        [
            "amount.currency_code",
            "amount.minor_units",
            "merchant.merchant_id",
            "merchant.latitude",
            "channel"
        ]
    );
    let good = engine.authorise(purchase("t-1", 100)).await.unwrap();
    assert_eq!((good.decision(), good.replayed), (Decision::Approved, false));

    let pan = AuthoriseRequest { card_token: "4111 1111 1111 1111".into(), ..purchase("t-2", 1) };
    let status = engine.authorise(pan).await.unwrap_err();
    assert_eq!((told(&status).2.as_str(), bad_fields(&status)), ("14", vec!["card_token".to_owned()]));
    assert!(!status.message().contains("4111"));
    assert!(!String::from_utf8_lossy(status.details()).contains("4111"));

    let both = AuthoriseRequest { account_id: "acc".into(), ..purchase("t-2", 1) };
    let status = engine.authorise(both).await.unwrap_err();
    assert_eq!(told(&status).2, "30");
    assert_eq!(bad_fields(&status), ["account_id", "card_token"]);

    let verification = AuthoriseRequest { kind: Kind::AccountVerification.into(), ..purchase("t-2", 1) };
    let status = engine.authorise(verification).await.unwrap_err();
    assert_eq!((told(&status).2.as_str(), bad_fields(&status)), ("13", vec!["amount".to_owned()]));
}

#[tokio::test]
async fn a_repeat_gets_the_stored_answer_and_another_body_gets_94() {
    let engine = Engine::with_account(1_000).await;
    let first = engine.authorise(purchase("t-1", 300)).await.unwrap();
    let again = AuthoriseRequest {
        network: Some(proto::Network { stan: "000123".into(), ..Default::default() }),
        device: Some(proto::Device { device_id: "d".into(), ..Default::default() }),
        transaction_time: time_from_now(-1),
        ..purchase("t-1", 300)
    };
    let repeat = engine.authorise(again).await.unwrap();
    assert_eq!(repeat, AuthoriseResponse { replayed: true, ..first.clone() });

    let other = engine.authorise(purchase("t-1", 301)).await.unwrap();
    assert_eq!((other.decision(), other.response_code.as_str()), (Decision::Declined, "94"));
    assert_eq!(engine.held_minor().await, 300);
    let repeat = engine.authorise(purchase("t-1", 300)).await.unwrap();
    assert_eq!(repeat, AuthoriseResponse { replayed: true, ..first.clone() }, "a 94 is not remembered");

    let by = By::TransactionId("t-1".into());
    let stored = DecisionsClient::new(engine.channel.clone())
        .get_decision(proto::GetDecisionRequest { by: Some(by) })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stored.response, Some(first));
    assert_eq!(stored.request, Some(purchase("t-1", 300)));
    assert_eq!((stored.account_id.as_str(), stored.voided), ("acc", false));
}

#[tokio::test]
async fn an_unknown_card_or_account_is_declined_14_and_not_found_elsewhere() {
    let engine = Engine::with_account(1_000).await;
    let card = AuthoriseRequest { card_token: "nobody".into(), ..purchase("t-1", 1) };
    let account =
        AuthoriseRequest { account_id: "nobody".into(), card_token: String::new(), ..purchase("t-2", 1) };
    for request in [card, account] {
        let answer = engine.authorise(request).await.unwrap();
        assert_eq!((answer.decision(), answer.response_code.as_str()), (Decision::Declined, "14"));
        assert_eq!((answer.approved_amount, answer.available_credit), (None, None));
    }
    let get = proto::GetAccountRequest { account_id: "nobody".into() };
    let status = engine.accounts().get_account(get).await.unwrap_err();
    assert_eq!((told(&status).0, told(&status).2), (Code::NotFound, "14".into()));
    let set = proto::SetCardStatusRequest {
        request_id: "r-1".into(),
        card_token: "nobody".into(),
        status: proto::CardStatus::Blocked.into(),
    };
    let status = engine.accounts().set_card_status(set).await.unwrap_err();
    assert_eq!((told(&status).0, told(&status).2), (Code::NotFound, "14".into()));
    let by = By::TransactionId("never".into());
    let get = proto::GetDecisionRequest { by: Some(by) };
    let status = DecisionsClient::new(engine.channel.clone()).get_decision(get).await.unwrap_err();
    assert_eq!(told(&status).0, Code::NotFound);
}

#[tokio::test]
async fn a_reversal_frees_once_and_one_that_came_first_leaves_no_hold() {
    let engine = Engine::with_account(1_000).await;
    let reverse = |request_id: &str, original: &str, keep: Option<Money>| proto::ReverseRequest {
        request_id: request_id.into(),
        original_transaction_id: original.into(),
        replacement_amount: keep,
    };
    engine.authorise(purchase("t-1", 500)).await.unwrap();
    let mut client = engine.authorisation();
    let mut freed = async |request| client.reverse(request).await.map(tonic::Response::into_inner);
    let partial = freed(reverse("r-1", "t-1", usd(200))).await.unwrap();
    assert_eq!((partial.response_code.as_str(), partial.amount_moved), ("00", usd(300)));
    let repeat = freed(reverse("r-1", "t-1", usd(200))).await.unwrap();
    assert_eq!((repeat.replayed, repeat.amount_moved), (true, usd(300)));
    let other = freed(reverse("r-1", "t-1", None)).await.unwrap();
    assert_eq!(other.response_code, "94");
    assert_eq!(engine.held_minor().await, 200);
    let rest = freed(reverse("r-2", "t-1", None)).await.unwrap();
    assert_eq!(rest.amount_moved, usd(200));
    let none = freed(reverse("r-3", "t-1", None)).await.unwrap();
    assert_eq!((none.response_code.as_str(), none.amount_moved), ("00", usd(0)));
    let status = freed(reverse("r-4", "t-1", Some(Money { currency_code: "EUR".into(), minor_units: 1 })));
    assert_eq!(status.await.unwrap_err().code(), Code::InvalidArgument);

    freed(reverse("r-5", "t-2", None)).await.unwrap();
    let late = engine.authorise(purchase("t-2", 100)).await.unwrap();
    assert_eq!((late.decision(), late.response_code.as_str()), (Decision::Declined, "12"));
    assert_eq!(late.reasons[0].code, "REVERSED_BEFORE_ARRIVAL");
    assert_eq!(engine.held_minor().await, 0);
}

#[tokio::test]
async fn a_deadline_leaves_nothing_or_a_void_or_an_answer_that_replays() {
    let engine = Engine::with_account(1_000_000).await;
    let items: Vec<AuthoriseItem> = (0..400_u64)
        .map(|n| {
            // From far too short to comfortable; where the edge lies depends on the disk.
            let nanos = i32::try_from(1 + n * n * 60).unwrap();
            let request = purchase(&format!("t-{n}"), 1);
            let answer_within = Some(prost_types::Duration { seconds: 0, nanos });
            AuthoriseItem { correlation: n, request: Some(request), answer_within }
        })
        .collect();
    let mut approved = 0;
    let mut not_started = 0;
    for first in engine.stream(items).await.unwrap() {
        let retry = engine.authorise(purchase(&first.transaction_id, 1)).await;
        match first.result.as_ref().unwrap() {
            ItemResult::Response(response) => {
                approved += 1;
                assert_eq!(retry.unwrap(), AuthoriseResponse { replayed: true, ..response.clone() });
            }
            ItemResult::Error(status) => {
                assert_eq!(Code::from(status.code), Code::DeadlineExceeded, "{status:?}");
                let info = status.get_details_error_info().unwrap();
                assert_eq!(info.metadata["response_code"], "91");
                match info.metadata["outcome"].as_str() {
                    "NOT_STARTED" => {
                        not_started += 1;
                        approved += 1;
                        let retry = retry.unwrap();
                        assert_eq!((retry.decision(), retry.replayed), (Decision::Approved, false));
                    }
                    "VOIDED" => {
                        let retry = retry.expect_err("never an approval").get_details_error_info().unwrap();
                        assert_eq!(retry.metadata["outcome"], "VOIDED");
                    }
                    other => panic!("outcome {other}"),
                }
            }
        }
    }
    assert!(not_started > 0, "a nanosecond is too short");
    assert_eq!(engine.held_minor().await, approved);
}

#[tokio::test]
async fn a_client_that_went_away_finds_its_decision_again() {
    let engine = Engine::with_account(1_000).await;
    for n in 0..20_u64 {
        let mut client = engine.authorisation();
        let request = purchase(&format!("t-{n}"), 10);
        let wait = Duration::from_micros(n * 100);
        let _ = tokio::time::timeout(wait, client.authorise(request)).await;
    }
    for n in 0..20 {
        let retry = engine.authorise(purchase(&format!("t-{n}"), 10)).await.unwrap();
        assert_eq!(retry.decision(), Decision::Approved);
    }
    assert_eq!(engine.held_minor().await, 200, "each purchase is held once");
}

#[tokio::test]
async fn a_time_far_ahead_is_refused_and_one_that_is_off_is_flagged() {
    let engine = Engine::with_account(1_000).await;
    let at = |key: &str, seconds| AuthoriseRequest {
        transaction_time: time_from_now(seconds),
        ..purchase(key, 1)
    };
    let status = engine.authorise(at("t-1", 24 * 3_600 + 60)).await.unwrap_err();
    assert_eq!(told(&status), (Code::InvalidArgument, "INVALID_REQUEST".into(), "30".into()));
    assert_eq!(bad_fields(&status), ["transaction_time"]);
    for (key, seconds, flagged) in [("t-2", 3_600, true), ("t-3", -3_600, true), ("t-4", -60, false)] {
        let answer = engine.authorise(at(key, seconds)).await.unwrap();
        assert_eq!(answer.decision(), Decision::Approved);
        let last = answer.reasons.last().is_some_and(|reason| reason.code == "TIME_SKEW");
        assert_eq!(last, flagged, "{key}");
    }
}

#[tokio::test]
async fn what_is_no_protobuf_or_too_large_ends_its_call_and_changes_nothing() {
    use prost::Message as _;
    let engine = Engine::with_account(100_000).await;
    const AUTHORISE: &str = "/saker.v1.Authorisation/Authorise";
    for message in [
        vec![0xff; 10],
        vec![0x0a, 0x7f, b'x'],
        // transaction_id of two bytes that are not UTF-8
        vec![0x0a, 0x02, 0xc3, 0x28],
    ] {
        let status = engine.raw(AUTHORISE, message).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
    }
    let mut large = purchase("t-1", 1).encode_to_vec();
    large.resize(64 * 1024 + 1, 0);
    assert_eq!(engine.raw(AUTHORISE, large).await.unwrap_err().code(), Code::OutOfRange);

    let many = |n: u64| (0..n).map(|n| item(n, purchase(&format!("b-{n}"), 1))).collect::<Vec<_>>();
    let batch = AuthoriseBatchRequest { items: many(1_024) };
    let named = |bytes: usize| {
        let mut batch = batch.clone();
        for item in &mut batch.items {
            let merchant = item.request.as_mut().unwrap().merchant.as_mut().unwrap();
            merchant.name = "n".repeat(bytes);
        }
        batch.items
    };
    assert!(AuthoriseBatchRequest { items: named(200) }.encoded_len() > 64 * 1024);
    assert_eq!(engine.batch(named(1_100)).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(engine.held_minor().await, 0);
    assert_eq!(engine.batch(named(200)).await.unwrap().len(), 1_024, "a batch may have up to 1 MiB");
    assert_eq!(engine.held_minor().await, 1_024);

    let mut items = many(2);
    items[1].request.as_mut().unwrap().merchant.as_mut().unwrap().name = "n".repeat(64 * 1024);
    assert_eq!(engine.stream(items).await.unwrap_err().code(), Code::OutOfRange);
    engine.authorise(purchase("t-1", 1)).await.expect("the connection stays open");
}

#[tokio::test]
async fn one_bad_item_in_a_stream_or_a_batch_touches_no_other() {
    let engine = Engine::with_account(100_000).await;
    for call in ["stream", "batch"] {
        let mut items: Vec<AuthoriseItem> =
            (0..50).map(|n| item(1_000 + n, purchase(&format!("{call}-{n}"), 1))).collect();
        items[7].request = None;
        items[8].request.as_mut().unwrap().kind = 0;
        items[9].answer_within = Some(prost_types::Duration::default());
        items[10].request = Some(purchase(&format!("{call}-0"), 1));
        items[11].request = Some(purchase(&format!("{call}-0"), 2));
        let mut results = match call {
            "stream" => engine.stream(items).await.unwrap(),
            _ => engine.batch(items).await.unwrap(),
        };
        if call == "stream" {
            results.sort_by_key(|result| result.correlation);
        }
        let correlations: Vec<u64> = results.iter().map(|result| result.correlation).collect();
        assert_eq!(correlations, (1_000..1_050).collect::<Vec<u64>>(), "{call}: one result for each item");
        let mut last = 0;
        for (n, result) in results.iter().enumerate() {
            match n {
                7..=9 => {
                    let status = error(result);
                    assert_eq!(Code::from(status.code), Code::InvalidArgument);
                    let field = ["request", "kind", "answer_within"][n - 7];
                    let violations = status.get_details_bad_request().unwrap().field_violations;
                    assert_eq!((violations.len(), violations[0].field.as_str()), (1, field));
                }
                10 => {
                    let first = response(&results[0]).clone();
                    assert_eq!(response(result), &AuthoriseResponse { replayed: true, ..first });
                }
                11 => assert_eq!(response(result).response_code, "94"),
                _ => {
                    let response = response(result);
                    assert_eq!(response.decision(), Decision::Approved);
                    assert!(response.position > last, "{call}: decided in the order sent");
                    last = response.position;
                    assert_eq!(result.transaction_id, format!("{call}-{n}"));
                }
            }
        }
    }
    assert_eq!(engine.held_minor().await, 2 * 45);
}

#[tokio::test]
async fn a_batch_has_1_to_1024_items_or_nothing_is_decided() {
    let engine = Engine::with_account(100_000).await;
    for count in [0, 1_025] {
        let items = (0..count).map(|n| item(n, purchase(&format!("t-{n}"), 1))).collect();
        let status = engine.batch(items).await.unwrap_err();
        assert_eq!(told(&status).0, Code::InvalidArgument);
        assert_eq!(bad_fields(&status), ["items"]);
    }
    assert_eq!(engine.held_minor().await, 0);
}

#[tokio::test]
async fn account_maintenance_answers_like_the_contract_says() {
    let engine = Engine::with_account(1_000).await;
    let mut accounts = engine.accounts();
    let block = |request_id: &str, status: proto::CardStatus| proto::SetCardStatusRequest {
        request_id: request_id.into(),
        card_token: "tok".into(),
        status: status.into(),
    };
    let blocked = accounts.set_card_status(block("r-1", proto::CardStatus::Stolen)).await.unwrap();
    assert_eq!(blocked.into_inner().response_code, "00");
    assert_eq!(engine.authorise(purchase("t-1", 1)).await.unwrap().response_code, "43");
    let again = accounts.set_card_status(block("r-1", proto::CardStatus::Stolen)).await.unwrap().into_inner();
    assert!(again.replayed);
    let other = accounts.set_card_status(block("r-1", proto::CardStatus::Active)).await.unwrap().into_inner();
    assert_eq!(other.response_code, "94");
    accounts.set_card_status(block("r-2", proto::CardStatus::Active)).await.unwrap();

    let limit = |credit_limit_minor| proto::SetCreditLimitRequest {
        request_id: format!("limit-{credit_limit_minor}"),
        account_id: "acc".into(),
        credit_limit_minor,
    };
    engine.authorise(purchase("t-2", 900)).await.unwrap();
    let cut = accounts.set_credit_limit(limit(100)).await.unwrap().into_inner();
    assert_eq!((cut.response_code.as_str(), cut.available_credit), ("00", usd(-800)));
    let status = accounts.set_credit_limit(limit(-1)).await.unwrap_err();
    assert_eq!((told(&status).2.as_str(), bad_fields(&status)), ("13", vec!["credit_limit_minor".into()]));

    let row = |request_id: &str, account: proto::Account| proto::UpsertAccountRequest {
        request_id: request_id.into(),
        account: Some(account),
    };
    let named = |id: &str, code: &str| proto::Account {
        account_id: id.into(),
        currency_code: code.into(),
        credit_limit_minor: Some(5),
        ..Default::default()
    };
    let rows = vec![
        row("u-1", named("acc-2", "JPY")),
        row("u-2", named("acc-3", "ZZZ")),
        row("u-1", named("acc-2", "JPY")),
        row("u-3", named("acc-4", "KWD")),
    ];
    let counts = accounts.upsert_accounts(tokio_stream::iter(rows)).await.unwrap().into_inner();
    assert_eq!((counts.accounts_opened, counts.accounts_changed, counts.unchanged), (2, 0, 1));
    assert_eq!(counts.refusals.len(), 1);
    assert_eq!(counts.refusals[0].row, 2);
    let status = counts.refusals[0].status.as_ref().unwrap();
    assert_eq!(Code::from(status.code), Code::InvalidArgument);
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "account.currency_code");
}

#[tokio::test]
async fn what_is_not_built_says_so_with_error_info() {
    let engine = Engine::start().await;
    let clear = proto::ClearRequest { request_id: "r".into(), ..Default::default() };
    let mut decisions = DecisionsClient::new(engine.channel.clone());
    let listed = decisions.list_decisions(proto::ListDecisionsRequest::default());
    for status in [
        engine.authorisation().clear(clear).await.unwrap_err(),
        listed.await.unwrap_err(),
        engine.raw("/saker.v1.Authorisation/Nothing", Vec::new()).await.unwrap_err(),
        engine.raw("/saker.v9.Nothing/Nothing", Vec::new()).await.unwrap_err(),
    ] {
        assert_eq!(told(&status).0, Code::Unimplemented);
    }
}

/// Waits until the rules in force are these; the file is looked at several times a second.
async fn until_rules_are(risk: &mut RiskClient<Channel>, content: &str) -> String {
    for _ in 0..400 {
        let rules = risk.get_rules(proto::GetRulesRequest::default()).await.unwrap().into_inner();
        if rules.content == content {
            return rules.version;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("these rules never decide:\n{content}");
}

#[tokio::test]
async fn rules_change_whole_or_not_at_all_and_no_decision_is_dropped() {
    const EMPTY: &str = "version = 1\n";
    const STRICT: &str =
        "version = 1\n[[rules]]\nid = 'strict'\nwhen = 'amount > 5'\nthen = 'decline'\nreason = 'STRICT'\n";
    let mut engine = Engine::with_account(900_000_000_000).await;
    let file = engine.data.path().join("rules.toml");
    let mut risk = RiskClient::new(engine.channel.clone());
    let empty = until_rules_are(&mut risk, EMPTY).await;
    assert_eq!(engine.authorise(purchase("e-0", 600)).await.unwrap().rules_version, empty);

    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let mut client = engine.authorisation();
    let traffic = tokio::spawn(async move {
        let mut answers = Vec::new();
        while stopped.try_recv().is_err() {
            let request = purchase(&format!("t-{}", answers.len()), 600);
            let answer = client.authorise(request).await.unwrap().into_inner();
            answers.push((answer.rules_version, answer.response_code));
            // An account has room for so many holds only.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        answers
    });

    std::fs::write(&file, STRICT).unwrap();
    let strict = until_rules_are(&mut risk, STRICT).await;
    assert_eq!(engine.authorise(purchase("s-0", 600)).await.unwrap().rules_version, strict);

    // A file that is wrong changes nothing, whoever asks for it.
    std::fs::write(&file, "version = 1\n[[rules]]\nid = 'half'\n").unwrap();
    let refused = risk.reload_rules(proto::ReloadRulesRequest::default()).await.unwrap().into_inner();
    assert_eq!(refused.version, "");
    assert!(
        refused.findings.iter().any(|found| found.line == 2 && found.message.contains("`when` is missing"))
    );
    assert_eq!(until_rules_are(&mut risk, STRICT).await, strict);

    // By a call, back to a version that decided before; and by a signal.
    let back = proto::ReloadRulesRequest { content: EMPTY.into() };
    let back = risk.reload_rules(back).await.unwrap().into_inner();
    assert_eq!((&back.version, back.findings.len()), (&empty, 0));
    std::fs::remove_file(&file).unwrap();
    let missing = risk.reload_rules(proto::ReloadRulesRequest::default()).await.unwrap().into_inner();
    assert!(missing.findings[0].message.contains("cannot be read"), "{missing:?}");
    let again = format!("{STRICT}# once more\n");
    std::fs::write(&file, &again).unwrap();
    let strict_again = until_rules_are(&mut risk, &again).await;
    assert_eq!(engine.authorise(purchase("a-0", 600)).await.unwrap().rules_version, strict_again);
    // The file is as it was read: nothing but the signal has it read again.
    let content = proto::ReloadRulesRequest { content: EMPTY.into() };
    assert_eq!(risk.reload_rules(content).await.unwrap().into_inner().version, empty);
    let pid = engine.child.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    until_rules_are(&mut risk, &again).await;

    // Rules with aggregates of their own, of the card and across accounts, count what came before them: the fifth and
    // later attempts of many.
    let counting = "version = 1\n[aggregates.by_card]\nby = 'card'\nwindow = '1h'\ncount = true\n\
         [aggregates.by_shop]\nby = 'merchant'\nwindow = '1h'\ncount = true\n\
         [[rules]]\nid = 'both'\nwhen = 'by_card >= 5 && by_shop >= 5'\nthen = 'decline'\nreason = 'BOTH'\n";
    let content = proto::ReloadRulesRequest { content: counting.into() };
    let counted = risk.reload_rules(content).await.unwrap().into_inner();
    assert_eq!(counted.findings, []);
    let mut client = engine.authorisation();
    let mut declined = false;
    for n in 0..400 {
        let answer = client.authorise(purchase(&format!("c-{n}"), 600)).await.unwrap().into_inner();
        assert_eq!(answer.rules_version, counted.version);
        assert!(!declined || answer.response_code == "59", "windows that were filled are empty again");
        declined = answer.response_code == "59";
        if declined && n > 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(declined, "the windows across accounts are never filled");

    let former = proto::GetRulesRequest { version: empty.clone() };
    assert_eq!(risk.get_rules(former).await.unwrap().into_inner().content, EMPTY);
    let never = risk.get_rules(proto::GetRulesRequest { version: "never".into() }).await.unwrap_err();
    assert_eq!(told(&never).0, Code::NotFound);

    stop.send(()).unwrap();
    let answers = traffic.await.unwrap();
    assert!(!answers.is_empty());
    for (version, code) in &answers {
        if *version != counted.version {
            assert_eq!(code, if *version == empty { "00" } else { "59" }, "decided by {version}");
            assert!([&empty, &strict, &strict_again].contains(&version));
        }
    }
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(engine.child.wait().unwrap().code(), Some(0));
    let verified = Command::new(env!("CARGO_BIN_EXE_saker"))
        .args(["journal", "verify"])
        .arg(engine.data.path().join("data"))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

/// Lists in the rules file, and what a label does to them.
const LISTED: &str = r#"version = 1
[lists.blocked]
values = ["M-file"]
[lists.devices]
values = []
[[label_policies]]
label = "fraud"
kind = "stolen"
list = "devices"
add = "device.id"
[[rules]]
id = "blocked"
when = "merchant.id in lists.blocked"
then = "decline"
reason = "BLOCKED_MERCHANT"
[[rules]]
id = "device"
when = "device.id in lists.devices"
then = "decline"
reason = "WATCHED_DEVICE"
"#;

/// An engine with the account `acc` under the rules above.
async fn with_lists() -> Engine {
    let engine = Engine::with_account(1_000_000).await;
    std::fs::write(engine.data.path().join("rules.toml"), LISTED).unwrap();
    until_rules_are(&mut RiskClient::new(engine.channel.clone()), LISTED).await;
    engine
}

fn at_shop(transaction_id: &str, shop: &str, device: &str) -> AuthoriseRequest {
    let mut request = purchase(transaction_id, 100);
    request.merchant.as_mut().unwrap().merchant_id = shop.into();
    let ip_address = String::new();
    request.device = Some(proto::Device { device_id: device.into(), ip_address });
    request
}

fn update(request_id: &str, add: &[&str], remove: &[&str]) -> proto::UpdateListRequest {
    let entry = |value: &&str| proto::ListEntry {
        value: value.to_string(),
        source: "bank".into(),
        ..Default::default()
    };
    proto::UpdateListRequest {
        request_id: request_id.into(),
        list: "blocked".into(),
        add: add.iter().map(entry).collect(),
        remove: remove.iter().map(|value| value.to_string()).collect(),
    }
}

async fn values_of(risk: &mut RiskClient<Channel>, list: &str) -> Vec<(String, bool)> {
    let (mut values, mut after) = (Vec::new(), String::new());
    loop {
        let request = proto::GetListRequest { list: list.into(), after, limit: 2 };
        let page = risk.get_list(request).await.unwrap().into_inner();
        values.extend(page.entries.into_iter().map(|found| (found.entry.unwrap().value, found.in_file)));
        after = page.next;
        if after.is_empty() {
            assert_eq!(page.total, values.len() as u64);
            return values;
        }
    }
}

#[tokio::test]
async fn a_list_changes_by_a_call_that_is_durable_and_told_once() {
    let engine = with_lists().await;
    let mut risk = RiskClient::new(engine.channel.clone());
    assert_eq!(engine.authorise(at_shop("before", "M-1", "d")).await.unwrap().response_code, "00");
    let first =
        risk.update_list(update("u", &["M-1", "M-2", "M-3"], &["M-file"])).await.unwrap().into_inner();
    assert_eq!((first.entries, first.replayed), (3, false));
    let declined = engine.authorise(at_shop("t", "M-1", "d")).await.unwrap();
    assert_eq!((&*declined.response_code, &*declined.reasons[0].code), ("59", "BLOCKED_MERCHANT"));
    assert_eq!(engine.authorise(at_shop("file", "M-file", "d")).await.unwrap().response_code, "00");

    let mut decisions = DecisionsClient::new(engine.channel.clone());
    for (transaction_id, lists) in [("before", 0), ("t", first.position)] {
        let by = Some(By::TransactionId(transaction_id.into()));
        let found = decisions.get_decision(proto::GetDecisionRequest { by }).await.unwrap().into_inner();
        assert_eq!(found.lists_position, lists, "{transaction_id}");
    }

    let again =
        risk.update_list(update("u", &["M-1", "M-2", "M-3"], &["M-file"])).await.unwrap().into_inner();
    assert_eq!(again, proto::UpdateListResponse { replayed: true, ..first });
    let reused = risk.update_list(update("u", &["M-1"], &[])).await.unwrap_err();
    assert_eq!(told(&reused), (Code::AlreadyExists, "DUPLICATE_KEY".into(), "94".into()));
    let reused = risk.update_list(update("t", &["M-1"], &[])).await.unwrap_err();
    assert_eq!(told(&reused).0, Code::AlreadyExists, "keys are one space over all calls");
    let unknown = proto::UpdateListRequest { list: "bloked".into(), ..update("v", &["x"], &[]) };
    let unknown = risk.update_list(unknown).await.unwrap_err();
    assert_eq!(told(&unknown), (Code::NotFound, "NOT_FOUND".into(), "14".into()));
    assert!(unknown.message().contains("did you mean `blocked`?"), "{unknown:?}");

    let in_a_moment =
        proto::ListEntry { value: "M-brief".into(), expires_at: time_from_now(2), source: String::new() };
    let brief = proto::UpdateListRequest { add: vec![in_a_moment], ..update("brief", &[], &[]) };
    assert_eq!(risk.update_list(brief).await.unwrap().into_inner().entries, 4);
    let listed = |value: &str, in_file| (value.to_owned(), in_file);
    let three = [listed("M-1", false), listed("M-2", false), listed("M-3", false)];

    let engine = engine.restarted().await;
    let mut risk = RiskClient::new(engine.channel.clone());
    assert_eq!(engine.authorise(at_shop("after", "M-2", "d")).await.unwrap().response_code, "59");
    let again =
        risk.update_list(update("u", &["M-1", "M-2", "M-3"], &["M-file"])).await.unwrap().into_inner();
    assert_eq!(again, proto::UpdateListResponse { replayed: true, ..first });
    while values_of(&mut risk, "blocked").await != three {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(engine.authorise(at_shop("ended", "M-brief", "d")).await.unwrap().response_code, "00");
    assert_eq!(
        risk.update_list(update("w", &["M-file"], &["M-1", "M-2"])).await.unwrap().into_inner().entries,
        2
    );
    assert_eq!(values_of(&mut risk, "blocked").await, [listed("M-3", false), listed("M-file", false)]);
    verified(engine).await;
}

#[tokio::test]
async fn a_malformed_list_update_names_every_bad_field() {
    let engine = with_lists().await;
    let mut risk = RiskClient::new(engine.channel.clone());
    let entry = |value: &str, seconds| proto::ListEntry {
        value: value.into(),
        expires_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        source: "s".repeat(257),
    };
    let bad = proto::UpdateListRequest {
        request_id: String::new(),
        list: "né".into(),
        add: vec![entry("", i64::MAX), entry(&"x".repeat(65), 0)],
        remove: vec!["a\nb".into(), "twice".into(), "twice".into()],
    };
    let status = risk.update_list(bad).await.unwrap_err();
    let mut fields = bad_fields(&status);
    fields.dedup();
    let expected = [
        "request_id",
        "list",
        "add.value",
        "add.expires_at",
        "add.source",
        "add.value",
        "add.source",
        "remove",
    ];
    assert_eq!(fields, expected);
    assert_eq!(told(&status).2, "30");
    let many: Vec<String> = (0..33).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (request, fields) in
        [(update("u", &[], &[]), vec!["add", "remove"]), (update("u", &many, &[]), vec!["add"])]
    {
        assert_eq!(bad_fields(&risk.update_list(request).await.unwrap_err()), fields);
    }
    assert!(risk.update_list(update("u", &["x"], &[])).await.is_ok(), "what was refused leaves its key free");
    let status =
        risk.get_list(proto::GetListRequest { limit: 1_001, ..Default::default() }).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["list", "limit"]);
    let unknown = proto::GetListRequest { list: "nothing".into(), ..Default::default() };
    assert_eq!(told(&risk.get_list(unknown).await.unwrap_err()).0, Code::NotFound);
}

#[tokio::test]
async fn a_label_is_an_outcome_and_does_what_the_rules_say() {
    let engine = with_lists().await;
    let mut risk = RiskClient::new(engine.channel.clone());
    assert_eq!(engine.authorise(at_shop("t", "M-1", "D-1")).await.unwrap().response_code, "00");
    let label = |request_id: &str, kind: &str| proto::LabelTransactionRequest {
        request_id: request_id.into(),
        transaction_id: "t".into(),
        label: proto::Label::Fraud.into(),
        kind: kind.into(),
        source: "desk".into(),
        occurred_at: None,
    };
    let status = risk.label_transaction(proto::LabelTransactionRequest::default()).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["request_id", "transaction_id", "label"]);
    let unknown = proto::LabelTransactionRequest { transaction_id: "x".into(), ..label("l", "") };
    let unknown = risk.label_transaction(unknown).await.unwrap_err();
    assert_eq!(told(&unknown), (Code::NotFound, "NOT_FOUND".into(), "14".into()));

    let first = risk.label_transaction(label("l", "stolen")).await.unwrap().into_inner();
    assert_eq!((&*first.response_code, first.replayed, &first.amount_moved), ("00", false, &usd(0)));
    let again = risk.label_transaction(label("l", "stolen")).await.unwrap().into_inner();
    assert_eq!(again, proto::Outcome { replayed: true, ..first });
    let other = risk.label_transaction(label("l", "lost")).await.unwrap().into_inner();
    assert_eq!((&*other.response_code, &*other.reasons[0].code), ("94", "DUPLICATE_KEY"));
    risk.label_transaction(label("m", "mistake")).await.unwrap();

    let engine = engine.restarted().await;
    let declined = engine.authorise(at_shop("u", "M-1", "D-1")).await.unwrap();
    assert_eq!(&*declined.reasons[0].code, "WATCHED_DEVICE");
    let by = Some(By::TransactionId("t".into()));
    let mut decisions = DecisionsClient::new(engine.channel.clone());
    let found = decisions.get_decision(proto::GetDecisionRequest { by }).await.unwrap().into_inner();
    let kinds: Vec<&str> = found.labels.iter().map(|label| &*label.kind).collect();
    assert_eq!(kinds, ["mistake", "stolen"]);
    assert_eq!(found.labels[0].label(), proto::Label::Fraud);
    verified(engine).await;
}

#[tokio::test]
async fn a_label_policy_does_not_shorten_what_somebody_blocked_for_good() {
    let engine = Engine::with_account(1_000_000).await;
    let mut risk = RiskClient::new(engine.channel.clone());
    let rules = LISTED.replace("add = \"device.id\"", "add = \"device.id\"\nexpires_in = \"1s\"");
    std::fs::write(engine.data.path().join("rules.toml"), &rules).unwrap();
    until_rules_are(&mut risk, &rules).await;
    for (id, device) in [("t1", "D-1"), ("t2", "D-2")] {
        assert_eq!(engine.authorise(at_shop(id, "M-1", device)).await.unwrap().response_code, "00");
    }
    let for_good = proto::UpdateListRequest { list: "devices".into(), ..update("u", &["D-1"], &[]) };
    risk.update_list(for_good).await.unwrap();
    for id in ["t1", "t2"] {
        let request = proto::LabelTransactionRequest {
            request_id: format!("label-{id}"),
            transaction_id: id.into(),
            label: proto::Label::Fraud.into(),
            kind: "stolen".into(),
            source: "desk".into(),
            ..Default::default()
        };
        risk.label_transaction(request).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(engine.authorise(at_shop("t3", "M-1", "D-2")).await.unwrap().response_code, "00");
    assert_eq!(engine.authorise(at_shop("t4", "M-1", "D-1")).await.unwrap().response_code, "59");
    verified(engine).await;
}

#[tokio::test]
async fn a_journal_teaches_the_newest_label_that_came_and_else_that_nobody_complained() {
    let engine = Engine::with_account(1_000_000).await;
    let mut risk = RiskClient::new(engine.channel.clone());
    for id in ["taken-back", "fraud", "silent"] {
        assert_eq!(engine.authorise(at_shop(id, "M-1", "D-1")).await.unwrap().response_code, "00");
    }
    for (number, (id, label)) in [
        ("taken-back", proto::Label::Fraud),
        ("fraud", proto::Label::Genuine),
        ("taken-back", proto::Label::Genuine),
        ("fraud", proto::Label::Fraud),
    ]
    .into_iter()
    .enumerate()
    {
        let request = proto::LabelTransactionRequest {
            request_id: format!("l{number}"),
            transaction_id: id.into(),
            label: label.into(),
            source: "desk".into(),
            ..Default::default()
        };
        risk.label_transaction(request).await.unwrap();
    }
    let learned = |label_delay: &str| -> Vec<(String, String, String)> {
        let outside = tempfile::tempdir().unwrap();
        let (rows, model) = (outside.path().join("rows.csv"), outside.path().join("m.json"));
        let trained = Command::new(env!("CARGO_BIN_EXE_saker"))
            .args(["train", "--label-delay", label_delay, "--journal"])
            .arg(engine.data.path().join("data"))
            .arg("--features")
            .arg(&rows)
            .arg("--out")
            .arg(&model)
            .output()
            .unwrap();
        assert_eq!(trained.status.code(), Some(2), "three rows teach nothing");
        assert!(!model.exists());
        let rows = csv::Reader::from_path(&rows).unwrap().into_records().map(Result::unwrap);
        rows.map(|row| (row[0].into(), row[3].into(), row[4].into())).collect()
    };
    let row =
        |id: &str, period: &str, is_fraud: &str| (id.to_owned(), period.to_owned(), is_fraud.to_owned());
    let expected =
        [row("taken-back", "training", "0"), row("fraud", "training", "1"), row("silent", "training", "0")];
    assert_eq!(learned("0"), expected);
    // A backtest of it counts by the newest labels too, and what has none apart.
    let data = engine.data.path().join("data");
    let backtest = |more: &[&str]| {
        let command = Command::new(env!("CARGO_BIN_EXE_saker"))
            .args(["backtest", "--journal", data.to_str().unwrap()])
            .args(more)
            .output()
            .unwrap();
        assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
        String::from_utf8(command.stdout).unwrap()
    };
    let report: serde_json::Value = serde_json::from_str(&backtest(&["--format", "json"])).unwrap();
    let whole = &report["whole"];
    assert_eq!(
        [&whole["fraud"]["count"], &whole["genuine"], &report["unlabelled"], &report["decided"]],
        [1, 1, 1, 3],
        "{report}"
    );
    let text = backtest(&[]);
    assert!(text.contains("1 decisions without a label, in no figure of fraud"), "{text}");
    assert!(text.contains("fraud: 0 of 1 caught") && !text.contains("fraud figures need labels"), "{text}");
    // Too young to be learned from, and to be taken for genuine.
    let young = [
        row("taken-back", "too_young", "0"),
        row("fraud", "too_young", "1"),
        row("silent", "unlabelled", ""),
    ];
    assert_eq!(learned("7"), young);
}

#[tokio::test]
async fn lists_are_shared_as_files_and_a_changed_file_decides() {
    let engine = Engine::with_account(1_000_000).await;
    let mut risk = RiskClient::new(engine.channel.clone());
    let rules = LISTED.replace("values = [\"M-file\"]", "file = \"blocked.csv\"");
    let with = |csv: &str| {
        let lines: Vec<String> = csv.lines().map(|line| format!("#| {line}\n")).collect();
        format!("{rules}#@ list blocked.csv\n{}", lines.concat())
    };
    let csv = engine.data.path().join("blocked.csv");
    std::fs::write(&csv, "value\nM-file\n").unwrap();
    std::fs::write(engine.data.path().join("rules.toml"), &rules).unwrap();
    let version = until_rules_are(&mut risk, &with("value\nM-file\n")).await;
    assert_eq!(engine.authorise(at_shop("t", "M-file", "d")).await.unwrap().response_code, "59");

    // The file of a list alone changes; one that is wrong is told, and changes nothing.
    std::fs::write(&csv, "value,source\nM-file,visa\nM-more,visa\n").unwrap();
    let more = until_rules_are(&mut risk, &with("value,source\nM-file,visa\nM-more,visa\n")).await;
    assert_ne!(version, more);
    assert_eq!(engine.authorise(at_shop("u", "M-more", "d")).await.unwrap().response_code, "59");
    std::fs::write(&csv, "value,expires_at\nM-1,never\n").unwrap();
    let refused = risk.reload_rules(proto::ReloadRulesRequest::default()).await.unwrap().into_inner();
    let found = &refused.findings[0];
    assert_eq!(
        (&*refused.version, found.line, found.column, &*found.message),
        ("", 2, 5, "`never` is no time")
    );
    std::fs::remove_file(&csv).unwrap();
    let missing = risk.reload_rules(proto::ReloadRulesRequest::default()).await.unwrap().into_inner();
    assert!(missing.findings[0].message.contains("blocked.csv"), "{missing:?}");
    // What is kept is whole; what only names a file is not.
    let content = risk.get_rules(proto::GetRulesRequest::default()).await.unwrap().into_inner().content;
    let same = risk.reload_rules(proto::ReloadRulesRequest { content }).await.unwrap().into_inner();
    assert_eq!((&same.version, same.findings.len()), (&more, 0));
    let bare =
        risk.reload_rules(proto::ReloadRulesRequest { content: rules.clone() }).await.unwrap().into_inner();
    assert!(bare.findings[0].help.contains("send the values"), "{bare:?}");

    let saker = |arguments: &[&str]| {
        let command = Command::new(env!("CARGO_BIN_EXE_saker")).args(arguments).output().unwrap();
        let told = String::from_utf8(command.stdout).unwrap() + &String::from_utf8(command.stderr).unwrap();
        (command.status.code(), told)
    };
    let address = engine.address.to_string();
    let shared = engine.data.path().join("shared.csv");
    let shared = shared.to_str().unwrap();
    std::fs::write(shared, "value,source\nD-1,alert 17\nD-2,\n").unwrap();
    let import = ["lists", "import", shared, "--to", &address, "--list", "devices", "--source", "desk"];
    assert_eq!(
        saker(&import),
        (
            Some(0),
            "2 rows: 2 added to devices, 0 sent before and left as they are\ndevices has 2 values\n".into()
        )
    );
    let again = saker(&import).1;
    assert!(again.starts_with("2 rows: 0 added to devices, 2 sent before"), "{again}");
    let out = engine.data.path().join("out.csv");
    let export = ["lists", "export", "--from", &address, "--list", "devices", "--out", out.to_str().unwrap()];
    assert_eq!(saker(&export).0, Some(0));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "value,expires_at,source\nD-1,,alert 17\nD-2,,desk\n");
    let (code, told) = saker(&["lists", "import", shared, "--to", &address, "--list", "device"]);
    assert!(code == Some(2) && told.contains("did you mean `devices`?"), "{told}");
    verified(engine).await;
}

/// Stops the engine, whose log must come out the same again.
async fn verified(mut engine: Engine) {
    let pid = engine.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(engine.child.wait().unwrap().code(), Some(0));
    let verified = Command::new(env!("CARGO_BIN_EXE_saker"))
        .args(["journal", "verify"])
        .arg(engine.data.path().join("data"))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test]
async fn a_model_is_replaced_by_a_call_and_what_is_no_model_is_refused_with_its_reason() {
    let engine = Engine::with_account(900_000_000_000).await;
    let mut risk = RiskClient::new(engine.channel.clone());
    let none = risk.get_model(proto::GetModelRequest::default()).await.unwrap().into_inner();
    assert_eq!(none, proto::GetModelResponse::default(), "started with --model none");
    let before = engine.authorise(purchase("t-1", 600)).await.unwrap();
    assert_eq!((&*before.model_version, before.score, before.degraded.len()), ("", 0, 0));

    // Larger than any other message may be.
    let content =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/models/default.json")).unwrap();
    assert!(content.len() > 64 * 1024);
    let load = |content: &str| proto::ReloadModelRequest { content: content.into(), ..Default::default() };
    let loaded = risk.reload_model(load(&content)).await.unwrap().into_inner();
    assert!(loaded.changed && loaded.position > before.position && loaded.refused.is_empty(), "{loaded:?}");
    let scored = engine.authorise(purchase("t-2", 600)).await.unwrap();
    assert_eq!(scored.model_version, loaded.version);
    assert!(scored.score_margin.is_some() && scored.position > loaded.position);

    let asked = proto::GetModelRequest { with_content: true, ..Default::default() };
    let shown = risk.get_model(asked).await.unwrap().into_inner();
    assert!(shown.version == loaded.version && shown.content == content);
    assert!(
        shown.decline_threshold > 0 && shown.trees > 0 && shown.validation.unwrap().average_precision > 0.0
    );
    let head = risk.get_model(proto::GetModelRequest::default()).await.unwrap().into_inner();
    assert!(head.content.is_empty() && head.card.contains("trees"));
    let unknown = proto::GetModelRequest { version: "no-such".into(), ..Default::default() };
    assert_eq!(risk.get_model(unknown).await.unwrap_err().code(), Code::NotFound);

    let cut = &content[..content.len() - 20];
    let refused = risk.reload_model(load(cut)).await.unwrap().into_inner();
    assert!(refused.version.is_empty() && refused.refused.contains("no model file"), "{refused:?}");
    let again = risk.reload_model(load(&content)).await.unwrap().into_inner();
    assert!(!again.changed && again.version == loaded.version && again.refused.is_empty(), "{again:?}");
    assert_eq!(engine.authorise(purchase("t-3", 600)).await.unwrap().model_version, loaded.version);
    // The configured path says `none`, as the call may.
    let back = risk.reload_model(load("")).await.unwrap().into_inner();
    assert!(back.changed && back.version.is_empty());
    assert_eq!(engine.authorise(purchase("t-4", 600)).await.unwrap().model_version, "");
    assert!(risk.reload_model(load(&content)).await.unwrap().into_inner().changed);
    assert!(risk.reload_model(load("none")).await.unwrap().into_inner().changed);
    verified(engine).await;
}

#[tokio::test]
async fn a_configured_challenger_stands_in_the_record_and_is_promoted_by_a_call() {
    let content =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/models/default.json")).unwrap();
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("rules.toml"), "version = 1\n").unwrap();
    let (file, settings) = (data.path().join("next.json"), data.path().join("saker.toml"));
    std::fs::write(&file, &content).unwrap();
    std::fs::write(&settings, format!("[model]\nchallenger = {file:?}\n")).unwrap();
    let engine = Engine::configured(data, "none", &["--config", settings.to_str().unwrap()]).await;
    let mut risk = RiskClient::new(engine.channel.clone());
    let shown = risk.get_model(proto::GetModelRequest::default()).await.unwrap().into_inner();
    assert!(shown.version.is_empty() && !shown.challenger_version.is_empty(), "{shown:?}");
    engine.open_account(900_000_000_000).await;
    let challenge_of = async |transaction: &str| {
        let by = proto::GetDecisionRequest { by: Some(By::TransactionId(transaction.into())) };
        DecisionsClient::new(engine.channel.clone()).get_decision(by).await.unwrap().into_inner().challenge
    };
    let answer = engine.authorise(purchase("t-1", 600)).await.unwrap();
    assert_eq!((&*answer.model_version, answer.score_margin, answer.reasons.len()), ("", None, 0));
    let challenge = challenge_of("t-1").await.unwrap();
    assert_eq!(challenge.model_version, shown.challenger_version);
    assert!(!challenge.champion_declines && challenge.score_margin != 0.0, "{challenge:?}");

    let wrong = proto::ReloadModelRequest { content: "none".into(), challenger: true, promote: true };
    let status = risk.reload_model(wrong).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let fields: Vec<_> =
        status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["content", "challenger"]);
    let promote = proto::ReloadModelRequest { promote: true, ..Default::default() };
    let promoted = risk.reload_model(promote.clone()).await.unwrap().into_inner();
    assert_eq!((promoted.changed, &promoted.version), (true, &shown.challenger_version));
    let answer = engine.authorise(purchase("t-2", 600)).await.unwrap();
    assert_eq!(answer.model_version, promoted.version);
    assert!(answer.score_margin.is_some());
    assert_eq!(challenge_of("t-2").await, None, "there was no model that could challenge it");
    let none = risk.reload_model(promote).await.unwrap().into_inner();
    assert!(none.version.is_empty() && none.refused.contains("no challenger"), "{none:?}");
    let again = proto::ReloadModelRequest { challenger: true, ..Default::default() };
    let again = risk.reload_model(again).await.unwrap().into_inner();
    assert_eq!((again.changed, &again.version), (true, &shown.challenger_version), "the configured file");
    engine.authorise(purchase("t-3", 600)).await.unwrap();
    assert!(challenge_of("t-3").await.is_some());
    verified(engine).await;
}

#[tokio::test]
async fn a_backtest_of_a_journal_says_what_was_recorded_under_another_control_share() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("rules.toml"), "version = 1\n").unwrap();
    let settings = data.path().join("saker.toml");
    std::fs::write(&settings, "[model]\ncontrol_share = 0.01\n").unwrap();
    let engine = Engine::configured(data, "none", &["--config", settings.to_str().unwrap()]).await;
    engine.open_account(100_000).await;
    engine.authorise(purchase("t-1", 600)).await.unwrap();
    let engine = engine.restarted().await;
    for transaction in ["t-2", "t-3"] {
        engine.authorise(purchase(transaction, 600)).await.unwrap();
    }
    let backtest = Command::new(env!("CARGO_BIN_EXE_saker"))
        .args(["backtest", "--format", "json", "--journal"])
        .arg(engine.data.path().join("data"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&backtest.stdout);
    let told: serde_json::Value = serde_json::from_str(&told)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&backtest.stderr)));
    let recorded = &told["recorded"];
    let count = |what: &str| recorded[what].as_u64();
    assert_eq!((count("compared"), count("equal")), (Some(3), Some(3)), "{recorded}");
    assert_eq!(count("under_other_versions"), Some(1), "{recorded}");
    verified(engine).await;
}

#[tokio::test]
async fn a_model_file_that_changes_is_taken_whole_or_not_at_all() {
    let content =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/models/default.json")).unwrap();
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("rules.toml"), "version = 1\n").unwrap();
    let file = data.path().join("model.json");
    std::fs::write(&file, &content).unwrap();
    let mut engine = Engine::scored(data, file.to_str().unwrap()).await;
    let mut risk = RiskClient::new(engine.channel.clone());
    let mut version = async || {
        let asked = proto::GetModelRequest::default();
        risk.get_model(asked).await.unwrap().into_inner().version
    };
    let first = version().await;
    // Other blanks, same model: another version.
    let other = format!("{content}\n\n");
    std::fs::write(&file, &content[..1000]).unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(version().await, first, "half a model");
    std::fs::write(&file, &other).unwrap();
    let mut tries = 0..400;
    while version().await == first {
        tries.next().expect("the file is taken");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let second = version().await;
    // A call's model stays until the file changes, or a signal has it read again.
    let mut caller = RiskClient::new(engine.channel.clone());
    let call = proto::ReloadModelRequest { content: content.clone(), ..Default::default() };
    assert_eq!(caller.reload_model(call).await.unwrap().into_inner().version, first);
    let pid = engine.child.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let mut tries = 0..400;
    while version().await != second {
        tries.next().expect("the signal has it read");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    // A start on what is no model is refused.
    std::fs::write(&file, &content[..1000]).unwrap();
    engine.child.kill().unwrap();
    engine.child.wait().unwrap();
    let start = Command::new(env!("CARGO_BIN_EXE_saker"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--model"])
        .arg(&file)
        .arg("--data")
        .arg(engine.data.path().join("data"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&start.stderr);
    assert_eq!(start.status.code(), Some(2), "{told}");
    assert!(told.contains("model.json: this is no model file"), "{told}");
}

#[tokio::test]
async fn a_rule_is_stopped_by_a_call_at_once_and_a_wrong_call_changes_nothing() {
    let engine = Engine::with_account(900_000_000_000).await;
    let mut risk = RiskClient::new(engine.channel.clone());
    let content =
        "version = 1\n[[rules]]\nid = 'strict'\nwhen = 'amount > 5'\nthen = 'decline'\nreason = 'STRICT'\n";
    let loaded = risk.reload_rules(proto::ReloadRulesRequest { content: content.into() }).await.unwrap();
    let live = loaded.into_inner().version;
    let ask = |rule: &str, mode: proto::RuleMode| proto::SetRuleModeRequest {
        request_id: "s-1".into(),
        rule_id: rule.into(),
        mode: mode.into(),
    };
    let declined = engine.authorisation().authorise(purchase("t-1", 600)).await.unwrap().into_inner();
    assert_eq!((declined.response_code.as_str(), &declined.rules_version), ("59", &live));

    for (wrong, field) in [
        (ask("strict", proto::RuleMode::Unspecified), "mode"),
        (ask("", proto::RuleMode::Shadow), "rule_id"),
        (
            proto::SetRuleModeRequest { request_id: String::new(), ..ask("strict", proto::RuleMode::Off) },
            "request_id",
        ),
    ] {
        let status = risk.set_rule_mode(wrong).await.unwrap_err();
        assert_eq!(told(&status).0, Code::InvalidArgument);
        let fields: Vec<_> = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(fields.iter().map(|bad| bad.field.as_str()).collect::<Vec<_>>(), [field]);
    }
    let unknown = risk.set_rule_mode(ask("strickt", proto::RuleMode::Shadow)).await.unwrap_err();
    assert_eq!(told(&unknown).0, Code::NotFound);
    assert_eq!(unknown.message(), "there is no such rule; did you mean `strict`?");

    for _ in 0..2 {
        let held = risk.set_rule_mode(ask("strict", proto::RuleMode::Shadow)).await.unwrap().into_inner();
        let rules = risk.get_rules(proto::GetRulesRequest::default()).await.unwrap().into_inner();
        assert_eq!(rules.version, held.rules_version);
        assert_eq!(rules.content.matches("#@ mode strict shadow since=").count(), 1, "{}", rules.content);
        let name = format!("t-{}", rules.version);
        let approved = engine.authorisation().authorise(purchase(&name, 600)).await.unwrap().into_inner();
        assert_eq!((approved.response_code.as_str(), approved.rules_version), ("00", held.rules_version));
    }
    let back = risk.set_rule_mode(ask("strict", proto::RuleMode::Live)).await.unwrap().into_inner();
    assert_eq!(back.rules_version, live);
}

#[tokio::test]
async fn health_names_each_service_and_a_sigterm_is_told_before_the_end() {
    let mut engine = Engine::with_account(1_000).await;
    for service in ["", "saker.v1.Authorisation", "saker.v1.Accounts", "saker.v1.Decisions", "saker.v1.Risk"]
    {
        assert_eq!(engine.health(service).await.unwrap(), ServingStatus::Serving, "{service:?}");
    }
    assert_eq!(engine.health("saker.v1.Nothing").await.unwrap_err().code(), Code::NotFound);

    let mut watch = HealthClient::new(engine.channel.clone())
        .watch(HealthCheckRequest { service: String::new() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let (send, items) = tokio::sync::mpsc::unbounded_channel();
    let source = tokio_stream::wrappers::UnboundedReceiverStream::new(items);
    let mut stream = engine.authorisation().authorise_stream(source).await.unwrap().into_inner();
    send.send(item(1, purchase("t-1", 1))).unwrap();
    assert_eq!(response(&stream.message().await.unwrap().unwrap()).response_code, "00");

    let pid = engine.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    send.send(item(2, purchase("t-2", 1))).unwrap();
    let refused = stream.message().await.unwrap().unwrap();
    assert_eq!(Code::from(error(&refused).code), Code::Unavailable);
    assert_eq!(error(&refused).get_details_error_info().unwrap().reason, "DRAINING");
    drop(send);
    while stream.message().await.unwrap_or(None).is_some() {}
    let ended = tokio::task::spawn_blocking(move || engine.child.wait().unwrap()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
}

/// A client that writes each request in a frame of its own, faster than any is decided, and reads the answers as they come.
#[tokio::test]
async fn a_stream_of_tiny_frames_without_a_pause_is_slowed_and_not_cut_off() {
    use http_body_util::BodyExt as _;
    use prost::Message as _;
    use tower_service::Service as _;
    const FRAMES: u64 = 50_000;
    let engine = Engine::with_account(1_000).await;
    // As short as a request can be: a card that does not exist.
    let frame = |number: u64| {
        let request = AuthoriseRequest {
            transaction_id: format!("{number}"),
            kind: Kind::Purchase.into(),
            card_token: "c".into(),
            amount: Some(Money { currency_code: "USD".into(), minor_units: 1 }),
            ..Default::default()
        };
        let item = AuthoriseItem { correlation: number, request: Some(request), answer_within: None };
        let mut bytes = vec![0];
        bytes.extend((item.encoded_len() as u32).to_be_bytes());
        item.encode(&mut bytes).unwrap();
        assert!((29..48).contains(&bytes.len()), "{} bytes", bytes.len());
        Ok::<_, Status>(http_body::Frame::data(bytes::Bytes::from(bytes)))
    };
    let frames = tokio_stream::iter((10_000..10_000 + FRAMES).map(frame));
    let request =
        http::Request::post(format!("http://{}/saker.v1.Authorisation/AuthoriseStream", engine.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(tonic::body::Body::new(http_body_util::StreamBody::new(frames)))
            .unwrap();
    let mut channel = engine.channel.clone();
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let mut answers = channel.call(request).await.unwrap().into_body();
    let (mut answered, mut unread, mut status) = (0, bytes::BytesMut::new(), None);
    while let Some(frame) = answers.frame().await {
        let frame = frame.unwrap_or_else(|error| panic!("cut off after {answered} answers: {error}"));
        match frame.into_data() {
            Ok(data) => unread.extend_from_slice(&data),
            Err(frame) => {
                status = frame.trailers_ref().and_then(|trailers| trailers.get("grpc-status")).cloned()
            }
        }
        while let Some(head) = unread.get(1..5) {
            let length = 5 + u32::from_be_bytes(head.try_into().unwrap()) as usize;
            if unread.len() < length {
                break;
            }
            unread.advance(length);
            answered += 1;
        }
    }
    assert_eq!((answered, status.as_ref().and_then(|status| status.to_str().ok())), (FRAMES, Some("0")));
}

//! The engine with its journal on a real file system: restarts, repeats, voids, and deciding again.

use std::{path::Path, sync::Arc, time::Duration};

use super::*;
use crate::{
    journal::record::Record,
    observe::Metrics,
    types::{
        account::{AccountChange, CardChange},
        auth::Merchant,
        codes::Channel,
        ids::{CardToken, Id},
        money::{Currency, Money},
        time::DAY_MS,
    },
};

mod amounts;
mod drift;
mod labels;
mod models;
mod modes;
pub(super) mod older;
mod shared;

pub(super) const RULES: &str = r#"
version = 1
[aggregates.card_attempts_1h]
by = "card"
window = "1h"
count = true
[[rules]]
id = "velocity"
when = "card_attempts_1h >= 6"
then = "decline"
response_code = "65"
reason = "VELOCITY_COUNT"
"#;

pub(super) struct Bench {
    pub(super) engine: Arc<Engine>,
    pub(super) lane: Arc<Lane>,
}

/// With the smallest segments.
pub(super) fn settings_with(dir: &Path, rules: &str, mut config: Config) -> Settings {
    config.journal.segment_bytes = 1024 * 1024;
    config.accounts.shards = 16;
    Settings {
        data_dir: dir.to_owned(),
        rules: Source { name: "rules.toml".into(), text: rules.into() },
        model: None,
        challenger: None,
        config,
        time: TimeSource::Transactions,
        metrics: Metrics::new(1),
    }
}

pub(super) fn settings(dir: &Path, rules: &str) -> Settings {
    settings_with(dir, rules, Config::default())
}

fn open_with(dir: &Path, rules: &str) -> Bench {
    open_as(dir, rules, Config::default())
}

fn open_as(dir: &Path, rules: &str, config: Config) -> Bench {
    let settings = settings_with(dir, rules, config);
    let (engine, _) = Engine::open(settings).unwrap_or_else(|error| panic!("{error}"));
    Bench::of(engine)
}

impl Bench {
    pub(super) fn of(engine: Arc<Engine>) -> Bench {
        let lane = engine.lane();
        tokio::spawn(lane.clone().run());
        Bench { engine, lane }
    }
}

fn open(dir: &Path) -> Bench {
    open_with(dir, RULES)
}

impl Bench {
    pub(super) fn arrival(&self) -> Arrival {
        Arrival { client: Client::ANONYMOUS, deadline: None, lane: self.lane.clone() }
    }

    pub(super) async fn account(&self, number: usize, limit_minor: i64) {
        let change = account(number, limit_minor);
        let key = key(&format!("open-{number}"));
        self.engine.maintain(Maintenance::Upsert { key, change }, &self.arrival()).await.unwrap();
    }

    pub(super) async fn authorise(&self, request: AuthRequest) -> Answered<AuthAnswer> {
        self.engine.authorise(request, &self.arrival()).await.unwrap()
    }

    pub(super) async fn reverse(&self, own: &str, original: &str) -> Answered<Outcome> {
        let reversal = Reversal { key: key(own), original: key(original), replacement: None };
        self.engine.reverse(reversal, &self.arrival()).await.unwrap()
    }

    async fn held(&self, number: usize) -> i64 {
        let account = AccountId::new(&format!("A{number}")).unwrap();
        self.engine.account(account, &self.lane).await.unwrap().held_minor
    }
}

pub(super) fn key(text: &str) -> RequestKey {
    RequestKey::new(text).unwrap()
}

/// An account in dollars with one card.
pub(super) fn account(number: usize, limit_minor: i64) -> AccountChange {
    AccountChange {
        account: AccountId::new(&format!("A{number}")).unwrap(),
        currency: Currency::from_alpha("USD"),
        credit_limit_minor: Some(limit_minor),
        posted_minor: None,
        status: None,
        product: None,
        home_country: None,
        home: None,
        opened_on: None,
        cards: vec![CardChange {
            token: CardToken::new(&format!("C{number}")).unwrap(),
            status: None,
            expires_on: None,
        }],
    }
}

pub(super) fn request(name: &str, card: usize, minor: i64, at_ms: i64) -> AuthRequest {
    AuthRequest {
        amount: Some(Money::new(minor, Currency::from_alpha("USD").unwrap())),
        transaction_time: Some(Timestamp(at_ms)),
        merchant: Merchant { merchant_id: Some(Id::new("M1").unwrap()), ..Merchant::default() },
        channel: Some(Channel::CardPresent),
        ..AuthRequest::new(
            key(name),
            Kind::Purchase,
            Subject::Card(CardToken::new(&format!("C{card}")).unwrap()),
        )
    }
}

#[tokio::test]
async fn the_same_id_after_a_restart_gives_the_same_answer_and_another_body_94() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path());
    bench.account(1, 10_000).await;
    let mut given = Vec::new();
    for n in 0..9 {
        let wanted = request(&format!("t{n}"), 1, 1_500, 1_000_000 + n);
        given.push((wanted.clone(), bench.authorise(wanted).await));
    }
    let unknown = request("nobody", 9, 10, 1_000_100);
    given.push((unknown.clone(), bench.authorise(unknown).await));
    bench.reverse("r-late", "late").await;
    bench.reverse("r-0", "t0").await;
    let codes: Vec<String> = given.iter().map(|(_, a)| a.answer.response_code.to_string()).collect();
    assert_eq!(codes, ["00", "00", "00", "00", "00", "00", "65", "65", "65", "14"]);
    let held = bench.held(1).await;
    bench.engine.close().unwrap();
    drop(bench);

    let bench = open(dir.path());
    bench.account(9, 10_000).await;
    assert_eq!(bench.held(1).await, held);
    for (wanted, answered) in &given {
        let again = bench.authorise(wanted.clone()).await;
        assert!(again.replayed);
        assert_eq!(again.answer, answered.answer);
        let mut other = wanted.clone();
        other.amount = Some(Money::new(77, Currency::from_alpha("USD").unwrap()));
        let duplicate = bench.authorise(other).await;
        assert_eq!(duplicate.answer.response_code.as_str(), "94");
        assert!(!duplicate.replayed);
    }
    let late = bench.authorise(request("late", 1, 5, 2_000_000)).await.answer;
    assert_eq!((late.response_code.as_str(), &*late.reasons[0].code), ("12", "REVERSED_BEFORE_ARRIVAL"));
    let again = bench.reverse("r-0", "t0").await;
    assert!(again.replayed);
    assert_eq!(again.answer.moved.unwrap().minor, 1_500);
    assert_eq!(bench.reverse("r-0", "t1").await.answer.response_code.as_str(), "94");
    assert_eq!(bench.held(1).await, held);
    bench.engine.close().unwrap();
    verified(dir.path());
}

/// Decides the whole directory again and expects no difference, nor one in a backtest of it.
fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Decides until it is told to stop, and gives the answers.
async fn decide_until(bench: Arc<Bench>, caller: usize, stop: Arc<AtomicBool>) -> Vec<AuthAnswer> {
    let mut answers = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut pending = Vec::new();
        for _ in 0..8 {
            number += 1;
            // Time goes on, so that holds expire however long this takes.
            let request = request(&format!("r{caller}-{number}"), number % 100, 600, number as i64 * 10_000);
            pending.push(bench.engine.authorise(request, &bench.arrival()));
        }
        for answer in pending {
            answers.push(answer.await.unwrap().answer);
        }
    }
    answers
}

pub(super) fn verified(dir: &Path) -> replay::Verified {
    let verified = replay::verify(dir, &mut |_| {}).unwrap();
    assert_eq!(verified.different, 0, "{:#?}", verified.differences);
    backtest::tests::a_journal_repeats_itself(dir);
    verified
}

#[tokio::test]
async fn windows_survive_a_restart_as_exactly_as_balances() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path());
    bench.account(1, 1_000_000).await;
    for n in 0..5 {
        bench.authorise(request(&format!("t{n}"), 1, 10, 1_000_000 + n)).await;
    }
    bench.engine.close().unwrap();
    drop(bench);
    let bench = open(dir.path());
    let sixth = bench.authorise(request("t5", 1, 10, 1_000_010)).await.answer;
    assert_eq!(sixth.response_code.as_str(), "00");
    let seventh = bench.authorise(request("t6", 1, 10, 1_000_011)).await.answer;
    assert_eq!(seventh.response_code.as_str(), "65");
    // The first attempt leaves the window a millisecond after it is an hour old.
    let edge = bench.authorise(request("t7", 1, 10, 1_000_000 + 3_600_000)).await.answer;
    assert_eq!(edge.response_code.as_str(), "65");
    bench.engine.close().unwrap();
    verified(dir.path());
}

#[tokio::test]
async fn a_deadline_that_passes_before_the_answer_voids_it_for_every_retry() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path());
    bench.account(1, 10_000).await;
    let wanted = request("t1", 1, 4_000, 1_000_000);

    let late = Arrival { deadline: Some(Instant::now()), ..bench.arrival() };
    let refused = bench.engine.authorise(wanted.clone(), &late).await;
    assert_eq!(refused, Err(Fault::DeadlineNotStarted));
    assert_eq!(bench.held(1).await, 0);

    let soon = Arrival { deadline: Some(Instant::now() + Duration::from_millis(400)), ..bench.arrival() };
    let pending = bench.engine.authorise(wanted.clone(), &soon);
    assert_eq!(bench.held(1).await, 4_000);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(pending.await, Err(Fault::DeadlineVoided));
    assert_eq!(bench.held(1).await, 0);
    let retry = bench.engine.authorise(wanted.clone(), &bench.arrival()).await;
    assert_eq!(retry, Err(Fault::DeadlineVoided));
    assert!(
        bench
            .engine
            .decision(Client::ANONYMOUS, DecisionKey::Key(wanted.key), &bench.lane)
            .await
            .unwrap()
            .voided
    );

    // A caller that hangs up with its deadline still ahead: void once that has passed.
    let soon = Arrival { deadline: Some(Instant::now() + Duration::from_millis(400)), ..bench.arrival() };
    let gone = request("t2", 1, 3_000, 1_000_001);
    drop(bench.engine.authorise(gone.clone(), &soon));
    assert_eq!(bench.held(1).await, 3_000);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(bench.held(1).await, 0);

    // One without a deadline: the decision stands for the repeat to find.
    let patient = request("t3", 1, 2_000, 1_000_002);
    drop(bench.engine.authorise(patient.clone(), &bench.arrival()));
    let found = bench.authorise(patient).await;
    assert!(found.replayed);
    assert_eq!(bench.held(1).await, 2_000);
    bench.engine.close().unwrap();
    drop(bench);
    let bench = open(dir.path());
    assert_eq!(bench.engine.authorise(gone, &bench.arrival()).await, Err(Fault::DeadlineVoided));
    assert_eq!(bench.held(1).await, 2_000);
    bench.engine.close().unwrap();
    verified(dir.path());
}

#[tokio::test]
async fn an_answer_that_a_repeat_was_given_is_not_voided_behind_its_back() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path());
    bench.account(1, 10_000).await;
    let soon = || Arrival { deadline: Some(Instant::now() + Duration::from_millis(400)), ..bench.arrival() };

    // The connection breaks before the answer; the repeat gets it; then the deadline of the first passes.
    let broken = request("t1", 1, 3_000, 1_000_000);
    drop(bench.engine.authorise(broken.clone(), &soon()));
    let repeat = bench.authorise(broken.clone()).await;
    assert!(repeat.replayed);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(bench.held(1).await, 3_000);
    assert_eq!(bench.authorise(broken).await.answer, repeat.answer);

    // The first call is still there, late, when the repeat has had the answer: both say the same.
    let late = request("t2", 1, 2_000, 1_000_001);
    let first = bench.engine.authorise(late.clone(), &soon());
    let repeat = bench.authorise(late).await.answer;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(first.await.unwrap().answer, repeat);
    assert_eq!(bench.held(1).await, 5_000);

    // What a partial reversal said stays held stays held.
    drop(bench.engine.authorise(request("t3", 1, 1_000, 1_000_002), &soon()));
    let replacement = Some(Money::new(400, Currency::from_alpha("USD").unwrap()));
    let reversal = Reversal { key: key("r3"), original: key("t3"), replacement };
    let outcome = bench.engine.reverse(reversal, &bench.arrival()).await.unwrap().answer;
    assert_eq!(outcome.moved.unwrap().minor, 600);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(bench.held(1).await, 5_400);
    bench.engine.close().unwrap();
    verified(dir.path());
}

#[tokio::test]
async fn a_reversal_under_its_original_s_own_key_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path());
    let reversal = Reversal { key: key("same"), original: key("same"), replacement: None };
    let refused = bench.engine.reverse(reversal, &bench.arrival()).await;
    assert!(matches!(refused, Err(Fault::Invalid(_))), "{refused:?}");
    bench.engine.close().unwrap();
}

#[tokio::test]
async fn a_decline_for_an_account_that_was_never_opened_can_be_reversed() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path());
    bench.account(1, 10_000).await;
    // A new account that names another's card is refused and leaves nothing an authorisation could find.
    let change = AccountChange {
        account: AccountId::new("A2").unwrap(),
        currency: Currency::from_alpha("USD"),
        credit_limit_minor: Some(5),
        posted_minor: None,
        status: None,
        product: None,
        home_country: None,
        home: None,
        opened_on: None,
        cards: vec![CardChange { token: CardToken::new("C1").unwrap(), status: None, expires_on: None }],
    };
    let stolen = Maintenance::Upsert { key: key("steal"), change };
    assert!(matches!(bench.engine.maintain(stolen, &bench.arrival()).await, Err(Fault::Invalid(_))));
    let mut wanted = request("t1", 1, 10, 1_000_000);
    wanted.subject = Subject::Account(AccountId::new("A2").unwrap());
    assert_eq!(bench.authorise(wanted).await.answer.response_code.as_str(), "14");
    let reversed = bench.reverse("r1", "t1").await.answer;
    assert_eq!((reversed.response_code.as_str(), reversed.moved), ("00", None));
    assert!(bench.reverse("r1", "t1").await.replayed);
    bench.engine.close().unwrap();
    verified(dir.path());
}

#[tokio::test]
async fn holds_expire_once_and_the_log_decides_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path());
    bench.account(1, 10_000).await;
    bench.account(2, 10_000).await;
    bench.authorise(request("t1", 1, 9_000, 1_000_000)).await;
    let full = bench.authorise(request("t2", 1, 9_000, 2_000_000)).await;
    assert_eq!(full.answer.response_code.as_str(), "51");
    // Card present: five days.
    let later = 1_000_000 + 5 * DAY_MS;
    let before = bench.authorise(request("t3", 1, 9_000, later - 1)).await;
    assert_eq!(before.answer.response_code.as_str(), "51");
    let after = bench.authorise(request("t4", 1, 9_000, later)).await;
    assert_eq!(after.answer.response_code.as_str(), "00");
    assert_eq!(bench.reverse("r1", "t1").await.answer.moved.unwrap().minor, 0);

    bench.authorise(request("t5", 2, 5_000, later)).await;
    bench.authorise(request("t6", 1, 0, later + 6 * DAY_MS)).await;
    let mut round = sweep::Round::default();
    let all = 0..bench.engine.state.store.len() as u32;
    assert!(sweep::sweep(&bench.engine.state, &bench.engine.journal, bench.engine.now(), all, &mut round));
    assert_eq!(round.expired, 1);
    assert_eq!(bench.held(2).await, 0);
    bench.engine.close().unwrap();
    let counts = verified(dir.path()).counts;
    assert_eq!(counts["expired"], 1);
    assert_eq!(counts["decided"], 6);
}

#[tokio::test]
async fn decisions_under_changed_rules_are_made_again_under_those_they_name() {
    let dir = tempfile::tempdir().unwrap();
    for (round, rules) in [RULES, "version = 1", RULES].into_iter().enumerate() {
        let bench = open_with(dir.path(), rules);
        bench.account(round, 1_000_000).await;
        for n in 0..8 {
            bench.authorise(request(&format!("t{round}-{n}"), 0, 10, 1_000_000 + n)).await;
        }
        bench.engine.close().unwrap();
    }
    let verified = verified(dir.path());
    // Six of the first round are approved, none of the third: its windows see the rounds before.
    assert_eq!(verified.decisions["DECLINED 65"], 2 + 8);
    assert_eq!(verified.counts["introduced"], 3 + 1 + 1);
}

#[tokio::test]
async fn a_decision_nobody_would_make_is_found_by_deciding_again() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path());
    bench.account(1, 10_000).await;
    let honest = bench.authorise(request("t1", 1, 10, 1_000_000)).await.answer;
    let payload = bench.engine.journal.read(honest.position).unwrap().unwrap();
    let record = Record::decode(&payload, honest.position, &*bench.engine.names).unwrap();
    let Record::Decided(mut forged) = record else { panic!("an authorisation is a decision") };
    // An approval above the limit, written as a frame like any other.
    forged.request = request("t2", 1, 99_000, 1_000_001);
    forged.answer.approved = Some(Money::new(99_000, Currency::from_alpha("USD").unwrap()));
    let mut slot = bench.engine.journal.reserve(Class::Essential).unwrap();
    let position = slot.take_sequence();
    Record::Decided(forged).encode(slot.buffer());
    slot.publish();
    bench.engine.close().unwrap();
    let verified = replay::verify(dir.path(), &mut |_| {}).unwrap();
    assert_eq!(verified.different, 1);
    assert!(
        verified.differences[0].starts_with(&format!("position {position}:")),
        "{:?}",
        verified.differences
    );
}

#[tokio::test]
async fn a_drained_engine_takes_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path());
    bench.account(1, 10_000).await;
    bench.engine.drain();
    assert_eq!(*bench.engine.health().borrow(), Health { authorisation: false, others: false });
    let refused = bench.engine.authorise(request("t1", 1, 10, 1_000_000), &bench.arrival()).await;
    assert_eq!(refused, Err(Fault::Unavailable(DRAINING)));
    bench.engine.close().unwrap();
}

#[tokio::test]
async fn a_second_engine_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path());
    let settings = Settings {
        data_dir: dir.path().to_owned(),
        rules: Source { name: "r".into(), text: "version = 1".into() },
        model: None,
        challenger: None,
        config: Config::default(),
        time: TimeSource::Transactions,
        metrics: Metrics::new(1),
    };
    let error = Engine::open(settings).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("in use"), "{error}");
    bench.engine.close().unwrap();
}

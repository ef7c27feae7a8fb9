//! Lists that change while decisions go on: every decision names the lists it saw and comes out the same again, and
//! nothing that a call said is lost by a restart, a snapshot or other rules.

use std::path::Path;

use super::{
    super::{
        Client, DecisionKey,
        tests::{Bench, key, request, settings, verified},
    },
    *,
};
use crate::{
    engine::Source,
    types::{
        auth::AuthRequest,
        codes::Decision,
        ids::Id,
        lists::{FraudLabel, ListEntry},
        time::{DAY_MS, Timestamp},
    },
};

const RULES: &str = r#"
version = 1
[lists.blocked]
values = ["M-file"]
[lists.devices]
values = []
[[label_policies]]
label = "fraud"
list = "devices"
add = "device.id"
expires_in = "30d"
[[label_policies]]
label = "fraud"
kind = "stolen"
list = "blocked"
add = "merchant.id"
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

fn open(dir: &Path, rules: &str) -> Bench {
    let (engine, _) = Engine::open(settings(dir, rules)).unwrap_or_else(|error| panic!("{error}"));
    Bench::of(engine)
}

fn added(value: &str, until: Option<i64>) -> ListEntry {
    ListEntry { value: value.into(), expires_at: until.map(Timestamp), source: "bank".into() }
}

fn update(own: &str, add: &[&str], remove: &[&str]) -> ListUpdate {
    ListUpdate {
        key: key(own),
        list: "blocked".into(),
        add: add.iter().map(|value| added(value, None)).collect(),
        remove: remove.iter().map(|value| (*value).into()).collect(),
    }
}

fn at_shop(name: &str, shop: &str, at_ms: i64) -> AuthRequest {
    let mut request = request(name, 0, 100, at_ms);
    request.merchant.merchant_id = Some(Id::new(shop).unwrap());
    request
}

impl Bench {
    async fn list(&self, update: ListUpdate) -> Result<Answered<ListOutcome>, Fault> {
        self.engine.update_list(update, false, &self.arrival()).await
    }

    async fn label(&self, own: &str, transaction: &str, kind: &str) -> Result<Answered<Outcome>, Fault> {
        let labelling = Labelling {
            key: key(own),
            transaction: key(transaction),
            label: FraudLabel::Fraud,
            kind: kind.into(),
            source: "desk".into(),
            occurred_at: None,
        };
        self.engine.label(labelling, &self.arrival()).await
    }

    async fn is_declined(&self, request: AuthRequest) -> bool {
        self.authorise(request).await.answer.decision == Decision::Declined
    }

    async fn values(&self, list: &str) -> Vec<String> {
        let page = self.engine.list(list.to_owned(), String::new(), 100, &self.lane).await.unwrap();
        assert_eq!(page.values, page.entries.len() as u64);
        page.entries.iter().map(|entry| entry.entry.value.to_string()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn decisions_that_race_with_list_updates_come_out_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path(), RULES);
    bench.account(0, 1_000_000_000).await;
    let callers = (0..4_usize).map(|caller| {
        let (engine, lane) = (bench.engine.clone(), bench.lane.clone());
        tokio::spawn(async move {
            let bench = Bench { engine, lane };
            let (mut declined, mut approved) = (0, 0);
            for number in 0..150 {
                let name = format!("t{caller}-{number}");
                match bench.is_declined(at_shop(&name, "M-1", 1_000_000 + number)).await {
                    true => declined += 1,
                    false => approved += 1,
                }
            }
            (declined, approved)
        })
    });
    let callers: Vec<_> = callers.collect();
    for number in 0..60 {
        let own = format!("u{number}");
        let update = if number % 2 == 0 { update(&own, &["M-1"], &[]) } else { update(&own, &[], &["M-1"]) };
        bench.list(update).await.unwrap();
        if number % 10 == 0 {
            let text = format!("{RULES}# {number}\n");
            let (engine, source) = (bench.engine.clone(), Source { name: "rules".into(), text });
            tokio::task::spawn_blocking(move || engine.reload_rules(source)).await.unwrap().unwrap();
        }
    }
    let (mut declined, mut approved) = (0, 0);
    for caller in callers {
        let (no, yes) = caller.await.unwrap();
        declined += no;
        approved += yes;
    }
    assert_eq!(declined + approved, 600);
    let newest = bench.engine.in_force.load().setup.lists.version();
    let last = bench.authorise(at_shop("last", "M-1", 2_000_000)).await;
    let seen = bench.engine.decision(Client::ANONYMOUS, DecisionKey::Key(key("last")), &bench.lane).await;
    assert_eq!(seen.unwrap().lists, newest);
    assert!(newest < last.answer.position);
    bench.engine.close().unwrap();
    let verified = verified(dir.path());
    assert_eq!((verified.different, verified.counts["listed"]), (0, 60), "{:?}", verified.differences);
}

#[tokio::test]
async fn a_repeat_changes_nothing_and_another_body_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path(), RULES);
    let first = bench.list(update("u", &["M-1", "M-2"], &["M-file", "M-never"])).await.unwrap();
    assert_eq!((first.answer.values, first.replayed), (2, false));
    bench.list(update("v", &[], &["M-2"])).await.unwrap();
    let again = bench.list(update("u", &["M-1", "M-2"], &["M-file", "M-never"])).await.unwrap();
    assert_eq!(again, Answered { answer: first.answer, replayed: true });
    assert_eq!(bench.values("blocked").await, ["M-1"], "a repeat brings nothing back");
    assert_eq!(bench.list(update("u", &["M-1"], &[])).await, Err(Fault::KeyReused));
    let unknown = ListUpdate { list: "bloked".into(), ..update("w", &["x"], &[]) };
    assert_eq!(bench.list(unknown).await, Err(Fault::NoSuchList { meant: Some("blocked".into()) }));
    assert!(bench.list(update("w", &["x"], &[])).await.is_ok(), "what was refused leaves its key free");
    // One space of keys over all calls.
    bench.account(0, 1_000).await;
    bench.authorise(at_shop("t", "M-9", 1_000)).await;
    assert_eq!(bench.list(update("t", &["x"], &[])).await, Err(Fault::KeyReused));
    assert_eq!(bench.authorise(at_shop("u", "M-9", 1_000)).await.answer.response_code.as_str(), "94");
    bench.engine.close().unwrap();
    let again = open(dir.path(), RULES);
    let repeated = again.list(update("u", &["M-1", "M-2"], &["M-file", "M-never"])).await.unwrap();
    assert_eq!(repeated, Answered { answer: first.answer, replayed: true });
    again.engine.close().unwrap();
    assert_eq!(verified(dir.path()).different, 0);
}

#[tokio::test]
async fn an_entry_ends_at_its_time_for_decisions_and_for_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path(), RULES);
    bench.account(0, 1_000_000).await;
    bench.authorise(at_shop("clock", "M-0", 10_000)).await;
    let mut until = update("u", &[], &[]);
    until.add = vec![added("M-1", Some(20_000))];
    bench.list(until).await.unwrap();
    assert!(bench.is_declined(at_shop("before", "M-1", 19_999)).await);
    assert!(!bench.is_declined(at_shop("at", "M-1", 20_000)).await);
    bench.list(update("v", &["M-2"], &[])).await.unwrap();
    assert_eq!(bench.values("blocked").await, ["M-2", "M-file"]);
    bench.engine.close().unwrap();
    assert_eq!(verified(dir.path()).different, 0);
}

#[tokio::test]
async fn what_calls_said_outlives_restarts_snapshots_and_other_rules() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path(), RULES);
    bench.account(0, 1_000_000).await;
    bench.list(update("u", &["M-1"], &["M-file"])).await.unwrap();
    bench.authorise(at_shop("t", "M-0", 1_000)).await;
    bench.label("l0", "t", "").await.unwrap();
    bench.engine.snapshot_now().unwrap();
    bench.list(update("v", &["M-2"], &[])).await.unwrap();
    let (lists, labels) =
        (bench.engine.in_force.load().setup.lists.lists().clone(), bench.engine.labels.lock().clone());
    bench.engine.close().unwrap();

    let again = open(dir.path(), RULES);
    assert_eq!(
        again.engine.in_force.load().setup.lists.lists(),
        &lists,
        "from the snapshot and the log behind it"
    );
    assert_eq!(*again.engine.labels.lock(), labels);
    let without = RULES.replace("[lists.blocked]\nvalues = [\"M-file\"]", "[lists.blocked]\nvalues = [7]");
    let without = without.replace("merchant.id in lists.blocked", "hour_utc in lists.blocked");
    let without =
        without.replace("kind = \"stolen\"\nlist = \"blocked\"", "kind = \"stolen\"\nlist = \"devices\"");
    let put = |text: &str| again.engine.reload_rules(Source { name: "rules".into(), text: text.into() });
    put(&without).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.values("blocked").await, ["7"]);
    assert_eq!(again.engine.in_force.load().lists_aside(), 1, "it is kept and counted");
    assert!(!again.is_declined(at_shop("aside", "M-1", 2_000)).await);
    let ints = ListUpdate { add: vec![added("08", None)], ..update("ints", &[], &[]) };
    assert_eq!(again.list(ints).await.unwrap().answer.values, 2);
    put(RULES).unwrap();
    assert_eq!(again.values("blocked").await, ["M-1", "M-2"]);
    assert!(again.is_declined(at_shop("back", "M-1", 3_000)).await);
    assert!(!again.is_declined(at_shop("file", "M-file", 3_000)).await, "what was taken out stays out");
    again.engine.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    let from_log = open(dir.path(), RULES);
    assert_eq!(from_log.values("blocked").await, ["M-1", "M-2"]);
    from_log.engine.close().unwrap();
    let verified = verified(dir.path());
    assert_eq!(verified.different, 0, "{:?}", verified.differences);
}

#[tokio::test]
async fn a_fraud_report_puts_the_device_on_a_list_in_the_same_step() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path(), RULES);
    bench.account(0, 1_000_000).await;
    let with_device = |name: &str, shop: &str, at_ms| AuthRequest {
        device_id: Some(Id::new("D-1").unwrap()),
        ..at_shop(name, shop, at_ms)
    };
    assert!(!bench.is_declined(with_device("t", "M-1", 1_000)).await);
    let labelled = bench.label("l", "t", "stolen").await.unwrap();
    assert_eq!((labelled.answer.response_code.as_str(), labelled.replayed), ("00", false));
    assert_eq!(labelled.answer.moved.unwrap().minor, 0);
    assert_eq!(bench.values("devices").await, ["D-1"]);
    assert_eq!(bench.values("blocked").await, ["M-1", "M-file"], "a policy of this kind of label");
    let declined = bench.authorise(with_device("u", "M-2", 2_000)).await.answer;
    assert_eq!(&*declined.reasons[0].code, "WATCHED_DEVICE");
    let found =
        bench.engine.decision(Client::ANONYMOUS, DecisionKey::Key(key("u")), &bench.lane).await.unwrap();
    assert_eq!(found.lists, labelled.answer.position);
    assert!(!bench.is_declined(with_device("later", "M-2", 2_000 + 31 * DAY_MS)).await, "it has expired");

    let again = bench.label("l", "t", "stolen").await.unwrap();
    assert_eq!(again, Answered { answer: labelled.answer.clone(), replayed: true });
    assert_eq!(bench.label("l", "t", "lost").await.unwrap().answer.response_code.as_str(), "94");
    assert_eq!(bench.label("m", "nothing", "").await, Err(NO_TRANSACTION));
    assert_eq!(bench.label("m", "l", "").await, Err(NO_TRANSACTION), "a label is no transaction");
    bench.label("m", "t", "lost").await.unwrap();
    let kinds = |found: crate::engine::DecisionRecord| {
        found.labels.iter().map(|label| label.labelling.kind.to_string()).collect::<Vec<_>>()
    };
    let by_key = DecisionKey::Key(key("t"));
    let found = bench.engine.decision(Client::ANONYMOUS, by_key, &bench.lane).await.unwrap();
    assert_eq!(kinds(found), ["lost", "stolen"], "the newest first, and the history behind it");
    bench.engine.close().unwrap();
    let verified_once = verified(dir.path());
    assert_eq!((verified_once.different, verified_once.counts["labelled"]), (0, 2));
    let reopened = open(dir.path(), RULES);
    let found = reopened.engine.decision(Client::ANONYMOUS, by_key, &reopened.lane).await.unwrap();
    assert_eq!(kinds(found), ["lost", "stolen"]);
    reopened.engine.close().unwrap();
}

#[tokio::test]
async fn a_card_number_is_no_value_of_a_list_of_cards() {
    let dir = tempfile::tempdir().unwrap();
    let rules = RULES.replace("merchant.id in lists.blocked", "card.token in lists.blocked");
    let bench = open(dir.path(), &rules);
    let refused = bench.list(update("u", &["4111111111111111"], &[])).await;
    let Err(Fault::Invalid(violations)) = refused else { panic!("{refused:?}") };
    assert_eq!((violations[0].field, violations[0].response_code.as_str()), ("add.value", "14"));
    assert!(
        bench
            .engine
            .update_list(update("u", &["4111111111111111"], &[]), true, &bench.arrival())
            .await
            .is_ok()
    );
    bench.engine.close().unwrap();
}

#[test]
fn labels_at_hand_are_bounded_and_the_oldest_make_way() {
    let mut labels = Labels::default();
    for of in 1..=LABELS_AT_HAND_MAX as u64 + 2 {
        labels.put(of, of + 1);
    }
    labels.put(3, 1_000_000);
    assert_eq!([labels.of(1), labels.of(2), labels.of(3), labels.of(4)], [0, 0, 1_000_000, 5]);
    assert_eq!(labels.all().count(), LABELS_AT_HAND_MAX);
}

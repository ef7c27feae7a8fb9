use std::{ops::ControlFlow, path::Path};

use super::*;
use crate::{
    engine::tests as live,
    features::catalog::MODEL_FEATURES_FIRST,
    journal::record::Record,
    model,
    sim::{self, World},
    types::{
        auth::Subject,
        codes::{Decision, ResponseCode},
        ids::Id,
    },
};

fn backtest(world: &World) -> Backtest {
    let rules = Source { name: "none".to_owned(), text: "version = 1\n".to_owned() };
    let model = Source { name: "shipped".to_owned(), text: model::SHIPPED.to_owned() };
    let mut backtest = Backtest::new(&rules, Some(&model)).unwrap();
    for (place, account) in world.accounts.iter().enumerate() {
        // Tight limits, so that credit declines too.
        let limit = account.credit_limit_minor.map(|limit| limit / 8);
        let account = AccountChange { credit_limit_minor: limit, ..account.clone() };
        backtest.upsert(RequestKey::new(&format!("open {place}")).unwrap(), account).unwrap();
    }
    backtest
}

impl Backtest {
    /// What an account has left at the time of a request, in minor units.
    fn available_before(&self, request: &AuthRequest) -> Option<i64> {
        let at = self.state.store.find(&request.subject)?;
        let now = request.transaction_time.unwrap_or_default();
        self.state.store.with_account(at, |entry| Some(entry.account.as_ref()?.available_minor(now)))
    }
}

fn world() -> World {
    sim::generate(sim::Settings { accounts: 60, days: 20, seed: 4, start: sim::DEFAULT_START })
}

#[test]
fn following_a_history_of_ones_own_making_decides_the_same() {
    let world = world();
    let (mut own, mut following, mut blind) = (backtest(&world), backtest(&world), backtest(&world));
    let mut otherwise = 0;
    let mut codes = std::collections::BTreeSet::new();
    for transaction in &world.transactions {
        let request = &transaction.request;
        let (answer, _) = own.decide(request, false, &mut ()).unwrap();
        let approved = answer.decision == Decision::Approved;
        let observed = Observed { approved, response_code: Some(answer.response_code) };
        let followed = following.observe(request, observed, false, &mut ()).unwrap();
        assert_eq!(followed, (answer.clone(), Replayed::Decided), "{request:?}");
        let all_approved = Observed { approved: true, response_code: None };
        let before = blind.available_before(request);
        let (unlike, _) = blind.observe(request, all_approved, false, &mut ()).unwrap();
        // The answer is that of the decision, whatever is put in force.
        let approved = unlike.approved.is_some_and(|approved| approved.minor > 0);
        assert_eq!(unlike.hold_expires_at.is_some(), approved, "{unlike:?}");
        let left = before.zip(unlike.approved).map(|(before, approved)| before - approved.minor);
        assert_eq!(unlike.available.map(|available| available.minor), left, "{unlike:?}");
        otherwise += u32::from(unlike.available != answer.available || unlike.decision != answer.decision);
        codes.insert(answer.response_code.to_string());
    }
    assert!(codes.contains("51") && codes.contains("59"), "{codes:?}");
    assert!(otherwise > 100, "a history that approves all is another: {otherwise}");
}

/// An increment keeps what it adds to alive, also where history approved both.
#[test]
fn an_increment_that_history_approved_belongs_to_its_original() {
    const DAY_MS: i64 = 86_400_000;
    let rules = Source { name: "none".to_owned(), text: "version = 1\n".to_owned() };
    let asked = |name: &str, kind: Kind, original: Option<&str>, day: i64| AuthRequest {
        kind,
        original: original.map(live::key),
        ..live::request(name, 1, 100, 1_000 + day * DAY_MS)
    };
    let steps = [
        asked("first", Kind::Purchase, None, 0),
        asked("more", Kind::Incremental, Some("first"), 4),
        // Behind the end that the first would have had alone.
        asked("look", Kind::BalanceInquiry, None, 7),
    ];
    let approved = Observed { approved: true, response_code: None };
    let [own, followed] = [false, true].map(|observe| {
        let mut backtest = Backtest::new(&rules, None).unwrap();
        backtest.upsert(live::key("open"), live::account(1, 100_000)).unwrap();
        steps.each_ref().map(|step| match observe {
            true => backtest.observe(step, approved, false, &mut ()).unwrap().0,
            false => backtest.decide(step, false, &mut ()).unwrap().0,
        })
    });
    assert_eq!(own, followed);
    let left = |answer: &AuthAnswer| answer.available.map(|available| available.minor);
    assert_eq!(own.each_ref().map(left), [Some(99_900), Some(99_800), Some(99_800)]);
}

/// As the engine, which follows no label of what reached no account.
#[test]
fn the_fraud_of_an_unknown_card_counts_nowhere() {
    const KNOWN: &str = "version = 1\n[aggregates.frauds]\nby = 'merchant'\nwindow = '30d'\ncount = true\n\
         where = \"label == 'fraud'\"\n[[rules]]\nid = 'r'\nwhen = 'frauds >= 1'\nthen = 'decline'\nreason = 'F'\n";
    let rules = Source { name: "known".to_owned(), text: KNOWN.to_owned() };
    for (card, expected) in [(9, Decision::Approved), (1, Decision::Declined)] {
        let mut backtest = Backtest::new(&rules, None).unwrap();
        backtest.upsert(live::key("open"), live::account(1, 100_000)).unwrap();
        let first = live::request("first", card, 100, 1_000);
        backtest.decide(&first, false, &mut ()).unwrap();
        backtest.label(&first, FraudLabel::Fraud, Timestamp(2_000));
        let (answer, _) = backtest.decide(&live::request("next", 1, 100, 3_000), false, &mut ()).unwrap();
        assert_eq!(answer.decision, expected);
    }
}

#[test]
fn a_key_that_comes_again_gets_its_answer_or_94_and_counts_nowhere() {
    let world = world();
    let (mut plain, mut again) = (backtest(&world), backtest(&world));
    for transaction in world.transactions.iter().take(500) {
        let request = &transaction.request;
        let (first, _) = plain.decide(request, false, &mut ()).unwrap();
        let (answer, how) = again.decide(request, true, &mut ()).unwrap();
        assert_eq!(how, Replayed::Decided);
        let same = |answer: &AuthAnswer| (answer.decision, answer.available, answer.margin.map(f64::to_bits));
        assert_eq!(same(&answer), same(&first));
        assert_eq!(again.decide(request, true, &mut ()).unwrap(), (answer, Replayed::Repeated));
        let mut other = request.clone();
        other.instalments += 2;
        let (duplicate, how) = again.decide(&other, true, &mut ()).unwrap();
        assert_eq!((duplicate.response_code, how), (ResponseCode::DUPLICATE, Replayed::Duplicate));
        assert_eq!(duplicate.margin, None);
    }
}

/// A merchant where two frauds became known, told apart by rows that see what was known at their time.
#[test]
fn a_label_counts_from_the_day_it_is_known_and_not_from_that_of_its_fraud() {
    const KNOWN: &str = "version = 1\n[aggregates.frauds_30d]\nby = 'merchant'\nwindow = '30d'\ncount = true\n\
         where = \"label == 'fraud'\"\n[[rules]]\nid = 'r'\nwhen = 'frauds_30d >= 2'\nthen = 'decline'\n\
         reason = 'FRAUD_MERCHANT'\n";
    const DAY_MS: i64 = 86_400_000;
    // By whom it is counted makes no difference where there is one card at one merchant.
    let kept_by =
        ["merchant", "card", "account"].map(|by| KNOWN.replace("by = 'merchant'", &format!("by = '{by}'")));
    // A file that names no cards has one card per account, which the account then has not got a token of.
    for ((observe, names_cards), text) in [(false, true), (true, true), (false, false), (true, false)]
        .into_iter()
        .flat_map(|how| kept_by.each_ref().map(|text| (how, text)))
    {
        let rules = Source { name: "known".to_owned(), text: text.clone() };
        let mut backtest = Backtest::new(&rules, None).unwrap();
        assert!(backtest.reads_labels());
        let mut open = live::account(1, 100_000_000);
        if !names_cards {
            open.cards.clear();
        }
        backtest.upsert(RequestKey::new("open").unwrap(), open).unwrap();
        let mut row = |name: &str, day: i64, label: Option<(FraudLabel, i64)>| {
            let mut request = live::request(name, 1, 100, 1_000 + day * DAY_MS);
            if !names_cards {
                request.subject = Subject::Account(AccountId::new("A1").unwrap());
            }
            let approved = Observed { approved: true, response_code: None };
            let (answer, _) = match observe {
                true => backtest.observe(&request, approved, false, &mut ()).unwrap(),
                false => backtest.decide(&request, false, &mut ()).unwrap(),
            };
            if let Some((label, known_on)) = label {
                backtest.label(&request, label, Timestamp(1_000 + known_on * DAY_MS));
            }
            answer.decision == Decision::Declined
        };
        assert!(!row("t0", 0, Some((FraudLabel::Fraud, 12))));
        assert!(!row("t1", 1, Some((FraudLabel::Fraud, 8))));
        assert!(!row("t2", 2, Some((FraudLabel::Genuine, 3))));
        assert!(!row("t11", 11, None), "one of the two is not known yet");
        assert!(row("t12", 12, None), "both are: {text}");
        assert!(row("t30", 30, None), "the first is just inside the window");
        assert!(!row("t31", 31, None), "it has left it");
    }
}

/// A device and a card that a fraud puts on lists once it is told of, for as long as the policies say.
#[test]
fn a_label_of_a_file_fills_the_lists_of_its_policies_when_it_is_known_and_not_before() {
    const LISTED: &str = "version = 1\n[lists.devices]\nvalues = []\n[lists.cards]\nvalues = []\n\
         [lists.stolen]\nvalues = []\n\
         [[label_policies]]\nlabel = 'fraud'\nlist = 'devices'\nadd = 'device.id'\nexpires_in = '10d'\n\
         [[label_policies]]\nlabel = 'fraud'\nlist = 'cards'\nadd = 'card.token'\n\
         [[label_policies]]\nlabel = 'fraud'\nkind = 'stolen'\nlist = 'stolen'\nadd = 'merchant.id'\n\
         [[rules]]\nid = 'd'\nwhen = 'device.id in lists.devices'\nthen = 'decline'\nreason = 'DEVICE'\n\
         [[rules]]\nid = 'c'\nwhen = 'card.token in lists.cards'\nthen = 'refer'\nreason = 'CARD'\n\
         [[rules]]\nid = 's'\nwhen = 'merchant.id in lists.stolen'\nthen = 'decline'\nreason = 'STOLEN'\n";
    const DAY_MS: i64 = 86_400_000;
    let rules = Source { name: "listed".to_owned(), text: LISTED.to_owned() };
    for observe in [false, true] {
        let mut backtest = Backtest::new(&rules, None).unwrap();
        assert!(backtest.reads_labels());
        for account in [1, 2] {
            let key = RequestKey::new(&format!("open-{account}")).unwrap();
            backtest.upsert(key, live::account(account, 100_000_000)).unwrap();
        }
        let mut row = |name: &str, card: usize, device: &str, day: i64, label: Option<(FraudLabel, i64)>| {
            let mut request = live::request(name, card, 100, 1_000 + day * DAY_MS);
            request.device_id = Some(Id::new(device).unwrap());
            if card == 1 {
                // Its one card is meant.
                request.subject = Subject::Account(AccountId::new("A1").unwrap());
            }
            let approved = Observed { approved: true, response_code: None };
            let (answer, how) = match observe {
                true => backtest.observe(&request, approved, true, &mut ()).unwrap(),
                false => backtest.decide(&request, true, &mut ()).unwrap(),
            };
            if let Some((label, known_on)) = label {
                backtest.label(&request, label, Timestamp(1_000 + known_on * DAY_MS));
            }
            match how {
                Replayed::Decided => answer.reasons.first().map_or(String::new(), |r| r.code.to_string()),
                _ => "repeated".to_owned(),
            }
        };
        assert_eq!(row("t0", 1, "D-1", 0, Some((FraudLabel::Fraud, 12))), "");
        // A repeat says nothing new, and what is genuine is on no list.
        assert_eq!(row("t0", 1, "D-1", 0, Some((FraudLabel::Fraud, 1))), "repeated");
        assert_eq!(row("t1", 2, "D-2", 1, Some((FraudLabel::Genuine, 2))), "");
        assert_eq!(row("t11", 2, "D-1", 11, None), "", "it is not known yet");
        assert_eq!(row("t12", 2, "D-1", 12, None), "DEVICE");
        assert_eq!(row("t13", 1, "D-2", 13, None), "CARD", "of an account that the row named alone");
        assert_eq!(row("t15", 2, "D-2", 15, None), "");
        assert_eq!(row("t21", 2, "D-1", 21, None), "DEVICE");
        assert_eq!(row("t22", 2, "D-1", 22, None), "", "ten days are over, counted from when it was known");
        assert_eq!(row("t23", 1, "D-2", 23, None), "CARD");
    }
}

/// With the default budget nothing would have to go, and what the journal's engine did not know would be known.
#[tokio::test]
async fn a_journal_is_decided_again_with_the_memory_for_windows_that_its_own_settings_give() {
    // Each condition has its own memory of a device, so that few devices fill it.
    let aggregates = (1..=8).map(|n| {
        format!(
            "[aggregates.device_{n}]\nby = 'device'\nwindow = '1h'\ncount = true\nwhere = 'amount_base < {n}.00'\n"
        )
    });
    let rules = format!(
        "version = 1\n{}[[rules]]\nid = 'r'\nwhen = 'device_1 >= 1'\nthen = 'decline'\nreason = 'SEEN'\n",
        aggregates.collect::<String>()
    );
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.windows.shared_bytes = 1024 * 1024;
    let (engine, _) = crate::engine::Engine::open(live::settings_with(dir.path(), &rules, config)).unwrap();
    let bench = live::Bench::of(engine);
    for account in 1..=50 {
        bench.account(account, 1_000_000_000).await;
    }
    let devices = 2_500;
    let mut forgotten = 0;
    for number in 0..2 * devices {
        let device = number % devices;
        let mut request = live::request(&format!("t{number}"), 1 + number % 50, 1, 1_000_000 + number as i64);
        request.device_id = Some(Id::new(&format!("D-{device}")).unwrap());
        // Posted at once, so that no account runs out of holds.
        request.single_message = true;
        let answer = bench.authorise(request).await.answer;
        forgotten += usize::from(number >= devices && answer.decision == Decision::Approved);
    }
    assert!(forgotten > 100, "{forgotten} devices were seen before and are not known any more");
    bench.engine.close().unwrap();
    a_journal_repeats_itself(dir.path());
}

/// Every decision of a journal as it was recorded, and as it comes out under `rules` or those it names.
fn redone(dir: &Path, rules: Option<&str>, observe: bool) -> Vec<(AuthAnswer, AuthAnswer)> {
    let journal = PastJournal::open(dir).unwrap();
    let rules = match rules {
        Some(text) => Source { name: "other".to_owned(), text: text.to_owned() },
        None => journal.rules().unwrap(),
    };
    let mut backtest = journal.backtest(&rules, journal.model().unwrap().as_ref()).unwrap();
    let mut answers = Vec::new();
    let replayed = journal.replay(&mut |position, record| {
        let redone = backtest.redo(position, record, observe, &mut ())?;
        if let (Record::Decided(decided), Redone::Answered(now, Replayed::Decided)) = (record, redone) {
            answers.push((decided.answer.clone(), *now));
        }
        Ok(ControlFlow::Continue(()))
    });
    replayed.unwrap();
    answers
}

/// Holds a journal against itself: what it decided under its newest rules comes out the same, balances included, as long
/// as no decision before was made under others.
pub(in crate::engine) fn a_journal_repeats_itself(dir: &Path) {
    let answers = redone(dir, None, false);
    let versions = |answer: &AuthAnswer| (answer.rules_version.clone(), answer.model_version.clone());
    let newest = answers.last().map(|(_, now)| versions(now));
    for (recorded, now) in answers {
        if Some(versions(&recorded)) != newest {
            break;
        }
        assert_eq!(recorded, now);
    }
}

#[tokio::test]
async fn other_rules_on_a_journal_free_only_what_they_approved() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = crate::engine::Engine::open(live::settings(dir.path(), live::RULES)).unwrap();
    let bench = live::Bench::of(engine);
    bench.account(1, 10_000).await;
    let minute = 60_000;
    bench.authorise(live::request("t1", 1, 6_000, 1_000_000)).await;
    bench.authorise(live::request("t2", 1, 3_000, 1_000_000 + minute)).await;
    assert_eq!(bench.reverse("r1", "t1").await.answer.moved.unwrap().minor, 6_000);
    assert_eq!(bench.reverse("r0", "never came").await.answer.moved, None);
    bench.authorise(live::request("t3", 1, 2_000, 1_000_000 + 2 * minute)).await;
    // A key that comes again with another body is declined with 94, and touches nothing.
    bench.authorise(live::request("t3", 1, 2_500, 1_000_000 + 3 * minute)).await;
    bench.engine.close().unwrap();
    a_journal_repeats_itself(dir.path());

    let rules =
        "version = 1\n[[rules]]\nid = 'large'\nwhen = 'amount > 50'\nthen = 'decline'\nreason = 'LARGE'\n";
    let available = |answers: Vec<(AuthAnswer, AuthAnswer)>| -> Vec<(String, i64)> {
        let answers =
            answers.into_iter().map(|(_, now)| (now.response_code.to_string(), now.available.unwrap().minor));
        answers.collect()
    };
    let of = |codes: [(&str, i64); 3]| codes.map(|(code, minor)| (code.to_owned(), minor)).to_vec();
    let own = available(redone(dir.path(), Some(rules), false));
    assert_eq!(own, of([("59", 10_000), ("00", 7_000), ("00", 5_000)]), "t1 was declined: nothing to free");
    let observed = available(redone(dir.path(), Some(rules), true));
    assert_eq!(
        observed,
        of([("59", 10_000), ("00", 1_000), ("00", 5_000)]),
        "what was approved stays held till r1"
    );
}

/// What an earlier program recorded of a decision whose rules asked for nothing across accounts.
fn as_of_an_earlier_program(record: &Record) -> Record {
    let mut record = record.clone();
    if let Record::Decided(decided) = &mut record {
        let considered = &mut decided.considered;
        (considered.features, considered.shared_to) = (MODEL_FEATURES_FIRST, 0);
        considered.vector[MODEL_FEATURES_FIRST..].fill(f32::NAN);
    }
    record
}

#[tokio::test]
async fn what_an_earlier_program_did_not_read_across_accounts_is_not_taken_for_empty() {
    const ACROSS: &str = "version = 1\n[aggregates.merchant_1h]\nby = 'merchant'\nwindow = '1h'\ncount = true\n\
         [[rules]]\nid = 'f'\nwhen = 'merchant.frauds_14d >= 1'\nthen = 'decline'\nreason = 'FRAUDS'\n\
         [[rules]]\nid = 'm'\nwhen = 'merchant_1h >= 2'\nthen = 'refer'\nreason = 'MANY'\n\
         [[rules]]\nid = 'n'\nwhen = '!has(merchant.frauds_14d)'\nthen = 'decline'\nreason = 'UNKNOWN'\n";
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = crate::engine::Engine::open(live::settings(dir.path(), live::RULES)).unwrap();
    let bench = live::Bench::of(engine);
    for card in 1..=3 {
        bench.account(card, 100_000).await;
    }
    for number in 1..=3 {
        bench.authorise(live::request(&format!("t{number}"), number, 100, 1_000_000 + number as i64)).await;
    }
    bench.labelled("report", "t1", FraudLabel::Fraud).await;
    bench.authorise(live::request("t4", 1, 100, 1_000_010)).await;
    bench.engine.close().unwrap();

    let journal = PastJournal::open(dir.path()).unwrap();
    // Whether also the newest of them are of an earlier program, or the journal was written on by this one.
    for earlier in [4, 2] {
        let other = Source { name: "across".to_owned(), text: ACROSS.to_owned() };
        let mut backtest = journal.backtest(&other, None).unwrap();
        let mut told = Vec::new();
        let replayed = journal.replay(&mut |position, record| {
            let record = if told.len() < earlier { as_of_an_earlier_program(record) } else { record.clone() };
            if let Redone::Answered(now, _) = backtest.redo(position, &record, false, &mut ())? {
                told.push(now.reasons.first().map_or(String::new(), |reason| reason.code.to_string()));
            }
            Ok(ControlFlow::Continue(()))
        });
        replayed.unwrap();
        assert_eq!(told, ["", "", "MANY", "FRAUDS"], "{earlier} of an earlier program");
    }
}

//! The state that comes from a snapshot against the one that comes from the whole journal, and the live one.

use std::{collections::BTreeMap, path::Path, sync::mpsc};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    super::tests::{Bench, RULES, key, request, settings},
    *,
};
use crate::{
    engine::{Arrival, Client, OpenError, Recovered, Settings, recover::journal_dir},
    journal::{
        self, FileStorage, Storage,
        simulated_disk::{SimulatedDisk, Trouble},
    },
    types::outcome::{Maintenance, Reversal},
    types::{codes::AccountStatus, ids::AccountId},
};

/// Everything that a restart must bring back, without what depends on where it stands in memory.
#[derive(PartialEq, Debug, Default)]
struct Whole {
    accounts: BTreeMap<String, Vec<u8>>,
    /// By the hash of the key: what stands there, without the place, and the account.
    answers: BTreeMap<Vec<u8>, (Vec<u8>, Option<String>)>,
    newest: Vec<Option<(u32, Arc<str>)>>,
    lists: Arc<Lists>,
    labels: Labels,
}

fn whole(state: &State, names: &Names) -> Whole {
    let mut whole = Whole::default();
    let mut ids = Vec::new();
    for at in 0..state.store.len() as u32 {
        ids.push(state.store.with_account(at, |entry| {
            let id = entry.account.as_ref()?.id.as_str().to_owned();
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            assert_eq!(whole.accounts.insert(id.clone(), bytes), None, "{id} stands twice");
            Some(id)
        }));
    }
    let (mut stored, mut in_flight) = (Vec::new(), Vec::new());
    (0..Answers::PARTS).for_each(|part| state.answers.encode_part(part, &mut stored, &mut in_flight));
    assert_eq!(in_flight, []);
    for answer in stored.chunks(28) {
        let place = u32::from_le_bytes(answer[24..].try_into().unwrap());
        let mut what = answer[16..24].to_vec();
        // Who was given an answer is known in memory only.
        what[6] = if what[6] == 5 { 1 } else { what[6] };
        let account = (place != u32::MAX).then(|| ids[place as usize].clone().expect("an opened account"));
        whole.answers.insert(answer[..16].to_vec(), (what, account));
    }
    let kinds = [Versioned::Rules, Versioned::Model, Versioned::Config];
    whole.newest = kinds.into_iter().map(|what| names.newest(what)).collect();
    whole
}

fn whole_of(engine: &Engine) -> Whole {
    let (lists, labels) =
        (Arc::clone(engine.in_force.load().setup.lists.lists()), engine.labels.lock().clone());
    Whole { lists, labels, ..whole(&engine.state, &engine.names) }
}

/// Opens what `dir` holds, and closes it again.
fn reopened(dir: &Path, rules: &str) -> (Whole, Recovered) {
    let (engine, recovered) = Engine::open(settings(dir, rules)).unwrap_or_else(|error| panic!("{error}"));
    let found = whole_of(&engine);
    engine.close().unwrap();
    (found, recovered)
}

/// A copy of a data directory with these snapshots and no others.
fn copy_with(dir: &Path, snapshots: &[(&str, &[u8])]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for part in ["journal", "versions", "snapshots"] {
        std::fs::create_dir(copy.path().join(part)).unwrap();
        for file in std::fs::read_dir(dir.join(part)).unwrap().filter(|_| part != "snapshots") {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(part).join(file.file_name())).unwrap();
        }
    }
    for (name, bytes) in snapshots {
        std::fs::write(copy.path().join("snapshots").join(name), bytes).unwrap();
    }
    copy
}

/// One caller's random calls: authorisations (single messages, increments, some void at once), reversals before and
/// after, changes, repeats, new accounts.
async fn hammer(engine: Arc<Engine>, lane: Arc<crate::engine::Lane>, caller: u64, calls: u64) {
    let bench = Bench { engine, lane };
    let mut rng = ChaCha8Rng::seed_from_u64(caller);
    let mut names: Vec<String> = Vec::new();
    for call in 0..calls {
        let account = rng.random_range(0..40);
        let known = names.get(rng.random_range(0..names.len().max(1))).cloned();
        let at_ms = 1_000_000 + (call as i64) * 977;
        match (rng.random_range(0..100), known) {
            (0..4, _) => bench.account(100 + (caller * calls + call) as usize, 10_000).await,
            (4..8, _) => {
                let own = key(&format!("limit-{caller}-{call}"));
                let account = AccountId::new(&format!("A{account}")).unwrap();
                let change = match call % 2 {
                    0 => {
                        Maintenance::SetCreditLimit { key: own, account, limit_minor: 900_000 + call as i64 }
                    }
                    _ => Maintenance::SetAccountStatus { key: own, account, status: AccountStatus::Active },
                };
                bench.engine.maintain(change, &bench.arrival()).await.unwrap();
            }
            (8..20, Some(original)) => {
                let own = key(&format!("reverse-{caller}-{call}"));
                let reversal = Reversal { key: own, original: key(&original), replacement: None };
                bench.engine.reverse(reversal, &bench.arrival()).await.unwrap();
            }
            (20..23, _) => {
                // Its authorisation will never come.
                bench.reverse(&format!("before-{caller}-{call}"), &format!("never-{caller}-{call}")).await;
            }
            (23..30, Some(original)) => {
                let mut wanted = request(&format!("more-{caller}-{call}"), account, 300, at_ms);
                wanted.kind = crate::types::codes::Kind::Incremental;
                wanted.original = Some(key(&original));
                bench.authorise(wanted).await;
            }
            (30..38, _) => {
                // Queued, and nobody waits for it: void.
                let deadline = Some(Instant::now() + Duration::from_micros(300));
                let arrival = Arrival { client: Client::ANONYMOUS, deadline, lane: bench.lane.clone() };
                let wanted = request(&format!("late-{caller}-{call}"), account, 200, at_ms);
                let _ = bench.engine.authorise(wanted, &arrival).await;
            }
            _ => {
                let name = format!("t-{caller}-{call}");
                let mut wanted = request(&name, account, rng.random_range(1..2_000), at_ms);
                wanted.single_message = rng.random_ratio(1, 5);
                bench.authorise(wanted).await;
                names.push(name);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn snapshots_under_load_come_to_the_same_as_the_whole_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(settings(dir.path(), RULES)).unwrap();
    let bench = Bench::of(engine.clone());
    for account in 0..40 {
        bench.account(account, 1_000_000).await;
    }
    let callers: Vec<_> =
        (0..8).map(|caller| tokio::spawn(hammer(engine.clone(), bench.lane.clone(), caller, 600))).collect();
    let taker = engine.clone();
    let place = dir.path().join("snapshots");
    let (done, stop) = mpsc::channel::<()>();
    let taken = std::thread::spawn(move || {
        let mut taken = BTreeMap::new();
        while stop.try_recv() == Err(mpsc::TryRecvError::Empty) || taken.is_empty() {
            let written = taker.snapshot_now().unwrap();
            // Kept aside, since only two are left in the end.
            taken.insert(written.name.clone(), std::fs::read(place.join(&written.name)).unwrap());
            std::thread::sleep(Duration::from_millis(3));
        }
        taken
    });
    for caller in callers {
        caller.await.unwrap();
    }
    drop(done);
    let taken = taken.join().unwrap();
    let live = whole_of(&engine);
    engine.close().unwrap();
    let records = engine.durable_position();
    drop((bench, engine));

    let without = copy_with(dir.path(), &[]);
    let (from_log, recovered) = reopened(without.path(), RULES);
    assert_eq!((recovered.records, recovered.snapshot), (records, None));
    assert!(from_log == live, "the journal says otherwise than the engine that wrote it");
    assert!(taken.len() >= 5, "{} snapshots", taken.len());
    for (name, bytes) in &taken {
        let copy = copy_with(dir.path(), &[(name, bytes)]);
        let (found, recovered) = reopened(copy.path(), RULES);
        assert_eq!(recovered.snapshot.as_ref(), Some(name), "{:?}", recovered.passed_over);
        assert!(recovered.records < records);
        assert_eq!(found.accounts, from_log.accounts, "{name}");
        assert_eq!(found.answers, from_log.answers, "{name}");
        assert_eq!(found.newest, from_log.newest, "{name}");
    }
    // And the directory itself, with the two that it keeps.
    assert_eq!(std::fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 2);
    let (found, recovered) = reopened(dir.path(), RULES);
    assert!(recovered.snapshot.is_some());
    assert!(found == from_log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rules_that_change_amid_decisions_and_snapshots_are_named_by_every_record() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(settings(dir.path(), RULES)).unwrap();
    let bench = Bench::of(engine.clone());
    for account in 0..40 {
        bench.account(account, 1_000_000).await;
    }
    let callers: Vec<_> =
        (0..4).map(|caller| tokio::spawn(hammer(engine.clone(), bench.lane.clone(), caller, 300))).collect();
    let (reloader, place) = (engine.clone(), dir.path().join("snapshots"));
    let (done, stop) = mpsc::channel::<()>();
    let reloaded = std::thread::spawn(move || {
        let strict = RULES.replace(">= 6", ">= 2");
        let longer = strict.replace("\"1h\"", "\"26h\"").replace("count = true", "distinct = \"channel\"");
        let (mut taken, mut reloads) = (BTreeMap::new(), 0);
        let reload = |text: &str| {
            let source = crate::engine::Source { name: "rules.toml".into(), text: text.to_owned() };
            reloader.reload_rules(source).unwrap()
        };
        while stop.try_recv() == Err(mpsc::TryRecvError::Empty) || reloads < 4 {
            reload([strict.as_str(), RULES, &longer][reloads % 3]);
            reloads += 1;
            if taken.len() < 8 {
                let written = reloader.snapshot_now().unwrap();
                taken.insert(written.name.clone(), std::fs::read(place.join(&written.name)).unwrap());
            }
        }
        // As the restarts below have it, so that they have nothing to introduce.
        reload(RULES);
        taken
    });
    for caller in callers {
        caller.await.unwrap();
    }
    drop(done);
    let taken = reloaded.join().unwrap();
    let live = whole_of(&engine);
    engine.close().unwrap();
    drop((bench, engine));

    let verified = crate::engine::replay::verify(dir.path(), &mut |_| {}).unwrap();
    assert_eq!(verified.different, 0, "{:#?}", verified.differences);
    let (from_log, _) = reopened(copy_with(dir.path(), &[]).path(), RULES);
    assert!(from_log == live, "the journal says otherwise than the engine that wrote it");
    for (name, bytes) in &taken {
        let (found, recovered) = reopened(copy_with(dir.path(), &[(name, bytes)]).path(), RULES);
        assert_eq!(recovered.snapshot.as_ref(), Some(name), "{:?}", recovered.passed_over);
        assert_eq!(found.newest, from_log.newest, "{name}");
        assert_eq!(found.accounts, from_log.accounts, "{name}");
    }
}

#[tokio::test]
async fn a_snapshot_that_would_take_the_journal_s_room_is_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (log, files) = (SimulatedDisk::new(), SimulatedDisk::new());
    let opened = Engine::open_on(settings(dir.path(), RULES), Arc::new(log), Arc::new(files.clone()));
    let (engine, _) = opened.unwrap_or_else(|error| panic!("{error}"));
    Bench::of(engine.clone()).account(1, 100_000).await;
    // A segment has 1 MiB here.
    files.set_capacity(2 * 1024 * 1024 - 1);
    assert!(matches!(engine.snapshot_now(), Err(SnapshotError::NoRoom { .. })));
    files.set_capacity(u64::MAX);
    engine.snapshot_now().unwrap();
    engine.close().unwrap();
}

/// A data directory with some of everything and a snapshot in the middle of its log.
async fn small(dir: &Path, rules: &str) -> (Whole, Written) {
    let (engine, _) = Engine::open(settings(dir, rules)).unwrap();
    let bench = Bench::of(engine.clone());
    for account in 0..3 {
        bench.account(account, 100_000).await;
    }
    for n in 0..10 {
        bench.authorise(request(&format!("t{n}"), n % 3, 1_000, 1_000_000 + n as i64)).await;
    }
    let written = engine.snapshot_now().unwrap();
    bench.reverse("r1", "t1").await;
    for n in 10..14 {
        bench.authorise(request(&format!("t{n}"), n % 3, 1_000, 1_000_000 + n as i64)).await;
    }
    let live = whole_of(&engine);
    engine.close().unwrap();
    (live, written)
}

#[tokio::test]
async fn the_log_behind_a_snapshot_twice_is_the_log_once() {
    let dir = tempfile::tempdir().unwrap();
    let (live, _) = small(dir.path(), RULES).await;
    let mut setup =
        super::super::recover::setup_of(&settings(dir.path(), RULES).rules, None, &Config::default())
            .unwrap();
    setup.numbers.rules = 1;
    let directory = journal::take(Arc::new(FileStorage::new(journal_dir(dir.path())).unwrap())).unwrap();
    let secret = super::super::recover::secret_of(&directory);
    drop(directory);
    let state = super::super::recover::empty_state(&Config::default(), secret);
    let names = Names::default();
    for _ in 0..3 {
        journal::verify(&journal_dir(dir.path()), &mut |record| {
            let decoded = journal::record::Record::decode(record.payload, record.position, &names).unwrap();
            super::super::recover::restore(&state, &setup.plan, &names, record.position, decoded);
            Ok(())
        })
        .unwrap();
    }
    assert!(whole(&state, &names) == live);
}

#[tokio::test]
async fn every_flipped_byte_and_every_cut_of_a_snapshot_is_passed_over_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let (_, written) = small(dir.path(), RULES).await;
    let bytes = std::fs::read(dir.path().join("snapshots").join(&written.name)).unwrap();
    let Settings { rules, config, .. } = settings(dir.path(), RULES);
    let setup = super::super::recover::setup_of(&rules, None, &config).unwrap();
    let directory = journal::take(Arc::new(FileStorage::new(journal_dir(dir.path())).unwrap())).unwrap();
    let begun = |bytes: &[u8]| {
        let files = SimulatedDisk::holding(&[(written.name.clone(), bytes.to_vec())].into());
        newest(&directory, &Snapshots::new(Arc::new(files)), dir.path(), &config, (1, 2), &setup)
    };
    let good = begun(&bytes);
    assert_eq!((good.snapshot.is_some(), good.passed_over.len(), good.state.store.len()), (true, 0, 3));
    let silent = |damaged: &[u8]| {
        let begun = begun(damaged);
        let said = matches!(&begun.passed_over[..], [one] if one.file == written.name && one.reason.contains("byte"));
        begun.snapshot.is_some() || !begun.state.store.is_empty() || !said
    };
    let cuts = (0..bytes.len()).filter(|end| silent(&bytes[..*end])).collect::<Vec<_>>();
    assert_eq!(cuts, [0; 0], "of {} cuts", bytes.len());
    let flips = (0..bytes.len()).filter(|at| {
        let mut damaged = bytes.clone();
        damaged[*at] ^= 1 << (at % 8);
        silent(&damaged)
    });
    assert_eq!(flips.collect::<Vec<_>>(), [0; 0], "of {} bytes", bytes.len());
}

#[tokio::test]
async fn a_damaged_snapshot_gives_way_to_the_one_before_and_that_to_the_log() {
    let dir = tempfile::tempdir().unwrap();
    small(dir.path(), RULES).await;
    let (engine, _) = Engine::open(settings(dir.path(), RULES)).unwrap();
    engine.snapshot_now().unwrap();
    engine.close().unwrap();
    drop(engine);
    let (expected, _) = reopened(copy_with(dir.path(), &[]).path(), RULES);
    let mut names = std::fs::read_dir(dir.path().join("snapshots"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    names.sort();
    let [older, newer] = &names[..] else { panic!("{names:?}") };
    for (damaged, begun_from) in [(newer, Some(older)), (older, None)] {
        let path = dir.path().join("snapshots").join(damaged);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        std::fs::write(&path, bytes).unwrap();
        let (found, recovered) = reopened(dir.path(), RULES);
        assert_eq!(recovered.snapshot.as_ref(), begun_from);
        assert_eq!(recovered.passed_over[0].file, *newer);
        assert!(found == expected);
    }
}

/// Fails, or loses the power at, every operation of two snapshots in turn.
#[tokio::test]
async fn a_failing_disk_of_snapshots_harms_nothing_but_the_snapshot() {
    let mut operations = 1;
    let mut at = 1;
    while at <= operations {
        for trouble in [Trouble::FailAt(at), Trouble::PowerOffAt(at)] {
            let dir = tempfile::tempdir().unwrap();
            let (log, files) = (SimulatedDisk::new(), SimulatedDisk::new());
            let open = |log: &SimulatedDisk, files: &SimulatedDisk| {
                Engine::open_on(settings(dir.path(), RULES), Arc::new(log.clone()), Arc::new(files.clone()))
                    .unwrap_or_else(|error| panic!("{trouble:?}: {error}"))
            };
            let (engine, _) = open(&log, &files);
            let bench = Bench::of(engine.clone());
            bench.account(1, 100_000).await;
            files.set_trouble(trouble);
            let mut results = Vec::new();
            for n in 0..3 {
                bench.authorise(request(&format!("t{n}"), 1, 10, 1_000_000 + n)).await;
                results.push(engine.snapshot_now().is_ok());
            }
            operations = operations.max(files.operations().min(60));
            let live = whole_of(&engine);
            // The engine serves on, and only the snapshot at which it failed is missing.
            bench.authorise(request("after", 1, 10, 1_000_100)).await;
            match trouble {
                Trouble::FailAt(_) => {
                    assert!(results.iter().filter(|ok| !**ok).count() <= 1, "{trouble:?}: {results:?}");
                    files.set_trouble(Trouble::None);
                    engine.snapshot_now().unwrap();
                    let left = files.files();
                    assert!(left.keys().all(|name| name.ends_with(".snapshot")), "{trouble:?}: {left:?}");
                }
                _ => {
                    let mut rng = ChaCha8Rng::seed_from_u64(at);
                    let files = files.after_power_loss(&mut rng);
                    engine.close().unwrap();
                    let (again, recovered) = open(&log, &files);
                    assert_eq!(recovered.passed_over, [], "{trouble:?}: {:?}", files.files().keys());
                    let found = whole_of(&again);
                    assert_eq!(found.accounts.len(), live.accounts.len());
                    assert_eq!(found.answers.len(), live.answers.len() + 1);
                    let (whole, _) = open(&log.after_kill(), &SimulatedDisk::new());
                    assert!(found == whole_of(&whole), "{trouble:?}");
                }
            }
        }
        at += 1;
    }
    assert!(operations > 20, "{operations} operations");
}

const OTHER_RULES: &str = r#"
version = 1
[aggregates.spent_2h]
by = "account"
window = "2h"
sum = "amount"
where = "outcome == 'approved'"
[aggregates.card_attempts_1h]
by = "card"
window = "1h"
count = true
[[rules]]
id = "spent"
when = "spent_2h >= 30.00"
then = "decline"
response_code = "65"
reason = "VELOCITY_AMOUNT"
"#;

#[tokio::test]
async fn windows_are_exact_when_a_snapshot_is_read_under_other_rules() {
    let dir = tempfile::tempdir().unwrap();
    small(dir.path(), RULES).await;
    let (from_log, _) = reopened(copy_with(dir.path(), &[]).path(), OTHER_RULES);
    let (from_snapshot, recovered) = reopened(dir.path(), OTHER_RULES);
    assert!(recovered.snapshot.is_some(), "{:?}", recovered.passed_over);
    assert_eq!(from_snapshot, from_log);
}

#[tokio::test]
async fn windows_that_go_back_further_than_single_events_are_the_log_s_under_other_rules() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(settings(dir.path(), RULES)).unwrap();
    let bench = Bench::of(engine.clone());
    bench.account(1, i64::from(i32::MAX)).await;
    let mut waiting = Vec::new();
    for n in 0..crate::limits::EVENTS_PER_KEY_MAX + 200 {
        let mut wanted = request(&format!("t{n}"), 1, 1, 1_000_000 + n as i64 * 10);
        wanted.single_message = true;
        waiting.push(engine.authorise(wanted, &bench.arrival()));
        if waiting.len() == 256 {
            for answer in waiting.drain(..) {
                answer.await.unwrap();
            }
        }
    }
    drop(waiting);
    engine.snapshot_now().unwrap();
    engine.close().unwrap();
    drop((bench, engine));

    let (same, recovered) = reopened(dir.path(), RULES);
    assert!(recovered.snapshot.is_some());
    let (from_log, _) = reopened(copy_with(dir.path(), &[]).path(), RULES);
    assert!(same == from_log);
    let (other, recovered) = reopened(dir.path(), OTHER_RULES);
    assert!(recovered.snapshot.is_some(), "{:?}", recovered.passed_over);
    let (from_log, _) = reopened(copy_with(dir.path(), &[]).path(), OTHER_RULES);
    assert!(other == from_log);
}

#[tokio::test]
async fn snapshots_are_taken_when_they_are_due_and_after_a_long_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut with = settings(dir.path(), RULES);
    with.config.snapshots.every_s = 1;
    with.config.snapshots.after_records = 5;
    let (engine, _) = Engine::open(with).unwrap();
    let bench = Bench::of(engine.clone());
    bench.account(1, 100_000).await;
    engine.start_snapshots().unwrap();
    let newest = |engine: &Engine| engine.snapshots.newest.load(Ordering::Acquire);
    std::thread::sleep(3 * LOOK);
    assert_eq!(newest(&engine), 0, "too few records");
    for n in 0..5 {
        bench.authorise(request(&format!("t{n}"), 1, 10, 1_000_000 + n)).await;
    }
    let begun = Instant::now();
    while newest(&engine) < 5 {
        assert!(begun.elapsed() < Duration::from_secs(10), "no snapshot came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let text = engine.metrics.render();
    let position = format!("saker_snapshot_position {}", newest(&engine));
    assert!(text.contains(&position), "{position}: {text}");
    engine.close().unwrap();
    let names = |dir: &Path| std::fs::read_dir(dir.join("snapshots")).unwrap().count();
    assert_eq!(names(dir.path()), 1);
}

#[tokio::test]
async fn a_snapshot_that_hangs_on_its_disk_holds_up_no_close_and_keeps_the_directory_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (log, files) = (SimulatedDisk::new(), SimulatedDisk::new());
    let open = || {
        let mut with = settings(dir.path(), RULES);
        (with.config.snapshots.every_s, with.config.snapshots.after_records) = (1, 1);
        with.config.journal.hang_ms = 1_500;
        Engine::open_on(with, Arc::new(log.clone()), Arc::new(files.clone()))
    };
    let (engine, _) = open().unwrap_or_else(|error| panic!("{error}"));
    let bench = Bench::of(engine.clone());
    bench.account(1, 100_000).await;
    files.hold("snapshots");
    engine.start_snapshots().unwrap();
    let begun = Instant::now();
    while !files.is_holding() {
        assert!(begun.elapsed() < Duration::from_secs(10), "no snapshot is begun");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.authorise(request("meanwhile", 1, 10, 1_000_000)).await;
    let closing = Instant::now();
    engine.close().unwrap();
    assert!(closing.elapsed() < Duration::from_secs(10), "a thread that is stuck is not waited for");
    assert!(matches!(open().err(), Some(OpenError::Journal(journal::OpenError::InUse { .. }))));
    files.let_go();
    let begun = Instant::now();
    let (engine, recovered) = loop {
        match open() {
            Ok(opened) => break opened,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(recovered.passed_over, []);
    assert!(Bench::of(engine.clone()).authorise(request("meanwhile", 1, 10, 1_000_000)).await.replayed);
    engine.close().unwrap();
}

#[test]
fn a_directory_of_snapshots_that_cannot_be_listed_is_said() {
    struct Unlisted;
    impl Storage for Unlisted {
        fn free_bytes(&self) -> Option<u64> {
            None
        }

        fn place(&self) -> String {
            "nowhere".into()
        }
        fn lock(&self) -> io::Result<Box<dyn std::any::Any + Send + Sync>> {
            Ok(Box::new(()))
        }
        fn list(&self) -> io::Result<Vec<String>> {
            Err(io::Error::other("not today"))
        }
        fn create(&self, _: &str) -> io::Result<Arc<dyn journal::StorageFile>> {
            Err(io::Error::other("not today"))
        }
        fn open(&self, _: &str) -> io::Result<Arc<dyn journal::StorageFile>> {
            Err(io::Error::other("not today"))
        }
        fn rename(&self, _: &str, _: &str) -> io::Result<()> {
            Err(io::Error::other("not today"))
        }
        fn remove(&self, _: &str) -> io::Result<()> {
            Err(io::Error::other("not today"))
        }
        fn sync_dir(&self) -> io::Result<()> {
            Err(io::Error::other("not today"))
        }
    }
    let directory = journal::take(Arc::new(SimulatedDisk::new())).unwrap();
    let rules = crate::engine::Source { name: "none".into(), text: "version = 1".into() };
    let setup = super::super::recover::setup_of(&rules, None, &Config::default()).unwrap();
    let begun = newest(
        &directory,
        &Snapshots::new(Arc::new(Unlisted)),
        Path::new("none"),
        &Config::default(),
        (1, 2),
        &setup,
    );
    assert_eq!(begun.passed_over.len(), 1);
    assert!(begun.passed_over[0].reason.contains("not today"));
}

//! Answers on disk against the same answers in memory: months by the replay clock, with the smallest segments.

use std::{collections::HashMap, fs, path::PathBuf};

use rand::{Rng, SeedableRng, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{
    authorise::answers::Claimed,
    journal::{Filter, FilterGroup, Filters},
    types::time::HOUR_MS,
};

const START_MS: i64 = 1_000_000;
/// Decides nothing by rule, so that many requests on one card are approved.
const NO_RULES: &str = "version = 1";

fn open_small(dir: &Path, capacity: u64, memory_hours: u64) -> Bench {
    let mut config = Config::default();
    (config.answers.capacity, config.answers.memory_hours) = (capacity, memory_hours);
    open_as(dir, NO_RULES, config)
}

fn open_days(dir: &Path) -> Bench {
    open_small(dir, 1_000_000, 72)
}

impl Bench {
    /// Fresh authorisations until the segment that is written to has closed.
    async fn fill_segment(&self, name: &str, at_ms: i64) {
        let closed = self.engine.journal.closed_segments();
        for n in 0.. {
            if self.engine.journal.closed_segments() > closed {
                return;
            }
            let wanted = (0..100).map(|m| request(&format!("fill-{name}-{n}-{m}"), 0, 0, at_ms));
            let pending: Vec<_> = wanted.map(|r| self.engine.authorise(r, &self.arrival())).collect();
            for pending in pending {
                pending.await.unwrap();
            }
        }
    }

    /// Asked again for as long as a segment is taken for unreadable.
    async fn authorise_once_readable(&self, request: AuthRequest) -> Answered<AuthAnswer> {
        let begun = Instant::now();
        loop {
            match self.engine.authorise(request.clone(), &self.arrival()).await {
                Err(Fault::Unavailable("ANSWERS_UNREADABLE"))
                    if begun.elapsed() < Duration::from_secs(30) =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                answered => return answered.unwrap(),
            }
        }
    }

    fn in_memory(&self) -> usize {
        self.engine.state.answers.len()
    }

    fn tend(&self) {
        self.engine.tend_older_answers();
    }

    fn rendered(&self, series: &str) -> f64 {
        let text = self.engine.metrics.render();
        let line = text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{series}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }
}

fn key_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(dir.join("keys")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn other_body(mut request: AuthRequest) -> AuthRequest {
    request.amount = Some(Money::new(77, Currency::from_alpha("USD").unwrap()));
    request
}

#[tokio::test]
async fn an_id_of_thirty_days_ago_gives_its_answer_whatever_became_of_it_and_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_days(dir.path());
    bench.account(1, 100_000).await;
    let plain = request("plain", 1, 1_500, START_MS);
    let answer = bench.authorise(plain.clone()).await.answer;
    let unknown = request("unknown", 9, 10, START_MS);
    assert_eq!(bench.authorise(unknown.clone()).await.answer.response_code.as_str(), "14");
    let voided = request("voided", 1, 2_000, START_MS);
    drop(bench.engine.authorise(
        voided.clone(),
        &Arrival { deadline: Some(Instant::now() + Duration::from_millis(100)), ..bench.arrival() },
    ));
    while bench.held(1).await != 1_500 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let reversed = request("reversed", 1, 300, START_MS);
    bench.authorise(reversed.clone()).await;
    assert_eq!(bench.reverse("r-1", "reversed").await.answer.moved.unwrap().minor, 300);
    bench.reverse("r-late", "late").await;
    let stay = AuthRequest { kind: Kind::PreAuthorisation, ..request("stay", 1, 400, START_MS) };
    bench.authorise(stay.clone()).await;
    bench.fill_segment("a", START_MS).await;

    // 29 days on, so that a hold of thirty days still stands.
    let later = START_MS + 29 * DAY_MS;
    bench.authorise(request("now", 1, 0, later)).await;
    bench.tend();
    assert!(bench.in_memory() < 1_000, "{} keys in memory", bench.in_memory());
    assert!(bench.rendered("saker_answers_on_disk") > 1_000.0);

    let mut bench = bench;
    for round in 0..2 {
        for (wanted, code) in [(&plain, "00"), (&unknown, "14")] {
            let again = bench.authorise(wanted.clone()).await;
            assert!(again.replayed);
            assert_eq!(again.answer.response_code.as_str(), code);
        }
        assert_eq!(bench.authorise(plain.clone()).await.answer, answer);
        assert_eq!(bench.authorise(other_body(plain.clone())).await.answer.response_code.as_str(), "94");
        let again = bench.engine.authorise(voided.clone(), &bench.arrival()).await;
        assert_eq!(again, Err(Fault::DeadlineVoided));
        let repeat = bench.reverse("r-1", "reversed").await;
        assert!(repeat.replayed);
        assert_eq!(repeat.answer.moved.unwrap().minor, 300);
        assert_eq!(bench.reverse("r-1", "plain").await.answer.response_code.as_str(), "94");
        let asked = DecisionKey::Key(voided.key);
        assert!(bench.engine.decision(Client::ANONYMOUS, asked, &bench.lane).await.unwrap().voided);
        let asked = DecisionKey::Position(answer.position);
        assert!(!bench.engine.decision(Client::ANONYMOUS, asked, &bench.lane).await.unwrap().voided);
        let more = AuthRequest {
            kind: Kind::Incremental,
            original: Some(stay.key),
            ..request(&format!("more-{round}"), 1, 5, later)
        };
        assert_eq!(bench.authorise(more).await.answer.response_code.as_str(), "00", "its original is found");
        if round == 0 {
            let late = bench.authorise(request("late", 1, 5, later)).await.answer;
            assert_eq!(
                (late.response_code.as_str(), &*late.reasons[0].code),
                ("12", "REVERSED_BEFORE_ARRIVAL")
            );
        }
        let own = format!("r-plain-{round}");
        assert_eq!(bench.reverse(&own, "plain").await.answer.response_code.as_str(), "00");
        assert!(bench.reverse(&own, "plain").await.replayed);
        bench.account(1, 100_000).await;
        bench.engine.close().unwrap();
        if round == 0 {
            bench = open_days(dir.path());
            bench.tend();
            assert!(bench.in_memory() < 1_000, "{} keys in memory after a restart", bench.in_memory());
        }
    }
    verified(dir.path());
}

#[tokio::test]
async fn an_id_is_fresh_again_only_after_its_retention_and_the_log_decides_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_days(dir.path());
    bench.account(1, 100_000).await;
    let wanted = request("again", 1, 10, START_MS);
    bench.authorise(wanted.clone()).await;
    bench.authorise(request("reversed late", 1, 10, START_MS)).await;
    bench.fill_segment("a", START_MS).await;
    bench.fill_segment("b", START_MS + 10 * DAY_MS).await;
    for days in [5, 20, 34] {
        bench.authorise(request(&format!("now-{days}"), 1, 0, START_MS + days * DAY_MS)).await;
        bench.tend();
        let at =
            AuthRequest { transaction_time: Some(Timestamp(START_MS + days * DAY_MS)), ..wanted.clone() };
        assert!(bench.authorise(at).await.replayed, "after {days} days");
    }
    bench.authorise(request("now-36", 1, 0, START_MS + 36 * DAY_MS)).await;
    bench.tend();
    assert_eq!(key_files(dir.path()).len(), 1, "the first segment's is removed");
    let fresh = bench.authorise(AuthRequest { transaction_time: None, ..wanted }).await;
    assert!(!fresh.replayed);
    // Of the second segment, younger than the retention: still reversed as what it was.
    assert_eq!(bench.reverse("r-fill", "fill-b-0-7").await.answer.response_code.as_str(), "00");
    bench.engine.close().unwrap();
    drop(bench);
    let bench = open_days(dir.path());
    bench.tend();
    assert_eq!(key_files(dir.path()).len(), 1, "what is outlived is not made again");
    bench.engine.close().unwrap();
    verified(dir.path());
}

/// A filter that says maybe of everything, in front of nothing.
fn saturate(bench: &Bench) {
    let everything = FilterGroup { sieve: None, filters: vec![Arc::new(Filter::of_everything())] };
    bench.engine.state.answers.set_older(Filters(vec![everything]));
}

#[tokio::test]
async fn a_filter_that_is_wrong_about_every_key_changes_no_decision_and_no_order() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_days(dir.path());
    bench.account(1, 100_000).await;
    saturate(&bench);
    let mut before = 0;
    for n in 0..50 {
        let mut pending =
            bench.engine.authorise(request(&format!("t{n}"), 1, 10, START_MS + n), &bench.arrival());
        assert!(!pending.in_order(), "a key that may be old is not decided at once");
        assert!(std::future::poll_fn(|cx| pending.poll_decided(cx)).await);
        let answer = pending.await.unwrap();
        assert!(!answer.replayed && answer.answer.position > before);
        before = answer.answer.position;
    }
    assert_eq!(bench.held(1).await, 500);
    // Two callers with one key at once: one decision.
    let wanted = request("twice", 1, 10, START_MS);
    let (a, b) = tokio::join!(bench.authorise(wanted.clone()), bench.authorise(wanted));
    assert_eq!(a.answer, b.answer);
    assert!(a.replayed != b.replayed);
    // A call that is given up while its key is looked up leaves nothing under it.
    let kept = bench.in_memory();
    let mut given_up = bench.engine.authorise(request("given up", 1, 10, START_MS), &bench.arrival());
    let decided =
        std::future::poll_fn(|cx| std::task::Poll::Ready(given_up.poll_decided(cx).is_ready())).await;
    drop(given_up);
    // On a busy machine the look-up may have ended before it was first waited for: then there is nothing to give up.
    assert_eq!(bench.in_memory(), kept + usize::from(decided));
    // Changes, reversals and increments take the same way.
    bench.account(2, 100).await;
    assert_eq!(bench.reverse("r-1", "t1").await.answer.moved.unwrap().minor, 10);
    assert_eq!(bench.reverse("r-nobody", "nobody").await.answer.response_code.as_str(), "00");
    let increment = AuthRequest {
        kind: Kind::Incremental,
        original: Some(key("never")),
        ..request("inc", 1, 5, START_MS)
    };
    let declined = bench.authorise(increment).await.answer;
    assert_eq!(&*declined.reasons[0].code, "ORIGINAL_NOT_FOUND");
    assert!(bench.rendered("saker_answer_look_ups_total{outcome=\"absent\"}") > 50.0);
    bench.engine.close().unwrap();
    verified(dir.path());
}

#[tokio::test]
async fn a_voided_or_handed_over_answer_is_the_same_after_leaving_memory() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_days(dir.path());
    bench.account(1, 100_000).await;
    let found = |name: &str| match bench
        .engine
        .state
        .answers
        .lookup(bench.engine.state.answers.hash(0, &key(name)))
    {
        Stands::Known(found) => found,
        other => panic!("{name}: {other:?}"),
    };
    for name in ["nobody has it", "handed over", "reversed"] {
        bench.authorise(request(name, 1, 100, START_MS)).await;
    }
    let [nobody, handed] = ["nobody has it", "handed over"].map(found);
    let of_reversed = found("reversed");
    assert!(bench.authorise(request("handed over", 1, 100, START_MS)).await.replayed);
    bench.reverse("r-1", "reversed").await;
    bench.fill_segment("a", START_MS).await;
    bench.authorise(request("now", 1, 0, START_MS + 4 * DAY_MS)).await;
    bench.tend();
    for name in ["nobody has it", "handed over", "reversed"] {
        let stands = bench.engine.state.answers.lookup(bench.engine.state.answers.hash(0, &key(name)));
        assert_eq!(stands, Stands::PerhapsOlder, "{name}");
    }
    assert_eq!(bench.held(1).await, 200);
    for (name, found, is_voided) in
        [("nobody has it", nobody, true), ("handed over", handed, false), ("reversed", of_reversed, false)]
    {
        assert_eq!(bench.engine.void(0, key(name), found, &bench.lane).await, Ok(is_voided), "{name}");
        // Brought back into memory, then out again.
        bench.tend();
        bench.tend();
        assert_eq!(bench.engine.void(0, key(name), found, &bench.lane).await, Ok(false), "{name}, twice");
    }
    assert_eq!(bench.held(1).await, 100);
    bench.engine.close().unwrap();
    verified(dir.path());
}

#[tokio::test]
async fn memory_that_fills_up_lets_keys_go_early_and_forgets_none() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_small(dir.path(), 60_000, 72);
    bench.account(1, 100_000).await;
    for n in 0..12 {
        bench.fill_segment(&n.to_string(), START_MS + n).await;
        bench.tend();
        assert!(bench.in_memory() < 60_000);
    }
    let total = bench.engine.durable_position() as usize;
    assert!(total > 80_000, "{total} records do not press on memory");
    for n in 0..12 {
        assert!(bench.authorise(request(&format!("fill-{n}-0-3"), 0, 0, START_MS + n)).await.replayed);
    }
    bench.engine.close().unwrap();
    drop(bench);
    let bench = open_small(dir.path(), 60_000, 72);
    assert!(bench.in_memory() < 60_000, "{} keys in memory after a restart", bench.in_memory());
    assert!(bench.authorise(request("fill-0-0-3", 0, 0, START_MS)).await.replayed);
    bench.engine.close().unwrap();
}

/// A directory whose first segment is closed, with keys `old-0` to `old-4` and little else in its key file, and the
/// engine on it with these keys out of memory.
async fn few_old_keys(dir: &Path) -> Bench {
    let bench = open_days(dir);
    bench.account(1, 100_000).await;
    for n in 0..5 {
        bench.authorise(request(&format!("old-{n}"), 1, 10, START_MS)).await;
    }
    // Duplicates are recorded and not remembered, so that the key file stays small.
    while bench.engine.journal.closed_segments() == 0 {
        let wanted = || other_body(request("old-0", 1, 10, START_MS));
        let many: Vec<_> = (0..50).map(|_| bench.engine.authorise(wanted(), &bench.arrival())).collect();
        for pending in many {
            assert_eq!(pending.await.unwrap().answer.response_code.as_str(), "94");
        }
    }
    bench.authorise(request("now", 1, 0, START_MS + 4 * DAY_MS)).await;
    bench.tend();
    bench
}

fn look_up_old(bench: &Bench) -> Vec<Result<Option<u64>, String>> {
    let hash = |n: u64| bench.engine.state.answers.hash(0, &key(&format!("old-{n}")));
    (0..5)
        .map(|n| Ok(bench.engine.find_older(hash(n), Instant::now())?.map(|found| found.position)))
        .collect()
}

#[tokio::test]
async fn damage_to_a_key_file_is_mended_from_the_journal_or_refused_and_never_an_unknown_id() {
    let dir = tempfile::tempdir().unwrap();
    let bench = few_old_keys(dir.path()).await;
    let file = key_files(dir.path()).remove(0);
    let good = fs::read(&file).unwrap();
    assert!(good.len() < 10_000, "{} bytes: the test would take long", good.len());
    let right = look_up_old(&bench);
    assert!(right.iter().all(|found| matches!(found, Ok(Some(_)))), "{right:?}");
    let mended = || bench.rendered("saker_key_files_made_total{why=\"again\"}");
    // What is read at a look-up is the block of the key; the rest of the file is read at start.
    for offset in (4_096..8_192).step_by(61) {
        let mut damaged = good.clone();
        damaged[offset] ^= 0x40;
        fs::write(&file, damaged).unwrap();
        let before = mended();
        assert_eq!(look_up_old(&bench), right, "byte {offset}");
        assert_eq!(mended(), before + 1.0, "byte {offset}: made again");
        assert_eq!(fs::read(&file).unwrap(), good, "byte {offset}: the same again");
    }
    for length in [0, 100, 4_096, 5_000, 8_191] {
        fs::write(&file, &good[..length]).unwrap();
        assert_eq!(look_up_old(&bench), right, "cut to {length} bytes");
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(look_up_old(&bench), right, "the file is gone");
    bench.engine.close().unwrap();
    drop(bench);

    for offset in [0, 9, 20, 50, 100, 3_000, 8_192, good.len() - 1] {
        let mut damaged = good.clone();
        damaged[offset] ^= 0x40;
        fs::write(&file, damaged).unwrap();
        let bench = open_days(dir.path());
        assert!(bench.authorise(request("old-3", 1, 10, START_MS)).await.replayed, "byte {offset} at start");
        bench.tend();
        assert_eq!(look_up_old(&bench), right, "byte {offset} at start");
        assert_eq!(fs::read(&file).unwrap(), good, "byte {offset} at start");
        bench.engine.close().unwrap();
    }

    // Neither the key file nor the segment.
    let bench = open_days(dir.path());
    bench.tend();
    let segment = dir.path().join("journal/0000000001.segment");
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, vec![7; whole.len()]).unwrap();
    fs::write(&file, &good[..5_000]).unwrap();
    let refused = bench.engine.authorise(request("old-3", 1, 10, START_MS), &bench.arrival()).await;
    assert_eq!(refused, Err(Fault::Unavailable("ANSWERS_UNREADABLE")));
    let reversal = Reversal { key: key("r-9"), original: key("old-2"), replacement: None };
    let refused = bench.engine.reverse(reversal, &bench.arrival()).await;
    assert_eq!(refused, Err(Fault::Unavailable("ANSWERS_UNREADABLE")));
    assert!(!bench.authorise(request("fresh", 1, 10, START_MS)).await.replayed, "new ids are decided");
    fs::write(&segment, whole).unwrap();
    let again = bench.authorise_once_readable(request("old-3", 1, 10, START_MS)).await;
    assert!(again.replayed, "and the claim was undone");
    bench.engine.close().unwrap();
    verified(dir.path());
}

#[tokio::test]
async fn without_its_keys_in_memory_a_segment_without_a_key_file_is_read_before_the_engine_serves() {
    let dir = tempfile::tempdir().unwrap();
    let bench = few_old_keys(dir.path()).await;
    let right = look_up_old(&bench);
    let file = key_files(dir.path()).remove(0);
    let segment = dir.path().join("journal/0000000001.segment");
    let whole = fs::read(&segment).unwrap();
    let forget = |bench: &Bench| forget_key_file(bench, &file);
    forget(&bench);
    bench.engine.make_key_files_before_serving(u64::MAX);
    assert_eq!(look_up_old(&bench), right);

    forget(&bench);
    fs::write(&segment, vec![7; whole.len()]).unwrap();
    bench.engine.make_key_files_before_serving(u64::MAX);
    for name in ["old-1", "quite new"] {
        let refused = bench.engine.authorise(request(name, 1, 10, START_MS), &bench.arrival()).await;
        assert_eq!(refused, Err(Fault::Unavailable("ANSWERS_UNREADABLE")), "{name}");
    }
    fs::write(&segment, whole).unwrap();
    assert!(!bench.authorise_once_readable(request("quite new", 1, 10, START_MS)).await.replayed);
    assert_eq!(look_up_old(&bench), right);
    bench.engine.close().unwrap();
}

/// As an engine that starts from a snapshot finds it: no key file, and the segment not read.
fn forget_key_file(bench: &Bench, file: &Path) {
    let _work = bench.engine.older.work.lock();
    bench.engine.show(crate::engine::older::Shelf::default());
    fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_key_file_that_cannot_be_written_makes_no_id_unknown_or_unavailable_and_comes_later() {
    let dir = tempfile::tempdir().unwrap();
    let bench = few_old_keys(dir.path()).await;
    let right = look_up_old(&bench);
    let file = key_files(dir.path()).remove(0);
    let good = fs::read(&file).unwrap();
    // A directory of this name refuses the file that is to be written, as a full disk does.
    let in_the_way = dir.path().join("keys/0000000001.keys.unfinished");
    fs::create_dir(&in_the_way).unwrap();
    let made = || bench.rendered("saker_key_files_made_total{why=\"again\"}");
    let begun_with = made();
    let no_file = || !file.exists() && made() == begun_with;

    forget_key_file(&bench, &file);
    bench.engine.make_key_files_before_serving(u64::MAX);
    assert!(no_file());
    assert!(bench.authorise(request("old-1", 1, 10, START_MS)).await.replayed);
    assert_eq!(look_up_old(&bench), right);
    let look_ups = || bench.rendered("saker_answer_look_ups_total{outcome=\"absent\"}");
    let before = look_ups();
    for n in 0..20 {
        assert!(!bench.authorise(request(&format!("new-{n}"), 1, 10, START_MS)).await.replayed);
    }
    assert!(look_ups() <= before + 1.0, "new ids are not looked up in the segment");
    bench.tend();
    assert!(no_file(), "it is not tried at once again");

    fs::remove_dir(&in_the_way).unwrap();
    bench.engine.older.failed.lock().clear();
    bench.tend();
    assert_eq!(fs::read(&file).unwrap(), good);
    assert_eq!(look_up_old(&bench), right);

    // The same while serving, where the file is damaged.
    fs::write(&file, &good[..5_000]).unwrap();
    fs::create_dir(&in_the_way).unwrap();
    for _ in 0..2 {
        assert_eq!(look_up_old(&bench), right);
    }
    assert_eq!(made(), begun_with);
    fs::remove_dir(&in_the_way).unwrap();
    bench.engine.close().unwrap();
    drop(bench);
    let bench = open_days(dir.path());
    bench.tend();
    assert_eq!(look_up_old(&bench), right);
    bench.engine.close().unwrap();
    verified(dir.path());
}

#[tokio::test]
async fn look_ups_that_wait_for_one_damaged_key_file_read_its_segment_once() {
    let dir = tempfile::tempdir().unwrap();
    let bench = few_old_keys(dir.path()).await;
    let right = look_up_old(&bench);
    let file = key_files(dir.path()).remove(0);
    let good = fs::read(&file).unwrap();
    let made = || bench.rendered("saker_key_files_made_total{why=\"again\"}");
    let before = made();
    fs::write(&file, &good[..5_000]).unwrap();
    let found: Vec<_> = std::thread::scope(|scope| {
        let work = bench.engine.older.work.lock();
        let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| look_up_old(&bench))).collect();
        std::thread::sleep(Duration::from_millis(100));
        drop(work);
        waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.iter().all(|found| *found == right), "{found:?}");
    assert_eq!(made(), before + 1.0);

    // A segment that cannot be read is not read for every one of them either.
    let segment = dir.path().join("journal/0000000001.segment");
    let whole = fs::read(&segment).unwrap();
    fs::write(&file, &good[..5_000]).unwrap();
    fs::write(&segment, vec![7; whole.len()]).unwrap();
    let find = |n: u64, at: Instant| {
        let hash = bench.engine.state.answers.hash(0, &key(&format!("old-{n}")));
        bench.engine.find_older(hash, at).map(|found| found.map(|found| found.position))
    };
    let now = Instant::now();
    let refused = find(0, now);
    assert!(refused.is_err());
    fs::write(&segment, whole).unwrap();
    assert_eq!(find(1, now + Duration::from_millis(500)), refused, "it is believed for a moment");
    assert_eq!(find(1, now + Duration::from_secs(60)), right[1]);
    assert_eq!(find(0, now + Duration::from_millis(500)), right[0], "and to all once it was read");
    bench.engine.close().unwrap();
    verified(dir.path());
}

#[tokio::test]
async fn an_unreadable_segment_past_its_retention_no_longer_makes_ids_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let bench = few_old_keys(dir.path()).await;
    let file = key_files(dir.path()).remove(0);
    let segment = dir.path().join("journal/0000000001.segment");
    forget_key_file(&bench, &file);
    let length = fs::metadata(&segment).unwrap().len();
    fs::write(&segment, vec![7; length as usize]).unwrap();
    bench.engine.make_key_files_before_serving(u64::MAX);
    let at = |name: &str, days: i64| request(name, 1, 10, START_MS + days * DAY_MS);
    for days in [5, 34] {
        bench.engine.time.at_door(&at("clock", days), Instant::now());
        bench.tend();
        for name in ["old-1", "quite new"] {
            let refused = bench.engine.authorise(at(name, days), &bench.arrival()).await;
            assert_eq!(refused, Err(Fault::Unavailable("ANSWERS_UNREADABLE")), "{name} after {days} days");
        }
    }
    // The records behind the segment, which can be read, are from the first and the fifth day.
    bench.engine.time.at_door(&at("clock", 41), Instant::now());
    bench.tend();
    for name in ["old-1", "quite new"] {
        assert!(!bench.authorise(at(name, 41)).await.replayed, "{name}");
    }
    bench.engine.close().unwrap();
}

#[tokio::test]
async fn keys_that_a_snapshot_brought_back_leave_memory_again() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open_days(dir.path());
    bench.account(1, 100_000).await;
    bench.fill_segment("a", START_MS).await;
    bench.engine.snapshot_now().unwrap();
    bench.authorise(request("now", 1, 0, START_MS + 4 * DAY_MS)).await;
    bench.tend();
    assert!(bench.in_memory() < 1_000, "{} keys in memory", bench.in_memory());
    bench.engine.close().unwrap();
    drop(bench);
    let bench = open_days(dir.path());
    assert!(bench.in_memory() > 1_000, "the snapshot was taken while they were there");
    bench.tend();
    assert!(bench.in_memory() < 1_000, "{} keys stay in memory", bench.in_memory());
    assert!(bench.authorise(request("fill-a-0-7", 0, 0, START_MS)).await.replayed);
    bench.engine.close().unwrap();
    verified(dir.path());
}

/// What a key stands for, as a map that keeps everything has it.
enum Known {
    Answered(Box<(AuthRequest, AuthAnswer)>),
    Voided,
    ReversedBefore,
}

#[tokio::test]
async fn two_tiers_answer_as_a_map_that_keeps_everything_does() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let dir = tempfile::tempdir().unwrap();
    let mut bench = open_small(dir.path(), 1_000_000, 5);
    bench.account(1, 1_000_000_000).await;
    let mut known: HashMap<String, Known> = HashMap::new();
    let mut names: Vec<String> = Vec::new();
    let mut at_ms = START_MS;
    for round in 0..14 {
        for n in 0..120 {
            at_ms += rng.random_range(0..HOUR_MS / 60);
            let name = match names.choose(&mut rng) {
                Some(name) if rng.random_ratio(2, 3) => name.clone(),
                _ => format!("k-{round}-{n}"),
            };
            if !names.contains(&name) {
                names.push(name.clone());
            }
            let wanted = request(&name, 1, 10, at_ms);
            match rng.random_range(0..10) {
                0 => {
                    let own = format!("r-{round}-{n}");
                    let outcome = bench.reverse(&own, &name).await;
                    assert_eq!(outcome.answer.response_code.as_str(), "00", "{name}");
                    let moved = outcome.answer.moved.is_some();
                    let expected = matches!(known.get(&name), Some(Known::Answered(first)) if first.1.approved.is_some())
                        || matches!(known.get(&name), Some(Known::Voided));
                    assert_eq!(moved, expected, "round {round}: reversal of {name}");
                    known.entry(name).or_insert(Known::ReversedBefore);
                }
                1 if !known.contains_key(&name) => {
                    let Claimed::Fresh(claim) = bench
                        .engine
                        .claim_anywhere(bench.engine.state.answers.hash(0, &key(&name)))
                        .await
                        .unwrap()
                    else {
                        panic!("{name} is new")
                    };
                    drop(claim);
                    bench.authorise(wanted.clone()).await;
                    let hash = bench.engine.state.answers.hash(0, &key(&name));
                    let found = bench.engine.remembered(hash).await.unwrap().unwrap();
                    assert_eq!(bench.engine.void(0, key(&name), found, &bench.lane).await, Ok(true));
                    known.insert(name, Known::Voided);
                }
                choice => {
                    let given = bench.engine.authorise(wanted.clone(), &bench.arrival()).await;
                    match known.get(&name) {
                        None => {
                            let given = given.unwrap();
                            assert!(!given.replayed, "round {round}: {name} is new");
                            known.insert(name, Known::Answered(Box::new((wanted, given.answer))));
                        }
                        Some(Known::ReversedBefore) => {
                            let given = given.unwrap();
                            assert_eq!(given.answer.response_code.as_str(), "12", "round {round}: {name}");
                            known.insert(name, Known::Answered(Box::new((wanted, given.answer))));
                        }
                        Some(Known::Voided) => assert_eq!(given, Err(Fault::DeadlineVoided), "{name}"),
                        Some(Known::Answered(first)) => {
                            let (first, answer) = &**first;
                            let given = given.unwrap();
                            assert!(given.replayed, "round {round}: {name}");
                            assert_eq!(given.answer, *answer);
                            if choice == 9 {
                                let other = bench.authorise(other_body(first.clone())).await.answer;
                                assert_eq!(other.response_code.as_str(), "94");
                            }
                        }
                    }
                }
            }
        }
        bench.fill_segment(&round.to_string(), at_ms).await;
        if rng.random_ratio(2, 3) {
            bench.tend();
        }
        if rng.random_ratio(1, 2) {
            bench.engine.close().unwrap();
            drop(bench);
            if let Some(file) = key_files(dir.path()).choose(&mut rng).filter(|_| round % 3 == 0) {
                let mut bytes = fs::read(file).unwrap();
                let offset = rng.random_range(0..bytes.len());
                bytes[offset] ^= 1;
                fs::write(file, bytes).unwrap();
            }
            bench = open_small(dir.path(), 1_000_000, 5);
        }
        at_ms += rng.random_range(0..6 * HOUR_MS);
    }
    assert!(bench.rendered("saker_answers_on_disk") > 5_000.0);
    bench.engine.close().unwrap();
    verified(dir.path());
}

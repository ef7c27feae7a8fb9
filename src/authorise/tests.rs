//! The decision and its answers against a naive twin, and its races.

use std::{
    collections::HashMap,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    answers::{Answers, Claimed, What},
    entry::Store,
    restore::Effect,
    reverse::Target,
    *,
};
use crate::{
    config::{Control, HoldLifetimes},
    features::{
        Plan,
        shared::{SharedPlan, SharedRead},
    },
    journal::record::{Record, VersionNames, VersionNumbers, Versioned},
    ledger::audit::{self, Twin},
    rules,
    types::{
        account::{AccountChange, CardChange},
        auth::Merchant,
        base::BaseCurrency,
        codes::{CardStatus, Channel},
        fault::Fault,
        ids::{AccountId, CardToken, Id, RequestKey},
        money::{Currency, Money},
        outcome::{Maintenance, Reversal, Upserted},
        reasons::Label,
        time::DAY_MS,
    },
};

/// A journal in memory, in order of position.
#[derive(Default)]
pub(crate) struct Log {
    last: AtomicU64,
    records: Mutex<Vec<(u64, Vec<u8>)>>,
}

pub(crate) struct LogSlot<'a> {
    log: &'a Log,
    position: u64,
    bytes: Vec<u8>,
}

impl Log {
    pub(crate) fn slot(&self) -> LogSlot<'_> {
        LogSlot { log: self, position: 0, bytes: Vec::new() }
    }

    pub(crate) fn records(&self) -> Vec<(u64, Vec<u8>)> {
        let mut records = self.records.lock().clone();
        records.sort();
        records
    }
}

impl Sink for LogSlot<'_> {
    fn take_sequence(&mut self) -> u64 {
        self.position = self.log.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.position
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn publish(self) {
        self.log.records.lock().push((self.position, self.bytes));
    }
}

pub(crate) struct NoNames;

impl VersionNames for NoNames {
    fn name(&self, _: Versioned, _: u32) -> Label {
        Label::Static("")
    }
}

pub(crate) fn setup(rules: &str) -> Setup {
    let rules = rules::compile("test.toml", rules).unwrap_or_else(|findings| panic!("{findings:?}"));
    Setup {
        plan: Arc::new(Plan::new(&rules.aggregates)),
        shared: Arc::new(SharedPlan::new(&rules.aggregates)),
        base: BaseCurrency::default(),
        rules: Arc::new(rules),
        lists: rules::ListsInForce::default(),
        model: None,
        challenger: None,
        control: Control::default(),
        holds: HoldLifetimes::default(),
        limits_assumed: false,
        numbers: VersionNumbers::default(),
        rules_version: Label::Static(""),
        model_version: Label::Static(""),
    }
}

pub(crate) fn state() -> State {
    State { store: Store::new(16), answers: Answers::new(10_000_000, (3, 4)) }
}

fn usd(minor: i64) -> Money {
    Money::new(minor, Currency::from_alpha("USD").unwrap())
}

fn asked(now: Timestamp) -> Asked {
    Asked { client: 0, now, original: None }
}

pub(crate) fn request(key: &str, card: &str, minor: i64) -> AuthRequest {
    AuthRequest {
        amount: Some(usd(minor)),
        merchant: Merchant { merchant_id: Some(Id::new("M1").unwrap()), ..Merchant::default() },
        channel: Some(Channel::CardPresent),
        ..AuthRequest::new(
            RequestKey::new(key).unwrap(),
            Kind::Purchase,
            Subject::Card(CardToken::new(card).unwrap()),
        )
    }
}

/// Opens an account `A<n>` with a card `C<n>`.
pub(crate) fn open(state: &State, log: &Log, number: usize, limit_minor: i64) -> u32 {
    let change = AccountChange {
        account: AccountId::new(&format!("A{number}")).unwrap(),
        currency: Currency::from_alpha("USD"),
        credit_limit_minor: Some(limit_minor),
        posted_minor: None,
        status: None,
        product: None,
        home_country: None,
        home: None,
        opened_on: None,
        cards: vec![CardChange { token: card(number), status: None, expires_on: None }],
    };
    let account = change.account;
    let key = RequestKey::new(&format!("open-{number}")).unwrap();
    let outcome = maintain(state, log, Maintenance::Upsert { key, change }, Timestamp(0)).unwrap();
    assert_eq!(outcome.upserted, Some(Upserted::Opened));
    state.store.find(&Subject::Account(account)).unwrap()
}

fn card(number: usize) -> CardToken {
    CardToken::new(&format!("C{number}")).unwrap()
}

fn maintain(
    state: &State,
    log: &Log,
    change: Maintenance,
    now: Timestamp,
) -> Result<crate::types::outcome::Outcome, crate::types::fault::Fault> {
    let key = state.answers.hash(0, &change.key());
    let Claimed::Fresh(own) = state.answers.claim(key) else { panic!("the key is new") };
    maintain::maintain(state, change, asked(now), own, log.slot())
}

/// Reverses as the engine does: waits where the original is being decided. Returns what was freed.
fn reverse_now(
    state: &State,
    log: &Log,
    key: &str,
    original: &str,
    keep: Option<i64>,
    now: Timestamp,
) -> i64 {
    let reversal = Reversal {
        key: RequestKey::new(key).unwrap(),
        original: RequestKey::new(original).unwrap(),
        replacement: keep.map(usd),
    };
    loop {
        let own = state.answers.hash(0, &reversal.key);
        let Claimed::Fresh(own) = state.answers.claim(own) else { panic!("the key is new") };
        let target = match state.answers.claim(state.answers.hash(0, &reversal.original)) {
            Claimed::Fresh(claim) => Target::NotArrived(claim),
            Claimed::Known(found) => Target::Found(found),
            Claimed::ReversedBefore(claim, found) => {
                drop(claim);
                Target::Found(found)
            }
            Claimed::Busy => {
                drop(own);
                std::thread::yield_now();
                continue;
            }
            Claimed::Full | Claimed::Older(_) => panic!("there is room, and no file"),
        };
        let outcome = reverse::reverse(state, reversal, asked(now), own, target, log.slot()).unwrap();
        return outcome.moved.map_or(0, |moved| moved.minor);
    }
}

fn decide_now(state: &State, setup: &Setup, log: &Log, request: &AuthRequest, asked: Asked) -> Taken {
    loop {
        let attempt = Attempt {
            request,
            asked,
            shared: &SharedRead::default(),
            features: MODEL_FEATURES,
            observed: None,
        };
        match authorise(state, setup, attempt, log.slot(), &mut ()) {
            Taken::Busy | Taken::Again => std::thread::yield_now(),
            taken => return taken,
        }
    }
}

/// Frauds of the card that an account has, read before the account got another: what is meant by then is no card, and what
/// was read says nothing of it.
#[test]
fn what_was_read_for_a_card_decides_nothing_once_another_is_meant() {
    const FRAUDS: &str = "version = 1\n[aggregates.frauds]\nby = 'card'\nwindow = '30d'\ncount = true\n\
         where = \"label == 'fraud'\"\n";
    let (state, setup, log) = (state(), setup(FRAUDS), Log::default());
    let at = open(&state, &log, 1, 10_000);
    let (_, owner) = parts_of(&state.store, &setup.shared, &request("t1", "C1", 100));
    let card = match owner {
        Owner::Card { account, card } if account == at => card,
        other => panic!("{other:?}"),
    };
    let positions = || log.records.lock().len();
    let before = positions();
    let read_for = |owner: Owner| {
        let shared = SharedRead { owner, ..SharedRead::default() };
        let attempt = Attempt {
            request: &request("t1", "C1", 100),
            asked: asked(Timestamp(1_000)),
            shared: &shared,
            features: MODEL_FEATURES,
            observed: None,
        };
        authorise(&state, &setup, attempt, log.slot(), &mut ())
    };
    for stale in
        [Owner::Nobody, Owner::Card { account: at, card: card + 1 }, Owner::Card { account: at + 1, card }]
    {
        assert!(matches!(read_for(stale), Taken::Again), "{stale:?}");
        assert_eq!(positions(), before, "nothing is recorded");
    }
    // The key is as free as before.
    assert_eq!(decided(read_for(owner)).decision, Decision::Approved);
}

fn decided(taken: Taken) -> AuthAnswer {
    match taken {
        Taken::Decided(answer, _) => answer,
        _ => panic!("the request is decided"),
    }
}

/// What the twin knows of one key.
#[derive(Clone)]
struct Sent {
    request: AuthRequest,
    answer: AuthAnswer,
    account: usize,
    voided: bool,
}

/// The naive twin of accounts and answers together.
struct World {
    twins: Vec<Twin>,
    card_blocked: Vec<bool>,
    sent: HashMap<String, Sent>,
    order: Vec<String>,
    tombstones: Vec<String>,
}

impl World {
    fn random_key(&self, random: &mut ChaCha8Rng) -> Option<String> {
        // Recent keys mostly: their holds are alive.
        let from = self.order.len().saturating_sub(if random.random_bool(0.8) { 40 } else { usize::MAX });
        self.order[from..].choose(random).cloned()
    }
}

const ACCOUNTS: usize = 24;

#[test]
fn a_hundred_thousand_steps_leave_ledger_and_answers_where_their_naive_twin_stands() {
    let (state, setup, log) = (state(), setup("version = 1"), Log::default());
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut world = World {
        twins: Vec::new(),
        card_blocked: vec![false; ACCOUNTS],
        sent: HashMap::new(),
        order: Vec::new(),
        tombstones: Vec::new(),
    };
    for number in 0..ACCOUNTS {
        let limit = random.random_range(1_000..50_000);
        open(&state, &log, number, limit);
        world.twins.push(Twin::new(limit));
    }
    let mut now = Timestamp(1_000_000);
    for step in 0..100_000_u32 {
        if random.random_bool(0.3) {
            now = now.plus_ms(random.random_range(0..DAY_MS / 4));
        }
        match random.random_range(0..100) {
            0..60 => authorise_step(&state, &setup, &log, &mut world, &mut random, now, step),
            60..72 => retry_step(&state, &setup, &log, &world, &mut random, now),
            72..88 => reverse_step(&state, &log, &mut world, &mut random, now, step),
            88..92 => void_step(&state, &log, &mut world, &mut random, now),
            92..96 => {
                let account = random.random_range(0..ACCOUNTS);
                let limit_minor = random.random_range(0..50_000);
                let change = Maintenance::SetCreditLimit {
                    key: RequestKey::new(&format!("limit-{step}")).unwrap(),
                    account: AccountId::new(&format!("A{account}")).unwrap(),
                    limit_minor,
                };
                maintain(&state, &log, change, now).unwrap();
                world.twins[account].touch(now);
                world.twins[account].limit_minor = i128::from(limit_minor);
            }
            _ => {
                let account = random.random_range(0..ACCOUNTS);
                let blocked = random.random_bool(0.3);
                let change = Maintenance::SetCardStatus {
                    key: RequestKey::new(&format!("card-{step}")).unwrap(),
                    card: card(account),
                    status: if blocked { CardStatus::Blocked } else { CardStatus::Active },
                };
                maintain(&state, &log, change, now).unwrap();
                world.twins[account].touch(now);
                world.card_blocked[account] = blocked;
            }
        }
        if step % 997 == 0 {
            compare(&state, &mut world, now);
        }
    }
    compare(&state, &mut world, now);
    recovered_from_the_log_it_is_the_same(&state, &setup, &log, &world, now);
}

fn authorise_step(
    state: &State,
    setup: &Setup,
    log: &Log,
    world: &mut World,
    random: &mut ChaCha8Rng,
    now: Timestamp,
    step: u32,
) {
    let reversed_before = !world.tombstones.is_empty() && random.random_bool(0.2);
    let key = match reversed_before {
        true => world.tombstones.swap_remove(random.random_range(0..world.tombstones.len())),
        false => format!("t-{step}"),
    };
    let account = random.random_range(0..ACCOUNTS);
    let amount = random.random_range(0..4_000);
    let mut wanted = request(&key, &format!("C{account}"), amount);
    wanted.partial_approval_allowed = random.random_bool(0.2);
    wanted.single_message = random.random_bool(0.2);
    if random.random_bool(0.1) {
        wanted.kind = Kind::PreAuthorisation;
    }
    let mut asked = asked(now);
    let mut chain = None;
    if amount > 0 && random.random_bool(0.1) {
        wanted.kind = Kind::Incremental;
        if let Some(original) = world.random_key(random) {
            wanted.original = RequestKey::new(&original).ok();
            let hash = state.answers.hash(0, &wanted.original.unwrap());
            asked.original = state.answers.lookup(hash).known().filter(|found| found.is_authorisation());
            chain = world.sent.get(&original).filter(|sent| sent.account == account && !sent.voided).cloned();
        }
    }
    let answer = decided(decide_now(state, setup, log, &wanted, asked));

    let twin = &mut world.twins[account];
    let verification = wanted.decided_as() == Kind::AccountVerification;
    if !reversed_before {
        twin.touch(now);
    }
    let added_to = chain.map(|sent| sent.answer.position).filter(|position| twin.holds(*position));
    let live = added_to.map(|position| twin.first(position));
    let available = twin.available_minor();
    let expected = if reversed_before {
        "12"
    } else if world.card_blocked[account] {
        "62"
    } else if wanted.kind == Kind::Incremental && live.is_none() {
        "12"
    } else if verification {
        "85"
    } else if i128::from(amount) <= available {
        "00"
    } else if wanted.partial_approval_allowed && available > 0 {
        "10"
    } else {
        "51"
    };
    assert_eq!(answer.response_code.as_str(), expected, "{wanted:?} of {available}");
    let held = match expected {
        "00" => amount,
        "10" => available as i64,
        _ => 0,
    };
    if held > 0 {
        let life = setup.expires_at(&wanted, now).since_ms(now);
        let expires_at = if wanted.single_message {
            now.plus_ms(crate::limits::HOLD_LIFE_MAX_MS)
        } else {
            added_to.and_then(|position| twin.expires_at(position)).unwrap_or(now).max(now.plus_ms(life))
        };
        let first = live.unwrap_or(answer.position);
        twin.place(answer.position, first, held, expires_at, wanted.single_message);
    }
    if !reversed_before {
        assert_eq!(answer.approved, Some(usd(held)));
        assert_eq!(answer.available.map(|money| i128::from(money.minor)), Some(twin.available_minor()));
    }
    world.order.push(key.clone());
    world.sent.insert(key, Sent { request: wanted, answer, account, voided: false });
}

fn retry_step(
    state: &State,
    setup: &Setup,
    log: &Log,
    world: &World,
    random: &mut ChaCha8Rng,
    now: Timestamp,
) {
    let Some(key) = world.random_key(random) else { return };
    let sent = &world.sent[&key];
    let mut retry = sent.request.clone();
    let other = random.random_bool(0.3);
    if other {
        retry.amount = Some(usd(retry.amount.map_or(1, |money| money.minor + 1)));
    }
    let before = log.last.load(Ordering::Relaxed);
    let Taken::Known(found) = decide_now(state, setup, log, &retry, asked(now)) else {
        panic!("a key that was used is known");
    };
    assert_eq!(log.last.load(Ordering::Relaxed), before, "a repeat writes nothing here");
    assert_eq!(found.what == What::Voided, sent.voided);
    if !sent.voided {
        assert_eq!(found.position, sent.answer.position);
    }
    assert_eq!(same_body(&sent.request, &retry), !other);
}

fn reverse_step(
    state: &State,
    log: &Log,
    world: &mut World,
    random: &mut ChaCha8Rng,
    now: Timestamp,
    step: u32,
) {
    let known = random.random_bool(0.85).then(|| world.random_key(random)).flatten();
    let original = known.clone().unwrap_or_else(|| format!("late-{step}"));
    let keep = random.random_bool(0.3).then(|| random.random_range(0..3_000));
    let freed = reverse_now(state, log, &format!("r-{step}"), &original, keep, now);
    match known.map(|key| &world.sent[&key]) {
        None => {
            assert_eq!(freed, 0);
            world.tombstones.push(original);
        }
        Some(sent) if sent.answer.approved.is_none() => assert_eq!(freed, 0),
        Some(sent) => {
            let twin = &mut world.twins[sent.account];
            twin.touch(now);
            // A voided authorisation is found under the record that voided it, which holds nothing.
            let expected =
                if sent.voided { 0 } else { twin.release(sent.answer.position, keep.unwrap_or(0)) };
            assert_eq!(i128::from(freed), expected);
        }
    }
}

fn void_step(state: &State, log: &Log, world: &mut World, random: &mut ChaCha8Rng, now: Timestamp) {
    let Some(key) = world.order.last().cloned() else { return };
    let sent = world.sent.get_mut(&key).unwrap();
    if sent.voided || random.random_bool(0.5) {
        return;
    }
    let hash = state.answers.hash(0, &sent.request.key);
    let found = state.answers.lookup(hash).known().unwrap();
    let claim = state.answers.reclaim(hash, found).unwrap();
    reverse::void(state, sent.request.key, found, asked(now), claim, log.slot());
    if sent.answer.approved.is_some() {
        let twin = &mut world.twins[sent.account];
        twin.touch(now);
        twin.release(sent.answer.position, 0);
    }
    sent.voided = true;
}

fn compare(state: &State, world: &mut World, now: Timestamp) {
    for (number, twin) in world.twins.iter_mut().enumerate() {
        twin.touch(now);
        let at = state.store.find(&Subject::Card(card(number))).unwrap();
        state.store.with_account(at, |entry| {
            let account = entry.account.as_mut().unwrap();
            assert_eq!(i128::from(account.available_minor(now)), twin.available_minor(), "account {number}");
            account.expire(now);
            assert_eq!(audit::check(account), Ok(()));
            assert_eq!(i128::from(account.held_minor()), twin.held_minor());
            assert_eq!(i128::from(account.posted_minor), twin.posted_minor());
        });
    }
}

fn recovered_from_the_log_it_is_the_same(
    live: &State,
    setup: &Setup,
    log: &Log,
    world: &World,
    now: Timestamp,
) {
    let recovered = state();
    for (position, payload) in log.records() {
        let record = Record::decode(&payload, position, &NoNames).unwrap();
        Effect::of(&recovered.answers, position, record).restore(&recovered, &setup.plan);
    }
    for number in 0..ACCOUNTS {
        let view = |state: &State| {
            let at = state.store.find(&Subject::Card(card(number))).unwrap();
            state.store.with_account(at, |entry| entry.account.as_ref().unwrap().view(now))
        };
        assert_eq!(view(live), view(&recovered));
    }
    let records: HashMap<u64, Vec<u8>> = log.records().into_iter().collect();
    for sent in world.sent.values() {
        let key = live.answers.hash(0, &sent.request.key);
        let found = live.answers.lookup(key).known().unwrap();
        let again = recovered.answers.lookup(key).known().unwrap();
        assert_eq!((found.what, found.position), (again.what, again.position));
        let position = sent.answer.position;
        let Record::Decided(stored) = Record::decode(&records[&position], position, &NoNames).unwrap() else {
            panic!("the position of an answer is that of its decision");
        };
        assert_eq!((&stored.request, &stored.answer), (&sent.request, &sent.answer));
    }
}

/// Runs `work` on several threads that start together.
fn race(threads: usize, work: impl Fn(usize) + Sync) {
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(thread);
            });
        }
    });
}

#[test]
fn a_hammer_on_one_account_approves_exactly_what_fits() {
    for (limit, amount) in [(10_000, 7), (9_999, 100), (5, 10), (3_000, 1)] {
        let (state, setup, log) = (state(), setup("version = 1"), Log::default());
        let at = open(&state, &log, 0, limit);
        let approvals = AtomicU64::new(0);
        race(6, |thread| {
            for n in 0..1_000 {
                let wanted = request(&format!("{thread}-{n}"), "C0", amount);
                let answer = decided(decide_now(&state, &setup, &log, &wanted, asked(Timestamp(5))));
                approvals.fetch_add(u64::from(answer.decision == Decision::Approved), Ordering::Relaxed);
            }
        });
        assert_eq!(approvals.into_inner() as i64, limit / amount);
        state.store.with_account(at, |entry| {
            assert_eq!(entry.account.as_ref().unwrap().held_minor(), limit / amount * amount);
        });
    }
}

#[test]
fn the_same_id_on_two_accounts_is_decided_once() {
    let (state, setup, log) = (state(), setup("version = 1"), Log::default());
    let places = [open(&state, &log, 0, 1_000_000), open(&state, &log, 1, 1_000_000)];
    let decisions = AtomicU64::new(0);
    race(4, |thread| {
        for n in 0..3_000 {
            let wanted = request(&format!("k{n}"), &format!("C{}", thread % 2), 10);
            if let Taken::Decided(..) = decide_now(&state, &setup, &log, &wanted, asked(Timestamp(5))) {
                decisions.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    assert_eq!(decisions.into_inner(), 3_000);
    let held: i64 = places
        .iter()
        .map(|at| state.store.with_account(*at, |entry| entry.account.as_ref().unwrap().held_minor()))
        .sum();
    assert_eq!(held, 3_000 * 10);
}

#[test]
fn an_authorisation_that_races_its_reversal_never_leaves_a_hold() {
    let (state, setup, log) = (state(), setup("version = 1"), Log::default());
    let at = open(&state, &log, 0, 1_000_000_000);
    let declined = AtomicU64::new(0);
    race(4, |thread| {
        for n in 0..2_000 {
            let pair = thread / 2;
            let key = format!("k{pair}-{n}");
            if thread % 2 == 0 {
                let wanted = request(&key, "C0", 10);
                let answer = decided(decide_now(&state, &setup, &log, &wanted, asked(Timestamp(5))));
                declined.fetch_add(u64::from(answer.response_code.as_str() == "12"), Ordering::Relaxed);
            } else {
                reverse_now(&state, &log, &format!("r{key}"), &key, None, Timestamp(5));
            }
        }
    });
    state.store.with_account(at, |entry| {
        let account = entry.account.as_ref().unwrap();
        assert_eq!((account.held_minor(), account.holds().len()), (0, 0));
    });
    // However the threads ran, some order must have been possible both ways over thousands of pairs; what counts
    // is that each reversal that came first made its authorisation a decline.
    let tombstones = log
        .records()
        .iter()
        .filter(|(position, payload)| {
            matches!(Record::decode(payload, *position, &NoNames), Ok(Record::Reversed(reversed))
                if reversed.original == crate::journal::record::Original::NotArrived)
        })
        .count();
    assert_eq!(declined.into_inner(), tombstones as u64);
}

#[test]
fn after_a_limit_cut_or_a_card_block_no_approval_stands_later_in_the_journal() {
    for round in 0..20 {
        let (state, setup, log) = (state(), setup("version = 1"), Log::default());
        open(&state, &log, 0, 100_000);
        race(4, |thread| match thread {
            0 => {
                std::thread::yield_now();
                let account = AccountId::new("A0").unwrap();
                let key = RequestKey::new("cut").unwrap();
                let change = match round % 2 {
                    0 => Maintenance::SetCreditLimit { key, account, limit_minor: 0 },
                    _ => Maintenance::SetCardStatus { key, card: card(0), status: CardStatus::Blocked },
                };
                maintain(&state, &log, change, Timestamp(5)).unwrap();
            }
            _ => {
                for n in 0..300 {
                    decided(decide_now(
                        &state,
                        &setup,
                        &log,
                        &request(&format!("{thread}-{n}"), "C0", 10),
                        asked(Timestamp(5)),
                    ));
                }
            }
        });
        let mut cut = false;
        for (position, payload) in log.records() {
            match Record::decode(&payload, position, &NoNames).unwrap() {
                Record::Maintained(maintained) => cut |= maintained.change.key().as_str() == "cut",
                Record::Decided(decided) => {
                    let approved = decided.answer.decision == Decision::Approved;
                    assert_eq!(approved, !cut, "position {position}");
                }
                _ => {}
            }
        }
        assert!(cut);
    }
}

#[test]
fn an_account_opened_while_it_is_asked_for_is_unknown_before_and_known_after() {
    for round in 0..200 {
        let (state, setup, log) = (state(), setup("version = 1"), Log::default());
        race(2, |thread| {
            if thread == 0 {
                open(&state, &log, 0, 1_000);
            } else {
                for n in 0..5 {
                    decided(decide_now(
                        &state,
                        &setup,
                        &log,
                        &request(&format!("{round}-{n}"), "C0", 10),
                        asked(Timestamp(5)),
                    ));
                }
            }
        });
        let mut opened = false;
        for (position, payload) in log.records() {
            match Record::decode(&payload, position, &NoNames) {
                Ok(Record::Maintained(_)) => opened = true,
                Ok(Record::Decided(decided)) => {
                    let expected = if opened { "00" } else { "14" };
                    assert_eq!(decided.answer.response_code.as_str(), expected, "position {position}");
                }
                // A sequence given up because the account appeared; the ring writes an abandoned frame for it.
                _ => {}
            }
        }
    }
}

#[test]
fn the_deciding_reason_is_that_of_the_highest_stage() {
    let rules = r#"
        version = 1
        [[rules]]
        id = "big"
        when = "amount >= 50.00"
        then = "decline"
        response_code = "61"
        reason = "BIG"
        [[rules]]
        id = "ask"
        when = "amount >= 40.00"
        then = "step_up"
        reason = "ASK"
        [[rules]]
        id = "note"
        when = "amount >= 1.00"
        then = "flag"
        reason = "NOTE"
        [[rules]]
        id = "try"
        when = "amount >= 1.00"
        then = "decline"
        reason = "TRY"
        mode = "shadow"
    "#;
    let (state, setup, log) = (state(), setup(rules), Log::default());
    open(&state, &log, 0, 4_500);
    let mut number = 0;
    let mut answer = |minor: i64| {
        number += 1;
        decided(decide_now(
            &state,
            &setup,
            &log,
            &request(&format!("k{number}"), "C0", minor),
            asked(Timestamp(5)),
        ))
    };
    let codes = |answer: &AuthAnswer| answer.reasons.iter().map(|r| r.code.to_string()).collect::<Vec<_>>();

    let declined = answer(5_000);
    assert_eq!(declined.response_code.as_str(), "61");
    assert_eq!(codes(&declined), ["BIG", "ASK", "NOTE", "INSUFFICIENT_CREDIT"]);
    let stepped = answer(4_000);
    assert_eq!((stepped.decision, stepped.response_code.as_str()), (Decision::StepUp, "1A"));
    assert_eq!(codes(&stepped), ["ASK", "NOTE"]);
    let approved = answer(3_900);
    assert_eq!((approved.decision, codes(&approved)), (Decision::Approved, vec!["NOTE".to_owned()]));
    let broke = answer(1_000);
    assert_eq!(broke.response_code.as_str(), "51");
    assert_eq!(codes(&broke), ["INSUFFICIENT_CREDIT", "NOTE"]);

    let block = Maintenance::SetCardStatus {
        key: RequestKey::new("block").unwrap(),
        card: card(0),
        status: CardStatus::Stolen,
    };
    maintain(&state, &log, block, Timestamp(5)).unwrap();
    let stolen = answer(5_000);
    assert_eq!(stolen.response_code.as_str(), "43");
    assert_eq!(codes(&stolen), ["CARD_STOLEN", "BIG", "ASK", "NOTE", "INSUFFICIENT_CREDIT"]);
}

#[test]
fn odd_requests_get_the_answer_the_contract_gives_them() {
    let (state, setup, log) = (state(), setup("version = 1"), Log::default());
    open(&state, &log, 0, 1_000);
    let mut number = 0;
    let mut answer = |change: &dyn Fn(&mut AuthRequest)| {
        number += 1;
        let mut wanted = request(&format!("k{number}"), "C0", 100);
        change(&mut wanted);
        decided(decide_now(&state, &setup, &log, &wanted, asked(Timestamp(DAY_MS))))
    };
    let euro = Money::new(100, Currency::from_alpha("EUR").unwrap());

    let wrong = answer(&|r| r.amount = Some(euro));
    assert_eq!((wrong.response_code.as_str(), &*wrong.reasons[0].code), ("13", "WRONG_CURRENCY"));
    let billed = answer(&|r| (r.amount, r.billing_amount) = (Some(euro), Some(usd(120))));
    assert_eq!((billed.response_code.as_str(), billed.approved), ("00", Some(usd(120))));
    let nothing = answer(&|r| r.amount = Some(usd(0)));
    assert_eq!((nothing.response_code.as_str(), nothing.authorisation_code()), ("85", None));
    let inquiry = answer(&|r| (r.kind, r.amount) = (Kind::BalanceInquiry, None));
    assert_eq!((inquiry.response_code.as_str(), inquiry.available), ("00", Some(usd(880))));
    let unknown = answer(&|r| r.subject = Subject::Card(card(77)));
    assert_eq!((unknown.response_code.as_str(), unknown.available), ("14", None));
    let part = answer(&|r| (r.amount, r.partial_approval_allowed) = (Some(usd(5_000)), true));
    assert_eq!((part.decision, part.response_code.as_str()), (Decision::PartiallyApproved, "10"));
    assert_eq!((part.approved, part.available), (Some(usd(880)), Some(usd(0))));
    assert!(part.authorisation_code().is_some());
    let skewed = answer(&|r| r.transaction_time = Some(Timestamp(0)));
    assert_eq!((skewed.response_code.as_str(), &*skewed.reasons.last().unwrap().code), ("51", "TIME_SKEW"));
    let orphan = answer(&|r| (r.kind, r.original) = (Kind::Incremental, RequestKey::new("none").ok()));
    assert_eq!((orphan.response_code.as_str(), &*orphan.reasons[0].code), ("12", "ORIGINAL_NOT_FOUND"));
}

#[test]
fn an_increment_does_not_expire_before_what_it_adds_to() {
    let (state, setup, log) = (state(), setup("version = 1"), Log::default());
    open(&state, &log, 0, 10_000);
    let ask = |key: &str, kind: Kind, original: Option<&str>, day: i64| {
        let mut wanted = request(key, "C0", 100);
        (wanted.kind, wanted.original) = (kind, original.and_then(|key| RequestKey::new(key).ok()));
        let mut asked = asked(Timestamp(day * DAY_MS));
        asked.original =
            wanted.original.and_then(|key| state.answers.lookup(state.answers.hash(0, &key)).known());
        decided(decide_now(&state, &setup, &log, &wanted, asked)).hold_expires_at.unwrap()
    };
    // A pre-authorisation lives for thirty days, a purchase and an increment alone for five.
    let rental = ask("rental", Kind::PreAuthorisation, None, 0);
    assert_eq!(rental, Timestamp(30 * DAY_MS));
    assert_eq!(ask("more", Kind::Incremental, Some("rental"), 1), rental);
    let late = ask("yet more", Kind::Incremental, Some("rental"), 28);
    assert_eq!(late, Timestamp(31 * DAY_MS), "not behind the end of the chain");
    assert_eq!(ask("sale", Kind::Purchase, None, 40), Timestamp(45 * DAY_MS));
    assert_eq!(ask("tip", Kind::Incremental, Some("sale"), 42), Timestamp(47 * DAY_MS));
}

#[test]
fn a_slip_of_the_currency_is_no_attempt_of_the_cardholder() {
    let rules = "version = 1\n[aggregates.tries]\nby = 'card'\nwindow = '1d'\ncount = true\n[[rules]]\nid = 'r'\n\
                 when = 'tries >= 1'\nthen = 'decline'\nreason = 'R'\n";
    let (state, setup, log) = (state(), setup(rules), Log::default());
    open(&state, &log, 0, 1_000);
    let ask = |key: &str, code: &str| {
        let mut wanted = request(key, "C0", 100);
        wanted.amount = Some(Money::new(100, Currency::from_alpha(code).unwrap()));
        decided(decide_now(&state, &setup, &log, &wanted, asked(Timestamp(DAY_MS)))).response_code.to_string()
    };
    assert_eq!(
        [ask("a", "EUR"), ask("b", "EUR"), ask("c", "USD"), ask("d", "USD")],
        ["13", "13", "00", "59"]
    );
}

#[test]
fn an_id_that_shares_its_hash_with_another_account_s_is_unknown_and_cannot_be_opened() {
    let (state, setup, log) = (state(), setup("version = 1"), Log::default());
    let at = open(&state, &log, 0, 1_000);
    let other = AccountId::new("another").unwrap();
    state.store.lead_astray(other, at);

    let mut wanted = request("k1", "C0", 100);
    wanted.subject = Subject::Account(other);
    let answer = decided(decide_now(&state, &setup, &log, &wanted, asked(Timestamp(DAY_MS))));
    assert_eq!((answer.response_code.as_str(), answer.available), ("14", None));

    let key = |key: &str| RequestKey::new(key).unwrap();
    let limit = Maintenance::SetCreditLimit { key: key("limit"), account: other, limit_minor: 9 };
    let refused = maintain(&state, &log, limit, Timestamp(0)).unwrap_err();
    assert_eq!(refused, Fault::NotFound { what: "account" });
    let change = AccountChange {
        account: other,
        currency: Currency::from_alpha("USD"),
        credit_limit_minor: Some(5),
        posted_minor: None,
        status: None,
        product: None,
        home_country: None,
        home: None,
        opened_on: None,
        cards: Vec::new(),
    };
    let opening = Maintenance::Upsert { key: key("open"), change };
    let refused = maintain(&state, &log, opening, Timestamp(0)).unwrap_err();
    let Fault::Invalid(violations) = refused else { panic!("{refused:?}") };
    assert_eq!(violations[0].field, "account.account_id");
    state.store.with_account(at, |entry| {
        let account = entry.account.as_ref().unwrap();
        assert_eq!((account.credit_limit_minor, account.held_minor()), (1_000, 0));
    });
}

//! What windows cost, those of one account and those over keys that cross accounts: `cargo bench --locked --bench
//! windows`.
//!
//! Measured: time of one reading and one recording together under the shipped rules, for accounts with 60 and with 500
//! events a month, with one account in the processor's caches and with many of them that are not; the bytes of a
//! history; and the allocations of two years at a steady rate once the first quarter is over.
//! Over keys that cross accounts: time of taking in one event and of one reading, for ten aggregates; keys; and the
//! bytes that they say they take beside those that the allocator was asked for.
//! Not measured: rules, score, the account's lock.
//!
//! Without `--bench` (that is, under `cargo test`) it runs small and checks allocations and bytes.

mod crowd;
mod life;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use saker::{
    features::{AccountFacts, History, Moment, Plan, catalog::slot, event_of, values::Values},
    rules,
    types::{
        auth::AuthRequest,
        time::{DAY_MS, Timestamp},
    },
};

/// Counts, so that "allocates nothing" can be seen.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE_BYTES: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code, reason = "an allocator that counts and hands every call on")]
// SAFETY: every method passes its arguments to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        LIVE_BYTES.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        LIVE_BYTES.fetch_add(size as u64, Relaxed);
        LIVE_BYTES.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const START_MS: i64 = 1_700_000_000_000;
const MONTH_MS: i64 = 30 * DAY_MS;
const MERCHANTS: u64 = 25;

/// Histories that take turns, all at one rate.
struct Lives<'r> {
    plan: &'r Plan,
    requests: &'r [AuthRequest],
    histories: Vec<History>,
    gap_ms: i64,
    now_ms: i64,
    sequence: u64,
    draw: life::Draw,
}

impl<'r> Lives<'r> {
    fn new(plan: &'r Plan, requests: &'r [AuthRequest], histories: usize, events_a_month: i64) -> Lives<'r> {
        Lives {
            plan,
            requests,
            histories: (0..histories).map(|_| History::new()).collect(),
            gap_ms: MONTH_MS / events_a_month,
            now_ms: START_MS,
            sequence: 0,
            draw: life::Draw(events_a_month as u64),
        }
    }

    /// One reading and one recording on each history. Times scatter around the rate, as they do in life.
    fn round(&mut self) {
        let facts = AccountFacts {
            account_id: "A-1",
            product: None,
            home_country: None,
            home: None,
            opened_on: None,
            currency: life::usd(),
            credit_limit_minor: 500_000,
            limit_is_assumed: false,
            available_minor: 400_000,
        };
        self.now_ms += 1 + self.draw.below(2 * self.gap_ms as u64) as i64;
        for history in &mut self.histories {
            self.sequence += 1;
            let request = &self.requests[self.draw.below(self.requests.len() as u64) as usize];
            let time = Timestamp(self.now_ms);
            let moment = Moment { request, account: &facts, card: 1, card_token: None, time };
            let mut values = Values::new();
            history.read(self.plan, &moment, &mut values);
            black_box(values.raw(slot::COUNT_30D));
            let decision = self.draw.decision();
            history.record(self.plan, event_of(&moment, self.sequence, decision, false));
        }
    }
}

fn main() {
    let small = !std::env::args().any(|argument| argument == "--bench");
    let rules = rules::compile("default.toml", rules::SHIPPED).expect("the shipped rules compile");
    let plan = Plan::new(&rules.aggregates);
    let requests = life::requests(&mut life::Draw(1), MERCHANTS);
    println!("{} aggregates of the shipped rules beside the built-in windows", rules.aggregates.len());
    println!("| events a month | histories | ns per reading and recording | bytes per history |");
    println!("|---|---|---|---|");
    for events_a_month in [60, 500] {
        for histories in [1, if small { 20 } else { 20_000 }] {
            let mut lives = Lives::new(&plan, &requests, histories, events_a_month);
            let warm_up = if small { 100 } else { 3 * events_a_month };
            (0..warm_up).for_each(|_| lives.round());
            let rounds = if small { 10 } else { 1 + 400_000 / histories };
            let best_ns = (0..5)
                .map(|_| {
                    let started = Instant::now();
                    (0..rounds).for_each(|_| lives.round());
                    started.elapsed().as_nanos() as f64 / (rounds * histories) as f64
                })
                .fold(f64::INFINITY, f64::min);
            let bytes = lives.histories.iter().map(|history| size_of::<History>() + history.heap_bytes());
            let bytes = bytes.sum::<usize>() / histories;
            println!("| {events_a_month} | {histories} | {best_ns:.0} | {bytes} |");
        }
    }
    for events_a_month in [60, 500] {
        let mut lives = Lives::new(&plan, &requests, 1, events_a_month);
        (0..3 * events_a_month).for_each(|_| lives.round());
        let before = ALLOCATIONS.load(Relaxed);
        (0..24 * events_a_month).for_each(|_| lives.round());
        let seen = ALLOCATIONS.load(Relaxed) - before;
        let events = 24 * events_a_month;
        println!("{seen} allocations in {events} events of two years, {events_a_month} a month");
        assert!(seen <= 8, "{seen} allocations in steady state");
    }
    println!("{} aggregates over keys that cross accounts", crowd::aggregates().len());
    println!("| people | ns taking in | ns reading | keys | events | bytes | bytes on the heap | evicted |");
    println!("|---|---|---|---|---|---|---|---|");
    let live = || LIVE_BYTES.load(Relaxed);
    let allocations = || ALLOCATIONS.load(Relaxed);
    for (people, events, budget) in match small {
        true => vec![(1_000, 5_000, 4 << 20), (20_000, 20_000, 1 << 20)],
        false => vec![
            (1_000, 200_000, 256 << 20),
            (1_000_000, 2_000_000, 512 << 20),
            (1_000_000, 2_000_000, 64 << 20),
        ],
    } {
        crowd::row(people, events, budget, live, allocations);
    }
}

//! Memory of an account: `SAKER_CAPACITY_ACCOUNTS=1000000 cargo bench --locked --bench capacity`.
//!
//! Measured: resident bytes of the process per account, allocator and maps included, at so many accounts and at twice
//! as many. Each has one card, a product, a home, one open hold and 60 events within 30 days under the shipped rules,
//! at 25 merchants or at 60. Once as after a start from a snapshot, where every account is read whole; once as after a
//! month of service, where the events come in the order of time over all accounts and the rings of all of them grow
//! side by side. Every row is a process of its own.
//! Not measured: the index of answers, which grows with requests and not with accounts.
//!
//! Under `cargo test` it runs small.

#[allow(dead_code, reason = "requests are for the bench of the windows")]
mod life;

use std::process::Command;

use saker::{
    authorise::entry::Store,
    features::{History, Plan, event::Event},
    ledger::{Account, Hold},
    observe::process::Usage,
    rules,
    types::{
        account::{AccountChange, CardChange, Day},
        auth::{Country, Place},
        codes::{Channel, Kind},
        ids::{AccountId, CardToken, Id},
        time::{DAY_MS, Timestamp},
    },
};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: u64 = 60;
const START_MS: i64 = 1_700_000_000_000;
const GAP_MS: i64 = 30 * DAY_MS / EVENTS as i64;

/// Names the row that a process measures: its way and its merchants.
const ROW: &str = "SAKER_CAPACITY_ROW";
const WAYS: [&str; 2] = ["snapshot", "service"];

fn main() {
    let accounts = std::env::var("SAKER_CAPACITY_ACCOUNTS").map_or(2_000, |text| number(&text));
    if let Ok(row) = std::env::var(ROW) {
        let (way, merchants) = row.split_once(' ').expect("a row is a way and a number of merchants");
        return measure(accounts, way, number(merchants));
    }
    println!("| accounts | after | merchants | resident bytes per account | windows alone |");
    println!("|---|---|---|---|---|");
    for merchants in [25, EVENTS] {
        for way in WAYS {
            let program = std::env::current_exe().expect("a program knows where it is");
            let status = Command::new(program).env(ROW, format!("{way} {merchants}")).status();
            assert!(status.expect("this program starts again").success(), "{way}, {merchants} merchants");
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is not a number"))
}

fn measure(accounts: u64, way: &str, merchants: u64) {
    let rules = rules::compile("default.toml", rules::SHIPPED).expect("the shipped rules compile");
    let plan = Plan::new(&rules.aggregates);
    let store = Store::new(64);
    let before = resident_bytes();
    for numbers in [0..accounts, accounts..2 * accounts] {
        let first = numbers.start;
        let places: Vec<u32> = match way {
            "snapshot" => numbers.clone().map(|number| read(&store, &plan, number, merchants)).collect(),
            _ => numbers.clone().map(|number| open(&store, number)).collect(),
        };
        if way == "service" {
            serve(&store, &plan, first, &places, merchants);
        }
        let windows = |at: &u32| {
            store.with_account(*at, |entry| size_of_val(&entry.history) + entry.history.heap_bytes()) as u64
        };
        let windows_bytes = places.iter().map(windows).sum::<u64>() / accounts;
        drop(places);
        let bytes = resident_bytes().saturating_sub(before) / numbers.end;
        println!("| {} | {way} | {merchants} | {bytes} | {windows_bytes} |", numbers.end);
    }
}

/// Opens an account and gives it a month that was written to bytes.
fn read(store: &Store, plan: &Plan, number: u64, merchants: u64) -> u32 {
    let mut bytes = Vec::new();
    let mut history = History::new();
    for round in 0..EVENTS {
        history.record(plan, event(number, round, round as i64 * GAP_MS, merchants));
    }
    history.encode(&mut bytes);
    drop(history);
    let at = open(store, number);
    let history = History::decode(&bytes, plan, |_| None).expect("what was just written");
    store.with_account(at, |entry| entry.history = history);
    at
}

/// A month in the order of time, cut into twice as many slices as an account has events: each account has one in half of
/// them, drawn at random, as no two cardholders keep step.
fn serve(store: &Store, plan: &Plan, first: u64, places: &[u32], merchants: u64) {
    const SLICES: u64 = 2 * EVENTS;
    let mut done = vec![0; places.len()];
    let mut draw = life::Draw(first);
    for slice in 0..SLICES {
        for ((&at, number), done) in places.iter().zip(first..).zip(&mut done) {
            if draw.below(SLICES - slice) < EVENTS - *done {
                let event = event(number, *done, slice as i64 * GAP_MS / 2, merchants);
                store.with_account(at, |entry| entry.history.record(plan, event));
                *done += 1;
            }
        }
    }
}

/// Opens an account with its card and places a hold on it.
fn open(store: &Store, number: u64) -> u32 {
    let id = AccountId::new(&format!("ACC-{number:010}")).expect("short and printable");
    let token = CardToken::new(&format!("tok-{number:012}")).expect("short and printable");
    let at = store.place(id);
    store.claim_card(token, at).expect("every token is new");
    let change = AccountChange {
        account: id,
        currency: None,
        credit_limit_minor: None,
        posted_minor: None,
        status: None,
        product: Some(Id::new("classic").expect("short and printable")),
        home_country: Country::new("US"),
        home: Place::new(40.7, -74.0),
        opened_on: Some(Day(18_000)),
        cards: vec![CardChange { token, status: None, expires_on: Some(Day(22_000)) }],
    };
    store.with_account(at, |entry| {
        let account = entry.account.insert(Account::new(id, life::usd(), 500_000));
        account.change(&change);
        account.place(Hold {
            position: number,
            first: number,
            amount_minor: 4_250,
            expires_at: Timestamp(START_MS + 40 * DAY_MS),
            chain_until: Timestamp(START_MS + 60 * DAY_MS),
            posted: false,
        });
    });
    at
}

/// An attempt of an account at one of its merchants: one in eight of them abroad, one in three in the web, where one of
/// two devices is used.
fn event(account: u64, round: u64, since_ms: i64, merchants: u64) -> Event {
    let mut draw = life::Draw((account << 8) | round);
    // With as many merchants as events, each of them once.
    let place = if merchants >= EVENTS { round } else { draw.below(merchants) };
    let merchant = life::Draw((account << 8) | place).next();
    let web = place % 3 == 2;
    let degrees = |bits: u64| (bits % 4_000) as f64 / 10_000.0;
    Event {
        time: Timestamp(START_MS + since_ms + draw.below(GAP_MS as u64 / 2) as i64),
        sequence: round,
        card: 1,
        kind: Kind::Purchase,
        decision: draw.decision(),
        declined_for_credit: false,
        amount_minor: 100 + draw.below(20_000) as i64,
        currency: Some(life::usd()),
        channel: Some(if web { Channel::Ecommerce } else { Channel::CardPresent }),
        mcc: Some(5_000 + (merchant % 60) as u16),
        country: Country::new(if place % 8 == 7 { "MX" } else { "US" }),
        merchant: Some(merchant),
        device: web.then_some(life::Draw((account << 1) | (place % 2)).next()),
        place: (!web)
            .then(|| Place::new(40.0 + degrees(merchant), -74.0 + degrees(merchant >> 32)))
            .flatten(),
    }
}

fn resident_bytes() -> u64 {
    Usage::read().expect("Linux says what is resident").resident_bytes
}

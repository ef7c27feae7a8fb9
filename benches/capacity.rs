//! Memory of an account: `SAKER_CAPACITY_ACCOUNTS=1000000 cargo bench --locked --bench capacity`.
//!
//! Measured: resident bytes of the process per account, allocator and maps included, at so many accounts and at twice
//! as many. Each has one card, a product, a home, one open hold and 60 events within 30 days under the shipped rules,
//! at 25 merchants or as many as `SAKER_CAPACITY_MERCHANTS` says. Events are recorded in the order of time over all
//! accounts, so that the rings of all of them grow side by side, as in life.
//! Not measured: the index of answers, which grows with requests and not with accounts.
//!
//! Under `cargo test` it runs small.

#[allow(dead_code, reason = "requests are for the bench of the windows")]
mod life;

use saker::{
    authorise::entry::Store,
    features::{Plan, event::Event},
    ledger::{Account, Hold},
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

fn main() {
    let set = |name: &str, or: u64| {
        std::env::var(name).map_or(or, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let accounts = set("SAKER_CAPACITY_ACCOUNTS", 2_000);
    let merchants = set("SAKER_CAPACITY_MERCHANTS", 25);
    let rules = rules::compile("default.toml", rules::SHIPPED).expect("the shipped rules compile");
    let plan = Plan::new(&rules.aggregates);
    let store = Store::new(64);
    let before = resident_bytes();
    println!("| accounts | merchants | resident bytes per account | windows alone |");
    println!("|---|---|---|---|");
    for half in 0..2 {
        let places: Vec<u32> = (half * accounts..(half + 1) * accounts).map(|n| open(&store, n)).collect();
        for round in 0..EVENTS {
            for (&at, number) in places.iter().zip(half * accounts..) {
                let event = event(number, round, merchants);
                store.with_account(at, |entry| entry.history.record(&plan, event));
            }
        }
        let windows = |at: &u32| {
            store.with_account(*at, |entry| size_of_val(&entry.history) + entry.history.heap_bytes()) as u64
        };
        let windows_bytes = places.iter().map(windows).sum::<u64>() / accounts;
        drop(places);
        let all = (half + 1) * accounts;
        let bytes = resident_bytes().saturating_sub(before) / all;
        println!("| {all} | {merchants} | {bytes} | {windows_bytes} |");
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
fn event(account: u64, round: u64, merchants: u64) -> Event {
    let mut draw = life::Draw(account << 8 | round);
    // With as many merchants as events, each of them once.
    let place = if merchants >= EVENTS { round } else { draw.below(merchants) };
    let merchant = life::Draw(account << 8 | place).next();
    let web = place % 3 == 2;
    let degrees = |bits: u64| (bits % 4_000) as f64 / 10_000.0;
    Event {
        time: Timestamp(START_MS + round as i64 * GAP_MS + draw.below(GAP_MS as u64) as i64),
        sequence: round,
        card: 1,
        kind: Kind::Purchase,
        decision: draw.decision(),
        declined_for_credit: false,
        amount_minor: 100 + draw.below(20_000) as i64,
        channel: Some(if web { Channel::Ecommerce } else { Channel::CardPresent }),
        mcc: Some(5_000 + (merchant % 60) as u16),
        country: Country::new(if place % 8 == 7 { "MX" } else { "US" }),
        merchant: Some(merchant),
        device: web.then_some(life::Draw(account << 1 | place % 2).next()),
        place: (!web)
            .then(|| Place::new(40.0 + degrees(merchant), -74.0 + degrees(merchant >> 32)))
            .flatten(),
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says what is resident");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS is always there");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number of kB");
    kib * 1024
}

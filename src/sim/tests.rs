use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{places::distance_km, *};
use crate::types::{auth::Place, codes::Channel, money::Currency};

fn world(accounts: usize, days: u32, seed: u64) -> World {
    generate(Settings { accounts, days, seed, start: DEFAULT_START })
}

#[test]
fn the_same_seed_gives_the_same_world_and_another_seed_another() {
    assert_eq!(world(40, 10, 7), world(40, 10, 7));
    let (a, b) = (world(40, 10, 7), world(40, 10, 8));
    assert_ne!(a.transactions.len(), b.transactions.len());
}

#[test]
fn one_more_account_changes_nobody_elses_genuine_life() {
    let genuine = |world: &World, account: &str| -> Vec<_> {
        let of_account = world.transactions.iter().filter(|t| t.account.as_str() == account && !t.is_fraud);
        of_account.map(|t| (t.request.transaction_time, t.request.amount)).collect()
    };
    let (small, large) = (world(20, 8, 3), world(30, 8, 3));
    for account in &small.accounts {
        assert_eq!(genuine(&small, account.account.as_str()), genuine(&large, account.account.as_str()));
    }
}

#[test]
fn every_request_is_well_formed_in_time_and_in_its_accounts_currency() {
    let world = world(300, 10, 11);
    let currency: HashMap<_, _> = world.accounts.iter().map(|a| (a.account, a.currency.unwrap())).collect();
    let end = DEFAULT_START.plus_ms(10 * DAY_MS);
    let mut last = DEFAULT_START;
    let mut keys = BTreeSet::new();
    let mut fractions = BTreeSet::new();
    for transaction in &world.transactions {
        let request = &transaction.request;
        let time = request.transaction_time.unwrap();
        assert!(time >= last && time < end, "in order and inside the period");
        last = time;
        assert!(keys.insert(request.key), "an id is used twice");
        assert_eq!(request.billed().unwrap().currency, currency[&transaction.account]);
        assert!(request.amount.unwrap().minor >= 0);
        assert!(request.merchant.merchant_id.is_some() && request.merchant.mcc.is_some());
        assert_eq!(request.channel == Some(Channel::Ecommerce), request.merchant.place.is_none());
        assert_eq!(transaction.is_fraud, transaction.fraud_kind.is_some());
        assert!(transaction.labelled_at > time);
        fractions.insert(currency[&transaction.account].exponent());
    }
    assert_eq!(fractions, BTreeSet::from([0, 2, 3]), "JPY, USD and KWD accounts all spend");
    let dollars = currency.values().filter(|c| **c == Currency::from_alpha("USD").unwrap()).count();
    assert!(dollars * 2 > currency.len(), "most accounts are in dollars");
}

#[test]
fn every_kind_of_fraud_occurs_and_fraud_is_one_or_two_in_a_hundred() {
    for seed in [1, 2, 3] {
        let world = world(400, 25, seed);
        let mut rows: BTreeMap<FraudKind, usize> = BTreeMap::new();
        for kind in world.transactions.iter().filter_map(|t| t.fraud_kind) {
            *rows.entry(kind).or_default() += 1;
        }
        let frauds: usize = rows.values().sum();
        let share = frauds as f64 / world.transactions.len() as f64;
        eprintln!("seed {seed}: {} rows, {share:.4} fraud, {rows:?}", world.transactions.len());
        assert!((0.01..=0.02).contains(&share), "{share}");
        for kind in FraudKind::ALL {
            assert!(rows.get(&kind).is_some_and(|n| *n >= 15), "{kind}: {rows:?}");
        }
        assert!((10_000..=20_000).contains(&world.transactions.len()));
    }
}

#[test]
fn genuine_customers_rarely_look_impossible() {
    let world = world(400, 25, 5);
    let mut last: HashMap<AccountId, (Timestamp, Place)> = HashMap::new();
    let (mut impossible, mut travelled, mut rows) = (0, 0, 0);
    for transaction in world.transactions.iter().filter(|t| !t.is_fraud) {
        let Some(place) = transaction.request.merchant.place else { continue };
        let time = transaction.request.transaction_time.unwrap();
        if let Some((before, from)) = last.insert(transaction.account, (time, place)) {
            let km = distance_km(from, place);
            let hours = time.since_ms(before) as f64 / 3.6e6;
            rows += 1;
            travelled += usize::from(km > 200.0);
            impossible += usize::from(km > 100.0 && km > 900.0 * hours);
        }
    }
    assert!(travelled >= 20, "people do travel: {travelled} of {rows}");
    assert_eq!(impossible, 0, "of {rows}");
}

#[test]
fn a_short_or_empty_world_is_no_special_case() {
    assert_eq!(world(0, 10, 1).transactions.len(), 0);
    assert_eq!(world(5, 0, 1).transactions.len(), 0);
    assert!(!world(50, 1, 1).transactions.is_empty());
}

/// How far holds alone, each kept for seven days, would go beyond the limits.
#[test]
fn some_customers_run_out_of_credit_and_most_do_not() {
    let world = world(400, 25, 9);
    let limits: HashMap<_, _> =
        world.accounts.iter().map(|a| (a.account, a.credit_limit_minor.unwrap())).collect();
    let mut holds: HashMap<AccountId, Vec<(Timestamp, i64)>> = HashMap::new();
    let mut declined = 0;
    for transaction in &world.transactions {
        let time = transaction.request.transaction_time.unwrap();
        let amount = transaction.request.billed().unwrap().minor;
        let held = holds.entry(transaction.account).or_default();
        held.retain(|(from, _)| time.since_ms(*from) < 7 * DAY_MS);
        if held.iter().map(|(_, a)| a).sum::<i64>() + amount > limits[&transaction.account] {
            declined += 1;
        } else {
            held.push((time, amount));
        }
    }
    let share = declined as f64 / world.transactions.len() as f64;
    eprintln!("insufficient credit: {declined} ({share:.4})");
    assert!((0.003..0.015).contains(&share), "{share}");
}

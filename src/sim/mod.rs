//! A seeded synthetic world: cardholders with habits, the merchants they use, and labelled fraud.
//!
//! The same settings give the same world, byte for byte. The world knows nothing of the engine: it does not see
//! decisions, does not stop where a card is declined, and never reads a clock. What it leaves out: refunds,
//! clearing, several cards per account, seasons. Its frauds are patterns that the trade describes, with sizes
//! made up here; figures measured on it say how parts of the engine compare, not what a bank would see.

mod cardholder;
mod draw;
mod fraud;
mod merchants;
mod places;

use std::fmt;

use self::{cardholder::Cardholder, draw::Draw, merchants::Market};
use crate::{
    history,
    types::{
        account::AccountChange,
        auth::{AuthRequest, Network, Subject, Verification},
        codes::{Channel, CheckResult, EntryMode, Initiation, Kind},
        ids::{AccountId, Id, RequestKey},
        money::Money,
        time::{DAY_MS, Timestamp},
    },
};

/// Start of the world where nothing else is asked for: 2026-01-01T00:00:00Z, a Thursday.
pub const DEFAULT_START: Timestamp = Timestamp(1_767_225_600_000);

/// What to simulate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    pub accounts: usize,
    pub days: u32,
    pub seed: u64,
    /// Time of the first possible transaction.
    pub start: Timestamp,
}

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub struct World {
    /// One account with one card per cardholder.
    pub accounts: Vec<AccountChange>,
    /// In order of time.
    pub transactions: Vec<LabelledTransaction>,
}

/// One card transaction and what it turned out to be.
#[derive(Clone, PartialEq, Debug)]
pub struct LabelledTransaction {
    /// With `transaction_time` set.
    pub request: AuthRequest,
    /// The account of the request's card.
    pub account: AccountId,
    pub is_fraud: bool,
    /// Present exactly where `is_fraud`.
    pub fraud_kind: Option<FraudKind>,
    /// When it became known whether it was fraud: one to seven days later.
    pub labelled_at: Timestamp,
}

/// As a row of history, which has no column for the kind of fraud, for what was verified and for who started it.
impl From<LabelledTransaction> for history::Transaction {
    fn from(transaction: LabelledTransaction) -> history::Transaction {
        let LabelledTransaction { request, account, is_fraud, labelled_at, .. } = transaction;
        let card = match request.subject {
            Subject::Card(card) => Some(card),
            Subject::Account(_) => None,
        };
        let label = Some(history::Label { is_fraud, labelled_at: Some(labelled_at) });
        let currency = request.billed().expect("every simulated transaction has an amount").currency;
        history::Transaction { request, account, card, currency, home: None, outcome: None, label }
    }
}

/// The patterns of fraud in this world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FraudKind {
    /// Many small attempts at one web shop within minutes, then a large one elsewhere.
    CardTesting,
    /// Many card-present purchases near home within an hour.
    StolenCardBurst,
    /// Card-present use too far from the last place to have travelled there.
    ImpossibleTravel,
    /// Card data used in a country that the cardholder has nothing to do with.
    CrossRegion,
    /// Few large purchases of what is easily resold, or cash.
    CashOut,
    /// Cards seen at one breached merchant, used weeks later for ordinary amounts.
    CompromisedMerchant,
}

impl FraudKind {
    pub const ALL: [FraudKind; 6] = [
        FraudKind::CardTesting,
        FraudKind::StolenCardBurst,
        FraudKind::ImpossibleTravel,
        FraudKind::CrossRegion,
        FraudKind::CashOut,
        FraudKind::CompromisedMerchant,
    ];

    /// The name in results and summaries.
    pub fn name(self) -> &'static str {
        match self {
            FraudKind::CardTesting => "card_testing",
            FraudKind::StolenCardBurst => "stolen_card_burst",
            FraudKind::ImpossibleTravel => "impossible_travel",
            FraudKind::CrossRegion => "cross_region",
            FraudKind::CashOut => "cash_out",
            FraudKind::CompromisedMerchant => "compromised_merchant",
        }
    }
}

impl fmt::Display for FraudKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Draws a world.
pub fn generate(settings: Settings) -> World {
    let Settings { accounts, days, seed, start } = settings;
    let market = Market::new(&mut Draw::new(seed, 0));
    let mut people = Vec::with_capacity(accounts);
    let mut lives = Vec::with_capacity(accounts);
    for number in 0..accounts {
        let mut draw = Draw::new(seed, 1_000 + number as u64);
        let person = Cardholder::new(number, seed, start, days, &market, &mut draw);
        lives.push(person.live(start, days, &market, &mut draw));
        people.push(person);
    }
    let mut draw = Draw::new(seed, 1);
    fraud::add(&people, &mut lives, settings, &market, &mut draw);

    let mut order: Vec<(usize, Ticket)> = lives
        .into_iter()
        .enumerate()
        .flat_map(|(owner, life)| life.into_iter().map(move |t| (owner, t)))
        .collect();
    order.sort_by_key(|(owner, ticket)| (ticket.time, *owner));
    let transactions = order
        .into_iter()
        .enumerate()
        .map(|(number, (owner, ticket))| {
            ticket.settle(&format!("T{seed}-{number:08}"), &people[owner], &market, &mut draw)
        })
        .collect();
    World { accounts: people.iter().map(Cardholder::announcement).collect(), transactions }
}

/// A transaction being planned: what varies between tickets, before ids are given out.
#[derive(Clone)]
struct Ticket {
    time: Timestamp,
    /// Index in the market.
    shop: usize,
    /// In US dollars; 0 verifies the account.
    dollars: f64,
    entry: EntryMode,
    device: Option<Id>,
    ip_address: Option<Id>,
    cvv: Option<CheckResult>,
    pin: Option<CheckResult>,
    fraud: Option<FraudKind>,
}

impl Ticket {
    fn new(time: Timestamp, shop: usize, dollars: f64) -> Ticket {
        Ticket {
            time,
            shop,
            dollars,
            entry: EntryMode::Contactless,
            device: None,
            ip_address: None,
            cvv: None,
            pin: None,
            fraud: None,
        }
    }

    /// The request as the switch would send it. Abroad the amount is in the merchant's currency and the billing
    /// amount in the account's.
    fn settle(self, key: &str, owner: &Cardholder, market: &Market, draw: &mut Draw) -> LabelledTransaction {
        let shop = market.shop(self.shop);
        let local = places::CITIES[shop.city].currency();
        let billing = owner.city().currency();
        let in_currency = |currency| match self.dollars > 0.0 {
            true => places::money(self.dollars, currency),
            false => Money::new(0, currency),
        };
        let request = AuthRequest {
            key: RequestKey(Id::new(key).expect("short and ASCII")),
            kind: match shop.category.mcc {
                places::ATM => Kind::CashAdvance,
                _ => Kind::Purchase,
            },
            subject: Subject::Card(owner.card),
            amount: Some(in_currency(local)),
            billing_amount: (local != billing).then(|| in_currency(billing)),
            transaction_time: Some(self.time),
            merchant: shop.merchant.clone(),
            channel: Some(if shop.on_the_web { Channel::Ecommerce } else { Channel::CardPresent }),
            entry_mode: Some(self.entry),
            initiation: Some(match self.entry {
                EntryMode::CredentialOnFile => Initiation::Merchant,
                _ => Initiation::Cardholder,
            }),
            verification: Verification { cvv: self.cvv, pin: self.pin, ..Verification::default() },
            device_id: self.device,
            ip_address: self.ip_address,
            network: Network::default(),
            partial_approval_allowed: false,
            single_message: false,
            cashback_amount: None,
            original: None,
            instalments: 0,
        };
        LabelledTransaction {
            request,
            account: owner.account,
            is_fraud: self.fraud.is_some(),
            fraud_kind: self.fraud,
            labelled_at: self.time.plus_ms((draw.between(1.0, 7.0) * DAY_MS as f64) as i64 / 1_000 * 1_000),
        }
    }
}

#[cfg(test)]
mod tests;

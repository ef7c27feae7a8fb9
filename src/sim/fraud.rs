//! Fraud added to ordinary lives: one function per pattern, each giving the tickets of one episode.
//!
//! A card has at most one episode, as it would be blocked and replaced after it; thieves use devices and
//! addresses of their own. The world is not told what was declined, so an episode always runs to its end.

use std::collections::BTreeMap;

use super::{
    FraudKind, Settings, Ticket,
    cardholder::Cardholder,
    draw::Draw,
    merchants::{Market, category_of},
    places::{ATM, CATEGORIES, CITIES, DIGITAL_GOODS, RISKY_COUNTRIES, distance_km},
};
use crate::types::{
    codes::{CheckResult, EntryMode},
    ids::Id,
    time::{DAY_MS, MINUTE_MS, SECOND_MS, Timestamp},
};

/// Fraudulent rows wanted per genuine row.
const FRAUD_SHARE: f64 = 0.018;
/// How often each kind is chosen, in the order of [`FraudKind::ALL`].
const EPISODES: [f64; 6] = [0.07, 0.08, 0.18, 0.17, 0.20, 0.30];
/// Accounts per breached merchant; a world has at least one.
const ACCOUNTS_PER_BREACH: usize = 60;

/// Adds episodes until fraud has its share, or every card had one.
pub(super) fn add(
    people: &[Cardholder],
    lives: &mut [Vec<Ticket>],
    settings: Settings,
    market: &Market,
    draw: &mut Draw,
) {
    let end = settings.start.plus_ms(i64::from(settings.days) * DAY_MS);
    let genuine: usize = lives.iter().map(Vec::len).sum();
    let wanted = (genuine as f64 * FRAUD_SHARE) as usize;
    let mut breached = seen_at_breached_shops(lives, settings, draw);
    let mut unharmed: Vec<usize> =
        (0..people.len()).filter(|p| breached.iter().all(|(b, _)| b != p)).collect();
    let mut rows = 0;
    while rows < wanted && !unharmed.is_empty() {
        let mut kind = FraudKind::ALL[draw.weighted(EPISODES.into_iter())];
        if kind == FraudKind::CompromisedMerchant && breached.is_empty() {
            kind = FraudKind::CashOut;
        }
        let (victim, not_before) = match kind {
            FraudKind::CompromisedMerchant => {
                let place = draw.index(breached.len());
                breached.swap_remove(place)
            }
            _ => (unharmed.swap_remove(draw.index(unharmed.len())), settings.start),
        };
        let days_left = end.since_ms(not_before) as f64 / DAY_MS as f64;
        let episode = Episode {
            person: &people[victim],
            life: &lives[victim],
            market,
            begins: draw.time_within(not_before, days_left),
            device: thing('X', settings.seed, victim),
            ip_address: thing('Y', settings.seed, victim),
        };
        let mut tickets = episode.tickets(kind, draw);
        tickets.retain(|t| t.time >= settings.start && t.time < end);
        for ticket in &mut tickets {
            ticket.fraud = Some(kind);
        }
        rows += tickets.len();
        lives[victim].extend(tickets);
    }
}

/// An id of what a thief brings along.
fn thing(letter: char, seed: u64, number: usize) -> Id {
    Id::new(&format!("{letter}{seed}-{number:05}")).expect("short and ASCII")
}

/// Who paid at a shop whose data was stolen in the first half of the time, and from when on that may be used: a
/// week later, or less in a short world.
fn seen_at_breached_shops(
    lives: &[Vec<Ticket>],
    settings: Settings,
    draw: &mut Draw,
) -> Vec<(usize, Timestamp)> {
    let days_ms = i64::from(settings.days) * DAY_MS;
    let breach_ends = settings.start.plus_ms(days_ms / 2);
    let delay_ms = (7 * DAY_MS).min(days_ms / 4);
    let mut visitors: BTreeMap<usize, BTreeMap<usize, Timestamp>> = BTreeMap::new();
    for (person, life) in lives.iter().enumerate() {
        for ticket in life.iter().filter(|t| t.time < breach_ends) {
            visitors.entry(ticket.shop).or_default().entry(person).or_insert(ticket.time.plus_ms(delay_ms));
        }
    }
    let mut shops: Vec<_> = visitors.into_values().collect();
    shops.sort_by_key(|v| std::cmp::Reverse(v.len()));
    let breaches = (lives.len() / ACCOUNTS_PER_BREACH).max(1);
    shops.truncate(breaches * 3);
    let mut stolen: BTreeMap<usize, Timestamp> = BTreeMap::new();
    for _ in 0..breaches.min(shops.len()) {
        let shop = draw.index(shops.len());
        stolen.extend(shops.swap_remove(shop));
    }
    stolen.into_iter().collect()
}

/// One episode about to happen.
struct Episode<'a> {
    person: &'a Cardholder,
    /// What its holder does with the card, in order of time.
    life: &'a [Ticket],
    market: &'a Market,
    begins: Timestamp,
    device: Id,
    ip_address: Id,
}

impl Episode<'_> {
    fn tickets(&self, kind: FraudKind, draw: &mut Draw) -> Vec<Ticket> {
        match kind {
            FraudKind::CardTesting => self.card_testing(draw),
            FraudKind::StolenCardBurst => self.stolen_card_burst(draw),
            FraudKind::ImpossibleTravel => self.impossible_travel(draw),
            FraudKind::CrossRegion => self.cross_region(draw),
            FraudKind::CashOut => self.cash_out(draw),
            FraudKind::CompromisedMerchant => self.compromised_merchant(draw),
        }
    }

    /// A purchase over the internet from the thief's own device.
    fn web(&self, time: Timestamp, shop: usize, dollars: f64) -> Ticket {
        let mut ticket = Ticket::new(time, shop, dollars);
        ticket.entry = EntryMode::Ecommerce;
        ticket.device = Some(self.device);
        ticket.ip_address = Some(self.ip_address);
        ticket.cvv = Some(CheckResult::Match);
        ticket
    }

    fn counter(&self, time: Timestamp, shop: usize, dollars: f64, entry: EntryMode) -> Ticket {
        let mut ticket = Ticket::new(time, shop, dollars);
        ticket.entry = entry;
        ticket
    }

    fn card_testing(&self, draw: &mut Draw) -> Vec<Ticket> {
        let shop = self.market.find(self.person.home_city, category_of(DIGITAL_GOODS), true, draw);
        let mut time = self.begins;
        let mut tickets = Vec::new();
        for _ in 0..draw.whole(8, 18) {
            let dollars = if draw.chance(0.12) { 0.0 } else { draw.between(0.5, 4.0) };
            let mut ticket = self.web(time, shop, dollars);
            if draw.chance(0.25) {
                ticket.cvv = Some(CheckResult::NoMatch);
            }
            tickets.push(ticket);
            time = time.plus_ms(draw.whole(5, 45) * SECOND_MS);
        }
        let prize = *draw.pick(&[5732, 5944, 5651]);
        let prize_shop = self.market.find(self.person.home_city, category_of(prize), true, draw);
        time = time.plus_ms(draw.whole(2, 15) * MINUTE_MS);
        tickets.push(self.web(time, prize_shop, draw.between(250.0, 1_200.0)));
        tickets
    }

    fn stolen_card_burst(&self, draw: &mut Draw) -> Vec<Ticket> {
        let mut time = self.begins;
        (0..draw.whole(6, 12))
            .map(|_| {
                let category = category_of(*draw.pick(&[5411, 5541, 5311, 5732, 5912, 5999, 5814]));
                let shop = self.market.find(self.person.home_city, category, false, draw);
                let dollars = draw.lognormal(CATEGORIES[category].median * 1.4, 0.5).min(400.0);
                let entry = if dollars < 50.0 { EntryMode::Contactless } else { EntryMode::MagneticStripe };
                time = time.plus_ms(draw.whole(60, 480) * SECOND_MS);
                self.counter(time, shop, dollars, entry)
            })
            .collect()
    }

    /// Within two hours of a genuine purchase at a counter, far away. Where the holder had none, any time.
    fn impossible_travel(&self, draw: &mut Draw) -> Vec<Ticket> {
        let genuine: Vec<&Ticket> =
            self.life.iter().filter(|t| !self.market.shop(t.shop).on_the_web).collect();
        let (after, from) = match genuine.is_empty() {
            true => (self.begins, self.person.home_city),
            false => {
                let ticket = draw.pick(&genuine);
                (ticket.time, self.market.shop(ticket.shop).city)
            }
        };
        let far =
            self.city_where(draw, |city| distance_km(CITIES[city].place(), CITIES[from].place()) > 2_500.0);
        let mut time = after.plus_ms(draw.whole(15, 120) * MINUTE_MS);
        (0..draw.whole(1, 3))
            .map(|_| {
                let category = category_of(*draw.pick(&[5311, 5732, 5411, 5999, 5812, ATM]));
                let shop = self.market.find(far, category, false, draw);
                let ticket = self.counter(time, shop, draw.between(40.0, 450.0), EntryMode::MagneticStripe);
                time = time.plus_ms(draw.whole(4, 40) * MINUTE_MS);
                ticket
            })
            .collect()
    }

    fn cross_region(&self, draw: &mut Draw) -> Vec<Ticket> {
        let home = self.person.city().country;
        let city = self.city_where(draw, |city| {
            CITIES[city].country != home && RISKY_COUNTRIES.contains(&CITIES[city].country)
        });
        let web = draw.chance(0.6);
        let mut time = self.begins;
        (0..draw.whole(2, 4))
            .map(|_| {
                let category = category_of(*draw.pick(&[5732, 5651, 5311, 5999, 7011]));
                let shop = self.market.find(city, category, web, draw);
                let dollars = draw.between(60.0, 600.0);
                let ticket = match web {
                    true => self.web(time, shop, dollars),
                    false => self.counter(time, shop, dollars, EntryMode::MagneticStripe),
                };
                time = time.plus_ms(draw.whole(10, 180) * MINUTE_MS);
                ticket
            })
            .collect()
    }

    fn cash_out(&self, draw: &mut Draw) -> Vec<Ticket> {
        let mut time = self.begins;
        (0..draw.whole(1, 3))
            .map(|_| {
                let mcc = *draw.pick(&[5944, 5732, ATM, 4829]);
                let web = mcc == 4829 || (mcc != ATM && draw.chance(0.4));
                let shop = self.market.find(self.person.home_city, category_of(mcc), web, draw);
                let dollars = (self.person.limit * draw.between(0.2, 0.55)).max(900.0);
                let ticket = match web {
                    true => self.web(time, shop, dollars),
                    false => self.counter(time, shop, dollars, EntryMode::MagneticStripe),
                };
                time = time.plus_ms(draw.whole(8, 90) * MINUTE_MS);
                ticket
            })
            .collect()
    }

    /// Ordinary amounts at web shops the holder does not use, at night, spread over a day or so: no single rule
    /// sees it.
    fn compromised_merchant(&self, draw: &mut Draw) -> Vec<Ticket> {
        let midnight = self.person.local_midnight(self.begins);
        let mut time = midnight.plus_ms(draw.whole(0, 5 * 60) * MINUTE_MS);
        (0..draw.whole(2, 5))
            .map(|_| {
                let category = category_of(*draw.pick(&[5732, DIGITAL_GOODS, 5651, 5999, 5942]));
                let shop = self.market.find(self.person.home_city, category, true, draw);
                let usual = CATEGORIES[category].median * self.person.lavishness;
                let mut ticket = self.web(time, shop, draw.lognormal(usual * 1.6, 0.45).min(350.0));
                if draw.chance(0.5) {
                    // Typed in by hand, as lists of stolen cards are.
                    ticket.entry = EntryMode::Manual;
                }
                time = time.plus_ms(draw.whole(20, 300) * MINUTE_MS);
                ticket
            })
            .collect()
    }

    /// A city that fits; any other than home where none does.
    fn city_where(&self, draw: &mut Draw, fits: impl Fn(usize) -> bool) -> usize {
        let mut cities: Vec<usize> = (0..CITIES.len()).filter(|c| fits(*c)).collect();
        if cities.is_empty() {
            cities = (0..CITIES.len()).filter(|c| *c != self.person.home_city).collect();
        }
        *draw.pick(&cities)
    }
}

//! One ordinary customer: where they live, what they can spend, how they use their card, where they travel.
//!
//! Habits are drawn once; a life is then a sequence of days. Genuine customers must rarely look impossible: on
//! a journey the card rests until its holder can have arrived.

use super::{
    Ticket,
    draw::Draw,
    merchants::Market,
    places::{ATM, CATEGORIES, CITIES, City, distance_km, money},
};
use crate::types::{
    account::{AccountChange, CardChange, Day},
    auth::{Country, Place},
    codes::{AccountStatus, CardStatus, CheckResult, EntryMode},
    ids::{AccountId, CardToken, Id},
    time::{DAY_MS, HOUR_MS, MINUTE_MS, Timestamp},
};

/// When people shop, by local hour: three kinds of day.
const DAYS: [[f64; 24]; 3] = [
    // Office hours: mornings, lunch, evenings.
    [
        0.1, 0.05, 0.02, 0.02, 0.05, 0.3, 1.0, 2.5, 3.0, 2.0, 2.0, 3.0, 5.0, 4.0, 2.5, 2.5, 3.0, 5.0, 6.0,
        5.0, 3.5, 2.0, 1.0, 0.4,
    ],
    // At home in the daytime.
    [
        0.1, 0.05, 0.02, 0.02, 0.05, 0.2, 0.6, 1.5, 3.0, 5.0, 6.0, 6.0, 4.0, 4.0, 5.0, 5.0, 4.0, 3.0, 2.5,
        2.0, 1.5, 1.0, 0.5, 0.2,
    ],
    // Late risers, who make up for it at night.
    [
        2.5, 1.8, 1.0, 0.5, 0.2, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 3.5, 3.5, 3.0, 3.0, 3.5, 4.0, 5.0, 5.0,
        4.5, 4.5, 4.0, 3.5,
    ],
];

/// Speed of a journey door to door, above the two hours that any takes.
const JOURNEY_KM_PER_HOUR: f64 = 650.0;

/// A stay away from home.
struct Trip {
    leaves: Timestamp,
    arrives: Timestamp,
    departs: Timestamp,
    returns: Timestamp,
    city: usize,
}

/// An ordinary customer.
pub(super) struct Cardholder {
    pub account: AccountId,
    pub card: CardToken,
    pub home_city: usize,
    home: Place,
    /// In US dollars.
    pub limit: f64,
    opened_on: Day,
    /// How this person's tickets compare with the category's median.
    pub lavishness: f64,
    daily_rate: f64,
    hours: &'static [f64; 24],
    ecommerce: f64,
    appetite: Vec<f64>,
    /// Per category, the counter and the web shop this person mostly goes to.
    favourites: Vec<[usize; 2]>,
    devices: Vec<Id>,
    ip_address: Id,
    trips: Vec<Trip>,
}

impl Cardholder {
    pub(super) fn new(
        number: usize,
        seed: u64,
        start: Timestamp,
        days: u32,
        market: &Market,
        draw: &mut Draw,
    ) -> Cardholder {
        let id = |text: String| Id::new(&text).expect("short and ASCII");
        let home_city = draw.weighted(CITIES.iter().map(|c| c.residents));
        let income = draw.lognormal(48_000.0, 0.55);
        let lavishness = (income / 48_000.0).powf(0.45) * draw.lognormal(1.0, 0.2);
        let daily_rate = draw.lognormal(1.5, 0.5).clamp(0.5, 4.0);
        // A week's spending is about what is on hold at any time, since holds live five to ten days.
        let week = 7.0 * daily_rate * 42.0 * lavishness;
        let limit = match draw.chance(0.10) {
            true => week * draw.between(0.8, 1.4),
            false => (income * draw.between(0.1, 0.3)).max(week * 3.5),
        };
        let ecommerce = draw.between(0.3, 1.3);
        let appetite = CATEGORIES.iter().map(|c| c.weight * draw.lognormal(1.0, 0.6)).collect();
        let favourites = (0..CATEGORIES.len())
            .map(|c| [market.find(home_city, c, false, draw), market.find(home_city, c, true, draw)])
            .collect();
        let devices =
            (0..draw.whole(1, 2)).map(|d| id(format!("D{seed}-{number:05}-{d}"))).collect::<Vec<_>>();
        let ip_address = id(format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255));
        let opened_on = Day((start.0.div_euclid(DAY_MS) - draw.whole(60, 3_000)) as i32);
        let mut cardholder = Cardholder {
            account: AccountId(id(format!("A{seed}-{number:05}"))),
            card: CardToken(id(format!("C{seed}-{number:05}"))),
            home_city,
            home: CITIES[home_city].near(0.06, draw),
            limit: (limit / 100.0).ceil() * 100.0,
            opened_on,
            lavishness,
            daily_rate,
            hours: &DAYS[draw.weighted([0.6, 0.32, 0.08].into_iter())],
            ecommerce,
            appetite,
            favourites,
            devices,
            ip_address,
            trips: Vec::new(),
        };
        cardholder.plan_trips(start, days, draw);
        cardholder
    }

    pub(super) fn city(&self) -> &'static City {
        &CITIES[self.home_city]
    }

    pub(super) fn home_country(&self) -> Country {
        self.city().country()
    }

    /// The account as its owner's systems would announce it.
    pub(super) fn announcement(&self) -> AccountChange {
        AccountChange {
            account: self.account,
            currency: Some(self.city().currency()),
            credit_limit_minor: Some(money(self.limit, self.city().currency()).minor),
            posted_minor: Some(0),
            status: Some(AccountStatus::Active),
            product: None,
            home_country: Some(self.home_country()),
            home: Some(self.home),
            opened_on: Some(self.opened_on),
            cards: vec![CardChange {
                token: self.card,
                status: Some(CardStatus::Active),
                expires_on: Some(Day(self.opened_on.0 + 365 * 12)),
            }],
        }
    }

    fn plan_trips(&mut self, start: Timestamp, days: u32, draw: &mut Draw) {
        let mut from = start.plus_ms((draw.between(0.0, 200.0) * DAY_MS as f64) as i64);
        let end = start.plus_ms(i64::from(days) * DAY_MS);
        while from < end {
            let abroad = draw.chance(0.4);
            let city = draw.weighted(CITIES.iter().enumerate().map(|(index, c)| {
                let foreign = c.country != self.city().country;
                match index != self.home_city && foreign == abroad {
                    true => 1.0 + c.residents,
                    false => 0.0,
                }
            }));
            let km = distance_km(self.city().place(), CITIES[city].place());
            let journey_ms = ((2.0 + km / JOURNEY_KM_PER_HOUR) * HOUR_MS as f64) as i64;
            let arrives = from.plus_ms(journey_ms);
            let departs = arrives.plus_ms((draw.between(1.5, 8.0) * DAY_MS as f64) as i64);
            let returns = departs.plus_ms(journey_ms);
            // A country with one city has no trips inside it: the draw then falls back to home.
            if city != self.home_city {
                self.trips.push(Trip { leaves: from, arrives, departs, returns, city });
            }
            from = returns.plus_ms((draw.between(60.0, 260.0) * DAY_MS as f64) as i64);
        }
    }

    /// The index of the city this person is in, or none on the way.
    pub(super) fn whereabouts(&self, time: Timestamp) -> Option<usize> {
        match self.trips.iter().find(|t| (t.leaves..t.returns).contains(&time)) {
            None => Some(self.home_city),
            Some(trip) => (trip.arrives..trip.departs).contains(&time).then_some(trip.city),
        }
    }

    /// Everything this person does with the card, in order of time.
    pub(super) fn live(&self, start: Timestamp, days: u32, market: &Market, draw: &mut Draw) -> Vec<Ticket> {
        let end = start.plus_ms(i64::from(days) * DAY_MS);
        let mut tickets = Vec::new();
        let mut free_at = start;
        // One day more on either side, since local days are not those of UTC.
        for day in -1..=i64::from(days) {
            let weekday = [1.0, 0.9, 0.9, 0.95, 1.2, 1.3, 0.85][(day.rem_euclid(7)) as usize];
            let midnight = start.plus_ms(day * DAY_MS - self.city().utc_offset_hours * HOUR_MS);
            let mut times: Vec<Timestamp> = (0..draw.poisson(self.daily_rate * weekday))
                .map(|_| midnight.plus_ms(draw.time_of_day_ms(self.hours)))
                .collect();
            times.sort_unstable();
            for planned in times {
                // Nobody is at two counters at once: the next one is at least a few minutes away.
                let time = planned.max(free_at);
                if time < start || time >= end {
                    continue;
                }
                free_at = time.plus_ms(draw.whole(4, 25) * MINUTE_MS);
                self.shop(time, market, &mut tickets, draw);
            }
        }
        tickets.sort_by_key(|t| t.time);
        tickets
    }

    fn shop(&self, time: Timestamp, market: &Market, tickets: &mut Vec<Ticket>, draw: &mut Draw) {
        let place = draw.weighted(self.appetite.iter().copied());
        let category = &CATEGORIES[place];
        let web = draw.chance((category.ecommerce * self.ecommerce).min(1.0)) || category.ecommerce >= 1.0;
        let Some(city) = (if web { Some(self.home_city) } else { self.whereabouts(time) }) else {
            return;
        };
        let at_home = city == self.home_city;
        let shop = if web && draw.chance(0.02) {
            // Now and then a web shop abroad.
            market.find(draw.index(CITIES.len()), place, true, draw)
        } else if at_home && draw.chance(0.72) {
            self.favourites[place][usize::from(web)]
        } else {
            market.find(city, place, web, draw)
        };
        let large = draw.chance(0.004) && category.median >= 30.0;
        let factor = if large { draw.between(6.0, 18.0) } else { 1.0 };
        let spent = draw.lognormal(category.median * self.lavishness, category.spread) * factor;
        let dollars = match category.mcc {
            ATM => (spent / 20.0).ceil() * 20.0,
            _ => spent,
        };
        let mut ticket =
            Ticket::new(time, shop, dollars.min(if large { self.limit * 0.4 } else { self.limit * 0.25 }));
        if web {
            let stored = category.mcc == 4899 || draw.chance(0.35);
            ticket.entry = match stored {
                true => EntryMode::CredentialOnFile,
                // Orders by telephone are typed in by the merchant.
                false if draw.chance(0.02) => EntryMode::Manual,
                false => EntryMode::Ecommerce,
            };
            ticket.device = Some(self.device(time, draw));
            ticket.ip_address = Some(self.ip_address);
            if !stored {
                ticket.cvv = Some(CheckResult::Match);
                if draw.chance(0.004) {
                    // A slip of the fingers, and once more.
                    let mut again = ticket.clone();
                    ticket.cvv = Some(CheckResult::NoMatch);
                    again.time = time.plus_ms(draw.whole(20, 90) * 1_000);
                    tickets.push(ticket);
                    ticket = again;
                }
            }
        } else {
            ticket.entry = match draw.weighted([0.55, 0.43, 0.02].into_iter()) {
                0 => EntryMode::Contactless,
                1 => EntryMode::Chip,
                _ => EntryMode::MagneticStripe,
            };
            if category.mcc == ATM {
                ticket.entry = EntryMode::Chip;
                ticket.pin = Some(CheckResult::Match);
            }
        }
        tickets.push(ticket);
    }

    /// One of their own, now and then somebody else's or a new one.
    fn device(&self, time: Timestamp, draw: &mut Draw) -> Id {
        match draw.chance(0.03) {
            true => Id::new(&format!("{}-{}", self.devices[0], time.0 / 1_000)).expect("short and ASCII"),
            false => *draw.pick(&self.devices),
        }
    }

    /// The last midnight where this person lives.
    pub(super) fn local_midnight(&self, time: Timestamp) -> Timestamp {
        let offset = self.city().utc_offset_hours * HOUR_MS;
        let local = time.0 + offset;
        Timestamp(local - local.rem_euclid(DAY_MS) - offset)
    }
}

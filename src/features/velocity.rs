//! The built-in windows: how intensely and where the card was used lately, how that compares with its own habits,
//! and what the account knows. Counts and sums are running totals; the rest is one walk through 30 days of events.

use arrayvec::ArrayVec;

use super::{
    Moment,
    aggregate::{Attribute, By},
    catalog::slot,
    compact::{Compact, CountryNumber, Shape, country_number},
    distinct::count_distinct,
    fields::{NIGHT_FROM_HOUR, NIGHT_HOURS, is_ecommerce, is_night},
    geo,
    present::Present,
    values::{Slot, Values},
    window::{Length, Pick, Reading, SHAPES_MAX, TotalId, View, WindowPlan},
};
use crate::types::{
    auth::Place,
    time::{DAY_MS, HOUR_MS},
};

/// Below this an amount counts as small: what stolen card numbers are tried out with.
const SMALL_AMOUNT_MAJOR: i64 = 5;
const MONTH_MS: i64 = 30 * DAY_MS;

/// The built-in totals with the slots of their count and sum.
pub struct Velocity {
    attempts: [(TotalId, Slot, Slot); 5],
    declines: [(TotalId, Slot); 2],
    hour: Length,
    day: Length,
    month: Length,
}

impl Velocity {
    pub fn new(plan: &mut WindowPlan) -> Velocity {
        let mut attempts = |window_ms| plan.total(By::Card, window_ms, Pick::All);
        let attempts = [
            (attempts(HOUR_MS), slot::COUNT_1H, slot::SUM_1H_MAJOR),
            (attempts(6 * HOUR_MS), slot::COUNT_6H, slot::SUM_6H_MAJOR),
            (attempts(DAY_MS), slot::COUNT_24H, slot::SUM_24H_MAJOR),
            (attempts(7 * DAY_MS), slot::COUNT_7D, slot::SUM_7D_MAJOR),
            (attempts(MONTH_MS), slot::COUNT_30D, slot::SUM_30D_MAJOR),
        ];
        let mut declines = |window_ms| plan.total(By::Card, window_ms, Pick::FraudDeclines);
        let declines = [(declines(HOUR_MS), slot::DECLINES_1H), (declines(DAY_MS), slot::DECLINES_24H)];
        Velocity {
            attempts,
            declines,
            hour: plan.length(HOUR_MS),
            day: plan.length(DAY_MS),
            month: plan.length(MONTH_MS),
        }
    }

    pub fn fill(&self, view: &View, moment: &Moment, present: &Present, values: &mut Values) {
        let minor_per_major = moment.account.currency.minor_per_major();
        let card = moment.card;
        let mut readings = [None; 5];
        for (reading, (total, count, sum)) in readings.iter_mut().zip(self.attempts) {
            *reading = view.total(total, card);
            if let Some(reading) = reading {
                values.set_int(count, reading.count as i64);
                values.set_float(sum, reading.sum_minor as f64 / minor_per_major as f64);
                if reading.saturated {
                    values.mark_saturated(count);
                    values.mark_saturated(sum);
                }
            }
        }
        for (total, slot) in self.declines {
            if let Some(reading) = view.total(total, card) {
                values.set_int(slot, reading.count as i64);
                if reading.saturated {
                    values.mark_saturated(slot);
                }
            }
        }
        let [_, _, day, week, month] = readings;
        let walked = self.walk(view, moment.time.0, present);
        self.fill_day(view, moment, minor_per_major, values);
        fill_travel(&walked, moment, minor_per_major, values);
        fill_habits(&walked, [day, week, month], moment, values);
        fill_knowledge(&walked, moment, values);
        if view.is_truncated(self.month) {
            WALKED.iter().for_each(|slot| values.mark_saturated(*slot));
        }
    }

    /// What the last hour and day hold beside the totals; both are short stretches of the ring.
    fn fill_day(&self, view: &View, moment: &Moment, minor_per_major: i64, values: &mut Values) {
        let own = |event: &Compact| event.card() == moment.card;
        let small_minor = SMALL_AMOUNT_MAJOR * minor_per_major;
        let small = view.events(self.hour).filter(own).filter(|event| event.amount_minor() < small_minor);
        let account = view.events(self.day);
        let (count, sum_minor) = account
            .clone()
            .fold((0, 0_i64), |(n, sum), event| (n + 1, sum.saturating_add(event.amount_minor())));
        let day = account.filter(own);
        let nights = day.clone().filter(|event| is_night(event.time()));
        let merchants = count_distinct(day.clone().map(|event| Attribute::Merchant.of(event.shape)));
        let countries = count_distinct(day.clone().map(|event| Attribute::Country.of(event.shape)));
        let devices = count_distinct(day.map(|event| Attribute::Device.of(event.shape)));
        values.set_int(slot::SMALL_COUNT_1H, small.count() as i64);
        values.set_int(slot::NIGHT_COUNT_24H, nights.count() as i64);
        values.set_int(slot::MERCHANTS_24H, merchants as i64);
        values.set_int(slot::COUNTRIES_24H, countries as i64);
        values.set_int(slot::DEVICES_24H, devices as i64);
        values.set_int(slot::ACCOUNT_COUNT_24H, count);
        values.set_float(slot::ACCOUNT_SUM_24H_MAJOR, sum_minor as f64 / minor_per_major as f64);
    }

    fn walk(&self, view: &View, now_ms: i64, present: &Present) -> Walked {
        // What a shape has in common with the present is found out once, however many events have it.
        let alike: ArrayVec<u8, SHAPES_MAX> = view.shapes().map(|shape| alike(present, shape)).collect();
        let time_of_day = TimeOfDay::at(now_ms);
        let mut walked = Walked::default();
        // The one loop over all events: without branches, since nothing in it can be foretold.
        for span in view.spans(self.month) {
            walked.any = true;
            span.for_each(|event, time| {
                let alike = alike[event.shape()];
                let is_own = u32::from(alike & OWN != 0);
                let (is_near, is_night) = time_of_day.near_and_night(time);
                walked.own_count += is_own;
                walked.own_near_count += is_own & u32::from(is_near);
                walked.own_night_count += is_own & u32::from(is_night);
                let is_own_mcc = i64::from(alike & OWN_MCC != 0);
                walked.seen |= alike;
                walked.mcc_count += is_own_mcc;
                walked.mcc_sum_minor += event.amount_minor() * is_own_mcc;
            });
        }
        let with = |bit: u8| {
            let alike = &alike;
            move |shape: usize| alike[shape] & bit != 0
        };
        // Where the walk saw none, there is none to be looked for.
        let seen = walked.seen;
        let last = |bit| if seen & bit == 0 { None } else { view.last(self.month, with(bit)) };
        walked.last = last(OWN);
        walked.last_place =
            last(OWN_AT_PLACE).and_then(|event| Some((event.shape.place()?, event.time_ms())));
        walked.last_country = last(OWN_IN_COUNTRY).map(|event| event.shape.country());
        if walked.last.is_some() {
            walked.first_ms = view.first(self.month, with(OWN)).map(Compact::time_ms);
        }
        walked
    }
}

/// The slots that come from the ring alone, and so lack what has left it.
const WALKED: [Slot; 22] = [
    slot::DISTANCE_FROM_LAST_KM,
    slot::SPEED_KMH,
    slot::COUNTRY_CHANGED,
    slot::SECONDS_SINCE_LAST,
    slot::LAST_AMOUNT_MAJOR,
    slot::SMALL_COUNT_1H,
    slot::NIGHT_COUNT_24H,
    slot::AMOUNT_OVER_MEAN_MCC_30D,
    slot::COUNT_24H_OVER_DAILY_MEAN,
    slot::MERCHANTS_24H,
    slot::COUNTRIES_24H,
    slot::FIRST_USE_OF_COUNTRY_30D,
    slot::MERCHANT_SEEN_30D,
    slot::MCC_SEEN_30D,
    slot::DEVICE_SEEN_30D,
    slot::AMOUNT_OVER_MEAN_30D,
    slot::MEAN_7D_OVER_30D,
    slot::NIGHT_SHARE_30D,
    slot::HOUR_SHARE_30D,
    slot::DEVICES_24H,
    slot::ACCOUNT_COUNT_24H,
    slot::ACCOUNT_SUM_24H_MAJOR,
];

/// Compares times of day with the present one's, from the lower 32 bits that a ring keeps of them: no event inside is
/// that long ago.
#[derive(Clone, Copy)]
struct TimeOfDay {
    now: u32,
    /// How long before the present time of day the night began that is on or was last.
    since_night_ms: u32,
}

impl TimeOfDay {
    const DAY: u32 = DAY_MS as u32;
    const HOUR: u32 = HOUR_MS as u32;

    fn at(now_ms: i64) -> TimeOfDay {
        let since_night_ms = (now_ms - NIGHT_FROM_HOUR * HOUR_MS).rem_euclid(DAY_MS) as u32;
        TimeOfDay { now: now_ms as u32, since_night_ms }
    }

    /// Whether a time is within an hour of the present time of day, and whether it was night.
    #[inline]
    fn near_and_night(self, time: u32) -> (bool, bool) {
        let before = self.now.wrapping_sub(time) % Self::DAY;
        let is_near = before <= Self::HOUR || before >= Self::DAY - Self::HOUR;
        let since_night_ms = (self.since_night_ms + Self::DAY - before) % Self::DAY;
        (is_near, since_night_ms < NIGHT_HOURS as u32 * Self::HOUR)
    }
}

const SAME_MERCHANT: u8 = 1;
const SAME_DEVICE: u8 = 1 << 1;
const SAME_COUNTRY: u8 = 1 << 2;
const SAME_MCC: u8 = 1 << 3;
/// An event of the card itself; the next ones are so too.
const OWN: u8 = 1 << 4;
const OWN_MCC: u8 = 1 << 5;
/// Card-present, at a place or in a country that is known.
const OWN_AT_PLACE: u8 = 1 << 6;
const OWN_IN_COUNTRY: u8 = 1 << 7;

/// What events of a shape have in common with the present transaction.
#[inline]
fn alike(present: &Present, shape: Shape) -> u8 {
    let bit = |bit: u8, is_set: bool| if is_set { bit } else { 0 };
    let own = shape.card() == present.card;
    let own_present = own & !shape.is_ecommerce();
    let same_mcc = shape.mcc_number() == present.mcc;
    bit(SAME_MERCHANT, shape.merchant == present.merchant)
        | bit(SAME_DEVICE, shape.device == present.device)
        | bit(SAME_COUNTRY, shape.country() == present.country)
        | bit(SAME_MCC, same_mcc)
        | bit(OWN, own)
        | bit(OWN_MCC, own & same_mcc)
        | bit(OWN_AT_PLACE, own_present & shape.has_place())
        | bit(OWN_IN_COUNTRY, own_present & (shape.country() != 0))
}

/// What one walk through 30 days brings home: `any` and what was seen are the account's, the rest the card's.
#[derive(Default)]
struct Walked {
    any: bool,
    /// What any event has in common with the present one.
    seen: u8,
    own_count: u32,
    own_near_count: u32,
    own_night_count: u32,
    mcc_count: i64,
    mcc_sum_minor: i64,
    first_ms: Option<i64>,
    last: Option<Compact>,
    last_place: Option<(Place, i64)>,
    last_country: Option<CountryNumber>,
}

impl Walked {
    fn has_seen(&self, bit: u8) -> bool {
        self.seen & bit != 0
    }
}

fn fill_travel(walked: &Walked, moment: &Moment, minor_per_major: i64, values: &mut Values) {
    if let Some(last) = &walked.last {
        values.set_float(slot::SECONDS_SINCE_LAST, (moment.time.0 - last.time_ms()) as f64 / 1_000.0);
        values.set_float(slot::LAST_AMOUNT_MAJOR, last.amount_minor() as f64 / minor_per_major as f64);
    }
    if is_ecommerce(moment) {
        return;
    }
    let merchant = &moment.request.merchant;
    if let (Some(place), Some((last_place, last_ms))) = (merchant.place, walked.last_place) {
        let distance_km = geo::distance_km(last_place, place);
        let speed_kmh = geo::travel_speed_kmh(distance_km, moment.time.0 - last_ms);
        values.set_float(slot::DISTANCE_FROM_LAST_KM, distance_km);
        values.set_float(slot::SPEED_KMH, speed_kmh);
    }
    if let (Some(_), Some(last_country)) = (merchant.country, walked.last_country) {
        values.set_bool(slot::COUNTRY_CHANGED, country_number(merchant.country) != last_country);
    }
}

fn fill_habits(walked: &Walked, readings: [Option<Reading>; 3], moment: &Moment, values: &mut Values) {
    let [day, week, month] = readings;
    let billed = moment.request.billed().filter(|billed| billed.currency == moment.account.currency);
    let amount = billed.map(|billed| billed.minor as f64);
    let mean =
        |reading: Reading| (reading.count > 0).then(|| reading.sum_minor as f64 / reading.count as f64);
    let month_mean = month.and_then(mean);
    let mcc_mean = (walked.mcc_count > 0 && moment.request.merchant.mcc.is_some())
        .then(|| walked.mcc_sum_minor as f64 / walked.mcc_count as f64);
    let daily_mean = month.zip(walked.first_ms).map(|(month, first_ms)| {
        let days = (moment.time.0 - first_ms) as f64 / DAY_MS as f64;
        month.count as f64 / days.clamp(1.0, 30.0)
    });
    let own = (walked.own_count > 0).then_some(f64::from(walked.own_count));
    for (slot, of, to) in [
        (slot::NIGHT_SHARE_30D, Some(f64::from(walked.own_night_count)), own),
        (slot::HOUR_SHARE_30D, Some(f64::from(walked.own_near_count)), own),
        (slot::AMOUNT_OVER_MEAN_30D, amount, month_mean),
        (slot::AMOUNT_OVER_MEAN_MCC_30D, amount, mcc_mean),
        (slot::MEAN_7D_OVER_30D, week.and_then(mean), month_mean),
        (slot::COUNT_24H_OVER_DAILY_MEAN, day.map(|day| day.count as f64), daily_mean),
    ] {
        if let (Some(of), Some(to)) = (of, to) {
            // Over nothing it is not finite, and so missing.
            values.set_float(slot, of / to);
        }
    }
}

fn fill_knowledge(walked: &Walked, moment: &Moment, values: &mut Values) {
    if !walked.any {
        return;
    }
    let request = moment.request;
    if request.merchant.merchant_id.is_some() {
        values.set_bool(slot::MERCHANT_SEEN_30D, walked.has_seen(SAME_MERCHANT));
    }
    if request.merchant.mcc.is_some() {
        values.set_bool(slot::MCC_SEEN_30D, walked.has_seen(SAME_MCC));
    }
    if request.merchant.country.is_some() {
        values.set_bool(slot::FIRST_USE_OF_COUNTRY_30D, !walked.has_seen(SAME_COUNTRY));
    }
    if request.device_id.is_some() {
        values.set_bool(slot::DEVICE_SEEN_30D, walked.has_seen(SAME_DEVICE));
    }
}

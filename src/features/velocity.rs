//! The built-in windows: how intensely and where the card was used lately, how that compares with its own habits,
//! and what the account knows. Counts and sums are running totals; the rest is one walk through 30 days of events.

use arrayvec::ArrayVec;

use super::{
    Moment,
    aggregate::{Attribute, By},
    catalog::slot,
    compact::{
        CARD_MASK, CHANNEL_MASK, COUNTRY_MASK, Compact, CountryNumber, MCC_MASK, Shape, category,
        country_number,
    },
    distinct::count_distinct,
    fields::{NIGHT_FROM_HOUR, NIGHT_HOURS, is_ecommerce, is_night},
    geo,
    present::Present,
    values::{Slot, Values},
    window::{
        COLUMN_ROWS, Columns, Length, Packed, Pick, Reading, SHAPES_MAX, SPAN_ROWS, TotalId, View, WindowPlan,
    },
};
use crate::types::{
    auth::Place,
    codes::Channel,
    time::{DAY_MS, HOUR_MS, Timestamp},
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

    /// `view` must be of the present card.
    pub fn fill(&self, view: &View, moment: &Moment, present: &Present, values: &mut Values) {
        let minor_per_major = moment.account.currency.minor_per_major();
        let mut readings = [None; 5];
        for (reading, (total, count, sum)) in readings.iter_mut().zip(self.attempts) {
            *reading = view.total(total);
            if let Some(reading) = reading {
                values.set_int(count, reading.count as i64);
                values.set_float(sum, reading.sum_major(minor_per_major));
                if reading.saturated {
                    values.mark_saturated(count);
                    values.mark_saturated(sum);
                }
            }
        }
        for (total, slot) in self.declines {
            if let Some(reading) = view.total(total) {
                values.set_int(slot, reading.count as i64);
                if reading.saturated {
                    values.mark_saturated(slot);
                }
            }
        }
        let [_, _, day, week, month] = readings;
        // What a shape has in common with the present is found out once, however many events have it.
        let mut alike = Alike::new();
        for columns in view.shape_columns() {
            alike.try_extend_from_slice(&alike_of(present, &columns)).expect("no account has more shapes");
        }
        let walked = self.walk(view, moment.time.0, &alike);
        self.fill_day(view, moment, &alike, values);
        fill_travel(&walked, moment, minor_per_major, values);
        fill_habits(&walked, [day, week, month], moment, values);
        fill_knowledge(&walked, moment, values);
        if view.is_truncated(self.month) {
            WALKED.iter().for_each(|slot| values.mark_saturated(*slot));
        }
    }

    /// What the last hour and day hold beside the totals; both are short stretches of the ring.
    fn fill_day(&self, view: &View, moment: &Moment, alike: &Alike, values: &mut Values) {
        let minor_per_major = moment.account.currency.minor_per_major();
        let is_own = |event: &Packed| alike[event.shape()] & OWN != 0;
        let small_minor = SMALL_AMOUNT_MAJOR * minor_per_major;
        let small = view.packed(self.hour).filter(|(_, event)| is_own(event));
        let small = small.filter(|(_, event)| event.amount_minor() < small_minor);
        let (mut count, mut sum_minor, mut nights) = (0, 0_i64, 0);
        let mut shapes = ArrayVec::<usize, SHAPES_OF_A_DAY>::new();
        let mut has_more_shapes = false;
        for (time_ms, event) in view.packed(self.day) {
            count += 1;
            sum_minor = sum_minor.saturating_add(event.amount_minor());
            if is_own(&event) {
                nights += i64::from(is_night(Timestamp(time_ms)));
                let is_new = !shapes.contains(&event.shape());
                has_more_shapes |= is_new && shapes.try_push(event.shape()).is_err();
            }
        }
        let [merchants, countries, devices] = match has_more_shapes {
            false => distinct(shapes.iter().map(|place| view.shape(*place))),
            true => {
                let own = view.events(self.day).filter(|event| event.card() == moment.card);
                distinct(own.map(|event| event.shape))
            }
        };
        values.set_int(slot::SMALL_COUNT_1H, small.count() as i64);
        values.set_int(slot::NIGHT_COUNT_24H, nights);
        values.set_int(slot::MERCHANTS_24H, merchants);
        values.set_int(slot::COUNTRIES_24H, countries);
        values.set_int(slot::DEVICES_24H, devices);
        values.set_int(slot::ACCOUNT_COUNT_24H, count);
        values.set_float(slot::ACCOUNT_SUM_24H_MAJOR, sum_minor as f64 / minor_per_major as f64);
    }

    fn walk(&self, view: &View, now_ms: i64, alike: &Alike) -> Walked {
        let time_of_day = TimeOfDay::at(now_ms);
        let mut any = false;
        let mut seen = 0;
        let (mut counts, mut mcc_sum_minor) = ([0_u32; 4], 0_i64);
        // The one loop over all events: without branches, since nothing in it can be foretold, and without checks of what
        // cannot overflow, the amounts of a full ring.
        for span in view.spans(self.month) {
            any = true;
            let mut counted = Counts::default();
            let marks = span.times().map(|time| Counts::OWN | time_of_day.marks(time));
            span.for_each(|row, event| {
                let alike = alike[event.shape()];
                let is_own = u32::from(alike & OWN != 0).wrapping_neg();
                let is_own_mcc = u32::from(alike & OWN_MCC != 0);
                seen |= alike;
                counted.0 += (marks[row] & is_own) | (is_own_mcc * Counts::OWN_MCC);
                let amount_minor = event.amount_minor() & i64::from(is_own_mcc).wrapping_neg();
                mcc_sum_minor = mcc_sum_minor.wrapping_add(amount_minor);
            });
            for (all, counted) in counts.iter_mut().zip(counted.get()) {
                *all += counted;
            }
        }
        let [own_count, own_near_count, own_night_count, mcc_count] = counts;
        let with = |bit: u8| move |shape: usize| alike[shape] & bit != 0;
        // Where the walk saw none, there is none to be looked for.
        let last = |bit| if seen & bit == 0 { None } else { view.last(self.month, with(bit)) };
        let last_own = last(OWN);
        Walked {
            any,
            seen,
            own_count,
            own_near_count,
            own_night_count,
            mcc_count,
            mcc_sum_minor,
            first_ms: last_own.and_then(|_| view.first(self.month, with(OWN))).map(Compact::time_ms),
            last: last_own,
            last_place: last(OWN_AT_PLACE).and_then(|event| Some((event.shape.place()?, event.time_ms()))),
            last_country: last(OWN_IN_COUNTRY).map(|event| event.shape.country()),
        }
    }
}

/// What each shape of an account has in common with the present transaction, by its place.
type Alike = ArrayVec<u8, SHAPES_MAX>;

/// Different shapes of a day's events that are remembered by their places.
const SHAPES_OF_A_DAY: usize = 24;

/// How many merchants, countries and devices there are.
fn distinct(shapes: impl Iterator<Item = Shape> + Clone) -> [i64; 3] {
    [Attribute::Merchant, Attribute::Country, Attribute::Device]
        .map(|attribute| count_distinct(shapes.clone().map(|shape| attribute.of(shape))) as i64)
}

/// Four counts in one word, a byte each, so that one addition counts an event for all of them: no more than the events
/// of one span.
#[derive(Clone, Copy, Default)]
struct Counts(u32);

impl Counts {
    const OWN: u32 = 1;
    const NEAR: u32 = 1 << 8;
    const AT_NIGHT: u32 = 1 << 16;
    const OWN_MCC: u32 = 1 << 24;

    /// All, near, at night and of the same category, of the card's own.
    fn get(self) -> [u32; 4] {
        self.0.to_le_bytes().map(u32::from)
    }
}

const _: () = assert!(SPAN_ROWS < 1 << 8);

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
    const NIGHT: u32 = NIGHT_HOURS as u32 * Self::HOUR;

    fn at(now_ms: i64) -> TimeOfDay {
        let since_night_ms = (now_ms - NIGHT_FROM_HOUR * HOUR_MS).rem_euclid(DAY_MS) as u32;
        TimeOfDay { now: now_ms as u32, since_night_ms }
    }

    /// Whether a time is within an hour of the present time of day, and whether it was night, as [`Counts`] count them.
    /// Without branches, for many times at once.
    #[inline]
    fn marks(self, time: u32) -> u32 {
        let before = self.now.wrapping_sub(time) % Self::DAY;
        let is_near = before.wrapping_sub(Self::HOUR + 1) >= Self::DAY - 2 * Self::HOUR - 1;
        // One of the two is the time since the night began that was on or last; the other is beyond a day.
        let since_night_ms = self.since_night_ms.wrapping_sub(before);
        let is_night = since_night_ms < Self::NIGHT || since_night_ms.wrapping_add(Self::DAY) < Self::NIGHT;
        (u32::from(is_near) * Counts::NEAR) | (u32::from(is_night) * Counts::AT_NIGHT)
    }
}

const SAME_MERCHANT: u8 = 1;
/// Of no meaning where the present transaction has no device.
const SAME_DEVICE: u8 = 1 << 1;
const SAME_COUNTRY: u8 = 1 << 2;
const SAME_MCC: u8 = 1 << 3;
/// An event of the card itself; the next ones are so too.
const OWN: u8 = 1 << 4;
const OWN_MCC: u8 = 1 << 5;
/// Card-present, at a place or in a country that is known.
const OWN_AT_PLACE: u8 = 1 << 6;
const OWN_IN_COUNTRY: u8 = 1 << 7;

/// What the events of some shapes have in common with the present transaction: eight shapes side by side and without
/// branches, which the compiler turns into the processor's instructions for several numbers at once.
#[inline]
fn alike_of(present: &Present, columns: &Columns<'_>) -> [u8; COLUMN_ROWS] {
    let wanted = category(present.mcc, present.country, Channel::Ecommerce.number(), present.card);
    let have_device = columns.have_device(present.device);
    let have_place = columns.have_place();
    let mut alike = [0_u32; COLUMN_ROWS];
    for row in 0..COLUMN_ROWS {
        let (merchant, category) = (columns.merchants[row], columns.categories[row]);
        let differs = category ^ wanted;
        let is = |bit: u8, is_set: u32| is_set * u32::from(bit);
        let own = u32::from(differs & CARD_MASK == 0);
        let own_present = own & u32::from(differs & CHANNEL_MASK != 0);
        let same_mcc = u32::from(differs & MCC_MASK == 0);
        alike[row] = is(SAME_MERCHANT, u32::from(merchant == present.merchant))
            | is(SAME_DEVICE, have_device[row])
            | is(SAME_COUNTRY, u32::from(differs & COUNTRY_MASK == 0))
            | is(SAME_MCC, same_mcc)
            | is(OWN, own)
            | is(OWN_MCC, own & same_mcc)
            | is(OWN_AT_PLACE, own_present & have_place[row])
            | is(OWN_IN_COUNTRY, own_present & u32::from(category & COUNTRY_MASK != 0));
    }
    alike.map(|alike| alike as u8)
}

/// What one walk through 30 days brings home: `any` and what was seen are the account's, the rest the card's.
struct Walked {
    any: bool,
    /// What any event has in common with the present one.
    seen: u8,
    own_count: u32,
    own_near_count: u32,
    own_night_count: u32,
    mcc_count: u32,
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
    let mean = |reading: Reading| (reading.count > 0).then(|| reading.sum() / reading.count as f64);
    let month_mean = month.and_then(mean);
    let mcc_mean = (walked.mcc_count > 0 && moment.request.merchant.mcc.is_some())
        .then(|| walked.mcc_sum_minor as f64 / f64::from(walked.mcc_count));
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

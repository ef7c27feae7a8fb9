//! The decisions cut by merchant category, country, amount and time. Every cut has every decision exactly once, so that
//! each adds up to the whole.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use foldhash::fast::RandomState;

use super::volume::{Row, Slice};
use crate::types::{
    account::Day,
    auth::{AuthRequest, Country},
    money::{Currency, Money},
    time::{DAY_MS, HOUR_MS, Timestamp},
};

/// Where the bands of amounts begin, in major units. The first is for nothing at all, the second for anything above.
const BANDS_FROM: [i64; 15] =
    [0, 0, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000];

/// A band of amounts of one currency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Band {
    pub(super) currency: Currency,
    place: u8,
}

impl Band {
    pub(super) fn of(money: Money) -> Band {
        let Money { minor, currency } = money;
        let place = match minor {
            ..=0 => 0,
            // Whole major units are enough: every band begins at one.
            _ => {
                1 + BANDS_FROM[2..]
                    .iter()
                    .take_while(|from| minor / currency.minor_per_major() >= **from)
                    .count()
            }
        };
        Band { currency, place: place as u8 }
    }

    /// Its lower end in minor units; the second band begins above nothing.
    pub(super) fn low_minor(self) -> i64 {
        BANDS_FROM[usize::from(self.place)] * self.currency.minor_per_major()
    }

    /// Where the next band begins, in minor units.
    pub(super) fn high_minor(self) -> Option<i64> {
        let next = BANDS_FROM.get(usize::from(self.place) + 1).filter(|_| self.place > 0)?;
        Some(next * self.currency.minor_per_major())
    }

    /// For the axis of a plot, thousands as `k`.
    pub(super) fn short_name(self) -> String {
        let short = |major: i64| match major {
            1_000.. => format!("{}k", major as f64 / 1_000.0),
            _ => major.to_string(),
        };
        let from = BANDS_FROM[usize::from(self.place)];
        match (self.place, BANDS_FROM.get(usize::from(self.place) + 1)) {
            (0, _) => "0".to_owned(),
            (1, Some(to)) => format!("<{to}"),
            (_, Some(to)) => format!("{}–{}", short(from), short(*to)),
            (_, None) => format!("≥{}", short(from)),
        }
    }

    /// In major units, without the currency.
    pub(super) fn name(self) -> String {
        let from = BANDS_FROM[usize::from(self.place)];
        match (self.place, BANDS_FROM.get(usize::from(self.place) + 1)) {
            (0, _) => "nothing".to_owned(),
            (1, Some(to)) => format!("below {to}"),
            (_, Some(to)) => format!("{from} to below {to}"),
            (_, None) => format!("{from} and more"),
        }
    }
}

/// The cuts. What a transaction does not name stands under `None`.
#[derive(Default)]
pub(super) struct Slices {
    mccs: Cut<Option<u16>>,
    countries: Cut<Option<Country>>,
    bands: Cut<Option<Band>>,
    days: Cut<i32>,
    /// Of the day, UTC.
    hours: [Slice; 24],
}

impl Slices {
    pub(super) fn add(&mut self, request: &AuthRequest, at: Timestamp, row: &Row) {
        self.mccs.add(request.merchant.mcc, row);
        self.countries.add(request.merchant.country, row);
        self.bands.add(row.billed.map(Band::of), row);
        self.days.add(at.0.div_euclid(DAY_MS) as i32, row);
        self.hours[(at.0.rem_euclid(DAY_MS) / HOUR_MS) as usize].add(row);
    }

    /// By merchant category code, the most decisions first.
    pub(super) fn mccs(&self) -> Vec<(Option<u16>, &Slice)> {
        self.mccs.by_count()
    }

    /// By the merchant's country, the most decisions first.
    pub(super) fn countries(&self) -> Vec<(Option<Country>, &Slice)> {
        self.countries.by_count()
    }

    /// By currency and amount, ascending.
    pub(super) fn bands(&self) -> Vec<(Option<Band>, &Slice)> {
        self.bands.in_order()
    }

    /// By day, UTC, in order; days without a decision are left out.
    pub(super) fn days(&self) -> Vec<(Day, &Slice)> {
        self.days.in_order().into_iter().map(|(day, slice)| (Day(day), slice)).collect()
    }

    /// By month, UTC, such as `2026-01`, in order.
    pub(super) fn months(&self) -> BTreeMap<String, Slice> {
        let mut months = BTreeMap::<String, Slice>::new();
        for (day, slice) in self.days() {
            let day = day.to_string();
            let month = day.rsplit_once('-').map_or(day.as_str(), |(month, _)| month);
            months.entry(month.to_owned()).or_default().merge(slice);
        }
        months
    }

    /// By hour of the day, UTC.
    pub(super) fn hours(&self) -> &[Slice; 24] {
        &self.hours
    }
}

/// Slices by one property.
struct Cut<K>(HashMap<K, Slice, RandomState>);

impl<K> Default for Cut<K> {
    fn default() -> Cut<K> {
        Cut(HashMap::default())
    }
}

impl<K: Copy + Ord + Hash> Cut<K> {
    fn add(&mut self, key: K, row: &Row) {
        self.0.entry(key).or_default().add(row);
    }

    fn in_order(&self) -> Vec<(K, &Slice)> {
        let mut slices: Vec<_> = self.0.iter().map(|(key, slice)| (*key, slice)).collect();
        slices.sort_by_key(|(key, _)| *key);
        slices
    }

    fn by_count(&self) -> Vec<(K, &Slice)> {
        let mut slices = self.in_order();
        slices.sort_by_key(|(_, slice)| std::cmp::Reverse(slice.all.count));
        slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_amount_has_one_band_and_its_ends_are_those_of_its_currency() {
        for (code, minor, name, from, to) in [
            ("USD", 0, "nothing", 0, None),
            ("USD", 1, "below 10", 0, Some(1_000)),
            ("USD", 999, "below 10", 0, Some(1_000)),
            ("USD", 1_000, "10 to below 25", 1_000, Some(2_500)),
            ("JPY", 999, "500 to below 1000", 500, Some(1_000)),
            ("KWD", 24_999, "10 to below 25", 10_000, Some(25_000)),
            ("USD", 10_000_000, "100000 and more", 10_000_000, None),
            ("USD", i64::MAX, "100000 and more", 10_000_000, None),
        ] {
            let currency = Currency::from_alpha(code).unwrap();
            let band = Band::of(Money::new(minor, currency));
            let ends = (band.name(), band.low_minor(), band.high_minor());
            assert_eq!(ends, (name.to_owned(), from, to), "{code} {minor}");
        }
    }
}

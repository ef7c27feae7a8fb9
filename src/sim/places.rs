//! Where the simulated world happens: cities with their country, currency and local time, and the merchant
//! categories with what people spend there. Round figures of 2025, good enough to be plausible; nothing else in
//! the program reads them.

use super::draw::Draw;
use crate::types::{
    auth::{Country, Place},
    money::{Currency, Money},
};

/// A city where cards are used.
pub(super) struct City {
    pub country: &'static str,
    pub currency: &'static str,
    pub latitude: f64,
    pub longitude: f64,
    /// Local time minus UTC, in hours; there is no summer time here.
    pub utc_offset_hours: i64,
    /// Share of the cardholders who live here; 0 where only travellers and thieves come.
    pub residents: f64,
}

impl City {
    pub(super) fn country(&self) -> Country {
        Country::new(self.country).expect("the table holds two capital letters")
    }

    pub(super) fn currency(&self) -> Currency {
        Currency::from_alpha(self.currency).expect("the table holds ISO 4217 codes")
    }

    pub(super) fn place(&self) -> Place {
        Place { latitude: self.latitude, longitude: self.longitude }
    }

    /// A point at most `degrees` from the centre in either direction, to five decimals (about a metre).
    pub(super) fn near(&self, degrees: f64, draw: &mut Draw) -> Place {
        let metre = |v: f64| (v * 1e5).round() / 1e5;
        Place {
            latitude: metre(self.latitude + draw.between(-degrees, degrees)),
            longitude: metre(self.longitude + draw.between(-degrees, degrees)),
        }
    }
}

const fn city(
    country: &'static str,
    currency: &'static str,
    (latitude, longitude): (f64, f64),
    utc_offset_hours: i64,
    residents: f64,
) -> City {
    City { country, currency, latitude, longitude, utc_offset_hours, residents }
}

pub(super) const CITIES: &[City] = &[
    city("US", "USD", (40.713, -74.006), -5, 18.0),
    city("US", "USD", (34.052, -118.244), -8, 14.0),
    city("US", "USD", (41.878, -87.630), -6, 11.0),
    city("US", "USD", (29.760, -95.370), -6, 9.0),
    city("US", "USD", (33.749, -84.388), -5, 8.0),
    city("US", "USD", (47.606, -122.332), -8, 7.0),
    city("US", "USD", (39.739, -104.990), -7, 5.0),
    city("US", "USD", (25.762, -80.192), -5, 5.0),
    city("DE", "EUR", (52.520, 13.405), 1, 4.0),
    city("FR", "EUR", (48.857, 2.352), 1, 3.5),
    city("ES", "EUR", (40.417, -3.704), 1, 2.5),
    city("GB", "GBP", (51.507, -0.128), 0, 4.0),
    city("GB", "GBP", (53.483, -2.244), 0, 2.0),
    city("JP", "JPY", (35.682, 139.759), 9, 3.0),
    city("JP", "JPY", (34.694, 135.502), 9, 1.5),
    city("KW", "KWD", (29.376, 47.977), 3, 2.5),
    city("CA", "CAD", (43.653, -79.383), -5, 0.0),
    city("MX", "MXN", (21.161, -86.851), -5, 0.0),
    city("IT", "EUR", (41.903, 12.496), 1, 0.0),
    city("TH", "THB", (13.756, 100.502), 7, 0.0),
    city("AE", "AED", (25.205, 55.271), 4, 0.0),
    city("BR", "BRL", (-23.551, -46.633), -3, 0.0),
    city("RO", "RON", (44.427, 26.102), 2, 0.0),
    city("HK", "HKD", (22.319, 114.169), 8, 0.0),
    city("NG", "NGN", (6.524, 3.379), 1, 0.0),
];

/// Places in [`CITIES`] where stolen card data is used more often than a fair share.
pub(super) const RISKY_COUNTRIES: &[&str] = &["RO", "NG", "BR", "HK", "TH", "MX"];

/// Units of the currency for one US dollar.
fn per_dollar(currency: &str) -> f64 {
    match currency {
        "EUR" => 0.92,
        "GBP" => 0.79,
        "JPY" => 150.0,
        "KWD" => 0.307,
        "CAD" => 1.36,
        "MXN" => 17.2,
        "THB" => 35.5,
        "AED" => 3.67,
        "BRL" => 5.1,
        "RON" => 4.6,
        "HKD" => 7.8,
        "NGN" => 1_500.0,
        _ => 1.0,
    }
}

/// This many dollars in minor units of a currency, at the world's fixed rates; at least one unit.
pub(super) fn money(dollars: f64, currency: Currency) -> Money {
    let units = dollars * per_dollar(currency.alpha()) * currency.minor_per_major() as f64;
    Money::new((units.round() as i64).max(1), currency)
}

/// A merchant category and how it is used.
pub(super) struct Category {
    pub mcc: u16,
    /// Median ticket, in US dollars, and the standard deviation of its logarithm.
    pub median: f64,
    pub spread: f64,
    /// Share of its tickets that are sold over the internet.
    pub ecommerce: f64,
    /// How often people come here, relative to the others.
    pub weight: f64,
}

const fn category(mcc: u16, median: f64, spread: f64, ecommerce: f64, weight: f64) -> Category {
    Category { mcc, median, spread, ecommerce, weight }
}

pub(super) const ATM: u16 = 6011;
pub(super) const DIGITAL_GOODS: u16 = 5815;

pub(super) const CATEGORIES: &[Category] = &[
    category(5411, 42.0, 0.60, 0.06, 24.0), // grocery
    category(5812, 28.0, 0.55, 0.02, 16.0), // restaurant
    category(5814, 11.0, 0.40, 0.10, 14.0), // fast food
    category(5541, 38.0, 0.35, 0.00, 9.0),  // fuel
    category(5311, 58.0, 0.65, 0.45, 6.0),  // department store
    category(5912, 22.0, 0.55, 0.15, 5.0),  // pharmacy
    category(5651, 55.0, 0.60, 0.55, 5.0),  // clothing
    category(4121, 16.0, 0.50, 0.70, 5.0),  // taxi
    category(4111, 5.0, 0.40, 0.20, 4.0),   // transit
    category(5999, 35.0, 0.70, 0.60, 4.0),  // miscellaneous retail
    category(DIGITAL_GOODS, 9.0, 0.55, 1.00, 4.0),
    category(5942, 20.0, 0.50, 0.70, 3.0), // books
    category(4899, 15.0, 0.35, 1.00, 3.0), // streaming
    category(ATM, 80.0, 0.50, 0.00, 2.5),
    category(5732, 110.0, 0.75, 0.60, 2.0), // electronics
    category(7832, 22.0, 0.40, 0.50, 1.5),  // cinema
    category(7230, 40.0, 0.45, 0.05, 1.5),  // beauty
    category(8011, 90.0, 0.60, 0.10, 1.0),  // doctor
    category(4511, 300.0, 0.50, 0.95, 0.4), // airline
    category(7011, 190.0, 0.50, 0.60, 0.4), // hotel
    category(5712, 220.0, 0.70, 0.30, 0.3), // furniture
    category(4829, 140.0, 0.70, 0.80, 0.3), // money transfer
    category(5944, 240.0, 0.80, 0.30, 0.2), // jewellery
];

/// Kilometres between two points along the sphere (haversine, R. W. Sinnott, Sky and Telescope 68, 1984).
pub(super) fn distance_km(a: Place, b: Place) -> f64 {
    let (lat_a, lat_b) = (a.latitude.to_radians(), b.latitude.to_radians());
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let chord = half(b.latitude - a.latitude) + lat_a.cos() * lat_b.cos() * half(b.longitude - a.longitude);
    2.0 * 6_371.0 * chord.sqrt().min(1.0).asin()
}

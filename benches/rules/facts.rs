//! A transaction as each of the three reads it: slots of our values, a plain struct for the closures, maps for the
//! `cel` interpreter. A value may be missing, and is so in a tenth of the cases where the engine could lack it.

use std::collections::HashMap;

use saker::features::{
    catalog::{self, Type},
    values::Values,
};

use crate::draw::Draw;

macro_rules! facts {
    ($($field:ident: $ty:ty = $name:literal, $drawn:expr;)*) => {
        /// What 20 rules read.
        #[derive(Clone, Debug)]
        pub struct Facts {
            $(pub $field: Option<$ty>,)*
        }

        /// Names of the fields, as rules write them.
        pub const NAMES: &[&str] = &[$($name),*];

        impl Facts {
            /// An ordinary transaction, that fires few rules.
            pub fn draw(draw: &mut Draw) -> Facts {
                Facts { $($field: (draw.below(10) > 0).then(|| { let drawn: fn(&mut Draw) -> $ty = $drawn; drawn(draw) }),)* }
            }

            pub fn values(&self) -> Values<'_> {
                let mut values = Values::new();
                $(if let Some(value) = &self.$field { value.set($name, &mut values); })*
                values
            }

            /// `merchant.country` is the key `country` of the map `merchant`.
            pub fn context(&self) -> cel::Context<'static, 'static> {
                let mut maps = HashMap::<&str, HashMap<String, cel::Value>>::new();
                for owner in ["merchant", "account", "card", "verification"] {
                    maps.insert(owner, HashMap::new());
                }
                let mut context = cel::Context::default();
                $(if let Some(value) = &self.$field {
                    match $name.split_once('.') {
                        Some((owner, key)) => {
                            maps.entry(owner).or_default().insert(key.to_string(), value.cel());
                        }
                        None => context.add_variable_from_value($name, value.cel()),
                    }
                })*
                for (owner, map) in maps {
                    context.add_variable_from_value(owner, map);
                }
                context
            }
        }
    };
}

facts! {
    amount: i64 = "amount", |draw| 100 + draw.below(30_000) as i64;
    count_1h: i64 = "card.count_1h", |draw| draw.below(4) as i64;
    count_30d: i64 = "card.count_30d", |draw| draw.below(80) as i64;
    declines_1h: i64 = "card.declines_1h", |draw| i64::from(draw.below(20) == 0);
    declines_24h: i64 = "card.declines_24h", |draw| i64::from(draw.below(10) == 0);
    small_count_1h: i64 = "card.small_count_1h", |draw| i64::from(draw.below(20) == 0);
    countries_24h: i64 = "card.countries_24h", |draw| 1 + i64::from(draw.below(20) == 0);
    merchants_24h: i64 = "card.merchants_24h", |draw| draw.below(6) as i64;
    night_count_24h: i64 = "card.night_count_24h", |draw| i64::from(draw.below(10) == 0);
    sum_24h_major: f64 = "card.sum_24h_major", |draw| draw.below(40_000) as f64 / 100.0;
    speed_kmh: f64 = "card.speed_kmh", |draw| draw.below(300) as f64 / 3.0;
    distance_from_last_km: f64 = "card.distance_from_last_km", |draw| draw.below(1_000) as f64 / 10.0;
    amount_over_mean_30d: f64 = "card.amount_over_mean_30d", |draw| draw.below(300) as f64 / 100.0;
    mean_7d_over_30d: f64 = "card.mean_7d_over_30d", |draw| draw.below(200) as f64 / 100.0;
    is_foreign: bool = "is_foreign", |draw| draw.below(10) == 0;
    is_night: bool = "is_night", |draw| draw.below(5) == 0;
    is_ecommerce: bool = "is_ecommerce", |draw| draw.below(3) == 0;
    is_magnetic_stripe: bool = "is_magnetic_stripe", |draw| draw.below(30) == 0;
    merchant_seen_30d: bool = "account.merchant_seen_30d", |draw| draw.below(4) > 0;
    first_use_of_country_30d: bool = "account.first_use_of_country_30d", |draw| draw.below(20) == 0;
    device_seen_30d: bool = "account.device_seen_30d", |draw| draw.below(10) > 0;
    age_days: i64 = "account.age_days", |draw| draw.below(3_000) as i64;
    available: i64 = "account.available", |draw| draw.below(500_000) as i64;
    home_country: &'static str = "account.home_country", |draw| if draw.below(20) == 0 { "CA" } else { "US" };
    country: &'static str = "merchant.country", |draw| ["US", "US", "US", "US", "CA", "MX", "RO"][draw.below(7) as usize];
    mcc: &'static str = "merchant.mcc", |draw| ["5411", "5812", "5541", "5912", "6011"][draw.below(5) as usize];
    channel: &'static str = "channel", |draw| if draw.below(3) == 0 { "ecommerce" } else { "card_present" };
    entry_mode: &'static str = "entry_mode", |draw| ["chip", "contactless", "ecommerce"][draw.below(3) as usize];
    kind: &'static str = "kind", |draw| if draw.below(20) == 0 { "cash_advance" } else { "purchase" };
    cvv: &'static str = "verification.cvv", |draw| if draw.below(50) == 0 { "no_match" } else { "match" };
    avs: &'static str = "verification.avs", |draw| if draw.below(50) == 0 { "no_match" } else { "match" };
    network_risk_score: i64 = "verification.network_risk_score", |draw| draw.below(90) as i64;
    distance_from_home_km: f64 = "distance_from_home_km", |draw| draw.below(2_000) as f64 / 10.0;
    hour_utc: i64 = "hour_utc", |draw| draw.below(24) as i64;
    instalments: i64 = "instalments", |draw| draw.below(2) as i64;
}

/// A value that all three can hold.
trait Held {
    fn set(&self, name: &str, values: &mut Values);
    fn cel(&self) -> cel::Value;
}

fn slot(name: &str, types: &[Type]) -> u16 {
    let (slot, entry) = catalog::lookup(name).expect("a field of the catalogue");
    assert!(types.contains(&entry.ty), "{name} has another type");
    slot
}

impl Held for i64 {
    fn set(&self, name: &str, values: &mut Values) {
        values.set_int(slot(name, &[Type::Int, Type::Money]), *self);
    }

    fn cel(&self) -> cel::Value {
        cel::Value::Int(*self)
    }
}

impl Held for f64 {
    fn set(&self, name: &str, values: &mut Values) {
        values.set_float(slot(name, &[Type::Float]), *self);
    }

    fn cel(&self) -> cel::Value {
        cel::Value::Float(*self)
    }
}

impl Held for bool {
    fn set(&self, name: &str, values: &mut Values) {
        values.set_bool(slot(name, &[Type::Bool]), *self);
    }

    fn cel(&self) -> cel::Value {
        cel::Value::Bool(*self)
    }
}

impl Held for &'static str {
    fn set(&self, name: &str, values: &mut Values) {
        values.set_text(slot(name, &[Type::Text]), self);
    }

    fn cel(&self) -> cel::Value {
        cel::Value::from(*self)
    }
}

//! Twenty conditions of an analyst, in our language and in CEL, and written by hand as closures. `variant` moves their
//! bounds, so that 200 rules are ten variants and no two rules are alike.

use crate::facts::Facts;

/// A condition as somebody would write it who has time.
pub type Closure = Box<dyn Fn(&Facts) -> bool>;

/// Conditions over amounts that `money` writes, from minor units.
pub fn texts(variant: i64, money: impl Fn(i64) -> String) -> [String; 20] {
    let v = variant;
    let hundredths = |whole: i64| format!("{whole}.{v:02}");
    [
        format!("card.count_1h >= {} && amount < {}", 5 + v, money(500 + v)),
        format!("is_foreign && is_magnetic_stripe && amount > {}", money(v)),
        format!("card.speed_kmh > {} && card.distance_from_last_km > {}", hundredths(900), hundredths(300)),
        format!("amount > {} && !account.merchant_seen_30d", money(400_000 + v)),
        format!("merchant.country in ['NG', 'RO', 'BR'] && is_ecommerce && amount > {}", money(v)),
        format!("card.declines_24h >= {} && card.small_count_1h >= {}", 3 + v, 2 + v),
        format!(
            "channel == 'ecommerce' && account.first_use_of_country_30d && is_night && amount > {}",
            money(v)
        ),
        format!("card.amount_over_mean_30d > {} && card.count_30d >= {}", hundredths(8), 10 + v),
        format!("merchant.mcc == '6011' && amount > {}", money(80_000 + v)),
        format!("card.countries_24h >= {}", 3 + v),
        format!("card.merchants_24h > {} && card.sum_24h_major > {}", 8 + v, hundredths(2_000)),
        format!("entry_mode == 'manual' && amount > {}", money(25_000 + v)),
        format!(
            "(verification.cvv == 'no_match' || verification.avs == 'no_match') && amount > {}",
            money(20_000 + v)
        ),
        format!("verification.network_risk_score > {}", 90 + v),
        format!("distance_from_home_km > {} && hour_utc < 5", hundredths(5_000)),
        format!("account.age_days < {} && amount > {}", 30 + v, money(150_000)),
        format!("amount > account.available && card.declines_1h >= {}", 1 + v),
        format!(
            "merchant.country != account.home_country && account.device_seen_30d == false && amount > {}",
            money(v)
        ),
        format!("kind == 'cash_advance' && card.night_count_24h > {}", 1 + v),
        format!("card.mean_7d_over_30d > {} && instalments > {}", hundredths(3), 12 + v),
    ]
}

/// The same, where a value that is missing makes a comparison false.
pub fn closures(variant: i64) -> [Closure; 20] {
    let v = variant;
    let hundredths = move |whole: i64| -> f64 { format!("{whole}.{v:02}").parse().expect("a number") };
    let (speed, distance, ratio, sum) = (hundredths(900), hundredths(300), hundredths(8), hundredths(2_000));
    let (far, rising) = (hundredths(5_000), hundredths(3));
    let above = |facts: &Facts, bound: i64| facts.amount.is_some_and(|amount| amount > bound);
    [
        Box::new(move |f| {
            f.count_1h.is_some_and(|count| count >= 5 + v) && f.amount.is_some_and(|amount| amount < 500 + v)
        }),
        Box::new(move |f| f.is_foreign == Some(true) && f.is_magnetic_stripe == Some(true) && above(f, v)),
        Box::new(move |f| {
            f.speed_kmh.is_some_and(|kmh| kmh > speed)
                && f.distance_from_last_km.is_some_and(|km| km > distance)
        }),
        Box::new(move |f| above(f, 400_000 + v) && f.merchant_seen_30d == Some(false)),
        Box::new(move |f| {
            f.country.is_some_and(|country| ["NG", "RO", "BR"].contains(&country))
                && f.is_ecommerce == Some(true)
                && above(f, v)
        }),
        Box::new(move |f| {
            f.declines_24h.is_some_and(|count| count >= 3 + v)
                && f.small_count_1h.is_some_and(|count| count >= 2 + v)
        }),
        Box::new(move |f| {
            f.channel == Some("ecommerce")
                && f.first_use_of_country_30d == Some(true)
                && f.is_night == Some(true)
                && above(f, v)
        }),
        Box::new(move |f| {
            f.amount_over_mean_30d.is_some_and(|over| over > ratio)
                && f.count_30d.is_some_and(|count| count >= 10 + v)
        }),
        Box::new(move |f| f.mcc == Some("6011") && above(f, 80_000 + v)),
        Box::new(move |f| f.countries_24h.is_some_and(|count| count >= 3 + v)),
        Box::new(move |f| {
            f.merchants_24h.is_some_and(|count| count > 8 + v)
                && f.sum_24h_major.is_some_and(|spent| spent > sum)
        }),
        Box::new(move |f| f.entry_mode == Some("manual") && above(f, 25_000 + v)),
        Box::new(move |f| (f.cvv == Some("no_match") || f.avs == Some("no_match")) && above(f, 20_000 + v)),
        Box::new(move |f| f.network_risk_score.is_some_and(|score| score > 90 + v)),
        Box::new(move |f| {
            f.distance_from_home_km.is_some_and(|km| km > far) && f.hour_utc.is_some_and(|hour| hour < 5)
        }),
        Box::new(move |f| f.age_days.is_some_and(|days| days < 30 + v) && above(f, 150_000)),
        Box::new(move |f| {
            f.amount.zip(f.available).is_some_and(|(amount, available)| amount > available)
                && f.declines_1h.is_some_and(|count| count > v)
        }),
        Box::new(move |f| {
            f.country.zip(f.home_country).is_some_and(|(country, home)| country != home)
                && f.device_seen_30d == Some(false)
                && above(f, v)
        }),
        Box::new(move |f| {
            f.kind == Some("cash_advance") && f.night_count_24h.is_some_and(|count| count > 1 + v)
        }),
        Box::new(move |f| {
            f.mean_7d_over_30d.is_some_and(|over| over > rising)
                && f.instalments.is_some_and(|count| count > 12 + v)
        }),
    ]
}

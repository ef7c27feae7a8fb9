//! What is known of an account and its cards, as its owner's systems say it.

use super::{
    auth::{Country, Place},
    codes::{AccountStatus, CardStatus},
    ids::{AccountId, CardToken, Id},
    money::Currency,
};

/// A civil date as days since 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Day(pub i32);

impl Day {
    /// Reads `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Day> {
        let date = text.parse::<jiff::civil::Date>().ok()?;
        let epoch = jiff::civil::date(1970, 1, 1);
        Some(Day(date.since(epoch).ok()?.get_days()))
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let epoch = jiff::civil::date(1970, 1, 1);
        match epoch.checked_add(jiff::Span::new().days(self.0)) {
            Ok(date) => write!(f, "{date}"),
            Err(_) => write!(f, "day {}", self.0),
        }
    }
}

/// The fields of an upsert that are set; the others stay as they are, or take their default at opening.
#[derive(Clone, PartialEq, Debug)]
pub struct AccountChange {
    pub account: AccountId,
    /// Needed at opening; must equal the account's own afterwards.
    pub currency: Option<Currency>,
    /// Needed at opening. Minor units, not negative.
    pub credit_limit_minor: Option<i64>,
    /// At opening only; ignored afterwards, since an upsert never touches a balance.
    pub posted_minor: Option<i64>,
    pub status: Option<AccountStatus>,
    pub product: Option<Id>,
    pub home_country: Option<Country>,
    pub home: Option<Place>,
    pub opened_on: Option<Day>,
    pub cards: Vec<CardChange>,
}

/// One card of an upsert.
#[derive(Clone, PartialEq, Debug)]
pub struct CardChange {
    pub token: CardToken,
    pub status: Option<CardStatus>,
    /// Last day of validity.
    pub expires_on: Option<Day>,
}

/// An account as it is shown: a copy taken under its lock.
#[derive(Clone, PartialEq, Debug)]
pub struct AccountView {
    pub account: AccountId,
    pub currency: Currency,
    pub credit_limit_minor: i64,
    pub posted_minor: i64,
    pub held_minor: i64,
    /// limit - posted - held; negative where exposure is above the limit.
    pub available_minor: i64,
    pub status: AccountStatus,
    pub product: Option<Id>,
    pub home_country: Option<Country>,
    pub home: Option<Place>,
    pub opened_on: Option<Day>,
    pub cards: Vec<CardView>,
    pub last_position: u64,
}

/// A card as it is shown.
#[derive(Clone, PartialEq, Debug)]
pub struct CardView {
    pub token: CardToken,
    pub status: CardStatus,
    pub expires_on: Option<Day>,
}

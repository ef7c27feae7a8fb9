//! One account with its cards and holds.

mod stored;

use super::hold::Hold;
use crate::{
    canary,
    limits::POSTED_PER_ACCOUNT_MAX,
    types::{
        account::{AccountChange, AccountView, CardView, Day},
        auth::{Country, Place},
        codes::{AccountStatus, CardStatus},
        ids::{AccountId, CardToken, Id, Kept},
        money::{Currency, Money},
        time::Timestamp,
    },
};

/// A card of an account. Its place in [`Account::cards`] never changes.
#[derive(Clone, PartialEq, Debug)]
pub struct Card {
    pub token: Kept<CardToken>,
    pub status: CardStatus,
    /// Last day of validity; `None` does not expire.
    pub expires_on: Option<Day>,
}

/// The money and the standing of one account.
#[derive(Clone, PartialEq, Debug)]
pub struct Account {
    pub id: Kept<AccountId>,
    pub currency: Currency,
    pub credit_limit_minor: i64,
    pub posted_minor: i64,
    pub status: AccountStatus,
    pub product: Option<Kept<Id>>,
    pub home_country: Option<Country>,
    pub home: Option<Place>,
    pub opened_on: Option<Day>,
    pub cards: Vec<Card>,
    /// The position of the last record that touched the account.
    pub last_position: u64,
    /// In order of position.
    holds: Vec<Hold>,
    /// The sum of the holds that are not posted, kept so that a decision need not add them up.
    held_minor: i64,
    /// No hold expires before this time.
    next_expiry: Timestamp,
}

/// What expiry took away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expired {
    pub holds: usize,
    pub amount_minor: i64,
}

const NEVER: Timestamp = Timestamp(i64::MAX);

impl Account {
    pub fn new(id: AccountId, currency: Currency, credit_limit_minor: i64) -> Account {
        Account {
            id: id.into(),
            currency,
            credit_limit_minor,
            posted_minor: 0,
            status: AccountStatus::Active,
            product: None,
            home_country: None,
            home: None,
            opened_on: None,
            cards: Vec::new(),
            last_position: 0,
            holds: Vec::new(),
            held_minor: 0,
            next_expiry: NEVER,
        }
    }

    /// Whether the record at `position` has had its effect on this account. Records of one account stand in the log in
    /// the order of their effects, because their positions are taken under its lock, and each leaves its position
    /// here: so an account that was copied at any moment lacks exactly the records behind [`Account::last_position`],
    /// its windows and holds included, and putting a stretch of the log back in force twice comes to the same.
    pub fn has_seen(&self, position: u64) -> bool {
        position <= self.last_position
    }

    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    pub fn held_minor(&self) -> i64 {
        self.held_minor
    }

    /// Whether a hold's deadline has come at `now`.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        now >= self.next_expiry
    }

    /// Limit less posted less holds that are active at `now`; negative where exposure is above the limit.
    ///
    /// Every term is bounded by what may be approved or posted, so that the difference fits; should it not, it is
    /// cut at the end of the type, which can only make it smaller in size.
    pub fn available_minor(&self, now: Timestamp) -> i64 {
        let mut held = i128::from(self.held_minor);
        if self.has_expired(now) {
            let expired = self.holds.iter().filter(|h| h.expires_at <= now && !h.posted);
            held -= expired.map(|h| i128::from(h.amount_minor)).sum::<i128>();
        }
        let available = i128::from(self.credit_limit_minor) - i128::from(self.posted_minor) - held;
        available.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    /// Whether an amount above zero can be held without taking exposure above the limit.
    pub fn can_hold(&self, amount_minor: i64, now: Timestamp) -> bool {
        if canary::active("wrapping_add") {
            let used = self.credit_limit_minor.wrapping_sub(self.available_minor(now));
            return used.wrapping_add(amount_minor) <= self.credit_limit_minor;
        }
        amount_minor <= self.available_minor(now)
    }

    /// Drops the holds whose deadline has come. A function of the holds and `now` alone, so that replay agrees.
    pub fn expire(&mut self, now: Timestamp) -> Expired {
        let mut expired = Expired::default();
        if !self.has_expired(now) {
            return expired;
        }
        let mut next = NEVER;
        let mut freed = 0;
        self.holds.retain(|hold| {
            if hold.expires_at > now {
                next = next.min(hold.expires_at);
                return true;
            }
            if !hold.posted {
                expired.holds += 1;
                freed += hold.amount_minor;
            }
            false
        });
        self.held_minor -= freed;
        expired.amount_minor = freed;
        self.next_expiry = next;
        expired
    }

    /// How long the chain that began at `first` may live, while any of it is held.
    pub fn chain_until(&self, first: u64) -> Option<Timestamp> {
        self.holds.iter().find(|hold| hold.first == first).map(|hold| hold.chain_until)
    }

    /// Holds that count at `now`: those that are neither posted nor expired.
    pub fn open_holds(&self, now: Timestamp) -> usize {
        self.holds.iter().filter(|hold| !hold.posted && hold.expires_at > now).count()
    }

    /// Adds a hold behind the others, or posts its amount where the hold says so.
    pub fn place(&mut self, hold: Hold) {
        debug_assert!(self.holds.last().is_none_or(|last| last.position < hold.position));
        if hold.posted {
            self.posted_minor += hold.amount_minor;
            self.drop_oldest_posted();
        } else {
            self.held_minor += hold.amount_minor;
        }
        // An increment restarts the clock of the whole chain.
        if hold.first != hold.position {
            for earlier in self.holds.iter_mut().filter(|h| h.first == hold.first) {
                earlier.expires_at = earlier.expires_at.max(hold.expires_at).min(earlier.chain_until);
            }
        }
        if self.holds.len() == self.holds.capacity() {
            // Most accounts have few holds; a vector's own growth begins with four.
            self.holds.reserve_exact(self.holds.len() / 4 + 1);
        }
        self.holds.push(hold);
        self.next_expiry = self.next_expiry.min(hold.expires_at);
    }

    /// Makes room for one more posted amount: the oldest can no longer be reversed by its key.
    fn drop_oldest_posted(&mut self) {
        if self.holds.iter().filter(|hold| hold.posted).count() >= POSTED_PER_ACCOUNT_MAX
            && let Some(oldest) = self.holds.iter().position(|hold| hold.posted)
        {
            self.holds.remove(oldest);
        }
    }

    /// The hold that the authorisation at `position` placed.
    pub fn hold(&self, position: u64) -> Option<&Hold> {
        self.holds.binary_search_by_key(&position, |h| h.position).ok().map(|at| &self.holds[at])
    }

    /// Frees what the authorisation at `position` and its increments hold, down to `keep_minor` in all, the newest
    /// first. Frees nothing where they hold less already. Returns what was freed.
    pub fn release(&mut self, position: u64, keep_minor: i64) -> i64 {
        let belongs = |hold: &Hold| hold.first == position || hold.position == position;
        let total: i64 = self.holds.iter().filter(|h| belongs(h)).map(|h| h.amount_minor).sum();
        let freed = (total - keep_minor).max(0);
        let mut rest = freed;
        for hold in self.holds.iter_mut().rev().filter(|h| belongs(h)) {
            let part = rest.min(hold.amount_minor);
            rest -= part;
            if !canary::active("double_release") {
                hold.amount_minor -= part;
            }
            if hold.posted {
                self.posted_minor -= part;
            } else {
                self.held_minor -= part;
            }
        }
        self.holds.retain(|h| h.amount_minor > 0);
        freed
    }

    /// The card a token names, and its place.
    pub fn card(&self, token: &CardToken) -> Option<(u8, &Card)> {
        let at = self.cards.iter().position(|card| card.token.as_str() == token.as_str())?;
        Some((at as u8, &self.cards[at]))
    }

    /// Takes over the fields of a change that are set. Balances and holds stay as they are. Returns whether
    /// anything is different now.
    pub fn change(&mut self, change: &AccountChange) -> bool {
        let mut changed = false;
        let mut set = |different: bool| changed |= different;
        if let Some(limit) = change.credit_limit_minor {
            set(self.credit_limit_minor != limit);
            self.credit_limit_minor = limit;
        }
        if let Some(status) = change.status {
            set(self.status != status);
            self.status = status;
        }
        if let Some(product) = change.product {
            set(self.product.as_ref().map(Kept::as_str) != Some(product.as_str()));
            self.product = Some(product.into());
        }
        if let Some(country) = change.home_country {
            set(self.home_country != Some(country));
            self.home_country = Some(country);
        }
        if let Some(home) = change.home {
            set(self.home != Some(home));
            self.home = Some(home);
        }
        if let Some(day) = change.opened_on {
            set(self.opened_on != Some(day));
            self.opened_on = Some(day);
        }
        for wanted in &change.cards {
            match self.card(&wanted.token).map(|(place, _)| usize::from(place)) {
                Some(place) => {
                    let card = &mut self.cards[place];
                    if let Some(status) = wanted.status {
                        set(card.status != status);
                        card.status = status;
                    }
                    if wanted.expires_on.is_some() {
                        set(card.expires_on != wanted.expires_on);
                        card.expires_on = wanted.expires_on;
                    }
                }
                None => {
                    set(true);
                    self.cards.reserve_exact(1);
                    self.cards.push(Card {
                        token: wanted.token.into(),
                        status: wanted.status.unwrap_or(CardStatus::Active),
                        expires_on: wanted.expires_on,
                    });
                }
            }
        }
        changed
    }

    pub fn money(&self, minor: i64) -> Money {
        Money::new(minor, self.currency)
    }

    /// A copy to be shown, as of `now`.
    pub fn view(&self, now: Timestamp) -> AccountView {
        let available_minor = self.available_minor(now);
        let active = self.holds.iter().filter(|h| !h.posted && h.expires_at > now);
        AccountView {
            account: self.id.get(),
            currency: self.currency,
            credit_limit_minor: self.credit_limit_minor,
            posted_minor: self.posted_minor,
            held_minor: active.map(|h| h.amount_minor).sum(),
            available_minor,
            status: self.status,
            product: self.product.as_ref().map(Kept::<Id>::get),
            home_country: self.home_country,
            home: self.home,
            opened_on: self.opened_on,
            cards: self
                .cards
                .iter()
                .map(|card| CardView {
                    token: card.token.get(),
                    status: card.status,
                    expires_on: card.expires_on,
                })
                .collect(),
            last_position: self.last_position,
        }
    }
}

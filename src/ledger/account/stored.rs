//! An account as bytes, for whoever writes it to a disk. What can be added up again is not stored.
//!
//! ```text
//! version u8, 1 | id | currency u16 | limit i64 | posted i64 | status u8 | last position u64 |
//! present u8: bit 0 product, 1 home country, 2 home, 3 opened on; those that are, in this order:
//!     text | text | latitude f64, longitude f64 | day i32
//! cards u8, each:  token | status u8 | expires: 0, or 1 and day i32
//! holds u32, each: position u64 | first u64 | amount i64 | expires i64 | chain until i64 | posted u8
//! ```
//!
//! Texts have their length before them, one byte. Numbers are little-endian; money in minor units, times in ms.

use super::{Account, Card, Hold, NEVER};
use crate::{
    limits::{CARDS_PER_ACCOUNT_MAX, HOLDS_PER_ACCOUNT_MAX, POSTED_PER_ACCOUNT_MAX},
    types::{
        account::Day,
        auth::{Country, Place},
        bytes::{Fields, Misread, put_text},
        codes::{AccountStatus, CardStatus},
        ids::{AccountId, CardToken},
        money::Currency,
        time::Timestamp,
    },
};

const VERSION: u8 = 1;
const HOLDS_MAX: usize = HOLDS_PER_ACCOUNT_MAX + POSTED_PER_ACCOUNT_MAX;

impl Account {
    /// Appends everything that [`Account::decode`] needs.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_text(out, self.id.as_str());
        out.extend(self.currency.numeric().to_le_bytes());
        out.extend(self.credit_limit_minor.to_le_bytes());
        out.extend(self.posted_minor.to_le_bytes());
        out.push(self.status.number());
        out.extend(self.last_position.to_le_bytes());
        let present = [
            self.product.is_some(),
            self.home_country.is_some(),
            self.home.is_some(),
            self.opened_on.is_some(),
        ];
        out.push(present.iter().rev().fold(0, |bits, present| bits << 1 | u8::from(*present)));
        if let Some(product) = &self.product {
            put_text(out, product.as_str());
        }
        if let Some(country) = &self.home_country {
            put_text(out, country.as_str());
        }
        if let Some(home) = self.home {
            out.extend(home.latitude.to_le_bytes());
            out.extend(home.longitude.to_le_bytes());
        }
        if let Some(day) = self.opened_on {
            out.extend(day.0.to_le_bytes());
        }
        out.push(self.cards.len() as u8);
        for card in &self.cards {
            put_text(out, card.token.as_str());
            out.push(card.status.number());
            out.push(u8::from(card.expires_on.is_some()));
            if let Some(day) = card.expires_on {
                out.extend(day.0.to_le_bytes());
            }
        }
        out.extend((self.holds.len() as u32).to_le_bytes());
        for hold in &self.holds {
            out.extend(hold.position.to_le_bytes());
            out.extend(hold.first.to_le_bytes());
            out.extend(hold.amount_minor.to_le_bytes());
            out.extend(hold.expires_at.0.to_le_bytes());
            out.extend(hold.chain_until.0.to_le_bytes());
            out.push(u8::from(hold.posted));
        }
    }

    /// Reads what [`Account::encode`] wrote; all of `bytes` must be it.
    ///
    /// # Errors
    /// Where the bytes are no such account.
    pub fn decode(bytes: &[u8]) -> Result<Account, Misread> {
        let mut fields = Fields::new(bytes);
        if fields.u8()? != VERSION {
            return Err(fields.misread("a version of accounts that is not known here"));
        }
        let id = AccountId(fields.id()?);
        let currency = Currency::from_numeric(fields.u16()?);
        let currency = currency.ok_or(fields.misread("not a currency"))?;
        let mut account = Account::new(id, currency, fields.i64()?);
        account.posted_minor = fields.i64()?;
        account.status =
            AccountStatus::from_number(fields.u8()?).ok_or(fields.misread("not a status of accounts"))?;
        account.last_position = fields.u64()?;
        let present = fields.u8()?;
        if present & 1 != 0 {
            account.product = Some(fields.id()?.into());
        }
        if present & 2 != 0 {
            let country = Country::new(fields.text()?);
            account.home_country = Some(country.ok_or(fields.misread("not a country"))?);
        }
        if present & 4 != 0 {
            let place = Place::new(fields.f64()?, fields.f64()?);
            account.home = Some(place.ok_or(fields.misread("not a place"))?);
        }
        if present & 8 != 0 {
            account.opened_on = Some(Day(fields.i32()?));
        }
        if present >= 16 {
            return Err(fields.misread("a field that no account has"));
        }
        account.read_cards(&mut fields)?;
        account.read_holds(&mut fields)?;
        fields.end()?;
        Ok(account)
    }

    fn read_cards(&mut self, fields: &mut Fields<'_>) -> Result<(), Misread> {
        let count = usize::from(fields.u8()?);
        if count > CARDS_PER_ACCOUNT_MAX {
            return Err(fields.misread("more cards than an account has"));
        }
        self.cards.reserve_exact(count);
        for _ in 0..count {
            self.cards.push(Card {
                token: CardToken(fields.id()?).into(),
                status: CardStatus::from_number(fields.u8()?)
                    .ok_or(fields.misread("not a status of cards"))?,
                expires_on: match fields.u8()? {
                    0 => None,
                    1 => Some(Day(fields.i32()?)),
                    _ => return Err(fields.misread("neither with a last day nor without")),
                },
            });
        }
        Ok(())
    }

    fn read_holds(&mut self, fields: &mut Fields<'_>) -> Result<(), Misread> {
        let count = fields.u32()? as usize;
        if count > HOLDS_MAX {
            return Err(fields.misread("more holds than an account has"));
        }
        self.holds.reserve_exact(count);
        for _ in 0..count {
            let hold = Hold {
                position: fields.u64()?,
                first: fields.u64()?,
                amount_minor: fields.i64()?,
                expires_at: Timestamp(fields.i64()?),
                chain_until: Timestamp(fields.i64()?),
                posted: match fields.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(fields.misread("neither posted nor not")),
                },
            };
            if hold.amount_minor <= 0 {
                return Err(fields.misread("a hold of nothing"));
            }
            if self.holds.last().is_some_and(|last| last.position >= hold.position) {
                return Err(fields.misread("a hold before the one before it"));
            }
            if !hold.posted {
                let held = self.held_minor.checked_add(hold.amount_minor);
                self.held_minor = held.ok_or(fields.misread("more held than there can be"))?;
            }
            self.next_expiry = self.next_expiry.min(hold.expires_at);
            self.holds.push(hold);
        }
        debug_assert!(count > 0 || self.next_expiry == NEVER);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::Id;

    fn account() -> Account {
        let currency = Currency::from_alpha("JPY").unwrap();
        let mut account = Account::new(AccountId::new("A-1").unwrap(), currency, 1_000_000);
        account.posted_minor = -7;
        account.status = AccountStatus::Blocked;
        account.last_position = 900;
        account.product = Some(Id::new("gold").unwrap().into());
        account.home_country = Country::new("JP");
        account.home = Place::new(35.5, 139.25);
        account.opened_on = Some(Day(-40));
        for (token, expires_on) in [("c1", None), ("c2", Some(Day(20_000)))] {
            let token = CardToken::new(token).unwrap();
            account.cards.push(Card { token: token.into(), status: CardStatus::Lost, expires_on });
        }
        for position in 1..=5 {
            account.place(Hold {
                position,
                first: position.min(2),
                amount_minor: position as i64 * 10,
                expires_at: Timestamp(1_000 * (10 - position as i64)),
                chain_until: Timestamp(50_000),
                posted: position == 4,
            });
        }
        account
    }

    #[test]
    fn an_account_reads_back_with_its_sums() {
        let whole = account();
        for account in [Account::new(whole.id.get(), whole.currency, 0), whole] {
            let mut bytes = Vec::new();
            account.encode(&mut bytes);
            assert_eq!(Account::decode(&bytes), Ok(account));
        }
    }

    #[test]
    fn bytes_that_are_cut_or_too_many_are_no_account_and_none_makes_it_panic() {
        let mut bytes = Vec::new();
        account().encode(&mut bytes);
        for end in 0..bytes.len() {
            assert!(Account::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(Account::decode(&[&bytes[..], &[0]].concat()).is_err());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                // Whether it is one is for the checksum of the file to say.
                let _ = Account::decode(&flipped);
            }
        }
    }
}

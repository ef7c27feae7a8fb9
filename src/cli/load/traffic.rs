//! The requests: ordinary small purchases in the cardholder's own country, so that what is measured is the way of an
//! approval. Ids are unique per run; the same account numbers serve every run.

use std::time::SystemTime;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::proto::{AuthoriseRequest, Channel, EntryMode, Kind, Merchant, Money};

pub const CURRENCY: &str = "USD";
pub const COUNTRY: &str = "US";
const CATEGORIES: [&str; 4] = ["5411", "5812", "5541", "5912"];
const MERCHANTS: u32 = 5_000;

pub fn account_id(number: u32) -> String {
    format!("load-{number:06}")
}

pub fn card_token(number: u32) -> String {
    format!("load-card-{number:06}")
}

/// Differs from run to run on one machine: the low 48 bits of the time in nanoseconds, mixed with the process.
pub fn run_id() -> String {
    let now =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    format!("{:012x}", (now ^ (u64::from(std::process::id()) << 32)) & 0xffff_ffff_ffff)
}

/// One stream of requests; every instance of a run has a number of its own.
pub struct Traffic {
    prefix: String,
    sent: u64,
    accounts: u32,
    random: ChaCha8Rng,
}

impl Traffic {
    pub fn new(run: &str, instance: usize, accounts: u32) -> Traffic {
        Traffic {
            prefix: format!("{run}-{instance}"),
            sent: 0,
            accounts,
            random: ChaCha8Rng::seed_from_u64(instance as u64),
        }
    }

    pub fn next(&mut self) -> AuthoriseRequest {
        self.sent += 1;
        let account = self.random.random_range(0..self.accounts);
        let merchant = self.random.random_range(0..MERCHANTS);
        AuthoriseRequest {
            transaction_id: format!("{}-{}", self.prefix, self.sent),
            kind: Kind::Purchase.into(),
            card_token: card_token(account),
            amount: Some(Money {
                currency_code: CURRENCY.to_owned(),
                minor_units: self.random.random_range(600..2_000),
            }),
            merchant: Some(Merchant {
                merchant_id: format!("M-{merchant:05}"),
                terminal_id: format!("T-{merchant:05}"),
                category_code: CATEGORIES[merchant as usize % CATEGORIES.len()].to_owned(),
                country_code: COUNTRY.to_owned(),
                ..Merchant::default()
            }),
            channel: Channel::CardPresent.into(),
            entry_mode: EntryMode::Chip.into(),
            ..AuthoriseRequest::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_id_is_sent_twice_in_a_run() {
        let mut ids = HashSet::new();
        let run = run_id();
        for instance in 0..3 {
            let mut traffic = Traffic::new(&run, instance, 10);
            for _ in 0..1_000 {
                let request = traffic.next();
                assert!(request.transaction_id.len() <= crate::limits::ID_BYTES_MAX);
                assert!(ids.insert(request.transaction_id));
            }
        }
    }
}

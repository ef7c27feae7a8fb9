//! Checks from outside the ledger: what must hold of any account, and a naive twin that keeps a list of
//! everything that happened and adds it up anew for every question.

use super::account::Account;
use crate::types::time::Timestamp;

/// What must hold of an account after any history.
///
/// # Errors
/// The first statement that does not hold, in words.
pub fn check(account: &Account) -> Result<(), String> {
    let held: i128 = account.holds().iter().filter(|h| !h.posted).map(|h| i128::from(h.amount_minor)).sum();
    if held != i128::from(account.held_minor()) {
        return Err(format!("held is {} but the holds add up to {held}", account.held_minor()));
    }
    if let Some(hold) = account.holds().iter().find(|h| h.amount_minor <= 0) {
        return Err(format!("the hold of position {} holds {}", hold.position, hold.amount_minor));
    }
    if !account.holds().is_sorted_by(|a, b| a.position < b.position) {
        return Err("the holds are not in order of position".into());
    }
    if let Some(hold) = account.holds().iter().find(|h| account.hold(h.position) != Some(h)) {
        return Err(format!("the hold of position {} is not found by it", hold.position));
    }
    Ok(())
}

/// The naive twin: every amount in 128 bits, nothing cached, nothing removed.
#[derive(Clone, Debug, Default)]
pub struct Twin {
    pub limit_minor: i128,
    entries: Vec<TwinHold>,
}

#[derive(Clone, Debug)]
struct TwinHold {
    position: u64,
    first: u64,
    placed_minor: i128,
    freed_minor: i128,
    expires_at: Timestamp,
    posted: bool,
    /// Once true, a later time does not bring it back.
    expired: bool,
}

impl TwinHold {
    fn left(&self) -> i128 {
        if self.expired && !self.posted { 0 } else { self.placed_minor - self.freed_minor }
    }
}

impl Twin {
    pub fn new(limit_minor: i64) -> Twin {
        Twin { limit_minor: i128::from(limit_minor), entries: Vec::new() }
    }

    /// Lets time pass for whoever touches the account at `now`.
    pub fn touch(&mut self, now: Timestamp) {
        for entry in &mut self.entries {
            entry.expired |= entry.expires_at <= now;
        }
    }

    pub fn held_minor(&self) -> i128 {
        self.entries.iter().filter(|e| !e.posted).map(TwinHold::left).sum()
    }

    pub fn posted_minor(&self) -> i128 {
        self.entries.iter().filter(|e| e.posted).map(TwinHold::left).sum()
    }

    pub fn available_minor(&self) -> i128 {
        self.limit_minor - self.posted_minor() - self.held_minor()
    }

    pub fn place(
        &mut self,
        position: u64,
        first: u64,
        amount_minor: i64,
        expires_at: Timestamp,
        posted: bool,
    ) {
        for earlier in self.entries.iter_mut().filter(|e| e.first == first && !e.expired) {
            earlier.expires_at = earlier.expires_at.max(expires_at);
        }
        let placed_minor = i128::from(amount_minor);
        self.entries.push(TwinHold {
            position,
            first,
            placed_minor,
            freed_minor: 0,
            expires_at,
            posted,
            expired: false,
        });
    }

    /// Whether the authorisation at `position` still holds something that an increment may add to.
    pub fn holds(&self, position: u64) -> bool {
        self.entries.iter().any(|e| e.position == position && !e.posted && e.left() > 0)
    }

    /// When the hold at `position` expires; `None` where none was placed there.
    pub fn expires_at(&self, position: u64) -> Option<Timestamp> {
        self.entries.iter().find(|e| e.position == position).map(|e| e.expires_at)
    }

    /// The first position of the chain that the authorisation at `position` belongs to.
    pub fn first(&self, position: u64) -> u64 {
        self.entries.iter().find(|e| e.position == position).map_or(position, |e| e.first)
    }

    /// Frees down to `keep_minor`, the newest first, and says how much.
    pub fn release(&mut self, position: u64, keep_minor: i64) -> i128 {
        let mut mine: Vec<_> = self
            .entries
            .iter_mut()
            .filter(|e| (e.position == position || e.first == position) && !e.expired)
            .collect();
        let total: i128 = mine.iter().map(|e| e.left()).sum();
        let freed = (total - i128::from(keep_minor)).max(0);
        let mut rest = freed;
        for entry in mine.iter_mut().rev() {
            let part = rest.min(entry.left());
            entry.freed_minor += part;
            rest -= part;
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ledger::hold::Hold,
        types::{ids::AccountId, money::Currency},
    };

    fn account(limit_minor: i64) -> Account {
        Account::new(AccountId::new("A1").unwrap(), Currency::from_alpha("USD").unwrap(), limit_minor)
    }

    fn hold(position: u64, amount_minor: i64) -> Hold {
        let expires_at = Timestamp(9);
        Hold { position, first: position, amount_minor, expires_at, chain_until: expires_at, posted: false }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Place { amount: i64, life_ms: i64, posted: bool, increment_of: Option<usize> },
        Release { which: usize, keep: i64 },
        Limit(i64),
        Wait(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..500_i64, 1..50_i64, any::<bool>(), prop::option::of(0..8_usize))
                .prop_map(|(amount, life_ms, posted, increment_of)| Step::Place { amount, life_ms, posted, increment_of }),
            3 => (0..12_usize, 0..400_i64).prop_map(|(which, keep)| Step::Release { which, keep }),
            1 => (0..5_000_i64).prop_map(Step::Limit),
            2 => (0..20_i64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) })]
        #[test]
        fn any_history_leaves_the_ledger_where_its_naive_twin_stands(
            steps in prop::collection::vec(step(), 1..120)
        ) {
            let (mut account, mut twin) = (account(2_000), Twin::new(2_000));
            let (mut now, mut position) = (Timestamp(1_000), 0_u64);
            let mut placed: Vec<u64> = Vec::new();
            for step in steps {
                match step {
                    Step::Place { amount, life_ms, posted, increment_of } => {
                        prop_assert_eq!(account.can_hold(amount, now), {
                            twin.touch(now);
                            i128::from(amount) <= twin.available_minor()
                        });
                        account.expire(now);
                        if account.can_hold(amount, now) {
                            position += 1;
                            let original = increment_of.and_then(|k| placed.iter().rev().nth(k));
                            let first = original.and_then(|p| account.hold(*p)).map_or(position, |h| h.first);
                            let expires_at = now.plus_ms(life_ms);
                            account.place(Hold { position, first, amount_minor: amount, expires_at, chain_until: Timestamp(i64::MAX), posted });
                            twin.place(position, first, amount, expires_at, posted);
                            placed.push(position);
                        }
                    }
                    Step::Release { which, keep } => {
                        if let Some(position) = placed.iter().rev().nth(which) {
                            account.expire(now);
                            twin.touch(now);
                            prop_assert_eq!(i128::from(account.release(*position, keep)), twin.release(*position, keep));
                        }
                    }
                    Step::Limit(limit) => {
                        account.credit_limit_minor = limit;
                        twin.limit_minor = i128::from(limit);
                    }
                    Step::Wait(ms) => now = now.plus_ms(ms),
                }
                twin.touch(now);
                prop_assert_eq!(i128::from(account.available_minor(now)), twin.available_minor());
                account.expire(now);
                prop_assert_eq!(check(&account), Ok(()));
                prop_assert_eq!(i128::from(account.held_minor()), twin.held_minor());
                prop_assert_eq!(i128::from(account.posted_minor), twin.posted_minor());
            }
        }
    }

    #[test]
    fn no_amount_wraps_its_way_past_the_limit() {
        let mut account = account(1_000);
        let now = Timestamp(0);
        account.place(hold(1, 900));
        for amount in [101, i64::MAX - 900, i64::MAX - 899, i64::MAX] {
            assert!(!account.can_hold(amount, now), "{amount}");
        }
        assert!(account.can_hold(100, now));
        account.credit_limit_minor = i64::MIN;
        assert_eq!(account.available_minor(now), i64::MIN);
        assert!(!account.can_hold(1, now));
    }

    #[test]
    fn a_hold_is_released_once_however_often_it_is_asked_for() {
        let mut account = account(1_000);
        account.place(hold(7, 600));
        assert_eq!(account.release(7, 200), 400);
        assert_eq!(account.release(7, 300), 0);
        assert_eq!(account.release(7, 0), 200);
        assert_eq!(account.release(7, 0), 0);
        assert_eq!(account.available_minor(Timestamp(0)), 1_000);
        assert_eq!(check(&account), Ok(()));
    }
}

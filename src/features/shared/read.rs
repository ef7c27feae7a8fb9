//! What one decision read of the windows that cross accounts, and how it came to its slots.

use arrayvec::ArrayVec;

use super::{Parts, READINGS_MAX, Shared, SharedPlan, SharedValue};
use crate::{
    features::{
        aggregate::Aggregate,
        catalog::{CATALOG, MODEL_FEATURES, model_index_of, slot},
        values::{Slot, Values},
    },
    limits::AGGREGATES_MAX,
    types::{base::BaseCurrency, money::Money, time::Timestamp},
};

/// Whose request windows were read for. The account is looked up before its lock is taken, so that whoever decides under the
/// lock can tell whether it is still so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Owner {
    /// Nothing is read by card or account, or the record says what was read.
    #[default]
    NotAsked,
    /// No account was found, or it lacks the card.
    Nobody,
    /// The place of the account in the store, and the number of its card among its windows.
    Card { account: u32, card: u8 },
}

/// What was read, and the position up to which that was complete.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SharedRead {
    /// 0 where nothing was read.
    pub to: u64,
    /// In the order of the plan's readings.
    pub values: ArrayVec<SharedValue, READINGS_MAX>,
    /// The aggregates of the file, one bit for each place, whose windows are still being filled: unknown for a while, and
    /// for no cause that lies in the request.
    pub unfilled: u64,
    pub owner: Owner,
}

const _: () = assert!(AGGREGATES_MAX <= u64::BITS as usize, "each aggregate has its bit");

impl SharedRead {
    /// Reads what a decision at `time` needs. Allocates nothing.
    pub fn of(shared: &Shared, plan: &SharedPlan, parts: &Parts, time: Timestamp) -> SharedRead {
        let mut read = SharedRead { to: shared.complete_to(), ..SharedRead::default() };
        shared.read(plan, parts, time, &mut read.values);
        read
    }

    /// The same values for a plan that has them elsewhere, as [`SharedPlan::found_in`] says; what it has besides is
    /// unknown and yet to be filled. Allocates nothing.
    pub fn moved(&self, plan: &SharedPlan, found: &[Option<usize>]) -> SharedRead {
        let value = |place: &Option<usize>| place.and_then(|place| self.values.get(place)).copied();
        let values = found.iter().map(|place| value(place).unwrap_or_default());
        let unfilled = plan.places().iter().zip(found).filter(|(_, found)| found.is_none());
        SharedRead {
            to: self.to,
            values: values.take(READINGS_MAX).collect(),
            unfilled: unfilled.fold(0, |all, (place, _)| all | 1 << place),
            owner: self.owner,
        }
    }

    /// What a record says was read: the values that stand at the plan's places among all the file's aggregates, and
    /// those of the plan's features, which are among the model's.
    ///
    /// `decided_by` are the aggregates, by their bits, that the rules read which fired and decided. What is unknown and
    /// not among them may have been yet to be filled: it is taken for that. A rule that fired and reads it did so in
    /// shadow, whatever the cause, so that nothing comes out otherwise where it was not.
    pub fn again(
        to: u64,
        plan: &SharedPlan,
        aggregates: &[Option<i64>],
        vector: &[f32; MODEL_FEATURES],
        decided_by: u64,
    ) -> SharedRead {
        let value = |place: &u16| aggregates.get(usize::from(*place)).copied().flatten();
        // Far fewer events are kept of a key than a float counts exactly.
        let feature = |slot: &Slot| {
            let read = model_index_of(*slot).map(|index| vector[index]).filter(|value| !value.is_nan());
            read.map(|value| value as i64)
        };
        let unknown = plan.places().iter().filter(|place| value(place).is_none());
        let unknown = unknown.fold(0, |all, place| all | 1 << place);
        let values = plan.places().iter().map(value).chain(plan.features().iter().map(feature));
        let values = values.map(|value| SharedValue { value, saturated: false });
        SharedRead {
            to,
            values: values.take(READINGS_MAX).collect(),
            unfilled: unknown & !decided_by,
            owner: Owner::NotAsked,
        }
    }

    /// Sets the values of those of the file's aggregates that are kept here, of such features, and of the present amount in
    /// the base currency.
    pub fn fill(
        &self,
        plan: &SharedPlan,
        aggregates: &[Aggregate],
        base: &BaseCurrency,
        billed: Option<Money>,
        values: &mut Values<'_>,
    ) {
        let per_major = base.currency.minor_per_major() as f64;
        if let Some(minor) = billed.and_then(|billed| base.minor_of(billed)) {
            values.set_float(slot::AMOUNT_BASE, minor as f64 / per_major);
        }
        let declared = plan.places().iter().map(|place| {
            let slot = (CATALOG.len() + usize::from(*place)) as Slot;
            (slot, aggregates.get(usize::from(*place)).is_some_and(|kept| kept.measure.is_money()))
        });
        let features = plan.features().iter().map(|slot| (*slot, false));
        for ((slot, is_money), read) in declared.chain(features).zip(&self.values) {
            match read.value {
                // A whole number over a power of ten is the float that is nearest to the decimal, as a literal is.
                Some(minor) if is_money => values.set_float(slot, minor as f64 / per_major),
                Some(count) => values.set_int(slot, count),
                None => {}
            }
            if read.saturated {
                values.mark_saturated(slot);
            }
        }
    }
}

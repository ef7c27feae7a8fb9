//! A set of 64-bit hashes in 18 bits each that never says no of a member, and says maybe of 1 in 65,536 others.
//!
//! A binary fuse filter of three slots and 16-bit fingerprints (Graf and Lemire, "Binary Fuse Filters: Fast and Smaller
//! Than Xor Filters", 2022): a member's fingerprint is the exclusive or of three slots. Written here rather than taken
//! from a crate because slots are stored in key files, so that the function that finds them is a file format.

/// Attempts with another seed before a filter is given up; each fails with a chance far below one in ten.
const SEEDS_MAX: u64 = 1_000;

/// What can be said of members without looking them up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub(super) seed: u64,
    /// Slots of one segment, a power of two.
    pub(super) segment_slots: u32,
    pub(super) slots: Box<[u16]>,
    /// What is said of everything where there are no slots.
    everything: bool,
}

impl Filter {
    /// A filter of these hashes, which are sorted and rid of repetitions here.
    pub fn new(hashes: &mut Vec<u64>) -> Filter {
        hashes.sort_unstable();
        hashes.dedup();
        if hashes.is_empty() {
            return Filter::from_parts(0, 0, Box::default());
        }
        let (segment_slots, slots) = shape(hashes.len());
        // A filter without slots knows nothing: it answers maybe, which is slow and never wrong.
        (0..SEEDS_MAX)
            .find_map(|seed| build(hashes, seed, segment_slots, slots))
            .unwrap_or_else(Filter::of_everything)
    }

    /// A filter that says maybe of everything: for a set that cannot be read.
    pub fn of_everything() -> Filter {
        Filter { seed: 0, segment_slots: 0, slots: Box::default(), everything: true }
    }

    /// What was stored; the caller has checked that it is whole.
    pub(super) fn from_parts(seed: u64, segment_slots: u32, slots: Box<[u16]>) -> Filter {
        Filter { seed, segment_slots, slots, everything: false }
    }

    /// Whether stored parts can belong together.
    pub(super) fn is_shape(segment_slots: u32, slots: u64) -> bool {
        match slots {
            0 => segment_slots == 0,
            _ => {
                segment_slots.is_power_of_two()
                    && slots.is_multiple_of(u64::from(segment_slots))
                    && slots > 2 * u64::from(segment_slots)
                    && slots <= u64::from(u32::MAX)
            }
        }
    }

    /// Whether `hash` may be a member. Never false for one.
    #[inline]
    pub fn may_have(&self, hash: u64) -> bool {
        if self.slots.is_empty() {
            return self.everything;
        }
        let mixed = mix(hash.wrapping_add(self.seed));
        let [a, b, c] = self.places(mixed);
        fingerprint(mixed) ^ self.slots[a] ^ self.slots[b] ^ self.slots[c] == 0
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.slots.len() * 2
    }

    #[inline]
    fn places(&self, mixed: u64) -> [usize; 3] {
        places(mixed, self.segment_slots, self.slots.len() as u32)
    }
}

/// The length of a segment and of the whole, after the paper's section 3.
fn shape(members: usize) -> (u32, u32) {
    let size = members as f64;
    let exponent = (size.ln() / 3.33_f64.ln() + 2.25).floor().clamp(2.0, 18.0) as u32;
    let segment_slots = 1_u32 << exponent;
    let factor = if members > 1 { (0.875 + 0.25 * 1e6_f64.ln() / size.ln()).max(1.125) } else { 2.0 };
    let capacity = (size * factor).round() as u32;
    let segments = capacity.div_ceil(segment_slots).max(3);
    (segment_slots, segments * segment_slots)
}

/// Three slots in three segments that follow each other.
#[inline]
fn places(mixed: u64, segment_slots: u32, slots: u32) -> [usize; 3] {
    let first = (u128::from(mixed) * u128::from(slots - 2 * segment_slots)) >> 64;
    let (first, mask) = (first as u32, segment_slots - 1);
    let second = (first + segment_slots) ^ ((mixed >> 18) as u32 & mask);
    let third = (first + 2 * segment_slots) ^ (mixed as u32 & mask);
    [first as usize, second as usize, third as usize]
}

#[inline]
fn fingerprint(mixed: u64) -> u16 {
    (mixed ^ (mixed >> 32)) as u16
}

/// The finaliser of MurmurHash3.
#[inline]
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Peels members off slots that they have for themselves until none is left, then fills the slots in reverse. `None`
/// where some members cannot be told apart in this way under this seed.
fn build(hashes: &[u64], seed: u64, segment_slots: u32, slots: u32) -> Option<Filter> {
    /// Members of one slot: how many, and the exclusive or of them and of which of their three places this is.
    #[derive(Clone, Copy, Default)]
    struct Load {
        count: u32,
        which: u32,
        mixed: u64,
    }
    let mut loads = vec![Load::default(); slots as usize];
    for hash in hashes {
        let mixed = mix(hash.wrapping_add(seed));
        for (which, place) in (0..).zip(places(mixed, segment_slots, slots)) {
            let load = &mut loads[place];
            load.count += 1;
            load.which ^= which;
            load.mixed ^= mixed;
        }
    }
    let mut alone: Vec<usize> = (0..loads.len()).filter(|place| loads[*place].count == 1).collect();
    let mut peeled = Vec::with_capacity(hashes.len());
    while let Some(place) = alone.pop() {
        let Load { count: 1, which: own, mixed } = loads[place] else { continue };
        peeled.push((mixed, own));
        for (which, place) in (0..).zip(places(mixed, segment_slots, slots)) {
            let load = &mut loads[place];
            load.count -= 1;
            load.which ^= which;
            load.mixed ^= mixed;
            if load.count == 1 && which != own {
                alone.push(place);
            }
        }
    }
    if peeled.len() < hashes.len() {
        return None;
    }
    let mut filled = vec![0_u16; slots as usize].into_boxed_slice();
    for (mixed, own) in peeled.into_iter().rev() {
        let at = places(mixed, segment_slots, slots);
        let others = at.iter().zip(0..).filter(|(_, which)| *which != own);
        filled[at[own as usize]] = others.fold(fingerprint(mixed), |fill, (place, _)| fill ^ filled[*place]);
    }
    Some(Filter::from_parts(seed, segment_slots, filled))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_member_is_never_denied_whatever_the_size() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for members in (0..300).chain([1_000, 5_000, 100_000]) {
            let hashes: Vec<u64> = (0..members).map(|_| rng.random()).collect();
            let filter = Filter::new(&mut hashes.clone());
            assert!(!filter.everything, "{members} members found no seed");
            assert!(hashes.iter().all(|hash| filter.may_have(*hash)), "{members} members");
            assert!(Filter::is_shape(filter.segment_slots, filter.slots.len() as u64), "{members} members");
        }
    }

    #[test]
    fn members_given_twice_are_one() {
        let filter = Filter::new(&mut vec![7; 50]);
        assert!(filter.may_have(7) && !filter.everything);
    }

    #[test]
    fn few_others_are_said_to_be_members() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let filter = Filter::new(&mut (0..100_000).map(|_| rng.random()).collect());
        let bits = filter.bytes() as f64 * 8.0 / 100_000.0;
        assert!(bits < 20.0, "{bits} bits a member");
        let wrong = (0..2_000_000).filter(|_| filter.may_have(rng.random())).count();
        // Expected are 30.5; 75 would be eight standard deviations off.
        assert!(wrong < 75, "{wrong} of two million");
        assert!(!Filter::new(&mut Vec::new()).may_have(1));
        assert!(Filter::of_everything().may_have(1));
    }
}

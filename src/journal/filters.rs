//! The filters of all key files together: what every new key is held against, so the cost is counted in cache misses.
//!
//! A [`Filter`] costs three of them. Sixteen files whose segments are all closed share a [`Sieve`] in front of their
//! filters, which costs one and lets 1 to 2 in 100 strangers through: of 150 files a stranger then meets 9 sieves and
//! 6 filters instead of 150 filters.

use std::sync::Arc;

use super::filter::Filter;

/// Segments that share a sieve: those whose numbers divided by this are the same.
pub const SIEVE_SEGMENTS: u64 = 16;

/// Bits of a sieve for each member.
const SIEVE_BITS: usize = 10;
/// Bits that a member sets in its line.
const SIEVE_BITS_SET: u32 = 5;

/// One cache line.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Line([u64; 8]);

/// A Bloom filter whose bits for one member stand in one cache line.
pub struct Sieve(Box<[Line]>);

impl Sieve {
    /// An empty sieve for so many members.
    pub fn new(members: u64) -> Sieve {
        let lines = (members as usize * SIEVE_BITS).div_ceil(512).max(1);
        Sieve(vec![Line::default(); lines].into_boxed_slice())
    }

    pub fn insert(&mut self, hash: u64) {
        let (line, bits) = self.place(hash);
        let line = &mut self.0[line];
        bits.for_each(|bit| line.0[bit / 64] |= 1 << (bit % 64));
    }

    /// Whether `hash` may be a member. Never false for one.
    #[inline]
    pub fn may_have(&self, hash: u64) -> bool {
        let (line, mut bits) = self.place(hash);
        let line = &self.0[line];
        bits.all(|bit| line.0[bit / 64] >> (bit % 64) & 1 == 1)
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.0.len() * size_of::<Line>()
    }

    /// The line of a hash, from its upper bits, and its bits in it, nine of the lower ones each.
    #[inline]
    fn place(&self, hash: u64) -> (usize, impl Iterator<Item = usize> + use<>) {
        let line = (u128::from(hash) * self.0.len() as u128) >> 64;
        // The lower bits are stirred, because the filters behind make their slots of the same hash.
        let stirred = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (line as usize, (0..SIEVE_BITS_SET).map(move |which| (stirred >> (9 * which + 19)) as usize & 511))
    }
}

/// The filters of files whose segments belong to one sieve.
pub struct FilterGroup {
    /// Where it is there, it has the members of every filter.
    pub sieve: Option<Arc<Sieve>>,
    pub filters: Vec<Arc<Filter>>,
}

/// The filters of all key files.
#[derive(Default)]
pub struct Filters(pub Vec<FilterGroup>);

impl Filters {
    /// Whether a key file may have this hash. Never false where one has.
    #[inline]
    pub fn may_have(&self, hash: u64) -> bool {
        self.0.iter().any(|group| {
            group.sieve.as_ref().is_none_or(|sieve| sieve.may_have(hash))
                && group.filters.iter().any(|filter| filter.may_have(hash))
        })
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let of_group = |group: &FilterGroup| {
            let filters = group.filters.iter().map(|filter| filter.bytes()).sum::<usize>();
            filters + group.sieve.as_ref().map_or(0, |sieve| sieve.bytes())
        };
        self.0.iter().map(of_group).sum()
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_sieve_denies_no_member_and_stops_most_others() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        for members in [1, 40, 3_000, 200_000] {
            let hashes: Vec<u64> = (0..members).map(|_| rng.random()).collect();
            let mut sieve = Sieve::new(members);
            hashes.iter().for_each(|hash| sieve.insert(*hash));
            assert!(hashes.iter().all(|hash| sieve.may_have(*hash)), "{members} members");
            let passed = (0..100_000).filter(|_| sieve.may_have(rng.random())).count();
            assert!(passed < 2_500, "{passed} of 100,000 pass a sieve of {members}");
        }
    }

    #[test]
    fn groups_with_and_without_a_sieve_deny_no_member() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let sets: Vec<Vec<u64>> = (0..6).map(|_| (0..500).map(|_| rng.random()).collect()).collect();
        let group = |sets: &[Vec<u64>], sieved: bool| {
            let mut sieve = Sieve::new(sets.iter().map(|set| set.len() as u64).sum());
            sets.iter().flatten().for_each(|hash| sieve.insert(*hash));
            let filters = sets.iter().map(|set| Arc::new(Filter::new(&mut set.clone()))).collect();
            FilterGroup { sieve: sieved.then(|| Arc::new(sieve)), filters }
        };
        let filters = Filters(vec![group(&sets[..3], true), group(&sets[3..], false)]);
        assert!(sets.iter().flatten().all(|hash| filters.may_have(*hash)));
        let wrong = (0..100_000).filter(|_| filters.may_have(rng.random())).count();
        // Expected are 6 of 65,536, and of the first three one in fifty of that.
        assert!(wrong < 40, "{wrong}");
        assert!(!Filters::default().may_have(1));
    }
}

//! Counts different values without allocating: a short list compared one by one, which is what nearly every window
//! needs, and a hash table on the stack for the few that are larger.

use crate::limits::EVENTS_PER_KEY_MAX;

const SHORT: usize = 24;
/// At least half of the table stays empty, so that probing stays short.
const TABLE: usize = (2 * EVENTS_PER_KEY_MAX).next_power_of_two();

/// Number of different values among at most [`EVENTS_PER_KEY_MAX`]; 0 stands for none and is not counted.
pub fn count_distinct(values: impl Iterator<Item = u32> + Clone) -> usize {
    let mut seen = [0_u32; SHORT];
    let mut count = 0;
    for value in values.clone().filter(|value| *value != 0) {
        if seen[..count].contains(&value) {
            continue;
        }
        if count == SHORT {
            return count_in_table(values);
        }
        seen[count] = value;
        count += 1;
    }
    count
}

/// Open addressing with linear probing, the place given by Fibonacci hashing (Knuth, The Art of Computer
/// Programming, volume 3, section 6.4). Kept out of line for its 32 KiB of stack.
#[inline(never)]
fn count_in_table(values: impl Iterator<Item = u32>) -> usize {
    let mut table = [0_u32; TABLE];
    let mut count = 0;
    for value in values.take(EVENTS_PER_KEY_MAX).filter(|value| *value != 0) {
        let mut place = (value.wrapping_mul(0x9e37_79b9) >> (32 - TABLE.trailing_zeros())) as usize;
        while table[place] != 0 && table[place] != value {
            place = (place + 1) % TABLE;
        }
        count += usize::from(table[place] == 0);
        table[place] = value;
    }
    count
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn short_and_long_lists_agree_with_a_set() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for length in (0..60).chain([EVENTS_PER_KEY_MAX]) {
            for spread in [1, 5, 30, u32::MAX] {
                let values: Vec<u32> = (0..length).map(|_| rng.random_range(0..spread)).collect();
                let expected = values.iter().filter(|value| **value != 0).collect::<HashSet<_>>().len();
                assert_eq!(count_distinct(values.iter().copied()), expected, "{length} of {spread}");
            }
        }
    }
}

//! What a window remembers of one past authorisation.

use crate::types::{
    auth::{Country, Place},
    codes::{Channel, Decision, Kind},
    money::Currency,
    time::Timestamp,
};

/// One past authorisation attempt on an account. A repeat is not an event, nor is a balance inquiry.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub time: Timestamp,
    /// Journal sequence of its record; orders events of equal time.
    pub sequence: u64,
    /// Place of the card in its account.
    pub card: u8,
    pub kind: Kind,
    pub decision: Decision,
    /// Declined for want of credit alone: not a sign of fraud probing.
    pub declined_for_credit: bool,
    /// What was asked for, in minor units of `currency`.
    pub amount_minor: i64,
    /// The account's, or the base currency where accounts are crossed; `None` where the amount is not known, which is
    /// then 0.
    pub currency: Option<Currency>,
    pub channel: Option<Channel>,
    pub mcc: Option<u16>,
    pub country: Option<Country>,
    /// Fixed (unseeded) 64-bit hash of the merchant id.
    pub merchant: Option<u64>,
    /// Fixed 64-bit hash of the device id.
    pub device: Option<u64>,
    pub place: Option<Place>,
}

/// The fixed hash of an id: FNV-1a over words of eight bytes in place of bytes (Fowler, Noll, Vo; RFC 9923), with
/// the finaliser of MurmurHash3 (Appleby) so that every bit counts. It must never change: windows are rebuilt from
/// ids, and what they count must not depend on the machine or the release.
pub fn id_hash(id: &str) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325 ^ id.len() as u64;
    let mut take_in = |word: u64| {
        hash = (hash ^ word).wrapping_mul(PRIME);
        hash ^= hash >> 29;
    };
    let (words, rest) = id.as_bytes().as_chunks::<8>();
    words.iter().for_each(|word| take_in(u64::from_le_bytes(*word)));
    if !rest.is_empty() {
        take_in(rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn similar_ids_do_not_share_a_hash() {
        let mut seen = HashSet::new();
        for number in 0..20_000 {
            for id in [
                format!("M-{number}"),
                format!("merchant-with-a-long-name-{number:08}"),
                format!("{number:064}"),
            ] {
                let hash = id_hash(&id);
                assert!(seen.insert(hash), "{id}");
            }
        }
        assert_ne!(id_hash("ab"), id_hash("ab\0"));
    }

    #[test]
    fn the_hash_of_an_id_never_changes() {
        // Worked out by a second implementation, in Python.
        assert_eq!(id_hash("M-1009"), 0x16df_110f_48ea_379a);
        assert_eq!(id_hash("a-merchant-id-longer-than-eight"), 0x80ac_85d4_47ed_10c5);
    }
}

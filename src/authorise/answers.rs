//! Stage 1: has this key been seen before? An index from the keyed hash of client and key to the journal position
//! of its record; the answer itself is read back from the journal.
//!
//! A key is claimed under a short lock that is released before any account is locked; a claim that is dropped
//! without being settled (an error, a panic) leaves the index as it was. Keys of some age leave memory once a key file
//! has them ([`Answers::demote`]); what is left here of those is filters that say whether a file may have a key.
//! Nothing is forgotten before its time: at capacity new keys are refused.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::{
    journal::{Filters, filter_hash},
    types::{
        bytes::{Fields, Misread},
        ids::RequestKey,
    },
};

/// A power of two: many, so that a shard that grows or is swept stands still for some thousand keys only.
const SHARDS: usize = 4096;
/// Keys that leave memory under one lock.
const DEMOTED_AT_ONCE: usize = 1_024;
/// The account of an answer given without one.
pub const NO_ACCOUNT: u32 = u32::MAX;

/// 128 bits of SipHash-1-3 over client and key, under a secret of this journal: two keys never collide by design of
/// their sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyHash([u32; 4]);

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0[0]) << 32 | u64::from(self.0[1]));
    }
}

impl KeyHash {
    pub fn from_bits(bits: u128) -> KeyHash {
        KeyHash([bits as u32, (bits >> 32) as u32, (bits >> 64) as u32, (bits >> 96) as u32])
    }

    /// As a number: key files are sorted by it.
    pub fn bits(self) -> u128 {
        let [a, b, c, d] = self.0.map(u128::from);
        a | b << 32 | c << 64 | d << 96
    }

    /// From the uppermost bits, so that keys in the order of their bits come shard by shard.
    fn shard(self) -> usize {
        (self.0[3] >> (32 - SHARDS.trailing_zeros())) as usize
    }
}

/// Passes the bits of a [`KeyHash`] through: they are random already.
#[derive(Default)]
struct Bits(u64);

impl Hasher for Bits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }

    fn write(&mut self, _: &[u8]) {
        debug_assert!(false, "only key hashes are hashed here");
    }
}

/// What stands under a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum What {
    /// An authorisation's own record.
    Authorisation = 1,
    /// The record of any other call.
    Other = 2,
    /// The record of a reversal that came before this authorisation.
    ReversedBefore = 3,
    /// The record that voided the authorisation.
    Voided = 4,
    /// An authorisation's own record, whose answer somebody got from it or reversed: it can no longer be voided.
    /// Known in memory only; after a restart nobody waits for an answer.
    Answered = 5,
}

impl What {
    /// From its number, as files have it.
    pub fn from_number(number: u16) -> Option<What> {
        Some(match number {
            1 => What::Authorisation,
            2 => What::Other,
            3 => What::ReversedBefore,
            4 => What::Voided,
            5 => What::Answered,
            _ => return None,
        })
    }
}

/// What is remembered of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remembered {
    pub what: What,
    /// Of the record that answers a repeat.
    pub position: u64,
    /// The account's place in the store, or [`NO_ACCOUNT`].
    pub account: u32,
}

impl Remembered {
    /// Whether the record is that of the authorisation itself.
    pub fn is_authorisation(&self) -> bool {
        matches!(self.what, What::Authorisation | What::Answered)
    }
}

/// A [`Remembered`], or a key in flight, in twelve bytes: position 48 bits, kind 16, account 32.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Packed([u32; 3]);

impl Packed {
    const IN_FLIGHT: Packed = Packed([0; 3]);

    fn new(remembered: Remembered) -> Packed {
        let Remembered { what, position, account } = remembered;
        Packed([position as u32, (position >> 32) as u32 & 0xffff | (what as u32) << 16, account])
    }

    fn get(self) -> Option<Remembered> {
        let what = What::from_number((self.0[1] >> 16) as u16)?;
        let position = u64::from(self.0[1] & 0xffff) << 32 | u64::from(self.0[0]);
        Some(Remembered { what, position, account: self.0[2] })
    }
}

type Shard = HashMap<KeyHash, Packed, BuildHasherDefault<Bits>>;

/// The index of answers.
pub struct Answers {
    shards: Box<[Mutex<Shard>]>,
    /// Of the key files. A file's filter stands here before the first of its keys leaves memory.
    older: ArcSwap<Filters>,
    secret: (u64, u64),
    capacity: usize,
    count: AtomicUsize,
}

/// What claiming a key came to.
pub enum Claimed<'a> {
    /// Never seen: the caller decides and settles.
    Fresh(Claim<'a>),
    /// Its reversal came first: the caller declines and settles.
    ReversedBefore(Claim<'a>, Remembered),
    /// Seen before.
    Known(Remembered),
    /// Another thread is deciding it at this moment.
    Busy,
    /// Not in memory, and a key file may have it. Whoever claimed it looks it up and settles it as it was found, or
    /// has proved it fresh.
    Older(Claim<'a>),
    /// No room for one more key.
    Full,
}

/// What looking at a key found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stands {
    Nothing,
    /// Nothing in memory; a key file may have it.
    PerhapsOlder,
    /// Somebody is deciding it at this moment.
    InFlight,
    Known(Remembered),
}

impl Stands {
    /// The record, where one stands in memory.
    pub fn known(self) -> Option<Remembered> {
        match self {
            Stands::Known(found) => Some(found),
            _ => None,
        }
    }
}

/// What a key file has under a key: enough to tell whether memory has the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OnFile {
    pub key: KeyHash,
    pub what: What,
    pub position: u64,
}

impl Answers {
    /// An index for at most `capacity` keys. The secret should be random.
    pub fn new(capacity: usize, secret: (u64, u64)) -> Answers {
        Answers {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            older: ArcSwap::default(),
            secret,
            capacity,
            count: AtomicUsize::new(0),
        }
    }

    pub fn hash(&self, client: u32, key: &RequestKey) -> KeyHash {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(&client.to_le_bytes());
        hasher.write(key.as_str().as_bytes());
        KeyHash::from_bits(hasher.finish128().as_u128())
    }

    /// Number of keys remembered or in flight.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether there are more keys than there may be.
    pub fn is_over_capacity(&self) -> bool {
        self.len() > self.capacity
    }

    /// These are the filters of the key files from now on.
    pub fn set_older(&self, filters: Filters) {
        self.older.store(Arc::new(filters));
    }

    /// The filters of the key files.
    pub fn older(&self) -> Arc<Filters> {
        self.older.load_full()
    }

    /// Claims a key for whoever decides it.
    pub fn claim(&self, key: KeyHash) -> Claimed<'_> {
        let mut shard = self.shards[key.shard()].lock();
        match shard.entry(key) {
            Entry::Occupied(mut entry) => {
                return match entry.get().get() {
                    None => Claimed::Busy,
                    Some(found) if found.what == What::ReversedBefore => {
                        entry.insert(Packed::IN_FLIGHT);
                        Claimed::ReversedBefore(Claim { answers: self, key, before: Some(found) }, found)
                    }
                    Some(found) => Claimed::Known(found),
                };
            }
            Entry::Vacant(entry) => {
                entry.insert(Packed::IN_FLIGHT);
            }
        }
        drop(shard);
        let is_full = self.count.fetch_add(1, Ordering::Relaxed) >= self.capacity;
        let claim = Claim { answers: self, key, before: None };
        // Asked after memory and outside its lock: a key that has just left memory has its filter here already.
        match self.may_be_older(key) {
            true => Claimed::Older(claim),
            false if is_full => Claimed::Full,
            false => Claimed::Fresh(claim),
        }
    }

    fn may_be_older(&self, key: KeyHash) -> bool {
        self.older.load().may_have(filter_hash(key.bits()))
    }

    /// Claims a key again that stands as `found`, to put something else in its place; `None` where it no longer
    /// stands so.
    pub fn reclaim(&self, key: KeyHash, found: Remembered) -> Option<Claim<'_>> {
        let mut shard = self.shards[key.shard()].lock();
        let entry = shard.get_mut(&key).filter(|entry| entry.get() == Some(found))?;
        *entry = Packed::IN_FLIGHT;
        Some(Claim { answers: self, key, before: Some(found) })
    }

    /// Says that an authorisation's answer is about to be handed over, so that it can no longer be voided. False where
    /// it no longer stands as `found`: then what stands now must be looked at.
    pub fn hand_over(&self, key: KeyHash, found: Remembered) -> bool {
        let mut shard = self.shards[key.shard()].lock();
        let Some(entry) = shard.get_mut(&key) else { return false };
        let answered = Packed::new(Remembered { what: What::Answered, ..found });
        if *entry == Packed::new(found) {
            *entry = answered;
        }
        *entry == answered
    }

    /// What stands under a key.
    pub fn lookup(&self, key: KeyHash) -> Stands {
        let in_memory = self.shards[key.shard()].lock().get(&key).map(|packed| packed.get());
        match in_memory {
            Some(Some(found)) => Stands::Known(found),
            Some(None) => Stands::InFlight,
            None if self.may_be_older(key) => Stands::PerhapsOlder,
            None => Stands::Nothing,
        }
    }

    /// Remembers a key during recovery, whatever stood under it.
    pub fn remember(&self, key: KeyHash, remembered: Remembered) {
        if self.shards[key.shard()].lock().insert(key, Packed::new(remembered)).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets a key during recovery, because a key file has it, and newer.
    pub fn leave_to_file(&self, key: KeyHash) {
        if self.shards[key.shard()].lock().remove(&key).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets keys leave memory that stand there exactly as a key file has them; `on_file` is in the order of their bits.
    /// One whose answer was handed over leaves only where `is_noted` says that this is noted elsewhere; the positions
    /// of the others of that kind are returned.
    pub fn demote(&self, on_file: &[OnFile], is_noted: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut to_note = Vec::new();
        for same_shard in on_file.chunk_by(|a, b| a.key.shard() == b.key.shard()) {
            for few in same_shard.chunks(DEMOTED_AT_ONCE) {
                let mut shard = self.shards[few[0].key.shard()].lock();
                let before = shard.len();
                for OnFile { key, what, position } in few {
                    let Some(found) = shard.get(key).and_then(|packed| packed.get()) else { continue };
                    if found.position != *position {
                        continue;
                    }
                    if found.what == What::Answered && *what == What::Authorisation {
                        match is_noted(*position) {
                            true => shard.remove(key),
                            false => {
                                to_note.push(*position);
                                None
                            }
                        };
                    } else if found.what == *what {
                        shard.remove(key);
                    }
                }
                self.count.fetch_sub(before - shard.len(), Ordering::Relaxed);
                // What a shard once had room for is given back, so that memory follows the number of keys.
                if shard.capacity() > 4 * shard.len().max(64) {
                    shard.shrink_to_fit();
                }
            }
        }
        to_note
    }

    /// Forgets a key whose record stands before `position`.
    pub fn forget_if_before(&self, key: KeyHash, position: u64) {
        let mut shard = self.shards[key.shard()].lock();
        let is_before =
            shard.get(&key).and_then(|packed| packed.get()).is_some_and(|found| found.position < position);
        if is_before {
            shard.remove(&key);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets the keys whose record stands before `position`: those past their retention.
    pub fn forget_before(&self, position: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let before = shard.len();
            shard.retain(|_, packed| packed.get().is_none_or(|found| found.position >= position));
            self.count.fetch_sub(before - shard.len(), Ordering::Relaxed);
        }
    }
}

impl Answers {
    /// Locks that the index is divided into, each with a part of the keys.
    pub const PARTS: usize = SHARDS;
    /// Bytes of one stored answer: hash of the key 16 | position, kind and account as [`Packed`], 12; little-endian.
    const STORED_BYTES: usize = 28;

    /// Makes room for `keys` in all.
    pub fn reserve(&self, keys: usize) {
        self.shards.iter().for_each(|shard| shard.lock().reserve(keys.div_ceil(SHARDS)));
    }

    /// Appends the answers of one part to `out`, and to `in_flight` the keys that somebody is deciding at this moment:
    /// they must be looked at again, for the record of one that is settled late may be an old one.
    pub fn encode_part(&self, part: usize, out: &mut Vec<u8>, in_flight: &mut Vec<KeyHash>) {
        let shard = self.shards[part].lock();
        out.reserve(shard.len() * Self::STORED_BYTES);
        for (key, packed) in shard.iter() {
            match packed.get() {
                Some(_) => put_stored(*key, *packed, out),
                None => in_flight.push(*key),
            }
        }
    }

    /// Appends the answer under one key, if there is one. False while it is in flight.
    pub fn encode_key(&self, key: KeyHash, out: &mut Vec<u8>) -> bool {
        match self.shards[key.shard()].lock().get(&key) {
            None => true,
            Some(packed) if packed.get().is_none() => false,
            Some(packed) => {
                put_stored(key, *packed, out);
                true
            }
        }
    }

    /// Remembers what was appended; all of `bytes` must be it.
    ///
    /// # Errors
    /// Where the bytes are no such answers.
    pub fn decode(&self, bytes: &[u8]) -> Result<(), Misread> {
        let mut fields = Fields::new(bytes);
        let mut fresh = 0;
        // The answers of one part stand together, so that its lock is taken once for many.
        let mut locked = None;
        while fields.end().is_err() {
            let mut words = [0; 7];
            for word in &mut words {
                *word = fields.u32()?;
            }
            let [a, b, c, d, low, high, account] = words;
            let (key, packed) = (KeyHash([a, b, c, d]), Packed([low, high, account]));
            let Some(found) = packed.get() else { return Err(fields.misread("not an answer")) };
            // Who was given an answer is known in memory only.
            let found = match found.what {
                What::Answered => Remembered { what: What::Authorisation, ..found },
                _ => found,
            };
            let (_, shard) = match locked.take() {
                Some((part, shard)) if part == key.shard() => locked.insert((part, shard)),
                other => {
                    drop(other);
                    locked.insert((key.shard(), self.shards[key.shard()].lock()))
                }
            };
            fresh += usize::from(shard.insert(key, Packed::new(found)).is_none());
        }
        self.count.fetch_add(fresh, Ordering::Relaxed);
        Ok(())
    }
}

fn put_stored(key: KeyHash, packed: Packed, out: &mut Vec<u8>) {
    key.0.iter().chain(&packed.0).for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

/// The right to say what a key stands for. Dropped unsettled, the key stands as it did before.
pub struct Claim<'a> {
    answers: &'a Answers,
    key: KeyHash,
    before: Option<Remembered>,
}

impl Claim<'_> {
    pub fn settle(self, remembered: Remembered) {
        // The key stands there since it was claimed; inserting it would make room for another first.
        if let Some(entry) = self.answers.shards[self.key.shard()].lock().get_mut(&self.key) {
            *entry = Packed::new(remembered);
        }
        std::mem::forget(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut shard = self.answers.shards[self.key.shard()].lock();
        match self.before {
            Some(before) => {
                shard.insert(self.key, Packed::new(before));
            }
            None => {
                shard.remove(&self.key);
                self.answers.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Filter, FilterGroup};

    fn key(answers: &Answers, text: &str) -> KeyHash {
        answers.hash(0, &RequestKey::new(text).unwrap())
    }

    fn at(position: u64) -> Remembered {
        Remembered { what: What::Authorisation, position, account: 7 }
    }

    #[test]
    fn a_claim_that_is_dropped_leaves_the_key_as_it_was() {
        let answers = Answers::new(10, (1, 2));
        let k = key(&answers, "a");
        assert!(matches!(answers.claim(k), Claimed::Fresh(_)));
        assert_eq!(answers.lookup(k), Stands::Nothing);
        assert!(answers.is_empty());

        let reversed = Remembered { what: What::ReversedBefore, ..at(3) };
        answers.remember(k, reversed);
        assert!(matches!(answers.claim(k), Claimed::ReversedBefore(_, found) if found == reversed));
        assert_eq!(answers.lookup(k), Stands::Known(reversed));
    }

    #[test]
    fn a_key_in_flight_is_busy_and_a_settled_one_known() {
        let answers = Answers::new(10, (1, 2));
        let k = key(&answers, "a");
        let Claimed::Fresh(claim) = answers.claim(k) else { panic!("the key is new") };
        assert!(matches!(answers.claim(k), Claimed::Busy));
        assert_eq!(answers.lookup(k), Stands::InFlight);
        claim.settle(at(u64::from(u32::MAX) + 5));
        assert!(matches!(answers.claim(k), Claimed::Known(found) if found == at(u64::from(u32::MAX) + 5)));
        assert!(answers.reclaim(k, at(1)).is_none());
        answers.reclaim(k, at(u64::from(u32::MAX) + 5)).unwrap().settle(at(9));
        assert!(matches!(answers.claim(k), Claimed::Known(found) if found == at(9)));
    }

    #[test]
    fn at_capacity_new_keys_are_refused_and_old_ones_still_known() {
        let answers = Answers::new(2, (1, 2));
        for (position, text) in ["a", "b"].into_iter().enumerate() {
            let Claimed::Fresh(claim) = answers.claim(key(&answers, text)) else { panic!("the key is new") };
            claim.settle(at(position as u64 + 1));
        }
        assert!(matches!(answers.claim(key(&answers, "c")), Claimed::Full));
        assert!(matches!(answers.claim(key(&answers, "a")), Claimed::Known(_)));
        answers.forget_before(2);
        assert!(matches!(answers.claim(key(&answers, "c")), Claimed::Fresh(_)));
        assert_eq!(answers.lookup(key(&answers, "a")), Stands::Nothing);
    }

    #[test]
    fn stored_answers_come_back_and_keys_in_flight_are_named() {
        let answers = Answers::new(10_000, (1, 2));
        for n in 0..2_000 {
            answers.remember(key(&answers, &n.to_string()), at(n + 1));
        }
        let handed = key(&answers, "7");
        assert!(answers.hand_over(handed, at(8)));
        let busy = key(&answers, "busy");
        let Claimed::Fresh(claim) = answers.claim(busy) else { panic!("the key is new") };
        let (mut bytes, mut in_flight) = (Vec::new(), Vec::new());
        (0..Answers::PARTS).for_each(|part| answers.encode_part(part, &mut bytes, &mut in_flight));
        assert_eq!(in_flight, [busy]);
        assert!(!answers.encode_key(busy, &mut bytes));
        claim.settle(at(77));
        assert!(answers.encode_key(busy, &mut bytes));
        assert!(answers.encode_key(key(&answers, "never"), &mut bytes));

        let again = Answers::new(10_000, (1, 2));
        again.reserve(2_001);
        again.decode(&bytes).unwrap();
        assert_eq!(again.len(), 2_001);
        for n in 0..2_000 {
            assert_eq!(again.lookup(key(&again, &n.to_string())), Stands::Known(at(n + 1)));
        }
        assert_eq!(again.lookup(busy), Stands::Known(at(77)));
        for end in 1..Answers::STORED_BYTES {
            assert!(Answers::new(10, (1, 2)).decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn the_same_key_of_two_clients_is_two_keys() {
        let answers = Answers::new(2, (1, 2));
        let k = RequestKey::new("a").unwrap();
        assert_ne!(answers.hash(0, &k), answers.hash(1, &k));
    }

    #[test]
    fn a_key_leaves_memory_only_as_its_file_has_it_and_never_in_flight() {
        let answers = Answers::new(10, (1, 2));
        let on_file = |text: &str, what, position| OnFile { key: key(&answers, text), what, position };
        let mut file = vec![
            on_file("plain", What::Authorisation, 1),
            on_file("voided since", What::Authorisation, 2),
            on_file("tombstone", What::ReversedBefore, 3),
            on_file("in flight", What::ReversedBefore, 4),
            on_file("answered", What::Authorisation, 5),
            on_file("never in memory", What::Other, 6),
        ];
        file.sort_unstable_by_key(|entry| entry.key.bits());
        for OnFile { key: k, what, position } in &file[..] {
            if *position < 6 {
                answers.remember(*k, Remembered { what: *what, position: *position, account: 1 });
            }
        }
        let voided = Remembered { what: What::Voided, ..at(9) };
        answers.remember(key(&answers, "voided since"), voided);
        let Claimed::ReversedBefore(claim, _) = answers.claim(key(&answers, "in flight")) else {
            panic!("it is")
        };
        assert!(answers.hand_over(key(&answers, "answered"), Remembered { account: 1, ..at(5) }));

        assert_eq!(answers.demote(&file, |_| false), [5], "its answer is not noted yet");
        let left = ["voided since", "in flight", "answered"];
        assert_eq!(answers.len(), left.len());
        assert_eq!(answers.lookup(key(&answers, "voided since")), Stands::Known(voided));
        assert_eq!(answers.lookup(key(&answers, "in flight")), Stands::InFlight);
        drop(claim);
        assert!(answers.demote(&file, |position| position == 5).is_empty());
        assert_eq!(answers.lookup(key(&answers, "voided since")), Stands::Known(voided));
        assert_eq!(answers.len(), 1);
    }

    #[test]
    fn a_key_that_a_file_may_have_is_nobody_s_until_it_is_looked_up() {
        let answers = Answers::new(1, (1, 2));
        let everything = FilterGroup { sieve: None, filters: vec![Arc::new(Filter::of_everything())] };
        answers.set_older(Filters(vec![everything]));
        let k = key(&answers, "a");
        assert_eq!(answers.lookup(k), Stands::PerhapsOlder);
        let Claimed::Older(claim) = answers.claim(k) else { panic!("a file may have it") };
        assert!(matches!(answers.claim(k), Claimed::Busy));
        drop(claim);
        assert!(answers.is_empty(), "an interrupted look-up leaves nothing");
        let Claimed::Older(claim) = answers.claim(k) else { panic!("a file may have it") };
        claim.settle(at(7));
        assert!(matches!(answers.claim(k), Claimed::Known(found) if found == at(7)));
        // At capacity a repeat of an old key still finds its answer.
        assert!(matches!(answers.claim(key(&answers, "b")), Claimed::Older(_)));
        answers.set_older(Filters::default());
        assert!(matches!(answers.claim(key(&answers, "b")), Claimed::Full));
        assert_eq!(answers.len(), 1);
    }
}

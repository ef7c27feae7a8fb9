//! The records between the decisions and the disk: bounded, lock-free, in the order of their sequences.
//!
//! A [`Claim`] is the permit for one record and owns a recycled buffer. Its sequence decides its entry,
//! `(sequence − 1) mod slots`; the one [`Consumer`] takes entries in that order. Claims come back when their records
//! are durable, not when they were copied out: so at most `slots` records are ever taken and not durable, and that one
//! number bounds the buffers, the queue and the replies that wait. It also keeps an entry from being taken twice,
//! because sequence `s` can only be taken when `s − slots` has come back.
//!
//! Free buffers form a stack, so that a quiet engine uses the same few over and over and 16,384 of them cost memory
//! only when that many records really waited at once. This is the one file of the journal with `unsafe` in it.

use std::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering, fence},
    },
};

use crate::limits::RECORD_BYTES_MAX;

/// Most slots that a ring can have: a buffer's number has 16 bits in the head of the free stack.
pub(super) const SLOTS_MAX: usize = 1 << 16;

/// Set in an entry whose claim was dropped after it had taken its sequence.
const ABANDONED: u32 = 1 << 31;

pub(super) struct Ring {
    entries: Box<[Entry]>,
    /// Buffers of free claims and of published entries; empty while a claim owns the buffer.
    buffers: Box<[UnsafeCell<Vec<u8>>]>,
    /// For a free buffer, the number of the free one below it.
    below: Box<[AtomicU32]>,
    free: AtomicU64,
    next_sequence: AtomicU64,
}

struct Entry {
    /// The sequence published here last.
    published: AtomicU64,
    /// Number of its buffer, perhaps with [`ABANDONED`].
    buffer: AtomicU32,
    /// When its claim was given, in microseconds of the journal's own time.
    reserved_us: AtomicU64,
    /// The sequence that the time above belongs to.
    reserved_for: AtomicU64,
}

// SAFETY: a buffer's cell is touched only by its owner. Ownership starts on the free stack, goes to the claim that
// pops its number (acquire, after the releasing push), from a claim to the consumer by `published` (release, then
// acquire), and from the consumer back to the stack. Numbers are never copied, so there is one owner at a time.
unsafe impl Sync for Ring {}

/// The permit for one record. Dropping it gives it back, or leaves an abandoned entry where it has a sequence.
pub(super) struct Claim<'a> {
    ring: &'a Ring,
    number: u32,
    sequence: u64,
    reserved_us: u64,
    buffer: Vec<u8>,
    published: bool,
}

/// The one reader of a ring.
pub(super) struct Consumer {
    ring: Arc<Ring>,
    /// The sequence that comes next.
    next: u64,
    /// Everything before this has gone back to the stack.
    unreleased: u64,
}

/// What stands at a sequence.
pub(super) enum Taken<'a> {
    Record(&'a [u8]),
    Abandoned,
}

/// The head of the free stack in one word: number of the top buffer (16 bits), how many are free (17 bits), and a
/// count of changes (31 bits) that keeps a slow thread from taking a stale head for the present one.
#[derive(Clone, Copy)]
struct Head(u64);

impl Head {
    fn new(top: u32, free: u32, changes: u64) -> Head {
        Head(u64::from(top) & 0xFFFF | u64::from(free) << 16 | changes << 33)
    }

    fn top(self) -> u32 {
        (self.0 & 0xFFFF) as u32
    }

    fn free(self) -> u32 {
        (self.0 >> 16 & 0x1_FFFF) as u32
    }

    /// The next head, with another top and number of free buffers. The shift drops the change count's overflow.
    fn then(self, top: u32, free: u32) -> Head {
        Head::new(top, free, (self.0 >> 33) + 1)
    }
}

impl Ring {
    /// A ring of `slots` (a power of two, at most [`SLOTS_MAX`]) whose first record gets `next_sequence`.
    pub(super) fn new(slots: usize, next_sequence: u64) -> (Arc<Ring>, Consumer) {
        assert!(slots.is_power_of_two() && slots <= SLOTS_MAX && next_sequence > 0);
        let entry = |_| Entry {
            published: AtomicU64::new(0),
            buffer: AtomicU32::new(0),
            reserved_us: AtomicU64::new(0),
            reserved_for: AtomicU64::new(0),
        };
        let ring = Arc::new(Ring {
            entries: (0..slots).map(entry).collect(),
            buffers: (0..slots).map(|_| UnsafeCell::new(Vec::new())).collect(),
            below: (0..slots as u32).map(|number| AtomicU32::new(number.saturating_sub(1))).collect(),
            free: AtomicU64::new(Head::new(slots as u32 - 1, slots as u32, 0).0),
            next_sequence: AtomicU64::new(next_sequence),
        });
        (Arc::clone(&ring), Consumer { ring, next: next_sequence, unreleased: next_sequence })
    }

    /// A permit, if more than `kept_back` are free.
    pub(super) fn claim(&self, kept_back: usize, now_us: u64) -> Option<Claim<'_>> {
        let mut head = Head(self.free.load(Ordering::Acquire));
        loop {
            if head.free() as usize <= kept_back {
                return None;
            }
            let below = self.below[head.top() as usize].load(Ordering::Relaxed);
            let next = head.then(below, head.free() - 1);
            match self.free.compare_exchange_weak(head.0, next.0, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => head = Head(now),
            }
        }
        let number = head.top();
        // SAFETY: this number has just been popped, so this thread owns its cell.
        let mut buffer = std::mem::take(unsafe { &mut *self.buffers[number as usize].get() });
        if buffer.capacity() < RECORD_BYTES_MAX {
            // Only the first time that so many records wait at once.
            buffer.reserve_exact(RECORD_BYTES_MAX);
        }
        Some(Claim { ring: self, number, sequence: 0, reserved_us: now_us, buffer, published: false })
    }

    /// The last sequence taken; one less than the first where none was.
    pub(super) fn taken(&self) -> u64 {
        self.next_sequence.load(Ordering::Acquire) - 1
    }

    /// When the claim of `sequence` was given, if it has been taken and not yet released.
    pub(super) fn reserved_us(&self, sequence: u64) -> Option<u64> {
        let entry = self.entry(sequence);
        let belongs = entry.reserved_for.load(Ordering::Acquire) == sequence;
        belongs.then(|| entry.reserved_us.load(Ordering::Relaxed))
    }

    fn entry(&self, sequence: u64) -> &Entry {
        &self.entries[(sequence - 1) as usize & (self.entries.len() - 1)]
    }

    /// Puts `count` buffers on the stack, already linked from `top` down to `bottom`.
    fn give_back(&self, top: u32, bottom: u32, count: u32) {
        let mut head = Head(self.free.load(Ordering::Relaxed));
        loop {
            self.below[bottom as usize].store(head.top(), Ordering::Relaxed);
            let next = head.then(top, head.free() + count);
            match self.free.compare_exchange_weak(head.0, next.0, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = Head(now),
            }
        }
    }
}

impl Claim<'_> {
    /// The next sequence, taken at the first call and repeated by later ones.
    pub(super) fn take_sequence(&mut self) -> u64 {
        if self.sequence == 0 {
            self.sequence = self.ring.next_sequence.fetch_add(1, Ordering::AcqRel);
            let entry = self.ring.entry(self.sequence);
            entry.reserved_us.store(self.reserved_us, Ordering::Relaxed);
            entry.reserved_for.store(self.sequence, Ordering::Release);
        }
        self.sequence
    }

    /// The payload, empty at first.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Hands the record to the consumer.
    pub(super) fn publish(&mut self) {
        self.take_sequence();
        self.hand_over(0);
    }

    /// Leaves an abandoned entry where a sequence was taken and not published; tells whether that was so.
    pub(super) fn abandon(&mut self) -> bool {
        let open = self.sequence != 0 && !self.published;
        if open {
            self.buffer.clear();
            self.hand_over(ABANDONED);
        }
        open
    }

    fn hand_over(&mut self, flag: u32) {
        self.put_buffer();
        let entry = self.ring.entry(self.sequence);
        entry.buffer.store(self.number | flag, Ordering::Relaxed);
        entry.published.store(self.sequence, Ordering::Release);
        self.published = true;
        // Between this store and the caller's look at the consumer's sleep; see `Bell`.
        fence(Ordering::SeqCst);
    }

    fn put_buffer(&mut self) {
        // SAFETY: the claim owns its number, and with it the cell, until it hands the number on.
        unsafe { *self.ring.buffers[self.number as usize].get() = std::mem::take(&mut self.buffer) };
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.abandon();
        if !self.published {
            self.buffer.clear();
            self.put_buffer();
            self.ring.give_back(self.number, self.number, 1);
        }
    }
}

impl Consumer {
    /// The sequence that comes next.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Length of the next payload in bytes, if it is published.
    pub(super) fn peek(&self) -> Option<usize> {
        match self.at_next()? {
            Taken::Record(payload) => Some(payload.len()),
            Taken::Abandoned => Some(0),
        }
    }

    /// The next record, if it is published.
    pub(super) fn take(&mut self) -> Option<Taken<'_>> {
        self.at_next()?;
        self.next += 1;
        self.at(self.next - 1)
    }

    /// Gives the claims of everything taken so far back. The records must be durable: see the top of this file.
    pub(super) fn release(&mut self) {
        if self.unreleased == self.next {
            return;
        }
        let ring = &*self.ring;
        let mut top = None;
        let mut bottom = 0;
        for sequence in self.unreleased..self.next {
            let number = ring.entry(sequence).buffer.load(Ordering::Relaxed) & !ABANDONED;
            // SAFETY: the entry was published and not released, so the consumer owns its number.
            unsafe { (*ring.buffers[number as usize].get()).clear() };
            match top {
                None => bottom = number,
                Some(below) => ring.below[number as usize].store(below, Ordering::Relaxed),
            }
            top = Some(number);
        }
        let count = (self.next - self.unreleased) as u32;
        self.unreleased = self.next;
        if let Some(top) = top {
            ring.give_back(top, bottom, count);
        }
    }

    fn at_next(&self) -> Option<Taken<'_>> {
        self.at(self.next)
    }

    /// What was published under `sequence`, which has not been released.
    fn at(&self, sequence: u64) -> Option<Taken<'_>> {
        let entry = self.ring.entry(sequence);
        if entry.published.load(Ordering::Acquire) != sequence {
            return None;
        }
        let word = entry.buffer.load(Ordering::Relaxed);
        if word & ABANDONED != 0 {
            return Some(Taken::Abandoned);
        }
        // SAFETY: published under this sequence and not released, so the consumer owns the number; the returned
        // borrow keeps `release`, which needs `&mut self`, away.
        Some(Taken::Record(unsafe { &*self.ring.buffers[word as usize].get() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_run_out_at_the_reserve_and_then_at_the_end() {
        let (ring, mut consumer) = Ring::new(8, 1);
        let ordinary: Vec<Claim<'_>> = (0..8).map_while(|_| ring.claim(3, 0)).collect();
        assert_eq!(ordinary.len(), 5);
        let essential: Vec<Claim<'_>> = (0..8).map_while(|_| ring.claim(0, 0)).collect();
        assert_eq!(essential.len(), 3);
        drop(essential);
        for mut claim in ordinary {
            claim.publish();
        }
        assert!(ring.claim(3, 0).is_none(), "published records still hold their permits");
        while consumer.take().is_some() {}
        assert!(ring.claim(3, 0).is_none(), "and so do records that are not durable");
        consumer.release();
        assert_eq!((0..9).map_while(|_| ring.claim(0, 0)).collect::<Vec<_>>().len(), 8);
    }

    #[test]
    fn a_buffer_comes_back_empty_and_without_a_new_allocation() {
        let (ring, mut consumer) = Ring::new(2, 1);
        let mut place = std::ptr::null();
        for round in 0..10 {
            let mut claim = ring.claim(0, 0).expect("a free slot");
            assert!(claim.buffer().is_empty() && claim.buffer().capacity() >= RECORD_BYTES_MAX);
            assert!(round == 0 || claim.buffer().as_ptr() == place);
            place = claim.buffer().as_ptr();
            claim.buffer().extend_from_slice(b"payload");
            claim.publish();
            assert!(matches!(consumer.take(), Some(Taken::Record(b"payload"))));
            consumer.release();
        }
    }

    #[test]
    fn a_dropped_claim_leaves_no_gap() {
        let (ring, mut consumer) = Ring::new(4, 1);
        let mut claim = ring.claim(0, 0).expect("a free slot");
        assert_eq!(claim.take_sequence(), 1);
        claim.buffer().extend_from_slice(b"half a rec");
        drop(claim);
        ring.claim(0, 0).expect("a free slot").publish();
        assert!(matches!(consumer.take(), Some(Taken::Abandoned)));
        assert!(matches!(consumer.take(), Some(Taken::Record(b""))));
        assert!(consumer.take().is_none());
    }

    #[test]
    fn many_threads_lose_nothing_and_share_no_buffer() {
        const THREADS: u64 = 4;
        const EACH: u64 = 20_000;
        let (ring, mut consumer) = Ring::new(64, 1);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let ring = &ring;
                scope.spawn(move || {
                    let mut count = 0;
                    while count < EACH {
                        let Some(mut claim) = ring.claim(0, 0) else {
                            std::thread::yield_now();
                            continue;
                        };
                        let sequence = claim.take_sequence();
                        let text = [thread, count, sequence];
                        claim.buffer().extend(text.iter().flat_map(|word| word.to_le_bytes()));
                        claim.publish();
                        count += 1;
                    }
                });
            }
            let mut seen = [0; THREADS as usize];
            let mut expected = 1;
            while expected <= THREADS * EACH {
                match consumer.take() {
                    Some(Taken::Record(payload)) => {
                        let word =
                            |at: usize| u64::from_le_bytes(payload[at * 8..at * 8 + 8].try_into().unwrap());
                        assert_eq!(payload.len(), 24);
                        assert_eq!(word(2), expected);
                        assert_eq!(word(1), seen[word(0) as usize], "a thread's records keep their order");
                        seen[word(0) as usize] += 1;
                        expected += 1;
                        if expected % 7 == 0 {
                            consumer.release();
                        }
                    }
                    Some(Taken::Abandoned) => panic!("nothing was abandoned"),
                    None => {
                        consumer.release();
                        std::thread::yield_now();
                    }
                }
            }
        });
    }
}

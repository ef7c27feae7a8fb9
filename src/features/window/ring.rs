//! The events of one account in order of time, eight bytes each, beside a table of their shapes: most of what an
//! account costs in memory is here.
//!
//! An event's time is kept to 32 bits, which the newest time completes: a ring never spans more than that. Amount and
//! shape have 32 bits together; an account that ever has a larger amount or more shapes gets 32 more for each event.
//!
//! The ring goes round through blocks of one size. It grows by a block where its head stands and gives one back once it
//! is more than half empty: what one account lets go, any other can take as it is, so that after a month of growing
//! side by side no holes are left between the accounts in memory. In a steady state nothing is allocated.

use std::ops::Range;

use super::{
    Compact, HORIZON_MS,
    shapes::{Columns, Shapes},
};
use crate::{
    features::compact::Shape,
    limits::{AMOUNT_MINOR_MAX, EVENTS_PER_KEY_MAX},
};

/// Events of one block.
pub const ROWS: usize = 16;

const SHAPE_LOW_BITS: u32 = 8;
const SHAPE_HIGH_BITS: u32 = 5;
const AMOUNT_LOW_BITS: u32 = 32 - SHAPE_LOW_BITS;
const AMOUNT_BITS: u32 = 64 - SHAPE_LOW_BITS - SHAPE_HIGH_BITS;

const _: () = assert!(HORIZON_MS < u32::MAX as i64, "the ring spans less than 32 bits of time");
const _: () = assert!(AMOUNT_MINOR_MAX < 1 << (AMOUNT_BITS - 1));
const _: () =
    assert!(super::SHAPES_MAX <= 1 << (SHAPE_LOW_BITS + SHAPE_HIGH_BITS), "every shape has an index");
const _: () = assert!(EVENTS_PER_KEY_MAX + 1 + ROWS <= u16::MAX as usize, "slots are u16");

/// Amount and shape of an event. `low`, from the lowest bit: shape 8, amount 24; `high` goes on with shape 5, amount 27
/// (signed), and is 0 as a rule.
#[derive(Clone, Copy)]
pub struct Packed {
    low: u32,
    high: u32,
}

impl Packed {
    #[inline]
    fn new(amount_minor: i64, shape: usize) -> Packed {
        Packed {
            low: (amount_minor as u32) << SHAPE_LOW_BITS | shape as u32 & ((1 << SHAPE_LOW_BITS) - 1),
            high: ((amount_minor >> AMOUNT_LOW_BITS) as u32) << SHAPE_HIGH_BITS
                | (shape >> SHAPE_LOW_BITS) as u32,
        }
    }

    /// Index of the event's shape.
    #[inline]
    pub fn shape(self) -> usize {
        let high = self.high & ((1 << SHAPE_HIGH_BITS) - 1);
        (high << SHAPE_LOW_BITS | self.low & ((1 << SHAPE_LOW_BITS) - 1)) as usize
    }

    #[inline]
    pub fn amount_minor(self) -> i64 {
        i64::from(self.high as i32 >> SHAPE_HIGH_BITS) << AMOUNT_LOW_BITS
            | i64::from(self.low >> SHAPE_LOW_BITS)
    }
}

/// Times beside the lower words, so that a loop over either reads what lies side by side.
#[derive(Clone, Default)]
struct Block {
    times: [u32; ROWS],
    lows: [u32; ROWS],
}

const _: () = assert!(size_of::<Block>() == 128);

/// Events that lie side by side in memory: some rows of one block.
pub struct Span<'r> {
    block: &'r Block,
    /// Of the whole block; empty where all are 0.
    highs: &'r [u32],
    rows: Range<usize>,
}

impl<'r> Span<'r> {
    /// The lower 32 bits of the times of the whole block, of rows outside the span too: what is worked out for all of
    /// them at once needs no branches.
    #[inline]
    pub fn times(&self) -> &'r [u32; ROWS] {
        &self.block.times
    }

    /// Each event with its row in the block.
    #[inline]
    pub fn for_each(&self, mut each: impl FnMut(usize, Packed)) {
        let lows = self.rows.clone().zip(&self.block.lows[self.rows.clone()]);
        match self.highs.get(self.rows.clone()) {
            Some(highs) if !highs.is_empty() => {
                lows.zip(highs).for_each(|((row, &low), &high)| each(row, Packed { low, high }));
            }
            _ => lows.for_each(|(row, &low)| each(row, Packed { low, high: 0 })),
        }
    }
}

/// The events of one account, oldest first; among equal times in the order in which they came.
#[derive(Clone, Default)]
pub struct Ring {
    blocks: Box<[Box<Block>]>,
    /// The upper words of all slots; empty while all are 0.
    highs: Box<[u32]>,
    /// Slot of the oldest event.
    head: u16,
    len: u16,
    shapes: Shapes,
    /// Time of the newest event there ever was.
    newest_ms: i64,
}

impl Ring {
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Time of the newest event; `None` without events.
    pub fn newest_ms(&self) -> Option<i64> {
        (!self.is_empty()).then_some(self.newest_ms)
    }

    /// Puts an event in its place and returns its index. It must lie within [`HORIZON_MS`] of every other.
    pub fn insert(&mut self, event: &Compact) -> usize {
        let time_ms = event.time_ms();
        let is_later = |index: &usize| self.time_ms(*index).is_some_and(|other_ms| other_ms > time_ms);
        let later = (0..self.len()).rev().take_while(is_later).count();
        self.newest_ms = if self.is_empty() { time_ms } else { self.newest_ms.max(time_ms) };
        if self.len() == self.slots() {
            self.grow();
        }
        let shape = self.shapes.enter(event.shape, event.filters);
        let index = self.len() - later;
        self.len += 1;
        for index in (index + 1..self.len()).rev() {
            let (from, to) = (self.slot(index - 1), self.slot(index));
            self.put(to, self.time(from), self.packed(from));
        }
        self.put(self.slot(index), time_ms as u32, Packed::new(event.amount_minor(), shape));
        index
    }

    /// Makes room for so many events and shapes, before the first of them.
    pub fn reserve(&mut self, events: usize, shapes: usize) {
        self.blocks = (0..events.div_ceil(ROWS)).map(|_| Box::default()).collect();
        self.shapes.reserve(shapes);
    }

    /// Writes a shape that no event has yet. There must be room for it.
    pub fn set_shape(&mut self, index: usize, shape: Shape, filters: u64) {
        self.shapes.set(index, shape, filters);
    }

    /// Says anew which filters the events of each shape pass.
    pub fn refilter(&mut self, filters: impl Fn(Shape) -> u64) {
        self.shapes.refilter(filters);
    }

    /// Adds an event behind the others, whose shape is in the table. There must be room for it. `newest_ms` is the time
    /// of the last to come.
    pub fn push(&mut self, time: u32, amount_minor: i64, shape: usize, newest_ms: i64) {
        self.newest_ms = newest_ms;
        self.shapes.count(shape);
        self.len += 1;
        self.put(self.slot(self.len() - 1), time, Packed::new(amount_minor, shape));
    }

    pub fn remove_oldest(&mut self) -> Option<Compact> {
        let oldest = self.get(0)?;
        self.shapes.leave(self.packed(self.slot(0)).shape());
        self.len -= 1;
        self.head = if self.is_empty() { 0 } else { self.slot(1) as u16 };
        self.give_back();
        Some(oldest)
    }

    #[inline]
    pub fn get(&self, index: usize) -> Option<Compact> {
        (index < self.len()).then(|| {
            let slot = self.slot(index);
            let packed = self.packed(slot);
            let (shape, filters) = self.shapes.get(packed.shape());
            Compact::from_parts(self.complete(self.time(slot)), packed.amount_minor(), shape, filters)
        })
    }

    #[inline]
    pub fn time_ms(&self, index: usize) -> Option<i64> {
        (index < self.len()).then(|| self.complete(self.time(self.slot(index))))
    }

    /// The lower 32 bits of an event's time, and the rest of it, oldest first.
    pub fn packed_events(&self) -> impl Iterator<Item = (u32, Packed)> + Clone {
        (0..self.len()).map(|index| {
            let slot = self.slot(index);
            (self.time(slot), self.packed(slot))
        })
    }

    /// An event with its time, without its shape.
    #[inline]
    pub fn packed_at(&self, index: usize) -> Option<(i64, Packed)> {
        (index < self.len()).then(|| {
            let slot = self.slot(index);
            (self.complete(self.time(slot)), self.packed(slot))
        })
    }

    /// A shape of the table.
    pub fn shape_at(&self, place: usize) -> Shape {
        self.shapes.get(place).0
    }

    /// Index of the shape of an event; 0 where there is no such event.
    #[inline]
    pub fn shape(&self, index: usize) -> usize {
        if index < self.len() { self.packed(self.slot(index)).shape() } else { 0 }
    }

    /// The events of a range as they lie in memory, oldest first.
    pub fn spans(&self, range: Range<usize>) -> impl Iterator<Item = Span<'_>> {
        let Range { mut start, end } = range;
        let end = end.min(self.len());
        std::iter::from_fn(move || {
            (start < end).then(|| {
                let slot = self.slot(start);
                let (block, row) = (slot / ROWS, slot % ROWS);
                let count = (ROWS - row).min(end - start);
                start += count;
                let highs = self.highs.get(block * ROWS..(block + 1) * ROWS).unwrap_or_default();
                Span { block: &self.blocks[block], highs, rows: row..row + count }
            })
        })
    }

    /// The shapes block by block, as their table has them.
    pub fn shape_columns(&self) -> impl Iterator<Item = Columns<'_>> {
        self.shapes.columns()
    }

    /// The shapes in the order of their indices, those among them that are free at present.
    pub fn shapes(&self) -> impl Iterator<Item = Shape> {
        self.shapes.iter()
    }

    /// Reads words from all over the blocks, and so from nearly every line of memory that a walk through all events will
    /// read.
    #[inline]
    pub fn touch(&self) -> u32 {
        let events = self.blocks.iter().fold(0, |all, block| all ^ block.times[0] ^ block.lows[0]);
        events ^ self.shapes.touch()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.blocks.len() * (size_of::<Box<Block>>() + size_of::<Block>())
            + size_of_val(&self.highs[..])
            + self.shapes.heap_bytes()
    }

    #[inline]
    fn slots(&self) -> usize {
        self.blocks.len() * ROWS
    }

    /// Where the event of an index stands, or would stand: at most one round behind the head.
    #[inline]
    fn slot(&self, index: usize) -> usize {
        let (slot, slots) = (usize::from(self.head) + index, self.slots());
        if slot < slots { slot } else { slot - slots }
    }

    #[inline]
    fn time(&self, slot: usize) -> u32 {
        self.blocks[slot / ROWS].times[slot % ROWS]
    }

    #[inline]
    fn packed(&self, slot: usize) -> Packed {
        let high = self.highs.get(slot).copied().unwrap_or(0);
        Packed { low: self.blocks[slot / ROWS].lows[slot % ROWS], high }
    }

    #[inline]
    fn put(&mut self, slot: usize, time: u32, packed: Packed) {
        let block = &mut self.blocks[slot / ROWS];
        block.times[slot % ROWS] = time;
        block.lows[slot % ROWS] = packed.low;
        if packed.high != 0 && self.highs.is_empty() {
            self.highs = vec![0; self.slots()].into();
        }
        if let Some(high) = self.highs.get_mut(slot) {
            *high = packed.high;
        }
    }

    /// The time whose lower bits these are.
    #[inline]
    fn complete(&self, time: u32) -> i64 {
        self.newest_ms - i64::from((self.newest_ms as u32).wrapping_sub(time))
    }

    /// Adds a block to a full ring. Where newest and oldest meet in the middle of a block, it is cut there: the new
    /// block comes before it and takes over the newest.
    fn grow(&mut self) {
        let (block, row) = (usize::from(self.head) / ROWS, usize::from(self.head) % ROWS);
        let mut new = Box::<Block>::default();
        if let Some(cut) = self.blocks.get(block) {
            new.times[..row].copy_from_slice(&cut.times[..row]);
            new.lows[..row].copy_from_slice(&cut.lows[..row]);
            self.head += ROWS as u16;
        }
        let mut list = std::mem::take(&mut self.blocks).into_vec();
        list.reserve_exact(1);
        list.insert(block, new);
        self.blocks = list.into();
        if !self.highs.is_empty() {
            let first = block * ROWS;
            let mut highs = std::mem::take(&mut self.highs).into_vec();
            let mut moved = [0; ROWS];
            moved[..row].copy_from_slice(&highs[first..first + row]);
            highs.reserve_exact(ROWS);
            highs.splice(first..first, moved);
            self.highs = highs.into();
        }
    }

    /// Gives a block back where more are free than in use, and two beside: then a whole one is among them.
    fn give_back(&mut self) {
        let free = self.slots() - self.len();
        if free <= self.len() + 2 * ROWS {
            return;
        }
        let block = self.slot(self.len()).div_ceil(ROWS) % self.blocks.len();
        if block < usize::from(self.head) / ROWS {
            self.head -= ROWS as u16;
        }
        let mut list = std::mem::take(&mut self.blocks).into_vec();
        list.remove(block);
        self.blocks = list.into();
        if !self.highs.is_empty() {
            let mut highs = std::mem::take(&mut self.highs).into_vec();
            highs.drain(block * ROWS..(block + 1) * ROWS);
            self.highs = highs.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::features::compact::{NO_PLACE, PLACE_BITS};

    #[test]
    fn amount_and_shape_come_back_at_the_ends_of_their_ranges() {
        for amount_minor in
            [0, 1, -1, (1 << 24) - 1, 1 << 24, -(1 << 24), AMOUNT_MINOR_MAX, -AMOUNT_MINOR_MAX]
        {
            for shape in [0, 1, 255, 256, super::super::SHAPES_MAX - 1] {
                let packed = Packed::new(amount_minor, shape);
                assert_eq!((packed.amount_minor(), packed.shape()), (amount_minor, shape));
                let is_narrow = (0..1 << 24).contains(&amount_minor) && shape < 256;
                assert_eq!(packed.high == 0, is_narrow, "{amount_minor} {shape}");
            }
        }
    }

    /// Whole events as they come, one in ten of them late. `wide` is the share of those with an amount of any size;
    /// where it is not 0, some have a device beside a place and filters beyond those inside.
    fn event(rng: &mut ChaCha8Rng, now_ms: i64, merchants: u32, wide: f64) -> Compact {
        let late_ms = if rng.random_bool(0.1) { rng.random_range(0..30_000) } else { 0 };
        let has_place = rng.random_bool(0.5);
        let has_device = rng.random_bool(0.3) && (wide > 0.0 || !has_place);
        let shape = Shape {
            merchant: rng.random_range(0..merchants),
            device: if has_device { rng.random_range(1..4) } else { 0 },
            category: rng.random_range(0..2) * u32::MAX,
            rest: if has_place { 12_345 } else { NO_PLACE } | 1 << PLACE_BITS,
        };
        let amount_minor = match rng.random_bool(wide) {
            true => rng.random_range(-AMOUNT_MINOR_MAX..=AMOUNT_MINOR_MAX),
            false => rng.random_range(0..1 << AMOUNT_LOW_BITS),
        };
        let filters = [0, 1, 31, if wide > 0.0 { u64::MAX } else { 2 }][rng.random_range(0..4)];
        Compact::from_parts(now_ms - late_ms, amount_minor, shape, filters)
    }

    fn parts(event: &Compact) -> (i64, i64, Shape, u64) {
        (event.time_ms(), event.amount_minor(), event.shape, event.filters)
    }

    #[test]
    fn a_ring_that_grows_and_shrinks_holds_what_a_deque_does() {
        for (seed, wide, merchants) in [(1, 0.0, 10), (2, 0.01, 10), (3, 0.3, 700), (4, 0.0, 2_000)] {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (mut ring, mut twin) = (Ring::default(), VecDeque::<Compact>::new());
            let mut now_ms = 1_700_000_000_000;
            for round in 0..20 {
                let wanted = [3, 40, 400, 1_500][round % 4];
                for _ in 0..3_000 {
                    now_ms += rng.random_range(0..1_000);
                    let event = event(&mut rng, now_ms, merchants, wide);
                    let later = twin.iter().rev().take_while(|other| other.time_ms() > event.time_ms());
                    let index = twin.len() - later.count();
                    twin.insert(index, event);
                    assert_eq!(ring.insert(&event), index);
                    while twin.len() > wanted {
                        let (gone, expected) = (ring.remove_oldest().unwrap(), twin.pop_front().unwrap());
                        assert_eq!(parts(&gone), parts(&expected), "seed {seed}");
                    }
                }
                let kept: Vec<_> = (0..ring.len()).map(|at| parts(&ring.get(at).unwrap())).collect();
                assert_eq!(kept, twin.iter().map(parts).collect::<Vec<_>>(), "seed {seed}");
                let [start, end] = [0, 1].map(|_| rng.random_range(0..=twin.len()));
                let range = start.min(end)..start.max(end);
                let mut walked = Vec::new();
                for span in ring.spans(range.clone()) {
                    span.for_each(|row, packed| {
                        let shape = ring.shapes.get(packed.shape());
                        walked.push((packed.amount_minor(), shape, ring.complete(span.times()[row])));
                    });
                }
                let expected = twin.range(range);
                let expected: Vec<_> =
                    expected.map(|e| (e.amount_minor(), (e.shape, e.filters), e.time_ms())).collect();
                assert_eq!(walked, expected, "seed {seed}");
                assert!(ring.get(twin.len()).is_none() && ring.time_ms(twin.len()).is_none());
                assert!(ring.slots() <= 2 * twin.len() + 3 * ROWS, "{} for {}", ring.slots(), twin.len());
                let is_narrow = wide == 0.0 && ring.shapes().count() <= 1 << SHAPE_LOW_BITS;
                assert_eq!(ring.highs.is_empty(), is_narrow, "seed {seed}");
            }
        }
    }
}

//! The events of one account in order of time, twelve bytes each, beside a table of their shapes: most of what an
//! account costs in memory is here.
//!
//! An event's time is kept to 32 bits, which the newest time completes: a ring never spans more than that. A shape
//! counts the events that have it; one that has none is free for the next new shape, so that the table never holds
//! more than were in use at one time.

use std::collections::VecDeque;

use super::{Compact, HORIZON_MS};
use crate::{
    features::compact::{SHAPE_REST_BITS, Shape},
    limits::{AMOUNT_MINOR_MAX, EVENTS_PER_KEY_MAX},
};

const SHAPE_BITS: u32 = 13;
const AMOUNT_BITS: u32 = 64 - SHAPE_BITS;
/// A ring holds one event more for a moment, and the shapes of no more than its events.
pub const SHAPES_MAX: usize = EVENTS_PER_KEY_MAX + 1;

const _: () = assert!(HORIZON_MS < u32::MAX as i64, "the ring spans less than 32 bits of time");
const _: () = assert!(AMOUNT_MINOR_MAX < 1 << (AMOUNT_BITS - 1));
const _: () = assert!(SHAPES_MAX < 1 << SHAPE_BITS, "every shape has an index and can be counted");

/// Layout: time 32 (its lower bits); then from the lowest bit of the other two words shape 13, amount 51 (signed).
#[derive(Clone, Copy)]
pub struct Packed {
    time: u32,
    low: u32,
    high: u32,
}

const _: () = assert!(size_of::<Packed>() == 12);

impl Packed {
    #[inline]
    pub fn new(time_ms: i64, amount_minor: i64, shape: usize) -> Packed {
        let words = (amount_minor << SHAPE_BITS) as u64 | shape as u64;
        Packed { time: time_ms as u32, low: words as u32, high: (words >> 32) as u32 }
    }

    /// Index of the event's shape.
    #[inline]
    pub fn shape(self) -> usize {
        (self.low & ((1 << SHAPE_BITS) - 1)) as usize
    }

    #[inline]
    pub fn amount_minor(self) -> i64 {
        (i64::from(self.high as i32) << 32 | i64::from(self.low)) >> SHAPE_BITS
    }

    /// The same event with its shape under another index.
    pub fn with_shape(self, shape: usize) -> Packed {
        Packed { low: self.low & !((1 << SHAPE_BITS) - 1) | shape as u32, ..self }
    }

    /// The three words, little-endian.
    pub fn to_bytes(self) -> [u8; size_of::<Packed>()] {
        let mut bytes = [0; size_of::<Packed>()];
        for (bytes, word) in bytes.chunks_exact_mut(4).zip([self.time, self.low, self.high]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub fn from_bytes(bytes: [u8; size_of::<Packed>()]) -> Packed {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[4 * at + byte]));
        Packed { time: word(0), low: word(1), high: word(2) }
    }

    /// `newest_ms` is the time of the newest event of the ring.
    #[inline]
    pub fn time_ms(self, newest_ms: i64) -> i64 {
        newest_ms - i64::from((newest_ms as u32).wrapping_sub(self.time))
    }
}

/// Number of words of one entry of [`Shapes`] that can hold so many filters.
pub fn shape_words(filters: usize) -> u8 {
    (SHAPE_WORDS + filters.saturating_sub(FILTERS_INSIDE as usize).div_ceil(32)) as u8
}

const SHAPE_WORDS: usize = 5;
/// Filters that fit beside the shape.
const FILTERS_INSIDE: u32 = 6;
const FILTERS_SHIFT: u32 = SHAPE_REST_BITS - 32;
const EVENTS_SHIFT: u32 = FILTERS_SHIFT + FILTERS_INSIDE;
const EVENTS_ONE: u32 = 1 << EVENTS_SHIFT;
/// All of the fifth word but the number of events.
const FIFTH_SHAPE: u32 = EVENTS_ONE - 1;
const FIFTH_REST: u32 = (1 << FILTERS_SHIFT) - 1;

const _: () = assert!(EVENTS_SHIFT + SHAPE_BITS == 32);

/// A table of shapes, each with the filters that its events pass.
///
/// Layout of an entry, in words of 32 bits: merchant, device, category, lower `rest`; then from the lowest bit upper
/// `rest` 13, filters 6, events 13; then as many words with further filters as the plan needs.
#[derive(Clone, Default)]
struct Shapes {
    words: Vec<u32>,
    /// Words of an entry, that of [`shape_words`] for the plan's filters; 0 until the first event.
    width: u8,
}

impl Shapes {
    #[inline]
    fn width(&self) -> usize {
        usize::from(self.width)
    }

    /// The index of a shape, which now has one event more.
    fn enter(&mut self, shape: Shape, filters: u64) -> usize {
        let (key, width) = (key(shape, filters), self.width());
        let mut free = None;
        for (index, entry) in self.words.chunks_exact_mut(width).enumerate() {
            if entry[..4] == key[..4]
                && entry[4] & FIFTH_SHAPE == key[4]
                && entry[SHAPE_WORDS..] == key[SHAPE_WORDS..width]
            {
                entry[4] += EVENTS_ONE;
                return index;
            }
            if entry[4] < EVENTS_ONE && free.is_none() {
                free = Some(index);
            }
        }
        let index = match free {
            Some(index) => {
                self.words[index * width..][..width].copy_from_slice(&key[..width]);
                index
            }
            None => self.push(&key),
        };
        self.count(index);
        index
    }

    fn push(&mut self, key: &[u32]) -> usize {
        let (len, width) = (self.words.len(), self.width());
        if len + width > self.words.capacity() {
            let capacity = roomy(len + width, size_of::<u32>()).min(SHAPES_MAX * width);
            self.words.reserve_exact(capacity - len);
        }
        self.words.extend_from_slice(&key[..width]);
        len / width
    }

    /// One event more has the shape.
    fn count(&mut self, index: usize) {
        let fifth = index * self.width() + 4;
        self.words[fifth] += EVENTS_ONE;
    }

    fn leave(&mut self, index: usize) {
        let fifth = index * self.width() + 4;
        self.words[fifth] -= EVENTS_ONE;
    }

    #[inline]
    fn get(&self, index: usize) -> (Shape, u64) {
        let width = self.width();
        let entry = &self.words[index * width..][..width];
        (shape_of(entry), filters_of(entry))
    }
}

fn key(shape: Shape, filters: u64) -> [u32; SHAPE_WORDS + 2] {
    let inside = (filters & ((1 << FILTERS_INSIDE) - 1)) as u32;
    [
        shape.merchant,
        shape.device,
        shape.category,
        shape.rest as u32,
        (shape.rest >> 32) as u32 | inside << FILTERS_SHIFT,
        (filters >> FILTERS_INSIDE) as u32,
        (filters >> FILTERS_INSIDE >> 32) as u32,
    ]
}

#[inline]
fn shape_of(entry: &[u32]) -> Shape {
    Shape {
        merchant: entry[0],
        device: entry[1],
        category: entry[2],
        rest: u64::from(entry[3]) | u64::from(entry[4] & FIFTH_REST) << 32,
    }
}

#[inline]
fn filters_of(entry: &[u32]) -> u64 {
    let inside = u64::from(entry[4] >> FILTERS_SHIFT & ((1 << FILTERS_INSIDE) - 1));
    let more = |word: usize| entry.get(word).map_or(0, |filters| u64::from(*filters));
    inside | more(SHAPE_WORDS) << FILTERS_INSIDE | more(SHAPE_WORDS + 1) << FILTERS_INSIDE << 32
}

/// The events of one account, oldest first; among equal times in the order in which they came.
#[derive(Clone, Default)]
pub struct Ring {
    events: VecDeque<Packed>,
    shapes: Shapes,
    /// Time of the newest event there ever was.
    newest_ms: i64,
}

impl Ring {
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Time of the newest event; `None` without events.
    pub fn newest_ms(&self) -> Option<i64> {
        (!self.events.is_empty()).then_some(self.newest_ms)
    }

    /// Puts an event in its place and returns its index. It must lie within [`HORIZON_MS`] of every other. `width` is
    /// that of [`shape_words`], and always the same.
    pub fn insert(&mut self, width: u8, event: &Compact) -> usize {
        self.shapes.width = width;
        let time_ms = event.time_ms();
        let later =
            self.events.iter().rev().take_while(|other| other.time_ms(self.newest_ms) > time_ms).count();
        self.newest_ms = if self.events.is_empty() { time_ms } else { self.newest_ms.max(time_ms) };
        if self.events.len() == self.events.capacity() {
            let capacity = roomy(self.events.len() + 1, size_of::<Packed>()).min(SHAPES_MAX);
            self.events.reserve_exact(capacity - self.events.len());
        }
        let index = self.events.len() - later;
        let shape = self.shapes.enter(event.shape, event.filters);
        self.events.insert(index, Packed::new(time_ms, event.amount_minor(), shape));
        index
    }

    /// Makes room for so many events and shapes, before the first of them.
    pub fn reserve(&mut self, width: u8, events: usize, shapes: usize) {
        self.shapes.width = width;
        let width = self.shapes.width();
        self.events.reserve_exact(roomy(events, size_of::<Packed>()).min(SHAPES_MAX));
        self.shapes.words.reserve_exact(roomy(shapes * width, size_of::<u32>()).min(SHAPES_MAX * width));
    }

    /// Adds a shape behind the others that no event has yet.
    pub fn push_shape(&mut self, shape: Shape, filters: u64) {
        self.shapes.push(&key(shape, filters));
    }

    /// Adds an event behind the others, whose shape is in the table. `newest_ms` is the time of the last to come.
    pub fn push(&mut self, event: Packed, newest_ms: i64) {
        self.newest_ms = newest_ms;
        self.shapes.count(event.shape());
        self.events.push_back(event);
    }

    pub fn remove_oldest(&mut self) -> Option<Compact> {
        let oldest = self.get(0)?;
        let packed = self.events.pop_front()?;
        self.shapes.leave(packed.shape());
        Some(oldest)
    }

    #[inline]
    pub fn get(&self, index: usize) -> Option<Compact> {
        self.events.get(index).map(|packed| self.unpack(*packed))
    }

    #[inline]
    pub fn time_ms(&self, index: usize) -> Option<i64> {
        self.events.get(index).map(|packed| packed.time_ms(self.newest_ms))
    }

    #[inline]
    pub fn unpack(&self, packed: Packed) -> Compact {
        let (shape, filters) = self.shapes.get(packed.shape());
        Compact::from_parts(packed.time_ms(self.newest_ms), packed.amount_minor(), shape, filters)
    }

    /// The events in the two stretches in which they lie in memory.
    pub fn stretches(&self) -> (&[Packed], &[Packed]) {
        self.events.as_slices()
    }

    /// The shapes in the order of their indices, those among them that are free at present.
    pub fn shapes(&self) -> impl Iterator<Item = Shape> {
        self.shapes.words.chunks_exact(self.shapes.width().max(1)).map(shape_of)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.events.capacity() * size_of::<Packed>() + self.shapes.words.capacity() * size_of::<u32>()
    }
}

/// How many elements fit into the smallest block for `wanted` of them. Allocators hand out four sizes per doubling
/// (mimalloc and jemalloc do), so that a vector which grows from one to the next wastes nothing of what it is given,
/// and an eighth on average of what it asks for; doubling would waste a quarter.
fn roomy(wanted: usize, element_bytes: usize) -> usize {
    let bytes = (wanted * element_bytes).max(32);
    let quarter = bytes.next_power_of_two() / 8;
    bytes.next_multiple_of(quarter) / element_bytes
}

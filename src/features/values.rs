//! The values of one decision, by slot: what rules and model read. Lives on the stack, is reused and never
//! allocates.

use crate::limits::SLOTS_MAX;

const WORDS: usize = SLOTS_MAX / 64;
/// Slots below this may hold texts: the catalogue puts its text fields first.
pub const TEXT_SLOTS: usize = 32;

/// A slot of [`Values`]: the index of a catalogue entry, or that of an aggregate behind the catalogue.
pub type Slot = u16;

/// One value per slot, or none. Which type a slot has is known to who compiled the reader; asking for another
/// type gives a wrong number, never a panic.
#[derive(Clone)]
pub struct Values<'a> {
    present: [u64; WORDS],
    saturated: [u64; WORDS],
    bits: [u64; SLOTS_MAX],
    texts: [&'a str; TEXT_SLOTS],
}

impl<'a> Values<'a> {
    pub fn new() -> Values<'a> {
        Values { present: [0; WORDS], saturated: [0; WORDS], bits: [0; SLOTS_MAX], texts: [""; TEXT_SLOTS] }
    }

    pub fn clear(&mut self) {
        self.present = [0; WORDS];
        self.saturated = [0; WORDS];
    }

    /// Whether the slot has a value.
    #[inline]
    pub fn has(&self, slot: Slot) -> bool {
        self.present[usize::from(slot) / 64] >> (slot % 64) & 1 == 1
    }

    /// Marks a value that more events went into than are kept one by one: a count or sum of them is never too low.
    pub fn mark_saturated(&mut self, slot: Slot) {
        self.saturated[usize::from(slot) / 64] |= 1 << (slot % 64);
    }

    /// Whether the value was marked saturated.
    pub fn is_saturated(&self, slot: Slot) -> bool {
        self.saturated[usize::from(slot) / 64] >> (slot % 64) & 1 == 1
    }

    #[inline]
    fn set(&mut self, slot: Slot, bits: u64) {
        self.bits[usize::from(slot)] = bits;
        self.present[usize::from(slot) / 64] |= 1 << (slot % 64);
    }

    /// Sets a whole number or an amount in minor units.
    #[inline]
    pub fn set_int(&mut self, slot: Slot, value: i64) {
        self.set(slot, value as u64);
    }

    /// Sets a number; one that is not finite counts as missing.
    #[inline]
    pub fn set_float(&mut self, slot: Slot, value: f64) {
        if value.is_finite() {
            self.set(slot, value.to_bits());
        }
    }

    #[inline]
    pub fn set_bool(&mut self, slot: Slot, value: bool) {
        self.set(slot, u64::from(value));
    }

    /// Sets a text, whose slot must be below [`TEXT_SLOTS`].
    #[inline]
    pub fn set_text(&mut self, slot: Slot, value: &'a str) {
        self.texts[usize::from(slot)] = value;
        self.set(slot, 0);
    }

    /// The raw eight bytes of a slot, 0 or stale where the slot has no value.
    #[inline]
    pub fn raw(&self, slot: Slot) -> u64 {
        self.bits[usize::from(slot)]
    }

    #[inline]
    pub fn int(&self, slot: Slot) -> Option<i64> {
        self.has(slot).then(|| self.raw(slot) as i64)
    }

    #[inline]
    pub fn float(&self, slot: Slot) -> Option<f64> {
        self.has(slot).then(|| f64::from_bits(self.raw(slot)))
    }

    #[inline]
    pub fn bool(&self, slot: Slot) -> Option<bool> {
        self.has(slot).then(|| self.raw(slot) != 0)
    }

    #[inline]
    pub fn text(&self, slot: Slot) -> Option<&'a str> {
        self.has(slot).then(|| self.texts[usize::from(slot)])
    }
}

impl Default for Values<'_> {
    fn default() -> Self {
        Values::new()
    }
}

//! The events of one key in order, as rows of words in one ring that grows and shrinks by half.
//!
//! A row is the lower 32 bits of the time, the sum of all amounts up to and with this one (two words), and one word
//! for each attribute. With sums in place of amounts, count and sum of any window are two searches and a difference.

/// Words of a row before its attributes.
pub const FIXED_WORDS: usize = 3;
/// A ring with fewer rows is never made smaller.
const SHRINKS_FROM: usize = 16;

/// Every call must be given the same `width`, the words of one row.
#[derive(Default)]
pub struct Rows {
    words: Box<[u32]>,
    /// Where the oldest row begins.
    head: u32,
    len: u32,
}

impl Rows {
    pub fn with_capacity(width: usize, rows: usize) -> Rows {
        Rows { words: vec![0; width * rows].into(), head: 0, len: 0 }
    }

    /// Whether so many rows may have so much room: what growing and shrinking leave.
    pub fn may_have(capacity: usize, rows: usize) -> bool {
        rows <= capacity && (capacity < SHRINKS_FROM || rows >= capacity / 4)
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn capacity(&self, width: usize) -> usize {
        self.words.len() / width
    }

    /// As the allocator is asked for them, and rounds them up.
    pub fn heap_bytes(&self) -> usize {
        size_of_val::<[u32]>(&self.words).next_multiple_of(16)
    }

    #[inline]
    fn at(&self, width: usize, index: usize) -> usize {
        let at = self.head as usize + index * width;
        if at >= self.words.len() { at - self.words.len() } else { at }
    }

    /// Reads a word of the oldest row and one of the newest, where there are any.
    #[inline]
    pub fn touch(&self, width: usize) -> u32 {
        let word = |index: usize| self.words.get(self.at(width, index)).copied().unwrap_or(0);
        word(0) ^ word(self.len().saturating_sub(1))
    }

    #[inline]
    pub fn row(&self, width: usize, index: usize) -> &[u32] {
        let at = self.at(width, index);
        &self.words[at..at + width]
    }

    #[inline]
    pub fn time(&self, width: usize, index: usize) -> u32 {
        self.words[self.at(width, index)]
    }

    #[inline]
    pub fn sum(&self, width: usize, index: usize) -> i64 {
        let at = self.at(width, index);
        (u64::from(self.words[at + 1]) | u64::from(self.words[at + 2]) << 32) as i64
    }

    #[inline]
    pub fn attribute(&self, width: usize, index: usize, column: usize) -> u32 {
        self.words[self.at(width, index) + FIXED_WORDS + column]
    }

    pub fn set_sum(&mut self, width: usize, index: usize, sum: i64) {
        let at = self.at(width, index);
        self.words[at + 1] = sum as u32;
        self.words[at + 2] = (sum as u64 >> 32) as u32;
    }

    /// Puts a row before the one at `index`, which may be the end. Never takes room for more than `rows_max`, unless
    /// there are more already.
    pub fn insert(&mut self, width: usize, index: usize, row: &[u32], rows_max: usize) {
        let (len, capacity) = (self.len(), self.capacity(width));
        if len == capacity {
            let larger = capacity + (capacity / 2).max(1);
            self.resize(width, larger.min(rows_max).max(len + 1));
        }
        for moved in (index..len).rev() {
            let (from, to) = (self.at(width, moved), self.at(width, moved + 1));
            self.words.copy_within(from..from + width, to);
        }
        let at = self.at(width, index);
        self.words[at..at + width].copy_from_slice(row);
        self.len += 1;
    }

    /// Takes out the oldest row. There must be one.
    pub fn remove_oldest(&mut self, width: usize) {
        self.head = self.at(width, 1) as u32;
        self.len -= 1;
        let (len, capacity) = (self.len(), self.capacity(width));
        if capacity >= SHRINKS_FROM && len < capacity / 4 {
            self.resize(width, capacity / 2);
        }
    }

    fn resize(&mut self, width: usize, rows: usize) {
        let mut words = Vec::with_capacity(width * rows);
        let end = self.head as usize + self.len() * width;
        words.extend_from_slice(&self.words[self.head as usize..end.min(self.words.len())]);
        words.extend_from_slice(&self.words[..end.saturating_sub(self.words.len())]);
        words.resize(width * rows, 0);
        (self.words, self.head) = (words.into(), 0);
    }
}

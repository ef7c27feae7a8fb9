//! Which keys were evicted and up to when they had events, in bounded room: a key that is not kept must read unknown,
//! not zero, as long as a window reaches back to what was forgotten.
//!
//! A table of times with several cells for each key, as in a counting Bloom filter (Fan, Cao, Almeida, Broder 2000)
//! but with the newest time in place of a count. The oldest of a key's cells is never before the key's newest event;
//! where other keys share all of its cells it is later, and the key reads unknown for longer than it must. A cell needs
//! no clearing: its time leaves every window by itself. So a flood of evictions makes more keys unknown, for as long as
//! it lasts and a window after it, and none of them zero.

/// Cells that one key may be in lie in one line of the processor's cache.
const LINE_CELLS: usize = 32;
const LINE_BYTES: usize = LINE_CELLS * size_of::<u16>();
/// Units of time that are certainly longer than the longest horizon.
const UNITS_PER_HORIZON: i64 = 32_768;
/// Where the newest time stands after the others were moved down.
const NEWEST_UNIT: i64 = 49_152;

pub struct Evicted {
    /// Empty until the first eviction. Units since `base`, rounded up; 0 for never.
    cells: Box<[u16]>,
    /// A power of two.
    lines: usize,
    pub unit_ms: i64,
    /// In units.
    base: i64,
}

impl Evicted {
    /// Takes at most `bytes`, and one line at least.
    pub fn new(bytes: usize, horizon_ms: i64) -> Evicted {
        let lines = (bytes / LINE_BYTES).max(1);
        Evicted {
            cells: Box::default(),
            lines: 1 << lines.ilog2(),
            unit_ms: horizon_ms / UNITS_PER_HORIZON + 1,
            base: 0,
        }
    }

    /// Bytes on the heap once something was evicted.
    pub fn bytes(&self) -> usize {
        self.lines * LINE_BYTES
    }

    /// That the key had events up to this time. Times older than the newest by more than the longest horizon may be
    /// taken for newer.
    pub fn remember(&mut self, key: u64, newest_ms: i64) {
        let unit = newest_ms.div_euclid(self.unit_ms);
        if self.cells.is_empty() {
            self.cells = vec![0; self.lines * LINE_CELLS].into();
            self.base = unit - NEWEST_UNIT;
        }
        let mut value = unit - self.base;
        if value > i64::from(u16::MAX) {
            let by = value - NEWEST_UNIT;
            let by_cell = by.min(i64::from(u16::MAX)) as u16;
            self.cells.iter_mut().for_each(|cell| *cell = cell.saturating_sub(by_cell));
            self.base += by;
            value = NEWEST_UNIT;
        }
        let value = value.max(1) as u16;
        for cell in self.cells_of(key) {
            self.cells[cell] = self.cells[cell].max(value);
        }
    }

    /// The time up to which the key may have had events that were forgotten; `None` where it was never evicted.
    pub fn forgotten_ms(&self, key: u64) -> Option<i64> {
        if self.cells.is_empty() {
            return None;
        }
        let oldest =
            self.cells_of(key).into_iter().map(|cell| self.cells[cell]).min().filter(|oldest| *oldest > 0)?;
        Some((self.base + i64::from(oldest) + 1) * self.unit_ms - 1)
    }

    /// Writes the table for [`Evicted::restore`].
    pub fn encode(&self, put: &mut dyn FnMut(&[u8])) {
        if self.cells.is_empty() {
            return put(&0_u32.to_le_bytes());
        }
        put(&(self.lines as u32).to_le_bytes());
        put(&self.base.to_le_bytes());
        for cells in self.cells.chunks(LINE_CELLS) {
            if cells.iter().all(|cell| *cell == 0) {
                put(&[0]);
                continue;
            }
            let mut line = [0; LINE_BYTES];
            for (bytes, cell) in line.chunks_mut(2).zip(cells) {
                bytes.copy_from_slice(&cell.to_le_bytes());
            }
            put(&[1]);
            put(&line);
        }
    }

    /// Makes an empty table for the lines that are restored.
    pub fn begin(&mut self, base: i64) {
        self.cells = vec![0; self.lines * LINE_CELLS].into();
        self.base = base;
    }

    /// Takes in one of the `lines` of a table, a power of two. It may have been smaller or larger than this one: a
    /// line goes wherever the lower bits of its number, as far as both tables have them, are the same.
    pub fn restore(&mut self, line: usize, lines: usize, bytes: &[u8; LINE_BYTES]) {
        let first = line & (self.lines - 1);
        for place in (first..self.lines).step_by(lines) {
            let cells = &mut self.cells[place * LINE_CELLS..][..LINE_CELLS];
            for (cell, bytes) in cells.iter_mut().zip(bytes.chunks(2)) {
                *cell = (*cell).max(u16::from_le_bytes([bytes[0], bytes[1]]));
            }
        }
    }

    #[inline]
    fn cells_of(&self, key: u64) -> [usize; 3] {
        let line = (key as usize & (self.lines - 1)) * LINE_CELLS;
        [59, 54, 49].map(|shift| line + (key >> shift) as usize % LINE_CELLS)
    }
}

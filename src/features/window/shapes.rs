//! The shapes of an account's events, sixteen bytes each and each once.
//!
//! A shape counts the events that have it; one that has none is free for the next new shape, so that the table never
//! holds more than were in use at one time. It grows by blocks that are as large as those of the events
//! ([`super::ring`]), so that what one account lets go fits another.

use super::EVENTS_PER_KEY_MAX;
use crate::features::compact::{NO_PLACE, PLACE_BITS, SHAPE_REST_BITS, Shape};

/// Shapes of one block.
pub const ROWS: usize = 8;
/// A ring holds one event more for a moment, and the shapes of no more than its events; in whole blocks.
pub const SHAPES_MAX: usize = (EVENTS_PER_KEY_MAX + 1).next_multiple_of(ROWS);

/// The rest of a shape holds its device where others hold their place: a web shop has the one, a till the other.
const DEVICE_FOR_PLACE: u64 = 1 << SHAPE_REST_BITS;
const FILTERS_SHIFT: u32 = SHAPE_REST_BITS + 1;
/// Filters that fit beside the shape.
const FILTERS_INSIDE: u32 = 5;
const EVENTS_SHIFT: u32 = FILTERS_SHIFT + FILTERS_INSIDE;
const EVENTS_ONE: u64 = 1 << EVENTS_SHIFT;

const _: () = assert!(SHAPES_MAX < 1 << (64 - EVENTS_SHIFT), "the events of a shape can be counted");

/// Column by column, so that looking for a merchant reads nothing else. A row of zeros is free.
///
/// `rest`, from the lowest bit: that of the shape 45, device for place 1, filters 5, events 13.
#[derive(Clone, Default)]
struct Block {
    merchants: [u32; ROWS],
    categories: [u32; ROWS],
    rests: [u64; ROWS],
}

const _: () = assert!(size_of::<Block>() == 128);

/// What some shapes have that does not fit into a block: each column is empty, or has one entry for every row.
#[derive(Clone, Default)]
struct Further {
    /// Devices of shapes that have a place too.
    devices: Vec<u32>,
    /// Filters beyond those inside.
    filters: Vec<u64>,
}

/// Some shapes side by side, in the order of their indices, free rows among them: for what looks at all of them.
pub struct Columns<'s> {
    pub merchants: &'s [u32; ROWS],
    /// As [`Shape::category`] has them.
    pub categories: &'s [u32; ROWS],
    rests: &'s [u64; ROWS],
    /// Empty where no shape has a device beside its place.
    devices: &'s [u32],
}

impl Columns<'_> {
    /// 1 for each that has this device, and 0 for the others. It must be one: of 0, which stands for none, nothing follows.
    #[inline]
    pub fn have_device(&self, device: u32) -> [u32; ROWS] {
        const DEVICES: u64 = DEVICE_FOR_PLACE | u32::MAX as u64;
        let looked_for = DEVICE_FOR_PLACE | u64::from(device);
        let mut have = self.rests.map(|rest| u32::from(rest & DEVICES == looked_for));
        for (have, beside) in have.iter_mut().zip(self.devices) {
            *have |= u32::from(*beside == device);
        }
        have
    }

    /// 1 for each that has a place, and 0 for the others.
    #[inline]
    pub fn have_place(&self) -> [u32; ROWS] {
        self.rests
            .map(|rest| u32::from(rest & DEVICE_FOR_PLACE == 0) & u32::from(rest & NO_PLACE != NO_PLACE))
    }
}

/// A shape with its filters as the table has it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Row {
    merchant: u32,
    category: u32,
    /// Without the number of events.
    rest: u64,
    device: u32,
    filters: u64,
}

impl Row {
    #[inline]
    fn new(shape: Shape, filters: u64) -> Row {
        let inside = filters & ((1 << FILTERS_INSIDE) - 1);
        let has_one = shape.device != 0 && !shape.has_place();
        let (rest, device) = match has_one {
            true => (shape.rest & !((1 << PLACE_BITS) - 1) | u64::from(shape.device) | DEVICE_FOR_PLACE, 0),
            false => (shape.rest, shape.device),
        };
        Row {
            merchant: shape.merchant,
            category: shape.category,
            rest: rest | inside << FILTERS_SHIFT,
            device,
            filters: filters >> FILTERS_INSIDE,
        }
    }

    #[inline]
    fn shape(self) -> Shape {
        let Row { merchant, category, rest, device, .. } = self;
        let own = rest & ((1 << SHAPE_REST_BITS) - 1);
        match rest & DEVICE_FOR_PLACE {
            0 => Shape { merchant, device, category, rest: own },
            _ => Shape {
                merchant,
                device: rest as u32,
                category,
                rest: own & !((1 << PLACE_BITS) - 1) | NO_PLACE,
            },
        }
    }

    #[inline]
    fn filters(self) -> u64 {
        self.rest >> FILTERS_SHIFT & ((1 << FILTERS_INSIDE) - 1) | self.filters << FILTERS_INSIDE
    }
}

const _: () = assert!(u32::BITS <= PLACE_BITS, "a device fits where a place does");

/// The table.
#[derive(Clone, Default)]
pub struct Shapes {
    blocks: Box<[Box<Block>]>,
    further: Option<Box<Further>>,
}

impl Shapes {
    /// The index of a shape, which now has one event more.
    pub fn enter(&mut self, shape: Shape, filters: u64) -> usize {
        let row = Row::new(shape, filters);
        let index = match self.find(&row) {
            Some(index) => index,
            None => {
                let index = self.find_free().unwrap_or_else(|| self.add_block());
                self.put(index, row);
                index
            }
        };
        self.count(index);
        index
    }

    /// Makes room for so many shapes in all.
    pub fn reserve(&mut self, shapes: usize) {
        let blocks = shapes.div_ceil(ROWS);
        let mut list = std::mem::take(&mut self.blocks).into_vec();
        list.reserve_exact(blocks.saturating_sub(list.len()));
        list.resize_with(list.len().max(blocks), Box::default);
        self.blocks = list.into();
        if let Some(further) = &mut self.further {
            further.stretch(self.blocks.len() * ROWS);
        }
    }

    /// Writes a shape without events to a free row; the table must have room for it.
    pub fn set(&mut self, index: usize, shape: Shape, filters: u64) {
        self.put(index, Row::new(shape, filters));
    }

    /// Says anew which filters the events of each shape pass.
    pub fn refilter(&mut self, filters: impl Fn(Shape) -> u64) {
        for index in 0..self.blocks.len() * ROWS {
            let events = self.blocks[index / ROWS].rests[index % ROWS] & !(EVENTS_ONE - 1);
            if events > 0 {
                let shape = self.row(index).shape();
                let row = Row::new(shape, filters(shape));
                self.put(index, Row { rest: row.rest | events, ..row });
            }
        }
    }

    /// One event more has the shape.
    #[inline]
    pub fn count(&mut self, index: usize) {
        self.blocks[index / ROWS].rests[index % ROWS] += EVENTS_ONE;
    }

    /// One event less has the shape.
    #[inline]
    pub fn leave(&mut self, index: usize) {
        self.blocks[index / ROWS].rests[index % ROWS] -= EVENTS_ONE;
    }

    #[inline]
    pub fn get(&self, index: usize) -> (Shape, u64) {
        let row = self.row(index);
        (row.shape(), row.filters())
    }

    /// Block by block, in the order of the indices.
    pub fn columns(&self) -> impl Iterator<Item = Columns<'_>> {
        let devices = self.further.as_ref().map_or(&[][..], |further| &further.devices);
        self.blocks.iter().enumerate().map(move |(number, block)| Columns {
            merchants: &block.merchants,
            categories: &block.categories,
            rests: &block.rests,
            devices: devices.get(number * ROWS..(number + 1) * ROWS).unwrap_or_default(),
        })
    }

    /// In the order of their indices, free rows among them.
    pub fn iter(&self) -> impl Iterator<Item = Shape> {
        (0..self.blocks.len() * ROWS).map(|index| self.row(index).shape())
    }

    /// Reads words from all over the blocks, and so from nearly every line of memory that a look at all shapes will read.
    #[inline]
    pub fn touch(&self) -> u32 {
        self.blocks.iter().fold(0, |all, block| all ^ block.merchants[0] ^ block.rests[0] as u32)
    }

    pub fn heap_bytes(&self) -> usize {
        let further = self.further.as_ref().map_or(0, |further| {
            size_of::<Further>() + size_of_val(&further.devices[..]) + size_of_val(&further.filters[..])
        });
        self.blocks.len() * (size_of::<Box<Block>>() + size_of::<Block>()) + further
    }

    #[inline]
    fn row(&self, index: usize) -> Row {
        let (block, at) = (&self.blocks[index / ROWS], index % ROWS);
        let (device, filters) = self.further.as_ref().map_or((0, 0), |further| further.row(index));
        Row {
            merchant: block.merchants[at],
            category: block.categories[at],
            rest: block.rests[at] & (EVENTS_ONE - 1),
            device,
            filters,
        }
    }

    fn find(&self, row: &Row) -> Option<usize> {
        for (number, block) in self.blocks.iter().enumerate() {
            for at in 0..ROWS {
                let index = number * ROWS + at;
                if block.merchants[at] == row.merchant && self.row(index) == *row {
                    return Some(index);
                }
            }
        }
        None
    }

    fn find_free(&self) -> Option<usize> {
        let mut rests = self.blocks.iter().flat_map(|block| block.rests);
        rests.position(|rest| rest < EVENTS_ONE)
    }

    /// Adds a block and returns its first row.
    fn add_block(&mut self) -> usize {
        let first = self.blocks.len() * ROWS;
        self.reserve(first + 1);
        first
    }

    fn put(&mut self, index: usize, row: Row) {
        let (block, at) = (&mut self.blocks[index / ROWS], index % ROWS);
        block.merchants[at] = row.merchant;
        block.categories[at] = row.category;
        block.rests[at] = row.rest;
        if self.further.is_some() || row.device != 0 || row.filters != 0 {
            self.further.get_or_insert_default().put(index, &row, self.blocks.len() * ROWS);
        }
    }
}

impl Further {
    #[inline]
    fn row(&self, index: usize) -> (u32, u64) {
        let device = self.devices.get(index).copied().unwrap_or(0);
        (device, self.filters.get(index).copied().unwrap_or(0))
    }

    /// `rows` is how many the table has.
    fn put(&mut self, index: usize, row: &Row, rows: usize) {
        fn set<T: Copy + Default + PartialEq>(column: &mut Vec<T>, index: usize, value: T, rows: usize) {
            if column.is_empty() && value != T::default() {
                column.reserve_exact(rows);
                column.resize(rows, T::default());
            }
            if let Some(place) = column.get_mut(index) {
                *place = value;
            }
        }
        set(&mut self.devices, index, row.device, rows);
        set(&mut self.filters, index, row.filters, rows);
    }

    /// The table now has so many rows.
    fn stretch(&mut self, rows: usize) {
        fn to<T: Copy + Default>(column: &mut Vec<T>, rows: usize) {
            if !column.is_empty() {
                column.reserve_exact(rows - column.len());
                column.resize(rows, T::default());
            }
        }
        to(&mut self.devices, rows);
        to(&mut self.filters, rows);
    }
}

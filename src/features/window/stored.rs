//! Windows as bytes, for whoever writes them to a disk. Only what cannot be worked out again is stored: the events and
//! their shapes, and the summaries of what has left the ring. The same events give the same bytes. All numbers are
//! little-endian.
//!
//! ```text
//!   0   1  version, 2
//!   1   2  number of events, at most EVENTS_PER_KEY_MAX
//!   3   2  number of shapes, in the order in which the events have them
//!   5      shapes, 18 bytes each: merchant 4, device 4, category 4, lower 6 of `rest` (`features/compact.rs`)
//!   +   8  time of the newest event, ms
//!   +      events, 12 bytes each, in the order of the ring: lower 4 of the time, then from the lowest bit of the
//!          other 8 shape 13, counted among those above, and amount 51 (signed)
//!   +   1  1 where summaries follow, else 0: the end
//!   +   8  time of the newest event in the summaries, ms
//!   +   4  totals of the account and of one card that they are of, 2 each
//!   +   4  number of summaries; each of them:
//!            8  steps that begin before this time were given up, ms
//!            2  number of steps; each of them 32 bytes: number 8, count 8, sum 16
//! ```

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use super::{
    EVENTS_PER_KEY_MAX, HORIZON_MS, SHAPES_MAX, Shape, WindowPlan, Windows,
    overflow::{Layout, Overflow, STEPS_MAX, Step, Summary},
};
use crate::{
    features::event::Event,
    limits::{AMOUNT_MINOR_MAX, CARDS_PER_ACCOUNT_MAX},
};

const VERSION: u8 = 2;
const SHAPE_REST_BYTES: usize = 6;
const SHAPE_BITS: u32 = 13;
/// Every card, and the place of none.
const CARD_PLACES_MAX: usize = CARDS_PER_ACCOUNT_MAX + 1;
/// An event's time is kept to 48 bits; nothing computed from one, or from a step of one, overflows.
const TIME_MAX_MS: u64 = 1 << 47;
/// Far more events than one account will ever have, and far from the end of the type.
const STEP_COUNT_MAX: u64 = 1 << 48;

/// Why bytes are not stored windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("stored windows end at byte {byte}, in the middle of something")]
    Cut { byte: usize },
    #[error("stored windows, byte {byte}: {what}")]
    Bad { byte: usize, what: &'static str },
}

/// Appends the windows to `out`.
pub fn encode(windows: &Windows, out: &mut Vec<u8>) {
    const UNSEEN: u16 = u16::MAX;
    let ring = &windows.events;
    let shapes: ArrayVec<Shape, SHAPES_MAX> = ring.shapes().collect();
    let mut numbers: ArrayVec<u16, SHAPES_MAX> = shapes.iter().map(|_| UNSEEN).collect();
    let mut in_order = ArrayVec::<Shape, SHAPES_MAX>::new();
    for (_, event) in ring.packed_events() {
        let number = &mut numbers[event.shape()];
        if *number == UNSEEN {
            *number = in_order.len() as u16;
            in_order.push(shapes[event.shape()]);
        }
    }
    out.push(VERSION);
    out.extend((ring.len() as u16).to_le_bytes());
    out.extend((in_order.len() as u16).to_le_bytes());
    for shape in &in_order {
        out.extend(shape.merchant.to_le_bytes());
        out.extend(shape.device.to_le_bytes());
        out.extend(shape.category.to_le_bytes());
        out.extend(&shape.rest.to_le_bytes()[..SHAPE_REST_BYTES]);
    }
    out.extend(ring.newest_ms().unwrap_or(0).to_le_bytes());
    for (time, event) in ring.packed_events() {
        let number = u64::from(numbers[event.shape()]);
        out.extend(time.to_le_bytes());
        out.extend(((event.amount_minor() << SHAPE_BITS) as u64 | number).to_le_bytes());
    }
    let Some(overflow) = &windows.overflow else {
        out.push(0);
        return;
    };
    out.push(1);
    out.extend(overflow.newest_ms.to_le_bytes());
    out.extend((overflow.layout.account_totals as u16).to_le_bytes());
    out.extend((overflow.layout.card_totals as u16).to_le_bytes());
    out.extend((overflow.summaries.len() as u32).to_le_bytes());
    for summary in &overflow.summaries {
        out.extend(summary.unknown_before_ms.to_le_bytes());
        out.extend((summary.steps.len() as u16).to_le_bytes());
        for step in &summary.steps {
            out.extend(step.number.to_le_bytes());
            out.extend(step.count.to_le_bytes());
            out.extend(step.sum_minor.to_le_bytes());
        }
    }
}

/// Reads windows that take up all of `bytes` and were kept under `plan`, or are to be from now on: summaries of another
/// plan go over as in [`Windows::refit`]. `filters` says anew which filters an event passes.
///
/// # Errors
/// Where the bytes are not what [`encode`] writes.
pub fn decode(
    bytes: &[u8],
    plan: &WindowPlan,
    same_plan: bool,
    filters: impl Fn(&Event) -> u64,
) -> Result<Windows, DecodeError> {
    let mut reader = Reader { bytes, byte: 0 };
    if reader.take::<1>()? != [VERSION] {
        return Err(DecodeError::Bad { byte: 0, what: "a version that is not known here" });
    }
    let events = usize::from(u16::from_le_bytes(reader.take()?));
    let shapes = usize::from(u16::from_le_bytes(reader.take()?));
    if events > EVENTS_PER_KEY_MAX || shapes > events {
        return Err(reader.bad("more events than a ring holds, or more shapes than events"));
    }
    let mut windows = Windows::default();
    if events > 0 {
        windows.events.reserve(events, shapes);
    }
    for index in 0..shapes {
        let shape = shape(&mut reader)?;
        let event = shape.event().ok_or_else(|| reader.bad("not the shape of an event"))?;
        if usize::from(event.card) >= CARD_PLACES_MAX {
            return Err(reader.bad("a card that no account has"));
        }
        windows.add_card(plan, event.card);
        windows.events.set_shape(index, shape, filters(&event));
    }
    let newest_ms = i64::from_le_bytes(reader.take()?);
    if newest_ms.unsigned_abs() > TIME_MAX_MS {
        return Err(reader.bad("a time beyond all times"));
    }
    let mut before_ms = newest_ms - HORIZON_MS;
    let mut used = 0;
    for _ in 0..events {
        let time = u32::from_le_bytes(reader.take()?);
        let words = u64::from_le_bytes(reader.take()?);
        let (amount_minor, shape) = (words as i64 >> SHAPE_BITS, (words & ((1 << SHAPE_BITS) - 1)) as usize);
        let time_ms = newest_ms - i64::from((newest_ms as u32).wrapping_sub(time));
        if time_ms < before_ms {
            return Err(reader.bad("an event before the one before it, or too far from the newest"));
        }
        if amount_minor.abs() > AMOUNT_MINOR_MAX {
            return Err(reader.bad("an amount beyond all amounts"));
        }
        // Shapes are counted in the order in which the events have them, so that none is without an event.
        if shape > used || shape >= shapes {
            return Err(reader.bad("a shape out of its order"));
        }
        used = used.max(shape + 1);
        before_ms = time_ms;
        windows.events.push(time, amount_minor, shape, newest_ms);
    }
    if used != shapes || (events > 0 && before_ms != newest_ms) {
        return Err(reader.bad("a shape without an event, or a newest time that no event has"));
    }
    if events > 0 {
        // Nothing is inside any window: the first reading lets in what belongs there.
        windows.tails = vec![events as u16; plan.lengths.len()].into();
    }
    windows.overflow = match reader.take()? {
        [0] => None,
        [1] => {
            let mut overflow = overflow(&mut reader)?;
            if !same_plan {
                overflow.refit(plan.layout(), plan.built_in);
            } else if overflow.layout != plan.layout() {
                return Err(reader.bad("summaries of another number of totals"));
            }
            Some(Box::new(overflow))
        }
        _ => return Err(reader.bad("neither an end nor summaries")),
    };
    match reader.byte == bytes.len() {
        true => Ok(windows),
        false => Err(reader.bad("more bytes than belong to the windows")),
    }
}

fn shape(reader: &mut Reader) -> Result<Shape, DecodeError> {
    Ok(Shape {
        merchant: u32::from_le_bytes(reader.take()?),
        device: u32::from_le_bytes(reader.take()?),
        category: u32::from_le_bytes(reader.take()?),
        rest: {
            let mut rest = [0; 8];
            rest[..SHAPE_REST_BYTES].copy_from_slice(&reader.take::<SHAPE_REST_BYTES>()?);
            u64::from_le_bytes(rest)
        },
    })
}

fn overflow(reader: &mut Reader) -> Result<Overflow, DecodeError> {
    let newest_ms = i64::from_le_bytes(reader.take()?);
    let layout = Layout {
        account_totals: usize::from(u16::from_le_bytes(reader.take()?)),
        card_totals: usize::from(u16::from_le_bytes(reader.take()?)),
    };
    let summaries = u32::from_le_bytes(reader.take()?) as usize;
    if summaries > layout.card(CARD_PLACES_MAX) {
        return Err(reader.bad("more summaries than the plan has totals"));
    }
    let mut overflow = Overflow { newest_ms, layout, summaries: Vec::new() };
    for _ in 0..summaries {
        let unknown_before_ms = i64::from_le_bytes(reader.take()?);
        let count = usize::from(u16::from_le_bytes(reader.take()?));
        if count > STEPS_MAX {
            return Err(reader.bad("more steps than a summary holds"));
        }
        let mut steps = VecDeque::<Step>::new();
        for _ in 0..count {
            let step = Step {
                number: i64::from_le_bytes(reader.take()?),
                count: u64::from_le_bytes(reader.take()?),
                sum_minor: i128::from_le_bytes(reader.take()?),
            };
            if steps.back().is_some_and(|last| last.number >= step.number) {
                return Err(reader.bad("a step before the one before it"));
            }
            let sum_max = u128::from(step.count) * AMOUNT_MINOR_MAX as u128;
            if step.number.unsigned_abs() > TIME_MAX_MS
                || step.count > STEP_COUNT_MAX
                || step.sum_minor.unsigned_abs() > sum_max
            {
                return Err(reader.bad("a step beyond all times, counts or sums"));
            }
            steps.push_back(step);
        }
        overflow.summaries.push(Summary { steps, unknown_before_ms });
    }
    Ok(overflow)
}

/// Reads forwards and knows where it is.
struct Reader<'b> {
    bytes: &'b [u8],
    byte: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let taken = self.bytes.get(self.byte..).and_then(|rest| rest.first_chunk::<N>());
        let taken = *taken.ok_or(DecodeError::Cut { byte: self.bytes.len() })?;
        self.byte += N;
        Ok(taken)
    }

    fn bad(&self, what: &'static str) -> DecodeError {
        DecodeError::Bad { byte: self.byte, what }
    }
}

//! Windows as bytes, for whoever writes them to a disk. Only what cannot be worked out again is stored: the events,
//! and the summaries of those that have left the ring. All numbers are little-endian.
//!
//! ```text
//!   0  1  version, 1
//!   1  2  number of events, at most EVENTS_PER_KEY_MAX
//!   3     events, 32 bytes each, in the order of the ring: the four words of a compact event
//!   +  1  1 where summaries follow, else 0: the end
//!   +  8  time of the newest event in the summaries, ms
//!   +  4  number of summaries; each of them:
//!           8  steps that begin before this time were given up, ms
//!           2  number of steps; each of them 32 bytes: number 8, count 8, sum 16
//! ```

use std::collections::VecDeque;

use super::{Compact, EVENTS_PER_KEY_MAX, Overflow, STEPS_MAX, Step, Summary, WindowPlan, Windows};
use crate::{
    features::event::Event,
    limits::{AMOUNT_MINOR_MAX, CARDS_PER_ACCOUNT_MAX},
};

const VERSION: u8 = 1;
/// The totals of the account and those of every card and of none.
const CARD_PLACES_MAX: usize = CARDS_PER_ACCOUNT_MAX + 1;

/// Why bytes are not stored windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("stored windows end at byte {byte}, in the middle of something")]
    Cut { byte: usize },
    #[error("stored windows, byte {byte}: {what}")]
    Bad { byte: usize, what: &'static str },
    #[error("stored windows hold summaries made under other aggregates: build them from the journal")]
    OtherPlan,
}

/// Appends the windows to `out`.
pub fn encode(windows: &Windows, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.extend((windows.events.len() as u16).to_le_bytes());
    for event in &windows.events {
        out.extend(event.to_bytes());
    }
    let Some(overflow) = &windows.overflow else {
        out.push(0);
        return;
    };
    out.push(1);
    out.extend(overflow.newest_ms.to_le_bytes());
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

/// Reads windows that take up all of `bytes`. `filters` says anew which filters an event passes.
///
/// # Errors
/// Where the bytes are not what [`encode`] writes, or hold summaries and `same_plan` is false.
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
    if events > EVENTS_PER_KEY_MAX {
        return Err(reader.bad("more events than a ring holds"));
    }
    let mut windows = Windows::default();
    windows.events.reserve_exact(events.min(bytes.len() / Compact::BYTES));
    let mut newest_ms = i64::MIN;
    for _ in 0..events {
        let stored = Compact::from_bytes(reader.take()?);
        let event = stored.event().ok_or_else(|| reader.bad("not an event"))?;
        if usize::from(event.card) >= CARD_PLACES_MAX {
            return Err(reader.bad("a card that no account has"));
        }
        if event.time.0 < newest_ms {
            return Err(reader.bad("an event before the one before it"));
        }
        newest_ms = event.time.0;
        windows.record(plan, Compact::new(&event, filters(&event)));
    }
    if windows.events.len() != events {
        return Err(reader.bad("events too far apart for one ring"));
    }
    windows.overflow = match reader.take()? {
        [0] => None,
        [1] if !same_plan => return Err(DecodeError::OtherPlan),
        [1] => Some(Box::new(overflow(&mut reader, plan)?)),
        _ => return Err(reader.bad("neither an end nor summaries")),
    };
    match reader.byte == bytes.len() {
        true => Ok(windows),
        false => Err(reader.bad("more bytes than belong to the windows")),
    }
}

fn overflow(reader: &mut Reader, plan: &WindowPlan) -> Result<Overflow, DecodeError> {
    let newest_ms = i64::from_le_bytes(reader.take()?);
    let summaries = u32::from_le_bytes(reader.take()?) as usize;
    if summaries > plan.account_totals + CARD_PLACES_MAX * plan.card_totals {
        return Err(reader.bad("more summaries than the plan has totals"));
    }
    let mut overflow = Overflow { newest_ms, summaries: Vec::new() };
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
            if step.number.unsigned_abs() > STEP_NUMBER_MAX
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

/// A compact event's time has 48 bits; nothing computed from a step of such a time overflows.
const STEP_NUMBER_MAX: u64 = 1 << 47;
/// Far more events than one account will ever have, and far from the end of the type.
const STEP_COUNT_MAX: u64 = 1 << 48;

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

//! The windows of all keys as bytes, for a snapshot, so that they go on as if nothing had happened: which key goes next
//! is stored with them. One run of bytes cut into items wherever one is full; all numbers are little-endian.
//!
//! ```text
//!   1  version, 2
//!  16  fingerprint of the plan
//!   8  complete up to this position
//!   8  time of the newest event there was, ms
//!   8  keys that were evicted
//!      evicted keys, but for those that labels are counted by, and then these: 4 lines, 0 for none; where there are some, 8 base, and for every line a byte, 1 where the line
//!      follows (64 bytes), 0 where nothing is in it
//!      for each series of the plan the keys on probation, then the established ones: 4 number of tracks, and each of
//!      them, the least recently written first:
//!        8  key        8  time of the newest event, ms        8  forgotten up to, ms        8  sum before the first row
//!        4  rows there is room for        4  rows        the rows, in words of 4 (`rows.rs`)
//!        1  1 where summaries follow, else 0: the end
//!        8  time of the newest event in the summaries, ms
//!           for each summed window of the series: 8 steps that begin before this were given up, ms; 2 steps there is
//!           room for; 2 steps; each of them 32 bytes: number 8, count 8, sum 16
//! ```

use std::collections::VecDeque;

use super::{
    Shared, SharedPlan,
    evicted::Evicted,
    plan::Series,
    rows::Rows,
    track::{Left, Track},
    tracks::{ESTABLISHED, PROBATION},
};
use crate::{
    features::window::overflow::{STEPS_MAX, Step, Summary, step_ms},
    limits::SHARED_AMOUNT_BASE_MINOR_MAX,
    types::bytes::Misread,
};

const VERSION: u8 = 2;
/// Had one table of evicted keys: what is in it is told again by the journal.
const VERSION_OF_ONE_TABLE: u8 = 1;
const ITEM_BYTES_MAX: usize = 64 * 1024;
/// Nothing that is worked out from a time, or from a step of one, overflows.
const TIME_MAX_MS: i64 = 1 << 47;
/// Far more events than one key will ever have, and far from the end of the type.
const STEP_COUNT_MAX: u64 = 1 << 48;

/// Why bytes are not stored windows of this plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SharedDecodeError {
    #[error("stored windows over keys that cross accounts: {0}")]
    Misread(#[from] Misread),
    #[error(
        "stored windows over keys that cross accounts are of other aggregates: build them from the journal"
    )]
    OtherPlan,
}

impl Shared {
    /// Everything that is remembered, in items of at most 64 KiB.
    pub fn encode(&self, out: &mut dyn FnMut(&[u8])) {
        let mut items = Items { item: Vec::with_capacity(ITEM_BYTES_MAX), out };
        items.put(&[VERSION]);
        items.put(&self.fingerprint);
        items.put(&self.complete_to.to_le_bytes());
        items.put(&self.newest_ms.to_le_bytes());
        items.put(&self.tracks.evicted_keys.to_le_bytes());
        self.tracks.evicted.encode(&mut |bytes| items.put(bytes));
        self.tracks.evicted_labelled.encode(&mut |bytes| items.put(bytes));
        for series in 0..self.tracks.series() {
            for list in [PROBATION, ESTABLISHED] {
                items.put(&(self.tracks.list(series, list).count() as u32).to_le_bytes());
                for track in self.tracks.list(series, list) {
                    put_track(&mut items, track, self.widths[series]);
                }
            }
        }
        if !items.item.is_empty() {
            (items.out)(&items.item);
        }
    }

    /// Reads what [`Shared::encode`] wrote under a plan of the same [`SharedPlan::fingerprint`]. The budget may be
    /// another: keys make way as ever where it is smaller.
    ///
    /// # Errors
    /// Where the items are anything else.
    pub fn decode<'b>(
        plan: &SharedPlan,
        budget_bytes: usize,
        items: impl Iterator<Item = &'b [u8]>,
    ) -> Result<Shared, SharedDecodeError> {
        let mut reader = Reader { items, item: &[], byte: 0 };
        let [version] = reader.take()?;
        if version == VERSION_OF_ONE_TABLE {
            return Err(SharedDecodeError::OtherPlan);
        }
        if version != VERSION {
            return Err(reader.bad("a version that is not known here").into());
        }
        if reader.take()? != plan.fingerprint() {
            return Err(SharedDecodeError::OtherPlan);
        }
        let mut shared = Shared::new(plan, budget_bytes);
        shared.complete_to = u64::from_le_bytes(reader.take()?);
        shared.newest_ms = match i64::from_le_bytes(reader.take()?) {
            i64::MIN => i64::MIN,
            newest_ms => reader.time(newest_ms)?,
        };
        shared.tracks.evicted_keys = u64::from_le_bytes(reader.take()?);
        evicted(&mut reader, &mut shared.tracks.evicted)?;
        evicted(&mut reader, &mut shared.tracks.evicted_labelled)?;
        for (number, series) in plan.series.iter().enumerate() {
            for list in [PROBATION, ESTABLISHED] {
                for _ in 0..u32::from_le_bytes(reader.take()?) {
                    let mut track = track(&mut reader, series, shared.newest_ms)?;
                    (track.series, track.list) = (number as u8, list);
                    if shared.tracks.has(track.key) {
                        return Err(reader.bad("a key twice").into());
                    }
                    shared.tracks.restore(track);
                    shared.fit(plan);
                }
            }
        }
        match reader.take::<1>() {
            Err(_) => Ok(shared),
            Ok(_) => Err(reader.bad("more bytes than belong to the windows").into()),
        }
    }
}

fn put_track(items: &mut Items, track: &Track, width: usize) {
    for number in [track.key as i64, track.newest_ms, track.forgotten_ms, track.base_minor] {
        items.put(&number.to_le_bytes());
    }
    for number in [track.rows.capacity(width), track.rows.len()] {
        items.put(&(number as u32).to_le_bytes());
    }
    for index in 0..track.rows.len() {
        for word in track.rows.row(width, index) {
            items.put(&word.to_le_bytes());
        }
    }
    let Some(left) = &track.left else { return items.put(&[0]) };
    items.put(&[1]);
    items.put(&left.newest_ms.to_le_bytes());
    for summary in &left.summaries {
        items.put(&summary.unknown_before_ms.to_le_bytes());
        for number in [summary.steps.capacity(), summary.steps.len()] {
            items.put(&(number as u16).to_le_bytes());
        }
        for step in &summary.steps {
            items.put(&step.number.to_le_bytes());
            items.put(&step.count.to_le_bytes());
            items.put(&step.sum_minor.to_le_bytes());
        }
    }
}

fn evicted<'b>(
    reader: &mut Reader<'b, impl Iterator<Item = &'b [u8]>>,
    table: &mut Evicted,
) -> Result<(), Misread> {
    let lines = u32::from_le_bytes(reader.take()?) as usize;
    if lines == 0 {
        return Ok(());
    }
    if !lines.is_power_of_two() {
        return Err(reader.bad("evicted keys in a table that nobody makes"));
    }
    let base = i64::from_le_bytes(reader.take()?);
    reader.time(base.saturating_mul(table.unit_ms))?;
    table.begin(base);
    for line in 0..lines {
        match reader.take()? {
            [0] => {}
            [1] => table.restore(line, lines, &reader.take()?),
            _ => return Err(reader.bad("neither a line of evicted keys nor none")),
        }
    }
    Ok(())
}

fn track<'b>(
    reader: &mut Reader<'b, impl Iterator<Item = &'b [u8]>>,
    series: &Series,
    last_ms: i64,
) -> Result<Track, Misread> {
    let (key, newest_ms) = (u64::from_le_bytes(reader.take()?), i64::from_le_bytes(reader.take()?));
    if reader.time(newest_ms)? > last_ms {
        return Err(reader.bad("an event after the newest there was"));
    }
    let forgotten_ms = match i64::from_le_bytes(reader.take()?) {
        i64::MIN => i64::MIN,
        forgotten_ms => reader.time(forgotten_ms)?,
    };
    let mut track = Track::new(key, 0, forgotten_ms);
    (track.newest_ms, track.base_minor) = (newest_ms, i64::from_le_bytes(reader.take()?));
    let [capacity, rows] = [u32::from_le_bytes(reader.take()?), u32::from_le_bytes(reader.take()?)];
    track.rows = read_rows(reader, series, [capacity as usize, rows as usize], &track)?;
    track.left = match reader.take()? {
        [0] => None,
        [1] => Some(Box::new(left(reader, series, newest_ms)?)),
        _ => return Err(reader.bad("neither an end nor summaries")),
    };
    Ok(track)
}

fn read_rows<'b>(
    reader: &mut Reader<'b, impl Iterator<Item = &'b [u8]>>,
    series: &Series,
    [capacity, rows]: [usize; 2],
    &Track { newest_ms, base_minor, .. }: &Track,
) -> Result<Rows, Misread> {
    if rows == 0 || rows > series.events_max() || !Rows::may_have(capacity, rows) {
        return Err(reader.bad("more rows than a key has, or none, or more room than they take"));
    }
    let width = series.width();
    let mut read = Rows::with_capacity(width, capacity);
    let (mut age_ms, mut sum) = (u32::try_from(series.horizon_ms).unwrap_or(u32::MAX), base_minor);
    for index in 0..rows {
        let mut row = arrayvec::ArrayVec::<u32, { super::track::ROW_WORDS_MAX }>::new();
        for _ in 0..width {
            row.push(u32::from_le_bytes(reader.take()?));
        }
        read.insert(width, index, &row, capacity);
        let before = (age_ms, sum);
        age_ms = (newest_ms as u32).wrapping_sub(read.time(width, index));
        if age_ms > before.0 {
            return Err(reader.bad("an event before the one before it, or too far from the newest"));
        }
        sum = read.sum(width, index);
        if !(0..=SHARED_AMOUNT_BASE_MINOR_MAX).contains(&sum.wrapping_sub(before.1)) {
            return Err(reader.bad("an amount beyond all amounts"));
        }
    }
    match age_ms {
        0 => Ok(read),
        _ => Err(reader.bad("a newest time that no event has")),
    }
}

fn left<'b>(
    reader: &mut Reader<'b, impl Iterator<Item = &'b [u8]>>,
    series: &Series,
    last_ms: i64,
) -> Result<Left, Misread> {
    let newest_ms = i64::from_le_bytes(reader.take()?);
    if reader.time(newest_ms)? > last_ms {
        return Err(reader.bad("a summary newer than the newest event"));
    }
    let mut left = Left { newest_ms, summaries: Vec::with_capacity(series.summed_ms.len()) };
    for window_ms in &series.summed_ms {
        let unknown_before_ms = i64::from_le_bytes(reader.take()?);
        let [capacity, count] = [u16::from_le_bytes(reader.take()?), u16::from_le_bytes(reader.take()?)];
        // A deque doubles its room, and has one step more for a moment.
        if usize::from(count) > STEPS_MAX || count > capacity || usize::from(capacity) > 2 * STEPS_MAX {
            return Err(reader.bad("more steps than a summary holds, or than it has room for"));
        }
        let mut steps = VecDeque::<Step>::with_capacity(usize::from(capacity));
        for _ in 0..count {
            let step = Step {
                number: i64::from_le_bytes(reader.take()?),
                count: u64::from_le_bytes(reader.take()?),
                sum_minor: i128::from_le_bytes(reader.take()?),
            };
            if steps.back().is_some_and(|last| last.number >= step.number) {
                return Err(reader.bad("a step before the one before it"));
            }
            let sum_max = i128::from(step.count) * i128::from(SHARED_AMOUNT_BASE_MINOR_MAX);
            if step.number.saturating_mul(step_ms(*window_ms)).unsigned_abs() > TIME_MAX_MS as u64
                || step.count > STEP_COUNT_MAX
                || !(0..=sum_max).contains(&step.sum_minor)
            {
                return Err(reader.bad("a step beyond all times, counts or sums"));
            }
            steps.push_back(step);
        }
        left.summaries.push(Summary { steps, unknown_before_ms });
    }
    Ok(left)
}

/// Cuts what is written into items.
struct Items<'o> {
    item: Vec<u8>,
    out: &'o mut dyn FnMut(&[u8]),
}

impl Items<'_> {
    /// `bytes` are few.
    fn put(&mut self, bytes: &[u8]) {
        if self.item.len() + bytes.len() > ITEM_BYTES_MAX {
            (self.out)(&self.item);
            self.item.clear();
        }
        self.item.extend_from_slice(bytes);
    }
}

/// Reads forwards through all items and knows where it is.
struct Reader<'b, I> {
    items: I,
    item: &'b [u8],
    byte: usize,
}

impl<'b, I: Iterator<Item = &'b [u8]>> Reader<'b, I> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Misread> {
        let mut taken = [0; N];
        let mut rest = &mut taken[..];
        while !rest.is_empty() {
            if self.item.is_empty() {
                self.item = self.items.next().ok_or_else(|| self.bad("the bytes end too early"))?;
            }
            let count = rest.len().min(self.item.len());
            let (now, later) = self.item.split_at(count);
            rest[..count].copy_from_slice(now);
            (rest, self.item) = (&mut rest[count..], later);
            self.byte += count;
        }
        Ok(taken)
    }

    fn time(&self, time_ms: i64) -> Result<i64, Misread> {
        match (-TIME_MAX_MS..=TIME_MAX_MS).contains(&time_ms) {
            true => Ok(time_ms),
            false => Err(self.bad("a time beyond all times")),
        }
    }

    fn bad(&self, what: &'static str) -> Misread {
        Misread { byte: self.byte, what }
    }
}

//! All keys' tracks, inside one budget of bytes.
//!
//! The least recently written go first; readings change nothing. A key starts on probation and is established by its
//! second event. Where room is wanted, keys on probation go as long as they hold more than a fifth of it, so that a
//! flood of keys that are seen once washes out nothing else. Keys that labels are counted by go last, as long as they
//! hold no more than a quarter: they are few, and nobody who sends requests can make more of them.
//!
//! Tracks lie densely in blocks, found through a table of a size that follows from the budget: nothing is ever hashed
//! anew, and what is taken depends on nothing but what was recorded.

use std::hash::BuildHasher as _;

use arrayvec::ArrayVec;

use super::{
    event::SharedEvent,
    evicted::Evicted,
    plan::{READINGS_MAX, Series, SharedPlan},
    track::Track,
};
use crate::limits::SHARED_BUDGET_BYTES_MIN;

/// A track with its share of what holds the blocks.
pub const TRACK_BYTES: usize = size_of::<Track>() + 1;
/// One row of an event without attributes is the least that a track holds.
const TRACK_BYTES_MIN: usize = TRACK_BYTES + 16;
const BLOCK: usize = 64;
/// Of the budget, for the keys that were evicted, and for those of them that labels are counted by.
const EVICTED_SHARE: usize = 16;
const EVICTED_LABELLED_SHARE: usize = 64;
/// Of the tracks' bytes, for keys on probation where others want room.
const PROBATION_SHARE: usize = 5;
/// Of the tracks' bytes, for keys that labels are counted by where others want room.
const LABELLED_SHARE: usize = 4;
/// Tracks without events in any window that are let go for one event.
const IDLE_PER_EVENT: usize = 4;
const NONE: u32 = u32::MAX;

pub const PROBATION: u8 = 0;
pub const ESTABLISHED: u8 = 1;

#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
}

pub struct Tracks {
    blocks: Vec<Vec<Track>>,
    /// Place of a track and 1; 0 is free. Open addressing with linear probing.
    table: Box<[u32]>,
    /// Nobody who makes up ids may foretell where they lie. Nothing that is read depends on it.
    hasher: foldhash::fast::RandomState,
    /// For each series its keys on probation, then its established ones.
    lists: Vec<[List; 2]>,
    /// For each series whether labels are counted.
    is_labelled: Vec<bool>,
    pub evicted: Evicted,
    /// Those that labels are counted by, apart: however many others go, a place that nobody reported reads none.
    pub evicted_labelled: Evicted,
    /// Bytes of the tracks, of those on probation, and of those that labels are counted by, which are never among them.
    bytes: usize,
    probation_bytes: usize,
    labelled_bytes: usize,
    bytes_max: usize,
    pub len: usize,
    pub events: u64,
    pub saturated: usize,
    pub evicted_keys: u64,
}

/// Into the figures or out of them.
#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

/// Up to when events were forgotten, or what is kept.
#[derive(Clone, Copy)]
pub enum Found<'t> {
    Absent { forgotten_ms: i64 },
    Track(&'t Track),
}

impl Tracks {
    pub fn new(plan: &SharedPlan, budget_bytes: usize) -> Tracks {
        let budget_bytes = budget_bytes.max(SHARED_BUDGET_BYTES_MIN);
        let evicted = Evicted::new(budget_bytes / EVICTED_SHARE, plan.horizon_ms());
        let evicted_labelled = Evicted::new(budget_bytes / EVICTED_LABELLED_SHARE, plan.horizon_ms());
        // One event may add a track for each series before any is evicted.
        let tracks_max = budget_bytes / TRACK_BYTES_MIN + READINGS_MAX;
        let places = tracks_max * 4 / 3;
        let fixed = evicted.bytes()
            + evicted_labelled.bytes()
            + places * size_of::<u32>()
            + BLOCK * size_of::<Track>();
        Tracks {
            blocks: Vec::new(),
            table: vec![0; places].into(),
            hasher: foldhash::fast::RandomState::default(),
            lists: vec![[List { oldest: NONE, newest: NONE }; 2]; plan.series.len()],
            is_labelled: plan.series.iter().map(|series| series.label.is_some()).collect(),
            evicted,
            evicted_labelled,
            bytes: 0,
            probation_bytes: 0,
            labelled_bytes: 0,
            bytes_max: budget_bytes - fixed,
            len: 0,
            events: 0,
            saturated: 0,
            evicted_keys: 0,
        }
    }

    /// Of the tracks and of what finds them.
    pub fn heap_bytes(&self) -> usize {
        let evicted = self.evicted.bytes() + self.evicted_labelled.bytes();
        self.bytes + evicted + size_of_val::<[u32]>(&self.table) + BLOCK * size_of::<Track>()
    }

    /// Whether no key of this series is kept.
    #[inline]
    pub fn is_empty(&self, series: usize) -> bool {
        self.lists[series].iter().all(|list| list.oldest == NONE)
    }

    /// What is kept of a key of this series.
    #[inline]
    pub fn find(&self, series: usize, key: u64) -> Found<'_> {
        // A series without keys, as those of frauds where no label comes, costs nothing to ask.
        match (!self.is_empty(series)).then(|| self.place(key)).flatten() {
            Some((_, place)) => Found::Track(self.track(place)),
            None => Found::Absent { forgotten_ms: self.forgotten_ms(series, key) },
        }
    }

    /// Asks for the memory of what is kept of these keys, and where it is to be written, of its neighbours in the lists:
    /// all of it at once, so that the waits overlap. With many keys they are most of what a reading takes. `keys` come
    /// with the words of their series' rows. Changes nothing.
    #[inline]
    pub fn touch(&self, keys: impl Iterator<Item = (u64, usize)>, is_written: bool) {
        let mut found = ArrayVec::<(u32, usize), READINGS_MAX>::new();
        for (key, width) in keys.take(READINGS_MAX) {
            found.push((self.table[self.home(key)], width));
        }
        let mut all = 0;
        for (place, width) in found {
            let Some(place) = place.checked_sub(1) else { continue };
            let track = self.track(place);
            all ^= track.key as u32 ^ track.rows.touch(width);
            if is_written {
                let beside = [track.older, track.newer].into_iter().filter(|place| *place != NONE);
                all = beside.fold(all, |all, place| all ^ self.track(place).older);
            }
        }
        std::hint::black_box(all);
    }

    /// Up to when events of a key that is not kept may have been forgotten.
    #[inline]
    fn forgotten_ms(&self, series: usize, key: u64) -> i64 {
        let evicted = if self.is_labelled[series] { &self.evicted_labelled } else { &self.evicted };
        evicted.forgotten_ms(key).unwrap_or(i64::MIN)
    }

    /// Takes in an event, which must not be before `floor_ms`.
    pub fn record(&mut self, series: &Series, number: u8, key: u64, event: &SharedEvent, floor_ms: i64) {
        let place = match self.place(key) {
            Some((_, place)) => {
                self.count(place, Way::Out);
                self.unlink(place);
                self.track_mut(place).list = ESTABLISHED;
                place
            }
            None => {
                let forgotten_ms = self.forgotten_ms(usize::from(number), key);
                self.put(Track::new(key, number, forgotten_ms))
            }
        };
        let attributes = series.attributes.iter().map(|attribute| event.attribute(*attribute));
        let moment = (event.event.time.0, event.event.amount_minor);
        self.track_mut(place).record(series, moment, attributes, floor_ms);
        self.link_newest(place);
        self.count(place, Way::In);
    }

    /// Takes in a track as it was stored, as the one that was last written in its list.
    pub fn restore(&mut self, track: Track) {
        let place = self.put(track);
        self.link_newest(place);
        self.count(place, Way::In);
    }

    pub fn series(&self) -> usize {
        self.lists.len()
    }

    /// Whether a track of this key is kept.
    pub fn has(&self, key: u64) -> bool {
        self.place(key).is_some()
    }

    /// The tracks of a list, the one that was last written last.
    pub fn list(&self, series: usize, list: u8) -> impl Iterator<Item = &Track> {
        let mut next = self.lists[series][usize::from(list)].oldest;
        std::iter::from_fn(move || {
            let track = (next != NONE).then(|| self.track(next))?;
            next = track.newer;
            Some(track)
        })
    }

    /// Lets go tracks of a series whose events have left every window, the least recently written first, a few at a
    /// time.
    pub fn drop_idle(&mut self, series: usize, floor_ms: i64) {
        for list in 0..2 {
            for _ in 0..IDLE_PER_EVENT / 2 {
                let oldest = self.lists[series][list].oldest;
                if oldest == NONE || self.track(oldest).last_ms() >= floor_ms {
                    break;
                }
                self.remove(oldest);
            }
        }
    }

    /// Evicts until all fits into the budget. What is older than `floor_ms` says for its series need not be remembered.
    pub fn fit(&mut self, floor_ms: impl Fn(usize) -> i64) {
        while self.bytes > self.bytes_max
            && let Some(place) = self.least_wanted()
        {
            let track = self.track(place);
            let (key, series, last_ms) = (track.key, usize::from(track.series), track.last_ms());
            if last_ms >= floor_ms(series) {
                let evicted = match self.is_labelled[series] {
                    true => &mut self.evicted_labelled,
                    false => &mut self.evicted,
                };
                evicted.remember(key, last_ms);
            }
            self.remove(place);
            self.evicted_keys = self.evicted_keys.saturating_add(1);
        }
    }

    /// Of the oldest in the lists of every series the one that has had no event for longest.
    fn least_wanted(&self) -> Option<u32> {
        let oldest = |list: u8, is_labelled: bool| {
            let kinds = self.lists.iter().zip(&self.is_labelled);
            let lists = kinds.filter(|(_, labelled)| **labelled == is_labelled).map(|(lists, _)| lists);
            let oldest = lists.map(|lists| lists[usize::from(list)].oldest);
            oldest.filter(|place| *place != NONE).min_by_key(|place| self.track(*place).newest_ms)
        };
        let (first, other) = match self.probation_bytes > self.bytes_max / PROBATION_SHARE {
            true => (PROBATION, ESTABLISHED),
            false => (ESTABLISHED, PROBATION),
        };
        let of_attempts = || oldest(first, false).or_else(|| oldest(other, false));
        let of_labels = || oldest(PROBATION, true).or_else(|| oldest(ESTABLISHED, true));
        match self.labelled_bytes > self.bytes_max / LABELLED_SHARE {
            true => of_labels().or_else(of_attempts),
            false => of_attempts().or_else(of_labels),
        }
    }

    #[inline]
    fn track(&self, place: u32) -> &Track {
        &self.blocks[place as usize / BLOCK][place as usize % BLOCK]
    }

    #[inline]
    fn track_mut(&mut self, place: u32) -> &mut Track {
        &mut self.blocks[place as usize / BLOCK][place as usize % BLOCK]
    }

    fn count(&mut self, place: u32, way: Way) {
        let track = self.track(place);
        let (list, bytes) = (track.list, TRACK_BYTES + track.heap_bytes());
        let (events, saturated) = (track.rows.len() as u64, usize::from(track.left.is_some()));
        let is_labelled = self.is_labelled[usize::from(track.series)];
        let labelled_bytes = if is_labelled { bytes } else { 0 };
        let probation_bytes = if list == PROBATION && !is_labelled { bytes } else { 0 };
        match way {
            Way::In => {
                self.bytes += bytes;
                self.probation_bytes += probation_bytes;
                self.labelled_bytes += labelled_bytes;
                self.events += events;
                self.saturated += saturated;
            }
            Way::Out => {
                self.bytes -= bytes;
                self.probation_bytes -= probation_bytes;
                self.labelled_bytes -= labelled_bytes;
                self.events -= events;
                self.saturated -= saturated;
            }
        }
    }

    fn put(&mut self, track: Track) -> u32 {
        let place = self.len as u32;
        let mut at = self.home(track.key);
        while self.table[at] != 0 {
            at = self.after(at);
        }
        self.table[at] = place + 1;
        if self.len.is_multiple_of(BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        self.blocks[self.len / BLOCK].push(track);
        self.len += 1;
        place
    }

    /// Takes a track out; the last one moves into its place.
    fn remove(&mut self, place: u32) {
        self.count(place, Way::Out);
        self.unlink(place);
        if let Some((at, _)) = self.place(self.track(place).key) {
            self.free(at);
        }
        let last = self.len as u32 - 1;
        if place != last {
            let &Track { key, older, newer, series, list, .. } = self.track(last);
            if let Some((at, _)) = self.place(key) {
                self.table[at] = place + 1;
            }
            self.set_next(older, (series, list), place);
            self.set_previous(newer, (series, list), place);
        }
        let end = self.len - 1;
        if let Some(moved) = self.blocks[end / BLOCK].pop()
            && place != last
        {
            *self.track_mut(place) = moved;
        }
        if end.is_multiple_of(BLOCK) {
            self.blocks.pop();
        }
        self.len = end;
    }

    fn link_newest(&mut self, place: u32) {
        let track = self.track(place);
        let list = (track.series, track.list);
        let before = self.lists[usize::from(list.0)][usize::from(list.1)].newest;
        let track = self.track_mut(place);
        (track.older, track.newer) = (before, NONE);
        self.set_next(before, list, place);
        self.set_previous(NONE, list, place);
    }

    fn unlink(&mut self, place: u32) {
        let &Track { older, newer, series, list, .. } = self.track(place);
        self.set_next(older, (series, list), newer);
        self.set_previous(newer, (series, list), older);
    }

    /// What comes after `place` in its list; at the front of it after `NONE`.
    fn set_next(&mut self, place: u32, (series, list): (u8, u8), next: u32) {
        match place {
            NONE => self.lists[usize::from(series)][usize::from(list)].oldest = next,
            place => self.track_mut(place).newer = next,
        }
    }

    /// What comes before `place` in its list; at the back of it before `NONE`.
    fn set_previous(&mut self, place: u32, (series, list): (u8, u8), previous: u32) {
        match place {
            NONE => self.lists[usize::from(series)][usize::from(list)].newest = previous,
            place => self.track_mut(place).older = previous,
        }
    }

    /// Where in the table a key is, and the place of its track.
    #[inline]
    fn place(&self, key: u64) -> Option<(usize, u32)> {
        let mut at = self.home(key);
        loop {
            let place = self.table[at].checked_sub(1)?;
            if self.track(place).key == key {
                return Some((at, place));
            }
            at = self.after(at);
        }
    }

    #[inline]
    fn home(&self, key: u64) -> usize {
        let hash = self.hasher.hash_one(key);
        ((u128::from(hash) * self.table.len() as u128) >> 64) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.table.len() { 0 } else { at + 1 }
    }

    /// Frees a place in the table, and moves up whoever was kept from it (Knuth, The Art of Computer Programming,
    /// volume 3, section 6.4, algorithm R).
    fn free(&mut self, mut at: usize) {
        let len = self.table.len();
        let distance = |from: usize, to: usize| if to >= from { to - from } else { to + len - from };
        let mut next = at;
        loop {
            next = self.after(next);
            let Some(place) = self.table[next].checked_sub(1) else { break };
            let home = self.home(self.track(place).key);
            if distance(home, next) >= distance(at, next) {
                self.table[at] = place + 1;
                at = next;
            }
        }
        self.table[at] = 0;
    }
}

//! The closed segments whose keys need not be in memory's index, each with the place where they are found, and the
//! filters that stand before them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    journal::{Filter, FilterGroup, Filters, KeyEntry, KeyFile, KeySpan, SIEVE_SEGMENTS, Sieve, filter_hash},
    types::time::Timestamp,
};

/// The keys of a segment, read from it.
#[derive(Clone)]
pub(super) struct SegmentKeys {
    pub(super) span: KeySpan,
    /// In the order of keys, once they were to be written.
    pub(super) entries: Vec<KeyEntry>,
}

/// Where the keys of a segment are found.
pub(super) enum Place {
    File(KeyFile),
    /// Here, because their file cannot be written.
    Memory(SegmentKeys),
    /// In the segment alone, which each look-up reads: it could not be read so far, or memory has no room.
    Segment,
}

/// One segment of the shelf.
pub(super) struct OlderSegment {
    pub(super) segment: u64,
    pub(super) place: Place,
    filter: Arc<Filter>,
    /// Whether its keys have left memory's index for its file.
    is_demoted: AtomicBool,
    /// Positions of its authorisations whose answer was handed over, rising.
    pub(super) answered: Arc<Mutex<Vec<u64>>>,
}

impl OlderSegment {
    fn new(segment: u64, place: Place, filter: Arc<Filter>) -> OlderSegment {
        OlderSegment { segment, place, filter, is_demoted: false.into(), answered: Arc::default() }
    }

    pub(super) fn in_file(file: KeyFile) -> OlderSegment {
        let filter = Arc::clone(file.filter());
        OlderSegment::new(file.span().segment, Place::File(file), filter)
    }

    /// One whose file cannot be written; its keys stay here where there is room for so many.
    pub(super) fn without_file(mut keys: SegmentKeys, room: usize) -> OlderSegment {
        let filter = Filter::new(&mut keys.entries.iter().map(|entry| filter_hash(entry.key)).collect());
        let (segment, is_kept) = (keys.span.segment, keys.entries.len() <= room);
        keys.entries.shrink_to_fit();
        let place = if is_kept { Place::Memory(keys) } else { Place::Segment };
        OlderSegment::new(segment, place, Arc::new(filter))
    }

    /// One of which nothing is known: any key may be in it.
    pub(super) fn unreadable(segment: u64) -> OlderSegment {
        OlderSegment::new(segment, Place::Segment, Arc::new(Filter::of_everything()))
    }

    pub(super) fn file(&self) -> Option<&KeyFile> {
        match &self.place {
            Place::File(file) => Some(file),
            Place::Memory(_) | Place::Segment => None,
        }
    }

    /// What it covers, where that is known.
    pub(super) fn span(&self) -> Option<&KeySpan> {
        match &self.place {
            Place::File(file) => Some(file.span()),
            Place::Memory(keys) => Some(&keys.span),
            Place::Segment => None,
        }
    }

    pub(super) fn may_have(&self, key: u128) -> bool {
        self.filter.may_have(filter_hash(key))
    }

    /// What stands under a key.
    ///
    /// # Errors
    /// In words, where only the segment can tell.
    pub(super) fn find(&self, key: u128) -> Result<Option<KeyEntry>, String> {
        match &self.place {
            Place::File(file) => file.find(key).map_err(|error| error.to_string()),
            Place::Memory(SegmentKeys { entries, .. }) => {
                let place = entries.binary_search_by_key(&key, |entry| entry.key);
                Ok(place.ok().map(|place| entries[place]))
            }
            Place::Segment => Err("its keys are in no file and not in memory".to_owned()),
        }
    }

    pub(super) fn is_demoted(&self) -> bool {
        self.is_demoted.load(Ordering::Relaxed)
    }

    pub(super) fn set_demoted(&self, is_demoted: bool) {
        self.is_demoted.store(is_demoted, Ordering::Relaxed);
    }

    pub(super) fn has_position(&self, position: u64) -> bool {
        self.span().is_some_and(|KeySpan { closed, .. }| {
            (closed.first_sequence..=closed.last_sequence).contains(&position)
        })
    }

    /// False where its age is not known.
    pub(super) fn is_older_than(&self, age_ms: i64, now: Timestamp) -> bool {
        self.span().is_some_and(|span| now.since_ms(Timestamp(span.last_time_ms)) > age_ms)
    }
}

/// All of them, rising by number.
#[derive(Default)]
pub(in crate::engine) struct Shelf {
    pub(super) segments: Vec<Arc<OlderSegment>>,
    sieves: BTreeMap<u64, Arc<Sieve>>,
}

/// The group of segments that share a sieve.
fn group_of(segment: u64) -> u64 {
    segment / SIEVE_SEGMENTS
}

impl Shelf {
    pub(super) fn of(segments: Vec<Arc<OlderSegment>>) -> Shelf {
        Shelf { segments, sieves: BTreeMap::new() }
    }

    pub(super) fn get(&self, segment: u64) -> Option<&Arc<OlderSegment>> {
        let place = self.segments.binary_search_by_key(&segment, |older| older.segment).ok()?;
        Some(&self.segments[place])
    }

    pub(super) fn has_file_of(&self, segment: u64) -> bool {
        self.get(segment).is_some_and(|older| older.file().is_some())
    }

    /// Keys that stand here for want of a file, but those of one segment.
    pub(super) fn keys_in_memory_but_of(&self, segment: u64) -> usize {
        let others = self.segments.iter().filter(|older| older.segment != segment);
        let keys = others.map(|older| match &older.place {
            Place::Memory(keys) => keys.entries.len(),
            Place::File(_) | Place::Segment => 0,
        });
        keys.sum()
    }

    pub(super) fn filters(&self) -> Filters {
        let groups = self.segments.chunk_by(|a, b| group_of(a.segment) == group_of(b.segment));
        let groups = groups.map(|segments| FilterGroup {
            sieve: self.sieves.get(&group_of(segments[0].segment)).cloned(),
            filters: segments.iter().map(|older| Arc::clone(&older.filter)).collect(),
        });
        Filters(groups.collect())
    }

    /// This shelf with `new` on it, in the place of what it had of that segment.
    pub(super) fn with(&self, mut new: OlderSegment) -> Shelf {
        let (mut segments, mut sieves) = (self.segments.clone(), self.sieves.clone());
        match segments.binary_search_by_key(&new.segment, |older| older.segment) {
            Ok(place) => {
                new.answered = Arc::clone(&segments[place].answered);
                new.is_demoted = segments[place].is_demoted().into();
                segments[place] = Arc::new(new);
            }
            Err(place) => {
                // A sieve that was made without this segment would say that its keys are new.
                sieves.remove(&group_of(new.segment));
                segments.insert(place, Arc::new(new));
            }
        }
        Shelf { segments, sieves }
    }

    /// This shelf without the first `count` segments, which come back as well.
    pub(super) fn without_first(&self, count: usize) -> (Shelf, Vec<Arc<OlderSegment>>) {
        let (first, rest) = self.segments.split_at(count);
        let oldest_group = rest.first().map_or(u64::MAX, |older| group_of(older.segment));
        let sieves = self.sieves.range(oldest_group..).map(|(group, sieve)| (*group, Arc::clone(sieve)));
        (Shelf { segments: rest.to_vec(), sieves: sieves.collect() }, first.to_vec())
    }

    /// This shelf with a sieve before a group.
    pub(super) fn with_sieve(&self, group: u64, sieve: Sieve) -> Shelf {
        let mut sieves = self.sieves.clone();
        sieves.insert(group, Arc::new(sieve));
        Shelf { segments: self.segments.clone(), sieves }
    }

    /// The number and the files of a group that can have a sieve and has none: no segment of it that comes after its
    /// first one here is missing or without a file, up to its last, which is `closed` or before.
    pub(super) fn group_without_sieve(&self, closed: u64) -> Option<(u64, Vec<&KeyFile>)> {
        let groups = self.segments.chunk_by(|a, b| group_of(a.segment) == group_of(b.segment));
        let mut wanted = groups.filter_map(|group| {
            let number = group_of(group[0].segment);
            let last = (number + 1) * SIEVE_SEGMENTS - 1;
            let is_complete = last <= closed && group.last().is_some_and(|older| older.segment == last);
            let follow = group.windows(2).all(|pair| pair[0].segment + 1 == pair[1].segment);
            if !is_complete || !follow || self.sieves.contains_key(&number) {
                return None;
            }
            let files: Option<Vec<&KeyFile>> = group.iter().map(|older| older.file()).collect();
            Some((number, files?))
        });
        wanted.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{self, ClosedSegment, KeyFiles, simulated_disk::SimulatedDisk};

    fn keys_of(segment: u64) -> SegmentKeys {
        let first = segment * 10;
        let entries = (first..first + 10).map(|position| KeyEntry {
            key: u128::from(position).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
            position,
            kind: 1,
        });
        let closed = ClosedSegment { first_sequence: first, last_sequence: first + 9, chain: [0; 32] };
        let span = KeySpan { segment, closed, first_time_ms: 0, last_time_ms: 0 };
        SegmentKeys { span, entries: entries.collect() }
    }

    fn with_files(test: impl FnOnce(&dyn Fn(u64) -> OlderSegment)) {
        let directory = journal::take(Arc::new(SimulatedDisk::new())).expect("a new journal");
        let files: KeyFiles = directory.key_files(Arc::new(SimulatedDisk::new()));
        test(&|segment| {
            let SegmentKeys { span, mut entries } = keys_of(segment);
            OlderSegment::in_file(files.write(span, &mut entries).expect("it is written"))
        });
    }

    fn shelf(segments: impl Iterator<Item = OlderSegment>) -> Shelf {
        Shelf::of(segments.map(Arc::new).collect())
    }

    /// With a sieve before every group that can have one.
    fn sieved(mut shelf: Shelf, closed: u64) -> Shelf {
        while let Some((group, files)) = shelf.group_without_sieve(closed) {
            let mut sieve = Sieve::new(files.iter().map(|file| file.entries()).sum());
            for file in files {
                file.for_each(&mut |entry| sieve.insert(filter_hash(entry.key))).expect("it is whole");
            }
            shelf = shelf.with_sieve(group, sieve);
        }
        shelf
    }

    /// How many keys of these segments the filters deny.
    fn denied(shelf: &Shelf, segments: impl Iterator<Item = u64>) -> usize {
        let filters = shelf.filters();
        let entries = segments.flat_map(|segment| keys_of(segment).entries);
        entries.filter(|entry| !filters.may_have(filter_hash(entry.key))).count()
    }

    #[test]
    fn a_segment_that_comes_late_is_not_denied_by_the_sieve_that_was_made_without_it() {
        with_files(|file| {
            // The first group begins with a segment that was removed: what is left of it may have a sieve.
            let shelf = sieved(shelf((19..48).map(file)), 47);
            assert_eq!(shelf.sieves.keys().copied().collect::<Vec<_>>(), [1, 2]);
            assert_eq!(denied(&shelf, 19..48), 0);
            let grown = shelf.with(file(18));
            assert_eq!(denied(&grown, 18..48), 0);
            assert_eq!(grown.sieves.keys().copied().collect::<Vec<_>>(), [2]);
            let again = sieved(grown, 47);
            assert_eq!(again.sieves.keys().copied().collect::<Vec<_>>(), [1, 2]);
            assert_eq!(denied(&again, 18..48), 0);
            // A file that is made again has the keys it had.
            let mended = again.with(file(20));
            assert_eq!(mended.sieves.len(), 2);
            assert_eq!(denied(&mended, 18..48), 0);
        });
    }

    #[test]
    fn a_group_with_a_segment_missing_or_without_a_file_gets_no_sieve() {
        with_files(|file| {
            let has_sieve = |shelf: Shelf, closed| !sieved(shelf, closed).sieves.is_empty();
            assert!(has_sieve(shelf((16..32).map(file)), 31));
            assert!(!has_sieve(shelf((16..32).map(file)), 30), "its last segment is not closed");
            for missing in [17, 24, 30, 31] {
                let others = || (16..32).filter(|segment| *segment != missing).map(file);
                assert!(!has_sieve(shelf(others()), 31), "without segment {missing}");
                let unreadable = shelf(others()).with(OlderSegment::unreadable(missing));
                assert_eq!(denied(&unreadable, 16..32), 0);
                assert!(!has_sieve(unreadable, 31), "segment {missing} cannot be read");
                let unwritten = OlderSegment::without_file(keys_of(missing), usize::MAX);
                assert!(!has_sieve(shelf(others()).with(unwritten), 31), "segment {missing} has no file");
            }
        });
    }

    #[test]
    fn keys_without_a_file_are_found_in_memory_or_asked_of_the_segment_and_never_denied() {
        let mut keys = keys_of(7);
        keys.entries.sort_unstable_by_key(|entry| entry.key);
        let kept = OlderSegment::without_file(keys.clone(), 10);
        let too_many = OlderSegment::without_file(keys.clone(), 9);
        for entry in &keys.entries {
            assert!(kept.may_have(entry.key) && too_many.may_have(entry.key));
            assert_eq!(kept.find(entry.key), Ok(Some(*entry)));
            assert!(too_many.find(entry.key).is_err());
        }
        assert_eq!(kept.find(keys.entries[3].key + 1), Ok(None));
        let shelf = shelf([kept].into_iter());
        assert_eq!(shelf.keys_in_memory_but_of(6), 10);
        assert_eq!(shelf.keys_in_memory_but_of(7), 0);
        assert!(!shelf.has_file_of(7));
    }
}

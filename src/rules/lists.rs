//! What calls have made of the lists: values that were added, with their end and where they come from, and values of
//! the file that were taken out.
//!
//! [`Lists`] is one immutable state, named by the position of the record that made it, so that a decision can say
//! which lists it saw. An update copies the pointers of one list and the buckets that it touches, never a whole list.
//! What is in the rules file is not here: a decision asks here first, and the file's own set where nothing is said.
//!
//! [`ListsInForce`] is what a rule set looks values up in: the changes, by the places that the lists have in the
//! compiled rules. Where no call ever changed a list, nothing but its set is asked.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    hash::BuildHasher as _,
    sync::Arc,
};

use arrayvec::ArrayString;
use foldhash::fast::FixedState;

use super::check::Form;
use crate::{
    limits::LIST_CHANGES_MAX,
    types::{
        lists::{ListEntry, ListKind},
        time::Timestamp,
    },
};

const BUCKETS: usize = 256;
/// The end of what has none.
pub(super) const FOR_EVER: i64 = i64::MAX;

/// Every list that calls have changed, as one state.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Lists {
    version: u64,
    changes: BTreeMap<(Box<str>, ListKind), Arc<Changes>>,
}

/// One step of an update.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Add(ListEntry),
    /// Out of the list, although the file has it.
    TakeOut(Box<str>),
    /// Nothing that a call said of it counts any more.
    Forget(Box<str>),
}

/// The list would hold more than it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListFull;

impl Lists {
    /// Lists as a snapshot has them, to be filled by [`Lists::put`].
    pub fn at(version: u64) -> Lists {
        Lists { version, changes: BTreeMap::new() }
    }

    /// The position of the record that made these; 0 where no call ever changed any.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What calls have made of one list.
    pub fn of(&self, name: &str, kind: ListKind) -> Option<&Arc<Changes>> {
        // The few lists there are do not pay for a key of their own.
        self.changes.iter().find(|((list, of), _)| &**list == name && *of == kind).map(|(_, changes)| changes)
    }

    /// Until when a call has put this value on a list of texts; `None` where none has.
    pub fn stays_until(&self, list: &str, value: &str) -> Option<Timestamp> {
        self.of(list, ListKind::Texts)?.until(value)
    }

    /// Every list that calls have changed.
    pub fn all(&self) -> impl Iterator<Item = (&str, ListKind, &Changes)> {
        self.changes.iter().map(|((name, kind), changes)| (&**name, *kind, &**changes))
    }

    /// The same as the record at `position` made them.
    pub fn made_at(self, position: u64) -> Lists {
        Lists { version: position, ..self }
    }

    /// The lists after one of them was changed at `now`. What has ended by then leaves that list for good.
    ///
    /// # Errors
    /// [`ListFull`], where it would hold more than it may.
    pub fn with(
        &self,
        (name, kind): (&str, ListKind),
        now: Timestamp,
        steps: impl IntoIterator<Item = Step>,
    ) -> Result<Lists, ListFull> {
        let mut changed = self.of(name, kind).map(|changes| Changes::clone(changes)).unwrap_or_default();
        changed.forget_ended(now);
        for step in steps {
            changed.take(step);
        }
        if changed.added + changed.taken_out > LIST_CHANGES_MAX {
            return Err(ListFull);
        }
        let mut changes = self.changes.clone();
        changes.insert((name.into(), kind), Arc::new(changed));
        Ok(Lists { version: self.version, changes })
    }

    /// Puts back what a snapshot says of one value; `None` is a value that is taken out.
    pub fn put(&mut self, (name, kind): (&str, ListKind), value: &str, added: Option<(i64, &str)>) {
        let changes = self.changes.entry((name.into(), kind)).or_default();
        let standing = match added {
            Some((until, source)) => Standing::Added { until, source: source.into() },
            None => Standing::TakenOut,
        };
        Arc::make_mut(changes).set(value, Some(standing));
    }
}

/// What calls have made of one list.
#[derive(Clone, PartialEq, Debug)]
pub struct Changes {
    buckets: Vec<Option<Arc<Bucket>>>,
    added: usize,
    taken_out: usize,
}

#[derive(Clone, PartialEq, Debug, Default)]
struct Bucket {
    values: HashMap<Box<str>, Standing, FixedState>,
    /// No value ends before this.
    first_end: i64,
}

/// What calls have said of one value last.
#[derive(Clone, PartialEq, Debug)]
pub enum Standing {
    /// It is on the list while the time is before `until`.
    Added {
        until: i64,
        source: Arc<str>,
    },
    TakenOut,
}

impl Default for Changes {
    fn default() -> Changes {
        Changes { buckets: vec![None; BUCKETS], added: 0, taken_out: 0 }
    }
}

impl Changes {
    /// Values that calls have added, those included that ended since the last update.
    pub fn added(&self) -> usize {
        self.added
    }

    /// Values of the file that calls have taken out.
    pub fn taken_out(&self) -> usize {
        self.taken_out
    }

    /// Whether calls have put a value on the list or off it; `None` where they have said nothing that counts at `now`.
    #[inline]
    pub fn find(&self, value: &str, now: Timestamp) -> Option<bool> {
        match self.buckets[bucket_of(value)].as_ref()?.values.get(value)? {
            Standing::Added { until, .. } if now.0 < *until => Some(true),
            Standing::Added { .. } => None,
            Standing::TakenOut => Some(false),
        }
    }

    fn until(&self, value: &str) -> Option<Timestamp> {
        match self.buckets[bucket_of(value)].as_ref()?.values.get(value)? {
            Standing::Added { until, .. } => Some(Timestamp(*until)),
            Standing::TakenOut => None,
        }
    }

    /// Every value that calls have said something of, in no order.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Standing)> {
        let buckets = self.buckets.iter().flatten();
        buckets.flat_map(|bucket| bucket.values.iter().map(|(value, standing)| (&**value, standing)))
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Add(entry) => {
                let until = entry.expires_at.map_or(FOR_EVER, |end| end.0);
                self.set(&entry.value, Some(Standing::Added { until, source: entry.source.into() }));
            }
            Step::TakeOut(value) => self.set(&value, Some(Standing::TakenOut)),
            Step::Forget(value) => self.set(&value, None),
        }
    }

    fn set(&mut self, value: &str, standing: Option<Standing>) {
        let slot = &mut self.buckets[bucket_of(value)];
        if standing.is_none() && slot.as_ref().is_none_or(|bucket| !bucket.values.contains_key(value)) {
            return;
        }
        let empty = || Arc::new(Bucket { first_end: FOR_EVER, ..Bucket::default() });
        let bucket = Arc::make_mut(slot.get_or_insert_with(empty));
        let before = match &standing {
            Some(new) => {
                if let Standing::Added { until, .. } = new {
                    bucket.first_end = bucket.first_end.min(*until);
                }
                bucket.values.insert(value.into(), new.clone())
            }
            None => bucket.values.remove(value),
        };
        self.count(before.as_ref(), standing.as_ref());
    }

    fn count(&mut self, before: Option<&Standing>, after: Option<&Standing>) {
        match before {
            Some(Standing::Added { .. }) => self.added -= 1,
            Some(Standing::TakenOut) => self.taken_out -= 1,
            None => {}
        }
        match after {
            Some(Standing::Added { .. }) => self.added += 1,
            Some(Standing::TakenOut) => self.taken_out += 1,
            None => {}
        }
    }

    fn forget_ended(&mut self, now: Timestamp) {
        for bucket in self.buckets.iter_mut().flatten().filter(|bucket| bucket.first_end <= now.0) {
            let bucket = Arc::make_mut(bucket);
            let (before, mut first_end) = (bucket.values.len(), FOR_EVER);
            bucket.values.retain(|_, standing| match standing {
                Standing::Added { until, .. } if *until <= now.0 => false,
                Standing::Added { until, .. } => {
                    first_end = first_end.min(*until);
                    true
                }
                Standing::TakenOut => true,
            });
            bucket.first_end = first_end;
            self.added -= before - bucket.values.len();
        }
    }
}

/// Other bits of the hash than those by which the map in a bucket finds its own places.
fn bucket_of(value: &str) -> usize {
    (FixedState::default().hash_one(value) >> 40) as usize % BUCKETS
}

/// The changes by the places that the lists have in one compiled rules file.
#[derive(Clone, Debug, Default)]
pub struct ListsInForce {
    pub(super) lists: Arc<Lists>,
    pub(super) texts: Vec<Option<Arc<Changes>>>,
    pub(super) ints: Vec<Option<Arc<Changes>>>,
}

impl ListsInForce {
    /// The state that these are a view of.
    pub fn lists(&self) -> &Arc<Lists> {
        &self.lists
    }

    pub fn version(&self) -> u64 {
        self.lists.version
    }

    #[inline]
    pub(super) fn texts(&self, set: usize) -> Option<&Changes> {
        self.texts.get(set)?.as_deref()
    }

    #[inline]
    pub(super) fn ints(&self, set: usize) -> Option<&Changes> {
        self.ints.get(set)?.as_deref()
    }
}

/// What calls have said of a whole number. Nothing is allocated.
pub(super) fn find_int(changes: &Changes, int: i64, now: Timestamp) -> Option<bool> {
    let mut digits = ArrayString::<20>::new();
    write!(digits, "{int}").ok()?;
    changes.find(&digits, now)
}

/// The values that a rules file gives a list.
#[derive(Clone, Debug, Default)]
pub struct FileValues(pub(super) HashMap<Box<str>, FileValue, FixedState>);

#[derive(Clone, Debug)]
pub struct FileValue {
    pub until: i64,
    pub source: Arc<str>,
}

impl FileValues {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, value: &str, now: Timestamp) -> bool {
        self.0.get(value).is_some_and(|found| now.0 < found.until)
    }
}

/// A value that is on a list, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StandingEntry {
    pub entry: ListEntry,
    /// The rules file says so; else a call did.
    pub in_file: bool,
}

/// A list that a rules file declares.
#[derive(Clone, Debug)]
pub struct DeclaredList {
    pub name: Box<str>,
    pub kind: ListKind,
    pub file: FileValues,
    /// The fields that rules look up in it, and which texts each can hold.
    pub(super) fields: Vec<(Box<str>, Form)>,
    /// Its place among the sets of its kind; absent where no rule uses it.
    pub(super) set: Option<usize>,
}

impl DeclaredList {
    /// How many values are on the list.
    pub fn len(&self, changes: Option<&Changes>, now: Timestamp) -> u64 {
        let in_file = self.file.0.values().filter(|found| now.0 < found.until).count();
        let mut count = in_file as u64;
        for (value, standing) in changes.iter().flat_map(|changes| changes.all()) {
            match standing {
                Standing::Added { until, .. } if now.0 < *until && !self.file.has(value, now) => count += 1,
                Standing::TakenOut if self.file.has(value, now) => count -= 1,
                _ => {}
            }
        }
        count
    }

    /// The values behind `after`, in the order of their bytes, `limit` at most.
    pub fn page(
        &self,
        changes: Option<&Changes>,
        now: Timestamp,
        after: &str,
        limit: usize,
    ) -> Vec<StandingEntry> {
        let entry = |value: &str, until: i64, source: &Arc<str>, in_file| StandingEntry {
            entry: ListEntry {
                value: value.into(),
                expires_at: (until != FOR_EVER).then_some(Timestamp(until)),
                source: (&**source).into(),
            },
            in_file,
        };
        let of_file = self.file.0.iter().filter(|(value, found)| {
            now.0 < found.until && changes.and_then(|changes| changes.find(value, now)).is_none()
        });
        let of_file = of_file.map(|(value, found)| (&**value, found.until, &found.source, true));
        let of_calls =
            changes.iter().flat_map(|changes| changes.all()).filter_map(|(value, standing)| match standing {
                Standing::Added { until, source } if now.0 < *until => Some((value, *until, source, false)),
                _ => None,
            });
        let mut found: Vec<_> = of_file.chain(of_calls).filter(|(value, ..)| *value > after).collect();
        if found.len() > limit {
            found.select_nth_unstable_by(limit, |a, b| a.0.cmp(b.0));
            found.truncate(limit);
        }
        found.sort_unstable_by(|a, b| a.0.cmp(b.0));
        found
            .into_iter()
            .map(|(value, until, source, in_file)| entry(value, until, source, in_file))
            .collect()
    }

    /// What is wrong with a value that a call wants to add, in words that do not repeat it.
    pub fn refusal(&self, value: &str) -> Option<String> {
        if self.kind.admit(value).is_none() {
            return Some("must be a whole number: the list has whole numbers".to_owned());
        }
        let (field, form) = self.fields.iter().find(|(_, form)| form.admit(value).is_err())?;
        Some(format!("must be {}: rules look `{field}` up in the list", form.words()))
    }

    /// Whether rules look cards up in it, so that a value must be no card number.
    pub fn has_cards(&self) -> bool {
        self.fields.iter().any(|(field, _)| &**field == "card.token")
    }
}

//! The lists of a log that is decided again: the newest state, and those before that a late decision may still name.

use std::{collections::VecDeque, sync::Arc};

use crate::{authorise::listing, journal::record::Record, rules::Lists};

/// States that are kept. A decision names lists older than the newest where the update came while it was being made;
/// that takes microseconds, and so many updates take a second.
const KEPT: usize = 1_024;

pub(in crate::engine) struct ListHistory {
    /// The newest last.
    states: VecDeque<Arc<Lists>>,
}

impl ListHistory {
    pub(in crate::engine) fn new() -> ListHistory {
        ListHistory { states: VecDeque::from([Arc::default()]) }
    }

    /// What a record was made under.
    ///
    /// # Errors
    /// As [`ListHistory::made_at`].
    pub(in crate::engine) fn seen_by(&self, record: &Record) -> Result<&Arc<Lists>, String> {
        match record {
            Record::Decided(decided) => self.made_at(decided.lists),
            _ => Ok(self.newest()),
        }
    }

    fn newest(&self) -> &Arc<Lists> {
        self.states.back().expect("there is always one")
    }

    /// The lists that the record at a position made.
    ///
    /// # Errors
    /// In words, where no such record precedes, or too many came since.
    fn made_at(&self, position: u64) -> Result<&Arc<Lists>, String> {
        let found = self.states.binary_search_by_key(&position, |lists| lists.version());
        found.map(|place| &self.states[place]).map_err(|_| {
            format!("it names the lists of position {position}, which are not among the last {KEPT}")
        })
    }

    pub(super) fn put(&mut self, lists: Lists) {
        self.states.push_back(Arc::new(lists));
        if self.states.len() > KEPT {
            self.states.pop_front();
        }
    }

    /// Does what a record did to lists, where that is not done yet.
    pub(in crate::engine) fn note(&mut self, position: u64, record: &Record) {
        if let Some(lists) = listing::restored(self.newest(), position, record) {
            self.put(lists);
        }
    }
}

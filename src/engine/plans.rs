//! Which windows each version of the rules kept. An account's windows are those of the version that decided on it last,
//! and go over to another at the next decision; so a start must know every version whose records it reads.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use parking_lot::RwLock;

use super::versions::{self, Names};
use crate::{features::Plan, journal::record::Versioned, rules};

/// The plans of versions that decided, by the number of the rules; made when they are asked for.
pub(super) struct Plans {
    data_dir: PathBuf,
    names: Arc<Names>,
    by_number: RwLock<HashMap<u32, Arc<Plan>>>,
    /// The version that is to decide, and what it keeps.
    version: Arc<str>,
    present: Arc<Plan>,
}

impl Plans {
    /// `version` is that of the rules that are to decide, `present` what they keep.
    pub(super) fn new(data_dir: PathBuf, names: Arc<Names>, version: Arc<str>, present: Arc<Plan>) -> Plans {
        Plans { data_dir, names, by_number: RwLock::default(), version, present }
    }

    /// Takes note of what a version keeps. Versions that keep the same share one plan.
    pub(super) fn note(&self, number: u32, plan: Arc<Plan>) -> Arc<Plan> {
        let mut by_number = self.by_number.write();
        let known = by_number.values().chain([&self.present]).find(|known| known.id() == plan.id());
        let plan = known.cloned().unwrap_or(plan);
        by_number.insert(number, plan.clone());
        plan
    }

    /// What a version kept; the present plan where that cannot be told any more, which is then said.
    pub(super) fn of(&self, number: u32) -> Arc<Plan> {
        // What no rules decided has no version: the plan is of no meaning there, and must not be told as that of 0.
        if number == 0 {
            return self.present.clone();
        }
        if let Some(known) = self.by_number.read().get(&number) {
            return known.clone();
        }
        let plan = match self.names.version(Versioned::Rules, number) {
            Some(version) if *version == *self.version => self.present.clone(),
            Some(version) => self.read(&version).unwrap_or_else(|error| {
                tracing::warn!(
                    %version, error,
                    "rules that decided cannot be read back: windows are kept as the present ones ask from here on"
                );
                self.present.clone()
            }),
            None => self.present.clone(),
        };
        self.note(number, plan)
    }

    fn read(&self, version: &str) -> Result<Arc<Plan>, String> {
        let text = versions::read(&self.data_dir, Versioned::Rules, version)?;
        let rules = rules::compile_kept(version, &text)
            .map_err(|findings| findings.first().map_or(String::new(), ToString::to_string))?;
        Ok(Arc::new(Plan::new(&rules.aggregates)))
    }

    /// One version of each plan that an account's windows may be kept for, by what windows know it by.
    pub(super) fn all(&self) -> Vec<(u64, u32)> {
        let by_number = self.by_number.read();
        let mut all: Vec<(u64, u32)> = by_number.iter().map(|(number, plan)| (plan.id(), *number)).collect();
        all.sort_unstable();
        all.dedup_by_key(|(id, _)| *id);
        all
    }
}

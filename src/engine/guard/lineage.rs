//! Which rules are not what they were a day ago, and since when.

use std::{collections::HashMap, sync::Arc};

use crate::{
    rules::{Mode, RuleSet},
    types::time::Timestamp,
};

/// What the rules of one version decide by: id, meaning, and whether it is live.
pub(super) type Meanings = HashMap<Arc<str>, (u64, bool)>;

/// How a rule differs from what it was a day ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Change {
    /// Since when it is as it is.
    pub(super) at: Timestamp,
    /// Whether it was live a day ago.
    pub(super) was_live: bool,
}

pub(super) fn meanings(rules: &RuleSet) -> Meanings {
    rules.rules.iter().map(|rule| (rule.id.clone(), (rule.meaning, rule.mode == Mode::Live))).collect()
}

/// The rules of the last version that are not what they were in the first. `decided` has the numbers of the versions in
/// the order in which they began to decide, the first the one that did a day ago, or the first there ever was: rules that
/// an engine began its life with have not changed. Where the first cannot be read back nothing counts as changed, so that
/// the guard tells and does nothing.
pub(super) fn changes(
    decided: &[(Timestamp, u32)],
    of: &mut dyn FnMut(u32) -> Option<Arc<Meanings>>,
) -> HashMap<Arc<str>, Change> {
    let mut changes = HashMap::new();
    let ([(_, first), later @ ..], Some((_, last))) = (decided, decided.last()) else { return changes };
    let (Some(first), Some(last)) = (of(*first), of(*last)) else { return changes };
    // Whether those of the last version decided by the same under each version behind the first, from the newest on.
    for (id, (meaning, _)) in last.iter() {
        let before = first.get(id);
        if before.is_some_and(|(before, _)| before == meaning) {
            continue;
        }
        let mut since = None;
        for (time, number) in later.iter().rev() {
            let same =
                of(*number).is_some_and(|known| known.get(id).is_some_and(|(known, _)| known == meaning));
            if !same {
                break;
            }
            since = Some(*time);
        }
        if let Some(at) = since {
            let was_live = before.is_some_and(|(_, live)| *live);
            changes.insert(id.clone(), Change { at, was_live });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(rules: &[(&str, u64, bool)]) -> Option<Arc<Meanings>> {
        Some(Arc::new(rules.iter().map(|(id, meaning, live)| (Arc::from(*id), (*meaning, *live))).collect()))
    }

    fn at(rules: &HashMap<Arc<str>, Change>, id: &str) -> Option<(i64, bool)> {
        rules.get(id).map(|change| (change.at.0, change.was_live))
    }

    #[test]
    fn a_rule_has_changed_where_it_is_not_what_it_was_a_day_ago_and_since_it_is_as_it_is() {
        let mut of = |number| match number {
            1 => {
                version(&[("same", 1, true), ("back", 2, true), ("new-text", 3, true), ("stopped", 4, false)])
            }
            2 => version(&[
                ("same", 9, true),
                ("back", 2, true),
                ("new-text", 30, true),
                ("stopped", 4, false),
            ]),
            3 => version(&[
                ("same", 1, true),
                ("back", 8, true),
                ("new-text", 30, true),
                ("stopped", 40, true),
            ]),
            4 => version(&[
                ("same", 1, true),
                ("back", 2, true),
                ("new-text", 30, true),
                ("stopped", 40, true),
                ("new", 5, true),
            ]),
            _ => None,
        };
        let times =
            |numbers: &[(i64, u32)]| numbers.iter().map(|(at, n)| (Timestamp(*at), *n)).collect::<Vec<_>>();
        let changed = changes(&times(&[(0, 1), (10, 2), (20, 3), (30, 4)]), &mut of);
        assert_eq!((at(&changed, "same"), at(&changed, "back")), (None, None), "they are what they were");
        assert_eq!(at(&changed, "new-text"), Some((10, true)));
        assert_eq!(at(&changed, "stopped"), Some((20, false)));
        assert_eq!(at(&changed, "new"), Some((30, false)));
        // A former text that was put back is a change of today.
        assert_eq!(at(&changes(&times(&[(0, 3), (10, 1)]), &mut of), "back"), Some((10, true)));
        // What an engine begins with has not changed, and what cannot be read back proves nothing.
        assert!(changes(&times(&[(0, 4)]), &mut of).is_empty());
        assert!(changes(&times(&[(0, 77), (10, 4)]), &mut of).is_empty());
        assert!(changes(&[], &mut of).is_empty());
    }
}

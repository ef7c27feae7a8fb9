//! Into which few groups the reasons of a decision fall, so that a dashboard has a handful of lines and not one per
//! rule. The group is a label and a heading; it decides nothing.

use crate::types::codes::ReasonSource;

/// What decided, in groups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum ReasonGroup {
    /// Nothing spoke against it.
    None = 0,
    /// Unknown, closed, blocked, expired; wrong currency; reversed before it came.
    Status,
    /// CVV, PIN, 3-D Secure.
    Verification,
    List,
    Velocity,
    CrossRegion,
    LargeAmount,
    /// Any other rule.
    Rule,
    Model,
    ProductLimit,
    InsufficientCredit,
    /// A known key with another body (94).
    DuplicateKey,
}

/// The groups of the reasons that rules bring, as their file says.
#[derive(Clone, Default, Debug)]
pub struct RuleGroups(Vec<(String, ReasonGroup)>);

impl RuleGroups {
    /// From the reason code and the group of every rule in the order of the file; of rules that share a code the
    /// first speaks.
    pub fn new<'a>(rules: impl IntoIterator<Item = (&'a str, &'a str)>) -> RuleGroups {
        let group = |name| match name {
            "velocity" => ReasonGroup::Velocity,
            "cross_region" => ReasonGroup::CrossRegion,
            "large_amount" => ReasonGroup::LargeAmount,
            _ => ReasonGroup::Rule,
        };
        RuleGroups(rules.into_iter().map(|(code, name)| (code.to_owned(), group(name))).collect())
    }

    fn of(&self, code: &str) -> ReasonGroup {
        self.0.iter().find(|(known, _)| known == code).map_or(ReasonGroup::Rule, |(_, group)| *group)
    }
}

impl ReasonGroup {
    pub const ALL: [ReasonGroup; 12] = [
        ReasonGroup::None,
        ReasonGroup::Status,
        ReasonGroup::Verification,
        ReasonGroup::List,
        ReasonGroup::Velocity,
        ReasonGroup::CrossRegion,
        ReasonGroup::LargeAmount,
        ReasonGroup::Rule,
        ReasonGroup::Model,
        ReasonGroup::ProductLimit,
        ReasonGroup::InsufficientCredit,
        ReasonGroup::DuplicateKey,
    ];

    /// The label's value.
    pub fn name(self) -> &'static str {
        match self {
            ReasonGroup::None => "none",
            ReasonGroup::Status => "status",
            ReasonGroup::Verification => "verification",
            ReasonGroup::List => "list",
            ReasonGroup::Velocity => "velocity",
            ReasonGroup::CrossRegion => "cross_region",
            ReasonGroup::LargeAmount => "large_amount",
            ReasonGroup::Rule => "rule",
            ReasonGroup::Model => "model",
            ReasonGroup::ProductLimit => "product_limit",
            ReasonGroup::InsufficientCredit => "insufficient_credit",
            ReasonGroup::DuplicateKey => "duplicate_key",
        }
    }

    /// The group of a reason by where it comes from, its code, and what the rules say of theirs.
    pub fn of(source: ReasonSource, code: &str, rules: &RuleGroups) -> ReasonGroup {
        match source {
            ReasonSource::Status if code == "DUPLICATE_KEY" => ReasonGroup::DuplicateKey,
            ReasonSource::Status => ReasonGroup::Status,
            ReasonSource::Verification => ReasonGroup::Verification,
            ReasonSource::List => ReasonGroup::List,
            ReasonSource::Rule => rules.of(code),
            ReasonSource::Model => ReasonGroup::Model,
            ReasonSource::ProductLimit => ReasonGroup::ProductLimit,
            ReasonSource::Credit => ReasonGroup::InsufficientCredit,
            ReasonSource::Engine => ReasonGroup::None,
        }
    }

    /// Whether a decline of this group says that fraud is suspected.
    pub fn suspects_fraud(self) -> bool {
        matches!(
            self,
            ReasonGroup::List
                | ReasonGroup::Velocity
                | ReasonGroup::CrossRegion
                | ReasonGroup::LargeAmount
                | ReasonGroup::Rule
                | ReasonGroup::Model
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_numbers_agree() {
        for (number, group) in ReasonGroup::ALL.into_iter().enumerate() {
            assert_eq!(group as usize, number);
        }
    }

    #[test]
    fn a_rule_is_grouped_as_its_file_says_and_the_engine_by_its_stage() {
        let rules =
            RuleGroups::new([("CARD_TESTING", "velocity"), ("NIGHT", "other"), ("NIGHT", "large_amount")]);
        let of = |source, code| ReasonGroup::of(source, code, &rules);
        assert_eq!(of(ReasonSource::Rule, "CARD_TESTING"), ReasonGroup::Velocity);
        assert_eq!(of(ReasonSource::Rule, "NIGHT"), ReasonGroup::Rule);
        assert_eq!(of(ReasonSource::Rule, "NEVER_HEARD_OF"), ReasonGroup::Rule);
        assert_eq!(of(ReasonSource::Model, "CARD_TESTING"), ReasonGroup::Model);
        assert_eq!(of(ReasonSource::Status, "DUPLICATE_KEY"), ReasonGroup::DuplicateKey);
        assert_eq!(of(ReasonSource::Engine, "TIME_SKEW"), ReasonGroup::None);
    }
}

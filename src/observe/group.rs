//! Into which few groups the reasons of a decision fall, so that a dashboard has a handful of lines and not one per
//! rule. The group is a label and a heading; it decides nothing.

use crate::types::{codes::ReasonSource, reasons::Reason};

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

/// Words in a rule's reason code that say what kind of rule it is, the first match counts. A rule that fits none
/// is in the group `rule`.
const RULE_WORDS: &[(&str, ReasonGroup)] = &[
    ("COUNTRY", ReasonGroup::CrossRegion),
    ("REGION", ReasonGroup::CrossRegion),
    ("TRAVEL", ReasonGroup::CrossRegion),
    ("CROSS_BORDER", ReasonGroup::CrossRegion),
    ("VELOCITY", ReasonGroup::Velocity),
    ("TOO_MANY", ReasonGroup::Velocity),
    ("TESTING", ReasonGroup::Velocity),
    ("BURST", ReasonGroup::Velocity),
    ("AMOUNT", ReasonGroup::LargeAmount),
    ("LARGE", ReasonGroup::LargeAmount),
];

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

    /// The group of a reason by where it comes from and its code.
    pub fn of(source: ReasonSource, code: &str) -> ReasonGroup {
        match source {
            ReasonSource::Status if code == "DUPLICATE_KEY" => ReasonGroup::DuplicateKey,
            ReasonSource::Status => ReasonGroup::Status,
            ReasonSource::Verification => ReasonGroup::Verification,
            ReasonSource::List => ReasonGroup::List,
            ReasonSource::Rule => RULE_WORDS
                .iter()
                .find(|(word, _)| code.contains(word))
                .map_or(ReasonGroup::Rule, |(_, group)| *group),
            ReasonSource::Model => ReasonGroup::Model,
            ReasonSource::ProductLimit => ReasonGroup::ProductLimit,
            ReasonSource::Credit => ReasonGroup::InsufficientCredit,
            ReasonSource::Engine => ReasonGroup::None,
        }
    }

    /// The group of a decision by its deciding reason; `None` where there is none.
    pub fn of_first(reasons: &[Reason]) -> ReasonGroup {
        reasons.first().map_or(ReasonGroup::None, |reason| ReasonGroup::of(reason.source, &reason.code))
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
    use crate::types::reasons::engine;

    #[test]
    fn the_table_and_the_numbers_agree() {
        for (number, group) in ReasonGroup::ALL.into_iter().enumerate() {
            assert_eq!(group as usize, number);
        }
    }

    #[test]
    fn a_rule_is_grouped_by_its_reason_code_and_the_engine_by_its_stage() {
        let of_rule = |code| ReasonGroup::of(ReasonSource::Rule, code);
        assert_eq!(of_rule("CARD_TESTING"), ReasonGroup::Velocity);
        assert_eq!(of_rule("IMPOSSIBLE_TRAVEL"), ReasonGroup::CrossRegion);
        assert_eq!(of_rule("AMOUNT_ABOVE_USUAL"), ReasonGroup::LargeAmount);
        assert_eq!(of_rule("NIGHT_GAMBLING"), ReasonGroup::Rule);
        assert_eq!(ReasonGroup::of_first(&[engine::INSUFFICIENT_CREDIT]), ReasonGroup::InsufficientCredit);
        assert_eq!(ReasonGroup::of_first(&[engine::TIME_SKEW]), ReasonGroup::None);
        assert_eq!(ReasonGroup::of_first(&[]), ReasonGroup::None);
    }
}

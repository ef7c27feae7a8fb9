//! What the engine shows of itself: the one table of metric names ([`metrics::FAMILIES`]), the counts that the
//! decision path leaves behind ([`lanes`]) and the text Prometheus reads ([`Metrics::render`]).
//!
//! Nothing here is ever awaited by a reply. The decision path only adds to atomics of its own core; everything that
//! allocates, locks or asks the operating system happens when somebody looks. Labels come from closed sets alone:
//! never an account, a card or a merchant.

mod calibration;
pub mod calls;
mod drift;
pub mod group;
pub mod lanes;
pub mod metrics;
pub mod process;
mod recorder;
mod rules;

pub use calibration::ScoreLabelled;
pub use calls::{Call, CallResult};
pub use drift::DriftCounts;
pub use group::{ReasonGroup, RuleGroups};
pub use lanes::{DecisionSeen, STAGES, Stage};
pub use recorder::{ConfiguredFile, GuardVerdict, KeyFileMade, ListCounts, Live, LookUp, Metrics, ReadAnew};
pub use rules::{LoadedRule, RuleCounts, ShadowOutcome};

//! What decisions are made with: one rules version, one model, one policy. Taken once per request, so that every
//! decision names exactly one of each.

use std::sync::Arc;

pub use super::score::Challenger;
use crate::{
    config::{Control, HoldLifetimes},
    features::{Plan, shared::SharedPlan},
    journal::record::VersionNumbers,
    model::Model,
    rules::{Lists, ListsInForce, RuleSet},
    types::{auth::AuthRequest, base::BaseCurrency, reasons::Label, time::Timestamp},
};

/// Everything a decision is made with that is not in the request or the account.
#[derive(Clone)]
pub struct Setup {
    pub rules: Arc<RuleSet>,
    /// What calls have made of the lists, as these rules look values up in them.
    pub lists: ListsInForce,
    /// The windows that features and rules read.
    pub plan: Arc<Plan>,
    /// The windows across accounts that rules read.
    pub shared: Arc<SharedPlan>,
    /// What amounts of different accounts are compared in.
    pub base: BaseCurrency,
    /// `None` where no model serves.
    pub model: Option<Arc<Model>>,
    /// Scores in shadow, where there is one.
    pub challenger: Option<Challenger>,
    /// What the model alone would decline and is let through.
    pub control: Control,
    /// How long holds live.
    pub holds: HoldLifetimes,
    /// Credit limits are made up: what is used of them is unknown.
    pub limits_assumed: bool,
    pub numbers: VersionNumbers,
    pub rules_version: Label,
    /// Empty without a model.
    pub model_version: Label,
}

impl Setup {
    /// The same with other lists.
    pub fn with_lists(&self, lists: Arc<Lists>) -> Setup {
        Setup { lists: self.rules.lists_in_force(lists), ..self.clone() }
    }

    /// When a hold placed at `now` for `request` expires.
    pub fn expires_at(&self, request: &AuthRequest, now: Timestamp) -> Timestamp {
        let AuthRequest { kind, channel, initiation, merchant, .. } = request;
        now.plus_ms(self.holds.life_ms(*kind, *channel, *initiation, merchant.mcc))
    }

    /// The version of the challenger; empty without one.
    pub fn challenger_version(&self) -> Label {
        self.challenger.as_ref().map_or(Label::Static(""), |challenger| challenger.model.version().clone())
    }

    /// Decides under these lists from now on.
    pub fn see(&mut self, lists: &Arc<Lists>) {
        if self.lists.version() != lists.version() {
            self.lists = self.rules.lists_in_force(Arc::clone(lists));
        }
    }
}

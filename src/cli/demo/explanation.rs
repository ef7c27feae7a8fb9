//! One decision as `GetDecision` explains it: reasons with their weights, the rules that fired, and of the features
//! those that either of them read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Value, json};

use crate::{
    features::catalog::CATALOG,
    observe::ReasonGroup,
    proto::GetDecisionResponse,
    rules::RuleSet,
    types::{
        codes::Decision,
        money::{Currency, Money},
    },
};

pub(super) struct Explanation {
    group: ReasonGroup,
    explained: GetDecisionResponse,
    /// Names and values of the features that the reasons and the fired rules read.
    features: Vec<(String, f64)>,
}

impl Explanation {
    pub(super) fn new(group: ReasonGroup, explained: GetDecisionResponse, rules: &RuleSet) -> Explanation {
        let fired = rules.rules.iter().filter(|rule| explained.rules_fired.iter().any(|id| **id == *rule.id));
        let mut read: BTreeSet<&str> = fired.flat_map(|rule| rule.when.split(is_no_part_of_a_name)).collect();
        let reasons = explained.response.iter().flat_map(|response| &response.reasons);
        for reason in reasons {
            let spoken_of = |code| code == reason.code;
            let entries =
                CATALOG.iter().filter(|e| e.model.as_ref().is_some_and(|m| spoken_of(m.reason_code)));
            read.extend(entries.map(|entry| entry.name));
        }
        let features = explained
            .features
            .iter()
            .filter(|feature| read.contains(feature.name.as_str()))
            .filter_map(|feature| Some((feature.name.clone(), feature.value?)))
            .collect();
        Explanation { group, explained, features }
    }

    pub(super) fn as_json(&self) -> Value {
        let response = self.explained.response.clone().unwrap_or_default();
        json!({
            "reason_group": self.group.name(),
            "transaction_id": response.transaction_id,
            "decision": decision_name(response.decision),
            "response_code": response.response_code,
            "score": response.score,
            "reasons": response.reasons.iter().map(|reason| json!({
                "code": reason.code, "text": reason.text, "contribution": reason.contribution,
            })).collect::<Vec<_>>(),
            "rules_fired": self.explained.rules_fired,
            "features": self.features.iter().cloned().collect::<BTreeMap<_, _>>(),
        })
    }
}

/// Names in an expression are letters, digits, underscores and dots.
fn is_no_part_of_a_name(character: char) -> bool {
    !(character.is_ascii_alphanumeric() || character == '_' || character == '.')
}

fn decision_name(number: i32) -> &'static str {
    u8::try_from(number).ok().and_then(Decision::from_number).map_or("?", Decision::name)
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let response = self.explained.response.clone().unwrap_or_default();
        let request = self.explained.request.clone().unwrap_or_default();
        let money = |money: Option<crate::proto::Money>| {
            let money = money?;
            Some(Money::new(money.minor_units, Currency::from_alpha(&money.currency_code)?).to_string())
        };
        let asked = money(request.billing_amount.or(request.amount)).unwrap_or_default();
        writeln!(
            f,
            "  {}: {}  {asked}  {} {}  score {}",
            self.group.name().replace('_', " "),
            response.transaction_id,
            decision_name(response.decision),
            response.response_code,
            response.score
        )?;
        for reason in &response.reasons {
            match reason.contribution {
                0.0 => writeln!(f, "      {}: {}", reason.code, reason.text)?,
                contribution => writeln!(f, "      {} ({contribution:+.2}): {}", reason.code, reason.text)?,
            }
        }
        let mut facts = Vec::new();
        if let Some(available) = money(response.available_credit) {
            facts.push(format!("available credit {available}"));
        }
        facts.extend(self.features.iter().map(|(name, value)| format!("{name} {}", rounded(*value))));
        writeln!(f, "      {}", facts.join(", "))?;
        match self.explained.rules_fired.as_slice() {
            [] => Ok(()),
            fired => writeln!(f, "      rules fired: {}", fired.join(", ")),
        }
    }
}

fn rounded(value: f64) -> String {
    let text = format!("{value:.2}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

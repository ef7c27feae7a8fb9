//! What is put in force on the account: as a rule what was decided, and what history did in a replay that follows it.

use super::decide::Verdict;
use crate::types::{
    auth::AuthRequest,
    codes::{Decision, Kind, ReasonSource, ResponseCode},
    money::Currency,
};

/// What history did, for a replay that follows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observed {
    pub approved: bool,
    pub response_code: Option<ResponseCode>,
}

/// What windows and holds are to know of an authorisation.
pub(super) struct InForce {
    pub(super) decision: Decision,
    /// Declined for want of credit alone.
    pub(super) declined_for_credit: bool,
    /// What is held or posted, in minor units of the account's currency; 0 for none.
    pub(super) amount_minor: i64,
}

impl InForce {
    pub(super) fn decided(verdict: &Verdict) -> InForce {
        InForce {
            decision: verdict.decision,
            declined_for_credit: matches!(
                verdict.decided_by,
                Some(ReasonSource::Credit | ReasonSource::ProductLimit)
            ),
            amount_minor: verdict.approved_minor,
        }
    }

    /// What history approved is held whole, whatever credit there is here.
    pub(super) fn observed(observed: Observed, request: &AuthRequest, currency: Currency) -> InForce {
        let Observed { approved, response_code } = observed;
        let holds =
            approved && !matches!(request.decided_as(), Kind::AccountVerification | Kind::BalanceInquiry);
        let billed = request.billed().filter(|billed| holds && billed.currency == currency);
        InForce {
            decision: match response_code {
                _ if approved => Decision::Approved,
                // The cardholder was asked to prove who they are: no decline, here as where the engine decides.
                Some(ResponseCode::STEP_UP) => Decision::StepUp,
                _ => Decision::Declined,
            },
            declined_for_credit: !approved && response_code == Some(ResponseCode::INSUFFICIENT_FUNDS),
            amount_minor: billed.map_or(0, |billed| billed.minor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{
        auth::Subject,
        ids::{AccountId, RequestKey},
        money::Money,
    };

    #[test]
    fn what_history_did_is_known_to_windows_and_holds_as_a_decision_would_be() {
        let [usd, eur] = ["USD", "EUR"].map(|code| Currency::from_alpha(code).unwrap());
        let (step_up, no_credit) = (Some(ResponseCode::STEP_UP), Some(ResponseCode::INSUFFICIENT_FUNDS));
        for (kind, minor, currency, (approved, code), (decision, for_credit, amount_minor)) in [
            (Kind::Purchase, 5, usd, (true, None), (Decision::Approved, false, 5)),
            // Whatever code came with it.
            (Kind::Purchase, 5, usd, (true, no_credit), (Decision::Approved, false, 5)),
            (Kind::Purchase, 5, eur, (true, None), (Decision::Approved, false, 0)),
            (Kind::Purchase, 0, usd, (true, None), (Decision::Approved, false, 0)),
            (Kind::BalanceInquiry, 5, usd, (true, None), (Decision::Approved, false, 0)),
            (Kind::Purchase, 5, usd, (false, None), (Decision::Declined, false, 0)),
            (Kind::Purchase, 5, usd, (false, no_credit), (Decision::Declined, true, 0)),
            (Kind::Purchase, 5, usd, (false, step_up), (Decision::StepUp, false, 0)),
        ] {
            let subject = Subject::Account(AccountId::new("A").unwrap());
            let request = AuthRequest {
                amount: Some(Money::new(minor, currency)),
                ..AuthRequest::new(RequestKey::new("t").unwrap(), kind, subject)
            };
            let observed = Observed { approved, response_code: code };
            let found = InForce::observed(observed, &request, usd);
            let found = (found.decision, found.declined_for_credit, found.amount_minor);
            assert_eq!(found, (decision, for_credit, amount_minor), "{kind:?} {minor} {observed:?}");
        }
    }
}

//! What the answers imply: limits and holds of every account, computed in i128 by applying the answers in the order of
//! their positions. Every answer must be the one that this order demands, to the minor unit.

use std::collections::{HashMap, HashSet};

use saker::proto::{AuthoriseRequest, AuthoriseResponse, Decision, Kind, Money, Outcome, ReverseRequest};

use super::{
    book::{Book, Wrong},
    exchange::{Answer, Request},
};

/// What is known of one account.
#[derive(Default, Debug)]
pub struct Account {
    pub limit: i128,
    /// What each authorisation still holds.
    holds: HashMap<String, i128>,
}

impl Account {
    pub fn held(&self) -> i128 {
        self.holds.values().sum()
    }

    fn available(&self) -> i128 {
        self.limit - self.held()
    }
}

/// The accounts as the answers leave them.
#[derive(Default)]
pub struct Truth {
    pub accounts: HashMap<String, Account>,
    cards: HashMap<String, String>,
    /// The account of each decided authorisation; `None` where there was none.
    decided: HashMap<String, Option<String>>,
    reversed_before_arrival: HashSet<String>,
    /// Positions given out so far, over all accounts.
    positions: HashSet<u64>,
    /// Entries of [`Book::answered`] that are applied.
    applied: usize,
}

impl Truth {
    pub fn open(&mut self, account_id: &str, limit_minor: i64, cards: impl Iterator<Item = String>) {
        let account = Account { limit: limit_minor.into(), holds: HashMap::new() };
        self.accounts.insert(account_id.to_owned(), account);
        self.cards.extend(cards.map(|card| (card, account_id.to_owned())));
    }

    /// Applies every answer learnt since the last time. No outcome may be open, or the order would have gaps.
    pub fn apply(&mut self, book: &mut Book, credit_alone_decides: bool) {
        let mut new: Vec<(u64, Request, Answer)> = book.answered[self.applied..]
            .iter()
            .filter_map(|key| {
                let entry = book.entries.get(key)?;
                let answer = entry.answer.clone()?;
                Some((answer.position(), entry.request.clone(), answer))
            })
            .collect();
        self.applied = book.answered.len();
        new.sort_by_key(|(position, ..)| *position);
        for (position, request, answer) in new {
            let mut wrong = |wrong, text: String| {
                let key = request.key().to_owned();
                book.wrong(wrong, || format!("{key} at {position}: {text}; {request:?} -> {answer:?}"));
            };
            if !self.positions.insert(position) {
                wrong(Wrong::Other, "the position was given before".to_owned());
            }
            match (&request, &answer) {
                (Request::Authorise(request), Answer::Authorisation(answer)) => {
                    self.authorise(request, answer, credit_alone_decides, &mut wrong);
                }
                (Request::Reverse(request), Answer::Outcome(answer)) => {
                    self.reverse(request, answer, &mut wrong)
                }
                (Request::SetCreditLimit(request), Answer::Outcome(answer)) => {
                    if answer.response_code != "00" {
                        wrong(Wrong::Other, "a limit is always set".to_owned());
                    }
                    if let Some(account) = self.accounts.get_mut(&request.account_id) {
                        account.limit = request.credit_limit_minor.into();
                        check_available(account, answer.available_credit.as_ref(), &mut wrong);
                    }
                }
                _ => wrong(Wrong::Other, "an answer of another kind".to_owned()),
            }
        }
    }

    fn authorise(
        &mut self,
        request: &AuthoriseRequest,
        answer: &AuthoriseResponse,
        credit_alone_decides: bool,
        wrong: &mut impl FnMut(Wrong, String),
    ) {
        let id = self.cards.get(&request.card_token).unwrap_or(&request.account_id).clone();
        let account = self.accounts.get_mut(&id);
        self.decided.insert(request.transaction_id.clone(), account.is_some().then_some(id.clone()));
        let reversed_before_arrival = self.reversed_before_arrival.contains(&request.transaction_id);
        let Some(account) = account else {
            if answer.response_code != "14" && !(reversed_before_arrival && answer.response_code == "12") {
                wrong(Wrong::Other, "there is no such account".to_owned());
            }
            return;
        };
        let amount = minor(request.amount.as_ref());
        let approved = minor(answer.approved_amount.as_ref());
        let available = account.available();
        let holds = matches!(request.kind(), Kind::Purchase | Kind::PreAuthorisation) && amount > 0;
        let code = answer.response_code.as_str();

        match answer.decision() {
            _ if reversed_before_arrival => {
                if (answer.decision(), code) != (Decision::Declined, "12") {
                    wrong(Wrong::DoubleHold, "its reversal came first".to_owned());
                }
            }
            Decision::Approved if holds && approved != amount => {
                wrong(Wrong::Other, format!("approved {approved} of {amount}"));
            }
            Decision::PartiallyApproved if !request.partial_approval_allowed || approved >= amount => {
                wrong(Wrong::Other, "a partial approval that was not asked for".to_owned());
            }
            Decision::Approved | Decision::PartiallyApproved if holds => {
                if approved > available {
                    wrong(Wrong::OverLimit, format!("{available} were available"));
                }
            }
            Decision::Approved if approved != 0 => {
                wrong(Wrong::Other, "what asks for nothing holds nothing".to_owned())
            }
            Decision::Approved => {}
            Decision::Declined if code == "51" => {
                let enough =
                    if request.partial_approval_allowed { available > 0 } else { available >= amount };
                if enough {
                    wrong(Wrong::Other, format!("{available} were available"));
                }
            }
            Decision::Declined if code == "12" => {
                wrong(Wrong::Other, "no reversal of it came first".to_owned());
            }
            // Too many holds, and the wrong currency.
            Decision::Declined if code == "65" || code == "13" => {}
            _ if credit_alone_decides => wrong(Wrong::Other, "nothing but credit decides here".to_owned()),
            Decision::Declined | Decision::StepUp if code != "91" && code != "96" => {}
            _ => wrong(Wrong::Other, "the engine's own trouble is no decline".to_owned()),
        }
        if holds && matches!(answer.decision(), Decision::Approved | Decision::PartiallyApproved) {
            account.holds.insert(request.transaction_id.clone(), approved);
        }
        check_available(account, answer.available_credit.as_ref(), wrong);
    }

    fn reverse(&mut self, request: &ReverseRequest, answer: &Outcome, wrong: &mut impl FnMut(Wrong, String)) {
        let original = &request.original_transaction_id;
        let moved = minor(answer.amount_moved.as_ref());
        let Some(account_id) = self.decided.get(original) else {
            self.reversed_before_arrival.insert(original.clone());
            if moved != 0 {
                wrong(Wrong::Other, "it freed what did not exist yet".to_owned());
            }
            return;
        };
        let account = account_id.as_ref().and_then(|id| self.accounts.get_mut(id));
        let stays = request.replacement_amount.as_ref().map_or(0, |money| money.minor_units.into());
        let freed = match account {
            None => 0,
            Some(account) => {
                let held = account.holds.get(original).copied().unwrap_or(0);
                let left = held.min(stays);
                account.holds.insert(original.clone(), left);
                check_available(account, answer.available_credit.as_ref(), wrong);
                held - left
            }
        };
        if moved != freed {
            wrong(Wrong::Other, format!("it freed {moved} where {freed} were to be freed"));
        }
    }
}

fn minor(money: Option<&Money>) -> i128 {
    money.map_or(0, |money| money.minor_units.into())
}

fn check_available(account: &Account, shown: Option<&Money>, wrong: &mut impl FnMut(Wrong, String)) {
    let available = account.available();
    if let Some(shown) = shown
        && i128::from(shown.minor_units) != available
    {
        wrong(Wrong::Other, format!("{} shown as available, {available} left", shown.minor_units));
    }
}

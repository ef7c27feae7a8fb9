//! After a restart: settles what is open, then asks for every acknowledged answer again, in two ways, and compares the
//! balances with what the answers imply.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use saker::proto::{
    GetAccountRequest, GetDecisionRequest, accounts_client::AccountsClient,
    decisions_client::DecisionsClient, get_decision_request::By,
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{
    book::{Clerk, Wrong},
    clients,
    exchange::{Answer, Request},
    truth::Truth,
};

const TASKS: usize = 16;
/// A server that has just come up may shed for a moment.
const ATTEMPTS: u32 = 50;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);

/// Sends every request whose outcome is open once more; afterwards each has an answer. Returns how many there were.
pub async fn settle(to: SocketAddr, clerk: &Arc<Clerk>) -> usize {
    let open = clerk.book.lock().open();
    let count = open.len();
    in_parallel(to, clerk, open, |channel, clerk, request| async move {
        for attempt in 1.. {
            match clients::exchange(&channel, &clerk, &request).await {
                Ok(_) => break,
                Err(status) if attempt == ATTEMPTS => {
                    let mut book = clerk.book.lock();
                    book.wrong(Wrong::Other, || format!("{} cannot be settled: {status:?}", request.key()));
                    break;
                }
                Err(_) => tokio::time::sleep(ATTEMPT_PAUSE).await,
            }
        }
    })
    .await;
    clerk.flush();
    count
}

/// Asks for the answers of the given keys again: by repeating the request, and a decision by `GetDecision` too.
pub async fn answers(to: SocketAddr, clerk: &Arc<Clerk>, keys: &HashSet<String>) {
    let known: Vec<(Request, Answer)> = {
        let book = clerk.book.lock();
        let entries = keys.iter().filter_map(|key| book.entries.get(key));
        entries.filter_map(|entry| Some((entry.request.clone(), entry.answer.clone()?))).collect()
    };
    in_parallel(to, clerk, known, |channel, clerk, (request, answer)| async move {
        if let (Request::Authorise(request), Answer::Authorisation(_)) = (&request, &answer) {
            look_up(&channel, &clerk, request.transaction_id.clone(), &answer).await;
        }
        match clients::exchange(&channel, &clerk, &request).await {
            // Whether the two answers are equal is checked when the repeat enters the book.
            Ok(again) if again.is_replayed() => {}
            Ok(again) => {
                clerk.book.lock().wrong(Wrong::Lost, || {
                    format!("{}: acknowledged as {answer:?}, decided anew as {again:?}", request.key())
                });
            }
            Err(status) => {
                clerk.book.lock().wrong(Wrong::Lost, || format!("{}: no repeat: {status:?}", request.key()));
            }
        }
    })
    .await;
    clerk.flush();
}

async fn look_up(channel: &Channel, clerk: &Clerk, transaction_id: String, answer: &Answer) {
    let by = Some(By::TransactionId(transaction_id.clone()));
    let found = DecisionsClient::new(channel.clone()).get_decision(GetDecisionRequest { by }).await;
    let mut book = clerk.book.lock();
    match found.map(|found| found.into_inner().response) {
        Ok(Some(response)) => {
            let stored = Answer::Authorisation(response).into_first_given();
            if stored.bytes() != answer.bytes() {
                book.wrong(Wrong::Changed, || {
                    format!("{transaction_id}: {answer:?} is stored as {stored:?}")
                });
            }
        }
        Ok(None) => book.wrong(Wrong::Lost, || format!("{transaction_id}: GetDecision has no response")),
        Err(status) => book.wrong(Wrong::Lost, || format!("{transaction_id}: GetDecision: {status:?}")),
    }
}

/// Compares every account with what the answers imply.
pub async fn balances(to: SocketAddr, clerk: &Arc<Clerk>, truth: &Truth) {
    let mut accounts = AccountsClient::new(clients::channel(to));
    for (account_id, expected) in &truth.accounts {
        let shown = accounts.get_account(GetAccountRequest { account_id: account_id.clone() }).await;
        let mut book = clerk.book.lock();
        let shown = match shown {
            Ok(shown) => shown.into_inner(),
            Err(status) => {
                book.wrong(Wrong::Lost, || format!("account {account_id}: {status:?}"));
                continue;
            }
        };
        let held = i128::from(shown.held_minor);
        if held != expected.held() {
            let wrong = if held > expected.held() { Wrong::DoubleHold } else { Wrong::Lost };
            book.wrong(wrong, || {
                format!("account {account_id}: {held} held, {} acknowledged", expected.held())
            });
        }
        if shown.credit_limit_minor.map(i128::from) != Some(expected.limit) || shown.posted_minor() != 0 {
            book.wrong(Wrong::Lost, || format!("account {account_id}: {shown:?}, limit {}", expected.limit));
        }
        let revealed = book.revealed.get(account_id).copied().unwrap_or(0);
        if shown.last_position < revealed {
            book.wrong(Wrong::Lost, || {
                format!("account {account_id}: stood at {revealed}, now at {}", shown.last_position)
            });
        }
        book.saw(&shown);
    }
}

async fn in_parallel<T, F>(
    to: SocketAddr,
    clerk: &Arc<Clerk>,
    work: Vec<T>,
    one: impl Fn(Channel, Arc<Clerk>, T) -> F + Clone + Send + 'static,
) where
    T: Send + 'static,
    F: Future<Output = ()> + Send,
{
    let channel = clients::channel(to);
    let mut shares: Vec<Vec<T>> = (0..TASKS).map(|_| Vec::new()).collect();
    for (place, item) in work.into_iter().enumerate() {
        shares[place % TASKS].push(item);
    }
    let mut tasks = JoinSet::new();
    for share in shares {
        let (channel, clerk, one) = (channel.clone(), clerk.clone(), one.clone());
        tasks.spawn(async move {
            for item in share {
                one(channel.clone(), clerk.clone(), item).await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("an audit task panicked");
    }
}

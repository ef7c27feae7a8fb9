//! The demo's side of the gRPC port: accounts, one stream of authorisations in the order of the transactions, and
//! explanations.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::{
    cli::accounts::{connect, upsert},
    proto::{
        AuthoriseItem, AuthoriseResponse, GetDecisionRequest, GetDecisionResponse,
        accounts_client::AccountsClient, authorisation_client::AuthorisationClient, authorise_item_result,
        decisions_client::DecisionsClient, get_decision_request,
    },
    sim::LabelledTransaction,
    types::account::AccountChange,
    wire,
};

/// Requests sent ahead of their answers. Few enough that latency is the engine's and not a queue's, enough that one
/// sync of the disk serves many.
pub(super) const IN_FLIGHT: usize = 64;

/// What came back for one item: an answer, or why there is none.
pub(super) type Answer = Result<AuthoriseResponse, String>;

pub(super) struct Client {
    channel: Channel,
}

impl Client {
    pub(super) async fn connect(to: SocketAddr) -> anyhow::Result<Client> {
        Ok(Client { channel: connect(&to.to_string()).await? })
    }

    pub(super) async fn open_accounts(
        &mut self,
        seed: u64,
        accounts: &[AccountChange],
    ) -> anyhow::Result<()> {
        let rows: Vec<_> = accounts
            .iter()
            .enumerate()
            .map(|(place, account)| upsert(format!("demo-{seed}-{place}"), account))
            .collect();
        let mut client = AccountsClient::new(self.channel.clone());
        let answer = client.upsert_accounts(tokio_stream::iter(rows)).await?.into_inner();
        if let Some(refusal) = answer.refusals.first() {
            let why = refusal.status.as_ref().map_or("no reason given", |status| status.message.as_str());
            bail!("account {} was refused: {why}", refusal.row);
        }
        Ok(())
    }

    /// Sends every transaction in order on one stream and hands over each answer with the time it took.
    pub(super) async fn authorise(
        &mut self,
        transactions: &[LabelledTransaction],
        mut on_answer: impl FnMut(&LabelledTransaction, Answer, Duration),
    ) -> anyhow::Result<()> {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let mut sent_at = Vec::with_capacity(transactions.len());
        let mut waiting = transactions.iter();
        let mut sender = Some(sender);
        let mut send_next = |sent_at: &mut Vec<Instant>| {
            let Some(transaction) = waiting.next() else {
                // Half-closes the stream: the engine answers what it has read and ends it.
                sender = None;
                return Ok(());
            };
            let item = AuthoriseItem {
                correlation: sent_at.len() as u64,
                request: Some(wire::authorise_request(&transaction.request)),
                answer_within: None,
            };
            sent_at.push(Instant::now());
            match &sender {
                Some(sender) => sender.try_send(item).context("the stream of requests has ended"),
                None => Ok(()),
            }
        };
        for _ in 0..IN_FLIGHT {
            send_next(&mut sent_at)?;
        }
        let mut client = AuthorisationClient::new(self.channel.clone());
        let mut results = client.authorise_stream(ReceiverStream::new(receiver)).await?.into_inner();
        let mut answered = 0;
        while let Some(result) = results.message().await? {
            let arrived = Instant::now();
            let place = usize::try_from(result.correlation).unwrap_or(usize::MAX);
            let (Some(transaction), Some(sent)) = (transactions.get(place), sent_at.get(place)) else {
                bail!("an answer has the correlation {place}, which was never sent");
            };
            let answer = match result.result {
                Some(authorise_item_result::Result::Response(response)) => Ok(response),
                Some(authorise_item_result::Result::Error(status)) => Err(status.message),
                None => Err("an empty result".to_owned()),
            };
            on_answer(transaction, answer, arrived - *sent);
            answered += 1;
            send_next(&mut sent_at)?;
        }
        if answered != transactions.len() {
            bail!("the stream ended after {answered} of {} answers", transactions.len());
        }
        Ok(())
    }

    pub(super) async fn explain(&mut self, transaction_id: &str) -> anyhow::Result<GetDecisionResponse> {
        let by = get_decision_request::By::TransactionId(transaction_id.to_owned());
        let mut client = DecisionsClient::new(self.channel.clone());
        let answer = client.get_decision(GetDecisionRequest { by: Some(by) }).await;
        Ok(answer.with_context(|| format!("{transaction_id} cannot be explained"))?.into_inner())
    }
}

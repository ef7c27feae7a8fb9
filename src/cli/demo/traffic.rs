//! The demo's side of the gRPC port: accounts, one stream of authorisations in the order of the transactions, and
//! explanations.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};

use super::source::Row;
use crate::{
    cli::{
        accounts::{connect, upsert},
        past::opening_key,
    },
    history::BadRow,
    proto::{
        AuthoriseItem, AuthoriseResponse, GetDecisionRequest, GetDecisionResponse,
        accounts_client::AccountsClient, authorisation_client::AuthorisationClient, authorise_item_result,
        decisions_client::DecisionsClient, get_decision_request,
    },
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

    pub(super) async fn open_accounts(&mut self, accounts: &[AccountChange]) -> anyhow::Result<()> {
        let rows: Vec<_> = accounts
            .iter()
            .enumerate()
            .map(|(place, account)| upsert(opening_key(place).to_string(), account))
            .collect();
        let mut client = AccountsClient::new(self.channel.clone());
        let answer = client.upsert_accounts(tokio_stream::iter(rows)).await?.into_inner();
        if let Some(refusal) = answer.refusals.first() {
            let why = refusal.status.as_ref().map_or("no reason given", |status| status.message.as_str());
            bail!("account {} was refused: {why}", refusal.row);
        }
        Ok(())
    }

    /// Sends every row in order on one stream and hands over each answer with the time it took.
    pub(super) async fn authorise(
        &mut self,
        rows: impl Iterator<Item = Result<Row, BadRow>>,
        mut on_answer: impl FnMut(Row, Answer, Duration) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let mut sending = Sending { rows, sender: Some(sender), unanswered: HashMap::new() };
        for _ in 0..IN_FLIGHT {
            sending.send_next()?;
        }
        let mut client = AuthorisationClient::new(self.channel.clone());
        let mut results = client.authorise_stream(ReceiverStream::new(receiver)).await?.into_inner();
        while let Some(result) = results.message().await? {
            let arrived = Instant::now();
            let Some((row, sent)) = sending.unanswered.remove(&result.correlation) else {
                bail!("an answer has the correlation {}, which none waits for", result.correlation);
            };
            let answer = match result.result {
                Some(authorise_item_result::Result::Response(response)) => Ok(response),
                Some(authorise_item_result::Result::Error(status)) => Err(status.message),
                None => Err("an empty result".to_owned()),
            };
            on_answer(row, answer, arrived - sent)?;
            sending.send_next()?;
        }
        if !sending.unanswered.is_empty() {
            bail!("the stream ended with {} requests unanswered", sending.unanswered.len());
        }
        Ok(())
    }

    /// `None` where the engine has forgotten the id, which it does after 35 days of its own time.
    pub(super) async fn explain(
        &mut self,
        transaction_id: &str,
    ) -> anyhow::Result<Option<GetDecisionResponse>> {
        let by = get_decision_request::By::TransactionId(transaction_id.to_owned());
        let mut client = DecisionsClient::new(self.channel.clone());
        let answer = client.get_decision(GetDecisionRequest { by: Some(by) }).await;
        match answer {
            Err(status) if status.code() == Code::NotFound => Ok(None),
            answer => Ok(Some(
                answer.with_context(|| format!("{transaction_id} cannot be explained"))?.into_inner(),
            )),
        }
    }
}

/// The sending half of the stream.
struct Sending<I> {
    rows: I,
    /// `None` once every row is sent: the stream is half-closed, the engine answers what it has read and ends it.
    sender: Option<mpsc::Sender<AuthoriseItem>>,
    /// By correlation, which is the row's place.
    unanswered: HashMap<u64, (Row, Instant)>,
}

impl<I: Iterator<Item = Result<Row, BadRow>>> Sending<I> {
    fn send_next(&mut self) -> anyhow::Result<()> {
        let Some(sender) = &self.sender else { return Ok(()) };
        let Some(row) = self.rows.next().transpose()? else {
            self.sender = None;
            return Ok(());
        };
        let request = Some(wire::authorise_request(&row.request));
        let item = AuthoriseItem { correlation: row.place, request, answer_within: None };
        sender.try_send(item).context("the stream of requests has ended")?;
        self.unanswered.insert(row.place, (row, Instant::now()));
        Ok(())
    }
}

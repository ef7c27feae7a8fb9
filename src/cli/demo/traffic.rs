//! The demo's side of the gRPC port: accounts, one stream of authorisations in the order of the transactions, reports of
//! frauds as they become known, and explanations.

use std::{
    collections::{BTreeMap, HashMap},
    iter::Peekable,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};

use super::source::{Row, Truth};
use crate::{
    cli::{
        accounts::{connect, upsert},
        past::opening_key,
    },
    history::BadRow,
    proto::{
        AuthoriseItem, AuthoriseResponse, GetDecisionRequest, GetDecisionResponse, Label,
        LabelTransactionRequest, accounts_client::AccountsClient, authorisation_client::AuthorisationClient,
        authorise_item_result, decisions_client::DecisionsClient, get_decision_request,
        risk_client::RiskClient,
    },
    types::{account::AccountChange, time::Timestamp},
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

    /// Sends every row in order on one stream and hands over each answer with the time it took. Frauds are reported when
    /// their label's time has come, before the first row of that time.
    pub(super) async fn authorise(
        &mut self,
        rows: impl Iterator<Item = Result<Row, BadRow>>,
        mut on_answer: impl FnMut(Row, Answer, Duration) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let mut sending = Sending {
            rows: rows.peekable(),
            sender: Some(sender),
            unanswered: HashMap::new(),
            reports: Reports::default(),
            risk: RiskClient::new(self.channel.clone()),
        };
        sending.go_on().await?;
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
            let is_new = |answer: &AuthoriseResponse| !answer.replayed && answer.response_code != DUPLICATE;
            if !answer.as_ref().is_ok_and(is_new) {
                sending.reports.forget(&row);
            }
            on_answer(row, answer, arrived - sent)?;
            sending.go_on().await?;
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

/// What the response to another body under a used id says.
const DUPLICATE: &str = "94";

/// The sending half of the stream.
struct Sending<I: Iterator<Item = Result<Row, BadRow>>> {
    rows: Peekable<I>,
    /// `None` once every row is sent: the stream is half-closed, the engine answers what it has read and ends it.
    sender: Option<mpsc::Sender<AuthoriseItem>>,
    /// By correlation, which is the row's place.
    unanswered: HashMap<u64, (Row, Instant)>,
    reports: Reports,
    risk: RiskClient<Channel>,
}

impl<I: Iterator<Item = Result<Row, BadRow>>> Sending<I> {
    /// Sends what may be sent now. Where a fraud is to be reported first, everything sent is answered before that, so that
    /// each decision knows what was reported before its time and nothing else.
    async fn go_on(&mut self) -> anyhow::Result<()> {
        while self.unanswered.len() < IN_FLIGHT
            && let Some(sender) = &self.sender
        {
            let time = match self.rows.peek() {
                None => {
                    self.sender = None;
                    break;
                }
                Some(Ok(row)) => row.request.transaction_time.unwrap_or_default(),
                Some(Err(_)) => Timestamp(i64::MIN),
            };
            if self.reports.is_due(time) {
                if !self.unanswered.is_empty() {
                    break;
                }
                self.reports.send(time, &mut self.risk).await?;
            }
            let Some(row) = self.rows.next().transpose()? else { break };
            let request = Some(wire::authorise_request(&row.request));
            let item = AuthoriseItem { correlation: row.place, request, answer_within: None };
            sender.try_send(item).context("the stream of requests has ended")?;
            self.reports.note(&row);
            self.unanswered.insert(row.place, (row, Instant::now()));
        }
        Ok(())
    }
}

/// Frauds that are yet to be reported: by when, and among those of one time in the order in which they were sent.
#[derive(Default)]
struct Reports {
    coming: BTreeMap<(Timestamp, u64), (u64, String)>,
    /// Where in `coming` a row of this place stands.
    places: HashMap<u64, (Timestamp, u64)>,
    sent: u64,
}

impl Reports {
    fn note(&mut self, row: &Row) {
        self.sent += 1;
        if matches!(row.truth, Truth::Fraud(_)) {
            let at = (row.known_at, self.sent);
            self.coming.insert(at, (row.place, row.request.key.to_string()));
            self.places.insert(row.place, at);
        }
    }

    /// A repeated id is the fraud that it was before, and not one more.
    fn forget(&mut self, row: &Row) {
        if let Some(at) = self.places.remove(&row.place) {
            self.coming.remove(&at);
        }
    }

    fn is_due(&self, time: Timestamp) -> bool {
        self.coming.first_key_value().is_some_and(|((at, _), _)| *at <= time)
    }

    async fn send(&mut self, time: Timestamp, risk: &mut RiskClient<Channel>) -> anyhow::Result<()> {
        while self.is_due(time)
            && let Some((_, (place, transaction_id))) = self.coming.pop_first()
        {
            self.places.remove(&place);
            let labelling = LabelTransactionRequest {
                request_id: format!("report of row {place}"),
                transaction_id: transaction_id.clone(),
                label: Label::Fraud.into(),
                ..Default::default()
            };
            let reported = risk.label_transaction(labelling).await;
            reported.with_context(|| format!("{transaction_id} cannot be reported as fraud"))?;
        }
        Ok(())
    }
}

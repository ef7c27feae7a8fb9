//! The `Authorisation` service: authorise one, a stream or a batch, and reverse. Clearings, advices and refunds are
//! declared and not built.

use std::{future::poll_fn, sync::Arc, time::Instant};

use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    authorise_stream::{self, AuthoriseStream, Decide},
    convert::{Admission, from_proto, to_proto},
    door::Door,
    in_flight::{poll_decided_shielded, poll_shielded, shielded},
};
use crate::{
    engine::{Arrival, Pending},
    limits::BATCH_ITEMS_MAX,
    proto::{
        AdviseRequest, AuthoriseBatchRequest, AuthoriseBatchResponse, AuthoriseItem, AuthoriseItemResult,
        AuthoriseRequest, AuthoriseResponse, ClearRequest, Outcome, RefundRequest, ReverseRequest,
        authorisation_server,
    },
    types::{
        auth::{AuthAnswer, AuthRequest},
        codes::ResponseCode,
        fault::{Fault, Violation},
    },
};

pub(super) struct Authorisation(pub(super) Arc<Door>);

/// The engine, as the stream sees it.
pub(super) struct EngineOfStream {
    door: Arc<Door>,
    /// Of the call; its deadline is that of the item being decided.
    arrival: Arrival,
}

impl Decide for EngineOfStream {
    type Pending = Pending<AuthAnswer>;

    fn admission(&self) -> Admission {
        self.door.admission()
    }

    fn decide(&mut self, request: AuthRequest, deadline: Option<Instant>) -> Pending<AuthAnswer> {
        self.arrival.deadline = deadline;
        self.door.engine.authorise(request, &self.arrival)
    }

    fn faulted(&self, fault: &Fault) {
        self.door.count(fault);
    }

    fn refused(&self, code: Code) {
        self.door.count_refusal(code);
    }
}

#[tonic::async_trait]
impl authorisation_server::Authorisation for Authorisation {
    async fn authorise(
        &self,
        request: Request<AuthoriseRequest>,
    ) -> Result<Response<AuthoriseResponse>, Status> {
        let Authorisation(door) = self;
        let arrival = door.arrival(&request);
        let request = request.into_inner();
        let pending = begin(door, &request, &arrival).map_err(|fault| door.refuse(&fault))?;
        let answered = pending.await.map_err(|fault| door.refuse(&fault))?;
        Ok(Response::new(to_proto::authorise_response(request.transaction_id, &answered)))
    }

    type AuthoriseStreamStream = AuthoriseStream<Streaming<AuthoriseItem>, EngineOfStream>;

    async fn authorise_stream(
        &self,
        request: Request<Streaming<AuthoriseItem>>,
    ) -> Result<Response<Self::AuthoriseStreamStream>, Status> {
        let Authorisation(door) = self;
        let arrival = door.arrival(&request);
        let deadline = arrival.deadline;
        let decide = EngineOfStream { door: Arc::clone(door), arrival };
        let source = request.into_inner();
        let phase = door.phase.clone();
        Ok(Response::new(AuthoriseStream::new(source, decide, deadline, phase, door.open_call())))
    }

    async fn authorise_batch(
        &self,
        request: Request<AuthoriseBatchRequest>,
    ) -> Result<Response<AuthoriseBatchResponse>, Status> {
        let Authorisation(door) = self;
        let arrival = door.arrival(&request);
        let items = request.into_inner().items;
        if !(1..=BATCH_ITEMS_MAX).contains(&items.len()) {
            return Err(door.refuse(&wrong_item_count()));
        }
        let mut results = vec![AuthoriseItemResult::default(); items.len()];
        let mut due = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let decided = decide(door, &arrival, &item);
            let correlation = item.correlation;
            let transaction_id = item.request.map(|request| request.transaction_id).unwrap_or_default();
            match decided {
                Ok(mut pending) => {
                    // What comes after it is decided after it.
                    poll_fn(|cx| poll_decided_shielded(&mut pending, cx)).await;
                    due.push(Due { index, correlation, transaction_id, pending });
                }
                Err(fault) => {
                    results[index] = authorise_stream::result(correlation, transaction_id, Err(fault));
                }
            }
        }
        settle(door, due, &mut results).await;
        Ok(Response::new(AuthoriseBatchResponse { results }))
    }

    async fn reverse(&self, request: Request<ReverseRequest>) -> Result<Response<Outcome>, Status> {
        let Authorisation(door) = self;
        let arrival = door.arrival(&request);
        let request = request.into_inner();
        let reversal =
            from_proto::reverse(&request, door.admission()).map_err(|fault| door.refuse(&fault))?;
        let answered = door.engine.reverse(reversal, &arrival).await.map_err(|fault| door.refuse(&fault))?;
        Ok(Response::new(to_proto::outcome(request.request_id, &answered)))
    }

    async fn clear(&self, _request: Request<ClearRequest>) -> Result<Response<Outcome>, Status> {
        Err(self.0.refuse(&Fault::Unimplemented))
    }

    async fn advise(&self, _request: Request<AdviseRequest>) -> Result<Response<Outcome>, Status> {
        Err(self.0.refuse(&Fault::Unimplemented))
    }

    async fn refund(&self, _request: Request<RefundRequest>) -> Result<Response<Outcome>, Status> {
        Err(self.0.refuse(&Fault::Unimplemented))
    }
}

/// Has one request decided; the answer comes when it is durable.
///
/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(super) fn begin(
    door: &Door,
    request: &AuthoriseRequest,
    arrival: &Arrival,
) -> Result<Pending<AuthAnswer>, Fault> {
    let admitted = from_proto::authorise(request, door.admission())?;
    Ok(door.engine.authorise(admitted, arrival))
}

/// An item of a batch whose answer is due.
struct Due {
    index: usize,
    correlation: u64,
    transaction_id: String,
    pending: Pending<AuthAnswer>,
}

/// Has one item of a batch decided, or refuses it.
fn decide(door: &Door, call: &Arrival, item: &AuthoriseItem) -> Result<Pending<AuthAnswer>, Fault> {
    let (request, answer_within) =
        from_proto::authorise_item(item, door.admission()).inspect_err(|fault| door.count(fault))?;
    let deadline = authorise_stream::earlier(call.deadline, answer_within);
    let arrival = Arrival { deadline, ..call.clone() };
    shielded(|| door.engine.authorise(request, &arrival))
}

/// Waits for all answers of a batch and puts each in its item's place.
///
/// Repeats first, then the others from the last one backwards: an answer that is resolved counts as handed over, so
/// none may be before all are durable, and the last record is durable last. It also wakes the call only once.
async fn settle(door: &Door, due: Vec<Due>, results: &mut [AuthoriseItemResult]) {
    let (in_order, repeats): (Vec<Due>, Vec<Due>) = due.into_iter().partition(|due| due.pending.in_order());
    for Due { index, correlation, transaction_id, mut pending } in
        repeats.into_iter().chain(in_order.into_iter().rev())
    {
        let answer = poll_fn(|cx| poll_shielded(&mut pending, cx)).await;
        if let Err(fault) = &answer {
            door.count(fault);
        }
        results[index] = authorise_stream::result(correlation, transaction_id, answer);
    }
}

fn wrong_item_count() -> Fault {
    Fault::Invalid(vec![Violation {
        field: "items",
        description: format!("must have 1 to {BATCH_ITEMS_MAX} items"),
        response_code: ResponseCode::FORMAT_ERROR,
        number: 1,
    }])
}

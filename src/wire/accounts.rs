//! The `Accounts` service: upserts of accounts and cards, statuses, limits, and what an account holds. Payments and
//! the list of holds are declared and not built.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio_stream::{Stream as _, wrappers::WatchStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    convert::{from_proto, to_proto},
    door::{Door, Phase},
    in_flight::{InFlight, shielded},
    status,
};
use crate::{
    engine::{Answered, Arrival, Pending},
    limits::{UPLOAD_IN_FLIGHT_MAX, UPLOAD_REFUSALS_MAX},
    proto::{
        Account, GetAccountRequest, ListHoldsRequest, ListHoldsResponse, Outcome, PostPaymentRequest,
        SetAccountStatusRequest, SetCardStatusRequest, SetCreditLimitRequest, UpsertAccountRequest,
        UpsertAccountsResponse, UpsertRefusal, accounts_server,
    },
    types::{
        codes::ResponseCode,
        fault::Fault,
        outcome::{self, Maintenance, Upserted},
    },
};

pub(super) struct Accounts(pub(super) Arc<Door>);

#[tonic::async_trait]
impl accounts_server::Accounts for Accounts {
    async fn upsert_accounts(
        &self,
        request: Request<Streaming<UpsertAccountRequest>>,
    ) -> Result<Response<UpsertAccountsResponse>, Status> {
        let arrival = self.0.arrival(&request);
        Upload::new(&self.0, arrival, request.into_inner()).run().await.map(Response::new)
    }

    async fn get_account(&self, request: Request<GetAccountRequest>) -> Result<Response<Account>, Status> {
        let Accounts(door) = self;
        let account = from_proto::get_account(request.get_ref(), door.admission())
            .map_err(|fault| door.refuse(&fault))?;
        let view = door.engine.account(account, &door.lane).await.map_err(|fault| door.refuse(&fault))?;
        Ok(Response::new(to_proto::account(&view)))
    }

    async fn set_account_status(
        &self,
        request: Request<SetAccountStatusRequest>,
    ) -> Result<Response<Outcome>, Status> {
        let change = from_proto::set_account_status(request.get_ref(), self.0.admission());
        self.maintain(change, self.0.arrival(&request), request.into_inner().request_id).await
    }

    async fn set_card_status(
        &self,
        request: Request<SetCardStatusRequest>,
    ) -> Result<Response<Outcome>, Status> {
        let change = from_proto::set_card_status(request.get_ref(), self.0.admission());
        self.maintain(change, self.0.arrival(&request), request.into_inner().request_id).await
    }

    async fn set_credit_limit(
        &self,
        request: Request<SetCreditLimitRequest>,
    ) -> Result<Response<Outcome>, Status> {
        let change = from_proto::set_credit_limit(request.get_ref(), self.0.admission());
        self.maintain(change, self.0.arrival(&request), request.into_inner().request_id).await
    }

    async fn post_payment(&self, _: Request<PostPaymentRequest>) -> Result<Response<Outcome>, Status> {
        Err(self.0.refuse(&Fault::Unimplemented))
    }

    async fn list_holds(&self, _: Request<ListHoldsRequest>) -> Result<Response<ListHoldsResponse>, Status> {
        Err(self.0.refuse(&Fault::Unimplemented))
    }
}

impl Accounts {
    async fn maintain(
        &self,
        change: Result<Maintenance, Fault>,
        arrival: Arrival,
        request_id: String,
    ) -> Result<Response<Outcome>, Status> {
        let Accounts(door) = self;
        let change = change.map_err(|fault| door.refuse(&fault))?;
        let answered = door.engine.maintain(change, &arrival).await.map_err(|fault| door.refuse(&fault))?;
        Ok(Response::new(to_proto::outcome(request_id, &answered)))
    }
}

/// One upload of accounts: rows are applied in the order sent, many of them waiting for the disk at a time.
struct Upload<'a> {
    door: &'a Arc<Door>,
    arrival: Arrival,
    rows: Streaming<UpsertAccountRequest>,
    phase_changes: WatchStream<Phase>,
    /// Rows read so far; a row's number counts from 1.
    row: u64,
    in_flight: InFlight<u64, Pending<outcome::Outcome>>,
    /// Set once nothing more is read.
    ending: Option<Result<(), Status>>,
    answer: UpsertAccountsResponse,
}

impl<'a> Upload<'a> {
    fn new(door: &'a Arc<Door>, arrival: Arrival, rows: Streaming<UpsertAccountRequest>) -> Self {
        Upload {
            door,
            arrival,
            rows,
            phase_changes: WatchStream::new(door.phase.clone()),
            row: 0,
            in_flight: InFlight::new(),
            ending: None,
            answer: UpsertAccountsResponse::default(),
        }
    }

    async fn run(mut self) -> Result<UpsertAccountsResponse, Status> {
        let ending = poll_fn(|cx| self.poll(cx)).await;
        self.answer.refusals.sort_unstable_by_key(|refusal| refusal.row);
        ending.map(|()| self.answer)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        loop {
            while let Poll::Ready((row, result)) = self.in_flight.poll_next(cx) {
                self.count(row, result);
            }
            while let Poll::Ready(Some(_)) = Pin::new(&mut self.phase_changes).poll_next(cx) {}
            if self.ending.is_none() && self.door.is_draining() {
                self.ending = Some(Err(self.door.refuse(&Fault::Unavailable(status::DRAINING))));
            }
            let mut read = false;
            while self.ending.is_none()
                && !self.in_flight.is_blocked()
                && self.in_flight.len() < UPLOAD_IN_FLIGHT_MAX
            {
                match Pin::new(&mut self.rows).poll_next(cx) {
                    Poll::Ready(Some(Ok(row))) => {
                        self.take(&row, cx);
                        read = true;
                    }
                    Poll::Ready(Some(Err(status))) => self.ending = Some(Err(status)),
                    Poll::Ready(None) => self.ending = Some(Ok(())),
                    Poll::Pending => break,
                }
            }
            if read {
                continue;
            }
            if !self.in_flight.is_empty() {
                return Poll::Pending;
            }
            return match self.ending.take() {
                Some(ending) => Poll::Ready(ending),
                None => Poll::Pending,
            };
        }
    }

    /// Hands one row to the engine, or refuses it.
    fn take(&mut self, request: &UpsertAccountRequest, cx: &mut Context<'_>) {
        self.row += 1;
        match from_proto::upsert(request, self.door.admission()) {
            Ok(change) => {
                let maintained = shielded(|| self.door.engine.maintain(change, &self.arrival));
                match maintained {
                    Ok(pending) => self.in_flight.push(self.row, pending, cx),
                    Err(fault) => self.refuse(self.row, self.door.refuse_item(&fault)),
                }
            }
            Err(fault) => self.refuse(self.row, self.door.refuse_item(&fault)),
        }
    }

    fn count(&mut self, row: u64, result: Result<Answered<outcome::Outcome>, Fault>) {
        match result {
            Ok(Answered { answer, .. }) if answer.response_code != ResponseCode::APPROVED => {
                self.refuse(row, status::of_refused_row(&answer));
            }
            // A repeat changes nothing now, whatever the first one did.
            Ok(Answered { replayed: true, .. }) => self.answer.unchanged += 1,
            Ok(Answered { answer, .. }) => match answer.upserted {
                Some(Upserted::Opened) => self.answer.accounts_opened += 1,
                Some(Upserted::Changed) => self.answer.accounts_changed += 1,
                Some(Upserted::Unchanged) | None => self.answer.unchanged += 1,
            },
            Err(fault) => self.refuse(row, self.door.refuse_item(&fault)),
        }
    }

    /// Rows beyond the listed refusals are still worked on; the counts tell how many are missing.
    fn refuse(&mut self, row: u64, status: tonic_types::Status) {
        if self.answer.refusals.len() < UPLOAD_REFUSALS_MAX {
            self.answer.refusals.push(UpsertRefusal { row, status: Some(status) });
        }
    }
}

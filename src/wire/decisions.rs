//! The `Decisions` service: one decision with the request it answered and what it saw. Lists and watches are
//! declared and not built.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    convert::{
        from_proto::{self, DecisionBy},
        to_proto,
    },
    door::Door,
    status,
};
use crate::{
    engine::{Client, DecisionKey},
    proto::{
        GetDecisionRequest, GetDecisionResponse, ListDecisionsRequest, ListDecisionsResponse,
        WatchDecisionsRequest, WatchDecisionsResponse, decisions_server,
    },
    types::fault::Fault,
};

pub(super) struct Decisions(pub(super) Arc<Door>);

#[tonic::async_trait]
impl decisions_server::Decisions for Decisions {
    async fn get_decision(
        &self,
        request: Request<GetDecisionRequest>,
    ) -> Result<Response<GetDecisionResponse>, Status> {
        let Decisions(door) = self;
        let by = from_proto::get_decision(request.get_ref(), door.admission())
            .map_err(|fault| door.refuse(&fault))?;
        let key = match by {
            DecisionBy::Key(key) => DecisionKey::Key(key),
            DecisionBy::Position(position) => DecisionKey::Position(position),
        };
        let record = door
            .engine
            .decision(Client::ANONYMOUS, key, &door.lane)
            .await
            .map_err(|fault| status::of_call(&fault))?;
        Ok(Response::new(to_proto::decision(record)))
    }

    async fn list_decisions(
        &self,
        _: Request<ListDecisionsRequest>,
    ) -> Result<Response<ListDecisionsResponse>, Status> {
        Err(self.0.refuse(&Fault::Unimplemented))
    }

    type WatchDecisionsStream = tokio_stream::Empty<Result<WatchDecisionsResponse, Status>>;

    async fn watch_decisions(
        &self,
        _: Request<WatchDecisionsRequest>,
    ) -> Result<Response<Self::WatchDecisionsStream>, Status> {
        Err(self.0.refuse(&Fault::Unimplemented))
    }
}

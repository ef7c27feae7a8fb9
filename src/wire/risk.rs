//! The `Risk` service: declared, so that clients can be built against it, and not built yet. Every call says so.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::door::Door;
use crate::{
    proto::{
        GetModelRequest, GetModelResponse, GetRulesRequest, GetRulesResponse, LabelTransactionRequest,
        Outcome, ReloadModelRequest, ReloadModelResponse, ReloadRulesRequest, ReloadRulesResponse,
        SetRuleModeRequest, SetRuleModeResponse, UpdateListRequest, UpdateListResponse, risk_server,
    },
    types::fault::Fault,
};

pub(super) struct Risk(pub(super) Arc<Door>);

impl Risk {
    fn unimplemented<T>(&self) -> Result<Response<T>, Status> {
        Err(self.0.refuse(&Fault::Unimplemented))
    }
}

#[tonic::async_trait]
impl risk_server::Risk for Risk {
    async fn get_rules(&self, _: Request<GetRulesRequest>) -> Result<Response<GetRulesResponse>, Status> {
        self.unimplemented()
    }

    async fn reload_rules(
        &self,
        _: Request<ReloadRulesRequest>,
    ) -> Result<Response<ReloadRulesResponse>, Status> {
        self.unimplemented()
    }

    async fn set_rule_mode(
        &self,
        _: Request<SetRuleModeRequest>,
    ) -> Result<Response<SetRuleModeResponse>, Status> {
        self.unimplemented()
    }

    async fn update_list(
        &self,
        _: Request<UpdateListRequest>,
    ) -> Result<Response<UpdateListResponse>, Status> {
        self.unimplemented()
    }

    async fn label_transaction(
        &self,
        _: Request<LabelTransactionRequest>,
    ) -> Result<Response<Outcome>, Status> {
        self.unimplemented()
    }

    async fn get_model(&self, _: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        self.unimplemented()
    }

    async fn reload_model(
        &self,
        _: Request<ReloadModelRequest>,
    ) -> Result<Response<ReloadModelResponse>, Status> {
        self.unimplemented()
    }
}

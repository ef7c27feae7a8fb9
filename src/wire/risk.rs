//! The `Risk` service: the rules and the model that decide, and how they are replaced; lists and labels.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    convert::{
        from_proto::{self, ModelChange},
        lists, to_proto,
    },
    door::Door,
};
use crate::{
    admin,
    engine::{
        ModeSetter, NO_MODEL, RECORD_UNREADABLE, ReloadError, Reloaded, SetModeError, Source,
        VERSION_NOT_KEPT,
    },
    proto::{
        GetListRequest, GetListResponse, GetModelRequest, GetModelResponse, GetRulesRequest,
        GetRulesResponse, LabelTransactionRequest, Outcome, ReloadModelRequest, ReloadModelResponse,
        ReloadRulesRequest, ReloadRulesResponse, SetRuleModeRequest, SetRuleModeResponse, UpdateListRequest,
        UpdateListResponse, risk_server,
    },
    types::fault::Fault,
};

pub(super) struct Risk(pub(super) Arc<Door>);

impl Risk {
    /// For work that waits for the disk.
    async fn off_the_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        tokio::task::spawn_blocking(work).await.map_err(|_| self.0.refuse(&Fault::Internal))
    }

    /// Of a reload that was not done: why, in words for the answer.
    ///
    /// # Errors
    /// Where the engine cannot do it at all.
    fn not_reloaded(&self, error: ReloadError) -> Result<String, Status> {
        let Risk(door) = self;
        match error {
            ReloadError::Keep(_) => Err(door.refuse(&Fault::Unavailable(VERSION_NOT_KEPT))),
            ReloadError::Journal(error) => Err(door.refuse(&door.engine.refused(error))),
            error => Ok(error.to_string()),
        }
    }
}

#[tonic::async_trait]
impl risk_server::Risk for Risk {
    async fn get_rules(
        &self,
        request: Request<GetRulesRequest>,
    ) -> Result<Response<GetRulesResponse>, Status> {
        let Risk(door) = self;
        let version = request.into_inner().version;
        if version.is_empty() {
            let rules = door.engine.rules();
            let (version, content) = (rules.version.to_string(), rules.source.to_string());
            return Ok(Response::new(GetRulesResponse { version, content }));
        }
        let (engine, wanted) = (Arc::clone(&door.engine), version.clone());
        let text = self.off_the_runtime(move || engine.rules_text(&wanted)).await?;
        match text {
            Ok(Some(content)) => Ok(Response::new(GetRulesResponse { version, content })),
            Ok(None) => Err(door.refuse(&Fault::NotFound { what: "version of the rules" })),
            Err(error) => {
                tracing::error!(error, "a version of the rules cannot be read back");
                Err(door.refuse(&Fault::Unavailable(RECORD_UNREADABLE)))
            }
        }
    }

    async fn reload_rules(
        &self,
        request: Request<ReloadRulesRequest>,
    ) -> Result<Response<ReloadRulesResponse>, Status> {
        let Risk(door) = self;
        let (engine, content) = (Arc::clone(&door.engine), request.into_inner().content);
        let reloaded = self
            .off_the_runtime(move || match content.is_empty() {
                true => admin::rules::reload_configured(&engine),
                false => engine.reload_rules(Source { name: "content".to_owned(), text: content }),
            })
            .await?;
        let reloaded = match reloaded {
            Ok(reloaded) => reloaded,
            Err(ReloadError::Rules(findings) | ReloadError::ReadInPart(findings)) => {
                let findings = findings.iter().map(to_proto::finding).collect();
                return Ok(Response::new(ReloadRulesResponse { version: String::new(), findings }));
            }
            Err(error) => {
                let findings = vec![to_proto::unplaced_finding(&self.not_reloaded(error)?)];
                return Ok(Response::new(ReloadRulesResponse { version: String::new(), findings }));
            }
        };
        // What is answered here is known to a restart.
        let durable = door.engine.on_disk(reloaded.position, &door.lane).await;
        durable.map_err(|fault| door.refuse(&fault))?;
        let findings = reloaded.warnings.iter().map(to_proto::finding).collect();
        Ok(Response::new(ReloadRulesResponse { version: reloaded.version.to_string(), findings }))
    }

    async fn set_rule_mode(
        &self,
        request: Request<SetRuleModeRequest>,
    ) -> Result<Response<SetRuleModeResponse>, Status> {
        let Risk(door) = self;
        let change = from_proto::set_rule_mode(request.get_ref(), door.admission());
        let (rule, mode) = change.map_err(|fault| door.refuse(&fault))?;
        let engine = Arc::clone(&door.engine);
        let set = move || engine.set_rule_mode(rule.as_str(), mode, ModeSetter::CALL);
        let set = self.off_the_runtime(set).await?.map_err(|error| {
            door.refuse(&match error {
                SetModeError::NoSuchRule(meant) => Fault::NoSuchRule { meant },
                SetModeError::Reload(ReloadError::Keep(error)) => {
                    tracing::error!(%error, "a rule keeps its mode");
                    Fault::Unavailable(VERSION_NOT_KEPT)
                }
                SetModeError::Reload(ReloadError::Journal(error)) => door.engine.refused(error),
                SetModeError::Reload(error) => {
                    tracing::error!(%error, "a rule keeps its mode");
                    Fault::Internal
                }
            })
        })?;
        let durable = door.engine.on_disk(set.position, &door.lane).await;
        durable.map_err(|fault| door.refuse(&fault))?;
        Ok(Response::new(SetRuleModeResponse { rules_version: set.version.to_string() }))
    }

    async fn update_list(
        &self,
        request: Request<UpdateListRequest>,
    ) -> Result<Response<UpdateListResponse>, Status> {
        let Risk(door) = self;
        let arrival = door.arrival(&request);
        let update = lists::update_list(request.get_ref(), door.admission());
        let update = update.map_err(|fault| door.refuse(&fault))?;
        let answered = door.engine.update_list(update, door.pans_allowed, &arrival).await;
        let answered = answered.map_err(|fault| door.refuse(&fault))?;
        Ok(Response::new(lists::list_updated(&answered)))
    }

    async fn get_list(&self, request: Request<GetListRequest>) -> Result<Response<GetListResponse>, Status> {
        let Risk(door) = self;
        let wanted = lists::get_list(request.get_ref(), door.admission());
        let (list, after, limit) = wanted.map_err(|fault| door.refuse(&fault))?;
        let page = door.engine.list(list, after, limit, &door.lane).await;
        Ok(Response::new(lists::page(page.map_err(|fault| door.refuse(&fault))?, limit)))
    }

    async fn label_transaction(
        &self,
        request: Request<LabelTransactionRequest>,
    ) -> Result<Response<Outcome>, Status> {
        let Risk(door) = self;
        let arrival = door.arrival(&request);
        let labelling = lists::label_transaction(request.get_ref(), door.admission());
        let labelling = labelling.map_err(|fault| door.refuse(&fault))?;
        let answered = door.engine.label(labelling, &arrival).await.map_err(|fault| door.refuse(&fault))?;
        Ok(Response::new(to_proto::outcome(request.into_inner().request_id, &answered)))
    }

    async fn get_model(
        &self,
        request: Request<GetModelRequest>,
    ) -> Result<Response<GetModelResponse>, Status> {
        let Risk(door) = self;
        let (engine, GetModelRequest { version, with_content }) =
            (Arc::clone(&door.engine), request.into_inner());
        let found = self.off_the_runtime(move || engine.find_model(&version, with_content)).await?;
        match found {
            Ok(Some(found)) => Ok(Response::new(to_proto::model(found))),
            Ok(None) => Err(door.refuse(&Fault::NotFound { what: "version of the model" })),
            Err(error) => {
                tracing::error!(error, "a version of the model cannot be read back");
                Err(door.refuse(&Fault::Unavailable(RECORD_UNREADABLE)))
            }
        }
    }

    async fn reload_model(
        &self,
        request: Request<ReloadModelRequest>,
    ) -> Result<Response<ReloadModelResponse>, Status> {
        let Risk(door) = self;
        let asked = from_proto::reload_model(request.into_inner(), door.admission());
        let (engine, asked) = (Arc::clone(&door.engine), asked.map_err(|fault| door.refuse(&fault))?);
        let reloaded = self
            .off_the_runtime(move || match asked {
                ModelChange::Promote => engine.promote_challenger(),
                ModelChange::Load(role, content) => match content.as_str() {
                    "" => admin::models::reload_configured(&engine, role),
                    NO_MODEL => engine.reload_model(role, None),
                    _ => {
                        engine.reload_model(role, Some(Source { name: "content".to_owned(), text: content }))
                    }
                },
            })
            .await?;
        let reloaded = match reloaded {
            Ok(reloaded) => reloaded,
            Err(error) => {
                let refused = self.not_reloaded(error)?;
                return Ok(Response::new(ReloadModelResponse { refused, ..ReloadModelResponse::default() }));
            }
        };
        // What is answered here is known to a restart.
        let durable = door.engine.on_disk(reloaded.position, &door.lane).await;
        durable.map_err(|fault| door.refuse(&fault))?;
        let Reloaded { version, position, changed, .. } = reloaded;
        let version = version.to_string();
        Ok(Response::new(ReloadModelResponse { version, position, changed, refused: String::new() }))
    }
}

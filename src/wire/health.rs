//! The standard health service, `grpc.health.v1`: SERVING or not for the empty name and for each service in full.
//!
//! The engine says whether it can decide, the server whether it winds down; both are read at every check, so that
//! nothing has to be kept in step. The empty name stands for authorisation, which is what a balancer asks about.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::watch;
use tokio_stream::{Stream, wrappers::WatchStream};
use tonic::{Request, Response, Status, server::NamedService};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

use super::{
    accounts::Accounts,
    authorisation::Authorisation,
    decisions::Decisions,
    door::{Door, Phase, drain_end},
    risk::Risk,
    status,
};
use crate::{
    engine::Health as EngineHealth,
    proto::{
        accounts_server::AccountsServer, authorisation_server::AuthorisationServer,
        decisions_server::DecisionsServer, risk_server::RiskServer,
    },
    types::fault::Fault,
};

pub(super) struct Health(pub(super) Arc<Door>);

/// Which of the engine's two flags a health name stands for.
#[derive(Clone, Copy)]
enum Part {
    Authorisation,
    Others,
}

impl Part {
    fn of_name(name: &str) -> Option<Part> {
        if name.is_empty() || name == AuthorisationServer::<Authorisation>::NAME {
            return Some(Part::Authorisation);
        }
        let others =
            [AccountsServer::<Accounts>::NAME, DecisionsServer::<Decisions>::NAME, RiskServer::<Risk>::NAME];
        others.contains(&name).then_some(Part::Others)
    }

    fn status(self, health: EngineHealth, draining: bool) -> ServingStatus {
        let serving = match self {
            Part::Authorisation => health.authorisation,
            Part::Others => health.others,
        };
        if serving && !draining { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let Health(door) = self;
        let Some(part) = Part::of_name(&request.get_ref().service) else {
            return Err(status::of_call(&Fault::NotFound { what: "service" }));
        };
        let health = *door.engine.health().borrow();
        Ok(Response::new(message(part.status(health, door.is_draining()))))
    }

    type WatchStream = Watch;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let Health(door) = self;
        let health = door.engine.health();
        Ok(Response::new(Watch {
            part: Part::of_name(&request.get_ref().service),
            health_changes: WatchStream::new(health.clone()),
            health,
            phase_changes: WatchStream::new(door.phase.clone()),
            phase: door.phase.clone(),
            said: None,
        }))
    }
}

/// The changes of one health name. Ends after the NOT_SERVING of a drain, so that it keeps no connection open.
pub(super) struct Watch {
    /// `None` for a name nobody serves, which the protocol wants told and the call kept open.
    part: Option<Part>,
    health: watch::Receiver<EngineHealth>,
    health_changes: WatchStream<EngineHealth>,
    phase: watch::Receiver<Phase>,
    phase_changes: WatchStream<Phase>,
    said: Option<ServingStatus>,
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // Whatever changed, the present state is what is told; the streams only wake.
        while let Poll::Ready(Some(_)) = Pin::new(&mut this.health_changes).poll_next(cx) {}
        while let Poll::Ready(Some(_)) = Pin::new(&mut this.phase_changes).poll_next(cx) {}
        let draining = drain_end(&this.phase).is_some();
        let status = match this.part {
            Some(part) => part.status(*this.health.borrow(), draining),
            None => ServingStatus::ServiceUnknown,
        };
        if this.said != Some(status) {
            this.said = Some(status);
            return Poll::Ready(Some(Ok(message(status))));
        }
        if draining { Poll::Ready(None) } else { Poll::Pending }
    }
}

fn message(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: i32::from(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_is_known_by_its_full_name_and_a_full_disk_stops_authorisation_alone() {
        let disk_low = EngineHealth { authorisation: false, others: true };
        for (name, expected) in [
            ("", Some(ServingStatus::NotServing)),
            ("saker.v1.Authorisation", Some(ServingStatus::NotServing)),
            ("saker.v1.Accounts", Some(ServingStatus::Serving)),
            ("saker.v1.Decisions", Some(ServingStatus::Serving)),
            ("saker.v1.Risk", Some(ServingStatus::Serving)),
            ("Authorisation", None),
            ("saker.v1.authorisation", None),
        ] {
            assert_eq!(Part::of_name(name).map(|part| part.status(disk_low, false)), expected, "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_drain_is_told_at_once_and_ends_the_watch() {
        use tokio_stream::StreamExt as _;
        let (_engine, health) = watch::channel(EngineHealth { authorisation: true, others: true });
        let (server, phase) = watch::channel(Phase::Serving);
        let mut watch = Watch {
            part: Part::of_name(""),
            health_changes: WatchStream::new(health.clone()),
            health,
            phase_changes: WatchStream::new(phase.clone()),
            phase,
            said: None,
        };
        let told = async |watch: &mut Watch| watch.next().await.map(|message| message.unwrap().status);
        assert_eq!(told(&mut watch).await, Some(i32::from(ServingStatus::Serving)));
        let changed = tokio::spawn(async move {
            let second = told(&mut watch).await;
            (second, told(&mut watch).await)
        });
        tokio::task::yield_now().await;
        server.send(Phase::Draining { until: std::time::Instant::now() }).unwrap();
        assert_eq!(changed.await.unwrap(), (Some(i32::from(ServingStatus::NotServing)), None));
    }
}

//! From one HTTP/2 request to the service that answers it: by path, without a router's layers.
//!
//! Here the call's deadline begins, a panic becomes an INTERNAL of that call alone, and what tonic refuses by itself
//! is counted and given its `ErrorInfo`. Deliberately absent: a limit of its own on work; the engine sheds.

use std::{
    convert::Infallible,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http::{HeaderMap, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use tonic::{Code, Status, body::Body, server::NamedService};
use tonic_health::pb::health_server::HealthServer;
use tower_service::Service as TowerService;

use super::{
    accounts::Accounts,
    authorisation::Authorisation,
    deadline,
    decisions::Decisions,
    door::{Door, OpenCall},
    health::Health,
    risk::Risk,
    status,
};
use crate::{
    limits::{BATCH_BYTES_MAX, MESSAGE_BYTES_MAX},
    observe::{self, CallResult},
    proto::{
        self, accounts_server::AccountsServer, authorisation_server::AuthorisationServer,
        decisions_server::DecisionsServer, risk_server::RiskServer,
    },
    types::{
        codes::ResponseCode,
        fault::{Fault, Violation},
    },
};

/// The only call whose message may be larger than the others'.
const BATCH_PATH: &str = "/saker.v1.Authorisation/AuthoriseBatch";

type ServiceFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;
type Reflection = Box<dyn Fn(Request<Incoming>) -> ServiceFuture + Send + Sync>;

/// Every service of one runtime.
pub(super) struct Services {
    door: Arc<Door>,
    authorisation: AuthorisationServer<Authorisation>,
    batch: AuthorisationServer<Authorisation>,
    accounts: AccountsServer<Accounts>,
    decisions: DecisionsServer<Decisions>,
    risk: RiskServer<Risk>,
    health: HealthServer<Health>,
    reflection: Option<Reflection>,
}

impl Services {
    pub(super) fn new(door: Door, reflection: bool) -> Services {
        let door = Arc::new(door);
        let authorisation = Arc::new(Authorisation(Arc::clone(&door)));
        Services {
            authorisation: AuthorisationServer::from_arc(Arc::clone(&authorisation))
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            batch: AuthorisationServer::from_arc(authorisation).max_decoding_message_size(BATCH_BYTES_MAX),
            accounts: AccountsServer::new(Accounts(Arc::clone(&door)))
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            decisions: DecisionsServer::new(Decisions(Arc::clone(&door)))
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            risk: RiskServer::new(Risk(Arc::clone(&door))).max_decoding_message_size(MESSAGE_BYTES_MAX),
            health: HealthServer::new(Health(Arc::clone(&door))).max_decoding_message_size(MESSAGE_BYTES_MAX),
            reflection: reflection.then(reflection_service).flatten(),
            door,
        }
    }

    /// The future of the service that the path names; `None` where none does.
    fn route(&self, request: Request<Incoming>) -> Option<ServiceFuture> {
        const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
        let path = request.uri().path();
        let (service, _method) = path.strip_prefix('/')?.split_once('/')?;
        if path == BATCH_PATH {
            return Some(self.batch.clone().call(request));
        }
        match service {
            AuthorisationServer::<Authorisation>::NAME => Some(self.authorisation.clone().call(request)),
            AccountsServer::<Accounts>::NAME => Some(self.accounts.clone().call(request)),
            DecisionsServer::<Decisions>::NAME => Some(self.decisions.clone().call(request)),
            RiskServer::<Risk>::NAME => Some(self.risk.clone().call(request)),
            HealthServer::<Health>::NAME => Some(self.health.clone().call(request)),
            REFLECTION => self.reflection.as_ref().map(|answer| answer(request)),
            _ => None,
        }
    }

    fn begin(&self, mut request: Request<Incoming>, arrival: Instant) -> State {
        if let Some(refusal) = not_grpc(&request) {
            return State::Refused(refusal);
        }
        match deadline::from_headers(request.headers(), arrival) {
            Ok(Some(deadline)) => {
                request.extensions_mut().insert(deadline);
            }
            Ok(None) => {}
            Err(deadline::MalformedTimeout) => {
                return State::Refused(self.door.refuse(&malformed_timeout()).into_http());
            }
        }
        match self.route(request) {
            Some(future) => State::Running(future),
            None => State::Refused(self.door.refuse(&Fault::Unimplemented).into_http()),
        }
    }

    /// What tonic refused by itself carries no details: it is counted here, and where the contract asks for
    /// `ErrorInfo` it gets it. Not protobuf (INTERNAL) and too large (OUT_OF_RANGE) stay as they are; they too are the
    /// client's fault.
    fn complete(&self, response: Response<Body>) -> (Response<Body>, CallResult) {
        let headers = response.headers();
        let Some(code) = headers.get(Status::GRPC_STATUS) else { return (response, CallResult::Ok) };
        let code = Code::from_bytes(code.as_bytes());
        if headers.contains_key(Status::GRPC_STATUS_DETAILS) {
            return (response, status::at_fault(code));
        }
        let response = match code {
            Code::Unimplemented => self.unimplemented(headers),
            code => {
                self.door.count_refusal(code);
                response
            }
        };
        (response, CallResult::ClientError)
    }

    /// An unknown method, or a compression that is not offered: then the accepted encodings stand in the answer.
    fn unimplemented(&self, headers: &HeaderMap) -> Response<Body> {
        const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
        let mut response = self.door.refuse(&Fault::Unimplemented).into_http();
        if let Some(accepted) = headers.get(ACCEPT_ENCODING) {
            response.headers_mut().insert(ACCEPT_ENCODING, accepted.clone());
        }
        response
    }
}

/// The services of one runtime, as one connection sees them.
#[derive(Clone)]
pub(super) struct Dispatch(pub(super) Arc<Services>);

impl hyper::service::Service<Request<Incoming>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Call;

    fn call(&self, request: Request<Incoming>) -> Call {
        let Dispatch(services) = self;
        let open = services.door.open_call();
        let (counted_as, arrived) = (counted_as(request.uri().path()), Instant::now());
        let state = services.begin(request, arrived);
        Call { state, counted_as, arrived, services: Arc::clone(services), _open: open }
    }
}

/// One call on its way to its response headers.
pub(super) struct Call {
    state: State,
    counted_as: observe::Call,
    arrived: Instant,
    services: Arc<Services>,
    _open: OpenCall,
}

enum State {
    Running(ServiceFuture),
    Refused(Response<Body>),
    Done,
}

impl Future for Call {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (response, result) = match std::mem::replace(&mut this.state, State::Done) {
            State::Running(mut future) => {
                // What the future held is dropped by the unwinding: no claim and no hold outlives it, and the
                // connection and its other calls never notice.
                match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                    Ok(Poll::Pending) => {
                        this.state = State::Running(future);
                        return Poll::Pending;
                    }
                    Ok(Poll::Ready(Ok(response))) => this.services.complete(response),
                    Err(_) => {
                        (this.services.door.refuse(&Fault::Internal).into_http(), CallResult::ServerError)
                    }
                }
            }
            State::Refused(response) => (response, CallResult::ClientError),
            State::Done => return Poll::Pending,
        };
        this.services.door.call_ended(this.counted_as, result, this.arrived);
        Poll::Ready(Ok(response))
    }
}

/// The name a path is counted under.
fn counted_as(path: &str) -> observe::Call {
    use observe::Call;
    let Some((service, method)) = path.strip_prefix("/saker.v1.").and_then(|path| path.split_once('/'))
    else {
        return Call::Other;
    };
    match (service, method) {
        ("Authorisation", "Authorise") => Call::Authorise,
        ("Authorisation", "AuthoriseBatch") => Call::AuthoriseBatch,
        ("Authorisation", "AuthoriseStream") => Call::AuthoriseStream,
        ("Authorisation", "Reverse") => Call::Reverse,
        ("Authorisation", "Clear") => Call::Clear,
        ("Authorisation", "Advise") => Call::Advise,
        ("Authorisation", "Refund") => Call::Refund,
        ("Accounts", "UpsertAccounts") => Call::UpsertAccounts,
        ("Accounts", "GetAccount") => Call::GetAccount,
        ("Accounts", "SetAccountStatus") => Call::SetAccountStatus,
        ("Accounts", "SetCardStatus") => Call::SetCardStatus,
        ("Accounts", "SetCreditLimit") => Call::SetCreditLimit,
        ("Accounts", "PostPayment") => Call::PostPayment,
        ("Accounts", "ListHolds") => Call::ListHolds,
        ("Decisions", "GetDecision") => Call::GetDecision,
        ("Decisions", "ListDecisions") => Call::ListDecisions,
        ("Decisions", "WatchDecisions") => Call::WatchDecisions,
        ("Risk", "GetRules") => Call::GetRules,
        ("Risk", "ReloadRules") => Call::ReloadRules,
        ("Risk", "SetRuleMode") => Call::SetRuleMode,
        ("Risk", "UpdateList") => Call::UpdateList,
        ("Risk", "LabelTransaction") => Call::LabelTransaction,
        ("Risk", "GetModel") => Call::GetModel,
        ("Risk", "ReloadModel") => Call::ReloadModel,
        _ => Call::Other,
    }
}

/// What is not gRPC at all is answered in HTTP's own words, as the protocol says.
fn not_grpc(request: &Request<Incoming>) -> Option<Response<Body>> {
    let status = if request.method() != Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
    {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    Some(response)
}

fn malformed_timeout() -> Fault {
    Fault::Invalid(vec![Violation {
        field: "grpc-timeout",
        description: "must be 1 to 8 digits and one of H, M, S, m, u, n".to_owned(),
        response_code: ResponseCode::FORMAT_ERROR,
        number: 0,
    }])
}

/// Server reflection over the contract and health; `None` where the compiled descriptors cannot be read, which would
/// be a fault of the build and not worth refusing service for.
fn reflection_service() -> Option<Reflection> {
    let built = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    match built {
        Ok(service) => Some(Box::new(move |request| service.clone().call(request))),
        Err(error) => {
            tracing::warn!(%error, "reflection is off: the descriptors cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;

    #[test]
    fn every_call_of_the_contract_is_counted_under_a_name_of_its_own() {
        let files = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let mut counted = BTreeSet::from([observe::Call::Other]);
        for file in files.file.iter().filter(|file| file.package() == "saker.v1") {
            for service in &file.service {
                for method in &service.method {
                    let call = counted_as(&format!("/saker.v1.{}/{}", service.name(), method.name()));
                    let words = call.name().replace('_', "");
                    assert_eq!(words, method.name().to_ascii_lowercase(), "{}", service.name());
                    let streams = method.client_streaming() || method.server_streaming();
                    assert_eq!(call.is_timed(), !streams, "{}", method.name());
                    counted.insert(call);
                }
            }
        }
        assert!(observe::Call::ALL.iter().all(|call| counted.contains(call)), "a call the contract lacks");
        assert_eq!(counted_as("/grpc.health.v1.Health/Check"), observe::Call::Other);
    }
}

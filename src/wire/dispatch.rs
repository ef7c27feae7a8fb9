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
    task::{Context, Poll, ready},
    time::Instant,
};

use http::{HeaderMap, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use tonic::{Code, Status, body::Body, server::NamedService};
use tonic_health::pb::health_server::HealthServer;
use tower_service::Service as TowerService;

use super::{
    accounts::Accounts,
    authorisation::{self, Authorisation},
    convert::to_proto,
    deadline::{self, CallDeadline},
    decisions::Decisions,
    door::{Door, OpenCall},
    health::Health,
    risk::Risk,
    status,
    unary::{Read, Reading, Reply},
};
use crate::{
    engine::Pending,
    limits::{BATCH_BYTES_MAX, MESSAGE_BYTES_MAX, MODEL_MESSAGE_BYTES_MAX},
    observe::{self, CallResult},
    proto::{
        self, accounts_server::AccountsServer, authorisation_server::AuthorisationServer,
        decisions_server::DecisionsServer, risk_server::RiskServer,
    },
    types::{
        auth::AuthAnswer,
        codes::ResponseCode,
        fault::{Fault, Violation},
    },
};

/// The call that does not go through tonic.
const AUTHORISE_PATH: &str = "/saker.v1.Authorisation/Authorise";
/// The calls whose messages may be larger than the others'.
const BATCH_PATH: &str = "/saker.v1.Authorisation/AuthoriseBatch";
const RELOAD_MODEL_PATH: &str = "/saker.v1.Risk/ReloadModel";

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
    models: RiskServer<Risk>,
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
            models: RiskServer::new(Risk(Arc::clone(&door)))
                .max_decoding_message_size(MODEL_MESSAGE_BYTES_MAX),
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
        if path == RELOAD_MODEL_PATH {
            return Some(self.models.clone().call(request));
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
            return State::Answered(refusal, CallResult::ClientError);
        }
        let deadline = match deadline::from_headers(request.headers(), arrival) {
            Ok(deadline) => deadline,
            Err(deadline::MalformedTimeout) => return self.refused(&malformed_timeout()),
        };
        if request.uri().path() == AUTHORISE_PATH {
            match Reading::new(request) {
                Ok(reading) => return State::Reading { reading, deadline },
                Err(compressed) => request = compressed,
            }
        }
        match self.route(with_deadline(request, deadline)) {
            Some(future) => State::Running(future),
            None => self.refused(&Fault::Unimplemented),
        }
    }

    /// What becomes of an `Authorise` that has been read.
    fn go_on(&self, read: Read<Incoming>, deadline: Option<CallDeadline>) -> State {
        match read {
            Read::Message(request) => {
                match authorisation::begin(&self.door, &request, &self.door.arrival_until(deadline)) {
                    Ok(pending) => State::Waiting { transaction_id: request.transaction_id, pending },
                    Err(fault) => self.refused(&fault),
                }
            }
            Read::Unusual(request) => {
                State::Running(self.authorisation.clone().call(with_deadline(request, deadline)))
            }
            Read::Broken(error) => {
                let (response, result) = self.complete(Status::from_error(Box::new(error)).into_http());
                State::Answered(response, result)
            }
        }
    }

    fn refuse(&self, fault: &Fault) -> (Response<Reply>, CallResult) {
        let response = self.door.refuse(fault).into_http().map(Reply::Tonic);
        (response, status::at_fault(status::code(fault)))
    }

    fn refused(&self, fault: &Fault) -> State {
        let (response, result) = self.refuse(fault);
        State::Answered(response, result)
    }

    /// What tonic refused by itself carries no details: it is counted here, and where the contract asks for
    /// `ErrorInfo` it gets it. Not protobuf (INTERNAL) and too large (OUT_OF_RANGE) stay as they are; they too are the
    /// client's fault.
    fn complete(&self, response: Response<Body>) -> (Response<Reply>, CallResult) {
        let response = response.map(Reply::Tonic);
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
    fn unimplemented(&self, headers: &HeaderMap) -> Response<Reply> {
        const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
        let (mut response, _) = self.refuse(&Fault::Unimplemented);
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
    type Response = Response<Reply>;
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

#[allow(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and a box would be an allocation"
)]
enum State {
    /// `Authorise`, whose message is not here yet.
    Reading {
        reading: Reading<Incoming>,
        deadline: Option<CallDeadline>,
    },
    /// `Authorise`, decided and not durable yet.
    Waiting {
        transaction_id: String,
        pending: Pending<AuthAnswer>,
    },
    Running(ServiceFuture),
    Answered(Response<Reply>, CallResult),
    Done,
}

impl Call {
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<(Response<Reply>, CallResult)> {
        loop {
            match &mut self.state {
                State::Reading { reading, deadline } => {
                    let read = ready!(reading.poll(cx));
                    let deadline = *deadline;
                    self.state = self.services.go_on(read, deadline);
                }
                State::Waiting { transaction_id, pending } => {
                    let answer = ready!(Pin::new(pending).poll(cx));
                    let transaction_id = std::mem::take(transaction_id);
                    self.state = State::Done;
                    return Poll::Ready(match answer {
                        Ok(answered) => {
                            let response = to_proto::authorise_response(transaction_id, &answered);
                            (Reply::ok(&response), CallResult::Ok)
                        }
                        Err(fault) => self.services.refuse(&fault),
                    });
                }
                State::Running(future) => {
                    let Ok(response) = ready!(future.as_mut().poll(cx));
                    self.state = State::Done;
                    return Poll::Ready(self.services.complete(response));
                }
                State::Answered(..) => {
                    let State::Answered(response, result) = std::mem::replace(&mut self.state, State::Done)
                    else {
                        continue;
                    };
                    return Poll::Ready((response, result));
                }
                State::Done => return Poll::Pending,
            }
        }
    }
}

impl Future for Call {
    type Output = Result<Response<Reply>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // What the call held is dropped: no claim and no hold outlives a panic, and the connection and its other calls
        // never notice.
        let (response, result) = match catch_unwind(AssertUnwindSafe(|| this.advance(cx))) {
            Ok(polled) => ready!(polled),
            Err(_) => {
                this.state = State::Done;
                this.services.refuse(&Fault::Internal)
            }
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
        ("Risk", "GetList") => Call::GetList,
        ("Risk", "LabelTransaction") => Call::LabelTransaction,
        ("Risk", "GetModel") => Call::GetModel,
        ("Risk", "ReloadModel") => Call::ReloadModel,
        _ => Call::Other,
    }
}

/// Leaves the deadline where [`Door::arrival`] finds it.
fn with_deadline<B>(mut request: Request<B>, deadline: Option<CallDeadline>) -> Request<B> {
    if let Some(deadline) = deadline {
        request.extensions_mut().insert(deadline);
    }
    request
}

/// What is not gRPC at all is answered in HTTP's own words, as the protocol says.
fn not_grpc(request: &Request<Incoming>) -> Option<Response<Reply>> {
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
    let mut response = Response::new(Reply::Tonic(Body::empty()));
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

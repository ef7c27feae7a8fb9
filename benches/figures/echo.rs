//! The ceiling: a bare tonic server in the engine's listener shape (hyper's HTTP/2 directly, one current-thread runtime
//! per core, connections dealt in turn) that answers every request with an approval of the size the engine's has. It
//! decides nothing and keeps nothing, so what the engine loses against it is the price of deciding and of the disk.

use std::{
    convert::Infallible,
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    num::NonZero,
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use saker::{
    limits,
    proto::{
        AdviseRequest, AuthoriseBatchRequest, AuthoriseBatchResponse, AuthoriseItem, AuthoriseItemResult,
        AuthoriseRequest, AuthoriseResponse, ClearRequest, Decision, Money, Outcome, RefundRequest,
        ReverseRequest,
        authorisation_server::{Authorisation, AuthorisationServer},
        authorise_item_result::Result as ItemResult,
    },
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service as _;

/// Serves until the process is killed, and names its address on stdout as `saker serve` does.
pub fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "echo SERVING grpc={0} admin={0}", listener.local_addr()?)?;
    stdout.flush()?;

    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let runtimes = (0..cores)
        .map(|_| {
            let (deal, connections) = mpsc::unbounded_channel();
            thread::spawn(move || run(connections));
            deal
        })
        .collect::<Vec<_>>();
    let mut turn = runtimes.iter().cycle();
    for connection in listener.incoming() {
        let connection = connection?;
        connection.set_nodelay(true)?;
        connection.set_nonblocking(true)?;
        if let Some(runtime) = turn.next() {
            runtime.send(connection)?;
        }
    }
    Ok(())
}

fn run(mut connections: mpsc::UnboundedReceiver<TcpStream>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        while let Some(connection) = connections.recv().await {
            let io = TokioIo::new(tokio::net::TcpStream::from_std(connection)?);
            let server = AuthorisationServer::new(Echo)
                .max_decoding_message_size(limits::BATCH_BYTES_MAX)
                .max_encoding_message_size(usize::MAX);
            let service = service_fn(move |request: http::Request<Incoming>| {
                let answer = server.clone().call(request);
                async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .max_concurrent_streams(limits::CONNECTION_STREAMS_MAX)
                    .serve_connection(io, service),
            );
        }
        Ok(())
    })
}

struct Echo;

fn answer(request: AuthoriseRequest) -> AuthoriseResponse {
    let money = |minor_units| Some(Money { currency_code: "USD".to_owned(), minor_units });
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 123_000_000 });
    AuthoriseResponse {
        transaction_id: request.transaction_id,
        decision: Decision::Approved.into(),
        response_code: "00".to_owned(),
        authorisation_code: "0004TG".to_owned(),
        approved_amount: money(request.amount.map_or(0, |amount| amount.minor_units)),
        available_credit: money(999_999_998_765),
        score: 42,
        rules_version: "0123456789abcdef".to_owned(),
        model_version: "0123456789abcdef".to_owned(),
        decided_at: time(1_795_000_000),
        hold_expires_at: time(1_795_604_800),
        position: 1_234_567,
        ..AuthoriseResponse::default()
    }
}

fn answer_item(item: AuthoriseItem) -> AuthoriseItemResult {
    let response = answer(item.request.unwrap_or_default());
    AuthoriseItemResult {
        correlation: item.correlation,
        transaction_id: response.transaction_id.clone(),
        result: Some(ItemResult::Response(response)),
    }
}

/// The answers to one stream, in order.
struct Echoes(Streaming<AuthoriseItem>);

impl Stream for Echoes {
    type Item = Result<AuthoriseItemResult, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(context).map(|item| item.map(|item| item.map(answer_item)))
    }
}

#[tonic::async_trait]
impl Authorisation for Echo {
    type AuthoriseStreamStream = Echoes;

    async fn authorise(
        &self,
        request: Request<AuthoriseRequest>,
    ) -> Result<Response<AuthoriseResponse>, Status> {
        Ok(Response::new(answer(request.into_inner())))
    }

    async fn authorise_stream(
        &self,
        request: Request<Streaming<AuthoriseItem>>,
    ) -> Result<Response<Echoes>, Status> {
        Ok(Response::new(Echoes(request.into_inner())))
    }

    async fn authorise_batch(
        &self,
        request: Request<AuthoriseBatchRequest>,
    ) -> Result<Response<AuthoriseBatchResponse>, Status> {
        let results = request.into_inner().items.into_iter().map(answer_item).collect();
        Ok(Response::new(AuthoriseBatchResponse { results }))
    }

    async fn reverse(&self, _: Request<ReverseRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented("an echo"))
    }

    async fn clear(&self, _: Request<ClearRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented("an echo"))
    }

    async fn advise(&self, _: Request<AdviseRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented("an echo"))
    }

    async fn refund(&self, _: Request<RefundRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented("an echo"))
    }
}

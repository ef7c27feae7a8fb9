//! The HTTP door: `/metrics` for Prometheus, `/live` and `/ready` for whoever restarts and routes.
//!
//! `/live` says that the process answers; it stays 200 while the engine refuses work, because a restart would not help.
//! `/ready` is 200 only while every service is SERVING, and else 503 with one line that says what is not.

use std::{io, net::SocketAddr, thread, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
};

use crate::{engine::Health, observe::Metrics};

/// A bound port that does not answer yet.
pub struct AdminListener(std::net::TcpListener);

/// The running door. Dropping it closes the port.
pub struct Admin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Clone)]
struct Shown {
    metrics: Metrics,
    health: watch::Receiver<Health>,
}

impl AdminListener {
    /// # Errors
    /// Where the port is taken or the address is not this machine's.
    pub fn bind(address: SocketAddr) -> io::Result<AdminListener> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(AdminListener(listener))
    }

    /// The address with the port that port 0 became.
    ///
    /// # Errors
    /// Where the operating system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Starts to answer, on a thread and a runtime of its own, so that a slow scrape delays no decision and a busy
    /// engine no probe.
    ///
    /// # Errors
    /// Where no thread or runtime can be had.
    pub fn start(self, metrics: Metrics, health: watch::Receiver<Health>) -> io::Result<Admin> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(self.0)?
        };
        let router = router(Shown { metrics, health });
        let thread = thread::Builder::new().name("saker-admin".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let server = axum::serve(listener, router);
                // Connections that idle here must not hold up the end of the process, so that none is waited for.
                tokio::select! {
                    _ = server.into_future() => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(Duration::from_millis(100));
        })?;
        Ok(Admin { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .with_state(shown)
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let text = shown.metrics.render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn ready(State(shown): State<Shown>) -> Response {
    let health = *shown.health.borrow();
    match (health.authorisation, health.others) {
        (true, true) => (StatusCode::OK, "ready\n"),
        (false, true) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: authorisations are refused while the disk is low or does not answer, everything else is served\n",
        ),
        (_, false) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the engine is starting, stopping or has stopped itself; its log says which\n",
        ),
    }
    .into_response()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    use super::*;

    const SERVING: Health = Health { authorisation: true, others: true };

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn readiness_follows_health_and_liveness_does_not() {
        let listener = AdminListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address().unwrap();
        let (health, watched) = watch::channel(SERVING);
        let admin = listener.start(Metrics::new(1), watched).unwrap();

        assert!(get(address, "/ready").starts_with("HTTP/1.1 200"));
        health.send(Health { authorisation: false, others: true }).unwrap();
        assert!(get(address, "/ready").starts_with("HTTP/1.1 503"));
        assert!(get(address, "/ready").contains("disk is low or does not answer"));
        health.send(Health { authorisation: false, others: false }).unwrap();
        assert!(get(address, "/ready").contains("503"));
        assert!(get(address, "/live").starts_with("HTTP/1.1 200"));
        let metrics = get(address, "/metrics");
        assert!(metrics.contains("text/plain; version=0.0.4"));
        assert!(metrics.contains("# TYPE saker_decisions_total counter"));
        assert!(get(address, "/elsewhere").starts_with("HTTP/1.1 404"));

        drop(admin);
        assert!(TcpStream::connect(address).is_err(), "the port is closed");
    }

    #[test]
    fn a_connection_that_says_nothing_does_not_hold_up_the_end() {
        let listener = AdminListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address().unwrap();
        let (_health, watched) = watch::channel(SERVING);
        let admin = listener.start(Metrics::new(1), watched).unwrap();
        let silent = TcpStream::connect(address).unwrap();
        assert!(get(address, "/live").starts_with("HTTP/1.1 200"));
        let begun = std::time::Instant::now();
        drop(admin);
        assert!(begun.elapsed() < Duration::from_secs(2));
        drop(silent);
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let listener = AdminListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let taken = AdminListener::bind(listener.address().unwrap()).err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}

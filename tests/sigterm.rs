//! SIGTERM under load: health says NOT_SERVING before any request is refused, the exit code is 0, and after the next
//! start no acknowledged answer is lost or changed.

mod checker;

use std::{
    net::SocketAddr,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use checker::{Campaign, Clients, Server, fresh_directory, keep_if_wrong};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// The grace is 10 s; a little more for the last sync and the exit.
const STOP_MAX: Duration = Duration::from_secs(15);
/// The two clients of this test run on threads of their own, so that what happened first may be noticed second.
const NOTICED_LATE_MAX: Duration = Duration::from_millis(100);

#[test]
fn sigterm_under_load_says_not_serving_first_and_loses_nothing() -> anyhow::Result<()> {
    let directory = fresh_directory("sigterm")?;
    let campaign = Campaign {
        rung: "I-30 SIGTERM",
        restarts: 2,
        load_ms: 200..=500,
        data: directory.path().join("data"),
        evidence: directory.path().join("evidence"),
        seed: Campaign::seed(),
        settings: "",
    };
    let judged = campaign.run(stop).and_then(|verdict| verdict.judge());
    keep_if_wrong(directory, judged)
}

fn stop(mut server: Server, clients: &Clients) -> anyhow::Result<()> {
    let (seen, statuses) = mpsc::channel();
    let to = server.grpc;
    let watching = thread::spawn(move || watch(to, &seen));
    let (_, first) = statuses.recv_timeout(Duration::from_secs(10)).context("no health status came")?;
    ensure!(first == ServingStatus::Serving, "health says {first:?} before SIGTERM");
    ensure!(clients.refused_at().is_none(), "requests were refused before SIGTERM");

    server.terminate()?;
    let status = server.wait(STOP_MAX)?;
    watching.join().expect("the watcher panicked")?;

    let (not_serving_at, last) = statuses.try_iter().last().context("health said nothing after SIGTERM")?;
    ensure!(last == ServingStatus::NotServing, "the last health status is {last:?}");
    if let Some(refused_at) = clients.refused_at() {
        let late = not_serving_at.saturating_duration_since(refused_at);
        ensure!(late <= NOTICED_LATE_MAX, "NOT_SERVING came {late:?} after the first refusal");
    }
    ensure!(status.code() == Some(0), "the exit status is {status}");
    Ok(())
}

/// Sends every status of the whole server, until the server ends the watch.
fn watch(to: SocketAddr, seen: &mpsc::Sender<(Instant, ServingStatus)>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = Endpoint::from_shared(format!("http://{to}"))?.connect().await?;
        let mut health = HealthClient::new(channel);
        let mut statuses = health.watch(HealthCheckRequest { service: String::new() }).await?.into_inner();
        while let Ok(Some(status)) = statuses.message().await {
            let _ = seen.send((Instant::now(), status.status()));
        }
        Ok(())
    })
}

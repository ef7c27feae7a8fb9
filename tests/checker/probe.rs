//! What single calls and health say over time, while a test makes trouble.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use tonic::{Code, Status, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

/// What a probe asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// A new authorisation.
    Authorisation,
    /// The reversal of one that was answered.
    Reversal,
    /// Anything that was answered, once more.
    Repeat,
}

/// One call of a probe.
#[derive(Clone, Debug)]
pub struct Told {
    pub asked_at: Instant,
    pub answered_at: Instant,
    /// The code and `ErrorInfo.reason` of an error.
    pub result: Result<(), (Code, String)>,
}

impl Told {
    pub fn is(&self, code: Code, reason: &str) -> bool {
        matches!(&self.result, Err((c, r)) if *c == code && r == reason)
    }
}

/// Calls of one kind, one after the other on a thread of their own, until it is dropped.
pub struct Probe {
    told: Arc<Mutex<Vec<Told>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// `call` makes one, or has nothing to ask yet.
    pub fn start(
        every: Duration,
        mut call: impl AsyncFnMut() -> Option<Result<(), Status>> + Send + 'static,
    ) -> Probe {
        let told = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (of_thread, stopped) = (told.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            while !stopped.load(Ordering::Acquire) {
                let asked_at = Instant::now();
                if let Some(result) = runtime.block_on(call()) {
                    let result = result.map_err(|status| {
                        let reason = status.get_details_error_info().map(|info| info.reason);
                        (status.code(), reason.unwrap_or_default())
                    });
                    of_thread.lock().push(Told { asked_at, answered_at: Instant::now(), result });
                }
                thread::sleep(every);
            }
        });
        Probe { told, stop, thread: Some(thread) }
    }

    /// The calls so far.
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().clone()
    }

    /// Waits for a call that began after `since` and fits.
    ///
    /// # Errors
    /// Where none came in time.
    pub fn wait_for(
        &self,
        what: &str,
        since: Instant,
        at_most: Duration,
        fits: impl Fn(&Told) -> bool,
    ) -> anyhow::Result<Told> {
        let begun = Instant::now();
        loop {
            let told = self.told();
            if let Some(found) = told.iter().find(|told| told.asked_at >= since && fits(told)) {
                return Ok(found.clone());
            }
            if begun.elapsed() > at_most {
                bail!("no {what} within {at_most:?}; the last calls: {:?}", told.last_chunk::<3>());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A probe that panicked is seen by what it did not record.
            let _ = thread.join();
        }
    }
}

/// The statuses of the whole server as its health service tells them.
pub struct HealthWatch {
    said: Arc<Mutex<Vec<(Instant, ServingStatus)>>>,
}

impl HealthWatch {
    /// Returns once `first` was heard.
    ///
    /// # Errors
    /// Where it is not.
    pub fn start(to: SocketAddr, first: ServingStatus) -> anyhow::Result<HealthWatch> {
        let said = Arc::new(Mutex::new(Vec::new()));
        let of_thread = said.clone();
        // Ends with the server's watch.
        thread::spawn(move || follow(to, &of_thread));
        let watch = HealthWatch { said };
        watch.wait_for(first, Instant::now() - Duration::from_secs(1), Duration::from_secs(10))?;
        Ok(watch)
    }

    /// Every status so far, with the time at which it was heard.
    pub fn said(&self) -> Vec<(Instant, ServingStatus)> {
        self.said.lock().clone()
    }

    /// When a status was first heard after `since`.
    ///
    /// # Errors
    /// Where it was not heard in time.
    pub fn wait_for(
        &self,
        status: ServingStatus,
        since: Instant,
        at_most: Duration,
    ) -> anyhow::Result<Instant> {
        let begun = Instant::now();
        loop {
            let said = self.said();
            if let Some((at, _)) = said.iter().find(|(at, said)| *at >= since && *said == status) {
                return Ok(*at);
            }
            if begun.elapsed() > at_most {
                bail!("health did not say {status:?} within {at_most:?}; it said {said:?}");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn follow(to: SocketAddr, said: &Mutex<Vec<(Instant, ServingStatus)>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = Endpoint::from_shared(format!("http://{to}"))?.connect().await.context("health")?;
        let mut health = HealthClient::new(channel);
        let mut statuses = health.watch(HealthCheckRequest { service: String::new() }).await?.into_inner();
        while let Ok(Some(status)) = statuses.message().await {
            said.lock().push((Instant::now(), status.status()));
        }
        Ok(())
    })
}

//! An answer on its way: decided, published, and handed over once the disk has it.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use super::{Answered, Engine, Lane};
use crate::{
    authorise::answers::Remembered,
    journal::Durable,
    types::{auth::AuthAnswer, fault::Fault, ids::RequestKey},
};

type Undecided<T> = Pin<Box<dyn Future<Output = Pending<T>> + Send>>;
type Slow<T> = Pin<Box<dyn Future<Output = Result<Answered<T>, Fault>> + Send>>;

/// What one call will be answered with, once that is durable.
///
/// Resolving it means handing it to the transport: past its deadline it voids the authorisation instead and
/// resolves to [`Fault::DeadlineVoided`]. Dropped unresolved with a deadline, the authorisation is voided when the
/// deadline passes; without one the decision stands, for a repeat to find.
pub struct Pending<T>(Inner<T>);

enum Inner<T> {
    Ready(Option<Result<Answered<T>, Fault>>),
    /// In the ring; `wait` ends when it is on disk.
    Queued {
        answer: Option<T>,
        wait: Durable,
        voider: Option<Voider>,
        told: Option<Told>,
    },
    /// Decided; needs a read, a retry or a second record.
    Slow(Slow<T>),
    /// Something must be waited for before it can be decided.
    Undecided(Undecided<T>),
}

/// What is needed to void an authorisation nobody will get the answer of.
pub(super) struct Voider {
    pub engine: Arc<Engine>,
    pub lane: Arc<Lane>,
    pub deadline: Instant,
    pub client: u32,
    pub key: RequestKey,
    pub found: Remembered,
}

/// Where the time of an answer is counted.
pub(super) struct Told {
    pub lane: Arc<Lane>,
    pub asked_at: Instant,
}

impl Told {
    fn answered(&self) {
        let waited_ns = u64::try_from(self.asked_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.lane.answered(waited_ns);
    }
}

impl Voider {
    /// See [`Engine::void`].
    async fn void(self) -> Result<bool, Fault> {
        self.engine.void(self.client, self.key, self.found, &self.lane).await
    }
}

impl<T> Pending<T> {
    /// An answer that needs no engine, such as a fault found at the door.
    pub fn ready(result: Result<Answered<T>, Fault>) -> Pending<T> {
        Pending(Inner::Ready(Some(result)))
    }

    pub(super) fn slow(
        future: impl Future<Output = Result<Answered<T>, Fault>> + Send + 'static,
    ) -> Pending<T> {
        Pending(Inner::Slow(Box::pin(future)))
    }

    /// `future` ends when it is decided, with what is then waited for.
    pub(super) fn undecided(future: impl Future<Output = Pending<T>> + Send + 'static) -> Pending<T> {
        Pending(Inner::Undecided(Box::pin(future)))
    }

    pub(super) fn queued(answer: T, wait: Durable, voider: Option<Voider>, told: Option<Told>) -> Pending<T> {
        Pending(Inner::Queued { answer: Some(answer), wait, voider, told })
    }

    /// Ready when it is decided, and nothing that came after it could be decided before it any more. Then true where
    /// its answer cannot overtake those of what was decided before; false for repeats and for whatever else needs a
    /// read from disk.
    pub fn poll_decided(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        while let Inner::Undecided(future) = &mut self.0 {
            *self = std::task::ready!(future.as_mut().poll(context));
        }
        Poll::Ready(!matches!(self.0, Inner::Slow(_)))
    }

    /// Whether it is decided, and its answer keeps its place among those of its call; see [`Pending::poll_decided`].
    pub fn in_order(&self) -> bool {
        matches!(self.0, Inner::Ready(_) | Inner::Queued { .. })
    }
}

// Nothing in it is pinned but what is boxed.
impl<T> Unpin for Pending<T> {}

impl<T: Send + 'static> Future for Pending<T> {
    type Output = Result<Answered<T>, Fault>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.0 {
                Inner::Ready(result) => {
                    return Poll::Ready(result.take().unwrap_or(Err(Fault::Internal)));
                }
                Inner::Slow(future) => return future.as_mut().poll(context),
                Inner::Undecided(future) => *self = std::task::ready!(future.as_mut().poll(context)),
                Inner::Queued { answer, wait, voider, told } => {
                    let result = std::task::ready!(Pin::new(wait).poll(context));
                    let voider = voider.take();
                    if result.is_err() {
                        return Poll::Ready(Err(Fault::Unavailable(super::JOURNAL_STOPPED)));
                    }
                    match voider {
                        Some(late) if Instant::now() >= late.deadline => {
                            let answer = answer.take().ok_or(Fault::Internal)?;
                            self.0 = Inner::Slow(Box::pin(async move {
                                match late.void().await? {
                                    true => Err(Fault::DeadlineVoided),
                                    // A repeat has had the same answer meanwhile: it stands.
                                    false => Ok(Answered { answer, replayed: false }),
                                }
                            }));
                        }
                        _ => {
                            let answer = answer.take().ok_or(Fault::Internal)?;
                            if let Some(told) = told {
                                told.answered();
                            }
                            return Poll::Ready(Ok(Answered { answer, replayed: false }));
                        }
                    }
                }
            }
        }
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        let Inner::Queued { answer: Some(_), voider, .. } = &mut self.0 else { return };
        let Some(voider) = voider.take() else { return };
        voider.engine.unanswered();
        // Outside a runtime the process is ending: the decision stands, and a repeat or a reversal settles it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep_until(voider.deadline.into()).await;
                if let Err(fault) = voider.void().await {
                    tracing::warn!(%fault, "an authorisation nobody waits for could not be voided");
                }
            });
        }
    }
}

/// The answers that can be voided are those of authorisations.
pub type PendingAuth = Pending<AuthAnswer>;

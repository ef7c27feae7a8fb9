//! A thread that works beside those that serve, in turns, until its engine ends or is closed.

use std::{
    io,
    sync::{
        Arc, Weak,
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Engine;
use crate::journal::{Journal, STUCK_PATIENCE};

/// How much the scheduler prefers the threads that serve: nice levels below them.
const NICE: i32 = 10;

/// The thread, once it was started.
#[derive(Default)]
pub(super) struct Background(Mutex<Option<Running>>);

struct Running {
    name: &'static str,
    /// Disconnected when the thread is to end.
    stop: mpsc::Sender<()>,
    /// Disconnected when it is about to.
    ended: mpsc::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Background {
    /// Starts the thread. Each turn says how long to pause before the next one; the first comes after `pause`. The
    /// thread holds the engine during a turn alone.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn start(
        &self,
        engine: &Arc<Engine>,
        name: &'static str,
        pause: Duration,
        mut turn: impl FnMut(&Arc<Engine>) -> Duration + Send + 'static,
    ) -> io::Result<()> {
        let mut has_yielded = false;
        self.start_swift(engine, name, pause, move |engine| {
            if !std::mem::replace(&mut has_yielded, true) {
                yield_to_decisions();
            }
            turn(engine)
        })
    }

    /// As [`Background::start`], for a thread whose work decisions depend on: the scheduler takes it as one of theirs.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn start_swift(
        &self,
        engine: &Arc<Engine>,
        name: &'static str,
        mut pause: Duration,
        mut turn: impl FnMut(&Arc<Engine>) -> Duration + Send + 'static,
    ) -> io::Result<()> {
        let ((stop, stopped), (ending, ended)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
        let weak: Weak<Engine> = Arc::downgrade(engine);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let Some(engine) = weak.upgrade() else { break };
                pause = turn(&engine);
            }
            drop(ending);
        })?;
        *self.0.lock() = Some(Running { name, stop, ended, thread });
        Ok(())
    }

    /// Lets the thread end after the turn it is in, and waits for that until then, or for [`STUCK_PATIENCE`] where the
    /// journal has stopped. A thread that does not come back from the disk by then is left where it is: it has the
    /// directory's lock until it returns, and can change nothing afterwards, see [`crate::journal::Directory::beside`].
    pub(super) fn stop(&self, journal: &Journal, until: Instant) {
        let Some(Running { name, stop, ended, thread }) = self.0.lock().take() else { return };
        drop(stop);
        // The last handle of an engine may be dropped by this very thread, which cannot wait for itself.
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(STUCK_PATIENCE) {
            if journal.has_stopped() || Instant::now() >= until {
                tracing::error!(
                    thread = name,
                    "a thread does not come back from the disk and is not waited for any longer; the data directory \
                     stays in use until it does or the process has ended"
                );
                return;
            }
        }
        // One that panicked has nothing left to do either.
        let _ = thread.join();
    }
}

/// Lets the threads that serve go before the calling one, whatever the process was given by its operator.
pub fn yield_to_decisions() {
    let ordinary = libc::sched_param { sched_priority: 0 };
    // SAFETY: sched_setscheduler reads the parameter it is pointed to, setpriority its three integers; 0 names the
    // calling thread, for Linux gives every thread a policy and a nice level of its own. Where one is refused the thread
    // runs as the others do.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const ordinary);
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
    }
}

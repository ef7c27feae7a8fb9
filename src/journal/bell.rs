//! Puts the journal thread to sleep when there is nothing to write and wakes it by the next record.
//!
//! Waking costs a system call, so a publisher pays it only when the thread really sleeps. Either the publisher sees
//! `asleep`, or the thread sees the record: both sides write, pass a sequentially consistent fence, and then look.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread::Thread,
    time::Duration,
};

#[derive(Default)]
pub(super) struct Bell {
    asleep: AtomicBool,
    sleeper: OnceLock<Thread>,
}

impl Bell {
    /// Makes the calling thread the one that sleeps here.
    pub(super) fn attend(&self) {
        // A second caller would be a second journal thread; the first one stays.
        let _ = self.sleeper.set(std::thread::current());
    }

    /// Wakes the sleeper if it sleeps. Whatever it is to see was written before, and a sequentially consistent
    /// fence passed.
    pub(super) fn ring(&self) {
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(sleeper) = self.sleeper.get()
        {
            sleeper.unpark();
        }
    }

    /// Sleeps until the bell rings or `limit` has passed, but not at all where `ready` holds. May return early.
    pub(super) fn sleep(&self, limit: Option<Duration>, ready: impl Fn() -> bool) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !ready() {
            match limit {
                Some(limit) => std::thread::park_timeout(limit),
                None => std::thread::park(),
            }
        }
        self.asleep.store(false, Ordering::Relaxed);
    }
}

//! Notices a disk that does not come back, which no thread that waits for it can do.
//!
//! The journal thread and the one that prepares segments say what they are doing with the disk and since when; a thread
//! of its own looks at that. After [`super::Options::stall_ms`] authorisations are refused, so that the network stands
//! in, until the operation returns. After [`super::Options::hang_ms`] the journal has failed: whoever waits is told,
//! and the process can end although a thread may never come back from the kernel.
//!
//! Preparing a segment counts step by step, so that a slow disk is not taken for one that hangs; and only while
//! something is refused or waits for want of the segment, since until then nobody is held up.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Shared, error::Failure};

/// What the journal thread waits for the disk with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Writing and syncing a group.
    Group = 1,
    /// Taking the next segment into use, once it is prepared.
    Segment = 2,
    /// Writing and syncing the durable mark.
    Mark = 3,
    /// One step of preparing a segment.
    Preparation = 4,
}

/// Bits of a [`DiskTask`] that hold the task.
const TASK_BITS: u32 = 3;

/// The task under way and when it began: the task in the lowest bits, above it the microseconds of the journal's own
/// time; 0 for none.
#[derive(Default)]
pub(super) struct DiskTask(AtomicU64);

impl DiskTask {
    pub(super) fn begin(&self, task: Task, now_us: u64) {
        self.0.store(now_us << TASK_BITS | task as u64, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// What is under way, and for how long, in microseconds.
    fn under_way(&self, now_us: u64) -> Option<(&'static str, u64)> {
        let word = self.0.load(Ordering::Relaxed);
        let operation = match word & ((1 << TASK_BITS) - 1) {
            0 => return None,
            1 => "write and sync a group of",
            2 => "take the next segment into use in",
            3 => "write the durable mark of",
            _ => "prepare the next segment of",
        };
        Some((operation, now_us.saturating_sub(word >> TASK_BITS)))
    }
}

/// Starts the thread that looks; it ends with the journal.
pub(super) fn start(shared: Arc<Shared>, stall: Duration, hang: Duration) -> io::Result<()> {
    let every = (stall.min(hang) / 10).clamp(Duration::from_millis(5), Duration::from_millis(100));
    let watch = move || {
        let mut wanted_since_us = None;
        while !shared.progress.stopped.load(Ordering::SeqCst) {
            let now_us = shared.now_us();
            wanted_since_us = shared.wants_segment().then(|| wanted_since_us.unwrap_or(now_us));
            let preparing = wanted_since_us.and_then(|since_us| {
                let (operation, for_us) = shared.preparing.under_way(now_us)?;
                Some((operation, for_us.min(now_us - since_us)))
            });
            let tasks = [shared.disk_task.under_way(now_us), preparing];
            let longest = tasks.into_iter().flatten().max_by_key(|(_, for_us)| *for_us);
            let (operation, for_us) = longest.unwrap_or(("", 0));
            let elapsed = Duration::from_micros(for_us);
            if elapsed >= hang {
                shared.fail(Failure {
                    operation,
                    file: "the journal".to_owned(),
                    durable: shared.progress.durable.load(Ordering::SeqCst),
                    reason: format!("the disk has not answered for {} ms", elapsed.as_millis()),
                });
                return;
            }
            let stalled = elapsed >= stall;
            if shared.stalled.swap(stalled, Ordering::SeqCst) != stalled {
                shared.observer.disk_stalled(stalled);
            }
            std::thread::sleep(every);
        }
    };
    std::thread::Builder::new().name("saker-watchdog".to_owned()).spawn(watch).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_told_with_its_age_and_nothing_when_idle() {
        let task = DiskTask::default();
        assert_eq!(task.under_way(5), None);
        task.begin(Task::Mark, 1_000);
        assert_eq!(task.under_way(4_500), Some(("write the durable mark of", 3_500)));
        task.begin(Task::Group, 0);
        assert_eq!(task.under_way(7), Some(("write and sync a group of", 7)));
        task.begin(Task::Preparation, 9);
        assert_eq!(task.under_way(11), Some(("prepare the next segment of", 2)));
        task.end();
        assert_eq!(task.under_way(10), None);
    }
}

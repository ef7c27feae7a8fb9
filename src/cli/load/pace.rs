//! Waits for an instant to the microsecond. Tokio's own timer rounds up to the next millisecond, which would add up to
//! 1 ms to every open-loop latency; a timerfd on the same runtime does not, and costs no second thread.

use std::{
    io,
    task::{Context, Poll},
    time::{Duration, Instant},
};

pub use imp::Alarm;

/// Shorter waits are not worth a system call: what is due within this time leaves at once, early by at most this.
pub const EARLY_MAX: Duration = Duration::from_micros(5);

#[cfg(target_os = "linux")]
mod imp {
    use std::{
        fs::File,
        io::Read as _,
        os::fd::{AsRawFd as _, FromRawFd as _},
        ptr, task,
    };

    use tokio::io::unix::AsyncFd;

    use super::{Context, Duration, EARLY_MAX, Instant, Poll, io};

    /// One timer; must be made inside a runtime.
    pub struct Alarm {
        fd: AsyncFd<File>,
        set_for: Option<Instant>,
    }

    impl Alarm {
        pub fn new() -> io::Result<Alarm> {
            // SAFETY: the call takes no pointer; a descriptor it returns is new and ours alone.
            let file = unsafe {
                let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
                if fd < 0 {
                    return Err(io::Error::last_os_error());
                }
                File::from_raw_fd(fd)
            };
            // SAFETY: a file keeps one and the same descriptor open for as long as it lives.
            let fd = unsafe { AsyncFd::register(file) }?;
            Ok(Alarm { fd, set_for: None })
        }

        /// Ready once `due` has come.
        pub fn poll_until(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            loop {
                let wait = due.saturating_duration_since(Instant::now());
                if wait <= EARLY_MAX {
                    self.set_for = None;
                    return Poll::Ready(Ok(()));
                }
                if self.set_for != Some(due) {
                    self.set(wait)?;
                    self.set_for = Some(due);
                }
                let mut ready = task::ready!(self.fd.poll_read_ready(context))?;
                let mut expirations = [0; 8];
                match ready.try_io(|fd| fd.get_ref().read(&mut expirations)) {
                    Ok(read) => {
                        read?;
                        self.set_for = None;
                    }
                    Err(_would_block) => {}
                }
            }
        }

        fn set(&self, wait: Duration) -> io::Result<()> {
            let spec = libc::itimerspec {
                it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: libc::timespec {
                    tv_sec: libc::time_t::try_from(wait.as_secs()).unwrap_or(libc::time_t::MAX),
                    tv_nsec: wait.subsec_nanos().into(),
                },
            };
            // SAFETY: the descriptor is open while `self` lives, `spec` outlives the call, and null asks for no old
            // value.
            let set = unsafe { libc::timerfd_settime(self.fd.as_raw_fd(), 0, &spec, ptr::null_mut()) };
            if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::{future::Future as _, pin::Pin};

    use super::{Context, EARLY_MAX, Instant, Poll, io};

    /// One timer, with the runtime's own granularity.
    pub struct Alarm {
        sleep: Pin<Box<tokio::time::Sleep>>,
    }

    impl Alarm {
        pub fn new() -> io::Result<Alarm> {
            Ok(Alarm { sleep: Box::pin(tokio::time::sleep_until(Instant::now().into())) })
        }

        /// Ready once `due` has come.
        pub fn poll_until(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            if due.saturating_duration_since(Instant::now()) <= EARLY_MAX {
                return Poll::Ready(Ok(()));
            }
            self.sleep.as_mut().reset(due.into());
            self.sleep.as_mut().poll(context).map(Ok)
        }
    }
}

/// When the requests of one client thread are due: evenly spaced.
pub struct Schedule {
    start: Instant,
    interval_ns: f64,
    next: u64,
}

impl Schedule {
    /// Of `shares` equal schedules that together make `per_second`, the one numbered `share`.
    pub fn new(start: Instant, per_second: f64, share: usize, shares: usize) -> Schedule {
        let interval_ns = 1e9 * shares as f64 / per_second;
        let offset = Duration::from_nanos((interval_ns * share as f64 / shares as f64) as u64);
        Schedule { start: start + offset, interval_ns, next: 0 }
    }

    /// When the next request is due. Counted from the start, so that rounding never adds up.
    pub fn due(&self) -> Instant {
        self.start + Duration::from_nanos((self.next as f64 * self.interval_ns) as u64)
    }

    pub fn advance(&mut self) {
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_never_early_and_fires_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut alarm = Alarm::new().unwrap();
            for wait_us in [0, 50, 300, 2_500] {
                let due = Instant::now() + Duration::from_micros(wait_us);
                std::future::poll_fn(|context| alarm.poll_until(due, context)).await.unwrap();
                assert!(Instant::now() + EARLY_MAX >= due);
            }
        });
    }

    #[test]
    fn shares_of_a_schedule_add_up_to_its_rate() {
        let start = Instant::now();
        let mut due: Vec<u128> = Vec::new();
        for share in 0..3 {
            let mut schedule = Schedule::new(start, 3_000.0, share, 3);
            for _ in 0..1_000 {
                due.push(schedule.due().duration_since(start).as_nanos());
                schedule.advance();
            }
        }
        due.sort_unstable();
        for (place, due_ns) in due.iter().enumerate() {
            let wanted_ns = place as u128 * 1_000_000 / 3;
            assert!(
                due_ns.abs_diff(wanted_ns) <= 2,
                "request {place} is due at {due_ns} ns, not {wanted_ns} ns"
            );
        }
    }
}

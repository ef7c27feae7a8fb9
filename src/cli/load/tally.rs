//! What came back: counts and latencies of the requests whose intended send time lies in the measured window, whenever
//! they were answered. Requests of the warm-up are carried only to know when all are back.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tonic::Code;

use super::drive::{Call, CpuSpent, Load, Pace};
use crate::{
    proto::{AuthoriseResponse, Decision},
    wire::code_name,
};

const LATENCY_NS_MAX: u64 = 120_000_000_000;
/// What a request is counted as that the generator could not send, because too many were outstanding.
const UNSENT: &str = "UNSENT";
/// What a request is counted as that was still without an answer when the run was given up.
const UNANSWERED: &str = "UNANSWERED";

/// Counters of one client thread, and after the run of all.
pub struct Tally {
    window: Option<Range<Instant>>,
    sent: u64,
    finished: u64,
    sent_in_window: u64,
    finished_in_window: u64,
    /// From the intended send time to the answer, in ns; answers only.
    latency_ns: Histogram<u64>,
    /// From the intended to the true send time, in ns.
    send_lag_ns: Histogram<u64>,
    decisions: [u64; 5],
    response_codes: BTreeMap<[u8; 2], u64>,
    errors: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub fn new() -> Tally {
        Tally {
            window: None,
            sent: 0,
            finished: 0,
            sent_in_window: 0,
            finished_in_window: 0,
            latency_ns: histogram(),
            send_lag_ns: histogram(),
            decisions: [0; 5],
            response_codes: BTreeMap::new(),
            errors: BTreeMap::new(),
        }
    }

    pub fn over(mut self, window: Range<Instant>) -> Tally {
        self.window = Some(window);
        self
    }

    pub fn outstanding(&self) -> u64 {
        self.sent - self.finished
    }

    /// A request that was due at `intended` leaves now.
    pub fn send(&mut self, intended: Instant, now: Instant) {
        self.sent += 1;
        if self.is_measured(intended) {
            self.sent_in_window += 1;
            self.send_lag_ns.saturating_record(nanos(now.saturating_duration_since(intended)));
        }
    }

    pub fn answer(&mut self, intended: Instant, now: Instant, response: &AuthoriseResponse) {
        self.finished += 1;
        if self.is_measured(now) {
            self.finished_in_window += 1;
        }
        if self.is_measured(intended) {
            self.latency_ns.saturating_record(nanos(now.saturating_duration_since(intended)));
            let decision = usize::try_from(response.decision).unwrap_or(0);
            self.decisions[if decision < self.decisions.len() { decision } else { 0 }] += 1;
            if let Ok(code) = <[u8; 2]>::try_from(response.response_code.as_bytes()) {
                *self.response_codes.entry(code).or_default() += 1;
            }
        }
    }

    pub fn error(&mut self, intended: Instant, code: Code) {
        self.finished += 1;
        self.count_error(intended, code_name(code));
    }

    /// A request that was due at `intended` and is never sent.
    pub fn unsent(&mut self, intended: Instant) {
        self.count_error(intended, UNSENT);
    }

    /// Adds what another thread counted.
    pub fn add(&mut self, other: &Tally) {
        self.sent += other.sent;
        self.finished += other.finished;
        self.sent_in_window += other.sent_in_window;
        self.finished_in_window += other.finished_in_window;
        // Both have the same bounds, so that nothing can be out of range.
        self.latency_ns += &other.latency_ns;
        self.send_lag_ns += &other.send_lag_ns;
        for (decision, count) in other.decisions.iter().enumerate() {
            self.decisions[decision] += count;
        }
        for (code, count) in &other.response_codes {
            *self.response_codes.entry(*code).or_default() += count;
        }
        for (name, count) in &other.errors {
            *self.errors.entry(name).or_default() += count;
        }
    }

    /// The result of the whole run.
    pub fn measured(mut self, load: &Load, cpu: CpuSpent) -> Measured {
        let refused: u64 = self.errors.values().sum::<u64>() - self.errors.get(UNSENT).copied().unwrap_or(0);
        let unanswered = self.sent_in_window.saturating_sub(self.latency_ns.len() + refused);
        if unanswered > 0 {
            self.errors.insert(UNANSWERED, unanswered);
        }
        let seconds = load.duration.as_secs_f64();
        let per_request = |spent_us: u64| match self.finished_in_window {
            0 => None,
            requests => Some(spent_us as f64 / requests as f64),
        };
        let cores = |spent_us: u64| (seconds > 0.0).then(|| spent_us as f64 / 1e6 / seconds);
        let names = ["UNSPECIFIED", "APPROVED", "PARTIALLY_APPROVED", "DECLINED", "STEP_UP"];
        debug_assert_eq!(Decision::StepUp as usize + 1, names.len());
        Measured {
            to: load.to.to_string(),
            call: load.call,
            connections: load.connections,
            rate_wanted: match load.pace {
                Pace::Open { per_second } => Some(per_second),
                Pace::Closed { .. } => None,
            },
            in_flight: match load.pace {
                Pace::Open { .. } => None,
                Pace::Closed { in_flight } => Some(in_flight),
            },
            batch: (load.call == Call::Batch).then_some(load.batch),
            seconds,
            sent: self.sent_in_window,
            answered: self.latency_ns.len(),
            answered_per_second: if seconds > 0.0 { self.finished_in_window as f64 / seconds } else { 0.0 },
            decisions: (0..names.len())
                .filter(|&decision| self.decisions[decision] > 0)
                .map(|decision| (names[decision].to_owned(), self.decisions[decision]))
                .collect(),
            response_codes: self
                .response_codes
                .iter()
                .map(|(code, count)| (String::from_utf8_lossy(code).into_owned(), *count))
                .collect(),
            errors: self.errors.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            latency_us: Percentiles::of(&self.latency_ns),
            send_lag_us: Percentiles::of(&self.send_lag_ns),
            server_cpu_us_per_request: cpu.server_us.and_then(per_request),
            client_cpu_us_per_request: cpu.client_us.and_then(per_request),
            server_cores: cpu.server_us.and_then(cores),
            client_cores: cpu.client_us.and_then(cores),
            idle_cores: cpu.idle_us.and_then(cores),
        }
    }

    fn count_error(&mut self, intended: Instant, name: &'static str) {
        if self.is_measured(intended) {
            *self.errors.entry(name).or_default() += 1;
        }
    }

    fn is_measured(&self, instant: Instant) -> bool {
        self.window.as_ref().is_some_and(|window| window.contains(&instant))
    }
}

/// Latencies in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

impl Percentiles {
    /// Of a histogram in nanoseconds; all zero where it is empty.
    pub fn of(histogram_ns: &Histogram<u64>) -> Percentiles {
        if histogram_ns.is_empty() {
            return Percentiles::default();
        }
        let at = |quantile: f64| histogram_ns.value_at_quantile(quantile) as f64 / 1_000.0;
        Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), max: at(1.0) }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Percentiles { p50, p90, p99, p99_9, max } = self;
        write!(f, "p50 {p50:.0}  p90 {p90:.0}  p99 {p99:.0}  p99.9 {p99_9:.0}  max {max:.0}")
    }
}

/// The result of one run. Figures of CPU are absent where `/proc` does not show them.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measured {
    pub to: String,
    pub call: Call,
    pub connections: u32,
    /// Open loop: the schedule.
    pub rate_wanted: Option<f64>,
    /// Closed loop: over all connections.
    pub in_flight: Option<u32>,
    pub batch: Option<u32>,
    /// Length of the measured window.
    pub seconds: f64,
    /// Requests that were due in the window and left.
    pub sent: u64,
    /// Those of them that were answered with a decision.
    pub answered: u64,
    /// Answers that arrived in the window, per second.
    pub answered_per_second: f64,
    pub decisions: BTreeMap<String, u64>,
    /// By ISO 8583 DE39.
    pub response_codes: BTreeMap<String, u64>,
    /// By gRPC code, `UNSENT` and `UNANSWERED` beside them.
    pub errors: BTreeMap<String, u64>,
    /// From the intended send time to the answer.
    pub latency_us: Percentiles,
    /// How far the generator was behind its own schedule; included in the latencies.
    pub send_lag_us: Percentiles,
    pub server_cpu_us_per_request: Option<f64>,
    pub client_cpu_us_per_request: Option<f64>,
    pub server_cores: Option<f64>,
    pub client_cores: Option<f64>,
    pub idle_cores: Option<f64>,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = |of: &BTreeMap<String, u64>| -> String {
            let counts: Vec<String> = of.iter().map(|(name, count)| format!("{name} {count}")).collect();
            if counts.is_empty() { "none".to_owned() } else { counts.join("  ") }
        };
        let wanted = match (self.rate_wanted, self.in_flight) {
            (Some(rate), _) => format!(" of {rate:.0} wanted"),
            (None, Some(in_flight)) => format!(" with {in_flight} in flight"),
            (None, None) => String::new(),
        };
        writeln!(
            f,
            "rate            {:.0} answers/s{wanted}, {:.1} s",
            self.answered_per_second, self.seconds
        )?;
        writeln!(f, "sent            {}, answered {}", self.sent, self.answered)?;
        writeln!(f, "decisions       {}", counts(&self.decisions))?;
        writeln!(f, "response codes  {}", counts(&self.response_codes))?;
        writeln!(f, "errors          {}", counts(&self.errors))?;
        writeln!(f, "latency us      {}", self.latency_us)?;
        if self.rate_wanted.is_some() {
            writeln!(f, "send lag us     {}", self.send_lag_us)?;
        }
        if let Some(us) = self.server_cpu_us_per_request {
            writeln!(f, "server CPU      {us:.2} us/request")?;
        }
        if let Some(us) = self.client_cpu_us_per_request {
            writeln!(f, "client CPU      {us:.2} us/request")?;
        }
        Ok(())
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3).expect("the bounds are constants in range")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        Load {
            to: "127.0.0.1:1".parse().unwrap(),
            call: Call::Unary,
            pace: Pace::Open { per_second: 10.0 },
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(2),
            connections: 1,
            batch: 1,
            accounts: 1,
            server_pid: None,
        }
    }

    fn measured(tally: Tally) -> Measured {
        tally.measured(&load(), CpuSpent { server_us: Some(300), client_us: None, idle_us: None })
    }

    #[test]
    fn a_late_answer_counts_from_the_intended_time_and_in_its_own_window() {
        let start = Instant::now();
        let end = start + Duration::from_secs(2);
        let mut tally = Tally::new().over(start..end);
        let approved = AuthoriseResponse {
            decision: Decision::Approved.into(),
            response_code: "00".to_owned(),
            ..AuthoriseResponse::default()
        };
        // Due in the window and sent 5 ms late, but answered after its end.
        tally.send(start, start + Duration::from_millis(5));
        tally.answer(start, end + Duration::from_secs(1), &approved);
        // Answered inside.
        tally.send(start, start);
        tally.answer(start, start + Duration::from_millis(1), &approved);
        // Due before the window: only its arrival is in it.
        tally.send(start - Duration::from_secs(1), start - Duration::from_secs(1));
        tally.answer(start - Duration::from_secs(1), start, &approved);

        assert_eq!(tally.outstanding(), 0);
        let measured = measured(tally);
        assert_eq!((measured.sent, measured.answered), (2, 2));
        assert_eq!(measured.answered_per_second, 1.0);
        assert!((measured.latency_us.max - 3e6).abs() < 3e4, "{:?}", measured.latency_us);
        assert!((measured.send_lag_us.max - 5e3).abs() < 50.0, "{:?}", measured.send_lag_us);
        assert_eq!(measured.server_cpu_us_per_request, Some(150.0));
        assert!(measured.errors.is_empty());
    }

    #[test]
    fn nothing_that_was_due_goes_uncounted() {
        let start = Instant::now();
        let mut tally = Tally::new().over(start..start + Duration::from_secs(1));
        for _ in 0..3 {
            tally.send(start, start);
        }
        tally.error(start, Code::Unavailable);
        tally.unsent(start);
        let errors = measured(tally).errors;
        let errors: Vec<(&str, u64)> = errors.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(errors, [("UNANSWERED", 2), ("UNAVAILABLE", 1), ("UNSENT", 1)]);
    }
}

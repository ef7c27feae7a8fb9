//! The table as Markdown, medians with their range.

use saker::cli::load::{Call, Measured, Pace, Percentiles};

use super::Series;

/// Idle time below this share of the machine means that the CPU is what limits.
const IDLE_SHARE_BUSY: f64 = 0.10;

pub fn markdown(all: &[Series], conditions: &[String]) -> String {
    let mut lines = vec![
        "| call, over 4 connections | echo req/s | engine req/s | ratio | engine p50 / p99 / p99.9 ms | echo p50 / p99 ms \
         | CPU µs/req echo · engine · client | idle cores | limited by |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(all.iter().map(row));
    let sync_us: Vec<&Percentiles> = all.iter().flat_map(|series| &series.sync_us).collect();
    lines.push(String::new());
    lines.push(format!(
        "fdatasync probe in the same minutes (4 KiB into a zero-filled file): p50 {} µs, p99 {} µs.",
        spread(sync_us.iter().map(|run| run.p50), 0),
        spread(sync_us.iter().map(|run| run.p99), 0),
    ));
    lines.push(format!(
        "Engine answers: {}. Medians of {} runs (least–most).",
        decisions(all),
        all.iter().map(|series| series.engine.len()).max().unwrap_or(0)
    ));
    lines.extend(conditions.iter().map(|line| format!("- {line}")));
    lines.join("\n")
}

/// How a row is called.
pub fn pace(call: Call, pace: Pace) -> String {
    let call = match call {
        Call::Unary => "unary".to_owned(),
        Call::Stream => "stream".to_owned(),
        Call::Batch => format!("batch of {}", super::BATCH),
    };
    match pace {
        Pace::Closed { in_flight } => format!("{call}, {in_flight} in flight"),
        Pace::Open { per_second } => format!("{call}, open loop at {per_second:.0}/s"),
    }
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => (values[length / 2 - 1] + values[length / 2]) / 2.0,
    }
}

fn row(series: &Series) -> String {
    let rate = |runs: &[Measured]| median(runs.iter().map(|run| run.answered_per_second));
    let rates = |runs: &[Measured]| spread(runs.iter().map(|run| run.answered_per_second / 1e3), 1);
    let latency = |runs: &[Measured], of: fn(&Percentiles) -> f64| {
        format!("{:.2}", median(runs.iter().map(|run| of(&run.latency_us))) / 1e3)
    };
    let cpu = |runs: &[Measured], of: fn(&Measured) -> Option<f64>| match optional(runs, of) {
        Some(us) => format!("{us:.1}"),
        None => "–".to_owned(),
    };
    format!(
        "| {} | {} k | {} k | {:.2} | {} / {} / {} | {} / {} | {} · {} · {} | {} | {} |",
        pace(series.call, series.pace),
        rates(&series.echo),
        rates(&series.engine),
        rate(&series.engine) / rate(&series.echo),
        latency(&series.engine, |us| us.p50),
        latency(&series.engine, |us| us.p99),
        latency(&series.engine, |us| us.p99_9),
        latency(&series.echo, |us| us.p50),
        latency(&series.echo, |us| us.p99),
        cpu(&series.echo, |run| run.server_cpu_us_per_request),
        cpu(&series.engine, |run| run.server_cpu_us_per_request),
        cpu(&series.engine, |run| run.client_cpu_us_per_request),
        optional(&series.engine, |run| run.idle_cores)
            .map_or("–".to_owned(), |cores| format!("{cores:.2}")),
        limit(series),
    )
}

/// What held the engine back, as far as the figures tell.
fn limit(series: &Series) -> &'static str {
    if let Pace::Open { .. } = series.pace {
        return "the schedule";
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    match optional(&series.engine, |run| run.idle_cores) {
        Some(idle) if idle < cores * IDLE_SHARE_BUSY => "CPU, shared with the client",
        Some(_) => "waiting for the disk and between threads",
        None => "–",
    }
}

fn optional(runs: &[Measured], of: fn(&Measured) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = runs.iter().filter_map(of).collect();
    (!values.is_empty()).then(|| median(values.into_iter()))
}

/// `median (least–most)`.
fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let values: Vec<f64> = values.collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.digits$} ({least:.digits$}–{most:.digits$})", median(values.iter().copied()))
}

fn decisions(all: &[Series]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, u64>::new();
    for run in all.iter().flat_map(|series| &series.engine) {
        for (decision, count) in &run.decisions {
            *counts.entry(decision).or_default() += count;
        }
    }
    let total: u64 = counts.values().sum();
    let share = |count: u64| 100.0 * count as f64 / total as f64;
    let counts: Vec<String> =
        counts.iter().map(|(decision, &count)| format!("{decision} {:.1} %", share(count))).collect();
    counts.join(", ")
}

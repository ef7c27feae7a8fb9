//! Whether `/metrics` says what the answers said.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::summary::Tally;
use crate::observe::{
    ReasonGroup,
    metrics::{DECISIONS, DUPLICATE_KEYS, REPLAYS},
};
use crate::types::codes::Decision;

/// The outcome of the comparison.
pub(super) struct Figures {
    /// Decisions that the answers show and that the metrics show.
    pub(super) answered: u64,
    pub(super) counted: u64,
    /// Every pair of figures that is not equal, in words.
    pub(super) differences: Vec<String>,
}

/// Reads `/metrics` as Prometheus would.
pub(super) async fn scrape(admin: SocketAddr) -> anyhow::Result<String> {
    let context = || format!("http://{admin}/metrics cannot be read");
    let mut stream = TcpStream::connect(admin).await.with_context(context)?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.with_context(context)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.with_context(context)?;
    Ok(text)
}

/// Compares decisions by decision and reason group, and what was asked for again. Duplicate keys have a counter of
/// their own.
pub(super) fn compare(tally: &Tally, metrics: &str) -> Figures {
    let counted = decisions(metrics);
    let mut differences = Vec::new();
    for decision in Decision::ALL.iter().copied() {
        for group in ReasonGroup::ALL.into_iter().filter(|group| *group != ReasonGroup::DuplicateKey) {
            let answers = tally.decisions(decision, group);
            let metric = counted.get(&(decision.name().to_ascii_lowercase(), group.name().to_owned()));
            let metric = metric.copied().unwrap_or(0);
            if answers != metric {
                let (decision, group) = (decision.name(), group.name());
                differences
                    .push(format!("{decision} {group}: {answers} answers, {metric} in {}", DECISIONS.name));
            }
        }
    }
    let duplicates = tally.decisions(Decision::Declined, ReasonGroup::DuplicateKey);
    for (answers, family) in [(duplicates, DUPLICATE_KEYS), (tally.repeated(), REPLAYS)] {
        let metric = counter(metrics, family.name);
        if answers != metric {
            differences.push(format!("{answers} answers, {metric} in {}", family.name));
        }
    }
    let counted = counted.values().sum::<u64>() + counter(metrics, DUPLICATE_KEYS.name);
    Figures { answered: tally.decided(), counted, differences }
}

/// The value of a counter without labels; 0 where it is not there.
fn counter(metrics: &str, name: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    metrics.lines().find_map(value).unwrap_or(0)
}

/// The samples of [`DECISIONS`] by their two labels.
fn decisions(metrics: &str) -> BTreeMap<(String, String), u64> {
    let sample = |line: &str| {
        let (labels, value) = line.strip_prefix(DECISIONS.name)?.strip_prefix('{')?.split_once("} ")?;
        let label = |name: &str| {
            let value = labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""))?;
            Some(value.trim_end_matches('"').to_owned())
        };
        Some(((label(DECISIONS.labels[0])?, label(DECISIONS.labels[1])?), value.trim().parse().ok()?))
    };
    metrics.lines().filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_in_any_order() {
        let text = "# HELP saker_decisions_total x\n\
                    saker_decisions_total{decision=\"approved\",reason_group=\"none\"} 7\n\
                    saker_decisions_total{reason_group=\"model\",decision=\"declined\"} 3\n\
                    saker_decisions_total_other{decision=\"approved\",reason_group=\"none\"} 9\n";
        let found = decisions(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[&("approved".to_owned(), "none".to_owned())], 7);
        assert_eq!(found[&("declined".to_owned(), "model".to_owned())], 3);
        assert_eq!(counter("# HELP other 9\nother_more 7\nother 5\n", "other"), 5);
        assert_eq!(counter(text, "absent"), 0);
    }
}

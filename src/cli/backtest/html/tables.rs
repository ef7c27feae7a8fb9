//! The tables of the report. Every number that is a count or an amount says in `data-value` what it is exactly, and the
//! rows in `data-row` whose it is, so that a program can add them up.

use maud::{Markup, html};

use super::{
    super::{
        report::percent,
        volume::{Slice, Volume, Yield, share},
    },
    plot::grouped,
};
use crate::types::money::Currency;

/// Slices that a table shows one by one; the others are one line, so that every table adds up to the whole.
const ROWS_MAX: usize = 40;

/// A count.
pub(super) fn count(name: &str, count: u64) -> Markup {
    html! { td data-figure=(name) data-value=(count) { (grouped(i128::from(count))) } }
}

/// Amounts, one line a currency.
pub(super) fn money(name: &str, volume: &Volume) -> Markup {
    html! {
        td.money {
            @if volume.minor.is_empty() { "0" }
            @for (nth, (currency, minor)) in volume.minor.iter().enumerate() {
                @if nth > 0 { br; }
                span data-figure=(name) data-currency=(currency.alpha()) data-value=(minor) { (major(*minor, *currency)) }
            }
        }
    }
}

pub(super) fn rate(share: Option<f64>) -> Markup {
    html! { td { (percent(share)) } }
}

/// Major units with their currency, digits in groups.
pub(super) fn major(minor: i128, currency: Currency) -> String {
    let exponent = currency.exponent() as usize;
    let per_major = i128::from(currency.minor_per_major());
    let sign = if minor < 0 { "-" } else { "" };
    let (whole, rest) = (minor.abs() / per_major, minor.abs() % per_major);
    match exponent {
        0 => format!("{sign}{} {currency}", grouped(whole)),
        _ => format!("{sign}{}.{rest:0exponent$} {currency}", grouped(whole)),
    }
}

/// The amounts of a volume in one line.
pub(super) fn majors(volume: &Volume) -> String {
    let all = volume.minor.iter().map(|(currency, minor)| major(*minor, *currency));
    let text = all.collect::<Vec<_>>().join(" + ");
    if text.is_empty() { "0".to_owned() } else { text }
}

/// Slices by one property: `cut` names it for programs, `head` for people. `has_labels` where any of it is known to be
/// fraud or not.
pub(super) fn slices(
    cut: &str,
    head: &str,
    has_labels: bool,
    slices: &[(String, &Slice)],
    whole: &Slice,
) -> Markup {
    first_slices((cut, head), has_labels, slices, ROWS_MAX, Some(whole))
}

/// The same, with every one of them; without a `whole` there is no line of all.
pub(super) fn all_slices(
    cut: &str,
    head: &str,
    has_labels: bool,
    slices: &[(String, &Slice)],
    whole: Option<&Slice>,
) -> Markup {
    first_slices((cut, head), has_labels, slices, slices.len(), whole)
}

fn first_slices(
    (cut, head): (&str, &str),
    has_labels: bool,
    slices: &[(String, &Slice)],
    shown: usize,
    whole: Option<&Slice>,
) -> Markup {
    let shown = slices.len().min(shown);
    let mut rest = Slice::default();
    slices[shown..].iter().for_each(|(_, slice)| rest.merge(slice));
    html! {
        div.wide {
            table.cut data-table=(cut) {
                thead {
                    tr {
                        th { (head) } th { "decisions" } th { "amount" } th { "declined" } th { "% declined" }
                        th { "step-ups" } th { "% step-ups" }
                        @if has_labels {
                            th { "fraud" } th { "fraud amount" } th { "caught" } th { "recall" } th { "false positives" }
                            th { "precision" } th { "false positive rate" }
                        }
                    }
                }
                tbody {
                    @for (name, slice) in &slices[..shown] { (slice_row(name, has_labels, slice)) }
                    @if slices.len() > shown {
                        (slice_row(&format!("{} others", slices.len() - shown), has_labels, &rest))
                    }
                }
                @if let Some(whole) = whole { tfoot { (slice_row("all", has_labels, whole)) } }
            }
        }
    }
}

fn slice_row(name: &str, has_labels: bool, slice: &Slice) -> Markup {
    html! {
        tr data-row=(name) {
            th { (name) }
            (count("decisions", slice.all.count)) (money("amount", &slice.all))
            (count("declined", slice.declined.count)) (rate(share(slice.declined.count, slice.all.count)))
            (count("step-ups", slice.step_ups.count)) (rate(share(slice.step_ups.count, slice.all.count)))
            @if has_labels {
                (count("fraud", slice.fraud.count)) (money("fraud-amount", &slice.fraud))
                (count("caught", slice.caught.count)) (rate(slice.recall()))
                (count("false-positives", slice.false_positives)) (rate(slice.precision()))
                (rate(slice.false_positive_rate()))
            }
        }
    }
}

/// The head of a table of reasons, rules or causes.
pub(super) fn yield_head(head: &str, has_labels: bool, has_alone: bool) -> Markup {
    html! {
        thead {
            tr {
                th { (head) } th { "decisions" } th { "amount" }
                @if has_labels {
                    th { "fraud" } th { "fraud amount" } th { "genuine" } th { "precision" } th { "recall" }
                }
                @if has_alone && has_labels { th { "alone: fraud" } th { "alone: genuine" } }
                @if has_alone && !has_labels { th { "alone" } }
            }
        }
    }
}

/// The cells of a reason, a rule or a cause. `alone` is absent where the table has no such column, and empty where the
/// line has no such figure.
pub(super) fn yield_cells(
    brought: &Yield,
    frauds: u64,
    has_labels: bool,
    alone: Option<Option<&Yield>>,
) -> Markup {
    html! {
        (count("decisions", brought.all.count)) (money("amount", &brought.all))
        @if has_labels {
            (count("fraud", brought.fraud.count)) (money("fraud-amount", &brought.fraud))
            (count("genuine", brought.genuine)) (rate(brought.precision())) (rate(share(brought.fraud.count, frauds)))
        }
        @match alone {
            None => {}
            Some(Some(alone)) if has_labels => {
                (count("alone-fraud", alone.fraud.count)) (count("alone-genuine", alone.genuine))
            }
            Some(Some(alone)) => (count("alone", alone.all.count)),
            Some(None) => { td { "-" } @if has_labels { td { "-" } } }
        }
    }
}

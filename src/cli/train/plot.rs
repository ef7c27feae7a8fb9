//! The two plots of a model card, as SVG files that stand on their own.

use maud::{Markup, html};

use crate::model::train::Examples;

const SIDE: f64 = 360.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 44.0;
const GAP: f64 = 16.0;
/// Points of a curve; more would not be seen.
const POINTS: usize = 200;
/// Groups of rows of about equal number of frauds.
const GROUPS: usize = 12;

/// Precision by recall, a step for every score.
pub(super) fn precision_and_recall(margins: &[f64], examples: &Examples) -> String {
    let weight = examples.genuine_weight();
    let mut rows: Vec<(f64, bool)> = margins.iter().copied().zip(examples.is_fraud.iter().copied()).collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let frauds = rows.iter().filter(|(_, fraud)| *fraud).count().max(1) as f64;
    let (mut caught, mut alarms) = (0.0, 0.0);
    let mut points = Vec::new();
    for step in rows.chunk_by(|a, b| a.0 == b.0) {
        let fresh = step.iter().filter(|(_, fraud)| *fraud).count() as f64;
        caught += fresh;
        alarms += (step.len() as f64 - fresh) * weight;
        if fresh > 0.0 {
            points.push((caught / frauds, caught / (caught + alarms)));
        }
    }
    let every = points.len().div_ceil(POINTS).max(1);
    let last = points.last().copied();
    let points: Vec<(f64, f64)> = points.into_iter().step_by(every).chain(last).collect();
    frame(
        "recall",
        "precision",
        html! { polyline points=(line(&points)) fill="none" stroke="#1f5fa8" stroke-width="2" {} },
    )
}

/// The share of frauds among rows of about one score, by what the score promises.
pub(super) fn calibration(margins: &[f64], examples: &Examples) -> String {
    let weight = examples.genuine_weight();
    let mut rows: Vec<(f64, bool)> = margins.iter().copied().zip(examples.is_fraud.iter().copied()).collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let frauds = rows.iter().filter(|(_, fraud)| *fraud).count();
    let in_a_group = frauds.div_ceil(GROUPS).max(1);
    let mut points = Vec::new();
    let mut group = (0.0, 0.0, 0_usize);
    for (margin, is_fraud) in rows {
        let counts = if is_fraud { 1.0 } else { weight };
        group.0 += counts / (1.0 + (-margin).exp());
        group.1 += counts;
        group.2 += usize::from(is_fraud);
        if group.2 == in_a_group {
            points.push((group.0 / group.1, group.2 as f64 / group.1));
            group = (0.0, 0.0, 0);
        }
    }
    if group.1 > 0.0 {
        points.push((group.0 / group.1, group.2 as f64 / group.1));
    }
    frame(
        "chance of fraud that the score promises",
        "share of frauds",
        html! {
            polyline points=(line(&[(0.0, 0.0), (1.0, 1.0)])) fill="none" stroke="#999" stroke-dasharray="4 4" {}
            polyline points=(line(&points)) fill="none" stroke="#1f5fa8" stroke-width="2" {}
            @for (x, y) in &points {
                circle cx=(across(*x)) cy=(up(*y)) r="3.5" fill="#1f5fa8" {}
            }
        },
    )
}

fn across(x: f64) -> String {
    format!("{:.1}", LEFT + x * (SIDE - LEFT - GAP))
}

fn up(y: f64) -> String {
    format!("{:.1}", SIDE - BOTTOM - y * (SIDE - BOTTOM - GAP))
}

fn line(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{},{}", across(*x), up(*y))).collect::<Vec<_>>().join(" ")
}

/// Axes from 0 to 1 around what is drawn.
fn frame(below: &str, beside: &str, drawn: Markup) -> String {
    let ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
    let markup = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {SIDE} {SIDE}")) width=(SIDE) height=(SIDE) role="img"
            aria-label={ (beside) " by " (below) } font-family="sans-serif" font-size="12" {
            rect width=(SIDE) height=(SIDE) fill="#fff" {}
            @for tick in ticks {
                line x1=(across(0.0)) x2=(across(1.0)) y1=(up(tick)) y2=(up(tick)) stroke="#ddd" {}
                text x=(LEFT - 6.0) y=(up(tick)) text-anchor="end" dominant-baseline="middle" fill="#333" { (format!("{tick:.1}")) }
                text x=(across(tick)) y=(SIDE - BOTTOM + 16.0) text-anchor="middle" fill="#333" { (format!("{tick:.1}")) }
            }
            text x=(across(0.5)) y=(SIDE - 8.0) text-anchor="middle" fill="#333" { (below) }
            text x="14" y=(up(0.5)) text-anchor="middle" fill="#333" transform=(format!("rotate(-90 14 {})", up(0.5))) { (beside) }
            (drawn)
        }
    };
    markup.into_string() + "\n"
}

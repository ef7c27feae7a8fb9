//! Plots as SVG that stands in the page: bars in order, and curves. They say in words what their axes are, and every
//! bar its numbers on pointing at it.

use maud::{Markup, html};

/// Size of a plot in its own units; the page stretches it to the room there is.
#[derive(Clone, Copy)]
pub(super) struct Size {
    width: f64,
    height: f64,
}

/// Over the whole width of the page, and over half of it.
pub(super) const WIDE: Size = Size { width: 1_000.0, height: 190.0 };
pub(super) const HALF: Size = Size { width: 480.0, height: 300.0 };

/// Room for the axes' numbers.
const LEFT: f64 = 58.0;
const BOTTOM: f64 = 38.0;
const TOP: f64 = 20.0;
const RIGHT: f64 = 20.0;
/// Room that a letter of a label takes, and what is left free beside it.
const LETTER: f64 = 6.8;
const LABEL_GAP: f64 = 10.0;

/// One bar: what stands under it, and what it is made of from the bottom up.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) parts: Vec<u64>,
}

/// Bars whose parts have these classes; `title` says what their height is.
pub(super) fn bars(size: Size, title: &str, classes: &[&str], labels: &[&str], bars: &[Bar]) -> Markup {
    let highest = bars.iter().map(|bar| bar.parts.iter().sum::<u64>()).max().unwrap_or(0);
    let ticks = ticks(highest);
    let top = ticks.last().copied().unwrap_or(1).max(1) as f64;
    let frame = Frame { size, left: 0.0, right: bars.len().max(1) as f64, low: 0.0, high: top };
    let step = frame.x(1.0) - frame.x(0.0);
    let gap = if step > 4.0 { step * 0.15 } else { 0.0 };
    let longest = bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or(0);
    let every = ((longest as f64 * LETTER + LABEL_GAP) / step).ceil().max(1.0) as usize;
    html! {
        svg viewBox=(frame.view_box()) role="img" aria-label=(title) {
            (frame.horizontals(ticks.iter().map(|tick| (*tick as f64, grouped(i128::from(*tick))))))
            text class="label" x=(coordinate(LEFT)) y="12" { (title) }
            @for (nth, bar) in bars.iter().enumerate() {
                g {
                    title {
                        (bar.name) ": "
                        @for (part, (label, count)) in labels.iter().zip(&bar.parts).enumerate() {
                            @if part > 0 { ", " }
                            (grouped(i128::from(*count))) " " (label)
                        }
                    }
                    @for (class, from, to) in stacked(classes, &bar.parts) {
                        rect class=(class) x=(coordinate(frame.x(nth as f64) + gap / 2.0)) y=(coordinate(frame.y(to)))
                            width=(coordinate(step - gap)) height=(coordinate(frame.y(from) - frame.y(to))) {}
                    }
                }
                @if nth % every == 0 {
                    @let at = frame.x(nth as f64 + 0.5);
                    text x=(coordinate(at)) y=(coordinate(frame.bottom() + 16.0)) text-anchor="middle" { (bar.name) }
                }
            }
            path class="axis" d=(format!("M{} {}H{}", coordinate(LEFT), coordinate(frame.bottom()),
                coordinate(size.width - RIGHT))) {}
        }
    }
}

/// The parts that are there, with their class and where they begin and end.
fn stacked<'c>(classes: &[&'c str], parts: &[u64]) -> Vec<(&'c str, f64, f64)> {
    let mut from = 0.0;
    let parts = classes.iter().zip(parts).map(|(class, part)| {
        let begin = from;
        from += *part as f64;
        (*class, begin, from)
    });
    parts.filter(|(_, from, to)| to > from).collect()
}

/// A point that is marked on a curve, or beside it.
pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) name: String,
}

/// What an axis of shares shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// From 0 to 1.
    Linear,
    /// From a ten-thousandth to 1, what is below at the edge.
    Logarithmic,
}

const LOG_DECADES: f64 = 4.0;

impl Axis {
    fn place(self, share: f64) -> f64 {
        match self {
            Axis::Linear => share,
            Axis::Logarithmic => (1.0 + share.max(1e-9).log10() / LOG_DECADES).max(0.0),
        }
    }

    fn ticks(self) -> Vec<(f64, String)> {
        let shares: &[f64] = match self {
            Axis::Linear => &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            Axis::Logarithmic => &[0.000_1, 0.001, 0.01, 0.1, 1.0],
        };
        shares
            .iter()
            .map(|share| (self.place(*share), format!("{} %", (share * 1e4).round() / 100.0)))
            .collect()
    }
}

/// A curve of shares, in percent on both axes; `titles` say what the upright and the lying axis are. The marks' names
/// stand above and below them in turn.
pub(super) fn curve(titles: (&str, &str), axis: Axis, points: &[(f64, f64)], marks: &[Mark]) -> Markup {
    let frame = Frame { size: HALF, left: 0.0, right: 1.0, low: 0.0, high: 1.0 };
    let at = |x: f64, y: f64| (coordinate(frame.x(axis.place(x))), coordinate(frame.y(y)));
    let mut path = String::new();
    for (nth, (x, y)) in points.iter().enumerate() {
        let (x, y) = at(*x, *y);
        path += &format!("{}{x} {y}", if nth == 0 { "M" } else { "L" });
    }
    html! {
        svg viewBox=(frame.view_box()) role="img" aria-label={ (titles.0) " by " (titles.1) } {
            (frame.horizontals(Axis::Linear.ticks().into_iter()))
            @for (place, name) in axis.ticks() {
                @let x = coordinate(frame.x(place));
                path class="grid" d=(format!("M{x} {}V{}", coordinate(TOP), coordinate(frame.bottom()))) {}
                text x=(x) y=(coordinate(frame.bottom() + 16.0)) text-anchor="middle" { (name) }
            }
            text class="label" x=(coordinate(LEFT)) y="12" { (titles.0) }
            text class="label" x=(coordinate(HALF.width - RIGHT)) y=(coordinate(HALF.height - 4.0)) text-anchor="end" {
                (titles.1)
            }
            path class="curve" d=(path) {}
            @for (nth, mark) in marks.iter().enumerate() {
                @let (x, y) = at(mark.x, mark.y);
                @let is_right = axis.place(mark.x) > 0.6;
                circle class="mark" cx=(x) cy=(y) r="5" { title { (mark.name) } }
                text class="label" x=(coordinate(frame.x(axis.place(mark.x)) + if is_right { -9.0 } else { 9.0 }))
                    y=(coordinate(frame.y(mark.y) + if nth % 2 == 0 { -8.0 } else { 16.0 })) text-anchor=(if is_right { "end" } else { "start" }) {
                    (mark.name)
                }
            }
        }
    }
}

/// From values to places in the plot.
struct Frame {
    size: Size,
    left: f64,
    right: f64,
    low: f64,
    high: f64,
}

impl Frame {
    fn view_box(&self) -> String {
        format!("0 0 {} {}", self.size.width, self.size.height)
    }

    fn bottom(&self) -> f64 {
        self.size.height - BOTTOM
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.left) / (self.right - self.left) * (self.size.width - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom() - (value - self.low) / (self.high - self.low) * (self.bottom() - TOP)
    }

    /// Lines across, with their numbers at the left.
    fn horizontals(&self, ticks: impl Iterator<Item = (f64, String)>) -> Markup {
        html! {
            @for (value, name) in ticks {
                @let y = self.y(value);
                path class="grid" d=(format!("M{} {}H{}", coordinate(LEFT), coordinate(y),
                    coordinate(self.size.width - RIGHT))) {}
                text x=(coordinate(LEFT - 6.0)) y=(coordinate(y + 4.0)) text-anchor="end" { (name) }
            }
        }
    }
}

/// Round numbers from 0 to at least `highest`, at most six.
fn ticks(highest: u64) -> Vec<u64> {
    let steps = (0..19).flat_map(|decade| [1, 2, 5].map(|digit| digit * 10_u64.pow(decade)));
    let step = steps.into_iter().find(|step| highest.div_ceil(*step) <= 5).unwrap_or(u64::MAX / 5);
    (0..=highest.div_ceil(step).max(1)).map(|nth| step.saturating_mul(nth)).collect()
}

/// With a comma before every three digits.
pub(super) fn grouped(number: i128) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Tenths are fine enough.
fn coordinate(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_at_or_above_what_it_shows() {
        for (highest, expected) in [
            (0, vec![0, 1]),
            (1, vec![0, 1]),
            (5, vec![0, 1, 2, 3, 4, 5]),
            (6, vec![0, 2, 4, 6]),
            (23, vec![0, 5, 10, 15, 20, 25]),
            (4_801, vec![0, 1_000, 2_000, 3_000, 4_000, 5_000]),
        ] {
            assert_eq!(ticks(highest), expected, "{highest}");
        }
        assert!(ticks(u64::MAX).len() <= 6);
    }

    #[test]
    fn digits_stand_in_groups_of_three() {
        for (number, text) in [(0, "0"), (-999, "-999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}

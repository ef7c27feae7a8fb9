//! The outcome of a replay as one HTML file: no script, no outside resource, its style and its plots inline. Whatever
//! comes from data or options is escaped by the macro that makes the page.

mod plot;
mod tables;

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::{
    plot::{Axis, Bar, HALF, Mark, WIDE, bars, curve, grouped},
    tables::{all_slices, count, majors, money, rate, slices, yield_cells, yield_head},
};
use super::{
    against::{Against, rates},
    episodes::EPISODE_GAP_DAYS,
    report::{Report, named, percent},
    slices::Band,
    volume::{Slice, Volume, share},
    weights::Weighed,
};
use crate::{
    rules::{Mode, Rule},
    types::money::Currency,
};

const STYLE: &str = include_str!("html/style.css");
/// Bars in a plot by day; a longer time has several days a bar.
const BARS_MAX: usize = 370;
/// Features listed by what they weigh.
const WEIGHTS_LISTED: usize = 15;
/// Overlapping pairs listed.
const PAIRS_LISTED: usize = 25;
/// Rules that fired, up to which the overlap is also a square.
const SQUARE_MAX: usize = 40;

/// The whole page.
pub(super) fn page(report: &Report<'_>) -> Markup {
    let has_labels = report.figures.whole.labelled() > 0;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content={ "saker " (env!("CARGO_PKG_VERSION")) };
                title { "Backtest of " (report.origin.name) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (heading(report))
                (headline(report, has_labels))
                @if let Some(recorded) = report.recorded {
                    section {
                        h2 { "Beside what was recorded" }
                        ul { @for line in recorded.summary() { li { (line) } } }
                    }
                }
                (over_time(report, has_labels))
                (reasons(report, has_labels))
                (rules(report, has_labels))
                (overlap(report))
                @if report.backtest.model().is_some() && has_labels { (scores(report)) }
                @if let Some(weights) = report.weights { (weighty(weights)) }
                @if has_labels { (accounts(report)) }
                (cuts(report, has_labels))
                @if let Some(against) = report.against { (changes(against, report, has_labels)) }
                (conditions(report))
            }
        }
    }
}

fn heading(report: &Report<'_>) -> Markup {
    html! {
        header {
            h1 { "Backtest" }
            p {
                code { (report.origin.name) } ": " (grouped(i128::from(report.origin.rows))) " "
                (if report.args.journal.is_some() { "requests" } else { "transactions" })
                @if let Some((first, last)) = report.origin.period { ", " (first) " to " (last) }
                br;
                "decided by " (report.versions()) ", "
                (if report.args.observe { "history's outcomes" } else { "these decisions" }) " in force"
            }
            @for (count, what) in report.remarks() { p.note { (grouped(i128::from(count))) " " (what) } }
            @if let Some(why) = &report.figures.undecided_why {
                p.alarm { (report.figures.undecided) " not decided: " (why) }
            }
        }
    }
}

fn tile(value: &str, what: &str, more: &str) -> Markup {
    html! { div.tile { b { (value) } span { (what) } span { (more) } } }
}

fn headline(report: &Report<'_>, has_labels: bool) -> Markup {
    let figures = report.figures;
    let (whole, episodes) = (&figures.whole, &figures.episodes);
    let number = |count: u64| grouped(i128::from(count));
    let of_all = |part: &Volume| percent(share(part.count, whole.all.count));
    html! {
        section {
            div.tiles {
                (tile(&number(whole.all.count), "decisions", &majors(&whole.all)))
                (tile(&of_all(&whole.declined), "declined", &number(whole.declined.count)))
                (tile(&of_all(&whole.step_ups), "asked to step up", &number(whole.step_ups.count)))
                @if has_labels {
                    (tile(&percent(whole.recall()), "of the frauds caught",
                        &format!("{} of {}", number(whole.caught.count), number(whole.fraud.count))))
                    @for (currency, value) in whole.caught.share_of(&whole.fraud) {
                        (tile(&percent(Some(value)), &format!("of the fraud's money caught ({currency})"),
                            &format!("{} of {}", tables::major(whole.caught.minor_of(currency), currency),
                                tables::major(whole.fraud.minor_of(currency), currency))))
                    }
                    (tile(&whole.false_positive_rate().map_or("-".to_owned(), |rate| format!("{:.2} %", 100.0 * rate)),
                        "of the genuine declined or asked to step up for suspicion",
                        &format!("{} of {}", number(whole.false_positives), number(whole.genuine))))
                    (tile(&percent(whole.precision()),
                        "of those declined or asked to step up for suspicion are fraud", "precision"))
                    (tile(&percent(episodes.account_detection_rate()), "of the accounts with fraud caught",
                        &format!("{} of {}", number(episodes.accounts_caught()), number(episodes.accounts()))))
                    @if let Some(each) = episodes.false_positives_per_caught_account(whole.false_positives) {
                        (tile(&format!("{each:.2}"), "false positives for each caught account", ""))
                    }
                }
            }
            @if !has_labels { p.alarm { (report.origin.unlabelled) } }
            table data-table="decision" {
                thead { tr { th { "decision" } th { "count" } th { "%" } th { "amount" } } }
                tbody {
                    @for (decision, volume) in &figures.decisions {
                        tr data-row=(decision.name()) {
                            th { (named(*decision)) } (count("decisions", volume.count))
                            (rate(share(volume.count, whole.all.count))) (money("amount", volume))
                        }
                    }
                }
                tfoot {
                    tr data-row="all" {
                        th { "all" } (count("decisions", whole.all.count)) (rate(Some(1.0)))
                        (money("amount", &whole.all))
                    }
                }
            }
        }
    }
}

fn key(entries: &[(&str, &str)]) -> Markup {
    html! { div.key { @for (class, what) in entries { span { i class=(class) {} (what) } } } }
}

const DECISION_KEY: [(&str, &str); 3] =
    [("light", "approved"), ("middle", "asked to step up"), ("main", "declined")];
const FRAUD_KEY: [(&str, &str); 2] = [("warn", "fraud caught"), ("pale", "fraud missed")];

/// Approved, asked to step up and declined, and fraud caught and missed, one bar a slice.
fn two_plots(size: plot::Size, of: &str, slices: &[(String, Slice)], has_labels: bool) -> Markup {
    let made = |parts: &dyn Fn(&Slice) -> Vec<u64>| {
        let bars = slices.iter().map(|(name, slice)| Bar { name: name.clone(), parts: parts(slice) });
        bars.collect::<Vec<_>>()
    };
    let decisions = made(&|slice| {
        let (step_ups, declined) = (slice.step_ups.count, slice.declined.count);
        vec![slice.all.count - step_ups - declined, step_ups, declined]
    });
    let classes = DECISION_KEY.map(|(class, _)| class);
    let fraud = made(&|slice| vec![slice.caught.count, slice.fraud.count - slice.caught.count]);
    html! {
        figure {
            (key(&DECISION_KEY))
            (bars(size, &format!("decisions {of}"), &classes, &["approved", "step-ups", "declined"], &decisions))
        }
        @if has_labels {
            figure {
                (key(&FRAUD_KEY))
                (bars(size, &format!("frauds {of}"), &["warn", "pale"], &["caught", "missed"], &fraud))
            }
        }
    }
}

fn over_time(report: &Report<'_>, has_labels: bool) -> Markup {
    let slices_of = &report.figures.slices;
    let days = slices_of.days();
    let (Some((first, _)), Some((last, _))) = (days.first(), days.last()) else { return html! {} };
    let span = (last.0 - first.0) as usize + 1;
    let days_a_bar = span.div_ceil(BARS_MAX);
    let mut buckets: Vec<(String, Slice)> = (0..span.div_ceil(days_a_bar))
        .map(|nth| {
            let begin = first.0 + (nth * days_a_bar) as i32;
            (crate::types::account::Day(begin).to_string(), Slice::default())
        })
        .collect();
    for (day, slice) in &days {
        buckets[(day.0 - first.0) as usize / days_a_bar].1.merge(slice);
    }
    let of = if days_a_bar == 1 { "a day".to_owned() } else { format!("every {days_a_bar} days") };
    let named: Vec<_> = days.iter().map(|(day, slice)| (day.to_string(), *slice)).collect();
    let months = slices_of.months();
    let months: Vec<_> = months.iter().map(|(month, slice)| (month.clone(), slice)).collect();
    html! {
        section {
            h2 { "Over time" }
            p.note { "Times are UTC." }
            (two_plots(WIDE, &of, &buckets, has_labels))
            (slices("month", "month", has_labels, &months, &report.figures.whole))
            @if days.len() <= BARS_MAX {
                details {
                    summary { "by day" }
                    (all_slices("day", "day", has_labels, &named, Some(&report.figures.whole)))
                }
            }
        }
    }
}

fn reasons(report: &Report<'_>, has_labels: bool) -> Markup {
    let figures = report.figures;
    html! {
        section {
            h2 { "By deciding reason" }
            div.wide {
                table data-table="reason" {
                    (yield_head("reason", has_labels, true))
                    tbody {
                        @for (code, reason) in figures.reasons_by_count() {
                            tr data-row=(code) {
                                th { (code) }
                                (yield_cells(&reason.decided, figures.whole.fraud.count, has_labels,
                                    Some(reason.is_suspicion.then_some(&reason.alone))))
                            }
                        }
                    }
                    caption {
                        "Declines and step-ups by the reason that decided. Alone: no rule of another reason and not the \
                         model spoke against the transaction."
                    }
                }
            }
        }
    }
}

fn rule_row(report: &Report<'_>, place: usize, rule: &Rule, has_labels: bool) -> Markup {
    let voice = &report.figures.voices.rules()[place];
    let alone = rule.then.response_code().map(|_| &voice.alone);
    html! {
        tr data-row=(rule.id) class=[(rule.mode == Mode::Off).then_some("off")] {
            th {
                (rule.id) " "
                @if rule.mode != Mode::Live { span.badge { (rule.mode.name()) } " " }
                span.badge { (rule.then.name()) }
            }
            (yield_cells(&voice.fired, report.figures.whole.fraud.count, has_labels, Some(alone)))
        }
        @if let Some(voice) = report.figures.voices.held_back(place) {
            tr data-row={ (rule.id) " (held back)" } {
                th { (rule.id) " " span.badge { "held back" } " " span.badge { (rule.then.name()) } }
                (yield_cells(&voice.fired, report.figures.whole.fraud.count, has_labels,
                    Some(rule.then.response_code().map(|_| &voice.alone))))
            }
        }
    }
}

fn rules(report: &Report<'_>, has_labels: bool) -> Markup {
    let voices = &report.figures.voices;
    html! {
        section {
            h2 { "By rule that fired" }
            div.wide {
                table data-table="rule" {
                    (yield_head("rule", has_labels, true))
                    tbody {
                        @for (place, rule) in report.backtest.rules().rules.iter().enumerate() {
                            (rule_row(report, place, rule, has_labels))
                        }
                        @if report.backtest.model().is_some() {
                            tr data-row="the model" {
                                th { "the model " span.badge { "decline" } }
                                (yield_cells(&voices.model().fired, report.figures.whole.fraud.count, has_labels,
                                    Some(Some(&voices.model().alone))))
                            }
                        }
                    }
                    caption {
                        "A transaction stands under every rule that fired on it, so that the lines add up to more than \
                         the decisions. Held back: the rule is live for other cards, or suppressed there. Alone: nothing \
                         else spoke against the transaction; of a rule in shadow or held back, what was not declined and \
                         would have been by it."
                    }
                }
            }
        }
    }
}

fn overlap(report: &Report<'_>) -> Markup {
    let voices = &report.figures.voices;
    let names = report.voice_names();
    let pairs = voices.overlap.pairs();
    if pairs.is_empty() {
        return html! {};
    }
    let fired = |place: usize| match place == voices.model_place() {
        true => voices.model().fired.all.count,
        false => voices.rules()[place].fired.all.count,
    };
    let present: Vec<usize> = (0..names.len()).filter(|place| fired(*place) > 0).collect();
    html! {
        section {
            h2 { "Overlap" }
            @if present.len() <= SQUARE_MAX {
                div.wide {
                    table.overlap data-table="overlap-square" {
                        thead {
                            tr {
                                th { "of the transactions of … also" }
                                @for b in &present { th.turned { span { (names[*b]) } } }
                            }
                        }
                        tbody {
                            @for a in &present {
                                tr {
                                    th { (names[*a]) }
                                    @for b in &present { (overlap_cell(voices.overlap.of(*a, *b).both, fired(*a), a == b)) }
                                }
                            }
                        }
                    }
                }
            }
            h3 { "The most frequent pairs" }
            table data-table="overlap" {
                thead {
                    tr {
                        th { "rule" } th.text { "and" } th { "both" } th { "of them fraud" } th { "% of the first" }
                        th { "% of the second" }
                    }
                }
                tbody {
                    @for (a, b, pair) in pairs.iter().take(PAIRS_LISTED) {
                        tr data-row={ (names[*a]) " + " (names[*b]) } {
                            th { (names[*a]) } td.text { (names[*b]) }
                            (count("both", pair.both)) (count("fraud", pair.fraud))
                            (rate(share(pair.both, fired(*a)))) (rate(share(pair.both, fired(*b))))
                        }
                    }
                }
                @if pairs.len() > PAIRS_LISTED {
                    caption { "and " (pairs.len() - PAIRS_LISTED) " more; --format json has them" }
                }
            }
        }
    }
}

/// The darker, the larger the share.
fn overlap_cell(both: u64, of: u64, is_itself: bool) -> Markup {
    let part = share(both, of).unwrap_or_default();
    html! {
        @if is_itself { td { "·" } }
        @else if both == 0 { td {} }
        @else {
            td style=(format!("background:rgba(11,99,165,{:.2})", 0.08 + 0.42 * part)) title=(grouped(i128::from(both))) {
                (format!("{:.0} %", 100.0 * part))
            }
        }
    }
}

fn scores(report: &Report<'_>) -> Markup {
    let (figures, Some(model)) = (report.figures, report.backtest.model()) else { return html! {} };
    let points = figures.thresholds.curve();
    if points.is_empty() {
        return html! {};
    }
    let threshold = model.decline_threshold();
    let at = points.iter().rev().find(|point| point.score >= threshold);
    let whole = &figures.whole;
    let rates: Vec<_> = points.iter().map(|point| (point.false_positive_rate, point.recall)).collect();
    let precisions: Vec<_> = points.iter().map(|point| (point.recall, point.precision)).collect();
    let own = |x: Option<f64>, y: Option<f64>| {
        x.zip(y).map(|(x, y)| Mark { x, y, name: "rules and model".to_owned() })
    };
    let name = format!("model at {threshold}");
    let mut rate_marks: Vec<_> = own(whole.false_positive_rate(), whole.recall()).into_iter().collect();
    let mut precision_marks: Vec<_> = own(whole.recall(), whole.precision()).into_iter().collect();
    if let Some(at) = at {
        rate_marks.push(Mark { x: at.false_positive_rate, y: at.recall, name: name.clone() });
        precision_marks.push(Mark { x: at.recall, y: at.precision, name });
    }
    html! {
        section {
            h2 { "The model's score" }
            div.pair {
                figure {
                    (curve(("frauds caught", "genuine declined"), Axis::Logarithmic, &rates, &rate_marks))
                }
                figure {
                    (curve(("precision", "frauds caught"), Axis::Linear, &precisions, &precision_marks))
                }
            }
            p.note {
                "Declining at and above each score, by the model alone, on the decisions with a label; the marks are the \
                 model's own threshold, and what rules and model decided together."
            }
            @if let Some(quality) = figures.quality() {
                p {
                    (grouped(i128::from(quality.rows))) " scored decisions with a label, "
                    (grouped(i128::from(quality.frauds))) " of them fraud: "
                    (format!("AUC {:.4}, average precision {:.4}, recall {:.1} % at 1 % and {:.1} % at 0.1 % of false \
                        positives.", quality.auc, quality.average_precision, 100.0 * quality.recall_at_1_percent,
                        100.0 * quality.recall_at_0_1_percent))
                }
            }
        }
    }
}

/// The features that the model's declines rest on.
fn weighty(weights: &Weighed) -> Markup {
    let Weighed { sampled, declined, heaviest } = weights;
    if heaviest.is_empty() {
        return html! {};
    }
    let all: f64 = heaviest.iter().map(|weight| weight.absolute).sum();
    html! {
        section {
            h2 { "What the model's declines rest on" }
            p.note {
                "Exact Shapley values (TreeSHAP), in log-odds, of " (grouped(*sampled as i128)) " of the "
                (grouped(i128::from(*declined))) " decisions with a score at or above the model's threshold: how far \
                 a feature moves the score, whichever way, and on the whole."
            }
            table data-table="weight" {
                thead { tr { th { "feature" } th { "moves" } th { "%" } th { "towards fraud" } th.text { "what it is" } } }
                tbody {
                    @for weight in heaviest.iter().take(WEIGHTS_LISTED) {
                        tr data-row=(weight.feature.name) {
                            th { (weight.feature.name) }
                            td { (format!("{:.3}", weight.absolute)) }
                            (rate(Some(weight.absolute / all)))
                            td { (format!("{:+.3}", weight.towards_fraud)) }
                            td.text { (weight.feature.doc) }
                        }
                    }
                }
            }
        }
    }
}

fn accounts(report: &Report<'_>) -> Markup {
    let (episodes, whole) = (&report.figures.episodes, &report.figures.whole);
    let line = |name: &str, what: &str, volume: &Volume| {
        html! {
            tr data-row=(name) {
                th { (what) } (count("decisions", volume.count)) (money("amount", volume))
                td {
                    @for (nth, (currency, part)) in volume.share_of(&whole.fraud).into_iter().enumerate() {
                        @if nth > 0 { br; }
                        (percent(Some(part))) " of " (currency)
                    }
                }
            }
        }
    };
    html! {
        section {
            h2 { "Accounts and episodes" }
            p {
                (episodes.accounts_caught()) " of " (episodes.accounts()) " accounts with fraud were caught ("
                (percent(episodes.account_detection_rate())) "), in " (episodes.episodes_caught) " of "
                (episodes.episodes) " episodes. " (episodes.accounts_wronged())
                " accounts had a genuine transaction declined or asked to step up for suspicion."
            }
            table data-table="episode" {
                thead { tr { th { "fraud" } th { "transactions" } th { "amount" } th { "of the fraud's money" } } }
                tbody {
                    (line("lost", "lost before the first decline for suspicion of its episode", &episodes.lost))
                    (line("saved", "saved from that decline on", &episodes.saved))
                    (line("step-ups", "asked to step up before it", &episodes.step_ups))
                    (line("stopped-otherwise", "declined before it for credit or status", &episodes.stopped_otherwise))
                }
                tfoot { (line("all", "all", &whole.fraud)) }
                caption {
                    "An episode is a run of frauds of one account, at most " (EPISODE_GAP_DAYS) " days from one to the \
                     next. It is caught at its first fraud that is declined or asked to step up for suspicion. What \
                     comes from the first such decline on counts as saved, because an issuer stops the account there. A \
                     step-up stops no account, and whether a fraudster gets through it is not known: what was asked to \
                     step up before that decline stands on its own."
                }
            }
        }
    }
}

/// By amount. Of several currencies each stands on its own, with all its bands: those of one say nothing of another's.
fn by_amount(report: &Report<'_>, has_labels: bool) -> Markup {
    let whole = &report.figures.whole;
    let mut currencies = BTreeMap::<Option<Currency>, (Slice, Vec<(Band, &Slice)>)>::new();
    for (band, slice) in report.figures.slices.bands() {
        let (sum, bands) = currencies.entry(band.map(|band| band.currency)).or_default();
        sum.merge(slice);
        bands.extend(band.map(|band| (band, slice)));
    }
    let sums = currencies.iter().map(|(currency, (sum, _))| {
        (currency.map_or("no amount".to_owned(), |currency| currency.to_string()), sum)
    });
    let sums: Vec<_> = sums.collect();
    let block = |bands: &[(Band, &Slice)]| {
        let name = |band: &Band| format!("{} {}", band.currency, band.name());
        let rows: Vec<_> = bands.iter().map(|(band, slice)| (name(band), *slice)).collect();
        let bars: Vec<_> = bands.iter().map(|(band, slice)| (band.short_name(), (*slice).clone())).collect();
        html! {
            div.pair { (two_plots(HALF, "by amount, in major units", &bars, has_labels)) }
            (all_slices("amount", "amount in major units", has_labels, &rows, None))
        }
    };
    html! {
        section {
            h2 { "By amount" }
            (all_slices("currency", "currency", has_labels, &sums, Some(whole)))
            @for (currency, (_, bands)) in &currencies {
                @if let Some(currency) = currency { h3 { (currency) } (block(bands)) }
            }
        }
    }
}

fn cuts(report: &Report<'_>, has_labels: bool) -> Markup {
    let (cuts, whole) = (&report.figures.slices, &report.figures.whole);
    let unnamed = || "not given".to_owned();
    let mccs = cuts
        .mccs()
        .into_iter()
        .map(|(mcc, slice)| (mcc.map_or_else(unnamed, |mcc| format!("{mcc:04}")), slice));
    let countries = cuts.countries().into_iter();
    let countries = countries
        .map(|(country, slice)| (country.map_or_else(unnamed, |country| country.as_str().to_owned()), slice));
    let hours = cuts.hours().iter().enumerate().map(|(hour, slice)| (format!("{hour:02}"), slice));
    let (mccs, countries): (Vec<_>, Vec<_>) = (mccs.collect(), countries.collect());
    let hours: Vec<_> = hours.collect();
    let owned = |slices: &[(String, &Slice)]| {
        slices.iter().map(|(name, slice)| (name.clone(), (*slice).clone())).collect::<Vec<_>>()
    };
    html! {
        (by_amount(report, has_labels))
        section {
            h2 { "By hour of the day" }
            div.pair { (two_plots(HALF, "by hour, UTC", &owned(&hours), has_labels)) }
            (slices("hour", "hour, UTC", has_labels, &hours, whole))
        }
        section { h2 { "By merchant category" } (slices("mcc", "MCC", has_labels, &mccs, whole)) }
        section { h2 { "By the merchant's country" } (slices("country", "country", has_labels, &countries, whole)) }
    }
}

fn changes(against: &Against<'_>, report: &Report<'_>, has_labels: bool) -> Markup {
    let frauds = report.figures.whole.fraud.count;
    html! {
        section {
            h2 { "Against rules " (against.before.version) }
            p {
                (grouped(i128::from(against.changed()))) " of " (grouped(i128::from(against.compared)))
                " decisions change from rules " (against.before.version) " to " (against.after.version) ", "
                (grouped(i128::from(against.followed))) " of them on accounts where one had changed before."
            }
            table data-table="sides" {
                thead {
                    tr {
                        th { "the same history under" } th { "declined" } th { "of all" }
                        th { "asked to step up" } th { "of all" }
                        @if has_labels { th { "of fraud caught" } th { "of genuine wronged" } }
                    }
                }
                tbody {
                    @for (name, rules, whole) in against.sides() {
                        @let [declined, step_ups, caught, wronged] = rates(whole);
                        tr data-row=(name) {
                            th { (name) ", " (rules.version) }
                            td { (grouped(i128::from(whole.declined.count))) } td { (declined) }
                            td { (grouped(i128::from(whole.step_ups.count))) } td { (step_ups) }
                            @if has_labels { td { (caught) } td { (wronged) } }
                        }
                    }
                }
            }
            @if against.changed() > 0 {
                div.wide {
                    table data-table="moves" {
                        (yield_head("before → after", has_labels, false))
                        tbody {
                            @for ((before, after), moved) in &against.moves {
                                tr data-row={ (before.name()) " " (after.name()) } {
                                    th { (named(*before)) " → " (named(*after)) }
                                    (yield_cells(moved, frauds, has_labels, None))
                                }
                            }
                        }
                    }
                    table data-table="causes" {
                        (yield_head("first change of an account, by cause", has_labels, false))
                        tbody {
                            @for (cause, moved) in &against.causes {
                                tr data-row=(cause) { th { (cause) } (yield_cells(moved, frauds, has_labels, None)) }
                            }
                        }
                        caption {
                            "The rule that fires in one of the files alone; “without” it where it fired before. What \
                             changes later on an account may follow from its first change."
                        }
                    }
                    h3 { "The first of them" }
                    table {
                        thead {
                            tr {
                                th { "transaction" } th.text { "account" } th.text { "before" } th.text { "after" }
                                th.text { "cause" } th.text { "account changed since" }
                            }
                        }
                        tbody {
                            @for change in &against.shown {
                                tr {
                                    th { (change.transaction_id) } td.text { (change.account) }
                                    td.text { (change.before) } td.text { (change.after) } td.text { (change.cause) }
                                    td.text { (change.first.as_deref().unwrap_or_default()) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn conditions(report: &Report<'_>) -> Markup {
    let args = report.args;
    let took = report.took.as_secs_f64();
    let entry = |name: &str, value: Markup| html! { tr { th { (name) } td.text { (value) } } };
    html! {
        section {
            h2 { "Conditions" }
            table {
                tbody {
                    (entry("program", html! { "saker " (env!("CARGO_PKG_VERSION")) }))
                    @for input in report.inputs {
                        (entry(input.option, html! {
                            (input.name) br; code { "BLAKE3 " (input.fingerprint) }
                        }))
                    }
                    @if args.model.as_deref().is_some_and(|model| model == std::path::Path::new("none")) {
                        (entry("--model", html! { "none" }))
                    }
                    (entry("decided by", html! { (report.versions()) }))
                    (entry("rows", html! {
                        (grouped(i128::from(report.origin.rows)))
                        @if let Some(limit) = args.limit { ", at most " (grouped(i128::from(limit))) " (--limit)" }
                        @if report.origin.is_sorted { ", sorted by time first" }
                    }))
                    @if let Some((first, last)) = report.origin.period {
                        (entry("time span", html! { (first) " to " (last) }))
                    }
                    @if args.transactions.is_some() && args.accounts.is_none() {
                        (entry("--default-limit", html! { (args.default_limit) " of the row's currency" }))
                    }
                    (entry("--label-delay", html! { (args.label_delay) " days" }))
                    (entry("--observe", html! { (if args.observe { "yes" } else { "no" }) }))
                    (entry("took", html! {
                        (format!("{took:.1} s, {} transactions/s", grouped(report.per_second() as i128)))
                    }))
                }
            }
            @for skipped in &report.origin.skipped { p.note { "passed over: " (skipped) } }
            @for note in &report.origin.notes { p.note { (note) } }
        }
    }
}

//! What rules and aggregates cost: `cargo bench --locked --bench rules`.
//!
//! Measured, in one run on one core: the evaluation of 20 rules over 35 fields and of 200 rules, over 512 different
//! transactions in turn (a tenth of the values missing), by the compiled program, by closures written by hand and by
//! the interpreter of the `cel` crate; and one reading and one recording of an account's history with ten declared
//! aggregates and with none. Each figure is the least of seven rounds. Not measured: computing features, decisions.
//!
//! The three must agree on every rule and transaction, and evaluating must allocate nothing. Without `--bench` (that
//! is, under `cargo test`) it runs small and checks both.

#[path = "../decision/allocations.rs"]
mod allocations;
mod conditions;
#[path = "../life.rs"]
mod draw;
mod facts;

use std::{hint::black_box, time::Instant};

use facts::Facts;
use saker::{
    features::{AccountFacts, History, Moment, Plan, event_of, values::Values},
    rules::{self, Hits, ListsInForce, RuleSet, Seen},
    types::time::{DAY_MS, Timestamp},
};

#[global_allocator]
static ALLOCATOR: allocations::Counted = allocations::Counted;

/// The bars: nanoseconds for 20 rules, for 200, and for ten aggregates.
const BARS_NS: [f64; 3] = [150.0, 2_000.0, 1_000.0];
const ROUNDS: usize = 7;

fn main() {
    let small = !std::env::args().any(|argument| argument == "--bench");
    let transactions = if small { 16 } else { 512 };
    let mut draw = draw::Draw(7);
    let all: Vec<Facts> = (0..transactions).map(|_| Facts::draw(&mut draw)).collect();
    println!("{} fields, {transactions} transactions", facts::NAMES.len());
    println!("| rules | compiled, ns | bar | closures, ns | cel, ns | to closures | cel to compiled |");
    println!("|---|---|---|---|---|---|---|");
    for (variants, bar_ns) in [(1, BARS_NS[0]), (10, BARS_NS[1])] {
        let [compiled, closures, interpreted] = evaluation(&all, variants, small);
        println!(
            "| {} | {compiled:.0} | {bar_ns:.0} | {closures:.0} | {interpreted:.0} | {:.2} | {:.0} |",
            20 * variants,
            compiled / closures,
            interpreted / compiled
        );
    }
    let [none, ten] = [0, 10].map(|aggregates| history_ns(aggregates, small));
    println!(
        "a reading and a recording of a history: {none:.0} ns with the built-in windows alone, {ten:.0} ns with ten \
         aggregates besides; the ten cost {:.0} ns, bar {:.0}",
        ten - none,
        BARS_NS[2]
    );
}

/// A file of flag rules.
fn file_of(conditions: &[String]) -> String {
    let mut file = String::from("version = 1\n");
    for (number, when) in conditions.iter().enumerate() {
        file += &format!("[[rules]]\nid = 'r{number}'\nwhen = '''{when}'''\nthen = 'flag'\nreason = 'R'\n");
    }
    file
}

/// Nanoseconds of all rules over one transaction: compiled, closures, interpreted.
fn evaluation(all: &[Facts], variants: i64, small: bool) -> [f64; 3] {
    let usd = draw::usd();
    let ours: Vec<String> = (0..variants)
        .flat_map(|variant| conditions::texts(variant, |minor| format!("{}.{:02}", minor / 100, minor % 100)))
        .collect();
    let theirs = (0..variants).flat_map(|variant| conditions::texts(variant, |minor| minor.to_string()));
    let rules: RuleSet = rules::compile("bench.toml", &file_of(&ours)).expect("the rules compile");
    let closures: Vec<conditions::Closure> = (0..variants).flat_map(conditions::closures).collect();
    let programs: Vec<cel::Program> =
        theirs.map(|text| cel::Program::compile(&text).expect("the conditions are CEL")).collect();

    let lists = ListsInForce::default();
    let seen = Seen { lists: &lists, now: Timestamp(0) };
    let mut hits = Hits::default();
    let mut fired = 0;
    let mut draw = draw::Draw(8);
    for facts in (0..500).map(|_| Facts::draw(&mut draw)) {
        let (values, context) = (facts.values(), facts.context());
        rules.evaluate(&values, usd, seen, &mut hits);
        for (rule, when) in ours.iter().enumerate() {
            let is_fired = hits.is_fired(rule);
            assert_eq!(is_fired, closures[rule](&facts), "{when}: {facts:?}");
            let interpreted = programs[rule].execute(&context);
            assert_eq!(is_fired, interpreted == Ok(cel::Value::Bool(true)), "{when}: {facts:?}");
            fired += usize::from(is_fired);
        }
    }
    assert!(fired >= 20, "rules that hardly ever fire would be no test: {fired}");

    let values: Vec<Values> = all.iter().map(Facts::values).collect();
    let contexts: Vec<cel::Context> = all.iter().map(Facts::context).collect();
    let rounds = if small { 2 } else { 400 };
    let before = allocations::of_this_thread();
    let compiled = least_ns(rounds * all.len(), || {
        for _ in 0..rounds {
            for values in &values {
                rules.evaluate(black_box(values), usd, seen, &mut hits);
                black_box(&hits);
            }
        }
    });
    assert_eq!(allocations::of_this_thread() - before, 0, "evaluating allocates");
    let closed = least_ns(rounds * all.len(), || {
        for _ in 0..rounds {
            for facts in all {
                let facts = black_box(facts);
                let mut bits = [0_u64; 4];
                for (rule, closure) in closures.iter().enumerate() {
                    bits[rule / 64] |= u64::from(closure(facts)) << (rule % 64);
                }
                black_box(&bits);
            }
        }
    });
    let rounds = if small { 1 } else { 4 };
    let interpreted = least_ns(rounds * all.len(), || {
        for _ in 0..rounds {
            for context in &contexts {
                for program in &programs {
                    black_box(program.execute(black_box(context)).is_ok());
                }
            }
        }
    });
    [compiled, closed, interpreted]
}

/// The least time of one step among several rounds.
fn least_ns(steps: usize, mut round: impl FnMut()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        round();
        began.elapsed().as_nanos() as f64 / steps as f64
    });
    times.fold(f64::INFINITY, f64::min)
}

/// Aggregates of every kind and several lengths.
const AGGREGATES: [&str; 10] = [
    "by = 'card'\nwindow = '10m'\ncount = true",
    "by = 'card'\nwindow = '1h'\ncount = true",
    "by = 'card'\nwindow = '1h'\ncount = true\nwhere = \"outcome == 'declined' && !declined_for_credit\"",
    "by = 'card'\nwindow = '24h'\ncount = true\nwhere = \"outcome == 'declined' && !declined_for_credit\"",
    "by = 'card'\nwindow = '24h'\nsum = 'amount'",
    "by = 'account'\nwindow = '24h'\nsum = 'amount'\nwhere = \"channel == 'ecommerce'\"",
    "by = 'card'\nwindow = '30d'\nmean = 'amount'\nwhere = \"outcome == 'approved'\"",
    "by = 'card'\nwindow = '7d'\nmax = 'amount'",
    "by = 'account'\nwindow = '24h'\ndistinct = 'merchant.id'",
    "by = 'account'\nwindow = '7d'\ndistinct = 'merchant.country'",
];

/// Nanoseconds of one reading and one recording, for an account with two events a day.
fn history_ns(aggregates: usize, small: bool) -> f64 {
    const GAP_MS: i64 = DAY_MS / 2;
    let declared = AGGREGATES[..aggregates].iter().enumerate();
    let file: String = declared.map(|(number, body)| format!("[aggregates.a{number}]\n{body}\n")).collect();
    let rules =
        rules::compile("bench.toml", &format!("version = 1\n{file}")).expect("the aggregates compile");
    let plan = Plan::new(&rules.aggregates);
    let mut draw = draw::Draw(9);
    let requests = draw::requests(&mut draw, 25);
    let account = AccountFacts {
        account_id: "A-1",
        product: None,
        home_country: None,
        home: None,
        opened_on: None,
        currency: draw::usd(),
        credit_limit_minor: 500_000,
        limit_is_assumed: false,
        available_minor: 400_000,
    };
    let (mut history, mut now_ms, mut sequence) = (History::new(), 1_700_000_000_000, 0);
    let mut step = || {
        now_ms += 1 + draw.below(2 * GAP_MS as u64) as i64;
        sequence += 1;
        let request = &requests[draw.below(requests.len() as u64) as usize];
        let moment =
            Moment { request, account: &account, card: 1, card_token: None, time: Timestamp(now_ms) };
        let mut values = Values::new();
        history.read(&plan, &moment, &mut values);
        black_box(&values);
        let decision = draw.decision();
        history.record(&plan, event_of(&moment, sequence, decision, false));
    };
    (0..200).for_each(|_| step());
    let steps = if small { 50 } else { 400_000 };
    least_ns(steps, || (0..steps).for_each(|_| step()))
}

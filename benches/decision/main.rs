//! The decision alone, in process: `cargo bench --bench decision`.
//!
//! Measured: one core deciding with the shipped rules and model on 10,000 accounts whose windows are full (60 events and
//! their open holds each): nanoseconds per decision with the record encoded and dropped, and encoded into the journal's own
//! ring over a disk that keeps nothing; the same with the model as its own challenger; nanoseconds per stage; and heap
//! allocations per decision, counted by the allocator. Time goes on from decision to decision, so that holds expire,
//! events leave their windows and old answers are forgotten as fast as new ones come: the state is steady. Not
//! measured: the wire, the disk, cold caches of many accounts.
//!
//! Without `--bench` (that is, under `cargo test`) it runs small and fails where a decision allocates, so that neither can
//! rot.

mod allocations;
mod no_disk;
mod world;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use clap::Parser;
use saker::{
    authorise::{self, Asked, Attempt, Sink, Stage, Taken, Watch},
    features::{catalog::MODEL_FEATURES, shared::SharedRead},
    journal::{self, Class, Journal},
};

use allocations::Counted;
use no_disk::NoDisk;
use world::World;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

#[derive(Parser, Clone, Debug)]
#[command(name = "decision", about = "Measures the decision alone")]
struct Args {
    #[arg(long, default_value_t = 10_000)]
    accounts: u32,
    /// Decisions measured, after as many as the state needs to become steady.
    #[arg(long, default_value_t = 1_000_000)]
    decisions: u64,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Requests made ahead, so that making them is not measured.
const BLOCK: usize = 1_000;

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if !args.bench {
        args = Args { accounts: 20, decisions: 3_000, ..args };
    }
    let mut world = World::new(args.accounts, Dropped::default);
    decide(&mut world, world::decisions_to_settle(args.accounts), &mut (), Dropped::default);
    let plain = decide(&mut world, args.decisions, &mut (), Dropped::default);
    let mut stages = Stages::default();
    decide(&mut world, args.decisions, &mut stages, Dropped::default);
    world.challenge();
    let challenged = decide(&mut world, args.decisions, &mut (), Dropped::default);
    drop(world);

    let (journal, _) =
        journal::take(Arc::new(NoDisk::default()))?
            .open(journal::Options::default(), None, &mut |_| Ok(()))?;
    // Every buffer of the ring is allocated when it is used first.
    drop(std::iter::from_fn(|| journal.reserve(Class::Essential).ok()).collect::<Vec<_>>());
    let mut world = World::new(args.accounts, || slot(&journal));
    decide(&mut world, world::decisions_to_settle(args.accounts), &mut (), || slot(&journal));
    let ring = decide(&mut world, args.decisions, &mut (), || slot(&journal));

    println!(
        "{} decisions on {} accounts of {} events, {:.1} % approved; record of {} bytes",
        plain.decisions,
        args.accounts,
        world::EVENTS_PER_ACCOUNT,
        100.0 * plain.approved as f64 / plain.decisions as f64,
        plain.record_bytes / plain.decisions,
    );
    println!("record dropped:     {:6.0} ns a decision, {} allocations", plain.ns(), plain.allocations);
    println!(
        "with a challenger:  {:6.0} ns a decision, {} allocations",
        challenged.ns(),
        challenged.allocations
    );
    println!("into the ring:      {:6.0} ns a decision, {} allocations", ring.ns(), ring.allocations);
    for (stage, ns) in stages.mean_ns() {
        println!("  {:<16}  {ns:6.0} ns", stage.name());
    }
    let allocations = plain.allocations + challenged.allocations + ring.allocations;
    ensure!(allocations == 0, "{allocations} allocations where there must be none");
    Ok(())
}

/// What a run came to.
#[derive(Default)]
struct Figures {
    decisions: u64,
    approved: u64,
    record_bytes: u64,
    allocations: u64,
    time: Duration,
}

impl Figures {
    fn ns(&self) -> f64 {
        self.time.as_nanos() as f64 / self.decisions as f64
    }
}

/// Decides as the engine does, with a record into what `sink` gives.
fn decide<S: Sink>(
    world: &mut World,
    decisions: u64,
    watch: &mut impl Watch,
    sink: impl Fn() -> S,
) -> Figures {
    let mut figures = Figures::default();
    let mut block = Vec::with_capacity(BLOCK);
    while figures.decisions < decisions {
        world.requests(BLOCK, &mut block);
        let mut position = 0;
        let allocated = allocations::of_this_thread();
        let began = Instant::now();
        for (request, now) in &block {
            let asked = Asked { client: 0, now: *now, original: None };
            let (parts, owner) = authorise::parts_of(&world.state.store, &world.setup.shared, request);
            let shared =
                SharedRead { owner, ..SharedRead::of(&world.shared, &world.setup.shared, &parts, *now) };
            match authorise::authorise(
                &world.state,
                &world.setup,
                Attempt { request, asked, shared: &shared, features: MODEL_FEATURES, observed: None },
                sink(),
                watch,
            ) {
                Taken::Decided(answer, _) => {
                    position = answer.position;
                    figures.approved += u64::from(answer.approved.is_some_and(|money| money.minor > 0));
                    black_box(answer);
                }
                _ => panic!("every key is new and every account has room"),
            }
        }
        figures.time += began.elapsed();
        figures.allocations += allocations::of_this_thread() - allocated;
        figures.decisions += BLOCK as u64;
        figures.record_bytes += RECORD_BYTES.replace(0);
        world.forget(position);
    }
    figures
}

fn slot(journal: &Journal) -> journal::Slot<'_> {
    loop {
        match journal.reserve(Class::Authorisation) {
            Ok(slot) => return slot,
            Err(_) => std::thread::yield_now(),
        }
    }
}

std::thread_local! {
    /// The one buffer of records that are dropped, and how many bytes went through it.
    static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(Vec::with_capacity(16 * 1024));
    static RECORD_BYTES: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    static SEQUENCE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A record that is encoded and then dropped.
struct Dropped(Vec<u8>);

impl Default for Dropped {
    fn default() -> Dropped {
        Dropped(BUFFER.take())
    }
}

impl Sink for Dropped {
    fn take_sequence(&mut self) -> u64 {
        SEQUENCE.set(SEQUENCE.get() + 1);
        SEQUENCE.get()
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    fn publish(mut self) {
        RECORD_BYTES.set(RECORD_BYTES.get() + black_box(&self.0).len() as u64);
        self.0.clear();
        BUFFER.set(std::mem::take(&mut self.0));
    }
}

/// The time of each stage; reading the clock is part of it.
#[derive(Default)]
struct Stages {
    last: Option<Instant>,
    total: [Duration; Stage::ALL.len()],
    decisions: u64,
}

impl Watch for Stages {
    fn ended(&mut self, stage: Stage) {
        let now = Instant::now();
        if let Some(last) = self.last.filter(|_| stage != Stage::Lookup) {
            self.total[stage as usize] += now - last;
        }
        self.decisions += u64::from(stage == Stage::Record);
        self.last = Some(now);
    }
}

impl Stages {
    /// The lookup of a key is not among them: nothing says when it begins.
    fn mean_ns(&self) -> impl Iterator<Item = (Stage, f64)> {
        let clock = self.clock_ns();
        Stage::ALL.into_iter().filter(|stage| *stage != Stage::Lookup).map(move |stage| {
            let total_ns = self.total[stage as usize].as_nanos() as f64;
            (stage, (total_ns / self.decisions as f64 - clock).max(0.0))
        })
    }

    /// What one reading of the clock takes.
    fn clock_ns(&self) -> f64 {
        const READINGS: u32 = 10_000;
        let began = Instant::now();
        for _ in 0..READINGS {
            black_box(Instant::now());
        }
        began.elapsed().as_nanos() as f64 / f64::from(READINGS)
    }
}

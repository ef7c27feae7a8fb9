//! The handle through which the engine counts, and the text that Prometheus scrapes.
//!
//! Counters and gauges live in the registry of `metrics-exporter-prometheus`, with handles taken once; what the
//! decision path counts is gathered from the lanes at each scrape. Histograms are rendered here from the lanes' own
//! buckets and never enter that registry: it keeps every raw sample with a time stamp until upkeep and has no way to
//! take a count, so that 300,000 decisions a second with nine durations each would mean 43 MB/s and as many clock
//! readings, for buckets that are already counted. There is no global recorder: several engines can live in one
//! process.

use std::{collections::HashMap, fmt::Write, num::NonZero, sync::Arc, thread, time::Instant};

use arc_swap::ArcSwapOption;
use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;

use super::{
    calibration::{Calibration, ScoreLabelled},
    calls::{Call, CallResult},
    drift::{self, DriftCounts},
    group::ReasonGroup,
    lanes::{Buckets, DecisionSeen, LaneCounts, NS_PER_SECOND, Stage, response_code_labels},
    metrics::{self as table, FAMILIES, Family, Kind},
    process::Usage,
    rules::{LoadedRule, RuleCounts, RuleSeries},
};
use crate::{
    model::drift::Reference,
    types::{
        auth::Degraded,
        challenge::Declining,
        codes::{Decision, ResponseCode},
        lists::FraudLabel,
        money::Currency,
    },
};

/// What an engine can say of itself at a moment; read at each scrape.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Live {
    /// Records that wait to be durable, and for how long the oldest has waited.
    pub queue_records: u64,
    pub queue_age_us: u64,
    pub published_position: u64,
    pub durable_position: u64,
    /// Bytes left on the file system of the data directory, where it says.
    pub disk_free_bytes: Option<u64>,
    pub accounts: u64,
    pub cards: u64,
    /// As the sweeper last counted them.
    pub holds: u64,
    /// As the sweeper last counted it: minor units by currency.
    pub held_minor: Vec<(Currency, i128)>,
    /// The lists that the rules declare.
    pub lists: Vec<ListCounts>,
    pub lists_aside: u64,
    pub answers_remembered: u64,
    pub answers_capacity: u64,
    pub answers_on_disk: u64,
    pub key_files: u64,
    pub key_filter_bytes: u64,
    /// Windows across accounts: records behind the last durable one, and what they hold.
    pub shared_lag_records: u64,
    pub shared_unfilled_records: u64,
    pub shared_keys: u64,
    pub shared_bytes: u64,
    pub shared_evicted: u64,
    pub shared_saturated: u64,
    /// How far engine time is ahead of the clock.
    pub time_lead_ms: i64,
    /// The clock is too far ahead to be believed.
    pub clock_doubted: bool,
    /// The next segment of the journal cannot be prepared.
    pub disk_low: bool,
    /// And the present one is used up.
    pub disk_full: bool,
    /// A write or sync takes too long.
    pub disk_stalled: bool,
    /// A write or sync has failed: the process ends.
    pub journal_stopped: bool,
    pub serving_authorisation: bool,
    pub serving_others: bool,
    pub degraded: Degraded,
}

/// The values of one list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListCounts {
    pub list: String,
    pub in_file: u64,
    pub added: u64,
    pub taken_out: u64,
}

/// The counts of one engine. Cloning shares them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

type LiveProbe = Box<dyn Fn() -> Option<Live> + Send + Sync>;

struct Inner {
    lanes: Box<[LaneCounts]>,
    journal: JournalCounts,
    registry: Registry,
    look_up_time: Buckets,
    /// In the order of [`LookUp`].
    look_ups: [Counter; 3],
    /// In the order of [`KeyFileMade`].
    key_files_made: [Counter; 2],
    voided: Counter,
    unanswered_holds: Counter,
    expired_on_touch: Counter,
    expired_by_sweeper: Counter,
    snapshots_failed: Counter,
    snapshots_without_room: Counter,
    rules_reloads: [Counter; 4],
    model_reloads: NamedCounters,
    /// In the order of [`ConfiguredFile`].
    files_missing: [Gauge; 4],
    guard_missed: Counter,
    errors: NamedCounters,
    shed: NamedCounters,
    changes: NamedCounters,
    labels: NamedCounters,
    challenge_labels: NamedCounters,
    calibration: Calibration,
    live: ArcSwapOption<LiveProbe>,
    versions: Mutex<Versions>,
    scrape: Mutex<Scrape>,
    started: Instant,
}

/// What became of looking a key up on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LookUp {
    Found = 0,
    /// A filter had said maybe.
    Absent = 1,
    Failed = 2,
}

/// Why a key file was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyFileMade {
    First = 0,
    /// The one before was missing or damaged.
    Again = 1,
}

/// What became of reading rules or a model anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadAnew {
    Loaded = 0,
    /// They decided already.
    Unchanged = 1,
    /// The file is wrong.
    Refused = 2,
    /// The file cannot be read, or the new version not be kept.
    Failed = 3,
}

impl ReadAnew {
    const NAMES: [&str; 4] = ["loaded", "unchanged", "refused", "failed"];
}

/// What a file that the settings, or the rules, name is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfiguredFile {
    Rules = 0,
    /// Of the rules.
    List = 1,
    Model = 2,
    Challenger = 3,
}

impl ConfiguredFile {
    const ALL: [ConfiguredFile; 4] =
        [ConfiguredFile::Rules, ConfiguredFile::List, ConfiguredFile::Model, ConfiguredFile::Challenger];

    /// The label's value.
    pub fn name(self) -> &'static str {
        ["rules", "list", "model", "challenger"][self as usize]
    }
}

/// What the guard made of a rule that declines far more than before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuardVerdict {
    /// Set to shadow.
    Demoted,
    /// Left live, and told of.
    Alerted,
}

/// What the journal's one thread counts.
struct JournalCounts {
    sync_time: Buckets,
    write_time: Buckets,
    group_size: Buckets,
    written_bytes: Counter,
}

#[derive(Default)]
struct Versions {
    rules: String,
    /// Rule, mode and estimated cost of those that are loaded.
    rule_costs: Vec<(String, &'static str, u32)>,
    model: String,
    drift: Option<DriftCounts>,
    challenger: String,
    config: String,
}

/// What a scrape remembers from one time to the next.
#[derive(Default)]
struct Scrape {
    calls: HashMap<(Call, CallResult), Counter>,
    decisions: HashMap<(Decision, ReasonGroup), Counter>,
    response_codes: HashMap<usize, Counter>,
    rules: RuleSeries,
    held: HashMap<Currency, Gauge>,
    /// By list and where its values come from; bounded like those of rules.
    lists: HashMap<(String, &'static str), Gauge>,
}

/// The calls that [`Metrics::changed`] is told of.
const CHANGES: [&str; 8] = [
    "reverse",
    "upsert",
    "set_account_status",
    "set_card_status",
    "set_credit_limit",
    "set_rule_mode",
    "update_list",
    "label_transaction",
];
/// Series of lists that one process may come to; lists beyond it are not shown.
const LIST_SERIES_MAX: usize = 3 * 128;
/// Series of one family whose labels the program itself names.
const NAMED_SERIES_MAX: usize = 128;

impl Metrics {
    /// Counts for `lanes` runtimes; a lane beyond that shares one with another.
    pub fn new(lanes: usize) -> Metrics {
        let registry = Registry::new();
        let counter = |family: &Family| registry.counter(family, &[]);
        let expired = |by| registry.counter(&table::EXPIRED_HOLDS, &[by]);
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        registry.gauge(&table::CORES, &[]).set(cores as f64);
        registry.gauge(&table::BUILD, &[env!("CARGO_PKG_VERSION"), build]).set(1.0);
        let metrics = Metrics(Arc::new(Inner {
            lanes: (0..lanes.max(1)).map(|_| LaneCounts::new()).collect(),
            journal: JournalCounts {
                sync_time: Buckets::new(&table::SYNC_TIME, NS_PER_SECOND),
                write_time: Buckets::new(&table::WRITE_TIME, NS_PER_SECOND),
                group_size: Buckets::new(&table::GROUP_SIZE, 1.0),
                written_bytes: counter(&table::JOURNAL_BYTES),
            },
            look_up_time: Buckets::new(&table::LOOK_UP_TIME, NS_PER_SECOND),
            look_ups: ["found", "absent", "failed"].map(|label| registry.counter(&table::LOOK_UPS, &[label])),
            key_files_made: ["first", "again"]
                .map(|label| registry.counter(&table::KEY_FILES_MADE, &[label])),
            voided: counter(&table::VOIDED),
            unanswered_holds: counter(&table::UNANSWERED_HOLDS),
            expired_on_touch: expired("touch"),
            expired_by_sweeper: expired("sweeper"),
            snapshots_failed: registry.counter(&table::SNAPSHOT_FAILURES, &["failed"]),
            snapshots_without_room: registry.counter(&table::SNAPSHOT_FAILURES, &["no_room"]),
            rules_reloads: ReadAnew::NAMES.map(|label| registry.counter(&table::RULES_RELOADS, &[label])),
            model_reloads: NamedCounters::new(table::MODEL_RELOADS),
            files_missing: ConfiguredFile::ALL
                .map(|file| registry.gauge(&table::FILES_MISSING, &[file.name()])),
            guard_missed: counter(&table::GUARD_MISSED),
            errors: NamedCounters::new(table::ERRORS),
            shed: NamedCounters::new(table::SHED),
            changes: NamedCounters::new(table::CHANGES),
            labels: NamedCounters::new(table::LABELS),
            challenge_labels: NamedCounters::new(table::CHALLENGE_LABELS),
            calibration: Calibration::default(),
            live: ArcSwapOption::empty(),
            versions: Mutex::default(),
            scrape: Mutex::default(),
            started: Instant::now(),
            registry,
        }));
        for result in ReadAnew::NAMES {
            metrics.0.model_reloads.add(&metrics.0.registry, ["model", result], 0);
            metrics.0.model_reloads.add(&metrics.0.registry, ["challenger", result], 0);
        }
        for declining in Declining::ALL {
            FraudLabel::ALL.iter().for_each(|label| metrics.count_challenge_labels(declining, *label, 0));
        }
        FraudLabel::ALL.iter().for_each(|label| metrics.count_labels(label.name(), 0));
        CHANGES.iter().for_each(|call| metrics.count_changes(call, 0));
        for code in ResponseCode::OF_ANSWERS {
            let _ = metrics.0.registry.counter(&table::RESPONSE_CODES, &[code.as_str()]);
        }
        metrics
    }

    fn lane(&self, lane: usize) -> &LaneCounts {
        &self.0.lanes[lane % self.0.lanes.len()]
    }

    /// A call ended, `total_ns` after its headers.
    pub fn call_ended(&self, lane: usize, call: Call, result: CallResult, total_ns: u64) {
        self.lane(lane).call_ended(call, result, total_ns);
    }

    /// An authorisation was decided for the first time.
    pub fn decided(&self, lane: usize, seen: &DecisionSeen) {
        self.lane(lane).decided(seen);
    }

    /// An answer is durable and was released, `total_ns` after its request arrived.
    pub fn answered(&self, lane: usize, total_ns: u64) {
        self.lane(lane).answer_time.record(total_ns);
    }

    /// A repeat was answered with the answer given before.
    pub fn replayed(&self, lane: usize) {
        self.lane(lane).replayed();
    }

    /// A request was declined 94: a known key with another body.
    pub fn duplicate_key(&self, lane: usize) {
        self.lane(lane).duplicate_key();
    }

    /// A call other than an authorisation changed state; `call` is its name in lower case, such as `reverse`.
    pub fn changed(&self, call: &'static str) {
        debug_assert!(CHANGES.contains(&call), "{call} is not shown before its first time");
        self.count_changes(call, 1);
    }

    fn count_changes(&self, call: &'static str, count: u64) {
        self.0.changes.add(&self.0.registry, [call, ""], count);
    }

    /// A transaction was labelled; `label` as [`FraudLabel::name`] has it.
    pub fn labelled(&self, label: &'static str) {
        self.count_labels(label, 1);
    }

    /// A label came for a transaction that a challenger had scored too.
    pub fn challenge_labelled(&self, declining: Declining, label: FraudLabel) {
        self.count_challenge_labels(declining, label, 1);
    }

    /// A label came that had not come before for a transaction, which the model that scores now had scored.
    pub fn score_labelled(&self, labelled: ScoreLabelled) {
        self.0.calibration.labelled(labelled);
    }

    fn count_challenge_labels(&self, declining: Declining, label: FraudLabel, count: u64) {
        self.0.challenge_labels.add(&self.0.registry, [declining.name(), label.name()], count);
    }

    fn count_labels(&self, label: &'static str, count: u64) {
        self.0.labels.add(&self.0.registry, [label, ""], count);
    }

    /// A call or an item ended in a gRPC error: the status code by name and the reason of its `ErrorInfo`.
    pub fn failed(&self, code: &'static str, reason: &'static str) {
        self.0.errors.add(&self.0.registry, [code, reason], 1);
    }

    /// A call or an item was refused for too much load, before any state changed; `cause` is what was full.
    pub fn shed(&self, cause: &'static str) {
        self.0.shed.add(&self.0.registry, [cause, ""], 1);
    }

    /// What [`Metrics::failed`] may count, by code and reason: shown as 0 until it does, so that the first one is seen
    /// to rise.
    pub fn expect_failures(&self, failures: impl IntoIterator<Item = (&'static str, &'static str)>) {
        for (code, reason) in failures {
            self.0.errors.add(&self.0.registry, [code, reason], 0);
        }
    }

    /// What [`Metrics::shed`] may count; shown as 0 until it does.
    pub fn expect_shed(&self, causes: &[&'static str]) {
        for cause in causes {
            self.0.shed.add(&self.0.registry, [cause, ""], 0);
        }
    }

    /// The rules of a running engine were read anew.
    pub fn rules_read(&self, result: ReadAnew) {
        self.0.rules_reloads[result as usize].increment(1);
    }

    /// A model of a running engine was read anew; `model` is which one.
    pub fn model_read(&self, model: &'static str, result: ReadAnew) {
        self.0.model_reloads.add(&self.0.registry, [model, ReadAnew::NAMES[result as usize]], 1);
    }

    /// So many of the configured files of a kind are not there.
    pub fn files_missing(&self, kind: ConfiguredFile, count: usize) {
        self.0.files_missing[kind as usize].set(count as f64);
    }

    /// The guard judged a rule.
    pub fn guard_judged(&self, rule: &str, verdict: GuardVerdict) {
        let label = match verdict {
            GuardVerdict::Demoted => "demoted",
            GuardVerdict::Alerted => "alerted",
        };
        let rule = self.0.scrape.lock().rules.name_of(rule);
        self.0.registry.counter(&table::GUARD_VERDICTS, &[&rule, label]).increment(1);
    }

    /// A decline came that the guard's queue had no room for.
    pub fn guard_missed(&self) {
        self.0.guard_missed.increment(1);
    }

    /// How many authorisations were decided so far.
    pub fn decided_so_far(&self) -> u64 {
        self.0.lanes.iter().map(LaneCounts::decided_so_far).sum()
    }

    /// A decision was voided because its deadline passed before its answer was handed over.
    pub fn voided(&self) {
        self.0.voided.increment(1);
    }

    /// A hold was placed and nobody was there to take the answer.
    pub fn unanswered_hold(&self) {
        self.0.unanswered_holds.increment(1);
    }

    /// Holds reached their deadline and were found by the next touch of their account.
    pub fn expired_on_touch(&self, holds: u64) {
        self.0.expired_on_touch.increment(holds);
    }

    /// Holds reached their deadline and were found by the sweeper.
    pub fn expired_by_sweeper(&self, holds: u64) {
        self.0.expired_by_sweeper.increment(holds);
    }

    /// A key was looked up on disk.
    pub fn looked_up(&self, look_up: LookUp, took_ns: u64) {
        self.0.look_ups[look_up as usize].increment(1);
        self.0.look_up_time.record(took_ns);
    }

    /// The key file of a segment was made.
    pub fn key_file_made(&self, made: KeyFileMade) {
        self.0.key_files_made[made as usize].increment(1);
    }

    /// The journal made one group durable.
    pub fn group_synced(&self, records: u64, bytes: u64, write_ns: u64, sync_ns: u64) {
        let journal = &self.0.journal;
        journal.group_size.record(records);
        journal.written_bytes.increment(bytes);
        journal.write_time.record(write_ns);
        journal.sync_time.record(sync_ns);
    }

    /// A snapshot was finished, so many seconds after 1970.
    pub fn snapshot_taken(&self, position: u64, bytes: u64, duration_s: f64, at_s: f64) {
        let set = |family: &Family, value: f64| self.0.registry.gauge(family, &[]).set(value);
        set(&table::SNAPSHOT_POSITION, position as f64);
        set(&table::SNAPSHOT_BYTES, bytes as f64);
        set(&table::SNAPSHOT_DURATION, duration_s);
        set(&table::SNAPSHOT_TIME, at_s);
    }

    /// A snapshot could not be taken, or was not, because it would have taken room that the journal needs.
    pub fn snapshot_failed(&self, for_want_of_room: bool) {
        match for_want_of_room {
            true => self.0.snapshots_without_room.increment(1),
            false => self.0.snapshots_failed.increment(1),
        }
    }

    /// What the start found: the position of the snapshot it began with (0 for none), records put back in force one by
    /// one behind it, the time for all, and snapshots not believed.
    pub fn recovered(&self, snapshot: u64, records: u64, seconds: f64, passed_over: usize) {
        let set = |family: &Family, value: f64| self.0.registry.gauge(family, &[]).set(value);
        set(&table::SNAPSHOT_POSITION, snapshot as f64);
        set(&table::RECOVERED_RECORDS, records as f64);
        set(&table::RECOVERY_TIME, seconds);
        set(&table::SNAPSHOTS_PASSED_OVER, passed_over as f64);
    }

    /// The start has found whether the process before closed its journal.
    pub fn begun_after_unclosed(&self, unclosed: bool) {
        self.0.registry.gauge(&table::PREVIOUS_END_UNCLEAN, &[]).set(f64::from(u8::from(unclosed)));
    }

    /// What answers for the figures of the moment, from now on. It is called at each scrape and returns `None` once
    /// its engine is gone.
    pub fn watch_live(&self, probe: impl Fn() -> Option<Live> + Send + Sync + 'static) {
        self.0.live.store(Some(Arc::new(Box::new(probe))));
    }

    /// These rules decide from now on, in the order of their places. What was counted under the ones before stays.
    pub fn rules_loaded(&self, version: &str, rules: &[LoadedRule<'_>]) -> RuleCounts {
        let counts = RuleCounts::new(self.0.lanes.len(), rules);
        self.0.scrape.lock().rules.load(&self.0.registry, counts.clone(), rules);
        let mut versions = self.0.versions.lock();
        version.clone_into(&mut versions.rules);
        versions.rule_costs =
            rules.iter().map(|rule| (rule.id.to_owned(), rule.mode, rule.cost_ns)).collect();
        drop(versions);
        counts
    }

    /// This model scores from now on; empty where none does. Gives where its decisions are counted, if it can be said what
    /// its training rows were like: where it scored already, those of before.
    pub fn model_loaded(&self, version: &str, reference: Option<&Arc<Reference>>) -> Option<DriftCounts> {
        let mut versions = self.0.versions.lock();
        if version != versions.model {
            version.clone_into(&mut versions.model);
            let counts = |reference| DriftCounts::new(self.0.lanes.len(), reference, Instant::now());
            versions.drift = reference.map(counts);
        }
        versions.drift.clone()
    }

    /// This model scores in shadow from now on; empty where none does.
    pub fn challenger_loaded(&self, version: &str) {
        version.clone_into(&mut self.0.versions.lock().challenger);
    }

    /// The hash of the settings that change decisions.
    pub fn configured(&self, decision_hash: &str) {
        decision_hash.clone_into(&mut self.0.versions.lock().config);
    }

    /// Everything in the text format of Prometheus 0.0.4.
    pub fn render(&self) -> String {
        let inner = &*self.0;
        // One scrape at a time: two that pass on the same counts would count them twice.
        let mut scrape = inner.scrape.lock();
        scrape.gather_lanes(inner);
        scrape.rules.gather(&inner.registry);
        if let Some(live) = inner.live.load().as_ref().and_then(|probe| probe()) {
            scrape.show(&inner.registry, &live);
        }
        inner.registry.gauge(&table::UPTIME, &[]).set(inner.started.elapsed().as_secs_f64());
        let usage = Usage::read();
        if let Some(usage) = usage {
            inner.registry.gauge(&table::RESIDENT_MEMORY, &[]).set(usage.resident_bytes as f64);
            inner.registry.gauge(&table::OPEN_FILES, &[]).set(usage.open_files as f64);
            let most = usage.open_files_max.map_or(f64::INFINITY, |most| most as f64);
            inner.registry.gauge(&table::OPEN_FILES_MAX, &[]).set(most);
            inner.registry.gauge(&table::START_TIME, &[]).set(usage.started_seconds);
        }
        let mut text = inner.registry.render();
        drop(scrape);
        if let Some(usage) = usage {
            // The registry's counters are integers; this one has a fraction.
            write_head(&mut text, &table::CPU_TIME);
            let _ = writeln!(text, "{} {}\n", table::CPU_TIME.name, usage.cpu_seconds);
        }
        inner.write_histograms(&mut text);
        let drift = inner.versions.lock().drift.clone();
        drift::write(&mut text, drift.map(|counts| counts.drift(Instant::now())).as_ref());
        inner.calibration.write(&mut text);
        inner.write_versions(&mut text);
        text
    }
}

impl Inner {
    fn write_histograms(&self, text: &mut String) {
        fn of_lanes<'a>(inner: &'a Inner, pick: impl Fn(&'a LaneCounts) -> &'a Buckets) -> Vec<&'a Buckets> {
            inner.lanes.iter().map(pick).collect()
        }
        let mut one = |family: &Family, per_unit: f64, shares: &[&Buckets]| {
            write_head(text, family);
            write_histogram(text, family, "", per_unit, shares);
            text.push('\n');
        };
        one(&table::SCORE_POINTS, 1.0, &of_lanes(self, |lane| &lane.score));
        one(&table::CHALLENGER_SCORE, 1.0, &of_lanes(self, |lane| &lane.challenger_score));
        one(&table::DECISION_TIME, NS_PER_SECOND, &of_lanes(self, |lane| &lane.decision_time));
        one(&table::ANSWER_TIME, NS_PER_SECOND, &of_lanes(self, |lane| &lane.answer_time));
        one(&table::SYNC_TIME, NS_PER_SECOND, &[&self.journal.sync_time]);
        one(&table::WRITE_TIME, NS_PER_SECOND, &[&self.journal.write_time]);
        one(&table::GROUP_SIZE, 1.0, &[&self.journal.group_size]);
        one(&table::LOOK_UP_TIME, NS_PER_SECOND, &[&self.look_up_time]);
        write_head(text, &table::STAGE_TIME);
        for stage in Stage::ALL {
            let label = format!("{}=\"{}\"", table::STAGE_TIME.labels[0], stage.name());
            let shares = of_lanes(self, |lane| &lane.stages[stage as usize]);
            write_histogram(text, &table::STAGE_TIME, &label, NS_PER_SECOND, &shares);
        }
        text.push('\n');
        write_head(text, &table::CALL_TIME);
        for call in Call::ALL.iter().copied().filter(|call| call.is_timed()) {
            let called = CallResult::ALL.iter().any(|result| self.calls(call, *result) > 0);
            // The main call is there from the start; one that nobody uses would be two dozen lines of zeroes.
            if called || call == Call::Authorise {
                let label = format!("{}=\"{}\"", table::CALL_TIME.labels[0], call.name());
                let shares: Vec<_> =
                    self.lanes.iter().filter_map(|lane| lane.call_time[call as usize].as_ref()).collect();
                write_histogram(text, &table::CALL_TIME, &label, NS_PER_SECOND, &shares);
            }
        }
        text.push('\n');
    }

    fn calls(&self, call: Call, result: CallResult) -> u64 {
        self.lanes.iter().map(|lane| lane.calls(call, result)).sum()
    }

    /// Versions are written here and not registered, because the registry would show every one there ever was.
    fn write_versions(&self, text: &mut String) {
        let versions = self.versions.lock();
        write_head(text, &table::RULE_COST);
        let Family { name, labels, .. } = table::RULE_COST;
        for (rule, mode, cost_ns) in &versions.rule_costs {
            let seconds = f64::from(*cost_ns) / NS_PER_SECOND;
            let _ = writeln!(text, "{name}{{{}=\"{rule}\",{}=\"{mode}\"}} {seconds}", labels[0], labels[1]);
        }
        text.push('\n');
        for (family, version) in [
            (table::RULES_VERSION, &versions.rules),
            (table::MODEL_VERSION, &versions.model),
            (table::CHALLENGER_VERSION, &versions.challenger),
            (table::CONFIG_HASH, &versions.config),
        ] {
            write_head(text, &family);
            let escaped = version.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = writeln!(text, "{}{{{}=\"{escaped}\"}} 1\n", family.name, family.labels[0]);
        }
    }
}

impl Scrape {
    fn gather_lanes(&mut self, inner: &Inner) {
        let total = |count: &dyn Fn(&LaneCounts) -> u64| inner.lanes.iter().map(count).sum::<u64>();
        for call in Call::ALL.iter().copied() {
            let counts = CallResult::ALL.map(|result| (result, inner.calls(call, result)));
            for (result, count) in counts {
                let labels = [call.name(), result.name()];
                self.calls
                    .entry((call, result))
                    .or_insert_with(|| inner.registry.counter(&table::CALLS, &labels))
                    .absolute(count);
            }
        }
        for decision in Decision::ALL.iter().copied() {
            for group in ReasonGroup::ALL {
                let count = total(&|lane| lane.decisions(decision, group));
                let labels = [&*decision.name().to_ascii_lowercase(), group.name()];
                self.decisions
                    .entry((decision, group))
                    .or_insert_with(|| inner.registry.counter(&table::DECISIONS, &labels))
                    .absolute(count);
            }
        }
        for (cell, code) in response_code_labels() {
            let count = total(&|lane| lane.response_code(cell));
            if count > 0 {
                self.response_codes
                    .entry(cell)
                    .or_insert_with(|| inner.registry.counter(&table::RESPONSE_CODES, &[&code]))
                    .absolute(count);
            }
        }
        for declining in Declining::ALL {
            let count = total(&|lane| lane.challenges(declining));
            inner.registry.counter(&table::CHALLENGES, &[declining.name()]).absolute(count);
        }
        for (is_declined, outcome) in [(false, "let_through"), (true, "declined")] {
            let count = total(&|lane| lane.control(is_declined));
            inner.registry.counter(&table::MODEL_CONTROL, &[outcome]).absolute(count);
        }
        inner.registry.counter(&table::REPLAYS, &[]).absolute(total(&|lane| lane.replays()));
        inner.registry.counter(&table::DUPLICATE_KEYS, &[]).absolute(total(&|lane| lane.duplicate_keys()));
    }

    fn show(&mut self, registry: &Registry, live: &Live) {
        let set = |family: &Family, labels: &[&str], value: f64| registry.gauge(family, labels).set(value);
        set(&table::QUEUE_LENGTH, &[], live.queue_records as f64);
        set(&table::QUEUE_AGE, &[], live.queue_age_us as f64 / 1e6);
        set(&table::PUBLISHED_POSITION, &[], live.published_position as f64);
        set(&table::DURABLE_POSITION, &[], live.durable_position as f64);
        if let Some(bytes) = live.disk_free_bytes {
            set(&table::DISK_FREE, &[], bytes as f64);
        }
        set(&table::ACCOUNTS, &[], live.accounts as f64);
        set(&table::CARDS, &[], live.cards as f64);
        set(&table::HOLDS, &[], live.holds as f64);
        set(&table::ANSWERS_REMEMBERED, &[], live.answers_remembered as f64);
        set(&table::ANSWERS_CAPACITY, &[], live.answers_capacity as f64);
        set(&table::ANSWERS_ON_DISK, &[], live.answers_on_disk as f64);
        set(&table::KEY_FILES, &[], live.key_files as f64);
        set(&table::KEY_FILTER_BYTES, &[], live.key_filter_bytes as f64);
        set(&table::SHARED_LAG, &[], live.shared_lag_records as f64);
        set(&table::SHARED_UNFILLED, &[], live.shared_unfilled_records as f64);
        set(&table::SHARED_KEYS, &[], live.shared_keys as f64);
        set(&table::SHARED_BYTES, &[], live.shared_bytes as f64);
        set(&table::SHARED_EVICTED, &[], live.shared_evicted as f64);
        set(&table::SHARED_SATURATED, &[], live.shared_saturated as f64);
        set(&table::TIME_LEAD, &[], live.time_lead_ms as f64 / 1e3);
        set(&table::CLOCK_DOUBTED, &[], f64::from(u8::from(live.clock_doubted)));
        set(&table::SERVING, &["authorisation"], f64::from(u8::from(live.serving_authorisation)));
        set(&table::SERVING, &["others"], f64::from(u8::from(live.serving_others)));
        for (trouble, is) in [
            ("low", live.disk_low),
            ("full", live.disk_full),
            ("stalled", live.disk_stalled),
            ("stopped", live.journal_stopped),
        ] {
            set(&table::DISK_TROUBLE, &[trouble], f64::from(u8::from(is)));
        }
        set(&table::DEGRADED, &["model"], f64::from(live.degraded.0 & Degraded::MODEL.0));
        // A currency in which nothing is held any more shows 0, not its last amount.
        self.held.values().for_each(|gauge| gauge.set(0.0));
        for (currency, minor) in &live.held_minor {
            self.held
                .entry(*currency)
                .or_insert_with(|| registry.gauge(&table::HELD_AMOUNT, &[currency.alpha()]))
                .set(*minor as f64);
        }
        set(&table::LISTS_ASIDE, &[], live.lists_aside as f64);
        // A list that is no longer declared shows 0.
        self.lists.values().for_each(|gauge| gauge.set(0.0));
        for ListCounts { list, in_file, added, taken_out } in &live.lists {
            for (from, count) in [("file", in_file), ("calls", added), ("taken_out", taken_out)] {
                let key = (list.clone(), from);
                if self.lists.len() >= LIST_SERIES_MAX && !self.lists.contains_key(&key) {
                    continue;
                }
                let register = || registry.gauge(&table::LIST_VALUES, &[list.as_str(), from]);
                self.lists.entry(key).or_insert_with(register).set(*count as f64);
            }
        }
    }
}

/// Counters whose labels are words of the program, registered when first met. Off the decision path.
struct NamedCounters {
    family: Family,
    counters: Mutex<HashMap<[&'static str; 2], Counter>>,
}

impl NamedCounters {
    fn new(family: Family) -> NamedCounters {
        NamedCounters { family, counters: Mutex::default() }
    }

    fn add(&self, registry: &Registry, mut labels: [&'static str; 2], count: u64) {
        let mut counters = self.counters.lock();
        if counters.len() >= NAMED_SERIES_MAX && !counters.contains_key(&labels) {
            labels = ["other", "other"];
        }
        let register = || registry.counter(&self.family, &labels[..self.family.labels.len()]);
        counters.entry(labels).or_insert_with(register).increment(count);
    }
}

/// The exporter's registry, described from the table.
pub(super) struct Registry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Registry {
    fn new() -> Registry {
        let recorder = PrometheusBuilder::new().build_recorder();
        for family in FAMILIES {
            match family.kind {
                Kind::Counter => recorder.describe_counter(family.name.into(), None, family.help.into()),
                Kind::Gauge | Kind::Info => {
                    recorder.describe_gauge(family.name.into(), None, family.help.into());
                }
                Kind::Histogram(_) => {}
            }
        }
        let handle = recorder.handle();
        Registry { recorder, handle }
    }

    pub(super) fn counter(&self, family: &Family, labels: &[&str]) -> Counter {
        debug_assert!(family.kind == Kind::Counter, "{}", family.name);
        self.recorder.register_counter(&key(family, labels), &METADATA)
    }

    fn gauge(&self, family: &Family, labels: &[&str]) -> Gauge {
        debug_assert!(matches!(family.kind, Kind::Gauge | Kind::Info), "{}", family.name);
        self.recorder.register_gauge(&key(family, labels), &METADATA)
    }

    fn render(&self) -> String {
        self.handle.render()
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

fn key(family: &Family, values: &[&str]) -> Key {
    assert_eq!(family.labels.len(), values.len(), "{}: one value for each label", family.name);
    let labels = family.labels.iter().zip(values).map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(family.name, labels.collect::<Vec<_>>())
}

pub(super) fn write_head(text: &mut String, family: &Family) {
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Info => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let _ = writeln!(text, "# HELP {0} {1}\n# TYPE {0} {kind}", family.name, family.help);
}

/// One histogram from its shares; `label` is empty or one label as written between braces.
fn write_histogram(text: &mut String, family: &Family, label: &str, per_unit: f64, shares: &[&Buckets]) {
    let Kind::Histogram(bounds) = family.kind else { unreachable!("{} is no histogram", family.name) };
    let mut counts = vec![0; bounds.len() + 1];
    let sum: u64 = shares.iter().map(|share| share.gather(&mut counts)).sum();
    let comma = if label.is_empty() { "" } else { "," };
    let mut below = 0;
    for (bound, count) in bounds.iter().zip(&counts) {
        below += count;
        let _ = writeln!(text, "{}_bucket{{{label}{comma}le=\"{bound}\"}} {below}", family.name);
    }
    below += counts[bounds.len()];
    let braces = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
    let _ = writeln!(text, "{}_bucket{{{label}{comma}le=\"+Inf\"}} {below}", family.name);
    let _ = writeln!(text, "{}_sum{braces} {}", family.name, sum as f64 / per_unit);
    let _ = writeln!(text, "{}_count{braces} {below}", family.name);
}

#[cfg(test)]
mod tests;

//! The one table of metrics: name, kind, labels, buckets and help. Everything is described, registered and rendered
//! from it, and dashboards and alerts are checked against it; a name that stands elsewhere is a mistake.
//!
//! Names follow Prometheus: base units (seconds, bytes), `_total` for counters. Amounts are the exception: they are
//! minor units of the currency in the label, because amounts of several currencies have no common unit.

/// What a family of series is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// Only rises; starts at 0 with the process.
    Counter,
    Gauge,
    /// Upper bounds of the buckets, rising, without the infinite one.
    Histogram(&'static [f64]),
    /// Always 1; what it says stands in its labels.
    Info,
}

/// One metric with all its label sets.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// Durations of one stage of a decision: 100 ns to 10 ms.
const STAGE_SECONDS: &[f64] =
    &[1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 1e-2];

/// Durations from a decision alone, 10 us, to a disk that hangs, 10 s. 10 ms and 100 ms are there to be service levels.
const ANSWER_SECONDS: &[f64] = &[
    1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 7.5e-3, 1e-2, 1.5e-2, 2.5e-2, 5e-2, 1e-1,
    2.5e-1, 1.0, 2.5, 1e1,
];

/// Durations of one write or sync: 10 us, which a buffered write takes, to 10 s, which a hanging disk does.
const DISK_SECONDS: &[f64] = &[
    1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 2.5e-1, 1.0,
    2.5, 1e1,
];

/// Records that one sync made durable.
const GROUP_RECORDS: &[f64] = &[1., 2., 4., 8., 16., 32., 64., 128., 256., 512., 1024., 2048., 4096., 8192.];

/// Twenty steps of 50 over 0 to 999; scores are integers, so each bound is the last score of its step.
const SCORE: &[f64] = &[
    49., 99., 149., 199., 249., 299., 349., 399., 449., 499., 549., 599., 649., 699., 749., 799., 849., 899.,
    949., 999.,
];

/// Declares the families as constants and as the table.
macro_rules! families {
    ($($constant:ident = $name:literal $kind:expr, [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Family =
                Family { name: $name, kind: $kind, labels: &[$($label),*], help: $help };
        )*

        /// Every metric of the engine, in the order they are rendered by subject.
        pub const FAMILIES: &[Family] = &[$($constant),*];
    };
}

families! {
    CALLS = "saker_calls_total" Kind::Counter, ["call", "result"]
        "Calls ended, by call and by who was at fault; items of a stream or a batch are not calls.";
    CALL_TIME = "saker_call_seconds" Kind::Histogram(ANSWER_SECONDS), ["call"]
        "Time from the headers of a call with one request and one answer to that answer.";

    DECISIONS = "saker_decisions_total" Kind::Counter, ["decision", "reason_group"]
        "Authorisations decided and recorded, by decision and by what decided it; repeats are not counted again.";
    RESPONSE_CODES = "saker_response_codes_total" Kind::Counter, ["response_code"]
        "The same decisions by ISO 8583 response code (DE39).";
    DUPLICATE_KEYS = "saker_duplicate_keys_total" Kind::Counter, []
        "Requests declined 94: a known key with another body.";
    REPLAYS = "saker_replays_total" Kind::Counter, []
        "Repeats answered with the answer given before.";
    SCORE_POINTS = "saker_score" Kind::Histogram(SCORE), []
        "The model's score, 0 to 999, of every authorisation that was scored.";
    MODEL_DRIFT = "saker_model_drift_psi" Kind::Gauge, ["feature"]
        "Population stability index of a model's feature: how far the decisions of about the last day lie from its training \
         rows. Under 0.1 nothing moved, above 0.25 it did. Absent where the model's file does not say what they were like, \
         and for under a thousand decisions.";
    MODEL_SCORE_DRIFT = "saker_model_score_psi" Kind::Gauge, []
        "The same of the model's score, 0 to 999.";
    MODEL_DRIFT_ROWS = "saker_model_drift_rows" Kind::Gauge, []
        "Decisions that the stability indices are about; absent where the model's file does not say what its training rows \
         were like.";
    MODEL_DRIFT_WINDOW = "saker_model_drift_window_seconds" Kind::Gauge, []
        "Time within which those decisions came: a day to 25 hours, and less after a start or a new model. In less than a day \
         the hours of the day are not all there, and weekday_utc has one value in any.";
    CALIBRATION_LABELLED = "saker_model_calibration_labelled_total" Kind::Counter, ["band"]
        "Transactions that were labelled for the first time, decided by the model that scores now, by band of the score.";
    CALIBRATION_OBSERVED = "saker_model_calibration_observed_total" Kind::Counter, ["band"]
        "Frauds among them.";
    CALIBRATION_EXPECTED = "saker_model_calibration_expected_total" Kind::Counter, ["band"]
        "Frauds that the model expected among them: the sum of their probabilities. It is comparable to the frauds observed \
         where genuine transactions are labelled as well.";
    MODEL_CONTROL = "saker_model_control_total" Kind::Counter, ["outcome"]
        "Authorisations of the control share, whose decline by the model alone was set aside: let_through, or declined for \
         want of credit.";
    CHALLENGER_SCORE = "saker_challenger_score" Kind::Histogram(SCORE), []
        "The challenger's score, 0 to 999, of every authorisation that it scored in shadow.";
    CHALLENGES = "saker_challenges_total" Kind::Counter, ["declines"]
        "Authorisations that a challenger scored, by which of the two models would decline by its score: neither, the \
         champion alone, the challenger alone, or both.";
    CHALLENGE_LABELS = "saker_challenge_labels_total" Kind::Counter, ["declines", "label"]
        "Labels that came for such authorisations: a fraud that a model would decline is caught, a genuine one a false \
         positive. A label that is said again is not counted again.";
    STAGE_TIME = "saker_stage_seconds" Kind::Histogram(STAGE_SECONDS), ["stage"]
        "Time that one stage of a decision took, of the decisions that were timed.";
    DECISION_TIME = "saker_decision_seconds" Kind::Histogram(ANSWER_SECONDS), []
        "Time from a request's arrival in the engine to its decision, before it is durable.";
    ANSWER_TIME = "saker_answer_seconds" Kind::Histogram(ANSWER_SECONDS), []
        "Time from a request's arrival in the engine to its answer, which is durable then, whatever call brought it.";
    CHANGES = "saker_changes_total" Kind::Counter, ["call"]
        "Calls other than authorisations that changed state, by call; repeats are not counted again.";

    RULE_HITS = "saker_rule_hits_total" Kind::Counter, ["rule", "mode"]
        "Authorisations on which a rule fired, live or in shadow.";
    RULE_UNKNOWNS = "saker_rule_unknowns_total" Kind::Counter, ["rule", "mode"]
        "Authorisations on which a rule could not be told for want of a value, and did not fire.";

    RULE_SUPPRESSED = "saker_rule_suppressed_total" Kind::Counter, ["rule"]
        "Authorisations on which a live rule fired and was suppressed for the card, merchant or other entity.";
    RULE_SHADOW_OUTCOMES = "saker_rule_shadow_outcomes_total" Kind::Counter, ["rule", "outcome"]
        "Authorisations that a rule in shadow would have declined or stepped up: alone, where nothing live spoke against \
         them, or in overlap with a decision against the cardholder.";
    RULE_SHADOW_AMOUNT = "saker_rule_shadow_minor_units_total" Kind::Counter, ["rule", "currency"]
        "Amount that a rule in shadow alone would have declined or stepped up, in minor units of the account's currency; the \
         first eight currencies are counted.";
    RULE_COST = "saker_rule_cost_seconds" Kind::Gauge, ["rule", "mode"]
        "Estimated time of one evaluation, of the rules that are loaded; what all of them take together is measured as the \
         stage rules.";

    GUARD_VERDICTS = "saker_guard_verdicts_total" Kind::Counter, ["rule", "verdict"]
        "Times the guard found that a live rule declines far more than before: demoted to shadow, or alerted and left live.";
    GUARD_MISSED = "saker_guard_missed_total" Kind::Counter, []
        "Declines by rules that the guard did not see, because its queue was full.";

    RULES_RELOADS = "saker_rules_reloads_total" Kind::Counter, ["result"]
        "Times the rules were read anew: loaded, unchanged (they decided already), refused (the file is wrong) or failed \
         (the file, or the disk); after the last two the rules before go on deciding.";

    MODEL_RELOADS = "saker_model_reloads_total" Kind::Counter, ["model", "result"]
        "Times a model was read anew: loaded, unchanged (it scored already), refused (the file is wrong) or failed (the \
         file, or the disk); after the last two the model before goes on scoring.";

    FILES_MISSING = "saker_configured_files_missing" Kind::Gauge, ["file"]
        "Configured files that are not there: the rules, the files of lists that they name, the model, the challenger. What \
         was read before goes on deciding; the next start is refused without them.";

    LIST_VALUES = "saker_list_values" Kind::Gauge, ["list", "from"]
        "Values of a list: of the rules file, added by calls, or of the file and taken out by calls; those included that \
         have ended and that no change has cleared away yet.";
    LISTS_ASIDE = "saker_lists_aside" Kind::Gauge, []
        "Lists that calls have changed and that the rules do not declare as they were: kept, and not looked into.";
    LABELS = "saker_labels_total" Kind::Counter, ["label"]
        "Labels given to transactions; repeats are not counted again.";

    ERRORS = "saker_errors_total" Kind::Counter, ["code", "reason"]
        "Calls and items that ended in a gRPC error, by status code and reason.";
    SHED = "saker_shed_total" Kind::Counter, ["cause"]
        "Calls and items refused for too much load before any state changed, by what was full.";
    VOIDED = "saker_voided_total" Kind::Counter, []
        "Decisions voided because their deadline passed before the answer was handed over.";
    UNANSWERED_HOLDS = "saker_unanswered_holds_total" Kind::Counter, []
        "Holds placed whose answer nobody was there to take; they stand until reversed or expired.";
    EXPIRED_HOLDS = "saker_expired_holds_total" Kind::Counter, ["by"]
        "Holds that reached their deadline, by what found them: the next touch of the account or the sweeper.";

    SYNC_TIME = "saker_journal_sync_seconds" Kind::Histogram(DISK_SECONDS), []
        "Time that one sync of the journal took.";
    WRITE_TIME = "saker_journal_write_seconds" Kind::Histogram(DISK_SECONDS), []
        "Time that writing one group to the journal took, before its sync.";
    GROUP_SIZE = "saker_journal_group_records" Kind::Histogram(GROUP_RECORDS), []
        "Records made durable by one sync.";
    JOURNAL_BYTES = "saker_journal_written_bytes_total" Kind::Counter, []
        "Bytes written to the journal.";
    QUEUE_LENGTH = "saker_journal_queue_records" Kind::Gauge, []
        "Records that wait to be durable.";
    QUEUE_AGE = "saker_journal_queue_age_seconds" Kind::Gauge, []
        "Age of the oldest record that waits to be durable; 0 where none does.";
    PUBLISHED_POSITION = "saker_journal_published_position" Kind::Gauge, []
        "Sequence of the last record handed to the journal.";
    DURABLE_POSITION = "saker_journal_durable_position" Kind::Gauge, []
        "Sequence of the last record that is durable.";
    DISK_TROUBLE = "saker_journal_disk_trouble" Kind::Gauge, ["trouble"]
        "1 while the disk keeps the journal from its work: low refuses authorisations, full refuses everything, stalled \
         is a write or sync that takes too long, stopped is for ever.";
    DISK_FREE = "saker_data_free_bytes" Kind::Gauge, []
        "Bytes that the data directory's file system has left.";

    SNAPSHOT_POSITION = "saker_snapshot_position" Kind::Gauge, []
        "Position of the journal up to which the newest snapshot has everything: the one that the start began with, then \
         those taken since; 0 for none.";
    SNAPSHOT_TIME = "saker_snapshot_timestamp_seconds" Kind::Gauge, []
        "When the newest snapshot taken since the start was finished, in seconds since 1970.";
    SNAPSHOT_DURATION = "saker_snapshot_duration_seconds" Kind::Gauge, []
        "Time that taking it took.";
    SNAPSHOT_BYTES = "saker_snapshot_bytes" Kind::Gauge, []
        "Its length.";
    SNAPSHOT_FAILURES = "saker_snapshot_failures_total" Kind::Counter, ["cause"]
        "Snapshots that were not taken: no_room where the journal would have been left too little of the disk, or failed.";
    RECOVERED_RECORDS = "saker_recovered_records" Kind::Gauge, []
        "Records of the journal that the last start put back in force one by one.";
    RECOVERY_TIME = "saker_recovery_seconds" Kind::Gauge, []
        "Time that the last start took to read its snapshot and the journal behind it.";
    PREVIOUS_END_UNCLEAN = "saker_previous_end_unclean" Kind::Gauge, []
        "1 where the process before ended without closing its journal: it stopped itself after a failed write or sync, was \
         killed, or went down with the machine.";
    SNAPSHOTS_PASSED_OVER = "saker_snapshots_passed_over" Kind::Gauge, []
        "Snapshots that the last start did not believe; the log names each and why.";

    ACCOUNTS = "saker_accounts" Kind::Gauge, []
        "Accounts known.";
    CARDS = "saker_cards" Kind::Gauge, []
        "Cards known.";
    HOLDS = "saker_holds" Kind::Gauge, []
        "Holds open, as the sweeper last counted them.";
    HELD_AMOUNT = "saker_held_minor_units" Kind::Gauge, ["currency"]
        "Amount held in minor units of the currency, as the sweeper last counted it.";
    ANSWERS_REMEMBERED = "saker_answers_remembered" Kind::Gauge, []
        "Keys whose answer is remembered in memory.";
    ANSWERS_CAPACITY = "saker_answers_capacity" Kind::Gauge, []
        "Keys that memory may hold; at this number, and where none can go to disk, new work is refused.";
    ANSWERS_ON_DISK = "saker_answers_on_disk" Kind::Gauge, []
        "Keys whose answer is remembered in key files alone.";
    KEY_FILES = "saker_key_files" Kind::Gauge, []
        "Key files whose keys have left memory.";
    KEY_FILTER_BYTES = "saker_key_filter_bytes" Kind::Gauge, []
        "Memory that the filters of all key files take.";
    KEY_FILES_MADE = "saker_key_files_made_total" Kind::Counter, ["why"]
        "Key files made from their segment: first, or again because the file was missing or damaged.";
    LOOK_UPS = "saker_answer_look_ups_total" Kind::Counter, ["outcome"]
        "Look-ups of keys on disk: found, absent (a filter said maybe of a new key), or failed.";
    LOOK_UP_TIME = "saker_answer_look_up_seconds" Kind::Histogram(DISK_SECONDS), []
        "Time that one look-up of a key on disk took, waiting for a thread included.";
    SHARED_LAG = "saker_shared_windows_lag_records" Kind::Gauge, []
        "Durable records that the windows across accounts have not taken in yet.";
    SHARED_UNFILLED = "saker_shared_windows_unfilled_records" Kind::Gauge, []
        "Records that windows across accounts have yet to be filled from since a reload added to them: until then what was added is unknown.";
    SHARED_KEYS = "saker_shared_windows_keys" Kind::Gauge, []
        "Merchants, devices, addresses and so on that windows are kept of.";
    SHARED_BYTES = "saker_shared_windows_bytes" Kind::Gauge, []
        "Memory that the windows across accounts take.";
    SHARED_EVICTED = "saker_shared_windows_evicted" Kind::Gauge, []
        "Keys given up for want of memory since the windows were begun: they read unknown until their time has passed.";
    SHARED_SATURATED = "saker_shared_windows_saturated" Kind::Gauge, []
        "Keys with more events than are kept one by one: counts and sums may read high.";
    TIME_LEAD = "saker_engine_time_lead_seconds" Kind::Gauge, []
        "How far engine time is ahead of the clock.";
    CLOCK_DOUBTED = "saker_clock_doubted" Kind::Gauge, []
        "1 while the clock is too far ahead to be believed and engine time follows the monotonic clock.";

    SERVING = "saker_serving" Kind::Gauge, ["service"]
        "1 where health says SERVING.";
    DEGRADED = "saker_degraded" Kind::Gauge, ["part"]
        "1 where decisions are made without this part.";
    RULES_VERSION = "saker_rules_info" Kind::Info, ["version"]
        "The rules that decide.";
    MODEL_VERSION = "saker_model_info" Kind::Info, ["version"]
        "The model that scores; empty where none does.";
    CHALLENGER_VERSION = "saker_challenger_info" Kind::Info, ["version"]
        "The model that scores in shadow; empty where none does.";
    CONFIG_HASH = "saker_config_info" Kind::Info, ["hash"]
        "Hash of the settings that change decisions.";
    BUILD = "saker_build_info" Kind::Info, ["version", "profile"]
        "The program.";

    CPU_TIME = "process_cpu_seconds_total" Kind::Counter, []
        "User and system CPU time of the process.";
    RESIDENT_MEMORY = "process_resident_memory_bytes" Kind::Gauge, []
        "Resident memory of the process.";
    OPEN_FILES = "process_open_fds" Kind::Gauge, []
        "File descriptors that the process has open.";
    OPEN_FILES_MAX = "process_max_fds" Kind::Gauge, []
        "File descriptors that the process may have open.";
    CORES = "saker_cores" Kind::Gauge, []
        "Processors that the process may use.";
    START_TIME = "process_start_time_seconds" Kind::Gauge, []
        "When the process started, in seconds since 1970.";
    UPTIME = "saker_uptime_seconds" Kind::Gauge, []
        "Time since the engine started.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_twice_and_each_follows_the_rules_of_prometheus() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.windows(2).for_each(|pair| assert_ne!(pair[0], pair[1]));
        for family in FAMILIES {
            let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            assert!(family.name.bytes().all(legal), "{}", family.name);
            let counter = family.kind == Kind::Counter;
            assert_eq!(family.name.ends_with("_total"), counter, "{}: counters end in _total", family.name);
            assert_eq!(family.name.ends_with("_info"), family.kind == Kind::Info, "{}", family.name);
            assert!(family.help.ends_with('.'), "{}: help is a sentence", family.name);
            if let Kind::Histogram(bounds) = family.kind {
                assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{}", family.name);
            }
        }
    }
}

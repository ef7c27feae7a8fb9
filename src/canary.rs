//! Deliberate faults, one at a time, which prove that the test suite would notice them.
//!
//! Exists only with the cargo feature `canaries`, where the environment variable `SAKER_CANARY` names the fault; it
//! is read once. Without the feature every question is the constant `false` and the fault is not compiled.

/// The faults that can be chosen, so that one command can try them all.
pub const NAMES: [&str; 6] =
    ["no_sync", "reply_before_sync", "double_release", "wrapping_add", "lazy_window", "answer_not_in_record"];

/// Whether the fault `name` (one of [`NAMES`]) is to be committed.
#[cfg(feature = "canaries")]
pub fn active(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("SAKER_CANARY").ok()).as_deref() == Some(name)
}

/// Whether the fault `name` (one of [`NAMES`]) is to be committed: never in this build.
#[cfg(not(feature = "canaries"))]
#[inline(always)]
pub const fn active(_name: &str) -> bool {
    false
}

//! `saker journal verify`: is the decision log whole, and does deciding again give the same answers?
//!
//! Only reads. A directory in use is checked up to its durable position.

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;

use super::{Exit, Failure, Format, progress::spinner, say};
use crate::{
    engine::replay::{self, Verified, VerifyError},
    journal::LogError,
};

#[derive(clap::Args, Debug)]
pub struct VerifyArgs {
    /// A data directory, in use or not; one in use is checked up to its durable position.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Positions between two updates of the progress.
const PROGRESS_EVERY: u64 = 1_024;

/// Checks a data directory and prints what it holds. Exit code 1 where a decision comes out otherwise.
///
/// # Errors
/// Exit code 1 where the chain is broken or a record cannot be read; 2 where there is no such directory.
pub fn verify(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let VerifyArgs { directory, format } = args;
    let listed = std::fs::read_dir(&directory);
    listed.map_err(|error| anyhow::anyhow!("{} cannot be read: {error}", directory.display()))?;
    let progress = spinner("position {human_pos}");
    let verified = replay::verify(&directory, &mut |position| {
        if position % PROGRESS_EVERY == 0 {
            progress.set_position(position);
        }
    });
    progress.finish_and_clear();
    let verified = verified.map_err(|error| match error {
        // Nothing was found wrong: there is nothing to check, or it cannot be read.
        VerifyError::Journal(LogError::Io { .. }) => anyhow::anyhow!(
            "{}: {error}\nGive a data directory that `saker serve` or `saker demo --data` has written to.",
            directory.display()
        ),
        _ => Failure::wrong(format!(
            "{}: {error}\nNothing was changed. Keep the directory as it is, and restore it from a copy that verifies.",
            directory.display()
        )),
    })?;
    match format {
        Format::Json => say(as_json(&verified)),
        Format::Text => print_text(&verified),
    }
    Ok(if verified.different == 0 { ExitCode::SUCCESS } else { Exit::Wrong.into() })
}

fn as_json(verified: &Verified) -> serde_json::Value {
    let summary = &verified.chain.summary;
    json!({
        "segments": summary.segments,
        "groups": summary.groups,
        "last_position": summary.last_position,
        "durable_mark": verified.chain.mark_position,
        "chain": hex(&summary.chain_hash),
        "unfinished_bytes": verified.chain.tail.as_ref().map_or(0, |tail| tail.bytes),
        "records": verified.counts,
        "decisions": verified.decisions,
        "reasons": verified.reasons,
        "different": verified.different,
        "differences": verified.differences,
    })
}

fn print_text(verified: &Verified) {
    let Verified { chain, counts, decisions, reasons, different, differences } = verified;
    let summary = &chain.summary;
    say(format_args!(
        "{} records in {} groups and {} segments, chained without a gap up to position {}",
        summary.records,
        summary.groups,
        summary.segments,
        summary.last_position.unwrap_or(0)
    ));
    say(format_args!("chain {}", hex(&summary.chain_hash)));
    if let Some(tail) = &chain.tail {
        say(format_args!(
            "behind it {} bytes of an unfinished group, {} from byte {}: being written, or cut at the next start",
            tail.bytes, tail.file, tail.offset
        ));
    }
    for (kind, count) in counts {
        say(format_args!("  {count:>12}  {kind}"));
    }
    say("decisions");
    for (decision, count) in decisions {
        say(format_args!("  {count:>12}  {decision}"));
    }
    say("of the declines and step-ups, by deciding reason");
    for (reason, count) in reasons {
        say(format_args!("  {count:>12}  {reason}"));
    }
    match different {
        0 => say("decided again: every record came out the same, byte for byte"),
        _ => {
            say(format_args!("decided again: {different} records came out otherwise"));
            for difference in differences {
                say(format_args!("  {difference}"));
            }
        }
    }
}

fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

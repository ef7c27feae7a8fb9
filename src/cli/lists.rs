//! `saker lists export` and `saker lists import`: warnings that institutions share, as CSV.
//!
//! What is imported is sent in parts under keys that follow from what they hold: the same file again, or what is left of
//! a broken import, changes nothing twice. So a value that was removed since stays removed; `--again` brings it back.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use serde_json::json;
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

use super::{Format, accounts::connect, progress::bar, say};
use crate::{
    history::Rows,
    limits::{LIST_UPDATE_VALUES_MAX, TEXT_BYTES_MAX},
    proto::{self, GetListRequest, UpdateListRequest, risk_client::RiskClient},
    types::{lists::ListEntry, time::Timestamp},
};

#[derive(clap::Args, Debug)]
pub struct ExportArgs {
    /// The engine's gRPC address, host:port.
    #[arg(long, value_name = "ADDR")]
    pub from: String,
    /// The list, as the rules declare it.
    #[arg(long, value_name = "NAME")]
    pub list: String,
    /// Written with the columns value, expires_at and source.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(clap::Args, Debug)]
pub struct ImportArgs {
    /// One row per value: value, and where there are any expires_at and source; plain or gzip.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The engine's gRPC address, host:port.
    #[arg(long, value_name = "ADDR")]
    pub to: String,
    /// The list, as the rules declare it.
    #[arg(long, value_name = "NAME")]
    pub list: String,
    /// Where the values come from, for rows that do not say.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub source: String,
    /// Add also what was imported from this very file before and removed since.
    #[arg(long)]
    pub again: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Writes every value that is on a list.
///
/// # Errors
/// Where the engine cannot be reached, has no such list, or the file cannot be written.
pub fn export(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let ExportArgs { from, list, out, format } = args;
    let entries = runtime()?.block_on(async {
        let mut client = RiskClient::new(connect(&from).await?);
        let (mut entries, mut after) = (Vec::new(), String::new());
        loop {
            let request = GetListRequest { list: list.clone(), after, limit: 0 };
            let page = client.get_list(request).await.map_err(|status| told(&from, &status))?.into_inner();
            entries.extend(page.entries.into_iter().filter_map(|found| found.entry));
            after = page.next;
            if after.is_empty() {
                return anyhow::Ok(entries);
            }
        }
    })?;
    write(&out, &entries).with_context(|| format!("{} cannot be written", out.display()))?;
    let (count, file) = (entries.len(), out.display());
    match format {
        Format::Json => say(json!({ "list": list, "values": count, "file": file.to_string() })),
        Format::Text => say(format_args!("{count} values of {list} in {file}")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a file that is whole or not there.
fn write(out: &Path, entries: &[proto::ListEntry]) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["value", "expires_at", "source"])?;
    for entry in entries {
        let ends = entry.expires_at.map(|end| {
            let ms = end.seconds.saturating_mul(1_000).saturating_add(i64::from(end.nanos / 1_000_000));
            Timestamp(ms).to_string()
        });
        writer.write_record([entry.value.as_str(), &ends.unwrap_or_default(), entry.source.as_str()])?;
    }
    let unfinished = out.with_extension("unfinished");
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(&writer.into_inner()?)?;
    file.sync_all()?;
    fs::rename(&unfinished, out)?;
    Ok(())
}

/// Adds every value of a file to a list, and reports when all of them are durable.
///
/// # Errors
/// Where a row cannot be read (nothing was sent then), the engine cannot be reached, or refuses a part.
pub fn import(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let ImportArgs { file, to, list, source, again, format } = args;
    if source.len() > TEXT_BYTES_MAX {
        bail!("--source has {} bytes, at most {TEXT_BYTES_MAX} are taken", source.len());
    }
    let entries = read(&file, &source)?;
    let salt = if again { random() } else { String::new() };
    let parts = entries.chunks(LIST_UPDATE_VALUES_MAX);
    let progress = bar(entries.len() as u64, &format!("values to {to}"));
    let (mut repeated, mut values) = (0, None);
    runtime()?.block_on(async {
        let mut client: RiskClient<Channel> = RiskClient::new(connect(&to).await?);
        let mut sent = 0;
        for part in parts {
            let request = UpdateListRequest {
                request_id: key_of(&list, part, &salt),
                list: list.clone(),
                add: part.iter().map(on_the_wire).collect(),
                remove: Vec::new(),
            };
            let answer = client.update_list(request).await.map_err(|status| {
                let rows = format!("rows {} to {}", sent + 1, sent + part.len());
                told(&to, &status)
                    .context(format!("{rows} were not taken; the {sent} before them are on the list"))
            })?;
            let answer = answer.into_inner();
            sent += part.len();
            repeated += if answer.replayed { part.len() } else { 0 };
            values = if answer.replayed { values } else { Some(answer.entries) };
            progress.inc(part.len() as u64);
        }
        anyhow::Ok(())
    })?;
    progress.finish_and_clear();
    let (count, added) = (entries.len(), entries.len() - repeated);
    match format {
        Format::Json => say(json!({
            "list": list, "rows": count, "added": added, "sent_before": repeated, "values": values,
        })),
        Format::Text => {
            say(format_args!(
                "{count} rows: {added} added to {list}, {repeated} sent before and left as they are"
            ));
            if let Some(values) = values {
                say(format_args!("{list} has {values} values"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path, source: &str) -> anyhow::Result<Vec<ListEntry>> {
    let mut rows = Rows::<ListEntry>::open(file, 0)?;
    if let Some(warning) = rows.warning() {
        eprintln!("warning: {warning}");
    }
    let (mut entries, mut lines) = (Vec::new(), HashMap::new());
    while let Some(row) = rows.next() {
        let (mut entry, line) = (row.context("nothing was sent")?, rows.line());
        if let Some(first) = lines.insert(entry.value.clone(), line) {
            let (file, value) = (file.display(), &entry.value);
            bail!(
                "{file}, line {line}: `{value}` is there already, on line {first}; keep one of the two. Nothing was sent"
            );
        }
        if entry.source.is_empty() {
            entry.source = source.into();
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The key of a part: what it says, and nothing else.
fn key_of(list: &str, part: &[ListEntry], salt: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut say = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    say(salt);
    say(list);
    for entry in part {
        say(&entry.value);
        say(&entry.expires_at.map_or(String::new(), |end| end.0.to_string()));
        say(&entry.source);
    }
    format!("list-{}", &hasher.finalize().to_hex()[..40])
}

fn random() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("{:016x}", RandomState::new().hash_one(0))
}

fn on_the_wire(entry: &ListEntry) -> proto::ListEntry {
    let end = |end: Timestamp| prost_types::Timestamp {
        seconds: end.0.div_euclid(1_000),
        nanos: end.0.rem_euclid(1_000) as i32 * 1_000_000,
    };
    proto::ListEntry {
        value: entry.value.to_string(),
        expires_at: entry.expires_at.map(end),
        source: entry.source.to_string(),
    }
}

/// What the engine said, with every bad field.
fn told(address: &str, status: &Status) -> anyhow::Error {
    let fields = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let fields: Vec<String> =
        fields.into_iter().map(|bad| format!("{}: {}", bad.field, bad.description)).collect();
    match fields.is_empty() {
        true => anyhow::anyhow!("{address}: {}", status.message()),
        false => anyhow::anyhow!("{address}: {}", fields.join("; ")),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &str, source: &str) -> ListEntry {
        ListEntry { value: value.into(), expires_at: None, source: source.into() }
    }

    #[test]
    fn a_part_has_one_key_for_all_that_it_says_and_for_nothing_else() {
        let part = [entry("ab", "c"), entry("d", "")];
        let key = key_of("l", &part, "");
        assert_eq!(key, key_of("l", &part, ""));
        assert!(key.len() <= crate::limits::ID_BYTES_MAX);
        for other in [[entry("a", "bc"), entry("d", "")], [entry("ab", "c"), entry("", "d")]] {
            assert_ne!(key, key_of("l", &other, ""));
        }
        assert_ne!(key, key_of("m", &part, ""));
        assert_ne!(key, key_of("l", &part, "salt"));
    }

    #[test]
    fn what_is_exported_is_imported_as_it_was_and_a_bad_row_sends_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("out.csv");
        let entries = [
            ListEntry { expires_at: Some(Timestamp(1_700_000_000_123)), ..entry("a,\"b\"", "Visa, alert") },
            entry("ä", ""),
        ];
        let wire: Vec<proto::ListEntry> = entries.iter().map(on_the_wire).collect();
        write(&file, &wire).unwrap();
        assert_eq!(read(&file, "").unwrap(), entries);
        assert_eq!(&*read(&file, "desk").unwrap()[1].source, "desk");
        for (content, expected) in [
            ("value,expires_at\nx,soon\n", "line 2, column `expires_at`: `soon` is no time"),
            (
                "value\nx\ny\nx\n",
                "out.csv, line 4: `x` is there already, on line 2; keep one of the two. Nothing was sent",
            ),
            ("merchant\nx\n", "the header lacks the needed column `value`"),
        ] {
            fs::write(&file, content).unwrap();
            let error = format!("{:#}", read(&file, "").unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}

//! Lists and labels in a snapshot: small beside accounts and answers, and read on one thread.

use super::{LABELS, LISTS};
use crate::{
    engine::lists::Labels,
    journal::{
        LogError,
        snapshot::{Snapshot, SnapshotError, SnapshotWriter},
    },
    rules::{Lists, lists::Standing},
    types::{
        bytes::{Fields, Misread, put_text},
        lists::ListKind,
    },
};

/// Values or labels in one item.
const ITEM: usize = 256;

const TAKEN_OUT: u8 = 0;
const ADDED: u8 = 1;

pub(super) fn copy_lists(lists: &Lists, writer: &mut SnapshotWriter) -> Result<(), SnapshotError> {
    writer.section(LISTS)?;
    writer.item(|out| out.extend_from_slice(&lists.version().to_le_bytes()))?;
    for (name, kind, changes) in lists.all() {
        let mut values = changes.all().peekable();
        while values.peek().is_some() {
            writer.item(|out| {
                put_text(out, name);
                out.push(kind as u8);
                values.by_ref().take(ITEM).for_each(|(value, standing)| put_value(out, value, standing));
            })?;
        }
    }
    Ok(())
}

fn put_value(out: &mut Vec<u8>, value: &str, standing: &Standing) {
    let (what, until, source) = match standing {
        Standing::TakenOut => (TAKEN_OUT, 0, ""),
        Standing::Added { until, source } => (ADDED, *until, &**source),
    };
    put_text(out, value);
    out.push(what);
    out.extend_from_slice(&until.to_le_bytes());
    out.extend_from_slice(&(source.len() as u16).to_le_bytes());
    out.extend_from_slice(source.as_bytes());
}

pub(super) fn lists(snapshot: &Snapshot) -> Result<Lists, LogError> {
    let mut lists = None;
    each_item(snapshot, LISTS, |item| match &mut lists {
        None => {
            let mut fields = Fields::new(item);
            lists = Some(Lists::at(fields.u64()?));
            fields.end()
        }
        Some(lists) => put_item(lists, item),
    })?;
    lists.ok_or_else(|| snapshot.incomplete("it does not say what is on the lists"))
}

fn put_item(lists: &mut Lists, item: &[u8]) -> Result<(), Misread> {
    let mut fields = Fields::new(item);
    let name = fields.text()?;
    let kind = ListKind::from_number(fields.u8()?).ok_or(fields.misread("a list of no known kind"))?;
    while fields.end().is_err() {
        let (value, what, until) = (fields.text()?, fields.u8()?, fields.i64()?);
        let count = usize::from(fields.u16()?);
        let source = std::str::from_utf8(fields.slice(count)?).map_err(|_| fields.misread("not a text"))?;
        let added = match what {
            TAKEN_OUT => None,
            ADDED => Some((until, source)),
            _ => return Err(fields.misread("a value that is neither added nor taken out")),
        };
        lists.put((name, kind), value, added);
    }
    Ok(())
}

pub(super) fn copy_labels(labels: &Labels, writer: &mut SnapshotWriter) -> Result<(), SnapshotError> {
    writer.section(LABELS)?;
    let mut all = labels.all().peekable();
    while all.peek().is_some() {
        writer.item(|out| {
            for (of, position) in all.by_ref().take(ITEM) {
                out.extend_from_slice(&of.to_le_bytes());
                out.extend_from_slice(&position.to_le_bytes());
            }
        })?;
    }
    Ok(())
}

pub(super) fn labels(snapshot: &Snapshot) -> Result<Labels, LogError> {
    let mut labels = Labels::default();
    each_item(snapshot, LABELS, |item| {
        let mut fields = Fields::new(item);
        while fields.end().is_err() {
            labels.put(fields.u64()?, fields.u64()?);
        }
        Ok(())
    })?;
    Ok(labels)
}

fn each_item(
    snapshot: &Snapshot,
    section: u32,
    mut read: impl FnMut(&[u8]) -> Result<(), Misread>,
) -> Result<(), LogError> {
    let mut buffer = Vec::new();
    for place in snapshot.blocks(section) {
        for item in snapshot.read(place, &mut buffer)?.items() {
            read(item).map_err(|error| snapshot.unreadable(place, error))?;
        }
    }
    Ok(())
}

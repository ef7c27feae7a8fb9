//! Requests about lists and labels on their way in, and what was found on its way out.

use std::collections::HashSet;

use super::{
    checks::{Admission, Checks, Field},
    from_proto::request_id,
    to_proto::timestamp,
};
use crate::{
    authorise::listing::Page,
    engine::Answered,
    journal::record::Labelled,
    limits::{LIST_PAGE_MAX, LIST_UPDATE_VALUES_MAX, LIST_VALUE_BYTES_MAX},
    proto,
    rules::lists::StandingEntry,
    types::{
        fault::Fault,
        ids::RequestKey,
        lists::{FraudLabel, Labelling, ListEntry, ListOutcome, ListUpdate},
    },
};

const LIST: Field = Field::new("list", 2);
const ADD: Field = Field::new("add", 3);
const ADD_VALUE: Field = Field::new("add.value", 3);
const ADD_EXPIRES_AT: Field = Field::new("add.expires_at", 3);
const ADD_SOURCE: Field = Field::new("add.source", 3);
const REMOVE: Field = Field::new("remove", 4);

/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn update_list(
    request: &proto::UpdateListRequest,
    admission: Admission,
) -> Result<ListUpdate, Fault> {
    let mut checks = Checks::new(admission);
    let key = request_id(&mut checks, &request.request_id);
    let list = checks.required_id(&request.list, LIST);
    let count = request.add.len() + request.remove.len();
    if count == 0 {
        checks.refuse(ADD, "add or remove must name a value");
        checks.refuse(REMOVE, "add or remove must name a value");
    }
    if count > LIST_UPDATE_VALUES_MAX {
        let most =
            format!("add and remove may name {LIST_UPDATE_VALUES_MAX} values together: send them in parts");
        checks.refuse(ADD, most);
        return Err(checks.into_fault());
    }
    let mut seen = HashSet::new();
    let add: Vec<ListEntry> = request
        .add
        .iter()
        .map(|entry| {
            value(&mut checks, &entry.value, ADD_VALUE, &mut seen);
            ListEntry {
                value: entry.value.as_str().into(),
                expires_at: checks.any_time(entry.expires_at.as_ref(), ADD_EXPIRES_AT),
                source: checks.text(&entry.source, ADD_SOURCE).unwrap_or_default(),
            }
        })
        .collect();
    for removed in &request.remove {
        value(&mut checks, removed, REMOVE, &mut seen);
    }
    let remove = request.remove.iter().map(|value| value.as_str().into()).collect();
    match (key, list) {
        (Some(key), Some(list)) if checks.is_clean() => {
            Ok(ListUpdate { key, list: list.as_str().into(), add, remove })
        }
        _ => Err(checks.into_fault()),
    }
}

fn value<'v>(checks: &mut Checks, value: &'v str, field: Field, seen: &mut HashSet<&'v str>) {
    if value.is_empty() || value.len() > LIST_VALUE_BYTES_MAX || value.contains(char::is_control) {
        let form = format!("must have 1 to {LIST_VALUE_BYTES_MAX} bytes of UTF-8 without control characters");
        checks.refuse(field, form);
    } else if !seen.insert(value) {
        checks.refuse(field, "must not name a value that the request names already");
    }
}

pub(in crate::wire) fn list_updated(answered: &Answered<ListOutcome>) -> proto::UpdateListResponse {
    let Answered { answer, replayed } = answered;
    proto::UpdateListResponse { entries: answer.values, position: answer.position, replayed: *replayed }
}

/// A part of a list that is asked for: its name, the value that it stands behind, and how many there may be.
///
/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn get_list(
    request: &proto::GetListRequest,
    admission: Admission,
) -> Result<(String, String, usize), Fault> {
    let mut checks = Checks::new(admission);
    let list = checks.required_id(&request.list, Field::new("list", 1));
    let limit = request.limit as usize;
    if limit > LIST_PAGE_MAX {
        checks.refuse(Field::new("limit", 3), format!("must be at most {LIST_PAGE_MAX}; 0 is as many"));
    }
    match list {
        Some(list) if checks.is_clean() => {
            let limit = if limit == 0 { LIST_PAGE_MAX } else { limit };
            Ok((list.as_str().to_owned(), request.after.clone(), limit))
        }
        _ => Err(checks.into_fault()),
    }
}

pub(in crate::wire) fn page(page: Page, limit: usize) -> proto::GetListResponse {
    let is_full = page.entries.len() == limit;
    let next = page.entries.last().filter(|_| is_full).map(|last| last.entry.value.to_string());
    let entry = |StandingEntry { entry, in_file }: StandingEntry| proto::StandingEntry {
        entry: Some(proto::ListEntry {
            value: entry.value.into(),
            expires_at: entry.expires_at.map(timestamp),
            source: entry.source.into(),
        }),
        in_file,
    };
    proto::GetListResponse {
        entries: page.entries.into_iter().map(entry).collect(),
        total: page.values,
        next: next.unwrap_or_default(),
    }
}

/// # Errors
/// [`Fault::Invalid`] with every bad field.
pub(in crate::wire) fn label_transaction(
    request: &proto::LabelTransactionRequest,
    admission: Admission,
) -> Result<Labelling, Fault> {
    let mut checks = Checks::new(admission);
    let key = request_id(&mut checks, &request.request_id);
    let transaction = checks.required_id(&request.transaction_id, Field::new("transaction_id", 2));
    let label = checks.required_code(request.label, FraudLabel::from_number, Field::new("label", 3));
    let kind = checks.text(&request.kind, Field::new("kind", 4)).unwrap_or_default();
    let source = checks.text(&request.source, Field::new("source", 5)).unwrap_or_default();
    let occurred_at = checks.time(request.occurred_at.as_ref(), Field::new("occurred_at", 6));
    match (key, transaction, label) {
        (Some(key), Some(transaction), Some(label)) if checks.is_clean() => {
            Ok(Labelling { key, transaction: RequestKey(transaction), label, kind, source, occurred_at })
        }
        _ => Err(checks.into_fault()),
    }
}

/// One label of a transaction.
pub(super) fn label(labelled: &Labelled) -> proto::TransactionLabel {
    let Labelling { label, kind, source, occurred_at, .. } = &labelled.labelling;
    proto::TransactionLabel {
        label: i32::from(label.number()),
        kind: kind.to_string(),
        source: source.to_string(),
        occurred_at: occurred_at.map(timestamp),
        labelled_at: Some(timestamp(labelled.time)),
        position: labelled.outcome.position,
    }
}

//! The rows of a file by time, those of the same time as the file has them.
//!
//! A file that is in order is read as it is replayed, a little ahead, on a thread of its own. One that is not is
//! read whole first and sorted, which takes about a kilobyte of memory a row.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    vec::IntoIter,
};

use super::{BadRow, Rows, Selection, Survey, Transaction};

/// Rows handed from thread to thread at once.
const BATCH_ROWS: usize = 128;
/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 16;

/// A transaction and its place in the file, from 0, rows passed over not counted.
#[derive(Clone, PartialEq, Debug)]
pub struct Placed {
    pub place: u64,
    pub transaction: Transaction,
}

type Batch = Vec<Result<Placed, BadRow>>;

/// Rows in the order of their replay. After an error there are no more.
pub struct Replay {
    batches: Receiver<Batch>,
    batch: IntoIter<Result<Placed, BadRow>>,
    file: PathBuf,
    given: u64,
    /// What the survey counted.
    expected: u64,
    ended: bool,
}

impl Replay {
    pub(super) fn start(survey: &Survey) -> Result<Replay, BadRow> {
        let Survey { selection, in_order, .. } = *survey;
        let file = survey.file.clone();
        let (sender, batches) = sync_channel(BATCHES_AHEAD);
        // Whoever no longer takes rows has dropped the other end; that is not for this thread to judge.
        let read = move || match Rows::open(&file, selection.skip_bad_rows) {
            Err(error) => drop(sender.send(vec![Err(error)])),
            Ok(rows) if in_order => hand_over(placed(rows, selection), &sender),
            Ok(rows) => match placed(rows, selection).collect::<Result<Vec<_>, _>>() {
                Err(error) => drop(sender.send(vec![Err(error)])),
                Ok(mut rows) => {
                    // Stable, so that rows of the same time stay in file order.
                    rows.sort_by_key(|row| row.transaction.request.transaction_time);
                    hand_over(rows.into_iter().map(Ok), &sender);
                }
            },
        };
        let replay = Replay {
            batches,
            batch: Vec::new().into_iter(),
            file: survey.file.clone(),
            given: 0,
            expected: survey.rows,
            ended: false,
        };
        match thread::Builder::new().name("saker-history".to_owned()).spawn(read) {
            Ok(_) => Ok(replay),
            Err(error) => Err(replay.failed(format!("no thread can be started to read it: {error}"))),
        }
    }

    fn failed(&self, why: String) -> BadRow {
        BadRow { file: self.file.display().to_string(), line: 0, column: None, why }
    }
}

impl Iterator for Replay {
    type Item = Result<Placed, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            if let Some(row) = self.batch.next() {
                self.given += 1;
                self.ended = row.is_err();
                return Some(row);
            }
            match self.batches.recv() {
                Ok(batch) => self.batch = batch.into_iter(),
                Err(_) => self.ended = true,
            }
            if self.ended && self.given != self.expected {
                let (given, expected) = (self.given, self.expected);
                let why =
                    format!("changed while it was replayed: {given} rows, {expected} when it was surveyed");
                return Some(Err(self.failed(why)));
            }
        }
        None
    }
}

fn placed(rows: Rows<Transaction>, selection: Selection) -> impl Iterator<Item = Result<Placed, BadRow>> {
    let limit = usize::try_from(selection.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let placed = |(place, row): (usize, Result<Transaction, BadRow>)| {
        row.map(|transaction| Placed { place: place as u64, transaction })
    };
    rows.take(limit).enumerate().map(placed)
}

/// Sends rows until nobody takes them any more.
fn hand_over(rows: impl Iterator<Item = Result<Placed, BadRow>>, sender: &SyncSender<Batch>) {
    let mut batch = Vec::with_capacity(BATCH_ROWS);
    for row in rows {
        batch.push(row);
        if batch.len() == BATCH_ROWS {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_ROWS));
            if sender.send(full).is_err() {
                return;
            }
        }
    }
    drop(sender.send(batch));
}

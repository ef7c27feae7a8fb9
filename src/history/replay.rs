//! The rows of a file by time, those of the same time as the file has them.
//!
//! A file that is in order is read as it is replayed, a little ahead, on a thread of its own. One that is not is
//! read whole first and sorted, which takes about a kilobyte of memory a row.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
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

/// Rows in the order of their replay, lent by [`Replay::next_row`], or copied by the iterator. After an error there are no
/// more.
pub struct Replay {
    batches: Receiver<Batch>,
    /// Where batches go whose rows were given, so that their memory is used again.
    emptied: Sender<Batch>,
    batch: Batch,
    /// Rows given of the batch.
    at: usize,
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
        let (emptied, again) = channel();
        // Whoever no longer takes rows has dropped the other end; that is not for this thread to judge.
        let read = move || match Rows::open(&file, selection.skip_bad_rows) {
            Err(error) => drop(sender.send(vec![Err(error)])),
            Ok(rows) if in_order => hand_over(placed(rows, selection), &sender, &again),
            Ok(rows) => match placed(rows, selection).collect::<Result<Vec<_>, _>>() {
                Err(error) => drop(sender.send(vec![Err(error)])),
                Ok(mut rows) => {
                    // Stable, so that rows of the same time stay in file order.
                    rows.sort_by_key(|row| row.transaction.request.transaction_time);
                    hand_over(rows.into_iter().map(Ok), &sender, &again);
                }
            },
        };
        let replay = Replay {
            batches,
            emptied,
            batch: Vec::with_capacity(BATCH_ROWS),
            at: 0,
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

    /// The next row, where it lies: a row has about a kilobyte.
    pub fn next_row(&mut self) -> Option<Result<&Placed, BadRow>> {
        while !self.ended && self.at == self.batch.len() {
            match self.batches.recv() {
                Ok(batch) => {
                    let mut emptied = std::mem::replace(&mut self.batch, batch);
                    self.at = 0;
                    emptied.clear();
                    // Whoever reads has perhaps come to the end.
                    drop(self.emptied.send(emptied));
                }
                Err(_) => {
                    self.ended = true;
                    let (given, expected) = (self.given, self.expected);
                    if given != expected {
                        let why = format!(
                            "changed while it was replayed: {given} rows, {expected} when it was surveyed"
                        );
                        return Some(Err(self.failed(why)));
                    }
                }
            }
        }
        if self.ended {
            return None;
        }
        self.at += 1;
        self.given += 1;
        match &self.batch[self.at - 1] {
            Ok(row) => Some(Ok(row)),
            Err(bad) => {
                self.ended = true;
                Some(Err(bad.clone()))
            }
        }
    }
}

impl Iterator for Replay {
    type Item = Result<Placed, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().map(|row| row.cloned())
    }
}

fn placed(rows: Rows<Transaction>, selection: Selection) -> impl Iterator<Item = Result<Placed, BadRow>> {
    let limit = usize::try_from(selection.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let placed = |(place, row): (usize, Result<Transaction, BadRow>)| {
        row.map(|transaction| Placed { place: place as u64, transaction })
    };
    rows.take(limit).enumerate().map(placed)
}

/// Sends rows until nobody takes them any more, in batches that come back in `again`.
fn hand_over(
    rows: impl Iterator<Item = Result<Placed, BadRow>>,
    sender: &SyncSender<Batch>,
    again: &Receiver<Batch>,
) {
    let empty = || again.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH_ROWS));
    let mut batch = empty();
    for row in rows {
        batch.push(row);
        if batch.len() == BATCH_ROWS {
            if sender.send(batch).is_err() {
                return;
            }
            batch = empty();
        }
    }
    drop(sender.send(batch));
}

//! Every request that was sent and every answer that came, and what is wrong between them. An answer is written to a
//! file of the checker's own and synced before it enters the book, so that nothing is counted as acknowledged that the
//! checker itself could forget.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use saker::proto::Account;
use tonic::Code;

use super::exchange::{Answer, Request};

/// Violations kept with their text; further ones are only counted.
const TEXTS_MAX: usize = 20;

/// What can be wrong with an engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wrong {
    /// An acknowledged answer is gone.
    Lost,
    /// A repeat was answered otherwise than the first time.
    Changed,
    /// One key was decided twice, or more is held than the answers say.
    DoubleHold,
    /// An approval left the exposure above the limit.
    OverLimit,
    /// Anything else that contradicts the contract.
    Other,
}

/// One key.
pub struct Entry {
    pub request: Request,
    /// As first given; `None` while the outcome is open.
    pub answer: Option<Answer>,
    /// Answers that did not say `replayed`.
    firsts: u32,
}

/// The whole history.
#[derive(Default)]
pub struct Book {
    pub entries: HashMap<String, Entry>,
    /// Keys of answered requests, in the order in which their answers were learnt.
    pub answered: Vec<String>,
    /// Answers received and kept, repeats included.
    pub acknowledged: u64,
    /// Of them, answers to authorisations, repeats not counted twice.
    pub decisions: u64,
    pub errors: BTreeMap<String, u64>,
    pub latency_worst: Duration,
    /// The highest `last_position` that a read has shown, by account.
    pub revealed: HashMap<String, u64>,
    wrong: BTreeMap<Wrong, u64>,
    texts: Vec<String>,
}

impl Book {
    /// Before a request leaves: from here on its outcome is open.
    pub fn sending(&mut self, request: &Request) {
        self.entries.entry(request.key().to_owned()).or_insert_with(|| Entry {
            request: request.clone(),
            answer: None,
            firsts: 0,
        });
    }

    /// The answer to a request that was sent with its own body.
    fn learn(&mut self, key: &str, answer: Answer) {
        self.acknowledged += 1;
        let Some(entry) = self.entries.get_mut(key) else {
            return self.wrong(Wrong::Other, || format!("{key}: answered without having been asked"));
        };
        let replayed = answer.is_replayed();
        let answer = answer.into_first_given();
        entry.firsts += u32::from(!replayed);
        let firsts = entry.firsts;
        let first = match &entry.answer {
            Some(known) => known.clone(),
            None => {
                entry.answer = Some(answer.clone());
                self.decisions += u64::from(matches!(answer, Answer::Authorisation(_)));
                self.answered.push(key.to_owned());
                answer.clone()
            }
        };
        if first.bytes() != answer.bytes() {
            self.wrong(Wrong::Changed, || format!("{key}: answered {first:?}, then {answer:?}"));
        }
        if firsts > 1 {
            self.wrong(Wrong::DoubleHold, || format!("{key}: decided {firsts} times, lastly {answer:?}"));
        }
        if answer.response_code() == Answer::DUPLICATE_KEY {
            self.wrong(Wrong::Other, || format!("{key}: 94 though its body was always the same"));
        }
    }

    /// The answer to a known key that was sent with another body.
    pub fn conflict(&mut self, key: &str, answer: &Answer) {
        if answer.response_code() != Answer::DUPLICATE_KEY {
            self.wrong(Wrong::Other, || format!("{key} with another body: not 94 but {answer:?}"));
        }
    }

    /// What a read showed of an account; it may not be gone after a crash.
    pub fn saw(&mut self, account: &Account) {
        let Account { account_id, credit_limit_minor, posted_minor, held_minor, available_minor, .. } =
            account;
        let (limit, posted) = (credit_limit_minor.unwrap_or(0), posted_minor.unwrap_or(0));
        let available = i128::from(limit) - i128::from(posted) - i128::from(*held_minor);
        if i128::from(*available_minor) != available || *held_minor < 0 {
            self.wrong(Wrong::Other, || format!("{account_id}: its own figures do not add up: {account:?}"));
        }
        let revealed = self.revealed.entry(account_id.clone()).or_default();
        *revealed = account.last_position.max(*revealed);
    }

    pub fn error(&mut self, code: Code) {
        *self.errors.entry(format!("{code:?}")).or_default() += 1;
    }

    pub fn wrong(&mut self, wrong: Wrong, text: impl FnOnce() -> String) {
        *self.wrong.entry(wrong).or_default() += 1;
        if self.texts.len() < TEXTS_MAX {
            self.texts.push(format!("{wrong:?}: {}", text()));
        }
    }

    pub fn count_wrong(&self, wrong: Wrong) -> u64 {
        self.wrong.get(&wrong).copied().unwrap_or(0)
    }

    /// What is wrong, the first of it in words.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Requests whose outcome is open.
    pub fn open(&self) -> Vec<Request> {
        self.entries
            .values()
            .filter(|entry| entry.answer.is_none())
            .map(|entry| entry.request.clone())
            .collect()
    }
}

/// Takes answers from many clients; one thread writes and syncs whatever has gathered, then enters it in the book.
pub struct Clerk {
    desk: mpsc::Sender<Paper>,
    pub book: Arc<Mutex<Book>>,
}

#[allow(clippy::large_enum_variant, reason = "nearly all are answers, the largest")]
enum Paper {
    Answer {
        key: String,
        answer: Answer,
    },
    /// Answered when everything before it is in the book.
    Mark(mpsc::Sender<()>),
}

impl Clerk {
    pub fn start(file: &Path) -> io::Result<Clerk> {
        let file = File::create(file)?;
        let book = Arc::new(Mutex::new(Book::default()));
        let (desk, papers) = mpsc::channel();
        let clerk = Clerk { desk, book: book.clone() };
        thread::spawn(move || {
            keep(file, &papers, &book).expect("the checker's own file must be written, or nothing is proven");
        });
        Ok(clerk)
    }

    pub fn answer(&self, key: &str, answer: Answer) {
        self.desk
            .send(Paper::Answer { key: key.to_owned(), answer })
            .expect("the clerk outlives its clients");
    }

    /// Waits until every answer handed in so far is synced and in the book.
    pub fn flush(&self) {
        let (done, is_done) = mpsc::channel();
        self.desk.send(Paper::Mark(done)).expect("the clerk outlives its clients");
        is_done.recv().expect("the clerk answers every mark");
    }
}

fn keep(mut file: File, papers: &mpsc::Receiver<Paper>, book: &Mutex<Book>) -> io::Result<()> {
    while let Ok(first) = papers.recv() {
        let batch: Vec<Paper> = std::iter::once(first).chain(papers.try_iter()).collect();
        let mut lines = String::new();
        for paper in &batch {
            if let Paper::Answer { key, answer } = paper {
                let _ = write!(lines, "{key} ");
                answer.bytes().iter().for_each(|byte| {
                    let _ = write!(lines, "{byte:02x}");
                });
                lines.push('\n');
            }
        }
        file.write_all(lines.as_bytes())?;
        file.sync_data()?;
        let mut book = book.lock();
        for paper in batch {
            match paper {
                Paper::Answer { key, answer } => book.learn(&key, answer),
                Paper::Mark(done) => {
                    let _ = done.send(());
                }
            }
        }
    }
    Ok(())
}

//! Reads the log in order while it is written, behind the durable position: for whoever keeps something that is a
//! function of the records. Every frame's checksum and the sequence are checked; the chain is recovery's affair.

use std::sync::Arc;

use super::{
    Journal, Record,
    error::{Fault, FaultKind, ReadError},
    frame::{FRAME_BYTES_MAX, Kind, SEAL_BYTES, parse},
    segment::{SEGMENT_HEADER_BYTES, segment_name},
    storage::StorageFile,
};

/// Bytes read at once at most, at least one frame and a seal.
const WINDOW_BYTES: usize = 256 * 1024 + FRAME_BYTES_MAX + SEAL_BYTES;
/// Bytes read for each record that is missing. Most take less; where one takes more, the rest is read the next time.
const RECORD_BYTES: usize = 768;
/// Bytes read at once at least: a page.
const WINDOW_BYTES_MIN: usize = 4096;

/// A place in the log that moves on. Holds the open file of its segment, not the journal.
pub struct Follower {
    /// The position that is given next.
    next: u64,
    place: Option<Placed>,
    window: Vec<u8>,
}

struct Placed {
    segment: u64,
    offset: u64,
    /// The sequence of the frame at the offset; below `next` while the way there is passed over.
    sequence: u64,
    file: Arc<dyn StorageFile>,
}

impl Placed {
    /// Reads from the place on, as far as the file goes.
    fn read(&self, window: &mut [u8]) -> Result<usize, ReadError> {
        self.file.read_at(self.offset, window).map_err(|source| ReadError::Io {
            operation: "read",
            file: segment_name(self.segment),
            source,
        })
    }
}

impl Follower {
    /// Begins with the record at `first`, or the first one behind it.
    pub fn new(first: u64) -> Follower {
        Follower { next: first.max(1), place: None, window: Vec::new() }
    }

    /// The position that is given next; everything before has been.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Gives some of the records that are durable, in order, each once; abandoned positions are passed over in silence.
    /// False where there is nothing more at this moment. Reads the file: not for a runtime's thread.
    ///
    /// # Errors
    /// [`ReadError`] where the log cannot be read or no longer holds what was written; the place stays.
    pub fn follow(
        &mut self,
        journal: &Journal,
        on_record: &mut dyn FnMut(Record<'_>),
    ) -> Result<bool, ReadError> {
        let durable = journal.durable();
        if self.next > durable {
            return Ok(false);
        }
        let storage = &journal.handle.shared.storage;
        if self.place.is_none() {
            let found = journal.handle.shared.index.lock().before(self.next);
            let Some(found) = found else { return Ok(false) };
            let segment = u64::from(found.segment);
            self.place = Some(Placed {
                segment,
                offset: u64::from(found.offset),
                sequence: found.sequence,
                file: open(&**storage, segment)?,
            });
        }
        let Some(place) = &mut self.place else { return Ok(false) };
        self.window.resize(WINDOW_BYTES, 0);
        // Behind what is durable there is room that was taken in advance, which is not worth reading.
        let missing = usize::try_from(durable - place.sequence.min(durable) + 1).unwrap_or(usize::MAX);
        let wanted = missing.saturating_mul(RECORD_BYTES).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES);
        let mut filled = place.read(&mut self.window[..wanted])?;
        if wanted < WINDOW_BYTES && parse(&self.window[..filled], journal.id().salt()).is_none() {
            // A longer frame than most, or none.
            filled = place.read(&mut self.window)?;
        }
        let mut at = 0;
        while place.sequence <= durable
            && let Some(frame) = parse(&self.window[at..filled], journal.id().salt())
        {
            if frame.kind != Kind::Seal {
                if frame.sequence != place.sequence {
                    let kind = FaultKind::Gap { found_sequence: frame.sequence, found_group: frame.group };
                    return Err(fault(place, at, kind));
                }
                if frame.kind == Kind::Record && frame.sequence >= self.next {
                    on_record(Record { position: frame.sequence, payload: frame.payload });
                }
                place.sequence += 1;
                self.next = self.next.max(place.sequence);
            }
            at += frame.bytes;
        }
        place.offset += at as u64;
        if at > 0 || place.sequence > durable {
            return Ok(true);
        }
        // Durable, and not here: then it stands in the segment after this one.
        if place.segment > journal.closed_segments() {
            return Err(fault(place, 0, FaultKind::Unreadable));
        }
        let segment = place.segment + 1;
        let file = open(&**storage, segment)?;
        *place = Placed { segment, offset: SEGMENT_HEADER_BYTES as u64, file, ..*place };
        Ok(true)
    }
}

fn open(storage: &dyn super::Storage, segment: u64) -> Result<Arc<dyn StorageFile>, ReadError> {
    let file = segment_name(segment);
    storage.open(&file).map_err(|source| ReadError::Io { operation: "open", file, source })
}

fn fault(place: &Placed, at: usize, kind: FaultKind) -> ReadError {
    let (file, offset) = (segment_name(place.segment), place.offset + at as u64);
    Fault { file, offset, sequence: place.sequence, kind }.into()
}

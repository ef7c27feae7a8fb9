//! Fields of fixed width read back from bytes that a disk gave: little-endian, texts with their length before them.
//!
//! For what is written whole and read whole (accounts, windows, snapshots). The journal's records, which are written
//! by the thousand and kept for ever, have a denser layout of their own.

use super::ids::Id;

/// Bytes that do not hold what they should.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} at byte {byte}")]
pub struct Misread {
    /// Counted from the start of what was read.
    pub byte: usize,
    pub what: &'static str,
}

/// Reads forwards and knows where it is.
#[derive(Clone, Debug)]
pub struct Fields<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Fields<'b> {
    pub fn new(bytes: &'b [u8]) -> Fields<'b> {
        Fields { bytes, at: 0 }
    }

    /// That something is wrong at this place.
    pub fn misread(&self, what: &'static str) -> Misread {
        Misread { byte: self.at, what }
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// Where fewer are left, as for all that follow.
    pub fn slice(&mut self, count: usize) -> Result<&'b [u8], Misread> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(self.misread("the bytes end too early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Misread> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(N)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8, Misread> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Misread> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Misread> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Misread> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Misread> {
        self.array().map(i32::from_le_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Misread> {
        self.array().map(i64::from_le_bytes)
    }

    pub fn f64(&mut self) -> Result<f64, Misread> {
        self.array().map(f64::from_le_bytes)
    }

    /// A text of at most 255 bytes, as [`put_text`] writes it.
    pub fn text(&mut self) -> Result<&'b str, Misread> {
        let count = self.u8()?;
        let bytes = self.slice(usize::from(count))?;
        std::str::from_utf8(bytes).map_err(|_| self.misread("not a text"))
    }

    pub fn id(&mut self) -> Result<Id, Misread> {
        let text = self.text()?;
        Id::new(text).map_err(|_| self.misread("not an id"))
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'b [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    /// # Errors
    /// Where bytes are left over.
    pub fn end(&self) -> Result<(), Misread> {
        match self.at == self.bytes.len() {
            true => Ok(()),
            false => Err(self.misread("bytes left over")),
        }
    }
}

/// Appends a text and its length before it. What is longer than 255 bytes is cut: the callers' bounds are far below.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(usize::from(u8::MAX))];
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

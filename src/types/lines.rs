//! On which line of a file a record of CSV begins.
//!
//! The CSV reader's own count is of the line feeds that it has consumed, and it looks for a record from where the one
//! before it ended: blank lines, and the line feed behind a carriage return, are passed over only then. Its count is too
//! low by them.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

/// An input whose lines are counted on their way to the reader.
pub struct Lines<R> {
    input: R,
    /// Bytes that were handed out.
    handed_out: u64,
    last: Option<u8>,
    /// Where the present line begins.
    line_start: u64,
    /// The bytes behind the text of each line that ended and may still be asked for, its line break not included; nought
    /// where it has no text.
    text_ends: VecDeque<u64>,
    /// The line of the first of them, or of the next byte where there is none; from 1.
    line: u64,
}

impl<R> Lines<R> {
    pub fn new(input: R) -> Lines<R> {
        Lines { input, handed_out: 0, last: None, line_start: 0, text_ends: VecDeque::new(), line: 1 }
    }

    /// The line, from 1, of the first text at or behind this byte, which must have been read and must not be before one
    /// that was asked for already.
    pub fn of_text_behind(&mut self, byte: u64) -> u64 {
        while self.text_ends.front().is_some_and(|end| *end <= byte) {
            self.text_ends.pop_front();
            self.line += 1;
        }
        self.line
    }

    fn follow(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.handed_out += part.len() as u64;
            if let Some(text) = part.strip_suffix(b"\n") {
                let has_return = text.last().copied().or(self.last) == Some(b'\r');
                let end = self.handed_out - 1 - u64::from(has_return);
                self.text_ends.push_back(if end > self.line_start { end } else { 0 });
                self.line_start = self.handed_out;
            }
            self.last = part.last().copied();
        }
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.follow(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte at a time, so that every line break is cut through.
    struct Drops<'t>(&'t [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(1);
            self.0.read(&mut buffer[..most])
        }
    }

    #[test]
    fn a_record_is_told_by_the_line_that_an_editor_shows_whatever_stands_before_it() {
        let text = "\n\nid,note\r\n\r\nlast,\"two\n\nlines\"\nnext,\r\n\n\n\"\r\n\",x\rbeside,x\r\n\nend,x";
        let expected = [("last", 5), ("next", 8), ("\r\n", 11), ("beside", 12), ("end", 14)];
        let inputs: [Box<dyn Read>; 2] = [Box::new(text.as_bytes()), Box::new(Drops(text.as_bytes()))];
        for input in inputs {
            let mut reader = csv::Reader::from_reader(Lines::new(input));
            reader.headers().unwrap();
            assert_eq!(reader.get_mut().of_text_behind(0), 3);
            let mut record = csv::StringRecord::new();
            let mut found = Vec::new();
            while reader.read_record(&mut record).unwrap() {
                let begins = record.position().unwrap().byte();
                found.push((record[0].to_owned(), reader.get_mut().of_text_behind(begins)));
            }
            let found: Vec<(&str, u64)> = found.iter().map(|(id, line)| (id.as_str(), *line)).collect();
            assert_eq!(found, expected);
        }
    }
}

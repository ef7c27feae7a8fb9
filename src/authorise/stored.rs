//! What one account holds as bytes, for whoever writes it to a disk.
//!
//! ```text
//! 0                                   a place that was taken and never opened
//! 1 | bytes of the account u32 | account | windows to the end
//! ```

use super::entry::Entry;
use crate::{
    features::{self, History, Plan},
    ledger::Account,
    types::bytes::{Fields, Misread},
};

/// Why an entry could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EntryError {
    #[error("{0}")]
    Account(#[from] Misread),
    #[error("{0}")]
    Windows(#[from] features::DecodeError),
}

impl Entry {
    /// Appends everything. Short, so that it can be done under the account's lock; allocates where `out` is too small.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Some(account) = &self.account else {
            out.push(0);
            return;
        };
        out.push(1);
        let length_at = out.len();
        out.extend([0; 4]);
        account.encode(out);
        let length = (out.len() - length_at - 4) as u32;
        out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        self.history.encode(out);
    }

    /// Reads what [`Entry::encode`] wrote; all of `bytes` must be it. The plans are those of [`History::decode`].
    ///
    /// # Errors
    /// Where the bytes are no such entry.
    pub fn decode<'p>(
        bytes: &[u8],
        plan: &'p Plan,
        plan_of: impl Fn(u64) -> Option<&'p Plan>,
    ) -> Result<Entry, EntryError> {
        let mut fields = Fields::new(bytes);
        match fields.u8()? {
            0 => {
                fields.end()?;
                Ok(Entry::default())
            }
            1 => {
                let length = fields.u32()? as usize;
                let account = Account::decode(fields.slice(length)?)?;
                let history = History::decode(fields.rest(), plan, plan_of)?;
                Ok(Entry { account: Some(account), history })
            }
            _ => Err(fields.misread("neither opened nor not").into()),
        }
    }
}

//! Windows over keys that cross accounts: a merchant's, a device's, an address's.
//!
//! They are a pure function of the journal up to a position. Whoever decides reads them before the account's lock is
//! taken and stores what was read with the decision, and up to which position it was complete.
//!
//! Deliberately absent: locks and threads (the engine's), and anything that a read could change.

mod event;
mod read;
mod stub;
pub use stub::*;

pub use event::{Parts, SharedEvent};
pub use read::{SharedRead, SharedValue};

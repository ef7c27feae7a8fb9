//! Between protobuf and the engine's own types: `from_proto` checks every field on the way in, `to_proto` writes
//! answers on the way out, `checks` collects what is wrong.
//!
//! Deliberately absent: any decision. What is well-formed passes, however unlikely it looks; whatever is not is
//! named with its path, all of it at once, and nothing is repaired or defaulted on the way.

mod checks;
pub(super) mod from_proto;
pub(super) mod lists;
pub(super) mod to_proto;

#[cfg(test)]
mod tests;

pub(super) use checks::Admission;

//! What a decision is made from: the fields of the request, exact sliding windows over what the account and its
//! cards did before, and the features computed from both.

pub mod aggregate;
pub mod catalog;
pub mod event;
mod fields;
pub mod values;

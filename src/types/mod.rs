//! The words the whole house shares: money, ids, time, requests and answers.
//!
//! Nothing here decides, stores or sends anything, and nothing here knows protobuf, files or clocks
//! (a [`time::Clock`] is a trait; who implements it lives elsewhere).

pub mod account;
pub mod auth;
pub mod base;
pub mod bytes;
pub mod challenge;
pub mod codes;
pub mod fault;
pub mod ids;
pub mod lines;
pub mod lists;
pub mod money;
pub mod outcome;
pub mod reasons;
pub mod spelling;
pub mod time;

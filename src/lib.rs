//! Saker: a card issuer's real-time authorisation and fraud-scoring engine.
//!
//! # Layout
//!
//! One request goes one way; each room is a folder, and the arrows of `use` point the same way.
//!
//! - [`wire`]: gRPC in and out; the only room that names protobuf types.
//! - [`engine`]: the wiring: threads, recovery, repeats, time; what runs where.
//! - [`authorise`]: the decision in eight stages, under one account's lock, without I/O. Start reading here.
//! - [`ledger`]: accounts, cards and holds. [`features`]: exact windows and what is computed from them. [`rules`]:
//!   the analysts' file, checked and compiled. [`model`]: flat trees, their file, training and reasons.
//! - [`journal`]: the hash-chained log that is audit trail and write-ahead log in one.
//! - [`types`], [`limits`], [`config`]: the words, the bounds, what an operator may set.
//! - [`observe`]: metrics. [`admin`]: HTTP for scrapes and probes. [`sim`], [`history`]: a seeded world, and CSV.
//! - [`cli`]: one file per verb.
//!
//! ```text
//! types <- {features, ledger, journal, rules, model} <- authorise <- observe <- engine <- admin <- {wire, sim} <- cli
//! ```
//!
//! `ARCHITECTURE.md` has the invariants, and what is deliberately absent.

pub mod admin;
pub mod authorise;
pub mod canary;
pub mod cli;
pub mod config;
pub mod engine;
pub mod features;
pub mod history;
pub mod journal;
pub mod ledger;
pub mod limits;
pub mod model;
pub mod observe;
pub mod rules;
pub mod sim;
pub mod types;
pub mod wire;

/// The protobuf types of `saker.v1`, generated at build time. Only `wire` and the command line's own clients may
/// name them.
pub mod proto {
    #![allow(clippy::all, missing_docs)]
    tonic::include_proto!("saker.v1");

    /// The compiled descriptors, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

//! Saker: a card issuer's real-time authorisation and fraud-scoring engine.

pub mod cli;
pub mod features;
pub mod limits;
pub mod types;

/// The protobuf types of `saker.v1`, generated at build time. Only `wire` and the command line's own clients may
/// name them.
pub mod proto {
    #![allow(clippy::all, missing_docs)]
    tonic::include_proto!("saker.v1");

    /// The compiled descriptors, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

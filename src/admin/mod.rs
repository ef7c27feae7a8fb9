//! What operators and their tools see and change of a running engine besides gRPC. Never in the way of a decision: it
//! runs on threads of its own.
//!
//! No authorisation is ever answered here, and by default only this machine is listened to.

pub mod http;
pub mod models;
pub mod rules;
mod watch;

pub use watch::Watch;

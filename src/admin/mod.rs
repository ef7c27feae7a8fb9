//! What operators and their tools see of a running engine besides gRPC. Never in the way of a decision: it runs on a
//! thread of its own and answers from what the engine left behind.
//!
//! No authorisation is ever answered here, and by default only this machine is listened to.

pub mod http;

//! The only room that knows gRPC: everything protobuf, HTTP/2 or a gRPC status stays behind this door.
//!
//! One call goes `listener` (connections, runtimes, drain) -> `dispatch` (which service; deadline; panics) -> one file
//! per service -> `convert` (checks every field, both directions) -> the engine. `status` is the one place where a
//! [`Fault`](crate::types::fault::Fault) becomes a gRPC status.
//!
//! Deliberately absent: decisions, retries, queues and clocks of its own. A request is either handed to the engine
//! whole and in the order it came, or refused with every bad field named. No log line and no message repeats what a
//! client sent, since it may be a card number.

mod accounts;
mod authorisation;
mod authorise_stream;
mod bound;
mod convert;
mod deadline;
mod decisions;
mod dispatch;
mod door;
mod health;
mod in_flight;
mod listener;
mod risk;
mod status;
mod unary;

pub use bound::Bound;
pub use convert::to_proto::authorise_request;
pub use listener::{Options, Server, serve};
pub use status::code_name;

//! What is not a decision: a request that cannot be taken, or an engine that cannot answer. A fault is never
//! turned into a decline, so that the network can stand in.

use super::codes::ResponseCode;

/// One bad field, by its protobuf path from the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Such as `merchant.latitude`.
    pub field: &'static str,
    /// Never repeats the content of the field.
    pub description: String,
    /// The DE39 code of the field: amounts and currencies 13, kinds and combinations 12, `card_token` 14, any
    /// other 30.
    pub response_code: ResponseCode,
    /// The field's number in its message, which ranks several.
    pub number: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    #[error("the request is malformed")]
    Invalid(Vec<Violation>),
    #[error("not found")]
    NotFound { what: &'static str },
    /// With what was probably meant.
    #[error("there is no such rule")]
    NoSuchRule { meant: Option<String> },
    /// The rules declare no list of that name; perhaps the one of this name was meant.
    #[error("list not found")]
    NoSuchList { meant: Option<String> },
    /// The key was used before with another body, in a call whose answer cannot say so.
    #[error("the key was used before with another body")]
    KeyReused,
    /// Nothing changed; a retry after the hint is decided anew.
    #[error("too much load")]
    Overloaded { retry_after_ms: u32, what: &'static str },
    /// The engine cannot decide, or cannot make a decision durable.
    #[error("unavailable: {0}")]
    Unavailable(&'static str),
    /// The deadline passed before the record was queued: nothing changed.
    #[error("the deadline passed before the request was started")]
    DeadlineNotStarted,
    /// The deadline passed afterwards: the hold is released, also for every retry.
    #[error("the deadline passed and the authorisation is void")]
    DeadlineVoided,
    #[error("not built yet")]
    Unimplemented,
    #[error("internal error")]
    Internal,
}

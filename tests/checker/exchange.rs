//! What was asked and what was answered, in the words of the protobuf alone.

use prost::Message as _;
use saker::proto::{AuthoriseRequest, AuthoriseResponse, Outcome, ReverseRequest, SetCreditLimitRequest};

/// A request that carries a key.
#[allow(clippy::large_enum_variant, reason = "nearly all are authorisations, the largest")]
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    Authorise(AuthoriseRequest),
    Reverse(ReverseRequest),
    SetCreditLimit(SetCreditLimitRequest),
}

impl Request {
    pub fn key(&self) -> &str {
        match self {
            Request::Authorise(request) => &request.transaction_id,
            Request::Reverse(request) => &request.request_id,
            Request::SetCreditLimit(request) => &request.request_id,
        }
    }
}

/// The answer to one.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    Authorisation(AuthoriseResponse),
    Outcome(Outcome),
}

impl Answer {
    /// The DE39 code of a key that was used before with another body.
    pub const DUPLICATE_KEY: &str = "94";

    pub fn response_code(&self) -> &str {
        match self {
            Answer::Authorisation(answer) => &answer.response_code,
            Answer::Outcome(answer) => &answer.response_code,
        }
    }

    pub fn position(&self) -> u64 {
        match self {
            Answer::Authorisation(answer) => answer.position,
            Answer::Outcome(answer) => answer.position,
        }
    }

    pub fn is_replayed(&self) -> bool {
        match self {
            Answer::Authorisation(answer) => answer.replayed,
            Answer::Outcome(answer) => answer.replayed,
        }
    }

    /// The answer but for `replayed`: what every repeat must be equal to, byte by byte.
    pub fn into_first_given(mut self) -> Answer {
        match &mut self {
            Answer::Authorisation(answer) => answer.replayed = false,
            Answer::Outcome(answer) => answer.replayed = false,
        }
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Answer::Authorisation(answer) => answer.encode_to_vec(),
            Answer::Outcome(answer) => answer.encode_to_vec(),
        }
    }
}

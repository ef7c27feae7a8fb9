//! The one place where a fault becomes a gRPC status: code, `ErrorInfo` with the switch's DE39, the bad fields, and
//! a retry hint where load was the cause.
//!
//! Deliberately absent: business outcomes. A decline is an answer and never passes here. The two errors that tonic
//! gives before a message exists (not protobuf: INTERNAL, too large: OUT_OF_RANGE) leave as they are.

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::{
    engine::UNAVAILABLE_CAUSES,
    observe::CallResult,
    types::{
        codes::ResponseCode,
        fault::{Fault, Violation},
        outcome::Outcome,
    },
};

const DOMAIN: &str = "saker.v1";

/// The cause of a refusal while the server winds down, as `ErrorInfo.reason` has it.
pub(super) const DRAINING: &str = "DRAINING";

/// The status of a whole call.
pub(super) fn of_call(fault: &Fault) -> Status {
    let code = code(fault);
    let mut metadata = HashMap::from([("response_code".to_owned(), response_code(fault).to_string())]);
    if let Some(outcome) = outcome(fault) {
        metadata.insert("outcome".to_owned(), outcome.to_owned());
    }
    let mut details = ErrorDetails::with_error_info(reason(fault), DOMAIN, metadata);
    match fault {
        Fault::Invalid(violations) => {
            details.set_bad_request(violations.iter().map(field_violation).collect::<Vec<_>>());
        }
        Fault::Overloaded { retry_after_ms, .. } => {
            details.set_retry_info(Some(Duration::from_millis(u64::from(*retry_after_ms))));
        }
        _ => {}
    }
    Status::with_error_details(code, message(fault), details)
}

/// The status of one item of a stream, a batch or an upload: the same as of a call, as `google.rpc.Status`.
pub(super) fn of_item(fault: &Fault) -> tonic_types::Status {
    as_item(&of_call(fault))
}

fn as_item(status: &Status) -> tonic_types::Status {
    // The bytes were encoded from this type a moment ago, so they decode; should they not, the code and the
    // message still reach the client.
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: i32::from(status.code()),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// The status of a row of an upload that the engine answered with anything but 00, such as a key used before with
/// another body: an upload has no place for outcomes, so the refusal carries it.
pub(super) fn of_refused_row(outcome: &Outcome) -> tonic_types::Status {
    let (reason, text) = outcome
        .reasons
        .first()
        .map_or(("REFUSED", "The row was refused."), |reason| (&*reason.code, &*reason.text));
    let code = match outcome.response_code {
        ResponseCode::DUPLICATE => Code::AlreadyExists,
        _ => Code::FailedPrecondition,
    };
    let metadata = HashMap::from([("response_code".to_owned(), outcome.response_code.to_string())]);
    let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    as_item(&Status::with_error_details(code, text, details))
}

/// The gRPC code of a fault.
pub(super) fn code(fault: &Fault) -> Code {
    match fault {
        Fault::Invalid(_) => Code::InvalidArgument,
        Fault::NotFound { .. } | Fault::NoSuchRule { .. } | Fault::NoSuchList { .. } => Code::NotFound,
        Fault::KeyReused => Code::AlreadyExists,
        Fault::Overloaded { .. } => Code::ResourceExhausted,
        Fault::Unavailable(_) => Code::Unavailable,
        Fault::DeadlineNotStarted | Fault::DeadlineVoided => Code::DeadlineExceeded,
        Fault::Unimplemented => Code::Unimplemented,
        Fault::Internal => Code::Internal,
    }
}

/// The name of a code, as specifications write it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// `ErrorInfo.reason`. A cause of unavailability that the engine writes in capitals is the reason itself.
pub(super) fn reason(fault: &Fault) -> &'static str {
    match fault {
        Fault::Invalid(_) => "INVALID_REQUEST",
        Fault::NotFound { .. } | Fault::NoSuchRule { .. } | Fault::NoSuchList { .. } => "NOT_FOUND",
        Fault::KeyReused => "DUPLICATE_KEY",
        Fault::Overloaded { .. } => "OVERLOADED",
        Fault::Unavailable(cause) => {
            let is_reason = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
            if !cause.is_empty() && cause.bytes().all(is_reason) { cause } else { "UNAVAILABLE" }
        }
        Fault::DeadlineNotStarted | Fault::DeadlineVoided => "DEADLINE_EXCEEDED",
        Fault::Unimplemented => "UNIMPLEMENTED",
        Fault::Internal => "INTERNAL",
    }
}

/// Code and reason of every fault that a call or an item can end in.
pub(super) fn failures() -> impl Iterator<Item = (&'static str, &'static str)> {
    let others = [
        Fault::Invalid(Vec::new()),
        Fault::NotFound { what: "" },
        Fault::KeyReused,
        Fault::Overloaded { retry_after_ms: 0, what: "" },
        Fault::DeadlineNotStarted,
        Fault::Unimplemented,
        Fault::Internal,
    ];
    let faults = UNAVAILABLE_CAUSES.map(Fault::Unavailable).into_iter().chain(others);
    faults.map(|fault| (code_name(code(&fault)), reason(&fault)))
}

/// Who has to do something about a call that ended with this code, which the engine chose.
pub(super) fn at_fault(code: Code) -> CallResult {
    match code {
        Code::Ok => CallResult::Ok,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Cancelled
        | Code::Unauthenticated => CallResult::ClientError,
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => CallResult::ServerError,
    }
}

/// What a passed deadline left behind.
fn outcome(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::DeadlineNotStarted => Some("NOT_STARTED"),
        Fault::DeadlineVoided => Some("VOIDED"),
        _ => None,
    }
}

fn response_code(fault: &Fault) -> ResponseCode {
    match fault {
        // min_by_key keeps the first of equals: of several violations of one field the first found speaks.
        Fault::Invalid(violations) => violations
            .iter()
            .min_by_key(|violation| violation.number)
            .map_or(ResponseCode::FORMAT_ERROR, |violation| violation.response_code),
        Fault::NotFound { .. } | Fault::NoSuchRule { .. } | Fault::NoSuchList { .. } => {
            ResponseCode::INVALID_CARD
        }
        Fault::KeyReused => ResponseCode::DUPLICATE,
        Fault::Overloaded { .. }
        | Fault::Unavailable(_)
        | Fault::DeadlineNotStarted
        | Fault::DeadlineVoided => ResponseCode::INOPERATIVE,
        Fault::Unimplemented => ResponseCode::INVALID_TRANSACTION,
        Fault::Internal => ResponseCode::MALFUNCTION,
    }
}

/// For people who read no details: names the bad fields, never their content.
fn message(fault: &Fault) -> String {
    match fault {
        Fault::Invalid(violations) => {
            let fields: Vec<&str> = violations.iter().map(|violation| violation.field).collect();
            format!("bad fields: {}", fields.join(", "))
        }
        Fault::NotFound { what } => format!("{what} not found"),
        Fault::NoSuchRule { meant: Some(meant) } => format!("{fault}; {meant}"),
        Fault::NoSuchList { meant } => match meant {
            Some(meant) => format!("list not found; did you mean `{meant}`?"),
            None => "list not found: the rules declare none of that name".to_owned(),
        },
        Fault::Overloaded { what, .. } => format!("too much load: {what}"),
        other => other.to_string(),
    }
}

fn field_violation(violation: &Violation) -> FieldViolation {
    FieldViolation::new(violation.field, violation.description.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::RpcStatusExt as _;

    fn violation(field: &'static str, number: u32, response_code: ResponseCode) -> Violation {
        Violation { field, description: "must be otherwise".to_owned(), response_code, number }
    }

    #[test]
    fn every_fault_leaves_with_its_code_reason_and_response_code() {
        let invalid = Fault::Invalid(vec![violation("kind", 2, ResponseCode::INVALID_TRANSACTION)]);
        let overloaded = Fault::Overloaded { retry_after_ms: 20, what: "the journal's ring is full" };
        for (fault, code, reason, response_code, outcome) in [
            (invalid, Code::InvalidArgument, "INVALID_REQUEST", "12", None),
            (Fault::NotFound { what: "account" }, Code::NotFound, "NOT_FOUND", "14", None),
            (Fault::NoSuchRule { meant: None }, Code::NotFound, "NOT_FOUND", "14", None),
            (Fault::NoSuchList { meant: None }, Code::NotFound, "NOT_FOUND", "14", None),
            (Fault::KeyReused, Code::AlreadyExists, "DUPLICATE_KEY", "94", None),
            (overloaded, Code::ResourceExhausted, "OVERLOADED", "91", None),
            (Fault::Unavailable(DRAINING), Code::Unavailable, "DRAINING", "91", None),
            (Fault::Unavailable("the disk is full"), Code::Unavailable, "UNAVAILABLE", "91", None),
            (
                Fault::DeadlineNotStarted,
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                "91",
                Some("NOT_STARTED"),
            ),
            (Fault::DeadlineVoided, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "91", Some("VOIDED")),
            (Fault::Unimplemented, Code::Unimplemented, "UNIMPLEMENTED", "12", None),
            (Fault::Internal, Code::Internal, "INTERNAL", "96", None),
        ] {
            let call = of_call(&fault);
            assert_eq!(call.code(), code, "{fault:?}");
            let info = call.get_details_error_info().expect("every error carries ErrorInfo");
            assert_eq!((info.domain.as_str(), info.reason.as_str()), ("saker.v1", reason), "{fault:?}");
            assert_eq!(info.metadata["response_code"], response_code, "{fault:?}");
            assert_eq!(info.metadata.get("outcome").map(String::as_str), outcome, "{fault:?}");

            let item = of_item(&fault);
            assert_eq!((item.code, item.message.as_str()), (i32::from(code), call.message()));
            assert_eq!(item.get_details_error_info().expect("items too").metadata, info.metadata);
        }
    }

    #[test]
    fn overload_comes_with_a_retry_hint_and_nothing_else_does() {
        let fault = Fault::Overloaded { retry_after_ms: 250, what: "queue" };
        let hint = of_call(&fault).get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(hint, Some(Duration::from_millis(250)));
        assert!(of_call(&Fault::Unavailable(DRAINING)).get_details_retry_info().is_none());
    }

    #[test]
    fn of_several_bad_fields_all_are_named_and_the_smallest_number_gives_the_response_code() {
        let fault = Fault::Invalid(vec![
            violation("merchant.latitude", 8, ResponseCode::FORMAT_ERROR),
            violation("amount.currency_code", 5, ResponseCode::INVALID_AMOUNT),
            violation("card_token", 4, ResponseCode::INVALID_CARD),
        ]);
        for (details, info) in [
            (of_call(&fault).get_details_bad_request(), of_call(&fault).get_details_error_info()),
            (of_item(&fault).get_details_bad_request(), of_item(&fault).get_details_error_info()),
        ] {
            let fields: Vec<String> =
                details.expect("BadRequest").field_violations.into_iter().map(|v| v.field).collect();
            assert_eq!(fields, ["merchant.latitude", "amount.currency_code", "card_token"]);
            assert_eq!(info.expect("ErrorInfo").metadata["response_code"], "14");
        }
    }

    #[test]
    fn the_longest_list_of_bad_fields_fits_a_header() {
        // grpc-java refuses response headers over 8 KiB; the details travel there in base 64.
        let violations =
            (0..40).map(|n| violation("verification.network_risk_score", n, ResponseCode::FORMAT_ERROR));
        let status = of_call(&Fault::Invalid(violations.collect()));
        assert!(status.details().len() * 4 / 3 + status.message().len() < 8 * 1024);
    }
}

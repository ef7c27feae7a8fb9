//! The small closed vocabularies of requests and answers. Their numbers are written to the journal and never
//! change their meaning; they are the numbers of the wire.

/// Declares an enum with the wire's numbers, its bare CSV and JSON names and the conversions between them.
macro_rules! code {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The bare name, as CSV and JSON have it.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// The value of a bare name, in any case.
            pub fn from_name(name: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|v| v.name().eq_ignore_ascii_case(name))
            }

            /// The value of a number of the wire or the journal.
            pub fn from_number(number: u8) -> Option<$name> {
                match number { $($number => Some($name::$variant),)* _ => None }
            }

            pub fn number(self) -> u8 {
                self as u8
            }
        }
    )*};
}

code! {
    /// What is asked of the account.
    Kind {
        Purchase = 1 "PURCHASE",
        PreAuthorisation = 2 "PRE_AUTHORISATION",
        Incremental = 3 "INCREMENTAL",
        CashAdvance = 4 "CASH_ADVANCE",
        AccountVerification = 5 "ACCOUNT_VERIFICATION",
        BalanceInquiry = 6 "BALANCE_INQUIRY",
    }
    Decision {
        Approved = 1 "APPROVED",
        PartiallyApproved = 2 "PARTIALLY_APPROVED",
        Declined = 3 "DECLINED",
        StepUp = 4 "STEP_UP",
    }
    Channel {
        Ecommerce = 1 "ECOMMERCE",
        CardPresent = 2 "CARD_PRESENT",
    }
    /// How the card was presented.
    EntryMode {
        Chip = 1 "CHIP",
        Contactless = 2 "CONTACTLESS",
        MagneticStripe = 3 "MAGNETIC_STRIPE",
        Manual = 4 "MANUAL",
        CredentialOnFile = 5 "CREDENTIAL_ON_FILE",
        Ecommerce = 6 "ECOMMERCE",
    }
    /// Who started the payment.
    Initiation {
        Cardholder = 1 "CARDHOLDER",
        Merchant = 2 "MERCHANT",
        Recurring = 3 "RECURRING",
    }
    /// The outcome of a check made before the engine was asked.
    CheckResult {
        Match = 1 "MATCH",
        NoMatch = 2 "NO_MATCH",
        NotChecked = 3 "NOT_CHECKED",
        /// PIN only: the try counter is used up.
        TriesExceeded = 4 "TRIES_EXCEEDED",
    }
    CardStatus {
        Active = 1 "ACTIVE",
        Blocked = 2 "BLOCKED",
        Lost = 3 "LOST",
        Stolen = 4 "STOLEN",
        Expired = 5 "EXPIRED",
        Closed = 6 "CLOSED",
    }
    AccountStatus {
        Active = 1 "ACTIVE",
        Blocked = 2 "BLOCKED",
        Closed = 3 "CLOSED",
    }
    /// The stage of the decision a reason comes from. The order is the order of precedence.
    ReasonSource {
        Status = 1 "STATUS",
        Verification = 2 "VERIFICATION",
        List = 3 "LIST",
        Rule = 4 "RULE",
        Model = 5 "MODEL",
        ProductLimit = 6 "PRODUCT_LIMIT",
        Credit = 7 "CREDIT",
        /// A remark that decides nothing.
        Engine = 8 "ENGINE",
    }
}

/// ISO 8583 data element 39: two characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResponseCode([u8; 2]);

impl ResponseCode {
    pub const APPROVED: ResponseCode = ResponseCode(*b"00");
    pub const REFER: ResponseCode = ResponseCode(*b"01");
    pub const PARTIAL: ResponseCode = ResponseCode(*b"10");
    pub const INVALID_TRANSACTION: ResponseCode = ResponseCode(*b"12");
    pub const INVALID_AMOUNT: ResponseCode = ResponseCode(*b"13");
    pub const INVALID_CARD: ResponseCode = ResponseCode(*b"14");
    pub const STEP_UP: ResponseCode = ResponseCode(*b"1A");
    pub const FORMAT_ERROR: ResponseCode = ResponseCode(*b"30");
    pub const LOST: ResponseCode = ResponseCode(*b"41");
    pub const STOLEN: ResponseCode = ResponseCode(*b"43");
    pub const CLOSED: ResponseCode = ResponseCode(*b"46");
    pub const INSUFFICIENT_FUNDS: ResponseCode = ResponseCode(*b"51");
    pub const EXPIRED: ResponseCode = ResponseCode(*b"54");
    pub const WRONG_PIN: ResponseCode = ResponseCode(*b"55");
    pub const SUSPECTED_FRAUD: ResponseCode = ResponseCode(*b"59");
    pub const AMOUNT_LIMIT: ResponseCode = ResponseCode(*b"61");
    pub const RESTRICTED: ResponseCode = ResponseCode(*b"62");
    pub const SECURITY_VIOLATION: ResponseCode = ResponseCode(*b"63");
    pub const COUNT_LIMIT: ResponseCode = ResponseCode(*b"65");
    pub const PIN_TRIES: ResponseCode = ResponseCode(*b"75");
    pub const VERIFIED: ResponseCode = ResponseCode(*b"85");
    pub const INOPERATIVE: ResponseCode = ResponseCode(*b"91");
    pub const DUPLICATE: ResponseCode = ResponseCode(*b"94");
    pub const MALFUNCTION: ResponseCode = ResponseCode(*b"96");
    pub const CVV_FAILURE: ResponseCode = ResponseCode(*b"N7");

    /// What an authorisation may be answered with whatever the rules say; they add theirs.
    pub const OF_ANSWERS: [ResponseCode; 17] = [
        ResponseCode::APPROVED,
        ResponseCode::PARTIAL,
        ResponseCode::INVALID_TRANSACTION,
        ResponseCode::INVALID_AMOUNT,
        ResponseCode::INVALID_CARD,
        ResponseCode::LOST,
        ResponseCode::STOLEN,
        ResponseCode::CLOSED,
        ResponseCode::INSUFFICIENT_FUNDS,
        ResponseCode::EXPIRED,
        ResponseCode::WRONG_PIN,
        ResponseCode::SUSPECTED_FRAUD,
        ResponseCode::RESTRICTED,
        ResponseCode::SECURITY_VIOLATION,
        ResponseCode::PIN_TRIES,
        ResponseCode::VERIFIED,
        ResponseCode::CVV_FAILURE,
    ];

    /// A code of two ASCII letters or digits; `None` for anything else.
    pub fn new(text: &str) -> Option<ResponseCode> {
        let bytes: [u8; 2] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_alphanumeric).then_some(ResponseCode(bytes))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII is constructed")
    }
}

impl std::fmt::Debug for ResponseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

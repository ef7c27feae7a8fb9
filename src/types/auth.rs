//! The authorisation request as the engine sees it, and its answer.

use arrayvec::ArrayString;

use super::{
    codes::{Channel, CheckResult, Decision, EntryMode, Initiation, Kind, ResponseCode},
    ids::{AccountId, CardToken, Id, RequestKey},
    money::Money,
    reasons::{Label, Reasons},
    time::Timestamp,
};

/// What names the account in a request: exactly one of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    Account(AccountId),
    Card(CardToken),
}

/// A request that has passed the wire's checks: every field is well-formed, nothing is decided yet.
#[derive(Clone, PartialEq, Debug)]
pub struct AuthRequest {
    pub key: RequestKey,
    pub kind: Kind,
    pub subject: Subject,
    /// Absent for a balance inquiry only.
    pub amount: Option<Money>,
    pub billing_amount: Option<Money>,
    /// As sent; the engine's own time is another matter.
    pub transaction_time: Option<Timestamp>,
    pub merchant: Merchant,
    pub channel: Option<Channel>,
    pub entry_mode: Option<EntryMode>,
    pub initiation: Option<Initiation>,
    pub verification: Verification,
    pub device_id: Option<Id>,
    pub ip_address: Option<Id>,
    pub network: Network,
    pub partial_approval_allowed: bool,
    pub single_message: bool,
    pub cashback_amount: Option<Money>,
    pub original: Option<RequestKey>,
    pub instalments: u32,
}

impl AuthRequest {
    /// A request with nothing but what names it; the rest is absent.
    pub fn new(key: RequestKey, kind: Kind, subject: Subject) -> AuthRequest {
        AuthRequest {
            key,
            kind,
            subject,
            amount: None,
            billing_amount: None,
            transaction_time: None,
            merchant: Merchant::default(),
            channel: None,
            entry_mode: None,
            initiation: None,
            verification: Verification::default(),
            device_id: None,
            ip_address: None,
            network: Network::default(),
            partial_approval_allowed: false,
            single_message: false,
            cashback_amount: None,
            original: None,
            instalments: 0,
        }
    }

    /// What would be held: the billing amount where given, else the amount.
    pub fn billed(&self) -> Option<Money> {
        self.billing_amount.or(self.amount)
    }

    /// The kind it is decided as: what would hold nothing is an account verification.
    pub fn decided_as(&self) -> Kind {
        match (self.kind, self.billed()) {
            (Kind::Purchase | Kind::PreAuthorisation | Kind::CashAdvance, Some(billed))
                if billed.minor == 0 =>
            {
                Kind::AccountVerification
            }
            (kind, _) => kind,
        }
    }
}

/// Where the card is used.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Merchant {
    /// Absent for a balance inquiry only.
    pub merchant_id: Option<Id>,
    pub terminal_id: Option<Id>,
    pub acquirer_id: Option<Id>,
    /// Merchant category code, 0 to 9999.
    pub mcc: Option<u16>,
    pub name: Option<Box<str>>,
    pub country: Option<Country>,
    pub place: Option<Place>,
}

/// ISO 3166 alpha-2: two capital letters. Unassigned ones are accepted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    pub fn new(text: &str) -> Option<Country> {
        let bytes: [u8; 2] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_uppercase).then_some(Country(bytes))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII is constructed")
    }

    /// Both letters, in ASCII.
    pub fn letters(self) -> [u8; 2] {
        self.0
    }
}

impl std::fmt::Debug for Country {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A point on the earth, in degrees: latitude -90 to 90, longitude -180 to 180, both finite.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Place {
    pub latitude: f64,
    pub longitude: f64,
}

impl Place {
    pub fn new(latitude: f64, longitude: f64) -> Option<Place> {
        let inside = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        inside.then_some(Place { latitude, longitude })
    }
}

/// Checks made before the engine was asked.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Verification {
    pub cvv: Option<CheckResult>,
    pub avs: Option<CheckResult>,
    pub pin: Option<CheckResult>,
    pub three_ds: Option<CheckResult>,
    /// Electronic commerce indicator, two digits.
    pub eci: Option<ArrayString<2>>,
    pub network_risk_score: Option<u32>,
}

/// Trace data of the card network: kept for the record, never part of what makes a repeat the same request.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Network {
    pub scheme: Option<Box<str>>,
    /// System trace audit number (DE11).
    pub stan: Option<Box<str>>,
    pub retrieval_reference_number: Option<Box<str>>,
    pub network_transaction_id: Option<Box<str>>,
    pub transmission_time: Option<Box<str>>,
}

/// The parts of the engine that were missing when a decision was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Degraded(pub u8);

impl Degraded {
    pub const NONE: Degraded = Degraded(0);
    pub const MODEL: Degraded = Degraded(1);

    pub fn with(self, part: Degraded) -> Degraded {
        Degraded(self.0 | part.0)
    }

    /// The names of the missing parts.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [(Degraded::MODEL, "model")]
            .into_iter()
            .filter(move |(part, _)| self.0 & part.0 != 0)
            .map(|(_, name)| name)
    }
}

/// The stored answer to an authorisation: what a repeat gets again.
#[derive(Clone, PartialEq, Debug)]
pub struct AuthAnswer {
    pub decision: Decision,
    pub response_code: ResponseCode,
    /// Mastercard merchant advice code, two digits.
    pub advice_code: Option<ArrayString<2>>,
    /// Equal to the hold (or to what was posted); absent where no account is known.
    pub approved: Option<Money>,
    /// After the decision; negative where exposure is above the limit.
    pub available: Option<Money>,
    pub reasons: Reasons,
    /// 0 to 999; 0 without a model.
    pub score: u16,
    /// The model's margin in log-odds, of which `score` is the coarse form; absent where nothing was scored.
    pub margin: Option<f64>,
    pub rules_version: Label,
    /// Empty without a model.
    pub model_version: Label,
    pub degraded: Degraded,
    pub decided_at: Timestamp,
    pub hold_expires_at: Option<Timestamp>,
    /// The journal sequence of the decision.
    pub position: u64,
}

impl AuthAnswer {
    /// Six characters for the merchant's receipt (DE38), approvals only: the position in base 32, without letters
    /// that look like digits (Crockford's alphabet), and so the same at every replay. No code is given for an
    /// account verification.
    pub fn authorisation_code(&self) -> Option<ArrayString<6>> {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let holds = matches!(self.decision, Decision::Approved | Decision::PartiallyApproved)
            && matches!(self.response_code, ResponseCode::APPROVED | ResponseCode::PARTIAL)
            && self.approved.is_some();
        holds.then(|| {
            let mut code = ArrayString::new();
            for digit in (0..6).rev() {
                code.push(char::from(ALPHABET[((self.position >> (5 * digit)) & 31) as usize]));
            }
            code
        })
    }
}

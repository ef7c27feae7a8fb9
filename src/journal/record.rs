//! What a record says: the payload of one journal frame, from the request as it came to the answer as it went.
//!
//! ```text
//! payload   kind u8 | version u8 | fields of the kind, in the order of the structs below
//! integer   LEB128; signed ones zig-zag first
//! text      length as LEB128 | bytes of UTF-8
//! optional  0 | 1 value;  the optional fields of a request share one bit map before them
//! f32, f64  little-endian, IEEE 754
//! vector    bit map of what is present, 1 bit a place | the present values as f32
//! ```
//!
//! The position of a record stands in its frame and is not repeated here. Versions of rules, model and
//! configuration are introduced once, by [`Introduced`], and named by number afterwards.

use arrayvec::ArrayString;

use crate::{
    features::catalog::{MODEL_FEATURES, MODEL_FEATURES_FIRST},
    limits::REASONS_MAX,
    types::{
        account::{AccountChange, CardChange, Day},
        auth::{AuthAnswer, AuthRequest, Country, Degraded, Merchant, Network, Place, Subject, Verification},
        challenge::{Challenged, Declining},
        codes::{
            AccountStatus, CardStatus, Channel, CheckResult, Decision, EntryMode, Initiation, Kind,
            ReasonSource, ResponseCode,
        },
        ids::{AccountId, CardToken, Id, RequestKey},
        lists::{FraudLabel, Labelling, ListKind, ListUpdate, Listing, TransactionIds},
        money::{Currency, Money},
        outcome::{Maintenance, Outcome, Reversal, Upserted},
        reasons::{Label, Reason, Reasons},
        time::Timestamp,
    },
};

/// The version of the layout below, in every payload.
const VERSION: u8 = 3;
/// Of the record of a label that says what windows across accounts count; of one that does not it is [`VERSION`].
const VERSION_COUNTED: u8 = 4;
/// Of a decision that a challenger scored too; of others it is [`VERSION`]. Both know [`MODEL_FEATURES_FIRST`] features.
const VERSION_CHALLENGED: u8 = 4;
/// Of a decision that says how many features it knows, and whether a challenger scored it too.
const VERSION_FEATURES: u8 = 5;

/// Marks a decision without a card: an account with several cards was named.
pub const NO_CARD: u8 = u8::MAX;

/// Numbers of the versions a decision was made with; 0 where there was none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct VersionNumbers {
    pub rules: u32,
    pub model: u32,
    pub config: u32,
}

/// Which kind of thing a version belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Versioned {
    Rules = 1,
    Model = 2,
    Config = 3,
    /// The model that scores in shadow.
    Challenger = 4,
}

impl Versioned {
    /// In lower case, for messages and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Versioned::Rules => "rules",
            Versioned::Model => "model",
            Versioned::Config => "config",
            Versioned::Challenger => "challenger",
        }
    }
}

/// A version that decides from here on. Its text is kept in the data directory under its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Introduced {
    pub time: Timestamp,
    pub what: Versioned,
    pub number: u32,
    /// The first hexadecimal digits of the BLAKE3 hash of the text; empty for «no model».
    pub version: String,
}

/// One authorisation, decided.
#[derive(Clone, PartialEq, Debug)]
pub struct Decided {
    pub client: u32,
    /// The engine's time at the door.
    pub time: Timestamp,
    pub request: AuthRequest,
    /// Absent where card or account is unknown.
    pub account: Option<AccountId>,
    /// Place of the card in its account, or [`NO_CARD`].
    pub card: u8,
    pub versions: VersionNumbers,
    /// The position of the record that made the lists which the rules saw; 0 where none had.
    pub lists: u64,
    pub answer: AuthAnswer,
    /// The position of an increment's original on this account, as it was found.
    pub original: Option<u64>,
    /// The position of the first authorisation of the chain, for an increment that was approved.
    pub first: Option<u64>,
    pub considered: Considered,
    /// Absent where no challenger scored the request.
    pub challenged: Option<Challenged>,
}

/// What the decision was made from.
#[derive(Clone, Debug)]
pub struct Considered {
    /// The model's features; NaN where missing. All missing where nothing was considered.
    pub vector: [f32; MODEL_FEATURES],
    /// How many of them the program knew that decided; the rest is missing.
    pub features: usize,
    /// The aggregates of the rules file, in its order.
    pub aggregates: Vec<Option<i64>>,
    /// Up to which position the windows that cross accounts were complete; 0 where none were read. Their values are
    /// among the aggregates: counts, or minor units of the base currency.
    pub shared_to: u64,
    /// Places in the rules file of the live and of the shadow rules that fired.
    pub fired: Vec<u16>,
    pub shadow_fired: Vec<u16>,
}

impl Default for Considered {
    fn default() -> Self {
        Considered {
            vector: [f32::NAN; MODEL_FEATURES],
            features: MODEL_FEATURES,
            aggregates: Vec::new(),
            shared_to: 0,
            fired: Vec::new(),
            shadow_fired: Vec::new(),
        }
    }
}

/// Equal where every value is equal bit for bit, missing ones included.
impl PartialEq for Considered {
    fn eq(&self, other: &Self) -> bool {
        let bits = |v: &[f32; MODEL_FEATURES]| v.map(f32::to_bits);
        bits(&self.vector) == bits(&other.vector)
            && self.features == other.features
            && self.aggregates == other.aggregates
            && self.shared_to == other.shared_to
            && self.fired == other.fired
            && self.shadow_fired == other.shadow_fired
    }
}

/// An authorisation refused because its key was used before with another body. Counted and listed, not remembered.
#[derive(Clone, PartialEq, Debug)]
pub struct Duplicated {
    pub client: u32,
    pub time: Timestamp,
    pub request: AuthRequest,
    pub versions: VersionNumbers,
    /// The record that has the key.
    pub of: u64,
}

/// An authorisation whose deadline passed after it was queued: what it held is free again.
#[derive(Clone, PartialEq, Debug)]
pub struct Voided {
    pub client: u32,
    pub time: Timestamp,
    pub key: RequestKey,
    /// The authorisation's own record.
    pub of: u64,
    pub account: Option<AccountId>,
    pub freed_minor: i64,
}

/// What a reversal found under the original's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Original {
    /// Nothing yet: from now on the key is spoken for, and the authorisation will be declined.
    NotArrived,
    /// An earlier reversal that came before the authorisation.
    ReversedBefore(u64),
    /// Its record.
    At(u64),
}

/// A reversal and its outcome.
#[derive(Clone, PartialEq, Debug)]
pub struct Reversed {
    pub client: u32,
    pub time: Timestamp,
    pub reversal: Reversal,
    pub original: Original,
    pub account: Option<AccountId>,
    pub outcome: Outcome,
}

/// A change to an account or a card and its outcome.
#[derive(Clone, PartialEq, Debug)]
pub struct Maintained {
    pub client: u32,
    pub time: Timestamp,
    pub change: Maintenance,
    pub account: AccountId,
    pub outcome: Outcome,
}

/// Holds of an idle account whose deadline had come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expiry {
    pub time: Timestamp,
    pub account: AccountId,
    pub holds: u64,
    pub amount_minor: i64,
}

/// A change to a list by a call, and what followed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub client: u32,
    pub time: Timestamp,
    pub update: ListUpdate,
    /// What the list was declared to hold by the rules named here.
    pub kind: ListKind,
    pub versions: VersionNumbers,
    /// For each value that was removed, whether the rules file has it, so that it is kept out.
    pub kept_out: Vec<bool>,
    /// Values on the list from then on, those of the rules file included.
    pub values: u64,
}

/// A label for a transaction, and what followed.
#[derive(Clone, PartialEq, Debug)]
pub struct Labelled {
    pub client: u32,
    pub time: Timestamp,
    pub labelling: Labelling,
    /// The record of the transaction's authorisation.
    pub of: u64,
    pub account: Option<AccountId>,
    /// The record of the label before; 0 where none is known.
    pub before: u64,
    /// What label policies may put on lists.
    pub ids: TransactionIds,
    /// Those that have the policies.
    pub versions: VersionNumbers,
    pub listed: Vec<Listing>,
    pub outcome: Outcome,
    /// `None` where no window remembers the transaction, and in records that were written before there was this.
    pub counted: Option<Counted>,
}

/// What windows across accounts need to know of a labelled transaction beside its ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    /// When it was decided.
    pub time: Timestamp,
    /// As it was decided.
    pub kind: Kind,
    pub decision: Decision,
    pub declined_for_credit: bool,
    /// The card's place in windows.
    pub card: u8,
    pub billed: Option<Money>,
    pub channel: Option<Channel>,
    pub mcc: Option<u16>,
    pub country: Option<Country>,
    /// The labels that had come for it before, one bit for the number of each.
    pub said: u8,
}

impl Counted {
    /// Whether this label had come for it before.
    pub fn has_said(&self, label: FraudLabel) -> bool {
        self.said & Counted::bit(label) != 0
    }

    pub fn bit(label: FraudLabel) -> u8 {
        1 << label.number()
    }
}

/// One record of the journal.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    Introduced(Introduced),
    Decided(Box<Decided>),
    Duplicated(Box<Duplicated>),
    Voided(Voided),
    Reversed(Box<Reversed>),
    Maintained(Box<Maintained>),
    Expiry(Expiry),
    Listed(Box<Listed>),
    Labelled(Box<Labelled>),
}

/// Why a payload cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("record of kind {kind}: {what} at byte {byte} of the payload")]
pub struct DecodeError {
    pub kind: u8,
    pub byte: usize,
    pub what: &'static str,
}

/// Turns version numbers back into names while reading.
pub trait VersionNames {
    fn name(&self, what: Versioned, number: u32) -> Label;
}

/// For those who need no names.
struct Nameless;

impl VersionNames for Nameless {
    fn name(&self, _: Versioned, _: u32) -> Label {
        Label::Static("")
    }
}

impl Record {
    /// Reads a payload. `position` is that of its frame.
    ///
    /// # Errors
    /// Where the payload is of another version, of an unknown kind, too short, too long, or a field has no such value.
    pub fn decode(payload: &[u8], position: u64, names: &dyn VersionNames) -> Result<Record, DecodeError> {
        Reader { bytes: payload, at: 0, is_brief: false }.record(position, names)
    }

    /// The same, and as strict, without what only an answer and its explanation need: of the reasons there is the first,
    /// without its texts, and nothing of the versions' names or of what was considered. For recovery, which reads
    /// millions of records to do what they did.
    ///
    /// # Errors
    /// As [`Record::decode`].
    pub fn decode_brief(payload: &[u8], position: u64) -> Result<Record, DecodeError> {
        Reader { bytes: payload, at: 0, is_brief: true }.record(position, &Nameless)
    }

    /// Appends the payload of any record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Introduced(record) => record.encode(out),
            Record::Decided(record) => record.view().encode(out),
            Record::Duplicated(record) => {
                encode_duplicated(
                    out,
                    record.client,
                    record.time,
                    &record.request,
                    record.versions,
                    record.of,
                );
            }
            Record::Voided(record) => record.encode(out),
            Record::Reversed(record) => record.encode(out),
            Record::Maintained(record) => record.encode(out),
            Record::Expiry(record) => record.encode(out),
            Record::Listed(record) => record.encode(out),
            Record::Labelled(record) => record.encode(out),
        }
    }
}

/// A decision about to be written, borrowed from where it was made: writing it allocates nothing.
pub struct DecidedView<'a, A, F> {
    pub client: u32,
    pub time: Timestamp,
    pub request: &'a AuthRequest,
    pub account: Option<&'a AccountId>,
    pub card: u8,
    pub versions: VersionNumbers,
    pub lists: u64,
    pub answer: &'a AuthAnswer,
    pub original: Option<u64>,
    pub first: Option<u64>,
    pub vector: &'a [f32; MODEL_FEATURES],
    /// How many of them are known: all, but where a record of an earlier program is made again.
    pub features: usize,
    /// Aggregates in the order of the rules file.
    pub aggregates: A,
    /// Below the answer's position; 0 where nothing was read.
    pub shared_to: u64,
    pub fired: F,
    pub shadow_fired: F,
    pub challenged: Option<Challenged>,
}

impl Decided {
    fn view(
        &self,
    ) -> DecidedView<'_, impl ExactSizeIterator<Item = Option<i64>> + '_, impl Iterator<Item = u16> + '_>
    {
        DecidedView {
            client: self.client,
            time: self.time,
            request: &self.request,
            account: self.account.as_ref(),
            card: self.card,
            versions: self.versions,
            lists: self.lists,
            answer: &self.answer,
            original: self.original,
            first: self.first,
            vector: &self.considered.vector,
            features: self.considered.features,
            aggregates: self.considered.aggregates.iter().copied(),
            shared_to: self.considered.shared_to,
            fired: self.considered.fired.iter().copied(),
            shadow_fired: self.considered.shadow_fired.iter().copied(),
            challenged: self.challenged,
        }
    }
}

impl<A, F> DecidedView<'_, A, F>
where
    A: ExactSizeIterator<Item = Option<i64>>,
    F: Iterator<Item = u16>,
{
    /// Appends the payload.
    pub fn encode(self, out: &mut Vec<u8>) {
        let mut w = Writer(out);
        let knows_first_alone = self.features == MODEL_FEATURES_FIRST;
        w.start_as(
            2,
            match self.challenged {
                _ if !knows_first_alone => VERSION_FEATURES,
                Some(_) => VERSION_CHALLENGED,
                None => VERSION,
            },
        );
        w.u(u64::from(self.client));
        w.i(self.time.0);
        w.request(self.request);
        w.optional(self.account, |w, account| w.text(account.as_str()));
        w.u8(self.card);
        w.versions(self.versions);
        w.u(self.lists);
        w.answer(self.answer);
        w.optional(self.original, Writer::u);
        w.optional(self.first, Writer::u);
        if !knows_first_alone {
            w.u8(self.features as u8);
        }
        w.vector(&self.vector[..self.features]);
        w.u(self.aggregates.len() as u64);
        for value in self.aggregates {
            w.optional(value, |w, value| w.i(value));
        }
        // How far behind the position, so that it is short; 0 where nothing was read.
        let behind = self.answer.position.saturating_sub(self.shared_to);
        w.u(if self.shared_to == 0 { 0 } else { behind });
        for fired in [self.fired, self.shadow_fired] {
            // Places are counted from 1, so that 0 can end the list.
            for rule in fired {
                w.u(u64::from(rule) + 1);
            }
            w.u8(0);
        }
        if !knows_first_alone {
            w.u8(u8::from(self.challenged.is_some()));
        }
        if let Some(Challenged { number, margin, score, declining }) = self.challenged {
            w.u(u64::from(number));
            w.f64(margin);
            w.u(u64::from(score));
            w.u8(declining as u8);
        }
    }
}

/// Appends the payload of a [`Duplicated`].
pub fn encode_duplicated(
    out: &mut Vec<u8>,
    client: u32,
    time: Timestamp,
    request: &AuthRequest,
    versions: VersionNumbers,
    of: u64,
) {
    let mut w = Writer(out);
    w.start(3);
    w.u(u64::from(client));
    w.i(time.0);
    w.request(request);
    w.versions(versions);
    w.u(of);
}

impl Introduced {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer(out);
        w.start(1);
        w.i(self.time.0);
        w.u8(self.what as u8);
        w.u(u64::from(self.number));
        w.text(&self.version);
    }
}

impl Voided {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer(out);
        w.start(4);
        w.u(u64::from(self.client));
        w.i(self.time.0);
        w.text(self.key.as_str());
        w.u(self.of);
        w.optional(self.account, |w, account| w.text(account.as_str()));
        w.i(self.freed_minor);
    }
}

impl Reversed {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer(out);
        w.start(5);
        w.u(u64::from(self.client));
        w.i(self.time.0);
        w.text(self.reversal.key.as_str());
        w.text(self.reversal.original.as_str());
        w.optional(self.reversal.replacement, Writer::money);
        match self.original {
            Original::NotArrived => w.u8(0),
            Original::ReversedBefore(position) => {
                w.u8(1);
                w.u(position);
            }
            Original::At(position) => {
                w.u8(2);
                w.u(position);
            }
        }
        w.optional(self.account, |w, account| w.text(account.as_str()));
        w.outcome(&self.outcome);
    }
}

impl Maintained {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer(out);
        w.start(6);
        w.u(u64::from(self.client));
        w.i(self.time.0);
        w.text(self.change.key().as_str());
        match &self.change {
            Maintenance::SetAccountStatus { account, status, .. } => {
                w.u8(1);
                w.text(account.as_str());
                w.u8(status.number());
            }
            Maintenance::SetCardStatus { card, status, .. } => {
                w.u8(2);
                w.text(card.as_str());
                w.u8(status.number());
            }
            Maintenance::SetCreditLimit { account, limit_minor, .. } => {
                w.u8(3);
                w.text(account.as_str());
                w.i(*limit_minor);
            }
            Maintenance::Upsert { change, .. } => {
                w.u8(4);
                w.change(change);
            }
        }
        w.text(self.account.as_str());
        w.outcome(&self.outcome);
    }
}

impl Expiry {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer(out);
        w.start(7);
        w.i(self.time.0);
        w.text(self.account.as_str());
        w.u(self.holds);
        w.i(self.amount_minor);
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

/// Bytes of a 64-bit number, seven bits a byte.
const VARINT_BYTES_MAX: usize = 10;

impl Writer<'_> {
    fn start(&mut self, kind: u8) {
        self.start_as(kind, VERSION);
    }

    fn start_as(&mut self, kind: u8, version: u8) {
        self.0.extend_from_slice(&[kind, version]);
    }

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u(&mut self, mut value: u64) {
        if value < 0x80 {
            return self.0.push(value as u8);
        }
        let mut bytes = [0; VARINT_BYTES_MAX];
        let mut len = 0;
        while value >= 0x80 {
            bytes[len] = value as u8 | 0x80;
            value >>= 7;
            len += 1;
        }
        bytes[len] = value as u8;
        self.0.extend_from_slice(&bytes[..=len]);
    }

    fn i(&mut self, value: i64) {
        self.u(((value << 1) ^ (value >> 63)) as u64);
    }

    fn text(&mut self, text: &str) {
        self.u(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn f32(&mut self, value: f32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn f64(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                write(self, value);
            }
        }
    }

    fn money(&mut self, money: Money) {
        self.u(u64::from(money.currency.numeric()));
        self.i(money.minor);
    }

    fn versions(&mut self, versions: VersionNumbers) {
        for number in [versions.rules, versions.model, versions.config] {
            self.u(u64::from(number));
        }
    }

    fn place(&mut self, place: Place) {
        self.f64(place.latitude);
        self.f64(place.longitude);
    }

    fn request(&mut self, r: &AuthRequest) {
        self.text(r.key.as_str());
        self.u8(r.kind.number());
        match &r.subject {
            Subject::Account(account) => {
                self.u8(0);
                self.text(account.as_str());
            }
            Subject::Card(card) => {
                self.u8(1);
                self.text(card.as_str());
            }
        }
        // The bit map is written first as it stands, then filled in: the fields follow in the order of its bits.
        let map_at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        let mut map = 0_u32;
        let mut bit = 0;
        let mut next = |present: bool| {
            map |= u32::from(present) << bit;
            bit += 1;
            present
        };
        macro_rules! field {
            ($option:expr, $value:ident => $write:expr) => {
                if let Some($value) = $option {
                    next(true);
                    $write;
                } else {
                    next(false);
                }
            };
        }
        field!(r.amount, money => self.money(money));
        field!(r.billing_amount, money => self.money(money));
        field!(r.transaction_time, time => self.i(time.0));
        field!(&r.merchant.merchant_id, id => self.text(id.as_str()));
        field!(&r.merchant.terminal_id, id => self.text(id.as_str()));
        field!(&r.merchant.acquirer_id, id => self.text(id.as_str()));
        field!(r.merchant.mcc, mcc => self.u(u64::from(mcc)));
        field!(&r.merchant.name, name => self.text(name));
        field!(&r.merchant.country, country => self.0.extend_from_slice(country.as_str().as_bytes()));
        field!(r.merchant.place, place => self.place(place));
        field!(r.channel, code => self.u8(code.number()));
        field!(r.entry_mode, code => self.u8(code.number()));
        field!(r.initiation, code => self.u8(code.number()));
        field!(r.verification.cvv, code => self.u8(code.number()));
        field!(r.verification.avs, code => self.u8(code.number()));
        field!(r.verification.pin, code => self.u8(code.number()));
        field!(r.verification.three_ds, code => self.u8(code.number()));
        field!(&r.verification.eci, eci => self.text(eci));
        field!(r.verification.network_risk_score, score => self.u(u64::from(score)));
        field!(&r.device_id, id => self.text(id.as_str()));
        field!(&r.ip_address, id => self.text(id.as_str()));
        field!(&r.network.scheme, text => self.text(text));
        field!(&r.network.stan, text => self.text(text));
        field!(&r.network.retrieval_reference_number, text => self.text(text));
        field!(&r.network.network_transaction_id, text => self.text(text));
        field!(&r.network.transmission_time, text => self.text(text));
        field!(r.cashback_amount, money => self.money(money));
        field!(&r.original, key => self.text(key.as_str()));
        field!((r.instalments > 0).then_some(r.instalments), count => self.u(u64::from(count)));
        next(r.partial_approval_allowed);
        next(r.single_message);
        self.0[map_at..map_at + 4].copy_from_slice(&map.to_le_bytes());
    }

    fn answer(&mut self, a: &AuthAnswer) {
        self.u8(a.decision.number());
        self.0.extend_from_slice(a.response_code.as_str().as_bytes());
        self.optional(a.advice_code.as_ref(), |w, code| w.text(code));
        self.optional(a.approved, Writer::money);
        self.optional(a.available, Writer::money);
        self.reasons(&a.reasons);
        self.u(u64::from(a.score));
        self.optional(a.margin, Writer::f64);
        self.u8(a.degraded.0);
        self.optional(a.hold_expires_at, |w, time| w.i(time.0));
    }

    fn reasons(&mut self, reasons: &Reasons) {
        self.u(reasons.len() as u64);
        for reason in reasons {
            self.u8(reason.source.number());
            self.text(&reason.code);
            self.text(&reason.text);
            self.f32(reason.contribution);
        }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        self.0.extend_from_slice(outcome.response_code.as_str().as_bytes());
        self.optional(outcome.moved, Writer::money);
        self.optional(outcome.available, Writer::money);
        self.reasons(&outcome.reasons);
        self.u8(match outcome.upserted {
            None => 0,
            Some(Upserted::Opened) => 1,
            Some(Upserted::Changed) => 2,
            Some(Upserted::Unchanged) => 3,
        });
    }

    fn change(&mut self, c: &AccountChange) {
        self.text(c.account.as_str());
        self.optional(c.currency, |w, currency| w.u(u64::from(currency.numeric())));
        self.optional(c.credit_limit_minor, Writer::i);
        self.optional(c.posted_minor, Writer::i);
        self.optional(c.status, |w, status| w.u8(status.number()));
        self.optional(c.product, |w, product| w.text(product.as_str()));
        self.optional(c.home_country, |w, country| w.0.extend_from_slice(country.as_str().as_bytes()));
        self.optional(c.home, Writer::place);
        self.optional(c.opened_on, |w, day| w.i(i64::from(day.0)));
        self.u(c.cards.len() as u64);
        for card in &c.cards {
            self.text(card.token.as_str());
            self.optional(card.status, |w, status| w.u8(status.number()));
            self.optional(card.expires_on, |w, day| w.i(i64::from(day.0)));
        }
    }

    fn vector(&mut self, vector: &[f32]) {
        for part in vector.chunks(8) {
            let map = part.iter().enumerate().map(|(bit, value)| u8::from(!value.is_nan()) << bit);
            self.u8(map.fold(0, |map, bit| map | bit));
        }
        // Side by side first, so that the buffer is asked for room once.
        let mut bytes = [0; 4 * MODEL_FEATURES];
        let mut len = 0;
        for value in vector.iter().filter(|value| !value.is_nan()) {
            bytes[len..len + 4].copy_from_slice(&value.to_le_bytes());
            len += 4;
        }
        self.0.extend_from_slice(&bytes[..len]);
    }
}

type Read<T> = Result<T, &'static str>;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether what [`Record::decode_brief`] leaves out is read and dropped.
    is_brief: bool,
}

impl<'a> Reader<'a> {
    fn record(mut self, position: u64, names: &dyn VersionNames) -> Result<Record, DecodeError> {
        let kind = self.u8().unwrap_or(0);
        let read = self.record_of(kind, position, names);
        read.map_err(|what| DecodeError { kind, byte: self.at, what })
    }

    fn record_of(&mut self, kind: u8, position: u64, names: &dyn VersionNames) -> Read<Record> {
        let version = self.u8()?;
        let others = [(9, VERSION_COUNTED), (2, VERSION_CHALLENGED), (2, VERSION_FEATURES)];
        if version != VERSION && !others.contains(&(kind, version)) {
            return Err("unknown version");
        }
        let record = match kind {
            1 => Record::Introduced(self.introduced()?),
            2 => Record::Decided(Box::new(self.decided(position, names, version)?)),
            3 => Record::Duplicated(Box::new(self.duplicated()?)),
            4 => Record::Voided(self.voided()?),
            5 => Record::Reversed(Box::new(self.reversed(position)?)),
            6 => Record::Maintained(Box::new(self.maintained(position)?)),
            7 => Record::Expiry(self.expiry()?),
            8 => Record::Listed(Box::new(self.listed()?)),
            9 => Record::Labelled(Box::new(self.labelled(position, version == VERSION_COUNTED)?)),
            _ => return Err("unknown kind"),
        };
        match self.at == self.bytes.len() {
            true => Ok(record),
            false => Err("bytes left over"),
        }
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or("a length does not fit")?;
        let part = self.bytes.get(self.at..end).ok_or("the payload ends early")?;
        self.at = end;
        Ok(part)
    }

    fn u8(&mut self) -> Read<u8> {
        Ok(self.take(1)?[0])
    }

    fn u(&mut self) -> Read<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("an integer is too long")
    }

    fn i(&mut self) -> Read<i64> {
        let value = self.u()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Read<T> {
        T::try_from(self.u()?).map_err(|_| "an integer is too large")
    }

    fn f32(&mut self) -> Read<f32> {
        Ok(f32::from_le_bytes(self.take(4)?.try_into().expect("four bytes were taken")))
    }

    fn f64(&mut self) -> Read<f64> {
        Ok(f64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes were taken")))
    }

    fn text(&mut self) -> Read<&'a str> {
        let length = self.small::<usize>()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| "a text is not UTF-8")
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err("a presence byte is neither 0 nor 1"),
        }
    }

    fn id(&mut self) -> Read<Id> {
        Id::new(self.text()?).map_err(|_| "an id is malformed")
    }

    fn key(&mut self) -> Read<RequestKey> {
        self.id().map(RequestKey)
    }

    fn account(&mut self) -> Read<AccountId> {
        self.id().map(AccountId)
    }

    fn currency(&mut self) -> Read<Currency> {
        Currency::from_numeric(self.small()?).ok_or("unknown currency")
    }

    fn money(&mut self) -> Read<Money> {
        let currency = self.currency()?;
        Ok(Money::new(self.i()?, currency))
    }

    fn versions(&mut self) -> Read<VersionNumbers> {
        Ok(VersionNumbers { rules: self.small()?, model: self.small()?, config: self.small()? })
    }

    fn place(&mut self) -> Read<Place> {
        let (latitude, longitude) = (self.f64()?, self.f64()?);
        Place::new(latitude, longitude).ok_or("a place lies outside the earth")
    }

    fn country(&mut self) -> Read<Country> {
        let text = std::str::from_utf8(self.take(2)?).map_err(|_| "a country is not ASCII")?;
        Country::new(text).ok_or("a country is malformed")
    }

    fn response_code(&mut self) -> Read<ResponseCode> {
        let text = std::str::from_utf8(self.take(2)?).map_err(|_| "a response code is not ASCII")?;
        ResponseCode::new(text).ok_or("a response code is malformed")
    }

    fn code<T>(&mut self, from: impl FnOnce(u8) -> Option<T>) -> Read<T> {
        from(self.u8()?).ok_or("an enum has no such number")
    }

    fn day(&mut self) -> Read<Day> {
        i32::try_from(self.i()?).map(Day).map_err(|_| "a date is out of range")
    }

    fn time(&mut self) -> Read<Timestamp> {
        self.i().map(Timestamp)
    }

    fn short<const N: usize>(&mut self) -> Read<ArrayString<N>> {
        ArrayString::from(self.text()?).map_err(|_| "a code is too long")
    }

    fn request(&mut self) -> Read<AuthRequest> {
        let key = self.key()?;
        let kind = self.code(Kind::from_number)?;
        let subject = match self.u8()? {
            0 => Subject::Account(self.account()?),
            1 => Subject::Card(CardToken(self.id()?)),
            _ => return Err("a subject is neither account nor card"),
        };
        let map = u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes were taken"));
        let mut bit = 0;
        let mut next = || {
            let present = map >> bit & 1 == 1;
            bit += 1;
            present
        };
        macro_rules! field {
            ($read:expr) => {
                if next() { Some($read) } else { None }
            };
        }
        let amount = field!(self.money()?);
        let billing_amount = field!(self.money()?);
        let transaction_time = field!(self.time()?);
        let merchant = Merchant {
            merchant_id: field!(self.id()?),
            terminal_id: field!(self.id()?),
            acquirer_id: field!(self.id()?),
            mcc: field!(self.small()?),
            name: field!(self.text()?.into()),
            country: field!(self.country()?),
            place: field!(self.place()?),
        };
        let channel = field!(self.code(Channel::from_number)?);
        let entry_mode = field!(self.code(EntryMode::from_number)?);
        let initiation = field!(self.code(Initiation::from_number)?);
        let verification = Verification {
            cvv: field!(self.code(CheckResult::from_number)?),
            avs: field!(self.code(CheckResult::from_number)?),
            pin: field!(self.code(CheckResult::from_number)?),
            three_ds: field!(self.code(CheckResult::from_number)?),
            eci: field!(self.short()?),
            network_risk_score: field!(self.small()?),
        };
        let device_id = field!(self.id()?);
        let ip_address = field!(self.id()?);
        let network = Network {
            scheme: field!(self.text()?.into()),
            stan: field!(self.text()?.into()),
            retrieval_reference_number: field!(self.text()?.into()),
            network_transaction_id: field!(self.text()?.into()),
            transmission_time: field!(self.text()?.into()),
        };
        let cashback_amount = field!(self.money()?);
        let original = field!(self.key()?);
        let instalments = field!(self.small()?).unwrap_or(0);
        let partial_approval_allowed = next();
        let single_message = next();
        Ok(AuthRequest {
            key,
            kind,
            subject,
            amount,
            billing_amount,
            transaction_time,
            merchant,
            channel,
            entry_mode,
            initiation,
            verification,
            device_id,
            ip_address,
            network,
            partial_approval_allowed,
            single_message,
            cashback_amount,
            original,
            instalments,
        })
    }

    fn reasons(&mut self) -> Read<Reasons> {
        let mut reasons = Reasons::new();
        for number in 0..self.u()? {
            let source = self.code(ReasonSource::from_number)?;
            let (code, text) = (self.text()?, self.text()?);
            let contribution = self.f32()?;
            if number >= REASONS_MAX as u64 {
                return Err("too many reasons");
            }
            if !self.is_brief {
                let (code, text) = (Label::Shared(code.into()), Label::Shared(text.into()));
                reasons.push(Reason { code, source, text, contribution });
            } else if number == 0 {
                reasons.push(Reason::engine("", source, ""));
            }
        }
        Ok(reasons)
    }

    fn outcome(&mut self, position: u64) -> Read<Outcome> {
        Ok(Outcome {
            response_code: self.response_code()?,
            moved: self.optional(Reader::money)?,
            available: self.optional(Reader::money)?,
            reasons: self.reasons()?,
            upserted: match self.u8()? {
                0 => None,
                1 => Some(Upserted::Opened),
                2 => Some(Upserted::Changed),
                3 => Some(Upserted::Unchanged),
                _ => return Err("an upsert did nothing known"),
            },
            position,
        })
    }

    fn introduced(&mut self) -> Read<Introduced> {
        Ok(Introduced {
            time: self.time()?,
            what: self.code(|number| match number {
                1 => Some(Versioned::Rules),
                2 => Some(Versioned::Model),
                3 => Some(Versioned::Config),
                4 => Some(Versioned::Challenger),
                _ => None,
            })?,
            number: self.small()?,
            version: self.text()?.into(),
        })
    }

    fn decided(&mut self, position: u64, names: &dyn VersionNames, version: u8) -> Read<Decided> {
        let client = self.small()?;
        let time = self.time()?;
        let request = self.request()?;
        let account = self.optional(Reader::account)?;
        let card = self.u8()?;
        let versions = self.versions()?;
        let lists = self.u()?;
        let answer = AuthAnswer {
            decision: self.code(Decision::from_number)?,
            response_code: self.response_code()?,
            advice_code: self.optional(Reader::short)?,
            approved: self.optional(Reader::money)?,
            available: self.optional(Reader::money)?,
            reasons: self.reasons()?,
            score: self.small()?,
            margin: self.optional(Reader::f64)?,
            rules_version: names.name(Versioned::Rules, versions.rules),
            model_version: names.name(Versioned::Model, versions.model),
            degraded: Degraded(self.u8()?),
            decided_at: time,
            hold_expires_at: self.optional(Reader::time)?,
            position,
        };
        let original = self.optional(Reader::u)?;
        let first = self.optional(Reader::u)?;
        let features = match version {
            VERSION_FEATURES => usize::from(self.u8()?),
            _ => MODEL_FEATURES_FIRST,
        };
        let mut considered = Considered { vector: self.vector(features)?, features, ..Considered::default() };
        for _ in 0..self.u()? {
            let aggregate = self.optional(Reader::i)?;
            if !self.is_brief {
                considered.aggregates.push(aggregate);
            }
        }
        considered.shared_to = match self.u()? {
            0 => 0,
            behind => position.checked_sub(behind).ok_or("what was read lies before the log")?,
        };
        for list in [&mut considered.fired, &mut considered.shadow_fired] {
            while let Some(place) = self.u()?.checked_sub(1) {
                let place = u16::try_from(place).map_err(|_| "a rule's place is too large")?;
                if !self.is_brief {
                    list.push(place);
                }
            }
        }
        let challenged = match version {
            VERSION_FEATURES => self.optional(Reader::challenged)?,
            VERSION_CHALLENGED => Some(self.challenged()?),
            _ => None,
        };
        Ok(Decided {
            client,
            time,
            request,
            account,
            card,
            versions,
            lists,
            answer,
            original,
            first,
            considered,
            challenged,
        })
    }

    fn challenged(&mut self) -> Read<Challenged> {
        Ok(Challenged {
            number: self.small()?,
            margin: self.f64()?,
            score: self.small()?,
            declining: self.code(Declining::from_number)?,
        })
    }

    fn vector(&mut self, features: usize) -> Read<[f32; MODEL_FEATURES]> {
        if !(MODEL_FEATURES_FIRST..=MODEL_FEATURES).contains(&features) {
            return Err("features of another program");
        }
        let map = self.take(features.div_ceil(8))?;
        let mut vector = [f32::NAN; MODEL_FEATURES];
        if self.is_brief {
            for _ in (0..features).filter(|at| map[at / 8] >> (at % 8) & 1 == 1) {
                self.f32()?;
            }
            return Ok(vector);
        }
        for (at, value) in vector.iter_mut().take(features).enumerate() {
            if map[at / 8] >> (at % 8) & 1 == 1 {
                *value = self.f32()?;
            }
        }
        Ok(vector)
    }

    fn duplicated(&mut self) -> Read<Duplicated> {
        Ok(Duplicated {
            client: self.small()?,
            time: self.time()?,
            request: self.request()?,
            versions: self.versions()?,
            of: self.u()?,
        })
    }

    fn voided(&mut self) -> Read<Voided> {
        Ok(Voided {
            client: self.small()?,
            time: self.time()?,
            key: self.key()?,
            of: self.u()?,
            account: self.optional(Reader::account)?,
            freed_minor: self.i()?,
        })
    }

    fn reversed(&mut self, position: u64) -> Read<Reversed> {
        Ok(Reversed {
            client: self.small()?,
            time: self.time()?,
            reversal: Reversal {
                key: self.key()?,
                original: self.key()?,
                replacement: self.optional(Reader::money)?,
            },
            original: match self.u8()? {
                0 => Original::NotArrived,
                1 => Original::ReversedBefore(self.u()?),
                2 => Original::At(self.u()?),
                _ => return Err("an original is of no known kind"),
            },
            account: self.optional(Reader::account)?,
            outcome: self.outcome(position)?,
        })
    }

    fn maintained(&mut self, position: u64) -> Read<Maintained> {
        let client = self.small()?;
        let time = self.time()?;
        let key = self.key()?;
        let change = match self.u8()? {
            1 => Maintenance::SetAccountStatus {
                key,
                account: self.account()?,
                status: self.code(AccountStatus::from_number)?,
            },
            2 => Maintenance::SetCardStatus {
                key,
                card: CardToken(self.id()?),
                status: self.code(CardStatus::from_number)?,
            },
            3 => Maintenance::SetCreditLimit { key, account: self.account()?, limit_minor: self.i()? },
            4 => Maintenance::Upsert { key, change: self.change()? },
            _ => return Err("a change is of no known kind"),
        };
        Ok(Maintained { client, time, change, account: self.account()?, outcome: self.outcome(position)? })
    }

    fn change(&mut self) -> Read<AccountChange> {
        Ok(AccountChange {
            account: self.account()?,
            currency: self.optional(Reader::currency)?,
            credit_limit_minor: self.optional(Reader::i)?,
            posted_minor: self.optional(Reader::i)?,
            status: self.optional(|r| r.code(AccountStatus::from_number))?,
            product: self.optional(Reader::id)?,
            home_country: self.optional(Reader::country)?,
            home: self.optional(Reader::place)?,
            opened_on: self.optional(Reader::day)?,
            cards: {
                let mut cards = Vec::new();
                for _ in 0..self.u()? {
                    cards.push(CardChange {
                        token: CardToken(self.id()?),
                        status: self.optional(|r| r.code(CardStatus::from_number))?,
                        expires_on: self.optional(Reader::day)?,
                    });
                }
                cards
            },
        })
    }

    fn expiry(&mut self) -> Read<Expiry> {
        Ok(Expiry { time: self.time()?, account: self.account()?, holds: self.u()?, amount_minor: self.i()? })
    }
}

mod listed;

#[cfg(test)]
mod tests;

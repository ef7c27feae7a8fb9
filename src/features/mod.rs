//! What a decision is made from: the fields of the request, exact sliding windows over what the account and its
//! cards did before, and the features computed from both.
//!
//! Everything depends on the request, the account, the plan and the events recorded, and on nothing else: serving,
//! recovery, replay and training get the same values. Windows over keys that cross accounts, and over labels, are in [`shared`], and who
//! fills them is the engine's affair. Deliberately absent: clocks.

pub mod aggregate;
pub mod amounts;
pub mod catalog;
mod compact;
mod distinct;
pub mod event;
mod fields;
pub mod geo;
mod present;
pub mod shared;
pub mod values;
mod velocity;
mod window;

use std::fmt;

use aggregate::{Aggregate, Filter};
use amounts::AmountRange;
use catalog::CATALOG;
use compact::Compact;
use event::{Event, id_hash};
pub use fields::fill_time;
use present::Present;
use values::{Slot, Values};
use velocity::Velocity;
pub use window::stored::DecodeError;
use window::{Pick, WindowPlan, Windows, stored};

use crate::{
    limits::{AGGREGATES_MAX, WINDOW_MAX_MS},
    types::{
        account::Day,
        auth::{AuthRequest, Country, Place},
        codes::Decision,
        money::{Currency, EXPONENTS, Money},
        time::Timestamp,
    },
};

/// Which windows every account keeps: the built-in ones and the declared aggregates. Built once for each version of
/// the rules.
pub struct Plan {
    /// One; or, where a filter is over amounts, one for each number of decimals that the account's currency can have.
    windows: Vec<WindowPlan>,
    velocity: Velocity,
    /// Those of the account's own, each with its slot.
    aggregates: Vec<(Slot, aggregate::Planned)>,
    /// Those of equal conditions once.
    filters: Vec<Filter>,
    fingerprint: [u8; 16],
    /// The first half of it: what windows know their plan by.
    id: u64,
}

impl Plan {
    /// # Panics
    /// Where there are more than [`AGGREGATES_MAX`] aggregates or a window is not between 1 ms and
    /// [`WINDOW_MAX_MS`]: the rules file's checker refuses both.
    pub fn new(aggregates: &[Aggregate]) -> Plan {
        assert!(aggregates.len() <= AGGREGATES_MAX);
        let mut windows = WindowPlan::default();
        let velocity = Velocity::new(&mut windows);
        windows.end_of_built_in();
        let mut filters = Vec::<Filter>::new();
        let mut ranges = Vec::<AmountRange>::new();
        let own = aggregates.iter().enumerate().filter(|(_, aggregate)| !aggregate.is_shared());
        let planned = own.map(|(index, aggregate)| {
            assert!((1..=WINDOW_MAX_MS).contains(&aggregate.window_ms), "{}", aggregate.name);
            let pick = match &aggregate.filter {
                None => Pick::All,
                Some(filter) => {
                    let number = number_of(filter, &mut filters);
                    filter.amounts().map_or(Pick::Filter(number), |range| {
                        let known = ranges.iter().position(|known| *known == range);
                        let amounts = known.unwrap_or_else(|| {
                            ranges.push(range);
                            ranges.len() - 1
                        });
                        Pick::Within { filter: number, amounts: amounts as u8 }
                    })
                }
            };
            (Plan::aggregate_slot(index), aggregate::Planned::new(aggregate, pick, &mut windows))
        });
        let planned = planned.collect();
        let fingerprint = fingerprint(&windows, aggregates);
        let kinds = if ranges.is_empty() { 1 } else { EXPONENTS };
        let windows = (0..kinds).map(|decimals| {
            let amounts = ranges.iter().map(|range| range.bounds(decimals)).collect();
            windows.clone().with_amounts(amounts)
        });
        let windows = windows.collect();
        let id = u64::from_le_bytes(std::array::from_fn(|at| fingerprint[at]));
        Plan { windows, velocity, aggregates: planned, filters, fingerprint, id }
    }

    /// Names what the windows keep: it differs where the aggregates' keys, lengths, measures, filters or order do.
    pub fn fingerprint(&self) -> [u8; 16] {
        self.fingerprint
    }

    /// The first half of the fingerprint, which [`History::encode`] writes.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The plan of an account's windows in its currency.
    #[inline]
    fn windows_in(&self, currency: Option<Currency>) -> &WindowPlan {
        match self.windows.as_slice() {
            [one] => one,
            several => {
                &several[currency.map_or(0, |currency| currency.exponent() as usize).min(several.len() - 1)]
            }
        }
    }

    /// One bit per filter that the event passes, but for what depends on its amount.
    fn passed_by(&self, event: &Event) -> u64 {
        let passes =
            |(number, filter): (usize, &Filter)| u64::from(filter.passes_but_for_amount(event)) << number;
        self.filters.iter().enumerate().map(passes).fold(0, |mask, bit| mask | bit)
    }

    /// The slot of the aggregate at `index` of those the plan was made from.
    pub fn aggregate_slot(index: usize) -> Slot {
        (CATALOG.len() + index) as Slot
    }
}

/// The number of a filter, added where its condition is new.
fn number_of(filter: &Filter, filters: &mut Vec<Filter>) -> u8 {
    let known = filters.iter().position(|known| known.condition() == filter.condition());
    let number = known.unwrap_or_else(|| {
        filters.push(filter.clone());
        filters.len() - 1
    });
    number as u8
}

/// The first 16 bytes of BLAKE3 over the totals that are kept and the aggregates as declared.
fn fingerprint(windows: &WindowPlan, aggregates: &[Aggregate]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    let mut say = |text: String| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    say(format!("{windows:?}"));
    // What crosses accounts is kept elsewhere.
    for Aggregate { by, window_ms, measure, filter, .. } in
        aggregates.iter().filter(|aggregate| !aggregate.is_shared())
    {
        say(format!("{by:?} {window_ms} {measure:?}"));
        say(filter.as_ref().map_or(String::new(), |filter| format!("where {}", filter.condition())));
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    first
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("aggregates", &self.aggregates.len()).finish_non_exhaustive()
    }
}

/// What features need to know of the account.
#[derive(Clone, Debug)]
pub struct AccountFacts<'a> {
    pub account_id: &'a str,
    pub product: Option<&'a str>,
    pub home_country: Option<Country>,
    pub home: Option<Place>,
    pub opened_on: Option<Day>,
    pub currency: Currency,
    pub credit_limit_minor: i64,
    /// The limit is made up, so that nobody knows how much of the account's credit is used.
    pub limit_is_assumed: bool,
    /// Before this decision; negative where exposure is above the limit.
    pub available_minor: i64,
}

/// The decision being made.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    pub request: &'a AuthRequest,
    pub account: &'a AccountFacts<'a>,
    /// Place of the card in its account.
    pub card: u8,
    pub card_token: Option<&'a str>,
    /// Engine time of the decision.
    pub time: Timestamp,
}

/// What the account's and its cards' past authorisations left behind.
#[derive(Clone, Default)]
pub struct History {
    windows: Windows,
    /// What the windows are kept for; of no meaning before the first event.
    plan: u64,
}

impl History {
    /// Takes no memory until the first event.
    pub fn new() -> History {
        History::default()
    }

    /// Asks for the memory that [`History::read`] will read, some time before it.
    #[inline]
    pub fn touch(&self) {
        self.windows.touch();
    }

    /// Replaces all values by those of this moment; allocates nothing where the plan is the one of the last call.
    /// Every recorded event must have a lower sequence than the decision has.
    pub fn read<'a>(&mut self, plan: &Plan, moment: &Moment<'a>, values: &mut Values<'a>) {
        values.clear();
        fields::fill(moment, values);
        self.fit(plan);
        let windows = self.windows.at(plan.windows_in(Some(moment.account.currency)), moment.time.0);
        let view = windows.of_card(moment.card);
        let present = Present::of(moment);
        plan.velocity.fill(&view, moment, &present, values);
        for (slot, planned) in &plan.aggregates {
            planned.fill(&view, present, *slot, values);
        }
    }

    /// Takes in an attempt once it is decided. Its sequence must be above that of every event before; its time may
    /// lie up to [`crate::limits::LATENESS_MAX_MS`] back, and its currency must be the account's. May grow the ring.
    pub fn record(&mut self, plan: &Plan, event: Event) {
        self.fit(plan);
        self.windows.record(plan.windows_in(event.currency), Compact::new(&event, plan.passed_by(&event)));
    }

    /// Keeps from now on what `plan` asks for: the windows are worked out anew from the single events. What has left
    /// the ring is known to built-in totals alone, and a declared one that reaches back to it reads unknown.
    #[inline]
    pub fn fit(&mut self, plan: &Plan) {
        if self.plan != plan.id {
            self.plan = plan.id;
            self.windows.refit(plan.windows_in(None), |event| plan.passed_by(event));
        }
    }

    /// Appends everything that is remembered: what the plan is known by, 8 bytes, and the windows in the layout of
    /// [`stored`]. Before the first event there is no plan, whatever was read last.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let plan = if self.windows.is_new() { 0 } else { self.plan };
        out.extend(plan.to_le_bytes());
        stored::encode(&self.windows, out);
    }

    /// Reads what [`History::encode`] wrote; all of `bytes` must be it. `plan_of` gives the plan that the windows were
    /// kept for; where it does not know that any more, they are fitted to `plan` at once.
    ///
    /// # Errors
    /// Where the bytes are not such a history.
    pub fn decode<'p>(
        bytes: &[u8],
        plan: &'p Plan,
        plan_of: impl Fn(u64) -> Option<&'p Plan>,
    ) -> Result<History, DecodeError> {
        let Some((id, bytes)) = bytes.split_first_chunk::<8>() else {
            return Err(DecodeError::Cut { byte: bytes.len() });
        };
        let id = u64::from_le_bytes(*id);
        let kept_for = if id == plan.id { Some(plan) } else { plan_of(id) };
        let to = kept_for.unwrap_or(plan);
        let windows =
            stored::decode(bytes, to.windows_in(None), kept_for.is_some(), |event| to.passed_by(event))?;
        Ok(History { windows, plan: to.id })
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.windows.heap_bytes()
    }
}

/// What the windows are to remember of a decision.
pub fn event_of(moment: &Moment, sequence: u64, decision: Decision, declined_for_credit: bool) -> Event {
    let Moment { request, card, time, .. } = *moment;
    let event = event_of_nothing(request, (time, card), sequence, decision, declined_for_credit);
    let currency = moment.account.currency;
    Event { amount_minor: counted_minor(request.billed(), currency), currency: Some(currency), ..event }
}

/// The same without its amount, which depends on the account: for whoever does not have that at hand.
pub fn event_of_nothing(
    request: &AuthRequest,
    (time, card): (Timestamp, u8),
    sequence: u64,
    decision: Decision,
    declined_for_credit: bool,
) -> Event {
    let merchant = &request.merchant;
    Event {
        time,
        sequence,
        card,
        kind: request.decided_as(),
        decision,
        declined_for_credit,
        amount_minor: 0,
        currency: None,
        channel: request.channel,
        mcc: merchant.mcc,
        country: merchant.country,
        merchant: merchant.merchant_id.as_ref().map(|id| id_hash(id.as_str())),
        device: request.device_id.as_ref().map(|id| id_hash(id.as_str())),
        place: merchant.place,
    }
}

/// What an attempt counts for. An amount in another currency than the account's, which is declined, counts as an
/// attempt of nothing.
pub fn counted_minor(billed: Option<Money>, currency: Currency) -> i64 {
    billed.filter(|billed| billed.currency == currency).map_or(0, |billed| billed.minor)
}

#[cfg(test)]
mod tests;

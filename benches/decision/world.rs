//! Accounts that spend at a steady pace, and the requests they make.

use std::{fmt::Write as _, fs, path::Path, sync::Arc};

use arrayvec::ArrayString;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use saker::{
    authorise::{
        Asked, Sink, State,
        answers::{Answers, Claimed},
        entry::Store,
        maintain,
        setup::{Challenger, Setup},
    },
    config::{Control, HoldLifetimes},
    features::{
        Plan,
        shared::{Shared, SharedPlan},
    },
    journal::record::VersionNumbers,
    limits::{ANSWER_RETENTION_MS, ID_BYTES_MAX},
    model::{self, Model},
    rules,
    types::{
        account::{AccountChange, CardChange},
        auth::{AuthRequest, Country, Merchant, Subject},
        base::BaseCurrency,
        codes::{Channel, EntryMode, Kind},
        ids::{AccountId, CardToken, Id, RequestKey},
        money::{Currency, Money},
        outcome::Maintenance,
        reasons::Label,
        time::{DAY_MS, HOUR_MS, Timestamp},
    },
};

/// One purchase every twelve hours fills windows of thirty days with so many.
pub const EVENTS_PER_ACCOUNT: i64 = 60;
const PACE_MS: i64 = 12 * HOUR_MS;
const MERCHANTS: u32 = 5_000;

/// How many decisions it takes until as much is forgotten as is added: windows, holds and answers are full, and every
/// table has the size that it keeps.
pub fn decisions_to_settle(accounts: u32) -> u64 {
    // A table of keys that come and go takes its last size only after it has been tidied up a few times.
    const TABLES_AT_REST: u64 = 60_000;
    (u64::from(accounts) * (3 * ANSWER_RETENTION_MS / PACE_MS) as u64).max(TABLES_AT_REST)
}

pub struct World {
    pub state: State,
    pub setup: Setup,
    /// Windows across accounts, as the shipped rules keep them; nobody writes to them here.
    pub shared: Shared,
    accounts: u32,
    made: u64,
    random: ChaCha8Rng,
    /// The first position of each time at which positions were noted, as the engine notes them to forget answers.
    ages: std::collections::VecDeque<(Timestamp, u64)>,
}

impl World {
    /// Accounts whose openings are recorded in what `sink` gives.
    pub fn new<S: Sink>(accounts: u32, sink: impl Fn() -> S) -> World {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/default.toml");
        let text = fs::read_to_string(&path).expect("the shipped rules are there");
        let rules = rules::compile("rules/default.toml", &text).expect("the shipped rules are right");
        let model = Model::load(model::SHIPPED).expect("the shipped model is right");
        let setup = Setup {
            plan: Arc::new(Plan::new(&rules.aggregates)),
            shared: Arc::new(SharedPlan::new(&rules.aggregates)),
            base: BaseCurrency::default(),
            rules_version: Label::new(&rules.version),
            model_version: model.version().clone(),
            rules: Arc::new(rules),
            lists: rules::ListsInForce::default(),
            model: Some(Arc::new(model)),
            challenger: None,
            control: Control::default(),
            holds: HoldLifetimes::default(),
            limits_assumed: false,
            numbers: VersionNumbers::default(),
        };
        let state = State { store: Store::new(16), answers: Answers::new(10_000_000, (1, 2)) };
        // Keys fall on thousands of small tables by chance, so that for a long time now and then one holds more than ever
        // before; here they have their room from the start.
        let remembered = u64::from(accounts) * (ANSWER_RETENTION_MS / PACE_MS) as u64;
        state.answers.reserve(2 * remembered as usize + 16 * Answers::PARTS);
        for number in 0..accounts {
            open(&state, number, sink());
        }
        let random = ChaCha8Rng::seed_from_u64(1);
        let shared = Shared::new(&setup.shared, 64 * 1024 * 1024);
        World { state, setup, shared, accounts, made: 0, random, ages: std::collections::VecDeque::new() }
    }

    /// Lets the model score in shadow too.
    pub fn challenge(&mut self) {
        self.setup.challenger = self.setup.model.clone().map(|model| Challenger { model, number: 1 });
    }

    /// The next requests with their times, account after account.
    pub fn requests(&mut self, count: usize, into: &mut Vec<(AuthRequest, Timestamp)>) {
        into.clear();
        for _ in 0..count {
            let now = self.now();
            let number = (self.made % u64::from(self.accounts)) as u32;
            self.made += 1;
            into.push((self.request(number), now));
        }
    }

    /// Forgets old answers as the engine does by the hour. The newest record stands at `position`.
    pub fn forget(&mut self, position: u64) {
        let now = self.now();
        self.ages.push_back((now, position));
        let mut outlived = None;
        while let Some((time, position)) = self.ages.front().copied()
            && now.since_ms(time) > ANSWER_RETENTION_MS
        {
            outlived = Some(position);
            self.ages.pop_front();
        }
        if let Some(position) = outlived {
            self.state.answers.forget_before(position);
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(20_000 * DAY_MS + self.made as i64 * PACE_MS / i64::from(self.accounts))
    }

    fn request(&mut self, account: u32) -> AuthRequest {
        let merchant = self.random.random_range(0..MERCHANTS);
        let minor = self.random.random_range(600..2_000);
        AuthRequest {
            amount: Some(Money::new(minor, usd())),
            merchant: Merchant {
                merchant_id: Some(id("M-", merchant.into())),
                terminal_id: Some(id("T-", merchant.into())),
                mcc: Some([5411, 5812, 5541, 5912][merchant as usize % 4]),
                country: Country::new("US"),
                ..Merchant::default()
            },
            channel: Some(Channel::CardPresent),
            entry_mode: Some(EntryMode::Chip),
            ..AuthRequest::new(
                RequestKey(id("request-", self.made)),
                Kind::Purchase,
                Subject::Card(CardToken(id("card-", account.into()))),
            )
        }
    }
}

fn open(state: &State, number: u32, sink: impl Sink) {
    let change = AccountChange {
        account: AccountId(id("account-", number.into())),
        currency: Some(usd()),
        credit_limit_minor: Some(100_000_000),
        posted_minor: None,
        status: None,
        product: None,
        home_country: Country::new("US"),
        home: None,
        opened_on: None,
        cards: vec![CardChange {
            token: CardToken(id("card-", number.into())),
            status: None,
            expires_on: None,
        }],
    };
    let key = RequestKey(id("open-", number.into()));
    let Claimed::Fresh(own) = state.answers.claim(state.answers.hash(0, &key)) else {
        panic!("the key is new");
    };
    let asked = Asked { client: 0, now: Timestamp(20_000 * DAY_MS), original: None };
    maintain::maintain(state, Maintenance::Upsert { key, change }, asked, own, sink)
        .expect("the account is new");
}

fn usd() -> Currency {
    Currency::from_alpha("USD").expect("USD is a currency")
}

/// A name made without allocating.
fn id(prefix: &str, number: u64) -> Id {
    let mut text = ArrayString::<ID_BYTES_MAX>::new();
    write!(text, "{prefix}{number:06}").expect("it is short");
    Id::new(&text).expect("it is printable")
}

//! An attack that windows made of buckets miss: five attempts within five minutes, placed so that no five minutes
//! which begin at a whole minute hold all of them. From the rules file to the rule that fires.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Hits, RuleSet, compiled, currency};
use crate::{
    features::{AccountFacts, History, Moment, Plan, event_of, values::Values},
    types::{
        auth::{AuthRequest, Subject},
        codes::{Decision, Kind},
        ids::{CardToken, RequestKey},
        money::Money,
        time::{MINUTE_MS, SECOND_MS, Timestamp},
    },
};

const WINDOW_MS: i64 = 5 * MINUTE_MS;

/// "Five in five minutes". The present attempt is in no window, so the fifth sees four.
const RULES: &str = r#"
version = 1
[aggregates.attempts_5m]
by = "card"
window = "5m"
count = true
[[rules]]
id = "five-in-five-minutes"
when = "attempts_5m >= 4"
then = "decline"
reason = "VELOCITY_COUNT"
"#;

/// Whether the rule fires at the last of these attempts.
fn fires(rules: &RuleSet, plan: &Plan, times_ms: &[i64]) -> bool {
    let usd = currency("USD");
    let account = AccountFacts {
        account_id: "A-1",
        product: None,
        home_country: None,
        home: None,
        opened_on: None,
        currency: usd,
        credit_limit_minor: 500_000,
        limit_is_assumed: false,
        available_minor: 400_000,
    };
    let request = AuthRequest {
        amount: Some(Money::new(100, usd)),
        ..AuthRequest::new(
            RequestKey::new("t").expect("a key"),
            Kind::Purchase,
            Subject::Card(CardToken::new("c").expect("a token")),
        )
    };
    let (mut history, mut values, mut hits) = (History::new(), Values::new(), Hits::default());
    for (sequence, time_ms) in times_ms.iter().enumerate() {
        let time = Timestamp(*time_ms);
        let moment = Moment { request: &request, account: &account, card: 0, card_token: None, time };
        history.read(plan, &moment, &mut values);
        rules.evaluate(
            &values,
            usd,
            crate::rules::tests::seen(&crate::rules::ListsInForce::default()),
            &mut hits,
        );
        history.record(plan, event_of(&moment, sequence as u64 + 1, Decision::Approved, false));
    }
    hits.is_fired(0)
}

/// What an engine sees that counts in windows of five minutes, one of which begins at each whole minute.
fn most_in_buckets(times_ms: &[i64]) -> usize {
    let first = times_ms[0].div_euclid(MINUTE_MS) - 5;
    let last = times_ms[times_ms.len() - 1].div_euclid(MINUTE_MS);
    let inside =
        |begin: i64| times_ms.iter().filter(|time| (begin..begin + WINDOW_MS).contains(time)).count();
    (first..=last).map(|minute| inside(minute * MINUTE_MS)).max().unwrap_or(0)
}

#[test]
fn five_attempts_across_the_edges_of_all_buckets_are_five_attempts() {
    let rules = compiled(RULES);
    let plan = Plan::new(&rules.aggregates);
    // From 0:59.9 to 5:59.0: a span of 4:59.1 that touches six minutes.
    let attack = [59_900, 120_000, 200_000, 300_000, 359_000].map(|ms| 1_700_000_040_000 + ms);
    assert_eq!(most_in_buckets(&attack), 4, "buckets miss it");
    assert!(fires(&rules, &plan, &attack));
    // A tenth of a second beyond five minutes it is no attack any more.
    let slower = [attack[0], attack[1], attack[2], attack[3], attack[0] + WINDOW_MS + 100];
    assert!(!fires(&rules, &plan, &slower));
}

#[test]
fn no_five_attempts_within_five_minutes_are_missed_and_none_beyond_counted() {
    let rules = compiled(RULES);
    let plan = Plan::new(&rules.aggregates);
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    let mut missed_by_buckets = 0;
    for _ in 0..2_000 {
        // Spans at the window's length and beside it, and attacks aimed at the edges of minutes.
        let first = 1_700_000_000_000 + rng.random_range(0..60) * SECOND_MS + rng.random_range(-1..=1);
        let span = WINDOW_MS + [-60_000, -900, -1, 0, 1, 900, 60_000][rng.random_range(0..7)];
        let mut times: Vec<i64> = (0..3).map(|_| first + rng.random_range(0..=span)).collect();
        times.extend([first, first + span]);
        times.sort_unstable();
        let is_attack = span <= WINDOW_MS;
        missed_by_buckets += usize::from(is_attack && most_in_buckets(&times) < 5);
        assert_eq!(fires(&rules, &plan, &times), is_attack, "{times:?}");
    }
    assert!(missed_by_buckets > 100, "buckets miss {missed_by_buckets}");
}

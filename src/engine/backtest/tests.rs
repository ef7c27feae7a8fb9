use super::*;
use crate::{
    model,
    sim::{self, World},
};

fn backtest(world: &World) -> Backtest {
    let rules = Source { name: "none".to_owned(), text: "version = 1\n".to_owned() };
    let model = Source { name: "shipped".to_owned(), text: model::SHIPPED.to_owned() };
    let mut backtest = Backtest::new(&rules, Some(&model)).unwrap();
    for (place, account) in world.accounts.iter().enumerate() {
        // Tight limits, so that credit declines too.
        let limit = account.credit_limit_minor.map(|limit| limit / 8);
        let account = AccountChange { credit_limit_minor: limit, ..account.clone() };
        backtest.upsert(RequestKey::new(&format!("open {place}")).unwrap(), account).unwrap();
    }
    backtest
}

fn world() -> World {
    sim::generate(sim::Settings { accounts: 60, days: 20, seed: 4, start: sim::DEFAULT_START })
}

#[test]
fn following_a_history_of_ones_own_making_decides_the_same() {
    let world = world();
    let (mut own, mut following, mut blind) = (backtest(&world), backtest(&world), backtest(&world));
    let mut otherwise = 0;
    let mut codes = std::collections::BTreeSet::new();
    for transaction in &world.transactions {
        let request = &transaction.request;
        let (answer, _) = own.decide(request, false, &mut ()).unwrap();
        let approved = answer.decision == Decision::Approved;
        let observed = Observed { approved, response_code: Some(answer.response_code) };
        let followed = following.observe(request, observed, false, &mut ()).unwrap();
        assert_eq!(followed, (answer.clone(), Replayed::Decided), "{request:?}");
        let all_approved = Observed { approved: true, response_code: None };
        let (unlike, _) = blind.observe(request, all_approved, false, &mut ()).unwrap();
        otherwise += u32::from(unlike.available != answer.available || unlike.decision != answer.decision);
        codes.insert(answer.response_code.to_string());
    }
    assert!(codes.contains("51") && codes.contains("59"), "{codes:?}");
    assert!(otherwise > 100, "a history that approves all is another: {otherwise}");
}

#[test]
fn a_key_that_comes_again_gets_its_answer_or_94_and_counts_nowhere() {
    let world = world();
    let (mut plain, mut again) = (backtest(&world), backtest(&world));
    for transaction in world.transactions.iter().take(500) {
        let request = &transaction.request;
        let (first, _) = plain.decide(request, false, &mut ()).unwrap();
        let (answer, how) = again.decide(request, true, &mut ()).unwrap();
        assert_eq!(how, Replayed::Decided);
        let same = |answer: &AuthAnswer| (answer.decision, answer.available, answer.margin.map(f64::to_bits));
        assert_eq!(same(&answer), same(&first));
        assert_eq!(again.decide(request, true, &mut ()).unwrap(), (answer, Replayed::Repeated));
        let mut other = request.clone();
        other.instalments += 2;
        let (duplicate, how) = again.decide(&other, true, &mut ()).unwrap();
        assert_eq!((duplicate.response_code, how), (ResponseCode::DUPLICATE, Replayed::Duplicate));
        assert_eq!(duplicate.margin, None);
    }
}

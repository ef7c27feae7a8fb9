//! Worlds of cardholders and attackers, second by second: a rule that does harm is stopped, one that does its work is
//! not, whoever wants it stopped.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::types::time::{DAY_MS, HOUR_MS};

const NOON: i64 = 20_000 * DAY_MS + 12 * HOUR_MS;
const RULE: u16 = 1;
/// Authorisations of ordinary cardholders in a second.
const GENUINE: usize = 40;

/// What an attack can choose: how many cards, merchants, devices and addresses it has, and how its attempts are scored.
/// Of 0 it sends none.
#[derive(Clone, Copy)]
struct Attack {
    accounts: u32,
    merchants: u64,
    devices: u64,
    ips: u64,
    scores: (u16, u16),
    per_second: usize,
}

/// It tries out stolen cards at a few merchants, and looks like what it is.
const STORM: Attack =
    Attack { accounts: 4_000, merchants: 3, devices: 4, ips: 5, scores: (600, 999), per_second: 60 };
/// All it can spread, spread.
const SPREAD: Attack = Attack { merchants: 500, devices: 500, ips: 500, ..STORM };

struct World {
    judge: Judge,
    now: i64,
    decided: u64,
    number: u32,
    /// The score at which the model declines.
    declines_at: Option<u16>,
    random: ChaCha8Rng,
    verdicts: Vec<(i64, Verdict)>,
}

impl World {
    fn new(seed: u64) -> World {
        World::of(seed, &config::Guard::default())
    }

    fn of(seed: u64, bounds: &config::Guard) -> World {
        World {
            judge: Judge::new(bounds),
            now: NOON - 30 * MINUTE_MS,
            decided: 0,
            number: 0,
            declines_at: Some(400),
            random: ChaCha8Rng::seed_from_u64(seed),
            verdicts: Vec::new(),
        }
    }

    /// The rule that is looked at is as this from now on; the one before it never changes.
    fn rule_is(&mut self, meaning: u64, is_live: bool, is_protected: bool, change: Option<Change>) {
        self.number += 1;
        let other = Rule { id: "other".into(), meaning: 7, is_live: true, is_protected: false, change: None };
        let rule = Rule { id: "rule".into(), meaning, is_live, is_protected, change };
        self.judge.rules_are(self.number, [other, rule].into_iter());
    }

    fn changed(&mut self, meaning: u64) {
        self.rule_is(meaning, true, false, Some(Change { at: Timestamp(self.now), was_live: true }));
    }

    /// So many seconds with a share of the cardholders, in a thousand, declined by the rule, and perhaps an attack that it
    /// declines whole.
    fn goes_on(&mut self, seconds: i64, declined_in_1000: u32, attack: Option<Attack>) {
        for _ in 0..seconds {
            for _ in 0..GENUINE {
                self.decided += 1;
                let account = self.random.random_range(0..5_000);
                let online = self.random.random_bool(0.5);
                let score = match self.random.random_range(0..100) {
                    0..3 => self.random.random_range(50..400),
                    _ => self.random.random_range(0..50),
                };
                if self.random.random_range(0..1_000) >= declined_in_1000 {
                    continue;
                }
                let of_account = u64::from(account) + 1_000_000;
                let merchant = self.random.random_range(1..400);
                let (device, ip) = if online { (of_account, of_account) } else { (0, 0) };
                self.decline(account, merchant, device, ip, Some(score));
            }
            let attack = attack.unwrap_or(Attack { per_second: 0, ..STORM });
            for _ in 0..attack.per_second {
                self.decided += 1;
                let mut one_of = |count: u64, base: u64| match count {
                    0 => 0,
                    count => base + self.random.random_range(0..count),
                };
                let (merchant, device, ip) = (
                    one_of(attack.merchants, 5_000),
                    one_of(attack.devices, 6_000),
                    one_of(attack.ips, 7_000),
                );
                let account = self.random.random_range(10_000..10_000 + attack.accounts);
                let score = self.random.random_range(attack.scores.0..=attack.scores.1);
                self.decline(account, merchant, device, ip, Some(score));
            }
            self.now += SECOND_MS;
            self.judges();
        }
    }

    fn decline(&mut self, account: u32, merchant: u64, device: u64, ip: u64, score: Option<u16>) {
        let (time, rules) = (Timestamp(self.now), self.number);
        self.judge.saw(Decline { time, rules, rule: RULE, account, merchant, device, ip, score });
    }

    fn judges(&mut self) {
        for (rule, verdict) in self.judge.judge(Timestamp(self.now), self.decided, self.declines_at) {
            assert_eq!(&*rule, "rule", "nothing is wrong with the other one");
            self.verdicts.push((self.now, verdict));
        }
    }

    fn demoted_at(&self) -> Option<i64> {
        let demoted = |(_, verdict): &&(i64, Verdict)| matches!(verdict, Verdict::Demote { .. });
        self.verdicts.iter().find(demoted).map(|(at, _)| *at)
    }

    /// What the guard told, where it demoted nothing.
    fn told(&self) -> Vec<&str> {
        let told = self.verdicts.iter().map(|(_, verdict)| match verdict {
            Verdict::Alert { why } => why.as_str(),
            Verdict::Demote { why, .. } => panic!("a rule that does its work was switched off: {why}"),
        });
        told.collect()
    }
}

#[test]
fn a_bad_threshold_pushed_at_noon_is_demoted_within_a_minute() {
    for (seed, declined_in_1000) in [(1, 60), (2, 250), (3, 1_000)] {
        let mut world = World::new(seed);
        world.rule_is(1, true, false, None);
        world.goes_on(30 * 60, 5, None);
        assert_eq!(world.told(), [""; 0]);
        world.changed(2);
        world.goes_on(60, declined_in_1000, None);
        let at = world.demoted_at().unwrap_or_else(|| panic!("never: {:?}", world.verdicts));
        assert!((NOON..=NOON + MINUTE_MS).contains(&at), "{declined_in_1000}: after {} ms", at - NOON);
        let (_, Verdict::Demote { meaning, why }) = &world.verdicts[0] else {
            panic!("{:?}", world.verdicts)
        };
        assert_eq!(*meaning, 2, "as long as it still is what was judged");
        assert!(why.contains("0.5 % before") || why.contains("0.4 % before"), "{why}");
    }
}

#[test]
fn a_card_testing_storm_leaves_its_rule_live() {
    let mut world = World::new(1);
    world.rule_is(1, true, false, None);
    world.goes_on(30 * 60, 5, None);
    // Whatever it spreads, and as ordinary as it may look: the rule is what it was.
    for attack in [STORM, SPREAD, Attack { scores: (0, 49), accounts: 100_000, ..SPREAD }] {
        world.goes_on(10 * 60, 5, Some(attack));
    }
    let told = world.told();
    assert!(
        !told.is_empty() && told.iter().all(|why| why.contains("it is what it was a day ago")),
        "{told:?}"
    );
    assert!(told.len() <= 3, "told once in a quarter of an hour: {told:?}");
}

#[test]
fn an_attacker_with_few_merchants_devices_or_cards_cannot_switch_off_a_rule_that_was_just_changed() {
    let ordinary = (0, 49);
    for (attack, because) in [
        (STORM, "one merchant has"),
        (Attack { merchants: 4, scores: ordinary, ..SPREAD }, "one merchant has"),
        (Attack { devices: 4, scores: ordinary, ..SPREAD }, "one device has"),
        (Attack { ips: 4, scores: ordinary, ..SPREAD }, "one IP address has"),
        (Attack { accounts: 1, scores: ordinary, ..SPREAD }, "accounts are concerned"),
        (Attack { accounts: 40, scores: ordinary, ..SPREAD }, "accounts are concerned"),
        (Attack { accounts: 300, scores: ordinary, ..SPREAD }, "the same accounts are tried again and again"),
        (SPREAD, "of it has half the score at which the model declines"),
        (Attack { scores: (210, 390), ..SPREAD }, "of it has half the score at which the model declines"),
    ] {
        let mut world = World::new(4);
        world.rule_is(1, true, false, None);
        world.goes_on(30 * 60, 2, None);
        world.changed(2);
        world.goes_on(30 * 60, 2, Some(attack));
        let told = world.told();
        assert!(!told.is_empty() && told.iter().all(|why| why.contains(because)), "{because}: {told:?}");
    }
    // Nor one that had gone on for an hour, approved, before somebody wrote a rule against it.
    let mut world = World::new(5);
    world.rule_is(1, false, false, None);
    for _ in 0..60 * 60 {
        world.decided += SPREAD.per_second as u64;
        world.goes_on(1, 0, None);
    }
    let now = Timestamp(world.now);
    world.rule_is(2, true, false, Some(Change { at: now, was_live: false }));
    world.goes_on(10 * 60, 2, Some(Attack { scores: (210, 390), ..SPREAD }));
    let told = world.told();
    assert!(!told.is_empty() && told.iter().all(|why| why.contains("half the score")), "{told:?}");
}

#[test]
fn a_protected_rule_only_alerts() {
    let mut world = World::new(1);
    world.rule_is(1, true, true, None);
    world.goes_on(30 * 60, 5, None);
    world.rule_is(2, true, true, Some(Change { at: Timestamp(NOON), was_live: true }));
    world.goes_on(30 * 60, 300, None);
    let told = world.told();
    assert!(!told.is_empty() && told.iter().all(|why| why.contains("it is protected")), "{told:?}");
}

#[test]
fn a_rule_that_was_changed_and_declines_as_before_is_not_spoken_of() {
    let mut world = World::new(1);
    world.rule_is(1, true, false, None);
    world.goes_on(30 * 60, 8, None);
    world.changed(2);
    world.goes_on(60 * 60, 20, None);
    assert_eq!(world.verdicts, []);
}

#[test]
fn a_start_under_new_rules_knows_no_share_of_before_and_asks_for_more() {
    for (declined_in_1000, demotes) in [(60, false), (300, true)] {
        let mut world = World::new(1);
        world.changed(2);
        world.goes_on(30 * 60, declined_in_1000, None);
        assert_eq!(world.demoted_at().is_some(), demotes, "{:?}", world.verdicts);
    }
    // A rule that was not live until now declined nothing before.
    let mut world = World::new(1);
    world.rule_is(1, false, false, None);
    world.goes_on(30 * 60, 0, None);
    world.rule_is(2, true, false, Some(Change { at: Timestamp(NOON), was_live: false }));
    world.goes_on(60, 60, None);
    assert!(world.demoted_at().is_some());
}

#[test]
fn who_sets_a_rule_live_again_is_not_contradicted_and_a_failed_demotion_is_tried_again() {
    let mut world = World::new(1);
    world.rule_is(1, true, false, None);
    world.goes_on(30 * 60, 5, None);
    world.changed(2);
    world.goes_on(30, 300, None);
    assert!(world.demoted_at().is_some());
    world.judge.try_again("rule");
    world.verdicts.clear();
    world.goes_on(10, 300, None);
    assert!(world.demoted_at().is_some());
    // In shadow it declines nothing; then somebody decides otherwise.
    world.rule_is(3, false, false, None);
    world.goes_on(60, 0, None);
    world.verdicts.clear();
    world.changed(2);
    world.goes_on(30 * 60, 300, None);
    let told = world.told();
    assert!(
        !told.is_empty() && told.iter().all(|why| why.contains("somebody set it live again")),
        "{told:?}"
    );
}

#[test]
fn without_scores_nobody_can_tell_a_cardholder_from_an_attacker() {
    let mut world = World::new(1);
    world.rule_is(1, true, false, None);
    world.goes_on(30 * 60, 5, None);
    world.changed(2);
    for second in 0..300 {
        for n in 0..20 {
            world.decided += 2;
            world.decline(second * 20 + n, u64::from(second * 20 + n), 0, 0, None);
        }
        world.now += SECOND_MS;
        world.judges();
    }
    let told = world.told();
    assert!(!told.is_empty() && told.iter().all(|why| why.contains("has no score")), "{told:?}");
    let mut world = World { declines_at: None, ..World::new(1) };
    world.rule_is(1, true, false, None);
    world.goes_on(30 * 60, 5, None);
    world.changed(2);
    world.goes_on(300, 300, None);
    let told = world.told();
    assert!(!told.is_empty() && told.iter().all(|why| why.contains("no model")), "{told:?}");
}

#[test]
fn no_storm_grows_what_is_kept_and_declines_of_versions_long_gone_are_nobodys() {
    let mut world = World::new(1);
    world.changed(1);
    world.goes_on(26, 0, Some(Attack { per_second: 2 * RECENT_MAX, ..STORM }));
    assert_eq!(world.judge.rules["rule"].recent.len(), RECENT_MAX);
    assert!(world.told().iter().any(|why| why.contains("it declined 99.")), "{:?}", world.verdicts);
    for number in 2..4 {
        world.changed(number);
    }
    let old = Decline {
        time: Timestamp(world.now),
        rules: 1,
        rule: RULE,
        account: 1,
        merchant: 0,
        device: 0,
        ip: 0,
        score: None,
    };
    world.judge.saw(old);
    world.judge.saw(Decline { rules: world.number, rule: 99, ..old });
    assert!(world.judge.rules["rule"].recent.is_empty());
}

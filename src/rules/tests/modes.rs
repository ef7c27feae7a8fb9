//! Modes set behind the file's own text, rules that are live for some cards, and suppressions.

use std::collections::HashSet;

use super::{super::trailer, *};
use crate::{features::catalog::slot, types::time::Timestamp};

const TWO: &str = "version = 1\n\
    [[rules]]\nid = 'abroad'\nwhen = 'is_foreign'\nthen = 'decline'\nreason = 'ABROAD'\n\
    [[rules]]\nid = 'night'\nwhen = 'is_night'\nthen = 'decline'\nreason = 'NIGHT'\nmode = 'shadow'\n";

fn set(rule: &str, mode: Mode, since: &str) -> ModeSet {
    let since = Timestamp::parse(since).unwrap();
    ModeSet { rule: rule.into(), mode, since, by: "SetRuleMode".into(), why: "".into() }
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn mode_of(rules: &RuleSet, id: &str) -> Mode {
    rules.rules.iter().find(|rule| *rule.id == *id).unwrap().mode
}

#[test]
fn a_mode_that_is_set_and_taken_back_gives_the_text_back_to_the_byte() {
    let listed = format!("{TWO}#@ list blocked.csv\n#| value\n#| M1\n\n#@ list other.csv\n#|\n");
    let crlf = TWO.replace('\n', "\r\n");
    for file in
        [TWO, TWO.trim_end(), &crlf, &format!("{TWO}\n\n"), "version = 1", "", &listed, listed.trim_end()]
    {
        let sets = [set("night", Mode::Live, "2026-11-26T10:00:00Z"), {
            let by = set("abroad", Mode::Shadow, "2026-11-26T11:00:00Z");
            ModeSet { by: "guard".into(), why: "it declined 31 % of 2,000 = much".into(), ..by }
        }];
        let held = trailer::with_modes(file, &sets);
        let mut expected = sets.to_vec();
        expected.reverse();
        assert_eq!(trailer::modes(&held), expected, "in the order of ids: {held}");
        assert_eq!(trailer::without_modes(&held), file);
        assert_eq!(trailer::with_modes(&held, &sets[..1]), trailer::with_modes(file, &sets[..1]));
        assert_eq!(trailer::with_modes(&held, &[]), file);
        assert_eq!(trailer::without_modes(file), file);
    }
    // A list's file that comes behind modes: they are read, and go alone.
    let mode = set("night", Mode::Live, "2026-11-26T10:00:00Z");
    let behind = format!("{TWO}\n{mode}\n#@ list new.csv\n#| value\n");
    assert_eq!(trailer::modes(&behind), std::slice::from_ref(&mode));
    assert_eq!(trailer::without_modes(&behind), format!("{TWO}\n#@ list new.csv\n#| value\n"));
    assert_eq!(mode_of(&compiled(&behind), "night"), Mode::Live);
}

#[test]
fn the_text_behind_a_file_sets_modes_and_says_so_at_its_place() {
    let text = trailer::with_modes(TWO, &[set("abroad", Mode::Shadow, "2026-11-26T10:00:00Z")]);
    let rules = compiled(&text);
    assert_eq!((mode_of(&rules, "abroad"), rules.rules[0].mode_in_file()), (Mode::Shadow, Mode::Live));
    assert_ne!(rules.version, compiled(TWO).version);
    let said: Vec<String> = rules
        .warnings
        .iter()
        .map(|found| format!("{}:{} {}", found.line, found.column, found.message))
        .collect();
    assert_eq!(
        said,
        ["14:1 `abroad` is held in shadow by SetRuleMode since 2026-11-26T10:00:00Z; the file says live"]
    );
    let explained = &rules.explanations[0];
    assert_eq!(
        explained.mode_from.as_deref(),
        Some("in shadow by SetRuleMode since 2026-11-26T10:00:00Z; the file says live")
    );
    assert_eq!(rules.explanations[1].mode_from, None);
    // Setting what holds already changes no byte, and what the file says takes the line away.
    let other = || set("abroad", Mode::Off, "2026-11-27T10:00:00Z");
    assert_eq!(rules.with_mode(0, Mode::Shadow, other), None);
    assert_eq!(rules.with_mode(0, Mode::Live, other).as_deref(), Some(TWO));
    assert!(rules.with_mode(0, Mode::Off, other).unwrap().contains("#@ mode abroad off since=2026-11-27"));
}

#[test]
fn a_trailer_that_cannot_be_read_is_refused_at_its_place() {
    let line = "#@ mode abroad shadow since=2026-11-26T10:00:00Z by=x";
    for (lines, expected) in [
        ("#@ mod abroad shadow", "13:1 unknown directive `mod` | did you mean `mode`?"),
        ("#@ mode", "13:1 this sets no mode | it has a rule, a mode, `since=TIME` and `by=WHO`"),
        (
            "#@ mode abroad shade since=2026-11-26T10:00:00Z by=x",
            "13:1 this sets no mode | the mode is live, ",
        ),
        ("#@ mode abroad shadow since=noon by=x", "13:1 this sets no mode | `since=` is a time such as "),
        (
            "#@ mode abroat shadow since=2026-11-26T10:00:00Z by=x",
            "13:1 there is no rule `abroat` | did you mean",
        ),
        (&format!("{line}\n\n{line}"), "15:1 the mode of `abroad` is set twice"),
    ] {
        let findings = compile("test.toml", &format!("{TWO}{lines}\n")).expect_err(lines);
        let said: Vec<String> = findings
            .iter()
            .map(|found| {
                let help = found.help.as_ref().map_or(String::new(), |help| format!(" | {help}"));
                format!("{}:{} {}{help}", found.line, found.column, found.message)
            })
            .collect();
        assert!(said.iter().any(|said| said.starts_with(expected)), "{lines}: {said:?}");
    }
    // In the midst of a file it is not read, and that is said; garbage never panics.
    let rules = compiled(&format!("{line}\n{TWO}"));
    assert_eq!(mode_of(&rules, "abroad"), Mode::Live);
    assert!(rules.warnings[0].message.contains("says nothing"), "{:?}", rules.warnings);
    for odd in ["#@", "#@\n#@ \n\n#@mode\n", "\n\n", "#@ mode a b c d why=", "x = '''\n#@ mode'''"] {
        let _ = (compile("test.toml", odd), trailer::with_modes(odd, &[]), trailer::modes(odd));
    }
}

#[test]
fn a_reload_of_the_file_does_not_let_go_live_what_somebody_has_stopped() {
    let before = compiled(&trailer::with_modes(TWO, &[set("abroad", Mode::Shadow, "2026-11-26T10:00:00Z")]));
    let carried = |file: &str| compiled(file).with_modes_of(&before.modes);
    let changed = TWO.replace("'is_foreign'", "'is_foreign && amount > 5'");
    let held = carried(&changed).expect("the rule is still there");
    assert_eq!(held, trailer::with_modes(&changed, &before.modes));
    assert_eq!(carried(&held), None, "once is enough");
    // The file says the same, or the rule has gone: nothing is left to hold.
    assert_eq!(carried(&TWO.replace("'ABROAD'", "'ABROAD'\nmode = 'shadow'")), None);
    assert_eq!(carried(&TWO.replace("'abroad'", "'foreign'")), None);
    // A text that was kept with a mode of its own: the later one counts.
    for (since, mode) in [("2026-11-26T09:00:00Z", Mode::Shadow), ("2026-11-26T11:00:00Z", Mode::Off)] {
        let kept = trailer::with_modes(TWO, &[set("abroad", Mode::Off, since)]);
        let rules = carried(&kept).map_or_else(|| compiled(&kept), |held| compiled(&held));
        assert_eq!(mode_of(&rules, "abroad"), mode, "{since}");
    }
}

fn partly_live(id: &str, percent: u8) -> RuleSet {
    compiled(&format!(
        "version = 1\n[[rules]]\nid = '{id}'\nwhen = 'is_foreign'\nthen = 'decline'\nreason = 'R'\nlive_percent = {percent}\n"
    ))
}

fn decides_for(rules: &RuleSet, card: Option<&str>, account: &str) -> bool {
    let mut values = Values::new();
    values.set_bool(slot::IS_FOREIGN, true);
    values.set_text(slot::ACCOUNT_ID, account);
    if let Some(card) = card {
        values.set_text(slot::CARD_TOKEN, card);
    }
    let mut hits = Hits::default();
    rules.evaluate(&values, currency("USD"), seen(&ListsInForce::default()), &mut hits);
    rules.restrict(&values, Timestamp(0), &mut hits);
    assert!(hits.is_fired(0));
    assert_eq!(rules.decides(0, &hits), rules.deciding(&hits).count() == 1);
    rules.decides(0, &hits)
}

#[test]
fn a_share_of_the_cards_is_that_share_and_raising_it_only_adds_cards() {
    const CARDS: usize = 20_000;
    let cards: Vec<String> = (0..CARDS).map(|card| format!("tok_{card}")).collect();
    let mut before: HashSet<&str> = HashSet::new();
    for percent in [1, 5, 25, 26, 50, 75, 99] {
        let rules = partly_live("r", percent);
        let live: HashSet<&str> =
            cards.iter().map(String::as_str).filter(|card| decides_for(&rules, Some(card), "A")).collect();
        let share = f64::from(percent) / 100.0;
        let deviation = (CARDS as f64 * share * (1.0 - share)).sqrt();
        // Five standard deviations: one run in two million would fail by chance, and this one has no chance in it.
        assert!(
            (live.len() as f64 - CARDS as f64 * share).abs() < 5.0 * deviation,
            "{percent}: {}",
            live.len()
        );
        assert!(before.is_subset(&live), "{percent}: a card has left");
        before = live;
    }
    // Another rule takes other cards, and no card where none is named is the account's.
    let (one, other) = (partly_live("r", 50), partly_live("other", 50));
    let both = cards
        .iter()
        .filter(|card| decides_for(&one, Some(card), "A") && decides_for(&other, Some(card), "A"));
    assert!((4_600..5_400).contains(&both.count()), "the two are independent");
    let account = cards.iter().filter(|account| decides_for(&one, None, account)).count();
    assert!((9_600..10_400).contains(&account));
}

#[test]
fn the_cards_of_a_share_are_the_same_for_ever() {
    // Worked out by a second implementation, in Python.
    let rules = partly_live("card-testing", 25);
    let live: Vec<usize> = (0..40).filter(|n| decides_for(&rules, Some(&format!("tok_{n}")), "A")).collect();
    assert_eq!(live, LIVE_AT_25);
}

const LIVE_AT_25: [usize; 8] = [4, 7, 17, 19, 22, 24, 28, 36];

fn suppressed_at(rules: &RuleSet, named: &[(Slot, &str)], now: &str) -> bool {
    let mut values = Values::new();
    values.set_bool(slot::IS_FOREIGN, true);
    values.set_bool(slot::IS_NIGHT, true);
    values.set_text(slot::ACCOUNT_ID, "A1");
    for (slot, text) in named {
        values.set_text(*slot, text);
    }
    let mut hits = Hits::default();
    rules.evaluate(&values, currency("USD"), seen(&ListsInForce::default()), &mut hits);
    rules.restrict(&values, at(now), &mut hits);
    assert_eq!(rules.decides(0, &hits), !hits.is_suppressed(0));
    assert!(!hits.is_suppressed(1), "a rule in shadow has nothing to suppress");
    hits.is_suppressed(0)
}

#[test]
fn a_suppression_holds_for_its_entity_until_its_time_and_for_nobody_else() {
    let suppressions = "\
        [[suppressions]]\nrule = 'abroad'\ncard = 'tok_1'\nuntil = 2026-12-01T00:00:00Z\nwhy = 'she called'\n\
        [[suppressions]]\nrules = ['night', 'abroad']\nmerchant = 'M1'\nuntil = '2026-12-02T00:00:00+01:00'\n\
        [[suppressions]]\nrule = 'abroad'\ncard = 'tok_1'\nuntil = 2026-11-01T00:00:00Z\n\
        [[suppressions]]\nrule = 'abroad'\nip = '10.0.0.1'\nuntil = 2026-12-03T00:00:00\n\
        [[suppressions]]\nrule = 'abroad'\nterminal = 'T1'\nuntil = 2026-12-03T00:00:00Z\n\
        [[suppressions]]\nrule = 'abroad'\ndevice = 'D1'\nuntil = 2026-12-03T00:00:00Z\n\
        [[suppressions]]\nrule = 'abroad'\naccount = 'A9'\nuntil = 2026-12-03T00:00:00Z\n";
    let rules = compiled(&format!("{TWO}{suppressions}"));
    let (before, last, end) = ("2026-11-26T00:00:00Z", "2026-11-30T23:59:59.999Z", "2026-12-01T00:00:00Z");
    let card = [(slot::CARD_TOKEN, "tok_1")];
    assert!(suppressed_at(&rules, &card, before) && suppressed_at(&rules, &card, last));
    assert!(!suppressed_at(&rules, &card, end), "the end is the first moment without it");
    assert!(!suppressed_at(&rules, &[(slot::CARD_TOKEN, "tok_2")], before));
    // The same text as another kind of entity is somebody else.
    assert!(!suppressed_at(&rules, &[(slot::DEVICE_ID, "tok_1")], before));
    let merchant = [(slot::CARD_TOKEN, "tok_2"), (slot::MERCHANT_ID, "M1")];
    assert!(suppressed_at(&rules, &merchant, "2026-12-01T22:59:59Z"));
    assert!(!suppressed_at(&rules, &merchant, "2026-12-01T23:00:00Z"));
    for named in [(slot::DEVICE_IP, "10.0.0.1"), (slot::TERMINAL_ID, "T1"), (slot::DEVICE_ID, "D1")] {
        assert!(
            suppressed_at(&rules, &[named], before)
                && !suppressed_at(&rules, &[named], "2026-12-03T00:00:00Z")
        );
    }
    assert!(suppressed_at(&rules, &[(slot::ACCOUNT_ID, "A9")], before));
    assert_eq!(
        rules.explanations[0].suppressed_for[..2],
        ["card tok_1 until 2026-12-01T00:00:00Z", "merchant M1 until 2026-12-01T23:00:00Z"]
    );
}

#[test]
fn a_suppression_until_a_day_holds_all_of_that_day() {
    for until in ["2026-12-01", "'2026-12-01'", "2026-12-02T00:00:00Z"] {
        let rules =
            compiled(&format!("{TWO}[[suppressions]]\nrule = 'abroad'\ncard = 'tok_1'\nuntil = {until}\n"));
        let card = [(slot::CARD_TOKEN, "tok_1")];
        assert!(suppressed_at(&rules, &card, "2026-12-01T23:59:59.999Z"), "{until}");
        assert!(!suppressed_at(&rules, &card, "2026-12-02T00:00:00Z"), "{until}");
        // The exact time is said, whichever way it is written.
        assert_eq!(rules.explanations[0].suppressed_for, ["card tok_1 until 2026-12-02T00:00:00Z"]);
        let ended = &rules.warnings_at("test.toml", at("2026-12-02T00:00:00Z"))[0];
        assert!(ended.message.starts_with("this suppression ended at 2026-12-02T00:00:00Z"), "{ended}");
    }
}

#[test]
fn a_suppression_is_told_of_where_it_stands_from_its_end_on_and_not_before() {
    let suppressions = "\
        [[suppressions]]\nrule = 'abroad'\ncard = 'tok_1'\nuntil = 2026-12-01T00:00:00Z\n\
        [[suppressions]]\nrules = ['night', 'abroad']\nmerchant = 'M1'\nuntil = '2026-12-02T00:00:00+01:00'\n\
        [lists.nobody]\nvalues = ['M1']\n";
    let rules = compiled(&format!("{TWO}{suppressions}"));
    let told = |now: &str| -> Vec<String> {
        let findings = rules.warnings_at("test.toml", at(now)).into_iter();
        findings
            .map(|found| {
                assert_eq!(found.severity, Severity::Warning);
                format!("{}:{}+{} {}", found.line, found.column, found.length, found.message)
            })
            .collect()
    };
    let unused = told("2026-11-30T23:59:59.999Z");
    assert!(unused.len() == 1 && unused[0].starts_with("21:8+6 "), "{unused:?}");
    let first = "16:9+20 this suppression ended at 2026-12-01T00:00:00Z and excuses nobody any more";
    assert_eq!(told("2026-12-01T00:00:00Z"), [first, &unused[0]]);
    let second = "20:9+27 this suppression ended at 2026-12-01T23:00:00Z and excuses nobody any more";
    assert_eq!(told("2027-01-01T00:00:00Z"), [first, second, &unused[0]]);
}

#[test]
fn a_wrong_share_or_suppression_is_found_at_its_place() {
    let rule = "version = 1\n[[rules]]\nid = 'r'\nwhen = 'is_foreign'\nthen = 'decline'\nreason = 'R'\n";
    for (rest, expected) in [
        ("live_percent = 0", "7:16 `live_percent` is a whole number from 1 to 99"),
        ("live_percent = 100", "7:16 `live_percent` is at most 99"),
        ("live_percent = 2.5", "7:16 `live_percent` is a whole number from 1 to 99"),
        ("mode = 'shadow'\nlive_percent = 5", "8:16 `live_percent` means nothing with `mode = \"shadow\"`"),
        ("protected = 'yes'", "7:13 `protected` must be true or false, found a text"),
        (
            "[[suppressions]]\ncard = 'c'\nuntil = 2026-12-01T00:00:00Z",
            "7:1 `rule` is missing in [[suppressions]]",
        ),
        ("[[suppressions]]\nrule = 'q'\ncard = 'c'\nuntil = 2026-12-01T00:00:00Z", "8:8 unknown rule `q`"),
        (
            "[[suppressions]]\nrule = 'r'\nuntil = 2026-12-01T00:00:00Z",
            "7:1 a suppression says for whom, and this",
        ),
        (
            "[[suppressions]]\nrule = 'r'\ncard = 'c'\nip = 'i'\nuntil = 2026-12-01T00:00:00Z",
            "10:6 a suppression is for one entity",
        ),
        ("[[suppressions]]\nrule = 'r'\ncard = 'c'", "7:1 `until` is missing in [[suppressions]]"),
        (
            "[[suppressions]]\nrule = 'r'\ncard = 'c'\nuntil = 2026",
            "10:9 `until` must be a date, or a date and a time, found a whole number",
        ),
        (
            "[[suppressions]]\nrule = 'r'\ncard = 'c'\nuntil = 'noon'",
            "10:9 `until` must be a date, or a date and a time",
        ),
        (
            "[[suppressions]]\nrule = 'r'\ncard = 'c'\nuntil = 12:00:00",
            "10:9 `until` must be a date, or a date and a time",
        ),
        (
            "[[suppressions]]\nrule = 'r'\ncard = ''\nuntil = 2026-12-01T00:00:00Z",
            "9:8 `card` must not be empty",
        ),
        (
            "[[suppressions]]\nrule = 'r'\ncrad = 'c'\nuntil = 2026-12-01T00:00:00Z",
            "9:1 unknown key `crad` in [[suppressions]]",
        ),
    ] {
        let findings = compile("test.toml", &format!("{rule}{rest}\n")).expect_err(rest);
        let said: Vec<String> = findings
            .iter()
            .map(|found| format!("{}:{} {}", found.line, found.column, found.message))
            .collect();
        assert!(said.iter().any(|said| said.starts_with(expected)), "{rest}: {said:?}");
    }
}

#[test]
fn what_a_rule_decides_by_has_a_name_that_changes_with_it_alone() {
    let file = "version = 1\n\
        aggregates.tries = { by = 'card', window = '1h', count = true }\n\
        lists.near = { values = ['AT', 'CH'] }\n\
        [[rules]]\nid = 'a'\nwhen = 'tries > 5 && merchant.country in lists.near'\nthen = 'decline'\nreason = 'A'\n\
        [[rules]]\nid = 'b'\nwhen = 'is_night'\nthen = 'flag'\nreason = 'B'\n";
    let meaning = |source: &str| compiled(source).rules.iter().map(|rule| rule.meaning).collect::<Vec<_>>();
    let before = meaning(file);
    for (from, to, changes) in [
        ("tries > 5", "tries > 4", true),
        ("'1h'", "'2h'", true),
        ("'CH'", "'CZ'", true),
        ("reason = 'A'", "reason = 'A'\nlive_percent = 5", true),
        ("reason = 'A'", "reason = 'A'\nmode = 'shadow'", true),
        ("'decline'", "'refer'", true),
        ("reason = 'A'", "reason = 'A'\ntext = 'Once more.'\nprotected = true", false),
        ("version = 1", "version = 1 # and a remark", false),
    ] {
        let after = meaning(&file.replace(from, to));
        assert_eq!(before[0] != after[0], changes, "{from} -> {to}");
        assert_eq!(before[1], after[1], "{from} -> {to}");
    }
}

#[test]
fn a_rule_that_may_run_in_shadow_is_told_from_one_that_never_does() {
    let rule = |id: &str, when: &str, more: &str| {
        format!("[[rules]]\nid = '{id}'\nwhen = '{when}'\nthen = 'decline'\nreason = 'R'\n{more}\n")
    };
    let aggregate = |name: &str, by: &str, more: &str| {
        format!("[aggregates.{name}]\nby = '{by}'\nwindow = '1h'\ncount = true\n{more}\n")
    };
    let text = [
        "version = 1\n".to_owned(),
        aggregate("mine", "card", ""),
        aggregate("theirs", "merchant", ""),
        aggregate("frauds", "card", "where = \"label == 'fraud'\""),
        rule("never", "mine >= 5", ""),
        rule("shop", "mine >= 5 && theirs >= 6", ""),
        rule("told", "frauds >= 1", ""),
        rule("some", "amount > 7", "live_percent = 25"),
        rule("shadow", "amount > 8", "mode = 'shadow'"),
        rule("off", "theirs >= 9", "mode = 'off'"),
        rule("excused", "amount > 10", ""),
        "[[suppressions]]\nrule = 'excused'\ncard = 'c'\nuntil = 2099-01-01T00:00:00Z\nwhy = 'x'\n"
            .to_owned(),
    ];
    let rules = compiled(&text.concat());
    let may = rules.rules.iter().enumerate().filter(|(place, _)| rules.may_run_in_shadow(*place));
    let may: Vec<&str> = may.map(|(_, rule)| &*rule.id).collect();
    assert_eq!(may, ["shop", "told", "some", "shadow", "excused"]);
}

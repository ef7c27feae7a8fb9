//! Lists that calls change: a naive twin agrees whatever is done in whatever order, what ends does so at its time, and a
//! list's file is told to be wrong where it is.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{
    Finding, Lists, RuleSet, Seen, Severity, Value, compile, compiled, currency, results_seen, text, values,
};
use crate::{
    rules::{
        append_list_file, compile_kept, has_list_file, list_files,
        lists::{StandingEntry, Step},
        without_wrong_lines,
    },
    types::{
        lists::{ListEntry, ListKind},
        time::Timestamp,
    },
};

const RULES: &str = "version = 1\n[lists.shops]\nvalues = ['f0', 'f1', 'f2']\n[lists.hours]\nvalues = [3, 4]\n\
    [[rules]]\nid = 'shop'\nwhen = 'merchant.id in lists.shops'\nthen = 'flag'\nreason = 'R'\n\
    [[rules]]\nid = 'other'\nwhen = '!(merchant.id in lists.shops)'\nthen = 'flag'\nreason = 'R'\n\
    [[rules]]\nid = 'hour'\nwhen = 'hour_utc in lists.hours'\nthen = 'flag'\nreason = 'R'\n";

fn entry(value: &str, until: Option<i64>) -> ListEntry {
    ListEntry { value: value.into(), expires_at: until.map(Timestamp), source: "test".into() }
}

/// Whether the rules see these values on their lists at a time.
fn sees(rules: &RuleSet, lists: &Arc<Lists>, shop: &str, hour: i64, now: i64) -> (bool, bool) {
    let in_force = rules.lists_in_force(Arc::clone(lists));
    let given = [("merchant.id", text(shop)), ("hour_utc", Value::Int(hour))];
    let seen = Seen { lists: &in_force, now: Timestamp(now) };
    let found = results_seen(rules, &values(rules, &given), currency("USD"), seen);
    assert_eq!(found[0].map(|is| !is), found[1], "a list and its opposite");
    (found[0].unwrap(), found[2].unwrap())
}

#[derive(Clone, Debug)]
enum Act {
    Add(usize, Option<i64>),
    Remove(usize),
    Wait(i64),
}

fn act() -> impl Strategy<Value = Act> {
    let value = 0..8_usize;
    prop_oneof![
        (value.clone(), proptest::option::of(0..60_i64)).prop_map(|(value, life)| Act::Add(value, life)),
        value.prop_map(Act::Remove),
        (1..20_i64).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_map_that_keeps_everything_agrees_with_the_buckets(acts in proptest::collection::vec(act(), 1..60)) {
        const VALUES: [&str; 8] = ["f0", "f1", "f2", "a", "b", "c", "", "ä-longer-one"];
        let rules = compiled(RULES);
        let declared = rules.list("shops").unwrap();
        let mut lists = Arc::new(Lists::default());
        // What a call said last: `None` is taken out.
        let mut said: BTreeMap<&str, Option<i64>> = BTreeMap::new();
        let mut now = 1_000;
        for (number, act) in acts.into_iter().enumerate() {
            let step = match act {
                Act::Wait(ms) => {
                    now += ms;
                    continue;
                }
                Act::Add(value, life) => {
                    said.insert(VALUES[value], Some(life.map_or(i64::MAX, |life| now + life)));
                    Step::Add(entry(VALUES[value], life.map(|life| now + life)))
                }
                Act::Remove(value) if declared.file.has(VALUES[value], Timestamp(now)) => {
                    said.insert(VALUES[value], None);
                    Step::TakeOut(VALUES[value].into())
                }
                Act::Remove(value) => {
                    said.remove(VALUES[value]);
                    Step::Forget(VALUES[value].into())
                }
            };
            let after = lists.with(("shops", ListKind::Texts), Timestamp(now), [step]).unwrap();
            lists = Arc::new(after.made_at(number as u64 + 1));
            let mut on_the_list = Vec::new();
            for value in VALUES {
                let is_on = match said.get(value) {
                    Some(Some(until)) if now < *until => true,
                    Some(None) => false,
                    _ => value.starts_with('f'),
                };
                prop_assert_eq!(sees(&rules, &lists, value, 0, now).0, is_on, "{} at {}", value, now);
                on_the_list.extend(is_on.then_some(value));
            }
            let changes = lists.of("shops", ListKind::Texts).map(|changes| &**changes);
            prop_assert_eq!(declared.len(changes, Timestamp(now)), on_the_list.len() as u64);
            // Read in parts of two, the empty value left out because nothing stands before it.
            let mut read: Vec<StandingEntry> = Vec::new();
            loop {
                let after = read.last().map_or(String::new(), |last| last.entry.value.to_string());
                let page = declared.page(changes, Timestamp(now), &after, 2);
                let is_last = page.len() < 2;
                read.extend(page);
                if is_last {
                    break;
                }
            }
            on_the_list.retain(|value| !value.is_empty());
            on_the_list.sort_unstable();
            prop_assert_eq!(read.iter().map(|entry| &*entry.entry.value).collect::<Vec<_>>(), on_the_list);
        }
    }
}

#[test]
fn an_entry_is_on_the_list_until_its_end_and_not_at_it() {
    let rules = compiled(RULES);
    let lists = Lists::default().with(
        ("shops", ListKind::Texts),
        Timestamp(0),
        [Step::Add(entry("a", Some(100))), Step::TakeOut("f0".into())],
    );
    let lists = Arc::new(lists.unwrap());
    assert!(sees(&rules, &lists, "a", 0, 99).0);
    assert!(!sees(&rules, &lists, "a", 0, 100).0);
    assert!(!sees(&rules, &lists, "f0", 0, 100).0 && sees(&rules, &lists, "f1", 0, 100).0);
    let again = lists.with(("shops", ListKind::Texts), Timestamp(0), [Step::Add(entry("f0", None))]).unwrap();
    assert!(sees(&rules, &Arc::new(again), "f0", 0, 100).0, "a value taken out is back once it is added");
}

#[test]
fn whole_numbers_are_looked_up_as_they_are_written() {
    let rules = compiled(RULES);
    let id = ("hours", ListKind::Ints);
    let steps = [Step::Add(entry("-1", None)), Step::TakeOut("3".into())];
    let lists = Arc::new(Lists::default().with(id, Timestamp(0), steps).unwrap());
    let at = |hour| sees(&rules, &lists, "x", hour, 0).1;
    assert_eq!([-1, 3, 4, 5].map(at), [true, false, true, false]);
    assert_eq!(
        rules.list("hours").unwrap().refusal("ten").unwrap(),
        "must be a whole number: the list has whole numbers"
    );
}

#[test]
fn changes_of_a_list_that_is_gone_or_of_another_type_wait_for_it_to_come_back() {
    let rules = compiled(RULES);
    let steps = [Step::Add(entry("7", None))];
    let lists = Lists::default().with(("shops", ListKind::Ints), Timestamp(0), steps).unwrap();
    assert!(!sees(&rules, &Arc::new(lists), "7", 7, 0).0);
}

#[test]
fn a_value_that_no_field_compared_with_the_list_can_hold_is_refused() {
    let rules = compiled(
        "version = 1\n[lists.mccs]\nvalues = []\n[lists.cards]\nvalues = []\n\
         [[rules]]\nid = 'r'\nwhen = 'mcc in lists.mccs || card_token in lists.cards'\nthen = 'flag'\nreason = 'R'\n",
    );
    let refusal = rules.list("mccs").unwrap().refusal("42").unwrap();
    assert_eq!(refusal, "must be four digits: rules look `merchant.mcc` up in the list");
    assert!(rules.list("cards").unwrap().has_cards() && !rules.list("mccs").unwrap().has_cards());
}

fn found(source: &str) -> Vec<String> {
    let findings = match compile("rules.toml", source) {
        Ok(rules) => rules.warnings,
        Err(findings) => findings,
    };
    findings.into_iter().map(told).collect()
}

fn told(Finding { file, line, column, message, help, .. }: Finding) -> String {
    let help = help.map_or(String::new(), |help| format!(" | {help}"));
    format!("{file}:{line}:{column} {message}{help}")
}

const WITH_FILE: &str = "version = 1\n[lists.shops]\nfile = 'shops.csv'\n\
    [[rules]]\nid = 'r'\nwhen = 'merchant.id in lists.shops'\nthen = 'flag'\nreason = 'R'\n";

fn with_file(content: &str) -> String {
    let mut source = WITH_FILE.to_owned();
    append_list_file(&mut source, "shops.csv", content).unwrap();
    source
}

#[test]
fn a_list_from_a_file_is_part_of_the_version_and_ends_as_its_lines_say() {
    let files = list_files(WITH_FILE);
    assert_eq!(
        (files.len(), &*files[0].name, &WITH_FILE[files[0].at.clone()]),
        (1, "shops.csv", "'shops.csv'")
    );
    let source = with_file("source,value,expires_at\nVisa,M-1,1970-01-01T00:00:01Z\n\"a, b\",M-2,\n");
    assert!(has_list_file(&source, "shops.csv") && !has_list_file(WITH_FILE, "shops.csv"));
    let rules = compiled(&source);
    assert_eq!(rules.warnings, []);
    let none = Arc::new(Lists::default());
    let in_force = rules.lists_in_force(none);
    let on = |shop: &str, now: i64| {
        let given = [("merchant.id", text(shop))];
        let seen = Seen { lists: &in_force, now: Timestamp(now) };
        results_seen(&rules, &values(&rules, &given), currency("USD"), seen)[0]
    };
    assert_eq!([on("M-1", 999), on("M-1", 1_000), on("M-2", 1_000)], [Some(true), Some(false), Some(true)]);
    let page = rules.list("shops").unwrap().page(None, Timestamp(0), "", 9);
    let sources: Vec<&str> = page.iter().map(|entry| &*entry.entry.source).collect();
    assert_eq!(sources, ["Visa", "a, b"]);
    assert_ne!(rules.version, compiled(&with_file("value\nM-1\nM-2\n")).version);
    // A mode behind it, which a call has set, and a text that is loaded once more, change nothing.
    let held = format!("{source}\n#@ mode r shadow since=2026-11-26T10:00:00Z by=SetRuleMode\n");
    let held = compiled(&held);
    assert_eq!(held.list("shops").unwrap().page(None, Timestamp(0), "", 9).len(), 2);
}

/// Whether `M-1` is on the list of [`WITH_FILE`].
fn has_it(rules: &RuleSet, now: &str) -> bool {
    let none = rules.lists_in_force(Arc::new(Lists::default()));
    let seen = Seen { lists: &none, now: Timestamp::parse(now).unwrap() };
    results_seen(rules, &values(rules, &[("merchant.id", text("M-1"))]), currency("USD"), seen)[0]
        == Some(true)
}

#[test]
fn a_value_of_a_list_s_file_that_ends_on_a_day_is_on_the_list_all_of_that_day() {
    for content in [
        "value,expires_at\nM-1,2026-03-01\n",
        "\nsource,\"expires_at\", value\n\"Visa, \"\"17\"\"\",\"2026-03-01\", M-1\n",
        "value,expires_at\nM-1, 2026-03-01 \n",
        "value,expires_at\nM-1,2026-03-02T00:00:00Z\n",
    ] {
        let source = with_file(&content.replace(", M-1", ",M-1"));
        assert!(source.contains("2026-03-02T00:00:00Z"), "the text says the exact time: {source}");
        let rules = compiled(&source);
        assert!(has_it(&rules, "2026-03-01T23:59:59.999Z"), "{content}");
        assert!(!has_it(&rules, "2026-03-02T00:00:00Z"), "{content}");
        let when = &rules.explanations[0].when[0];
        assert!(when.ends_with("(1 value; 1 with an end, the first at 2026-03-02T00:00:00Z)"), "{when}");
    }
    // Days anywhere else are none of its business.
    let other = "value,source\nM-1,2026-03-01\n2026-03-01,x\n";
    assert!(with_file(other).ends_with("#| M-1,2026-03-01\n#| 2026-03-01,x\n"));
}

#[test]
fn a_text_that_was_kept_with_a_day_alone_means_what_it_meant_and_is_not_taken_anew() {
    let kept = format!("{WITH_FILE}#@ list shops.csv\n#| value,expires_at\n#| M-1,2026-03-01\n#| M-2,\n");
    let rules = compile_kept("kept", &kept).unwrap();
    assert!(has_it(&rules, "2026-02-28T23:59:59.999Z") && !has_it(&rules, "2026-03-01T00:00:00Z"));
    assert_eq!(
        found(&kept),
        [
            "shops.csv:2:5 a day alone cannot be the end of a value among the lines that come with rules | write \
          2026-03-02T00:00:00Z to keep it to the end of that day, or 2026-03-01T00:00:00Z for its beginning"
        ]
    );
    let (rest, wrong) = without_wrong_lines(&kept).unwrap();
    assert_eq!((wrong.len(), compiled(&rest).lists[0].file.len()), (1, 1));
}

#[test]
fn a_value_that_has_ended_is_told_of_with_its_line_from_its_end_on_and_not_before() {
    let source = with_file(
        "value,expires_at,source\n\nM-1,2026-03-01,a\n M-2,2026-03-05T12:00:00Z,\nM-3,,c\nM-4,2027-01-01,d\n",
    );
    let rules = compiled(&source);
    let blank = "shops.csv:4:1 the value begins or ends with a blank, so that hardly any equals it | write it without: \
                 what a switch sends is compared byte by byte";
    let told_at = |now: &str| {
        let findings = rules.warnings_at("rules.toml", Timestamp::parse(now).unwrap());
        assert!(
            findings.iter().all(|found| found.severity == Severity::Warning && !found.source_line.is_empty())
        );
        findings.into_iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(told_at("2026-03-01T23:59:59.999Z"), [blank]);
    const HELP: &str = "take the line out, or give it a later end";
    let first =
        format!("shops.csv:3:5 `M-1` ended at 2026-03-02T00:00:00Z and is on the list no more | {HELP}");
    let second =
        format!("shops.csv:4:6 ` M-2` ended at 2026-03-05T12:00:00Z and is on the list no more | {HELP}");
    assert_eq!(told_at("2026-03-02T00:00:00Z"), [blank, &first]);
    assert_eq!(told_at("2026-03-05T12:00:00Z"), [blank, &first, &second]);
    // To compile is to know no time.
    assert_eq!(rules.warnings.len(), 1);

    let lines: String = (0..300).map(|value| format!("M-{value},2026-03-01\n")).collect();
    let rules = compiled(&with_file(&format!("value,expires_at\n{lines}")));
    let findings = rules.warnings_at("rules.toml", Timestamp::parse("2027-01-01T00:00:00Z").unwrap());
    assert_eq!(findings.len(), 21);
    assert_eq!(
        findings.into_iter().map(told).next_back().unwrap(),
        "shops.csv:22:6 280 more values of this file have ended"
    );
}

#[test]
fn a_list_s_file_is_told_to_be_wrong_at_its_own_line() {
    let missing = found(WITH_FILE);
    let expected = "rules.toml:3:8 what stands in `shops.csv` did not come with these rules | send the values as \
                    `values = [..]`, or let the engine read the configured file anew";
    assert_eq!(missing, [expected]);
    for (content, expected) in [
        (
            "",
            "shops.csv:1:1 the header lacks the needed column `value` | the first line names the columns: `value`, and `expires_at` and `source` where there are any",
        ),
        (
            "merchant\nM-1\n",
            "shops.csv:1:1 the header lacks the needed column `value` | the first line names the columns: `value`, and `expires_at` and `source` where there are any",
        ),
        ("value,value\n", "shops.csv:1:7 the column `value` is there twice"),
        (
            "value,expires_at\nM-1,\nM-2,tomorrow\n",
            "shops.csv:3:5 `tomorrow` is no time | a time is RFC 3339, such as 2027-01-31T00:00:00Z; empty is for ever",
        ),
        ("value,source\nM-1\n", "shops.csv:2:1 the line has 1 cells where the header has 2"),
        ("value\nM-1\n\nM-1\n", "shops.csv:4:1 `M-1` is there already, on line 2 | keep one of the two"),
        ("value,note\nM-1,x\n", "shops.csv:1:1 not understood and left aside: column `note`"),
        ("source,value\nx,\n", "shops.csv:2:3 a value has 1 to 256 bytes, this has 0"),
    ] {
        assert_eq!(found(&with_file(content)), [expected], "{content:?}");
    }
    let mut source = WITH_FILE.to_owned();
    let bad = append_list_file(&mut source, "shops.csv", "value\nM-\u{7}1\n").unwrap_err();
    assert_eq!((bad.len(), bad[0].line, bad[0].column), (1, 2, 3));
}

#[test]
fn an_unclosed_quote_in_a_list_s_file_is_told_and_does_not_swallow_the_rest() {
    const OPEN: &str = "the quote that begins here is not closed on its line | close it with `\"` on the same line; \
                        inside quotes, a `\"` is written twice";
    let wrong = |content: &str| {
        let mut source = WITH_FILE.to_owned();
        let findings = append_list_file(&mut source, "shops.csv", content).err();
        let mut told: Vec<String> = findings.into_iter().flatten().map(told).collect();
        told.extend(found(&source));
        told
    };
    // To the end of the file, over several lines up to the next quote, on the last line, in the header.
    assert_eq!(wrong("value\nM-1\n\"M-2\nM-3\n"), [format!("shops.csv:3:1 {OPEN}")]);
    let two =
        wrong("value,source\nM-1,\"Visa\n\n\"M-2\"\"\",\"alert\"\" 17\n\"M, 3\",\"a \"\"b\"\"\"\nM-1\n");
    assert_eq!(
        two,
        [
            format!("shops.csv:2:5 {OPEN}"),
            format!("shops.csv:4:9 {OPEN}"),
            "shops.csv:6:1 the line has 1 cells where the header has 2".to_owned(),
        ]
    );
    assert_eq!(wrong("value\nM-1\n\"M-2"), [format!("shops.csv:3:1 {OPEN}")]);
    assert_eq!(wrong("\nsource,\"value\nM-1\n"), [format!("shops.csv:2:8 {OPEN}")]);
    let many = wrong(&format!("value\n{}", "\"M\n".repeat(30)));
    assert_eq!(many.len(), 20);
    // What is quoted as it should be keeps its commas and quotes, and a quote inside a cell is only a sign.
    let rules = compiled(&with_file("value,source\n\"a, \"\"b\"\"\",\"\"\n6\" pipe,x\"\n"));
    let page = rules.list("shops").unwrap().page(None, Timestamp(0), "", 9);
    let read: Vec<[&str; 2]> = page.iter().map(|entry| [&*entry.entry.value, &*entry.entry.source]).collect();
    assert_eq!(read, [["6\" pipe", "x\""], ["a, \"b\"", ""]]);
    // The place is right behind a quoted cell too.
    let behind = wrong("source,expires_at,value\n\"a, b\",soon,M-1\n");
    assert!(behind[0].starts_with("shops.csv:2:8 `soon` is no time"), "{behind:?}");
}

#[test]
fn a_kept_text_whose_list_has_a_cell_over_several_lines_compiles_as_it_did_when_it_was_kept() {
    // Earlier programs appended a file's lines without a look at their quotes; such a text stands in journals.
    let kept = format!(
        "{WITH_FILE}#@ list shops.csv\n#| value,source\n#| M-1,\"Visa\n#|\n#| alert 17\"\n#| M-2,x\n"
    );
    let rules = compile_kept("0123456789ab", &kept).unwrap();
    let page = rules.list("shops").unwrap().page(None, Timestamp(0), "", 9);
    let read: Vec<[&str; 2]> = page.iter().map(|entry| [&*entry.entry.value, &*entry.entry.source]).collect();
    assert_eq!(read, [["M-1", "Visa\n\nalert 17"], ["M-2", "x"]]);
    // The same file, read anew from its own place, is refused.
    let mut source = WITH_FILE.to_owned();
    let content = "value,source\nM-1,\"Visa\n\nalert 17\"\nM-2,x\n";
    assert!(append_list_file(&mut source, "shops.csv", content).is_err());
}

#[test]
fn an_unclosed_quote_in_a_given_text_s_own_list_lines_does_not_let_the_rows_below_it_off_the_list() {
    const OPEN: &str = "the quote that begins here is not closed on its line | close it with `\"` on the same line; \
                        inside quotes, a `\"` is written twice";
    let given = |lines: &str| format!("{WITH_FILE}#@ list shops.csv\n{lines}");
    let swallowing = given("#| value\n#| M-1\n#| \"M-2\n#| M-3\n#| M-4\n");
    assert_eq!(found(&swallowing), [format!("shops.csv:3:1 {OPEN}")]);
    assert_eq!(found(&swallowing.replace('\n', "\r\n")), [format!("shops.csv:3:1 {OPEN}")]);
    assert_eq!(compile_kept("kept", &swallowing).unwrap().list("shops").unwrap().file.len(), 2);
    // The quote that would close it comes, too, and what else is wrong is told with it, but nothing that follows from it.
    let all = given(
        "#| value,source\n#| M-1,\"Visa\n#|\n#| alert 17\"\n#|M\u{85}2,x\n#| M-1\u{1b},x\n#| M-3,x,x\n\n\
         #@ mode s off since=2026-11-26T10:00:00Z by=SetRuleMode\n",
    );
    let expected = [
        format!("shops.csv:2:5 {OPEN}"),
        "shops.csv:5:2 a control character cannot stand in a list".to_owned(),
        "shops.csv:6:4 a control character cannot stand in a list".to_owned(),
        "shops.csv:4:1 the line has 1 cells where the header has 2".to_owned(),
        "shops.csv:7:1 the line has 3 cells where the header has 2".to_owned(),
        "rules.toml:18:1 there is no rule `s` | did you mean `r`?".to_owned(),
    ];
    assert_eq!(found(&all), expected);
    // A header, and lines without number: 20 of them are told.
    assert_eq!(found(&given("#| \"value\n#| M-1\n")), [format!("shops.csv:1:1 {OPEN}")]);
    assert_eq!(found(&given(&format!("#| value\n{}", "#| \"M\n".repeat(30)))).len(), 20);
    // What is as it should be stays to the byte what it was.
    let right = given("#| value,source\n#|\n#| \"M, \"\"1\"\"\",6\" pipe\n");
    assert!(without_wrong_lines(&right).is_none() && *compiled(&right).source == *right);
}

#[test]
fn a_blank_line_among_a_list_s_lines_does_not_let_what_follows_off_the_list() {
    let whole = with_file("value\nM-1\nM-2\n");
    assert_eq!(without_wrong_lines(&whole), None);
    assert_eq!(
        without_wrong_lines(&with_file("value\n\nM-1\n")),
        None,
        "an empty line of the file is one of its lines"
    );
    let torn = whole.replace("#| M-2", "\n#| M-2");
    let (_, wrong) = without_wrong_lines(&torn).unwrap();
    assert_eq!(
        wrong.into_iter().map(told).collect::<Vec<_>>(),
        [
            "shops.csv:4:1 a line of a list that belongs to none: the list ended above it | leave no other line between \
             the lines of a list; an empty one of it is `#|`"
        ]
    );
    assert_eq!(without_wrong_lines("version = 1\n#| a comment of somebody\n"), None);
}

#[test]
fn a_blank_beside_a_value_does_not_let_it_off_the_list_unsaid() {
    assert_eq!(
        found(&with_file("value\nM-1\n M-2\nM-3 \n")),
        [3, 4].map(|line| {
            format!(
                "shops.csv:{line}:1 the value begins or ends with a blank, so that hardly any equals it | \
                 write it without: what a switch sends is compared byte by byte"
            )
        })
    );
}

#[test]
fn an_error_behind_blank_lines_is_told_at_its_own_line() {
    let wrong = found(&with_file("value,source\nM-1,x\n\n\nM-2\nM-3,soon,x\n\nM-1,x\n"));
    assert_eq!(
        wrong,
        [
            "shops.csv:5:1 the line has 1 cells where the header has 2",
            "shops.csv:6:1 the line has 3 cells where the header has 2",
            "shops.csv:8:1 `M-1` is there already, on line 2 | keep one of the two",
        ]
    );
    for (content, expected) in [
        ("\n\nvalue,value\nM-1\n", "shops.csv:3:7 the column `value` is there twice"),
        ("\n\nvalue,note\nM-1,x\n", "shops.csv:3:1 not understood and left aside: column `note`"),
    ] {
        assert_eq!(found(&with_file(content)), [expected], "{content:?}");
    }
    assert!(found(&with_file("\n\n"))[0].starts_with("shops.csv:2:1 the header lacks"));
}

#[test]
fn a_wrong_line_of_megabytes_is_shown_in_part() {
    let refused = |line: &str| {
        let mut source = WITH_FILE.to_owned();
        let findings = append_list_file(&mut source, "shops.csv", &format!("value,source\n{line}\n"));
        findings.unwrap_err().remove(0)
    };
    let first = refused(&format!("\"{}", "ä".repeat(1_000_000)));
    assert_eq!(first.source_line, format!("\"{}", "ä".repeat(199)));
    assert!((first.column, first.length) == (1, 200) && first.to_string().len() < 2_000);
    let far = refused(&format!("{},\"x", "ä".repeat(1_000_000)));
    assert_eq!((far.column, far.source_line.as_str()), (1_000_002, ""), "the place is not in what is shown");
    assert!(far.to_string().len() < 2_000);
    // One that is found to be wrong when the list is checked.
    let cells = ",".repeat(1_000_000);
    let Err(many) = compile("rules.toml", &with_file(&format!("value\n{cells}\n"))) else { panic!() };
    assert_eq!(many[0].source_line.len(), 200);
}

#[test]
fn a_file_s_values_take_the_type_that_a_rule_compares_them_with() {
    let hours = |content: &str| {
        let mut source = WITH_FILE.replace("merchant.id", "hour_utc");
        append_list_file(&mut source, "shops.csv", content).unwrap();
        source
    };
    assert_eq!(compiled(&hours("value\n3\n")).list("shops").unwrap().kind, ListKind::Ints);
    let expected = "rules.toml:6:21 `three` (shops.csv, line 2) is no whole number | the list is compared with whole \
                    numbers here";
    assert_eq!(found(&hours("value\nthree\n")), [expected]);
    let mccs = with_file("value\n5812\nfood\n").replace("merchant.id", "mcc");
    assert_eq!(
        found(&mccs),
        [
            "rules.toml:6:16 `mcc` is a merchant category code, 'food' is not (in list `shops`: shops.csv, line 3) | a \
          merchant category code is four digits, such as '6011'"
        ]
    );
}

#[test]
fn a_label_policy_is_checked_against_the_lists_there_are() {
    let policy = |body: &str| {
        format!(
            "version = 1\n[lists.devices]\nvalues = []\n[lists.hours]\nvalues = [1]\n[[label_policies]]\n{body}\n\
             [[rules]]\nid = 'r'\nwhen = 'hour_utc in lists.hours'\nthen = 'flag'\nreason = 'R'\n"
        )
    };
    const RIGHT: &str =
        "label = 'fraud'\nkind = 'stolen'\nlist = 'devices'\nadd = 'device_id'\nexpires_in = '30d'";
    assert_eq!(found(&policy(RIGHT)), Vec::<String>::new(), "a list that a policy fills is used");
    for (from, to, expected) in [
        ("'fraud'", "'froud'", "rules.toml:7:9 `label` cannot be `froud` | did you mean `fraud`?"),
        ("'devices'", "'device'", "rules.toml:9:8 unknown list `device` | did you mean `devices`?"),
        ("'devices'", "'hours'", "rules.toml:9:8 list `hours` has whole numbers: no id can be put there"),
        (
            "'device_id'",
            "'device.idd'",
            "rules.toml:10:7 `device.idd` cannot be put on a list | did you mean `device.id`?",
        ),
        (
            "'30d'",
            "'month'",
            "rules.toml:11:14 `month` is no such time | a whole number and s, m, h or d, from 1s to 3650d, such as \"30d\"",
        ),
    ] {
        let found = found(&policy(&RIGHT.replace(from, to)));
        assert!(found.contains(&expected.to_owned()), "{found:?}");
    }
}

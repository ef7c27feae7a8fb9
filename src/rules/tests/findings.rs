//! Wrong files and what is said about them. Whoever writes a rule by guessing must get a message that lets them
//! mend it.

use proptest::prelude::*;

use super::{Severity, compile, compiled};

/// Every finding of a file as `line:column message | help`.
fn findings(source: &str) -> Vec<String> {
    let all = match compile("test.toml", source) {
        Ok(rules) => rules.warnings,
        Err(findings) => {
            assert!(findings.iter().any(|finding| finding.severity == Severity::Error), "{source}");
            findings
        }
    };
    let shown = all.iter().map(|finding| {
        let help = finding.help.as_ref().map_or(String::new(), |help| format!(" | {help}"));
        format!("{}:{} {}{help}", finding.line, finding.column, finding.message)
    });
    shown.collect()
}

/// The findings of a file whose only rule has this condition; the condition begins at column 1 of line 4.
fn of_condition(when: &str) -> Vec<String> {
    findings(&format!(
        "version = 1\n[[rules]]\nwhen = '''\n{when}'''\nid = 'r'\nthen = 'decline'\nreason = 'R'\n"
    ))
}

#[test]
fn a_wrong_condition_is_found_at_its_place() {
    let mut wrong = Vec::new();
    for (when, expected) in [
        // Syntax.
        ("", "4:1 the expression is empty | write what must be true, such as `amount > 100`"),
        ("amount >", "4:9 the expression ends too early | something is missing at the end"),
        ("amount = 5", "4:8 `=` is not expected here | `==` compares"),
        ("is_foreign and is_night", "4:12 `and` is not expected here | write `&&`"),
        ("is_foreign & is_night", "4:12 `&` is not expected here | write `&&`"),
        ("channel <> 'ecommerce'", "4:10 `>` is not expected here | write `!=`"),
        ("channel == 'ecommerce", "4:12 `'` is not expected here | the text is not closed"),
        ("(amount > 5", "4:1 `(` is not closed | the closing bracket is missing"),
        ("amount > 5)", "4:11 `)` is not expected here | one `)` too many"),
        ("amount > 99999999999999999999", "4:10 the number `99999999999999999999` does not fit"),
        (
            "if",
            "4:1 `if` is a reserved word | a condition only says what must be true; what follows from it stands in `then = ..`",
        ),
        ("amount > 5u", "4:10 rules do not have unsigned numbers such as `5u`"),
        ("channel == null", "4:12 rules do not have `null`; use `has(..)`"),
        ("{'a': 1} == 5", "4:1 rules do not have maps and structures"),
        ("channel[0] == 'e'", "4:8 rules do not have `[..]` behind a value"),
        ("'ä' == merchant.nme", "4:8 unknown name `merchant.nme` | did you mean `merchant.name`?"),
        // Names.
        ("amuont > 5", "4:1 unknown name `amuont` | did you mean `amount`?"),
        (
            "merchant.countri == 'US'",
            "4:1 unknown name `merchant.countri` | did you mean `merchant.country`?",
        ),
        ("home_country == 'US'", "4:1 unknown name `home_country` | did you mean `account.home_country`?"),
        ("channel == ecommerce", "4:12 unknown name `ecommerce` | texts stand in quotes: 'ecommerce'"),
        ("merchant.country == US", "4:21 unknown name `US` | texts stand in quotes: 'US'"),
        ("foo(amount) > 5", "4:1 unknown function `foo`"),
        ("merchant.name.startswith('A')", "4:1 unknown function `startswith` | did you mean `startsWith`?"),
        (
            "startsWith(merchant.name, 'A')",
            "4:1 `startsWith` is called on a text | write `merchant.name.startsWith('PAY')`: Whether a text begins with another.",
        ),
        (
            "amount.abs() > 5",
            "4:1 `abs` is not called on a value | write `abs(x)`: The size of a number or an amount, without its sign.",
        ),
        (
            "min(amount) > 5",
            "4:1 `min` takes 2 arguments, not 1 | write `min(x, y)`: The smaller of two numbers or amounts.",
        ),
        (
            "merchant.name.matches('A.*')",
            "4:1 rules do not have `matches` | there are no regular expressions; use startsWith, endsWith or contains",
        ),
        (
            "lists.x.exists(y, y == 'a')",
            "4:1 rules do not have `exists` | there are no loops; use `in` with a list",
        ),
        ("has(5)", "4:5 `has` takes the name of a field, feature or aggregate"),
        ("has(devise.id)", "4:5 unknown name `devise.id` | did you mean `device.id`?"),
        (
            "merchant.id in lists.blocked",
            "4:16 unknown list `blocked` | declare it: `[lists.blocked]` with `values = [..]`",
        ),
        (
            "merchant.id == lists.blocked",
            "4:16 a list stands only to the right of `in` | write `merchant.id in lists.blocked`",
        ),
        (
            "merchant.id in merchant.name",
            "4:16 to the right of `in` stands a list | write `in lists.NAME` or `in ['a', 'b']`",
        ),
        // Types.
        (
            "amount",
            "4:1 a condition is true or false; `amount` is money | compare it with something, such as `x > 5`",
        ),
        (
            "amount > '5'",
            "4:1 `amount` is money, `'5'` is text: `>` cannot take both | amounts are written without quotes: 5.00",
        ),
        (
            "amount > instalments",
            "4:1 `amount` is money, `instalments` is a whole number: `>` cannot take both | beside money only a literal number is read as an amount (in major units)",
        ),
        ("amount > 1.0000000001", "4:10 the amount has too many digits"),
        (
            "amount > 1e15 + 1.0",
            "4:1 `amount` is money, `1e15 + 1.0` is a decimal number: `>` cannot take both | beside money only a literal number is read as an amount (in major units)",
        ),
        ("amount > 9000000000000000", "4:10 the amount has too many digits"),
        (
            "amount * amount > 5",
            "4:1 money times money means nothing | one of the two must be a plain number",
        ),
        (
            "amount * card.speed_kmh > 5",
            "4:1 money times a decimal number that is no literal is not exact | multiply by a literal number or a whole number, or divide two amounts and compare the quotient",
        ),
        (
            "amount / 2 > 5",
            "4:1 money divided by a number is not exact | multiply by a literal instead: `0.5 * x`",
        ),
        (
            "amount * is_foreign > 5",
            "4:1 `amount` is money, `is_foreign` is true or false: they cannot be multiplied",
        ),
        (
            "instalments > '5'",
            "4:1 `instalments` is a whole number, `'5'` is text: `>` cannot take both | numbers are written without quotes",
        ),
        (
            "merchant.mcc == 5411",
            "4:1 `merchant.mcc` is text, `5411` is a whole number: `==` cannot take both | texts stand in quotes: '5411'",
        ),
        (
            "card.speed_kmh > 2 * card.distance_from_last_km",
            "4:18 `2` is a whole number, `card.distance_from_last_km` is a decimal number: `*` cannot take both | write `2.0`",
        ),
        (
            "card.speed_kmh / instalments > 2.0",
            "4:1 `instalments` is a whole number, `card.speed_kmh` is a decimal number: `/` cannot take both | write `double(instalments)`",
        ),
        ("card.speed_kmh % 2.0 == 1.0", "4:1 `%` is for whole numbers | write `int(x) % int(y)`"),
        ("instalments / 0 > 5", "4:1 division by zero: the result is never known"),
        ("merchant.name + 'a' == 'b'", "4:1 `+` does not join texts"),
        (
            "is_foreign > is_night",
            "4:1 `is_foreign` is true or false, `is_night` is true or false: `>` cannot take both",
        ),
        (
            "is_foreign && amount",
            "4:15 `&&` needs true or false; `amount` is money | compare it with something, such as `x > 5`",
        ),
        (
            "!amount > 5",
            "4:1 `!` needs true or false; `amount` is money | write `!(..)` around the whole comparison",
        ),
        ("-channel == 'a'", "4:1 `-` needs a number; `channel` is text"),
        (
            "(is_foreign ? 1 : 2.5) > 1",
            "4:19 both results of `?:` need one type; `1` is a whole number, `2.5` is a decimal number | write `1.0`",
        ),
        (
            "abs(channel) > 1",
            "4:1 `abs` cannot take text | write `abs(x)`: The size of a number or an amount, without its sign.",
        ),
        (
            "max(amount, channel) > 1",
            "4:1 `max` needs two numbers or two amounts, not money and text | write `max(x, y)`: The greater of two numbers or amounts.",
        ),
        (
            "channel in [1, 2]",
            "4:1 `channel` is text, the list has whole numbers | put its values into quotes, such as '6011'",
        ),
        ("channel in ['ecommerce', 2]", "4:26 the items of a list need one type"),
        (
            "instalments in [1, hour_utc]",
            "4:20 a list holds only literals | list texts or whole numbers; compare anything else with ==",
        ),
        ("amount in [5, 6]", "4:1 `in` takes texts and whole numbers; `amount` is money"),
        ("[1, 2] == 5", "4:1 a list stands only to the right of `in`"),
        // Texts that a field never holds.
        ("channel == 'ecomerce'", "4:12 `channel` can never be 'ecomerce' | did you mean `ecommerce`?"),
        ("channel == 'ECOMMERCE'", "4:12 `channel` can never be 'ECOMMERCE' | did you mean `ecommerce`?"),
        ("channel == 'web'", "4:12 `channel` can never be 'web' | it is one of: ecommerce, card_present"),
        (
            "entry_mode in ['chip', 'swipe']",
            "4:24 `entry_mode` can never be 'swipe' | it is one of: chip, contactless, magnetic_stripe, manual, credential_on_file, ecommerce",
        ),
        (
            "merchant.country == 'usa'",
            "4:21 `merchant.country` is a country, 'usa' is not | a country is two capital letters (ISO 3166 alpha-2), such as 'US'",
        ),
        (
            "mcc == '541'",
            "4:8 `mcc` is a merchant category code, '541' is not | a merchant category code is four digits, such as '6011'",
        ),
        (
            "currency == 'EURO'",
            "4:13 `currency` is a currency, 'EURO' is not | a currency is three capital letters (ISO 4217), such as 'USD'",
        ),
        // Doubts.
        ("true", "4:1 the condition is always true"),
        ("!false && true", ""),
    ] {
        let found = of_condition(when).join("\n");
        if found != expected {
            wrong.push(format!("{when}\n  expected: {expected}\n  found:    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_mistake_of_a_condition_is_found_at_once() {
    assert_eq!(
        of_condition("amuont > 5 &&\n  channel == 'web' ||\n  foo(speed_kph)"),
        [
            "4:1 unknown name `amuont` | did you mean `amount`?",
            "5:14 `channel` can never be 'web' | it is one of: ecommerce, card_present",
            "6:3 unknown function `foo`",
            "6:7 unknown name `speed_kph` | did you mean `speed_kmh`?",
        ]
    );
}

#[test]
fn what_is_wrong_beside_another_mistake_is_found_without_mending_that_first() {
    const SIZE: &str = "write `size(merchant.name)`: Characters of a text.";
    let mut wrong = Vec::new();
    for (when, expected) in [
        // A condition is true or false, whatever is wrong inside it.
        (
            "(amuont > 5 && is_night) == 5",
            vec![
                "4:2 unknown name `amuont` | did you mean `amount`?",
                "4:2 `amuont > 5 && is_night` is true or false, `5` is a whole number: `==` cannot take both | write \
                 `amuont > 5 && is_night`, or `!(amuont > 5 && is_night)` for the contrary",
            ],
        ),
        (
            "amuont < 5 < amount",
            vec![
                "4:1 unknown name `amuont` | did you mean `amount`?",
                "4:1 `amount` is money, `amuont < 5` is true or false: `<` cannot take both",
            ],
        ),
        (
            "amuont > 5 ? amount : channel",
            vec![
                "4:1 unknown name `amuont` | did you mean `amount`?",
                "4:23 both results of `?:` need one type; `amount` is money, `channel` is text",
            ],
        ),
        (
            "has(devise.id) > 3",
            vec![
                "4:5 unknown name `devise.id` | did you mean `device.id`?",
                "4:1 `has(devise.id)` is true or false, `3` is a whole number: `>` cannot take both | write \
                 `has(devise.id)`, or `!has(devise.id)` for the contrary",
            ],
        ),
        (
            "size(merchant.nme) == 'x'",
            vec![
                "4:6 unknown name `merchant.nme` | did you mean `merchant.name`?",
                "4:1 `size(merchant.nme)` is a whole number, `'x'` is text: `==` cannot take both",
            ],
        ),
        // What a function is given, whatever is wrong with the call.
        (
            "size(merchant.nme, chanel) > 5",
            vec![
                &*format!("4:1 `size` takes 1 argument, not 2 | {SIZE}"),
                "4:6 unknown name `merchant.nme` | did you mean `merchant.name`?",
                "4:20 unknown name `chanel` | did you mean `channel`?",
            ],
        ),
        (
            "merchant.nme.startswith('A')",
            vec![
                "4:1 unknown function `startswith` | did you mean `startsWith`?",
                "4:1 unknown name `merchant.nme` | did you mean `merchant.name`?",
            ],
        ),
        // Lists.
        (
            "channel in ['web', 5, 'pos']",
            vec![
                "4:13 `channel` can never be 'web' | it is one of: ecommerce, card_present",
                "4:20 the items of a list need one type",
                "4:23 `channel` can never be 'pos' | it is one of: ecommerce, card_present",
            ],
        ),
        (
            "amount in lists.none",
            vec![
                "4:1 `in` takes texts and whole numbers; `amount` is money",
                "4:11 unknown list `none` | declare it: `[lists.none]` with `values = [..]`",
            ],
        ),
        // What rules do not have.
        (
            "channel == null || amount > 5u && amuont > 3 && mcc['a'] == 'b'",
            vec![
                "4:12 rules do not have `null`; use `has(..)`",
                "4:29 rules do not have unsigned numbers such as `5u`",
                "4:35 unknown name `amuont` | did you mean `amount`?",
                "4:52 rules do not have `[..]` behind a value | write `mcc.a`",
            ],
        ),
    ] {
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        let mut found = of_condition(when);
        // In the order of the line, those of one place in any.
        expected.sort();
        found.sort();
        if found != expected {
            wrong.push(format!("{when}\n  expected: {expected:#?}\n  found:    {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_follows_from_what_is_not_known_because_of_another_mistake() {
    for (when, findings) in [
        ("amuont", 1),
        ("!amuont", 1),
        ("!amuont > 5", 1),
        ("-amuont == 'x'", 1),
        ("amuont == amount || amuont == 'x' || amuont", 3),
        ("amuont + amount == 'x'", 1),
        ("amount + 3 * amuont in ['x']", 1),
        ("amuont in ['x'] == true", 1),
        ("(is_night ? amuont : amount) == 'x'", 1),
        ("min(amuont, amount) == 'x'", 1),
        ("abs(amuont) > 'x'", 1),
        ("merchant.name.startsWith(amuont) && is_night", 1),
        ("[1, 2] == amuont", 2),
        ("channel == (amuont == 5 ? 'ecommerce' : 'card_present')", 1),
        ("Math.abs(amount) > 5", 1),
        ("merchant.nme.toLowerCase() == 5", 1),
        ("[device.id].exists(x, x == 'a')", 1),
        ("null == amount", 1),
        ("amount * 5u > 'x'", 1),
        ("{'a': 1} == {'b': 2}", 2),
        ("merchant.id in device['ids']", 1),
    ] {
        let found = of_condition(when);
        assert_eq!(found.len(), findings, "{when}: {found:#?}");
    }
    // What is wrong where a name is declared is told there, and leaves nothing to say where it is used.
    for when in ["a > 1", "!a", "a", "a > 1 ? is_night : is_foreign", "is_night && a == 'x' || a > 3"] {
        let found = findings(&format!(
            "version = 1\n[aggregates.a]\nby = 'crad'\nwindow = '1h'\ncount = tru\n[[rules]]\nid = 'r'\nwhen = {when:?}\nthen = \
             'flag'\nreason = 'R'\n"
        ));
        assert!(
            !found.is_empty() && found.iter().all(|finding| !finding.starts_with("8:")),
            "{when}: {found:#?}"
        );
    }
}

#[test]
fn a_condition_that_costs_or_nests_too_much_is_refused() {
    let deep = format!("{}is_foreign{}", "!(".repeat(60), ")".repeat(60));
    assert_eq!(of_condition(&deep).len(), 1);
    assert!(of_condition(&deep)[0].contains("nested more than 48 deep"), "{:?}", of_condition(&deep));
    let chain = format!("instalments > 1{}", "+1".repeat(500));
    assert!(of_condition(&chain)[0].contains("nested more than 48 deep"), "{:?}", of_condition(&chain));
    let long = vec!["amount > 5"; 400].join(" && ");
    assert!(of_condition(&long)[0].contains("has 5596 bytes, at most 4096"), "{:?}", of_condition(&long));
    let costly = vec!["merchant.name.contains('A')"; 60].join(" || ");
    assert!(of_condition(&costly)[0].contains("costs about"), "{:?}", of_condition(&costly));
}

#[test]
fn a_wrong_file_is_found_at_its_place() {
    let mut wrong = Vec::new();
    const RULE: &str = "id = 'r'\nwhen = 'is_foreign'\nthen = 'decline'\nreason = 'R'\n";
    let rule = |more: &str| format!("version = 1\n[[rules]]\n{RULE}{more}\n");
    let aggregate = |body: &str| {
        format!(
            "version = 1\n[aggregates.a]\n{body}\n{}",
            "[[rules]]\nid = 'r'\nwhen = 'a > 1'\nthen = 'flag'\nreason = 'R'\n"
        )
    };
    let list = |body: &str| {
        format!(
            "version = 1\n[lists.l]\n{body}\n[[rules]]\nid = 'r'\nwhen = 'merchant.id in lists.l'\nthen = 'flag'\nreason = 'R'\n"
        )
    };
    for (source, expected) in [
        // The file.
        ("".into(), vec!["1:1 `version` is missing | write `version = 1` at the top of the file"]),
        ("version = 2".into(), vec!["1:11 unknown version of the rules file | this engine reads version 1: write `version = 1`"]),
        ("version = '1'".into(), vec!["1:11 unknown version of the rules file | this engine reads version 1: write `version = 1`"]),
        ("version = 1\nrule = 5".into(), vec!["2:1 unknown key `rule` in the file | did you mean `rules`?"]),
        ("version = 1\nrules = 5".into(), vec!["2:9 `rules` must be tables | write `[[rules]]`"]),
        ("version = 1\n[rules]\n".into(), vec!["2:1 `rules` must be tables | write `[[rules]]`"]),
        ("version = 1\naggregates = 3".into(), vec!["2:14 expected a table, found a whole number | write `[aggregates.NAME]`"]),
        ("version = 1\nversion = 1".into(), vec!["2:1 not TOML: duplicate key | a key stands once in a table: take one of the two out"]),
        ("version = 1\n[[rules]\n".into(), vec!["2:9 not TOML: unclosed array table, expected `]`"]),
        // Rules.
        ("version = 1\n[[rules]]\n".into(), vec![
            "2:1 `id` is missing in [[rules]]",
            "2:1 `when` is missing in [[rules]]",
            "2:1 `then` is missing in [[rules]]",
            "2:1 `reason` is missing in [[rules]]",
        ]),
        (rule("tehn = 'flag'"), vec!["7:1 unknown key `tehn` in [[rules]] | did you mean `then`?"]),
        (rule("mode = 'lvie'"), vec!["7:8 `mode` cannot be `lvie` | did you mean `live`?"]),
        (rule("mode = 5"), vec!["7:8 `mode` must be a text in quotes, found a whole number"]),
        (rule("group = 'Velocity'"), vec!["7:9 `Velocity` is no group | small letters, digits and `_`, at most 32, such as \"velocity\""]),
        (rule("text = 'a\tb'"), vec!["7:8 the text cannot be shown with a decision | one line of at most 256 bytes"]),
        (rule("response_code = 59"), vec!["7:17 `response_code` must be a text in quotes, found a whole number | write `response_code = \"59\"`"]),
        (rule("response_code = '5'"), vec!["7:17 `5` is no response code | a response code (ISO 8583 field 39) is two digits or capitals in quotes, such as \"59\""]),
        (rule("response_code = '00'"), vec!["7:17 a rule cannot answer with response code `00` | take one that declines, such as \"59\" (suspected fraud), \"61\" (amount limit) or \"65\" (count limit)"]),
        (rule("").replace("decline", "deny"), vec!["5:8 `then` cannot be `deny` | did you mean `decline`?"]),
        (rule("").replace("'decline'", "'flag'\nresponse_code = '59'"), vec!["6:17 `response_code` means nothing with `then = \"flag\"` | take it out"]),
        (rule("").replace("'R'", "'r'"), vec!["6:10 `r` is no reason code | capitals, digits and `_`, at most 64, such as \"CARD_TESTING\""]),
        (rule("").replace("'r'", "'r r'"), vec!["3:6 `r r` is no rule id | letters, digits, `-` and `_`, at most 64"]),
        (format!("{}[[rules]]\n{RULE}", rule("")), vec!["9:6 rule id `r` is already used on line 3 | give one of the two another id"]),
        // Aggregates.
        (aggregate("by = 'card'\nwindow = '1h'"), vec!["2:13 aggregate `a` does not say what to compute | write one of `count = true`, `distinct = \"..\"`, and `sum`, `mean`, `min`, `max` or `stddev = \"amount\"`"]),
        (aggregate("by = 'card'\nwindow = '1h'\ncount = true\nsum = 'amount'"), vec!["6:7 an aggregate computes one thing | declare one aggregate for each"]),
        (aggregate("by = 'card'\ncount = true"), vec!["2:13 `window` is missing in [aggregates.NAME]"]),
        (aggregate("by = 'crad'\nwindow = '1h'\ncount = true"), vec!["3:6 unknown key `crad` of an aggregate | did you mean `card`?"]),
        (aggregate("by = 'device'\nwindow = '1h'\nsum = 'amount'"), vec!["5:7 windows by device cross accounts, whose currencies differ | take it over \"amount_base\", the amount in the engine's base currency"]),
        (aggregate("by = ['card', 'ip']\nwindow = '1h'\ncount = true"), vec!["3:6 an account's own windows do not tell terminals and IP addresses apart | take out `card` or `account`, or the terminal or IP address"]),
        (aggregate("by = ['mcc', 'mcc']\nwindow = '1h'\ncount = true"), vec!["3:14 this part of the key is named twice"]),
        (aggregate("by = []\nwindow = '1h'\ncount = true"), vec!["3:6 `by` names nothing | it is one or several of: card, account, merchant, terminal, device, ip, mcc, country"]),
        (aggregate("by = 'card'\nwindow = '1 hour'\ncount = true"), vec!["4:10 `1 hour` is no window | a window is a whole number and s, m, h or d, such as \"10m\" or \"24h\""]),
        (aggregate("by = 'card'\nwindow = '32d'\ncount = true"), vec!["4:10 `32d` is out of range | a window is at least 1s and at most 31d"]),
        (aggregate("by = 'card'\nwindow = '99999999999999999d'\ncount = true"), vec!["4:10 `99999999999999999d` is out of range | a window is at least 1s and at most 31d"]),
        (aggregate("by = 'card'\nwindow = '1h'\ncount = false"), vec!["5:9 `count` can only be true | write `count = true`"]),
        (aggregate("by = 'card'\nwindow = '1h'\nsum = 'amuont'"), vec!["5:7 `sum` is taken over amounts only | write `sum = \"amount\"`, or \"amount_base\" where accounts are crossed"]),
        (aggregate("by = 'card'\nwindow = '1h'\nstddev = 'amount_base'"), vec!["5:10 windows by card are in the account's own currency | take it over \"amount\""]),
        (aggregate("by = 'card'\nwindow = '1h'\ndistinct = 'merchant.countri'"), vec!["5:12 `merchant.countri` cannot be counted distinctly | did you mean `merchant.country`?"]),
        (aggregate("by = 'card'\nwindow = '1h'\ncount = true\nwhere = \"outcome == 'denied'\""), vec!["6:21 `outcome` can never be 'denied' | it is one of: approved, declined, step_up"]),
        (aggregate("by = 'card'\nwindow = '1h'\ncount = true\nwhere = 'amount > 5 || outcome == \"declined\"'"), vec!["6:10 a filter cannot ask for an amount in this way | compare it with a number by <, <=, >, >= or ==, alone or joined by `&&`, such as `amount >= 100.00 && outcome == 'approved'`"]),
        (aggregate("by = 'card'\nwindow = '1h'\ncount = true\nwhere = '(amount > 5 || is_night) && amount != 3 && chanel == \"x\" && (amount > 9 || has(mcc))'"), vec![
            "6:25 `is_night` cannot be used here | a past event has outcome, declined_for_credit, amount, channel, kind, merchant.mcc, merchant.country and label",
            "6:38 a filter cannot ask for an amount in this way | compare it with a number by <, <=, >, >= or ==, alone or joined by `&&`, such as `amount >= 100.00 && outcome == 'approved'`",
            "6:53 unknown name `chanel` | did you mean `channel`?",
            "6:71 a filter cannot ask for an amount in this way | compare it with a number by <, <=, >, >= or ==, alone or joined by `&&`, such as `amount >= 100.00 && outcome == 'approved'`",
        ]),
        (aggregate("by = 'card'\nwindow = '1h'\ncount = true\nwhere = 'amount > 9 && amount < 5'"), vec!["6:10 no amount satisfies this condition"]),
        (aggregate("by = 'card'\nwindow = '1h'\ncount = true\nwhere = 'amount_base > 5'"), vec!["6:10 `amount_base` cannot be used here | windows by card and account are in the account's currency: use `amount`"]),
        (aggregate("by = 'device'\nwindow = '1h'\ncount = true\nwhere = 'amount > 5'"), vec!["6:10 `amount` cannot be used here | currencies differ where accounts are crossed: use `amount_base`"]),
        (aggregate("by = 'card'\nwindow = '1h'\ncount = true\nwhere = 'label == \"fraud\" && amount > 5.0'"), vec!["6:30 `amount` cannot be used here | windows over labels are in the base currency: use `amount_base`"]),
        (aggregate("by = 'device'\nwindow = '1h'\ncount = true\nwhere = 'label != \"fraud\"'"), vec!["6:10 a filter cannot ask for a label in this way | compare it by == with one label, alone or joined by `&&`, such as `label == 'fraud' && channel == 'ecommerce'`"]),
        (aggregate("by = 'device'\nwindow = '1h'\ncount = true\nwhere = 'label in [\"fraud\"]'"), vec!["6:10 a filter cannot ask for a label in this way | compare it by == with one label, alone or joined by `&&`, such as `label == 'fraud' && channel == 'ecommerce'`"]),
        (aggregate("by = 'device'\nwindow = '1h'\ncount = true\nwhere = 'outcome == \"approved\" || label == \"fraud\"'"), vec!["6:35 a filter cannot ask for a label in this way | compare it by == with one label, alone or joined by `&&`, such as `label == 'fraud' && channel == 'ecommerce'`"]),
        (aggregate("by = 'device'\nwindow = '1h'\ncount = true\nwhere = 'label == \"fraud\" && label == \"genuine\"'"), vec!["6:30 a filter cannot ask for a label in this way | compare it by == with one label, alone or joined by `&&`, such as `label == 'fraud' && channel == 'ecommerce'`"]),
        (aggregate("by = 'device'\nwindow = '1h'\ncount = true\nwhere = 'label == \"froud\"'"), vec!["6:19 `label` can never be 'froud' | did you mean `fraud`?"]),
        // Whether it is about labels cannot be told, and with them every key would do.
        (aggregate("by = ['card', 'ip']\nwindow = '1h'\nsum = 'amount_base'\nwhere = 'label = \"fraud\"'"), vec!["6:16 `=` is not expected here | `==` compares"]),
        (aggregate("by = 'card'\nwindow = '1h'\ncount = true\nwhere = 'speed_kmh > 5.0'"), vec!["6:10 `speed_kmh` cannot be used here | a past event has outcome, declined_for_credit, amount, channel, kind, merchant.mcc, merchant.country and label"]),
        (aggregate("by = 'card'\nwindow = '1h'\ncount = true").replace(".a]", ".amount]").replace("a > 1", "amount > 1"), vec!["2:13 `amount` is already a field or feature | choose another name, such as one with `my_`"]),
        (aggregate("by = 'card'\nwindow = '1h'\ncount = true").replace(".a]", ".A-1]"), vec![
            "2:13 `A-1` cannot be the name of an aggregate | small letters, digits and `_`, beginning with a letter, such as `card_count_1h`",
            "8:9 unknown name `a`",
        ]),
        ("version = 1\n[aggregates.a]\nby = 'card'\nwindow = '1h'\ncount = true\n[lists.l]\nvalues = ['x']\n".into(), vec![
            "2:13 aggregate `a` is used by no rule",
            "6:8 list `l` is used by no rule",
        ]),
        // Lists.
        (list("values = 'x'"), vec!["3:10 `values` must be an array, found a text | write `values = [..]`"]),
        (list("values = ['x', 5]"), vec!["3:16 the values of a list need one type"]),
        (list("values = [1.5]"), vec!["3:11 a list holds texts or whole numbers, not a decimal number"]),
        (list("file = 'blocked.csv'\nvalues = []"), vec!["3:8 a list has `values` or a `file`, not both | take one of the two out, or make two lists of them"]),
        (list(""), vec!["2:8 list `l` has neither `values` nor a `file` | write `values = [..]`, which may be empty, or `file = \"NAME.csv\"`"]),
        (list("values = [5]"), vec!["6:9 `merchant.id` is text, the list has whole numbers | put its values into quotes, such as '6011'"]),
        (list("values = ['web']").replace("merchant.id in", "channel in"), vec!["6:20 `channel` can never be 'web' (in list `l`) | it is one of: ecommerce, card_present"]),
        // Tests.
        (rule("[[tests]]\nname = 't'\ngiven = { amount = 5.001 }\nexpect = { rules = ['r'] }"), vec!["9:20 `5.001` has more decimals than USD has (2)"]),
        (rule("[[tests]]\nname = 't'\ngiven = { amuont = 5 }\nexpect = { rules = ['r'] }"), vec!["9:11 unknown name `amuont` | did you mean `amount`?"]),
        (rule("[[tests]]\nname = 't'\ngiven = { amount = 'x' }\nexpect = { rules = ['r'] }"), vec!["9:20 `amount` is money, which this is not"]),
        (rule("[[tests]]\nname = 't'\ngiven = { currency = 'US', amuont = 5, amount = 5.001, amount_base = 'x' }\nexpect = { rules = ['q'] }"), vec![
            "9:22 this is no currency | a currency is three capital letters (ISO 4217), such as \"USD\"",
            "9:28 unknown name `amuont` | did you mean `amount`?",
            "9:70 `amount_base` is a decimal number, which this is not",
            "10:21 unknown rule `q` | did you mean `r`?",
        ]),
        (rule("[[tests]]\nname = 't'\ngiven = { country = 'US', merchant.country = 'US' }\nexpect = { rules = ['r'] }"), vec!["9:36 `merchant.country` is given twice"]),
        (rule("[[tests]]\nname = 't'\ngiven = {}\nlists = { blocked = ['x'] }\nexpect = { rules = ['r'] }"), vec!["10:11 unknown list `blocked`"]),
        (rule("[[tests]]\nname = 't'\ngiven = {}\nlists = { blocked = 'x' }\nexpect = { rules = ['r'] }"), vec![
            "10:11 unknown list `blocked`",
            "10:21 a list of a test must be an array of texts | write texts, such as `lists = { blocked_cards = [\"tok_123\"] }`",
        ]),
        (rule("[[tests]]\nname = 't'\ngiven = {}\nexpect = { rules = ['q'] }"), vec!["10:21 unknown rule `q` | did you mean `r`?"]),
        (rule("[[tests]]\nname = 't'\ngiven = {}\nexpect = { decision = 'declined' }"), vec!["10:23 `decision` cannot be `declined` | did you mean `DECLINED`?"]),
        (rule("[[tests]]\nname = 't'\ngiven = {}\nexpect = {}"), vec!["10:10 the test expects nothing | write `decision = \"DECLINED\"`, `rules = [..]` or both"]),
    ] {
        let (found, expected) = (findings(&source).join("\n"), expected.join("\n"));
        if found != expected {
            wrong.push(format!("{source}\n  expected: {expected}\n  found:    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn too_much_of_anything_is_refused() {
    let rules: String = (0..513)
        .map(|n| format!("[[rules]]\nid = 'r{n}'\nwhen = 'is_foreign'\nthen = 'flag'\nreason = 'R'\n"))
        .collect();
    assert_eq!(findings(&format!("version = 1\n{rules}")), ["2562:1 513 rules, at most 512 are allowed"]);
    let aggregates: String = (0..65)
        .map(|n| format!("[aggregates.a{n:02}]\nby = 'card'\nwindow = '1h'\ncount = true\n"))
        .collect();
    assert_eq!(
        findings(&format!("version = 1\n{aggregates}")),
        ["258:13 65 aggregates, at most 64 are allowed"]
    );
    assert!(findings(&"#".repeat(17 * 1024 * 1024))[0].contains("at most 16777216 are allowed"));
}

/// Whatever stands in a file of the largest size, what is said about it is bounded: a line is not repeated for each
/// mistake in it, and no table of distances is made of a word that nobody wrote by hand.
#[test]
fn a_large_file_full_of_mistakes_neither_hangs_nor_fills_the_memory() {
    let size = crate::limits::RULES_FILE_BYTES_MAX - 1_000;
    let rule = "[[rules]]\nid = 'r'\nwhen = 'amuont > 5'\nthen = 'flag'\nreason = 'R'\n";
    for source in [
        format!("version = 1\n[lists.l]\nvalues = [{}]\n", "1.5,".repeat(90_000)),
        format!("version = 1\n{} = 1\n", "k".repeat(size)),
        format!("version = 1\nx = '{}'\n", "k".repeat(size)),
        "= ".repeat(size / 2),
        "=\n".repeat(size / 64),
        "[x]\n".repeat(size / 8),
        format!("version = 1\n{}", rule.repeat(size / rule.len())),
    ] {
        let found = findings(&source);
        assert!((1..=201).contains(&found.len()), "{}", found.len());
    }
}

#[test]
fn a_place_inside_any_kind_of_string_is_mapped_back() {
    let file = |when: &str| {
        format!("version = 1\n[[rules]]\nid = 'r'\nthen = 'flag'\nreason = 'R'\nwhen = {when}\n")
    };
    for (when, place) in [
        ("'amuont > 5'", "6:9"),
        ("\"amuont > 5\"", "6:9"),
        ("\"\\u0061muont > 5\"", "6:9"),
        ("\"channel == \\\"ecommerce\\\" && amuont > 5\"", "6:37"),
        ("\"is_foreign\\n&& amuont > 5\"", "6:24"),
        ("'''is_foreign\n  && amuont > 5'''", "7:6"),
        ("'''\nis_foreign\n  && amuont > 5'''", "8:6"),
        ("\"\"\"\nis_foreign\n\t&& amuont > 5\"\"\"", "8:5"),
        ("\"\"\"\\\n   is_foreign \\\n   && amuont > 5\"\"\"", "8:7"),
        ("'''\r\nis_foreign\r\n  && amuont > 5'''", "8:6"),
        ("\"merchant.name == 'Größe' && amuont > 5\"", "6:37"),
        ("'''\nmerchant.name == 'it\"s' && amuont > 5'''", "7:28"),
    ] {
        let found = findings(&file(when));
        assert_eq!(found, [format!("{place} unknown name `amuont` | did you mean `amount`?")], "{when}");
    }
}

#[test]
fn a_finding_shows_the_line_and_a_caret() {
    let Err(found) = compile(
        "my.toml",
        "version = 1\n[[rules]]\nid = 'r'\n\twhen = 'is_foreign && amuont > 5'\nthen = 'flag'\nreason = 'R'\n",
    ) else {
        panic!("an unknown name is accepted");
    };
    insta::assert_snapshot!(found[0], @r"
    my.toml:4:24: error: unknown name `amuont`
      4 | 	when = 'is_foreign && amuont > 5'
        | 	                      ^^^^^^
        = help: did you mean `amount`?
    ");
    insta::assert_snapshot!(
        serde_json::to_string(&found[0]).unwrap_or_default(),
        @r#"{"severity":"error","file":"my.toml","line":4,"column":24,"length":6,"message":"unknown name `amuont`","help":"did you mean `amount`?","source_line":"\twhen = 'is_foreign && amuont > 5'"}"#
    );
}

#[test]
fn the_example_of_the_contract_is_accepted() {
    let rules = compiled(
        r#"
version = 1

[aggregates.card_declines_1h]     # an exact sliding window kept for every card
by = "card"
window = "1h"
count = true
where = "outcome == 'declined'"

[lists.blocked_merchants]
values = ["M-1009"]

[[rules]]
id = "card-testing"
when = "card_declines_1h >= 5 && amount < 5.00"
then = "decline"
response_code = "59"
reason = "CARD_TESTING"
mode = "live"

[[rules]]
id = "blocked"
when = "merchant.id in lists.blocked_merchants"
then = "decline"
reason = "BLOCKED_MERCHANT"

[[tests]]
name = "small attempt after five declines in an hour"
given = { amount = 1.00, card_declines_1h = 5 }
expect = { decision = "DECLINED", rules = ["card-testing"] }
"#,
    );
    assert!(super::run_tests(&rules).iter().all(|result| result.passed));
    assert_eq!(rules.aggregates[0].window_ms, 3_600_000);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn garbage_is_refused_or_accepted_but_never_brings_the_checker_down(
        source in "\\PC{0,60}",
        when in "([a-z.]{1,8}|[0-9]{1,3}|[-+*/%<>=!&|?:()\\[\\]{}'\"., \\\\ä\n#$]|amount|has|in|channel|&&|==|lists\\.){0,25}",
    ) {
        let _ = compile("garbage.toml", &source);
        let _ = compile("garbage.toml", &format!("version = 1\n{source}"));
        for quotes in ["'", "\"", "'''", "\"\"\""] {
            let _ = compile("garbage.toml", &format!(
                "version = 1\n[[rules]]\nid = 'r'\nthen = 'flag'\nreason = 'R'\nwhen = {quotes}{when}{quotes}\n"
            ));
        }
    }

    #[test]
    fn a_damaged_rules_file_never_brings_the_checker_down(
        cut in any::<prop::sample::Index>(),
        length in 0_usize..12,
        insert in "[-a-z0-9.'\"\\[\\]{}=&|<>()\n ]{0,6}",
    ) {
        let shipped = super::SHIPPED;
        let boundary = |mut at: usize| {
            while !shipped.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = boundary(cut.index(shipped.len()));
        let end = boundary((start + length).min(shipped.len()));
        let _ = compile("damaged.toml", &format!("{}{insert}{}", &shipped[..start], &shipped[end..]));
    }
}

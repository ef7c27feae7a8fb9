//! History through the gRPC port and history in one process: two ways to the same decisions, compared line by line
//! on a file that has everything a file may have.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// Runs the program; what it says on stderr is shown where it fails.
fn saker(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_saker"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program can be started");
    eprintln!("saker {arguments:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

/// The rows of a CSV file by column name.
fn read(path: &Path) -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

fn write(path: &Path, columns: &[&str], rows: &[BTreeMap<String, String>]) {
    let mut file = csv::Writer::from_path(path).unwrap();
    file.write_record(columns).unwrap();
    for row in rows {
        file.write_record(columns.iter().map(|column| row.get(*column).map_or("", String::as_str))).unwrap();
    }
    file.flush().unwrap();
}

/// A simulated world made crooked: accounts with one card, two cards and cards that only some rows name, ids that
/// come again with the same and with another body, increments, inquiries, verifications, foreign money, rows of the
/// same second, and no order at all.
fn crooked_world(directory: &Path) -> PathBuf {
    let world = directory.join("world");
    let out = world.to_str().unwrap();
    assert!(
        saker(&["simulate", "--accounts", "60", "--days", "25", "--seed", "9", "--out", out])
            .status
            .success()
    );
    let straight = read(&world.join("transactions.csv"));
    assert!(straight.len() > 2_000, "{} rows", straight.len());
    let mut rows = Vec::new();
    let mut accounts: Vec<String> = Vec::new();
    for (number, mut row) in straight.into_iter().enumerate() {
        let known = accounts.iter().position(|account| *account == row["account_id"]);
        let account = known.unwrap_or_else(|| {
            accounts.push(row["account_id"].clone());
            accounts.len() - 1
        });
        match account % 4 {
            0 => row.insert("card_id".into(), String::new()),
            1 if number % 2 == 0 => row.insert("card_id".into(), format!("{}-second", row["card_id"])),
            2 if number % 5 == 0 => row.insert("card_id".into(), String::new()),
            _ => None,
        };
        row.insert("home_lat".into(), format!("{}.5", account % 50));
        row.insert("home_lon".into(), format!("-{}.25", account % 90));
        let mut set = |column: &str, value: &str| row.insert(column.into(), value.into());
        match number % 60 {
            7 => set("kind", "BALANCE_INQUIRY"),
            11 => {
                set("billing_amount", "");
                set("billing_currency", "");
                set("amount", "0");
                set("kind", "ACCOUNT_VERIFICATION")
            }
            13 | 14 => set("kind", "CASH_ADVANCE"),
            17 => {
                set("billing_amount", "");
                set("billing_currency", "");
                set("amount", "3.5");
                set("currency", "CHF")
            }
            19 => set("transaction_id", &format!("odd, \"id\" {number}")),
            _ => None,
        };
        rows.push(row.clone());
        let again = |change: &[(&str, String)]| {
            let mut again = row.clone();
            again.extend(change.iter().map(|(column, value)| ((*column).to_owned(), value.clone())));
            again
        };
        match number % 60 {
            23 => rows.push(row.clone()),
            // Long after, and after more than any retention.
            29 => rows.push(again(&[("timestamp", "2026-01-25T11:00:00Z".into())])),
            31 => rows
                .push(again(&[("timestamp", "2026-06-25T11:00:00Z".into()), ("merchant_id", "M-x".into())])),
            37 => rows.push(again(&[("merchant_id", "M-other".into())])),
            43..=45 => {
                let original = row["transaction_id"].clone();
                for step in 0..2 {
                    rows.push(again(&[
                        ("transaction_id", format!("{original}-more-{step}")),
                        ("kind", "INCREMENTAL".into()),
                        ("original_transaction_id", original.clone()),
                    ]));
                }
            }
            47 => rows.push(again(&[
                ("transaction_id", format!("orphan-{number}")),
                ("kind", "INCREMENTAL".into()),
                ("original_transaction_id", "never-was".into()),
            ])),
            _ => {}
        }
    }
    for number in (3..rows.len()).step_by(9) {
        let time = rows[number - 1]["timestamp"].clone();
        rows[number].insert("timestamp".into(), time);
    }
    // Out of order, and the same at every run: 7 shares no factor with the number of rows.
    let count = rows.len() - usize::from(rows.len().is_multiple_of(7));
    rows.truncate(count);
    let rows: Vec<_> = (0..count).map(|place| rows[place * 7 % count].clone()).collect();
    let columns: BTreeSet<&str> = rows.iter().flat_map(|row| row.keys().map(String::as_str)).collect();
    let path = directory.join("crooked.csv");
    write(&path, &columns.into_iter().collect::<Vec<_>>(), &rows);
    path
}

#[test]
fn a_file_decided_through_the_port_and_in_one_process_comes_out_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let transactions = crooked_world(directory.path());
    let (a, b) = (directory.path().join("a.csv"), directory.path().join("b.csv"));
    let data = directory.path().join("data");
    let shared =
        ["--transactions", transactions.to_str().unwrap(), "--default-limit", "900.00", "--format", "json"];
    let demo = ["demo", "--once", "--data", data.to_str().unwrap(), "--scores", a.to_str().unwrap()];
    let demo = json(&saker(&[&demo[..], &shared].concat()));
    let backtest = json(&saker(&[&["backtest", "--scores", b.to_str().unwrap()][..], &shared].concat()));
    assert_eq!(demo["metrics_agree"], true, "{demo}");

    let (through_port, in_process) = (read(&a), read(&b));
    let input = read(&transactions);
    for ((left, right), row) in through_port.iter().zip(&in_process).zip(&input) {
        assert_eq!(left, right, "{row:?}");
        assert_eq!(left["transaction_id"], row["transaction_id"]);
    }
    assert_eq!((through_port.len(), in_process.len()), (input.len(), input.len()));
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());

    // The file is as crooked as it is meant to be.
    let codes: HashSet<&str> = in_process.iter().map(|line| line["response_code"].as_str()).collect();
    for code in ["00", "12", "13", "51", "59", "85", "94"] {
        assert!(codes.contains(code), "{code} is missing in {codes:?}");
    }
    for count in ["repeated", "duplicates"] {
        assert!(backtest[count].as_u64().unwrap() > 20, "{count}: {backtest}");
    }
    assert_eq!(backtest["rows_sorted"], true);
    for (line, row) in in_process.iter().zip(&input) {
        let unscored = line["response_code"] == "94" || row["kind"] == "BALANCE_INQUIRY";
        if unscored {
            assert_eq!(line["score"], "", "{line:?}");
        }
    }
    // Every decision that went through the port can be made again from its journal, too.
    assert!(saker(&["journal", "verify", data.to_str().unwrap()]).status.success());
    let again = json(&saker(&["backtest", "--journal", data.to_str().unwrap(), "--format", "json"]));
    let recorded = &again["recorded"];
    assert!(recorded["compared"].as_u64().unwrap() > 2_000, "{recorded}");
    assert_eq!(recorded["compared"], recorded["equal"], "{recorded}");
    assert_eq!((&recorded["under_other_versions"], &recorded["not_applied"]), (&0.into(), &0.into()));
    assert_eq!(again["duplicates"], backtest["duplicates"]);
    assert_eq!(again["decisions"], backtest["decisions"]);
    assert_eq!(again["reasons"].as_array().map(Vec::len), backtest["reasons"].as_array().map(Vec::len));
}

#[test]
fn a_journal_decided_by_other_rules_shows_what_differs_and_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let demo =
        ["demo", "--once", "--seed", "5", "--limit", "4000", "--data", &path("data"), "--format", "json"];
    let world = path("world");
    assert!(
        saker(&["simulate", "--accounts", "50", "--days", "30", "--seed", "5", "--out", &world])
            .status
            .success()
    );
    let file = format!("{world}/transactions.csv");
    json(&saker(&[&demo[..], &["--transactions", &file]].concat()));
    std::fs::write(
        path("strict.toml"),
        "version = 1\n[[rules]]\nid = 'strict'\nwhen = 'amount > 20'\nthen = 'decline'\nreason = 'STRICT'\n",
    )
    .unwrap();
    let data = path("data");
    let arguments = ["backtest", "--journal", &data, "--format", "json", "--limit", "2000"];
    let (scores, html) = (path("scores.csv"), path("report.html"));
    let arguments = [&arguments[..], &["--scores", &scores, "--report", &html]].concat();
    let same = json(&saker(&arguments));
    assert_eq!(
        (&same["rows"], &same["recorded"]["equal"]),
        (&2_000.into(), &2_000.into()),
        "{}",
        same["recorded"]
    );
    assert_eq!(read(Path::new(&scores)).len(), 2_000);
    let said = std::fs::read_to_string(&html).unwrap();
    assert!(
        said.contains("newest label that the journal has")
            && said.contains("2000 of 2000 recorded decisions"),
        "no note"
    );
    // The frauds among them are those that the demo reported before its traffic ended.
    let sent: Vec<_> = read(Path::new(&file)).into_iter().take(4_000).collect();
    let end = &sent[sent.len() - 1]["timestamp"];
    let known = |row: &&BTreeMap<String, String>| row["is_fraud"] == "1" && row["labelled_at"] <= *end;
    let frauds = sent[..2_000].iter().filter(known).count();
    assert!(frauds > 5, "{frauds}");
    assert_eq!(same["whole"]["fraud"]["count"], frauds);
    // What nobody reported counts as genuine once it is older than the label delay.
    let time = |row: &BTreeMap<String, String>| row["timestamp"].parse::<jiff::Timestamp>().unwrap();
    let silent_until = end.parse::<jiff::Timestamp>().unwrap() - jiff::SignedDuration::from_hours(7 * 24);
    let young = sent[..2_000].iter().filter(|row| !known(row) && time(row) > silent_until).count();
    assert_eq!(same["unlabelled"], young);
    let late =
        ["backtest", "--journal", &data, "--format", "json", "--limit", "2000", "--label-delay", "365"];
    assert_eq!(json(&saker(&late))["unlabelled"], 2_000 - frauds);

    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/default.toml");
    let strict = path("strict.toml");
    let other = json(&saker(&[&arguments[..], &["--rules", &strict, "--against", shipped]].concat()));
    let recorded = &other["recorded"];
    assert_eq!(recorded["under_other_versions"], 2_000);
    assert!(recorded["equal"].as_u64().unwrap() < 2_000, "{recorded}");
    assert_eq!(recorded["not_applied"], 0);
    let first = &recorded["differences"][0];
    assert!(first["differs_in"].as_array().unwrap().iter().any(|what| what == "reasons"), "{first}");
    // What the journal recorded was decided by the shipped rules.
    let rules_change = other["against"]["changed"].as_u64().unwrap();
    assert!(rules_change > 100, "{rules_change}");
    for (option, out) in [("--scores", "data/scores.csv"), ("--report", "data/versions/report.html")] {
        let refused = saker(&["backtest", "--journal", &path("data"), option, &path(out)]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(!Path::new(&path(out)).exists());
    }
}

/// What the report says in its tables: table, row, figure and currency to the number.
fn figures_of(html: &str) -> BTreeMap<(String, String, String, String), i64> {
    let attribute = |tag: &str, name: &str| {
        let from = tag.find(&format!("{name}=\""))? + name.len() + 2;
        Some(tag[from..].split('"').next().unwrap().to_owned())
    };
    let (mut table, mut row) = (String::new(), String::new());
    let mut figures = BTreeMap::new();
    for tag in html.split('<').filter_map(|part| part.split('>').next()) {
        table = attribute(tag, "data-table").unwrap_or(table);
        row = attribute(tag, "data-row").unwrap_or(row);
        if let (Some(figure), Some(value)) = (attribute(tag, "data-figure"), attribute(tag, "data-value")) {
            let currency = attribute(tag, "data-currency").unwrap_or_default();
            let before =
                figures.insert((table.clone(), row.clone(), figure, currency), value.parse().unwrap());
            assert_eq!(before, None, "{table} {row} is there twice");
        }
    }
    figures
}

#[test]
fn the_report_adds_up_to_the_decisions_that_the_scores_file_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let world = path("world");
    assert!(
        saker(&["simulate", "--accounts", "80", "--days", "40", "--seed", "11", "--out", &world])
            .status
            .success()
    );
    let transactions = format!("{world}/transactions.csv");
    let arguments =
        ["backtest", "--transactions", &transactions, "--default-limit", "900", "--format", "json"];
    let (scores, html) = (path("scores.csv"), path("report.html"));
    let outputs = ["--scores", &scores, "--report", &html];
    let report = json(&saker(&[&arguments[..], &outputs].concat()));
    let html = std::fs::read_to_string(path("report.html")).unwrap();
    let found = figures_of(&html);

    let mut summed = BTreeMap::<(String, String, String, String), i64>::new();
    let (rows, lines) = (read(Path::new(&transactions)), read(Path::new(&path("scores.csv"))));
    assert_eq!(rows.len(), lines.len());
    let suspicions: BTreeSet<&str> = report["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|reason| !reason["alone"].is_null())
        .map(|reason| reason["reason"].as_str().unwrap())
        .collect();
    for (row, line) in rows.iter().zip(&lines) {
        assert_eq!(row["transaction_id"], line["transaction_id"]);
        let billed = if row["billing_amount"].is_empty() { "" } else { "billing_" };
        let (amount, currency) = (&row[&format!("{billed}amount")], &row[&format!("{billed}currency")]);
        let exponent = match currency.as_str() {
            "JPY" => 0,
            "KWD" => 3,
            _ => 2,
        };
        let minor = (amount.parse::<f64>().unwrap() * 10_f64.powi(exponent)).round() as i64;
        let (is_declined, is_step_up) = (line["decision"] == "DECLINED", line["decision"] == "STEP_UP");
        let is_against = is_declined || is_step_up;
        let reason = line["reasons"].split('|').next().unwrap();
        let is_fraud = row["is_fraud"] == "1";
        let is_suspected = is_against && suspicions.contains(reason);
        let given =
            |cell: &str| if row[cell].is_empty() { "not given".to_owned() } else { row[cell].clone() };
        let mut add = |table: &str, name: &str, figures: &[(&str, bool)], amounts: &[(&str, bool)]| {
            let mut put = |figure: &str, currency: &str, number: i64| {
                let at = (table.to_owned(), name.to_owned(), figure.to_owned(), currency.to_owned());
                *summed.entry(at).or_default() += number;
            };
            figures.iter().for_each(|(figure, counts)| put(figure, "", i64::from(*counts)));
            amounts.iter().filter(|(_, counts)| *counts).for_each(|(figure, _)| put(figure, currency, minor));
        };
        let amounts = [("amount", true), ("fraud-amount", is_fraud)];
        let slice = [
            ("decisions", true),
            ("declined", is_declined),
            ("step-ups", is_step_up),
            ("fraud", is_fraud),
            ("caught", is_fraud && is_suspected),
            ("false-positives", !is_fraud && is_suspected),
        ];
        let (month, hour) = (&row["timestamp"][..7], &row["timestamp"][11..13]);
        for (table, name) in [
            ("mcc", given("mcc").as_str()),
            ("country", given("country").as_str()),
            ("month", month),
            ("day", &row["timestamp"][..10]),
            ("hour", hour),
        ] {
            add(table, name, &slice, &amounts);
            add(table, "all", &slice, &amounts);
        }
        add("currency", currency, &slice, &amounts);
        add("currency", "all", &slice, &amounts);
        add("decision", &line["decision"], &[("decisions", true)], &amounts[..1]);
        add("decision", "all", &[("decisions", true)], &amounts[..1]);
        if is_against {
            let counts = [("decisions", true), ("fraud", is_fraud), ("genuine", !is_fraud)];
            add("reason", reason, &counts, &amounts);
        }
    }
    let mut tables = BTreeSet::new();
    for (at, number) in &found {
        let (table, row, figure, _) = at;
        let is_summed = summed.keys().any(|(known, name, ..)| (known, name) == (table, row));
        if is_summed && !figure.starts_with("alone") {
            assert_eq!(summed.remove(at).unwrap_or(0), *number, "{at:?}");
            tables.insert(table.as_str());
        } else if table == "hour" {
            assert_eq!(*number, 0, "{at:?}");
        }
    }
    // Countries and categories that have no line of their own stand in that of the others.
    summed.retain(|(table, ..), number| *number != 0 && table != "mcc" && table != "country");
    assert_eq!(summed, BTreeMap::new(), "not in the report");
    assert_eq!(
        tables.into_iter().collect::<Vec<_>>(),
        ["country", "currency", "day", "decision", "hour", "mcc", "month", "reason"]
    );
    // Every cut adds up to the whole, those without a test of their own above too.
    let sums_of = |is_meant: &dyn Fn(&str, &str) -> bool| {
        let mut sums = BTreeMap::<(&str, &str), i64>::new();
        for ((_, _, figure, currency), number) in
            found.iter().filter(|((table, row, ..), _)| is_meant(table, row))
        {
            *sums.entry((figure, currency)).or_default() += number;
        }
        sums.retain(|_, number| *number != 0);
        sums
    };
    for cut in ["currency", "mcc", "country", "month", "day", "hour"] {
        let rows = sums_of(&|table, row| table == cut && row != "all");
        assert_eq!(rows, sums_of(&|table, row| table == cut && row == "all"), "{cut}");
    }
    // So do the bands of each currency, none of which is folded away.
    let currencies: BTreeSet<&str> =
        found.keys().filter(|at| at.0 == "currency" && at.1 != "all").map(|at| at.1.as_str()).collect();
    assert!(currencies.len() > 3, "{currencies:?}");
    for of in currencies {
        let bands = sums_of(&|table, row| table == "amount" && row.starts_with(of));
        assert_eq!(bands, sums_of(&|table, row| table == "currency" && row == of), "{of}");
    }
    // The JSON of the run says the same.
    let all =
        |figure: &str| found[&("currency".to_owned(), "all".to_owned(), figure.to_owned(), String::new())];
    assert_eq!(report["whole"]["count"], all("decisions"));
    assert_eq!(report["whole"]["caught"]["count"], all("caught"));
    let is_dull = all("caught") <= 10 || all("false-positives") == 0 || all("step-ups") == 0;
    assert!(!is_dull && all("declined") > all("caught"), "a dull world");
    for (name, rows) in report["by"].as_object().unwrap() {
        let sum = |count: &dyn Fn(&Value) -> &Value| {
            rows.as_array().unwrap().iter().map(|row| count(row).as_u64().unwrap()).sum::<u64>()
        };
        assert_eq!(report["whole"]["count"], sum(&|row| &row["count"]), "{name}");
        for (kind, decision) in [("declined", "DECLINED"), ("step_ups", "STEP_UP")] {
            let of_kind = sum(&|row| &row[kind]["count"]);
            assert_eq!(report["whole"][kind]["count"], of_kind, "{name}, {kind}");
            let decided = report["decisions"].as_array().unwrap().iter();
            let decided = decided.filter(|row| row["decision"] == decision);
            assert_eq!(
                decided.map(|row| row["count"].as_u64().unwrap()).sum::<u64>(),
                of_kind,
                "{name}, {kind}"
            );
        }
    }
    let money = |name: &str| report["accounts"][name]["minor"].clone();
    let parts = [
        "lost_before_first_decline",
        "saved_from_first_decline",
        "step_ups_before_first_decline",
        "declined_for_other_reasons_before",
    ];
    for (currency, minor) in report["whole"]["fraud"]["minor"].as_object().unwrap() {
        let sum: i64 = parts.iter().map(|part| money(part)[currency].as_i64().unwrap_or(0)).sum();
        assert_eq!(minor, sum, "{currency}");
    }
}

#[test]
fn a_report_runs_nothing_and_fetches_nothing_whatever_its_data_are_called() {
    let directory = tempfile::tempdir().unwrap();
    let evil = "<script>alert(1)</script>";
    let at = |name: &str| directory.path().join(name);
    let mut text = String::from("transaction_id,timestamp,account_id,amount,currency,merchant_id,is_fraud\n");
    for number in 0..4 {
        text += &format!(
            "{evil}{number},2026-01-01T1{number}:00:00Z,\"\"\"><img src=x>\",60,USD,{evil},{}\n",
            number % 2
        );
    }
    let transactions = at("<b onload='x'>&.csv");
    std::fs::write(&transactions, text).unwrap();
    std::fs::write(at("before.toml"), "version = 1\n").unwrap();
    std::fs::write(
        at("after.toml"),
        "version = 1\n[[rules]]\nid = 'large'\nwhen = 'amount > 55'\nthen = 'decline'\nreason = 'LARGE'\n\
         text = '</table><script>alert(2)</script>'\n",
    )
    .unwrap();
    let path = |name: &str| at(name).to_str().unwrap().to_owned();
    let arguments =
        ["backtest", "--transactions", transactions.to_str().unwrap(), "--rules", &path("after.toml")];
    let more = ["--against", &path("before.toml"), "--report", &path("r.html"), "--format", "json"];
    json(&saker(&[&arguments[..], &more].concat()));
    let html = std::fs::read_to_string(at("r.html")).unwrap();
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;0"), "the changed transaction is shown");
    assert!(html.contains("&lt;img src=x&gt;") && html.contains("&lt;b onload='x'&gt;&amp;.csv"));
    for wrong in [
        "<script",
        "<img",
        "<b onload",
        "<link",
        "<iframe",
        "@import",
        "url(",
        "href=",
        "src=\"",
        "http:",
        "https:",
    ] {
        assert!(!html.contains(wrong), "{wrong}");
    }
    // What is there already is not lost to a run that fails, and what is read is never overwritten.
    let fails = saker(&["backtest", "--transactions", &path("before.toml"), "--report", &path("r.html")]);
    assert_eq!(fails.status.code(), Some(2));
    assert_eq!(std::fs::read_to_string(at("r.html")).unwrap(), html);
    for option in ["--report", "--scores", "--changes"] {
        let refused = saker(
            &[&arguments[..], &["--against", &path("before.toml"), option, &path("after.toml")]].concat(),
        );
        assert_eq!(refused.status.code(), Some(2), "{option}");
    }
    assert!(std::fs::read_to_string(at("after.toml")).unwrap().contains("large"));
}

#[test]
fn a_shadow_rule_and_a_lone_rule_are_worth_what_they_alone_would_catch() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // Each of another account, so that nothing follows from anything.
    let mut text =
        String::from("transaction_id,timestamp,account_id,amount,currency,merchant_id,mcc,is_fraud\n");
    for (number, (amount, mcc, fraud)) in [
        (150, 7995, 1),
        (150, 5411, 1),
        (150, 5411, 0),
        (80, 7995, 1),
        (60, 5411, 1),
        (60, 5411, 0),
        (10, 5411, 1),
    ]
    .iter()
    .enumerate()
    {
        text += &format!("T{number},2026-01-01T12:0{number}:00Z,A{number},{amount},USD,M,{mcc},{fraud}\n");
    }
    std::fs::write(at("t.csv"), text).unwrap();
    let rule = |id: &str, when: &str, rest: &str| {
        format!(
            "[[rules]]\nid = '{id}'\nwhen = \"{when}\"\nthen = 'decline'\nreason = '{}'\n{rest}",
            id.to_uppercase()
        )
    };
    let rules = [
        "version = 1\n".to_owned(),
        rule("large", "amount > 100", ""),
        rule("gambling", "merchant.mcc == '7995'", ""),
        rule("middling", "amount > 50", "mode = 'shadow'\n"),
    ];
    std::fs::write(at("r.toml"), rules.concat()).unwrap();
    let path = |name: &str| at(name).to_str().unwrap().to_owned();
    let arguments =
        ["backtest", "--transactions", &path("t.csv"), "--rules", &path("r.toml"), "--model", "none"];
    let report = json(&saker(&[&arguments[..], &["--format", "json"]].concat()));
    let told: Vec<_> = report["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            let number = |value: &Value| value.as_u64().unwrap();
            let alone = &rule["alone"];
            (
                rule["rule"].as_str().unwrap(),
                [number(&rule["count"]), number(&rule["fraud"]["count"])],
                [number(&alone["fraud"]["count"]), number(&alone["genuine"])],
            )
        })
        .collect();
    assert_eq!(told, [("large", [3, 2], [1, 1]), ("gambling", [2, 2], [1, 0]), ("middling", [6, 4], [1, 1])]);
    let pairs: BTreeSet<_> = report["rule_overlap"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| {
            let name = |at: &str| pair[at].as_str().unwrap().to_owned();
            (name("a"), name("b"), pair["both"].as_u64().unwrap(), pair["fraud"].as_u64().unwrap())
        })
        .collect();
    let pair = |a: &str, b: &str, both, fraud| (a.to_owned(), b.to_owned(), both, fraud);
    assert_eq!(
        pairs,
        BTreeSet::from([
            pair("large", "gambling", 1, 1),
            pair("large", "middling", 3, 2),
            pair("gambling", "middling", 2, 2),
        ])
    );
    assert_eq!(report["reason_overlap"][0]["both"], 1);
    let whole = &report["whole"];
    assert_eq!((&whole["caught"]["count"], &whole["fraud"]["count"]), (&3.into(), &5.into()));
    assert_eq!((&whole["precision"], &whole["recall"]), (&0.75.into(), &0.6.into()));
    assert_eq!(report["accounts"]["false_positives_per_caught_account"], 1.0 / 3.0);
}

#[test]
fn a_rule_that_is_not_live_for_a_transaction_catches_nothing_there_and_takes_nothing_from_another() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    // Frauds on forty accounts that two rules fire on, and on forty more that a third fires on too.
    let mut text = String::from("transaction_id,timestamp,account_id,amount,currency,merchant_id,is_fraud\n");
    for number in 0..80 {
        let amount = if number < 40 { 80 } else { 150 };
        text += &format!("T{number},2026-01-01T12:00:00Z,A{number},{amount},USD,M,1\n");
    }
    std::fs::write(at("t.csv"), text).unwrap();
    let rule = |id: &str, when: &str, rest: &str| {
        let reason = id.to_uppercase();
        format!("[[rules]]\nid = '{id}'\nwhen = '{when}'\nthen = 'decline'\nreason = '{reason}'\n{rest}")
    };
    let rules = [
        "version = 1\n".to_owned(),
        rule("large", "amount > 100", ""),
        rule("half", "amount > 50", "live_percent = 50\n"),
        rule("hushed", "amount > 50", ""),
        "[[suppressions]]\nrule = 'hushed'\nmerchant = 'M'\nuntil = 2027-01-01T00:00:00Z\nwhy = 'w'\n"
            .to_owned(),
    ];
    std::fs::write(at("r.toml"), rules.concat()).unwrap();
    let html = at("report.html");
    let arguments = ["backtest", "--transactions", &at("t.csv"), "--rules", &at("r.toml"), "--model", "none"];
    let report = json(&saker(&[&arguments[..], &["--format", "json", "--report", &html]].concat()));
    let number = |value: &Value| value.as_u64().unwrap();
    let both = number(&report["rule_overlap"][0]["both"]);
    let declined = number(&report["whole"]["against"]["count"]) - 40;
    assert!((1..40).contains(&both) && (1..40).contains(&declined), "live for some: {both}, {declined}");
    assert_eq!(report["rule_overlap"].as_array().unwrap().len(), 1, "{}", report["rule_overlap"]);
    let told = |place: usize| {
        let rule = &report["rules"][place];
        let of = |value: &Value| match value {
            Value::Null => [0, 0],
            value => [number(&value["count"]), number(&value["alone"]["fraud"]["count"])],
        };
        [of(rule), of(&rule["held_back"])]
    };
    assert_eq!(told(0), [[40, 40 - both], [0, 0]], "live alone where the half is not");
    assert_eq!(told(1), [[declined + both, declined], [80 - declined - both, 40 - declined]]);
    assert_eq!(told(2), [[0, 0], [80, 40 - declined]], "suppressed, it would add what nothing declined");
    let shown = std::fs::read_to_string(&html).unwrap();
    assert!(shown.contains("data-row=\"hushed (held back)\"") && !shown.contains("large (held back)"));
    let text = String::from_utf8(saker(&arguments).stdout).unwrap();
    assert!(text.contains("half (held back)") && text.contains("held back (live for other cards"), "{text}");
}

#[test]
fn what_history_decided_can_be_put_in_force_instead() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("t.csv");
    let scores = directory.path().join("scores.csv");
    let mut text =
        String::from("transaction_id,timestamp,account_id,amount,currency,merchant_id,outcome,is_fraud\n");
    // A limit of 100: what history declined leaves room, what it approved takes it, whatever is decided here.
    for (number, (amount, outcome)) in
        [("90", "declined"), ("80", "approved"), ("60", ""), ("1", ""), ("80", "declined")].iter().enumerate()
    {
        text += &format!(
            "T{number},2026-01-0{}T12:00:00Z,A,{amount},USD,M,{outcome},{}\n",
            number + 1,
            number % 2
        );
    }
    std::fs::write(&file, text).unwrap();
    let arguments = [
        "backtest",
        "--transactions",
        file.to_str().unwrap(),
        "--scores",
        scores.to_str().unwrap(),
        "--model",
        "none",
        "--default-limit",
        "100",
        "--format",
        "json",
        "--rules",
    ];
    let rules = directory.path().join("rules.toml");
    std::fs::write(&rules, "version = 1\n").unwrap();
    let rules = rules.to_str().unwrap();
    let decided = |more: &[&str]| {
        let report = json(&saker(&[&arguments[..], &[rules], more].concat()));
        let codes = read(&scores).iter().map(|line| line["response_code"].clone()).collect::<Vec<_>>();
        (report, codes)
    };
    let (own, codes) = decided(&[]);
    assert_eq!(codes, ["00", "51", "51", "00", "51"]);
    assert_eq!(own["reasons"][0]["reason"], "INSUFFICIENT_CREDIT");
    assert_eq!(
        (own["reasons"][0]["fraud"]["count"].as_u64(), own["reasons"][0]["genuine"].as_u64()),
        (Some(1), Some(2))
    );
    assert_eq!(own["reasons"][0]["minor"]["USD"], 22_000);
    let (observed, codes) = decided(&["--observe"]);
    // 80 of 100 are held by the second row when the third asks for 60, and 140 are when the fourth does.
    assert_eq!(codes, ["00", "00", "51", "51", "51"]);
    assert_eq!(observed["observed"], true);
    assert_eq!(observed["model_quality"], Value::Null);
    assert!(read(&scores).iter().all(|line| line["score"].is_empty()), "nothing scores without a model");
}

#[test]
fn a_changed_decision_is_told_from_what_follows_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // A limit of 100. Before, the first payment of A leaves no room for its second; after, it is declined and does.
    std::fs::write(
        at("t.csv"),
        "transaction_id,timestamp,account_id,card_id,amount,currency,merchant_id,is_fraud\n\
         T0,2026-01-01T12:00:00Z,A,A-1,60,USD,M,1\n\
         T1,2026-01-01T13:00:00Z,B,B-1,60,USD,M,0\n\
         T2,2026-01-02T12:00:00Z,A,A-2,50,USD,M,0\n\
         T3,2026-01-02T13:00:00Z,C,C-1,10,USD,M,0\n\
         T3,2026-01-02T13:00:00Z,C,C-1,10,USD,M,0\n",
    )
    .unwrap();
    std::fs::write(at("before.toml"), "version = 1\n").unwrap();
    let rule = |id: &str, rest: &str| {
        format!("[[rules]]\nid = '{id}'\nwhen = 'amount > 55'\nthen = 'decline'\nreason = 'LARGE'\n{rest}")
    };
    let flag = "[[rules]]\nid = 'seen'\nwhen = 'amount > 1'\nthen = 'flag'\nreason = 'SEEN'\n";
    let rules = format!("version = 1\n{flag}{}{}", rule("large", ""), rule("tried", "mode = 'shadow'\n"));
    std::fs::write(at("after.toml"), rules).unwrap();
    let path = |name: &str| at(name).to_str().unwrap().to_owned();
    let compared = |before: &str, after: &str| {
        let arguments = ["backtest", "--model", "none", "--default-limit", "100", "--format", "json"];
        let files = ["--transactions", &path("t.csv"), "--against", &path(before), "--rules", &path(after)];
        let report = json(&saker(&[&arguments[..], &files, &["--changes", &path("changes.csv")]].concat()));
        (report["against"].clone(), read(&at("changes.csv")))
    };
    let (against, changes) = compared("before.toml", "after.toml");
    for (name, count) in [("compared", 4), ("changed", 3), ("followed", 1)] {
        assert_eq!(against[name], count, "{name} of {against}");
    }
    assert_eq!(against["moves"].as_array().unwrap().len(), 2, "{against}");
    // What a whole history comes to under each file, and not only what changes.
    let sums =
        |side: &str| [&against[side], &against[side]["against"]].map(|part| part["count"].as_u64().unwrap());
    let [[all_before, against_before], [all_after, against_after]] = ["before", "after"].map(sums);
    assert_eq!((all_before, all_after), (against["compared"].as_u64().unwrap(), all_before), "{against}");
    let moved = |by: &str| -> i64 {
        let moves = against["moves"].as_array().unwrap().iter();
        moves.filter(|moved| moved[by] == "DECLINED").map(|moved| moved["count"].as_i64().unwrap()).sum()
    };
    assert_eq!(against_after as i64 - against_before as i64, moved("after") - moved("before"), "{against}");
    let declined = &against["moves"][0];
    assert_eq!((&declined["before"], &declined["after"]), (&"APPROVED".into(), &"DECLINED".into()));
    assert_eq!((&declined["minor"]["USD"], &declined["genuine"]), (&12_000.into(), &1.into()));
    assert_eq!(against["causes"][0]["cause"], "large");
    assert_eq!(against["causes"][0]["fraud"]["count"], 1);
    let told: Vec<[&str; 4]> = changes
        .iter()
        .map(|change| {
            ["transaction_id", "after_code", "cause", "first_change"].map(|name| change[name].as_str())
        })
        .collect();
    assert_eq!(
        told,
        [["T0", "59", "large", ""], ["T1", "59", "large", ""], ["T2", "00", "INSUFFICIENT_CREDIT", "T0"]]
    );

    let (against, changes) = compared("after.toml", "before.toml");
    assert_eq!(against["causes"][0]["cause"], "without large");
    assert_eq!(changes.len(), 3);
    let (against, changes) = compared("after.toml", "after.toml");
    assert_eq!((&against["changed"], changes.len()), (&0.into(), 0));
}

#[test]
fn a_row_that_cannot_be_read_ends_the_command_unless_it_may_be_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("t.csv");
    let header = "transaction_id,timestamp,account_id,card_id,amount,currency,merchant_id,kind\n";
    let good = "T1,2026-01-01T00:00:00Z,A,C,5,USD,M,\n";
    for (bad, place, why) in [
        ("T2,2026-01-01T00:00:00Z,A,C,5.001,USD,M,\n", "line 3, column `amount`", "more decimals"),
        ("T2,2026-01-01T00:00:00Z,A,C,5,USD,M,REVERSAL\n", "line 3, column `kind`", "none of PURCHASE"),
        ("T2,2026-01-01T00:00:00Z,B,C,5,USD,M,\n", "line 3, column `card_id`", "the card is account A's"),
    ] {
        std::fs::write(&file, format!("{header}{good}{bad}")).unwrap();
        for verb in [&["backtest"][..], &["demo", "--once"]] {
            let output = saker(&[verb, &["--transactions", file.to_str().unwrap()]].concat());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(place) && said.contains(why), "{said}");
        }
        if !place.contains("card_id") {
            let skip = ["--skip-bad-rows", "1", "--format", "json"];
            let output =
                saker(&[&["backtest", "--transactions", file.to_str().unwrap()][..], &skip].concat());
            assert_eq!(json(&output)["rows"], 1);
            assert!(String::from_utf8_lossy(&output.stderr).contains("skipped: "));
        }
    }
}

/// The features that `saker train` exports, by transaction.
fn features(out: &Path, arguments: &[&str]) -> BTreeMap<String, BTreeMap<String, String>> {
    let model = out.with_extension("json");
    let fixed = ["train", "--label-delay", "0", "--trees", "5", "--features", out.to_str().unwrap(), "--out"];
    // There may be too little fraud to learn from; the rows are there all the same.
    saker(&[&fixed[..], &[model.to_str().unwrap()], arguments].concat());
    read(out).into_iter().map(|row| (row["transaction_id"].clone(), row)).collect()
}

#[test]
fn a_model_is_trained_on_the_very_features_that_were_served() {
    let directory = tempfile::tempdir().unwrap();
    let transactions = crooked_world(directory.path());
    let (data, scores) = (directory.path().join("data"), directory.path().join("scores.csv"));
    let limit = ["--default-limit", "900.00"];
    let demo = ["demo", "--once", "--data", data.to_str().unwrap(), "--scores", scores.to_str().unwrap()];
    let file = ["--transactions", transactions.to_str().unwrap()];
    assert!(saker(&[&demo[..], &file, &limit].concat()).status.success());

    // The same history with what the engine decided as its outcomes.
    let mut rows = read(&transactions);
    for (row, line) in rows.iter_mut().zip(read(&scores)) {
        let approved = line["decision"] == "APPROVED";
        row.insert("outcome".into(), if approved { "approved" } else { "declined" }.into());
        row.insert("response_code".into(), line["response_code"].clone());
    }
    let decided = directory.path().join("decided.csv");
    let columns: BTreeSet<&str> = rows.iter().flat_map(|row| row.keys().map(String::as_str)).collect();
    write(&decided, &columns.into_iter().collect::<Vec<_>>(), &rows);

    let served = features(&directory.path().join("served.csv"), &["--journal", data.to_str().unwrap()]);
    let file = ["--transactions", decided.to_str().unwrap()];
    let computed = features(&directory.path().join("computed.csv"), &[&file[..], &limit].concat());
    assert!(served.len() > 2_000, "{}", served.len());
    let labels = ["is_fraud", "period", "account_id"];
    let mut compared = 0;
    for (transaction, computed) in &computed {
        let Some(served) = served.get(transaction) else { continue };
        for (name, value) in computed.iter().filter(|(name, _)| !labels.contains(&name.as_str())) {
            assert_eq!(served.get(name), Some(value), "{name} of {transaction}");
            compared += 1;
        }
    }
    assert!(compared > 80_000, "{compared}");
    a_served_transaction_is_explained_by_its_id(directory.path(), served.len());
}

/// From the journal with what it was scored with and by, and from the rows that a training wrote.
fn a_served_transaction_is_explained_by_its_id(directory: &Path, rows: usize) {
    let at = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/models/default.json");
    let (data, table) = (at("data"), at("served.csv"));
    let line = read(&directory.join("served.csv")).swap_remove(rows / 2);
    let id = &line["transaction_id"];
    let wanted = ["--transaction", id, "--format", "json"];
    let explain = |arguments: &[&str]| saker(&[&["model", "explain"], arguments, &wanted[..]].concat());
    let of_journal = json(&explain(&["--journal", &data]));
    let of_table = json(&explain(&[shipped, "--features", &table]));
    assert_eq!(of_journal["features"], of_table["features"]);
    let scores = read(&directory.join("scores.csv"));
    let scored = scores.iter().rfind(|scored| scored["transaction_id"] == *id && !scored["score"].is_empty());
    let margin: f64 = scored.unwrap()["score"].parse().unwrap();
    let served = &of_journal["served"];
    assert_eq!((&of_journal["margin"], &served["margin"]), (&margin.into(), &margin.into()));
    assert_eq!(
        (&served["transaction_id"], &served["version"]),
        (&id.as_str().into(), &of_journal["version"])
    );

    let said = saker(&["model", "explain", "--journal", &data, "--transaction", id]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.starts_with(&format!("{id}, position ")) && said.contains("log-odds"), "{said}");
    for (arguments, why) in [
        (vec!["--journal", &data, "--transaction", "nobody"], "no decision on transaction `nobody`"),
        (vec!["--journal", &data], "--transaction"),
        (vec![shipped, "--transaction", id], "--features"),
        (vec!["--features", &table], "MODEL"),
        (vec![shipped, "--features", &table, "--journal", &data, "--transaction", id], "cannot be used with"),
    ] {
        let refused = saker(&[&["model", "explain"], &arguments[..]].concat());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains(why), "{arguments:?}: {said}");
    }
}

#[test]
fn how_much_is_used_of_a_limit_that_was_made_up_is_neither_learned_nor_decided_by() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let mut text = String::from("transaction_id,timestamp,account_id,amount,currency,merchant_id,is_fraud\n");
    for number in 0..40 {
        text += &format!("T{number},2026-01-01T12:00:{number:02}Z,A{},80,USD,M,0\n", number % 4);
    }
    std::fs::write(at("t.csv"), text).unwrap();
    let accounts =
        "account_id,credit_limit,currency\nA0,10000,USD\nA1,10000,USD\nA2,10000,USD\nA3,10000,USD\n";
    std::fs::write(at("a.csv"), accounts).unwrap();
    let rules = "version = 1\n[[rules]]\nid = 'r'\nwhen = 'account.utilisation >= 0.01'\nthen = 'decline'\n\
                 reason = 'USED'\n[[rules]]\nid = 'n'\nwhen = '!has(account.utilisation)'\nthen = 'refer'\n\
                 reason = 'UNKNOWN'\n";
    std::fs::write(at("r.toml"), rules).unwrap();
    let file = ["--transactions".to_owned(), at("t.csv")];
    let described = [&file[..], &["--accounts".to_owned(), at("a.csv")]].concat();
    for (arguments, reasons, is_known) in
        [(&file[..], ["UNKNOWN"; 2], false), (&described, ["", "USED"], true)]
    {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (rules, scores) = (at("r.toml"), at("scores.csv"));
        let fixed = ["backtest", "--model", "none", "--rules", &rules, "--scores", &scores];
        assert!(saker(&[&fixed[..], &arguments].concat()).status.success());
        let told: Vec<String> =
            read(scores.as_ref()).into_iter().map(|mut row| row.remove("reasons").unwrap()).collect();
        assert_eq!((told[0].as_str(), told[39].as_str()), (reasons[0], reasons[1]));
        let rows = features(&directory.path().join("rows.csv"), &arguments);
        assert_eq!(rows.len(), 40);
        for (transaction, row) in &rows {
            assert_eq!(!row["account.utilisation"].is_empty(), is_known, "{transaction}");
        }
    }
}

#[test]
fn an_amount_without_a_rate_is_told_of_and_one_with_a_rate_counts() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let rows = "transaction_id,timestamp,account_id,amount,currency,merchant_id\n\
                T1,2026-01-01T12:00:00Z,A1,110,USD,M\nT2,2026-01-01T12:00:01Z,A2,105,EUR,M\n\
                T3,2026-01-01T12:00:02Z,A2,95,EUR,M\nT4,2026-01-01T12:00:03Z,A3,9000,JPY,M\n";
    std::fs::write(at("t.csv"), rows).unwrap();
    let rules = "version = 1\n[[rules]]\nid = 'r'\nwhen = 'amount_base > 100.00'\nthen = 'decline'\nreason = 'LARGE'\n";
    std::fs::write(at("r.toml"), rules).unwrap();
    let rates = |rates: &str| format!("[base_currency]\ncode = 'USD'\nrates = {{ {rates} }}\n");
    for (config, declined, told) in [
        (None, 1, Some("3 rows without an `amount_base`: no rate for EUR, JPY;")),
        (Some(rates("EUR = '1.1'")), 3, Some("1 rows without an `amount_base`: no rate for JPY;")),
        (Some(rates("EUR = '1.0', JPY = '0.0067'")), 2, None),
    ] {
        let (transactions, rules, html) = (at("t.csv"), at("r.toml"), at("report.html"));
        let mut arguments =
            vec!["backtest", "--transactions", &transactions, "--rules", &rules, "--model", "none"];
        arguments.extend(["--format", "json", "--report", &html]);
        let settings = at("saker.toml");
        if let Some(config) = &config {
            std::fs::write(&settings, config).unwrap();
            arguments.extend(["--config", &settings]);
        }
        let output = saker(&arguments);
        let report = json(&output);
        assert_eq!(report["whole"]["against"]["count"], declined, "{report}");
        let errors = String::from_utf8(output.stderr).unwrap();
        let page = std::fs::read_to_string(&html).unwrap();
        for (place, shown) in [("stderr", errors), ("notes", report["notes"].to_string()), ("page", page)] {
            let times = told.map_or(0, |told| shown.matches(told).count());
            assert_eq!(
                (times, shown.contains("an `amount_base`")),
                (usize::from(told.is_some()), told.is_some()),
                "{place}"
            );
        }
        let inputs = report["inputs"].to_string();
        assert_eq!(inputs.contains("--config"), config.is_some(), "{inputs}");
    }
    std::fs::write(at("wrong.toml"), "[base_curency]\ncode = 'USD'\n").unwrap();
    for verb in [&["backtest"][..], &["train", "--out", &at("m.json")]] {
        let refused =
            saker(&[verb, &["--transactions", &at("t.csv"), "--config", &at("wrong.toml")]].concat());
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8(refused.stderr).unwrap().contains("unknown field `base_curency`"));
    }
}

use std::io::{Cursor, Write};

use super::*;
use crate::{
    sim::{self, Settings},
    types::{account::AccountChange, auth::Subject},
};

const HEADER: &str = "transaction_id,timestamp,account_id,amount,currency,merchant_id";

fn read(text: impl Into<Vec<u8>>, skip: u64) -> Result<Rows<Transaction>, BadRow> {
    Rows::new("t.csv".to_owned(), Cursor::new(text.into()), skip)
}

fn rows(text: &str) -> Result<Vec<Transaction>, BadRow> {
    read(text, 0)?.collect()
}

/// The simulated world as rows, without what CSV has no column for.
fn simulated() -> (Vec<AccountChange>, Vec<Transaction>) {
    let world = sim::generate(Settings { accounts: 150, days: 8, seed: 5, start: sim::DEFAULT_START });
    let transactions = world.transactions.into_iter().map(Transaction::from).map(|mut t| {
        t.request.verification = Default::default();
        t.request.initiation = None;
        t
    });
    (world.accounts, transactions.collect())
}

#[test]
fn a_simulated_world_comes_back_as_it_was_written() {
    let (accounts, transactions) = simulated();
    let mut file = Vec::new();
    write_transactions(&mut file, transactions.iter().cloned()).unwrap();
    let back: Vec<Transaction> = read(file.clone(), 0).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(transactions.len() > 300);
    assert!(transactions.iter().any(|t| t.request.billing_amount.is_some()));
    assert_eq!(back, transactions);

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&file).unwrap();
    let packed = packed.finish().unwrap();
    let back: Vec<Transaction> = read(packed, 0).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(back, transactions, "gzip");

    let mut file = Vec::new();
    write_accounts(&mut file, &accounts).unwrap();
    let back = Rows::<AccountChange>::new("a.csv".to_owned(), Cursor::new(file), 0).unwrap();
    assert_eq!(back.collect::<Result<Vec<_>, _>>().unwrap(), accounts);
}

#[test]
fn no_column_that_is_read_is_left_out_of_the_document_and_none_in_it_is_unknown() {
    fn check<R: Row>(heading: &str) {
        let sorted = |mut names: Vec<&'static str>| {
            names.sort_unstable();
            names
        };
        let read = R::COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(sorted(documented::documented(heading)), sorted(read), "{heading}");
    }
    check::<Transaction>("transactions.csv");
    check::<AccountChange>("accounts.csv");
    check::<crate::types::lists::ListEntry>("lists");
}

#[test]
fn columns_may_stand_in_any_order_and_unknown_ones_are_named_once() {
    let text = "colour,merchant_id,currency,amount,account_id,timestamp,transaction_id,mood\n\
                red,M1,JPY,500,A1,2026-01-01 00:00:00,T1,\n";
    let mut reader = read(text, 0).unwrap();
    let warning = reader.warning().unwrap();
    assert_eq!(warning, "t.csv: not understood and left aside: column `colour`, `mood`");
    let row = reader.next().unwrap().unwrap();
    assert_eq!(row.request.subject, Subject::Account(row.account));
    assert_eq!(row.request.amount.unwrap().minor, 500);
    assert_eq!((row.card, row.label, row.outcome), (None, None, None));
    assert!(reader.next().is_none());
}

#[test]
fn a_byte_order_mark_and_quoted_line_breaks_do_not_shift_the_line_numbers() {
    let text =
        format!("\u{feff}{HEADER},note\nT1,2026-01-01,A,1,USD,M,\"two\nlines\"\nT2,nonsense,A,1,USD,M,x\n");
    let text = text.replace("2026-01-01,", "2026-01-01T00:00:00Z,");
    let error = rows(&text).unwrap_err();
    assert_eq!((error.line, error.column.as_deref()), (4, Some("timestamp")));
}

#[test]
fn a_row_that_cannot_be_read_is_named_with_line_column_and_cause() {
    let good = "T1,2026-01-01T00:00:00Z,A1,1.00,USD,M1";
    for (bad, column, why) in [
        (",2026-01-01T00:00:00Z,A1,1,USD,M1", "transaction_id", "is empty"),
        ("T2,yesterday,A1,1,USD,M1", "timestamp", "no RFC 3339 time"),
        ("T2,2026-01-01T00:00:00Z,naïve,1,USD,M1", "account_id", "printable ASCII"),
        ("T2,2026-01-01T00:00:00Z,4111111111111111,1,USD,M1", "account_id", "card number"),
        ("T2,2026-01-01T00:00:00Z,A1,1.234,USD,M1", "amount", "more decimals than USD has (2)"),
        ("T2,2026-01-01T00:00:00Z,A1,1.5,JPY,M1", "amount", "more decimals than JPY has (0)"),
        ("T2,2026-01-01T00:00:00Z,A1,-1,USD,M1", "amount", "negative"),
        ("T2,2026-01-01T00:00:00Z,A1,NaN,USD,M1", "amount", "not a decimal"),
        ("T2,2026-01-01T00:00:00Z,A1,99999999999999999999,USD,M1", "amount", "too large"),
        ("T2,2026-01-01T00:00:00Z,A1,99999999999999.00,USD,M1", "amount", "too large"),
        ("T2,2026-01-01T00:00:00Z,A1,,USD,M1", "amount", "is empty"),
        ("T2,2026-01-01T00:00:00Z,A1,1,usd,M1", "currency", "no ISO 4217"),
        ("T2,2026-01-01T00:00:00Z,A1,1,USD,", "merchant_id", "is empty"),
    ] {
        let error = rows(&format!("{HEADER}\n{good}\n{bad}\n{good}\n")).unwrap_err();
        assert_eq!((error.line, error.column.as_deref()), (3, Some(column)), "{bad}: {error}");
        assert!(error.why.contains(why), "{bad}: {error}");
        assert!(error.to_string().starts_with("t.csv, line 3, column `"), "{error}");
    }
}

#[test]
fn optional_cells_are_checked_as_strictly() {
    for (column, cell, why) in [
        ("mcc", "541", "four digits"),
        ("mcc", "54x1", "four digits"),
        ("country", "usa", "two capital letters"),
        ("channel", "pigeon", "none of ECOMMERCE, CARD_PRESENT"),
        ("entry_mode", "pigeon", "none of CHIP"),
        ("kind", "GIFT", "none of PURCHASE"),
        ("kind", "ACCOUNT_VERIFICATION", "must be 0"),
        ("merchant_lat", "1.0", "is empty although"),
        ("is_fraud", "yes", "neither 0 nor 1"),
        ("labelled_at", "later", "no RFC 3339"),
        ("outcome", "maybe", "neither `approved` nor"),
        ("response_code", "999", "two letters"),
        ("billing_amount", "3", "is empty although"),
        ("billing_currency", "EUR", "is empty although"),
        ("card_id", "4111 1111 1111 1111", "card number"),
    ] {
        let text = format!("{HEADER},{column}\nT1,2026-01-01T00:00:00Z,A1,1.00,USD,M1,{cell}\n");
        let error = rows(&text).unwrap_err();
        assert!(error.why.contains(why), "{column} {cell}: {error}");
    }
    for (lat, lon) in [("91", "0"), ("0", "181"), ("NaN", "0"), ("0", "inf")] {
        let text =
            format!("{HEADER},home_lat,home_lon\nT1,2026-01-01T00:00:00Z,A1,1.00,USD,M1,{lat},{lon}\n");
        let error = rows(&text).unwrap_err();
        let blamed = if lon == "0" { "home_lat" } else { "home_lon" };
        assert_eq!(error.column.as_deref(), Some(blamed), "{error}");
    }
}

#[test]
fn broken_lines_and_bad_utf8_are_rows_of_their_own() {
    let error = rows(&format!("{HEADER}\nT1,2026-01-01T00:00:00Z,A1\n")).unwrap_err();
    assert_eq!((error.line, error.column.as_deref()), (2, None));
    assert_eq!(error.why, "has 3 cells where the header has 6");

    let mut text = format!("{HEADER}\nT1,2026-01-01T00:00:00Z,A1,1,USD,M").into_bytes();
    text.extend([0xff, b'\n']);
    let error = read(text, 0).unwrap().next().unwrap().unwrap_err();
    assert_eq!(
        (error.line, error.column.as_deref(), error.why.as_str()),
        (2, Some("merchant_id"), "is not UTF-8")
    );
}

#[test]
fn a_bad_row_is_found_by_its_line_behind_blank_lines_and_cells_of_several_lines() {
    let good = "T1,2026-01-01T00:00:00Z,A1,1.00,USD,M1,\"one\n\ntwo\"";
    let bad = "T2,2026-01-01T00:00:00Z,A1,x,USD,M1,";
    for (text, line) in [
        (format!("{HEADER},note\n\n\n{bad}\n"), 4),
        (format!("\n{HEADER},note\n{good}\n{bad}\n"), 6),
        (format!("{HEADER},note\r\n{good}\r\n\r\n{bad}\r\n"), 6),
        (format!("{HEADER},note\n\nT1,2026-01-01T00:00:00Z\n"), 3),
        (format!("{HEADER},note\n\n{good},too many\n"), 3),
    ] {
        let error = rows(&text).unwrap_err();
        assert_eq!(error.line, line, "{error} in {text}");
    }
    let mut text = format!("{HEADER},note\n\n{good}\n\nT1,2026-01-01T00:00:00Z,A1,1,USD,M").into_bytes();
    text.extend([0xff, b',', b'\n']);
    let error = read(text, 0).unwrap().last().unwrap().unwrap_err();
    assert_eq!((error.line, error.column.as_deref()), (7, Some("merchant_id")), "{error}");

    let error = read(format!("\n\n{HEADER},amount\n"), 0).err().unwrap();
    assert_eq!(error.line, 3, "{error}");

    let mut passed_over = read(format!("{HEADER},note\n\n{bad}\n\n{good}\n\n{bad}\n"), 2).unwrap();
    assert_eq!(passed_over.by_ref().count(), 1);
    assert_eq!(passed_over.skipped().iter().map(|row| row.line).collect::<Vec<_>>(), [3, 9]);
}

#[test]
fn a_cut_gzip_file_is_an_error_that_no_skipping_hides() {
    let (_, transactions) = simulated();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    write_transactions(&mut packed, transactions).unwrap();
    let mut packed = packed.finish().unwrap();
    packed.truncate(packed.len() / 2);
    let mut reader = read(packed, 1_000).unwrap();
    let last = reader.by_ref().last().unwrap().unwrap_err();
    assert!(last.why.starts_with("cannot be read"), "{last}");
    assert!(reader.next().is_none());
}

#[test]
fn the_header_must_have_what_is_needed_and_nothing_twice() {
    let error = read("transaction_id,amount\n", 0).err().unwrap();
    assert!(error.why.contains("`timestamp`, `account_id`, `currency`, `merchant_id`"), "{error}");
    assert_eq!(error.line, 1);
    let error = read(format!("{HEADER},amount\n"), 0).err().unwrap();
    assert!(error.why.contains("`amount` is there twice"), "{error}");
    assert!(read("", 0).is_err());
}

#[test]
fn as_many_bad_rows_as_allowed_are_passed_over_and_listed() {
    let text = format!(
        "{HEADER}\nT1,2026-01-01T00:00:00Z,A1,x,USD,M1\nT2,2026-01-01T00:00:00Z,A1,1,USD,M1\n\
         T3,2026-01-01T00:00:00Z\nT4,2026-01-01T00:00:00Z,A1,1,USD,M1\n"
    );
    let mut reader = read(text.clone(), 2).unwrap();
    let keys: Vec<String> = reader.by_ref().map(|r| r.unwrap().request.key.to_string()).collect();
    assert_eq!(keys, ["T2", "T4"]);
    assert_eq!(reader.skipped().iter().map(|b| b.line).collect::<Vec<_>>(), [2, 4]);

    let mut reader = read(text, 1).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().request.key.as_str(), "T2");
    assert_eq!(reader.next().unwrap().unwrap_err().line, 4);
    assert!(reader.next().is_none(), "nothing comes after an error");
}

#[test]
fn accounts_need_a_limit_that_is_not_negative() {
    let read = |text: &str| {
        let rows =
            Rows::<AccountChange>::new("a.csv".to_owned(), Cursor::new(text.to_owned().into_bytes()), 0);
        rows?.collect::<Result<Vec<_>, _>>()
    };
    let rows = read("account_id,credit_limit,currency,posted_balance\nA1,10.500,KWD,-1.25\n").unwrap();
    assert_eq!((rows[0].credit_limit_minor, rows[0].posted_minor), (Some(10_500), Some(-1_250)));
    assert!(rows[0].cards.is_empty());
    let error = read("account_id,credit_limit,currency\nA1,-1,USD\n").unwrap_err();
    assert_eq!(error.column.as_deref(), Some("credit_limit"));
    let error = read("account_id,credit_limit,currency,status\nA1,1,USD,LOST\n").unwrap_err();
    assert_eq!(error.column.as_deref(), Some("card_id"));
}

/// Writes a file of rows and looks through it.
fn surveyed(directory: &tempfile::TempDir, text: &str, selection: Selection) -> Result<Survey, BadRow> {
    let file = directory.path().join("t.csv");
    std::fs::write(&file, text).unwrap();
    Survey::of(&file, selection, &mut || {})
}

fn ids(survey: &Survey) -> Vec<(u64, String)> {
    let row =
        |placed: Result<Placed, BadRow>| placed.map(|p| (p.place, p.transaction.request.key.to_string()));
    survey.replay().unwrap().map(row).collect::<Result<_, _>>().unwrap()
}

#[test]
fn rows_are_replayed_by_time_and_those_of_one_time_as_the_file_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut text = format!("{HEADER}\n");
    for row in 0..1_000 {
        text += &format!("T{row},2026-01-01T00:00:{:02}Z,A{},1,USD,M\n", row * 7 % 60, row % 3);
    }
    let survey = surveyed(&directory, &text, Selection::default()).unwrap();
    assert!(!survey.in_order);
    assert_eq!(survey.rows, 1_000);
    let (first, last) = survey.period.unwrap();
    assert_eq!(last.since_ms(first), 59_000);
    let mut expected: Vec<u64> = (0..1_000).collect();
    expected.sort_by_key(|row| row * 7 % 60);
    let expected: Vec<_> = expected.into_iter().map(|row| (row, format!("T{row}"))).collect();
    assert_eq!(ids(&survey), expected);

    let limited = surveyed(&directory, &text, Selection { skip_bad_rows: 0, limit: Some(5) }).unwrap();
    assert!(limited.in_order, "the first five rows are");
    assert_eq!(ids(&limited).len(), 5);
}

#[test]
fn an_account_opens_as_its_earliest_row_says_with_every_card_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "{HEADER},card_id,home_lat,home_lon,kind,is_fraud\n\
         T1,2026-01-03T00:00:00Z,A,1,USD,M,C2,1,2,,\n\
         T2,2026-01-02T00:00:00Z,A,0,JPY,M,C1,3,4,BALANCE_INQUIRY,0\n\
         T3,2026-01-01T00:00:00Z,B,1,KWD,M,,,,,\n\
         T1,2026-01-04T00:00:00Z,A,1,USD,M,C1,5,6,,1\n"
    );
    let survey = surveyed(&directory, &text, Selection::default()).unwrap();
    let openings = survey.openings("250.00").unwrap();
    let [a, b] = &openings[..] else { panic!("{openings:?}") };
    assert_eq!((a.currency.unwrap().alpha(), a.credit_limit_minor), ("JPY", Some(250)));
    assert_eq!(a.home.map(|home| home.latitude), Some(3.0));
    assert_eq!(a.cards.iter().map(|card| card.token.as_str()).collect::<Vec<_>>(), ["C2", "C1"]);
    assert_eq!((b.credit_limit_minor, b.cards.len()), (Some(250_000), 0));
    assert_eq!(survey.labelled, 2);
    let key = |text| crate::types::ids::RequestKey::new(text).unwrap();
    assert!(survey.may_repeat(&key("T1")) && !survey.may_repeat(&key("T2")));
    for (limit, why) in
        [("250.5", "more decimals than JPY has"), ("-1", "negative"), ("lots", "not a decimal")]
    {
        let error = survey.openings(limit).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_file_that_changes_between_the_two_readings_is_an_error_and_not_a_short_replay() {
    let directory = tempfile::tempdir().unwrap();
    let row = |id| format!("T{id},2026-01-01T00:00:00Z,A,1,USD,M\n");
    let text = format!("{HEADER}\n{}{}", row(1), row(2));
    let survey = surveyed(&directory, &text, Selection::default()).unwrap();
    for other in [format!("{HEADER}\n{}", row(1)), format!("{text}{}", row(3))] {
        std::fs::write(directory.path().join("t.csv"), other).unwrap();
        let last = survey.replay().unwrap().last().unwrap().unwrap_err();
        assert!(last.why.contains("changed while it was replayed"), "{last}");
    }
}

#[test]
fn what_the_wire_would_refuse_is_refused_in_the_file() {
    for (cells, column, why) in [
        ("T1,0000-12-31T00:00:00Z,A1,1.00,USD,M1,PURCHASE,,", "timestamp", "no RFC 3339"),
        ("T1,2026-01-01T00:00:00Z,A1,1.00,USD,M1,PURCHASE,0,EUR", "billing_amount", "must be 0 where"),
        ("T1,2026-01-01T00:00:00Z,A1,0,USD,M1,PURCHASE,1,EUR", "billing_amount", "must be 0 where"),
        ("T1,2026-01-01T00:00:00Z,A1,0,USD,M1,ACCOUNT_VERIFICATION,1,EUR", "billing_amount", "must be 0 for"),
    ] {
        let error = rows(&format!("{HEADER},kind,billing_amount,billing_currency\n{cells}\n")).unwrap_err();
        assert_eq!(error.column.as_deref(), Some(column), "{cells}: {error}");
        assert!(error.why.contains(why), "{cells}: {error}");
    }
}

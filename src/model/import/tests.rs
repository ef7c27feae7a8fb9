use std::{fs, io::Read as _, path::PathBuf};

use flate2::read::GzDecoder;

use super::import;

const FIXTURES: [&str; 7] = [
    "xgb.json",
    "xgb_base.json",
    "xgb_raw.json",
    "lgb.txt",
    "lgb_zero.txt",
    "lgb_none.txt",
    "lgb_sigmoid.txt",
];

fn fixture(name: &str) -> (String, String) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    let read = |name: String| {
        let (zipped, mut text) = (fs::read(dir.join(name)).unwrap(), String::new());
        GzDecoder::new(&zipped[..]).read_to_string(&mut text).unwrap();
        text
    };
    let stem = name.split('.').next().unwrap();
    (read(format!("{name}.gz")), read(format!("{stem}.csv.gz")))
}

#[test]
fn an_imported_model_scores_every_row_as_its_library_did() {
    for name in FIXTURES {
        let (text, golden) = fixture(name);
        let compared =
            import(&text, 500, Some(&golden)).unwrap_or_else(|why| panic!("{name}: {why}")).compared.unwrap();
        println!("{name}: {compared:?}");
        assert!(compared.rows >= 1_000, "{name}");
        assert!(compared.largest_as_added_there <= 1e-6, "{name}: {compared:?}");
        // XGBoost's own sums in 32 bits are this far from the exact ones.
        let most = if name.starts_with("xgb") { 1e-5 } else { 1e-6 };
        assert!(compared.largest <= most, "{name}: {compared:?}");
    }
}

#[test]
fn a_margin_that_differs_is_refused_with_its_line() {
    let (text, golden) = fixture("lgb.txt");
    let mut lines: Vec<String> = golden.lines().map(str::to_owned).collect();
    let comma = lines[5].rfind(',').unwrap();
    let margin: f64 = lines[5][comma + 1..].parse().unwrap();
    lines[5].replace_range(comma + 1.., &(margin + 2e-6).to_string());
    let why = import(&text, 500, Some(&lines.join("\n"))).unwrap_err();
    assert!(why.contains("line 6") && why.contains("margin"), "{why}");
}

#[test]
fn what_cannot_be_scored_alike_is_refused_with_the_reason() {
    let (xgb, lgb) = (fixture("xgb.json").0, fixture("lgb.txt").0);
    let cases = [
        (&xgb, "\"gbtree\"", "\"dart\"", "booster"),
        (&xgb, "binary:logistic", "multi:softprob", "objective"),
        (&xgb, "\"num_class\":\"0\"", "\"num_class\":\"3\"", "classes"),
        (&xgb, "merchant.mcc_number", "merchant.mcc_numbr", "did you mean `merchant.mcc_number`"),
        (&xgb, "\"left_children\":[1,", "\"left_children\":[0,", "two parents"),
        (&xgb, "\"left_children\":[1,", "\"left_children\":[99999,", "tree 0: node 99999"),
        (&lgb, "objective=binary", "objective=multiclass", "objective"),
        (&lgb, "is_linear=0", "is_linear=1", "straight lines"),
        (&lgb, "num_class=1", "average_output", "random forest"),
        (&lgb, "left_child=", "left_child=0 ", "differ in length"),
        (&lgb, "cat_boundaries=0", "cat_boundaries=9999999999", "categories"),
        (&lgb, "end of trees", "", "breaks off"),
        (&lgb, "pandas_categorical:null", "pandas_categorical:[[5411, 742]]", "data frame"),
    ];
    for (text, from, to, says) in cases {
        assert!(text.contains(from), "{from}");
        let why = import(&text.replacen(from, to, 1), 500, None).unwrap_err();
        assert!(why.contains(says), "{from} to {to}: {why}");
    }
}

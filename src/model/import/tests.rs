use std::{
    fs,
    io::Read as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{import, lightgbm, xgboost};
use crate::model::{Model, trees::Tree};

pub(in crate::model) const FIXTURES: [&str; 7] = [
    "xgb.json",
    "xgb_base.json",
    "xgb_raw.json",
    "lgb.txt",
    "lgb_zero.txt",
    "lgb_none.txt",
    "lgb_sigmoid.txt",
];

/// The text of a file of `tests/import`, named without its `.gz`.
pub(in crate::model) fn unzipped(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(format!("{name}.gz"));
    let (zipped, mut text) = (fs::read(path).unwrap(), String::new());
    GzDecoder::new(&zipped[..]).read_to_string(&mut text).unwrap();
    text
}

fn fixture(name: &str) -> (String, String) {
    let stem = name.split('.').next().unwrap();
    (unzipped(name), unzipped(&format!("{stem}.csv")))
}

/// The trees that ask for a category.
fn trees_by_category(text: &str) -> Vec<Tree> {
    let foreign = if text.starts_with('{') { xgboost::read(text) } else { lightgbm::read(text) };
    foreign.unwrap().trees.into_iter().filter(|tree| !tree.categories.is_empty()).collect()
}

#[test]
fn an_imported_model_scores_every_row_as_its_library_did() {
    for name in FIXTURES {
        let (text, golden) = fixture(name);
        assert!(!trees_by_category(&text).is_empty(), "{name} asks for no category");
        let compared =
            import(&text, 500, Some(&golden)).unwrap_or_else(|why| panic!("{name}: {why}")).compared.unwrap();
        println!("{name}: {compared:?}");
        assert!(compared.rows >= 1_000, "{name}");
        assert!(compared.largest <= 1e-6, "{name}: {compared:?}");
    }
}

#[test]
fn a_margin_that_differs_is_refused_with_its_line() {
    let (text, golden) = fixture("lgb.txt");
    let mut lines: Vec<String> = golden.lines().map(str::to_owned).collect();
    let comma = lines[5].rfind(',').unwrap();
    let margin: f64 = lines[5][comma + 1..].parse().unwrap();
    lines[5].replace_range(comma + 1.., &(margin + 2e-6).to_string());
    for (golden, line) in [
        (lines.join("\n"), "line 6:"),
        (lines.join("\r\n"), "line 6:"),
        (lines.join("\n\n"), "line 11:"),
        (format!("{}\n\n1,2\n", lines[0]), "line 3: 2 cells"),
    ] {
        let why = import(&text, 500, Some(&golden)).unwrap_err();
        assert!(why.contains(line), "{why}");
    }
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

/// What breaks files of numbers: signs, huge numbers, wrong kinds, brackets.
const TOKENS: [&str; 16] = [
    "-1",
    "0",
    "1",
    "9999999999",
    "-9223372036854775808",
    "18446744073709551616",
    "1e999",
    "1e-45",
    "NaN",
    "null",
    "[]",
    "{}",
    "[",
    ",",
    "\"\"",
    "\n",
];

/// One to five places of a text overwritten, cut out, repeated, or swapped for a token where a number stood.
fn damage(text: &str, rng: &mut ChaCha8Rng) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..rng.random_range(1..=5) {
        let at = rng.random_range(0..bytes.len());
        let token = TOKENS[rng.random_range(0..TOKENS.len())].bytes();
        let number_from = bytes[at..].iter().position(u8::is_ascii_digit).map_or(at, |skip| at + skip);
        let length = bytes[number_from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let end = (at + rng.random_range(1..200)).min(bytes.len());
        match rng.random_range(0..6) {
            0 => bytes[at] = rng.random_range(b' '..=b'~'),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copied = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copied));
            }
            3 if length > 0 => bytes[number_from] = rng.random_range(b'0'..=b'9'),
            _ => drop(bytes.splice(number_from..number_from + length, token)),
        }
        if bytes.is_empty() {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `SAKER_FUZZ_SECONDS=1200 cargo test --locked --lib damaged_models` goes on for so long, from `SAKER_FUZZ_SEED`.
#[test]
fn damaged_models_bring_neither_a_panic_nor_a_hang() {
    const HANG: Duration = Duration::from_secs(20);
    let number = |name: &str| -> Option<u64> {
        std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (seconds, seed) = (number("SAKER_FUZZ_SECONDS"), number("SAKER_FUZZ_SEED").unwrap_or(5));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let foreign = FIXTURES.map(|name| fixture(name).0);
    let own = import(&foreign[3], 500, None).unwrap().text;
    let (began, mut files, mut taken) = (Instant::now(), 0_u64, 0_u64);
    while seconds.map_or(files < 60, |seconds| began.elapsed() < Duration::from_secs(seconds)) {
        let which = files as usize % (foreign.len() + 1);
        let checking = Instant::now();
        let is_taken = match foreign.get(which) {
            Some(text) => match import(&damage(text, &mut rng), 500, None) {
                Ok(_) => true,
                Err(why) => {
                    assert!(!why.is_empty() && why.len() < 2_000, "{why}");
                    false
                }
            },
            None => Model::load(&damage(&own, &mut rng)).is_ok(),
        };
        assert!(checking.elapsed() < HANG, "file {files} of seed {seed} took {:?}", checking.elapsed());
        taken += u64::from(is_taken);
        files += 1;
    }
    println!("seed {seed}: {files} files, {taken} of them still models");
    assert!(taken < files, "no damage was found");
}

//! The checker fed with damaged files: the shipped rules, the wrong files and random bytes, changed at random places. No
//! panic, no hang, and every finding stands inside the file. In the suite a fixed number of files;
//! `SAKER_FUZZ_SECONDS=1200 cargo test --locked --lib damaged_files` goes on for so long, from a seed of its own
//! (`SAKER_FUZZ_SEED`) that it prints.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{super::finding::Finding, SHIPPED, Severity, compile, run_tests, wrong};

/// Files checked where no time is given.
const FILES: u64 = 400;
/// Longest that a file may take in a long run: far above what the largest of them needs, far below for ever.
const HANG: Duration = Duration::from_secs(30);

/// What the languages are made of.
const TOKENS: &[&str] = &[
    "[[rules]]\n",
    "[[tests]]\n",
    "[aggregates.a]\n",
    "[lists.l]\n",
    "version = 1\n",
    "id = \"x\"\n",
    "when = \"",
    "then = \"decline\"\n",
    "reason = \"R\"\n",
    "mode = \"shadow\"\n",
    "by = \"card\"\n",
    "window = \"1h\"\n",
    "count = true\n",
    "values = [",
    "given = { ",
    "expect = { rules = [] }\n",
    "where = \"",
    "\"",
    "'",
    "'''",
    "\"\"\"",
    "\\",
    "\\u00e4",
    "\\\n",
    "\n",
    "\r\n",
    "\t",
    " ",
    "\u{feff}",
    "\u{a0}",
    "ä",
    "東",
    "\u{1f431}",
    "\0",
    "=",
    "==",
    "=>",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "?",
    ":",
    ".",
    ",",
    ";",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "#",
    "$",
    "in",
    " in ",
    "and",
    " not ",
    "has(",
    "abs(",
    "min(",
    "max(",
    "int(",
    "double(",
    "size(",
    ".startsWith(",
    ".contains('A')",
    "lists.",
    "lists.l",
    "amount",
    "channel",
    "is_foreign",
    "merchant.mcc",
    "merchant.country",
    "card.speed_kmh",
    "instalments",
    "account.available",
    "true",
    "false",
    "null",
    "0",
    "1",
    "5.00",
    "0742",
    "1e308",
    "1e999",
    "9223372036854775807",
    "9223372036854775808",
    "0x1f",
    "5u",
    "1_000",
    "5%",
    "b'x'",
    "r'x'",
    "2024-06-01",
    "'ecommerce'",
    "'US'",
    ".5",
    "5.",
    "1..2",
    "//",
    "--",
    "`",
];

struct Fuzzer {
    rng: ChaCha8Rng,
    seeds: Vec<String>,
}

impl Fuzzer {
    fn new(seed: u64) -> Fuzzer {
        let mut seeds: Vec<String> = wrong::files().into_iter().map(|(_, source)| source).collect();
        seeds.push(SHIPPED.to_string());
        // The shipped file in pieces, one table each, so that most files are small and quickly checked.
        seeds.extend(SHIPPED.split("\n\n").map(|piece| format!("version = 1\n{piece}\n")));
        Fuzzer { rng: ChaCha8Rng::seed_from_u64(seed), seeds }
    }

    fn file(&mut self) -> String {
        let mut file = match self.rng.random_range(0..20) {
            0 => {
                let length = self.rng.random_range(0..200);
                let bytes: Vec<u8> = (0..length).map(|_| self.rng.random()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            1..=3 => {
                let count = self.rng.random_range(1..40);
                let condition: String = (0..count).map(|_| self.token()).collect();
                let quotes = ["\"", "'", "'''", "\"\"\""].choose(&mut self.rng).copied().unwrap_or("'");
                format!(
                    "version = 1\n[[rules]]\nid = 'r'\nthen = 'flag'\nreason = 'R'\nwhen = {quotes}{condition}{quotes}\n"
                )
            }
            _ => self.seed(),
        };
        for _ in 0..self.rng.random_range(1..5) {
            self.damage(&mut file);
        }
        file
    }

    fn seed(&mut self) -> String {
        self.seeds.choose(&mut self.rng).cloned().unwrap_or_default()
    }

    fn token(&mut self) -> &'static str {
        TOKENS.choose(&mut self.rng).copied().unwrap_or("")
    }

    /// A place between two characters.
    fn place(&mut self, file: &str) -> usize {
        let at = self.rng.random_range(0..=file.len());
        (0..=at).rev().find(|at| file.is_char_boundary(*at)).unwrap_or(0)
    }

    fn range(&mut self, file: &str) -> std::ops::Range<usize> {
        let start = self.place(file);
        let longest = if self.rng.random_bool(0.2) { file.len() } else { 12 };
        let end = (start + self.rng.random_range(0..=longest)).min(file.len());
        start..(start..=end).rev().find(|at| file.is_char_boundary(*at)).unwrap_or(start)
    }

    fn damage(&mut self, file: &mut String) {
        let range = self.range(file);
        match self.rng.random_range(0..7) {
            0 => file.replace_range(range, ""),
            1 | 2 => {
                let token = self.token();
                file.insert_str(range.start, token);
            }
            3 => {
                let token = self.token();
                file.replace_range(range, token);
            }
            4 => {
                let copied = file[range].to_string();
                let at = self.place(file);
                file.insert_str(at, &copied);
            }
            5 => {
                let other = self.seed();
                let part = other[self.range(&other)].to_string();
                file.insert_str(range.start, &part);
            }
            _ => {
                let (token, times) = (self.token(), self.rng.random_range(1..300));
                file.insert_str(range.start, &token.repeat(times));
            }
        }
        // Nobody waits for files that grow without end.
        if file.len() > 100_000 {
            let end = (0..=100_000).rev().find(|at| file.is_char_boundary(*at)).unwrap_or(0);
            file.truncate(end);
        }
    }
}

/// Whether a finding points at something that is in the file.
fn is_inside(finding: &Finding, source: &str) -> bool {
    let line = source.split('\n').nth(finding.line as usize - 1).unwrap_or("\u{1}");
    let line = if finding.line == 1 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
    let characters = finding.source_line.chars().count();
    let (column, length) = (finding.column as usize, finding.length as usize);
    // At the end of a line there is a place too, and one character is the least that is marked.
    let is_shown = !finding.source_line.is_empty();
    let ends_inside = !is_shown || column + length - 1 <= characters.max(column);
    line.starts_with(&finding.source_line) && column <= line.chars().count() + 1 && ends_inside
}

fn judge(source: &str) {
    let findings = match compile("fuzz.toml", source) {
        Ok(rules) => {
            run_tests(&rules);
            rules.warnings
        }
        Err(findings) => {
            let is_refused = findings.iter().any(|finding| finding.severity == Severity::Error);
            assert!(is_refused, "refused without an error:\n{source}");
            findings
        }
    };
    for finding in &findings {
        assert!(is_inside(finding, source), "{finding:?} is not in:\n{source:?}");
        for gives_up in ["inside the engine", "the parser gave up"] {
            assert!(!finding.message.contains(gives_up), "{}:\n{source:?}", finding.message);
        }
        assert!(!finding.to_string().is_empty());
    }
}

#[test]
fn damaged_files_bring_neither_a_panic_nor_a_hang_nor_a_place_outside_the_file() {
    let number = |name: &str| -> Option<u64> {
        std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (seconds, seed) = (number("SAKER_FUZZ_SECONDS"), number("SAKER_FUZZ_SEED").unwrap_or(22));
    let (began, mut fuzzer) = (Instant::now(), Fuzzer::new(seed));
    let (mut files, mut bytes, mut slowest) = (0_u64, 0_u64, (Duration::ZERO, 0));
    let goes_on = |files: u64| match seconds {
        Some(seconds) => began.elapsed() < Duration::from_secs(seconds),
        None => files < FILES,
    };
    while goes_on(files) {
        let file = fuzzer.file();
        let checking = Instant::now();
        judge(&file);
        let took = checking.elapsed();
        slowest = slowest.max((took, file.len()));
        assert!(seconds.is_none() || took < HANG, "{took:?} for {} bytes:\n{file}", file.len());
        files += 1;
        bytes += file.len() as u64;
    }
    println!(
        "seed {seed}: {files} files, {bytes} bytes, the slowest {:?} for {} bytes",
        slowest.0, slowest.1
    );
}

//! What the operator may set: typed, checked whole at start, unknown keys refused with file, line and column. The
//! defaults stand twice, here and as the commented file `src/config.toml`, and a test keeps the two equal.
//!
//! Bounds that belong to the contract or to a file format are in [`crate::limits`] and cannot be set. Flags and
//! environment variables are the command line's affair: it lays them over what is read here.

mod control;

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    limits::{HOLD_LIFE_MAX_MS, RECORD_BYTES_MAX},
    types::{
        base,
        codes::{Channel, Initiation, Kind},
        money::Currency,
        time::DAY_MS,
    },
};

pub use control::{Control, ControlKey, ControlShare};

/// The default configuration as a file, with a comment for every setting.
pub const DEFAULT_FILE: &str = include_str!("config.toml");

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The one directory the engine writes to.
    pub data: PathBuf,
    pub listen: Listen,
    pub decide: Decide,
    pub model: Models,
    pub base_currency: BaseCurrency,
    pub holds: HoldLifetimes,
    pub windows: Windows,
    pub answers: Answers,
    pub accounts: Accounts,
    pub journal: Journal,
    pub snapshots: Snapshots,
    pub overload: Overload,
    pub guard: Guard,
    pub runtime: Runtime,
    pub log: Log,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// host:port of gRPC; port 0 takes a free one.
    pub grpc: String,
    /// host:port of HTTP for metrics and health.
    pub admin: String,
    pub reflection: bool,
    /// Whether a card number may stand where a token belongs.
    pub card_numbers: bool,
}

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Decide {
    /// Replaces the shipped rules.
    pub rules: Option<PathBuf>,
    /// Replaces the shipped model; `none` serves without one.
    pub model: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// Scores every request in shadow.
    pub challenger: Option<PathBuf>,
    /// Of what the model alone would decline, so much is let through.
    pub control_share: ControlShare,
    /// What tells which; without one it is made from the journal's own id.
    pub control_key: Option<ControlKey>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answers {
    /// Keys remembered in memory; at this number, and where none can go to disk, new work is refused.
    #[serde(deserialize_with = "within::<_, 1_024, 1_000_000_000>")]
    pub capacity: u64,
    /// How long a key stays in memory before it is found on disk alone.
    #[serde(deserialize_with = "within::<_, 1, 840>")]
    pub memory_hours: u64,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Windows {
    /// Memory for the windows over keys that cross accounts (merchants, devices, addresses) and over labels.
    #[serde(deserialize_with = "within::<_, 1_048_576, 1_099_511_627_776>")]
    pub shared_bytes: u64,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accounts {
    /// Parts of the account map, a power of two.
    #[serde(deserialize_with = "power_of_two")]
    pub shards: u64,
    /// Credit limits are made up, and say nothing of how much of them is used.
    pub assumed_limits: bool,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Size of one preallocated file.
    #[serde(deserialize_with = "within::<_, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX>")]
    pub segment_bytes: u64,
    /// After so long without a record the durable mark is synced.
    #[serde(deserialize_with = "within::<_, 1, 10_000>")]
    pub idle_mark_ms: u64,
    /// While one write or sync takes longer than this, authorisations are refused.
    #[serde(deserialize_with = "within::<_, 50, 60_000>")]
    pub stall_ms: u64,
    /// One that takes longer than this has failed, and the engine stops.
    #[serde(deserialize_with = "within::<_, 100, 600_000>")]
    pub hang_ms: u64,
}

/// A segment holds the largest group that may gather at least once over.
const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
const _: () = assert!(SEGMENT_BYTES_MIN >= 64 * RECORD_BYTES_MAX as u64);

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Snapshots {
    /// Between two of them; 0 takes none.
    #[serde(deserialize_with = "within::<_, 0, 604_800>")]
    pub every_s: u64,
    /// None is taken before so many records were made since the last.
    #[serde(deserialize_with = "within::<_, 1, 1_000_000_000>")]
    pub after_records: u64,
    /// Not more is written a second, so that the journal's syncs do not wait.
    #[serde(deserialize_with = "within::<_, 1_048_576, 10_737_418_240>")]
    pub bytes_per_s: u64,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overload {
    /// Records that have waited longer for the disk than this make the engine refuse new work.
    #[serde(deserialize_with = "within::<_, 1, 60_000>")]
    pub shed_after_ms: u64,
    /// The hint that goes with a refusal.
    #[serde(deserialize_with = "within::<_, 1, 60_000>")]
    pub retry_after_ms: u64,
}

/// When a live rule that was changed within a day is set to shadow because it declines good cardholders.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guard {
    /// False neither sets rules to shadow nor tells of them.
    pub enabled: bool,
    /// How far back declines are looked at.
    #[serde(deserialize_with = "within::<_, 10, 3_600>")]
    pub window_s: u64,
    /// Fewer declines of a rule within the window say nothing.
    #[serde(deserialize_with = "within::<_, 10, 4_096>")]
    pub declines_min: u64,
    /// A rule whose declines concern fewer accounts is left live.
    #[serde(deserialize_with = "within::<_, 5, 4_096>")]
    pub accounts_min: u64,
    /// Share of all authorisations, in percent, that a rule may always decline.
    #[serde(deserialize_with = "within::<_, 1, 100>")]
    pub share_min_percent: u64,
    /// How many times the share of before is far above it.
    #[serde(deserialize_with = "within::<_, 2, 1_000>")]
    pub rise: u64,
    /// Where one account, merchant, device or IP address has as much of the declines, it may be an attack.
    #[serde(deserialize_with = "within::<_, 1, 50>")]
    pub holder_max_percent: u64,
    /// Where more of the declines have half the score at which the model declines, it may be an attack.
    #[serde(deserialize_with = "within::<_, 0, 90>")]
    pub high_scores_max_percent: u64,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Runtimes that connections are dealt to; 0 takes one per available core.
    #[serde(deserialize_with = "within::<_, 0, 256>")]
    pub threads: u64,
    /// How long a stop waits for answers.
    #[serde(deserialize_with = "within::<_, 0, 3_600>")]
    pub drain_grace_s: u64,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data: PathBuf::from("./saker-data"),
            listen: Listen::default(),
            decide: Decide::default(),
            model: Models::default(),
            base_currency: BaseCurrency::default(),
            holds: HoldLifetimes::default(),
            windows: Windows::default(),
            answers: Answers::default(),
            accounts: Accounts::default(),
            journal: Journal::default(),
            snapshots: Snapshots::default(),
            overload: Overload::default(),
            guard: Guard::default(),
            runtime: Runtime::default(),
            log: Log::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Listen {
        Listen {
            grpc: "127.0.0.1:50051".to_owned(),
            admin: "127.0.0.1:9464".to_owned(),
            reflection: false,
            card_numbers: false,
        }
    }
}

impl Default for Answers {
    fn default() -> Answers {
        Answers { capacity: 20_000_000, memory_hours: 72 }
    }
}

impl Default for Windows {
    fn default() -> Windows {
        Windows { shared_bytes: 256 * 1024 * 1024 }
    }
}

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts { shards: 4_096, assumed_limits: false }
    }
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { segment_bytes: 256 * 1024 * 1024, idle_mark_ms: 10, stall_ms: 1_000, hang_ms: 10_000 }
    }
}

impl Default for Snapshots {
    fn default() -> Snapshots {
        Snapshots { every_s: 600, after_records: 100_000, bytes_per_s: 64 * 1024 * 1024 }
    }
}

impl Default for Overload {
    fn default() -> Overload {
        Overload { shed_after_ms: 500, retry_after_ms: 100 }
    }
}

impl Default for Guard {
    fn default() -> Guard {
        Guard {
            enabled: true,
            window_s: 300,
            declines_min: 60,
            accounts_min: 50,
            share_min_percent: 2,
            rise: 5,
            holder_max_percent: 20,
            high_scores_max_percent: 33,
        }
    }
}

impl Default for Runtime {
    fn default() -> Runtime {
        Runtime { threads: 0, drain_grace_s: 10 }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log { format: LogFormat::Text, level: LogLevel::Info }
    }
}

impl Runtime {
    /// The number of runtimes, resolved against the machine.
    pub fn lanes(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads as usize,
        }
    }
}

/// The currency that amounts of different accounts are added up in.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(try_from = "BaseCurrencyText")]
pub struct BaseCurrency(pub base::BaseCurrency);

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseCurrencyText {
    /// The default's where it is left out.
    code: Option<String>,
    /// What one unit of a currency is worth in the base currency; texts, so that no digit is lost.
    #[serde(default)]
    rates: BTreeMap<String, String>,
}

impl TryFrom<BaseCurrencyText> for BaseCurrency {
    type Error = String;

    fn try_from(text: BaseCurrencyText) -> Result<BaseCurrency, String> {
        let currency = |code: &str| {
            Currency::from_alpha(code)
                .ok_or_else(|| format!("`{code}` is no currency of ISO 4217, such as EUR, with a minor unit"))
        };
        let rates = text.rates.iter().map(|(code, rate)| {
            let rate = base::BaseCurrency::parse_rate(rate).map_err(|error| format!("{code}: {error}"))?;
            Ok((currency(code)?, rate))
        });
        let rates = rates.collect::<Result<_, String>>()?;
        let code = text.code.as_deref().map(currency).transpose()?;
        let code = code.unwrap_or(BaseCurrency::default().0.currency);
        base::BaseCurrency::new(code, rates).map(BaseCurrency)
    }
}

/// How long holds live: rows tried in order, the first that fits decides, the last fits everything.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(try_from = "Vec<HoldRow>")]
pub struct HoldLifetimes(Vec<HoldRow>);

/// One row: it fits where everything that it names does.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(try_from = "HoldRowText")]
pub struct HoldRow {
    pub kind: Option<Kind>,
    pub channel: Option<Channel>,
    pub initiation: Option<Initiation>,
    /// Merchant category codes, as inclusive ranges; empty fits every merchant.
    pub mcc: Vec<(u16, u16)>,
    /// 1 to 31.
    pub days: u8,
}

/// A row as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldRowText {
    kind: Option<String>,
    channel: Option<String>,
    initiation: Option<String>,
    #[serde(default)]
    mcc: Vec<String>,
    days: i64,
}

impl TryFrom<HoldRowText> for HoldRow {
    type Error = String;

    fn try_from(row: HoldRowText) -> Result<HoldRow, String> {
        fn named<T>(
            what: &str,
            text: Option<String>,
            from_name: fn(&str) -> Option<T>,
            names: Vec<&str>,
        ) -> Result<Option<T>, String> {
            let Some(text) = text else { return Ok(None) };
            match from_name(&text) {
                Some(value) => Ok(Some(value)),
                None => Err(format!("`{text}` is no {what}; it is one of {}", names.join(", "))),
            }
        }
        let days_max = HOLD_LIFE_MAX_MS / DAY_MS;
        let days = u8::try_from(row.days).ok().filter(|days| (1..=days_max).contains(&i64::from(*days)));
        Ok(HoldRow {
            kind: named("kind", row.kind, Kind::from_name, Kind::ALL.iter().map(|v| v.name()).collect())?,
            channel: named(
                "channel",
                row.channel,
                Channel::from_name,
                Channel::ALL.iter().map(|v| v.name()).collect(),
            )?,
            initiation: named(
                "initiation",
                row.initiation,
                Initiation::from_name,
                Initiation::ALL.iter().map(|v| v.name()).collect(),
            )?,
            mcc: row.mcc.iter().map(|text| mcc_range(text)).collect::<Result<_, _>>()?,
            days: days.ok_or_else(|| format!("a hold lives 1 to {days_max} days, not {}", row.days))?,
        })
    }
}

/// Reads `4411` or `3501-3999`.
fn mcc_range(text: &str) -> Result<(u16, u16), String> {
    let code = |text: &str| {
        let four = text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit());
        four.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (code(from), code(to)) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        _ => Err(format!("`{text}` is neither a merchant category code such as 4411 nor a range of them")),
    }
}

impl TryFrom<Vec<HoldRow>> for HoldLifetimes {
    type Error = String;

    fn try_from(rows: Vec<HoldRow>) -> Result<HoldLifetimes, String> {
        match rows.last() {
            Some(last) if last.names_nothing() => Ok(HoldLifetimes(rows)),
            _ => Err("the last row of [[holds]] must fit everything: give it `days` alone".to_owned()),
        }
    }
}

impl HoldRow {
    fn names_nothing(&self) -> bool {
        self.kind.is_none() && self.channel.is_none() && self.initiation.is_none() && self.mcc.is_empty()
    }

    fn fits(
        &self,
        kind: Kind,
        channel: Option<Channel>,
        initiation: Option<Initiation>,
        mcc: Option<u16>,
    ) -> bool {
        let of_mcc = |mcc: u16| self.mcc.iter().any(|(from, to)| (*from..=*to).contains(&mcc));
        self.kind.is_none_or(|wanted| wanted == kind)
            && self.channel.is_none_or(|wanted| Some(wanted) == channel)
            && self.initiation.is_none_or(|wanted| Some(wanted) == initiation)
            && (self.mcc.is_empty() || mcc.is_some_and(of_mcc))
    }
}

impl HoldLifetimes {
    /// How long the hold of such a request lives, in milliseconds. Allocates nothing.
    pub fn life_ms(
        &self,
        kind: Kind,
        channel: Option<Channel>,
        initiation: Option<Initiation>,
        mcc: Option<u16>,
    ) -> i64 {
        let row = self.0.iter().find(|row| row.fits(kind, channel, initiation, mcc));
        i64::from(row.expect("the last row fits everything").days) * DAY_MS
    }
}

impl Default for HoldLifetimes {
    fn default() -> HoldLifetimes {
        let any = HoldRow { kind: None, channel: None, initiation: None, mcc: Vec::new(), days: 5 };
        HoldLifetimes(vec![
            HoldRow { kind: Some(Kind::PreAuthorisation), days: 30, ..any.clone() },
            HoldRow {
                mcc: vec![(3351, 3441), (3501, 3999), (4411, 4411), (7011, 7011), (7512, 7513), (7519, 7519)],
                days: 30,
                ..any.clone()
            },
            HoldRow { initiation: Some(Initiation::Merchant), ..any.clone() },
            HoldRow { initiation: Some(Initiation::Recurring), ..any.clone() },
            HoldRow { channel: Some(Channel::Ecommerce), days: 10, ..any.clone() },
            any,
        ])
    }
}

fn within<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(from: D) -> Result<u64, D::Error> {
    let number = i64::deserialize(from)?;
    match u64::try_from(number) {
        Ok(number) if (MIN..=MAX).contains(&number) => Ok(number),
        _ => Err(D::Error::custom(format!("{number} is not between {MIN} and {MAX}"))),
    }
}

fn power_of_two<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = within::<D, 2, 1_048_576>(from)?;
    match number.is_power_of_two() {
        true => Ok(number),
        false => Err(D::Error::custom(format!("{number} is no power of two"))),
    }
}

/// A configuration that was refused, with the place in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    /// The line of the file.
    pub source: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError { file, line, column, message, source } = self;
        write!(f, "{file}:{line}:{column}: {message}")?;
        let margin = " ".repeat(line.to_string().len());
        let indent = " ".repeat(column - 1);
        write!(f, "\n {margin} |\n {line} | {source}\n {margin} | {indent}^")
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the text of a file; `file` is its name for errors. What it does not set keeps its default.
    ///
    /// # Errors
    /// At the first key or value that cannot be taken.
    pub fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
        let wrong = |offset: usize, message: &str| {
            let before = &text[..text.floor_char_boundary(offset.min(text.len()))];
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            ConfigError {
                file: file.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message: message.to_owned(),
                source: text[line_start..].lines().next().unwrap_or_default().to_owned(),
            }
        };
        let config: Config = toml::from_str(text)
            .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message()))?;
        let Journal { stall_ms, hang_ms, .. } = config.journal;
        if hang_ms <= stall_ms {
            let named = text.find("hang_ms").or(text.find("stall_ms")).unwrap_or_default();
            return Err(wrong(named, "`hang_ms` must be above `stall_ms`: a disk stalls before it hangs"));
        }
        Ok(config)
    }

    /// The settings that change decisions, and no others, as a configuration file: kept under its hash, so that a
    /// decision can be made again under the settings it was made with.
    pub fn decision_text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let base = &self.base_currency.0;
        // Writing to a text does not fail.
        let _ = writeln!(text, "[base_currency]\ncode = \"{}\"\n\n[base_currency.rates]", base.currency);
        for (currency, rate) in base.rates() {
            let _ = writeln!(text, "{currency} = \"{rate}\"");
        }
        // Which keys had to go reads unknown, and that decides.
        let _ = writeln!(text, "\n[windows]\nshared_bytes = {}", self.windows.shared_bytes);
        for HoldRow { kind, channel, initiation, mcc, days } in &self.holds.0 {
            text.push_str("\n[[holds]]\n");
            let names = [
                ("kind", kind.map(Kind::name)),
                ("channel", channel.map(Channel::name)),
                ("initiation", initiation.map(Initiation::name)),
            ];
            for (key, name) in names {
                let _ = name.map(|name| writeln!(text, "{key} = \"{name}\""));
            }
            if !mcc.is_empty() {
                let ranges =
                    mcc.iter().map(|(from, to)| format!("\"{from:04}-{to:04}\"")).collect::<Vec<_>>();
                let _ = writeln!(text, "mcc = [{}]", ranges.join(", "));
            }
            let _ = writeln!(text, "days = {days}");
        }
        // Told only where it is so, so that the settings of all others keep their version.
        if self.accounts.assumed_limits {
            text.push_str("\n[accounts]\nassumed_limits = true\n");
        }
        self.model.write_control(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_alone_are_those_of_the_default_base_currency() {
        let config = Config::parse("c.toml", "[base_currency]\nrates = { EUR = \"1.10\" }\n").unwrap();
        let (base, default) = (&config.base_currency.0, &BaseCurrency::default().0);
        assert_eq!((base.currency, base.rates().count()), (default.currency, 1));
    }

    #[test]
    fn the_commented_file_is_the_default() {
        assert_eq!(Config::parse("config.toml", DEFAULT_FILE), Ok(Config::default()));
        assert_eq!(Config::parse("empty.toml", ""), Ok(Config::default()));
    }

    #[test]
    fn what_a_file_does_not_set_keeps_its_default() {
        let config = Config::parse("f", "[overload]\nshed_after_ms = 5\n").unwrap();
        assert_eq!(config.overload, Overload { shed_after_ms: 5, ..Overload::default() });
        assert_eq!(Config { overload: Overload::default(), ..config }, Config::default());
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        for (text, line, column, words) in [
            ("[listen]\ngrcp = \"127.0.0.1:1\"\n", 2, 1, "unknown field `grcp`"),
            ("[lissten]\n", 1, 2, "unknown field `lissten`"),
            ("[overload]\nshed_after_ms = 0\n", 2, 17, "0 is not between 1 and 60000"),
            ("[overload]\nshed_after_ms = \"soon\"\n", 2, 17, "invalid type: string"),
            ("[accounts]\nshards = 1000\n", 2, 10, "1000 is no power of two"),
            ("[snapshots]\nbytes_per_s = 5\n", 2, 15, "5 is not between 1048576 and"),
            ("[journal]\nhang_ms = 1_000\n", 2, 1, "`hang_ms` must be above `stall_ms`"),
            ("[journal]\nstall_ms = 20_000\n", 2, 1, "`hang_ms` must be above `stall_ms`"),
            ("[log]\nlevel = \"loud\"\n", 2, 9, "unknown variant `loud`"),
            ("[log]\nlevel = \n", 2, 9, ""),
            ("[base_currency]\ncode = \"usd\"\n", 1, 1, "`usd` is no currency of ISO 4217"),
            ("[base_currency]\ncode = \"USD\"\nrates = { EUR = \"1,08\" }\n", 1, 1, "EUR: `1,08` is no rate"),
            ("[windows]\nshared_bytes = 1000\n", 2, 16, "1000 is not between 1048576"),
        ] {
            let error = Config::parse("f.toml", text).unwrap_err();
            assert!(error.message.contains(words), "{text}: {error}");
            assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        }
        for (text, words) in [
            ("[[holds]]\nchannel = \"ECOMMERCE\"\ndays = 5\n", "must fit everything"),
            ("[[holds]]\ndays = 32\n", "1 to 31 days, not 32"),
            ("[[holds]]\ndays = 0\n", "1 to 31 days, not 0"),
            ("[[holds]]\nkind = \"LOAN\"\ndays = 1\n", "it is one of PURCHASE"),
            ("[[holds]]\nmcc = [\"41\"]\ndays = 1\n", "`41` is neither"),
            ("[[holds]]\nmcc = [\"4411-4410\"]\ndays = 1\n", "`4411-4410` is neither"),
            ("holds = []\n", "must fit everything"),
        ] {
            let error = Config::parse("f.toml", text).unwrap_err();
            assert!(error.message.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn an_error_shows_the_line_and_points_at_it() {
        let error =
            Config::parse("saker.toml", "data = \"d\"\n[overload]\nshed_after_ms = -1\n").unwrap_err();
        let expected = "saker.toml:3:17: -1 is not between 1 and 60000\n   |\n 3 | shed_after_ms = -1\n   |                 ^";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_life_of_a_hold_follows_kind_merchant_initiation_and_channel_in_that_order() {
        let holds = HoldLifetimes::default();
        let days = |kind, channel, initiation, mcc| holds.life_ms(kind, channel, initiation, mcc) / DAY_MS;
        let (shop, hotel) = (Some(5411), Some(3502));
        let online = Some(Channel::Ecommerce);
        assert_eq!(days(Kind::Purchase, online, None, shop), 10);
        assert_eq!(days(Kind::Purchase, Some(Channel::CardPresent), None, shop), 5);
        assert_eq!(days(Kind::Purchase, None, None, None), 5);
        assert_eq!(days(Kind::Purchase, online, Some(Initiation::Merchant), shop), 5);
        assert_eq!(days(Kind::Purchase, online, Some(Initiation::Cardholder), shop), 10);
        assert_eq!(days(Kind::Purchase, online, Some(Initiation::Merchant), hotel), 30);
        assert_eq!(days(Kind::PreAuthorisation, Some(Channel::CardPresent), None, shop), 30);
        assert_eq!(days(Kind::Purchase, online, None, Some(4000)), 10);
    }

    #[test]
    fn the_hash_changes_with_what_changes_decisions_and_with_nothing_else() {
        let default = Config::default().decision_text();
        let read = Config::parse("kept", &default).unwrap();
        assert_eq!((read.holds, read.decide), (HoldLifetimes::default(), Decide::default()));
        let hash = |text| Config::parse("f", text).unwrap().decision_text();
        assert_eq!(
            hash("data = \"elsewhere\"\n[overload]\nshed_after_ms = 9\n[log]\nlevel = \"debug\"\n"),
            default
        );
        assert_ne!(hash("[[holds]]\ndays = 7\n"), default);
        assert_ne!(hash("[windows]\nshared_bytes = 2000000\n"), default, "what has to go reads unknown");
        assert_ne!(
            hash("[[holds]]\nmcc = [\"4411\"]\ndays = 7\n[[holds]]\ndays = 7\n"),
            hash("[[holds]]\ndays = 7\n")
        );
        let assumed = hash("[accounts]\nassumed_limits = true\n");
        assert_ne!(assumed, default, "the use of credit is unknown then, and models read it");
        assert_eq!(hash(&assumed), assumed);
        assert_eq!(hash("[accounts]\nshards = 2\nassumed_limits = false\n"), default);
        assert_eq!(hash("[model]\nchallenger = \"next.json\"\n"), default, "it decides nothing");
        let euros = "[base_currency]\ncode = \"EUR\"\nrates = { USD = \"0.92\", JPY = \"0.0062\" }\n";
        assert_ne!(hash(euros), default);
        assert_eq!(hash(&hash(euros)), hash(euros));
    }
}

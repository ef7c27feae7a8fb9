//! A data directory of every version of the formats, and what it holds: whatever was written once can be opened for
//! ever. `tests/formats/v1` has a journal, a snapshot in the middle of it, and the versions that decided.
//!
//! `SAKER_WRITE_FORMAT=1 cargo test --locked --test formats` writes the present version's anew: allowed only until that
//! version has been released.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, ensure};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use saker::{
    config::Config,
    engine::{Arrival, Client, DecisionKey, Engine, Lane, Recovered, Settings, Source, TimeSource, replay},
    observe::Metrics,
    types::{
        account::{AccountChange, CardChange, Day},
        auth::{AuthRequest, Country, Merchant, Place, Subject},
        codes::{AccountStatus, Channel, Kind},
        ids::{AccountId, CardToken, Id, RequestKey},
        lists::{FraudLabel, Labelling, ListEntry, ListOutcome, ListUpdate},
        money::{Currency, Money},
        outcome::{Maintenance, Outcome, Reversal},
        time::{HOUR_MS, Timestamp},
    },
};

const FORMATS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats");
const PRESENT: &str = "v1";
const EXPECTED: &str = "expected.txt";

const ACCOUNTS: usize = 6;
const REQUESTS: usize = 160;
const START_MS: i64 = 1_760_000_000_000;

/// Makes hits, sums and declines; not the shipped rules, which may change while this directory may not.
const RULES: &str = r#"
version = 1
[aggregates.card_attempts_1h]
by = "card"
window = "1h"
count = true
[aggregates.spent_24h]
by = "account"
window = "24h"
sum = "amount"
where = "outcome == 'approved'"
[[rules]]
id = "velocity"
when = "card_attempts_1h >= 6"
then = "decline"
response_code = "65"
reason = "VELOCITY_COUNT"
[[rules]]
id = "watched"
when = "spent_24h >= 100.00"
then = "flag"
mode = "shadow"
reason = "SPENT"
[lists.watched]
values = ["M-file"]
[[label_policies]]
label = "fraud"
list = "watched"
add = "merchant.id"
[[rules]]
id = "listed"
when = "merchant.id in lists.watched"
then = "flag"
reason = "LISTED"
"#;

#[tokio::test]
async fn a_directory_of_every_format_opens_and_holds_what_it_held() -> anyhow::Result<()> {
    if std::env::var_os("SAKER_WRITE_FORMAT").is_some() {
        write_present().await?;
    }
    let mut versions = 0;
    for version in fs::read_dir(FORMATS)? {
        let version = version?.path();
        let expected = fs::read_to_string(version.join(EXPECTED))?;
        let said = || version.display().to_string();
        let whole = unpacked(&version)?;
        let (found, recovered) = told(whole.path()).await.with_context(said)?;
        ensure!(recovered.snapshot.is_some(), "{}: {:?}", said(), recovered.passed_over);
        ensure!(found == expected, "{}, from its snapshot:\n{found}", said());

        let without = unpacked(&version)?;
        fs::remove_dir_all(without.path().join("snapshots"))?;
        let (found, recovered) = told(without.path()).await.with_context(said)?;
        ensure!(recovered.snapshot.is_none() && recovered.records > REQUESTS as u64);
        ensure!(found == expected, "{}, from its journal:\n{found}", said());

        let untouched = unpacked(&version)?;
        let verified = replay::verify(untouched.path(), &mut |_| {}).with_context(said)?;
        ensure!(verified.different == 0, "{}: {:?}", said(), verified.differences);
        versions += 1;
    }
    ensure!(versions > 0, "{FORMATS} holds no version");
    Ok(())
}

/// What a directory says of every account and every request, as text.
async fn told(dir: &Path) -> anyhow::Result<(String, Recovered)> {
    let (engine, recovered) = Engine::open(settings(dir))?;
    let arrival = arrival(&engine);
    let mut text = String::new();
    for number in 0..ACCOUNTS {
        let account = AccountId::new(&format!("A{number}"))?;
        let view = engine.account(account, &arrival.lane).await.map_err(anyhow::Error::msg)?;
        text += &format!(
            "A{number} limit {} posted {} held {} available {} {} cards {} last {}\n",
            view.credit_limit_minor,
            view.posted_minor,
            view.held_minor,
            view.available_minor,
            view.status.name(),
            view.cards.len(),
            view.last_position,
        );
    }
    for number in 0..REQUESTS {
        let answered = engine.authorise(request(number), &arrival).await;
        let answered = match answered {
            Ok(answered) => answered,
            Err(fault) => anyhow::bail!("t{number}: {fault}"),
        };
        ensure!(answered.replayed, "t{number} is not remembered");
        let answer = answered.answer;
        let minor = |money: Option<Money>| money.map_or("-".to_owned(), |money| money.minor.to_string());
        let reasons = answer.reasons.iter().map(|reason| &*reason.code).collect::<Vec<_>>().join(",");
        text += &format!(
            "t{number} {} {} approved {} available {} position {} at {} until {} {reasons}\n",
            answer.decision.name(),
            answer.response_code,
            minor(answer.approved),
            minor(answer.available),
            answer.position,
            answer.decided_at.0,
            answer.hold_expires_at.map_or(0, |time| time.0),
        );
    }
    for number in (0..REQUESTS).step_by(20) {
        let outcome = engine.reverse(reversal(number), &arrival).await.map_err(anyhow::Error::msg)?;
        ensure!(outcome.replayed, "r{number} is not remembered");
        let outcome = outcome.answer;
        let moved = outcome.moved.map_or(0, |money| money.minor);
        text += &format!("r{number} {} moved {moved} position {}\n", outcome.response_code, outcome.position);
    }
    let page = engine.list("watched".into(), String::new(), 100, &arrival.lane).await;
    for found in page.map_err(anyhow::Error::msg)?.entries {
        text += &format!("watched {:?} in the file {}\n", found.entry, found.in_file);
    }
    for name in ["before", "after"] {
        let (listed, labelled) = list(&engine, &arrival, name).await?;
        text += &format!("list-{name} {} values position {}\n", listed.values, listed.position);
        text += &format!("label-{name} {} position {}\n", labelled.response_code, labelled.position);
    }
    let by_key = DecisionKey::Key(RequestKey::new("t3")?);
    let decision = engine.decision(Client::ANONYMOUS, by_key, &arrival.lane).await;
    let decision = decision.map_err(anyhow::Error::msg)?;
    let kinds: Vec<&str> = decision.labels.iter().map(|label| &*label.labelling.kind).collect();
    text += &format!("t3 saw lists {} and is labelled {}\n", decision.lists, kinds.join(","));
    engine.close().map_err(anyhow::Error::msg)?;
    Ok((text, recovered))
}

async fn write_present() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (engine, _) = Engine::open(settings(dir.path()))?;
    let arrival = arrival(&engine);
    for number in 0..ACCOUNTS {
        engine.maintain(opening(number), &arrival).await.map_err(anyhow::Error::msg)?;
    }
    for number in 0..REQUESTS {
        engine.authorise(request(number), &arrival).await.map_err(anyhow::Error::msg)?;
        if number % 20 == 0 {
            engine.reverse(reversal(number), &arrival).await.map_err(anyhow::Error::msg)?;
        }
        if number == REQUESTS / 2 {
            let key = RequestKey::new("block")?;
            let account = AccountId::new("A5")?;
            let change = Maintenance::SetAccountStatus { key, account, status: AccountStatus::Blocked };
            engine.maintain(change, &arrival).await.map_err(anyhow::Error::msg)?;
            list(&engine, &arrival, "before").await?;
            engine.snapshot_now()?;
        }
        if number == REQUESTS * 3 / 4 {
            list(&engine, &arrival, "after").await?;
        }
    }
    engine.close().map_err(anyhow::Error::msg)?;
    drop(engine);

    let place = Path::new(FORMATS).join(PRESENT);
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    for file in files(dir.path(), dir.path())? {
        // Neither belongs to what is kept: the next segment, and who has the directory.
        if file.extension().is_some_and(|end| end == "prepared") || file.ends_with("lock") {
            continue;
        }
        let packed = place.join(format!("{}.gz", file.display()));
        fs::create_dir_all(packed.parent().context("a file has a folder")?)?;
        let mut encoder = GzEncoder::new(fs::File::create(packed)?, Compression::best());
        encoder.write_all(&fs::read(dir.path().join(file))?)?;
        encoder.finish()?;
    }
    let (text, _) = told(dir.path()).await?;
    fs::write(place.join(EXPECTED), text)?;
    Ok(())
}

/// Lets a call, and a label, change the list; or repeats them.
async fn list(engine: &Arc<Engine>, arrival: &Arrival, name: &str) -> anyhow::Result<(ListOutcome, Outcome)> {
    let entry = |value: String, expires_at| ListEntry {
        value: value.into(),
        expires_at,
        source: format!("written {name} the snapshot").into(),
    };
    let update = ListUpdate {
        key: RequestKey::new(&format!("list-{name}"))?,
        list: "watched".into(),
        add: vec![
            entry(format!("M-{name}"), None),
            entry(format!("M-{name}-for-long"), Some(Timestamp(i64::from(u32::MAX) * 1_000))),
            entry(format!("M-{name}-ended"), Some(Timestamp(START_MS))),
        ],
        remove: vec!["M-file".into()],
    };
    let listed = engine.update_list(update, false, arrival).await.map_err(anyhow::Error::msg)?;
    let labelling = Labelling {
        key: RequestKey::new(&format!("label-{name}"))?,
        transaction: RequestKey::new("t3")?,
        label: FraudLabel::Fraud,
        kind: name.into(),
        source: "desk".into(),
        occurred_at: Some(Timestamp(START_MS)),
    };
    let labelled = engine.label(labelling, arrival).await.map_err(anyhow::Error::msg)?;
    Ok((listed.answer, labelled.answer))
}

fn unpacked(version: &Path) -> anyhow::Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    for file in files(version, version)?.iter().filter(|file| file.extension().is_some_and(|end| end == "gz"))
    {
        let target = dir.path().join(file.with_extension(""));
        fs::create_dir_all(target.parent().context("a file has a folder")?)?;
        let mut bytes = Vec::new();
        GzDecoder::new(fs::File::open(version.join(file))?).read_to_end(&mut bytes)?;
        fs::write(target, bytes)?;
    }
    Ok(dir)
}

/// All files below `dir`, named from `top`.
fn files(top: &Path, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(top, &path)?),
            false => found.push(path.strip_prefix(top)?.to_owned()),
        }
    }
    Ok(found)
}

fn settings(dir: &Path) -> Settings {
    let mut config = Config::default();
    config.journal.segment_bytes = 1024 * 1024;
    config.accounts.shards = 16;
    Settings {
        data_dir: dir.to_owned(),
        rules: Source { name: "rules.toml".into(), text: RULES.into() },
        model: None,
        challenger: None,
        config,
        time: TimeSource::Transactions,
        metrics: Metrics::new(1),
    }
}

fn arrival(engine: &Arc<Engine>) -> Arrival {
    let lane: Arc<Lane> = engine.lane();
    tokio::spawn(lane.clone().run());
    Arrival { client: Client::ANONYMOUS, deadline: None, lane }
}

fn opening(number: usize) -> Maintenance {
    let cards = (0..=number % 2).map(|card| CardChange {
        token: CardToken::new(&format!("C{number}-{card}")).expect("a token"),
        status: None,
        expires_on: (card == 1).then_some(Day(30_000)),
    });
    let change = AccountChange {
        account: AccountId::new(&format!("A{number}")).expect("an id"),
        currency: Currency::from_alpha("EUR"),
        credit_limit_minor: Some(60_000),
        posted_minor: Some(1_000 * number as i64),
        status: None,
        product: Id::new("gold").ok().filter(|_| number.is_multiple_of(3)),
        home_country: Country::new("DE"),
        home: Place::new(52.5, 13.4),
        opened_on: Some(Day(19_000)),
        cards: cards.collect(),
    };
    Maintenance::Upsert { key: RequestKey::new(&format!("open-{number}")).expect("a key"), change }
}

/// Purchases over a day, some in one message, some increments, some of nobody's card.
fn request(number: usize) -> AuthRequest {
    let account = number * 5 % (ACCOUNTS + 1);
    let key = RequestKey::new(&format!("t{number}")).expect("a key");
    let card = CardToken::new(&format!("C{account}-0")).expect("a token");
    let is_increment = number % 13 == 12;
    let kind = if is_increment { Kind::Incremental } else { Kind::Purchase };
    let original = is_increment.then(|| RequestKey::new(&format!("t{}", number - 7)).expect("a key"));
    AuthRequest {
        amount: Some(Money::new(500 + 37 * number as i64, Currency::from_alpha("EUR").expect("a currency"))),
        transaction_time: Some(Timestamp(START_MS + number as i64 * HOUR_MS / 20)),
        merchant: Merchant {
            merchant_id: Id::new(&format!("M{}", number % 9)).ok(),
            mcc: Some(5_411),
            country: Country::new("FR"),
            place: Place::new(48.8, 2.3),
            ..Merchant::default()
        },
        channel: Some(Channel::Ecommerce),
        single_message: number.is_multiple_of(5),
        original,
        ..AuthRequest::new(key, kind, Subject::Card(card))
    }
}

/// Every second one of a request that never came.
fn reversal(number: usize) -> Reversal {
    let original = if number.is_multiple_of(40) { format!("t{number}") } else { format!("never-{number}") };
    Reversal {
        key: RequestKey::new(&format!("r{number}")).expect("a key"),
        original: RequestKey::new(&original).expect("a key"),
        replacement: None,
    }
}

//! Answers remembered in memory and on disk: bytes and time for each. `cargo bench --bench keys` takes ten million
//! keys, of which nine on disk in files of half a million; as root also with the page cache dropped. Under
//! `cargo test` it runs small, and what it checks it checks all the same.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use saker::{
    authorise::answers::{Answers, Claimed, KeyHash, NO_ACCOUNT, OnFile, Remembered, What},
    journal::{
        self, ClosedSegment, FileStorage, Filter, FilterGroup, Filters, KeyEntry, KeyFile, KeySpan,
        SIEVE_SEGMENTS, Sieve, filter_hash,
    },
    observe::process::Usage,
};

/// That of the program, whose memory this is about.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let is_full = std::env::args().any(|arg| arg == "--bench");
    let (per_file, files, in_memory) = if is_full { (500_000, 18, 1_000_000) } else { (2_000, 18, 4_000) };
    two_tiers(per_file, files, in_memory);
    for files in [18, 150] {
        strangers(per_file, files);
    }
}

fn resident_mib() -> f64 {
    Usage::read().map_or(f64::NAN, |usage| usage.resident_bytes as f64 / 1024.0 / 1024.0)
}

fn each(took: Duration, count: usize) -> String {
    let ns = took.as_nanos() as f64 / count as f64;
    if ns < 1_000.0 { format!("{ns:.0} ns") } else { format!("{:.1} us", ns / 1e3) }
}

fn group(files: &[KeyFile], with_sieves: bool) -> Filters {
    let of = |file: &KeyFile| file.span().segment / SIEVE_SEGMENTS;
    let groups = files.chunk_by(|a, b| of(a) == of(b)).map(|files| {
        let sieve = (with_sieves && files.len() as u64 == SIEVE_SEGMENTS).then(|| {
            let mut sieve = Sieve::new(files.iter().map(KeyFile::entries).sum());
            for file in files {
                file.for_each(&mut |entry| sieve.insert(filter_hash(entry.key))).expect("the file is whole");
            }
            Arc::new(sieve)
        });
        FilterGroup { sieve, filters: files.iter().map(|file| Arc::clone(file.filter())).collect() }
    });
    Filters(groups.collect())
}

fn two_tiers(per_file: u64, files: u64, in_memory: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let dir = tempfile::tempdir().expect("a directory");
    let storage = |name: &str| Arc::new(FileStorage::new(dir.path().join(name)).expect("a directory"));
    let directory = journal::take(storage("journal")).expect("a new journal");
    let key_files = directory.key_files(storage("keys"));
    let total = files * per_file + in_memory;
    let answers = Answers::new(2 * total as usize, (1, 2));
    let empty_mib = resident_mib();
    let keys: Vec<KeyHash> = (0..total).map(|_| KeyHash::from_bits(rng.random())).collect();
    let keys_mib = resident_mib() - empty_mib;
    let begun = Instant::now();
    for (position, key) in (1..).zip(&keys) {
        answers.remember(*key, Remembered { what: What::Authorisation, position, account: NO_ACCOUNT });
    }
    let all_mib = resident_mib() - keys_mib - empty_mib;
    println!(
        "{total} answers in memory: {all_mib:.0} MiB, {:.1} bytes each, {} to remember one",
        all_mib * 1024.0 * 1024.0 / total as f64,
        each(begun.elapsed(), total as usize)
    );

    let begun = Instant::now();
    let mut open = Vec::new();
    for file in 0..files {
        let first = file * per_file;
        let mut entries: Vec<KeyEntry> = (first..first + per_file)
            .map(|at| KeyEntry {
                key: keys[at as usize].bits(),
                position: at + 1,
                kind: What::Authorisation as u16,
            })
            .collect();
        let closed =
            ClosedSegment { first_sequence: first + 1, last_sequence: first + per_file, chain: [0; 32] };
        let span = KeySpan { segment: file, closed, first_time_ms: 0, last_time_ms: 0 };
        open.push(key_files.write(span, &mut entries).expect("it is written"));
    }
    println!("a key file of {per_file} keys is written in {}", each(begun.elapsed(), files as usize));
    let begun = Instant::now();
    answers.set_older(group(&open, true));
    println!("sieves from the files: {:.2} s", begun.elapsed().as_secs_f64());

    let begun = Instant::now();
    for file in &open {
        let mut on_file = Vec::with_capacity(per_file as usize);
        file.for_each(&mut |entry| {
            let key = KeyHash::from_bits(entry.key);
            on_file.push(OnFile { key, what: What::Authorisation, position: entry.position });
        })
        .expect("the file is whole");
        assert!(answers.demote(&on_file, |_| false).is_empty());
    }
    assert_eq!(answers.len() as u64, in_memory);
    let took = begun.elapsed();
    println!(
        "{} of them out of memory: {:.2} s, {} each; resident then {:.0} MiB, of which filters {:.1} MiB",
        files * per_file,
        took.as_secs_f64(),
        each(took, (files * per_file) as usize),
        resident_mib() - keys_mib - empty_mib,
        answers.older().bytes() as f64 / 1024.0 / 1024.0
    );

    let of_memory = &keys[(files * per_file) as usize..];
    let looked: Vec<KeyHash> =
        (0..100_000).map(|_| of_memory[rng.random_range(0..of_memory.len())]).collect();
    let begun = Instant::now();
    assert!(looked.iter().all(|key| matches!(answers.claim(*key), Claimed::Known(_))));
    println!("a look-up in memory: {}", each(begun.elapsed(), looked.len()));

    let old = |rng: &mut ChaCha8Rng, count: usize| -> Vec<usize> {
        (0..count).map(|_| rng.random_range(0..(files * per_file) as usize)).collect()
    };
    // As the engine does it: the newest file first, those whose filter says maybe.
    let find = |at: usize| {
        let key = keys[at].bits();
        let found = open.iter().rev().filter(|file| file.filter().may_have(filter_hash(key)));
        found.map(|file| file.find(key).expect("the file is whole")).find_map(|found| found)
    };
    let timed = |what: &str, places: &[usize]| {
        let begun = Instant::now();
        for at in places {
            assert_eq!(find(*at).map(|entry| entry.position), Some(*at as u64 + 1));
        }
        println!("a look-up on disk, {what}: {}", each(begun.elapsed(), places.len()));
    };
    timed("from the page cache", &old(&mut rng, 20_000));
    if fs::write("/proc/sys/vm/drop_caches", "3").is_ok() {
        timed("after the page cache was dropped", &old(&mut rng, 500));
        let _ = fs::write("/proc/sys/vm/drop_caches", "3");
    }
    let begun = Instant::now();
    let again: Vec<KeyFile> = (0..files).map(|file| key_files.open(file).expect("it is whole")).collect();
    println!("{files} files opened at start: {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    assert_eq!(again.iter().map(KeyFile::entries).sum::<u64>(), files * per_file);
}

/// What a key costs that no file has, which is every new one.
fn strangers(per_file: u64, files: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut groups = Vec::new();
    let mut left = files;
    while left > 0 {
        let count = left.min(SIEVE_SEGMENTS);
        let mut sieve = Sieve::new(count * per_file);
        let filters = (0..count).map(|_| {
            let mut hashes: Vec<u64> = (0..per_file).map(|_| rng.random()).collect();
            hashes.iter().for_each(|hash| sieve.insert(*hash));
            Arc::new(Filter::new(&mut hashes))
        });
        let filters = filters.collect();
        groups.push(FilterGroup { sieve: (count == SIEVE_SEGMENTS).then(|| Arc::new(sieve)), filters });
        left -= count;
    }
    let mut filters = Filters(groups);
    let asked: Vec<u64> = (0..200_000).map(|_| rng.random()).collect();
    for what in ["with sieves", "filters alone"] {
        let begun = Instant::now();
        let wrong = asked.iter().filter(|hash| filters.may_have(**hash)).count();
        println!(
            "a stranger, {files} files {what}: {}, {:.3} % said maybe, {:.2} bytes a key",
            each(begun.elapsed(), asked.len()),
            100.0 * wrong as f64 / asked.len() as f64,
            filters.bytes() as f64 / (files * per_file) as f64
        );
        assert!(wrong < asked.len() / 100);
        filters.0.iter_mut().for_each(|group| group.sieve = None);
    }
}

//! Aggregates that count by the amount, in a whole engine: what they have counted is the same over restarts from the log
//! and from a snapshot, and when it is decided again.

use super::*;
use crate::types::codes::Decision;

const LARGE: &str = r#"
version = 1
[aggregates.card_large_1h]
by = "card"
window = "1h"
count = true
where = "amount >= 50.00"
[aggregates.device_small_1h]
by = "device"
window = "1h"
count = true
where = "amount_base < 5.00 && amount_base > 0"
[[rules]]
id = "large"
when = "card_large_1h >= 2"
then = "decline"
reason = "LARGE"
[[rules]]
id = "small"
when = "device_small_1h >= 2"
then = "decline"
reason = "SMALL"
"#;

#[tokio::test]
async fn what_was_counted_by_its_amount_is_counted_so_after_a_restart() {
    for (restart, snapshot) in [(false, false), (true, false), (true, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = open_with(dir.path(), LARGE);
        for account in 1..=4 {
            bench.account(account, 1_000_000).await;
        }
        let tried = |number: usize, card, minor| {
            let mut wanted = request(&format!("t{number}"), card, minor, 1_000_000 + number as i64);
            wanted.device_id = Some(Id::new("D-1").unwrap());
            wanted
        };
        let wanted = [(1, 50_00), (1, 49_99), (2, 5_00), (2, 50_00), (1, 50_00), (3, 4_99)];
        for (number, (card, minor)) in wanted.into_iter().enumerate() {
            let answered = bench.authorise(tried(number, card, minor)).await;
            assert_eq!(answered.answer.decision, Decision::Approved, "{number}");
        }
        if restart {
            if snapshot {
                bench.engine.snapshot_now().unwrap();
            }
            bench.engine.close().unwrap();
            drop(bench);
            bench = open_with(dir.path(), LARGE);
        }
        let after = [(1, 6_00, "LARGE"), (2, 4_99, ""), (4, 6_00, "SMALL")];
        for (number, (card, minor, expected)) in after.into_iter().enumerate() {
            let answered = bench.authorise(tried(number + 10, card, minor)).await;
            let reason = answered.answer.reasons.first().map_or("", |reason| &reason.code);
            assert_eq!(reason, expected, "{restart} {snapshot} {number}");
        }
        bench.engine.close().unwrap();
        drop(bench);
        let verified = crate::engine::replay::verify(dir.path(), &mut |_| {}).unwrap();
        assert_eq!((verified.different, verified.counts["decided"]), (0, 9), "{:#?}", verified.differences);
    }
}

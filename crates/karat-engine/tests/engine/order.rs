//! Several builds: how many at a time, who waits for whom, what becomes of those that need a
//! failed one, cancellation.

use std::sync::Arc;

use karat_component::Outcome;

use super::bench::Bench;
use super::{note, one};

fn many(count: usize, takes: &str) -> String {
    let mut text = String::new();
    for n in 0..count {
        text += &format!("source \"thing\" \"s{n}\" {{ value = \"{n}\" }}\n");
    }
    let names: Vec<String> = (0..count).map(|n| format!("\"thing.s{n}\"")).collect();
    let note = note("n", &format!("takes = \"{takes}\""));
    text + &format!("build {{\nsources = [{}]\n{note}\n}}\n", names.join(", "))
}

/// The most provisioners that ran at a time.
fn most(log: &[String]) -> i32 {
    let mut now = 0;
    let steps = log.iter().map(|line| {
        now += i32::from(line.starts_with("note")) - i32::from(line.starts_with("slept"));
        now
    });
    steps.max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_builds_run_at_a_time_as_is_asked_for() {
    for (parallel, expected, takes) in [(1, 1, "1ms"), (2, 2, "500ms"), (0, 5, "3s")] {
        let mut bench = Bench::new();
        bench.options.parallel = parallel;
        let ran = bench.run(&many(5, takes)).await;
        assert_eq!(ran.outcomes(), [Outcome::Finished; 5]);
        assert_eq!(most(&ran.log), expected, "{:?}", ran.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_that_wait_for_a_slot_begin_in_the_templates_order() {
    for _ in 0..20 {
        let mut bench = Bench::new();
        bench.options.parallel = 1;
        let ran = bench.run(&many(12, "0s")).await;
        let made: Vec<_> = ran.log.iter().filter_map(|l| l.strip_prefix("make thing.s")).collect();
        assert_eq!(made, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]);
    }
}

const CHAIN: &str = r#"
    source "thing" "top" {
      value = "top"
      from  = artifact.middle.thing.mid.layer
    }
    source "thing" "mid" {
      value = "mid"
      from  = artifact.bottom.thing.low.layer
    }
    source "thing" "low" { value = "low" }
    source "thing" "other" { value = "other" }
    build {
      name    = "last"
      sources = ["thing.top"]
    }
    build {
      name    = "middle"
      sources = ["thing.mid"]
    }
    build {
      name    = "bottom"
      sources = ["thing.low"]
    }
    build {
      name    = "beside"
      sources = ["thing.other"]
    }
"#;

#[tokio::test]
async fn a_build_waits_for_those_whose_artifacts_it_uses() {
    let bench = Bench::new();
    let ran = bench.run(CHAIN).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished; 4], "{}", ran.errors());
    let place = |line: &str| ran.log.iter().position(|l| l == line).unwrap();
    assert!(place("finish bottom.thing.low") < place("make middle.thing.mid"));
    assert!(place("finish middle.thing.mid") < place("make last.thing.top"));
    let ids = ran.artifacts();
    assert!(ids.contains(&"layer of top on layer of mid on layer of low".to_owned()), "{ids:?}");
}

#[tokio::test]
async fn what_needs_a_failed_build_is_skipped_and_the_rest_goes_on() {
    let bench = Bench::new();
    let text = CHAIN.replace("value = \"low\" }", "\nvalue = \"low\"\nfail = \"make\"\n}");
    let ran = bench.run(&text).await;
    let expected = [Outcome::Skipped, Outcome::Skipped, Outcome::Errored, Outcome::Finished];
    assert_eq!(ran.outcomes(), expected);
    assert!(
        ran.errors().contains("it needs the artifact of bottom.thing.low, which was not built"),
        "{}",
        ran.errors()
    );
    assert!(!ran.log.iter().any(|l| l.contains("mid") || l.contains("top")), "{:?}", ran.log);
}

#[tokio::test]
async fn selecting_a_build_takes_what_it_needs_along() {
    let mut bench = Bench::new();
    bench.only = vec!["middle.*".into()];
    let ran = bench.run(CHAIN).await;
    let mut names: Vec<&str> = ran.summary.builds.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["bottom.thing.low", "middle.thing.mid"]);
}

#[tokio::test]
async fn a_build_that_makes_nothing_cannot_be_built_on() {
    let bench = Bench::new();
    let text = CHAIN.replace("value = \"low\" }", "\nvalue = \"low\"\nnil = true\n}");
    let ran = bench.run(&text).await;
    assert_eq!(ran.outcomes()[1..3], [Outcome::Skipped, Outcome::Finished]);
}

#[tokio::test]
async fn cancelling_undoes_what_runs_and_does_not_begin_the_rest() {
    let mut bench = Bench::new();
    bench.options.parallel = 1;
    let cancellation = bench.cancellation.clone();
    let log = Arc::clone(&bench.log);
    tokio::spawn(async move {
        log.reached("note").await;
        cancellation.request();
    });
    let ran = bench.run(&many(3, "60s")).await;
    assert_eq!(ran.outcomes(), [Outcome::Cancelled; 3]);
    assert!(ran.errors().contains("cancelled before it was started"), "{}", ran.errors());
    let count = |start: &str| ran.log.iter().filter(|l| l.starts_with(start)).count();
    assert_eq!(
        (count("make"), count("ended early"), count("undo make")),
        (1, 1, 1),
        "{:?}",
        ran.log
    );
    assert!(ran.summary.left.is_empty());
}

#[tokio::test]
async fn a_second_request_stops_waiting_and_says_what_is_left() {
    let mut bench = Bench::new();
    // The undoing fails, so that it is tried again and again, for seconds.
    bench.faults = karat_saga::Faults::parse("fail@make:undo-before").unwrap();
    let cancellation = bench.cancellation.clone();
    let log = Arc::clone(&bench.log);
    tokio::spawn(async move {
        log.reached("note").await;
        cancellation.request();
        log.reached("undo provision").await;
        cancellation.request();
    });
    let ran = bench.run(&one("", &note("n", "takes = \"60s\""))).await;
    assert_eq!(ran.outcomes(), [Outcome::Cancelled]);
    let left = ran.summary.left.last().unwrap();
    assert!(left.contains("step make"), "{:?}", ran.summary.left);
}

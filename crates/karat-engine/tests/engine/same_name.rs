//! Builds of one name: each is run, taken again and gone on with by itself.

use karat_component::{EventKind, OnError, Outcome};
use karat_engine::Verdict;

use super::bench::{Bench, Ran};
use super::note;

fn thrice(last: &str) -> String {
    format!(
        "source \"thing\" \"a\" {{\nvalue = \"v\"\n}}\n\
         build {{\nsources = [\"thing.a\", \"source.thing.a\"]\n{}\n}}\n\
         build {{\nsources = [\"thing.a\"]\n{}\n}}\n",
        note("first", ""),
        note("second", last)
    )
}

/// The places of builds whose provisioner ran, in order.
fn provisioned(ran: &Ran) -> Vec<usize> {
    let started =
        ran.events.iter().filter(|e| matches!(e.kind, EventKind::ComponentStarted { .. }));
    let mut places: Vec<usize> = started.filter_map(|e| e.place).collect();
    places.sort_unstable();
    places
}

#[tokio::test]
async fn all_of_them_are_built_under_their_one_name() {
    let bench = Bench::new();
    let ran = bench.run(&thrice("")).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished; 3], "{}", ran.errors());
    assert!(ran.summary.builds.iter().all(|(name, _)| name == "thing.a"));
    assert_eq!(provisioned(&ran), [0, 1, 2]);
    assert_eq!(ran.log.iter().filter(|l| *l == "note first").count(), 2);
    assert_eq!(ran.log.iter().filter(|l| *l == "note second").count(), 1);
    let mut states = bench.states(&ran.summary.run).await;
    states.sort();
    let expected = ["thing.a (2) Succeeded", "thing.a (3) Succeeded", "thing.a Succeeded"];
    assert_eq!(states, expected);
}

#[tokio::test]
async fn what_one_made_is_not_taken_for_what_another_made() {
    let bench = Bench::new();
    bench.run(&thrice("")).await;
    let again = bench.run(&thrice("")).await;
    assert_eq!(again.outcomes(), [Outcome::Reused; 3]);
    assert!(again.log.is_empty(), "{:?}", again.log);
    let changed = thrice("file = \"/etc/hostname\"");
    let verdicts: Vec<Verdict> =
        bench.plan(&changed).await.into_iter().map(|plan| plan.verdict).collect();
    let [Verdict::Reuse, Verdict::Reuse, Verdict::Changed { changes }] = verdicts.as_slice() else {
        panic!("{verdicts:?}");
    };
    assert!(changes.iter().any(|c| c.to_string().contains("provisioner 1")), "{changes:?}");
    let expected = [Outcome::Reused, Outcome::Reused, Outcome::Finished];
    assert_eq!(bench.run(&changed).await.outcomes(), expected);
}

#[tokio::test]
async fn one_that_failed_is_gone_on_with_alone() {
    let mut bench = Bench::new();
    bench.options.on_error = OnError::Abort;
    let text = thrice("fails = 1");
    let ran = bench.run(&text).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished, Outcome::Finished, Outcome::Errored]);
    let states = bench.states(&ran.summary.run).await;
    assert!(states.contains(&"thing.a (3) Aborted".to_owned()), "{states:?}");

    let again = bench.resume(&text, &ran.summary.run).await;
    let expected = [Outcome::Reused, Outcome::Reused, Outcome::Finished];
    assert_eq!(again.outcomes(), expected, "{}", again.errors());
    assert_eq!(provisioned(&again), [2]);
    assert!(!again.log.iter().any(|l| l == "make thing.a"), "{:?}", again.log);
}

#[tokio::test]
async fn a_pattern_means_all_of_them() {
    let mut bench = Bench::new();
    bench.only = vec!["thing.a".into()];
    assert_eq!(bench.run(&thrice("")).await.outcomes().len(), 3);
    bench.only = Vec::new();
    bench.except = vec!["*.a".into()];
    assert!(bench.run(&thrice("")).await.outcomes().is_empty());
}

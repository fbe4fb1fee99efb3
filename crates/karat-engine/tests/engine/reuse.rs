//! What did not change is not built again; what did is named.

use karat_component::Outcome;
use karat_engine::Verdict;

use super::bench::Bench;
use super::{note, one};

const LAYERS: &str = r#"
    variable "base" { default = "1" }
    variable "top" { default = "1" }
    source "thing" "base" {
      value = var.base
      layer = "the same whatever the value"
    }
    source "thing" "top" {
      value = var.top
      from  = artifact.base.thing.base.layer
    }
    build {
      name    = "base"
      sources = ["thing.base"]
    }
    build {
      name    = "top"
      sources = ["thing.top"]
    }
"#;

#[tokio::test]
async fn what_is_unchanged_is_taken_again() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(LAYERS).await.outcomes(), [Outcome::Finished; 2]);
    let again = bench.run(LAYERS).await;
    assert_eq!(again.outcomes(), [Outcome::Reused; 2]);
    assert!(again.log.is_empty(), "{:?}", again.log);
    assert!(again.artifacts().contains(&"layer of 1 on the same whatever the value".to_owned()));

    bench.options.force = true;
    assert_eq!(bench.run(LAYERS).await.outcomes(), [Outcome::Finished; 2]);
}

#[tokio::test]
async fn a_parent_that_comes_out_the_same_does_not_rebuild_its_child() {
    let mut bench = Bench::new();
    bench.run(LAYERS).await;
    bench.vars = vec!["base=2".into()];
    let ran = bench.run(LAYERS).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished, Outcome::Reused]);
    // A parent that is another one does.
    let text = LAYERS.replace("layer = \"the same whatever the value\"", "");
    let ran = bench.run(&text).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished; 2]);
}

#[tokio::test]
async fn a_plan_names_what_changed() {
    let mut bench = Bench::new();
    let plans = bench.plan(LAYERS).await;
    assert_eq!(plans[0].verdict, Verdict::First);
    bench.run(LAYERS).await;
    for plan in bench.plan(LAYERS).await {
        assert_eq!(plan.verdict, Verdict::Reuse, "{}", plan.target);
    }
    bench.vars = vec!["top=2".into()];
    let plans = bench.plan(LAYERS).await;
    assert_eq!(plans[0].verdict, Verdict::Reuse);
    let Verdict::Changed { changes } = &plans[1].verdict else { panic!("{:?}", plans[1].verdict) };
    let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert!(words.len() == 1 && words[0].contains("source: value"), "{words:?}");
    // Planning changes nothing.
    assert_eq!(bench.plan(LAYERS).await, plans);
    bench.vars = vec!["base=2".into()];
    let plans = bench.plan(LAYERS).await;
    assert!(matches!(&plans[1].verdict, Verdict::Open { .. }), "{:?}", plans[1].verdict);
}

#[tokio::test]
async fn a_file_that_a_provisioner_reads_counts_by_its_contents() {
    let bench = Bench::new();
    let file = bench.path("page.html");
    let text = one("", &note("n", &format!("file = \"{}\"", file.display())));
    assert_eq!(bench.validate(&text), ["File not found"]);
    std::fs::write(&file, "one").unwrap();
    assert!(bench.validate(&text).is_empty());
    assert_eq!(bench.run(&text).await.outcomes(), [Outcome::Finished]);
    assert_eq!(bench.run(&text).await.outcomes(), [Outcome::Reused]);
    std::fs::write(&file, "two").unwrap();
    let plans = bench.plan(&text).await;
    let words = format!("{:?}", plans[0].verdict);
    assert!(words.contains("page.html"), "{words}");
    assert_eq!(bench.run(&text).await.outcomes(), [Outcome::Finished]);
}

#[tokio::test]
async fn times_and_pauses_do_not_count_and_post_processors_run_alone() {
    let bench = Bench::new();
    bench.run(&one("", &note("n", ""))).await;
    let wrapped = note("n", "") + "post-processor \"wrap\" {\nmakes = \"x\"\nkeep = true\n}\n";
    let ran = bench.run(&one("", &wrapped)).await;
    assert_eq!(ran.outcomes(), [Outcome::Reused]);
    assert_eq!(ran.log, ["wrap layer of v as x"]);
    assert_eq!(ran.artifacts(), ["layer of v", "x"]);
    assert!(bench.run(&one("", &wrapped)).await.log.is_empty());
}

#[tokio::test]
async fn a_failed_build_is_built_again() {
    let bench = Bench::new();
    let text = one("", &note("n", "fails = 1"));
    assert_eq!(bench.run(&text).await.outcomes(), [Outcome::Errored]);
    assert_eq!(bench.run(&text).await.outcomes(), [Outcome::Finished]);
}

#[tokio::test]
async fn a_secret_that_changed_is_not_told_but_others_are() {
    let text =
        |secret: &str, value: &str| one(&format!("password = \"{secret}\""), &note(value, ""));
    let bench = Bench::new();
    bench.run(&text("one", "n")).await;
    assert_eq!(bench.run(&text("two", "n")).await.outcomes(), [Outcome::Reused]);
    assert_eq!(bench.run(&text("two", "m")).await.outcomes(), [Outcome::Finished]);
}

//! Chains of post-processors: what is kept, what is removed, what a failure stops.

use karat_component::Outcome;

use super::bench::{Bench, Ran};
use super::one;

fn wrap(options: &str) -> String {
    format!("post-processor \"wrap\" {{\n{options}\n}}\n")
}

fn chain(links: &[&str]) -> String {
    let links: String = links.iter().map(|options| wrap(options)).collect();
    format!("post-processors {{\n{links}}}\n")
}

async fn run(build: &str) -> (Ran, Vec<String>) {
    let bench = Bench::new();
    let ran = bench.run(&one("", build)).await;
    let destroyed =
        ran.log.iter().filter_map(|l| l.strip_prefix("destroy ").map(str::to_owned)).collect();
    (ran, destroyed)
}

#[tokio::test]
async fn each_chain_begins_with_the_artifact_of_the_builder() {
    let build = wrap("makes = \"x\"\nkeep = true")
        + &chain(&["makes = \"y\"\nkeep = true", "makes = \"z\"\nkeep = true"]);
    let (ran, destroyed) = run(&build).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished]);
    let wraps: Vec<&String> = ran.log.iter().filter(|l| l.starts_with("wrap")).collect();
    assert_eq!(wraps, ["wrap layer of v as x", "wrap layer of v as y", "wrap y as z"]);
    assert_eq!(ran.artifacts(), ["layer of v", "x", "y", "z"]);
    assert!(destroyed.is_empty());
}

#[tokio::test]
async fn what_nothing_keeps_is_removed() {
    let (ran, destroyed) = run(&chain(&["makes = \"y\"", "makes = \"z\""])).await;
    assert_eq!(ran.artifacts(), ["z"]);
    assert_eq!(destroyed, ["y", "layer of v"]);

    // One chain that keeps it is enough.
    let (ran, destroyed) =
        run(&(wrap("makes = \"x\"") + &wrap("makes = \"y\"\nkeep = true"))).await;
    assert_eq!(ran.artifacts(), ["layer of v", "x", "y"]);
    assert!(destroyed.is_empty());
}

#[tokio::test]
async fn the_user_decides_unless_the_component_insists() {
    let (_, destroyed) = run(&wrap("makes = \"x\"\nkeep_input_artifact = true")).await;
    assert!(destroyed.is_empty());
    let (_, destroyed) =
        run(&wrap("makes = \"x\"\nkeep = true\nkeep_input_artifact = false")).await;
    assert_eq!(destroyed, ["layer of v"]);
    let insists = "makes = \"x\"\nkeep = true\nforce = true\nkeep_input_artifact = false";
    let (_, destroyed) = run(&wrap(insists)).await;
    assert!(destroyed.is_empty());
}

#[tokio::test]
async fn a_chain_ends_where_nothing_is_made() {
    let (ran, destroyed) = run(&chain(&["keep = true", "makes = \"never\""])).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished]);
    assert_eq!(ran.artifacts(), ["layer of v"]);
    assert!(!ran.log.iter().any(|l| l.contains("never")));
    assert!(destroyed.is_empty());
}

#[tokio::test]
async fn a_failing_chain_stops_neither_the_next_nor_loses_what_it_was_given() {
    let build = chain(&["makes = \"y\"", "fail = true\nmakes = \"no\"", "makes = \"never\""])
        + &wrap("makes = \"x\"");
    let (ran, destroyed) = run(&build).await;
    assert_eq!(ran.outcomes(), [Outcome::Errored]);
    assert!(
        ran.errors().contains("Post-processor \"wrap\" failed: cannot wrap y"),
        "{}",
        ran.errors()
    );
    assert_eq!(ran.artifacts(), ["layer of v", "y", "x"]);
    assert!(destroyed.is_empty() && !ran.log.iter().any(|l| l.contains("never")));
}

#[tokio::test]
async fn a_build_that_makes_nothing_has_nothing_processed() {
    let bench = Bench::new();
    let ran = bench.run(&one("nil = true", &wrap("makes = \"x\""))).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished]);
    assert!(ran.artifacts().is_empty() && !ran.log.iter().any(|l| l.starts_with("wrap")));
}

#[tokio::test]
async fn except_cuts_a_chain_at_its_name() {
    let mut bench = Bench::new();
    bench.except = vec!["wrap".into()];
    let ran = bench.run(&one("", &wrap("makes = \"x\""))).await;
    assert!(!ran.log.iter().any(|l| l.starts_with("wrap")), "{:?}", ran.log);
}

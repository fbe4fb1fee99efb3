//! Which build needs which.

use std::collections::{BTreeMap, BTreeSet};

use karat_hcl::diag::{Diagnostic, Diagnostics};
use karat_template::{ArtifactKey, Build};

/// The builds of a template by their artifacts, and who needs whom.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    needs: Vec<BTreeSet<usize>>,
}

impl Graph {
    /// Finds who needs whom. A reference to a build that there is not, and a circle, are errors
    /// that show both places.
    pub fn new(builds: &[Build], diags: &mut Diagnostics) -> Self {
        let mut by_key: BTreeMap<ArtifactKey, Vec<usize>> = BTreeMap::new();
        for (index, build) in builds.iter().enumerate() {
            by_key.entry(build.artifact_key()).or_default().push(index);
        }
        let mut needs = vec![BTreeSet::new(); builds.len()];
        for (index, build) in builds.iter().enumerate() {
            for artifact in &build.artifacts {
                match by_key.get(&artifact.key).map(Vec::as_slice) {
                    Some([other]) => {
                        needs[index].insert(*other);
                    }
                    Some(several) => diags.push(ambiguous(artifact, several, builds)),
                    None => diags.push(unknown(build, artifact, builds)),
                }
            }
        }
        let graph = Self { needs };
        if let Some(circle) = graph.circle() {
            diags.push(circle_error(&circle, builds));
        }
        graph
    }

    /// The builds that one needs, itself not among them.
    pub fn needs(&self, index: usize) -> &BTreeSet<usize> {
        &self.needs[index]
    }

    /// `selected` and all that they need.
    pub fn with_needs(&self, selected: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut all = BTreeSet::new();
        let mut open: Vec<usize> = selected.into_iter().collect();
        while let Some(index) = open.pop() {
            if all.insert(index) {
                open.extend(&self.needs[index]);
            }
        }
        all
    }

    /// The builds so that each comes after those it needs; otherwise in the order of the text.
    pub fn order(&self) -> Vec<usize> {
        let mut done = BTreeSet::new();
        let mut order = Vec::new();
        while order.len() < self.needs.len() {
            let ready = (0..self.needs.len())
                .find(|i| !done.contains(i) && self.needs[*i].is_subset(&done));
            let Some(next) = ready else { break };
            done.insert(next);
            order.push(next);
        }
        order
    }

    /// A circle of builds that need each other, if there is one.
    fn circle(&self) -> Option<Vec<usize>> {
        let mut finished = BTreeSet::new();
        for start in 0..self.needs.len() {
            let mut path: Vec<(usize, Vec<usize>)> =
                vec![(start, self.needs[start].iter().copied().collect())];
            if finished.contains(&start) {
                continue;
            }
            while let Some((node, open)) = path.last_mut() {
                let Some(next) = open.pop() else {
                    finished.insert(*node);
                    path.pop();
                    continue;
                };
                if let Some(at) = path.iter().position(|(n, _)| *n == next) {
                    return Some(path[at..].iter().map(|(n, _)| *n).collect());
                }
                if !finished.contains(&next) {
                    path.push((next, self.needs[next].iter().copied().collect()));
                }
            }
        }
        None
    }
}

fn unknown(build: &Build, artifact: &karat_template::ArtifactRef, builds: &[Build]) -> Diagnostic {
    let ArtifactKey { build: name, source_type, source_name } = &artifact.key;
    let given = format!("artifact.{name}.{source_type}.{source_name}");
    let known: Vec<String> = builds
        .iter()
        .filter(|b| !b.build_name.is_empty())
        .map(|b| format!("artifact.{}.{}.{}", b.build_name, b.source_type, b.local_name))
        .collect();
    let error = Diagnostic::error("Reference to an unknown build")
        .at(artifact.span)
        .also(build.span, "in the build of this source")
        .detail(format!("The template has no build \"{name}\" with a source {source_type}.{source_name}, so \"{given}\" names nothing."))
        .did_you_mean(&given, known.iter().map(String::as_str));
    if known.is_empty() {
        return error.hint("Only a build block with a \"name\" can be referred to.");
    }
    if error.hints.is_empty() {
        return error.hint(format!("The template has: {}.", known.join(", ")));
    }
    error
}

fn ambiguous(
    artifact: &karat_template::ArtifactRef,
    several: &[usize],
    builds: &[Build],
) -> Diagnostic {
    let ArtifactKey { build: name, source_type, source_name } = &artifact.key;
    let error = Diagnostic::error("Reference to several builds")
        .at(artifact.span)
        .detail(format!(
            "The template has {} builds \"{name}\" with a source {source_type}.{source_name}, so it \
             is not known whose artifact is meant.",
            several.len()
        ))
        .hint("Give the build blocks different names, or the sources: source \"…\" { name = \"…\" }.");
    several.iter().fold(error, |error, index| error.also(builds[*index].span, "one of them"))
}

fn circle_error(circle: &[usize], builds: &[Build]) -> Diagnostic {
    let names: Vec<&str> =
        circle.iter().chain(circle.first()).map(|i| builds[*i].target.as_str()).collect();
    let mut error = Diagnostic::error("Builds need each other in a circle")
        .detail(format!("None of them can come first: {}.", names.join(" needs ")));
    for (place, index) in circle.iter().enumerate() {
        let next = circle[(place + 1) % circle.len()];
        let key = builds[next].artifact_key();
        let Some(artifact) = builds[*index].artifacts.iter().find(|a| a.key == key) else {
            continue;
        };
        let text = format!("{} needs {}", builds[*index].target, builds[next].target);
        error = match error.primary {
            None => error.label(artifact.span, text),
            Some(_) => error.also(artifact.span, text),
        };
    }
    error
}

//! Everything that can be said of a run before it begins.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use karat_component::{ComponentError, SagaContext};
use karat_hcl::diag::{Diagnostic, Diagnostics};
use karat_plan::{Change, Inputs};
use serde::Serialize;

use crate::inputs::missing_files;
use crate::prepare::{Artifacts, Preparer, artifact_value};
use crate::record::Records;
use crate::run::{Engine, RunRequest, build_info};
use crate::task::fingerprints;

/// What would become of a build.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BuildPlan {
    /// The build, as the user sees it.
    pub target: String,
    /// The builds whose artifacts it uses.
    pub needs: Vec<String>,
    /// Whether it would be built, and why.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The digest of everything that goes into it, where all of it is known.
    pub fingerprint: Option<String>,
    /// What the fingerprint is made of.
    pub inputs: Inputs,
}

/// Whether a build would be built, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing changed: what was made last is taken.
    Reuse,
    /// It was never built in this state folder.
    First,
    /// Something that goes into it is different.
    Changed {
        /// What.
        changes: Vec<Change>,
    },
    /// What it made last is gone or damaged.
    Damaged,
    /// `-force` was given.
    Forced,
    /// Its kind of source is built every time.
    Always,
    /// It depends on what another build makes, or on what is only known during the build.
    Open {
        /// On what, in words.
        on: Vec<String>,
        /// What is different already.
        changes: Vec<Change>,
    },
}

impl Engine {
    fn preparer(&self, request: &RunRequest, index: usize, artifacts: &Artifacts) -> Preparer {
        let build = Arc::new(request.builds[index].clone());
        Preparer {
            components: Arc::clone(&self.components),
            template: Arc::clone(&request.frozen),
            world: Arc::clone(&self.frozen_world),
            info: build_info(request, &build, "00000000-0000-0000-0000-000000000000"),
            build,
            artifacts: Arc::new(artifacts.clone()),
            planning: true,
            warnings: Arc::default(),
        }
    }

    /// Checks all components of all builds, with what is not known yet left open. Each problem is
    /// reported once, though several sources may share a provisioner. Input files have to exist.
    pub fn validate(&self, request: &RunRequest) -> Diagnostics {
        let mut all = Vec::<Diagnostic>::new();
        for index in 0..request.builds.len() {
            let preparer = self.preparer(request, index, &Artifacts::new());
            for diagnostic in validate_build(&preparer) {
                if !all.contains(&diagnostic) {
                    all.push(diagnostic);
                }
            }
        }
        let mut diags = Diagnostics::new();
        diags.extend(all);
        diags
    }

    /// The steps of all builds and of their post-processors, as they would be stored: the kind of each
    /// and its parameters.
    ///
    /// # Errors
    /// When a build cannot be laid out.
    pub fn steps(
        &self,
        request: &RunRequest,
    ) -> Result<Vec<(&'static str, serde_json::Value)>, ComponentError> {
        let mut all = Vec::new();
        for index in 0..request.builds.len() {
            let preparer = self.preparer(request, index, &Artifacts::new());
            let target = preparer.build.target.clone();
            let fail = |text: String| ComponentError::new(format!("{target}: {text}"));
            let (_, prepared) = preparer.source().map_err(|d| fail(preparer.explain(&d)))?;
            let saga = prepared.saga(&self.planned(&preparer)).map_err(|e| fail(e.to_string()))?;
            let mut sagas = vec![saga];
            for block in preparer.build.chains.iter().flatten() {
                let prepared = preparer.post_processor(block, None);
                let prepared = prepared.map_err(|d| fail(preparer.explain(&d)))?;
                let planned = prepared.planned(&preparer.info).map_err(|e| fail(e.to_string()))?;
                sagas.extend(planned);
            }
            for node in sagas.iter().flat_map(|saga| saga.nodes()) {
                let params = node.step.stored_params().map_err(|e| fail(e.to_string()))?;
                all.push((node.step.kind(), params));
            }
        }
        Ok(all)
    }

    /// What a build's saga is laid out with when it is not run.
    fn planned(&self, preparer: &Preparer) -> SagaContext {
        SagaContext {
            build: preparer.info.clone(),
            token: "plan".into(),
            state_dir: self.state_dir.clone(),
            cache_dir: self.cache_dir.clone(),
            fingerprint: None,
        }
    }

    /// What would become of each build, in the order of the request. Builds nothing.
    ///
    /// # Errors
    /// When what goes into a build cannot be found out; the text says of which and why.
    pub async fn plan(&self, request: &RunRequest) -> Result<Vec<BuildPlan>, ComponentError> {
        let records = Records::new(&self.state_dir);
        let mut artifacts = Artifacts::new();
        let mut plans: Vec<Option<BuildPlan>> = vec![None; request.builds.len()];
        for index in request.graph.order() {
            let plan = self.plan_one(request, index, &records, &mut artifacts).await?;
            plans[index] = Some(plan);
        }
        Ok(plans.into_iter().flatten().collect())
    }

    async fn plan_one(
        &self,
        request: &RunRequest,
        index: usize,
        records: &Records,
        artifacts: &mut Artifacts,
    ) -> Result<BuildPlan, ComponentError> {
        let preparer = self.preparer(request, index, artifacts);
        let build = Arc::clone(&preparer.build);
        let fail = |text: String| ComponentError::new(format!("{}: {text}", build.target));
        let (builder, prepared) = preparer.source().map_err(|d| fail(preparer.explain(&d)))?;
        let cx = self.planned(&preparer);
        let extra = prepared.fingerprint_inputs(&cx, &self.services).await?;
        let (fingerprint, _) = fingerprints(&preparer, &extra).map_err(fail)?;
        let needs: BTreeSet<String> =
            request.graph.needs(index).iter().map(|i| request.builds[*i].target.clone()).collect();
        let record = records.load(&request.template_path, &build.key);
        let changes = record
            .as_ref()
            .map(|r| fingerprint.changes_since(&r.fingerprint.inputs))
            .unwrap_or_default();
        let verdict = match &record {
            _ if request.options.force => Verdict::Forced,
            _ if !prepared.reusable() => Verdict::Always,
            None => Verdict::First,
            Some(_) if !fingerprint.open.is_empty() => {
                Verdict::Open { on: fingerprint.open.clone(), changes }
            }
            Some(record) if record.fingerprint.digest != fingerprint.digest => {
                Verdict::Changed { changes }
            }
            Some(record) if !builder.is_intact(&record.artifact, &self.services).await => {
                Verdict::Damaged
            }
            Some(record) => {
                artifacts.insert(build.artifact_key(), artifact_value(&record.artifact));
                Verdict::Reuse
            }
        };
        Ok(BuildPlan {
            target: build.target.clone(),
            needs: needs.into_iter().collect(),
            verdict,
            fingerprint: fingerprint.open.is_empty().then_some(fingerprint.digest),
            inputs: fingerprint.inputs,
        })
    }
}

fn validate_build(preparer: &Preparer) -> Diagnostics {
    let mut diags = Diagnostics::new();
    let mut take = |result: Result<(), Diagnostics>| {
        if let Err(found) = result {
            diags.append(found);
        }
    };
    let source = preparer.source();
    let has_machine = source.as_ref().map_or(true, |(_, prepared)| prepared.has_machine());
    take(source.map(drop));
    let build = Arc::clone(&preparer.build);
    for block in build.provisioners.iter().chain(&build.error_cleanup) {
        if !has_machine {
            take(preparer.runs_without_machine(block));
        }
        take(preparer.provisioner(block, None).map(drop));
    }
    for block in build.chains.iter().flatten() {
        take(preparer.post_processor(block, None).map(drop));
    }
    diags.append(std::mem::take(
        &mut *preparer.warnings.lock().unwrap_or_else(PoisonError::into_inner),
    ));
    for (body, schema) in preparer.bodies() {
        missing_files(&body, &schema, &preparer.info.path_hint(), &mut diags);
    }
    diags
}

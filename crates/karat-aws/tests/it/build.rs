//! One build: its options, run as the program runs it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use karat_aws::AmazonEbs;
use karat_component::testing::{self, Recorded, body};
use karat_component::{
    Artifact, BuildInfo, Communicator, DynBuilder, Events, Generated, PrepareContext,
    PreparedBuilder, ProvisionHook, SagaContext,
};
use karat_saga::{
    Cancellation, Completed, Executor, Faults, Journal, Policy, RunInfo, RunState, SagaFailure,
    Services, StepError, UndoPolicy,
};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::moto::REGIONS;

/// Stands for the provisioners.
#[derive(Default)]
pub(crate) struct Hook {
    generated: Mutex<Option<Generated>>,
    /// A text, and the file on the machine that it goes to.
    upload: Mutex<Option<(String, String)>>,
}

impl Hook {
    /// Uploads a text.
    pub(crate) fn uploads(&self, text: &str, to: &str) {
        *self.upload.lock().unwrap() = Some((text.to_owned(), to.to_owned()));
    }

    /// The values that provisioners see.
    pub(crate) fn generated(&self) -> Generated {
        self.generated.lock().unwrap().clone().unwrap()
    }
}

#[async_trait]
impl ProvisionHook for Hook {
    async fn provision(
        &self,
        communicator: Arc<dyn Communicator>,
        generated: Generated,
        cancel: &CancellationToken,
    ) -> Result<(), StepError> {
        *self.generated.lock().unwrap() = Some(generated);
        let upload = self.upload.lock().unwrap().clone();
        if let Some((text, to)) = upload {
            let sent = communicator.upload(&mut text.as_bytes(), &to, None, cancel).await;
            sent.map_err(|e| StepError::because("could not upload", e))?;
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// One build.
pub(crate) struct Build {
    pub(crate) prepared: Box<dyn PreparedBuilder>,
    pub(crate) state: tempfile::TempDir,
    pub(crate) cx: SagaContext,
    pub(crate) hook: Arc<Hook>,
    pub(crate) events: Events,
    pub(crate) recorded: Recorded,
}

/// Everything that a build can have and moto knows; `profile` leads to the server.
pub(crate) fn options(profile: &Path, source: &str, name: &str) -> Json {
    json!({
        "shared_credentials_file": profile,
        "skip_metadata_api_check": true,
        "ami_name": name,
        "ami_description": "from {{ .SourceAMI }}",
        "ami_regions": REGIONS,
        "instance_type": "t3.micro",
        "source_ami": source,
        "communicator": "none",
        "user_data": "#!/bin/sh\n",
        "encrypt_boot": true,
        "ami_users": [],
        "run_tags": { "Team": "images" },
        "run_volume_tags": { "Disk": "root" },
        "tags": { "Base": "{{ .SourceAMIName }}", "Region": "{{ .BuildRegion }}" },
        "snapshot_tags": { "Kind": "snapshot" },
        "temporary_iam_instance_profile_policy_document": {
            "Statement": [{ "Action": ["s3:GetObject"], "Resource": ["*"] }],
        },
    })
}

impl Build {
    pub(crate) fn new(options: &Json, token: &str) -> Self {
        Self::of(Arc::new(AmazonEbs), options, token)
    }

    pub(crate) fn of(builder: Arc<dyn DynBuilder>, options: &Json, token: &str) -> Self {
        let cx = PrepareContext { component: "amazon-ebs".into(), ..PrepareContext::default() };
        let mut diags = karat_hcl::diag::Diagnostics::new();
        let prepared = builder.prepare(&body(options), &cx, &mut diags);
        let prepared = prepared.unwrap_or_else(|| panic!("{diags:?}"));
        let state = tempfile::tempdir().unwrap();
        let cx = SagaContext {
            build: BuildInfo { target: "amazon-ebs.web".into(), ..testing::build_info() },
            token: token.to_owned(),
            state_dir: state.path().to_owned(),
            cache_dir: state.path().join("cache"),
            fingerprint: None,
        };
        let (events, recorded) = Recorded::new(&[]);
        Self { prepared, state, cx, hook: Arc::default(), events, recorded }
    }

    pub(crate) async fn run(&self, faults: &str) -> Result<Completed, Box<SagaFailure>> {
        self.run_until(faults, &Cancellation::new()).await
    }

    /// Runs it, unless it is cancelled.
    pub(crate) async fn run_until(
        &self,
        faults: &str,
        cancellation: &Cancellation,
    ) -> Result<Completed, Box<SagaFailure>> {
        let journal = Journal::open(self.state.path()).unwrap();
        let hold = Arc::new(journal.begin_run(RunInfo::default()).await.unwrap());
        let services = Services::new()
            .with(Arc::new(self.events.clone()))
            .with(Arc::new(self.cx.build.clone()))
            .with::<dyn ProvisionHook>(Arc::clone(&self.hook) as Arc<dyn ProvisionHook>);
        let undo =
            UndoPolicy { delay: std::time::Duration::from_millis(10), ..UndoPolicy::default() };
        let executor = Executor::new(Arc::clone(&hold), services)
            .with_faults(Faults::parse(faults).unwrap())
            .with_policy(Policy { undo, ..Policy::default() });
        let saga = self.prepared.saga(&self.cx).unwrap();
        let done = executor.execute(saga, cancellation).await;
        let state = if done.is_ok() { RunState::Succeeded } else { RunState::Failed };
        hold.finish(state).await.unwrap();
        done
    }

    pub(crate) fn artifact(&self, done: &Completed) -> Option<Artifact> {
        self.prepared.artifact(&self.cx, &done.outputs).unwrap()
    }
}

pub(crate) fn told(failure: &SagaFailure) -> String {
    format!("{failure}: {} {:?}", failure.cause_text(), failure.left)
}

//! Source `null`: makes nothing, and provisions a machine that is there already.

use std::sync::Arc;

use karat_component::{
    Artifact, BuildInfo, Builder, Communicator, Events, Generated, NoCommunicator, ProvisionHook,
    SagaContext, ValidateContext,
};
use karat_config::Config;
use karat_saga::{Outputs, Saga, SagaError, Step, StepContext, StepError, StepRegistry};
use karat_ssh::{SeenHostKeys, Session, SshCommunicator, SshConfig};
use karat_value::Value;
use karat_winrm::{WinrmCommunicator, WinrmConfig, WinrmSession};
use serde::{Deserialize, Serialize};

/// Makes nothing. With a communicator it provisions a machine that is there already; with
/// `communicator = "none"` it runs what works on the local machine, such as `shell-local`.
#[derive(Debug, Config)]
pub struct NullConfig {
    /// How the machine is reached: `ssh`, `winrm` or `none`.
    #[option(default = "ssh")]
    communicator: String,
    /// How to log in.
    #[option(flatten)]
    ssh: SshConfig,
    /// How to log in to a Windows machine.
    #[option(flatten)]
    winrm: WinrmConfig,
}

/// How one logs in.
#[derive(Clone, Debug)]
enum Login {
    Ssh(Box<SshConfig>),
    Winrm(Box<WinrmConfig>),
}

/// What the steps are made of: no connection details, which may hold secrets and stay in memory.
#[derive(Debug)]
pub struct Validated {
    login: Option<Login>,
}

/// Source `null`.
#[derive(Clone, Copy, Debug)]
pub struct Null;

impl Builder for Null {
    const TYPE: &'static str = "null";
    type Config = NullConfig;
    type Validated = Validated;

    fn validate(&self, config: NullConfig, cx: &mut ValidateContext<'_>) -> Option<Validated> {
        match config.communicator.as_str() {
            "none" => Some(Validated { login: None }),
            "ssh" => {
                for problem in config.ssh.problems() {
                    let error = cx.error(problem.option, problem.summary);
                    if !problem.hint.is_empty() {
                        error.hint(problem.hint);
                    }
                }
                if config.ssh.ssh_host.is_empty() {
                    cx.error("ssh_host", "an ssh_host must be specified")
                        .hint("name the machine, or set communicator = \"none\"");
                }
                Some(Validated { login: Some(Login::Ssh(Box::new(config.ssh))) })
            }
            "winrm" => {
                for problem in config.winrm.problems() {
                    cx.error(problem.option, problem.summary).hint(problem.hint);
                }
                for (option, given) in [
                    ("winrm_host", &config.winrm.winrm_host),
                    ("winrm_password", &config.winrm.winrm_password),
                ] {
                    if given.is_empty() && cx.is_known(option) {
                        cx.error(option, format!("a {option} must be specified"))
                            .hint("nothing is known of the machine but what stands here");
                    }
                }
                Some(Validated { login: Some(Login::Winrm(Box::new(config.winrm))) })
            }
            other => {
                let summary = format!("unknown communicator \"{other}\"");
                cx.error("communicator", summary).hint("write \"ssh\", \"winrm\" or \"none\"");
                None
            }
        }
    }

    fn has_machine(&self, validated: &Validated) -> bool {
        validated.login.is_some()
    }

    fn register_steps(&self, registry: &mut StepRegistry) {
        registry.register::<ConnectAndProvision>();
    }

    fn saga(&self, validated: &Validated, cx: &SagaContext) -> Result<Saga, SagaError> {
        let step = ConnectAndProvision::local(&cx.build.target);
        let step = ConnectAndProvision { login: validated.login.clone(), ..step };
        Saga::new(&cx.build.target).step("provision", step).build()
    }

    fn artifact(
        &self,
        _: &Validated,
        _: &SagaContext,
        _: &Outputs,
    ) -> Result<Option<Artifact>, StepError> {
        Ok(Some(Artifact {
            builder_id: "fnoeding.null".into(),
            id: "Null".into(),
            description: "Did not export anything. This is the null builder".into(),
            ..Artifact::default()
        }))
    }
}

/// Connects, if there is anything to connect to, and runs the provisioners.
///
/// It makes nothing of its own, so there is nothing to undo. How to log in is not stored, as it
/// may hold secrets: a run is resumed with a new step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectAndProvision {
    target: String,
    #[serde(skip)]
    login: Option<Login>,
}

impl ConnectAndProvision {
    /// A step that reaches nothing: provisioners that work on the local machine still run.
    pub(crate) fn local(target: &str) -> Self {
        Self { target: target.to_owned(), login: None }
    }
}

impl Step for ConnectAndProvision {
    const KIND: &'static str = "null.provision";
    type Output = ();

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let hook = cx.service::<dyn ProvisionHook>()?;
        if hook.is_empty() {
            return Ok(());
        }
        let events = cx.service::<Events>()?;
        let build = cx.service::<BuildInfo>()?;
        let mut generated = Generated::from([
            ("ID".into(), Value::string("Null")),
            ("PackerRunUUID".into(), Value::string(build.run_uuid.as_str())),
            ("ConnType".into(), Value::string("none")),
        ]);
        let events = events.as_ref().clone();
        let communicator: Arc<dyn Communicator> = match &self.login {
            None => Arc::new(NoCommunicator),
            Some(Login::Ssh(ssh)) => {
                add_login(&mut generated, ssh);
                let (config, seen) = (ssh.as_ref().clone(), SeenHostKeys::default());
                let session = Session::connect(config, seen, events, cx.token()).await;
                let session = session.map_err(|e| failed(&ssh.ssh_host, e, cx))?;
                Arc::new(SshCommunicator(session))
            }
            Some(Login::Winrm(winrm)) => {
                winrm.tell(&mut generated);
                let session =
                    WinrmSession::connect(winrm.as_ref().clone(), events, cx.token()).await;
                let session = session.map_err(|e| failed(&winrm.winrm_host, e, cx))?;
                Arc::new(WinrmCommunicator(session))
            }
        };
        hook.provision(communicator, generated, cx.token()).await
    }

    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        Ok(())
    }
}

fn failed(
    host: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    cx: &StepContext,
) -> StepError {
    if cx.is_cancelled() {
        return StepError::cancelled();
    }
    StepError::because(format!("could not reach {host}"), error)
}

/// What `build.*` has of a login by ssh.
fn add_login(generated: &mut Generated, ssh: &SshConfig) {
    let text = |value: &str| Value::string(value);
    generated.insert("ConnType".into(), text("ssh"));
    generated.insert("Host".into(), text(&ssh.ssh_host));
    generated.insert("Port".into(), Value::number(i64::from(ssh.ssh_port)));
    generated.insert("User".into(), text(&ssh.ssh_username));
    generated.insert("Password".into(), text(&ssh.ssh_password));
    generated.insert("SSHPrivateKeyFile".into(), text(&ssh.ssh_private_key_file));
    generated.insert("SSHAgentAuth".into(), Value::bool(ssh.ssh_agent_auth));
}

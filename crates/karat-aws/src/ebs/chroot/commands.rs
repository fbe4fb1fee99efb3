//! Commands of this machine, in the wrapper that the template has for them.

use std::sync::{Arc, Mutex, PoisonError};

use karat_component::{BuildInfo, ExitStatus, Generated, Output};
use karat_provisioners::late::Late;
use karat_provisioners::local_command::{Invocation, run_process};
use karat_saga::{StepContext, StepError};
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

/// Runs commands of this machine.
#[derive(Clone, Debug)]
pub(super) struct Commands {
    late: Arc<Late>,
    wrapper: String,
}

/// A word for a shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What a command said, to be told when it fails.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn output(&self) -> Output {
        let said = Arc::clone(&self.0);
        Output::new(move |_, bytes| {
            said.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        })
    }

    fn text(&self) -> String {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).trim().to_owned()
    }
}

impl Commands {
    pub(super) fn new(cx: &StepContext, wrapper: &str) -> Self {
        // Who only removes what is left has no build.
        let build = cx.service::<BuildInfo>().map(|b| b.as_ref().clone()).unwrap_or_default();
        let late = Arc::new(Late::new(&build, &Generated::new(), cx.services()));
        Self { late, wrapper: wrapper.to_owned() }
    }

    /// A text of the template with its values.
    pub(super) fn text(
        &self,
        option: &str,
        text: &str,
        own: &[(&str, &str)],
    ) -> Result<String, StepError> {
        Ok(self.late.render(option, text, own)?)
    }

    /// Runs a command and hands on what it prints.
    pub(super) async fn run(
        &self,
        command: &str,
        stdin: Option<&mut (dyn AsyncRead + Send + Unpin)>,
        output: &Output,
        cancel: &CancellationToken,
    ) -> Result<ExitStatus, StepError> {
        let wrapped = self.text("command_wrapper", &self.wrapper, &[("Command", command)])?;
        let invocation = Invocation {
            arguments: vec!["/bin/sh".into(), "-c".into(), wrapped],
            environment: Vec::new(),
        };
        let (status, _) = run_process(&invocation, stdin, output, cancel).await?;
        Ok(status)
    }

    /// Runs a command that has to succeed.
    pub(super) async fn must(
        &self,
        command: &str,
        cancel: &CancellationToken,
    ) -> Result<(), StepError> {
        let said = Said::default();
        let status = self.run(command, None, &said.output(), cancel).await?;
        if status.success() {
            return Ok(());
        }
        let text = said.text();
        let text = if text.is_empty() { status.to_string() } else { text };
        Err(StepError::new(format!("the command \"{command}\" failed: {text}")))
    }
}

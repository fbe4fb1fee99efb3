//! Sending and running the scripts of `shell`.

use std::sync::Arc;

use karat_component::{
    CommunicatorError, ComponentError, DISCONNECTED, ExitStatus, Output, ProvisionContext,
    RemoteCommand, RemoteFile, RemoteScript,
};

use super::ShellValidated;
use crate::environment;
use crate::exit_codes;
use crate::late::Late;
use crate::reach::Away;
use crate::scripts::{self, Scripts};

/// The script itself: others than the login user may have to run it.
const SCRIPT_MODE: u32 = 0o755;
/// The file of variables: it may hold secrets.
const VARIABLES_MODE: u32 = 0o600;

pub(super) async fn run(
    validated: &ShellValidated,
    cx: &ProvisionContext,
) -> Result<(), ComponentError> {
    let runner = Runner {
        validated,
        cx,
        late: Late::new(&cx.build, &cx.generated, &cx.services),
        variables: validated.variables(cx),
    };
    match &validated.scripts {
        Scripts::Inline(text) => {
            runner
                .script(&inline_label(&validated.config.inline), text.clone().into_bytes())
                .await?;
        }
        Scripts::Files(paths) => {
            for path in paths {
                let content = scripts::read(path, &cx.build).await?;
                runner.script(path, content).await?;
            }
        }
    }
    let pause = validated.config.pause_after;
    if !pause.0.is_zero() {
        cx.events.say(format!("Pausing {pause} after this provisioner..."));
        tokio::select! {
            () = tokio::time::sleep(pause.0) => {}
            () = cx.cancel.cancelled() => return Err(ComponentError::cancelled()),
        }
    }
    Ok(())
}

/// How an inline script is called in messages: by its first command.
fn inline_label(lines: &[String]) -> String {
    const LONGEST: usize = 60;
    let first = lines.iter().flat_map(|l| l.lines()).map(str::trim).find(|l| !l.is_empty());
    let first = first.unwrap_or_default();
    let short: String = first.chars().take(LONGEST).collect();
    let more = if short.len() < first.len() || lines.len() > 1 { " ..." } else { "" };
    format!("inline script ({short}{more})")
}

struct Runner<'a> {
    validated: &'a ShellValidated,
    cx: &'a ProvisionContext,
    late: Late,
    variables: String,
}

impl ShellValidated {
    fn variables(&self, cx: &ProvisionContext) -> String {
        let mut all = environment::common(&cx.build, &cx.generated);
        all.extend(self.environment.iter().cloned());
        self.format.render(&all)
    }

    fn paths(&self) -> (String, String) {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let token = &token[..16];
        let folder = self.config.remote_folder.trim_end_matches('/');
        let script = match (&self.config.remote_path, &self.config.remote_file) {
            (Some(path), _) => path.clone(),
            (None, Some(file)) => format!("{folder}/{file}"),
            (None, None) => format!("{folder}/script_{token}.sh"),
        };
        (script, format!("{folder}/varfile_{token}.sh"))
    }
}

impl Runner<'_> {
    async fn script(&self, label: &str, content: Vec<u8>) -> Result<(), ComponentError> {
        let config = &self.validated.config;
        self.cx.events.say(format!("Provisioning with shell script: {label}"));
        let content = if config.binary { content } else { scripts::unix_lines(content) };
        let (path, variables_path) = self.validated.paths();
        let mut files =
            vec![RemoteFile { path: path.clone(), mode: SCRIPT_MODE, content: content.into() }];
        let mut own = vec![("Path", path.as_str()), ("Vars", self.variables.as_str())];
        if config.use_env_var_file {
            own.push(("EnvVarFile", &variables_path));
            files.push(RemoteFile {
                path: variables_path.clone(),
                mode: VARIABLES_MODE,
                content: Arc::from(self.variables.as_bytes()),
            });
        }
        let line = self.late.render("execute_command", &self.validated.execute_command, &own)?;
        let status = self.send_and_run(&files, &line).await?;
        if status == ExitStatus::Disconnected {
            self.disconnected(&files).await
        } else {
            exit_codes::check(&status, &config.valid_exit_codes)
        }
    }

    /// A machine that cannot be reached is waited for; a script that began is never run again.
    async fn send_and_run(
        &self,
        files: &[RemoteFile],
        line: &str,
    ) -> Result<ExitStatus, ComponentError> {
        let (config, communicator) = (&self.validated.config, &*self.cx.communicator);
        let mut away = Away::new(communicator, config.start_retry_timeout.0, &self.cx.cancel);
        loop {
            let script = RemoteScript {
                files: files.to_vec(),
                line: line.to_owned(),
                clean: !config.skip_clean,
                output: Output::lines(&self.cx.events),
                cancel: self.cx.cancel.clone(),
            };
            match communicator.run_script(script).await {
                Ok(status) => return Ok(status),
                Err(error) => away.wait(error).await?,
            }
        }
    }

    async fn disconnected(&self, files: &[RemoteFile]) -> Result<(), ComponentError> {
        let config = &self.validated.config;
        if !config.expect_disconnect && !config.valid_exit_codes.contains(&DISCONNECTED) {
            return Err(ComponentError::new("Script disconnected unexpectedly").with_hint(
                "if the script cuts the connection on purpose, by a reboot for example, set \
                 \"expect_disconnect = true\" or \"valid_exit_codes = [0, 2300218]\"",
            ));
        }
        if config.skip_clean {
            return Ok(());
        }
        self.cx.events.message("The connection went away, as expected. Waiting for the machine.");
        let removed = self.remove(files).await;
        removed.map_err(|error| match error {
            CommunicatorError::Cancelled => ComponentError::cancelled(),
            error => ComponentError::because(
                "cannot remove the script from the machine after it went away",
                error,
            )
            .with_hint(
                "set \"skip_clean = true\" if the machine is not to come back, or raise \
                 \"start_retry_timeout\"",
            ),
        })
    }

    async fn remove(&self, files: &[RemoteFile]) -> Result<(), CommunicatorError> {
        let (communicator, cancel) = (&*self.cx.communicator, &self.cx.cancel);
        let names: Vec<String> = files.iter().map(|f| remote_word(&f.path)).collect();
        let line = format!("rm -f {}", names.join(" "));
        let patience = self.validated.config.start_retry_timeout.0;
        let mut away = Away::new(communicator, patience, cancel);
        loop {
            let command = RemoteCommand { cancel: cancel.clone(), ..RemoteCommand::new(&line) };
            let error = match communicator.exec(command).await {
                Ok(ExitStatus::Disconnected) => {
                    CommunicatorError::Connection { what: "the connection went away again".into() }
                }
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            away.wait(error).await?;
        }
    }
}

/// A path as a word of a shell command; a `~` at its beginning stays what it is.
pub(crate) fn remote_word(path: &str) -> String {
    let (home, rest) = match path.strip_prefix("~/") {
        Some(rest) => ("~/", rest),
        None => ("", path),
    };
    format!("{home}'{}'", rest.replace('\'', "'\\''"))
}

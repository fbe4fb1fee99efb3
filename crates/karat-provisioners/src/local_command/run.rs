//! Script files, and what is run.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use karat_component::{BuildInfo, ComponentError, Events, Generated};
use karat_saga::Services;
use tempfile::TempPath;
use tokio_util::sync::CancellationToken;

use super::LocalCommand;
use super::leftover::RUN;
use super::process::{self, Invocation};
use crate::environment::{self, Environment};
use crate::exit_codes;
use crate::late::Late;
use crate::scripts::Scripts;

/// What a component that runs something here hands on.
#[derive(Clone, Copy, Debug)]
pub struct LocalContext<'a> {
    /// Which build.
    pub build: &'a BuildInfo,
    /// The values of `build.*`.
    pub generated: &'a Generated,
    /// Where to say what happens.
    pub events: &'a Events,
    /// Ends it early, with everything that it started.
    pub cancel: &'a CancellationToken,
    /// What the program offers.
    pub services: &'a Services,
}

impl LocalCommand {
    /// Runs the scripts one after the other. Temporary files are gone when this returns or is
    /// dropped, and so is, unless the script ended by itself, everything that it started.
    ///
    /// # Errors
    /// When a script cannot be started, or ends with a code that is not valid.
    pub async fn run(&self, cx: &LocalContext<'_>) -> Result<(), ComponentError> {
        let only_on = &self.config.only_on;
        if !only_on.is_empty() && !only_on.iter().any(|system| *system == this_system()) {
            cx.events.say("Skipping shell-local due to runtime OS");
            return Ok(());
        }
        let late = Late::new(cx.build, cx.generated, cx.services);
        let environment = self.environment(cx, &late)?;
        match &self.scripts {
            Scripts::Inline(text) => {
                let text = match &self.config.command {
                    Some(_) if self.config.inline.is_empty() => {
                        late.render("command", text, &[])?
                    }
                    _ => text.clone(),
                };
                let folder = cx.build.temporary_folder.clone();
                let folder = folder.unwrap_or_else(std::env::temp_dir);
                let file = self.temporary(&folder, &text).map_err(|e| {
                    let folder = folder.display();
                    ComponentError::because(format!("cannot write a script to \"{folder}\""), e)
                })?;
                self.script(&file, Some(&self.config.inline_shebang), &environment, &late, cx).await
            }
            Scripts::Files(paths) => {
                for path in paths {
                    self.script(Path::new(path), None, &environment, &late, cx).await?;
                }
                Ok(())
            }
        }
    }

    fn environment(
        &self,
        cx: &LocalContext<'_>,
        late: &Late,
    ) -> Result<Environment, ComponentError> {
        let mut all = environment::common(cx.build, cx.generated);
        for (name, value) in &self.environment {
            all.insert(name.clone(), late.render("environment_vars", value, &[])?);
        }
        Ok(all)
    }

    /// The script that `command` or `inline` is written to.
    fn temporary(&self, folder: &Path, text: &str) -> std::io::Result<TempPath> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let extension = match self.config.tempfile_extension.as_str() {
            "" => String::new(),
            text if text.starts_with('.') => text.to_owned(),
            text => format!(".{text}"),
        };
        let mut file = tempfile::Builder::new()
            .prefix("packer-shell")
            .suffix(&extension)
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.flush()?;
        Ok(file.into_temp_path())
    }

    async fn script(
        &self,
        path: &Path,
        shebang: Option<&str>,
        environment: &Environment,
        late: &Late,
        cx: &LocalContext<'_>,
    ) -> Result<(), ComponentError> {
        if cx.cancel.is_cancelled() {
            return Err(ComponentError::cancelled());
        }
        cx.events.say(format!("Running local shell script: {}", path.display()));
        let full = std::path::absolute(path).map_err(|e| {
            ComponentError::because(format!("cannot find the script \"{}\"", path.display()), e)
        })?;
        if !full.is_file() {
            return Err(ComponentError::new(format!("there is no script \"{}\"", path.display()))
                .with_hint("relative paths start at the folder that the command is run in"));
        }
        let invocation = self.invocation(&full, shebang, environment, late, cx)?;
        let status = process::run(&invocation, cx.events, cx.cancel).await?;
        exit_codes::check(&status, &self.config.valid_exit_codes)
    }

    /// By default the variables go straight into the process's environment, and what stands behind
    /// `#!` is started directly. It comes to the same as the default command with its shell in
    /// between, and values are in no list of processes.
    fn invocation(
        &self,
        script: &Path,
        shebang: Option<&str>,
        environment: &Environment,
        late: &Late,
        cx: &LocalContext<'_>,
    ) -> Result<Invocation, ComponentError> {
        let path = script.to_string_lossy().into_owned();
        let mut own = vec![(RUN.to_owned(), cx.build.run_uuid.clone())];
        if self.config.execute_command.is_none() && self.config.env_var_format.is_none() {
            own.extend(environment.iter().map(|(k, v)| (k.clone(), v.clone())));
            return Ok(Invocation { arguments: direct(&path, shebang), environment: own });
        }
        let default = ["/bin/sh", "-c", "{{.Vars}} {{.Script}}"].map(str::to_owned);
        let command = self.config.execute_command.as_deref().unwrap_or(&default);
        let variables = self.format.render(environment);
        let values =
            [("Vars", variables.as_str()), ("Script", path.as_str()), ("Command", path.as_str())];
        let arguments = command
            .iter()
            .map(|text| late.render("execute_command", text, &values))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Invocation { arguments, environment: own })
    }
}

/// What the kernel would make of the script's first line. A script of the user's goes through a
/// shell, which also runs files without such a line.
fn direct(path: &str, shebang: Option<&str>) -> Vec<String> {
    match shebang.map(str::trim) {
        Some(line) => {
            let (program, argument) = match line.split_once([' ', '\t']) {
                Some((program, argument)) => (program, Some(argument.trim())),
                None => (line, None),
            };
            let argument = argument.filter(|a| !a.is_empty());
            let parts = std::iter::once(program).chain(argument).chain([path]);
            parts.map(str::to_owned).collect()
        }
        None => vec!["/bin/sh".into(), "-c".into(), "exec \"$0\"".into(), path.to_owned()],
    }
}

/// The operating system by Go's name.
fn this_system() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

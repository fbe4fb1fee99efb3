//! Options of `shell` that were proved.

use karat_component::{DISCONNECTED, ValidateContext};

use super::ShellConfig;
use crate::environment::{self, Format};
use crate::late;
use crate::scripts::{Given, Scripts};

/// Options of `shell` that were proved.
#[derive(Debug)]
pub struct ShellValidated {
    pub(super) config: ShellConfig,
    pub(super) scripts: Scripts,
    pub(super) environment: Vec<(String, String)>,
    pub(super) format: Format,
    pub(super) execute_command: String,
}

impl ShellValidated {
    pub(super) fn of(config: ShellConfig, cx: &mut ValidateContext<'_>) -> Self {
        let scripts = Given {
            command: None,
            inline: &config.inline,
            script: config.script.as_deref(),
            scripts: &config.scripts,
            shebang: &config.inline_shebang,
        }
        .check(cx);
        let environment = environment::parse(&config.environment_vars, &config.env, cx);
        let format = match (&config.env_var_format, config.use_env_var_file) {
            (Some(text), _) => Format::check(text, cx),
            (None, false) => Format::assignments(),
            (None, true) => Format::exports(),
        };
        let execute_command = match (&config.execute_command, config.use_env_var_file) {
            (Some(text), _) => text.clone(),
            (None, false) => "chmod +x {{.Path}}; {{.Vars}} {{.Path}}".to_owned(),
            (None, true) => "chmod +x {{.Path}}; . {{.EnvVarFile}} && {{.Path}}".to_owned(),
        };
        check_paths(&config, cx);
        check_command(&config, cx);
        check_codes(&config, cx);
        Self { config, scripts, environment, format, execute_command }
    }
}

fn check_command(config: &ShellConfig, cx: &mut ValidateContext<'_>) {
    let Some(text) = &config.execute_command else { return };
    late::check("execute_command", text, cx);
    if text.trim().is_empty() {
        cx.error("execute_command", "The command is empty")
            .hint("Leave the option out to have the default.");
    } else if !text.contains(".Path") && !text.contains("{{ build") {
        cx.warning("execute_command", "The command does not run the script")
            .detail("Nothing in it stands for the script, which is {{.Path}}.");
    }
    if config.use_env_var_file && !text.contains(".EnvVarFile") {
        cx.warning("execute_command", "The environment variables are not used").detail(
            "\"use_env_var_file\" writes them to a file, and the command does not read it: \
                 {{.EnvVarFile}} is missing.",
        );
    }
}

fn check_paths(config: &ShellConfig, cx: &mut ValidateContext<'_>) {
    if config.inline_shebang.contains('\n') || config.inline_shebang.trim().is_empty() {
        cx.error("inline_shebang", "The first line of a script has to name a program")
            .hint("The default is \"/bin/sh -e\".");
    }
    if let Some(path) = &config.remote_path {
        if path.is_empty() || path.ends_with('/') {
            cx.error("remote_path", format!("\"{path}\" does not name a file"))
                .hint("To choose only the folder, use \"remote_folder\".");
        }
        for option in ["remote_folder", "remote_file"] {
            if cx.is_set(option) {
                cx.warning(option, format!("\"{option}\" has no effect beside \"remote_path\""));
            }
        }
    }
    if let Some(file) = &config.remote_file
        && (file.is_empty() || file.contains('/'))
    {
        cx.error("remote_file", format!("\"{file}\" is not the name of a file in a folder"))
            .hint("To set the folder too, use \"remote_path\".");
    }
    if config.remote_folder.is_empty() {
        cx.error("remote_folder", "The name of the folder is empty")
            .hint("\".\" is the home folder of the login user.");
    }
}

fn check_codes(config: &ShellConfig, cx: &mut ValidateContext<'_>) {
    if config.valid_exit_codes.is_empty() {
        cx.error("valid_exit_codes", "No exit code would count as success")
            .hint("Leave the option out to accept 0 alone.");
    }
    for code in config.valid_exit_codes.iter().filter(|c| !(0..=255).contains(*c)) {
        if *code != DISCONNECTED {
            cx.error("valid_exit_codes", format!("{code} cannot be the exit code of a script"))
                .detail(format!(
                    "Exit codes lie between 0 and 255; {DISCONNECTED} stands for a lost connection."
                ));
        }
    }
}

//! Options of what runs here that were proved.

use karat_component::ValidateContext;

use super::LocalCommandConfig;
use crate::environment::{self, Format};
use crate::late;
use crate::scripts::{Given, Scripts};

/// The operating systems by Go's names, which templates use.
const SYSTEMS: [&str; 6] = ["darwin", "freebsd", "linux", "openbsd", "solaris", "windows"];

/// Commands or scripts for this machine that were proved.
#[derive(Debug)]
pub struct LocalCommand {
    pub(super) config: LocalCommandConfig,
    pub(super) scripts: Scripts,
    pub(super) environment: Vec<(String, String)>,
    pub(super) format: Format,
}

impl LocalCommand {
    /// Checks the options against each other and reports every problem.
    pub fn validate(config: LocalCommandConfig, cx: &mut ValidateContext<'_>) -> Option<Self> {
        let scripts = Given {
            command: Some(config.command.as_deref().unwrap_or_default()),
            inline: &config.inline,
            script: config.script.as_deref(),
            scripts: &config.scripts,
            shebang: &config.inline_shebang,
        }
        .check(cx);
        let environment = environment::parse(&config.environment_vars, &config.env, cx);
        let format = match &config.env_var_format {
            Some(text) => Format::check(text, cx),
            None => Format::assignments(),
        };
        for (option, texts) in [
            ("command", config.command.iter().collect::<Vec<_>>()),
            ("environment_vars", config.environment_vars.iter().collect()),
            ("env", config.env.values().collect()),
            ("execute_command", config.execute_command.iter().flatten().collect()),
        ] {
            for text in texts {
                late::check(option, text, cx);
            }
        }
        check_rest(&config, cx);
        Some(Self { config, scripts, environment, format })
    }
}

fn check_rest(config: &LocalCommandConfig, cx: &mut ValidateContext<'_>) {
    let option = if config.inline.is_empty() { "command" } else { "inline" };
    if config.use_linux_pathing && (!config.inline.is_empty() || config.command.is_some()) {
        cx.error(option, format!("\"{option}\" cannot be used with \"use_linux_pathing\""))
            .detail(
                "The Linux inside Windows does not see the temporary script that the commands are \
                 written to.",
            )
            .hint("Put the commands into a file and name it by \"script\".");
    }
    if config.inline_shebang.contains('\n') || config.inline_shebang.trim().is_empty() {
        cx.error("inline_shebang", "The first line of a script has to name a program")
            .hint("The default is \"/bin/sh -e\".");
    }
    if let Some([]) = config.execute_command.as_deref() {
        cx.error("execute_command", "The command is empty")
            .hint("Leave the option out to have the default.");
    } else if let Some(command) = &config.execute_command {
        if command[0].trim().is_empty() {
            cx.error("execute_command", "The first element has to name a program");
        }
        if !command.iter().any(|c| c.contains(".Script") || c.contains(".Command")) {
            cx.warning("execute_command", "The command does not run the script")
                .detail("Nothing in it stands for the script, which is {{.Script}}.");
        }
    }
    for system in config.only_on.iter().filter(|s| !SYSTEMS.contains(&s.as_str())) {
        let problem = cx.error("only_on", format!("Invalid OS specified in only_on: '{system}'"));
        problem.detail(format!("Supported OS names: {}.", SYSTEMS.join(", ")));
        if let Some(near) = karat_hcl::diag::closest(system, SYSTEMS) {
            problem.hint(format!("Did you mean \"{near}\"?"));
        }
    }
    if config.tempfile_extension.contains('/') {
        cx.error("tempfile_extension", "The ending of a file's name cannot hold a \"/\"");
    }
    if config.valid_exit_codes.is_empty() {
        cx.error("valid_exit_codes", "No exit code would count as success")
            .hint("Leave the option out to accept 0 alone.");
    }
    for code in config.valid_exit_codes.iter().filter(|c| !(0..=255).contains(*c)) {
        cx.error("valid_exit_codes", format!("{code} cannot be the exit code of a script"))
            .detail("Exit codes lie between 0 and 255.");
    }
}

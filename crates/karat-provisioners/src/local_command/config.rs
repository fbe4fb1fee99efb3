//! The options of what runs here.

use std::collections::BTreeMap;

use karat_config::Config;

/// What is run on this machine, and how.
///
/// Beside your own variables, a script has `PACKER_BUILD_NAME` (the name of the source),
/// `PACKER_BUILDER_TYPE`, `PACKER_RUN_UUID`, and `PACKER_HTTP_ADDR`, `PACKER_HTTP_IP` and
/// `PACKER_HTTP_PORT` where the builder serves files.
#[derive(Clone, Debug, Config)]
pub struct LocalCommandConfig {
    /// One command. It is written to a temporary script.
    #[option(late)]
    pub command: Option<String>,
    /// Commands, run as the lines of one script: a `cd` in one holds for the next.
    pub inline: Vec<String>,
    /// A script file. Relative paths start at the folder that the command is run in.
    #[option(input)]
    pub script: Option<String>,
    /// Script files, run in this order, each by itself.
    #[option(input)]
    pub scripts: Vec<String>,
    /// Environment variables of the scripts. Those given here win over `environment_vars`. A value
    /// may use values of the build: `{{.Password}}`.
    #[option(late)]
    pub env: BTreeMap<String, String>,
    /// Environment variables of the scripts, each as `NAME=value`. A value may use values of the
    /// build: `{{.Password}}`.
    #[option(late)]
    pub environment_vars: Vec<String>,
    /// How a variable is written in `{{.Vars}}`; `%s` stands for the name, the second `%s` for the
    /// value. The default is `%s='%s' `, with a space at the end. A `'` in a value is written so
    /// that it works between `'`.
    pub env_var_format: Option<String>,
    /// The program that runs a script, with its arguments. `{{.Script}}` is the script's path,
    /// `{{.Vars}}` the environment variables. The default is
    /// `["/bin/sh", "-c", "{{.Vars}} {{.Script}}"]`.
    #[option(late)]
    pub execute_command: Option<Vec<String>>,
    /// What stands behind `#!` in the first line of the script that `command` or `inline` is
    /// written to. `-e` ends the script at the first command that fails.
    #[option(default = "/bin/sh -e")]
    pub inline_shebang: String,
    /// Operating systems to run on; on others nothing is run, and that is no error. Of `darwin`,
    /// `freebsd`, `linux`, `openbsd`, `solaris` and `windows`.
    pub only_on: Vec<String>,
    /// The ending of the name of the temporary script (`.py`), for programs that care.
    pub tempfile_extension: String,
    /// Writes paths of Windows as the Linux inside Windows knows them. Nothing changes elsewhere.
    /// `inline` and `command` cannot be used with it.
    pub use_linux_pathing: bool,
    /// The exit codes of a script that count as success.
    #[option(default = [0])]
    pub valid_exit_codes: Vec<i32>,
}

//! The options of `shell`.

use std::collections::BTreeMap;

use karat_config::{Config, Duration};

/// Runs shell scripts on the machine that is being built.
///
/// Set exactly one of `inline`, `script` and `scripts`. Each script is sent, run and removed in
/// one exchange with the machine. Beside your own variables, a script has `PACKER_BUILD_NAME` (the
/// name of the source), `PACKER_BUILDER_TYPE`, and `PACKER_HTTP_ADDR`, `PACKER_HTTP_IP` and
/// `PACKER_HTTP_PORT` where the builder serves files.
#[derive(Clone, Debug, Config)]
pub struct ShellConfig {
    /// Commands, run as the lines of one script: a `cd` in one holds for the next.
    pub inline: Vec<String>,
    /// A script file on this machine. Relative paths start at the folder that the command is run
    /// in.
    #[option(input)]
    pub script: Option<String>,
    /// Script files on this machine, run in this order, each by itself.
    #[option(input)]
    pub scripts: Vec<String>,
    /// Sends scripts byte for byte. Otherwise the line ends of Windows become those of Unix.
    pub binary: bool,
    /// Environment variables of the scripts. Those given here win over `environment_vars`.
    pub env: BTreeMap<String, String>,
    /// Environment variables of the scripts, each as `NAME=value`.
    pub environment_vars: Vec<String>,
    /// How a variable is written for the shell; `%s` stands for the name, the second `%s` for the
    /// value. The default is `%s='%s' `, with a space at the end; with `use_env_var_file` it is
    /// `export %s='%s'` and a line end. A `'` in a value is written so that it works between `'`.
    pub env_var_format: Option<String>,
    /// The command that runs a script. `{{.Path}}` is the script on the machine, `{{.Vars}}` the
    /// environment variables, `{{.EnvVarFile}}` the file that holds them. The default is
    /// `chmod +x {{.Path}}; {{.Vars}} {{.Path}}`; with `use_env_var_file` it is
    /// `chmod +x {{.Path}}; . {{.EnvVarFile}} && {{.Path}}`.
    ///
    /// To run as root: `sudo env {{.Vars}} {{.Path}}`.
    #[option(late)]
    pub execute_command: Option<String>,
    /// Writes the environment variables to a file that only the login user can read, instead of
    /// writing them on the command line.
    pub use_env_var_file: bool,
    /// The folder on the machine that scripts are put in.
    #[option(default = "/tmp")]
    pub remote_folder: String,
    /// The name that a script gets on the machine. By default each has a fresh name like
    /// `script_0123456789.sh`.
    pub remote_file: Option<String>,
    /// The whole path that a script gets on the machine, instead of `remote_folder` and
    /// `remote_file`.
    pub remote_path: Option<String>,
    /// What stands behind `#!` in the first line of an `inline` script. `-e` ends the script at
    /// the first command that fails.
    #[option(default = "/bin/sh -e")]
    pub inline_shebang: String,
    /// A script may cut the connection, by rebooting for example. The provisioner then waits for
    /// the machine to come back, for `start_retry_timeout` at most, to remove the script. Without
    /// this, losing the connection is a failure, unless 2300218 is among the `valid_exit_codes`.
    pub expect_disconnect: bool,
    /// Leaves the scripts on the machine. Needed where a script shuts the machine down for good.
    pub skip_clean: bool,
    /// How long to try to start a script while the machine cannot be reached, after a reboot for
    /// example.
    #[option(default = "5m", volatile)]
    pub start_retry_timeout: Duration,
    /// How long to wait after the last script.
    #[option(volatile)]
    pub pause_after: Duration,
    /// The exit codes of a script that count as success. 2300218 stands for a lost connection.
    #[option(default = [0])]
    pub valid_exit_codes: Vec<i32>,
}

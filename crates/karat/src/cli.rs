//! The command line. Doc comments are the help texts.

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::error::{Failure, exit};
use crate::goflags;
use crate::report::out;

/// Image-as-code pipeline: builds golden machine images from Packer templates.
///
/// Templates are read as they are. A template is a file (.pkr.hcl, .pkr.json), a folder of such
/// files, or a legacy template: a JSON file of any other name, or - for the standard input. Flags
/// may be written with one dash or two, and come before the template.
#[derive(Debug, Parser)]
#[command(name = "karat", version, disable_version_flag = true, disable_help_subcommand = false)]
#[command(args_override_self = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(commands::build::BuildArgs),
    Validate(commands::validate::ValidateArgs),
    Plan(commands::plan::PlanArgs),
    Inspect(commands::inspect::InspectArgs),
    Console(commands::console::ConsoleArgs),
    Fmt(commands::fmt::FmtArgs),
    Fix(commands::fix::FixArgs),
    #[command(name = "hcl2_upgrade")]
    Hcl2Upgrade(commands::hcl2_upgrade::Hcl2UpgradeArgs),
    Init(commands::init::InitArgs),
    #[command(alias = "plugin")]
    Plugins(commands::plugins::PluginsArgs),
    Recover(commands::recover::RecoverArgs),
    Runs(commands::runs::RunsArgs),
    Logs(commands::logs::LogsArgs),
    Resume(commands::resume::ResumeArgs),
    VerifyBuild(commands::verify_build::VerifyBuildArgs),
    Gc(commands::gc::GcArgs),
    #[command(name = "iam-policy")]
    IamPolicy(commands::iam_policy::IamPolicyArgs),
    Import(commands::import::ImportArgs),
    Lab(commands::lab::LabArgs),
    Docs(commands::docs::DocsArgs),
    Lsp(commands::lsp::LspArgs),
    Schema(commands::schema::SchemaArgs),
    Completion(commands::completion::CompletionArgs),
    Version(commands::version::VersionArgs),
}

/// What the help of a command calls the flags of Packer that change nothing here.
pub(crate) const WITHOUT_EFFECT: &str = "Without effect";

/// A flag that is taken off the command line before it is read, wherever it stands.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct MachineArgs {
    /// Prints records of values separated by commas: time, build, kind, values. May stand anywhere.
    #[arg(long = "machine-readable")]
    _machine_readable: bool,
}

/// Flags that change nothing here.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct IgnoredArgs {
    /// Accepted for Packer's sake; builds are not looked at.
    #[arg(long = "only", hide = true, value_name = "GLOBS")]
    _only: Vec<String>,
    /// Accepted for Packer's sake; builds are not looked at.
    #[arg(long = "except", hide = true, value_name = "GLOBS")]
    _except: Vec<String>,
    /// Accepted for Packer's sake; the evaluation is the same.
    #[arg(long = "use-sequential-evaluation", help_heading = WITHOUT_EFFECT)]
    _use_sequential_evaluation: bool,
}

/// Which template, and its variables.
#[derive(Clone, Debug, Args)]
pub(crate) struct TemplateArgs {
    /// Sets a variable: NAME=VALUE. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) var: Vec<String>,
    /// Reads variables from a file (.hcl or .json). May be given several times.
    #[arg(long = "var-file", value_name = "FILE")]
    pub(crate) var_file: Vec<String>,
    /// What the template is written in, where its name does not say.
    #[arg(long = "config-type", value_name = "TYPE", ignore_case = true)]
    pub(crate) config_type: Option<ConfigType>,
    /// A file, a folder, or - for the standard input.
    #[arg(value_name = "TEMPLATE")]
    pub(crate) template: String,
}

/// What Packer takes with every template, and what makes no difference to commands that only
/// rewrite its text.
#[derive(Clone, Debug, Args)]
pub(crate) struct LegacyArgs {
    /// Accepted; makes no difference.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    var: Vec<String>,
    /// Accepted; makes no difference.
    #[arg(long = "var-file", value_name = "FILE")]
    var_file: Vec<String>,
    /// Accepted; makes no difference.
    #[arg(long, value_name = "NAMES")]
    only: Vec<String>,
    /// Accepted; makes no difference.
    #[arg(long, value_name = "NAMES")]
    except: Vec<String>,
    /// Accepted; makes no difference.
    #[arg(long = "config-type", value_name = "TYPE", ignore_case = true)]
    config_type: Option<ConfigType>,
}

/// What a template is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigType {
    /// HashiCorp's configuration language.
    Hcl2,
    /// Packer's older form.
    Json,
}

/// Which builds.
#[derive(Clone, Debug, Args)]
pub(crate) struct SelectArgs {
    /// Only these builds and what they need: globs over TYPE.NAME, in a build with a name
    /// BUILD.TYPE.NAME, separated by commas.
    #[arg(long, value_name = "GLOBS", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// All builds but these. Also leaves out post-processors of these names and types, and what
    /// follows them.
    #[arg(long, value_name = "GLOBS", value_delimiter = ',')]
    pub(crate) except: Vec<String>,
}

/// Colours.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ColourArgs {
    /// Colours the output.
    #[arg(
        long = "color",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_parser = goflags::parse_bool
    )]
    colour: bool,
}

impl ColourArgs {
    /// Whether the output is to be coloured, as the flag and the environment have it.
    pub(crate) fn on(self) -> bool {
        out::colour(self.colour)
    }
}

pub(crate) fn assignment(text: &str) -> Result<String, String> {
    if text.contains('=') { Ok(text.to_owned()) } else { Err("write NAME=VALUE".into()) }
}

/// What holds for all commands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Global {
    /// Whether to print records instead of text.
    pub(crate) machine_readable: bool,
    /// Whether the program was started under the name `packer`.
    pub(crate) as_packer: bool,
}

/// Runs the command that `args` ask for, and gives the exit code.
pub(crate) fn run(args: Vec<String>, as_packer: bool) -> u8 {
    let root = Cli::command();
    let args = match args.first().map(String::as_str) {
        // What stands behind them does not matter.
        Some("version" | "-v" | "-version" | "--version") => {
            let machine = |a: &String| a.trim_start_matches('-') == "machine-readable";
            let machine = args.iter().skip(1).find(|a| a.starts_with('-') && machine(a)).cloned();
            std::iter::once("version".to_owned()).chain(machine).collect()
        }
        _ => args,
    };
    if args.first().is_some_and(|a| a == "help") {
        out::stdout(&Cli::command().render_help().to_string());
        return exit::NO_COMMAND;
    }
    let unknown = match args.iter().find(|a| !a.starts_with('-')) {
        Some(name) => root.find_subcommand(name).is_none(),
        None => !args.iter().any(|a| is_help_or_version(a)),
    };
    if unknown {
        out::stdout(&Cli::command().render_help().to_string());
        if let Some(name) = args.iter().find(|a| !a.starts_with('-')) {
            let names: Vec<String> =
                root.get_subcommands().map(|c| c.get_name().to_owned()).collect();
            let best = karat_hcl::diag::closest(name, names.iter().map(String::as_str));
            let hint = best.map(|b| format!(" Did you mean \"{b}\"?")).unwrap_or_default();
            out::stderr_line(&format!("\nError: there is no command \"{name}\".{hint}"));
        }
        return exit::NO_COMMAND;
    }
    let flags = goflags::rewrite(&root, args);
    if flags.machine_readable {
        out::errors_to_records();
    }
    let name = if as_packer { "packer" } else { "karat" };
    let parsed = Cli::try_parse_from(std::iter::once(name.to_owned()).chain(flags.args));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            out::stdout(&error.render().to_string());
            return exit::OK;
        }
        Err(error) => {
            out::stderr_line(error.render().to_string().trim_end());
            return exit::FAILED;
        }
    };
    crate::log::start();
    let global = Global { machine_readable: flags.machine_readable, as_packer };
    match dispatch(cli, global) {
        Ok(()) => exit::OK,
        Err(failure) => failure.report(),
    }
}

fn is_help_or_version(arg: &str) -> bool {
    ["-h", "-help", "--help", "-v", "-version", "--version"].contains(&arg)
}

fn dispatch(cli: Cli, global: Global) -> Result<(), Failure> {
    match cli.command {
        Command::Build(args) => commands::build::run(args, global),
        Command::Validate(args) => commands::validate::run(args, global),
        Command::Plan(args) => commands::plan::run(args, global),
        Command::Inspect(args) => commands::inspect::run(args, global),
        Command::Console(args) => commands::console::run(args, global),
        Command::Fmt(args) => commands::fmt::run(args),
        Command::Init(args) => commands::init::run(args, global),
        Command::Plugins(args) => commands::plugins::run(args, global),
        Command::Fix(args) => commands::fix::run(&args, global),
        Command::Hcl2Upgrade(args) => commands::hcl2_upgrade::run(&args, global),
        Command::Recover(args) => commands::recover::run(args),
        Command::Runs(args) => commands::runs::run(args),
        Command::Logs(args) => commands::logs::run(args),
        Command::Resume(args) => commands::resume::run(args, global),
        Command::VerifyBuild(args) => commands::verify_build::run(args, global),
        Command::Gc(args) => commands::gc::run(args),
        Command::IamPolicy(args) => commands::iam_policy::run(args),
        Command::Import(args) => commands::import::run(args),
        Command::Lab(args) => commands::lab::run(args),
        Command::Docs(args) => commands::docs::run(args),
        Command::Lsp(args) => commands::lsp::run(&args),
        Command::Schema(args) => commands::schema::run(&args),
        Command::Completion(args) => commands::completion::run(args),
        Command::Version(args) => commands::version::run(args, global),
    }
}

/// The whole command line, for completions and the manual.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// The runtime that commands with waiting in them run in.
///
/// # Errors
/// When the system gives no threads.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

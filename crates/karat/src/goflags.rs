//! Packer's flags are Go's: `-x`, `--x`, `-x=v`, `-x v`; a switch takes its value after `=` only;
//! of the same flag given twice the last counts; flags end at the first argument that is none, for
//! the commands that Packer has. This turns them into what clap reads.

use clap::{ArgAction, Command};

/// The commands that Packer has too. What comes after a template is no flag there, even if it looks
/// like one; Karat's own commands take flags anywhere.
const PACKERS: &[&str] = &[
    "build",
    "console",
    "fix",
    "fmt",
    "hcl2_upgrade",
    "init",
    "inspect",
    "plugins",
    "validate",
    "version",
];

/// What a list of arguments, without the program's name, is for clap.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flags {
    /// The arguments for clap.
    pub(crate) args: Vec<String>,
    /// Whether `-machine-readable` stood anywhere.
    pub(crate) machine_readable: bool,
}

/// Rewrites `args`, the first of which is the name of a command of `root`.
pub(crate) fn rewrite(root: &Command, args: Vec<String>) -> Flags {
    let before = args.len();
    let mut args: Vec<String> = args
        .into_iter()
        .filter(|a| a != "-machine-readable" && a != "--machine-readable")
        .collect();
    let machine_readable = args.len() != before;
    match args.first().map(String::as_str) {
        Some("-v" | "-version" | "--version") => args[0] = "version".into(),
        Some("-h" | "-help" | "--help") => args[0] = "--help".into(),
        _ => {}
    }
    let flags_end = args.first().is_some_and(|name| PACKERS.contains(&name.as_str()));
    let mut out = Vec::with_capacity(args.len());
    let mut command = Some(root);
    let mut args = args.into_iter().peekable();
    while let (Some(name), Some(parent)) = (args.peek(), command) {
        let Some(next) = parent.find_subcommand(name) else { break };
        command = Some(next);
        out.extend(args.next());
        if !next.has_subcommands() {
            break;
        }
    }
    let command = command.unwrap_or(root);
    while let Some(arg) = args.next() {
        let Some(name) = flag_name(&arg) else {
            if !flags_end && arg != "--" {
                out.push(arg);
                continue;
            }
            // Help is given wherever it is asked for.
            let asked = |a: &String| matches!(a.as_str(), "-h" | "-help" | "--help");
            if arg != "--" && args.clone().take_while(|a| a != "--").any(|a| asked(&a)) {
                out.push("--help".into());
                break;
            }
            if arg != "--" {
                out.push("--".into());
            }
            out.push(arg);
            out.extend(args);
            break;
        };
        let known = command.get_arguments().find(|a| a.get_long() == Some(name.as_str()));
        let takes_value = known.is_some_and(|a| {
            matches!(a.get_action(), ArgAction::Set | ArgAction::Append)
                && !a.is_require_equals_set()
        });
        let has_value = arg.contains('=');
        let is_switch = known.is_some_and(|a| matches!(a.get_action(), ArgAction::SetTrue));
        let given = arg.split_once('=').map(|(_, value)| parse_bool(value));
        if let (true, Some(Ok(on))) = (is_switch, given) {
            // The last one counts.
            let switch = format!("--{name}");
            out.retain(|a| *a != switch);
            out.extend(on.then_some(switch));
            continue;
        }
        let value = arg.split_once('=').map(|(_, value)| format!("={value}")).unwrap_or_default();
        out.push(format!("--{name}{value}"));
        if takes_value && !has_value {
            // The value may look like a flag: `-var -x=y` is a variable named `-x`.
            if let (Some(last), Some(value)) = (out.last_mut(), args.next()) {
                last.push('=');
                last.push_str(&value);
            }
        }
    }
    Flags { args: out, machine_readable }
}

/// The name of a flag, without dashes and value. `-` alone is the standard input.
fn flag_name(arg: &str) -> Option<String> {
    let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    if name.is_empty() {
        return None;
    }
    let name = name.split('=').next().unwrap_or(name);
    Some(if name == "h" { "help".into() } else { name.to_owned() })
}

/// Reads what Go's `strconv.ParseBool` reads.
///
/// # Errors
/// Names the words that can be given.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("write true or false".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn root() -> Command {
        let switch = |name| {
            Arg::new(name).long(name).num_args(0..=1).require_equals(true).action(ArgAction::Set)
        };
        let runs = Command::new("runs").arg(Arg::new("limit").long("limit"));
        Command::new("karat").subcommand(Command::new("version")).subcommand(runs).subcommand(
            Command::new("build")
                .arg(Arg::new("var").long("var").action(ArgAction::Append))
                .arg(switch("color"))
                .arg(Arg::new("force").long("force").action(ArgAction::SetTrue))
                .arg(Arg::new("template").num_args(0..)),
        )
    }

    #[track_caller]
    fn check(given: &[&str], want: &[&str]) {
        let flags = rewrite(&root(), given.iter().map(|s| (*s).to_owned()).collect());
        assert_eq!(flags.args, want);
    }

    #[test]
    fn one_dash_or_two() {
        check(&["build", "-force", "t"], &["build", "--force", "--", "t"]);
        check(&["build", "--color=false", "t"], &["build", "--color=false", "--", "t"]);
        check(&["build", "-var", "a=b", "-"], &["build", "--var=a=b", "--", "-"]);
        check(&["build", "-var=a=b"], &["build", "--var=a=b"]);
    }

    #[test]
    fn help_is_given_wherever_it_is_asked_for() {
        check(&["build", "t", "-h"], &["build", "--help"]);
        check(&["build", "-force", "t", "x", "--help"], &["build", "--force", "--help"]);
        check(&["build", "t", "--", "-h"], &["build", "--", "t", "--", "-h"]);
    }

    #[test]
    fn own_commands_take_flags_after_other_arguments() {
        check(&["runs", "x", "-limit", "2", "-"], &["runs", "x", "--limit=2", "-"]);
        check(&["runs", "x", "--", "-limit"], &["runs", "x", "--", "-limit"]);
    }

    #[test]
    fn switches_take_a_value_after_the_equals_sign() {
        check(&["build", "-force=true", "t"], &["build", "--force", "--", "t"]);
        check(&["build", "-force=F", "t"], &["build", "--", "t"]);
        check(&["build", "-force", "--force=0", "t"], &["build", "--", "t"]);
        check(&["build", "-force=0", "-force=T", "t"], &["build", "--force", "--", "t"]);
        check(&["build", "-force=maybe", "t"], &["build", "--force=maybe", "--", "t"]);
    }

    #[test]
    fn flags_end_at_the_template() {
        check(&["build", "t", "-force"], &["build", "--", "t", "-force"]);
        check(&["build", "-color", "false"], &["build", "--color", "--", "false"]);
    }

    #[test]
    fn machine_readable_stands_anywhere() {
        let args = ["build", "t", "-machine-readable"].map(str::to_owned).to_vec();
        let flags = rewrite(&root(), args);
        assert_eq!(flags.args, ["build", "--", "t"]);
        assert!(flags.machine_readable);
    }

    #[test]
    fn help_and_version() {
        check(&["-v"], &["version"]);
        check(&["-help"], &["--help"]);
        check(&["build", "-h"], &["build", "--help"]);
    }
}

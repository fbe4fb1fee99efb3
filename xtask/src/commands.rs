//! The command line as a chapter of the manual and as man pages.

use std::fmt::Write as _;
use std::io;

use clap::{Arg, ArgAction, Command};
use clap_mangen::Man;

/// Accepted for Packer's sake, and hidden in the help.
const HIDDEN_NOTE: &str = "Also accepted, without effect, so that scripts for Packer run";

/// The chapter of the manual.
pub(crate) fn markdown(root: &Command) -> String {
    let mut text = String::from(
        "# Commands\n\nFlags may be written with one dash or two, and come before the template. A \
         switch is turned off by `=false`. `-machine-readable` may stand anywhere on the command \
         line of every command.\n\n",
    );
    let shown = || root.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
    text.push_str("| command | what |\n|---|---|\n");
    for command in shown() {
        let name = command.get_name();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ =
            writeln!(text, "| [`karat {name}`](#karat-{name}) | {} |", about.replace('|', "\\|"));
    }
    for command in shown() {
        section(command, &mut text);
    }
    text
}

fn section(command: &Command, text: &mut String) {
    let name = command.get_name();
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let arguments: Vec<&Arg> = command.get_positionals().collect();
    let flags: Vec<&Arg> = command.get_arguments().filter(|a| !a.is_positional()).collect();
    let _ = writeln!(text, "\n## `karat {name}`\n\n{}", sentence(&about));
    let mut usage = format!("karat {name}");
    if flags.iter().any(|a| !a.is_hide_set()) {
        usage.push_str(" [FLAGS]");
    }
    for argument in &arguments {
        let _ = write!(usage, " {}", placeholder(argument));
    }
    let _ = writeln!(text, "\n```text\n{usage}\n```");
    let shown = arguments.iter().chain(flags.iter().filter(|a| !a.is_hide_set()));
    let mut lines = shown.map(|arg| item(arg)).peekable();
    if lines.peek().is_some() {
        text.push('\n');
    }
    lines.for_each(|line| text.push_str(&line));
    let hidden: Vec<String> = flags
        .iter()
        .filter(|a| a.is_hide_set())
        .filter_map(|a| Some(format!("`-{}`", a.get_long()?)))
        .collect();
    if !hidden.is_empty() {
        let _ = writeln!(text, "\n{HIDDEN_NOTE}: {}.", hidden.join(", "));
    }
}

fn placeholder(argument: &Arg) -> String {
    let name = value_name(argument);
    let more = if argument.get_num_args().is_some_and(|n| n.max_values() > 1)
        || matches!(argument.get_action(), ArgAction::Append)
    {
        "…"
    } else {
        ""
    };
    if argument.is_required_set() { format!("{name}{more}") } else { format!("[{name}{more}]") }
}

fn value_name(argument: &Arg) -> String {
    argument
        .get_value_names()
        .and_then(<[_]>::first)
        .map_or_else(|| argument.get_id().to_string().to_uppercase(), ToString::to_string)
}

fn item(argument: &Arg) -> String {
    let name = match argument.get_long() {
        None => value_name(argument),
        Some(long) if argument.is_require_equals_set() => {
            format!("-{long}={}", value_name(argument))
        }
        Some(long) if takes_value(argument) => format!("-{long} {}", value_name(argument)),
        Some(long) => format!("-{long}"),
    };
    let help = argument.get_long_help().or(argument.get_help());
    let mut text =
        format!("- `{name}`: {}", sentence(&help.map(ToString::to_string).unwrap_or_default()));
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| takes_value(argument))
        .map(|v| format!("`{}`", v.get_name()))
        .collect();
    if !values.is_empty() {
        let _ = write!(text, " One of {}.", values.join(", "));
    }
    let defaults: Vec<String> = argument
        .get_default_values()
        .iter()
        .filter(|_| takes_value(argument))
        .map(|v| format!("`{}`", v.to_string_lossy()))
        .collect();
    if !defaults.is_empty() {
        let _ = write!(text, " Default: {}.", defaults.join(", "));
    }
    text.push('\n');
    text
}

fn takes_value(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
}

/// Help texts in one line lose their last full stop; here they have it.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let ends = text.ends_with(['.', ':', ')', '?']) || text.is_empty();
    if ends && !text.ends_with(')') { text.to_owned() } else { format!("{text}.") }
}

/// `karat.1` and a page for every command, by their file names.
pub(crate) fn man_pages(root: &Command) -> io::Result<Vec<(String, String)>> {
    let mut root = root.clone();
    root.build();
    let mut pages = vec![("karat.1".to_owned(), man_page(root.clone())?)];
    for command in root.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let name = format!("karat-{}", command.get_name());
        let command = command.clone().display_name(name.clone());
        pages.push((format!("{name}.1"), man_page(command)?));
    }
    Ok(pages)
}

fn man_page(command: Command) -> io::Result<String> {
    let mut bytes = Vec::new();
    Man::new(command).source("karat").manual("Karat").render(&mut bytes)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_flag_is_there() {
        let root = karat::manual::command();
        let text = markdown(&root);
        for command in root.get_subcommands() {
            assert!(text.contains(&format!("## `karat {}`", command.get_name())));
            for long in command.get_arguments().filter_map(Arg::get_long) {
                assert!(text.contains(&format!("`-{long}")), "{} -{long}", command.get_name());
            }
        }
    }

    #[test]
    fn values_and_defaults_are_told() {
        let text = markdown(&karat::manual::command());
        let line = text.lines().find(|l| l.starts_with("- `-on-error WHAT`")).unwrap();
        assert!(line.contains("`run-cleanup-provisioner`") && line.contains("Default: `cleanup`"));
    }
}

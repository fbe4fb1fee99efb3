//! `karat resume`

use clap::{Args, ValueEnum as _};
use karat_engine::RunOptions;
use karat_provisioners::local_command::end_leftovers;
use karat_saga::{Cancellation, Journal};

use crate::cli::{ColourArgs, ConfigType, Global, TemplateArgs, runtime};
use crate::commands::build::{Show, conclude, drive_resumed};
use crate::commands::lab::{rehearse, was_rehearsal};
use crate::commands::recover::{is_dead, run_id};
use crate::data::Fetch;
use crate::error::Failure;
use crate::session::{self, Session};
use crate::{env, signals};

/// Goes on with a run that failed, was kept or died, from the first step that is not done.
///
/// Uses the template and the variables of the run. Secrets are not stored: give the flags that
/// hold them again.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// Sets a variable again: NAME=VALUE.
    #[arg(long, value_name = "NAME=VALUE")]
    var: Vec<String>,
    /// Reads variables from a file as well.
    #[arg(long = "var-file", value_name = "FILE")]
    var_file: Vec<String>,
    #[command(flatten)]
    colour: ColourArgs,
    /// Prints each event as a line of JSON.
    #[arg(long)]
    json: bool,
    /// The run, as `karat runs` shows it.
    #[arg(value_name = "RUN")]
    run: String,
}

pub(crate) fn run(args: ResumeArgs, global: Global) -> Result<(), Failure> {
    let id = run_id(&args.run)?;
    let show = Show {
        machine_readable: global.machine_readable,
        json: args.json,
        colour: args.colour.on() && !args.json && !global.machine_readable,
        timestamps: false,
    };
    runtime()?.block_on(async {
        let journal = Journal::open(&env::state_dir())?;
        let record = journal.run(id).await?;
        if was_rehearsal(&record.info.command) {
            rehearse()?;
        }
        if is_dead(&record) {
            end_leftovers(&id.to_uuid())?;
        }
        let mut stored = stored_flags(&record.info.command, &args)?;
        stored.template = record.info.template.clone().unwrap_or_default();
        std::env::set_current_dir(&record.info.cwd).map_err(|e| {
            Failure::new(format!("cannot go to the folder of the run, {}: {e}", record.info.cwd))
        })?;
        let session = Session::load(&stored, Fetch::All, false, show.colour)?;
        session.checked()?;
        let (only, except) = selection(&record.info.command);
        let selected = session.select(&only, &except)?;
        let request = session.request(selected, RunOptions::default());
        let engine = session::engine(show.prompt())?;
        session.report(&engine.validate(&request))?;
        let cancellation = Cancellation::new();
        let report = show.report();
        signals::watch(&cancellation, Some(std::sync::Arc::clone(&report)))?;
        let summary = drive_resumed(&engine, request, id, &session, report, &cancellation).await?;
        conclude(&summary, &cancellation)
    })
}

/// The values of a flag in a stored command line, in either form.
fn values(command: &[String], flag: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut words = command.iter().peekable();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        match name.split_once('=') {
            Some((name, value)) if name == flag => found.push(value.to_owned()),
            None if name == flag => found.extend(words.next().cloned()),
            _ => {}
        }
    }
    found
}

fn selection(command: &[String]) -> (Vec<String>, Vec<String>) {
    let list =
        |flag| values(command, flag).iter().flat_map(|v| v.split(',').map(str::to_owned)).collect();
    (list("only"), list("except"))
}

/// The variables of the run, and those given now. A masked value has to be given again.
fn stored_flags(command: &[String], args: &ResumeArgs) -> Result<TemplateArgs, Failure> {
    let given: Vec<&str> = args.var.iter().filter_map(|v| v.split('=').next()).collect();
    let mut var = Vec::new();
    for value in values(command, "var") {
        let name = value.split('=').next().unwrap_or_default();
        if given.contains(&name) {
            continue;
        }
        if value.contains(karat_component::MASK) {
            return Err(Failure::new(format!(
                "the value of the variable \"{name}\" is a secret and was not stored"
            ))
            .hint(format!("give it again: karat resume -var {name}=… {}", args.run)));
        }
        var.push(value);
    }
    var.extend(args.var.clone());
    let mut var_file = values(command, "var-file");
    var_file.extend(args.var_file.clone());
    let told = values(command, "config-type").pop();
    let config_type = told.and_then(|told| ConfigType::from_str(&told, true).ok());
    Ok(TemplateArgs { var, var_file, config_type, template: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_in_a_stored_command_line() {
        let command =
            ["karat", "build", "-var", "a=b", "--var=c=d", "-only=x,y", "t"].map(str::to_owned);
        assert_eq!(values(&command, "var"), ["a=b", "c=d"]);
        assert_eq!(selection(&command).0, ["x", "y"]);
    }
}

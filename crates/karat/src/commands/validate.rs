//! `karat validate`

use clap::Args;
use karat_engine::RunOptions;

use crate::cli::{
    ColourArgs, Global, MachineArgs, SelectArgs, TemplateArgs, WITHOUT_EFFECT, runtime,
};
use crate::data::Fetch;
use crate::error::Failure;
use crate::prompt::Nobody;
use crate::report::{machine, out};
use crate::session::{self, Session};

/// Checks a template without building it.
///
/// Needs no credentials and reaches no network, unless data sources are asked for.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Checks the syntax only.
    #[arg(long = "syntax-only")]
    syntax_only: bool,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    colour: ColourArgs,
    /// Fetches data sources; without, their values are taken as unknown.
    #[arg(long = "evaluate-datasources")]
    evaluate_datasources: bool,
    /// Does not warn of values in variable files for variables that are not declared.
    #[arg(long = "no-warn-undeclared-var")]
    no_warn_undeclared_var: bool,
    /// Accepted for Packer's sake; there are no prerelease plugins to be ignored.
    #[arg(long = "ignore-prerelease-plugins", help_heading = WITHOUT_EFFECT)]
    _ignore_prerelease_plugins: bool,
    /// Accepted for Packer's sake; the evaluation is the same.
    #[arg(long = "use-sequential-evaluation", help_heading = WITHOUT_EFFECT)]
    _use_sequential_evaluation: bool,
    #[command(flatten)]
    _machine: MachineArgs,
    #[command(flatten)]
    template: TemplateArgs,
}

pub(crate) fn run(args: ValidateArgs, global: Global) -> Result<(), Failure> {
    let colour = args.colour.on() && !global.machine_readable;
    runtime()?.block_on(async {
        let warn_undeclared = !args.no_warn_undeclared_var;
        let session = if args.syntax_only {
            Session::load_text(&args.template, warn_undeclared, colour)?
        } else {
            let fetch = Fetch::all_if(args.evaluate_datasources);
            Session::load(&args.template, fetch, warn_undeclared, colour)?
        };
        if args.syntax_only {
            session.early_checked()?;
            syntax_passed(global);
            return Ok(());
        }
        session.readable()?;
        let mut diags = session.diags.clone();
        let selected = session.select(&args.select.only, &args.select.except)?;
        let request = session.request(selected, RunOptions::default());
        let engine = session::planner(std::sync::Arc::new(Nobody));
        diags.append(engine.validate(&request));
        session.report(&diags)?;
        session.need_builds()?;
        said(global, "The configuration is valid.");
        Ok(())
    })
}

/// Packer has looked at no values at this point, so that no secret hides a part of its words.
fn syntax_passed(global: Global) {
    let text = "Syntax-only check passed. Everything looks okay.";
    if global.machine_readable {
        machine::fixed("say", text);
    } else {
        out::masked_line(text);
    }
}

fn said(global: Global, text: &str) {
    if global.machine_readable {
        machine::say(text);
    } else {
        out::stdout_line(text);
    }
}

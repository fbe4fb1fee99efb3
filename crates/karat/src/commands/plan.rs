//! `karat plan`

use std::fmt::Write as _;
use std::sync::Arc;

use clap::Args;
use karat_engine::{BuildPlan, RunOptions, Verdict};

use crate::cli::{ColourArgs, Global, SelectArgs, TemplateArgs, runtime};
use crate::data::Fetch;
use crate::error::Failure;
use crate::prompt::Nobody;
use crate::report::out;
use crate::session::{self, Session};

/// Shows what would be built, and why. Builds nothing.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    colour: ColourArgs,
    /// Plans as `build -force` would build.
    #[arg(long)]
    force: bool,
    /// Prints the plan as JSON.
    #[arg(long)]
    json: bool,
    /// Prints what each fingerprint is made of.
    #[arg(long)]
    inputs: bool,
    #[command(flatten)]
    template: TemplateArgs,
}

pub(crate) fn run(args: PlanArgs, _: Global) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let session = Session::load(&args.template, Fetch::All, false, args.colour.on())?;
        session.checked()?;
        session.need_builds()?;
        let selected = session.select(&args.select.only, &args.select.except)?;
        let options = RunOptions { force: args.force, ..RunOptions::default() };
        let request = session.request(selected, options);
        let engine = session::planner(Arc::new(Nobody));
        session.report(&engine.validate(&request))?;
        let plans = engine.plan(&request).await?;
        if args.json {
            let mut plans = serde_json::to_value(&plans)?;
            session.masker.mask_json(&mut plans);
            out::masked_line(&serde_json::to_string_pretty(&plans)?);
        } else {
            out::stdout(&session.masker.mask(&text(&plans, args.inputs)));
        }
        Ok(())
    })
}

fn text(plans: &[BuildPlan], inputs: bool) -> String {
    let mut text = String::new();
    for plan in plans {
        let (mark, why) = match &plan.verdict {
            Verdict::Reuse => {
                ("=", vec!["up to date: nothing that goes into it changed".to_owned()])
            }
            Verdict::First => ("+", vec!["build: it was never built here".to_owned()]),
            Verdict::Forced => ("~", vec!["build: -force is given".to_owned()]),
            Verdict::Always => ("~", vec!["build: such a source is built every time".to_owned()]),
            Verdict::Damaged => {
                ("~", vec!["build: what it made last is gone or damaged".to_owned()])
            }
            Verdict::Changed { changes } => {
                ("~", changes.iter().map(|c| format!("build: {c}")).collect())
            }
            Verdict::Open { on, changes } => {
                let waits = on.iter().map(|on| format!("depends on {on}"));
                ("?", changes.iter().map(|c| format!("build: {c}")).chain(waits).collect())
            }
        };
        let _ = writeln!(text, "{mark} {}", plan.target);
        for line in why {
            let _ = writeln!(text, "    {line}");
        }
        if !plan.needs.is_empty() {
            let _ = writeln!(text, "    uses the artifact of {}", plan.needs.join(", "));
        }
        if inputs {
            for (name, digest) in &plan.inputs {
                let _ = writeln!(text, "    · {name}: {digest}");
            }
        }
    }
    let reuse = plans.iter().filter(|p| p.verdict == Verdict::Reuse).count();
    let open = plans.iter().filter(|p| matches!(p.verdict, Verdict::Open { .. })).count();
    let build = plans.len() - reuse - open;
    let _ = write!(text, "\n{build} to build, {reuse} up to date");
    if open > 0 {
        let _ = write!(text, ", {open} to be seen");
    }
    text.push_str(".\n");
    text
}

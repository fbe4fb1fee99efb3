//! `karat iam-policy`

use std::sync::Arc;

use clap::Args;
use karat_aws::Policy;
use karat_config::ComponentKind;
use karat_engine::RunOptions;

use crate::cli::{ColourArgs, SelectArgs, TemplateArgs, runtime};
use crate::data::Fetch;
use crate::error::Failure;
use crate::prompt::Nobody;
use crate::report::out;
use crate::session::{self, Session};

/// Prints the least policy of IAM that a template's builds need on AWS.
///
/// Reaches no network. What builds change or remove is bound to the tag that everything made for a
/// build has.
#[derive(Debug, Args)]
pub(crate) struct IamPolicyArgs {
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    colour: ColourArgs,
    #[command(flatten)]
    template: TemplateArgs,
}

pub(crate) fn run(args: IamPolicyArgs) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let nothing = Fetch::all_if(false);
        let session = Session::load(&args.template, nothing, false, args.colour.on())?;
        session.checked()?;
        session.need_builds()?;
        let selected = session.select(&args.select.only, &args.select.except)?;
        let request = session.request(selected, RunOptions::default());
        let engine = session::planner(Arc::new(Nobody));
        session.report(&engine.validate(&request))?;
        let mut policy = Policy::default();
        for (kind, params) in engine.steps(&request)? {
            policy.step(kind, &params);
        }
        for used in session.uses.iter().filter(|used| used.kind == ComponentKind::DataSource) {
            policy.data_source(&used.type_name);
        }
        if policy.is_empty() {
            return Err(Failure::new("nothing in this template needs AWS"));
        }
        out::stdout_line(&serde_json::to_string_pretty(&policy.document())?);
        Ok(())
    })
}

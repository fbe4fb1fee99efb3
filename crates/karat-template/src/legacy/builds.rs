//! One build per builder, with the provisioners and post-processors that are left for it.

use std::sync::Arc;

use indexmap::IndexMap;
use karat_functions::World;
use karat_hcl::ast;
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_hcl::json_text::{Member, Text};
use karat_legacy::{Builder, PostProcessor, Provisioner, Template};
use karat_text::{Engine, Place};

use super::Options;
use crate::build::{Build, BuildOutline, ComponentBlock, PostProcessorBlock, ProvisionerBlock};
use crate::evaluate::Evaluated;

/// Lays out the builds, in the order of their names.
pub(super) fn lay_out(
    evaluated: &Evaluated,
    world: &dyn World,
    diags: &mut Diagnostics,
) -> (Vec<Build>, BuildOutline) {
    let Some(legacy) = evaluated.legacy() else { return (Vec::new(), BuildOutline::default()) };
    let template = &legacy.template;
    let folder = evaluated.root().to_string_lossy().into_owned();
    let mut engine = Engine::new(world, "", "", &folder);
    engine.packer_version = crate::PACKER_VERSION.to_owned();
    engine.place = Place::Legacy(Arc::clone(&legacy.variables));
    let mut planner = Planner { template, engine, diags };
    let mut builds: IndexMap<String, (Span, Build)> = IndexMap::new();
    for builder in &template.builders {
        let Some(name) = planner.name(builder) else { continue };
        if let Some((first, _)) = builds.get(&name) {
            planner.diags.push(
                Diagnostic::error(format!("Duplicate build \"{name}\""))
                    .at(builder.name.span)
                    .also(*first, "first given here")
                    .detail("Two builders have the same name once their variables are filled in."),
            );
            continue;
        }
        let build = planner.build(builder, &name);
        builds.insert(name, (builder.name.span, build));
    }
    builds.sort_keys();
    let builds: Vec<Build> = builds.into_values().map(|(_, build)| build).collect();
    let outline = outline(template, &builds);
    (builds, outline)
}

fn outline(template: &Template, builds: &[Build]) -> BuildOutline {
    let type_of = |p: &Provisioner| (p.type_name.text.clone(), None);
    let post_processor = |p: &PostProcessor| {
        let name = (p.name.text != p.type_name.text).then(|| p.name.text.clone());
        (p.type_name.text.clone(), name)
    };
    BuildOutline {
        name: String::new(),
        description: template.description.as_ref().map(|d| d.text.clone()).unwrap_or_default(),
        sources: builds.iter().map(|b| b.target.clone()).collect(),
        provisioners: template.provisioners.iter().map(type_of).collect(),
        error_cleanup: template.error_cleanup.as_ref().map(type_of),
        chains: template
            .post_processors
            .iter()
            .map(|chain| chain.iter().map(post_processor).collect())
            .collect(),
    }
}

struct Planner<'a> {
    template: &'a Template,
    engine: Engine,
    diags: &'a mut Diagnostics,
}

impl Planner<'_> {
    /// Renders a text until there is nothing left to be rendered.
    fn render(&self, text: &str) -> Result<String, String> {
        self.engine.render_whole(text)
    }

    fn name(&mut self, builder: &Builder) -> Option<String> {
        match self.render(&builder.name.text) {
            Ok(name) => Some(name),
            Err(reason) => {
                let name = &builder.name.text;
                self.diags.push(
                    Diagnostic::error(format!("Error interpolating builder '{name}'"))
                        .at(builder.name.span)
                        .detail(format!("\"{name}\" cannot be rendered: {reason}.")),
                );
                None
            }
        }
    }

    fn build(&mut self, builder: &Builder, name: &str) -> Build {
        let raw = &builder.name.text;
        let type_name = &builder.type_name.text;
        let target = if raw == type_name { name.to_owned() } else { format!("{type_name}.{name}") };
        let template = self.template;
        let provisioners = template.provisioners.iter().filter(|p| p.runs_in(raw));
        let provisioners = provisioners.map(|p| self.provisioner(p, raw)).collect();
        let error_cleanup = template.error_cleanup.as_ref().map(|p| self.provisioner(p, raw));
        let chains = template.post_processors.iter().map(|chain| {
            chain.iter().filter(|p| p.runs_in(raw)).map(post_processor).collect::<Vec<_>>()
        });
        Build {
            key: target.clone(),
            target,
            build_name: String::new(),
            source_type: type_name.clone(),
            source_name: name.to_owned(),
            local_name: name.to_owned(),
            span: builder.name.span,
            source: component(&builder.type_name, &builder.options, &[]),
            overlay: None,
            provisioners,
            error_cleanup,
            chains: chains.filter(|chain| !chain.is_empty()).collect(),
            artifacts: Vec::new(),
        }
    }

    fn provisioner(&mut self, provisioner: &Provisioner, builder: &str) -> ProvisionerBlock {
        let overrides = provisioner.overridden(builder).and_then(|value| value.members());
        ProvisionerBlock {
            component: component(
                &provisioner.type_name,
                &provisioner.options,
                overrides.unwrap_or_default(),
            ),
            name: None,
            pause_before: some_time(provisioner.pause_before),
            timeout: some_time(provisioner.timeout),
            max_retries: provisioner.max_retries.as_ref().map_or(0, |text| self.retries(text)),
            continue_on_error: false,
            overrides: None,
        }
    }

    fn retries(&mut self, text: &Text) -> u32 {
        let failed = match self.render(&text.text) {
            // A negative number is none.
            Ok(rendered) => match rendered.parse::<i64>() {
                Ok(number) => return u32::try_from(number.max(0)).unwrap_or(u32::MAX),
                Err(_) => Diagnostic::error("`max_retries` must be a valid integer")
                    .detail(format!("\"{rendered}\" is not a whole number.")),
            },
            Err(reason) => Diagnostic::error("failed to interpolate `max_retries`")
                .detail(format!("\"{}\" cannot be rendered: {reason}.", text.text)),
        };
        // The same for every builder: it is told once.
        let failed = failed.at(text.span);
        if !self.diags.iter().any(|d| *d == failed) {
            self.diags.push(failed);
        }
        0
    }
}

fn some_time(duration: Option<karat_config::Duration>) -> Option<std::time::Duration> {
    duration.map(|d| d.0).filter(|d| !d.is_zero())
}

fn post_processor(post_processor: &PostProcessor) -> PostProcessorBlock {
    PostProcessorBlock {
        component: component(&post_processor.type_name, &post_processor.options, &[]),
        name: Some(post_processor.name.text.clone()),
        keep_input_artifact: post_processor.keep_input_artifact,
    }
}

fn component(type_name: &Text, options: &[Member], overrides: &[Member]) -> ComponentBlock {
    let span = type_name.span;
    ComponentBlock {
        type_name: type_name.text.clone(),
        type_span: span,
        header: span,
        body: ast::Body::Native(ast::NativeBody { items: Vec::new(), span, end: span }),
        taken: &[],
        bindings: Vec::new(),
        legacy: Some(Options { members: options.into(), overrides: overrides.into() }),
    }
}

//! One [`Build`] per source of a build block.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use indexmap::IndexMap;
use karat_eval::{ReferenceStep, Scope, evaluate, evaluate_as, references};
use karat_functions::World;
use karat_hcl::ast::{Attribute, Block, Expr, Ident, Label};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_value::{Type, Value};

use crate::blocks::Template;
use crate::body::{Rounds, unroll};
use crate::build::{
    ArtifactKey, ArtifactRef, Build, BuildOutline, ComponentBlock, PostProcessorBlock,
    ProvisionerBlock,
};
use crate::build_block::{
    Bindings, BuildBlock, Meta, NestedSource, chain_blocks, labels_of, post_processor,
};
use crate::evaluate::{Evaluated, bound, each_expression};
use crate::names::object;
use crate::registry;

/// How many sources a build may list.
const MAX_SOURCES: usize = 50_000;

/// A source as a build refers to it.
struct SourceUse<'a> {
    type_name: String,
    name: String,
    local_name: Option<String>,
    span: Span,
    overlay: Option<&'a NestedSource>,
}

impl Evaluated {
    pub(crate) fn expand(
        &self,
        template: &Template,
        world: &dyn World,
        diags: &mut Diagnostics,
    ) -> (Vec<Build>, Vec<BuildOutline>) {
        let environment = self.environment(world);
        let scope = self.scope(&environment);
        if let Some(block) = &template.registry {
            registry::check(block, &scope, diags);
        }
        let mut builds = Vec::<Build>::new();
        let mut outlines = Vec::new();
        for block in &template.builds {
            let vague = Cell::new(false);
            let mut reader = Reader { scope: &scope, diags, vague: &vague };
            let (of_block, outline) = reader.builds(block, template);
            outlines.extend(outline);
            builds.extend(of_block);
        }
        number(&mut builds);
        (builds, outlines)
    }
}

/// Tells builds of one target apart: the first has the target as its key, the others a number
/// behind it, in the order of the text.
fn number(builds: &mut [Build]) {
    let targets: BTreeSet<String> = builds.iter().map(|b| b.target.clone()).collect();
    let mut keys = BTreeSet::new();
    for build in builds {
        let mut turn = 1;
        while !keys.insert(build.key.clone()) {
            turn += 1;
            let numbered = format!("{} ({turn})", build.target);
            if !targets.contains(&numbered) {
                build.key = numbered;
            }
        }
    }
}

struct Reader<'a, 'd> {
    scope: &'a Scope<'a>,
    diags: &'d mut Diagnostics,
    /// Set where something needed a value that is not known yet.
    vague: &'d Cell<bool>,
}

impl Reader<'_, '_> {
    fn text(&mut self, expr: &Expr) -> Option<String> {
        let (value, found) = evaluate_as(expr, &Type::String, self.scope);
        let failed = found.has_errors();
        self.diags.append(found);
        let value = value.unmark_deep().0;
        self.note(&value);
        (!failed).then(|| value.as_str().map(str::to_owned)).flatten()
    }

    fn note(&self, value: &Value) {
        self.vague.set(self.vague.get() || !value.is_wholly_known());
    }

    /// The builds of a block, and its outline if nothing in it is wrong.
    fn builds(
        &mut self,
        block: &BuildBlock,
        template: &Template,
    ) -> (Vec<Build>, Option<BuildOutline>) {
        let before = self.diags.len();
        let unrolled = block.blocks.as_ref().map(|blocks| self.unrolled(block, blocks));
        let block = unrolled.as_ref().unwrap_or(block);
        let name = block.name.as_ref().and_then(|expr| self.text(expr)).unwrap_or_default();
        let description = block.description.as_ref().and_then(|expr| self.text(expr));
        let uses = self.uses(block);
        let missing = block.nested.is_empty() && uses.is_empty();
        if missing && !self.diags.iter().skip(before).any(Diagnostic::is_error) {
            self.diags.push(
                Diagnostic::error("Missing sources of a build")
                    .at(block.header)
                    .detail("A build needs at least one source.")
                    .hint("Write: sources = [\"source.TYPE.NAME\"]"),
            );
        }
        if let Some(block) = &block.registry {
            registry::check(block, self.scope, self.diags);
        }
        // Of the build its name is known to the engine's own options, and nothing else.
        let mut scope = self.scope.child();
        scope.set("build", object([("name", Value::string(name.as_str()))]));
        let mut outline =
            Reader { scope: &scope, diags: self.diags, vague: self.vague }.outline(block);
        outline.name.clone_from(&name);
        outline.description = description.unwrap_or_default();
        let failed = block.failed
            || self.vague.get()
            || self.diags.iter().skip(before).any(Diagnostic::is_error);
        let mut builds = Vec::new();
        for used in uses {
            let local = used.local_name.as_ref().unwrap_or(&used.name);
            outline.sources.push(format!("{}.{local}", used.type_name));
            let key = (used.type_name.clone(), used.name.clone());
            let Some(source) = template.components.get(&key) else {
                self.unknown_source(&used, template);
                continue;
            };
            // What is wrong in the options was told with the outline.
            let mut told = Diagnostics::new();
            let mut reader = Reader { scope: &scope, diags: &mut told, vague: self.vague };
            builds.push(reader.build(block, &name, used, source));
        }
        (builds, (!failed).then_some(outline))
    }

    /// A block with its `dynamic` blocks replaced by what they stand for.
    fn unrolled(&mut self, block: &BuildBlock, blocks: &[Block]) -> BuildBlock {
        let mut unrolled = block.clone();
        unrolled.blocks = None;
        let rounds = Rounds::new();
        for (inner, bindings) in self.flattened(blocks, &Bindings::new(), &rounds, labels_of) {
            if inner.kind.name != "post-processors" {
                unrolled.add(&inner, bindings, self.diags);
                continue;
            }
            let parts = chain_blocks(&inner, self.diags);
            let only = |kind: &str| labels_of(kind).filter(|_| kind == "post-processor");
            let chain = self.flattened(&parts, &bindings, &rounds, only);
            let chain = chain.into_iter().map(|(b, names)| post_processor(&b, names, self.diags));
            unrolled.chains.push(chain.collect());
        }
        unrolled
    }

    /// Blocks, those that are `dynamic` replaced by what they stand for, and the names that each
    /// of them sees beyond the usual ones. `allowed` says how many labels a type of block has.
    fn flattened(
        &mut self,
        blocks: &[Block],
        bindings: &Bindings,
        rounds: &Rounds,
        allowed: impl Fn(&str) -> Option<usize>,
    ) -> Vec<(Block, Bindings)> {
        let mut all = Vec::new();
        for block in blocks {
            if block.kind.name != "dynamic" {
                all.push((block.clone(), bindings.clone()));
                continue;
            }
            let mut scope = self.scope.child();
            for (name, value) in bindings {
                scope.set(name.as_str(), value.clone());
            }
            let Some(dynamic) = unroll(block, &scope, rounds, self.diags) else { continue };
            let label = &dynamic.label;
            let Some(wanted) = allowed(&label.text).filter(|_| label.text != "dynamic") else {
                self.diags.push(
                    Diagnostic::error("Unsupported block type").at(label.span).detail(format!(
                        "Blocks of type \"{}\" are not expected here.",
                        label.text
                    )),
                );
                continue;
            };
            for round in dynamic.rounds {
                if round.labels.len() != wanted {
                    self.diags.push(
                        Diagnostic::error("Wrong number of labels of a dynamic block")
                            .at(block.header)
                            .detail(format!(
                                "A \"{}\" block has {wanted} label(s), not {}.",
                                label.text,
                                round.labels.len()
                            ))
                            .hint("Write: labels = [\"TYPE\"]"),
                    );
                    break;
                }
                let mut bindings = bindings.clone();
                bindings.push(round.binding);
                let one = |text| Label { text, span: label.span, quoted: true };
                let block = Block {
                    kind: Ident::new(label.text.as_str(), label.span),
                    labels: round.labels.into_iter().map(one).collect(),
                    body: dynamic.content.body.clone(),
                    header: block.header,
                    span: block.span,
                };
                all.push((block, bindings));
            }
        }
        all
    }

    /// What a block holds but for its name, description and sources. Checks the options of what is
    /// in it that are the engine's own.
    fn outline(&mut self, block: &BuildBlock) -> BuildOutline {
        let mut provisioner = |meta: &Meta| {
            let own = bound(self.scope, &meta.component);
            let mut reader = Reader { scope: &own, diags: self.diags, vague: self.vague };
            let name = reader.provisioner_options(meta).name;
            reader.applies(&meta.options, "");
            reader.check_override(meta);
            (meta.component.type_name.clone(), name)
        };
        let provisioners = block.provisioners.iter().map(&mut provisioner).collect();
        let error_cleanup = block.error_cleanup.as_ref().map(&mut provisioner);
        let mut post_processor = |meta: &Meta| {
            let own = bound(self.scope, &meta.component);
            let mut reader = Reader { scope: &own, diags: self.diags, vague: self.vague };
            let name = reader.post_processor_options(meta).name;
            reader.applies(&meta.options, "");
            (meta.component.type_name.clone(), name)
        };
        BuildOutline {
            name: String::new(),
            description: String::new(),
            sources: Vec::new(),
            provisioners,
            error_cleanup,
            chains: block
                .chains
                .iter()
                .map(|c| c.iter().map(&mut post_processor).collect())
                .collect(),
        }
    }

    fn uses<'a>(&mut self, block: &'a BuildBlock) -> Vec<SourceUse<'a>> {
        let mut uses = Vec::new();
        if let Some(attribute) = &block.sources {
            for (text, span) in self.source_list(attribute) {
                uses.extend(self.source_use(&text, span, None));
            }
        }
        for nested in &block.nested {
            let own = bound(self.scope, &nested.component);
            let mut reader = Reader { scope: &own, diags: self.diags, vague: self.vague };
            let local_name = nested.name.as_ref().and_then(|expr| reader.text(expr));
            if let Some(mut used) = self.source_use(&nested.reference, nested.span, Some(nested)) {
                used.local_name = local_name;
                uses.push(used);
            }
        }
        uses
    }

    fn source_list(&mut self, attribute: &Attribute) -> Vec<(String, Span)> {
        let want = Type::list(Type::String);
        let (value, found) = evaluate_as(&attribute.expr, &want, self.scope);
        self.diags.append(found);
        let spans: Vec<Span> = match &attribute.expr.kind {
            karat_hcl::ast::ExprKind::Tuple(items) => items.iter().map(|e| e.span).collect(),
            _ => Vec::new(),
        };
        let value = value.unmark_deep().0;
        self.note(&value);
        let items = value.as_slice().unwrap_or_default();
        if items.len() > MAX_SOURCES {
            self.diags.push(
                Diagnostic::error("Too many sources")
                    .detail(format!("A build can have {MAX_SOURCES} sources, not {}.", items.len()))
                    .at(attribute.expr.span),
            );
            return Vec::new();
        }
        let mut texts = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let span = spans.get(i).copied().unwrap_or(attribute.expr.span);
            if item.is_null() {
                self.diags.push(
                    Diagnostic::error("Unsuitable value type").at(span).detail(format!(
                        "\"{}\" lists texts, and null is none.",
                        attribute.name.name
                    )),
                );
            }
            texts.extend(item.as_str().map(|text| (text.to_owned(), span)));
        }
        texts
    }

    /// `TYPE.NAME`, or with anything in front of it.
    fn source_use<'a>(
        &mut self,
        text: &str,
        span: Span,
        overlay: Option<&'a NestedSource>,
    ) -> Option<SourceUse<'a>> {
        let parts: Vec<&str> = text.split('.').collect();
        let (type_name, name) = match parts.as_slice() {
            [type_name, name] | [_, type_name, name] => (*type_name, *name),
            _ => {
                self.diags.push(
                    Diagnostic::error("Invalid source reference")
                        .at(span)
                        .detail(format!("\"{text}\" does not name a source."))
                        .hint("Write it like \"source.TYPE.NAME\"."),
                );
                return None;
            }
        };
        let (type_name, name) = (type_name.to_owned(), name.to_owned());
        Some(SourceUse { type_name, name, local_name: None, span, overlay })
    }

    fn unknown_source(&mut self, used: &SourceUse<'_>, template: &Template) {
        let given = format!("{}.{}", used.type_name, used.name);
        let known: Vec<String> =
            template.components.keys().map(|(t, n)| format!("{t}.{n}")).collect();
        let mut diagnostic = Diagnostic::error(format!("Unknown source {given}"))
            .at(used.span)
            .detail(format!("The template has no source \"{}\" \"{}\".", used.type_name, used.name))
            .did_you_mean(&given, known.iter().map(String::as_str));
        if diagnostic.hints.is_empty() && !known.is_empty() {
            diagnostic = diagnostic.hint(format!("Known: {}.", known.join(", ")));
        }
        self.diags.push(diagnostic);
    }

    fn build(
        &mut self,
        block: &BuildBlock,
        build_name: &str,
        used: SourceUse<'_>,
        source: &ComponentBlock,
    ) -> Build {
        let local_name = used.local_name.unwrap_or_else(|| used.name.clone());
        let short = format!("{}.{local_name}", used.type_name);
        let target =
            if build_name.is_empty() { short.clone() } else { format!("{build_name}.{short}") };
        let overlay = used.overlay.map(|nested| ComponentBlock {
            type_name: used.type_name.clone(),
            ..nested.component.clone()
        });
        let mut build = Build {
            key: target.clone(),
            target,
            build_name: build_name.to_owned(),
            source_type: used.type_name,
            source_name: used.name,
            local_name,
            span: used.span,
            source: source.clone(),
            overlay,
            provisioners: block
                .provisioners
                .iter()
                .filter_map(|meta| self.provisioner(meta, &short))
                .collect(),
            error_cleanup: block.error_cleanup.as_ref().and_then(|m| self.provisioner(m, &short)),
            chains: block
                .chains
                .iter()
                .map(|chain| chain.iter().filter_map(|m| self.post_processor(m, &short)).collect())
                .collect(),
            artifacts: Vec::new(),
        };
        build.chains.retain(|chain: &Vec<_>| !chain.is_empty());
        build.artifacts = artifact_refs(&build);
        build
    }

    fn provisioner(&mut self, meta: &Meta, target: &str) -> Option<ProvisionerBlock> {
        let own = bound(self.scope, &meta.component);
        let mut reader = Reader { scope: &own, diags: self.diags, vague: self.vague };
        reader.applies(&meta.options, target).then(|| reader.provisioner_options(meta))
    }

    fn provisioner_options(&mut self, meta: &Meta) -> ProvisionerBlock {
        let retries = meta.options.get("max_retries").and_then(|a| self.number(a));
        ProvisionerBlock {
            component: meta.component.clone(),
            name: meta.options.get("name").and_then(|a| self.text(&a.expr)),
            pause_before: self.duration(&meta.options, "pause_before"),
            timeout: self.duration(&meta.options, "timeout"),
            max_retries: retries.unwrap_or(0),
            continue_on_error: self.flag(&meta.options, "continue_on_error").unwrap_or(false),
            overrides: meta.options.get("override").map(|a| a.expr.clone()),
        }
    }

    /// What can be told of `override` before it is known what of it is used. What it says may need
    /// values of the build.
    fn check_override(&mut self, meta: &Meta) {
        let Some(attribute) = meta.options.get("override") else { return };
        let (value, found) = evaluate(&attribute.expr, self.scope);
        if found.has_errors() || !value.is_known() || value.is_null() {
            return;
        }
        let is_object = |value: &Value| !value.is_known() || value.as_map().is_some();
        let Some(values) = value.as_map() else {
            // That is told where it is applied.
            self.vague.set(true);
            return;
        };
        if !values.values().all(is_object) {
            self.diags.push(
                Diagnostic::error("Invalid override")
                    .at(attribute.expr.span)
                    .detail("\"override\" is an object of objects: source names, each with the options to be set for it."),
            );
        }
    }

    fn post_processor(&mut self, meta: &Meta, target: &str) -> Option<PostProcessorBlock> {
        let own = bound(self.scope, &meta.component);
        let mut reader = Reader { scope: &own, diags: self.diags, vague: self.vague };
        reader.applies(&meta.options, target).then(|| reader.post_processor_options(meta))
    }

    fn post_processor_options(&mut self, meta: &Meta) -> PostProcessorBlock {
        PostProcessorBlock {
            component: meta.component.clone(),
            name: meta.options.get("name").and_then(|a| self.text(&a.expr)),
            keep_input_artifact: self.flag(&meta.options, "keep_input_artifact"),
        }
    }

    /// `only` and `except` name sources exactly, as `TYPE.NAME`.
    fn applies(&mut self, options: &IndexMap<String, Attribute>, target: &str) -> bool {
        let (only, except) = (options.get("only"), options.get("except"));
        if let (Some(only), Some(except)) = (only, except) {
            self.diags.push(
                Diagnostic::error("Only one of \"only\" and \"except\" can be set")
                    .at(except.span)
                    .also(only.span, "\"only\" is set here"),
            );
        }
        let only = only.map(|a| self.names(a));
        let except = except.map(|a| self.names(a)).unwrap_or_default();
        only.filter(|names| !names.is_empty()).is_none_or(|names| names.iter().any(|n| n == target))
            && !except.iter().any(|n| n == target)
    }

    fn names(&mut self, attribute: &Attribute) -> Vec<String> {
        self.source_list(attribute).into_iter().map(|(text, _)| text).collect()
    }

    fn value(&mut self, attribute: &Attribute, ty: &Type) -> Option<Value> {
        let (value, found) = evaluate_as(&attribute.expr, ty, self.scope);
        let failed = found.has_errors();
        self.diags.append(found);
        self.note(&value);
        (!failed && !value.is_null()).then(|| value.unmark_deep().0)
    }

    fn flag(&mut self, options: &IndexMap<String, Attribute>, name: &str) -> Option<bool> {
        self.value(options.get(name)?, &Type::Bool)?.as_bool()
    }

    fn number(&mut self, attribute: &Attribute) -> Option<u32> {
        let value = self.value(attribute, &Type::Number)?;
        let number = value.as_number()?.to_i64().and_then(|n| u32::try_from(n).ok());
        if number.is_none() {
            self.diags.push(
                Diagnostic::error("Incorrect attribute value")
                    .at(attribute.expr.span)
                    .detail(format!("\"{}\" is a whole number from 0.", attribute.name.name)),
            );
        }
        number
    }

    fn duration(&mut self, options: &IndexMap<String, Attribute>, name: &str) -> Option<Duration> {
        let attribute = options.get(name)?;
        let value = self.value(attribute, &Type::String)?;
        match value.as_str()?.parse::<karat_config::Duration>() {
            Ok(duration) => Some(duration.0).filter(|d| !d.is_zero()),
            Err(error) => {
                self.diags.push(
                    Diagnostic::error(format!("Failed to parse {name}"))
                        .at(attribute.expr.span)
                        .detail(format!("{error}."))
                        .hint("Write it like \"90s\" or \"1h10m\"."),
                );
                None
            }
        }
    }
}

/// Where a build names artifacts of others.
fn artifact_refs(build: &Build) -> Vec<ArtifactRef> {
    let mut found = Vec::new();
    let mut visit = |expr: &Expr| {
        for reference in references(expr).into_iter().filter(|r| r.root.name == "artifact") {
            let names: Vec<&str> =
                reference.steps.iter().map_while(ReferenceStep::name).take(3).collect();
            if let [build, source_type, source_name] = names.as_slice() {
                let key = ArtifactKey {
                    build: (*build).to_owned(),
                    source_type: (*source_type).to_owned(),
                    source_name: (*source_name).to_owned(),
                };
                found.push(ArtifactRef { key, span: reference.span });
            }
        }
    };
    let blocks = std::iter::once(&build.source)
        .chain(&build.overlay)
        .chain(build.provisioners.iter().chain(&build.error_cleanup).map(|p| &p.component))
        .chain(build.chains.iter().flatten().map(|p| &p.component));
    for block in blocks {
        each_expression(&block.body, &mut visit);
    }
    for overrides in build.provisioners.iter().filter_map(|p| p.overrides.as_ref()) {
        visit(overrides);
    }
    found
}

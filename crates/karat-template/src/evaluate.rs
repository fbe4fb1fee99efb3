//! Locals and data sources, in the order in which they need each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indexmap::{IndexMap, IndexSet};
use karat_config::{Body, Schema};
use karat_eval::{Environment, Functions, MAX_WEIGHT, Reference, Scope, evaluate, references};
use karat_functions::World;
use karat_hcl::ast::{self, Expr, Item};
use karat_hcl::diag::{Diagnostic, Diagnostics, SourceMap, Span};
use karat_value::{Mark, Marks, Type, Value};

use crate::blocks::Template;
use crate::body::{evaluate_body, too_much};
use crate::build::{
    ArtifactKey, Build, BuildOutline, ComponentBlock, PostProcessorBlock, ProvisionerBlock,
};
use crate::data::{DataFetcher, DataKey, data_value};
use crate::legacy::{self, Legacy, Machine, Options};
use crate::load::Loaded;
use crate::names::{Names, object, surroundings};
use crate::plugin_requirement::PluginRequirement;
use crate::text::{TextContext, render};
use crate::variables::{Given, Resolver, Variable, add_names};

/// A template whose variables, locals and data sources have their values.
#[derive(Clone, Debug)]
pub struct Evaluated {
    pub(crate) sources: SourceMap,
    pub(crate) root: PathBuf,
    pub(crate) names: Names,
    data: Option<Value>,
    variables: IndexMap<String, Variable>,
    locals: IndexMap<String, Value>,
    builds: Vec<Build>,
    outlines: Vec<BuildOutline>,
    secrets: Vec<String>,
    legacy: Option<Legacy>,
    plugins: Vec<PluginRequirement>,
}

/// What an evaluation of a component's block works with.
#[derive(Clone)]
pub struct Inputs<'a> {
    /// The outside.
    pub world: &'a dyn World,
    /// The artifacts of builds that are done; all others are unknown.
    pub artifacts: &'a BTreeMap<ArtifactKey, Value>,
    /// The values of `build.*`; unknown without.
    pub generated: Option<&'a BTreeMap<String, Value>>,
    /// What `{{ }}` in text options is rendered with; left as it stands without.
    pub text: Option<TextContext>,
}

impl<'a> Inputs<'a> {
    /// What `{{ build }}` can tell in provisioners and post-processors.
    fn machine(&self) -> Machine<'a> {
        self.generated.map_or(Machine::Later, Machine::Known)
    }
}

impl std::fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").field("artifacts", self.artifacts).finish_non_exhaustive()
    }
}

/// The names that `build` has before anything is known of the machine.
pub(crate) const BUILD_NAMES: [&str; 14] = [
    "ID",
    "Host",
    "Port",
    "User",
    "Password",
    "ConnType",
    "PackerRunUUID",
    "PackerHTTPPort",
    "PackerHTTPIP",
    "PackerHTTPAddr",
    "SSHPublicKey",
    "SSHPrivateKey",
    "WinRMPassword",
    "SSHPrivateKeyFile",
];

impl Loaded {
    /// Gives variables, locals and data sources their values and lays out the builds. What is
    /// wrong is added to [`Loaded::diags`].
    pub fn evaluate(
        &mut self,
        given: &Given,
        world: &dyn World,
        data: &dyn DataFetcher,
    ) -> Evaluated {
        if let Some(source) = &self.template.legacy {
            let place = (&self.sources, self.template.root.as_path());
            return legacy::evaluate(source, place, given, world, &mut self.diags);
        }
        let late: Vec<Diagnostic> = self.diags.iter().skip(self.early).cloned().collect();
        let mut early = Diagnostics::new();
        early.extend(self.diags.iter().take(self.early).cloned());
        self.diags = early;
        let mut resolver = Resolver {
            blocks: &self.template.variables,
            files: &self.template.var_files,
            given,
            world,
            sources: &mut self.sources,
            diags: &mut self.diags,
            rejected: Vec::new(),
            unsound: Vec::new(),
        };
        let (variables, given) = resolver.resolve();
        let locals = self.template.locals.iter();
        let sensitive = locals
            .filter(|(_, local)| resolver.flag(local.sensitive.as_ref()))
            .map(|(name, _)| name.as_str())
            .collect();
        self.early = resolver.diags.len();
        resolver.diags.extend(late);
        resolver.check_rules(&variables, &given);
        let rejected = resolver.rejected;
        for variable in variables.values().filter(|v| !v.is_set) {
            self.diags.push(unset(variable));
        }
        let cwd = world.working_folder().unwrap_or_default();
        let mut names = surroundings(&self.template.root, &cwd);
        add_names(&mut names, &variables);
        let mut work = Work {
            template: &self.template,
            world,
            data,
            names,
            sensitive,
            locals: IndexMap::new(),
            weight: 0,
            failed: IndexSet::new(),
            fetched: IndexMap::new(),
            unfetched: IndexSet::new(),
            circular: false,
            open: Vec::new(),
            secrets: Vec::new(),
            diags: &mut self.diags,
        };
        work.all();
        let sound = work.is_sound();
        let Work { mut names, mut locals, failed, fetched, mut secrets, .. } = work;
        names.insert("local".into(), object(locals.iter().map(|(n, v)| (n, v.clone()))));
        let data = (!self.template.data.is_empty())
            .then(|| data_value(fetched.iter().map(|(k, v)| (k, v.clone()))));
        // In the order of the text, not in that in which they needed each other.
        let place: IndexMap<&str, usize> =
            self.template.locals.keys().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
        locals.sort_by_cached_key(|name, _| place.get(name.as_str()).copied());
        locals.retain(|name, _| sound && !failed.contains(name));
        for variable in variables.values().filter(|v| v.sensitive) {
            collect_secrets(&variable.value, &mut secrets);
        }
        let mut evaluated = Evaluated {
            sources: self.sources.clone(),
            root: self.template.root.clone(),
            names,
            data,
            variables,
            locals,
            builds: Vec::new(),
            outlines: Vec::new(),
            secrets,
            legacy: None,
            plugins: self.template.plugins.clone(),
        };
        rejected.iter().for_each(|value| collect_secrets(value, &mut evaluated.secrets));
        let (builds, outlines) = evaluated.expand(&self.template, world, &mut self.diags);
        Evaluated { builds, outlines, ..evaluated }
    }
}

/// What a console knows without a template.
pub fn bare_console_scope<'e>(environment: &'e Environment<'e>, world: &dyn World) -> Scope<'e> {
    let mut scope = Scope::new(environment);
    let cwd = world.working_folder().unwrap_or_default();
    for (name, value) in surroundings(Path::new(""), &cwd) {
        scope.set(name, value);
    }
    for name in ["var", "local"] {
        scope.set(name, object::<&str>([]));
    }
    add_console_names(&mut scope);
    scope
}

fn add_console_names(scope: &mut Scope<'_>) {
    let unknown = || Value::unknown(Type::String);
    scope.set("source", object([("name", unknown()), ("type", unknown())]));
    scope.set("build", Value::unknown(Type::object::<&str>([])));
}

fn unset(variable: &Variable) -> Diagnostic {
    Diagnostic::error(format!("Unset variable \"{}\"", variable.name))
        .at(variable.span)
        .detail(format!(
            "The variable \"{}\" has no default, and no value was given for it.",
            variable.name
        ))
        .hint(format!(
            "Give it by -var {0}=…, in a -var-file, or as PKR_VAR_{0} in the environment.",
            variable.name
        ))
}

fn collect_secrets(value: &Value, secrets: &mut Vec<String>) {
    if let Some(text) = value.as_str() {
        secrets.push(text.to_owned());
    } else if let Some(items) = value.as_slice() {
        items.iter().for_each(|item| collect_secrets(item, secrets));
    } else if let Some(map) = value.as_map() {
        map.values().for_each(|item| collect_secrets(item, secrets));
    }
}

/// A thing that has to be evaluated before others.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Local(String),
    Data(String, String),
}

pub(crate) struct Work<'a> {
    pub(crate) template: &'a Template,
    pub(crate) world: &'a dyn World,
    pub(crate) data: &'a dyn DataFetcher,
    names: Names,
    /// Locals that are sensitive because their block says so.
    sensitive: IndexSet<&'a str>,
    locals: IndexMap<String, Value>,
    /// What all locals weigh.
    weight: usize,
    /// Locals whose value could not be found; unknown values stand for them.
    failed: IndexSet<String>,
    pub(crate) fetched: IndexMap<DataKey, Value>,
    /// Data sources whose value could not be found; unknown values stand for them.
    pub(crate) unfetched: IndexSet<DataKey>,
    /// Whether some need each other in a circle.
    circular: bool,
    /// What is being evaluated, each needed by the one before, and where it is named.
    open: Vec<(Node, Span)>,
    secrets: Vec<String>,
    pub(crate) diags: &'a mut Diagnostics,
}

impl Work<'_> {
    fn all(&mut self) {
        self.fetch_data();
        for (name, local) in &self.template.locals {
            self.local(name, local.span);
        }
        for ((type_name, name), block) in &self.template.data {
            self.fetch(type_name, name, block.header);
        }
    }

    /// Evaluates what an expression names first.
    pub(crate) fn needs(&mut self, uses: &[Reference]) {
        for reference in uses {
            let step = |i: usize| reference.steps.get(i).and_then(|s| s.name());
            match (reference.root.name.as_str(), step(0), step(1)) {
                ("local", Some(name), _) => self.local(name, reference.span),
                ("local", None, _) => {
                    // Which of them it looks at is not to be seen. Those that need what is being
                    // evaluated cannot be among them.
                    for name in self.template.locals.keys() {
                        if !self.needs_open(name) {
                            self.local(name, reference.span);
                        }
                    }
                }
                ("data", Some(type_name), Some(name)) => {
                    self.fetch(type_name, name, reference.span);
                }
                ("data", type_name, None) => {
                    for (of_type, name) in self.template.data.keys() {
                        if type_name.is_none_or(|t| t == of_type) {
                            self.fetch(of_type, name, reference.span);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether a local is being evaluated, or needs one that is.
    fn needs_open(&self, name: &str) -> bool {
        let mut stack = vec![name.to_owned()];
        let mut visited = IndexSet::new();
        while let Some(name) = stack.pop() {
            if self.open.iter().any(|(node, _)| *node == Node::Local(name.clone())) {
                return true;
            }
            let Some(local) = self.template.locals.get(&name) else { continue };
            if self.locals.contains_key(&name) || !visited.insert(name) {
                continue;
            }
            for reference in references(&local.expr).iter().filter(|r| r.root.name == "local") {
                stack.extend(reference.steps.first().and_then(|s| s.name()).map(str::to_owned));
            }
        }
        false
    }

    fn enter(&mut self, node: Node, span: Span) -> bool {
        let Some(at) = self.open.iter().position(|(open, _)| *open == node) else {
            self.open.push((node, span));
            return true;
        };
        let name = |node: &Node| match node {
            Node::Local(name) => format!("local.{name}"),
            Node::Data(type_name, name) => format!("data.{type_name}.{name}"),
        };
        let circle: Vec<String> =
            self.open[at..].iter().map(|(n, _)| name(n)).chain([name(&node)]).collect();
        let mut diagnostic = Diagnostic::error("Circular reference")
            .label(span, format!("{} again", name(&node)))
            .detail(format!("None of these can be evaluated first: {}.", circle.join(" → ")));
        for (node, span) in &self.open[at + 1..] {
            diagnostic = diagnostic.also(*span, format!("{} is needed here", name(node)));
        }
        self.diags.push(diagnostic);
        self.circular = true;
        false
    }

    fn local(&mut self, name: &str, span: Span) {
        let Some(local) = self.template.locals.get(name) else { return };
        if self.locals.contains_key(name) || !self.enter(Node::Local(name.to_owned()), span) {
            return;
        }
        let uses = references(&local.expr);
        deep(|| self.needs(&uses));
        let (mut value, diags) = self.value(&local.expr, &uses);
        if diags.has_errors() || uses.iter().any(|r| self.is_failed(r)) {
            self.failed.insert(name.to_owned());
        }
        self.diags.append(diags);
        self.weight = self.weight.saturating_add(value.weight());
        if self.weight > MAX_WEIGHT {
            // Told of the first that is too much.
            if self.weight - value.weight() <= MAX_WEIGHT {
                self.diags.push(too_much("locals of a template", local.expr.span));
            }
            self.failed.insert(name.to_owned());
            value = Value::dynamic();
        }
        if self.sensitive.contains(name) {
            collect_secrets(&value, &mut self.secrets);
            value = value.with_marks(&Marks::one(Mark::Sensitive));
        }
        self.locals.insert(name.to_owned(), value);
        self.open.pop();
    }

    pub(crate) fn is_failed(&self, reference: &Reference) -> bool {
        let mut names = reference.steps.iter().map(|s| s.name());
        match (reference.root.name.as_str(), names.next().flatten(), names.next().flatten()) {
            ("local", Some(name), _) => self.failed.contains(name),
            ("data", Some(type_name), Some(name)) => {
                self.unfetched.contains(&(type_name.to_owned(), name.to_owned()))
            }
            _ => false,
        }
    }

    /// Whether what locals and data sources need of each other is there, and in no circle. Where
    /// it is not, none of them can be relied on.
    fn is_sound(&self) -> bool {
        let is_missing = |reference: &Reference| {
            let mut names = reference.steps.iter().map(|s| s.name());
            match (reference.root.name.as_str(), names.next().flatten(), names.next().flatten()) {
                ("local", Some(name), _) => !self.template.locals.contains_key(name),
                ("data", Some(type_name), Some(name)) => {
                    !self.template.data.contains_key(&(type_name.to_owned(), name.to_owned()))
                }
                _ => false,
            }
        };
        !self.circular
            && !self.template.locals.values().any(|l| references(&l.expr).iter().any(is_missing))
    }

    fn value(&self, expr: &Expr, uses: &[Reference]) -> (Value, Diagnostics) {
        let environment = Environment::new(self.world, self.template.root.as_path());
        evaluate(expr, &self.scope(&environment, uses))
    }

    /// The names that an expression with these references sees. Of locals and data sources only
    /// those that it names are there, so that the cost does not grow with the template.
    pub(crate) fn scope<'e>(
        &self,
        environment: &'e Environment<'e>,
        uses: &[Reference],
    ) -> Scope<'e> {
        let mut scope = Scope::new(environment);
        for (name, value) in &self.names {
            scope.set(name.clone(), value.clone());
        }
        let of = |root: &str| {
            let all = uses.iter().filter(move |r| r.root.name == root);
            all.map(|r| r.steps.first().and_then(|s| s.name())).collect::<IndexSet<_>>()
        };
        let locals = of("local");
        if locals.contains(&None) {
            scope.set("local", object(self.locals.iter().map(|(n, v)| (n.as_str(), v.clone()))));
        } else {
            let known = locals.iter().flatten().filter(|n| self.template.locals.contains_key(**n));
            // One in a circle has no value; that was told.
            let value = |n: &str| self.locals.get(n).cloned().unwrap_or_else(Value::dynamic);
            let mut values: IndexMap<&str, Value> = known.map(|n| (*n, value(n))).collect();
            if values.len() < locals.len() {
                // A name that is not there: the message lists those that are.
                values.extend(self.locals.iter().map(|(n, v)| (n.as_str(), v.clone())));
            }
            scope.set("local", object(values));
        }
        if !self.template.data.is_empty() && !of("data").is_empty() {
            // One in a circle has no value; that was told.
            let value = |key| self.fetched.get(key).cloned().unwrap_or_else(Value::dynamic);
            scope.set("data", data_value(self.template.data.keys().map(|key| (key, value(key)))));
        }
        scope
    }

    fn fetch(&mut self, type_name: &str, name: &str, span: Span) {
        let key = (type_name.to_owned(), name.to_owned());
        let Some(block) = self.template.data.get(&key) else { return };
        let node = Node::Data(key.0.clone(), key.1.clone());
        if self.fetched.contains_key(&key) || !self.enter(node, span) {
            return;
        }
        // All others were fetched before: this one is in a circle, which is found on the way.
        let mut uses = Vec::new();
        each_expression(&block.body, &mut |expr| uses.extend(references(expr)));
        deep(|| self.needs(&uses));
        self.unfetched.insert(key.clone());
        self.fetched.insert(key, Value::dynamic());
        self.open.pop();
    }
}

/// Calls `f` with enough stack for a long chain of values that need each other.
pub(crate) fn deep<R>(f: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(256 * 1024, 4 * 1024 * 1024, f)
}

/// Calls `f` with every expression of a body, nested blocks included. Of JSON syntax, which says
/// only to a schema what is what, every property counts.
pub(crate) fn each_expression(body: &ast::Body, f: &mut dyn FnMut(&Expr)) {
    match body {
        ast::Body::Native(native) => {
            for item in &native.items {
                match item {
                    Item::Attribute(attribute) => f(&attribute.expr),
                    Item::Block(block) => each_expression(&block.body, f),
                }
            }
        }
        ast::Body::Json(_) => {
            // What is wrong in it is reported when it is evaluated.
            let mut ignored = Diagnostics::new();
            for attribute in body.just_attributes(&mut ignored).values() {
                f(&attribute.expr);
            }
        }
    }
}

impl Evaluated {
    /// A legacy template whose builds are not laid out yet.
    pub(crate) fn of_legacy(
        sources: SourceMap,
        root: &Path,
        variables: IndexMap<String, Variable>,
        legacy: Legacy,
    ) -> Self {
        Self {
            sources,
            root: root.to_owned(),
            names: Names::new(),
            data: None,
            variables,
            locals: IndexMap::new(),
            builds: Vec::new(),
            outlines: Vec::new(),
            secrets: Vec::new(),
            legacy: Some(legacy),
            plugins: Vec::new(),
        }
    }

    pub(crate) fn set_secrets(&mut self, secrets: Vec<String>) {
        self.secrets = secrets;
    }

    pub(crate) fn set_builds(&mut self, builds: Vec<Build>, outlines: Vec<BuildOutline>) {
        (self.builds, self.outlines) = (builds, outlines);
    }

    /// What a legacy template has beside its builds; `None` for an HCL template.
    pub fn legacy(&self) -> Option<&Legacy> {
        self.legacy.as_ref()
    }

    /// The options of a component of a legacy template.
    fn legacy_body(
        &self,
        build: &Build,
        (legacy, options): (&Legacy, &Options),
        header: Span,
        schema: &Schema,
        inputs: &Inputs<'_>,
        machine: Machine<'_>,
    ) -> Result<Body, Diagnostics> {
        let cx = legacy::Context {
            legacy,
            secrets: &self.secrets,
            world: inputs.world,
            machine,
            // Where nothing is to be rendered variables are filled in all the same: they are part
            // of what the options say.
            lenient: inputs.text.is_none(),
            text: TextContext {
                build_name: build.source_name.clone(),
                build_type: build.source_type.clone(),
                template_dir: self.root.to_string_lossy().into_owned(),
                promised: inputs.text.as_ref().map(|t| t.promised.clone()).unwrap_or_default(),
            },
        };
        let mut diags = Diagnostics::new();
        let body = legacy::body(options, header, schema, &cx, &mut diags);
        if diags.has_errors() { Err(diags) } else { Ok(body) }
    }

    fn legacy_options<'a>(
        &'a self,
        block: &'a ComponentBlock,
    ) -> Option<(&'a Legacy, &'a Options)> {
        Some((self.legacy.as_ref()?, block.legacy.as_ref()?))
    }

    /// All texts that were read, values of flags included.
    pub fn sources(&self) -> &SourceMap {
        &self.sources
    }

    /// The template's folder, as the user named it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The variables with their values.
    pub fn variables(&self) -> &IndexMap<String, Variable> {
        &self.variables
    }

    /// The locals with their values.
    pub fn locals(&self) -> &IndexMap<String, Value> {
        &self.locals
    }

    /// What each build block holds, for a person to read.
    pub fn outlines(&self) -> &[BuildOutline] {
        &self.outlines
    }

    /// The builds in the order of the text.
    pub fn builds(&self) -> &[Build] {
        &self.builds
    }

    /// The plugins that the template asks for.
    pub fn plugins(&self) -> &[PluginRequirement] {
        &self.plugins
    }

    /// The texts that must not be shown.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// What a console sees: locals that could not be evaluated are not there, data sources are not
    /// fetched, and nothing is known of a build.
    pub fn console_scope<'e>(&self, environment: &'e Environment<'e>) -> Scope<'e> {
        let mut scope = self.plain_scope(environment);
        let locals = self.locals.iter().map(|(n, v)| (n.as_str(), v.clone()));
        scope.set("local", object(locals));
        add_console_names(&mut scope);
        scope
    }

    /// The names that an expression at top level sees.
    pub fn scope<'e>(&self, environment: &'e Environment<'e>) -> Scope<'e> {
        let mut scope = self.plain_scope(environment);
        if let Some(data) = &self.data {
            scope.set("data", data.clone());
        }
        scope
    }

    fn plain_scope<'e>(&self, environment: &'e Environment<'e>) -> Scope<'e> {
        let mut scope = Scope::new(environment);
        for (name, value) in &self.names {
            scope.set(name.clone(), value.clone());
        }
        scope
    }

    /// The environment of expressions of this template.
    pub fn environment<'w>(&self, world: &'w dyn World) -> Environment<'w> {
        Environment::new(world, self.root.as_path()).with_functions(Functions::Template)
    }

    /// The options of a build's source.
    ///
    /// # Errors
    /// What is wrong in its block.
    pub fn source_body(
        &self,
        build: &Build,
        schema: &Schema,
        inputs: &Inputs<'_>,
    ) -> Result<Body, Diagnostics> {
        if let Some(legacy) = self.legacy_options(&build.source) {
            let header = build.source.header;
            return self.legacy_body(build, legacy, header, schema, inputs, Machine::None);
        }
        let environment = self.environment(inputs.world);
        let mut scope = self.scope(&environment);
        scope.set("source", source_value(build));
        scope.set("artifact", artifact_value(build, inputs.artifacts));
        let mut diags = Diagnostics::new();
        let mut body = component_body(&build.source, schema, &scope, &mut diags);
        if let Some(overlay) = &build.overlay {
            let more = component_body(overlay, schema, &scope, &mut diags);
            merge(&mut body, more, &mut diags);
        }
        finish(body, schema, inputs, Machine::None, diags)
    }

    /// The options of a provisioner, with what `override` sets for this build.
    ///
    /// # Errors
    /// What is wrong in its block.
    pub fn provisioner_body(
        &self,
        build: &Build,
        block: &ProvisionerBlock,
        schema: &Schema,
        inputs: &Inputs<'_>,
    ) -> Result<Body, Diagnostics> {
        let machine = inputs.machine();
        if let Some(legacy) = self.legacy_options(&block.component) {
            let header = block.component.header;
            return self.legacy_body(build, legacy, header, schema, inputs, machine);
        }
        let environment = self.environment(inputs.world);
        let scope = self.build_scope(build, inputs, &environment);
        let mut diags = Diagnostics::new();
        let mut body = component_body(&block.component, schema, &scope, &mut diags);
        if let Some(overrides) = &block.overrides {
            let scope = bound(&scope, &block.component);
            apply_override(&mut body, build, overrides, &scope, &mut diags);
        }
        finish(body, schema, inputs, machine, diags)
    }

    /// The options of a post-processor.
    ///
    /// # Errors
    /// What is wrong in its block.
    pub fn post_processor_body(
        &self,
        build: &Build,
        block: &PostProcessorBlock,
        schema: &Schema,
        inputs: &Inputs<'_>,
    ) -> Result<Body, Diagnostics> {
        let machine = inputs.machine();
        if let Some(legacy) = self.legacy_options(&block.component) {
            let header = block.component.header;
            return self.legacy_body(build, legacy, header, schema, inputs, machine);
        }
        let environment = self.environment(inputs.world);
        let scope = self.build_scope(build, inputs, &environment);
        let mut diags = Diagnostics::new();
        let body = component_body(&block.component, schema, &scope, &mut diags);
        finish(body, schema, inputs, machine, diags)
    }

    fn build_scope<'e>(
        &self,
        build: &Build,
        inputs: &Inputs<'_>,
        environment: &'e Environment<'e>,
    ) -> Scope<'e> {
        let mut scope = self.scope(environment);
        scope.set("source", source_value(build));
        scope.set("artifact", artifact_value(build, inputs.artifacts));
        let promised = inputs.text.as_ref().map(|text| text.promised.as_slice());
        scope.set("build", build_value(build, inputs.generated, promised));
        scope
    }
}

fn finish(
    mut body: Body,
    schema: &Schema,
    inputs: &Inputs<'_>,
    machine: Machine<'_>,
    mut diags: Diagnostics,
) -> Result<Body, Diagnostics> {
    if let Some(text) = &inputs.text {
        render(&mut body, schema, text, inputs.world, machine, &mut diags);
    }
    if diags.has_errors() { Err(diags) } else { Ok(body) }
}

fn component_body(
    block: &ComponentBlock,
    schema: &Schema,
    scope: &Scope<'_>,
    diags: &mut Diagnostics,
) -> Body {
    evaluate_body(&block.body, block.header, schema, &bound(scope, block), diags)
}

/// The names that a block sees.
pub(crate) fn bound<'s>(scope: &'s Scope<'s>, block: &ComponentBlock) -> Scope<'s> {
    let mut bound = scope.child();
    for (name, value) in &block.bindings {
        bound.set(name.as_str(), value.clone());
    }
    bound
}

/// An attribute that stands in both the source and the nested block is an error, as in Packer.
fn merge(body: &mut Body, more: Body, diags: &mut Diagnostics) {
    for (name, attribute) in more.attributes {
        if let Some(first) = body.attributes.get(&name) {
            diags.push(
                Diagnostic::error("Duplicate argument")
                    .at(attribute.name_span)
                    .also(first.name_span, "already set in the source")
                    .detail(format!(
                        "The source sets \"{name}\" already; what a build adds to it cannot set it again."
                    )),
            );
            continue;
        }
        body.attributes.insert(name, attribute);
    }
    body.blocks.extend(more.blocks);
}

/// `override = { LOCAL = { option = value } }`, looked up by the local name.
fn apply_override(
    body: &mut Body,
    build: &Build,
    expr: &Expr,
    scope: &Scope<'_>,
    diags: &mut Diagnostics,
) {
    let (value, found) = evaluate(expr, scope);
    diags.append(found);
    let (value, _) = value.unmark();
    let Some(map) = value.as_map() else {
        if value.is_known() && !value.is_null() {
            diags.push(
                Diagnostic::error("Invalid override")
                    .at(expr.span)
                    .detail("\"override\" is an object of objects: source names, each with the options to be set for it."),
            );
        }
        return;
    };
    let Some(own) = map.get(build.local_name.as_str()).and_then(Value::as_map) else { return };
    for (name, value) in own {
        let (name_span, value_span) = override_spans(expr, &build.local_name, name);
        let value = value.clone();
        body.attributes
            .insert(name.to_string(), karat_config::Attribute { name_span, value_span, value });
    }
}

/// Where an option of one source stands in an override, and its value; the whole override where it
/// is not written out.
fn override_spans(expr: &Expr, source: &str, option: &str) -> (Span, Span) {
    let item = |expr: &Expr, wanted: &str| -> Option<(Span, Expr)> {
        let ast::ExprKind::Object(items) = &expr.kind else { return None };
        let found = items.iter().rev().find(|item| match &item.key {
            ast::ObjectKey::Name(ident) => ident.name == wanted,
            ast::ObjectKey::Expr(key) => key.as_literal_str() == Some(wanted),
        })?;
        Some((found.key.span(), found.value.clone()))
    };
    let own = item(expr, source);
    match own.and_then(|(_, own)| item(&own, option)) {
        Some((name, value)) => (name, value.span),
        None => (expr.span, expr.span),
    }
}

fn source_value(build: &Build) -> Value {
    object([
        ("name", Value::string(build.local_name.as_str())),
        ("type", Value::string(build.source_type.as_str())),
    ])
}

/// What `build` is: before the machine exists it has the common names and those that the builder
/// promises.
fn build_value(
    build: &Build,
    generated: Option<&BTreeMap<String, Value>>,
    promised: Option<&[String]>,
) -> Value {
    let mut all: BTreeMap<String, Value> = match generated {
        None => {
            // Where it is not known what is promised, it may be any name.
            let Some(promised) = promised else { return Value::dynamic() };
            let common = BUILD_NAMES.iter().chain(&["SSHAgentAuth"]).map(|name| (*name).to_owned());
            common.chain(promised.iter().cloned()).map(|name| (name, Value::dynamic())).collect()
        }
        // What this builder has nothing to say of is this text, as in Packer.
        Some(values) => {
            let mut all: BTreeMap<String, Value> = BUILD_NAMES
                .iter()
                .map(|name| ((*name).to_owned(), Value::string("<unknown>")))
                .collect();
            all.insert("SSHAgentAuth".into(), Value::bool(false));
            all.extend(values.clone());
            all
        }
    };
    all.insert("name".into(), Value::string(build.build_name.as_str()));
    object(all)
}

/// What `artifact` is for one build: what it refers to, and nothing else.
fn artifact_value(build: &Build, artifacts: &BTreeMap<ArtifactKey, Value>) -> Value {
    let mut tree: BTreeMap<&str, BTreeMap<&str, BTreeMap<&str, Value>>> = BTreeMap::new();
    for reference in &build.artifacts {
        let key = &reference.key;
        let value = artifacts.get(key).cloned().unwrap_or_else(Value::dynamic);
        tree.entry(&key.build)
            .or_default()
            .entry(&key.source_type)
            .or_default()
            .insert(&key.source_name, value);
    }
    object(tree.into_iter().map(|(build, types)| {
        (build, object(types.into_iter().map(|(ty, names)| (ty, object(names)))))
    }))
}

//! From blocks of a template to components with a proved configuration.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use karat_component::{
    Artifact, BuildInfo, Components, DynBuilder, Generated, PrepareContext, PreparedBuilder,
    PreparedPostProcessor, PreparedProvisioner,
};
use karat_config::{Body, ComponentKind, Schema};
use karat_functions::World;
use karat_hcl::diag::{Diagnostic, Diagnostics, Severity};
use karat_template::{
    ArtifactKey, Build, ComponentBlock, Evaluated, Inputs, PostProcessorBlock, ProvisionerBlock,
    TextContext,
};
use karat_value::Value;

use crate::unknown::{own_type, unknown_component};

/// The artifacts of the builds that are done.
pub(crate) type Artifacts = BTreeMap<ArtifactKey, Value>;

/// A builder, and its proved configuration.
pub(crate) type Source = (Arc<dyn DynBuilder>, Box<dyn PreparedBuilder>);

/// Evaluates and proves the components of one build.
#[derive(Clone)]
pub(crate) struct Preparer {
    pub(crate) components: Arc<Components>,
    pub(crate) template: Arc<Evaluated>,
    pub(crate) world: Arc<dyn World + Send + Sync>,
    pub(crate) build: Arc<Build>,
    pub(crate) info: BuildInfo,
    pub(crate) artifacts: Arc<Artifacts>,
    /// Whether values may be unknown yet.
    pub(crate) planning: bool,
    /// Warnings of components in which nothing is wrong.
    pub(crate) warnings: Arc<Mutex<Diagnostics>>,
}

impl Preparer {
    fn inputs<'a>(&'a self, generated: Option<&'a Generated>) -> Inputs<'a> {
        Inputs {
            world: self.world.as_ref(),
            artifacts: &self.artifacts,
            generated,
            text: Some(TextContext {
                build_name: self.info.source_name.clone(),
                build_type: self.info.source_type.clone(),
                template_dir: self.info.template_dir.to_string_lossy().into_owned(),
                promised: self.promised(),
            }),
        }
    }

    fn context(&self, component: &str) -> PrepareContext {
        PrepareContext {
            component: component.to_owned(),
            template_dir: self.info.template_dir.to_string_lossy().into_owned(),
            force: self.info.force,
            debug: self.info.debug,
            planning: self.planning,
        }
    }

    /// Values of the machine that the builder gives beyond the common ones.
    fn promised(&self) -> Vec<String> {
        let own = self.own_type(ComponentKind::Source, &self.build.source_type);
        let builder = self.components.builders().get(own.as_ref());
        let names = builder.map(|b| b.generated()).unwrap_or_default();
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// What the template calls a source.
    fn source_word(&self) -> &'static str {
        if self.template.legacy().is_some() { "builder" } else { "source" }
    }

    /// A component's type as its plugin names it.
    fn own_type<'a>(&self, kind: ComponentKind, type_name: &'a str) -> Cow<'a, str> {
        own_type(&self.components, kind, type_name, self.template.plugins())
    }

    fn unknown(&self, kind: ComponentKind, block: &ComponentBlock) -> Diagnostics {
        let plugins = self.template.plugins();
        let (name, span) = (&block.type_name, block.type_span);
        let word = if kind == ComponentKind::Source { self.source_word() } else { kind.word() };
        unknown_component(&self.components, (kind, word), name, span, plugins).into()
    }

    /// The builder of the build's type.
    pub(crate) fn builder(&self) -> Result<Arc<dyn DynBuilder>, Diagnostics> {
        let name = self.own_type(ComponentKind::Source, &self.build.source_type);
        let found = self.components.builders().get(name.as_ref()).cloned();
        found.ok_or_else(|| self.unknown(ComponentKind::Source, &self.build.source))
    }

    /// The source.
    pub(crate) fn source(&self) -> Result<Source, Diagnostics> {
        let builder = self.builder()?;
        let body = self.template.source_body(&self.build, &builder.schema(), &self.inputs(None))?;
        let cx = self.context(&format!("{} \"{}\"", self.source_word(), self.build.source_type));
        let mut diags = Diagnostics::new();
        let prepared = Arc::clone(&builder).prepare(&body, &cx, &mut diags);
        self.finish(prepared, diags).map(|prepared| (builder, prepared))
    }

    /// A provisioner.
    pub(crate) fn provisioner(
        &self,
        block: &ProvisionerBlock,
        generated: Option<&Generated>,
    ) -> Result<Box<dyn PreparedProvisioner>, Diagnostics> {
        let name = &block.component.type_name;
        let own = self.own_type(ComponentKind::Provisioner, name);
        let Some(component) = self.components.provisioners().get(own.as_ref()) else {
            return Err(self.unknown(ComponentKind::Provisioner, &block.component));
        };
        let inputs = self.inputs(generated);
        let body =
            self.template.provisioner_body(&self.build, block, &component.schema(), &inputs)?;
        let cx = self.context(&format!("provisioner \"{name}\""));
        let mut diags = Diagnostics::new();
        let prepared = Arc::clone(component).prepare(&body, &cx, &mut diags);
        self.finish(prepared, diags)
    }

    /// `None` comes with an error in a component that is right; where one is not, say so.
    fn finish<T>(&self, prepared: Option<T>, diags: Diagnostics) -> Result<T, Diagnostics> {
        match prepared {
            Some(prepared) if !diags.has_errors() => {
                self.warnings.lock().unwrap_or_else(PoisonError::into_inner).append(diags);
                Ok(prepared)
            }
            _ => Err(diags),
        }
    }

    /// Whether a provisioner can do without a machine; one of an unknown type may. A warning only:
    /// as a stand-in for a source that is not at hand, `null` is of use to validate the rest.
    pub(crate) fn runs_without_machine(&self, block: &ProvisionerBlock) -> Result<(), Diagnostics> {
        let component = &block.component;
        let own = self.own_type(ComponentKind::Provisioner, &component.type_name);
        let found = self.components.provisioners().get(own.as_ref());
        if found.is_none_or(|provisioner| provisioner.is_local()) {
            return Ok(());
        }
        let leave_out = if self.template.legacy().is_some() {
            format!("\"except\": [\"{}\"]", self.build.local_name)
        } else {
            format!("except = [\"{}.{}\"]", self.build.source_type, self.build.local_name)
        };
        Err(Diagnostic::warning("Provisioner without a machine")
            .at(component.type_span)
            .also(self.build.span, format!("this {} reaches no machine", self.source_word()))
            .detail(format!(
                "The provisioner \"{}\" works on a machine, and {} has none: its communicator is \
                 \"none\". The build will fail there.",
                component.type_name, self.build.target
            ))
            .hint(format!(
                "Leave it out for this {} by {leave_out}, or run it here by \"shell-local\".",
                self.source_word()
            ))
            .into())
    }

    /// A post-processor.
    pub(crate) fn post_processor(
        &self,
        block: &PostProcessorBlock,
        generated: Option<&Generated>,
    ) -> Result<Box<dyn PreparedPostProcessor>, Diagnostics> {
        let name = &block.component.type_name;
        let own = self.own_type(ComponentKind::PostProcessor, name);
        let Some(component) = self.components.post_processors().get(own.as_ref()) else {
            return Err(self.unknown(ComponentKind::PostProcessor, &block.component));
        };
        let inputs = self.inputs(generated);
        let body =
            self.template.post_processor_body(&self.build, block, &component.schema(), &inputs)?;
        let cx = self.context(&format!("post-processor \"{name}\""));
        let mut diags = Diagnostics::new();
        let prepared = Arc::clone(component).prepare(&body, &cx, &mut diags);
        self.finish(prepared, diags)
    }

    /// The evaluated blocks of all components whose types are known and that can be evaluated.
    pub(crate) fn bodies(&self) -> Vec<(Body, Schema)> {
        let inputs = self.inputs(None);
        let mut all = Vec::new();
        if let Ok(builder) = self.builder() {
            let schema = builder.schema();
            let body = self.template.source_body(&self.build, &schema, &inputs);
            all.extend(body.ok().map(|b| (b, schema)));
        }
        for block in self.build.provisioners.iter().chain(&self.build.error_cleanup) {
            let Some(schema) = self.provisioner_schema(&block.component.type_name) else {
                continue;
            };
            let body = self.template.provisioner_body(&self.build, block, &schema, &inputs);
            all.extend(body.ok().map(|b| (b, schema)));
        }
        for block in self.build.chains.iter().flatten() {
            let name = &block.component.type_name;
            let Some(schema) = self.post_processor_schema(name) else { continue };
            let body = self.template.post_processor_body(&self.build, block, &schema, &inputs);
            all.extend(body.ok().map(|b| (b, schema)));
        }
        all
    }

    /// The schema of a component, if its type is known.
    pub(crate) fn provisioner_schema(&self, name: &str) -> Option<Schema> {
        let kind = ComponentKind::Provisioner;
        self.components.schema(kind, &self.own_type(kind, name))
    }

    /// The schema of a component, if its type is known.
    pub(crate) fn post_processor_schema(&self, name: &str) -> Option<Schema> {
        let kind = ComponentKind::PostProcessor;
        self.components.schema(kind, &self.own_type(kind, name))
    }

    /// Diagnostics in one text, for an event or a build's error.
    pub(crate) fn explain(&self, diags: &Diagnostics) -> String {
        let sources = self.template.sources();
        let errors = diags.iter().filter(|d| d.severity == Severity::Error);
        let texts: Vec<String> = errors
            .map(|d| {
                let place = d.primary.as_ref().and_then(|label| {
                    let source = sources.get(label.span.source)?;
                    let at = source.position(label.span.range().start);
                    Some(format!("{}:{}:{}: ", source.name, at.line, at.column))
                });
                let detail =
                    if d.detail.is_empty() { String::new() } else { format!("; {}", d.detail) };
                format!("{}{}{detail}", place.unwrap_or_default(), d.summary)
            })
            .collect();
        texts.join("\n")
    }
}

/// The attributes of an artifact as the value of `artifact.BUILD.TYPE.NAME`.
pub(crate) fn artifact_value(artifact: &Artifact) -> Value {
    let mut json = serde_json::Map::new();
    json.insert("id".into(), artifact.id.clone().into());
    let files = artifact.files.iter().map(|f| f.to_string_lossy().into_owned().into());
    json.insert("files".into(), serde_json::Value::Array(files.collect()));
    json.extend(artifact.attributes.clone());
    karat_value::json::from_json(&serde_json::Value::Object(json))
}

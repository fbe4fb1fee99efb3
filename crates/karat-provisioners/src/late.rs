//! Text with `{{ }}` that a component renders itself, with values of its own (`{{.Path}}`).

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use karat_component::{BuildInfo, ComponentError, Generated, ValidateContext};
use karat_config::NameRules;
use karat_functions::{MemoryWorld, World};
use karat_saga::Services;
use karat_text::{Data, Engine};
use karat_value::Value;

/// What Go's templates print for a name that has no value.
const NO_VALUE: &str = "<no value>";

/// Renders the late options of one component in one build.
///
/// Beside the values that the caller gives, every value of `build.*` is there by its name.
pub struct Late {
    engine: Engine,
    data: Vec<(String, String)>,
}

impl fmt::Debug for Late {
    /// The values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Late").finish_non_exhaustive()
    }
}

impl Late {
    /// A renderer for `build`. Clock and folder are those of the [`World`] among the services,
    /// the process's own if there is none.
    pub fn new(build: &BuildInfo, generated: &Generated, services: &Services) -> Self {
        let folder = build.template_dir.to_string_lossy();
        let (name, builder) = (build.source_name.as_str(), build.source_type.as_str());
        let mut engine = match services.get::<dyn World + Send + Sync>() {
            Some(world) => Engine::new(&*world, name, builder, &folder),
            None => {
                let world = MemoryWorld {
                    working_folder: std::env::current_dir().unwrap_or_default(),
                    clock: Timestamp::now(),
                    ..MemoryWorld::default()
                };
                let mut engine = Engine::new(&world, name, builder, &folder);
                engine.uuid = uuid::Uuid::new_v4().to_string();
                engine
            }
        };
        engine.packer_version = karat_template::PACKER_VERSION.to_owned();
        let data: Vec<(String, String)> =
            generated.iter().filter_map(|(k, v)| Some((k.clone(), text_of(v)?))).collect();
        engine.build.clone_from(&data);
        Self { engine, data }
    }

    /// With `{{ clean_resource_name }}`, by the rules of the component whose texts these are.
    #[must_use]
    pub fn with_names(mut self, rules: NameRules) -> Self {
        self.engine.names = Some(rules);
        self
    }

    /// Renders the text of `option` with the values `own`.
    ///
    /// # Errors
    /// Tells what is wrong in the text, or which names it may use when it uses another.
    pub fn render(
        &self,
        option: &str,
        text: &str,
        own: &[(&str, &str)],
    ) -> Result<String, ComponentError> {
        let rendered = self.render_loosely(option, text, own)?;
        let given = |t: &str| t.contains(NO_VALUE);
        if given(&rendered) && !given(text) && !own.iter().any(|(_, value)| given(value)) {
            return Err(ComponentError::new(format!(
                "\"{option}\" uses a name that has no value here: {text}"
            ))
            .with_hint(self.names(own)));
        }
        Ok(rendered)
    }

    /// Renders the text of `option`; a name without value becomes `<no value>`, as in Packer.
    ///
    /// # Errors
    /// Tells what is wrong in the text.
    pub fn render_loosely(
        &self,
        option: &str,
        text: &str,
        own: &[(&str, &str)],
    ) -> Result<String, ComponentError> {
        let build = self.data.iter().map(|(k, v)| (k.as_str(), v.clone()));
        let own = own.iter().map(|(k, v)| (*k, (*v).to_owned()));
        self.engine
            .render(text, build.chain(own))
            .map_err(|e| ComponentError::new(format!("cannot render \"{option}\": {e}")))
    }

    /// Renders the text of `option` with values that may be maps.
    ///
    /// # Errors
    /// Tells what is wrong in the text, or that it uses a name without a value.
    pub fn render_data(
        &self,
        option: &str,
        text: &str,
        own: &[(&str, Data)],
    ) -> Result<String, ComponentError> {
        let rendered = self
            .engine
            .render_data(text, own.iter().map(|(k, v)| (*k, v.clone())))
            .map_err(|e| ComponentError::new(format!("cannot render \"{option}\": {e}")))?;
        if rendered.contains(NO_VALUE) && !text.contains(NO_VALUE) {
            let names: Vec<String> =
                own.iter().map(|(name, _)| format!("{{{{.{name}}}}}")).collect();
            return Err(ComponentError::new(format!(
                "\"{option}\" uses a name that has no value here: {text}"
            ))
            .with_hint(format!("what can be used: {}", names.join(", "))));
        }
        Ok(rendered)
    }

    fn names(&self, own: &[(&str, &str)]) -> String {
        let mut names: Vec<String> = own
            .iter()
            .map(|(name, _)| *name)
            .chain(self.data.iter().map(|(name, _)| name.as_str()))
            .map(|name| format!("{{{{.{name}}}}}"))
            .collect();
        names.dedup();
        format!("what can be used: {}", names.join(", "))
    }
}

/// Reports late text that can never be rendered: wrong syntax, functions that do not exist.
pub fn check(option: &str, text: &str, cx: &mut ValidateContext<'_>) {
    let mut engine = Engine::new(&MemoryWorld::default(), "", "", "");
    // Which values a machine has is known when it runs.
    engine.build.clear();
    if let Err(reason) = engine.render(text, [])
        && !reason.contains("the machine has no")
    {
        cx.error(option, "Error in a {{ }} template")
            .detail(format!("\"{text}\" cannot be rendered: {reason}."));
    }
}

/// A value of `build.*` as text; `None` for what has no text.
fn text_of(value: &Value) -> Option<String> {
    let value = value.clone().unmark_deep().0;
    if !value.is_known() || value.is_null() {
        return None;
    }
    value
        .as_str()
        .map(str::to_owned)
        .or_else(|| value.as_bool().map(|b| b.to_string()))
        .or_else(|| value.as_number().map(ToString::to_string))
}

/// The value `name` of `build.*` as text, without what stands for "there is none".
pub(crate) fn generated_text(generated: &Generated, name: &str) -> Option<String> {
    let text = text_of(generated.get(name)?)?;
    if text.is_empty() || text.starts_with("ERR_") { None } else { Some(text) }
}

/// A world as a service: `services.with::<WorldService>(world)`.
pub type WorldService = dyn World + Send + Sync;

/// Offers `world` to the components of a program.
#[must_use]
pub fn offer_world(services: Services, world: Arc<WorldService>) -> Services {
    services.with::<WorldService>(world)
}

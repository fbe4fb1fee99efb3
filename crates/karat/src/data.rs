//! Fetches the data sources of a template, side by side where they do not need each other.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use karat_component::{ComponentError, Components, PrepareContext, PreparedDataSource};
use karat_config::{Body, ComponentKind, Schema};
use karat_engine::{own_type, unknown_component};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_saga::Services;
use karat_template::{DataFetcher, DataRequest, Fetched, PluginRequirement};
use karat_value::Value;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, block_in_place};
use tokio_util::sync::CancellationToken;

use crate::signals;

/// Which data sources are fetched; the others stay unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetch {
    /// All.
    All,
    /// Those that read nothing outside the process.
    Offline,
    /// None.
    Nothing,
}

impl Fetch {
    /// All, or none.
    pub(crate) fn all_if(all: bool) -> Self {
        if all { Self::All } else { Self::Nothing }
    }
}

/// Fetches data sources, or leaves them unknown.
pub(crate) struct Data {
    components: Components,
    plugins: Vec<PluginRequirement>,
    fetch: Fetch,
    cancel: CancellationToken,
    values: Mutex<BTreeMap<(String, String), Value>>,
}

impl Data {
    /// Unless nothing is to be fetched, it has to be used in a runtime of several threads.
    /// `plugins` are those that the template asks for, which it may call by other names.
    pub(crate) fn new(
        components: Components,
        plugins: Vec<PluginRequirement>,
        fetch: Fetch,
    ) -> Self {
        let (cancel, values) = (CancellationToken::new(), Mutex::default());
        Self { components, plugins, fetch, cancel, values }
    }

    /// Whether this one is fetched.
    fn runs(&self, request: &DataRequest) -> bool {
        match self.fetch {
            Fetch::All => true,
            Fetch::Offline => {
                let known =
                    |body: &Body| body.attributes.values().all(|a| a.value.is_wholly_known());
                let own = self.own_type(&request.type_name);
                let source = self.components.data_sources().get(own.as_ref());
                source.is_some_and(|source| source.is_offline())
                    && known(&request.body)
                    && request.body.blocks.iter().all(|block| known(&block.body))
            }
            Fetch::Nothing => false,
        }
    }

    /// A type as its plugin names it.
    fn own_type<'a>(&self, type_name: &'a str) -> Cow<'a, str> {
        own_type(&self.components, ComponentKind::DataSource, type_name, &self.plugins)
    }

    /// What can be asked, if the options are right.
    fn prepare(&self, request: &DataRequest) -> Result<Box<dyn PreparedDataSource>, Diagnostics> {
        let own = self.own_type(&request.type_name);
        let Some(source) = self.components.data_sources().get(own.as_ref()) else {
            let (name, span) = (&request.type_name, request.span);
            return Err(self.unknown(name, span, &[]).into());
        };
        let cx = PrepareContext {
            component: format!("data source \"{}\"", request.type_name),
            planning: !self.runs(request),
            ..PrepareContext::default()
        };
        let mut diags = Diagnostics::new();
        let prepared = Arc::clone(source).prepare(&request.body, &cx, &mut diags);
        prepared.filter(|_| !diags.has_errors()).ok_or(diags)
    }

    fn keep(&self, fetched: &Fetched) {
        if let Ok(value) = &fetched.value {
            let key = (fetched.type_name.clone(), fetched.name.clone());
            self.values.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value.clone());
        }
    }
}

impl DataFetcher for Data {
    fn schema(&self, type_name: &str) -> Option<Schema> {
        self.components.schema(ComponentKind::DataSource, &self.own_type(type_name))
    }

    fn unknown(&self, type_name: &str, span: Span, plugins: &[PluginRequirement]) -> Diagnostic {
        let kind = ComponentKind::DataSource;
        unknown_component(&self.components, (kind, kind.word()), type_name, span, plugins)
    }

    fn fetch(&self, request: DataRequest) -> Result<Value, Diagnostics> {
        let prepared = self.prepare(&request)?;
        if !self.runs(&request) {
            let own = self.own_type(&request.type_name);
            let source = self.components.data_sources().get(own.as_ref());
            return Ok(source.map_or_else(Value::dynamic, |s| Value::unknown(s.output())));
        }
        let services = Services::new();
        let asked = prepared.fetch(&services, &self.cancel);
        block_in_place(|| Handle::current().block_on(asked)).map_err(|e| failed(&request, &e))
    }

    fn fetch_all(
        &self,
        first: Vec<DataRequest>,
        done: &mut dyn FnMut(Fetched) -> Vec<DataRequest>,
    ) {
        let mut waiting = VecDeque::from(first);
        let mut running = JoinSet::new();
        // Where no handler can be set, the signal ends the process as ever.
        let _listener = (self.fetch == Fetch::All && !waiting.is_empty())
            .then(|| signals::cancel_on_signal(self.cancel.clone()));
        loop {
            while let Some(request) = waiting.pop_front() {
                if !self.runs(&request) {
                    let fetched = fetched(&request, self.fetch(request.clone()));
                    self.keep(&fetched);
                    waiting.extend(done(fetched));
                    continue;
                }
                match self.prepare(&request) {
                    Ok(prepared) => {
                        let cancel = self.cancel.clone();
                        running.spawn(async move {
                            let value = prepared.fetch(&Services::new(), &cancel).await;
                            (request, value)
                        });
                    }
                    Err(found) => waiting.extend(done(fetched(&request, Err(found)))),
                }
            }
            if running.is_empty() {
                return;
            }
            let next = block_in_place(|| Handle::current().block_on(running.join_next()));
            let (request, value) = match next {
                None => return,
                Some(Ok(ended)) => ended,
                Some(Err(error)) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Nobody else cancels them.
                    Err(_) => continue,
                },
            };
            let fetched = fetched(&request, value.map_err(|e| failed(&request, &e)));
            self.keep(&fetched);
            waiting.extend(done(fetched));
        }
    }
}

fn fetched(request: &DataRequest, value: Result<Value, Diagnostics>) -> Fetched {
    Fetched { type_name: request.type_name.clone(), name: request.name.clone(), value }
}

fn failed(request: &DataRequest, error: &ComponentError) -> Diagnostics {
    let name = format!("data.{}.{}", request.type_name, request.name);
    let diagnostic = if error.is_cancelled() {
        Diagnostic::error(format!("Cancelled while {name} was fetched")).at(request.span)
    } else {
        Diagnostic::error(format!("Data source {name} failed"))
            .at(request.span)
            .detail(sentence(error.chain()))
    };
    match error.hint() {
        Some(hint) => diagnostic.hint(sentence(hint.to_owned())).into(),
        None => diagnostic.into(),
    }
}

/// With a capital at its beginning and a full stop at its end.
fn sentence(text: String) -> String {
    let mut chars = text.trim_end().chars();
    let mut out: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    out.push_str(chars.as_str());
    if !out.ends_with(['.', '!', '?']) {
        out.push('.');
    }
    out
}

/// Gives what an earlier evaluation fetched.
pub(crate) struct Known<'a>(pub(crate) &'a Data);

impl DataFetcher for Known<'_> {
    fn schema(&self, type_name: &str) -> Option<Schema> {
        self.0.schema(type_name)
    }

    fn fetch(&self, request: DataRequest) -> Result<Value, Diagnostics> {
        let values = self.0.values.lock().unwrap_or_else(PoisonError::into_inner);
        // What failed has an unknown value, as in the first evaluation.
        Ok(values.get(&(request.type_name, request.name)).cloned().unwrap_or_else(Value::dynamic))
    }
}

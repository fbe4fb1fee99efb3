//! Data sources: each is fetched once, as soon as all that it needs is there; those that do not
//! need each other side by side.

use indexmap::{IndexMap, IndexSet};
use karat_config::{Body, Schema};
use karat_eval::{Environment, Reference, references};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_value::Value;

use crate::blocks::Template;
use crate::body::evaluate_body;
use crate::evaluate::{Work, deep, each_expression};
use crate::plugin_requirement::PluginRequirement;
use crate::text::render_data;

/// Type and name of a data source.
pub(crate) type DataKey = (String, String);

/// A data source that is to be fetched.
#[derive(Clone, Debug)]
pub struct DataRequest {
    /// Its type.
    pub type_name: String,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// Its options.
    pub body: Body,
}

/// What came of a request.
#[derive(Debug)]
pub struct Fetched {
    /// The type of the data source.
    pub type_name: String,
    /// Its name.
    pub name: String,
    /// Its value, or what went wrong.
    pub value: Result<Value, Diagnostics>,
}

/// Fetches data sources for an evaluation.
pub trait DataFetcher {
    /// The options of a type; `None` if the type is unknown.
    fn schema(&self, type_name: &str) -> Option<Schema>;

    /// What there is to say of a type that is unknown.
    fn unknown(&self, type_name: &str, span: Span, _plugins: &[PluginRequirement]) -> Diagnostic {
        Diagnostic::error(format!("Unknown data source type \"{type_name}\""))
            .at(span)
            .detail(format!("This program has no data source of the type \"{type_name}\"."))
    }

    /// The value of a data source. While a template is only validated, an unknown value of its
    /// type.
    ///
    /// # Errors
    /// What is wrong with the request, or why it could not be answered.
    fn fetch(&self, request: DataRequest) -> Result<Value, Diagnostics>;

    /// Fetches several. `done` is told of each, and gives what can be fetched now that it is
    /// there. Who can fetch side by side does so; otherwise one comes after the other.
    fn fetch_all(
        &self,
        first: Vec<DataRequest>,
        done: &mut dyn FnMut(Fetched) -> Vec<DataRequest>,
    ) {
        let mut waiting = std::collections::VecDeque::from(first);
        while let Some(request) = waiting.pop_front() {
            let (type_name, name) = (request.type_name.clone(), request.name.clone());
            let value = self.fetch(request);
            waiting.extend(done(Fetched { type_name, name, value }));
        }
    }
}

/// Knows no data source.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoData;

impl DataFetcher for NoData {
    fn schema(&self, _: &str) -> Option<Schema> {
        None
    }

    fn fetch(&self, _: DataRequest) -> Result<Value, Diagnostics> {
        Ok(Value::dynamic())
    }
}

/// The values by type and name.
pub(crate) fn data_value<'a>(values: impl Iterator<Item = (&'a DataKey, Value)>) -> Value {
    let mut by_type: IndexMap<&str, Vec<(&str, Value)>> = IndexMap::new();
    for ((type_name, name), value) in values {
        by_type.entry(type_name).or_default().push((name, value));
    }
    crate::names::object(by_type.into_iter().map(|(t, values)| (t, crate::names::object(values))))
}

/// Data sources that are not fetched yet, each with those that it needs first.
struct Waiting(IndexMap<DataKey, IndexSet<DataKey>>);

impl Waiting {
    fn new(template: &Template) -> Self {
        let needs = |block: &crate::build::ComponentBlock| {
            let mut found = Needs { template, data: IndexSet::new(), locals: IndexSet::new() };
            each_expression(&block.body, &mut |expr| found.add(&references(expr)));
            found.data
        };
        Self(template.data.iter().map(|(key, block)| (key.clone(), needs(block))).collect())
    }

    /// Takes out one that needs nothing any more.
    fn next(&mut self) -> Option<DataKey> {
        let place = self.0.values().position(IndexSet::is_empty)?;
        self.0.shift_remove_index(place).map(|(key, _)| key)
    }

    fn is_there(&mut self, key: &DataKey) {
        for needs in self.0.values_mut() {
            needs.shift_remove(key);
        }
    }
}

/// The data sources that expressions need, also by way of locals.
struct Needs<'a> {
    template: &'a Template,
    data: IndexSet<DataKey>,
    locals: IndexSet<&'a str>,
}

impl Needs<'_> {
    fn add(&mut self, uses: &[Reference]) {
        let template = self.template;
        for reference in uses {
            let step = |i: usize| reference.steps.get(i).and_then(|s| s.name());
            match (reference.root.name.as_str(), step(0), step(1)) {
                ("local", name, _) => {
                    for (local, block) in &template.locals {
                        if name.is_none_or(|n| n == local) && self.locals.insert(local) {
                            deep(|| self.add(&references(&block.expr)));
                        }
                    }
                }
                ("data", type_name, name) => {
                    let all = template.data.keys().filter(|(of_type, of_name)| {
                        type_name.is_none_or(|t| t == of_type) && name.is_none_or(|n| n == of_name)
                    });
                    self.data.extend(all.cloned());
                }
                _ => {}
            }
        }
    }
}

impl Work<'_> {
    /// Fetches all data sources but those that need each other in a circle, which is told when
    /// they are looked at one by one.
    pub(crate) fn fetch_data(&mut self) {
        if self.template.data.is_empty() {
            return;
        }
        let mut waiting = Waiting::new(self.template);
        let mut problems: IndexMap<DataKey, Diagnostics> = IndexMap::new();
        let first = self.ready(&mut waiting);
        let fetcher = self.data;
        fetcher.fetch_all(first, &mut |fetched| {
            let key = (fetched.type_name, fetched.name);
            let value = fetched.value.unwrap_or_else(|found| {
                problems.insert(key.clone(), found);
                self.unfetched.insert(key.clone());
                Value::dynamic()
            });
            waiting.is_there(&key);
            self.fetched.insert(key, value);
            self.ready(&mut waiting)
        });
        // In the order of the text, not in that in which they came.
        let place = |key: &DataKey| self.template.data.get_index_of(key);
        self.fetched.sort_by(|a, _, b, _| place(a).cmp(&place(b)));
        problems.sort_by(|a, _, b, _| place(a).cmp(&place(b)));
        problems.into_values().for_each(|found| self.diags.append(found));
    }

    /// What can be asked for now. A data source whose options are wrong is not asked for, and has
    /// an unknown value.
    fn ready(&mut self, waiting: &mut Waiting) -> Vec<DataRequest> {
        let mut requests = Vec::new();
        while let Some(key) = waiting.next() {
            match self.request(&key) {
                Some(request) => requests.push(request),
                None => {
                    waiting.is_there(&key);
                    self.unfetched.insert(key.clone());
                    self.fetched.insert(key, Value::dynamic());
                }
            }
        }
        requests
    }

    fn request(&mut self, key: &DataKey) -> Option<DataRequest> {
        let block = self.template.data.get(key)?;
        let Some(schema) = self.data.schema(&key.0) else {
            let found = self.data.unknown(&key.0, block.type_span, &self.template.plugins);
            self.diags.push(found);
            return None;
        };
        let mut uses = Vec::new();
        each_expression(&block.body, &mut |expr| uses.extend(references(expr)));
        self.needs(&uses);
        if uses.iter().any(|reference| self.is_failed(reference)) {
            self.unfetched.insert(key.clone());
        }
        let environment = Environment::new(self.world, self.template.root.as_path());
        let scope = self.scope(&environment, &uses);
        let mut found = Diagnostics::new();
        let mut body = evaluate_body(&block.body, block.header, &schema, &scope, &mut found);
        if !found.has_errors() {
            render_data(&mut body, &schema, self.world, &mut found);
        }
        let failed = found.has_errors();
        self.diags.append(found);
        let (type_name, name) = key.clone();
        (!failed).then_some(DataRequest { type_name, name, span: block.header, body })
    }
}

//! Variables: declarations; values from defaults, environment, files and flags; rules.

use indexmap::IndexMap;
use karat_eval::{
    Environment, Functions, Scope, TypeConstraint, evaluate, references, type_constraint,
};
use karat_functions::World;
use karat_hcl::ast::{Attribute, Block, Expr};
use karat_hcl::diag::{Diagnostic, Diagnostics, SourceMap, Span};
use karat_hcl::parse_expression;
use karat_hcl::schema::Schema;
use karat_value::{Mark, Marks, Type, Value, convert, print};

use crate::names::{Names, object};

/// A declaration of a variable.
#[derive(Clone, Debug)]
pub struct VariableBlock {
    /// Its name.
    pub name: String,
    /// The block's header, or the name in `variables`.
    pub span: Span,
    /// `type`; in JSON syntax a text that holds the expression.
    pub ty: Option<Expr>,
    /// `default`.
    pub default: Option<Expr>,
    /// `description`.
    pub description: Option<Expr>,
    /// `sensitive`.
    pub sensitive: Option<Expr>,
    /// The rules: condition and message.
    pub rules: Vec<Rule>,
}

/// A `validation` block.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What has to be true.
    pub condition: Expr,
    /// What is said otherwise.
    pub message: Expr,
}

/// A variable with its value.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// What is told of it.
    pub description: String,
    /// Its value; an unknown one where it has none. Marked if it is sensitive.
    pub value: Value,
    /// Its value before anything was set, if it has one.
    pub default: Option<Value>,
    /// Whether it is masked.
    pub sensitive: bool,
    /// Whether it has a value at all.
    pub is_set: bool,
}

/// A file of values.
#[derive(Clone, Debug)]
pub(crate) struct VarFile {
    /// As it is shown.
    pub(crate) name: String,
    /// The values.
    pub(crate) values: IndexMap<String, Attribute>,
}

/// Values given from outside.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// `-var`, as `name=value`, in the order given.
    pub flags: Vec<String>,
    /// Whether a value in a file for a variable that is not declared gives a warning.
    pub warn_undeclared: bool,
}

/// Reads a `variable` block.
pub(crate) fn decode(block: &Block, diags: &mut Diagnostics) -> VariableBlock {
    let schema = Schema::new()
        .optional("type")
        .optional("default")
        .optional("description")
        .optional("sensitive")
        .block("validation", &[]);
    let mut content = block.body.content(&schema, diags);
    let rules = content
        .blocks_of("validation")
        .filter_map(|rule| {
            let schema = Schema::new().required("condition").required("error_message");
            let mut inner = rule.body.content(&schema, diags);
            Some(Rule {
                condition: inner.attributes.shift_remove("condition")?.expr,
                message: inner.attributes.shift_remove("error_message")?.expr,
            })
        })
        .collect();
    let mut take = |name: &str| content.attributes.shift_remove(name).map(|a| a.expr);
    VariableBlock {
        name: block.labels[0].text.clone(),
        span: block.header,
        ty: take("type"),
        default: take("default"),
        description: take("description"),
        sensitive: take("sensitive"),
        rules,
    }
}

/// One value that was given, and where.
struct Setting {
    value: Value,
    span: Option<Span>,
    what: String,
}

/// Where the value of a variable comes from, for the messages of its rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    span: Option<Span>,
    what: Option<String>,
}

/// Finds the values of all variables.
///
/// Every value is checked, those that are overridden too; the last of these wins: default,
/// `PKR_VAR_…`, automatic files, `-var-file`, `-var`.
pub(crate) struct Resolver<'a> {
    pub(crate) blocks: &'a IndexMap<String, VariableBlock>,
    pub(crate) files: &'a [VarFile],
    pub(crate) given: &'a Given,
    pub(crate) world: &'a dyn World,
    pub(crate) sources: &'a mut SourceMap,
    pub(crate) diags: &'a mut Diagnostics,
    /// Values of sensitive variables that did not fit: they are secret all the same.
    pub(crate) rejected: Vec<Value>,
    /// Rules that cannot be asked, by the places of their conditions.
    pub(crate) unsound: Vec<Span>,
}

impl<'a> Resolver<'a> {
    /// The values, their rules not checked yet, and where each comes from.
    pub(crate) fn resolve(&mut self) -> (IndexMap<String, Variable>, Vec<Origin>) {
        let blocks = self.blocks;
        for block in blocks.values() {
            for rule in &block.rules {
                if self.rule_message(block, rule).is_none() || !self.names_itself(block, rule) {
                    self.unsound.push(rule.condition.span);
                }
            }
        }
        let mut settings: IndexMap<&str, Vec<Setting>> = IndexMap::new();
        let mut types = IndexMap::new();
        let mut defaults = IndexMap::new();
        for (name, block) in blocks {
            let (ty, default) = self.declared(block);
            defaults.insert(name.as_str(), default);
            types.insert(name.as_str(), ty);
            settings.insert(name.as_str(), Vec::new());
        }
        for (name, block) in blocks {
            if let Some(text) = self.world.env_var(&format!("PKR_VAR_{name}")) {
                let what = format!("PKR_VAR_{name}");
                let found = self.take_text(block, &types[name.as_str()], &what, &text);
                settings[name.as_str()].extend(found);
            }
        }
        for file in self.files {
            self.take_file(file, &types, &mut settings);
        }
        for flag in &self.given.flags {
            self.take_flag(flag, &types, &mut settings);
        }
        let mut variables = IndexMap::new();
        let mut origins = Vec::new();
        for (name, block) in blocks {
            let last = settings.swap_remove(name.as_str()).and_then(|mut all| all.pop());
            let default = defaults.swap_remove(name.as_str()).flatten();
            origins.push(match &last {
                Some(setting) => Origin { span: setting.span, what: Some(setting.what.clone()) },
                None => Origin::default(),
            });
            let variable = self.finish(block, &types[name.as_str()], default, last);
            variables.insert(name.clone(), variable);
        }
        (variables, origins)
    }

    /// Checks the rules of all variables that have a value.
    pub(crate) fn check_rules(
        &mut self,
        variables: &IndexMap<String, Variable>,
        origins: &[Origin],
    ) {
        let blocks = self.blocks;
        for ((variable, block), origin) in variables.values().zip(blocks.values()).zip(origins) {
            if variable.is_set {
                self.check_rules_of(block, &variable.value, origin);
            }
        }
    }

    /// The type, and the default converted to it. Without a type, or with `any`, the type is that
    /// of the default, except that an empty collection leaves it open.
    fn declared(&mut self, block: &VariableBlock) -> (Option<TypeConstraint>, Option<Value>) {
        let declared = block.ty.as_ref().map(|expr| {
            let (ty, diags) = match self.quoted(expr) {
                Some((_, diags)) if diags.has_errors() => (TypeConstraint::any(), diags),
                Some((inner, _)) => type_constraint(&inner),
                None => type_constraint(expr),
            };
            self.diags.append(diags);
            ty
        });
        let open = declared.as_ref().is_none_or(|ty| ty.ty == Type::Dynamic);
        let Some(expr) = &block.default else {
            return (if open { None } else { declared }, None);
        };
        let environment =
            Environment::new(self.world, "").with_functions(Functions::VariableDefault);
        let (value, diags) = evaluate(expr, &Scope::new(&environment));
        let failed = diags.has_errors();
        self.diags.append(diags);
        if failed {
            return (declared.filter(|_| !open), Some(Value::dynamic()));
        }
        if open {
            let empty = value.element_count() == Some(0) && value.as_str().is_none();
            let ty = (!empty && !value.is_null())
                .then(|| TypeConstraint { ty: value.ty().clone(), ..TypeConstraint::any() });
            return (ty, Some(value));
        }
        let ty = declared.unwrap_or_else(TypeConstraint::any);
        match ty.convert(&value) {
            Ok(value) => (Some(ty), Some(value)),
            Err(error) => {
                if block.sensitive.is_some() {
                    self.rejected.push(value.clone());
                }
                self.diags.push(
                    Diagnostic::error(format!(
                        "Invalid default value for variable \"{}\"",
                        block.name
                    ))
                    .at(expr.span)
                    .detail(format!("The default does not fit the type {}: {error}.", ty.ty)),
                );
                (Some(ty), Some(Value::dynamic()))
            }
        }
    }

    /// The expression in a text of JSON syntax, which has no other way to write one.
    fn quoted(&self, expr: &Expr) -> Option<(Expr, Diagnostics)> {
        let source = self.sources.get(expr.span.source).filter(|s| s.name.ends_with(".json"))?;
        let text = expr.as_literal_str()?;
        let (start, end) = (expr.span.range().start + 1, expr.span.range().end.checked_sub(1)?);
        // With escapes in it the text has no place of its own; no type needs one.
        (source.text.get(start..end) == Some(text))
            .then(|| parse_expression(expr.span.source, &source.text, start..end))
    }

    fn take_file(
        &mut self,
        file: &'a VarFile,
        types: &IndexMap<&'a str, Option<TypeConstraint>>,
        settings: &mut IndexMap<&'a str, Vec<Setting>>,
    ) {
        let environment = Environment::new(self.world, "").with_functions(Functions::None);
        for (name, attribute) in &file.values {
            let (value, diags) = evaluate(&attribute.expr, &Scope::new(&environment));
            let failed = diags.has_errors();
            self.diags.append(diags);
            let Some(block) = self.blocks.get(name) else {
                self.undeclared(file, name, attribute.name.span);
                continue;
            };
            if failed {
                continue;
            }
            let (ty, span) = (&types[name.as_str()], Some(attribute.expr.span));
            let found = self.convert(block, ty, value, span, &file.name);
            settings[name.as_str()].extend(found);
        }
    }

    fn undeclared(&mut self, file: &VarFile, name: &str, span: Span) {
        if !self.given.warn_undeclared {
            return;
        }
        self.diags.push(
            Diagnostic::warning("Undefined variable")
                .at(span)
                .detail(format!(
                    "{} sets the variable \"{name}\", which the template does not declare.",
                    file.name
                ))
                .did_you_mean(name, self.blocks.keys().map(String::as_str)),
        );
    }

    fn take_flag(
        &mut self,
        flag: &str,
        types: &IndexMap<&'a str, Option<TypeConstraint>>,
        settings: &mut IndexMap<&'a str, Vec<Setting>>,
    ) {
        let (name, text) = flag.split_once('=').unwrap_or((flag, ""));
        let Some((name, block)) = self.blocks.get_key_value(name) else {
            self.diags.push(
                Diagnostic::error("Undefined -var variable")
                    .detail(format!(
                        "A \"{name}\" variable was passed in the command line but was not found in known variables. To declare it, write a block: variable \"{name}\" {{}}."
                    ))
                    .did_you_mean(name, self.blocks.keys().map(String::as_str)),
            );
            return;
        };
        let what = format!("-var {name}");
        let found = self.take_text(block, &types[name.as_str()], &what, text);
        settings[name.as_str()].extend(found);
    }

    /// Text for a string, a number or a variable without a type is taken as it is; for all others
    /// it is an expression without names and functions.
    fn take_text(
        &mut self,
        block: &'a VariableBlock,
        ty: &Option<TypeConstraint>,
        what: &str,
        text: &str,
    ) -> Option<Setting> {
        let literal = ty
            .as_ref()
            .is_none_or(|ty| matches!(ty.ty, Type::String | Type::Number | Type::Dynamic));
        if literal {
            return self.convert(block, ty, Value::string(text), None, what);
        }
        let source = self.sources.add(format!("<value for var.{} from {what}>", block.name), text);
        let (expr, diags) = parse_expression(source, text, 0..text.len());
        let failed = diags.has_errors();
        self.diags.append(diags);
        if failed {
            return None;
        }
        let environment = Environment::new(self.world, "").with_functions(Functions::None);
        let (value, diags) = evaluate(&expr, &Scope::new(&environment));
        let failed = diags.has_errors();
        self.diags.append(diags);
        if failed {
            return None;
        }
        self.convert(block, ty, value, Some(expr.span), what)
    }

    fn convert(
        &mut self,
        block: &'a VariableBlock,
        ty: &Option<TypeConstraint>,
        value: Value,
        span: Option<Span>,
        what: &str,
    ) -> Option<Setting> {
        let converted = match ty {
            None => Ok(value.clone()),
            Some(ty) => ty.convert(&value),
        };
        match converted {
            Ok(value) => Some(Setting { value, span, what: what.to_owned() }),
            Err(error) => {
                if block.sensitive.is_some() {
                    self.rejected.push(value.clone());
                }
                let want = ty.as_ref().map(|t| t.ty.to_string()).unwrap_or_default();
                // Where there is no excerpt to be shown, the text itself is.
                let text = value.as_str().filter(|t| span.is_none() && t.chars().count() <= 80);
                let shown = text.map(|t| format!(" {}", print::quote(t))).unwrap_or_default();
                let mut diagnostic =
                    Diagnostic::error(format!("Invalid value for variable \"{}\"", block.name))
                        .detail(format!(
                            "The value{shown} from {what} does not fit the type {want}: {error}."
                        ));
                diagnostic = match span {
                    Some(span) => diagnostic.at(span).also(block.span, "declared here"),
                    None => diagnostic.at(block.span),
                };
                self.diags.push(diagnostic);
                None
            }
        }
    }

    fn finish(
        &mut self,
        block: &VariableBlock,
        ty: &Option<TypeConstraint>,
        default: Option<Value>,
        last: Option<Setting>,
    ) -> Variable {
        let value = last.map(|s| s.value).or_else(|| default.clone());
        let is_set = value.is_some();
        let description =
            block.description.as_ref().and_then(|expr| self.description(expr)).unwrap_or_default();
        let sensitive = self.flag(block.sensitive.as_ref());
        let mut value = value
            .unwrap_or_else(|| Value::unknown(ty.as_ref().map_or(Type::Dynamic, |t| t.ty.clone())));
        if sensitive {
            value = value.with_marks(&Marks::one(Mark::Sensitive));
        }
        let (name, span) = (block.name.clone(), block.span);
        Variable { name, span, description, value, default, sensitive, is_set }
    }

    fn constant(&mut self, expr: &Expr) -> Option<Value> {
        let environment = Environment::new(self.world, "").with_functions(Functions::None);
        let (value, diags) = evaluate(expr, &Scope::new(&environment));
        let failed = diags.has_errors();
        self.diags.append(diags);
        (!failed).then_some(value)
    }

    fn description(&mut self, expr: &Expr) -> Option<String> {
        let value = self.fixed(expr, &Type::String, "\"description\" is a text, a string")?;
        value.as_str().map(str::to_owned)
    }

    /// A constant of this type; `needed` tells of it where it is another, or null.
    fn fixed(&mut self, expr: &Expr, ty: &Type, needed: &str) -> Option<Value> {
        let value = self.constant(expr)?;
        let wrong = match convert(&value, ty) {
            Ok(value) if !value.is_null() => return Some(value),
            Ok(_) => "a null value is not allowed".to_owned(),
            Err(error) => error.to_string(),
        };
        self.diags.push(
            Diagnostic::error("Unsuitable value type")
                .at(expr.span)
                .detail(format!("{needed}: {wrong}.")),
        );
        None
    }

    /// Whether `sensitive` is set, which has to be a constant.
    pub(crate) fn flag(&mut self, expr: Option<&Expr>) -> bool {
        let Some(expr) = expr else { return false };
        let value = self.fixed(expr, &Type::Bool, "\"sensitive\" is true or false");
        value.and_then(|value| value.as_bool()).unwrap_or(false)
    }

    fn check_rules_of(&mut self, block: &VariableBlock, value: &Value, origin: &Origin) {
        // The functions of a rule that read files start at the folder that the command runs in.
        let environment = Environment::new(self.world, "");
        let mut scope = Scope::new(&environment);
        scope.set("var", object([(block.name.as_str(), value.clone())]));
        for rule in &block.rules {
            if self.unsound.contains(&rule.condition.span) {
                continue;
            }
            let Some(message) = self.rule_message(block, rule) else { continue };
            let (result, diags) = evaluate(&rule.condition, &scope);
            if diags.has_errors() {
                self.diags.append(diags);
                continue;
            }
            let holds = convert(&result, &Type::Bool).ok().filter(|v| !v.is_null());
            match holds {
                Some(value) if value.as_bool() == Some(false) => {
                    let from = origin.what.as_deref().unwrap_or("its default");
                    let mut diagnostic = Diagnostic::error(format!("Invalid value for variable \"{}\"", block.name))
                        .detail(format!("{message}\n\nThis was checked by the validation rule at {}, for the value from {from}.", self.place(rule.condition.span)));
                    diagnostic = match origin.span {
                        Some(span) => {
                            diagnostic.at(span).also(rule.condition.span, "this rule does not hold")
                        }
                        None => diagnostic
                            .at(block.span)
                            .also(rule.condition.span, "this rule does not hold"),
                    };
                    self.diags.push(diagnostic);
                }
                Some(_) => {}
                None => self.diags.push(
                    Diagnostic::error("Invalid variable validation result")
                        .at(rule.condition.span)
                        .detail("The condition must be true or false, and not null."),
                ),
            }
        }
    }

    fn place(&self, span: Span) -> String {
        self.sources.get(span.source).map_or_else(String::new, |source| {
            let at = source.position(span.range().start);
            format!("{}:{},{}", source.name, at.line, at.column)
        })
    }

    /// A condition is about its own variable and nothing else.
    fn names_itself(&mut self, block: &VariableBlock, rule: &Rule) -> bool {
        let mut found = false;
        for reference in references(&rule.condition) {
            let is_own = reference.root.name == "var"
                && reference.steps.first().and_then(|s| s.name()) == Some(&block.name);
            if !is_own {
                self.diags.push(
                    Diagnostic::error("Invalid reference in variable validation")
                        .at(reference.span)
                        .detail(format!(
                            "The condition for variable \"{}\" can only refer to the variable itself, as var.{0}.",
                            block.name
                        )),
                );
                return false;
            }
            found = true;
        }
        if !found {
            self.diags.push(
                Diagnostic::error("Invalid variable validation condition")
                    .at(rule.condition.span)
                    .detail(format!(
                        "The condition for variable \"{}\" must refer to var.{0} in order to test it.",
                        block.name
                    )),
            );
        }
        found
    }

    fn rule_message(&mut self, block: &VariableBlock, rule: &Rule) -> Option<String> {
        let value = self.constant(&rule.message)?;
        let text = convert(&value, &Type::String).ok().and_then(|v| v.as_str().map(str::to_owned));
        let text = text.unwrap_or_default();
        let trimmed = text.trim();
        let first = trimmed.chars().next();
        let begins = first.is_some_and(|c| c.is_uppercase() || !c.is_lowercase());
        if begins && trimmed.ends_with(['.', '?', '!']) {
            return Some(text);
        }
        self.diags.push(
            Diagnostic::error("Invalid validation error message")
                .at(rule.message.span)
                .detail(format!(
                    "The message of a rule for variable \"{}\" must be a whole sentence: it begins with an upper-case letter and ends in a full stop, question mark or exclamation mark.",
                    block.name
                )),
        );
        None
    }
}

/// The values as `var` has them.
pub(crate) fn value_of(variables: &IndexMap<String, Variable>) -> Value {
    object(variables.iter().map(|(name, variable)| (name, variable.value.clone())))
}

/// Adds `var`.
pub(crate) fn add_names(names: &mut Names, variables: &IndexMap<String, Variable>) {
    names.insert("var".into(), value_of(variables));
}

//! Where a text stands, which decides what some of the engine's functions do.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gotmpl::{Template, TemplateError, Value as Text};
use karat_functions::World;

use crate::limits::Limited as _;
use crate::{Engine, fail, only_in};

/// The user variables of a legacy template, by name.
pub type UserVariables = Arc<BTreeMap<String, String>>;

/// Where a text stands.
#[derive(Clone, Debug, Default)]
pub enum Place {
    /// In an HCL template: variables are names in expressions there.
    #[default]
    Hcl,
    /// In a data source: as in an HCL template, but there is no build to be named.
    Data,
    /// In a legacy template. What no variable is called is the empty text.
    Legacy(UserVariables),
    /// In a value of a user variable of a legacy template: the environment and secret stores may
    /// be read, and `{{ user }}` needs a variable that has its value already.
    Variable(UserVariables),
}

/// Why a value of a user variable cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariableError {
    /// It needs a variable that has no value, or none yet.
    Unset(String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for VariableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unset(reason) | Self::Other(reason)) = self;
        f.write_str(reason)
    }
}

impl std::error::Error for VariableError {}

/// A question to the outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    Environment(String),
    Consul(String),
    Vault(String, String),
    Aws(String, Option<String>),
    AwsRaw(String),
}

impl Question {
    fn ask(&self, world: &dyn World) -> Result<String, String> {
        match self {
            Self::Environment(name) => Ok(world.env_var(name).unwrap_or_default()),
            Self::Consul(key) => world.consul_key(key),
            Self::Vault(path, key) => world.vault(path, key),
            Self::Aws(name, key) => world.aws_secret(name, key.as_deref()),
            Self::AwsRaw(name) => world.aws_secret_raw(name),
        }
    }
}

/// Functions outlive any borrow of a world, so they write down what they would ask; the renderer
/// asks it and begins again.
#[derive(Debug, Default)]
struct Outside {
    answers: BTreeMap<Question, Result<String, String>>,
    open: Option<Question>,
    unset: bool,
}

type Shared = Arc<Mutex<Outside>>;

fn lock(outside: &Shared) -> std::sync::MutexGuard<'_, Outside> {
    outside.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Renders a value of a user variable of a legacy template.
    ///
    /// # Errors
    /// What is wrong in the text, what a function had to object to, or that a variable is needed
    /// that has no value.
    pub fn render_variable(&self, text: &str, world: &dyn World) -> Result<String, VariableError> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        crate::user::check_blocks(text).map_err(VariableError::Other)?;
        let text = &crate::rewrite::rewrite(text).map_err(VariableError::Other)?;
        let outside = Shared::default();
        loop {
            let template = self.outward(self.template(), &outside).parse(text);
            let template = template.map_err(|e| VariableError::Other(message(&e)))?;
            let rendered = crate::limits::execute(&template, &Text::Nil);
            let mut outside = lock(&outside);
            match (rendered, outside.open.take()) {
                (_, Some(question)) => {
                    let answer = question.ask(world);
                    outside.answers.insert(question, answer);
                }
                (Ok(text), None) => return Ok(text),
                (Err(error), None) if outside.unset => {
                    return Err(VariableError::Unset(message(&error)));
                }
                (Err(error), None) => return Err(VariableError::Other(message(&error))),
            }
        }
    }

    /// The functions that a user variable may use beyond those of all texts.
    fn outward(&self, template: Template, outside: &Shared) -> Template {
        let Place::Variable(variables) = &self.place else { return template };
        let variables = Arc::clone(variables);
        let ask = |name: &'static str, question: fn(&[&str]) -> Option<Question>| {
            let outside = Arc::clone(outside);
            move |args: &[Text]| {
                let texts: Option<Vec<&str>> = args.iter().map(as_text).collect();
                match texts.as_deref().and_then(question) {
                    Some(question) => answer(&outside, question),
                    None => fail(format!("{name}: wrong number or kind of arguments")),
                }
            }
        };
        let unset = Arc::clone(outside);
        template
            .limited("user", move |args| {
                let [Text::String(name)] = args else {
                    return fail("user: the name of one variable is needed".into());
                };
                match variables.get(&**name) {
                    Some(value) => Ok(Text::String(value.as_str().into())),
                    None => {
                        lock(&unset).unset = true;
                        fail(format!("user: Error: variable not set: {name}"))
                    }
                }
            })
            .limited("env", ask("env", |a| one(a, Question::Environment)))
            .limited("consul_key", ask("consul_key", |a| one(a, Question::Consul)))
            .limited(
                "vault",
                ask("vault", |args| match args {
                    [path, key] => Some(Question::Vault((*path).into(), (*key).into())),
                    _ => None,
                }),
            )
            .limited(
                "aws_secretsmanager",
                ask("aws_secretsmanager", |args| match args {
                    [name] => Some(Question::Aws((*name).into(), None)),
                    [name, ""] => Some(Question::Aws((*name).into(), None)),
                    [name, key] => Some(Question::Aws((*name).into(), Some((*key).into()))),
                    _ => None,
                }),
            )
            .limited(
                "aws_secretsmanager_raw",
                ask("aws_secretsmanager_raw", |a| one(a, Question::AwsRaw)),
            )
    }
}

/// The functions that mean something else in each place.
pub(crate) fn functions(place: &Place, template: Template) -> Template {
    let elsewhere = match place {
        Place::Hcl | Place::Data => "user variables of legacy JSON templates",
        Place::Legacy(_) | Place::Variable(_) => "\"variables\"",
    };
    let template = match place {
        Place::Hcl | Place::Data => template
            .limited("user", only_in("user", "legacy JSON templates; write var.NAME"))
            .limited("env", only_in("env", "a default of a variable")),
        Place::Legacy(variables) | Place::Variable(variables) => {
            let variables = Arc::clone(variables);
            template
                .limited("user", move |args| {
                    let [Text::String(name)] = args else {
                        return fail("user: the name of one variable is needed".into());
                    };
                    let value = variables.get(&**name).map(String::as_str);
                    Ok(Text::String(value.unwrap_or_default().into()))
                })
                .limited("env", only_in("env", elsewhere))
        }
    };
    template
        .limited("consul_key", only_in("consul_key", elsewhere))
        .limited("vault", only_in("vault", elsewhere))
        .limited("aws_secretsmanager", only_in("aws_secretsmanager", elsewhere))
        .limited("aws_secretsmanager_raw", only_in("aws_secretsmanager_raw", elsewhere))
}

fn as_text(value: &Text) -> Option<&str> {
    match value {
        Text::String(text) => Some(text),
        _ => None,
    }
}

fn one(args: &[&str], question: fn(String) -> Question) -> Option<Question> {
    let [name] = args else { return None };
    Some(question((*name).to_owned()))
}

fn answer(outside: &Shared, question: Question) -> Result<Text, TemplateError> {
    let mut outside = lock(outside);
    match outside.answers.get(&question) {
        Some(Ok(text)) => Ok(Text::String(text.as_str().into())),
        Some(Err(reason)) => fail(reason.clone()),
        None => {
            outside.open = Some(question);
            fail("not known yet".into())
        }
    }
}

/// What went wrong, without the library's words for the phase.
pub(crate) fn message(error: &TemplateError) -> String {
    match error {
        TemplateError::Exec(reason) => reason.clone(),
        TemplateError::UndefinedFunction(name) => format!("function \"{name}\" is not defined"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use karat_functions::MemoryWorld;

    use super::*;

    fn engine(place: fn(UserVariables) -> Place) -> Engine {
        let mut engine = Engine::new(&MemoryWorld::default(), "", "", "");
        let known = [("a", "x"), ("late", "{{ .Path }}")];
        let known = known.map(|(name, value)| (name.to_owned(), value.to_owned()));
        engine.place = place(Arc::new(known.into()));
        engine
    }

    fn world() -> MemoryWorld {
        let mut world = MemoryWorld::default();
        world.env.insert("HOME".into(), "/root".into());
        world
    }

    #[test]
    fn variables_read_the_environment_and_each_other() {
        let engine = engine(Place::Variable);
        let render = |text: &str| engine.render_variable(text, &world());
        assert_eq!(render("{{ env `HOME` }}/{{ user `a` }}").unwrap(), "/root/x");
        assert_eq!(render("{{ env `HOME` | upper }}{{ env `NONE` }}").unwrap(), "/ROOT");
        assert_eq!(render("plain").unwrap(), "plain");
        assert!(
            matches!(render("{{ user `b` }}"), Err(VariableError::Unset(r)) if r.contains("b"))
        );
        assert!(matches!(render("{{ vault `a` `b` }}"), Err(VariableError::Other(_))));
        assert!(matches!(render("{{ nosuch }}"), Err(VariableError::Other(_))));
    }

    #[test]
    fn options_see_variables_and_nothing_of_the_outside() {
        let engine = engine(Place::Legacy);
        let render = |text: &str| engine.render(text, []);
        assert_eq!(render("{{ user `a` }}-{{ user `none` }}").unwrap(), "x-");
        assert_eq!(render("{{ user `late` }}").unwrap(), "{{ .Path }}");
        assert!(render("{{ env `HOME` }}").unwrap_err().contains("\"variables\""));
    }
}

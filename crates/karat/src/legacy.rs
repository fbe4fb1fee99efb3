//! What `inspect` and `console` show of a legacy template.

use std::fmt::Write as _;

use karat_functions::World;
use karat_legacy::{Template, Variable};
use karat_template::{Legacy, PACKER_VERSION};
use karat_text::{Engine, Place};

use crate::report::{machine, out};

const MASK: &str = karat_component::MASK;

/// One thing that `inspect` says.
enum Line {
    /// To people.
    Say(String),
    /// To programs alone: a type, its values, and what is no text of the template.
    Record(&'static str, Vec<String>, Option<&'static str>),
}

/// Prints what is in a template, exactly as Packer prints it.
pub(crate) fn inspect(template: &Template, machine_readable: bool, mask: impl Fn(&str) -> String) {
    for line in lines(template) {
        match line {
            Line::Say(text) if machine_readable => machine::say(&mask(&text)),
            Line::Say(text) => out::stdout_line(&mask(&text)),
            Line::Record(kind, values, flag) if machine_readable => {
                let values: Vec<String> = values.iter().map(|v| mask(v)).collect();
                let values: Vec<&str> = values.iter().map(String::as_str).chain(flag).collect();
                machine::now("", kind, &values);
            }
            Line::Record(..) => {}
        }
    }
}

fn lines(template: &Template) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut say = |text: &str| lines.push(Line::Say(text.to_owned()));
    say("Packer Inspect: JSON mode");
    if let Some(description) = template.description.as_ref().filter(|d| !d.text.is_empty()) {
        say("Description:\n");
        say(&format!("{}\n", description.text));
    }
    variables(template, &mut lines);
    builders(template, &mut lines);
    provisioners(template, &mut lines);
    lines.push(Line::Say(
        "\nNote: If your build names contain user variables or template\n\
         functions such as 'timestamp', these are processed at build time,\n\
         and therefore only show in their raw form here."
            .into(),
    ));
    lines
}

fn variables(template: &Template, lines: &mut Vec<Line>) {
    let mut all: Vec<&Variable> = template.variables.iter().collect();
    all.sort_by_key(|v| &v.name.text);
    if all.is_empty() {
        lines.push(Line::Say("Variables:\n".into()));
        lines.push(Line::Say("  <No variables>".into()));
    } else {
        let width = all.iter().map(|v| v.name.text.len()).max().unwrap_or(0);
        let (required, optional): (Vec<&Variable>, Vec<&Variable>) =
            all.into_iter().partition(|v| v.default.is_none());
        if !required.is_empty() {
            lines.push(Line::Say("Required variables:\n".into()));
            for variable in required {
                let name = &variable.name.text;
                lines.push(record(variable, "1"));
                lines.push(Line::Say(format!("  {name}")));
            }
            lines.push(Line::Say(String::new()));
        }
        lines.push(Line::Say("Optional variables and their defaults:\n".into()));
        for variable in optional {
            let name = &variable.name.text;
            let pad = " ".repeat(width - name.len());
            lines.push(record(variable, "0"));
            lines.push(Line::Say(format!("  {name}{pad} = {}", default_of(variable))));
        }
    }
    lines.push(Line::Say(String::new()));
}

fn record(variable: &Variable, required: &'static str) -> Line {
    let values = [&variable.name.text, default_of(variable)];
    Line::Record("template-variable", values.map(str::to_owned).to_vec(), Some(required))
}

fn default_of(variable: &Variable) -> &str {
    if variable.sensitive {
        return MASK;
    }
    variable.default.as_ref().map(|d| d.text.as_str()).unwrap_or_default()
}

fn builders(template: &Template, lines: &mut Vec<Line>) {
    lines.push(Line::Say("Builders:\n".into()));
    if template.builders.is_empty() {
        lines.push(Line::Say("  <No builders>".into()));
    }
    let mut all: Vec<(&str, &str)> =
        template.builders.iter().map(|b| (&*b.name.text, &*b.type_name.text)).collect();
    all.sort_unstable();
    let width = all.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, type_name) in all {
        let mut text = format!("  {name}{}", " ".repeat(width - name.len()));
        if name != type_name {
            let _ = write!(text, " ({type_name})");
        }
        let values = vec![name.to_owned(), type_name.to_owned()];
        lines.push(Line::Record("template-builder", values, None));
        lines.push(Line::Say(text));
    }
    lines.push(Line::Say(String::new()));
}

fn provisioners(template: &Template, lines: &mut Vec<Line>) {
    lines.push(Line::Say("Provisioners:\n".into()));
    if template.provisioners.is_empty() {
        lines.push(Line::Say("  <No provisioners>".into()));
    }
    for provisioner in &template.provisioners {
        let type_name = provisioner.type_name.text.clone();
        lines.push(Line::Say(format!("  {type_name}")));
        lines.insert(lines.len() - 1, Line::Record("template-provisioner", vec![type_name], None));
    }
}

/// Texts with `{{ }}`, rendered with the variables of a template.
#[derive(Debug)]
pub(crate) struct Texts<'a> {
    engine: Engine,
    legacy: &'a Legacy,
}

impl<'a> Texts<'a> {
    /// `folder` is the template's; empty without one.
    pub(crate) fn new(legacy: &'a Legacy, folder: &str, world: &dyn World) -> Self {
        let mut engine = Engine::new(world, "", "", folder);
        engine.packer_version = PACKER_VERSION.to_owned();
        engine.place = Place::Legacy(legacy.variables.clone());
        Self { engine, legacy }
    }

    /// Renders a text until there is nothing left to be rendered.
    ///
    /// # Errors
    /// What is wrong in it.
    pub(crate) fn render(&self, text: &str) -> Result<String, String> {
        self.engine.render_whole(text)
    }

    /// All variables with their values.
    pub(crate) fn variables(&self) -> String {
        let mut text = String::from("\n");
        for (name, value) in self.legacy.variables.iter() {
            let _ = writeln!(text, "{name}: {value},");
        }
        text
    }
}

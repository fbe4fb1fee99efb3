//! `karat console`

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use karat_component::Masker;
use karat_eval::{Environment, Scope, console_eval};
use karat_hcl::diag::{Diagnostics, SourceMap};
use karat_template::{Evaluated, Given, Load, NoData, TemplateKind, bare_console_scope, load};

use super::inspect;
use crate::cli::{ConfigType, Global, IgnoredArgs, TemplateArgs, assignment, runtime};
use crate::data::Fetch;
use crate::error::Failure;
use crate::legacy::Texts;
use crate::line_editor::{Line, LineEditor};
use crate::manual::functions;
use crate::report::diagnostics::Renderer;
use crate::report::{machine, out};
use crate::session::Session;
use crate::world::System;

/// Evaluates expressions with the values of a template, to try them out.
///
/// Of lines from a pipe only the last result is printed; lines that are typed, or that come from a
/// file, are answered one by one. Values that cannot be found do not stop the console: they are
/// unknown, or not there. At a terminal lines can be edited, are remembered, and Tab completes
/// names. Without a template and without -config-type=hcl2 lines are texts with
/// {{ }}.
#[derive(Debug, Args)]
pub(crate) struct ConsoleArgs {
    /// Sets a variable: NAME=VALUE. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    var: Vec<String>,
    /// Reads variables from a file (.hcl or .json). May be given several times.
    #[arg(long = "var-file", value_name = "FILE")]
    var_file: Vec<String>,
    /// What expressions are written in, where there is no template to tell it.
    #[arg(long = "config-type", value_name = "TYPE", ignore_case = true)]
    config_type: Option<ConfigType>,
    #[command(flatten)]
    _ignored: IgnoredArgs,
    /// A file or a folder.
    #[arg(value_name = "TEMPLATE")]
    template: Option<String>,
}

const HELP: &str = "\
Type an expression to see its value, such as var.name or upper(\"a\").

variables  shows all variables and locals
exit       leaves; so does Ctrl-D
help       shows this";

const TEXT_HELP: &str = "\
Packer console JSON Mode.

Type a text to see it rendered, such as {{timestamp}} or {{user `name`}}.

variables  shows all variables and their values
exit       leaves; so does Ctrl-D
help       shows this

For expressions of HCL templates start it with -config-type=hcl2.";

pub(crate) fn run(args: ConsoleArgs, global: Global) -> Result<(), Failure> {
    let world = System::new();
    let masker = out::masker();
    let Some(template) = args.template else {
        if args.config_type != Some(ConfigType::Hcl2) {
            // The variables of a template in which there is nothing else.
            let template = bare(TemplateKind::Legacy, "{}", &args.var, &args.var_file, &world)?;
            return match template.legacy() {
                Some(legacy) => {
                    let answers = Texts::new(legacy, "", &world);
                    Console { answers: &answers, masker, global }.run()
                }
                None => Ok(()),
            };
        }
        // No variable is declared, and no value can be given.
        bare(TemplateKind::Hcl, "", &args.var, &args.var_file, &world)?;
        let environment = Environment::new(&world, "");
        let scope = bare_console_scope(&environment, &world);
        let answers = Expressions { scope, variables: inspect::no_values(), names: common_names() };
        return Console { answers: &answers, masker, global }.run();
    };
    let template = TemplateArgs {
        var: args.var,
        var_file: args.var_file,
        config_type: args.config_type,
        template,
    };
    let colour = out::colour(!global.machine_readable);
    let session =
        runtime()?.block_on(async { Session::load(&template, Fetch::Offline, false, colour) })?;
    session.early_checked()?;
    if let Some(legacy) = session.template.legacy() {
        let folder = session.template.root().to_string_lossy();
        let answers = Texts::new(legacy, &folder, &world);
        return Console { answers: &answers, masker: &session.masker, global }.run();
    }
    let environment = session.template.environment(&world);
    let scope = session.template.console_scope(&environment);
    let variables = inspect::values(&session.template, &session.masker);
    let answers = Expressions { scope, variables, names: names(&session.template) };
    Console { answers: &answers, masker: &session.masker, global }.run()
}

/// A template without a file. Fails if the values given for its variables are wrong.
pub(super) fn bare(
    kind: TemplateKind,
    text: &str,
    vars: &[String],
    files: &[String],
    world: &System,
) -> Result<Evaluated, Failure> {
    let request = Load {
        path: PathBuf::new(),
        stdin: Some(text.into()),
        kind: Some(kind),
        var_files: files.iter().map(PathBuf::from).collect(),
    };
    let given = Given { flags: vars.to_vec(), warn_undeclared: false };
    let mut loaded = load(&request, world);
    let early = loaded.early;
    let template = loaded.evaluate(&given, world, &NoData);
    let mut diags = Diagnostics::new();
    let shown = if kind == TemplateKind::Legacy { early } else { loaded.diags.len() };
    diags.extend(loaded.diags.iter().take(shown).cloned());
    let renderer =
        Renderer { sources: &loaded.sources, masker: &Masker::new(), colour: out::colour(true) };
    renderer.print(&diags);
    if diags.has_errors() { Err(Failure::Reported) } else { Ok(template) }
}

/// What a line is answered with.
trait Answers {
    fn evaluate(&self, line: &str, masker: &Masker) -> Result<String, String>;
    fn variables(&self) -> String;
    /// What can be completed, beside the words of the console.
    fn names(&self) -> Vec<String>;
    fn help(&self) -> &'static str;
    /// Whether a line that cannot be evaluated makes the command fail.
    fn errors_count(&self) -> bool;
}

/// Expressions.
struct Expressions<'a> {
    scope: Scope<'a>,
    variables: String,
    names: Vec<String>,
}

/// The functions, and the names that every template has.
fn common_names() -> Vec<String> {
    let functions = functions::groups().into_iter().flat_map(|(_, entries)| entries);
    let fixed = ["packer.version", "path.cwd", "path.root", "source.name", "source.type"];
    functions.map(|f| format!("{}(", f.name)).chain(fixed.map(str::to_owned)).collect()
}

fn names(template: &Evaluated) -> Vec<String> {
    let variables = template.variables().keys().map(|name| format!("var.{name}"));
    let locals = template.locals().keys().map(|name| format!("local.{name}"));
    common_names().into_iter().chain(variables).chain(locals).collect()
}

impl Answers for Expressions<'_> {
    fn evaluate(&self, line: &str, masker: &Masker) -> Result<String, String> {
        let mut sources = SourceMap::new();
        let id = sources.add("<console>", line);
        console_eval(line, id, &self.scope).map_err(|diags: Diagnostics| {
            let renderer = Renderer { sources: &sources, masker, colour: false };
            let all: Vec<String> = diags.iter().map(|d| renderer.render(d)).collect();
            all.join("\n").trim_end().to_owned()
        })
    }

    fn variables(&self) -> String {
        self.variables.trim_end().to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn help(&self) -> &'static str {
        HELP
    }

    fn errors_count(&self) -> bool {
        true
    }
}

impl Answers for Texts<'_> {
    fn evaluate(&self, line: &str, _: &Masker) -> Result<String, String> {
        self.render(line).map_err(|reason| format!("Error: Interpolation error\n\n{reason}"))
    }

    fn variables(&self) -> String {
        Texts::variables(self)
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn help(&self) -> &'static str {
        TEXT_HELP
    }

    fn errors_count(&self) -> bool {
        false
    }
}

struct Console<'a> {
    answers: &'a dyn Answers,
    masker: &'a Masker,
    global: Global,
}

impl Console<'_> {
    fn run(&self) -> Result<(), Failure> {
        if is_pipe() { self.piped() } else { self.typed() }
    }

    /// All lines are evaluated, and the last result is printed.
    fn piped(&self) -> Result<(), Failure> {
        let (mut last, mut failed) = (None, false);
        for line in io::stdin().lock().split(b'\n') {
            let line = line.map_err(cannot_read)?;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim();
            last = match line {
                // The end of a pipe is where it ends.
                "" | "exit" => Some(String::new()),
                line => match self.answer(line) {
                    Ok(text) => Some(text),
                    Err(text) => {
                        failed |= self.answers.errors_count();
                        self.error(&text);
                        (!self.answers.errors_count()).then(String::new)
                    }
                },
            };
        }
        if let Some(text) = last {
            self.say(&text);
        }
        if failed { Err(Failure::Reported) } else { Ok(()) }
    }

    /// Each line is answered at once.
    fn typed(&self) -> Result<(), Failure> {
        if !io::stdin().is_terminal() {
            return self.read();
        }
        if out::is_terminal() && !self.global.machine_readable {
            let words = ["exit", "help", "variables"].map(str::to_owned);
            let names = self.answers.names().into_iter().chain(words).collect();
            if let Ok(editor) = LineEditor::new(names) {
                return self.edited(editor);
            }
        }
        self.read()
    }

    /// Lines of a person, who can edit them and take them up again.
    fn edited(&self, mut editor: LineEditor) -> Result<(), Failure> {
        loop {
            match editor.read("> ", self.masker).map_err(cannot_read)? {
                Line::Typed(line) if self.is_last(&line) => return Ok(()),
                Line::Typed(_) | Line::Dropped => {}
                Line::End => return Ok(()),
            }
        }
    }

    /// Lines as they are.
    fn read(&self) -> Result<(), Failure> {
        let prompt = io::stdin().is_terminal();
        let mut input = io::stdin().lock();
        loop {
            if prompt {
                out::stdout("> ");
            }
            let mut line = Vec::new();
            if input.read_until(b'\n', &mut line).map_err(cannot_read)? == 0 {
                if prompt {
                    out::stdout_line("");
                }
                return Ok(());
            }
            if self.is_last(&String::from_utf8_lossy(&line)) {
                return Ok(());
            }
            let _ = io::stdout().flush();
        }
    }

    /// Answers a line; whether it ends the console.
    fn is_last(&self, line: &str) -> bool {
        match line.trim() {
            "" => {}
            "exit" => return true,
            line => match self.answer(line) {
                Ok(text) => self.say(&text),
                Err(text) => self.error(&text),
            },
        }
        false
    }

    fn answer(&self, line: &str) -> Result<String, String> {
        let text = match line {
            "help" => self.answers.help().to_owned(),
            "variables" => self.answers.variables(),
            line => self.answers.evaluate(line, self.masker)?,
        };
        Ok(self.masker.mask(&text))
    }

    fn say(&self, text: &str) {
        if self.global.machine_readable {
            machine::ui("message", text);
        } else {
            out::stdout_line(text);
        }
    }

    fn error(&self, text: &str) {
        if self.global.machine_readable {
            machine::ui("error", text);
        } else {
            out::stderr_line(text);
        }
    }
}

fn cannot_read(error: io::Error) -> Failure {
    Failure::new(format!("cannot read the standard input: {error}"))
}

/// Whether the standard input is a pipe. A file is not one, as in Packer.
fn is_pipe() -> bool {
    use nix::sys::stat::{SFlag, fstat};
    fstat(io::stdin())
        .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO)
}

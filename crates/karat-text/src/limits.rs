//! What a text with `{{ }}` may cost. Go has no limits here, and a few lines could fill any memory
//! or never end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use gotmpl::parse::{ListNode, Node};
use gotmpl::{Template, TemplateError, Value as Text};

use crate::fail;

/// The longest text that comes out, in bytes.
const LONGEST: usize = 16 << 20;
/// The longest text that a function takes or gives, in bytes.
const LONGEST_ARGUMENT: usize = 1 << 20;
/// How many rounds all `{{ range }}` may make together.
const ROUNDS: u64 = 10_000;
/// How many parts of a text are run at most, those of a loop or a definition each time anew.
const STEPS: u64 = 10_000_000;
/// How deep definitions may use each other, which is the library's own limit.
const DEPTH: usize = 200;

/// The functions of the language itself that make texts, each within limits.
const BUILT_IN: [&str; 6] = ["print", "printf", "println", "html", "js", "urlquery"];

/// A template within limits, for more functions to be added by [`Limited::limited`].
pub(crate) fn template() -> Template {
    let template = Template::new("root").max_range_iters(ROUNDS);
    BUILT_IN
        .into_iter()
        .fold(template, |template, name| template.limited(name, move |args| built_in(name, args)))
}

/// Functions within limits.
pub(crate) trait Limited {
    /// Adds a function, which does not see texts that are too long.
    fn limited(
        self,
        name: &'static str,
        f: impl Fn(&[Text]) -> Result<Text, TemplateError> + Send + Sync + 'static,
    ) -> Self;
}

impl Limited for Template {
    fn limited(
        self,
        name: &'static str,
        f: impl Fn(&[Text]) -> Result<Text, TemplateError> + Send + Sync + 'static,
    ) -> Self {
        self.func(name, move |args| {
            check_length(name, args.iter().map(length).fold(0, usize::saturating_add))?;
            f(args)
        })
    }
}

/// Sees to it that the texts that a function takes, or the one that it would give, are not too
/// long.
pub(crate) fn check_length(name: &str, length: usize) -> Result<(), TemplateError> {
    if length > LONGEST_ARGUMENT {
        return fail(format!("{name}: the text is longer than {LONGEST_ARGUMENT} bytes"));
    }
    Ok(())
}

fn length(value: &Text) -> usize {
    match value {
        Text::String(text) => text.len(),
        _ => 0,
    }
}

/// Calls a function of the language itself.
fn built_in(name: &str, args: &[Text]) -> Result<Text, TemplateError> {
    match (name, args.first()) {
        ("printf", Some(Text::String(format))) => check_length(name, printed(format, args))?,
        // A character may become `&#34;` or `\u0027`.
        ("html" | "js" | "urlquery", _) => {
            check_length(name, args.iter().map(length).sum::<usize>().saturating_mul(6))?;
        }
        _ => {}
    }
    let names: Vec<String> = (0..args.len()).map(|i| format!("a{i}")).collect();
    let data = names.iter().zip(args).map(|(name, arg)| (name.as_str().into(), arg.clone()));
    let data: BTreeMap<Arc<str>, Text> = data.collect();
    let fields: Vec<String> = names.iter().map(|name| format!(" .{name}")).collect();
    let template = Template::new(name).parse(&format!("{{{{{name}{}}}}}", fields.concat()))?;
    let text = template.execute_to_string(&Text::Map(Arc::new(data)))?;
    Ok(Text::String(text.into()))
}

/// What `printf` makes at most: each verb may show the longest argument, or fill up to its width.
pub(crate) fn printed(format: &str, args: &[Text]) -> usize {
    let longest = args.iter().map(length).max().unwrap_or(0);
    let digits = |c: char| c.is_ascii_digit();
    let wide = format.contains('*') || format.split(|c| !digits(c)).any(|digits| digits.len() > 3);
    // The library knows no greater width.
    let width = if wide { usize::from(u16::MAX) } else { 999 };
    let verbs = format.matches('%').count();
    verbs.saturating_mul(longest.max(width)).saturating_add(format.len())
}

/// Runs a template, if that comes to an end.
pub(crate) fn execute(template: &Template, data: &Text) -> Result<String, TemplateError> {
    if steps(template) > STEPS {
        return fail("definitions and loops run too many parts of the text".into());
    }
    let mut out = Output(String::new());
    match template.execute_fmt(&mut out, data) {
        Err(_) if out.0.len() >= LONGEST => {
            fail(format!("the text is longer than {LONGEST} bytes"))
        }
        Err(error) => Err(error),
        Ok(()) => Ok(out.0),
    }
}

/// A text that does not grow without end.
struct Output(String);

impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LONGEST.saturating_sub(self.0.len());
        if text.len() > room {
            // Full, so that it shows why nothing more was written.
            self.0.extend(std::iter::repeat_n(' ', room));
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The parts of a body, and how often it runs each definition.
#[derive(Default)]
struct Body<'t> {
    parts: u64,
    uses: BTreeMap<&'t str, u64>,
}

impl<'t> Body<'t> {
    fn add(&mut self, list: &'t ListNode, times: u64) {
        for node in &list.nodes {
            self.parts = self.parts.saturating_add(times);
            match node {
                Node::List(list) => self.add(list, times),
                Node::If(branch) | Node::With(branch) => {
                    self.add(&branch.body, times);
                    branch.else_body.iter().for_each(|list| self.add(list, times));
                }
                Node::Range(branch) => {
                    self.add(&branch.body, times.saturating_mul(ROUNDS));
                    branch.else_body.iter().for_each(|list| self.add(list, times));
                }
                Node::Template(template) => {
                    let uses = self.uses.entry(template.name.as_str()).or_default();
                    *uses = uses.saturating_add(times);
                }
                Node::Text(_) | Node::Action(_) | Node::Define(_) => {}
                Node::Break(_) | Node::Continue(_) => {}
            }
        }
    }
}

/// How many parts run at most, whatever the conditions say.
fn steps(template: &Template) -> u64 {
    let names = template.templates();
    let mut bodies: BTreeMap<&str, Body<'_>> = BTreeMap::new();
    for name in names.into_iter().chain([template.name()]) {
        if let Some(list) = template.lookup(name) {
            let mut body = Body::default();
            body.add(list, 1);
            bodies.insert(name, body);
        }
    }
    let mut steps: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..DEPTH {
        let deeper = bodies.iter().map(|(name, body)| {
            let used = body
                .uses
                .iter()
                .map(|(name, times)| steps.get(name).copied().unwrap_or(0).saturating_mul(*times));
            (*name, used.fold(body.parts, u64::saturating_add))
        });
        let deeper: BTreeMap<&str, u64> = deeper.collect();
        if deeper == steps {
            break;
        }
        steps = deeper;
    }
    steps.get(template.name()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        let template = template().parse(text).map_err(|error| error.to_string())?;
        execute(&template, &Text::Nil).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn fails(text: &str, part: &str) {
        let error = run(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }

    #[test]
    fn functions_of_the_language_are_as_they_were() {
        let text = "{{print 1 2}} {{print `a` `b`}} {{printf `%05d-%s-%q` 7 `x` `y`}}{{println 1}}";
        assert_eq!(run(text).unwrap(), "1 2 ab 00007-x-\"y\"1\n");
        assert_eq!(run("{{html `<`}}{{js `'`}}{{urlquery `a b`}}").unwrap(), "&lt;\\'a+b");
        assert_eq!(run("{{`x` | printf `%s%[1]s`}}").unwrap(), "xx");
        fails("{{printf 1}}", "string");
    }

    #[test]
    fn texts_do_not_grow_without_end() {
        let twice = "{{$x = print $x $x}}".repeat(40);
        fails(&format!("{{{{$x := `aaaa`}}}}{twice}{{{{$x}}}}"), "longer than");
        fails(
            "{{printf `%99999s` `a` | printf `%s%[1]s%[1]s%[1]s%[1]s%[1]s` | printf `%s%[1]s%[1]s%[1]s%[1]s%[1]s`}}",
            "longer than",
        );
        let text = format!("{{{{$x := printf `%60000s` `a`}}}}{}", "{{$x}}".repeat(2000));
        fails(&text, "longer than");
    }

    #[test]
    fn definitions_and_loops_come_to_an_end() {
        let define = |i: usize| {
            let next = i + 1;
            format!(
                "{{{{define `d{i}`}}}}{{{{template `d{next}`}}}}{{{{template `d{next}`}}}}{{{{end}}}}"
            )
        };
        let all: String = (0..60).map(define).collect();
        fails(&format!("{all}{{{{define `d60`}}}}{{{{end}}}}{{{{template `d0`}}}}"), "too many");
        fails("{{define `a`}}{{template `a`}}{{template `a`}}{{end}}{{template `a`}}", "too many");
        assert!(run("{{define `a`}}{{template `a`}}{{end}}{{template `a`}}").is_err());
        assert_eq!(run("{{define `a`}}x{{end}}{{template `a`}}{{template `a`}}").unwrap(), "xx");
        let loops = "{{range 9999}}".repeat(3) + "x" + &"{{end}}".repeat(3);
        fails(&loops, "too many");
    }
}

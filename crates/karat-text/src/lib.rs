//! Text with `{{ }}`: Go's text/template with the functions of Packer's engine.
//!
//! Components have most of their text options rendered before they see them, with the functions
//! alone; what an option of the kind *late* holds is rendered by the component itself, with data
//! of its own (`{{ .Path }}`).

pub mod go;
mod limits;
mod place;
mod rewrite;
mod tokens;
mod user;

pub use place::{Place, UserVariables, VariableError};
pub use user::insert_user_variables;

use std::path::Path;
use std::sync::Arc;

use gotmpl::{Template, TemplateError, Value as Text};
use jiff::Timestamp;
use karat_config::NameRules;
use karat_functions::{CallContext, MemoryWorld, World};
use karat_value::Value;

use crate::limits::{Limited as _, check_length};

/// What the engine's functions answer with.
#[derive(Clone, Debug)]
pub struct Engine {
    /// `{{ build_name }}`: the name that the source is declared by.
    pub build_name: String,
    /// `{{ build_type }}`.
    pub build_type: String,
    /// `{{ template_dir }}`.
    pub template_dir: String,
    /// `{{ packer_version }}`.
    pub packer_version: String,
    /// `{{ pwd }}`.
    pub working_folder: String,
    /// `{{ isotime }}`, `{{ timestamp }}`, `{{ strftime }}`: when the process started.
    pub started: Timestamp,
    /// `{{ build `Host` }}`: values of the machine, as far as they are known.
    pub build: Vec<(String, String)>,
    /// What `{{ uuid }}` gives.
    pub uuid: String,
    /// The rules of `{{ clean_resource_name }}`: those of the component whose text it is.
    pub names: Option<NameRules>,
    /// Where the text stands.
    pub place: Place,
}

/// A value that a text may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// `{{ .Name }}`.
    Text(String),
    /// `{{ .Name.Key }}`.
    Map(std::collections::BTreeMap<String, String>),
}

impl From<Data> for Text {
    fn from(data: Data) -> Self {
        match data {
            Data::Text(text) => Self::String(text.into()),
            Data::Map(map) => Self::Map(Arc::new(
                map.into_iter().map(|(k, v)| (k.into(), Self::String(v.into()))).collect(),
            )),
        }
    }
}

/// How often a text is rendered at most: one that grows each time has no end.
const MAX_ROUNDS: usize = 100;

impl Engine {
    /// An engine whose clock, folder and chance come from `world`.
    pub fn new(world: &dyn World, build_name: &str, build_type: &str, template_dir: &str) -> Self {
        let folder = world.working_folder().unwrap_or_default();
        let mut bytes = [0; 16];
        // Without chance all are alike, which a frozen world wants.
        let _ = world.random(&mut bytes);
        Self {
            build_name: build_name.to_owned(),
            build_type: build_type.to_owned(),
            template_dir: template_dir.to_owned(),
            packer_version: String::new(),
            working_folder: folder.to_string_lossy().into_owned(),
            started: world.started(),
            build: Vec::new(),
            uuid: uuid_text(bytes),
            names: None,
            place: Place::Hcl,
        }
    }

    /// Renders a text until there is nothing left to be rendered.
    ///
    /// # Errors
    /// As [`render`](Self::render); also when the text is another one each time.
    pub fn render_whole(&self, text: &str) -> Result<String, String> {
        let mut text = text.to_owned();
        for _ in 0..MAX_ROUNDS {
            let rendered = self.render(&text, [])?;
            if rendered == text {
                return Ok(text);
            }
            text = rendered;
        }
        Err("it is another text each time it is rendered".into())
    }

    /// Renders a text with the functions, and `data` as `{{ .Name }}`.
    ///
    /// # Errors
    /// What is wrong in the text, or what a function had to object to.
    pub fn render<'d>(
        &self,
        text: &str,
        data: impl IntoIterator<Item = (&'d str, String)>,
    ) -> Result<String, String> {
        self.render_data(text, data.into_iter().map(|(name, value)| (name, Data::Text(value))))
    }

    /// Renders a text with the functions, and `data`, which may hold maps, as `{{ .Name }}` and
    /// `{{ .Map.Key }}`.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_data<'d>(
        &self,
        text: &str,
        data: impl IntoIterator<Item = (&'d str, Data)>,
    ) -> Result<String, String> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let data = data.into_iter().map(|(k, v)| (Arc::from(k), v.into()));
        let data: std::collections::BTreeMap<_, _> = data.collect();
        let data = if data.is_empty() { Text::Nil } else { Text::Map(Arc::new(data)) };
        user::check_blocks(text)?;
        let text = rewrite::rewrite(text)?;
        let template = self.template().parse(&text).map_err(|e| place::message(&e))?;
        limits::execute(&template, &data).map_err(|e| place::message(&e))
    }

    fn template(&self) -> Template {
        let fixed = |text: &str| {
            let text: Arc<str> = text.into();
            move |_: &[Text]| Ok(Text::String(text.clone()))
        };
        let strict = !matches!(self.place, Place::Hcl);
        let here = |name: &'static str, text: &str| {
            let text: Arc<str> = text.into();
            move |_: &[Text]| match &*text {
                "" if strict => fail(format!("{name}: it is not known here")),
                _ => Ok(Text::String(text.clone())),
            }
        };
        let (started, build) = (self.started, self.build.clone());
        let template = limits::template()
            .limited("build_name", here("build_name", &self.build_name))
            .limited("build_type", here("build_type", &self.build_type))
            .limited("template_dir", here("template_dir", &self.template_dir))
            .limited("packer_version", here("packer_version", &self.packer_version))
            .limited("pwd", fixed(&self.working_folder))
            .limited("uuid", fixed(&self.uuid))
            .limited("timestamp", fixed(&started.as_second().to_string()))
            .limited("isotime", move |args| date("legacy_isotime", args, started))
            .limited("strftime", move |args| match args {
                [_] => date("legacy_strftime", args, started),
                _ => fail("strftime: one format is needed".into()),
            })
            .limited("upper", |args| case("upper", args, str::to_uppercase))
            .limited("lower", |args| case("lower", args, str::to_lowercase))
            .limited("split", split)
            .limited("replace", replace)
            .limited("replace_all", replace_all)
            .limited("build", move |args| {
                let [name] = texts("build", args)?;
                Ok(match build.iter().find(|(known, _)| known == name) {
                    Some((_, value)) => Text::String(value.as_str().into()),
                    None => fail(format!("build: the machine has no \"{name}\""))?,
                })
            })
            .limited(rewrite::SHOW, |args| match args {
                [value @ Text::Float(_)] => Ok(Text::String(go::print::plain(value).into())),
                [value] => Ok(value.clone()),
                _ => fail("one value is needed".into()),
            })
            .limited(rewrite::NUMBER, |args| number(rewrite::NUMBER, args))
            .limited("print", |args| Ok(Text::String(go::print::sprint(args).into())))
            .limited("println", |args| Ok(Text::String(go::print::sprintln(args).into())))
            .limited("printf", |args| match args {
                [Text::String(format), values @ ..] => {
                    limits::check_length("printf", limits::printed(format, args))?;
                    Ok(Text::String(go::print::sprintf(format, values).into()))
                }
                _ => fail("printf: a format is needed".into()),
            })
            .limited("html", |args| {
                let length = go::print::sprint(args).len();
                limits::check_length("html", length.saturating_mul(6))?;
                Ok(Text::String(html(args).into()))
            })
            .limited("sed", only_in("sed", "no version since 1.7; use replace"));
        let template = match self.names {
            Some(rules) => template.limited("clean_resource_name", move |args| {
                let [text] = texts("clean_resource_name", args)?;
                Ok(Text::String(rules.clean(text).into()))
            }),
            None => template,
        };
        place::functions(&self.place, template)
    }
}

fn fail<T>(message: String) -> Result<T, TemplateError> {
    Err(TemplateError::Exec(message))
}

fn only_in(
    name: &'static str,
    place: &'static str,
) -> impl Fn(&[Text]) -> Result<Text, TemplateError> + Send + Sync + 'static {
    move |_| fail(format!("{name}: this function exists in {place}"))
}

/// The arguments, which have to be `N` texts.
fn texts<'a, const N: usize>(name: &str, args: &'a [Text]) -> Result<[&'a str; N], TemplateError> {
    let found: Option<Vec<&str>> = args
        .iter()
        .map(|arg| match arg {
            Text::String(text) => Some(&**text),
            _ => None,
        })
        .collect();
    match found.and_then(|found| <[&str; N]>::try_from(found).ok()) {
        Some(texts) => Ok(texts),
        None => fail(format!("{name}: {N} texts are needed")),
    }
}

fn case(name: &str, args: &[Text], change: fn(&str) -> String) -> Result<Text, TemplateError> {
    let [text] = texts(name, args)?;
    Ok(Text::String(change(text).into()))
}

/// A number that the library cannot read. Complex ones are texts: nothing can be done with them
/// but printing.
fn number(name: &str, args: &[Text]) -> Result<Text, TemplateError> {
    let [text] = texts(name, args)?;
    match go::Number::parse(text).and_then(|number| number.constant()) {
        Ok(go::Constant::Int(int)) => Ok(Text::Int(int)),
        Ok(go::Constant::Float(float)) => Ok(Text::Float(float)),
        Ok(go::Constant::Complex(real, imaginary)) => {
            let part = |number| go::print::plain(&Text::Float(number));
            let sign = if imaginary.is_sign_negative() { "" } else { "+" };
            Ok(Text::String(format!("({}{sign}{}i)", part(real), part(imaginary)).into()))
        }
        Err(reason) => fail(reason),
    }
}

/// `html`: what is printed of the values, for pages.
fn html(args: &[Text]) -> String {
    let text = match args {
        [Text::String(text)] => text.to_string(),
        [Text::Nil] => "<no value>".to_owned(),
        args => go::print::sprint(args),
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '\0' => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

/// A whole number; one that is written as a float is one as well.
fn whole(value: &Text) -> Option<i64> {
    match value {
        Text::Int(int) => Some(*int),
        Text::Float(float) => go::Number::parse(&format!("{float:e}")).ok()?.int,
        _ => None,
    }
}

/// `split "a-b" "-" 1`
fn split(args: &[Text]) -> Result<Text, TemplateError> {
    let [Text::String(text), Text::String(separator), index] = args else {
        return fail("split: a text, a separator and a position are needed".into());
    };
    let Some(index) = whole(index) else {
        return fail("split: the position is a whole number".into());
    };
    let parts: Vec<&str> = match &**separator {
        // Each character is a part.
        "" => text.split_inclusive(|_| true).collect(),
        separator => text.split(separator).collect(),
    };
    let part = usize::try_from(index).ok().and_then(|i| parts.get(i));
    match part {
        Some(part) => Ok(Text::String((*part).into())),
        None => fail(format!("split: \"{text}\" has {} parts, and none at {index}", parts.len())),
    }
}

/// `replace "old" "new" 1 "text"`
fn replace(args: &[Text]) -> Result<Text, TemplateError> {
    let [Text::String(old), Text::String(new), times, Text::String(text)] = args else {
        return fail("replace: old text, new text, how often, and the text are needed".into());
    };
    let Some(times) = whole(times) else {
        return fail("replace: how often is a whole number".into());
    };
    let times_at_most = usize::try_from(times).unwrap_or(usize::MAX);
    check_replaced("replace", [old, new, text], times_at_most)?;
    let replaced = match usize::try_from(times) {
        Ok(times) => text.replacen(&**old, new, times),
        Err(_) => text.replace(&**old, new),
    };
    Ok(Text::String(replaced.into()))
}

/// `replace_all "old" "new" "text"`
fn replace_all(args: &[Text]) -> Result<Text, TemplateError> {
    let [old, new, text] = texts("replace_all", args)?;
    check_replaced("replace_all", [old, new, text], usize::MAX)?;
    Ok(Text::String(text.replace(old, new).into()))
}

/// Sees to it that what comes of a replacement is not too long.
fn check_replaced(
    name: &str,
    [old, new, text]: [&str; 3],
    times: usize,
) -> Result<(), TemplateError> {
    let times = text.matches(old).take(times).count();
    check_length(name, text.len().saturating_add(times.saturating_mul(new.len())))
}

/// A date function of the template language at the time when the process started.
fn date(name: &str, args: &[Text], started: Timestamp) -> Result<Text, TemplateError> {
    struct Clock(MemoryWorld);
    impl CallContext for Clock {
        fn world(&self) -> &dyn World {
            &self.0
        }

        fn root(&self) -> &Path {
            Path::new("")
        }
    }
    if args.len() > 1 {
        return fail("too many values, 1 is needed".into());
    }
    let args: Vec<Value> = match args.first() {
        None => Vec::new(),
        Some(Text::String(text)) => vec![Value::string(&**text)],
        Some(_) => return fail("the format is a text".into()),
    };
    let Some(function) = karat_functions::find(name) else {
        return fail(format!("{name} is not there"));
    };
    let clock = Clock(MemoryWorld { clock: started, ..MemoryWorld::default() });
    match karat_functions::call(function, &args, &clock) {
        Ok(value) => Ok(Text::String(value.as_str().unwrap_or_default().into())),
        Err(error) => fail(error.to_string()),
    }
}

/// A version 4 UUID of these bytes.
fn uuid_text(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> Engine {
        let world = MemoryWorld {
            clock: "2020-01-02T03:04:05Z".parse().unwrap(),
            ..MemoryWorld::default()
        };
        let mut engine = Engine::new(&world, "web", "amazon-ebs", "tpl");
        engine.build.push(("Host".into(), "10.0.0.1".into()));
        engine
    }

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(engine().render(text, [("Path", "/tmp/x.sh".to_owned())]).unwrap(), want);
    }

    #[test]
    fn functions_and_data() {
        check("plain ${x}", "plain ${x}");
        check("{{build_name}}-{{ build_type }}", "web-amazon-ebs");
        check("chmod +x {{.Path}}; {{ .Vars }}", "chmod +x /tmp/x.sh; <no value>");
        check("ami-{{timestamp}}", "ami-1577934245");
        check("{{isotime}}", "2020-01-02T03:04:05Z");
        check("{{isotime \"2006-01-02\"}}", "2020-01-02");
        check("{{build `Host`}}", "10.0.0.1");
        check("{{split `a-b` `-` 1}}{{upper `x`}}", "bX");
        check("{{split `äbc` `` 1}}", "b");
        check("{{if true}}a{{else}}b{{end}}{{- /* end */ -}} c", "ac");
        check("{{ 0x1F }} {{ 1e6 }} {{ 'a' }} {{ 1+2i }}", "31 1e+06 97 (1+2i)");
        check("{{ printf \"%v %T %03d\" 1e6 1 7 }}", "1e+06 int 007");
        check("{{ html `<` 1 }}{{ split `a-b` `-` 1.0 }}", "&lt;1b");
        check("{{replace `a` `b` 1 `aa`}} {{replace_all `a` `b` `aa`}}", "ba bb");
    }

    #[test]
    fn maps_are_data() {
        let tags = [("Name".to_owned(), "web".to_owned())].into();
        let data = [("SourceAMITags", Data::Map(tags)), ("SourceAMI", Data::Text("ami-1".into()))];
        let text = engine().render_data("{{.SourceAMI}} {{ .SourceAMITags.Name }}", data).unwrap();
        assert_eq!(text, "ami-1 web");
    }

    #[test]
    fn names_are_cleaned_by_the_rules_of_the_component() {
        let text = "{{ isotime | clean_resource_name }} {{ clean_resource_name `A_b` }}";
        let mut engine = engine();
        let unknown = engine.render(text, []).unwrap_err();
        assert_eq!(unknown, "function \"clean_resource_name\" is not defined");
        engine.names = Some(NameRules::Amazon);
        assert_eq!(engine.render(text, []).unwrap(), "2020-01-02T03-04-05Z A_b");
        engine.names = Some(NameRules::Google);
        assert_eq!(engine.render(text, []).unwrap(), "2020-01-02t03-04-05z a-b");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, part) in [
            ("{{ nosuch }}", "nosuch"),
            ("{{ build `X` }}", "the machine has no \"X\""),
            ("{{ user `x` }}", "var.NAME"),
            ("{{ .Path", "root"),
            ("{{ strftime }}", "one format"),
            ("{{ if true }}x", "no {{end}}"),
            ("x{{ end }}", "nothing to end"),
            ("{{ else }}", "nothing it is the alternative of"),
        ] {
            let error = engine().render(text, []).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

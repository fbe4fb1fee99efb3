//! `NAME=value` pairs, and how a shell is told of them.

use std::collections::BTreeMap;

use karat_component::{BuildInfo, Generated, ValidateContext};

use crate::late::generated_text;

/// Values by name; the shell gets them in the order of the names.
pub(crate) type Environment = BTreeMap<String, String>;

/// What every script is told of its build.
pub(crate) fn common(build: &BuildInfo, generated: &Generated) -> Environment {
    let mut all = Environment::from([
        ("PACKER_BUILD_NAME".to_owned(), build.source_name.clone()),
        ("PACKER_BUILDER_TYPE".to_owned(), build.source_type.clone()),
    ]);
    for (name, value) in [
        ("PACKER_HTTP_ADDR", "PackerHTTPAddr"),
        ("PACKER_HTTP_IP", "PackerHTTPIP"),
        ("PACKER_HTTP_PORT", "PackerHTTPPort"),
    ] {
        if let Some(value) = generated_text(generated, value) {
            all.insert(name.to_owned(), value);
        }
    }
    all
}

/// The pairs of `environment_vars` and of `env`, which wins.
pub(crate) fn parse(
    pairs: &[String],
    map: &BTreeMap<String, String>,
    cx: &mut ValidateContext<'_>,
) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for pair in pairs {
        match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() => all.push((name.into(), value.into())),
            _ => {
                cx.error(
                    "environment_vars",
                    format!("Environment variable not in format 'key=value': {pair}"),
                )
                .hint("Write each as \"NAME=value\", or use the map \"env\".");
            }
        }
    }
    for (name, value) in map {
        if name.is_empty() || name.contains('=') {
            cx.error("env", format!("\"{name}\" cannot be the name of an environment variable"))
                .detail("A name has at least one character and no \"=\".");
        }
        all.push((name.clone(), value.clone()));
    }
    for (name, value) in &all {
        if name.contains('\0') || value.contains('\0') {
            let option = if map.contains_key(name) { "env" } else { "environment_vars" };
            cx.error(option, "An environment variable cannot hold a zero byte");
        }
    }
    all
}

/// A format with two places, `%s='%s' `: the name's and the value's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    before: String,
    between: String,
    after: String,
}

impl Format {
    /// Reads a format as Go's `fmt` does, as far as it makes sense here.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match (c, parts.last_mut()) {
                ('%', Some(last)) => match chars.next() {
                    Some('%') => last.push('%'),
                    Some('s' | 'v') => parts.push(String::new()),
                    _ => return None,
                },
                (c, Some(last)) => last.push(c),
                (_, None) => return None,
            }
        }
        let [before, between, after] = <[String; 3]>::try_from(parts).ok()?;
        Some(Self { before, between, after })
    }

    /// `NAME='value' NAME='value' `
    pub(crate) fn assignments() -> Self {
        Self { before: String::new(), between: "='".into(), after: "' ".into() }
    }

    /// `export NAME='value'`, each a line.
    pub(crate) fn exports() -> Self {
        Self { before: "export ".into(), between: "='".into(), after: "'\n".into() }
    }

    /// Reads the option `env_var_format`, and reports it if it is none.
    pub(crate) fn check(text: &str, cx: &mut ValidateContext<'_>) -> Self {
        Self::parse(text).unwrap_or_else(|| {
            cx.error("env_var_format", format!("\"{text}\" is no format for a variable"))
                .detail("It has to hold %s twice: for the name and for the value.")
                .hint("The default is \"%s='%s' \", with a space at the end.");
            Self::assignments()
        })
    }

    /// All variables as text for a shell. As in Packer, `'` in a value becomes `'"'"'`, which is
    /// right inside single quotes.
    pub(crate) fn render(&self, environment: &Environment) -> String {
        let mut text = String::new();
        for (name, value) in environment {
            text.push_str(&self.before);
            text.push_str(name);
            text.push_str(&self.between);
            text.push_str(&value.replace('\'', "'\"'\"'"));
            text.push_str(&self.after);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_two_places() {
        let all = Environment::from([("A".into(), "it's".into()), ("B".into(), "2 %s".into())]);
        let render = |text: &str| Format::parse(text).map(|f| f.render(&all));
        assert_eq!(render("%s='%s' ").unwrap(), "A='it'\"'\"'s' B='2 %s' ");
        assert_eq!(render("export %s='%s'\n").unwrap(), "export A='it'\"'\"'s'\nexport B='2 %s'\n");
        assert_eq!(render("%%%v=%v;").unwrap(), "%A=it'\"'\"'s;%B=2 %s;");
        for wrong in ["", "%s", "%s %s %s", "%s=%d", "%s=%s %"] {
            assert_eq!(render(wrong), None, "{wrong}");
        }
    }
}

//! Filters of calls that describe: names with accepted values, `*` and `?` in them.

use std::collections::BTreeMap;

use super::error::{AwsError, Result};
use super::params::Params;

/// What all kinds of tags are kept in.
pub(crate) type Tags = BTreeMap<String, String>;

/// The filters of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters(Vec<(String, Vec<String>)>);

impl Filters {
    pub(crate) fn of(params: &Params) -> Result<Self> {
        let mut filters = Vec::new();
        for filter in params.members("Filter") {
            let values = filter.texts("Value");
            if values.is_empty() {
                return Err(AwsError::new("InvalidParameterValue", "The filter value is missing."));
            }
            filters.push((filter.need("Name")?.to_owned(), values));
        }
        Ok(Self(filters))
    }

    /// Whether a thing passes: `values` gives what it has under a filter's name, `None` where there
    /// is no such filter.
    pub(crate) fn pass(
        &self,
        tags: &Tags,
        values: impl Fn(&str) -> Option<Vec<String>>,
    ) -> Result<bool> {
        for (name, patterns) in &self.0 {
            let found = match name.split_once(':') {
                Some(("tag", key)) => tags.get(key).cloned().into_iter().collect(),
                _ if name == "tag-key" => tags.keys().cloned().collect(),
                _ if name == "tag-value" => tags.values().cloned().collect(),
                _ => values(name).ok_or_else(|| {
                    AwsError::new(
                        "InvalidParameterValue",
                        format!("The filter '{name}' is invalid"),
                    )
                })?,
            };
            let matches = |pattern: &String| found.iter().any(|text| like(pattern, text));
            if !patterns.iter().any(matches) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether a text is like a pattern: `*` any text, `?` any character, `\` makes them plain.
pub(crate) fn like(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // The last star seen, and how far it has eaten.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let (plain, width) = match pattern.get(p) {
            Some('\\') if p + 1 < pattern.len() => (Some(pattern[p + 1]), 2),
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') => (Some(text[t]), 1),
            Some(c) => (Some(*c), 1),
            None => (None, 0),
        };
        if plain == Some(text[t]) {
            (p, t) = (p + width, t + 1);
        } else if let Some((after, eaten)) = star {
            (p, t) = (after, eaten + 1);
            star = Some((after, eaten + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_amazons_do() {
        for (pattern, text, expected) in [
            ("ubuntu/*/ubuntu-jammy-*", "ubuntu/images/hvm/ubuntu-jammy-22.04-x", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("*", "", true),
            ("", "x", false),
            ("*b*d", "abcbd", true),
            ("Abc", "abc", false),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn all_filters_hold_and_one_value_of_each_is_enough() {
        let form = b"Filter.1.Name=tag:a&Filter.1.Value.1=x&Filter.1.Value.2=1&Filter.2.Name=name\
                     &Filter.2.Value.1=n*";
        let filters = Filters::of(&Params::parse(form)).unwrap();
        let tags = Tags::from([("a".to_owned(), "1".to_owned())]);
        let name = |value: &str| {
            let value = value.to_owned();
            move |f: &str| (f == "name").then(|| vec![value.clone()])
        };
        assert!(filters.pass(&tags, name("new")).unwrap());
        assert!(!filters.pass(&tags, name("old")).unwrap());
        assert!(!filters.pass(&Tags::new(), name("new")).unwrap());
        let error = filters.pass(&tags, |_| None).unwrap_err();
        assert_eq!(error.message, "The filter 'name' is invalid");
    }
}

//! Parameters of the query protocol: `Filter.1.Value.2=x` as a tree.

use std::collections::BTreeMap;

use super::error::{AwsError, Result};

/// A parameter: a value, parts by name, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params {
    value: Option<String>,
    parts: BTreeMap<String, Params>,
}

impl Params {
    /// The tree of a form's pairs.
    pub(crate) fn parse(form: &[u8]) -> Self {
        let mut root = Self::default();
        for (key, value) in form_urlencoded::parse(form) {
            root.put(&key, &value);
        }
        root
    }

    /// Sets the value at a path.
    pub(crate) fn put(&mut self, path: &str, value: &str) {
        let mut at = self;
        for name in path.split('.') {
            at = at.parts.entry(name.to_owned()).or_default();
        }
        at.value = Some(value.to_owned());
    }

    /// The parameter itself, where it is a value.
    pub(crate) fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// The part at a path.
    pub(crate) fn part(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |at, name| at.parts.get(name))
    }

    /// Whether anything stands at a path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.part(path).is_some()
    }

    /// A text; an empty one is none.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.part(path)?.value().filter(|text| !text.is_empty())
    }

    /// A text that has to be there.
    pub(crate) fn need(&self, path: &str) -> Result<&str> {
        self.text(path).ok_or_else(|| AwsError::missing(path))
    }

    pub(crate) fn flag(&self, path: &str) -> Result<Option<bool>> {
        match self.text(path) {
            None => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(text) => Err(AwsError::value(text, path, "It must be true or false.")),
        }
    }

    /// A flag that is off where it is not there.
    pub(crate) fn on(&self, path: &str) -> Result<bool> {
        Ok(self.flag(path)?.unwrap_or(false))
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, path: &str) -> Result<Option<T>> {
        let Some(text) = self.text(path) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| AwsError::value(text, path, "It must be a number."))
    }

    /// Members of a list, in the order of their numbers: `Name.1`, `Name.2`, or `Name.member.1`.
    pub(crate) fn members(&self, path: &str) -> Vec<&Self> {
        let Some(list) = self.part(path) else { return Vec::new() };
        let list = list.parts.get("member").or_else(|| list.parts.get("item")).unwrap_or(list);
        let mut members: Vec<(u32, &Self)> =
            list.parts.iter().filter_map(|(name, part)| Some((name.parse().ok()?, part))).collect();
        members.sort_by_key(|(number, _)| *number);
        members.into_iter().map(|(_, part)| part).collect()
    }

    /// Texts of a list.
    pub(crate) fn texts(&self, path: &str) -> Vec<String> {
        self.members(path).iter().filter_map(|p| p.value()).map(str::to_owned).collect()
    }

    /// Takes from another what is not here.
    pub(crate) fn fill(&mut self, from: &Self) {
        for (name, part) in &from.parts {
            self.parts.entry(name.clone()).or_insert_with(|| part.clone());
        }
    }

    /// All values by their paths.
    pub(crate) fn flat(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        self.collect("", &mut all);
        all
    }

    fn collect(&self, path: &str, all: &mut BTreeMap<String, String>) {
        if let Some(value) = &self.value {
            all.insert(path.to_owned(), value.clone());
        }
        for (name, part) in &self.parts {
            let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            part.collect(&below, all);
        }
    }

    /// A text that says all there is, for comparing two requests.
    pub(crate) fn canonical(&self, without: &[&str]) -> String {
        let mut out = String::new();
        for (name, part) in &self.parts {
            if !without.contains(&name.as_str()) {
                part.write(name, &mut out);
            }
        }
        out
    }

    fn write(&self, path: &str, out: &mut String) {
        if let Some(value) = &self.value {
            out.push_str(&format!("{path}={value:?};"));
        }
        for (name, part) in &self.parts {
            part.write(&format!("{path}.{name}"), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_the_order_of_their_numbers() {
        let form =
            b"A=x&F.1.Name=n&F.1.Value.2=b&F.1.Value.10=c&F.1.Value.1=a&M.member.1=z&E=&B=True";
        let params = Params::parse(form);
        assert_eq!(params.text("A"), Some("x"));
        assert_eq!(params.members("F")[0].texts("Value"), ["a", "b", "c"]);
        assert_eq!(params.texts("M"), ["z"]);
        assert_eq!(params.text("E"), None);
        assert!(params.on("B").unwrap());
        assert!(params.has("E"));
        assert_eq!(params.need("Q").unwrap_err().code, "MissingParameter");
        assert_eq!(params.number::<u32>("A").unwrap_err().code, "InvalidParameterValue");
    }

    #[test]
    fn equal_requests_have_equal_texts() {
        let one = Params::parse(b"A=1&ClientToken=x&B.1=2");
        let two = Params::parse(b"B.1=2&A=1&ClientToken=y");
        assert_eq!(one.canonical(&["ClientToken"]), two.canonical(&["ClientToken"]));
        assert_ne!(one.canonical(&[]), two.canonical(&[]));
    }
}

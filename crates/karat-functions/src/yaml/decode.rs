//! From a document to a value.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use karat_value::{Type, Value, convert};
use libyaml_safer::{Event, EventData, Parser, ScalarStyle};

use super::scalar::{Meaning, resolve};

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 500;
/// The most values that a document may hold, those behind aliases counted every time.
const MAX_VALUES: usize = 1 << 20;
/// The most bytes that are scanned for tags before commas.
const MAX_SCANNED: usize = 32 << 20;

/// Reads one document.
///
/// # Errors
/// Where the text is no YAML, or holds what the language has no value for.
pub(crate) fn decode(source: &str) -> Result<Value, String> {
    // The scanner does not get over a block scalar that ends in the middle of a line, so
    // the last line gets an end, and a block scalar there gives it back.
    let ended = source.is_empty() || source.ends_with('\n');
    let text = if ended { Cow::Borrowed(source) } else { Cow::Owned(format!("{source}\n")) };
    let unended = (!ended).then(|| Unended {
        length: text.chars().count() as u64,
        blank: source.rsplit('\n').next().is_none_or(|line| line.trim_matches(' ').is_empty()),
    });
    refuse_tags_before_commas(&text)?;
    let mut bytes = text.as_bytes();
    let mut parser: Parser<&mut &[u8]> = Parser::new();
    parser.set_input_string(&mut bytes);
    let mut reader =
        Reader { parser, unended, anchors: HashMap::new(), open: Vec::new(), values: 0 };
    reader.document()
}

/// A tag that a comma follows without a space, as in `[!!str, x]`, is an error, but one at which
/// the scanner panics. Where a comma may be such a one, the text up to it is scanned with a
/// character in its place that no tag ends with.
fn refuse_tags_before_commas(text: &str) -> Result<(), String> {
    let mut left = MAX_SCANNED;
    let mut last = 0;
    for (start, _) in text.match_indices('!') {
        let tag = &text[start..];
        let end = if tag.starts_with("!<") {
            tag.find(['>', '\n']).map(|at| at + 1)
        } else {
            tag.find(|c: char| c.is_whitespace() || ",[]{}".contains(c))
        };
        let Some(comma) = end.map(|end| start + end) else { continue };
        if comma <= last || !text[comma..].starts_with(',') {
            continue;
        }
        last = comma;
        left = left.checked_sub(comma).ok_or_else(|| {
            "too many commas come directly after what may be a tag: put a space before each"
                .to_owned()
        })?;
        let before = format!("{}\u{e000}", &text[..comma]);
        let mut bytes = before.as_bytes();
        let mut parser: Parser<&mut &[u8]> = Parser::new();
        parser.set_input_string(&mut bytes);
        let ended = loop {
            match parser.parse() {
                Ok(Event { data: EventData::StreamEnd, .. }) => break None,
                Ok(_) => {}
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = ended.filter(|error| error.context() == Some("while scanning a tag")) {
            return Err(error.to_string());
        }
    }
    Ok(())
}

/// A document whose last line had no end.
#[derive(Debug, Clone, Copy)]
struct Unended {
    /// Characters with the end that was added.
    length: u64,
    /// Nothing but spaces stand in the last line.
    blank: bool,
}

impl Unended {
    /// Takes the added line end out of a block scalar that reaches it.
    fn correct(self, event: &mut Event) {
        let end = event.end_mark.index;
        let EventData::Scalar { value, style, .. } = &mut event.data else { return };
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        // Of a blank last line only what keeps all line ends has taken one.
        let took = !self.blank || value.ends_with("\n\n") || value == "\n";
        if block && took && end >= self.length && value.ends_with('\n') {
            value.pop();
        }
    }
}

/// A value behind an anchor, with the number of values in it.
#[derive(Debug, Clone)]
struct Anchored {
    value: Value,
    size: usize,
}

struct Reader<'b, 'r> {
    parser: Parser<&'r mut &'b [u8]>,
    unended: Option<Unended>,
    anchors: HashMap<String, Anchored>,
    /// Anchors whose values are still being read.
    open: Vec<String>,
    values: usize,
}

fn at(event: &Event, message: impl std::fmt::Display) -> String {
    format!("line {}, column {}: {message}", event.start_mark.line + 1, event.start_mark.column + 1)
}

impl Reader<'_, '_> {
    fn next(&mut self) -> Result<Event, String> {
        let mut event = self.parser.parse().map_err(|error| error.to_string())?;
        if let Some(unended) = self.unended {
            unended.correct(&mut event);
        }
        if let EventData::DocumentStart { version_directive: Some(version), .. } = &event.data
            && (version.major, version.minor) != (1, 1)
        {
            let message =
                format!("YAML {}.{} is not supported, 1.1 is", version.major, version.minor);
            return Err(at(&event, message));
        }
        Ok(event)
    }

    fn document(&mut self) -> Result<Value, String> {
        self.next()?;
        let start = self.next()?;
        if !matches!(start.data, EventData::DocumentStart { .. }) {
            return Err(at(&start, "the document is empty"));
        }
        let first = self.next()?;
        let value = self.value(first, 0)?;
        let end = self.next()?;
        if !matches!(end.data, EventData::DocumentEnd { .. }) {
            return Err(at(&end, "something follows the value"));
        }
        let end = self.next()?;
        if !matches!(end.data, EventData::StreamEnd) {
            return Err(at(&end, "only one document is allowed"));
        }
        Ok(value)
    }

    fn value(&mut self, event: Event, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(at(&event, format!("nested more than {MAX_DEPTH} deep")));
        }
        self.count(&event, 1)?;
        let before = self.values;
        let (anchor, value) = match &event.data {
            EventData::Alias { anchor } => return self.alias(&event, anchor),
            EventData::Scalar { anchor, tag, value, plain_implicit, style, .. } => {
                let meaning = resolve(tag.as_deref(), value, *style)
                    .map_err(|message| at(&event, message))?;
                let value = match meaning {
                    Meaning::Value(value) => value,
                    Meaning::Merge => Value::string("<<"),
                };
                // Quoted and block scalars without a tag are texts, whatever they look like.
                let text = tag.is_none() && !plain_implicit;
                let value = if text { self.as_text(&event, &value)? } else { value };
                (anchor.clone(), value)
            }
            EventData::SequenceStart { anchor, tag, .. } => {
                fits(&event, tag.as_deref(), "seq")?;
                let anchor = anchor.clone();
                self.open.extend(anchor.clone());
                let value = self.sequence(depth)?;
                self.close(anchor.as_deref());
                (anchor, value)
            }
            EventData::MappingStart { anchor, tag, .. } => {
                fits(&event, tag.as_deref(), "map")?;
                let anchor = anchor.clone();
                self.open.extend(anchor.clone());
                let value = self.mapping(depth)?;
                self.close(anchor.as_deref());
                (anchor, value)
            }
            _ => return Err(at(&event, "a value is expected")),
        };
        if let Some(anchor) = anchor {
            let size = 1 + self.values - before;
            self.anchors.insert(anchor, Anchored { value: value.clone(), size });
        }
        Ok(value)
    }

    fn count(&mut self, event: &Event, more: usize) -> Result<(), String> {
        self.values += more;
        if self.values > MAX_VALUES {
            return Err(at(event, format!("more than {MAX_VALUES} values")));
        }
        Ok(())
    }

    fn close(&mut self, anchor: Option<&str>) {
        if anchor.is_some() {
            self.open.pop();
        }
    }

    fn alias(&mut self, event: &Event, anchor: &str) -> Result<Value, String> {
        if self.open.iter().any(|open| open == anchor) {
            return Err(at(event, format!("*{anchor} refers to what it is part of")));
        }
        let Some(Anchored { value, size }) = self.anchors.get(anchor).cloned() else {
            return Err(at(event, format!("there is no anchor &{anchor} before *{anchor}")));
        };
        self.count(event, size)?;
        Ok(value)
    }

    fn as_text(&self, event: &Event, value: &Value) -> Result<Value, String> {
        convert(value, &Type::String).map_err(|error| at(event, error))
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        loop {
            let event = self.next()?;
            if matches!(event.data, EventData::SequenceEnd) {
                return Ok(Value::tuple(items));
            }
            items.push(self.value(event, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, String> {
        let mut elements: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        loop {
            let key = self.next()?;
            let (tag, text, style) = match &key.data {
                EventData::MappingEnd => return Ok(Value::object(elements)),
                EventData::Scalar { tag, value, style, .. } => (tag, value, style),
                _ => return Err(at(&key, "only texts may be keys")),
            };
            let meaning =
                resolve(tag.as_deref(), text, *style).map_err(|message| at(&key, message))?;
            let name = match meaning {
                Meaning::Value(name) => Some(self.as_text(&key, &name)?),
                Meaning::Merge => None,
            };
            let event = self.next()?;
            let value = self.value(event, depth + 1)?;
            match name {
                Some(name) => {
                    let Some(name) = name.as_str() else {
                        return Err(at(&key, "a key must not be null"));
                    };
                    elements.insert(Arc::from(name), value);
                }
                None => {
                    let Some(merged) = value.as_map() else {
                        return Err(at(&key, "<< merges one mapping, and nothing else"));
                    };
                    elements.extend(merged.iter().map(|(key, value)| (key.clone(), value.clone())));
                }
            }
        }
    }
}

/// Collections may bear their own tag and no other.
fn fits(event: &Event, tag: Option<&str>, own: &str) -> Result<(), String> {
    match tag {
        None | Some("") => Ok(()),
        Some(tag) if tag.strip_prefix("tag:yaml.org,2002:") == Some(own) => Ok(()),
        Some(tag) => Err(at(event, format!("a {own} cannot be {tag:?}"))),
    }
}

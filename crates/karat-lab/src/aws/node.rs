//! Answers as trees, written as XML.

use std::fmt::Write;

/// Part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// Not there.
    None,
    /// Text, escaped when written.
    Text(String),
    /// Named parts, in order.
    Tree(Vec<(&'static str, Node)>),
    /// Parts of one kind.
    List(Vec<Node>),
}

impl Node {
    pub(crate) fn list<T: Into<Self>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }

    /// A tree with one more part.
    pub(crate) fn with(mut self, name: &'static str, node: impl Into<Self>) -> Self {
        if let Self::Tree(parts) = &mut self {
            parts.push((name, node.into()));
        }
        self
    }

    /// Writes the inside of an element. `item` names the members of lists.
    pub(crate) fn write(&self, item: &str, out: &mut String) {
        match self {
            Self::None => {}
            Self::Text(text) => escape(text, out),
            Self::Tree(parts) => {
                parts.iter().for_each(|(name, node)| node.element(name, item, out));
            }
            Self::List(items) => items.iter().for_each(|node| node.element(item, item, out)),
        }
    }

    fn element(&self, name: &str, item: &str, out: &mut String) {
        if *self == Self::None {
            return;
        }
        let _ = write!(out, "<{name}>");
        self.write(item, out);
        let _ = write!(out, "</{name}>");
    }
}

/// Escapes text for XML. Control characters that XML cannot hold become a question mark.
pub(crate) fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\r' => out.push_str("&#13;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
}

/// A tree: `tree! { "imageId": id, "name": name }`. Parts that are `None` are left out.
macro_rules! tree {
    ($($name:literal : $value:expr),* $(,)?) => {
        $crate::aws::node::Node::Tree(vec![$(($name, $crate::aws::node::Node::from($value))),*])
    };
}
pub(crate) use tree;

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<&String> for Node {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}
impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<bool> for Node {
    fn from(value: bool) -> Self {
        Self::Text(value.to_string())
    }
}
macro_rules! from_number {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Node {
            fn from(value: $kind) -> Self {
                Self::Text(value.to_string())
            }
        }
    )*};
}
from_number!(i32, i64, u16, u32, u64, usize, f64);
impl<T: Into<Self>> From<Option<T>> for Node {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}
impl<T: Into<Self>> From<Vec<T>> for Node {
    fn from(items: Vec<T>) -> Self {
        Self::list(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_become_xml() {
        let node = tree! {
            "a": "<&>",
            "none": Option::<String>::None,
            "set": vec![tree! { "n": 1 }, tree! { "n": 2 }],
            "empty": Node::List(vec![]),
        };
        let mut out = String::new();
        node.write("item", &mut out);
        let items = "<set><item><n>1</n></item><item><n>2</n></item></set>";
        assert_eq!(out, format!("<a>&lt;&amp;&gt;</a>{items}<empty></empty>"));
    }
}

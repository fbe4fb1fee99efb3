//! A request as it came in.

/// What came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    /// `GET`, `POST`, …
    pub(crate) method: String,
    /// As it was sent, percent signs and all.
    pub(crate) path: String,
    /// What stands behind the question mark, as it was sent.
    pub(crate) query: String,
    /// Names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Incoming {
    /// A header's value; several of a name are one, with commas.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.trim()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// A value of the query string.
    pub(crate) fn query_value(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

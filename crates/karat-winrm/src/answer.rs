//! What comes back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use karat_component::Stream;
use roxmltree::{Document, Node};

/// What a command printed since it was asked last, and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) pieces: Vec<(Stream, Vec<u8>)>,
    /// The code, once it has ended.
    pub(crate) ended: Option<i32>,
}

/// A fault that the server tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: String,
    pub(crate) code: Option<u32>,
}

fn named<'a, 'i>(top: &Node<'a, 'i>, name: &'a str) -> impl Iterator<Item = Node<'a, 'i>> + 'a
where
    'i: 'a,
{
    top.descendants().filter(move |node| node.tag_name().name() == name)
}

fn read(text: &str) -> Result<Document<'_>, String> {
    Document::parse(text).map_err(|e| e.to_string())
}

fn text_of(node: Node<'_, '_>) -> String {
    node.descendants().filter_map(|n| n.is_text().then(|| n.text()).flatten()).collect()
}

/// The new shell's id.
pub(crate) fn shell_id(text: &str) -> Result<String, String> {
    let document = read(text)?;
    let root = document.root_element();
    let own = named(&root, "ShellId").next();
    let selector =
        || named(&root, "Selector").find(|node| node.attribute("Name") == Some("ShellId"));
    let found = own.or_else(selector).map(|node| text_of(node).trim().to_owned());
    found.filter(|id| !id.is_empty()).ok_or_else(|| "it has no ShellId".into())
}

/// The new command's id.
pub(crate) fn command_id(text: &str) -> Result<String, String> {
    let document = read(text)?;
    let root = document.root_element();
    let found = named(&root, "CommandId").next().map(|node| text_of(node).trim().to_owned());
    found.filter(|id| !id.is_empty()).ok_or_else(|| "it has no CommandId".into())
}

/// What a command printed.
pub(crate) fn received(text: &str) -> Result<Received, String> {
    let document = read(text)?;
    let root = document.root_element();
    let mut found = Received::default();
    for node in named(&root, "Stream") {
        let stream = match node.attribute("Name") {
            Some("stderr") => Stream::Stderr,
            _ => Stream::Stdout,
        };
        let packed: String = text_of(node).split_whitespace().collect();
        let bytes = STANDARD.decode(packed).map_err(|e| format!("a stream: {e}"))?;
        if !bytes.is_empty() {
            found.pieces.push((stream, bytes));
        }
    }
    let done = |node: &Node<'_, '_>| {
        node.attribute("State").is_some_and(|state| state.ends_with("CommandState/Done"))
    };
    if let Some(state) = named(&root, "CommandState").find(done) {
        let code = named(&state, "ExitCode").next().map(text_of);
        found.ended = Some(code.map_or(Ok(0), |code| exit_code(code.trim()))?);
    }
    Ok(found)
}

/// Windows has codes of 32 bits, written with or without a sign.
fn exit_code(text: &str) -> Result<i32, String> {
    let number: i64 = text.parse().map_err(|_| format!("its exit code is \"{text}\""))?;
    let wrapped = u32::try_from(number).map(u32::cast_signed);
    wrapped.or_else(|_| i32::try_from(number)).map_err(|_| format!("its exit code is \"{text}\""))
}

/// The fault in an answer, if it is one.
pub(crate) fn fault(text: &str) -> Option<Fault> {
    let document = read(text).ok()?;
    let root = document.root_element();
    let fault = named(&root, "Fault").next()?;
    let number = |node: Node<'_, '_>| node.attribute("Code").and_then(|c| c.parse::<u32>().ok());
    let code = named(&fault, "WSManFault").find_map(number);
    let words = |node: Node<'_, '_>| {
        let text = text_of(node);
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        (!line.is_empty()).then_some(line)
    };
    let message = named(&fault, "Message").find_map(words);
    let reason = message.or_else(|| named(&fault, "Text").find_map(words));
    Some(Fault { reason: reason.unwrap_or_else(|| "it does not say why".into()), code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_end_are_read() {
        let text = r#"<s:Envelope xmlns:s="s" xmlns:rsp="r"><s:Body><rsp:ReceiveResponse>
            <rsp:Stream Name="stdout" CommandId="c">aGk=</rsp:Stream>
            <rsp:Stream Name="stderr" CommandId="c">b29
              wcw==</rsp:Stream>
            <rsp:Stream Name="stdout" CommandId="c" End="true"></rsp:Stream>
            <rsp:CommandState CommandId="c" State="http://x/CommandState/Done">
              <rsp:ExitCode>3221225786</rsp:ExitCode></rsp:CommandState>
            </rsp:ReceiveResponse></s:Body></s:Envelope>"#;
        let found = received(text).unwrap();
        assert_eq!(
            found.pieces,
            [(Stream::Stdout, b"hi".to_vec()), (Stream::Stderr, b"oops".to_vec())]
        );
        // 0xC000013A: ended by Ctrl-C.
        assert_eq!(found.ended, Some(-1_073_741_510));
    }

    #[test]
    fn codes_are_of_32_bits() {
        assert_eq!(exit_code("0"), Ok(0));
        assert_eq!(exit_code("-1"), Ok(-1));
        assert_eq!(exit_code("4294967295"), Ok(-1));
        assert!(exit_code("4294967296").is_err());
        assert!(exit_code("x").is_err());
    }

    #[test]
    fn faults_tell_why() {
        let text = r#"<s:Envelope xmlns:s="s"><s:Body><s:Fault><s:Reason>
            <s:Text xml:lang="">The request timed out.</s:Text></s:Reason><s:Detail>
            <f:WSManFault xmlns:f="f" Code="2150858793"><f:Message>Nothing
              yet. </f:Message></f:WSManFault></s:Detail></s:Fault></s:Body></s:Envelope>"#;
        assert_eq!(
            fault(text),
            Some(Fault { reason: "Nothing yet.".into(), code: Some(2_150_858_793) })
        );
        assert_eq!(fault("<a/>"), None);
        assert_eq!(fault("no xml"), None);
    }
}

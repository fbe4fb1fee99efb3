//! What is sent: SOAP envelopes of WS-Management, as [MS-WSMV] section 3.1.4 has them.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Every server takes requests, and may give answers, of so many bytes.
pub(crate) const LARGEST: usize = 153_600;
/// So many bytes of input fit into a request, in base64 and with what stands around them.
pub(crate) const PIECE: usize = 96 * 1024;
/// How long the server may wait before it says that there is nothing yet.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const SHELL: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell";
const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action<'a> {
    /// A new shell.
    Create,
    /// A command line in it. `bare` starts the program itself instead of `cmd.exe`; `stdin` has it
    /// read what is sent.
    Command { line: &'a str, bare: bool, stdin: bool },
    /// Input of a command.
    Send { command: &'a str, bytes: &'a [u8], end: bool },
    /// What a command printed since.
    Receive { command: &'a str },
    /// Ends a command.
    Terminate { command: &'a str },
    /// Removes the shell.
    Delete,
}

impl Action<'_> {
    fn uri(self) -> String {
        match self {
            Self::Create => format!("{TRANSFER}/Create"),
            Self::Command { .. } => format!("{SHELL}/Command"),
            Self::Send { .. } => format!("{SHELL}/Send"),
            Self::Receive { .. } => format!("{SHELL}/Receive"),
            Self::Terminate { .. } => format!("{SHELL}/Signal"),
            Self::Delete => format!("{TRANSFER}/Delete"),
        }
    }

    /// What is asked, in words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "to open a shell",
            Self::Command { .. } => "to run a command",
            Self::Send { .. } => "input of a command",
            Self::Receive { .. } => "to show what a command printed",
            Self::Terminate { .. } => "to end a command",
            Self::Delete => "to close a shell",
        }
    }

    fn options(self) -> Vec<(&'static str, &'static str)> {
        let truth = |yes| if yes { "TRUE" } else { "FALSE" };
        match self {
            // UTF-8, and the user's own profile, as at a console.
            Self::Create => vec![("WINRS_NOPROFILE", "FALSE"), ("WINRS_CODEPAGE", "65001")],
            Self::Command { bare, stdin, .. } => vec![
                ("WINRS_CONSOLEMODE_STDIN", truth(!stdin)),
                ("WINRS_SKIP_CMD_SHELL", truth(bare)),
            ],
            Self::Receive { .. } => vec![("WSMAN_CMDSHELL_OPTION_KEEPALIVE", "TRUE")],
            Self::Send { .. } | Self::Terminate { .. } | Self::Delete => Vec::new(),
        }
    }

    fn body(self) -> String {
        match self {
            Self::Create => "<rsp:Shell><rsp:InputStreams>stdin</rsp:InputStreams>\
                 <rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>"
                .into(),
            Self::Command { line, .. } => format!(
                "<rsp:CommandLine><rsp:Command>{}</rsp:Command></rsp:CommandLine>",
                escaped(line)
            ),
            Self::Send { command, bytes, end } => {
                let end = if end { " End=\"true\"" } else { "" };
                format!(
                    "<rsp:Send><rsp:Stream Name=\"stdin\" CommandId=\"{}\"{end}>{}</rsp:Stream>\
                     </rsp:Send>",
                    escaped(command),
                    STANDARD.encode(bytes)
                )
            }
            Self::Receive { command } => format!(
                "<rsp:Receive><rsp:DesiredStream CommandId=\"{}\">stdout stderr\
                 </rsp:DesiredStream></rsp:Receive>",
                escaped(command)
            ),
            Self::Terminate { command } => format!(
                "<rsp:Signal CommandId=\"{}\"><rsp:Code>{SHELL}/signal/terminate</rsp:Code>\
                 </rsp:Signal>",
                escaped(command)
            ),
            Self::Delete => String::new(),
        }
    }
}

/// The envelope of a request; `shell` is the shell that it is about.
pub(crate) fn envelope(url: &str, shell: Option<&str>, action: Action<'_>) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" \
         xmlns:p=\"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd\" \
         xmlns:rsp=\"{SHELL}\"><s:Header>\
         <a:To>{}</a:To><a:ReplyTo><a:Address s:mustUnderstand=\"true\">\
         http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>\
         <w:MaxEnvelopeSize s:mustUnderstand=\"true\">{LARGEST}</w:MaxEnvelopeSize>\
         <a:MessageID>uuid:{}</a:MessageID>\
         <w:Locale xml:lang=\"en-US\" s:mustUnderstand=\"false\"/>\
         <p:DataLocale xml:lang=\"en-US\" s:mustUnderstand=\"false\"/>\
         <w:OperationTimeout>PT{}S</w:OperationTimeout>\
         <w:ResourceURI s:mustUnderstand=\"true\">{SHELL}/cmd</w:ResourceURI>\
         <a:Action s:mustUnderstand=\"true\">{}</a:Action>",
        escaped(url),
        uuid::Uuid::new_v4(),
        PATIENCE.as_secs(),
        action.uri(),
    );
    if let Some(shell) = shell {
        let _ = write!(
            text,
            "<w:SelectorSet><w:Selector Name=\"ShellId\">{}</w:Selector></w:SelectorSet>",
            escaped(shell)
        );
    }
    let options = action.options();
    if !options.is_empty() {
        text.push_str("<w:OptionSet>");
        for (name, value) in options {
            let _ = write!(text, "<w:Option Name=\"{name}\">{value}</w:Option>");
        }
        text.push_str("</w:OptionSet>");
    }
    let _ = write!(text, "</s:Header><s:Body>{}</s:Body></s:Envelope>", action.body());
    text
}

/// Text within XML. What XML cannot hold at all, such as a NUL, is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_piece_fits() {
        let bytes = vec![0xff; PIECE];
        let command = "A".repeat(36);
        let action = Action::Send { command: &command, bytes: &bytes, end: true };
        let text =
            envelope("http://a-rather-long-name.example.com:5985/wsman", Some(&command), action);
        assert!(text.len() <= LARGEST, "{}", text.len());
    }

    #[test]
    fn any_line_is_xml() {
        let line = "echo \"<&>\" \u{1} \u{fffe} über\r\n\t'x'";
        let text = envelope("http://h/", None, Action::Command { line, bare: false, stdin: true });
        let read = roxmltree::Document::parse(&text).unwrap();
        let found = read.descendants().find(|n| n.tag_name().name() == "Command").unwrap();
        assert_eq!(found.text(), Some("echo \"<&>\"   über\r\n\t'x'"));
    }
}

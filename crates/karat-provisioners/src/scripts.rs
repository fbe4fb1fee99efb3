//! Where the text of scripts comes from: `inline`, `script`, `scripts`.

use karat_component::{BuildInfo, ComponentError, ValidateContext};

/// The scripts of a component, in the order in which they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scripts {
    /// One script, written in the template.
    Inline(String),
    /// Files on this machine.
    Files(Vec<String>),
}

/// What the user wrote.
pub(crate) struct Given<'a> {
    pub(crate) command: Option<&'a str>,
    pub(crate) inline: &'a [String],
    pub(crate) script: Option<&'a str>,
    pub(crate) scripts: &'a [String],
    pub(crate) shebang: &'a str,
}

impl Given<'_> {
    /// Exactly one of the ways has to be used. After what is wrong was reported, or while it is
    /// not known yet, there is no script.
    pub(crate) fn check(&self, cx: &mut ValidateContext<'_>) -> Scripts {
        let options: &[&str] = match self.command {
            Some(_) => &["command", "inline", "script", "scripts"],
            None => &["inline", "script", "scripts"],
        };
        let used: Vec<&str> = options
            .iter()
            .copied()
            .filter(|option| match *option {
                "command" => self.command.is_some_and(|c| !c.is_empty()),
                "inline" => !self.inline.is_empty(),
                "script" => self.script.is_some_and(|s| !s.is_empty()),
                _ => !self.scripts.is_empty(),
            })
            .collect();
        match used.as_slice() {
            [] => {
                let unknown = options.iter().any(|o| !cx.is_known(o));
                let list = options.join("\", \"");
                if !unknown {
                    cx.block_error("Either a script file or inline script must be specified")
                        .detail(format!("One of \"{list}\" has to be set."));
                }
                return Scripts::Files(Vec::new());
            }
            [_] => {}
            ["script", "scripts"] => {
                cx.error("scripts", "Only one of script or scripts can be specified")
                    .hint("Add the script to the list \"scripts\".");
                return Scripts::Files(Vec::new());
            }
            [first, rest @ ..] => {
                for option in rest {
                    cx.error(
                        option,
                        "Only a script file or an inline script can be specified, not both",
                    )
                    .detail(format!("\"{first}\" and \"{option}\" exclude each other."))
                    .hint("Use a block of its own for each of them.");
                }
                return Scripts::Files(Vec::new());
            }
        }
        if self.scripts.iter().any(String::is_empty) {
            cx.error("scripts", "The name of a script is empty");
            return Scripts::Files(Vec::new());
        }
        match (self.command, self.script) {
            _ if !self.inline.is_empty() => Scripts::Inline(self.text(self.inline)),
            (_, Some(script)) if !script.is_empty() => Scripts::Files(vec![script.to_owned()]),
            (Some(command), _) if !command.is_empty() => {
                Scripts::Inline(self.text(&[command.to_owned()]))
            }
            _ => Scripts::Files(self.scripts.to_vec()),
        }
    }

    fn text(&self, lines: &[String]) -> String {
        let mut text = format!("#!{}\n", self.shebang);
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Reads a script file.
///
/// # Errors
/// Names the file.
pub(crate) async fn read(path: &str, build: &BuildInfo) -> Result<Vec<u8>, ComponentError> {
    tokio::fs::read(path).await.map_err(|e| {
        ComponentError::because(format!("cannot read the script \"{path}\""), e)
            .with_hint(build.path_hint())
    })
}

/// Line ends of Windows as those of Unix.
pub(crate) fn unix_lines(bytes: Vec<u8>) -> Vec<u8> {
    if !bytes.windows(2).any(|w| w == b"\r\n") {
        return bytes;
    }
    let mut out = Vec::with_capacity(bytes.len());
    for (i, byte) in bytes.iter().enumerate() {
        if !(*byte == b'\r' && bytes.get(i + 1) == Some(&b'\n')) {
            out.push(*byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_windows_line_ends_change() {
        assert_eq!(unix_lines(b"a\r\nb\rc\n\r\n".to_vec()), b"a\nb\rc\n\n");
        assert_eq!(unix_lines(b"\r".to_vec()), b"\r");
    }
}

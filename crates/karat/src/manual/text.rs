//! Paragraphs that fit the terminal.

use textwrap::Options;

use crate::report::out;

/// Columns to fill: the terminal's, but no more than reads well.
pub(crate) fn width() -> usize {
    if out::is_terminal() { textwrap::termwidth().clamp(40, 100) } else { 80 }
}

/// Lays Markdown out in `width` columns, each line behind `pad`. Paragraphs are filled; lists keep
/// their items, and code and tables stay as they are.
pub(crate) fn fill(markdown: &str, pad: &str, width: usize) -> String {
    let mut lines = Vec::new();
    let mut paragraph = String::new();
    let mut code = false;
    for line in markdown.lines() {
        let fence = line.trim_start().starts_with("```");
        if fence || code || line.starts_with('|') || line.starts_with("    ") {
            flush(&mut paragraph, pad, width, &mut lines);
            code ^= fence;
            lines.push(if line.is_empty() { String::new() } else { format!("{pad}{line}") });
        } else if line.trim().is_empty() {
            flush(&mut paragraph, pad, width, &mut lines);
            lines.push(String::new());
        } else {
            if is_item(line) {
                flush(&mut paragraph, pad, width, &mut lines);
            } else if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(line.trim());
        }
    }
    flush(&mut paragraph, pad, width, &mut lines);
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn is_item(line: &str) -> bool {
    line.trim_start().starts_with("- ")
}

fn flush(paragraph: &mut String, pad: &str, width: usize, lines: &mut Vec<String>) {
    if paragraph.is_empty() {
        return;
    }
    let later = if is_item(paragraph) { format!("{pad}  ") } else { pad.to_owned() };
    let options = Options::new(width).initial_indent(pad).subsequent_indent(&later);
    lines.extend(textwrap::wrap(paragraph, options).into_iter().map(|l| l.into_owned()));
    paragraph.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_filled_and_items_kept() {
        let text = "One two\nthree four.\n\n- five\n- six seven\n  eight";
        assert_eq!(fill(text, "", 12), "One two\nthree four.\n\n- five\n- six seven\n  eight\n");
        assert_eq!(
            fill(text, "  ", 40),
            "  One two three four.\n\n  - five\n  - six seven eight\n"
        );
    }

    #[test]
    fn code_stays_as_it_is() {
        let text = "See:\n\n```hcl\na   = 1\n\nb = 2\n```";
        assert_eq!(fill(text, " ", 10), " See:\n\n ```hcl\n a   = 1\n\n b = 2\n ```\n");
    }
}

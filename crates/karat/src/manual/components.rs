//! The options of a component, for the terminal and as Markdown.

use std::fmt::Write as _;

use karat_config::{Config, OptionKind, OptionSchema, OptionType, Schema};

use super::text::fill;
use crate::components;

/// What a component is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Makes an image.
    Source,
    /// Reaches a machine.
    Communicator,
    /// Changes a machine.
    Provisioner,
    /// Does something with what came out.
    PostProcessor,
    /// Looks something up.
    DataSource,
}

impl Kind {
    /// The word, small.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Communicator => "communicator",
            Self::Provisioner => "provisioner",
            Self::PostProcessor => "post-processor",
            Self::DataSource => "data source",
        }
    }

    /// The heading over all of the kind.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Source => "Sources",
            Self::Communicator => "Communicators",
            Self::Provisioner => "Provisioners",
            Self::PostProcessor => "Post-processors",
            Self::DataSource => "Data sources",
        }
    }

    /// The folder in the reference.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Source => "sources",
            Self::Communicator => "communicators",
            Self::Provisioner => "provisioners",
            Self::PostProcessor => "post-processors",
            Self::DataSource => "data-sources",
        }
    }

    /// How a block of the kind begins in a template.
    fn block(self, name: &str) -> String {
        match self {
            Self::Source => format!("source \"{name}\" \"NAME\" {{ }}"),
            Self::Communicator => format!("communicator = \"{name}\""),
            Self::Provisioner => format!("provisioner \"{name}\" {{ }}"),
            Self::PostProcessor => format!("post-processor \"{name}\" {{ }}"),
            Self::DataSource => format!("data \"{name}\" \"NAME\" {{ }}"),
        }
    }

    /// Options that the engine adds.
    fn common(self) -> &'static [&'static str] {
        match self {
            Self::Provisioner => karat_template::PROVISIONER_OPTIONS,
            Self::PostProcessor => karat_template::POST_PROCESSOR_OPTIONS,
            _ => &[],
        }
    }
}

/// A component to be documented.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) schema: Schema,
}

const MACHINE: &str = "Reaches a local machine directly, without a network in between.\n\n\
    Commands run as root in the machine, started by its own systemd; files go straight into its \
    file system. It has no options of its own. Only the source `machine` offers it, where it is \
    the default.";
const NONE: &str = "Reaches nothing.\n\n\
    For builds that need no machine: provisioners that work on the local machine, such as \
    `shell-local`, run all the same; others are an error. It has no options.";

/// All components, kind by kind, in the order of the list.
pub(crate) fn entries() -> Vec<Entry> {
    let all = components::all();
    let mut entries = Vec::new();
    let mut add = |kind, name: &str, schema| {
        entries.push(Entry { kind, name: name.to_owned(), schema });
    };
    all.builders().iter().for_each(|(n, c)| add(Kind::Source, n, c.schema()));
    let plain = |doc: &str| Schema { doc: doc.into(), ..Schema::default() };
    add(Kind::Communicator, "machine", plain(MACHINE));
    add(Kind::Communicator, "ssh", karat_ssh::SshConfig::schema());
    add(Kind::Communicator, "winrm", karat_winrm::WinrmConfig::schema());
    add(Kind::Communicator, "none", plain(NONE));
    all.provisioners().iter().for_each(|(n, c)| add(Kind::Provisioner, n, c.schema()));
    all.post_processors().iter().for_each(|(n, c)| add(Kind::PostProcessor, n, c.schema()));
    all.data_sources().iter().for_each(|(n, c)| add(Kind::DataSource, n, c.schema()));
    entries
}

/// The communicators whose options stand in the blocks of sources.
fn logins() -> [(&'static str, Schema); 2] {
    [("ssh", karat_ssh::SshConfig::schema()), ("winrm", karat_winrm::WinrmConfig::schema())]
}

/// The options to be shown with an entry, and the communicators whose options stand in the same
/// block and are left to their own pages.
fn own_options(entry: &Entry) -> (Vec<&OptionSchema>, Vec<&'static str>) {
    let all = &entry.schema.options;
    let mut own: Vec<&OptionSchema> = all.iter().collect();
    let mut left = Vec::new();
    if entry.kind != Kind::Communicator {
        for (name, schema) in logins() {
            let before = own.len();
            own.retain(|option| !schema.options.iter().any(|o| o.name == option.name));
            if own.len() < before {
                left.push(name);
            }
        }
    }
    (own, left)
}

/// The options of a component, in `width` columns; names bold where there is `colour`.
pub(crate) fn terminal(entry: &Entry, width: usize, colour: bool) -> String {
    let heading = format!("{} \"{}\"", entry.kind.word(), entry.name);
    let mut text = format!("{}\n\n", bold(&heading, colour));
    text.push_str(&fill(&entry.schema.doc, "", width));
    let (options, logins) = own_options(entry);
    text.push_str(&example(entry, &options));
    options_text(&options, 0, (width, colour), &mut text);
    for name in logins {
        let more = format!(
            "With `communicator = \"{name}\"` the options of `karat docs {name}` stand in this \
             block as well."
        );
        text.push('\n');
        text.push_str(&fill(&more, "", width));
    }
    let common = entry.kind.common();
    if !common.is_empty() {
        let more = format!("Every {} also has: {}.", entry.kind.word(), common.join(", "));
        text.push('\n');
        text.push_str(&fill(&more, "", width));
    }
    text.push('\n');
    text
}

fn bold(text: &str, colour: bool) -> String {
    if colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// How the block looks with all that it has to have.
fn example(entry: &Entry, options: &[&OptionSchema]) -> String {
    let block = entry.kind.block(&entry.name);
    let required: Vec<&&OptionSchema> = options.iter().filter(|o| o.required).collect();
    let Some(head) = block.strip_suffix(" }").filter(|_| !required.is_empty()) else {
        return format!("\n    {block}\n");
    };
    let width = required.iter().map(|o| o.name.len()).max().unwrap_or(0);
    let mut text = format!("\n    {head}\n");
    for option in required {
        let line = match &option.ty {
            OptionType::Attribute(ty) => format!("{:width$} = {}", option.name, sample(ty)),
            OptionType::Block(_) | OptionType::Blocks(_) => format!("{} {{ }}", option.name),
        };
        let _ = writeln!(text, "      {line}");
    }
    text.push_str("    }\n");
    text
}

fn sample(ty: &karat_value::Type) -> &'static str {
    use karat_value::Type;
    match ty {
        Type::Bool => "true",
        Type::Number => "1",
        Type::List(_) | Type::Set(_) | Type::Tuple(_) => "[\"…\"]",
        Type::Map(_) | Type::Object(_) => "{ … }",
        Type::String | Type::Dynamic => "\"…\"",
    }
}

fn options_text(
    options: &[&OptionSchema],
    depth: usize,
    (width, colour): (usize, bool),
    text: &mut String,
) {
    let pad = "  ".repeat(depth + 1);
    for option in options {
        let mut facts = vec![option.type_name()];
        facts.extend(option.required.then(|| "required".to_owned()));
        facts.extend(shown_default(option).map(|d| format!("default {d}")));
        facts.extend((option.kind == OptionKind::Secret).then(|| "secret".to_owned()));
        let _ = writeln!(text, "\n{pad}{} ({})", bold(&option.name, colour), facts.join(", "));
        text.push_str(&fill(&option.doc, &format!("{pad}  "), width));
        for line in notes(option) {
            text.push_str(&fill(&line, &format!("{pad}  "), width));
        }
        if let OptionType::Block(inner) | OptionType::Blocks(inner) = &option.ty {
            let inner: Vec<&OptionSchema> = inner.options.iter().collect();
            options_text(&inner, depth + 1, (width, colour), text);
        }
    }
}

/// The default, unless it is an empty text, which says no more than "optional".
fn shown_default(option: &OptionSchema) -> Option<&str> {
    option.default.as_deref().filter(|d| *d != "\"\"")
}

/// What there is to say of an option beside its text.
fn notes(option: &OptionSchema) -> Vec<String> {
    let mut notes = Vec::new();
    if !option.aliases.is_empty() {
        let aliases: Vec<String> = option.aliases.iter().map(|a| format!("`{a}`")).collect();
        notes.push(format!("Also: {}.", aliases.join(", ")));
    }
    notes.extend(option.deprecated.as_ref().map(|why| format!("Deprecated: {why}")));
    notes
}

/// A component's page of the manual.
pub(crate) fn markdown(entry: &Entry) -> String {
    let word = entry.kind.word();
    let mut heading = word.to_owned();
    heading[..1].make_ascii_uppercase();
    let mut text = format!("# {heading} `{}`\n\n{}\n", entry.name, entry.schema.doc);
    let block = entry.kind.block(&entry.name);
    let _ = writeln!(text, "\n```hcl\n{block}\n```");
    let (options, logins) = own_options(entry);
    if !options.is_empty() {
        text.push_str("\n## Options\n");
        options_markdown(&options, "", &mut text);
    }
    if !logins.is_empty() {
        text.push_str("\n## Logging in\n");
    }
    for name in logins {
        let _ = writeln!(
            text,
            "\nWith `communicator = \"{name}\"` the options of the communicator \
             [`{name}`](../communicators/{name}.md) stand in this block as well."
        );
    }
    let common = entry.kind.common();
    if !common.is_empty() {
        let names: Vec<String> = common.iter().map(|n| format!("`{n}`")).collect();
        let _ = writeln!(
            text,
            "\n## Options of every {word}\n\n{}: see [Templates](../../templates.md#{word}s).",
            names.join(", ")
        );
    }
    text
}

fn options_markdown(options: &[&OptionSchema], parent: &str, text: &mut String) {
    let level = if parent.is_empty() { "###" } else { "####" };
    for option in options {
        let name = format!("{parent}{}", option.name);
        let mut facts = vec![option.type_name()];
        facts.push(if option.required { "required".into() } else { "optional".into() });
        facts.extend(shown_default(option).map(|d| format!("default `{d}`")));
        facts.extend(kind_fact(option.kind).map(str::to_owned));
        let _ = writeln!(text, "\n{level} `{name}`\n\n*{}*\n\n{}", facts.join(" · "), option.doc);
        for note in notes(option) {
            let _ = writeln!(text, "\n{note}");
        }
        if let OptionType::Block(inner) | OptionType::Blocks(inner) = &option.ty {
            let inner: Vec<&OptionSchema> = inner.options.iter().collect();
            options_markdown(&inner, &format!("{name}."), text);
        }
    }
}

fn kind_fact(kind: OptionKind) -> Option<&'static str> {
    match kind {
        OptionKind::Plain => None,
        OptionKind::Late => Some("`{{ }}` is filled in when it is used"),
        OptionKind::Input => Some("contents count in the fingerprint"),
        OptionKind::Output => Some("written by the build"),
        OptionKind::Volatile => Some("not in the fingerprint"),
        OptionKind::Secret => Some("secret"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_ssh_stand_on_a_page_of_their_own() {
        let entries = entries();
        let find =
            |kind, name: &str| entries.iter().find(|e| e.kind == kind && e.name == name).unwrap();
        let machine = markdown(find(Kind::Source, "machine"));
        assert!(machine.contains("### `base`") && machine.contains("#### `base.suite`"));
        assert!(!machine.contains("### `ssh_username`"));
        assert!(machine.contains("../communicators/ssh.md"));
        assert!(markdown(find(Kind::Communicator, "ssh")).contains("### `ssh_username`"));
    }

    #[test]
    fn the_terminal_shows_the_block_with_what_it_needs() {
        let entries = entries();
        let find = |name: &str| entries.iter().find(|e| e.name == name).unwrap();
        let text = terminal(find("sleep"), 80, false);
        assert!(
            text.contains("    provisioner \"sleep\" {\n      duration = \"…\"\n    }\n"),
            "{text}"
        );
        let text = terminal(find("checksum"), 80, true);
        assert!(text.contains("    post-processor \"checksum\" { }\n"), "{text}");
        assert!(text.contains("\x1b[1moutput\x1b[0m (string"), "{text}");
    }

    #[test]
    fn every_option_is_explained() {
        fn check(schema: &Schema, place: &str) {
            assert!(!schema.doc.is_empty(), "{place} has no text");
            for option in &schema.options {
                let place = format!("{place}.{}", option.name);
                assert!(!option.doc.trim().is_empty(), "{place} has no text");
                if let OptionType::Block(inner) | OptionType::Blocks(inner) = &option.ty {
                    check(inner, &place);
                }
            }
        }
        for entry in entries() {
            check(&entry.schema, &format!("{} {}", entry.kind.word(), entry.name));
        }
    }
}

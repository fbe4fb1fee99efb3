//! The blocks of the language itself, as schemas.

use karat_config::{OptionKind, OptionSchema, OptionType, Schema};
use karat_value::Type;

fn option(name: &str, ty: OptionType, doc: &str) -> OptionSchema {
    OptionSchema {
        name: name.to_owned(),
        aliases: Vec::new(),
        doc: doc.to_owned(),
        ty,
        required: false,
        default: None,
        kind: OptionKind::Plain,
        deprecated: None,
    }
}

fn attribute(name: &str, ty: Type, doc: &str) -> OptionSchema {
    option(name, OptionType::Attribute(ty), doc)
}

fn blocks(name: &str, doc: &str) -> OptionSchema {
    option(name, OptionType::Blocks(Schema::default()), doc)
}

fn schema(doc: &str, options: Vec<OptionSchema>) -> Schema {
    Schema { doc: doc.to_owned(), options, ..Schema::default() }
}

/// What stands at the top level of a file.
pub(crate) fn file() -> Schema {
    schema(
        "A template.",
        vec![
            blocks("packer", "Versions and plugins that the template needs."),
            blocks("variable", "A value that is given from outside."),
            blocks("variables", "Several variables with their defaults."),
            blocks("locals", "Values with names, for use in other places."),
            blocks("local", "One value with a name, which may be sensitive."),
            blocks("data", "A value that is looked up elsewhere."),
            blocks("source", "A machine image to be made: what with, and how."),
            blocks("build", "Which sources are built, and what is done to them."),
            blocks("hcp_packer_registry", "How the images are registered."),
        ],
    )
}

/// What stands in a block of the language; of a component's block what all of its kind have.
pub(crate) fn block(parent: Option<&str>, name: &str) -> Option<Schema> {
    match (parent, name) {
        (None, "packer") => Some(packer()),
        (None, "variable") => Some(variable()),
        (Some("variable"), "validation") => Some(validation()),
        (None, "local") => Some(local()),
        (None, "variables" | "locals") | (Some("packer"), "required_plugins") => {
            let found = file().option(name).map(|o| o.doc.clone());
            Some(schema(
                &found.unwrap_or_else(|| "The plugins that the template needs.".into()),
                vec![],
            ))
        }
        (None, "build") => Some(build()),
        (None | Some("build"), "hcp_packer_registry") => Some(registry()),
        (None, "source") => Some(schema("A machine image to be made.", vec![])),
        (None, "data") => Some(schema("A value that is looked up elsewhere.", vec![])),
        (Some("build"), "source") => Some(schema(
            "A source of the build, under another name or with more options.",
            vec![attribute("name", Type::String, "The source's name in this build.")],
        )),
        (Some("build"), "provisioner" | "error-cleanup-provisioner") => Some(provisioner()),
        (Some("build" | "post-processors"), "post-processor") => Some(post_processor()),
        (Some("build"), "post-processors") => Some(schema(
            "A chain of post-processors: each is given what the one before it made.",
            vec![blocks("post-processor", "Makes something of what came before.")],
        )),
        _ => None,
    }
}

fn packer() -> Schema {
    schema(
        "Versions and plugins that the template needs.",
        vec![
            attribute("required_version", Type::String, "The versions of Packer that will do."),
            blocks("required_plugins", "The plugins that the template needs."),
        ],
    )
}

fn variable() -> Schema {
    schema(
        "A value that is given from outside: by `-var`, a file, or the environment.",
        vec![
            attribute("type", Type::Dynamic, "The type that the value is converted to."),
            attribute("default", Type::Dynamic, "The value where none is given."),
            attribute("description", Type::String, "What it is for."),
            attribute("sensitive", Type::Bool, "Whether the value is masked in all output."),
            blocks("validation", "A rule that the value has to meet."),
        ],
    )
}

fn validation() -> Schema {
    schema(
        "A rule that the value of a variable has to meet.",
        vec![
            attribute("condition", Type::Bool, "True if the value is right."),
            attribute("error_message", Type::String, "What to say if it is not: a sentence."),
        ],
    )
}

fn local() -> Schema {
    schema(
        "A value with a name.",
        vec![
            attribute("expression", Type::Dynamic, "The value."),
            attribute("sensitive", Type::Bool, "Whether the value is masked in all output."),
        ],
    )
}

fn build() -> Schema {
    schema(
        "Which sources are built, and what is done to them.",
        vec![
            attribute("name", Type::String, "The build's name, which its targets begin with."),
            attribute("description", Type::String, "What it is for."),
            attribute("sources", Type::list(Type::String), "Sources: `\"source.TYPE.NAME\"`."),
            blocks("source", "A source under another name, or with more options."),
            blocks("provisioner", "Changes the machine."),
            blocks("error-cleanup-provisioner", "Runs when a provisioner has failed."),
            blocks("post-processor", "Makes something of the artifact."),
            blocks("post-processors", "A chain of post-processors."),
            blocks("hcp_packer_registry", "How the images are registered."),
        ],
    )
}

fn registry() -> Schema {
    let labels = || Type::map(Type::String);
    schema(
        "How the images are registered.",
        vec![
            attribute("bucket_name", Type::String, "The bucket that they go into."),
            attribute("description", Type::String, "What the bucket is for."),
            attribute("bucket_labels", labels(), "Labels of the bucket."),
            attribute("build_labels", labels(), "Labels of each build."),
            attribute("channels", Type::list(Type::String), "Channels that are set to them."),
        ],
    )
}

fn common() -> Vec<OptionSchema> {
    let list = || Type::list(Type::String);
    vec![
        attribute("name", Type::String, "A name for messages."),
        attribute("only", list(), "Only for these sources: `\"TYPE.NAME\"`."),
        attribute("except", list(), "Not for these sources: `\"TYPE.NAME\"`."),
    ]
}

fn provisioner() -> Schema {
    let mut options = common();
    options.extend([
        attribute("override", Type::Dynamic, "Other options for some sources: `{ NAME = { … } }`."),
        attribute("pause_before", Type::String, "How long to wait before it."),
        attribute("max_retries", Type::Number, "How often to try again after a failure."),
        attribute("timeout", Type::String, "How long it may take."),
        attribute("continue_on_error", Type::Bool, "Whether the build goes on when it fails."),
    ]);
    schema("Changes the machine.", options)
}

fn post_processor() -> Schema {
    let mut options = common();
    options.push(attribute("keep_input_artifact", Type::Bool, "Whether what it is given is kept."));
    schema("Makes something of the artifact.", options)
}

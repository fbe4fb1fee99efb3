//! The comments of an upgraded file. Those that tell of a mistake are what scripts look for.

/// At the start of a file.
pub(super) const HEAD: &str = "\
# Made by hcl2_upgrade from a template in JSON. Read it before you rely on it.
#
# All blocks are in this one file; they may as well stand in several of one folder, such as
# variables.pkr.hcl, as long as their names end in .pkr.hcl. `inspect FOLDER` shows what is in
# a folder.

# A text is either filled in by {{ }} or by ${ }. One that has both is not what it looks like.
";

/// Before the `packer` block.
pub(super) const PACKER: &str = "
# Which plugins and which version are asked for:
# https://www.packer.io/docs/templates/hcl_templates/blocks/packer
";

/// Before the variables.
pub(super) const VARIABLES: &str = "
# JSON knows texts alone, so every variable is of the type string. Other types:
# https://www.packer.io/docs/templates/hcl_templates/variables#type-constraints";

/// Before the locals.
pub(super) const LOCALS: &str = "
# What is made of other values by a function can be no variable's default; it is a local:
# https://www.packer.io/docs/templates/hcl_templates/blocks/locals";

/// Before the sources.
pub(super) const SOURCES: &str = "
# A source for each builder. It does nothing until a build names it:
# https://www.packer.io/docs/templates/hcl_templates/blocks/source";

/// Before the build.
pub(super) const BUILD: &str = "
# The build: which sources, and what happens to their machines and to what they leave:
# https://www.packer.io/docs/templates/hcl_templates/blocks/build
";

/// Before the data sources of images.
pub(super) const IMAGES: &str = "
# A data source for each source_ami_filter; sources and locals can refer to what it finds:
# https://www.packer.io/docs/templates/hcl_templates/blocks/data
# https://www.packer.io/plugins/datasources/amazon/ami";

/// Before the data sources of secrets.
pub(super) const SECRETS: &str = "
# A data source for each call of aws_secretsmanager; sources and locals can refer to it:
# https://www.packer.io/docs/templates/hcl_templates/blocks/data
# https://www.packer.io/plugins/datasources/amazon/secretsmanager";

/// What `{{ timestamp }}` becomes.
pub(super) const TIMESTAMP: &str =
    "locals { timestamp = regex_replace(timestamp(), \"[- TZ:]\", \"\") }\n";

/// What is said of a date function that is kept.
pub(super) fn legacy(function: &str) -> String {
    format!(
        "# The \"legacy_{function}\" function has been provided for backwards compatability, but \
         we recommend switching to the timestamp and formatdate functions.\n"
    )
}

/// What is said of a call that cannot be upgraded.
pub(super) fn unhandled(function: &str) -> String {
    const BASE: &str = "https://www.packer.io/docs/templates/hcl_templates/";
    let page = |name: &str| format!("{BASE}functions/string/{name}");
    let replacing = "`replace(string, substring, replacement)` or \
                     `regex_replace(string, substring, replacement)`";
    let pages = || format!("{} or {}", page("replace"), page("regex_replace"));
    let (instead, read) = match function {
        "split" => ("`split(separator, string)`".into(), page("split")),
        "replace" | "replace_all" => (replacing.to_owned(), pages()),
        "clean_resource_name" => (
            format!("use custom validation rules, {replacing}"),
            format!(
                "https://packer.io/docs/templates/hcl_templates/variables#custom-validation-rules \
                 , {}",
                pages()
            ),
        ),
        other => (format!("`{other}(var.example)`"), page(other)),
    };
    format!(
        "unhandled \"{function}\" call:\n\
         # there is no way to automatically upgrade the \"{function}\" call.\n\
         # Please manually upgrade to {instead}\n\
         # Visit {read} for more infos."
    )
}

//! What `hcl2_upgrade` makes of a template: the same bytes as Packer.
//!
//! Each part of a template is written as an HCL block by itself, laid out, and then run as a Go
//! template whose functions give HCL: `{{ user `x` }}` becomes `${var.x}`. A block that cannot be
//! run so is kept as it is, under a comment that says why. In the end everything is laid out once
//! more.
//!
//! Some of those bytes are no HCL, or mean something else than before. With [`Options::mend`]
//! they are others: names of sources are names, `only` and `except` name sources, overrides are
//! carried over, and one call that cannot be upgraded keeps no other from it.

mod blocks;
mod body;
mod calls;
mod names;
mod texts;
mod variables;

use std::collections::BTreeSet;

use crate::model::Template;
use calls::Calls;

/// How to upgrade.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Whether comments say what the blocks are for.
    pub annotations: bool,
    /// Whether to write what can be used, where Packer writes something else.
    pub mend: bool,
    /// Whether there is a builder of this type. Builders of known plugins need not be there.
    pub has_builder: &'a dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("annotations", &self.annotations)
            .field("mend", &self.mend)
            .finish_non_exhaustive()
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Upgraded {
    /// The file.
    pub text: String,
    /// What could not be upgraded as it should be. The command fails because of it, and the file
    /// is written all the same.
    pub problems: Vec<String>,
    /// What stands in the file and means something else than before, or is left out.
    pub remarks: Vec<String>,
}

/// Upgrades a template, whose whole text is looked through for variables that it does not declare.
pub fn upgrade(template: &Template, text: &str, options: Options<'_>) -> Upgraded {
    let mut writer = Writer {
        template,
        options,
        calls: Calls::new(options.mend),
        problems: Vec::new(),
        remarks: BTreeSet::new(),
        sources: Vec::new(),
    };
    writer.write(text)
}

struct Writer<'a> {
    template: &'a Template,
    options: Options<'a>,
    calls: Calls,
    problems: Vec<String>,
    remarks: BTreeSet<String>,
    /// Names of builders, and types and names of the sources they become.
    sources: Vec<(String, String, String)>,
}

impl Writer<'_> {
    fn write(&mut self, text: &str) -> Upgraded {
        let mut builders = blocks::builders(self.template);
        let packer = self.packer();
        let (mut variables, locals) = self.variables(text);
        let images = self.images(&mut builders);
        let sources = self.sources(&mut builders);
        let build = self.build(&builders);
        let secrets = self.secrets();
        match self.calls.kept {
            0 => {}
            1 => self.remark("1 block is kept as it was, under a comment that says why"),
            n => self
                .remark(format!("{n} blocks are kept as they were, under comments that say why")),
        }
        match self.calls.swallowed {
            0 => {}
            1 => self.remark(
                "1 block has several calls that have to be upgraded by hand; the comment on them \
                 ends in the first line of the block, which has to be taken out of it",
            ),
            n => self.remark(format!(
                "{n} blocks have several calls that have to be upgraded by hand; the comments on \
                 them end in the first lines of the blocks, which have to be taken out of them"
            )),
        }
        if self.options.mend {
            variables.push_str(&variables::undeclared(self.calls.used.iter(), self.template));
        }

        let mut out = String::new();
        self.part(&mut out, texts::PACKER, &packer);
        self.part(&mut out, texts::VARIABLES, &variables);
        self.part(&mut out, texts::SECRETS, &secrets);
        self.part(&mut out, texts::IMAGES, &images);
        self.local_functions(&mut out);
        self.part(&mut out, texts::LOCALS, &locals);
        self.part(&mut out, texts::SOURCES, &sources);
        out.push_str(&build);

        let head = if self.options.annotations { texts::HEAD } else { "" };
        Upgraded {
            text: format!("{head}{}", karat_hcl::format(&out)),
            problems: std::mem::take(&mut self.problems),
            remarks: std::mem::take(&mut self.remarks).into_iter().collect(),
        }
    }

    fn remark(&mut self, remark: impl Into<String>) {
        self.remarks.insert(remark.into());
    }

    fn part(&self, out: &mut String, head: &str, part: &str) {
        if part.is_empty() {
            return;
        }
        if self.options.annotations {
            out.push_str(head);
        }
        out.push_str(part);
    }

    /// What stands in for functions that behave otherwise in HCL.
    fn local_functions(&self, out: &mut String) {
        if self.calls.timestamp {
            out.push('\n');
            if self.options.annotations {
                out.push_str("# \"timestamp\" template function replacement\n");
            }
            out.push_str(texts::TIMESTAMP);
        }
        for (used, function) in [(self.calls.isotime, "isotime"), (self.calls.strftime, "strftime")]
        {
            if used {
                out.push_str(&texts::legacy(function));
            }
        }
    }
}

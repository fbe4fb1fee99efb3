//! Which files belong to a template, read through a `World`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use karat_functions::{FileKind, World};
use karat_hcl::ast::Body;
use karat_hcl::diag::{Diagnostic, Diagnostics, SourceMap};
use karat_hcl::schema::Schema;
use karat_hcl::{Strings, parse, parse_json};

use crate::blocks::Template;
use crate::legacy;
use crate::variables::VarFile;

/// What is to be loaded.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// The template as the user named it: a file or a folder.
    pub path: PathBuf,
    /// The text of the template where it does not come from `path`.
    pub stdin: Option<Vec<u8>>,
    /// What the template is written in, where its name does not say; legacy JSON without.
    pub kind: Option<TemplateKind>,
    /// `-var-file`, in the order given.
    pub var_files: Vec<PathBuf>,
}

/// What a template is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateKind {
    /// HashiCorp's configuration language, in native or JSON syntax.
    Hcl,
    /// Packer's older JSON.
    Legacy,
}

/// A template that was read, not evaluated yet.
#[derive(Debug)]
pub struct Loaded {
    /// All texts.
    pub sources: SourceMap,
    /// The blocks of all files.
    pub template: Template,
    /// What is wrong in them.
    pub diags: Diagnostics,
    /// How many of the problems are of the text itself and of the values given from outside. They
    /// stop every command; those behind them leave something to be shown.
    pub early: usize,
}

/// Endings of template files, in the order in which files of a folder are read.
const ENDINGS: [&str; 2] = [".pkr.hcl", ".pkr.json"];
/// Endings of the variable files that a folder's template reads by itself, weakest first.
const AUTO_ENDINGS: [&str; 2] = [".auto.pkrvars.hcl", ".auto.pkrvars.json"];

/// Reads a template: its file, or all files of its folder, and the variable files.
pub fn load(request: &Load, world: &dyn World) -> Loaded {
    let mut reader = Reader { world, sources: SourceMap::new(), diags: Diagnostics::new() };
    let mut bodies = Vec::new();
    let mut var_files = Vec::new();
    let kind = world.file_kind(&request.path);
    let is_folder = kind.as_ref().is_ok_and(|k| *k == FileKind::Directory);
    if written_in(request, is_folder) == TemplateKind::Legacy {
        return reader.legacy(request);
    }
    let root = if let Some(bytes) = request.stdin.clone() {
        if let Some(text) = reader.decoded("<stdin>", bytes) {
            bodies.extend(reader.parse("<stdin>".into(), text));
        }
        PathBuf::from(".")
    } else if is_folder {
        for path in reader.files_with(&request.path, &ENDINGS) {
            bodies.extend(reader.read(&path));
        }
        if bodies.is_empty() && !reader.diags.has_errors() {
            reader.no_files(&request.path);
        }
        for path in reader.files_with(&request.path, &AUTO_ENDINGS) {
            var_files.extend(reader.read_vars(&path));
        }
        request.path.clone()
    } else {
        bodies.extend(reader.read(&request.path));
        match request.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        }
    };
    for path in &request.var_files {
        var_files.extend(reader.read_vars(path));
    }
    let mut diags = reader.diags;
    let mut late = Diagnostics::new();
    let template = Template::decode(&bodies, root, var_files, &mut diags, &mut late);
    let early = diags.len();
    diags.append(late);
    Loaded { sources: reader.sources, template, diags, early }
}

/// The name of a file or folder says what it holds. Of all else it has to be told.
fn written_in(request: &Load, is_folder: bool) -> TemplateKind {
    let name = request.path.to_string_lossy();
    let told = request.stdin.is_none()
        && (is_folder || ENDINGS.iter().any(|ending| name.ends_with(ending)));
    if told { TemplateKind::Hcl } else { request.kind.unwrap_or(TemplateKind::Legacy) }
}

struct Reader<'a> {
    world: &'a dyn World,
    sources: SourceMap,
    diags: Diagnostics,
}

impl Reader<'_> {
    fn files_with(&mut self, folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
        let mut names = match self.world.list_folder(folder) {
            Ok(names) => names,
            Err(error) => {
                let what = format!("Cannot read the folder \"{}\"", folder.display());
                self.diags.push(Diagnostic::error(what).detail(format!("{error}.")));
                return Vec::new();
            }
        };
        names.sort();
        endings
            .iter()
            .flat_map(|ending| {
                names.iter().filter(move |name| name.ends_with(ending)).map(|n| folder.join(n))
            })
            .filter(|path| !self.world.file_kind(path).is_ok_and(|k| k == FileKind::Directory))
            .collect()
    }

    fn no_files(&mut self, folder: &Path) {
        self.diags.push(
            Diagnostic::error(format!("No template in \"{}\"", folder.display()))
                .detail("The folder holds no file whose name ends in .pkr.hcl or .pkr.json.")
                .hint("Name a folder that does, or a template file."),
        );
    }

    /// The text of a legacy template: what is not UTF-8 in it is replaced, as in Packer.
    fn lossy_text(&mut self, path: &Path) -> Option<String> {
        match self.world.read_file(path) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(_) => self.text(path),
        }
    }

    fn text(&mut self, path: &Path) -> Option<String> {
        let what = || format!("Cannot read \"{}\"", path.display());
        let bytes = match self.world.read_file(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.diags.push(Diagnostic::error(what()).detail(format!("{error}.")));
                return None;
            }
        };
        self.decoded(&path.to_string_lossy(), bytes)
    }

    fn decoded(&mut self, name: &str, bytes: Vec<u8>) -> Option<String> {
        self.sources.decode(name, bytes).map_err(|diagnostic| self.diags.push(*diagnostic)).ok()
    }

    /// Reads a legacy template and its variable files.
    fn legacy(mut self, request: &Load) -> Loaded {
        let (name, text) = match &request.stdin {
            Some(bytes) => {
                ("<stdin>".to_owned(), Some(String::from_utf8_lossy(bytes).into_owned()))
            }
            None => (request.path.to_string_lossy().into_owned(), self.lossy_text(&request.path)),
        };
        let mut given = BTreeMap::new();
        let mut template = Template::new(legacy::folder(&request.path, self.world));
        if let Some(text) = text {
            let id = self.sources.add(name.as_str(), text.as_str());
            let (read, mut found) = karat_legacy::parse(id, &text);
            if found.has_errors() {
                found = explained(found, text.trim_start().starts_with(['{', '[']));
            }
            self.diags.append(found);
            for path in &request.var_files {
                let Some(text) = self.text(path) else { continue };
                let name = path.to_string_lossy();
                let id = self.sources.add(&*name, text.as_str());
                legacy::read_file(&name, id, &text, &mut given, &mut self.diags);
            }
            template.legacy = Some(legacy::Source { template: Arc::new(read), given });
        }
        let early = self.diags.len();
        Loaded { sources: self.sources, template, diags: self.diags, early }
    }

    fn read(&mut self, path: &Path) -> Option<Body> {
        let text = self.text(path)?;
        self.parse(path.to_string_lossy().into_owned(), text)
    }

    fn parse(&mut self, name: String, text: String) -> Option<Body> {
        let json = name.ends_with(".json");
        let id = self.sources.add(name, text.as_str());
        let (body, diags) = if json {
            parse_json(id, &text, Strings::Templates)
        } else {
            let (parsed, diags) = parse(id, &text);
            (parsed.body, diags)
        };
        self.diags.append(diags);
        Some(body)
    }

    fn read_vars(&mut self, path: &Path) -> Option<VarFile> {
        let name = path.to_string_lossy().into_owned();
        let json = name.ends_with(".json");
        if !json && !name.ends_with(".hcl") {
            self.diags.push(
                Diagnostic::error("Variable file of an unknown kind")
                    .detail(format!("\"{name}\" ends neither in .hcl nor in .json."))
                    .hint("Name it like values.pkrvars.hcl or values.pkrvars.json."),
            );
            return None;
        }
        let text = self.text(path)?;
        let id = self.sources.add(name.clone(), text.as_str());
        let (body, diags) = if json {
            parse_json(id, &text, Strings::Literal)
        } else {
            let (parsed, diags) = parse(id, &text);
            (parsed.body, diags)
        };
        let sound = !diags.has_errors();
        self.diags.append(diags);
        if let (true, Body::Json(json)) = (sound, &body) {
            if !json.is_object() {
                self.diags.push(
                    Diagnostic::error("Incorrect JSON value type").at(json.span()).detail(
                        "A file of variables is one object, not an array: {\"name\": value}.",
                    ),
                );
                return None;
            }
            self.declares_none(&body);
        }
        let values = body.just_attributes(&mut self.diags);
        Some(VarFile { name, values })
    }

    /// Native syntax tells blocks from values; in JSON what looks like a declaration is one.
    fn declares_none(&mut self, body: &Body) {
        let schema = Schema::new().block("variable", &["name"]);
        let content = body.content(&schema, &mut Diagnostics::new());
        for block in content.blocks_of("variable") {
            self.diags.push(
                Diagnostic::error("Variable declaration in a file of variables")
                    .at(block.header)
                    .detail("Such a file gives values to variables that a .pkr.hcl or .pkr.json file declares."),
            );
        }
    }
}

/// Says first what the text was read as. What is no JSON at all was perhaps meant to be HCL.
fn explained(found: Diagnostics, is_json: bool) -> Diagnostics {
    let mut diags = Diagnostics::new();
    diags.extend(found.into_iter().enumerate().map(|(index, mut diagnostic)| {
        if index > 0 {
            return diagnostic;
        }
        diagnostic.summary =
            format!("Failed to parse file as legacy JSON template: {}", diagnostic.summary);
        if is_json {
            return diagnostic;
        }
        diagnostic.hint("The name of an HCL template ends in .pkr.hcl or .pkr.json.")
    }));
    diags
}

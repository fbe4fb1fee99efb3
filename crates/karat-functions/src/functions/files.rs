//! Functions on files and paths.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use karat_value::{Type, Value};

use super::collections::{fixed, shaped};
use crate::args::{Outcome, fail, fail_at, string, text};
use crate::function::{CallContext, Function, FunctionError, Kind, Param, Place};
use crate::glob;
use crate::paths;
use crate::world::FileKind;

const PATH: Param = Param::new("path", Kind::String);

/// The largest file that a function reads into a value.
const MAX_FILE: usize = 256 << 20;

const fn unrefined(function: Function) -> Function {
    Function { not_null: false, ..function }
}

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    unrefined(fixed(
        "abspath",
        &[PATH],
        Kind::String,
        "Makes a path absolute, from the working folder, and cleans it.",
        &[],
        abspath,
    )),
    unrefined(fixed(
        "basename",
        &[PATH],
        Kind::String,
        "Gives the last element of a path.",
        &[("basename(\"/a/b/c.txt\")", "c.txt")],
        |args, _, _| string(paths::base(text(&args[0]))),
    )),
    unrefined(fixed(
        "dirname",
        &[PATH],
        Kind::String,
        "Gives a path without its last element.",
        &[("dirname(\"/a/b/c.txt\")", "/a/b")],
        |args, _, _| string(paths::dir(text(&args[0]))),
    )),
    unrefined(Function {
        place: Place::VariableDefault,
        ..fixed(
            "env",
            &[Param::new("key", Kind::String)],
            Kind::String,
            "Reads a variable of the environment; empty where there is none. Only in the default of a variable.",
            &[],
            |args, _, cx| string(cx.world().env_var(text(&args[0])).unwrap_or_default()),
        )
    }),
    unrefined(fixed(
        "file",
        &[PATH],
        Kind::String,
        "Reads a file of UTF-8. The path starts at the template's folder; ~ is the home folder.",
        &[],
        |args, _, cx| string(read_text(text(&args[0]), cx)?),
    )),
    fixed(
        "filebase64",
        &[PATH],
        Kind::String,
        "Reads a file of any bytes as Base64. The path starts at the working folder.",
        &[],
        filebase64,
    ),
    unrefined(fixed(
        "fileexists",
        &[PATH],
        Kind::Bool,
        "Tells whether there is a file. A folder or device is an error.",
        &[],
        fileexists,
    )),
    unrefined(fixed(
        "fileset",
        &[PATH, Param::new("pattern", Kind::String)],
        Kind::SetOfString,
        "Lists the files in a folder whose paths match a pattern: ? * [a-z] [^a] {a,b} and ** for any number of folders.",
        &[],
        fileset,
    )),
    unrefined(fixed(
        "pathexpand",
        &[PATH],
        Kind::String,
        "Puts the home folder in place of ~ at the beginning of a path.",
        &[],
        |args, _, cx| string(expand_home(text(&args[0]), cx)?),
    )),
    unrefined(shaped(
        "templatefile",
        &[PATH, Param::new("vars", Kind::Any)],
        |args, cx| match (args[0].is_known(), args[1].is_known()) {
            (true, true) => Ok(templatefile(args, cx)?.ty().clone()),
            _ => Ok(Type::Dynamic),
        },
        "Renders a file as a template with the given variables. The path starts at the template's folder.",
        &[],
        |args, _, cx| templatefile(args, cx),
    )),
];

fn working_folder(cx: &dyn CallContext) -> Result<String, FunctionError> {
    let folder = cx
        .world()
        .working_folder()
        .map_err(|error| FunctionError::new(format!("the working folder is gone: {error}")))?;
    Ok(folder.to_string_lossy().into_owned())
}

fn abspath(args: &[Value], _: &Type, cx: &dyn CallContext) -> Outcome {
    let path = text(&args[0]);
    if path.starts_with('/') {
        return string(paths::clean(path));
    }
    string(paths::join(&[&working_folder(cx)?, path]))
}

/// Puts the home folder in place of a leading `~`.
fn expand_home(path: &str, cx: &dyn CallContext) -> Result<String, FunctionError> {
    let Some(rest) = path.strip_prefix('~') else { return Ok(path.to_owned()) };
    if !rest.is_empty() && !rest.starts_with('/') {
        return fail_at(0, "the home folder of another user cannot be looked up");
    }
    let Some(home) = cx.world().home_folder() else {
        return fail_at(0, "there is no home folder to put in place of ~");
    };
    Ok(paths::join(&[&home.to_string_lossy(), rest]))
}

/// The path that `file` and its kin mean.
fn from_root(path: &str, cx: &dyn CallContext) -> Result<String, FunctionError> {
    let path = expand_home(path, cx)?;
    if path.starts_with('/') {
        return Ok(paths::clean(&path));
    }
    Ok(paths::clean(&paths::join(&[&cx.root().to_string_lossy(), &path])))
}

fn read(path: &str, cx: &dyn CallContext) -> Result<Vec<u8>, FunctionError> {
    match cx.world().read_file(Path::new(path)) {
        Ok(bytes) if bytes.len() > MAX_FILE => {
            fail_at(0, format!("{path} is larger than {} MiB", MAX_FILE >> 20))
        }
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fail_at(0, format!("there is no file {path}"))
        }
        Err(error) => fail_at(0, format!("cannot read {path}: {error}")),
    }
}

fn read_text(path: &str, cx: &dyn CallContext) -> Result<String, FunctionError> {
    let bytes = read(&from_root(path, cx)?, cx)?;
    String::from_utf8(bytes).map_err(|_| {
        FunctionError::argument(0, format!("{path} is not UTF-8; filebase64 reads any bytes"))
    })
}

fn filebase64(args: &[Value], _: &Type, cx: &dyn CallContext) -> Outcome {
    string(BASE64_STANDARD.encode(read(text(&args[0]), cx)?))
}

fn fileexists(args: &[Value], _: &Type, cx: &dyn CallContext) -> Outcome {
    let path = from_root(text(&args[0]), cx)?;
    match cx.world().file_kind(Path::new(&path)) {
        Ok(FileKind::Regular) => Ok(Value::bool(true)),
        Ok(FileKind::Directory) => fail_at(0, format!("{path} is a folder, not a file")),
        Ok(FileKind::Other) => fail_at(0, format!("{path} is a device, socket or pipe")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Value::bool(false)),
        Err(error) => fail_at(0, format!("cannot look at {path}: {error}")),
    }
}

fn fileset(args: &[Value], ty: &Type, cx: &dyn CallContext) -> Outcome {
    let path = text(&args[0]);
    let folder = if path.starts_with('/') {
        path.to_owned()
    } else {
        paths::join(&[&cx.root().to_string_lossy(), path])
    };
    let pattern = paths::join(&[&folder, text(&args[1])]);
    let found = glob::glob(&pattern, cx.world())
        .map_err(|error| FunctionError::argument(1, error.to_string()))?;
    let mut files = Vec::new();
    for file in found {
        match cx.world().file_kind(Path::new(&file)) {
            Ok(FileKind::Regular) => {}
            Ok(_) => continue,
            Err(error) => return fail(format!("cannot look at {file}: {error}")),
        }
        let Some(relative) = paths::relative(&folder, &file) else {
            return fail(format!("{file} is not under {folder}"));
        };
        files.push(Value::string(relative));
    }
    Ok(super::collections::sequence(ty, files))
}

fn templatefile(args: &[Value], cx: &dyn CallContext) -> Outcome {
    let path = text(&args[0]);
    let source = read_text(path, cx)?;
    if !args[1].ty().is_mapping() {
        return fail_at(1, "the variables must be a map or an object");
    }
    cx.render_template(path, &source, &args[1])
}

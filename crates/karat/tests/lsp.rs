//! `karat lsp` as an editor sees it: a session over the standard input and output.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

const MAIN: &str = r#"variable "region" {
  type        = string
  default     = "tokyo"
  description = "Where it is built."
}

locals {
  name = "web-${var.region}"
}

data "http" "version" {
  url = "https://example.com/version"
}

source "file" "page" {
  content = "😀 ${local.name} ${data.http.version.body}"
  target  = upper("a")
}

build {
  sources = ["source.file.page"]

  provisioner "shell-local" {
    inline = ["true"]
  }
}
"#;

struct Editor {
    folder: tempfile::TempDir,
    server: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next: u64,
    /// What the server said of its own accord.
    told: Vec<Value>,
}

impl Editor {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Command::new(env!("CARGO_BIN_EXE_karat"))
            .args(["lsp", "--stdio"])
            .env_clear()
            .env("HOME", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = server.stdin.take().unwrap();
        let output = BufReader::new(server.stdout.take().unwrap());
        let mut editor = Self { folder, server, input, output, next: 0, told: Vec::new() };
        let root = editor.uri("");
        let found = editor.ask("initialize", &json!({ "capabilities": {}, "rootUri": root }));
        assert_eq!(found["serverInfo"]["name"], "karat");
        assert_eq!(found["capabilities"]["hoverProvider"], true);
        editor.tell("initialized", &json!({}));
        editor
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn uri(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        self.input.flush().unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the server went away");
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", n)) => length = n.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn tell(&mut self, method: &str, params: &Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.receive();
            if message["id"] == id {
                assert!(message.get("error").is_none(), "{message}");
                return message["result"].clone();
            }
            self.told.push(message);
        }
    }

    fn open(&mut self, name: &str, text: &str) {
        let document = json!({
            "uri": self.uri(name), "languageId": "hcl", "version": 1, "text": text,
        });
        self.tell("textDocument/didOpen", &json!({ "textDocument": document }));
    }

    fn change(&mut self, name: &str, text: &str) {
        let params = json!({
            "textDocument": { "uri": self.uri(name), "version": 2 },
            "contentChanges": [{ "text": text }],
        });
        self.tell("textDocument/didChange", &params);
    }

    /// The next problems that the server tells of a file.
    fn problems(&mut self, name: &str) -> Vec<Value> {
        let uri = self.uri(name);
        let of_file = |message: &Value| {
            message["method"] == "textDocument/publishDiagnostics"
                && message["params"]["uri"] == *uri
        };
        let message = match self.told.iter().position(of_file) {
            Some(place) => self.told.remove(place),
            None => loop {
                let message = self.receive();
                if of_file(&message) {
                    break message;
                }
                self.told.push(message);
            },
        };
        message["params"]["diagnostics"].as_array().unwrap().clone()
    }

    /// Asks about the place right behind `before` in a text.
    fn at(&mut self, method: &str, name: &str, text: &str, before: &str) -> Value {
        let offset = text.find(before).unwrap() + before.len();
        let line = text[..offset].matches('\n').count();
        let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let character = text[start..offset].encode_utf16().count();
        let params = json!({
            "textDocument": { "uri": self.uri(name) },
            "position": { "line": line, "character": character },
        });
        self.ask(&format!("textDocument/{method}"), &params)
    }

    fn labels(&mut self, name: &str, text: &str, before: &str) -> Vec<String> {
        let found = self.at("completion", name, text, before);
        let items = found.as_array().unwrap();
        items.iter().map(|item| item["label"].as_str().unwrap().to_owned()).collect()
    }

    fn hover(&mut self, text: &str, before: &str) -> String {
        let found = self.at("hover", "main.pkr.hcl", text, before);
        found["contents"]["value"].as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        // A test that failed leaves it running otherwise.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn problems_come_and_go_while_one_types() {
    let mut editor = Editor::new();
    editor.open("main.pkr.hcl", MAIN);
    assert_eq!(editor.problems("main.pkr.hcl"), Vec::<Value>::new());
    let wrong = MAIN.replace("inline =", "inlin =");
    editor.change("main.pkr.hcl", &wrong);
    let found = editor.problems("main.pkr.hcl");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["severity"], 1);
    assert_eq!(found[0]["range"]["start"], json!({ "line": 23, "character": 4 }));
    assert_eq!(found[0]["range"]["end"], json!({ "line": 23, "character": 9 }));
    let message = found[0]["message"].as_str().unwrap();
    assert!(message.contains("Did you mean \"inline\"?"), "{message}");
    // A text that ends in the middle.
    editor.change("main.pkr.hcl", &MAIN[..MAIN.len() - 20]);
    assert!(!editor.problems("main.pkr.hcl").is_empty());
    editor.change("main.pkr.hcl", MAIN);
    assert_eq!(editor.problems("main.pkr.hcl"), Vec::<Value>::new());
}

#[test]
fn files_of_a_folder_belong_together() {
    let mut editor = Editor::new();
    let (head, tail) = MAIN.split_at(MAIN.find("source ").unwrap());
    std::fs::write(editor.path("variables.pkr.hcl"), head).unwrap();
    editor.open("main.pkr.hcl", tail);
    assert_eq!(editor.problems("main.pkr.hcl"), Vec::<Value>::new());
    // It is changed in the editor, and not saved.
    editor.open("variables.pkr.hcl", &head.replace("name = ", "nam = "));
    let found = editor.problems("main.pkr.hcl");
    assert!(found[0]["message"].as_str().unwrap().contains("named \"name\""), "{found:?}");
    let found = editor.at("definition", "main.pkr.hcl", tail, "data.http.ver");
    assert!(found["uri"].as_str().unwrap().ends_with("/variables.pkr.hcl"), "{found}");
    assert_eq!(found["range"]["start"]["line"], 10);
    // Two templates side by side, each whole by itself.
    editor.open("other.pkr.hcl", MAIN);
    editor.change("variables.pkr.hcl", "");
    editor.change("main.pkr.hcl", MAIN);
    let found = editor.problems("main.pkr.hcl");
    assert_eq!(found, Vec::<Value>::new());
}

#[test]
fn values_of_variables_are_files_of_their_own() {
    let mut editor = Editor::new();
    editor.open("a.pkrvars.hcl", "region = \n");
    let found = editor.problems("a.pkrvars.hcl");
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn places_are_explained() {
    let mut editor = Editor::new();
    editor.open("main.pkr.hcl", MAIN);
    for (before, wanted) in [
        ("  targ", "**`target`** (string, required)"),
        ("source \"fi", "**source `file`**"),
        ("provisioner \"shell", "**provisioner `shell-local`**"),
        ("= upp", "upper("),
        ("${local.na", "local.name = \"web-${var.region}\""),
        ("web-${var.reg", "var.region: string = \"tokyo\""),
        ("web-${var.reg", "Where it is built."),
        ("variabl", "A value that is given from outside."),
        ("  descr", "What it is for."),
        ("\"source.file", "source \"file\" \"page\""),
        ("  inl", "**`inline`**"),
    ] {
        let text = editor.hover(MAIN, before);
        assert!(text.contains(wanted), "{before}: {text}");
    }
}

#[test]
fn what_can_be_written_is_offered() {
    let mut editor = Editor::new();
    editor.open("main.pkr.hcl", MAIN);
    let mut check = |from: &str, to: &str, before: &str, wanted: &[&str], not: &[&str]| {
        let text = MAIN.replace(from, to);
        assert_ne!(text, MAIN, "{from}");
        editor.change("main.pkr.hcl", &text);
        let labels = editor.labels("main.pkr.hcl", &text, before);
        for name in wanted {
            assert!(labels.iter().any(|l| l == name), "{to}: {name} not in {labels:?}");
        }
        for name in not {
            assert!(!labels.iter().any(|l| l == name), "{to}: {name} in {labels:?}");
        }
    };
    check("locals {", "loc\nlocals {", "\nloc", &["locals", "source", "build"], &["sources"]);
    check("  inline", "  env\n  inline", "  env", &["environment_vars", "only"], &["inline"]);
    check("${local.name}", "${local.}", "${local.", &["name"], &["region"]);
    check("${local.name}", "${va}", "${va", &["var", "values", "upper"], &[]);
    check(".version.body", ".", "${data.http.", &["version"], &[]);
    check(".version.body", ".version.", "http.version.", &["body", "url"], &[]);
    check("source \"file\"", "source \"\"", "source \"", &["file", "null"], &["shell"]);
    check("\"source.file.page\"", "\"\"", "sources = [\"", &["source.file.page"], &[]);
    check("\"shell-local\"", "\"\"", "provisioner \"", &["shell"], &["null"]);
    check("  type  ", "  val\n  type  ", "  val", &["validation", "sensitive"], &["default"]);
}

#[test]
fn what_is_named_is_found_and_renamed_everywhere() {
    let mut editor = Editor::new();
    let (head, tail) = MAIN.split_at(MAIN.find("source ").unwrap());
    std::fs::write(editor.path("variables.pkr.hcl"), head).unwrap();
    std::fs::write(editor.path("a.auto.pkrvars.hcl"), "region = \"osaka\"\n").unwrap();
    editor.open("main.pkr.hcl", tail);
    editor.open("variables.pkr.hcl", head);
    let params = |editor: &mut Editor, method: &str, name: &str, text: &str, before: &str| {
        let offset = text.find(before).unwrap() + before.len();
        let line = text[..offset].matches('\n').count();
        let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let character = text[start..offset].encode_utf16().count();
        let params = json!({
            "textDocument": { "uri": editor.uri(name) },
            "position": { "line": line, "character": character },
            "context": { "includeDeclaration": true },
            "newName": "area",
        });
        editor.ask(&format!("textDocument/{method}"), &params)
    };
    let found = params(&mut editor, "references", "main.pkr.hcl", tail, "${local.na");
    let lines: Vec<String> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|at| {
            let file = at["uri"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            let start = &at["range"]["start"];
            format!("{file}:{}:{}", start["line"], start["character"])
        })
        .collect();
    assert_eq!(lines, ["main.pkr.hcl:1:24", "variables.pkr.hcl:7:2"]);

    let variable = "variable \"reg";
    let prepared = params(&mut editor, "prepareRename", "variables.pkr.hcl", head, variable);
    assert_eq!(prepared["placeholder"], "region");
    assert_eq!(prepared["range"]["start"], json!({ "line": 0, "character": 10 }));
    let renamed = params(&mut editor, "rename", "variables.pkr.hcl", head, variable);
    let changes = renamed["changes"].as_object().unwrap();
    let of = |name: &str| changes[&editor.uri(name)].as_array().unwrap().len();
    assert_eq!((of("variables.pkr.hcl"), of("a.auto.pkrvars.hcl")), (2, 1));
    assert_eq!(changes.len(), 2);
    assert!(changes.values().flat_map(|v| v.as_array().unwrap()).all(|e| e["newText"] == "area"));
    // There is nothing to be renamed in a text.
    let nothing = params(&mut editor, "prepareRename", "main.pkr.hcl", tail, "upper(\"a");
    assert_eq!(nothing, Value::Null);
}

#[test]
fn a_document_has_an_outline_and_is_formatted() {
    let mut editor = Editor::new();
    let crooked = MAIN.replace("  content = ", "  content=");
    editor.open("main.pkr.hcl", &crooked);
    let document = json!({ "textDocument": { "uri": editor.uri("main.pkr.hcl") } });
    let symbols = editor.ask("textDocument/documentSymbol", &document);
    let names: Vec<&str> =
        symbols.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["variable region", "locals", "data http version", "source file page", "build"]
    );
    assert_eq!(symbols[4]["children"][1]["name"], "provisioner shell-local");
    let mut format = document;
    format["options"] = json!({ "tabSize": 2, "insertSpaces": true });
    let edits = editor.ask("textDocument/formatting", &format);
    assert_eq!(edits[0]["newText"], MAIN);
    assert_eq!(edits[0]["range"]["start"], json!({ "line": 0, "character": 0 }));
}

#[test]
fn it_ends_when_it_is_told_to() {
    let mut editor = Editor::new();
    assert_eq!(editor.ask("shutdown", &Value::Null), Value::Null);
    editor.tell("exit", &Value::Null);
    assert!(editor.server.wait().unwrap().success());
}

#[test]
fn hostile_places_are_no_trouble() {
    let mut editor = Editor::new();
    editor.open("main.pkr.hcl", MAIN);
    for (line, character) in [(0, 0), (999, 0), (0, 999), (14, 14), (14, 15), (u32::MAX, u32::MAX)]
    {
        for method in ["hover", "completion", "definition"] {
            let params = json!({
                "textDocument": { "uri": editor.uri("main.pkr.hcl") },
                "position": { "line": line, "character": character },
            });
            editor.ask(&format!("textDocument/{method}"), &params);
        }
    }
    let nowhere = json!({ "uri": format!("file://{}", Path::new("/none.pkr.hcl").display()) });
    let found = editor.ask("textDocument/documentSymbol", &json!({ "textDocument": nowhere }));
    assert_eq!(found, Value::Null);
}

//! Secrets show nowhere: in no output of any command, no log, no file of the state folder, no
//! manifest; neither plain nor in pieces, quotes or base64.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Two lines, with all that other forms write in other ways.
const SECRET: &str = "pass\"word,one\\with é\nand-a-second-line-of-it";
/// What must not be found anywhere: parts that every form of the secret leaves as they are.
const NEEDLES: [&str; 4] =
    ["word,one", "word%!(PACKER_COMMA)one", "and-a-second", "second-line-of"];

const TEMPLATE: &str = r#"
variable "secret" {
  type      = string
  sensitive = true
}

variable "plain" {
  default     = "x"
  description = "pass\"word,one\\with é"
}

local "made" {
  expression = "of-${var.secret}"
  sensitive  = true
}

locals {
  within = { list = ["a ${var.secret} b"], coded = base64encode("x${var.secret}y") }
}

source "null" "a" {
  communicator = "none"
}

source "file" "b" {
  content = "holds ${var.secret}"
  target  = "out.txt"
}

build {
  name    = "one"
  sources = ["null.a", "file.b"]

  provisioner "shell-local" {
    environment_vars = ["TOKEN=${var.secret}"]
    inline = [
      "echo it is \"$TOKEN\"",
      "printf '%s' \"$TOKEN\" | head -c 7; sleep 0.1; printf '%s' \"$TOKEN\" | tail -c +8; echo",
      "printf '%s' \"$TOKEN\" | base64",
      "printf 'x%s' \"$TOKEN\" | base64 -w0; echo",
      "printf 'xy%s and more' \"$TOKEN\" | base64; echo",
      "echo to stderr: \"$TOKEN\" >&2",
      "exit ${var.plain == "fail" ? 3 : 0}",
    ]
  }

  post-processor "manifest" {
    custom_data = { note = "with ${var.secret}", coded = base64encode(var.secret) }
  }
}
"#;

struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("t.pkr.hcl"), TEMPLATE).unwrap();
        Self { folder }
    }

    /// What the program prints to both outputs.
    fn karat(&self, args: &[&str], stdin: &str) -> String {
        let path = self.folder.path();
        fs::write(path.join("stdin"), stdin).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_karat"))
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", path)
            .env("PKR_VAR_secret", SECRET)
            .env("PACKER_LOG", "1")
            .env("KARAT_LOG", "trace")
            .env("PACKER_LOG_PATH", path.join("log"))
            .env("KARAT_STATE_DIR", path.join("state"))
            .env("KARAT_CACHE_DIR", path.join("cache"))
            .current_dir(path)
            .stdin(fs::File::open(path.join("stdin")).unwrap())
            .output()
            .unwrap();
        let both = [output.stdout, output.stderr].concat();
        assert_clean(&format!("output of {args:?}"), &both);
        String::from_utf8(both).unwrap()
    }

    /// Everything that was written, but for what the template itself made.
    fn assert_files_clean(&self) {
        let own = ["t.pkr.hcl", "out.txt", "stdin"];
        let mut pending = vec![self.folder.path().to_owned()];
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                if path.is_dir() {
                    pending.push(path);
                } else if !own.iter().any(|o| Path::new(o) == Path::new(&name)) {
                    assert_clean(&path.display().to_string(), &fs::read(&path).unwrap());
                }
            }
        }
    }
}

/// Neither parts of the secret nor longer pieces of its base64 are there.
fn assert_clean(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for needle in NEEDLES {
        assert!(!text.contains(needle), "{what} has \"{needle}\":\n{text}");
    }
    for lead in ["", "x", "xy"] {
        let coded = STANDARD.encode(format!("{lead}{SECRET}"));
        for piece in coded.as_bytes()[4..coded.len() - 4].chunks(12).filter(|p| p.len() == 12) {
            let piece = std::str::from_utf8(piece).unwrap();
            assert!(!text.contains(piece), "{what} has base64 \"{piece}\":\n{text}");
        }
    }
}

#[test]
fn no_command_shows_a_secret() {
    let lab = Lab::new();
    let shown = lab.karat(&["inspect", "t.pkr.hcl"], "");
    assert!(shown.contains("var.secret: \"<sensitive>"), "{shown}");
    for args in [
        &["inspect", "-machine-readable", "t.pkr.hcl"][..],
        &["inspect", "--json", "t.pkr.hcl"],
        &["validate", "t.pkr.hcl"],
        &["validate", "-var", "secret=[1", "-var", "nosuch=1", "t.pkr.hcl"],
        &["plan", "t.pkr.hcl"],
        &["plan", "--json", "--inputs", "t.pkr.hcl"],
    ] {
        lab.karat(args, "");
    }
    let json = lab.karat(&["inspect", "--json", "t.pkr.hcl"], "");
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
    let lines = "var.secret\n[var.secret]\nlocal.made\nlocal.within\njsonencode(local.within)\n\
                 upper(var.secret)\nvar\nvariables\nbase64encode(\"ab${var.secret}\")\n\
                 substr(var.secret, 0, 12)\nnosuch(var.secret)\nvar.secret.x\n";
    let shown = lab.karat(&["console", "t.pkr.hcl"], lines);
    assert!(shown.contains("<sensitive>"), "{shown}");
    lab.karat(&["console", "-machine-readable", "t.pkr.hcl"], lines);
    lab.assert_files_clean();
}

#[test]
fn no_build_shows_or_keeps_a_secret() {
    let lab = Lab::new();
    let shown = lab.karat(&["build", "-timestamp-ui", "t.pkr.hcl"], "");
    assert!(shown.contains("it is <sensitive>"), "{shown}");
    assert!(shown.contains("finished after"), "{shown}");
    for format in ["-machine-readable", "--json"] {
        lab.karat(&["build", "-force", format, "t.pkr.hcl"], "");
        let failed = lab.karat(&["build", "-force", "-var", "plain=fail", format, "t.pkr.hcl"], "");
        assert!(failed.contains("exit status: 3"), "{failed}");
    }
    lab.karat(&["build", "-force", "-var", &format!("secret={SECRET}"), "t.pkr.hcl"], "");
    lab.karat(&["build", "-force", "-debug", "t.pkr.hcl"], "\n\n\n\n\n\n");
    for args in [&["logs"][..], &["logs", "--json"], &["runs"], &["runs", "--json"]] {
        lab.karat(args, "");
    }
    assert!(lab.folder.path().join("packer-manifest.json").exists());
    assert!(lab.folder.path().join("log").exists());
    lab.assert_files_clean();
}

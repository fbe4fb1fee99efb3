//! Whole runs of the program against moto, led there by the environment alone.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// As a guide has it, less logging in, which moto's machines cannot.
const TEMPLATE: &str = r#"
variable "name" {
  default = "golden"
}

data "amazon-ami" "ubuntu" {
  filters = {
    name             = "ubuntu/images/*"
    root-device-type = "ebs"
  }
  most_recent = true
  owners      = ["099720109477"]
}

source "amazon-ebs" "web" {
  ami_name      = var.name
  ami_regions   = ["us-west-2"]
  instance_type = "t3.medium"
  source_ami    = data.amazon-ami.ubuntu.id
  communicator  = "none"

  temporary_iam_instance_profile_policy_document {
    Statement {
      Action   = ["s3:GetObject"]
      Resource = ["*"]
    }
  }

  tags = {
    Name = "${var.name} of {{ .SourceAMIName }}"
  }
  tag {
    key   = "OS"
    value = "Ubuntu"
  }
}

build {
  sources = ["source.amazon-ebs.web"]

  provisioner "shell-local" {
    inline = ["echo from ${build.SourceAMI} in ${build.BuildRegion}: ${build.ID}"]
  }

  post-processor "manifest" {
    output = "manifest.json"
  }
}
"#;

struct Place {
    server: Child,
    python: PathBuf,
    address: String,
    folder: tempfile::TempDir,
}

impl Place {
    /// `None`, with a word about it, where `KARAT_MOTO` does not name a Python that has moto.
    fn new() -> Option<Self> {
        let Some(python) = std::env::var_os("KARAT_MOTO") else {
            let why = "skipped: KARAT_MOTO does not name a python that has moto";
            let _ = writeln!(std::io::stderr(), "{why}");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../karat-aws/tests/it/server.py");
        let mut server = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
        assert!(!port.trim().is_empty(), "moto did not start");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("main.pkr.hcl"), TEMPLATE).unwrap();
        let address = format!("http://127.0.0.1:{}", port.trim());
        Some(Self { server, python: python.into(), address, folder })
    }

    fn set<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("AWS_ENDPOINT_URL", &self.address)
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("NO_COLOR", "1")
            .env("KARAT_STATE_DIR", self.folder.path().join("state"))
            .env("KARAT_CACHE_DIR", self.folder.path().join("cache"))
            .current_dir(self.folder.path())
    }

    fn karat(&self, args: &[&str], faults: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_karat"));
        self.set(command.args(args)).env("KARAT_FAULT", faults).output().unwrap()
    }

    /// What is left, as an independent client sees it.
    fn left(&self, images: bool) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aws_audit.py");
        let mut command = Command::new(&self.python);
        command.arg(script);
        if images {
            command.arg("--images");
        }
        let output =
            self.set(&mut command).env("AWS_DEFAULT_REGION", "us-east-1").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn a_template_becomes_images_in_two_regions() {
    let Some(place) = Place::new() else { return };
    let valid = place.karat(&["validate", "."], "");
    assert!(valid.status.success(), "{}", text(&valid));
    let built = place.karat(&["build", "."], "");
    let said = text(&built);
    assert!(built.status.success(), "{said}");
    for part in ["AMIs were created:", "us-east-1: ami-", "us-west-2: ami-", "in us-east-1: i-"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let manifest = std::fs::read_to_string(place.folder.path().join("manifest.json")).unwrap();
    assert!(manifest.contains("us-east-1:ami-"), "{manifest}");
    assert_eq!(place.left(false), "", "{said}");
    let left = place.left(true);
    assert_eq!(left.matches("image golden").count(), 2, "{left}");
}

#[test]
fn what_a_killed_build_left_is_recovered() {
    let Some(place) = Place::new() else { return };
    for point in [
        "group:effect",
        "profile:effect",
        "instance:started",
        "instance:effect",
        "provision:effect",
        "stop:after",
        "image:made",
        "image:effect",
        "copy-us-west-2:effect",
        "copies:after",
        "publish:effect",
    ] {
        let killed = place.karat(&["build", "."], &format!("kill@{point}"));
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", text(&killed));
        assert_ne!(place.left(true), "", "{point}: nothing was there to be recovered");
        let recovered = place.karat(&["recover"], "");
        assert!(recovered.status.success(), "{point}: {}", text(&recovered));
        assert_eq!(place.left(true), "", "{point}: {}", text(&recovered));
    }
}

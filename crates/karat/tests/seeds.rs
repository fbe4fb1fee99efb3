//! Listings of a guide, as whole templates: they are read and evaluated with ids filled in, and of
//! components that are not there nothing else is said than that.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What a listing takes for granted.
const AROUND: &str = r#"
variable "environment" {
  default = "test"
}
variable "app_version" {
  default = "1.2.3"
}
"#;
const SOURCE: &str = r#"
source "null" "stub" {
  communicator = "none"
}
"#;
const DATA: &str = r#"
data "amazon-ami" "ubuntu" {
  filters     = { name = "ubuntu/images/*" }
  owners      = ["099720109477"]
  most_recent = true
}
"#;
/// What a listing leaves out of a source.
const REST: &str = r#"
  ami_name     = "web"
  source_ami   = "ami-0123456789abcdef0"
  ssh_username = "ubuntu"
"#;
/// Ids that a listing leaves to its readers.
const IDS: &[(&str, &str)] = &[
    ("ACCOUNT_ID", "123456789012"),
    ("ACCOUNT", "123456789012"),
    ("KEY_ID", "1234abcd-12ab-34cd-56ef-1234567890ab"),
    ("KEY1", "1234abcd-12ab-34cd-56ef-1234567890ab"),
    ("KEY2", "mrk-1234abcd12ab34cd56ef1234567890ab"),
    ("KEY3", "1234abcd-12ab-34cd-56ef-1234567890ac"),
    ("KEY4", "1234abcd-12ab-34cd-56ef-1234567890ad"),
];
/// Files that the listings name.
const FILES: &[&str] = &[
    "scripts/install-dependencies.sh",
    "scripts/security-hardening.sh",
    "scripts/cis-benchmark.sh",
    "scripts/setup.sh",
    "scripts/root-operations.sh",
    "config/app.conf",
    "ansible/playbook.yml",
];

fn listing(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/seeds");
    let text = std::fs::read_to_string(folder.join(format!("{name}.pkr.hcl"))).unwrap();
    IDS.iter().fold(text, |text, (left_out, id)| text.replace(left_out, id))
}

/// A folder with a template and the files that the listings name.
fn folder(template: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        let path: PathBuf = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "true\n").unwrap();
    }
    std::fs::write(folder.path().join("main.pkr.hcl"), template).unwrap();
    folder
}

fn karat(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_karat"))
        .args(args)
        .env("NO_COLOR", "1")
        .env("KARAT_STATE_DIR", folder.join("state"))
        .env("KARAT_CACHE_DIR", folder.join("cache"))
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Validates a template and compares the summaries of all errors.
#[track_caller]
fn check(template: &str, errors: &[&str]) {
    let folder = folder(template);
    for args in [["validate", "-syntax-only", "."].as_slice(), &["inspect", "."]] {
        let output = karat(folder.path(), args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = karat(folder.path(), &["validate", "."]);
    let text = String::from_utf8(output.stderr).unwrap();
    let found: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("Error: ")).collect();
    assert_eq!(found, errors, "{text}");
    assert_eq!(output.status.success(), errors.is_empty(), "{text}");
}

/// A provisioner of a build.
#[track_caller]
fn check_provisioner(name: &str, errors: &[&str]) {
    let inside = listing(name);
    let build = format!("build {{\n  sources = [\"source.null.stub\"]\n{inside}}}\n");
    check(&format!("{AROUND}{SOURCE}{build}"), errors);
}

#[test]
fn provisioners() {
    for name in ["shell-inline", "shell-script", "shell-elevated", "file", "aws-agents"] {
        check_provisioner(name, &[]);
    }
    check_provisioner("ansible", &["Unknown provisioner type \"ansible\""]);
    check_provisioner("chef-solo", &["Unknown provisioner type \"chef-solo\""]);
    check_provisioner("inspec", &["Unknown provisioner type \"inspec\""]);
}

#[test]
fn whole_templates() {
    check(&listing("template"), &["Unknown provisioner type \"ansible\""]);
    let named =
        REST.lines().filter(|line| !line.contains("ami_name")).collect::<Vec<_>>().join("\n");
    check(&listing("parallel").replace("# ... configuration", &named), &[]);
    let build = |name: &str| format!("build {{\n  sources = [\"source.amazon-ebs.{name}\"]\n}}\n");
    let multi = format!("{DATA}{}{}", listing("multi-region"), build("multi_region"));
    check(&multi, &[]);
    let spot = listing("spot").replace("# ... rest of configuration", REST);
    check(&format!("{spot}{}", build("spot")), &[]);
    let null = "build {\n  sources = [\"source.null.stub\"]\n}\n";
    check(&format!("{}{SOURCE}{null}", listing("registry")), &[]);
}

#[test]
fn variables_with_rules() {
    let null = "build {\n  sources = [\"source.null.stub\"]\n}\n";
    let folder = folder(&format!("{}{SOURCE}{null}", listing("variables")));
    let validate = |vars: &[&str]| {
        let vars = vars.iter().flat_map(|v| ["-var", v]);
        let args: Vec<&str> = std::iter::once("validate").chain(vars).chain(["."]).collect();
        let output = karat(folder.path(), &args);
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let given = ["aws_region=us-west-2", "instance_type=t3.large", "app_version=1.2.3"];
    assert_eq!(validate(&given), (true, String::new()));
    let (valid, text) = validate(&["instance_type=t2.micro", "app_version=1.2"]);
    assert!(!valid);
    for part in [
        "Instance type must be t3.small, t3.medium, or t3.large.",
        "App version must be semantic version (e.g., 1.2.3).",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let (valid, text) = validate(&[]);
    assert!(!valid);
    assert_eq!(text.matches("Error: Unset variable").count(), 2, "{text}");
}

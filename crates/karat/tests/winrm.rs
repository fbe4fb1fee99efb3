//! A machine that is reached over WinRM, through the program: files both ways, a script, and a
//! password that shows nowhere.

use std::process::Command;

use karat_testing::winrm::{PASSWORD, USER, Winrm};

const TEMPLATE: &str = r#"
variable "password" {
  type      = string
  sensitive = true
}

source "null" "windows" {
  communicator     = "winrm"
  winrm_username   = "USER"
  winrm_password   = var.password
  winrm_host       = "127.0.0.1"
  winrm_port       = PORT
  winrm_no_proxy   = true
  winrm_use_ntlm   = true
}

build {
  sources = ["source.null.windows"]

  provisioner "file" {
    source      = "site"
    destination = "C:/inetpub"
  }
  provisioner "file" {
    content     = "made by ${build.User} at ${build.Host}:${build.Port} over ${build.ConnType}"
    destination = "$env:TEMP/made.txt"
  }
  provisioner "shell" {
    inline          = ["echo the script is run", "echo 'the password is ${build.Password}'"]
    remote_path     = "C:/Windows/Temp/script.sh"
    execute_command = "sh ${var.place}"
  }
  provisioner "file" {
    direction   = "download"
    source      = "C:/inetpub/site/"
    destination = "back"
  }
}

variable "place" {
  type = string
}
"#;

#[test]
fn files_and_scripts_reach_the_machine_and_the_password_stays_secret() {
    let server = Winrm::start("ntlm").unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("site/deep")).unwrap();
    std::fs::write(folder.path().join("site/deep/index.html"), "<h1>ü</h1>\n").unwrap();
    let template = TEMPLATE.replace("USER", USER).replace("PORT", &server.port().to_string());
    std::fs::write(folder.path().join("t.pkr.hcl"), template).unwrap();
    let run = |args: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_karat"))
            .args(args)
            .current_dir(folder.path())
            .env("KARAT_STATE_DIR", folder.path().join("state"))
            .env("KARAT_CACHE_DIR", folder.path().join("cache"))
            .env("PKR_VAR_password", PASSWORD)
            .env("PKR_VAR_place", server.place("Windows/Temp/script.sh"))
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let text = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        (done.status.success(), text)
    };
    let (valid, said) = run(&["validate", "t.pkr.hcl"]);
    assert!(valid, "{said}");
    let (built, said) = run(&["build", "t.pkr.hcl"]);
    assert!(built, "{said}");
    assert!(said.contains("null.windows: the script is run\n"), "{said}");
    assert!(said.contains("the password is <sensitive>"), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    let there = |path: &str| std::fs::read_to_string(server.place(path)).unwrap();
    assert_eq!(there("inetpub/site/deep/index.html"), "<h1>ü</h1>\n");
    let made = format!("made by {USER} at 127.0.0.1:{} over winrm", server.port());
    assert_eq!(there("Windows/Temp/made.txt"), made);
    assert!(!server.place("Windows/Temp/script.sh").exists());
    let back = std::fs::read_to_string(folder.path().join("back/deep/index.html")).unwrap();
    assert_eq!(back, "<h1>ü</h1>\n");
    let (_, logs) = run(&["runs"]);
    assert!(!logs.contains(PASSWORD), "{logs}");
}

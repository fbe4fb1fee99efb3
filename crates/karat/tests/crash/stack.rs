//! Layers upon layers: what a build sees is what the uppermost of them says, and the same input
//! gives the same bytes.

use crate::lab::{Lab, alone, is_root, text};

/// Each build changes what the one below it wrote, and removes what the one below that added.
const TEMPLATE: &str = r#"
source "machine" "first" {
  packages    = ["linux-image-cloud-amd64"]
  disk_format = "none"
}

source "machine" "second" {
  from        = artifact.bottom.machine.first.layer
  disk_format = "none"
}

source "machine" "third" {
  from        = artifact.middle.machine.second.layer
  disk_format = "none"
}

build {
  name    = "bottom"
  sources = ["machine.first"]
  provisioner "shell" {
    inline = ["echo one >/etc/who", "mkdir /srv/old", "touch /srv/old/file /srv/gone"]
  }
}

build {
  name    = "middle"
  sources = ["machine.second"]
  provisioner "shell" {
    inline = ["cat /etc/who", "echo two >/etc/who", "rm -r /srv/old /srv/gone", "mkdir /srv/old"]
  }
}

build {
  name    = "top"
  sources = ["machine.third"]
  provisioner "shell" {
    inline = ["echo who: $(cat /etc/who), srv: $(cd /srv; find . | sort | tr '\\n' ' ')"]
  }
}
"#;

#[test]
fn an_upper_layer_hides_what_lower_ones_say() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    lab.template(TEMPLATE);
    let output = lab.output(&["build", "t.pkr.hcl"]);
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("top.machine.third: who: two, srv: . ./old\n"), "{said}");
}

/// A disk that is the same each time, and a layer on it that is not.
const TWICE: &str = r#"
source "machine" "same" {
  packages         = ["linux-image-cloud-amd64"]
  disk_format      = "raw"
  disk_free        = "16M"
  firmware         = "bios"
  output_directory = "${path.root}/out"
}

source "machine" "other" {
  from        = artifact.bottom.machine.same.layer
  disk_format = "none"
}

build {
  name    = "bottom"
  sources = ["machine.same"]
  provisioner "shell" {
    inline = ["date >/var/log/when.log", "echo one >/etc/who"]
  }
}

build {
  name    = "top"
  sources = ["machine.other"]
  provisioner "shell" {
    inline = ["date +%N >/etc/when"]
  }
}
"#;

#[test]
fn two_builds_of_the_same_are_the_same_bytes() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::cold();
    lab.template(TWICE);
    let output = lab.output(&["verify-build", "t.pkr.hcl"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for what in [
        "bottom.machine.same: layer: equal",
        "bottom.machine.same: same.raw: equal",
        "top.machine.other: layer: DIFFERENT",
    ] {
        assert!(said.contains(&format!("\n{what}\n")), "{what}: {said}");
    }
}

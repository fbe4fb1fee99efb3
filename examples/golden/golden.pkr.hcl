# A golden image in two layers. "base" is what all machines of an organisation share; "app" is
# what one application adds. When only the application changes, only its layer is built again.
#
#   karat build examples/golden

source "machine" "debian" {
  base {
    suite = var.suite
  }

  # The kernel is here, so that every image on this base shares it with its initramfs.
  packages = [
    "linux-image-cloud-amd64",
    "cloud-init",
    "cloud-guest-utils",
    "dhcpcd-base",
    "openssh-server",
    "sudo",
    "curl",
    "podman",
  ]

  hostname    = "golden"
  disk_format = "none"
}

build {
  name    = "base"
  sources = ["source.machine.debian"]

  # As on any cloud: nothing may happen before the machine's first start is complete. Status 2 is
  # "done, with something to remark", such as a root that needs no growing.
  provisioner "shell" {
    inline = [
      "echo 'Waiting for cloud-init to complete...'",
      "cloud-init status --wait >/dev/null",
    ]
    valid_exit_codes = [0, 2]
  }

  # The packages come from the mirrors with their security updates; this brings what is newer than
  # the package lock.
  provisioner "shell" {
    inline = [
      "sudo apt-get update",
      "sudo DEBIAN_FRONTEND=noninteractive apt-get upgrade -y",
    ]
  }

  provisioner "shell" {
    script = "${path.root}/scripts/cis-benchmark.sh"
  }

  # The container runtime answers on /run/podman/podman.sock, as Docker would.
  provisioner "shell" {
    inline = ["sudo systemctl enable podman.socket"]
  }
}

source "machine" "web" {
  from     = artifact.base.machine.debian.layer
  packages = ["nginx-light"]

  disk_format      = "both"
  firmware         = "both"
  output_directory = var.output_directory
  image_name       = "golden"
}

build {
  name    = "app"
  sources = ["source.machine.web"]

  provisioner "file" {
    source      = "${path.root}/files/index.html"
    destination = "/var/www/html/index.html"
  }

  provisioner "file" {
    source      = "${path.root}/files/nginx-site.conf"
    destination = "/etc/nginx/sites-available/default"
  }

  provisioner "file" {
    sources     = ["${path.root}/files/host-facts.service"]
    destination = "/etc/systemd/system/"
  }

  provisioner "file" {
    source      = "${path.root}/files/host-facts"
    destination = "/usr/local/sbin/host-facts"
  }

  provisioner "shell" {
    environment_vars = ["APP_VERSION=${var.app_version}"]
    inline = [
      "echo \"$APP_VERSION\" >/etc/golden-version",
      "chmod 755 /usr/local/sbin/host-facts",
      "nginx -t -q",
      "systemctl enable host-facts.service nginx.service",
    ]
  }

  post-processor "checksum" {
    checksum_types = ["sha256"]
    output         = "${var.output_directory}/golden.{{ .ChecksumType }}"
  }

  post-processor "manifest" {
    output     = "${var.output_directory}/manifest.json"
    strip_path = true
    custom_data = {
      suite   = var.suite
      version = var.app_version
    }
  }
}

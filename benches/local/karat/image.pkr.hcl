# Two layers: a base with kernel and init, and nginx with a page on it, to one raw disk.
variable "mirror" {
  type = string
}

variable "app" {
  type        = list(string)
  description = "The packages of the application's layer."
  default     = ["nginx"]
}

source "machine" "base" {
  base {
    suite           = "bookworm"
    mirror          = var.mirror
    system_packages = []
  }
  packages = [
    "linux-image-cloud-amd64", "systemd-sysv", "udev", "dbus", "openssh-server", "cloud-init",
    "iproute2", "ifupdown", "netbase", "e2fsprogs", "ca-certificates",
  ]
  disk_format = "none"
}

build {
  name    = "base"
  sources = ["source.machine.base"]
}

source "machine" "app" {
  from        = artifact.base.machine.base.layer
  packages    = var.app
  disk_format = "raw"
  disk_size   = "2G"
}

build {
  name    = "app"
  sources = ["source.machine.app"]

  provisioner "file" {
    source      = "${path.root}/page/index.html"
    destination = "/var/www/html/index.html"
  }
}

provisioner "shell" {
  script = "scripts/setup.sh"
  environment_vars = [
    "APP_VERSION=1.2.3",
    "ENV=${var.environment}"
  ]
}

source "amazon-ebs" "app_amd64" {
  ami_name      = "app-amd64-{{timestamp}}"
  instance_type = "t3.medium"
  architecture  = "x86_64"
  # ... configuration
}

source "amazon-ebs" "app_arm64" {
  ami_name      = "app-arm64-{{timestamp}}"
  instance_type = "t4g.medium"
  architecture  = "arm64"
  # ... configuration
}

build {
  sources = [
    "source.amazon-ebs.app_amd64",
    "source.amazon-ebs.app_arm64"
  ]
  # ... provisioners
}

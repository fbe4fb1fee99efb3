provisioner "inspec" {
  profile = "https://github.com/dev-sec/linux-baseline"
}

provisioner "chef-solo" {
  cookbook_paths   = ["cookbooks"]
  run_list         = ["recipe[base]", "recipe[app]"]
  prevent_sudo     = false
  skip_install     = false
  version          = "18.4.12"
}

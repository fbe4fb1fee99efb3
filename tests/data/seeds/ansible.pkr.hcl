provisioner "ansible" {
  playbook_file = "ansible/playbook.yml"
  user          = "ubuntu"
  
  extra_arguments = [
    "--extra-vars",
    "environment=${var.environment} app_version=${var.app_version}",
    "--tags",
    "install,configure"
  ]
  
  ansible_env_vars = [
    "ANSIBLE_HOST_KEY_CHECKING=False",
    "ANSIBLE_STDOUT_CALLBACK=yaml"
  ]
}

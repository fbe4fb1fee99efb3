provisioner "shell" {
  execute_command = "echo 'packer' | sudo -S sh -c '{{ .Vars }} {{ .Path }}'"
  script          = "scripts/root-operations.sh"
}

provisioner "file" {
  source      = "config/app.conf"
  destination = "/tmp/app.conf"
}

provisioner "shell" {
  inline = ["sudo mv /tmp/app.conf /etc/app/app.conf"]
}

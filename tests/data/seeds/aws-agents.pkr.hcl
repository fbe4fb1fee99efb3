provisioner "shell" {
  inline = [
    # Install and configure CloudWatch agent
    "wget https://s3.amazonaws.com/amazoncloudwatch-agent/ubuntu/amd64/latest/amazon-cloudwatch-agent.deb",
    "sudo dpkg -i amazon-cloudwatch-agent.deb",
    
    # Install SSM agent
    "sudo snap install amazon-ssm-agent --classic",
    "sudo systemctl enable snap.amazon-ssm-agent.amazon-ssm-agent.service",
    
    # Install AWS CLI v2
    "curl 'https://awscli.amazonaws.com/awscli-exe-linux-x86_64.zip' -o 'awscliv2.zip'",
    "unzip awscliv2.zip",
    "sudo ./aws/install",
    
    # Configure IMDSv2 (more secure)
    "sudo sh -c 'echo \"[default]\" > /etc/instance-identity/config'",
    "sudo sh -c 'echo \"hop_limit = 1\" >> /etc/instance-identity/config'"
  ]
}

packer {
  required_plugins {
    amazon = {
      version = ">= 1.3.0"
      source  = "github.com/hashicorp/amazon"
    }
    ansible = {
      version = ">= 1.1.0"
      source  = "github.com/hashicorp/ansible"
    }
  }
}

# Variables for configuration
variable "aws_region" {
  type    = string
  default = "us-east-1"
}

variable "instance_type" {
  type    = string
  default = "t3.medium"
}

variable "ami_prefix" {
  type    = string
  default = "golden-ami"
}

variable "environment" {
  type    = string
  default = "production"
}

# Data sources for dynamic AMI selection
data "amazon-ami" "ubuntu" {
  filters = {
    name                = "ubuntu/images/*ubuntu-jammy-22.04-amd64-server-*"
    root-device-type    = "ebs"
    virtualization-type = "hvm"
  }
  most_recent = true
  owners      = ["099720109477"] # Canonical
  region      = var.aws_region
}

# Build sources
source "amazon-ebs" "app_server" {
  ami_name      = "${var.ami_prefix}-${var.environment}-{{timestamp}}"
  instance_type = var.instance_type
  region        = var.aws_region
  source_ami    = data.amazon-ami.ubuntu.id
  ssh_username  = "ubuntu"
  
  # Launch configuration
  vpc_id    = "vpc-xxxxx"
  subnet_id = "subnet-xxxxx"
  
  # Security and access
  associate_public_ip_address = true
  iam_instance_profile        = "PackerBuilder"
  
  # AMI configuration
  ami_description = "Golden AMI for ${var.environment} application servers"
  ami_regions     = ["us-east-1", "us-west-2"]
  
  # Encryption
  encrypt_boot = true
  kms_key_id  = "arn:aws:kms:us-east-1:ACCOUNT_ID:key/KEY_ID"
  
  # Tags
  tags = {
    Name        = "${var.ami_prefix}-${var.environment}"
    Environment = var.environment
    BuildDate   = "{{timestamp}}"
    BuildSource = "packer"
    OS          = "Ubuntu 22.04"
  }
  
  # Snapshot tags
  snapshot_tags = {
    Name        = "${var.ami_prefix}-${var.environment}-snapshot"
    Environment = var.environment
  }
  
  # Timeout and retry
  aws_polling {
    delay_seconds = 15
    max_attempts  = 60
  }
}

# Build configuration
build {
  name    = "app-server"
  sources = ["source.amazon-ebs.app_server"]
  
  # Wait for cloud-init
  provisioner "shell" {
    inline = [
      "echo 'Waiting for cloud-init to complete...'",
      "cloud-init status --wait"
    ]
  }
  
  # System updates
  provisioner "shell" {
    inline = [
      "sudo apt-get update",
      "sudo DEBIAN_FRONTEND=noninteractive apt-get upgrade -y",
      "sudo apt-get install -y curl wget unzip jq"
    ]
  }
  
  # Install application dependencies
  provisioner "shell" {
    script = "scripts/install-dependencies.sh"
  }
  
  # Configuration with Ansible
  provisioner "ansible" {
    playbook_file = "ansible/playbook.yml"
    user          = "ubuntu"
    extra_arguments = [
      "--extra-vars",
      "environment=${var.environment}"
    ]
  }
  
  # Security hardening
  provisioner "shell" {
    scripts = [
      "scripts/security-hardening.sh",
      "scripts/cis-benchmark.sh"
    ]
  }
  
  # Cleanup
  provisioner "shell" {
    inline = [
      "sudo apt-get clean",
      "sudo rm -rf /var/lib/apt/lists/*",
      "sudo rm -rf /tmp/*",
      "sudo rm -rf /var/tmp/*",
      "history -c"
    ]
  }
  
  # Post-processors
  post-processor "manifest" {
    output     = "manifest.json"
    strip_path = true
  }
  
  post-processor "shell-local" {
    inline = [
      "echo AMI created: $(jq -r '.builds[-1].artifact_id' manifest.json | cut -d':' -f2)"
    ]
  }
}

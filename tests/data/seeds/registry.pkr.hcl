packer {
  required_plugins {
    amazon = {
      version = ">= 1.3.0"
      source  = "github.com/hashicorp/amazon"
    }
  }
}

# HCP Packer configuration
hcp_packer_registry {
  bucket_name = "golden-ami"
  description = "Ubuntu 22.04 golden AMI for application servers"
  
  bucket_labels = {
    "os"          = "ubuntu"
    "team"        = "platform"
    "compliance"  = "cis-level-1"
  }
  
  build_labels = {
    "build-source"    = "github-actions"
    "git-commit-sha"  = env("GITHUB_SHA")
  }
}

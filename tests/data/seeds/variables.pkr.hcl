variable "aws_region" {
  type        = string
  default     = "us-east-1"
  description = "AWS region for AMI build"
}

variable "instance_type" {
  type = string
  validation {
    condition     = contains(["t3.small", "t3.medium", "t3.large"], var.instance_type)
    error_message = "Instance type must be t3.small, t3.medium, or t3.large."
  }
}

variable "app_version" {
  type = string
  validation {
    condition     = can(regex("^\\d+\\.\\d+\\.\\d+$", var.app_version))
    error_message = "App version must be semantic version (e.g., 1.2.3)."
  }
}

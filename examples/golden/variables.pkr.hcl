variable "suite" {
  type        = string
  default     = "trixie"
  description = "The Debian suite: trixie is Debian 13, bookworm is Debian 12."

  validation {
    condition     = contains(["bookworm", "trixie"], var.suite)
    error_message = "The suite must be bookworm or trixie."
  }
}

variable "app_version" {
  type        = string
  default     = "1.0.0"
  description = "The version of the application, which the image tells by http."

  validation {
    condition     = can(regex("^\\d+\\.\\d+\\.\\d+$", var.app_version))
    error_message = "The version must have three numbers, such as 1.2.3."
  }
}

variable "output_directory" {
  type        = string
  default     = "output-golden"
  description = "Where the disks, their checksums and the manifest go."
}

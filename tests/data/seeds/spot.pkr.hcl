source "amazon-ebs" "spot" {
  spot_price          = "auto"
  spot_instance_types = ["t3.medium", "t3a.medium"]
  # ... rest of configuration
}

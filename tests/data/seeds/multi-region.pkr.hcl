source "amazon-ebs" "multi_region" {
  ami_name      = "app-ami-{{timestamp}}"
  instance_type = "t3.medium"
  region        = "us-east-1"
  source_ami    = data.amazon-ami.ubuntu.id
  ssh_username  = "ubuntu"
  
  # Distribute to multiple regions
  ami_regions = [
    "us-east-1",
    "us-west-2",
    "eu-west-1",
    "ap-southeast-1"
  ]
  
  # Different encryption keys per region
  region_kms_key_ids = {
    "us-east-1"      = "arn:aws:kms:us-east-1:ACCOUNT:key/KEY1"
    "us-west-2"      = "arn:aws:kms:us-west-2:ACCOUNT:key/KEY2"
    "eu-west-1"      = "arn:aws:kms:eu-west-1:ACCOUNT:key/KEY3"
    "ap-southeast-1" = "arn:aws:kms:ap-southeast-1:ACCOUNT:key/KEY4"
  }
}

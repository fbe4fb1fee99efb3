//! Terraform's AWS provider applies and destroys what a build stands on. Runs where the variable
//! `KARAT_TEST_TERRAFORM` names a `terraform` that finds the provider without asking its registry.

use crate::cloud::cloud;

const CONFIGURATION: &str = r#"
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
provider "aws" {}
data "aws_ami" "base" {
  most_recent = true
  owners      = ["136693071363"]
  filter {
    name   = "name"
    values = ["debian-13-*"]
  }
}
data "aws_availability_zones" "all" {}
resource "aws_vpc" "net" {
  cidr_block           = "10.9.0.0/16"
  enable_dns_hostnames = true
  tags                 = { Name = "net" }
}
resource "aws_internet_gateway" "out" {
  vpc_id = aws_vpc.net.id
}
resource "aws_subnet" "one" {
  vpc_id                  = aws_vpc.net.id
  cidr_block              = "10.9.1.0/24"
  availability_zone       = data.aws_availability_zones.all.names[0]
  map_public_ip_on_launch = true
}
resource "aws_route_table" "out" {
  vpc_id = aws_vpc.net.id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.out.id
  }
}
resource "aws_route_table_association" "one" {
  subnet_id      = aws_subnet.one.id
  route_table_id = aws_route_table.out.id
}
resource "aws_security_group" "ssh" {
  name   = "ssh"
  vpc_id = aws_vpc.net.id
  ingress {
    from_port   = 22
    to_port     = 22
    protocol    = "tcp"
    cidr_blocks = ["127.0.0.0/8"]
  }
  egress {
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }
}
resource "aws_key_pair" "own" {
  key_name   = "own"
  public_key = trimspace(file("own.pub"))
}
resource "aws_instance" "web" {
  ami                    = data.aws_ami.base.id
  instance_type          = "t3.micro"
  subnet_id              = aws_subnet.one.id
  vpc_security_group_ids = [aws_security_group.ssh.id]
  key_name               = aws_key_pair.own.key_name
  metadata_options {
    http_tokens = "required"
  }
  root_block_device {
    volume_size = 9
  }
  tags       = { Name = "web" }
  depends_on = [aws_route_table_association.one]
}
output "address" {
  value = aws_instance.web.public_ip
}
"#;

#[test]
fn terraform_applies_and_destroys() {
    let Some(terraform) = std::env::var_os("KARAT_TEST_TERRAFORM") else { return };
    let Some(cloud) = cloud() else { return };
    let folder = cloud.dir.path().join("terraform");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("main.tf"), CONFIGURATION).unwrap();
    let key = folder.join("own");
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
    assert!(keygen.status().unwrap().success());
    let run = |args: &[&str]| {
        let mut command = cloud.client(terraform.to_str().unwrap());
        command.args(args).current_dir(&folder).env("TF_IN_AUTOMATION", "1");
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "terraform {args:?}: {said}");
        said
    };
    run(&["init", "-no-color", "-input=false"]);
    run(&["apply", "-no-color", "-input=false", "-auto-approve"]);
    let address = run(&["output", "-raw", "address"]);
    let seen = cloud.ssh(&key, &format!("admin@{}", address.trim()), "echo here");
    assert_eq!(seen, "here\n");
    // What was made is as it was asked for.
    let plan = run(&["plan", "-no-color", "-input=false", "-detailed-exitcode"]);
    assert!(plan.contains("No changes"), "{plan}");
    run(&["destroy", "-no-color", "-input=false", "-auto-approve"]);
    assert_eq!(cloud.left(false), "");
}

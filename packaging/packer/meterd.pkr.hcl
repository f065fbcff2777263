# An AMI with meterd in it, on Amazon Linux 2023 and on Ubuntu 24.04.
#
#     packer init packaging/packer && packer build -var rpm=meterd.rpm -var deb=meterd.deb -var config=meterd.toml packaging/packer
#
# NOT RUN: it needs an AWS account. What it does inside the instance (install the package, look that nothing was started and
# nothing is left) is what tests/boot/boot.py does to a Debian root.

packer {
  required_plugins {
    amazon = { source = "github.com/hashicorp/amazon", version = ">= 1.3" }
  }
}

variable "region" { default = "us-east-1" } # AWS Marketplace takes AMIs from there
variable "rpm" {}                           # cargo generate-rpm
variable "deb" {}                           # cargo deb
variable "config" {}                        # your meterd.toml, with your product code

locals {
  stamp = formatdate("YYYYMMDD-hhmm", timestamp())
}

source "amazon-ebs" "al2023" {
  region        = var.region
  instance_type = "t3.small"
  ssh_username  = "ec2-user"
  ami_name      = "metered-al2023-${local.stamp}"
  imds_support  = "v2.0"
  source_ami_filter {
    owners      = ["137112412989"]
    most_recent = true
    filters     = { name = "al2023-ami-2023.*-x86_64", virtualization-type = "hvm" }
  }
}

source "amazon-ebs" "ubuntu" {
  region        = var.region
  instance_type = "t3.small"
  ssh_username  = "ubuntu"
  ami_name      = "metered-ubuntu-${local.stamp}"
  imds_support  = "v2.0"
  source_ami_filter {
    owners      = ["099720109477"]
    most_recent = true
    filters     = { name = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*", virtualization-type = "hvm" }
  }
}

build {
  sources = ["source.amazon-ebs.al2023", "source.amazon-ebs.ubuntu"]

  provisioner "file" {
    only        = ["amazon-ebs.al2023"]
    source      = var.rpm
    destination = "/tmp/meterd.rpm"
  }
  provisioner "file" {
    only        = ["amazon-ebs.ubuntu"]
    source      = var.deb
    destination = "/tmp/meterd.deb"
  }
  provisioner "file" {
    source      = var.config
    destination = "/tmp/meterd.toml"
  }
  provisioner "shell" {
    only   = ["amazon-ebs.al2023"]
    inline = ["sudo dnf install -y /tmp/meterd.rpm"]
  }
  provisioner "shell" {
    only   = ["amazon-ebs.ubuntu"]
    inline = ["sudo apt-get update", "sudo apt-get install -y /tmp/meterd.deb"]
  }
  provisioner "shell" {
    inline = [
      "sudo install -m 0644 /tmp/meterd.toml /etc/meterd/meterd.toml",
      "meterd check-config",
      # Your application's own user reports usage:
      # "sudo usermod -aG meterd app",
      "systemctl is-enabled meterd.socket meterd-admin.socket meterd.service meterd-end.service",
      # The package starts nothing. Should the agent have run for a try, what it wrote belongs to this machine and not to
      # its copies: every instance of the image begins with a log of its own.
      "sudo systemctl stop meterd-end.service meterd.service meterd.socket meterd-admin.socket",
      "sudo meterd scrub",
      "sudo test -z \"$(sudo ls -A /var/lib/meterd)\"",
      "rm -f /tmp/meterd.*",
    ]
  }
}

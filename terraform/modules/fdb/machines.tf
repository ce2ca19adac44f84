locals {
  zones = sort(keys(var.subnets))
  machines = merge([for name, role in var.roles : merge([for zone in local.zones : {
    for index in range(role.per_zone) : "${name}/${zone}/${index}" => {
      zone = zone
      role = role
      ip   = cidrhost(var.subnets[zone].cidr, 10 + 32 * role.slot + index)
    }
  }]...)]...)

  # Addresses by zone in the order of their slots, dealt out in turn: the first of each zone, then the second.
  by_zone = { for zone in local.zones : zone => flatten([
    for slot in range(7) : [for role in var.roles : [for index in range(role.per_zone) :
    cidrhost(var.subnets[zone].cidr, 10 + 32 * slot + index)] if role.slot == slot]
  ]) }
  turns            = max([for ips in local.by_zone : length(ips)]...)
  dealt            = flatten([for turn in range(local.turns) : [for zone in local.zones : local.by_zone[zone][turn]]])
  coordinators     = slice(local.dealt, 0, min(var.coordinators, length(local.dealt)))
  ports            = range(4500, 4500 + max([for role in var.roles : length(role.classes)]...))
  last_port        = local.ports[length(local.ports) - 1]
  cluster_name     = replace(var.name, "-", "_")
  cluster_contents = "${local.cluster_name}:${substr(sha256(var.name), 0, 16)}@${join(",", [for ip in local.coordinators : "${ip}:4500:tls"])}"
}

data "aws_region" "current" {}

# Debian's own list of its images.
data "aws_ssm_parameter" "ami" {
  count = var.ami_id == null ? 1 : 0
  name  = "/aws/service/debian/release/12/latest/amd64"
}

resource "aws_instance" "this" {
  # What it may is read at its first start.
  depends_on              = [aws_iam_role_policy.this]
  for_each                = local.machines
  ami                     = coalesce(var.ami_id, nonsensitive(one(data.aws_ssm_parameter.ami[*].value)))
  instance_type           = each.value.role.instance_type
  subnet_id               = var.subnets[each.value.zone].id
  private_ip              = each.value.ip
  vpc_security_group_ids  = [aws_security_group.this.id]
  iam_instance_profile    = aws_iam_instance_profile.this.name
  disable_api_termination = var.deletion_protection
  # A stop empties the local disks.
  disable_api_stop = var.deletion_protection
  ebs_optimized    = true
  monitoring       = true
  user_data_base64 = base64gzip(local.cloud_init[each.key])
  tags             = merge(var.tags, { Name = "${var.name}-fdb-${replace(each.key, "/", "-")}" })
  volume_tags      = merge(var.tags, { Name = "${var.name}-fdb-${replace(each.key, "/", "-")}" })

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  # Data is on the local disks, which the hardware encrypts.
  root_block_device {
    encrypted   = true
    kms_key_id  = var.kms_key_arn
    volume_type = "gp3"
    volume_size = 20
  }

  lifecycle {
    # A new image or set-up would replace all machines with data at once, and another type would stop them, which
    # empties their disks. They are replaced one by one, with -replace, when the cluster is healthy.
    ignore_changes = [ami, instance_type, user_data_base64]
  }
}

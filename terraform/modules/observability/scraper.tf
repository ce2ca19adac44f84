# One small machine with Prometheus as an agent: it finds the nodes by their tag, reads them and passes
# on, to the workspaces of all regions: each can judge all, also when one is lost. What it has not passed on is lost with it; alert rules notice that it is silent.
data "aws_region" "current" {}

data "aws_ssm_parameter" "ami" {
  count = var.ami_id == null ? 1 : 0
  name  = "/aws/service/debian/release/12/latest/amd64"
}

locals {
  workspaces = concat(
    [{ endpoint = aws_prometheus_workspace.this.prometheus_endpoint, arn = aws_prometheus_workspace.this.arn, aws_region = data.aws_region.current.name }],
    var.other_workspaces,
  )

  cloud_init = join("\n", ["#cloud-config", yamlencode({
    package_update  = true
    package_upgrade = true
    packages        = ["curl", "prometheus"]
    apt             = { conf = "DPkg::Options { \"--force-confold\"; };" }
    write_files = [
      {
        path        = "/etc/prometheus/prometheus.yml"
        permissions = "0644"
        content = templatefile("${path.module}/templates/prometheus.yml.tftpl", {
          region     = var.region
          aws_region = data.aws_region.current.name
          seconds    = var.scrape_seconds
          workspaces = local.workspaces
        })
      },
      {
        path        = "/etc/default/prometheus"
        permissions = "0644"
        content     = "ARGS=\"--enable-feature=agent --storage.agent.path=/var/lib/prometheus/agent --web.listen-address=127.0.0.1:9090\"\n"
      },
    ]
    runcmd = concat(
      var.session_manager ? [
        ["sh", "-c", "curl -sSfL --retry 10 -o /tmp/ssm.deb https://s3.${data.aws_region.current.name}.amazonaws.com/amazon-ssm-${data.aws_region.current.name}/latest/debian_$(dpkg --print-architecture)/amazon-ssm-agent.deb"],
        ["dpkg", "-i", "/tmp/ssm.deb"],
      ] : [],
      [["systemctl", "restart", "prometheus.service"]],
    )
  })])
}

resource "aws_launch_template" "this" {
  name_prefix            = "${var.name}-metrics-"
  image_id               = coalesce(var.ami_id, nonsensitive(one(data.aws_ssm_parameter.ami[*].value)))
  instance_type          = var.instance_type
  update_default_version = true
  user_data              = base64gzip(local.cloud_init)
  vpc_security_group_ids = [aws_security_group.this.id]
  ebs_optimized          = true
  tags                   = var.tags

  iam_instance_profile {
    arn = aws_iam_instance_profile.this.arn
  }
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  monitoring {
    enabled = true
  }
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      encrypted             = true
      delete_on_termination = true
      volume_type           = "gp3"
      volume_size           = 20
    }
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume"]
    content {
      resource_type = tag_specifications.value
      tags          = merge(var.tags, { Name = "${var.name}-metrics" })
    }
  }
}

resource "aws_autoscaling_group" "this" {
  name                = "${var.name}-metrics"
  min_size            = 1
  max_size            = 2
  desired_capacity    = 1
  vpc_zone_identifier = [for subnet in var.subnets : subnet.id]

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 100
      max_healthy_percentage = 200
    }
  }

  dynamic "tag" {
    for_each = merge(var.tags, { Name = "${var.name}-metrics" })
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = false
    }
  }
}

resource "aws_security_group" "this" {
  name_prefix = "${var.name}-metrics-"
  description = "Reads metrics; nobody comes in"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-metrics" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "nodes" {
  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = var.node_security_group_id
  description                  = "Metrics of the nodes and of their proxies"
  ip_protocol                  = "tcp"
  from_port                    = 7101
  to_port                      = 7102
  tags                         = var.tags
}

resource "aws_vpc_security_group_egress_rule" "world" {
  for_each          = { https = 443, http = 80 }
  security_group_id = aws_security_group.this.id
  cidr_ipv4         = "0.0.0.0/0"
  description       = "AWS, and packages of Debian, which are signed: ${each.key}"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  tags              = var.tags
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "this" {
  statement {
    sid       = "PassOn"
    actions   = ["aps:RemoteWrite"]
    resources = local.workspaces[*].arn
  }
  statement {
    sid       = "FindNodes"
    actions   = ["ec2:DescribeInstances", "ec2:DescribeAvailabilityZones"]
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = var.session_manager ? [1] : []
    content {
      sid = "SessionManager"
      actions = [
        "ssm:UpdateInstanceInformation",
        "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
      ]
      resources = ["*"]
    }
  }
}

resource "aws_iam_role" "this" {
  name_prefix        = "${var.name}-metrics-"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "this" {
  name   = "read-and-pass-on"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.this.json
}

resource "aws_iam_instance_profile" "this" {
  name_prefix = "${var.name}-metrics-"
  role        = aws_iam_role.this.name
  tags        = var.tags
}

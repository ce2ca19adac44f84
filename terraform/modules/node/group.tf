locals {
  # What an instance waits for before it serves, and before it goes.
  hooks = { launched = "ready", leaving = "drained" }
}

data "aws_ssm_parameter" "ami" {
  count = var.ami_id == null ? 1 : 0
  name  = "/aws/service/debian/release/12/latest/amd64"
}

resource "aws_launch_template" "this" {
  name_prefix            = "${var.name}-node-"
  image_id               = coalesce(var.ami_id, nonsensitive(one(data.aws_ssm_parameter.ami[*].value)))
  instance_type          = var.instance_type
  update_default_version = true
  user_data              = base64gzip(local.cloud_init)
  vpc_security_group_ids = [aws_security_group.node.id]
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
      tags          = merge(var.tags, { Name = "${var.name}-node", "whimbrel:region" = var.region })
    }
  }
}

resource "aws_autoscaling_group" "this" {
  # What its nodes may is read at their first start.
  depends_on          = [aws_iam_role_policy.this]
  name                = var.name
  min_size            = var.capacity.min
  max_size            = var.capacity.max
  desired_capacity    = var.capacity.desired
  vpc_zone_identifier = [for zone in local.zones : var.subnets[zone].id]
  target_group_arns   = [aws_lb_target_group.https.arn, aws_lb_target_group.quic.arn]
  # Not "ELB": readiness goes with the store, for all nodes at once, and new nodes heal no store. A node
  # that dies is started again by its machine; clients go to those that are ready.
  health_check_type       = "EC2"
  default_instance_warmup = 60
  # A new region takes in what the others have before its first node is ready: that is not for an apply to wait for.
  wait_for_capacity_timeout = "0"
  termination_policies      = ["OldestLaunchTemplate", "OldestInstance"]

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }

  # Whoever replaces nodes, also without Terraform: the new one comes first.
  instance_maintenance_policy {
    min_healthy_percentage = 100
    max_healthy_percentage = 134
  }

  # Another program or config: a new node must have said that it is ready before an old one is drained. One that does not
  # get ready stops the refresh. It does not go back by itself: the group names the new template by then.
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 100
      max_healthy_percentage = 134
      instance_warmup        = 60
      skip_matching          = true
    }
  }

  initial_lifecycle_hook {
    name                 = local.hooks.launched
    lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
    default_result       = "ABANDON"
    heartbeat_timeout    = 1800
  }
  initial_lifecycle_hook {
    name                 = local.hooks.leaving
    lifecycle_transition = "autoscaling:EC2_INSTANCE_TERMINATING"
    default_result       = "CONTINUE"
    # The longest drain and what comes after it. It must not follow `drain_ms`: another hook is another group, and the
    # old one with all its nodes goes first.
    heartbeat_timeout = 180
  }

  dynamic "tag" {
    for_each = merge(var.tags, { Name = "${var.name}-node" })
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = false
    }
  }

  lifecycle {
    ignore_changes = [desired_capacity]
  }
}

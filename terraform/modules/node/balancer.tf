# Addresses that never change: other regions have them in their configs.
resource "aws_eip" "this" {
  # checkov:skip=CKV2_AWS_19: bound to the load balancer below
  for_each = toset(local.zones)
  domain   = "vpc"
  tags     = merge(var.tags, { Name = "${var.name}-${each.key}" })
}

module "logs" {
  source      = "../bucket"
  name        = "${var.name}-lb"
  expire_days = var.log_days
  # Access logs are no data to hold up the end of a region for.
  force_destroy = !var.deletion_protection
  statements    = data.aws_iam_policy_document.logs.json
  tags          = var.tags
}

data "aws_caller_identity" "current" {}

data "aws_iam_policy_document" "logs" {
  statement {
    sid       = "AccessLogs"
    actions   = ["s3:PutObject"]
    resources = ["BUCKET/AWSLogs/${data.aws_caller_identity.current.account_id}/*"]

    principals {
      type        = "Service"
      identifiers = ["delivery.logs.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
  statement {
    sid       = "AccessLogsAcl"
    actions   = ["s3:GetBucketAcl"]
    resources = ["BUCKET"]

    principals {
      type        = "Service"
      identifiers = ["delivery.logs.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_lb" "this" {
  name                             = var.name
  load_balancer_type               = "network"
  internal                         = false
  security_groups                  = [aws_security_group.balancer.id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = var.deletion_protection
  tags                             = var.tags

  dynamic "subnet_mapping" {
    for_each = toset(local.zones)
    content {
      subnet_id     = var.public_subnets[subnet_mapping.key].id
      allocation_id = aws_eip.this[subnet_mapping.key].id
    }
  }
  access_logs {
    bucket  = module.logs.id
    enabled = true
  }
}

resource "aws_lb_target_group" "https" {
  name                              = "${var.name}-tls"
  vpc_id                            = var.vpc_id
  protocol                          = "TLS"
  port                              = local.ports.proxy
  deregistration_delay              = 30
  connection_termination            = true
  preserve_client_ip                = false
  load_balancing_cross_zone_enabled = true
  tags                              = var.tags

  # Readiness: the store answers, the node has caught up, its clock is right, and it does not drain.
  health_check {
    protocol            = "HTTP"
    port                = local.ports.admin
    path                = "/readyz"
    matcher             = "200"
    interval            = 5
    timeout             = 3
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

# Each zone's address leads to the nodes of its zone, so that peers that know all three have a link to
# a node in each.
resource "aws_lb_target_group" "quic" {
  name                              = "${var.name}-quic"
  vpc_id                            = var.vpc_id
  protocol                          = "UDP"
  port                              = local.ports.quic
  deregistration_delay              = 30
  load_balancing_cross_zone_enabled = false
  tags                              = var.tags

  # Not readiness: a node that has to catch up needs its links for that.
  health_check {
    protocol            = "HTTP"
    port                = local.ports.admin
    path                = "/healthz"
    matcher             = "200"
    interval            = 5
    timeout             = 3
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  port              = local.ports.https
  protocol          = "TLS"
  certificate_arn   = var.certificate_arn
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  tags              = var.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.https.arn
  }
}

resource "aws_lb_listener" "quic" {
  load_balancer_arn = aws_lb.this.arn
  port              = local.ports.quic
  protocol          = "UDP"
  tags              = var.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.quic.arn
  }
}

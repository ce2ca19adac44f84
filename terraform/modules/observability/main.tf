# Metrics, alert rules and who is told. The rules are files of Prometheus, tested with promtool; here
# they are only handed over.
locals {
  rules      = fileset("${path.module}/rules", "*.yaml")
  dashboards = fileset("${path.module}/dashboards", "*.json")
}

resource "aws_prometheus_workspace" "this" {
  alias       = var.name
  kms_key_arn = var.kms_key_arn
  tags        = merge(var.tags, { Name = var.name })

  logging_configuration {
    log_group_arn = "${aws_cloudwatch_log_group.this.arn}:*"
  }
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/whimbrel/${var.name}/prometheus"
  retention_in_days = 365
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_prometheus_rule_group_namespace" "this" {
  for_each     = local.rules
  name         = trimsuffix(each.key, ".yaml")
  workspace_id = aws_prometheus_workspace.this.id
  data         = file("${path.module}/rules/${each.key}")
  tags         = var.tags
}

resource "aws_sns_topic" "alerts" {
  name_prefix       = "${var.name}-alerts-"
  kms_master_key_id = var.kms_key_arn
  tags              = var.tags
}

data "aws_iam_policy_document" "alerts" {
  statement {
    actions   = ["sns:Publish", "sns:GetTopicAttributes"]
    resources = [aws_sns_topic.alerts.arn]

    principals {
      type        = "Service"
      identifiers = ["aps.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_prometheus_workspace.this.arn]
    }
  }
}

resource "aws_sns_topic_policy" "alerts" {
  arn    = aws_sns_topic.alerts.arn
  policy = data.aws_iam_policy_document.alerts.json
}

resource "aws_sns_topic_subscription" "alerts" {
  for_each  = { for subscriber in var.alert_subscribers : "${subscriber.protocol}/${subscriber.endpoint}" => subscriber }
  topic_arn = aws_sns_topic.alerts.arn
  protocol  = each.value.protocol
  endpoint  = each.value.endpoint
}

resource "aws_prometheus_alert_manager_definition" "this" {
  workspace_id = aws_prometheus_workspace.this.id
  depends_on   = [aws_sns_topic_policy.alerts]
  definition = yamlencode({
    alertmanager_config = yamlencode({
      route = {
        receiver        = "operators"
        group_by        = ["alertname", "region"]
        group_wait      = "30s"
        group_interval  = "5m"
        repeat_interval = "4h"
      }
      # The ticket of what has paged already is silent.
      inhibit_rules = [{
        source_matchers = ["severity=\"page\""]
        target_matchers = ["severity=\"ticket\""]
        equal           = ["alertname", "region", "peer", "instance"]
      }]
      receivers = [{
        name = "operators"
        sns_configs = [{
          topic_arn = aws_sns_topic.alerts.arn
          sigv4     = { region = data.aws_region.current.name }
        }]
      }]
    })
  })
}

# Dashboards for whatever Grafana reads them; this module runs none.
module "dashboards" {
  source        = "../bucket"
  name          = "${var.name}-dash"
  kms_key_arn   = var.kms_key_arn
  force_destroy = !var.deletion_protection
  tags          = var.tags
}

resource "aws_s3_object" "dashboard" {
  for_each     = local.dashboards
  bucket       = module.dashboards.id
  key          = each.key
  source       = "${path.module}/dashboards/${each.key}"
  source_hash  = filemd5("${path.module}/dashboards/${each.key}")
  content_type = "application/json"
  kms_key_id   = var.kms_key_arn
  tags         = var.tags
}

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:alerts" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:prometheus" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/metrics" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_prometheus_workspace" {
    defaults = {
      arn                 = "arn:aws:aps:eu-central-1:123456789012:workspace/ws-0"
      prometheus_endpoint = "https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-0/"
    }
  }
}

variables {
  name   = "whimbrel-eu"
  region = "eu"
  vpc_id = "vpc-1"
  subnets = {
    a = { id = "subnet-a", cidr = "10.1.48.0/20" }
    b = { id = "subnet-b", cidr = "10.1.64.0/20" }
    c = { id = "subnet-c", cidr = "10.1.80.0/20" }
  }
  node_security_group_id = "sg-node"
  kms_key_arn            = "arn:aws:kms:eu-central-1:123456789012:key/0"
  other_workspaces       = [{ endpoint = "https://aps-workspaces.us-east-2.amazonaws.com/workspaces/ws-1/", arn = "arn:aws:aps:us-east-2:123456789012:workspace/ws-1", aws_region = "us-east-2" }]
  alert_subscribers      = [{ protocol = "email", endpoint = "operators@example.org" }]
}

run "rules_and_dashboards_as_they_are" {
  command = apply

  assert {
    condition     = join(" ", sort([for name in fileset("rules", "*.yaml") : trimsuffix(name, ".yaml")])) == join(" ", sort([for rules in aws_prometheus_rule_group_namespace.this : rules.name]))
    error_message = "each file of rules must be handed over"
  }
  assert {
    condition     = alltrue([for key, rules in aws_prometheus_rule_group_namespace.this : rules.data == file("rules/${key}")])
    error_message = "rules must be handed over as they are"
  }
  assert {
    condition     = join(" ", sort(fileset("dashboards", "*.json"))) == join(" ", keys(aws_s3_object.dashboard))
    error_message = "each dashboard must be handed over"
  }
  assert {
    condition     = aws_prometheus_workspace.this.kms_key_arn == var.kms_key_arn && aws_sns_topic.alerts.kms_master_key_id == var.kms_key_arn
    error_message = "metrics and alerts must be encrypted"
  }
  assert {
    condition     = yamldecode(yamldecode(aws_prometheus_alert_manager_definition.this.definition).alertmanager_config).receivers[0].sns_configs[0].topic_arn == aws_sns_topic.alerts.arn
    error_message = "alerts must reach the topic"
  }
  assert {
    condition = yamldecode(yamldecode(trimprefix(local.cloud_init, "#cloud-config\n")).write_files[0].content).remote_write == [
      { url = "https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-0/api/v1/remote_write", sigv4 = { region = "eu-central-1" } },
      { url = "https://aps-workspaces.us-east-2.amazonaws.com/workspaces/ws-1/api/v1/remote_write", sigv4 = { region = "us-east-2" } },
    ]
    error_message = "what is read must be passed on to the workspaces of all regions"
  }
  assert {
    condition     = yamldecode(yamldecode(trimprefix(local.cloud_init, "#cloud-config\n")).write_files[0].content).scrape_configs[0].ec2_sd_configs[0].filters[0] == { name = "tag:whimbrel:region", values = ["eu"] }
    error_message = "nodes are found by the tag that their launch template gives them"
  }
  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required"
    error_message = "the machine needs IMDSv2"
  }
}

# Several wrong variables in one run, where none is judged by another: each must be refused.
run "one_zone_and_alerts_in_the_clear_and_too_slow" {
  command = plan
  variables {
    subnets           = { a = { id = "subnet-a", cidr = "10.1.48.0/20" } }
    alert_subscribers = [{ protocol = "http", endpoint = "http://example.org" }]
    scrape_seconds    = 60
  }
  expect_failures = [var.subnets, var.alert_subscribers, var.scrape_seconds]
}

run "an_arm_machine_needs_its_own_image" {
  command = plan
  variables { instance_type = "t4g.small" }
  expect_failures = [var.instance_type]
}

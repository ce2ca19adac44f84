# Each region's addresses are mocked as one of its own, so that it shows who lets whom in.
mock_provider "aws" {
  alias = "eu"
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_resource "aws_eip" {
    defaults = { public_ip = "198.51.100.1" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/0" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:whimbrel" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/whimbrel" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/whimbrel" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:alerts" }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/net/whimbrel/0" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/whimbrel/0" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_prometheus_workspace" {
    defaults = { arn = "arn:aws:aps:eu-central-1:123456789012:workspace/ws-0" }
  }
}

mock_provider "aws" {
  alias = "us"
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_region" {
    defaults = { name = "us-east-2" }
  }
  mock_resource "aws_eip" {
    defaults = { public_ip = "203.0.113.1" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:us-east-2:123456789012:key/0" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:us-east-2:123456789012:log-group:whimbrel" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/whimbrel" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/whimbrel" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-2:123456789012:alerts" }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:us-east-2:123456789012:loadbalancer/net/whimbrel/0" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/whimbrel/0" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_prometheus_workspace" {
    defaults = { arn = "arn:aws:aps:us-east-2:123456789012:workspace/ws-0" }
  }
}

mock_provider "aws" {
  alias = "ap"
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_region" {
    defaults = { name = "ap-southeast-2" }
  }
  mock_resource "aws_eip" {
    defaults = { public_ip = "192.0.2.1" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:ap-southeast-2:123456789012:key/0" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:ap-southeast-2:123456789012:log-group:whimbrel" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/whimbrel" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/whimbrel" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:ap-southeast-2:123456789012:alerts" }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:ap-southeast-2:123456789012:loadbalancer/net/whimbrel/0" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:ap-southeast-2:123456789012:targetgroup/whimbrel/0" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_prometheus_workspace" {
    defaults = { arn = "arn:aws:aps:ap-southeast-2:123456789012:workspace/ws-0" }
  }
}

variables {
  cluster = {
    id          = "etpo356mlrqubhall2vasuf6q8"
    domain      = "example.org"
    shared_host = "chat.example.org"
    zone_id     = "Z1"
    release     = { bucket = "releases", key = "whimbrel-node", sha256 = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc" }
    packages = {
      server  = { url = "https://example.org/foundationdb-server.deb", sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }
      clients = { url = "https://example.org/foundationdb-clients.deb", sha256 = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" }
    }
    verify_peers = "Check.Valid=1,S.O=Example"
  }
  alert_subscribers = [{ protocol = "email", endpoint = "oncall@example.org" }]
  certificates = {
    eu = "arn:aws:acm:eu-central-1:123456789012:certificate/0"
    us = "arn:aws:acm:us-east-2:123456789012:certificate/0"
    ap = "arn:aws:acm:ap-southeast-2:123456789012:certificate/0"
  }
  secrets = {
    eu = {
      link        = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:link"
      fdb_servers = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:fdb-servers"
      fdb_nodes   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:fdb-nodes"
      token_keys  = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-keys"
    }
    us = {
      link        = "arn:aws:secretsmanager:us-east-2:123456789012:secret:link"
      fdb_servers = "arn:aws:secretsmanager:us-east-2:123456789012:secret:fdb-servers"
      fdb_nodes   = "arn:aws:secretsmanager:us-east-2:123456789012:secret:fdb-nodes"
      token_keys  = "arn:aws:secretsmanager:us-east-2:123456789012:secret:token-keys"
    }
    ap = {
      link        = "arn:aws:secretsmanager:ap-southeast-2:123456789012:secret:link"
      fdb_servers = "arn:aws:secretsmanager:ap-southeast-2:123456789012:secret:fdb-servers"
      fdb_nodes   = "arn:aws:secretsmanager:ap-southeast-2:123456789012:secret:fdb-nodes"
      token_keys  = "arn:aws:secretsmanager:ap-southeast-2:123456789012:secret:token-keys"
    }
  }
}

run "three_regions_that_know_each_other" {
  command = apply

  assert {
    condition     = output.whimbrel_urls == "eu=https://eu.example.org,us=https://us.example.org,ap=https://ap.example.org"
    error_message = "the SDK must get all regions"
  }
  assert {
    condition     = output.regions[*].number == [1, 2, 3] && alltrue([for region in output.regions : length(region.quic) == 3])
    error_message = "each region has its number, and an address for links in each zone"
  }
  assert {
    condition     = toset(flatten(output.regions[*].quic)) == toset(["198.51.100.1:7400", "203.0.113.1:7400", "192.0.2.1:7400"])
    error_message = "each region must be known by its own addresses"
  }
  assert {
    condition     = toset(module.eu.peer_ranges) == toset(["203.0.113.1/32", "192.0.2.1/32"]) && toset(module.us.peer_ranges) == toset(["198.51.100.1/32", "192.0.2.1/32"]) && toset(module.ap.peer_ranges) == toset(["198.51.100.1/32", "203.0.113.1/32"])
    error_message = "each region must let in the two others, and nobody else"
  }
}

run "nobody_is_told_of_alerts" {
  command = plan
  variables {
    alert_subscribers = []
  }
  expect_failures = [check.somebody_is_told]
}

run "a_region_without_certificate_and_secrets" {
  command = plan
  variables {
    certificates = { for region, arn in var.certificates : region => arn if region != "ap" }
    secrets      = { for region, arns in var.secrets : region => arns if region != "us" }
  }
  expect_failures = [var.certificates, var.secrets]
}

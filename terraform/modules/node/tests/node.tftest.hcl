mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/node" }
  }
  mock_resource "aws_ssm_parameter" {
    defaults = { arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/node.toml" }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/net/whimbrel-eu/0" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/whimbrel-eu/0" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_eip" {
    defaults = { public_ip = "198.51.100.1" }
  }
}

variables {
  name   = "whimbrel-eu"
  region = "eu"
  regions = [
    { name = "eu", number = 1, urls = ["https://eu.example.org"], quic = ["198.51.100.1:7400"], egress_ips = ["198.51.100.11"] },
    { name = "us", number = 2, urls = ["https://us.example.org"], quic = ["203.0.113.1:7400"], egress_ips = ["203.0.113.11", "203.0.113.12"] },
    { name = "ap", number = 3, urls = ["https://ap.example.org"], quic = ["192.0.2.1:7400"], egress_ips = ["192.0.2.11", "192.0.2.12"] },
  ]
  cluster = { id = "etpo356mlrqubhall2vasuf6q8" }
  vpc_id  = "vpc-1"
  subnets = {
    a = { id = "subnet-a", cidr = "10.1.48.0/20" }
    b = { id = "subnet-b", cidr = "10.1.64.0/20" }
    c = { id = "subnet-c", cidr = "10.1.80.0/20" }
  }
  public_subnets = {
    a = { id = "subnet-d", cidr = "10.1.0.0/20" }
    b = { id = "subnet-e", cidr = "10.1.16.0/20" }
    c = { id = "subnet-f", cidr = "10.1.32.0/20" }
  }
  scrapers        = { prometheus = "sg-prometheus" }
  certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/0"
  fdb = {
    cluster_file      = "whimbrel_eu:0123456789abcdef@10.1.96.10:4500:tls"
    security_group_id = "sg-fdb"
    ports             = { first = 4500, last = 4502 }
    verify_peers      = "Check.Valid=1,S.O=Example"
  }
  secrets = {
    link       = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:link"
    fdb        = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:fdb"
    token_keys = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:tokens"
  }
  kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/0"
  release     = { bucket = "releases", key = "whimbrel-node", sha256 = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc" }
  packages    = { clients = { url = "https://example.org/foundationdb-clients.deb", sha256 = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" } }
}

run "a_region" {
  command = apply

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.peers : rule.cidr_ipv4]) == toset(["203.0.113.11/32", "203.0.113.12/32", "192.0.2.11/32", "192.0.2.12/32"])
    error_message = "links must be let in from the other regions' addresses, and from no others"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.peers : rule.ip_protocol == "udp" && rule.from_port == 7400 && rule.to_port == 7400])
    error_message = "from peers only the port of the links is open"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.clients : rule.ip_protocol == "tcp" && rule.from_port == 443 && rule.to_port == 443])
    error_message = "to clients only HTTPS is open"
  }
  assert {
    condition = alltrue([for rule in concat(values(aws_vpc_security_group_ingress_rule.balancer), values(aws_vpc_security_group_ingress_rule.scrapers)) :
    rule.cidr_ipv4 == null && rule.cidr_ipv6 == null && rule.referenced_security_group_id != null])
    error_message = "nodes take connections from groups only"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.scrapers : rule.from_port == 7101 && rule.to_port == 7102])
    error_message = "scrapers reach the metrics of node and proxy, and nothing else"
  }
  assert {
    condition     = aws_lb_target_group.https.health_check[0].path == "/readyz" && aws_lb_target_group.https.health_check[0].port == "7101" && aws_lb_target_group.https.health_check[0].matcher == "200"
    error_message = "clients must go to nodes that are ready only"
  }
  assert {
    condition     = aws_lb_target_group.quic.protocol == "UDP" && aws_lb_target_group.quic.load_balancing_cross_zone_enabled == "false"
    error_message = "each zone's address must lead to that zone's nodes"
  }
  assert {
    condition     = aws_lb_listener.https.protocol == "TLS" && aws_lb_target_group.https.protocol == "TLS"
    error_message = "clients must be served by TLS, as far as the node's machine"
  }
  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.block_device_mappings[0].ebs[0].encrypted == "true"
    error_message = "nodes need IMDSv2 and encrypted disks"
  }
  assert {
    condition     = aws_autoscaling_group.this.instance_maintenance_policy[0].min_healthy_percentage == 100 && aws_autoscaling_group.this.wait_for_capacity_timeout == "0" && aws_autoscaling_group.this.instance_refresh[0].preferences[0].min_healthy_percentage == 100 && length(aws_autoscaling_group.this.initial_lifecycle_hook) == 2
    error_message = "a rollout must wait for new nodes, and drain old ones"
  }
  assert {
    condition     = length(base64gzip(local.cloud_init)) <= 16384 && !strcontains(local.cloud_init, "BEGIN")
    error_message = "user data must fit into 16 KiB and hold no key"
  }
  assert {
    condition     = strcontains(local.config, "name = \"ap\"\nnumber = 3\nurls = [\"https://ap.example.org\"]\nquic = [\"192.0.2.1:7400\"]\n")
    error_message = "the config must list all regions"
  }
  assert {
    condition     = strcontains(local.config, "http = \"127.0.0.1:7100\"")
    error_message = "the API without TLS must not leave the machine"
  }
  assert {
    condition     = length(output.quic) == 3
    error_message = "an address for links in each zone"
  }
}

run "another_region_rolls_out" {
  command = plan
  variables {
    regions = [
      { name = "eu", number = 1, urls = ["https://eu.example.org"], quic = ["198.51.100.1:7400"], egress_ips = ["198.51.100.11"] },
      { name = "sa", number = 4, urls = ["https://sa.example.org"], quic = ["192.0.2.2:7400"], egress_ips = ["192.0.2.21"] },
    ]
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.peers : rule.cidr_ipv4]) == toset(["192.0.2.21/32"])
    error_message = "the new region must be let in, and those that are gone no more"
  }
  assert {
    condition     = strcontains(local.environment, "CONFIG_SHA256=${sha256(local.config)}")
    error_message = "another config must make other user data, and so a rollout"
  }
}

run "a_region_that_is_shut_out" {
  command = plan
  variables {
    peers = ["us"]
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.peers : rule.cidr_ipv4]) == toset(["203.0.113.11/32", "203.0.113.12/32"])
    error_message = "only peers that are named may come in"
  }
}

# Several wrong variables in one run, where none is judged by another: each must be refused.
run "an_unknown_peer_and_two_zones_and_other_things" {
  command = plan
  variables {
    peers    = ["us", "mars"]
    capacity = { min = 3, desired = 3, max = 3 }
    subnets  = { a = { id = "subnet-a", cidr = "10.1.48.0/20" }, b = { id = "subnet-b", cidr = "10.1.64.0/20" } }
    secrets  = { link = "-----BEGIN PRIVATE KEY-----", fdb = "x", token_keys = "x" }
  }
  expect_failures = [var.peers, var.capacity, var.subnets, var.secrets]
}

run "machines_that_cannot_be_and_ranges_that_are_none" {
  command = plan
  variables {
    instance_type = "c7g.large"
    client_cidrs  = ["203.0.113.9/24"]
    capacity      = { min = 3, desired = 3, max = 100 }
    regions = [
      { name = "eu", number = 1, urls = ["eu.example.org"], quic = ["198.51.100.1:7400"], egress_ips = ["198.51.100.11"] },
      { name = "us", number = 2, urls = ["https://us.example.org"], quic = ["nonsense"], egress_ips = ["203.0.113.11"] },
    ]
  }
  expect_failures = [var.instance_type, var.client_cidrs, var.capacity, var.regions]
}

run "addresses_of_the_newer_kind" {
  command = plan
  variables {
    instance_type = "banana"
    client_cidrs  = ["::/0"]
  }
  expect_failures = [var.instance_type, var.client_cidrs]
}

run "a_cluster_id_that_is_none_and_zones_that_differ" {
  command = plan
  variables {
    cluster        = { id = "my-cluster" }
    public_subnets = { a = { id = "subnet-d", cidr = "10.1.0.0/20" }, b = { id = "subnet-e", cidr = "10.1.16.0/20" }, z = { id = "subnet-f", cidr = "10.1.32.0/20" } }
  }
  expect_failures = [var.cluster, var.public_subnets]
}

run "a_region_that_is_not_in_the_list" {
  command = plan
  variables {
    region = "mars"
  }
  expect_failures = [var.region]
}

run "a_number_twice" {
  command = plan
  variables {
    regions = [
      { name = "eu", number = 1, urls = ["https://eu.example.org"], quic = ["198.51.100.1:7400"], egress_ips = [] },
      { name = "us", number = 1, urls = ["https://us.example.org"], quic = ["203.0.113.1:7400"], egress_ips = [] },
    ]
  }
  expect_failures = [var.regions]
}

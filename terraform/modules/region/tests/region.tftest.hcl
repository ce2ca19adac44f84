mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
}

variables {
  name   = "eu"
  number = 1
  cidr   = "10.1.0.0/16"
  zones  = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
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
  regions = [
    { name = "eu", number = 1, cidr = "10.1.0.0/16", urls = ["https://eu.example.org"], quic = ["198.51.100.1:7400"], egress_ips = ["198.51.100.11"] },
    { name = "us", number = 2, cidr = "10.2.0.0/16", urls = ["https://us.example.org"], quic = ["203.0.113.1:7400"], egress_ips = ["203.0.113.11"] },
  ]
  certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/0"
  secrets = {
    link        = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:link"
    fdb_servers = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:fdb-servers"
    fdb_nodes   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:fdb-nodes"
    token_keys  = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-keys"
  }
}

run "a_region" {
  command = plan

  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_key.this.deletion_window_in_days == 30
    error_message = "the key must be renewed, and its deletion be slow"
  }
  assert {
    condition     = length(module.fdb.coordinators) % 2 == 1
    error_message = "coordinators must be odd"
  }
  assert {
    condition     = module.dns.url == "https://eu.example.org" && output.region.urls == ["https://eu.example.org"] && output.region.number == 1
    error_message = "others must know the region as DNS does"
  }
  assert {
    condition     = length(output.region.quic) == 3 && length(output.region.egress_ips) == 3
    error_message = "others must know an address in each zone"
  }
}

run "a_list_without_this_region" {
  command = plan
  variables {
    regions = [
      { name = "us", number = 2, cidr = "10.2.0.0/16", urls = ["https://us.example.org"], quic = [], egress_ips = [] },
    ]
  }
  expect_failures = [var.regions]
}

run "a_number_twice" {
  command = plan
  variables {
    regions = [
      { name = "eu", number = 1, cidr = "10.1.0.0/16", urls = ["https://eu.example.org"], quic = [], egress_ips = [] },
      { name = "us", number = 1, cidr = "10.2.0.0/16", urls = ["https://us.example.org"], quic = [], egress_ips = [] },
    ]
  }
  expect_failures = [var.regions]
}

# Several wrong variables in one run, where none is judged by another: each must be refused.
run "one_zone_and_an_unknown_peer" {
  command = plan
  variables {
    zones = ["eu-central-1a"]
    peers = ["mars"]
  }
  expect_failures = [var.zones, var.peers]
}

run "what_stands_in_another_aws_region_and_the_name_of_the_authority" {
  command = plan
  variables {
    name            = "ca"
    certificate_arn = "arn:aws:acm:us-east-2:123456789012:certificate/0"
    secrets = {
      link        = "arn:aws:secretsmanager:us-east-2:123456789012:secret:link"
      fdb_servers = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:fdb-servers"
      fdb_nodes   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:fdb-nodes"
      token_keys  = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-keys"
    }
  }
  expect_failures = [var.name, var.certificate_arn, var.secrets]
}

run "zones_of_two_aws_regions" {
  command = plan
  variables {
    zones = ["eu-central-1a", "eu-central-1b", "us-east-2c"]
  }
  expect_failures = [var.zones]
}

run "a_url_for_a_domain" {
  command = plan
  variables {
    cluster = merge(var.cluster, { domain = "https://example.org/" })
  }
  expect_failures = [var.cluster]
}

run "another_number_than_in_the_list" {
  command = plan
  variables {
    number = 3
  }
  expect_failures = [var.regions]
}

run "overlapping_ranges" {
  command = plan
  variables {
    regions = [
      { name = "eu", number = 1, cidr = "10.1.0.0/16", urls = ["https://eu.example.org"], quic = [], egress_ips = [] },
      { name = "us", number = 2, cidr = "10.1.128.0/20", urls = ["https://us.example.org"], quic = [], egress_ips = [] },
    ]
  }
  expect_failures = [var.regions]
}

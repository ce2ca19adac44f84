mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/flow" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:flow" }
  }
}

variables {
  name        = "whimbrel-eu"
  cidr        = "10.1.0.0/16"
  zones       = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
  kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/0"
}

run "three_zones" {
  command = apply

  assert {
    condition     = length(output.public_subnets) == 3 && length(output.node_subnets) == 3 && length(output.fdb_subnets) == 3
    error_message = "each kind of subnet must be in each of three zones"
  }
  assert {
    condition     = length(distinct(values(aws_subnet.this)[*].cidr_block)) == 9
    error_message = "subnets must not share addresses"
  }
  assert {
    condition     = alltrue([for subnet in aws_subnet.this : !subnet.map_public_ip_on_launch])
    error_message = "no machine gets a public address"
  }
  assert {
    condition = alltrue([for key, association in aws_route_table_association.this :
    startswith(key, "public/") == (association.route_table_id == aws_route_table.public.id)])
    error_message = "only the load balancers' subnets have a way in from the internet"
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 3 && length(output.egress_ips) == 3
    error_message = "each zone needs its own way out"
  }
  assert {
    condition     = aws_flow_log.this.traffic_type == "ALL" && aws_cloudwatch_log_group.flow.kms_key_id == var.kms_key_arn
    error_message = "flow logs must hold all traffic, encrypted"
  }
  assert {
    condition     = length(aws_default_security_group.this.ingress) == 0 && length(aws_default_security_group.this.egress) == 0
    error_message = "the default security group must let nothing through"
  }
}

run "a_range_that_starts_in_its_middle" {
  command = plan
  variables {
    cidr = "10.1.7.0/16"
  }
  expect_failures = [var.cidr]
}

# Several wrong variables in one run, where none is judged by another: each must be refused.
run "one_zone_and_a_range_that_is_too_small_and_short_logs" {
  command = plan
  variables {
    zones         = ["eu-central-1a"]
    cidr          = "10.1.0.0/24"
    flow_log_days = 7
  }
  expect_failures = [var.zones, var.cidr, var.flow_log_days]
}

run "one_zone_named_three_times_and_a_public_range" {
  command = plan
  variables {
    zones = ["eu-central-1a", "eu-central-1a", "eu-central-1a"]
    cidr  = "8.8.0.0/16"
  }
  expect_failures = [var.zones, var.cidr]
}

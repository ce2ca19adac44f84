mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_security_group" {
    defaults = { id = "sg-fdb" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
}

variables {
  name   = "whimbrel-eu"
  vpc_id = "vpc-1"
  subnets = {
    a = { id = "subnet-a", cidr = "10.1.96.0/20" }
    b = { id = "subnet-b", cidr = "10.1.112.0/20" }
    c = { id = "subnet-c", cidr = "10.1.128.0/20" }
  }
  client_security_groups = { nodes = "sg-nodes" }
  packages = {
    server  = { url = "https://example.org/foundationdb-server.deb", sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }
    clients = { url = "https://example.org/foundationdb-clients.deb", sha256 = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" }
  }
  tls         = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:fdb", verify_peers = "Check.Valid=1,S.O=Example" }
  kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/0"
}

run "nine_machines_in_three_zones" {
  command = apply

  assert {
    condition     = length(aws_instance.this) == 9 && length(distinct(values(aws_instance.this)[*].private_ip)) == 9
    error_message = "three machines in each of three zones, each with its own address"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.this : rule.cidr_ipv4 == null && rule.cidr_ipv6 == null && rule.prefix_list_id == null])
    error_message = "FoundationDB's ports must be open to no range of addresses"
  }
  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.this : rule.referenced_security_group_id]) == toset(["sg-fdb", "sg-nodes"])
    error_message = "only the cluster itself and the nodes may come in"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.this : rule.from_port == 4500 && rule.to_port == 4502])
    error_message = "only the ports of its processes are open"
  }
  assert {
    condition     = length(output.coordinators) == 9 && length(output.coordinators) % 2 == 1
    error_message = "coordinators must be odd"
  }
  assert {
    condition = alltrue([for prefix in ["10.1.96.", "10.1.112.", "10.1.128."] :
    length([for ip in output.coordinators : ip if startswith(ip, prefix)]) == 3])
    error_message = "each zone must have a third of the coordinators"
  }
  assert {
    condition     = output.cluster_file == "whimbrel_eu:${substr(sha256("whimbrel-eu"), 0, 16)}@${join(",", [for ip in output.coordinators : "${ip}:4500:tls"])}"
    error_message = "the cluster file must name all coordinators, with TLS"
  }
  assert {
    condition     = alltrue([for machine in aws_instance.this : machine.disable_api_termination && machine.disable_api_stop && machine.metadata_options[0].http_tokens == "required" && machine.root_block_device[0].encrypted])
    error_message = "machines need protection from deletion and stops, IMDSv2 and encrypted disks"
  }
  assert {
    condition     = module.backups.expiring == ["data/"]
    error_message = "what says that there is a backup is written once, and must stay"
  }
  assert {
    condition     = alltrue([for key, files in local.files : strcontains(files["/etc/foundationdb/foundationdb.conf"], "locality-zoneid = ${local.machines[key].ip}\n")])
    error_message = "in three_data_hall a machine is a zone of its own within its hall"
  }
  assert {
    condition     = length([for files in local.files : 1 if strcontains(files["/etc/whimbrel/fdb.env"], "FIRST=true")]) == 1
    error_message = "one machine makes the database"
  }
  assert {
    condition     = alltrue([for document in local.cloud_init : length(base64gzip(document)) <= 16384 && !strcontains(document, "BEGIN")])
    error_message = "user data must fit into 16 KiB and hold no key"
  }
}

run "five_coordinators_with_double" {
  command = plan
  variables {
    redundancy_mode = "double"
    coordinators    = 5
  }

  assert {
    condition = alltrue([for prefix in ["10.1.96.", "10.1.112.", "10.1.128."] :
    length([for ip in output.coordinators : ip if startswith(ip, prefix)]) <= 2])
    error_message = "no zone may have the majority of the coordinators"
  }
  assert {
    condition     = alltrue([for key, files in local.files : strcontains(files["/etc/foundationdb/foundationdb.conf"], "locality-zoneid = ${local.machines[key].zone}\n")])
    error_message = "with double the two copies must be in two zones"
  }
}

run "another_role_moves_no_machine" {
  command = plan
  variables {
    roles = {
      main = { slot = 0, instance_type = "i4i.xlarge", per_zone = 3, classes = ["storage", "stateless"] }
      logs = { slot = 1, instance_type = "i4i.large", per_zone = 2, classes = ["transaction"] }
    }
  }

  assert {
    condition     = output.coordinators == run.nine_machines_in_three_zones.coordinators
    error_message = "coordinators must stay where they are"
  }
  assert {
    condition     = length(aws_instance.this) == 15
    error_message = "three and two machines in each zone"
  }
}

run "more_coordinators_than_machines" {
  command = plan
  variables {
    coordinators = 11
  }
  expect_failures = [var.coordinators]
}

# Several wrong variables in one run, where none is judged by another: each must be refused.
run "two_zones_and_a_mode_that_stops_with_a_zone_and_other_things" {
  command = plan
  variables {
    subnets         = { a = { id = "subnet-a", cidr = "10.1.96.0/20" }, b = { id = "subnet-b", cidr = "10.1.112.0/20" } }
    redundancy_mode = "triple"
    packages = {
      server  = { url = "https://example.org/foundationdb-server.deb", sha256 = "" }
      clients = { url = "https://example.org/foundationdb-clients.deb", sha256 = "" }
    }
    tls    = { secret_arn = "-----BEGIN PRIVATE KEY-----", verify_peers = "Check.Valid=1" }
    backup = { days = 7, snapshot_seconds = 604800 }
  }
  expect_failures = [var.subnets, var.redundancy_mode, var.packages, var.tls, var.backup]
}

run "even_coordinators" {
  command = plan
  variables {
    redundancy_mode = "double"
    coordinators    = 4
  }
  expect_failures = [var.coordinators]
}

run "too_few_coordinators_for_three_data_hall" {
  command = plan
  variables {
    coordinators = 5
  }
  expect_failures = [var.coordinators]
}

run "machines_without_disks" {
  command = plan
  variables {
    roles = { main = { slot = 0, instance_type = "m7i.xlarge", per_zone = 3, classes = ["storage", "transaction"] } }
  }
  expect_failures = [var.roles]
}

run "machines_of_another_architecture" {
  command = plan
  variables {
    roles = { main = { slot = 0, instance_type = "i4g.xlarge", per_zone = 3, classes = ["storage", "transaction"] } }
  }
  expect_failures = [var.roles]
}

run "memory_in_words" {
  command = plan
  variables {
    roles = { main = { slot = 0, instance_type = "i4i.xlarge", per_zone = 3, classes = ["storage", "transaction"], memory = "lots" } }
  }
  expect_failures = [var.roles]
}

run "a_slot_twice" {
  command = plan
  variables {
    roles = {
      main = { slot = 0, instance_type = "i4i.xlarge", per_zone = 3, classes = ["storage"] }
      logs = { slot = 0, instance_type = "i4i.xlarge", per_zone = 3, classes = ["transaction"] }
    }
  }
  expect_failures = [var.roles]
}

mock_provider "aws" {}

variables {
  zone_id     = "Z1"
  region      = "eu"
  aws_region  = "eu-central-1"
  host        = "eu.example.org"
  shared_host = "chat.example.org"
  balancer    = { dns_name = "lb.example.com", zone_id = "Z2" }
}

run "a_dead_region_leaves_the_answer" {
  command = apply

  assert {
    condition     = aws_route53_health_check.this.type == "HTTPS" && aws_route53_health_check.this.fqdn == "eu.example.org" && aws_route53_health_check.this.resource_path == "/readyz"
    error_message = "the health check must ask for readiness, as clients reach the region"
  }
  assert {
    condition     = aws_route53_record.shared.health_check_id == aws_route53_health_check.this.id && aws_route53_record.shared.alias[0].evaluate_target_health
    error_message = "the shared name must follow the health check and the load balancer's targets"
  }
  assert {
    condition     = aws_route53_record.shared.latency_routing_policy[0].region == "eu-central-1" && aws_route53_record.shared.set_identifier == "eu"
    error_message = "the shared name must lead to the nearest region"
  }
  assert {
    condition     = aws_route53_health_check.this.request_interval * aws_route53_health_check.this.failure_threshold <= 30
    error_message = "by default a dead region must be noticed within half a minute"
  }
  assert {
    condition     = !aws_route53_record.region.alias[0].evaluate_target_health && aws_route53_record.region.health_check_id == null
    error_message = "the region's own name must answer always: the health check asks it"
  }
}

run "one_name_for_both" {
  command = plan
  variables {
    shared_host = "eu.example.org"
  }
  expect_failures = [var.shared_host]
}

run "a_url_for_a_host_and_a_pace_that_the_service_does_not_know" {
  command = plan
  variables {
    host   = "https://eu.example.org"
    health = { seconds = 5 }
  }
  expect_failures = [var.host, var.health]
}

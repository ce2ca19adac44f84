# From outside, as clients see it: the way there, the certificate, the load balancer, and a node that says
# that it is ready.
resource "aws_route53_health_check" "this" {
  type              = "HTTPS"
  fqdn              = var.host
  port              = 443
  resource_path     = "/readyz"
  request_interval  = var.health.seconds
  failure_threshold = var.health.failures
  enable_sni        = true
  measure_latency   = true
  tags              = merge(var.tags, { Name = var.host })
}

# Each region by its own name: what the SDK's list has. It goes from one to another by itself.
resource "aws_route53_record" "region" {
  zone_id = var.zone_id
  name    = var.host
  type    = "A"

  alias {
    name                   = var.balancer.dns_name
    zone_id                = var.balancer.zone_id
    evaluate_target_health = false
  }
}

# One name for all: the nearest region answers, and one that is dead or not ready leaves by itself.
resource "aws_route53_record" "shared" {
  zone_id         = var.zone_id
  name            = var.shared_host
  type            = "A"
  set_identifier  = var.region
  health_check_id = aws_route53_health_check.this.id

  latency_routing_policy {
    region = var.aws_region
  }
  alias {
    name                   = var.balancer.dns_name
    zone_id                = var.balancer.zone_id
    evaluate_target_health = true
  }
}

output "region" {
  description = "What all regions must know of this one: an entry of their `regions`."
  value = {
    name       = var.name
    number     = var.number
    cidr       = var.cidr
    urls       = ["https://${local.host}"]
    quic       = module.node.quic
    egress_ips = module.network.egress_ips
    metrics    = module.observability.workspace
  }
}

output "url" {
  description = "Where clients reach this region."
  value       = module.dns.url
}

output "autoscaling_group" {
  description = "Name of the group that runs the nodes."
  value       = module.node.autoscaling_group
}

output "backup_bucket" {
  description = "Bucket with the continuous backup of the store."
  value       = module.fdb.backup_bucket
}

output "prometheus_endpoint" {
  description = "Where Grafana reads the metrics, with signed requests."
  value       = module.observability.prometheus_endpoint
}

output "dashboards_bucket" {
  description = "Bucket with the dashboards, as JSON for Grafana."
  value       = module.observability.dashboards_bucket
}

output "alerts_topic_arn" {
  description = "Topic of the alerts."
  value       = module.observability.alerts_topic_arn
}

output "peer_ranges" {
  description = "Addresses of other regions whose links are let in."
  value       = module.node.peer_ranges
}

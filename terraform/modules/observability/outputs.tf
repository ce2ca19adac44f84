output "workspace" {
  description = "The workspace of Amazon Managed Service for Prometheus, for the scrapers of other regions: { endpoint, arn, aws_region }."
  value = {
    endpoint   = aws_prometheus_workspace.this.prometheus_endpoint
    arn        = aws_prometheus_workspace.this.arn
    aws_region = data.aws_region.current.name
  }
}

output "prometheus_endpoint" {
  description = "Where Grafana reads the metrics, with signed requests."
  value       = aws_prometheus_workspace.this.prometheus_endpoint
}

output "alerts_topic_arn" {
  description = "Topic of the alerts."
  value       = aws_sns_topic.alerts.arn
}

output "dashboards_bucket" {
  description = "Bucket with the dashboards, as JSON for Grafana."
  value       = module.dashboards.id
}

output "security_group_id" {
  description = "The group that reads metrics: the nodes must let it in."
  value       = aws_security_group.this.id
}

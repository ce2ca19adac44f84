output "url" {
  description = "Where clients reach this region."
  value       = "https://${aws_route53_record.region.name}"
}

output "health_check_id" {
  description = "The health check, for alarms."
  value       = aws_route53_health_check.this.id
}

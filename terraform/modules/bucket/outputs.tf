output "expiring" {
  description = "What the names of objects begin with that are removed after `expire_days`."
  value       = flatten([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.filter[*].prefix if rule.status == "Enabled" && length(rule.expiration) > 0])
}

output "id" {
  description = "Name of the bucket, once it has its policy."
  value       = aws_s3_bucket_policy.this.id
}

output "arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.this.arn
}

output "cluster_file" {
  description = "Contents of the cluster file. No secret; clients need a copy that they can rewrite."
  value       = local.cluster_contents
}

output "coordinators" {
  description = "Addresses of the coordinators, in turn over the zones."
  value       = local.coordinators
}

output "security_group_id" {
  description = "The group of FoundationDB's machines."
  value       = aws_security_group.this.id
}

output "ports" {
  description = "First and last port of its processes."
  value       = { first = 4500, last = local.last_port }
}

output "backup_bucket" {
  description = "Bucket with the continuous backup."
  value       = module.backups.id
}

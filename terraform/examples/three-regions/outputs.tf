output "regions" {
  description = "All regions: name, number, cidr, urls, quic, egress_ips."
  value       = local.regions
}

output "whimbrel_urls" {
  description = "The list of regions for the SDK and the client: WHIMBREL_URLS."
  value       = join(",", [for region in local.regions : "${region.name}=${region.urls[0]}"])
}

output "shared_url" {
  description = "The nearest region that is healthy, for clients that know one address only."
  value       = "https://${var.cluster.shared_host}"
}

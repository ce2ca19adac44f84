output "regions" {
  description = "All regions, as the module `region` describes one: name, number, urls, quic."
  value       = local.regions
}

output "whimbrel_urls" {
  description = "The list of regions for the SDK and the client: WHIMBREL_URLS."
  value       = join(",", [for region in local.regions : "${region.name}=${region.urls[0]}"])
}

output "admin_urls" {
  description = "Admin listeners (health, metrics, digests), by region."
  value       = { for name, ports in local.ports : name => "http://127.0.0.1:${ports.admin}" }
}

output "token_key" {
  description = "File with the private key that signs tokens: `whimbrel token --key`."
  value       = "${local.folder}/pki/token.key.pem"
}

output "folder" {
  description = "Where configs, certificates, data, logs and pid files are."
  value       = local.folder
}

locals {
  zones = sort(keys(var.subnets))
  # Metrics of node and proxy stand side by side: who reads them is let in by one rule.
  ports = { https = 443, proxy = 7443, proxy_metrics = 7102, admin = 7101, quic = 7400 }

  peers = [for region in var.regions : region if region.name != var.region
  && (var.peers == null || contains(coalesce(var.peers, []), region.name))]

  config = templatefile("${path.module}/templates/node.toml.tftpl", {
    region   = var.region
    data_dir = "/var/lib/whimbrel/data"
    cluster  = var.cluster
    regions  = var.regions
    store = {
      engine       = "foundationdb"
      cluster_file = "/var/lib/whimbrel/fdb/fdb.cluster"
      tls = {
        cert         = "/run/whimbrel-secrets/fdb.cert.pem"
        key          = "/run/whimbrel-secrets/fdb.key.pem"
        ca           = "/run/whimbrel-secrets/fdb.ca.pem"
        verify_peers = var.fdb.verify_peers
      }
    }
    # Clients come through the proxy on the same machine, which speaks TLS.
    listen = { http = "127.0.0.1:7100", admin = "0.0.0.0:${local.ports.admin}", quic = "0.0.0.0:${local.ports.quic}" }
    tls = {
      ca   = "/run/whimbrel-secrets/link.ca.pem"
      cert = "/run/whimbrel-secrets/link.cert.pem"
      key  = "/run/whimbrel-secrets/link.key.pem"
    }
    token_keys = ["/run/whimbrel-secrets/token.pub.pem"]
    drain_ms   = var.drain_ms
    log        = { format = "json", filter = "info" }
  })
}

# No secret, only addresses; but who the nodes are is nobody else's business.
resource "aws_ssm_parameter" "config" {
  name   = "/whimbrel/${var.name}/node.toml"
  type   = "SecureString"
  key_id = var.kms_key_arn
  tier   = "Intelligent-Tiering"
  value  = local.config
  tags   = var.tags
}

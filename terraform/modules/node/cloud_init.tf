data "aws_region" "current" {}

locals {
  environment = templatefile("${path.module}/templates/node.env.tftpl", {
    region = data.aws_region.current.name
    # A node that starts again, or is replaced by the same template, keeps the config that it was made for.
    config          = "${aws_ssm_parameter.config.name}:${aws_ssm_parameter.config.version}"
    config_sha256   = nonsensitive(sha256(local.config))
    secrets         = var.secrets
    release         = var.release
    package         = var.packages.clients
    session_manager = var.session_manager
    group           = var.name
    hooks           = local.hooks
  })

  files = merge(
    {
      "/etc/whimbrel/node.env"            = local.environment
      "/etc/whimbrel/fdb.cluster"         = "${var.fdb.cluster_file}\n"
      "/etc/haproxy/haproxy.cfg"          = templatefile("${path.module}/templates/haproxy.cfg.tftpl", { ports = local.ports })
      "/etc/sysctl.d/90-whimbrel.conf"    = file("${path.module}/templates/sysctl.conf")
      "/etc/chrony/sources.d/aws.sources" = "server 169.254.169.123 prefer iburst minpoll 4 maxpoll 4\n"
      "/etc/systemd/system/whimbrel-node.service" = templatefile("${path.module}/templates/whimbrel-node.service.tftpl", {
        # Drain, then what is left to the store and the links.
        stop_seconds = ceil(var.drain_ms / 1000) + 15
      })
    },
    { for name in fileset("${path.module}/templates", "*.{service,timer}") :
    "/etc/systemd/system/${name}" => file("${path.module}/templates/${name}") },
  )
  scripts = { for name in ["install", "secrets", "lifecycle"] :
  "/usr/local/sbin/whimbrel-${name}" => file("${path.module}/templates/${name}.sh") }

  cloud_init = join("\n", ["#cloud-config", yamlencode({
    package_update  = true
    package_upgrade = true
    packages        = ["awscli", "chrony", "curl", "haproxy", "jq", "openssl", "sysstat", "tcpdump"]
    # HAProxy's package must not replace the config that is there.
    apt = { conf = "DPkg::Options { \"--force-confold\"; };" }
    write_files = concat(
      [for path, content in local.files : { path = path, content = content, permissions = "0644" }],
      [for path, content in local.scripts : { path = path, content = content, permissions = "0755" }],
    )
    runcmd = [["/usr/local/sbin/whimbrel-install"]]
  })])
}

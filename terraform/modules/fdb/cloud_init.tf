locals {
  files = { for key, machine in local.machines : key => {
    "/etc/foundationdb/foundationdb.conf" = templatefile("${path.module}/templates/foundationdb.conf.tftpl", {
      ip           = machine.ip
      zone         = machine.zone
      machine      = key
      zoneid       = var.redundancy_mode == "three_data_hall" ? machine.ip : machine.zone
      classes      = machine.role.classes
      memory       = machine.role.memory
      verify_peers = var.tls.verify_peers
    })
    "/etc/foundationdb/fdb.cluster" = "${local.cluster_contents}\n"
    "/etc/whimbrel/fdb.env" = templatefile("${path.module}/templates/fdb.env.tftpl", {
      region          = data.aws_region.current.name
      secret_arn      = var.tls.secret_arn
      verify_peers    = var.tls.verify_peers
      bucket          = module.backups.id
      snapshot        = var.backup.snapshot_seconds
      mode            = var.redundancy_mode
      engine          = var.storage_engine
      packages        = var.packages
      session_manager = var.session_manager
      # The first coordinator makes the database and starts its backup.
      first = machine.ip == local.coordinators[0]
    })
  } }

  scripts = { for name in ["disk", "tls", "credentials", "install", "bootstrap"] :
  "/usr/local/sbin/fdb-${name}" => file("${path.module}/templates/${name}.sh") }
  units = { for name in fileset("${path.module}/templates", "*.{service,timer}") :
  "/etc/systemd/system/${name}" => file("${path.module}/templates/${name}") }

  cloud_init = { for key, files in local.files : key => join("\n", ["#cloud-config", yamlencode({
    package_update  = true
    package_upgrade = true
    packages        = ["awscli", "chrony", "curl", "jq", "mdadm", "xfsprogs"]
    write_files = concat(
      [for path, content in merge(files, local.units) : { path = path, content = content, permissions = "0644" }],
      [for path, content in local.scripts : { path = path, content = content, permissions = "0755" }],
    )
    runcmd = [["/usr/local/sbin/fdb-install"]]
  })]) }
}

locals {
  folder  = abspath(coalesce(var.folder, "${path.module}/.whimbrel"))
  bin_dir = abspath(coalesce(var.bin_dir, "${path.module}/../../../target/release"))
  program = "${local.bin_dir}/whimbrel-node"
  script  = "${path.module}/scripts/cluster"

  ports = { for region in var.regions : region.name => {
    http  = var.port_base + 10 * region.number
    admin = var.port_base + 10 * region.number + 1
    quic  = var.port_base + 10 * region.number + 2
  } }

  # The same shape as in the module `region`.
  regions = [for region in var.regions : {
    name   = region.name
    number = region.number
    urls   = ["http://127.0.0.1:${local.ports[region.name].http}"]
    quic   = ["127.0.0.1:${local.ports[region.name].quic}"]
  }]

  configs = { for region in var.regions : region.name => templatefile("${path.module}/../../modules/node/templates/node.toml.tftpl", {
    region   = region.name
    data_dir = "data"
    cluster  = { id = terraform_data.id.output, shards = var.shards }
    regions  = local.regions
    store    = { engine = "embedded" }
    listen   = { for key, port in local.ports[region.name] : key => "127.0.0.1:${port}" }
    tls = {
      ca   = "../pki/ca.pem"
      cert = "../pki/${region.name}.pem"
      key  = "../pki/${region.name}.key.pem"
    }
    token_keys = ["../pki/token.pub.pem"]
    drain_ms   = var.drain_ms
    log        = { format = "human", filter = "info" }
  }) }
}

# 26 characters of base32hex; hexadecimal digits are some of its digits. A folder that is there keeps
# its own.
resource "terraform_data" "id" {
  triggers_replace = [local.folder]
  input            = try(trimspace(file("${local.folder}/cluster.id")), "${substr(replace(uuid(), "-", ""), 0, 25)}0")

  lifecycle {
    # uuid() is another one in every plan.
    ignore_changes = [input]
  }
}

# The folder with the authority and the token keys. Keys are made by the program and stay in the
# folder: none is in the state.
resource "terraform_data" "cluster" {
  triggers_replace = [local.folder]
  input = {
    folder      = local.folder
    remove_data = var.remove_data
    script      = local.script
  }

  lifecycle {
    precondition {
      condition     = fileexists(local.program)
      error_message = "There is no program ${local.program}: build it with `cargo build --release -p whimbrel-node -p whimbrel-client`, or set bin_dir to the folder where it is."
    }
  }

  provisioner "local-exec" {
    command     = "${self.input.script} init"
    environment = { FOLDER = self.input.folder, CLUSTER_ID = terraform_data.id.output, PROGRAM = local.program }
  }
  provisioner "local-exec" {
    when        = destroy
    command     = "${self.input.script} remove"
    environment = { FOLDER = self.input.folder, REMOVE_DATA = self.input.remove_data }
  }
}

# A region: its certificate, and the end of its process when the region is taken out of the list.
resource "terraform_data" "region" {
  for_each         = local.ports
  triggers_replace = [terraform_data.cluster.id]
  input            = { folder = local.folder, script = local.script }

  provisioner "local-exec" {
    command     = "${self.input.script} issue ${each.key}"
    environment = { FOLDER = self.input.folder, PROGRAM = local.program }
  }
  provisioner "local-exec" {
    when        = destroy
    command     = "${self.input.script} stop ${each.key}"
    environment = { FOLDER = self.input.folder }
  }
}

# Its config as it shall be. What runs does not notice until the rollout takes it.
resource "terraform_data" "config" {
  for_each         = local.ports
  triggers_replace = [local.configs[each.key], terraform_data.region[each.key].id]

  provisioner "local-exec" {
    command     = "${local.script} write ${each.key}"
    environment = { FOLDER = local.folder, CONFIG = local.configs[each.key] }
  }
}

# One for all regions, and without an end: its replacement must not stop what runs. The script goes
# from region to region and goes on only when one is ready again.
resource "terraform_data" "rollout" {
  triggers_replace = [local.configs, try(filesha256(local.program), null)]
  depends_on       = [terraform_data.config]

  provisioner "local-exec" {
    command     = "${local.script} rollout ${join(" ", var.regions[*].name)}"
    environment = { FOLDER = local.folder, PROGRAM = local.program }
  }
}

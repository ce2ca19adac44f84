# One region: all modules together. What other regions must know of it (output `region`) depends on addresses
# only, and on nothing that knows of other regions: so they can all name each other.
data "aws_region" "current" {}

locals {
  name = "whimbrel-${var.name}"
  host = "${var.name}.${var.cluster.domain}"
  tags = merge({ "whimbrel:cluster" = var.cluster.id }, var.tags)
}

module "network" {
  source      = "../network"
  name        = local.name
  cidr        = var.cidr
  zones       = var.zones
  kms_key_arn = aws_kms_key.this.arn
  tags        = local.tags
}

module "fdb" {
  source                 = "../fdb"
  name                   = local.name
  vpc_id                 = module.network.vpc_id
  subnets                = module.network.fdb_subnets
  client_security_groups = { nodes = module.node.security_group_id }
  redundancy_mode        = var.fdb.redundancy_mode
  coordinators           = var.fdb.coordinators
  roles                  = var.fdb.roles
  backup                 = var.fdb.backup
  ami_id                 = var.fdb.ami_id
  packages               = var.cluster.packages
  tls                    = { secret_arn = var.secrets.fdb_servers, verify_peers = var.cluster.verify_peers }
  kms_key_arn            = aws_kms_key.this.arn
  secrets_kms_key_arn    = var.secrets_kms_key_arn
  session_manager        = var.session_manager
  deletion_protection    = var.deletion_protection
  tags                   = local.tags
}

module "node" {
  source          = "../node"
  name            = local.name
  region          = var.name
  regions         = var.regions
  peers           = var.peers
  cluster         = { id = var.cluster.id, shards = var.cluster.shards }
  vpc_id          = module.network.vpc_id
  subnets         = module.network.node_subnets
  public_subnets  = module.network.public_subnets
  scrapers        = { prometheus = module.observability.security_group_id }
  certificate_arn = var.certificate_arn
  fdb = {
    cluster_file      = module.fdb.cluster_file
    security_group_id = module.fdb.security_group_id
    ports             = module.fdb.ports
    verify_peers      = var.cluster.verify_peers
  }
  secrets             = { link = var.secrets.link, fdb = var.secrets.fdb_nodes, token_keys = var.secrets.token_keys }
  secrets_kms_key_arn = var.secrets_kms_key_arn
  kms_key_arn         = aws_kms_key.this.arn
  release             = var.release == null ? var.cluster.release : var.release
  packages            = { clients = var.cluster.packages.clients }
  instance_type       = var.node.instance_type
  capacity            = var.node.capacity
  drain_ms            = var.node.drain_ms
  client_cidrs        = var.node.client_cidrs
  ami_id              = var.node.ami_id
  session_manager     = var.session_manager
  deletion_protection = var.deletion_protection
  tags                = local.tags
}

module "dns" {
  source      = "../dns"
  zone_id     = var.cluster.zone_id
  region      = var.name
  aws_region  = data.aws_region.current.name
  host        = local.host
  shared_host = var.cluster.shared_host
  balancer    = module.node.balancer
  tags        = local.tags
}

module "observability" {
  source                 = "../observability"
  name                   = local.name
  region                 = var.name
  vpc_id                 = module.network.vpc_id
  subnets                = module.network.node_subnets
  node_security_group_id = module.node.security_group_id
  other_workspaces       = [for region in var.regions : region.metrics if region.name != var.name && region.metrics != null]
  kms_key_arn            = aws_kms_key.this.arn
  alert_subscribers      = var.alert_subscribers
  instance_type          = var.scraper.instance_type
  scrape_seconds         = var.scraper.scrape_seconds
  ami_id                 = var.scraper.ami_id
  session_manager        = var.session_manager
  deletion_protection    = var.deletion_protection
  tags                   = local.tags
}

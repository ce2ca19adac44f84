resource "aws_security_group" "balancer" {
  name_prefix = "${var.name}-lb-"
  description = "Load balancer: clients by HTTPS, other regions by QUIC"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-lb" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each          = toset(var.client_cidrs)
  security_group_id = aws_security_group.balancer.id
  cidr_ipv4         = each.key
  description       = "Clients"
  ip_protocol       = "tcp"
  from_port         = local.ports.https
  to_port           = local.ports.https
  tags              = var.tags
}

# By number, as the addresses themselves are known only after the first apply.
resource "aws_vpc_security_group_ingress_rule" "peers" {
  for_each = merge([for region in local.peers : {
    for index, ip in region.egress_ips : "${region.name}/${index}" => ip
  }]...)
  security_group_id = aws_security_group.balancer.id
  cidr_ipv4         = "${each.value}/32"
  description       = "Links from ${split("/", each.key)[0]}"
  ip_protocol       = "udp"
  from_port         = local.ports.quic
  to_port           = local.ports.quic
  tags              = var.tags
}

resource "aws_vpc_security_group_egress_rule" "targets" {
  for_each = {
    proxy = { protocol = "tcp", port = local.ports.proxy }
    admin = { protocol = "tcp", port = local.ports.admin }
    quic  = { protocol = "udp", port = local.ports.quic }
  }
  security_group_id            = aws_security_group.balancer.id
  referenced_security_group_id = aws_security_group.node.id
  description                  = "To the nodes: ${each.key}"
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.port
  to_port                      = each.value.port
  tags                         = var.tags
}

resource "aws_security_group" "node" {
  name_prefix = "${var.name}-node-"
  description = "Nodes: their load balancer, and who reads metrics"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-node" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  for_each = {
    proxy = { protocol = "tcp", port = local.ports.proxy }
    admin = { protocol = "tcp", port = local.ports.admin }
    quic  = { protocol = "udp", port = local.ports.quic }
  }
  security_group_id            = aws_security_group.node.id
  referenced_security_group_id = aws_security_group.balancer.id
  description                  = "From the load balancer: ${each.key}"
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.port
  to_port                      = each.value.port
  tags                         = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "scrapers" {
  for_each                     = var.scrapers
  security_group_id            = aws_security_group.node.id
  referenced_security_group_id = each.value
  description                  = "Metrics of node and proxy for ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = local.ports.admin
  to_port                      = local.ports.proxy_metrics
  tags                         = var.tags
}

resource "aws_vpc_security_group_egress_rule" "fdb" {
  security_group_id            = aws_security_group.node.id
  referenced_security_group_id = var.fdb.security_group_id
  description                  = "FoundationDB"
  ip_protocol                  = "tcp"
  from_port                    = var.fdb.ports.first
  to_port                      = var.fdb.ports.last
  tags                         = var.tags
}

resource "aws_vpc_security_group_egress_rule" "world" {
  for_each = {
    # Other regions prove who they are by their certificates.
    quic  = { protocol = "udp", port = local.ports.quic, why = "Links to other regions" }
    https = { protocol = "tcp", port = 443, why = "Packages, secrets, the program" }
    http  = { protocol = "tcp", port = 80, why = "Packages of Debian, which are signed" }
  }
  security_group_id = aws_security_group.node.id
  cidr_ipv4         = "0.0.0.0/0"
  description       = each.value.why
  ip_protocol       = each.value.protocol
  from_port         = each.value.port
  to_port           = each.value.port
  tags              = var.tags
}

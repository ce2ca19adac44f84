# Closed: the cluster and the groups that are named, and nobody else.
resource "aws_security_group" "this" {
  name_prefix = "${var.name}-fdb-"
  description = "FoundationDB: its own machines and the nodes of its region"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-fdb" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "this" {
  for_each                     = merge({ itself = aws_security_group.this.id }, var.client_security_groups)
  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = each.value
  description                  = "FoundationDB from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 4500
  to_port                      = local.last_port
  tags                         = var.tags
}

resource "aws_vpc_security_group_egress_rule" "itself" {
  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = aws_security_group.this.id
  description                  = "FoundationDB"
  ip_protocol                  = "tcp"
  from_port                    = 4500
  to_port                      = local.last_port
  tags                         = var.tags
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.this.id
  cidr_ipv4         = "0.0.0.0/0"
  description       = "Packages, secrets, backups"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  tags              = var.tags
}

resource "aws_vpc_security_group_egress_rule" "http" {
  security_group_id = aws_security_group.this.id
  cidr_ipv4         = "0.0.0.0/0"
  description       = "Packages of Debian, which are signed"
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  tags              = var.tags
}

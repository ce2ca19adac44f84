output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "public_subnets" {
  description = "Subnets of load balancers and NAT gateways: { zone = { id, cidr } }."
  value       = { for zone, _ in local.zones : zone => { id = aws_subnet.this["public/${zone}"].id, cidr = local.subnets["public/${zone}"].cidr } }
  # A load balancer is refused where there is no way in, and the way goes only after the load balancer.
  depends_on = [aws_route.public, aws_route_table_association.this]
}

output "node_subnets" {
  description = "Private subnets of nodes: { zone = { id, cidr } }."
  value       = { for zone, _ in local.zones : zone => { id = aws_subnet.this["node/${zone}"].id, cidr = local.subnets["node/${zone}"].cidr } }
  # A machine that starts without a way out does not get what it is made of.
  depends_on = [aws_route.private, aws_route_table_association.this, aws_vpc_endpoint.s3]
}

output "fdb_subnets" {
  description = "Private subnets of FoundationDB: { zone = { id, cidr } }."
  value       = { for zone, _ in local.zones : zone => { id = aws_subnet.this["fdb/${zone}"].id, cidr = local.subnets["fdb/${zone}"].cidr } }
  # A machine that starts without a way out does not get what it is made of.
  depends_on = [aws_route.private, aws_route_table_association.this, aws_vpc_endpoint.s3]
}

output "egress_ips" {
  description = "Addresses from which the region's machines reach others, one for each zone."
  value       = [for zone in var.zones : aws_eip.out[zone].public_ip]
}

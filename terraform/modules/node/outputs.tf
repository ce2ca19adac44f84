output "quic" {
  description = "Where other regions reach the nodes, `address:port`, one for each zone."
  value       = [for zone in local.zones : "${aws_eip.this[zone].public_ip}:${local.ports.quic}"]
}

output "balancer" {
  description = "The load balancer, for DNS: { dns_name, zone_id }."
  value       = { dns_name = aws_lb.this.dns_name, zone_id = aws_lb.this.zone_id }
}

output "security_group_id" {
  description = "The group of the nodes."
  value       = aws_security_group.node.id
}

output "autoscaling_group" {
  description = "Name of the group that runs the nodes."
  value       = aws_autoscaling_group.this.name
}

output "peer_ranges" {
  description = "Whose links are let in."
  value       = [for rule in aws_vpc_security_group_ingress_rule.peers : rule.cidr_ipv4]
}

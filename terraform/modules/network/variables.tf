variable "name" {
  description = "Name of the network, such as \"whimbrel-eu\"; stands before the names of all resources."
  type        = string
}

variable "cidr" {
  description = "Addresses of the network: a private IPv4 range from /16 to /20. Networks of different regions must not overlap."
  type        = string

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && can(regex("^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.)", var.cidr))
    error_message = "cidr is not a private IPv4 range: give one such as \"10.1.0.0/16\"."
  }
  validation {
    condition     = try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 20, false)
    error_message = "cidr must be between /16 and /20, as it is cut into sixteen subnets: give a range such as \"10.1.0.0/16\"."
  }
  validation {
    condition     = try(cidrhost(var.cidr, 0) == split("/", var.cidr)[0], false)
    error_message = "cidr does not start where its range starts: write ${try("${cidrhost(var.cidr, 0)}/${split("/", var.cidr)[1]}", "a range such as 10.1.0.0/16")}."
  }
}

variable "zones" {
  description = "The three availability zones of the region, in an order that never changes: subnets are numbered by it."
  type        = list(string)

  validation {
    condition     = length(distinct(var.zones)) == 3 && length(var.zones) == 3
    error_message = "zones names ${length(distinct(var.zones))} different zones and must name three: with fewer, the loss of one takes the region's store down. Choose a region with three zones and name them."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the flow logs; its policy must let CloudWatch Logs use it."
  type        = string
}

variable "flow_log_days" {
  description = "Days that flow logs are kept: one of those that CloudWatch Logs knows, 365 or more."
  type        = number
  nullable    = false
  default     = 365

  validation {
    condition     = contains([365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.flow_log_days)
    error_message = "flow_log_days is not a time that CloudWatch Logs knows, of a year or more: give 365, 400, 545, 731 or 1096."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  nullable    = false
  default     = {}
}

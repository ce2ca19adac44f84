variable "zone_id" {
  description = "Public hosted zone of all names."
  type        = string
}

variable "region" {
  description = "Name of the Whimbrel region."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,31}$", var.region))
    error_message = "region \"${var.region}\" is not 1 to 32 of a-z, 0-9 and -, starting with a letter: choose a short name such as \"eu\"."
  }
}

variable "aws_region" {
  description = "The AWS region in which it is: latency is measured to it."
  type        = string
}

variable "host" {
  description = "Name of this region alone, such as `eu.example.org`. It answers whatever the region's health is."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.host))
    error_message = "host \"${var.host}\" is not the name of a host: give one such as eu.example.org."
  }
}

variable "shared_host" {
  description = "Name of all regions, such as `chat.example.org`: the nearest one that is healthy answers."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.shared_host)) && var.shared_host != var.host
    error_message = "shared_host \"${var.shared_host}\" is not the name of a host, or that of this region alone: give one such as chat.example.org."
  }
}

variable "balancer" {
  description = "The region's load balancer: { dns_name, zone_id }."
  type        = object({ dns_name = string, zone_id = string })
}

variable "health" {
  description = "How often readiness is asked, 10 or 30 seconds, and how many failures in a row (1 to 10) take the region out of the answer."
  type        = object({ seconds = optional(number, 10), failures = optional(number, 3) })
  nullable    = false
  default     = {}

  validation {
    condition     = contains([10, 30], var.health.seconds) && contains(range(1, 11), var.health.failures)
    error_message = "health.seconds must be 10 or 30, and health.failures 1 to 10: with 10 and 3 a dead region is out after half a minute and what resolvers keep."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  nullable    = false
  default     = {}
}

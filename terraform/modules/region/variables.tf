variable "name" {
  description = "Name of the region, in configs, certificates and host names."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,14}[a-z0-9])?$", var.name))
    error_message = "name \"${var.name}\" is not 1 to 16 of a-z, 0-9 and -, starting with a letter and not ending in -: choose a short one such as \"eu\"."
  }
  validation {
    condition     = !contains(["ca", "token"], var.name)
    error_message = "name \"${var.name}\" is that of a file beside the certificates of regions: choose another one, such as \"canada\"."
  }
}

variable "number" {
  description = "Number of the region, 1 to 65535: never reused, not even after the region was removed."
  type        = number

  validation {
    condition     = var.number >= 1 && var.number <= 65535 && floor(var.number) == var.number
    error_message = "number is not a whole number in 1 to 65535: give one that no region of this cluster ever had."
  }
}

variable "cidr" {
  description = "Addresses of the region's network: a private IPv4 range from /16 to /20 that no other region has."
  type        = string
}

variable "zones" {
  description = "The three availability zones, in an order that never changes."
  type        = list(string)

  validation {
    condition     = length(distinct(var.zones)) == 3 && length(var.zones) == 3
    error_message = "zones names ${length(distinct(var.zones))} different zones and must name three: with fewer, the loss of one takes the region down. Name the three zones."
  }
  validation {
    condition     = length(distinct([for zone in var.zones : replace(zone, "/[a-z]$/", "")])) <= 1
    error_message = "zones (${join(", ", var.zones)}) are of several AWS regions: name three zones of one."
  }
}

variable "cluster" {
  description = <<-TEXT
    What is the same for all regions: `id` and `shards` of the cluster; `domain`, of which each region gets a host; `shared_host`, the
    name of all regions; `zone_id` of their hosted zone; `release` and `packages`, the programs, as the modules `node` and `fdb`
    describe them; `verify_peers`, what FoundationDB's certificates must say.
  TEXT
  type = object({
    id           = string
    shards       = optional(number, 16)
    domain       = string
    shared_host  = string
    zone_id      = string
    release      = object({ bucket = string, key = string, sha256 = string })
    packages     = object({ server = object({ url = string, sha256 = string }), clients = object({ url = string, sha256 = string }) })
    verify_peers = string
  })

  validation {
    condition     = alltrue([for name in [var.cluster.domain, var.cluster.shared_host] : can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", name))])
    error_message = "cluster.domain \"${var.cluster.domain}\" or cluster.shared_host \"${var.cluster.shared_host}\" is not a name such as \"example.org\": leave out the scheme, ports and paths."
  }
}

variable "release" {
  description = "Another program than `cluster.release`, for a region that goes first. Null: that one."
  type        = object({ bucket = string, key = string, sha256 = string })
  default     = null
}

variable "regions" {
  description = "The outputs `region` of all regions, this one too. One line for each; the same list for every region."
  type = list(object({
    name       = string
    number     = number
    cidr       = string
    urls       = list(string)
    quic       = list(string)
    egress_ips = list(string)
    metrics    = optional(object({ endpoint = string, arn = string, aws_region = string }))
  }))

  # Two ranges overlap where they are the same in the bits of the shorter prefix.
  validation {
    condition = alltrue(flatten([for i, a in var.regions : [for j, b in var.regions :
      cidrhost("${split("/", a.cidr)[0]}/${min(split("/", a.cidr)[1], split("/", b.cidr)[1])}", 0)
      != cidrhost("${split("/", b.cidr)[0]}/${min(split("/", a.cidr)[1], split("/", b.cidr)[1])}", 0)
    if j > i]]))
    error_message = "The cidr of two regions overlap (${join(", ", [for region in var.regions : "${region.name} ${region.cidr}"])}): give every region a range of its own, so that their networks can be joined one day."
  }
  validation {
    condition     = length(distinct(var.regions[*].name)) == length(var.regions) && length(distinct(var.regions[*].number)) == length(var.regions)
    error_message = "A name or a number stands twice in regions: give every region its own, and never the number of a removed one."
  }
  # Here, not at `name`: what others know of this region must not depend on the list.
  validation {
    condition     = contains(var.regions[*].name, var.name)
    error_message = "regions (${join(", ", var.regions[*].name)}) lacks this region, \"${var.name}\": add this module's output `region` to the list."
  }
  validation {
    condition     = alltrue([for region in var.regions : region.number == var.number && region.cidr == var.cidr if region.name == var.name])
    error_message = "regions has another number or cidr for ${var.name} than number and cidr say: take this module's output `region` into the list."
  }
}

variable "peers" {
  description = "Names of the regions whose nodes are let in. Null: all others."
  type        = list(string)
  default     = null

  validation {
    condition     = length(setsubtract(coalesce(var.peers, []), var.regions[*].name)) == 0
    error_message = "peers names ${join(", ", setsubtract(coalesce(var.peers, []), var.regions[*].name))}, and regions has only ${join(", ", var.regions[*].name)}: add the region there, or take it out of peers."
  }
}

variable "certificate_arn" {
  description = "Certificate in ACM of this AWS region, for the region's host and the shared one."
  type        = string

  validation {
    condition     = alltrue([for zone in var.zones : startswith(zone, try(split(":", var.certificate_arn)[3], "no ARN"))])
    error_message = "certificate_arn is not in the AWS region of the zones (${join(", ", var.zones)}): give the ARN of the certificate that was requested there."
  }
}

variable "secrets" {
  description = <<-TEXT
    ARNs of secrets in Secrets Manager of this AWS region: `link`, JSON `{"ca", "cert", "key"}` from `whimbrel-node ca`; `fdb_servers` and `fdb_nodes`,
    the same for FoundationDB, from an authority that signs nothing else; `token_keys`, public keys that verify tokens.
  TEXT
  type        = object({ link = string, fdb_servers = string, fdb_nodes = string, token_keys = string })

  validation {
    condition     = alltrue(flatten([for arn in var.secrets : [for zone in var.zones : startswith(zone, try(split(":", arn)[3], "no ARN"))]]))
    error_message = "A value in secrets is not in the AWS region of the zones (${join(", ", var.zones)}): nodes would wait for it for ever. Give the ARNs of the secrets that are there."
  }
}

variable "secrets_kms_key_arn" {
  description = "Key that encrypts the secrets, where it is one of yours. Null: that of Secrets Manager."
  type        = string
  default     = null
}

variable "fdb" {
  description = "FoundationDB of this region: redundancy_mode, coordinators, roles, backup and ami_id as the module `fdb` describes them. What is left away has its defaults."
  type = object({
    redundancy_mode = optional(string)
    coordinators    = optional(number)
    roles = optional(map(object({
      slot          = number
      instance_type = string
      per_zone      = number
      classes       = list(string)
      memory        = optional(string, "8GiB")
    })))
    backup = optional(object({ days = optional(number, 14), snapshot_seconds = optional(number, 86400) }))
    ami_id = optional(string)
  })
  nullable = false
  default  = {}
}

variable "node" {
  description = "Nodes of this region: instance_type, capacity, drain_ms, client_cidrs and ami_id as the module `node` describes them."
  type = object({
    instance_type = optional(string)
    capacity      = optional(object({ min = number, desired = number, max = number }))
    drain_ms      = optional(number)
    client_cidrs  = optional(list(string))
    ami_id        = optional(string)
  })
  nullable = false
  default  = {}
}

variable "scraper" {
  description = "The machine of this region that reads metrics: instance_type, scrape_seconds and ami_id as the module `observability` describes them."
  type = object({
    instance_type  = optional(string)
    scrape_seconds = optional(number)
    ami_id         = optional(string)
  })
  nullable = false
  default  = {}
}

variable "alert_subscribers" {
  description = "Who is told of alerts by this region, which judges all: list of { protocol, endpoint }, as SNS knows them. Two regions should tell."
  type        = list(object({ protocol = string, endpoint = string }))
  nullable    = false
  default     = []
}

variable "session_manager" {
  description = "Whether operators can open a shell by AWS Session Manager; there is no SSH."
  type        = bool
  nullable    = false
  default     = true
}

variable "deletion_protection" {
  description = "Whether what holds data refuses to be deleted."
  type        = bool
  nullable    = false
  default     = true
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  nullable    = false
  default     = {}
}

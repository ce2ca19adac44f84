variable "name" {
  description = "Start of the names of all resources, such as \"whimbrel-eu\"."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,25}$", var.name))
    error_message = "name is not 1 to 26 of a-z, 0-9 and -, starting with a letter: choose a shorter or plainer one."
  }
}

variable "region" {
  description = "Name of the Whimbrel region of these nodes, one of `regions`."
  type        = string

  validation {
    condition     = contains(var.regions[*].name, var.region)
    error_message = "region \"${var.region}\" is not in regions (${join(", ", var.regions[*].name)}): add it there, or name one that is."
  }
}

variable "regions" {
  description = <<-TEXT
    All regions of the cluster: number (never reused), urls for clients, quic addresses for other regions, and the addresses
    from which their nodes come (egress_ips). The same for every region.
  TEXT
  type = list(object({
    name       = string
    number     = number
    urls       = list(string)
    quic       = list(string)
    egress_ips = list(string)
  }))

  validation {
    condition     = length(var.regions) >= 1 && length(var.regions) * var.cluster.shards <= 256
    error_message = "${length(var.regions)} regions with ${var.cluster.shards} shards are ${length(var.regions) * var.cluster.shards} logs, and 1 to 256 can be: list at least one region, and fewer shards where there are many."
  }
  validation {
    condition     = alltrue([for region in var.regions : can(regex("^[a-z][a-z0-9-]{0,31}$", region.name))])
    error_message = "A name in regions is not 1 to 32 of a-z, 0-9 and -, starting with a letter: choose a short one such as \"eu\" or \"us-east\"."
  }
  validation {
    condition     = length(distinct(var.regions[*].name)) == length(var.regions) && length(distinct(var.regions[*].number)) == length(var.regions)
    error_message = "A name or a number stands twice in regions: give every region its own, and never the number of a removed one."
  }
  validation {
    condition     = alltrue([for region in var.regions : region.number >= 1 && region.number <= 65535 && floor(region.number) == region.number])
    error_message = "A number in regions is not a whole number in 1 to 65535: give one that no region of this cluster ever had."
  }
  validation {
    condition = alltrue(flatten([for region in var.regions : [
      [for url in region.urls : can(regex("^https?://[^/\\s]+$", url))],
      [for address in region.quic : can(regex("^[^/\\s]+:[0-9]+$", address))],
    ]]))
    error_message = "A region's urls are not such as \"https://eu.example.org\", without a path, or its quic addresses not such as \"198.51.100.1:7400\"."
  }
}

variable "peers" {
  description = "Names of the regions whose nodes are let in. Null: all others. Fewer while a region is shut out; it can still be reached through a third one."
  type        = list(string)
  default     = null

  validation {
    condition     = length(setsubtract(coalesce(var.peers, []), var.regions[*].name)) == 0
    error_message = "peers names ${join(", ", setsubtract(coalesce(var.peers, []), var.regions[*].name))}, and regions has only ${join(", ", var.regions[*].name)}: add the region there, or take it out of peers."
  }
  validation {
    condition     = !contains(coalesce(var.peers, []), var.region)
    error_message = "peers names ${var.region} itself: take it out."
  }
}

variable "cluster" {
  description = "The cluster: its id (26 characters of base32hex, made once) and its shards (1 to 64, fixed once there is data). The same for every region."
  type        = object({ id = string, shards = optional(number, 16) })

  validation {
    condition     = can(regex("^[0-9a-v]{25}[048cgkos]$", var.cluster.id))
    error_message = "cluster.id is not 16 bytes in lower-case base32hex: make one, once, with `head -c16 /dev/urandom | basenc --base32hex | tr 'A-Z' 'a-z' | tr -d '='`."
  }
  validation {
    condition     = contains(range(1, 65), var.cluster.shards)
    error_message = "cluster.shards is not a whole number in 1 to 64: 16 carry most clusters."
  }
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnets" {
  description = "Private subnets of the nodes: { zone = { id, cidr } }, in three zones."
  type        = map(object({ id = string, cidr = string }))

  validation {
    condition     = length(var.subnets) == 3
    error_message = "subnets are in ${length(var.subnets)} zones and must be in three: give one subnet in each of the region's three zones."
  }
}

variable "public_subnets" {
  description = "Subnets of the load balancer: { zone = { id, cidr } }, in the zones of `subnets`."
  type        = map(object({ id = string, cidr = string }))

  validation {
    condition     = toset(keys(var.public_subnets)) == toset(keys(var.subnets))
    error_message = "public_subnets are in ${join(", ", keys(var.public_subnets))}, and subnets in ${join(", ", keys(var.subnets))}: give one of each kind in every zone."
  }
}

variable "client_cidrs" {
  description = "Who may call the API. Fewer than all: add the ranges of the DNS health checkers, or the region leaves the answer."
  type        = list(string)
  nullable    = false
  default     = ["0.0.0.0/0"]

  validation {
    condition     = alltrue([for cidr in var.client_cidrs : can(regex("^[0-9.]+/[0-9]+$", cidr)) && try(cidrhost(cidr, 0), "") == split("/", cidr)[0]])
    error_message = "client_cidrs has something that is no range of IPv4 addresses from its first one on: write such as \"203.0.113.0/24\"."
  }
}

variable "scrapers" {
  description = "Who may read metrics from the admin listener and the proxy, which have no authentication: { what = security group id }."
  type        = map(string)
  nullable    = false
  default     = {}
}

variable "certificate_arn" {
  description = "Certificate of the API in ACM, for the region's name and the name of all regions."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:acm:", var.certificate_arn))
    error_message = "certificate_arn is not the ARN of a certificate in ACM: request one in this AWS region."
  }
}

variable "fdb" {
  description = "The region's FoundationDB: contents of the cluster file, its security group, first and last port, and what its certificates must say. One region, one cluster."
  type = object({
    cluster_file      = string
    security_group_id = string
    ports             = object({ first = number, last = number })
    verify_peers      = string
  })
}

variable "secrets" {
  description = <<-TEXT
    ARNs of secrets in Secrets Manager: `link`, JSON `{"ca", "cert", "key"}` from `whimbrel-node ca`, for this region; `fdb`, the
    same towards FoundationDB; `token_keys`, public keys that verify tokens (PEM or JWKS). Instances read them; values never come here.
  TEXT
  type        = object({ link = string, fdb = string, token_keys = string })

  validation {
    condition     = alltrue([for arn in var.secrets : can(regex("^arn:[a-z-]+:secretsmanager:", arn))])
    error_message = "A value in secrets is not the ARN of a secret in Secrets Manager: certificates and keys never come as values."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the config."
  type        = string
}

variable "secrets_kms_key_arn" {
  description = "Key that encrypts the secrets, where it is another one of yours. Null: that of Secrets Manager."
  type        = string
  default     = null
}

variable "release" {
  description = "The program: bucket and key of a `whimbrel-node` built with the feature `foundationdb`, and its SHA-256. Another one is rolled out by the apply."
  type        = object({ bucket = string, key = string, sha256 = string })

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.release.sha256)) && can(regex("^[A-Za-z0-9._/-]+$", var.release.key)) && can(regex("^[a-z0-9.-]+$", var.release.bucket))
    error_message = "release wants the name of a bucket, a plain key, and 64 hexadecimal digits: give what `sha256sum target/release/whimbrel-node` says."
  }
}

variable "packages" {
  description = "FoundationDB's Debian package `foundationdb-clients`: its https URL and SHA-256."
  type        = object({ clients = object({ url = string, sha256 = string }) })

  validation {
    condition     = can(regex("^https://[^\\s'\"]+\\.deb$", var.packages.clients.url)) && can(regex("^[0-9a-f]{64}$", var.packages.clients.sha256))
    error_message = "packages.clients wants the https URL of a .deb and the 64 hexadecimal digits of its SHA-256."
  }
}

variable "ami_id" {
  description = "Image of the nodes: Debian 12 of the program's architecture. Null: Debian's current one for amd64 as of each plan, so that an apply replaces machines when Debian has a newer one: give one in production."
  type        = string
  default     = null
}

variable "instance_type" {
  description = "Type of the nodes. They keep nothing but a key of their own."
  type        = string
  nullable    = false
  default     = "c7i.large"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*[0-9][a-z0-9-]*\\.([0-9]*xlarge|medium|large|metal.*)$", var.instance_type))
    error_message = "instance_type \"${var.instance_type}\" is no type of machine that carries a node: take one such as c7i.large."
  }
  validation {
    condition     = var.ami_id != null || !can(regex("^[a-z]+[0-9]+g", var.instance_type))
    error_message = "instance_type \"${var.instance_type}\" has an ARM processor, and without ami_id the image is for amd64: give an image for arm64 and a program built for it, or take a type such as c7i.large."
  }
}

variable "capacity" {
  description = "How many nodes: one for each zone at least, so that each address for links has one behind it."
  type        = object({ min = number, desired = number, max = number })
  nullable    = false
  default     = { min = 3, desired = 3, max = 6 }

  validation {
    condition     = var.capacity.min >= 3 && var.capacity.min <= var.capacity.desired && var.capacity.desired < var.capacity.max
    error_message = "capacity must have 3 <= min <= desired < max: a node in every zone, and room for one more while nodes are replaced."
  }
  validation {
    condition     = alltrue([for count in values(var.capacity) : floor(count) == count]) && var.capacity.max <= 64
    error_message = "capacity has a part of a node, or a max above 64: other regions take no more than 64 links from one."
  }
}

variable "drain_ms" {
  description = "How long running calls may take to end when a node stops, in milliseconds."
  type        = number
  nullable    = false
  default     = 10000

  validation {
    condition     = var.drain_ms >= 0 && var.drain_ms <= 60000
    error_message = "drain_ms is outside 0 to 60000 milliseconds: 10000 is long enough for most calls."
  }
}

variable "session_manager" {
  description = "Whether operators can open a shell by AWS Session Manager; there is no SSH."
  type        = bool
  nullable    = false
  default     = true
}

variable "log_days" {
  description = "Days that the load balancer's access logs are kept."
  type        = number
  nullable    = false
  default     = 90
}

variable "deletion_protection" {
  description = "Whether the load balancer refuses to be deleted."
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

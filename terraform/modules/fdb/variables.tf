variable "name" {
  description = "Name of the cluster, such as \"whimbrel-eu\"; stands before the names of all resources."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,25}$", var.name))
    error_message = "name is not 1 to 26 of a-z, 0-9 and -, starting with a letter: choose a shorter or plainer one."
  }
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnets" {
  description = "Private subnets, one in each of three zones: { zone = { id, cidr } }. Machines have fixed addresses in them, from the eleventh on."
  type        = map(object({ id = string, cidr = string }))

  validation {
    condition     = length(var.subnets) == 3
    error_message = "subnets are in ${length(var.subnets)} zones and must be in three: with fewer, the loss of one takes the store down. Give one subnet in each of three zones."
  }
}

variable "client_security_groups" {
  description = "Who may reach the cluster beside itself: { what = security group id }. FoundationDB has no access control: whoever reaches it reads and deletes everything."
  type        = map(string)
  nullable    = false
  default     = {}
}

variable "redundancy_mode" {
  description = <<-TEXT
    `three_data_hall` keeps data in every zone and survives the loss of a zone and one machine more; `double` keeps it in
    two and survives the loss of a zone or a machine. Only the first start reads it; later `fdbcli` changes it.
  TEXT
  type        = string
  nullable    = false
  default     = "three_data_hall"

  validation {
    condition     = contains(["three_data_hall", "double"], var.redundancy_mode)
    error_message = "redundancy_mode \"${var.redundancy_mode}\" does not go on over three zones when one is lost (single has no copy; triple wants three live zones): take three_data_hall or double."
  }
}

variable "storage_engine" {
  description = "FoundationDB's storage engine. Only the first start reads it."
  type        = string
  nullable    = false
  default     = "ssd"

  validation {
    condition     = contains(["ssd", "ssd-redwood-1"], var.storage_engine)
    error_message = "storage_engine \"${var.storage_engine}\" keeps no data on disk or is unknown here: take ssd."
  }
}

variable "coordinators" {
  description = "How many machines are coordinators, odd; the first of each zone in turn. Nine or more with `three_data_hall`."
  type        = number
  nullable    = false
  default     = 9

  validation {
    condition     = var.coordinators % 2 == 1 && var.coordinators >= 3
    error_message = "coordinators is ${var.coordinators} and must be odd and at least 3: with an even number, half of them are no majority. Take 5, or 9 with three_data_hall."
  }
  validation {
    condition     = var.redundancy_mode != "three_data_hall" || var.coordinators >= 9
    error_message = "coordinators is ${var.coordinators}, and three_data_hall wants 9 to survive a zone and a machine: take 9, or the mode double."
  }
  validation {
    condition     = var.coordinators <= 3 * sum([for role in var.roles : role.per_zone])
    error_message = "coordinators is ${var.coordinators} with only ${3 * sum([for role in var.roles : role.per_zone])} machines: take fewer, or raise per_zone in roles."
  }
}

variable "roles" {
  description = <<-TEXT
    Kinds of machines. `slot` (0 to 6) decides their addresses: never change or reuse it. `per_zone` machines (1 to 32) are in each
    zone. `classes` are the processes of a machine, one for each core at most and one of class `storage` for each disk;
    `memory` is what each may take. Types need local NVMe disks: it is where the data is.
  TEXT
  type = map(object({
    slot          = number
    instance_type = string
    per_zone      = number
    classes       = list(string)
    memory        = optional(string, "8GiB")
  }))
  nullable = false
  default = {
    main = {
      slot          = 0
      instance_type = "i4i.xlarge"
      per_zone      = 3
      classes       = ["storage", "transaction", "stateless"]
    }
  }

  validation {
    condition     = length(var.roles) >= 1 && length(distinct([for role in var.roles : role.slot])) == length(var.roles)
    error_message = "Two roles have the same slot, or there is none: give every role its own, from 0 to 6."
  }
  validation {
    condition     = alltrue([for role in var.roles : contains(range(7), role.slot) && contains(range(1, 33), role.per_zone)])
    error_message = "A role has a slot outside 0 to 6 or a per_zone outside 1 to 32: addresses are given out by them."
  }
  validation {
    condition = alltrue(flatten([for role in var.roles : [
      length(role.classes) >= 1 && length(role.classes) <= 16,
      [for class in role.classes : contains(["storage", "transaction", "log", "stateless", "unset"], class)],
    ]]))
    error_message = "A role has no classes, more than 16, or an unknown one: list storage, transaction, log, stateless or unset."
  }
  validation {
    condition = (anytrue([for role in var.roles : contains(role.classes, "storage")])
    && anytrue([for role in var.roles : length(setintersection(role.classes, ["transaction", "log"])) > 0]))
    error_message = "No role has storage processes, or none has transaction processes: the cluster needs both."
  }
  validation {
    condition     = alltrue([for role in var.roles : can(regex("^(i3|i3en|i4i|i4g|i7i|i7ie|i8g|im4gn|is4gen|m5d|m5ad|m6id|m6gd|m7gd|c5d|c6id|c6gd|c7gd|r5d|r6id|r6gd|r7gd|d3|d3en)\\.", role.instance_type))])
    error_message = "An instance_type has no local NVMe disk: take one such as i4i.xlarge."
  }
  validation {
    condition     = alltrue([for role in var.roles : can(regex("\\.([0-9]*xlarge|medium|large|metal.*)$", role.instance_type))])
    error_message = "An instance_type has no size that there is: take one such as i4i.xlarge."
  }
  validation {
    condition     = var.ami_id != null || alltrue([for role in var.roles : !can(regex("^[a-z]+[0-9]+g", role.instance_type))])
    error_message = "An instance_type has an ARM processor, and without ami_id the image is for amd64: give an image for arm64 and packages built for it, or take a type such as i4i.xlarge."
  }
  validation {
    condition     = alltrue([for role in var.roles : can(regex("^[1-9][0-9]*(MiB|GiB)$", role.memory))])
    error_message = "A memory in roles is not such as \"8GiB\": it is what each process of the role may take."
  }
  validation {
    condition = var.redundancy_mode != "three_data_hall" || sum(concat([0], [
    for role in var.roles : role.per_zone if length(setintersection(role.classes, ["transaction", "log"])) > 0])) >= 2
    error_message = "three_data_hall keeps each log on two machines in two zones: raise per_zone of the roles with transaction processes to 2 or more, better 3."
  }
}

variable "packages" {
  description = "FoundationDB's own Debian packages, the same 7.3 release: https URLs of `foundationdb-server` and `foundationdb-clients` and their SHA-256. An instance that gets something else does not start."
  type = object({
    server  = object({ url = string, sha256 = string })
    clients = object({ url = string, sha256 = string })
  })

  validation {
    condition     = alltrue([for package in var.packages : can(regex("^https://[^\\s'\"]+\\.deb$", package.url))])
    error_message = "A URL in packages is not that of a .deb by https: give the project's release, or a mirror of yours."
  }
  validation {
    condition     = alltrue([for package in var.packages : can(regex("^[0-9a-f]{64}$", package.sha256))])
    error_message = "A sha256 in packages is not 64 hexadecimal digits: give what `sha256sum` says of the package that you have checked."
  }
}

variable "ami_id" {
  description = "Image of the machines: Debian 12 of the packages' architecture. Null: Debian's current one for amd64. Later images do not replace machines that run."
  type        = string
  default     = null
}

variable "tls" {
  description = "Mutual TLS: ARN of a secret with JSON `{\"ca\", \"cert\", \"key\"}` (PEM), and what the others' certificates must say, such as `Check.Valid=1,S.O=Example`."
  type        = object({ secret_arn = string, verify_peers = string })

  validation {
    condition     = can(regex("^arn:[a-z-]+:secretsmanager:", var.tls.secret_arn))
    error_message = "tls.secret_arn is not the ARN of a secret in Secrets Manager: certificates and keys never come as values."
  }
  validation {
    condition     = can(regex("Check\\.Valid=1", var.tls.verify_peers)) && !can(regex("[\\s'\"]", var.tls.verify_peers))
    error_message = "tls.verify_peers does not demand valid certificates: begin with \"Check.Valid=1\", such as \"Check.Valid=1,S.O=Example\"."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts disks and backups."
  type        = string
}

variable "secrets_kms_key_arn" {
  description = "Key that encrypts the secrets, where it is another one of yours. Null: that of Secrets Manager."
  type        = string
  default     = null
}

variable "backup" {
  description = "Days that backups are kept, at least 2; seconds between snapshots. Restoring wants all since the last snapshot that was complete, so keep at least three of them."
  type        = object({ days = optional(number, 14), snapshot_seconds = optional(number, 86400) })
  nullable    = false
  default     = {}

  validation {
    condition     = var.backup.days >= 2 && var.backup.snapshot_seconds >= 3600 && var.backup.days * 86400 >= 3 * var.backup.snapshot_seconds
    error_message = "backup.days must be 2 or more and cover three snapshots of ${var.backup.snapshot_seconds} seconds (3600 or more): keep them longer, or take snapshots more often."
  }
}

variable "session_manager" {
  description = "Whether operators can open a shell by AWS Session Manager; there is no SSH."
  type        = bool
  nullable    = false
  default     = true
}

variable "deletion_protection" {
  description = "Whether machines with data refuse to be terminated, and the bucket with backups to be removed while it holds any."
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

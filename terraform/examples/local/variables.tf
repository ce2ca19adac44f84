variable "regions" {
  description = <<-TEXT
    All regions of the cluster: name (1 to 32 of a-z, 0-9 and -, starting with a letter) and number (1 to 1000, never
    reused, not even after the region was removed). One more line adds a region to the running cluster.
  TEXT
  type = list(object({
    name   = string
    number = number
  }))
  nullable = false
  default = [
    { name = "eu", number = 1 },
    { name = "us", number = 2 },
    { name = "ap", number = 3 },
  ]

  validation {
    condition     = length(var.regions) >= 1 && length(var.regions) * var.shards <= 256
    error_message = "${length(var.regions)} regions with ${var.shards} shards are ${length(var.regions) * var.shards} logs, and 1 to 256 can be: list at least one region, and fewer shards where there are many."
  }
  validation {
    condition     = alltrue([for region in var.regions : can(regex("^[a-z][a-z0-9-]{0,31}$", region.name))])
    error_message = "A name in regions is not 1 to 32 of a-z, 0-9 and -, starting with a letter: choose a short one such as \"eu\" or \"us-east\"."
  }
  validation {
    condition     = length(setintersection(var.regions[*].name, ["ca", "token"])) == 0
    error_message = "A region is called ca or token, and so are files beside the certificates of regions: choose another name, such as \"canada\"."
  }
  validation {
    condition     = length(distinct(var.regions[*].name)) == length(var.regions)
    error_message = "A name stands twice in regions: give every region its own."
  }
  validation {
    condition     = alltrue([for region in var.regions : region.number >= 1 && region.number <= 1000 && floor(region.number) == region.number])
    error_message = "A number in regions is not a whole number in 1 to 1000: give one that no region of this cluster ever had."
  }
  validation {
    condition     = length(distinct(var.regions[*].number)) == length(var.regions)
    error_message = "A number stands twice in regions: give every region its own, and never one of a removed region."
  }
}

variable "shards" {
  description = "Shards of the cluster, 1 to 64, fixed once there is data. More commit side by side; tokens grow."
  type        = number
  nullable    = false
  default     = 16

  validation {
    condition     = var.shards >= 1 && var.shards <= 64 && floor(var.shards) == var.shards
    error_message = "shards is not a whole number in 1 to 64: 16 carry most clusters."
  }
}

variable "port_base" {
  description = "Ports start here: a region with number N listens on port_base + 10 N (clients), + 1 (admin) and + 2 (links, UDP)."
  type        = number
  nullable    = false
  default     = 17000

  validation {
    condition     = floor(var.port_base) == var.port_base && var.port_base >= 1024 && var.port_base + 10 * max(0, var.regions[*].number...) + 2 <= 65535
    error_message = "With these regions port_base must be a whole number in 1024 to ${65533 - 10 * max(0, var.regions[*].number...)}: choose a lower one."
  }
}

variable "folder" {
  description = "Where configs, certificates, data, logs and pid files go; made where it is missing. Default: `.whimbrel` beside this configuration."
  type        = string
  default     = null

  validation {
    condition     = var.folder == null || can(regex("^[A-Za-z0-9_./-]+$", var.folder))
    error_message = "folder has characters other than letters, digits and _./-: choose a plain path."
  }
  validation {
    condition     = var.folder == null || !contains(["/", "."], dirname("${coalesce(var.folder, "a/b")}/x"))
    error_message = "folder is this configuration's own or the root: choose one for the cluster alone."
  }
}

variable "bin_dir" {
  description = "Folder with the program `whimbrel-node`. A new build there is rolled out by the next apply. Default: `target/release` of this checkout."
  type        = string
  default     = null
}

variable "drain_ms" {
  description = "How long running calls may take to end when a node is stopped, in milliseconds."
  type        = number
  nullable    = false
  default     = 3000

  validation {
    condition     = floor(var.drain_ms) == var.drain_ms && var.drain_ms >= 0 && var.drain_ms <= 60000
    error_message = "drain_ms is not a whole number in 0 to 60000 milliseconds: 3000 is long enough for most calls."
  }
}

variable "remove_data" {
  description = "Whether `terraform destroy` removes the folder, with all messages and keys and whatever else is in it. As of the last apply."
  type        = bool
  nullable    = false
  default     = false
}

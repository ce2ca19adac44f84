# The list of all regions. A fourth one is a line here, and a block with its provider below.
locals {
  regions = [
    module.eu.region,
    module.us.region,
    module.ap.region,
  ]
}

module "eu" {
  source          = "../../modules/region"
  providers       = { aws = aws.eu }
  name            = "eu"
  number          = 1
  cidr            = "10.1.0.0/16"
  zones           = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
  cluster         = var.cluster
  regions         = local.regions
  certificate_arn = var.certificates["eu"]
  secrets         = var.secrets["eu"]
  # Each region judges all: two tell, so that one can be down.
  alert_subscribers = var.alert_subscribers
}

module "us" {
  source          = "../../modules/region"
  providers       = { aws = aws.us }
  name            = "us"
  number          = 2
  cidr            = "10.2.0.0/16"
  zones           = ["us-east-2a", "us-east-2b", "us-east-2c"]
  cluster         = var.cluster
  regions         = local.regions
  certificate_arn = var.certificates["us"]
  secrets         = var.secrets["us"]
  # Each region judges all: two tell, so that one can be down.
  alert_subscribers = var.alert_subscribers
}

module "ap" {
  source          = "../../modules/region"
  providers       = { aws = aws.ap }
  name            = "ap"
  number          = 3
  cidr            = "10.3.0.0/16"
  zones           = ["ap-southeast-2a", "ap-southeast-2b", "ap-southeast-2c"]
  cluster         = var.cluster
  regions         = local.regions
  certificate_arn = var.certificates["ap"]
  secrets         = var.secrets["ap"]
}

provider "aws" {
  alias  = "eu"
  region = "eu-central-1"
}

provider "aws" {
  alias  = "us"
  region = "us-east-2"
}

provider "aws" {
  alias  = "ap"
  region = "ap-southeast-2"
}

terraform {
  required_version = ">= 1.9"
  # Nothing but `terraform_data`, which is built in: no provider is downloaded.
}

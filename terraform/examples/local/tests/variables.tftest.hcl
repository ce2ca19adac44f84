# What is refused, and at plan. What is started is tested for real by `.ci/terraform`.

variables {
  bin_dir = "tests/programs"
}

run "a_name_that_stands_twice" {
  command = plan
  variables {
    regions = [{ name = "eu", number = 1 }, { name = "eu", number = 2 }]
  }
  expect_failures = [var.regions]
}

run "a_number_that_stands_twice" {
  command = plan
  variables {
    regions = [{ name = "eu", number = 1 }, { name = "us", number = 1 }]
  }
  expect_failures = [var.regions]
}

run "a_number_that_is_none" {
  command = plan
  variables {
    regions = [{ name = "eu", number = 0 }]
  }
  expect_failures = [var.regions]
}

run "a_name_that_no_region_can_have" {
  command = plan
  variables {
    regions = [{ name = "EU", number = 1 }]
  }
  expect_failures = [var.regions]
}

run "no_region" {
  command = plan
  variables {
    regions = []
  }
  expect_failures = [var.regions]
}

run "more_logs_than_a_token_names" {
  command = plan
  variables {
    shards = 64
    regions = [
      { name = "a", number = 1 }, { name = "b", number = 2 }, { name = "c", number = 3 },
      { name = "d", number = 4 }, { name = "e", number = 5 },
    ]
  }
  expect_failures = [var.regions]
}

run "ports_beyond_the_last" {
  command = plan
  variables {
    port_base = 65530
  }
  expect_failures = [var.port_base]
}

run "a_folder_with_blanks" {
  command = plan
  variables {
    folder = "my folder"
  }
  expect_failures = [var.folder]
}

run "the_configuration_as_the_folder" {
  command = plan
  variables {
    folder = "."
  }
  expect_failures = [var.folder]
}

run "the_name_of_the_authority" {
  command = plan
  variables {
    regions = [{ name = "eu", number = 1 }, { name = "ca", number = 2 }]
  }
  expect_failures = [var.regions]
}

run "no_program" {
  command = plan
  variables {
    bin_dir = "tests/nowhere"
  }
  expect_failures = [terraform_data.cluster]
}

//! `whimbrel-chaos`: makes the links between the regions of a cluster bad, and good again; and runs
//! experiments on clusters of its own.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::run(cli::Arguments::parse()) {
        Ok((text, how)) => {
            print!("{text}");
            how
        }
        Err(error) => {
            eprintln!("whimbrel-chaos: {error:#}");
            // 1 is for guarantees that were violated.
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
#[path = "../../tests/man_pages.rs"]
mod man_pages;

#[cfg(test)]
#[test]
fn man_pages_are_made() {
    man_pages::make(<cli::Arguments as clap::CommandFactory>::command());
}

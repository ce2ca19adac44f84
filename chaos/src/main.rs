//! `whimbrel-chaos`: makes the links between the regions of a cluster bad, and good again.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::run(cli::Arguments::parse()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("whimbrel-chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

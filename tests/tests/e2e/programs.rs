//! The programs of the workspace.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// A program that stands beside this test: `target/debug/deps/e2e-... -> target/debug/NAME`.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let folder = test.ancestors().nth(2).expect("it stands in target/*/deps");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing; run `cargo build --workspace` first",
        path.display()
    );
    path
}

/// Runs a program that must succeed, and gives its standard output.
pub(crate) fn run_ok<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> String {
    let output = command(name).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
    assert!(output.status.success(), "{name} failed: {output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// To run a program. What the user's shell says about clusters is not for it.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("WHIMBREL_") {
            command.env_remove(variable);
        }
    }
    command
}

/// Sends a signal, by name, to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status();
    assert!(
        status.expect("there is a program `kill`").success(),
        "cannot send SIG{name} to {pid}"
    );
}

//! The manual pages of a program, made from its command line. A module of each program's own tests,
//! since only the program knows its command line.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use clap::Command;
use clap_mangen::Man;

/// Makes a page for the program and each of its commands. `WHIMBREL_MAN_PAGES=1` writes them to
/// where the program's package takes them from.
pub(crate) fn make(program: Command) {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut pages = BTreeMap::new();
    render(&program, &mut pages);
    for (name, page) in &pages {
        for section in [".TH ", ".SH NAME", ".SH SYNOPSIS"] {
            assert!(page.contains(section), "{name} lacks `{section}`");
        }
    }
    if env::var_os("WHIMBREL_MAN_PAGES").is_some() {
        // Asked as it runs: checkouts that share what is built must not write to each other.
        let package = env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo");
        let folder = &Path::new(&package).join("packaging/man");
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).unwrap();
        for (name, page) in &pages {
            fs::write(folder.join(name), page).unwrap();
        }
    }
}

/// A page for the command, and one for each below it.
fn render(command: &Command, pages: &mut BTreeMap<String, String>) {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page).unwrap();
    pages.insert(man.get_filename(), String::from_utf8(page).unwrap());
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        render(below, pages);
    }
}

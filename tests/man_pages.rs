//! The manual pages of a program: made from its command line, and kept in its crate, where packages
//! find them. A module of each program's own tests, since only the program knows its command line.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use clap::Command;
use clap_mangen::Man;

/// The pages in `folder` must be those of `program` and all its commands; `WHIMBREL_BLESS=1` writes
/// them anew.
pub(crate) fn check(program: Command, folder: &str) {
    let folder = Path::new(folder);
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut made = BTreeMap::new();
    render(&program, &mut made);
    if env::var_os("WHIMBREL_BLESS").is_some() {
        fs::remove_dir_all(folder).unwrap();
        fs::create_dir_all(folder).unwrap();
        for (name, page) in &made {
            fs::write(folder.join(name), page).unwrap();
        }
    }
    let kept: BTreeMap<String, String> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    let names = made.keys().chain(kept.keys());
    let stale: Vec<&String> = names
        .filter(|&name| made.get(name) != kept.get(name))
        .collect();
    assert!(
        stale.is_empty(),
        "{} is not what the command line says: {stale:?}; if the change is meant, write it anew:\n\n    \
         WHIMBREL_BLESS=1 cargo test --workspace --bins man_pages\n",
        folder.display()
    );
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

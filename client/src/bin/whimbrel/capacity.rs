//! `whimbrel capacity`: a plan as tables, as JSON, or as Markdown for a document.

use std::collections::BTreeSet;

use serde::Serialize;
use whimbrel_client::capacity::{Inputs, Plan, Table, plan, tables};

use crate::args::capacity::Capacity;
use crate::output::Out;
use crate::usage;

pub(crate) fn run(args: &Capacity, out: &mut Out) -> anyhow::Result<()> {
    let mut inputs = args.inputs();
    let mut names = BTreeSet::new();
    for (name, value) in &args.costs {
        if !names.insert(name) {
            return Err(usage(format!(
                "--cost: `{name}` is given twice; give it once"
            )));
        }
        let given = inputs.costs.give(name, *value);
        given.map_err(|why| usage(format!("--cost: {why}")))?;
    }
    let plan = plan(&inputs).map_err(|invalid| usage(invalid.to_string()))?;
    if out.json {
        return Ok(out.json(&Told {
            version: env!("CARGO_PKG_VERSION"),
            inputs: &inputs,
            plan: &plan,
        })?);
    }
    for table in tables(&inputs, &plan) {
        let text = match args.markdown {
            true => markdown(&table),
            false => plain(&table),
        };
        out.line(&text)?;
    }
    Ok(())
}

/// The plan, and what is needed to repeat it.
#[derive(Serialize)]
struct Told<'a> {
    version: &'static str,
    inputs: &'a Inputs,
    plan: &'a Plan,
}

/// Between marks by which a document takes it over.
fn markdown(table: &Table) -> String {
    let row = |cells: &mut dyn Iterator<Item = &str>| -> String {
        let cells: Vec<_> = cells.collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = format!("<!-- table: {} -->\n", table.id);
    text += &row(&mut table.head.iter().copied());
    text += &row(&mut table.head.iter().map(|_| "---"));
    for cells in &table.rows {
        text += &row(&mut cells.iter().map(String::as_str));
    }
    text + "<!-- end -->"
}

/// In columns, for a terminal.
fn plain(table: &Table) -> String {
    // What is bold in a document needs no stars here.
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|cells| cells.iter().map(|cell| cell.replace("**", "")).collect())
        .collect();
    let head: Vec<String> = table.head.iter().map(|&name| name.to_owned()).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|at| {
            let cells = rows
                .iter()
                .chain([&head])
                .map(|cells| cells[at].chars().count());
            cells.max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &Vec<String>| -> String {
        let cells = cells.iter().zip(&widths);
        let padded: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut text = format!("{}\n", table.title);
    for cells in [&head].into_iter().chain(&rows) {
        text += &format!("  {}\n", line(cells));
    }
    text
}

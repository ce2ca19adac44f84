use std::path::Path;

use serde_json::Value;

use crate::program::{run, stderr, stdout};

/// The tables of `docs/capacity.md` are those that the program prints. `WHIMBREL_BLESS=1` writes them.
#[test]
fn the_page_has_the_tables_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/capacity.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let output = run(&["capacity", "--markdown"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let (mut right, mut rest) = (String::new(), page.as_str());
    let mut tables = 0;
    for table in stdout(&output).split_inclusive("<!-- end -->\n") {
        let table = table.trim();
        let (mark, _) = table.split_once('\n').unwrap();
        let (before, after) = rest.split_once(mark).unwrap_or_else(|| {
            panic!("{} has no `{mark}`, or in another order", path.display());
        });
        right += before;
        right += table;
        (_, rest) = after
            .split_once("<!-- end -->")
            .expect("the mark of its end");
        tables += 1;
    }
    right += rest;
    assert!(tables > 10, "{tables}");
    assert_eq!(
        right.matches("<!-- table").count(),
        tables,
        "tables that nobody prints"
    );
    if std::env::var_os("WHIMBREL_BLESS").is_some() {
        std::fs::write(&path, right).unwrap();
    } else {
        assert!(
            page == right,
            "docs/capacity.md is not what `whimbrel capacity --markdown` prints; run this test with \
             WHIMBREL_BLESS=1"
        );
    }
}

#[test]
fn a_plan_is_json_for_programs() {
    let output = run(&[
        "capacity",
        "--json",
        "--daily-users",
        "2M",
        "--cost",
        "post.node_us=1K",
    ]);
    let plan: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(plan["inputs"]["load"]["daily_users"], 2e6);
    let costs = plan["inputs"]["costs"].as_array().unwrap();
    let given = costs
        .iter()
        .find(|cost| cost["name"] == "post.node_us")
        .unwrap();
    assert_eq!(
        (&given["value"], &given["basis"]),
        (&1e3.into(), &"given".into())
    );
    assert!(plan["plan"]["bill"]["million_messages"].as_f64() > Some(0.0));
}

/// Each names the flag, the limit and what to do.
#[test]
fn what_makes_no_plan_is_refused() {
    for (args, said) in [
        (
            &["--regions", "3", "--regions-down", "3"][..],
            "add a region",
        ),
        (&["--regions", "17"], "--regions is 17 and must be 1 to 16"),
        (
            &["--shards", "64", "--regions", "5"],
            "give --shards 51 or fewer",
        ),
        (&["--posts", "50"], "must be 100"),
        (
            &["--daily-users", "0"],
            "--daily-users is 0 and must be 1 to",
        ),
        (&["--daily-users", "many"], "it is a number, such as"),
        (
            &["--utilisation", "0.5"],
            "--utilisation is 0.5 and must be 1 to 95",
        ),
        (
            &["--cost", "post.nod=1"],
            "there is no unit cost `post.nod`",
        ),
        (&["--cost", "gzip.page_part=2"], "must be 0 to 1"),
        (&["--cost", "fdb.disk_factor=0"], "must be 1 or more"),
        (&["--cost", "node.files=0"], "must be 1 or more"),
        (
            &["--cost", "post.node_us=1", "--cost", "post.node_us=2"],
            "`post.node_us` is given twice",
        ),
        (&["--price-wan-gb", "-1"], "it is a number, such as"),
        (&["--markdown", "--json"], "cannot be used with"),
    ] {
        let output = run(&[&["capacity"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            stderr(&output).contains(said),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(stdout(&output).is_empty(), "{args:?}");
    }
}

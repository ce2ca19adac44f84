//! `whimbrel-chaos run` and `schema`: what is refused, before anything starts.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

fn shipped(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    folder.join(format!("{name}.json"))
}

fn chaos(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_whimbrel-chaos"))
        .args(arguments)
        .env_remove("WHIMBREL_NODE")
        .output()
        .unwrap()
}

fn fails(arguments: &[&str], words: &str) {
    let output = chaos(arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert!(error.contains(words), "{arguments:?}: {error}");
}

#[test]
fn the_schema_is_the_one_in_the_folder() {
    let output = chaos(&["schema"]);
    assert!(output.status.success());
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        printed["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
}

#[test]
fn bad_files_are_refused_with_their_place() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    fails(&["run"], "required arguments");
    fails(&["run", "nowhere.json"], "cannot read nowhere.json");
    let broken = write("broken.json", "{");
    fails(&["run", &broken], "broken.json: at ");
    let mut wrong: Value =
        serde_json::from_slice(&std::fs::read(shipped("bad-links")).unwrap()).unwrap();
    wrong["method"][0]["provider"]["arguments"]["faults"]["delay_ms"] = json!(90_000);
    let wrong = write("wrong.json", &wrong.to_string());
    fails(
        &["run", &wrong],
        "wrong.json: at method[0]: a delay of 90000 ms is too long",
    );
    fails(&["run", &wrong], "`whimbrel-chaos schema` prints");
}

#[test]
fn what_cannot_be_is_said_before_anything_starts() {
    let folder = TempDir::new().unwrap();
    let dev = folder.path().to_str().unwrap();
    let (kill, cut) = (shipped("region-killed"), shipped("full-partition"));
    let (kill, cut) = (kill.to_str().unwrap(), cut.to_str().unwrap());
    fails(
        &["--dev", dev, "run", "--attach", kill],
        "takes a cluster of its own; leave --attach away",
    );
    fails(
        &["--dev", dev, "run", "--attach", "--jobs", "2", cut],
        "leave --jobs away",
    );
    fails(
        &["run", "--node", "nowhere", kill],
        "there is no program nowhere; build it with",
    );
}

/// What comes of many minutes is not lost for a mistyped path.
#[test]
fn outputs_that_cannot_be_written_are_refused_before_anything_starts() {
    let kill = shipped("region-killed");
    let kill = kill.to_str().unwrap();
    for output in ["--journal", "--report", "--junit"] {
        let arguments = ["run", "--node", "/bin/true", output, "/nowhere/file", kill];
        fails(&arguments, "cannot write /nowhere/file");
        let told = String::from_utf8(chaos(&arguments).stderr).unwrap();
        assert!(!told.contains("--seed"), "it began: {told}");
    }
}

/// What a run cannot begin is told in all its files, and not as a success.
#[test]
fn an_experiment_that_cannot_be_run_is_told_so() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let dev = path("no-cluster");
    let cut = shipped("full-partition");
    let (journal, report, junit) = (path("journal.json"), path("report.html"), path("junit.xml"));
    let output = chaos(&[
        "--dev",
        &dev,
        "run",
        "--attach",
        "--short",
        "--journal",
        &journal,
        "--report",
        &report,
        "--junit",
        &junit,
        cut.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(2));
    let summary = String::from_utf8(output.stdout).unwrap();
    assert!(
        summary.contains("full-partition") && summary.contains("not run"),
        "{summary}"
    );
    assert!(summary.contains("no cluster runs in"), "{summary}");
    let journal: Value = serde_json::from_slice(&std::fs::read(journal).unwrap()).unwrap();
    assert_eq!(journal[0]["outcome"], "not_run");
    assert_eq!(journal[0]["status"], "aborted");
    assert!(
        std::fs::read_to_string(junit)
            .unwrap()
            .contains("errors=\"1\"")
    );
    assert!(
        std::fs::read_to_string(report)
            .unwrap()
            .contains("no cluster runs in")
    );
}

#[test]
fn one_experiment_at_a_time_attaches_to_a_cluster() {
    let folder = TempDir::new().unwrap();
    let (dev, cut) = (folder.path(), shipped("full-partition"));
    std::fs::write(dev.join("dev.json"), "{}").unwrap();
    let first = std::fs::File::create(dev.join("chaos.lock")).unwrap();
    first.try_lock().unwrap();
    let run = || {
        let dev = dev.to_str().unwrap();
        let output = chaos(&["--dev", dev, "run", "--attach", cut.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stdout).unwrap()
    };
    let told = run();
    assert!(told.contains("another experiment runs"), "{told}");
    drop(first);
    let told = run();
    assert!(!told.contains("another experiment runs"), "{told}");
}

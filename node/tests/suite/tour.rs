use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::dev::{Dev, description, dev, kill, refused, wait_down};

fn tour(dir: &Path, regions: &str) -> Command {
    let mut command = dev();
    command
        .args(["--tour", "--regions", regions, "--data"])
        .arg(dir);
    command
}

/// Runs to the end; whether it went well, what it said, and what went wrong.
fn end(mut tour: Dev, mut errors: impl std::io::Read) -> (bool, String, String) {
    let said = tour.rest().join("\n");
    let status = tour.child.wait().unwrap();
    let mut error = String::new();
    errors.read_to_string(&mut error).unwrap();
    (status.success(), said, error)
}

fn start(command: &mut Command) -> (Dev, impl std::io::Read + use<>) {
    let mut tour = Dev::of(command.stderr(Stdio::piped()));
    let errors = tour.child.stderr.take().unwrap();
    (tour, errors)
}

#[test]
fn g1_g2_g4_g5_g7_the_tour_holds() {
    let temporary = tempfile::tempdir().unwrap();
    let (tour, errors) = start(dev().arg("--tour").env("TMPDIR", temporary.path()));
    let (well, said, error) = end(tour, errors);
    assert!(well, "{said}\n{error}");
    for line in [
        "✓ us shows it, ",
        "✓ ap shows it, ",
        "✓ ap knows of neither and still serves the old text",
        "datagrams were sent, and none got through",
        "✓ all regions show: Meet at the old lighthouse at ten",
        "✓ nothing is lost; its history, the same in all regions:",
        "✓ the digests of all conversations are equal:",
        "✓ eu has committed it and has not answered",
        "✓ the answer never came",
        "✓ a post in us shows in ap",
        "✓ us knows nothing of the send to eu",
        "✓ us and ap have it, under the id that eu had given it",
        "✓ eu is ready",
        "✓ what was sent twice is there once, in every region, with one id",
        "✓ all regions show the same conversation in the same order:",
    ] {
        assert!(said.contains(line), "no `{line}` in\n{said}");
    }
    assert!(!said.contains('✗'), "{said}");
    let checks = said.matches('✓').count();
    assert!(
        said.contains(&format!("All {checks} checks held")),
        "{said}"
    );
    // It leaves nothing behind.
    let left = fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn the_tour_takes_other_regions_and_again_with_the_same_data() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (tour, errors) = start(&mut tour(folder.path(), "de,fr,jp,br"));
        let (well, said, error) = end(tour, errors);
        assert!(well, "{said}\n{error}");
        let all = "✓ br knows of neither and still serves the old text";
        assert!(said.contains(all), "{said}");
    }
    let few = tempfile::tempdir().unwrap();
    let error = refused(few.path(), &["--tour", "--regions", "eu,us"]);
    assert!(error.contains("needs 3 regions"), "{error}");
    assert_eq!(fs::read_dir(few.path()).unwrap().count(), 0);
}

#[test]
fn the_tour_fails_with_a_region_that_is_killed_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    let (tour, errors) = start(&mut tour(folder.path(), "eu,us,ap"));
    tour.expect("1. ");
    let cluster = description(folder.path());
    kill("-KILL", cluster.regions[2].pid);
    let (well, said, error) = end(tour, errors);
    assert!(!well, "{said}");
    assert!(said.contains("✗ expected ap to show"), "{said}");
    for part in [
        "ap ended (signal: 9",
        "saw: ap: ",
        "the tour failed",
        "ap/node.log",
    ] {
        assert!(error.contains(part), "no `{part}` in {error}");
    }
    for region in &cluster.regions {
        wait_down(&region.url);
    }
}

#[test]
fn ctrl_c_ends_the_tour() {
    let folder = tempfile::tempdir().unwrap();
    let (tour, errors) = start(&mut tour(folder.path(), "eu,us,ap"));
    tour.expect("1. ");
    let cluster = description(folder.path());
    kill("-INT", tour.child.id());
    let (well, said, error) = end(tour, errors);
    assert!(!well, "not every check was made: {said}");
    assert!(error.contains("stopped before its end"), "{error}");
    for region in &cluster.regions {
        wait_down(&region.url);
    }
}

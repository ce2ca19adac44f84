//! Regions on FoundationDB: the whole suite runs on it when it is told to.
//!
//! `WHIMBREL_E2E_STORE=foundationdb` puts every region on it, `mixed` all but `eu`. The programs under
//! test must have been built with it. One server carries all clusters, each region under a prefix
//! of its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use whimbrel_chaos::cluster::free_port;

/// Ends with this process; its folder is in the temporary folder of the build.
static SERVER: LazyLock<(Child, PathBuf)> = LazyLock::new(start);

/// Whether any region is to be on it.
pub(crate) fn is_asked_for() -> bool {
    matches!(asked().as_str(), "foundationdb" | "mixed")
}

fn asked() -> String {
    std::env::var("WHIMBREL_E2E_STORE").unwrap_or_default()
}

/// Whether a region is to be on it.
pub(crate) fn is_asked_for_in(region: &str) -> bool {
    match asked().as_str() {
        "" | "embedded" => false,
        "foundationdb" => true,
        "mixed" => region != "eu",
        other => panic!("WHIMBREL_E2E_STORE is `{other}`: give embedded, foundationdb or mixed"),
    }
}

/// The `[store]` section of a region's config, as the suite is asked for.
pub(crate) fn section(cluster: &str, region: &str) -> String {
    if is_asked_for_in(region) {
        own_section(cluster, region)
    } else {
        String::new()
    }
}

/// A section with a prefix that nobody has used yet.
pub(crate) fn own_section(cluster: &str, region: &str) -> String {
    // Some tests make several stores for one region of one cluster.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        "[store]\nengine = \"foundationdb\"\ncluster_file = \"{}\"\n\
         prefix = \"e2e/{cluster}/{region}/{number}/\"\n\n",
        SERVER.1.display()
    )
}

fn find(name: &str) -> PathBuf {
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .map(|folder| Path::new(folder).join(name))
        .into_iter()
        .find(|program| program.is_file())
        .unwrap_or_else(|| {
            panic!("WHIMBREL_E2E_STORE asks for FoundationDB, and {name} is missing")
        })
}

fn start() -> (Child, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-foundationdb");
    // That of an earlier run ended with it.
    let _ = fs::remove_dir_all(&folder);
    start_in(&folder, None)
}

/// Starts a server, and gives its cluster file. With a folder of certificates it takes TLS only, and
/// is `fdb` there.
#[expect(
    clippy::zombie_processes,
    reason = "it ends with us, also where a check fails"
)]
pub(crate) fn start_in(folder: &Path, pki: Option<&Path>) -> (Child, PathBuf) {
    fs::create_dir_all(folder.join("data")).expect("the folder can be written");
    let tls: Vec<OsString> = pki
        .iter()
        .flat_map(|pki| {
            let pair = |flag: &str, name: &str| [flag.into(), pki.join(name).into_os_string()];
            [
                pair("--tls_certificate_file", "fdb.pem"),
                pair("--tls_key_file", "fdb.key.pem"),
                pair("--tls_ca_file", "ca.pem"),
            ]
        })
        .flatten()
        .collect();
    let file = folder.join("fdb.cluster");
    let suffix = if pki.is_some() { ":tls" } else { "" };
    let address = format!("127.0.0.1:{}{suffix}", free_port());
    fs::write(&file, format!("e2e:e2e@{address}\n")).expect("the folder can be written");
    let log = fs::File::create(folder.join("log")).expect("the folder can be written");
    let server = Command::new(find("fdbserver"))
        .args(["--public-address", &address, "--listen-address", "public"])
        .arg("--datadir")
        .arg(folder.join("data"))
        .arg("--logdir")
        .arg(folder)
        .arg("--cluster-file")
        .arg(&file)
        .args(["--memory", "4GiB", "--storage-memory", "2GiB"])
        .args(["--cache-memory", "256MiB"])
        .args(["--parentpid", &std::process::id().to_string()])
        .args(&tls)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .spawn()
        .expect("fdbserver starts");
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        let output = Command::new(find("fdbcli"))
            .arg("-C")
            .arg(&file)
            .args(&tls)
            .args(["--timeout", "5", "--exec"])
            .arg("configure new single ssd; status minimal")
            .output()
            .expect("fdbcli runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("The database is available") {
            return (server, file);
        }
        assert!(
            Instant::now() < give_up,
            "FoundationDB does not answer: {text}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

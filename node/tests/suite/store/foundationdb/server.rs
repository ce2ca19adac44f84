//! Servers for tests: one of each engine for all that share it, and own ones to kill.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;
use tokio::sync::OnceCell;
use whimbrel_node::dev::foundationdb::{Engine, Programs, Server};
use whimbrel_node::store::Store;
use whimbrel_node::store::foundationdb::{FoundationDb, Options};

/// The programs; says so once for each test where there are none.
pub(crate) fn programs() -> Option<Programs> {
    match Programs::find() {
        Ok(programs) => Some(programs),
        Err(error) => {
            println!("skipped: FoundationDB ({error:#})");
            None
        }
    }
}

/// What tests share ends with their process; its folder is removed by the next run.
async fn start(engine: Engine) -> Option<(Server, TempDir)> {
    let programs = programs()?;
    for entry in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR"))
        .unwrap()
        .flatten()
    {
        let name = entry.file_name().into_string().unwrap_or_default();
        let pid = name
            .strip_prefix("fdb-")
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Some(own(&programs, engine).await)
}

/// A server of one's own.
pub(crate) async fn own(programs: &Programs, engine: Engine) -> (Server, TempDir) {
    let dir = tempfile::Builder::new()
        .prefix(&format!("fdb-{}-", std::process::id()))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = probe.local_addr().unwrap().port();
    drop(probe);
    let server = Server::start(programs, dir.path(), port, engine).await;
    (server.unwrap(), dir)
}

/// An empty store in a server that others use too.
pub(crate) async fn shared(engine: Engine) -> Option<Store> {
    static MEMORY: OnceCell<Option<(Server, TempDir)>> = OnceCell::const_new();
    static SSD: OnceCell<Option<(Server, TempDir)>> = OnceCell::const_new();
    let running = match engine {
        Engine::Memory => MEMORY.get_or_init(|| start(engine)).await,
        Engine::Ssd => SSD.get_or_init(|| start(engine)).await,
    };
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("test-{}/", NEXT.fetch_add(1, Ordering::Relaxed));
    let (server, _) = running.as_ref()?;
    Some(open(server.cluster_file(), &prefix))
}

/// A store under a prefix.
pub(crate) fn open(cluster_file: PathBuf, prefix: &str) -> Store {
    let mut options = Options::new(cluster_file);
    options.prefix = prefix.as_bytes().to_vec();
    Store::FoundationDb(FoundationDb::open(&options).unwrap())
}

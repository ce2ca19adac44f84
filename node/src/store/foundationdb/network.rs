//! The client library's network thread: one for all stores of a process, from the first store to
//! the end of the process.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use foundationdb::FdbResult;
use foundationdb::api::{FdbApiBuilder, NetworkStop};
use foundationdb::options::NetworkOption;

use crate::store::StoreError;

/// The API that is spoken, whatever newer library is installed.
const API_VERSION: i32 = 730;

/// Mutual TLS towards a cluster. PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Our certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Whom we trust.
    pub ca: PathBuf,
    /// What the cluster's certificates must say, in `FoundationDB`'s own notation, such as
    /// `Check.Valid=1,S.O=Example`; empty: any that the CA has signed.
    pub verify_peers: String,
}

enum Network {
    NotStarted,
    Running {
        tls: Option<Tls>,
        running: Running,
    },
    /// The library takes no second start.
    Over,
}

static NETWORK: Mutex<Network> = Mutex::new(Network::NotStarted);

/// Starts the thread, unless it runs.
pub(super) fn start(tls: Option<&Tls>) -> Result<(), StoreError> {
    let mut network = NETWORK.lock().unwrap_or_else(PoisonError::into_inner);
    match &*network {
        Network::Running { tls: with, .. } if with.as_ref() == tls => Ok(()),
        Network::Running { .. } => Err(StoreError::Misuse(
            "all stores of a process share the certificates towards FoundationDB",
        )),
        Network::Over => Err(StoreError::Misuse("FoundationDB's client was stopped")),
        Network::NotStarted => {
            *network = Network::Over;
            let running = boot(tls).map_err(|error| {
                StoreError::Unavailable(
                    format!("FoundationDB's client library does not start: {error}").into(),
                )
            })?;
            *network = Network::Running {
                tls: tls.cloned(),
                running,
            };
            Ok(())
        }
    }
}

struct Running {
    stop: NetworkStop,
    thread: JoinHandle<FdbResult<()>>,
}

fn boot(tls: Option<&Tls>) -> FdbResult<Running> {
    let mut builder = FdbApiBuilder::default()
        .set_runtime_version(API_VERSION)
        .build()?;
    if let Some(tls) = tls {
        let path = |path: &PathBuf| path.display().to_string();
        builder = builder
            .set_option(NetworkOption::TLSCertPath(path(&tls.cert)))?
            .set_option(NetworkOption::TLSKeyPath(path(&tls.key)))?
            .set_option(NetworkOption::TLSCaPath(path(&tls.ca)))?;
        if !tls.verify_peers.is_empty() {
            let verify = tls.verify_peers.clone().into_bytes();
            builder = builder.set_option(NetworkOption::TLSVerifyPeers(verify))?;
        }
    }
    let (runner, started) = builder.build()?;
    // SAFETY: the thread must be stopped before the library's statics are destroyed, by `stop` or at
    // the exit of a process that has closed a store.
    #[expect(unsafe_code, reason = "the only way to start the library")]
    let thread = std::thread::spawn(move || unsafe { runner.run() });
    let stop = started.wait();
    Ok(Running { stop, thread })
}

/// Stops the thread for good, if it runs: no store can be used after that. To be called before the
/// process ends.
pub fn stop() {
    let mut network = NETWORK.lock().unwrap_or_else(PoisonError::into_inner);
    let Network::Running { running, .. } = std::mem::replace(&mut *network, Network::Over) else {
        return;
    };
    if running.stop.stop().is_ok() {
        let _ = running.thread.join();
    }
}

/// For processes that have no end of their own making, such as tests: stops the thread when the
/// process exits. To be called again whenever a store is closed: what is registered last is called
/// first, and so before the statics are destroyed that the library has made until then.
pub(super) fn stop_at_exit() {
    extern "C" fn at_exit() {
        // By a thread of its own: what the library keeps for the one that exits is destroyed already.
        // Nobody is left to tell of what goes wrong.
        let _ = std::thread::spawn(stop).join();
    }
    // SAFETY: `at_exit` neither unwinds nor takes anything that the exit destroys.
    #[expect(unsafe_code, reason = "the standard library has no such call")]
    unsafe {
        libc::atexit(at_exit);
    }
}

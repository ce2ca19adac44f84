//! Steering of relays from another process: JSON lines over a Unix socket.
//!
//! ```text
//! > {"change":{"from":"eu","to":"us","one_way":false,"change":{"delay":{"ms":80,"jitter_ms":20}}}}
//! < {"report":{"seed":7,"links":[{"from":"eu","to":"us","faults":{...},"counters":{...}},...]}}
//! > "show"
//! < {"report":...}
//! > {"change":{"from":"eu","to":"xx","one_way":false,"change":"cut"}}
//! < {"refused":"there is no region `xx`; there are eu, us, ap"}
//! ```
//!
//! Who may write the socket's file may steer: it is its owner's alone.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::links::{LinkReport, Links, Order};
use crate::limits::{RELAY_LINE_BYTES_MAX, RELAY_STEERERS_MAX};

/// The socket's file, in the cluster's folder.
pub const SOCKET: &str = "relay.sock";
/// How long the other side may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Who says nothing for so long makes room for others.
const IDLE: Duration = Duration::from_secs(60);
/// After a connection that could not be accepted.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
/// The path of a Unix socket, on Linux.
const PATH_BYTES_MAX: usize = 107;

/// What one can ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How all links are.
    Show,
    /// Change some, then as [`Request::Show`].
    Change(Order),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Response {
    /// Done.
    Report(Report),
    /// Not done, and why.
    Refused(String),
}

/// How all links are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Of all chance.
    pub seed: u64,
    /// All directions of travel.
    pub links: Vec<LinkReport>,
}

/// Why relays cannot be steered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Nobody serves the socket.
    #[error("no relays are steered at {}", .0.display())]
    Nobody(PathBuf),
    /// The system takes short paths only.
    #[error(
        "the path {} has {} bytes and a Unix socket takes {PATH_BYTES_MAX}; name its folder by a \
         shorter path, such as one relative to the current folder",
        .0.display(), .0.as_os_str().len()
    )]
    PathTooLong(PathBuf),
    /// The socket's place is taken.
    #[error("{} is {taken}; the relays cannot be steered there", .path.display())]
    Taken {
        /// The place.
        path: PathBuf,
        /// By what.
        taken: &'static str,
    },
    /// The server does not do this.
    #[error("{0}")]
    Refused(String),
    /// The other side does not speak this protocol.
    #[error("not understood: {0}")]
    Garbled(String),
    /// The other side says nothing.
    #[error("no answer within {} s", ANSWER_MAX.as_secs())]
    Silent,
    /// The socket fails.
    #[error("cannot use {}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
}

/// Takes orders at a socket. Dropped, it takes the socket's file away.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Listens at `path`, in place of a socket that was left there by a process that is gone.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        check_length(path)?;
        let failed = |source| ControlError::Io {
            path: path.to_owned(),
            source,
        };
        if let Ok(there) = fs::symlink_metadata(path) {
            let taken = |taken| ControlError::Taken {
                path: path.to_owned(),
                taken,
            };
            if !there.file_type().is_socket() {
                return Err(taken("no socket"));
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(taken("served by another process"));
            }
            fs::remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let this = Self {
            listener,
            path: path.to_owned(),
        };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(this)
    }

    /// Serves until dropped.
    pub async fn run(self, links: Arc<Links>) {
        let mut steerers = JoinSet::new();
        loop {
            while steerers.len() >= RELAY_STEERERS_MAX {
                steerers.join_next().await;
            }
            tokio::select! {
                Some(_) = steerers.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let links = Arc::clone(&links);
                        steerers.spawn(async move {
                            if let Err(error) = answer(stream, &links).await {
                                debug!(%error, "who steered the relays is gone");
                            }
                        });
                    }
                    Err(error) => {
                        debug!(%error, "cannot accept who would steer the relays");
                        tokio::time::sleep(ERROR_PAUSE).await;
                    }
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been taken away by hand.
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(stream: UnixStream, links: &Links) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let line = match timeout(IDLE, read_line(&mut stream)).await {
            Ok(line) => line?,
            Err(_) => return Ok(()),
        };
        let Some(line) = line else {
            return Ok(());
        };
        let response = match serde_json::from_slice(&line) {
            Ok(request) => respond(&request, links),
            Err(error) => Response::Refused(format!("the request is not understood: {error}")),
        };
        timeout(IDLE, write_line(&mut stream, &response)).await??;
    }
}

fn respond(request: &Request, links: &Links) -> Response {
    if let Request::Change(order) = request
        && let Err(error) = links.apply(order)
    {
        return Response::Refused(error.to_string());
    }
    Response::Report(Report {
        seed: links.seed(),
        links: links.report(),
    })
}

/// Steers relays of another process.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// To whoever serves the socket at `path`.
    pub async fn connect(path: &Path) -> Result<Self, ControlError> {
        check_length(path)?;
        match UnixStream::connect(path).await {
            Ok(stream) => Ok(Self {
                stream: BufReader::new(stream),
                path: path.to_owned(),
            }),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    Err(ControlError::Nobody(path.to_owned()))
                }
                _ => Err(ControlError::Io {
                    path: path.to_owned(),
                    source: error,
                }),
            },
        }
    }

    /// Asks, and gives how all links are after that.
    pub async fn ask(&mut self, request: &Request) -> Result<Report, ControlError> {
        let talk = async {
            write_line(&mut self.stream, request).await?;
            read_line(&mut self.stream).await
        };
        let line = match timeout(ANSWER_MAX, talk).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return Err(ControlError::Nobody(self.path.clone())),
            Ok(Err(source)) => {
                return Err(ControlError::Io {
                    path: self.path.clone(),
                    source,
                });
            }
            Err(_) => return Err(ControlError::Silent),
        };
        match serde_json::from_slice(&line) {
            Ok(Response::Report(report)) => Ok(report),
            Ok(Response::Refused(reason)) => Err(ControlError::Refused(reason)),
            Err(error) => Err(ControlError::Garbled(error.to_string())),
        }
    }
}

fn check_length(path: &Path) -> Result<(), ControlError> {
    if path.as_os_str().len() > PATH_BYTES_MAX {
        return Err(ControlError::PathTooLong(path.to_owned()));
    }
    Ok(())
}

/// The next line, or `None` at the end.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut bounded = stream.take(RELAY_LINE_BYTES_MAX as u64);
    bounded.read_until(b'\n', &mut line).await?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a line is too long or broken off",
        )),
    }
}

async fn write_line(stream: &mut BufReader<UnixStream>, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

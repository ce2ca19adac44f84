//! How much memory idle streams take in a node.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use tokio::task::JoinSet;

use super::cast::{Cast, client};
use super::usage::resident_bytes;
use super::{Control, Region, Target};
use crate::{Error, EventStream};

/// Streams that a user may have open, unless the region's config says otherwise.
const STREAMS_PER_USER: usize = 200;

/// Streams that are opened at once.
const OPENED_AT_ONCE: usize = 32;

/// Files of this process besides its streams.
const OTHER_FILES: u64 = 64;

/// What is opened.
#[derive(Clone, Debug)]
pub struct Idling {
    /// Streams.
    pub streams: NonZeroUsize,
    /// Users, who share them evenly.
    pub users: NonZeroUsize,
    /// Conversations, whose members they are.
    pub conversations: NonZeroUsize,
    /// How long the streams are held before memory is read again.
    pub hold: Duration,
}

/// What [`streams`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Idled {
    /// The region that was asked.
    pub region: String,
    /// Streams that were asked for.
    pub streams: usize,
    /// Those that were open all the time.
    pub held: usize,
    /// Users who shared them.
    pub users: usize,
    /// Conversations, whose members they were.
    pub conversations: usize,
    /// How long they were held.
    pub seconds: f64,
    /// Memory of the region's processes before, in bytes.
    pub before_bytes: u64,
    /// The same, with the streams open.
    pub with_streams_bytes: u64,
    /// The difference for each stream that was held; negative where memory was given back meanwhile.
    pub bytes_per_stream: Option<i64>,
    /// Of this program, for each stream: what the SDK takes.
    pub client_bytes_per_stream: Option<i64>,
}

/// Opens streams in the first region of `target` on which nothing happens. Its processes must run
/// on this machine.
pub async fn streams(target: &Target, idling: &Idling, control: &Control) -> Result<Idled, Error> {
    let region = target.written()?;
    let memory = |region: &Region| -> Result<u64, Error> {
        let each = region.pids.iter().map(|&pid| resident_bytes(pid));
        let sum: Option<u64> = each.sum();
        sum.filter(|_| !region.pids.is_empty()).ok_or_else(|| {
            Error::config(format!(
                "the memory of {} cannot be read: it must run on this machine, under Linux, and \
                 be found by `--dev DIR`",
                region.name
            ))
        })
    };
    memory(region)?;
    let (wanted, users) = (idling.streams.get(), idling.users.get());
    if wanted.div_ceil(users) > STREAMS_PER_USER {
        let least = wanted.div_ceil(STREAMS_PER_USER);
        return Err(Error::config(format!(
            "a user may have {STREAMS_PER_USER} streams open: {wanted} need at least {least} users"
        )));
    }
    let files = wanted as u64 + OTHER_FILES;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < files) {
        limit.current = limit
            .maximum
            .map_or(Some(files), |most| Some(most.min(files)));
        setrlimit(Resource::Nofile, limit)
            .map_err(|error| Error::config(format!("cannot open {files} files: {error}")))?;
    }

    control.stage("making users and conversations", None);
    let cast = Cast::make(target, region, users, idling.conversations.get()).await?;
    let clients = (0..users)
        .map(|user| client(target, region, &cast.name(user), None))
        .collect::<Result<Vec<_>, Error>>()?;
    control.stage("opening streams", Some(wanted as u64));
    let own = std::process::id();
    let (before, own_before) = (memory(region)?, resident_bytes(own));
    let opened: Vec<EventStream> = stream::iter(0..wanted)
        .map(|n| {
            let client = clients[n % users].clone();
            async move {
                let stream = client.stream(None).await?;
                control.step();
                Ok::<_, Error>(stream)
            }
        })
        .buffer_unordered(OPENED_AT_ONCE)
        .try_collect()
        .await?;

    control.stage("holding streams", None);
    let mut held = JoinSet::new();
    for mut stream in opened {
        // Read, so that pings are answered. It ends only where the stream fails.
        held.spawn_local(async move { while stream.next().await.is_ok() {} });
    }
    let started = std::time::Instant::now();
    let mut stop = control.stop.clone();
    tokio::select! {
        () = tokio::time::sleep(idling.hold) => {}
        // An error means that nobody can stop us any more.
        Ok(_) = stop.wait_for(|stop| *stop) => {}
    }
    while held.try_join_next().is_some() {}
    let (with, own_with) = (memory(region)?, resident_bytes(own));
    let count = held.len();
    let seconds = started.elapsed().as_secs_f64();
    held.shutdown().await;
    let per_stream = |with: u64, before: u64| {
        let difference = i128::from(with) - i128::from(before);
        // Memory is far below 2^63 bytes.
        (count > 0).then(|| (difference / count as i128) as i64)
    };
    Ok(Idled {
        region: region.name.clone(),
        streams: wanted,
        held: count,
        users,
        conversations: idling.conversations.get(),
        seconds: (seconds * 10.0).round() / 10.0,
        before_bytes: before,
        with_streams_bytes: with,
        bytes_per_stream: per_stream(with, before),
        client_bytes_per_stream: own_with
            .zip(own_before)
            .and_then(|(with, before)| per_stream(with, before)),
    })
}

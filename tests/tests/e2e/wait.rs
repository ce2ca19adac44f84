//! Waiting: always for something, always with a deadline.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// Long enough for a slow machine that runs other things beside.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(50);

/// Asks `probe` until it gives something. Panics at the deadline with what it said last.
pub(crate) async fn until<T, E: Display>(
    what: &str,
    mut probe: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let started = Instant::now();
    let mut last = None;
    loop {
        match tokio::time::timeout(DEADLINE.saturating_sub(started.elapsed()), probe()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(reason)) => last = Some(reason.to_string()),
            Err(_) => {}
        }
        if started.elapsed() >= DEADLINE {
            let last = last.as_deref().unwrap_or("nothing");
            panic!("waited {} s for {what}; last: {last}", DEADLINE.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for one thing that must happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s for {what}", DEADLINE.as_secs()),
    }
}

/// Of a probe: this or not yet.
pub(crate) fn ensure(condition: bool, otherwise: impl Display) -> Result<(), String> {
    if condition {
        Ok(())
    } else {
        Err(otherwise.to_string())
    }
}

//! On which threads replication runs: with all else, or on its own ones that give way to those that
//! answer clients.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// What they are called.
const NAME: &str = "replication";
/// How many: one that waits for the store must not hold up the links.
const THREADS: usize = 2;
/// How long they may take to end, once all tasks have.
const STOP_MAX: Duration = Duration::from_secs(1);

/// The threads that replication runs on.
#[derive(Debug)]
pub struct Threads {
    handle: Handle,
    own: Option<Runtime>,
}

impl Threads {
    /// Those of the caller for a `nice` of 0, and otherwise own ones of this niceness. To be called
    /// inside a runtime.
    ///
    /// # Errors
    ///
    /// If the system gives no threads.
    pub fn start(nice: u8) -> io::Result<Self> {
        if nice == 0 {
            return Ok(Self {
                handle: Handle::current(),
                own: None,
            });
        }
        let own = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name(NAME)
            .on_thread_start(move || give_way(nice))
            .enable_all()
            .build()?;
        Ok(Self {
            handle: own.handle().clone(),
            own: Some(own),
        })
    }

    /// Where to spawn.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends the own ones.
    pub async fn stop(mut self) {
        if let Some(own) = self.own.take() {
            // It waits, which a task must not. What panics there was logged already.
            let _ = tokio::task::spawn_blocking(move || own.shutdown_timeout(STOP_MAX)).await;
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime that is dropped inside of another one panics.
        if let Some(own) = self.own.take() {
            own.shutdown_background();
        }
    }
}

/// Linux keeps a niceness for each thread. This one's grows from that of the process, to 19 at most.
fn give_way(nice: u8) {
    if let Err(error) = rustix::process::nice(nice.into()) {
        tracing::warn!(nice, %error, "replication.nice: the system does not let its threads give way");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn own_threads_give_way_and_end() {
        let threads = Threads::start(7).unwrap();
        let asked = threads.handle().spawn(async {
            let nice = rustix::process::getpriority_process(None).unwrap();
            (std::thread::current().name().map(str::to_owned), nice)
        });
        let (name, nice) = asked.await.unwrap();
        let own = rustix::process::getpriority_process(None).unwrap();
        assert_eq!((name.as_deref(), nice), (Some(NAME), (own + 7).min(19)));
        threads.stop().await;
        drop(Threads::start(7).unwrap());
    }

    #[tokio::test]
    async fn without_niceness_it_runs_with_all_else() {
        let threads = Threads::start(0).unwrap();
        assert_eq!(threads.handle().id(), Handle::current().id());
        threads.stop().await;
    }
}

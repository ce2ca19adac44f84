//! From region to region: which one a call asks next, and when it gives up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::ProblemCode;
use crate::breaker::Fault;
use crate::client::Shared;
use crate::error::Tried;
use crate::regions::Target;
use crate::{Error, error};

/// A try that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// What it says about the region, where it is the region's fault.
    pub(crate) fault: Option<Fault>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let fault = match &error {
            Error::Connection { .. } => Some(Fault::Gone),
            _ if error.is_of_region() => Some(Fault::Faulty),
            _ => None,
        };
        Self { error, fault }
    }
}

/// The tries of one call, or of one stream until it is heard again.
pub(crate) struct Tour {
    shared: Arc<Shared>,
    started: Instant,
    /// Asked in this round already.
    asked: Vec<Arc<Target>>,
    /// Asked again, because it told when.
    stay: Option<Arc<Target>>,
    rounds: u32,
    pub(crate) retries: u32,
    /// Who could not do it, and why; the last reason of each.
    pub(crate) tried: Vec<Tried>,
    /// The last word of a region that is healthy, but lacks what others have.
    lacking: Option<Error>,
    /// Regions that have committed the write, as any of those that were asked has said.
    committed_by: BTreeSet<String>,
}

impl Tour {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.budget().pay_in();
        Self {
            shared: Arc::clone(shared),
            started: Instant::now(),
            asked: Vec::new(),
            stay: None,
            rounds: 0,
            retries: 0,
            tried: Vec::new(),
            lacking: None,
            committed_by: BTreeSet::new(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whom to ask now.
    pub(crate) fn next(&mut self) -> Arc<Target> {
        if let Some(target) = self.stay.take() {
            return target;
        }
        let order = self.shared.regions.in_order();
        let fresh = order.iter().find(|target| !self.has_asked(target));
        let next = fresh.or(order.first());
        Arc::clone(next.expect("a client has a region"))
    }

    /// Whether another region is up that was not asked in this round.
    pub(crate) fn has_other(&self, than: &Arc<Target>) -> bool {
        self.shared.retry.left(self.elapsed()).is_some()
            && self.shared.regions.all().iter().any(|target| {
                target.is_closed() && !Arc::ptr_eq(target, than) && !self.has_asked(target)
            })
    }

    /// Runs a try, but no longer than the region is there, where another could be asked instead.
    pub(crate) async fn attempt<T>(
        &self,
        target: &Arc<Target>,
        attempt: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        if !self.has_other(target) {
            return attempt.await;
        }
        tokio::select! {
            biased;
            outcome = attempt => outcome,
            () = self.shared.scout.silence(target) => Err(Failure::from(Error::Connection {
                url: error::origin(&target.url),
                source: "it fell silent".into(),
            })),
        }
    }

    /// The target lacks what others have: whether there is another to ask.
    pub(crate) fn pass_over(&mut self, target: &Arc<Target>, error: &Error) -> bool {
        target.fall_behind();
        self.note(target, error);
        self.has_other(target)
    }

    /// Takes note of a failure and waits until the next try may start; `Err` where there is none.
    /// Connection errors and 5xx lead to another region, 429 to the same again, all else to the end.
    pub(crate) async fn failed(
        &mut self,
        target: &Arc<Target>,
        failure: Failure,
    ) -> Result<(), Error> {
        let Failure { error, fault } = failure;
        match fault {
            Some(fault) => target.fail(fault),
            // Else nobody was asked.
            None if error.status().is_some() => target.succeed(),
            None => {}
        }
        self.shared.scout.look_around();
        let acked_by = error.problem().map(|problem| &problem.acked_by);
        self.committed_by
            .extend(acked_by.into_iter().flatten().cloned());
        let is_lacking = error.code() == Some(ProblemCode::NotCaughtUp);
        let is_slow_down = error.status() == Some(429);
        if fault.is_none() && !is_lacking && !is_slow_down {
            return Err(error);
        }
        if is_slow_down {
            self.stay = Some(Arc::clone(target));
        } else {
            self.note(target, &error);
        }
        let elapsed = self.elapsed();
        let Some(left) = self.shared.retry.left(elapsed) else {
            return Err(self.give_up(error));
        };
        let goes_on = !is_slow_down && self.has_other(target);
        let delay = if goes_on {
            Some(Duration::ZERO)
        } else if error.is_transient() {
            let asked = error.retry_after();
            let policy = &self.shared.retry;
            policy.next(self.rounds, elapsed, asked, rand::random())
        } else {
            None
        };
        let Some(delay) = delay else {
            return Err(self.give_up(error));
        };
        // To move away from who does not answer loads nobody twice.
        let turn = if goes_on && matches!(error, Error::Connection { .. }) {
            Some(Duration::ZERO)
        } else {
            self.shared.budget().take(Instant::now(), left)
        };
        let Some(turn) = turn else {
            return Err(self.give_up(error));
        };
        if is_lacking {
            self.lacking = Some(error);
        }
        self.retries += 1;
        if !goes_on {
            self.rounds += 1;
            self.asked.clear();
        }
        let wait = delay.max(turn);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    fn has_asked(&self, target: &Arc<Target>) -> bool {
        self.asked.iter().any(|asked| Arc::ptr_eq(asked, target))
    }

    fn note(&mut self, target: &Arc<Target>, error: &Error) {
        if !self.has_asked(target) {
            self.asked.push(Arc::clone(target));
        }
        let tried = Tried::new(target, error);
        self.tried.retain(|earlier| earlier.url != tried.url);
        self.tried.push(tried);
    }

    /// The error that says most.
    fn give_up(&mut self, last: Error) -> Error {
        if last.code() == Some(ProblemCode::NotCaughtUp) {
            return self.with_all_who_committed(last);
        }
        if let Some(lacking) = self.lacking.take() {
            return self.with_all_who_committed(lacking);
        }
        if self.tried.len() < 2 || last.status() == Some(429) {
            return last;
        }
        Error::NoRegion {
            tried: std::mem::take(&mut self.tried),
        }
    }

    /// A region knows only of those that it can reach.
    fn with_all_who_committed(&self, mut error: Error) -> Error {
        if let Error::Api(problem) = &mut error
            && !problem.acked_by.is_empty()
            && problem.acked_by.len() < self.committed_by.len()
        {
            problem.acked_by = self.committed_by.iter().cloned().collect();
            let committed = &self.committed_by;
            problem
                .waiting_for
                .retain(|region| !committed.contains(region));
            let names = problem.acked_by.join(", ");
            problem.detail = format!(
                "by different regions it was committed in {names}; the last one says: {}",
                problem.detail
            );
        }
        error
    }
}

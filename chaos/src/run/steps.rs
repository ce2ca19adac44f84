//! The steps of an experiment, one after the other.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Case, POLL, WARM_UP_ACKS, WARM_UP_MAX};
use crate::cluster::all_equal;
use crate::experiment::{Activity, Form, Probe, Span, Task};
use crate::history::{Answer, Outcome};
use crate::inject::Injector;
use crate::journal::{Described, Journal, Status, Step, StepStatus};
use crate::workload::Load;

/// Posts of which the time is taken.
const TIMED_POSTS: usize = 7;
/// How long one looks for a post that does not show.
const SEEN_MAX: Duration = Duration::from_secs(30);

pub(super) struct Steps<'a> {
    pub(super) case: &'a Case,
    pub(super) form: Form,
    pub(super) load: &'a Load,
    pub(super) injector: &'a mut Injector,
}

impl Steps<'_> {
    /// The hypothesis, then the method. Errs where a step cannot be done.
    pub(super) async fn method(&mut self, journal: &mut Journal) -> anyhow::Result<()> {
        self.warm_up().await?;
        let case = self.case;
        for probe in &case.experiment.steady_state_hypothesis.probes {
            let step = self.step(probe).await;
            let met = step.tolerance_met == Some(true);
            journal.steady_states.before.push(step);
            if !met {
                journal.status = Status::Failed;
                journal.reason = Some(format!("no steady state to begin with: {}", probe.name));
                return Ok(());
            }
        }
        for activity in &case.experiment.method {
            let step = self.step(activity).await;
            let failed = step.exception.clone();
            journal.run.push(step);
            if let Some(failed) = failed {
                anyhow::bail!("{}: {failed}", activity.name);
            }
        }
        Ok(())
    }

    /// All rollbacks, also where one fails; the first of these is told.
    pub(super) async fn roll_back(&mut self, journal: &mut Journal) -> anyhow::Result<()> {
        let mut first = Ok(());
        for activity in &self.case.experiment.rollbacks {
            let step = self.step(activity).await;
            if let (Some(failed), Ok(())) = (&step.exception, &first) {
                first = Err(anyhow::anyhow!("{}: {failed}", activity.name));
            }
            journal.rollbacks.push(step);
        }
        first
    }

    /// The hypothesis once more.
    pub(super) async fn after(&mut self, journal: &mut Journal) -> anyhow::Result<()> {
        for probe in &self.case.experiment.steady_state_hypothesis.probes {
            let step = self.step(probe).await;
            journal.deviated |= step.tolerance_met != Some(true);
            journal.steady_states.after.push(step);
        }
        journal.status = Status::Completed;
        Ok(())
    }

    async fn warm_up(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.load.acked() < WARM_UP_ACKS {
            anyhow::ensure!(
                began.elapsed() < WARM_UP_MAX,
                "only {} writes were acked within {} s",
                self.load.acked(),
                WARM_UP_MAX.as_secs()
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn length(&self, span: &Span) -> Duration {
        let length = span.length(&self.case.experiment.configuration, self.form);
        length.expect("the reader has found all names")
    }

    async fn pause(&self, span: Option<&Span>) {
        if let Some(span) = span {
            tokio::time::sleep(self.length(span)).await;
        }
    }

    async fn step(&mut self, activity: &Activity) -> Step {
        self.pause(activity.pauses.before.as_ref()).await;
        let start = self.injector.now();
        let (kind, done) = match &activity.task {
            Task::Action(action) => {
                self.case.tell(&activity.name);
                let (configuration, form) = (&self.case.experiment.configuration, self.form);
                let length = |span: &Span| {
                    let length = span.length(configuration, form);
                    length.expect("the reader has found all names")
                };
                ("action", self.injector.act(action, length).await)
            }
            Task::Probe(probe) => ("probe", self.probe(activity, probe).await),
        };
        let end = self.injector.now();
        let (output, exception) = match done {
            Ok(output) => (output, None),
            Err(error) => (Value::Null, Some(format!("{error:#}"))),
        };
        let tolerance_met = activity
            .tolerance
            .as_ref()
            .map(|tolerance| exception.is_none() && tolerance.holds(&output));
        if tolerance_met == Some(false) {
            self.case.tell(&format!("{}: {output}", activity.name));
        }
        let step = Step {
            activity: Described {
                kind,
                name: activity.name.clone(),
                tolerance: activity.tolerance.as_ref().map(ToString::to_string),
                shows: activity.shows,
            },
            output,
            status: match exception {
                None => StepStatus::Succeeded,
                Some(_) => StepStatus::Failed,
            },
            tolerance_met,
            exception,
            start,
            end,
            duration: end - start,
        };
        self.pause(activity.pauses.after.as_ref()).await;
        step
    }

    /// Asks until what it gives is tolerated, or the time is up.
    async fn probe(&mut self, activity: &Activity, probe: &Probe) -> anyhow::Result<Value> {
        let within = activity.within.as_ref().map(|span| self.length(span));
        let deadline = Instant::now() + within.unwrap_or_default();
        loop {
            let value = self.ask(probe).await;
            let tolerance = activity.tolerance.as_ref();
            let tolerated = tolerance
                .zip(value.as_ref().ok())
                .is_none_or(|(tolerance, value)| tolerance.holds(value));
            if (tolerated && value.is_ok()) || Instant::now() >= deadline {
                return value;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn ask(&mut self, probe: &Probe) -> anyhow::Result<Value> {
        let cluster = &mut self.injector.cluster;
        Ok(match probe {
            Probe::Readiness { region } => {
                let url = &cluster.region(region)?.admin_url;
                json!(cluster.admin().readiness(url).await)
            }
            Probe::Converged {} => {
                let digests = cluster.digests().await?;
                json!(all_equal(digests.values().map(|of| &of.digest)))
            }
            Probe::Acks { over } => {
                let before = self.load.acked();
                tokio::time::sleep(self.length(over)).await;
                json!(self.load.acked() - before)
            }
            Probe::AckMillis { region } => {
                let mut times = Vec::new();
                for _ in 0..TIMED_POSTS {
                    let began = Instant::now();
                    let key = self.injector.poster.fresh();
                    let outcome = self.injector.poster.post(region, &key).await?;
                    anyhow::ensure!(matches!(outcome, Outcome::Done(_)), "{}", code_of(&outcome));
                    times.push(began.elapsed());
                }
                times.sort_unstable();
                json!(times[times.len() / 2].as_secs_f64() * 1e3)
            }
            Probe::Lag { from, to } => {
                let url = &cluster.region(from)?.admin_url;
                let says = cluster.admin().replication(url).await?;
                let peer = says.peers.iter().find(|peer| peer.name == *to);
                json!(peer.map(|peer| peer.lag_seconds))
            }
            Probe::Post { region } => {
                let key = self.injector.poster.fresh();
                let outcome = self.injector.poster.post(region, &key).await?;
                json!(code_of(&outcome))
            }
            Probe::SeenMillis { from, to } => self.seen(from, to).await?,
            Probe::Ended { region } => json!(cluster.process(region)?.ended().is_some()),
        })
    }
}

impl Steps<'_> {
    /// Milliseconds until a new post of one region shows in another; null where it does not.
    async fn seen(&mut self, from: &str, to: &str) -> anyhow::Result<Value> {
        let poster = &mut self.injector.poster;
        let key = poster.fresh();
        let outcome = poster.post(from, &key).await?;
        let Outcome::Done(Answer::Message { seen, .. }) = outcome else {
            anyhow::bail!("{from} did not take the post: {}", code_of(&outcome));
        };
        let began = Instant::now();
        while !poster.shows(to, &seen.id).await? {
            if began.elapsed() > SEEN_MAX {
                return Ok(Value::Null);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(json!(began.elapsed().as_secs_f64() * 1e3))
    }
}

/// `acked`, a problem's code, or `no answer`.
fn code_of(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(_) => "acked".to_owned(),
        Outcome::Refused(why) | Outcome::Unknown(why) => {
            let code = why.trim_start_matches(|c: char| c.is_ascii_digit()).trim();
            code.to_owned()
        }
    }
}

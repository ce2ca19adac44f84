//! Runs an experiment: load on a cluster, faults, and what clients saw of it judged by what was
//! promised. Whatever happens, what was made bad is made good again.

mod judge;
mod measure;
mod steps;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use whimbrel_client::api::{ConversationKind, CreateConversation};

use crate::cluster::{Cluster, Origin, missing};
use crate::experiment::{Experiment, Form, Needs};
use crate::inject::{Injector, Poster};
use crate::journal::{Journal, Measured, Outcome, Status, SteadyStates};
use crate::workload::{Load, Plan};
use measure::Sampler;
use steps::Steps;

/// Conversations of the load.
const CONVERSATIONS: usize = 3;
/// Acks before the hypothesis is looked at: all users are at work then.
const WARM_UP_ACKS: usize = 30;
const WARM_UP_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// How experiments are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Their form.
    pub form: Form,
    /// Of all chance.
    pub seed: u64,
    /// On what.
    pub ground: Ground,
}

/// What experiments are made on.
#[derive(Clone, Debug)]
pub enum Ground {
    /// A cluster for each.
    Own(Origin),
    /// The one that `whimbrel-node dev --relay` runs in a folder.
    Attached(PathBuf),
}

/// An experiment with its file.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file's name, without the ending.
    pub name: String,
    /// The file as it is.
    pub json: serde_json::Value,
    /// The same, understood.
    pub experiment: Experiment,
}

impl Case {
    /// The lack of something that an experiment cannot do without, where nothing can be done about it
    /// by calling differently.
    ///
    /// # Errors
    ///
    /// Where it cannot be run like this.
    pub fn lacks(&self, ground: &Ground) -> anyhow::Result<Option<String>> {
        let needs = self.experiment.needs();
        match ground {
            Ground::Attached(_) => {
                anyhow::ensure!(
                    !needs.own_cluster,
                    "{}: it harms processes, disks or clocks, which takes a cluster of its own; \
                     leave --attach away",
                    self.name
                );
                Ok(None)
            }
            Ground::Own(_) => Ok(missing(&needs)),
        }
    }

    /// Runs it.
    pub async fn run(&self, options: &Options, interrupted: &CancellationToken) -> Journal {
        let (start, began) = (now(), Instant::now());
        let mut journal = Journal {
            name: self.name.clone(),
            experiment: self.json.clone(),
            seed: options.seed,
            form: options.form.to_string(),
            status: Status::Aborted,
            deviated: false,
            outcome: Outcome::NotRun,
            reason: None,
            start,
            end: String::new(),
            duration: 0.0,
            steady_states: SteadyStates::default(),
            run: Vec::new(),
            rollbacks: Vec::new(),
            faults: Vec::new(),
            verdicts: Vec::new(),
            counts: None,
            gone: 0,
            measured: Measured::default(),
            kept: None,
        };
        let done = match self.lacks(&options.ground) {
            Ok(Some(lack)) => {
                (journal.status, journal.outcome) = (Status::Skipped, Outcome::Skipped);
                journal.reason = Some(lack);
                Ok(())
            }
            Ok(None) => self.go(options, interrupted, &mut journal).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            journal.outcome = Outcome::NotRun;
            journal.reason = Some(format!("{error:#}"));
        }
        journal.end = now();
        journal.duration = began.elapsed().as_secs_f64();
        journal
    }

    fn tell(&self, what: &str) {
        eprintln!("{}: {what}", self.name);
    }

    async fn go(
        &self,
        options: &Options,
        interrupted: &CancellationToken,
        journal: &mut Journal,
    ) -> anyhow::Result<()> {
        anyhow::ensure!(!interrupted.is_cancelled(), "interrupted before it began");
        self.tell("a cluster gets ready");
        let needs = self.experiment.needs();
        let plan = self.plan(options.seed);
        let made = async {
            let cluster = start(&options.ground, &needs, options.seed).await?;
            let conversations = converse(&cluster, &plan).await?;
            let users = |user: &str| cluster.ways(user).unwrap_or_default();
            let load = Load::start(&plan, &conversations, users).await;
            anyhow::Ok((
                cluster,
                conversations,
                load.context("cannot start the load")?,
            ))
        };
        let (cluster, conversations, mut load) = tokio::select! {
            made = made => made?,
            () = interrupted.cancelled() => {
                journal.status = Status::Interrupted;
                anyhow::bail!("interrupted");
            }
        };
        let user = plan.users()[0].clone();
        let poster = Poster {
            session: load.session(&user),
            // How long a region takes is what probes are for.
            ways: cluster.patient_ways(&user)?,
            conversation: conversations[0].clone(),
        };
        let sampler = Sampler::start(&cluster, load.clock());
        let mut injector = Injector::new(cluster, load.clock(), poster);
        let mut steps = Steps {
            case: self,
            form: options.form,
            load: &load,
            injector: &mut injector,
        };
        // A panic of ours must not leave a frozen process or a mounted disk behind either: it is
        // told once all is put right.
        let method = AssertUnwindSafe(steps.method(journal)).catch_unwind();
        let method = tokio::select! {
            method = method => method.unwrap_or_else(|_| Err(anyhow::anyhow!("a step panicked"))),
            () = interrupted.cancelled() => {
                self.tell("interrupted; what was made bad is made good again");
                journal.status = Status::Interrupted;
                Err(anyhow::anyhow!("interrupted"))
            }
        };
        let rolled_back = steps.roll_back(journal).await;
        let rolled_back = rolled_back.and(steps.injector.restore().await);
        let judged = async {
            method?;
            rolled_back.context("what was made bad cannot be made good again")?;
            self.tell("all faults are ended; all regions get ready");
            let ready = steps.injector.all_ready().await;
            ready.context("all faults are ended, and not all regions got ready")?;
            if journal.status == Status::Failed {
                return Ok(None);
            }
            steps.after(journal).await?;
            anyhow::Ok(Some(()))
        };
        let judged = tokio::select! {
            judged = judged => judged,
            // Nobody waits for a cluster that somebody gave up.
            () = interrupted.cancelled() => Err(anyhow::anyhow!("interrupted")),
        };
        if judged.is_err() && interrupted.is_cancelled() {
            journal.status = Status::Interrupted;
        }
        journal.measured.lag = sampler.stop().await;
        let (mut cluster, faults, tails, session) = injector.into_parts();
        journal.faults = faults;
        let result = match judged {
            Ok(Some(())) => {
                self.tell("the load ends; what clients saw is judged");
                let judge = judge::Judge {
                    case: self,
                    cluster: &mut cluster,
                    plan: &plan,
                    conversations: &conversations,
                    tails: &tails,
                };
                tokio::select! {
                    judged = judge.judge(load, session, journal) => judged,
                    () = interrupted.cancelled() => {
                        journal.status = Status::Interrupted;
                        Err(anyhow::anyhow!("interrupted"))
                    }
                }
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        let interrupted = journal.status == Status::Interrupted;
        if journal.is_violated() || (result.is_err() && !interrupted) {
            journal.kept = cluster.keep().map(|folder| folder.display().to_string());
        }
        cluster.stop().await;
        result
    }

    fn plan(&self, seed: u64) -> Plan {
        let load = &self.experiment.load;
        Plan {
            seed,
            writers: load.writers,
            listeners: load.listeners,
            acts: u32::MAX,
            pause: load.pause.get(),
            regions: load.ack.0,
        }
    }
}

async fn start(ground: &Ground, needs: &Needs, seed: u64) -> anyhow::Result<Cluster> {
    match ground {
        Ground::Own(origin) => Cluster::start(origin, needs, seed).await,
        Ground::Attached(dev) => Cluster::attach(dev).await,
    }
}

/// Makes the conversations of the load; all regions know them.
async fn converse(cluster: &Cluster, plan: &Plan) -> anyhow::Result<Vec<String>> {
    let users = plan.users();
    let ways = cluster.ways(&users[0])?;
    let (_, owner) = ways.first().context("a cluster has regions")?;
    let mut conversations = Vec::new();
    for nth in 0..CONVERSATIONS {
        let body = CreateConversation {
            kind: ConversationKind::Group,
            title: Some(format!("Experiment {nth}")),
            topic: None,
            members: users[1..].to_vec(),
        };
        conversations.push(owner.create(&body).await?.value.id);
    }
    cluster.converged().await?;
    Ok(conversations)
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

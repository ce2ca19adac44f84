//! Does harm to a cluster, proves that it did bite, and puts it right again.

mod proof;

use anyhow::Context as _;
use serde_json::{Value, json};
use whimbrel_client::api::PostMessage;

use crate::check::Tail;
use crate::cluster::{Cluster, Tampering};
use crate::experiment::{Action, Offset, Syncs};
use crate::history::{Answer, Call, Clock, Outcome, Session};
use crate::journal::Fault;
use crate::link::{Change, LinkReport, Order};
use crate::workload::{Way, outcome_of, shown};

/// What harms a cluster.
#[derive(Debug)]
pub(crate) struct Injector {
    pub(crate) cluster: Cluster,
    pub(crate) clock: Clock,
    pub(crate) faults: Vec<Fault>,
    /// What disks took with them.
    pub(crate) tails: Vec<Tail>,
    active: Vec<Active>,
    /// Posts of its own.
    pub(crate) poster: Poster,
}

/// Posts that are no part of the load, recorded as these are.
#[derive(Debug)]
pub(crate) struct Poster {
    pub(crate) session: Session,
    pub(crate) ways: Vec<Way>,
    pub(crate) conversation: String,
}

/// A fault that holds, or is about to: noted before it is made, so that one that is interrupted is ended too.
#[derive(Clone, Debug)]
struct Active {
    /// Its place among the faults.
    nth: usize,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// With the life of its store, where that was destroyed.
    Away {
        region: String,
        life: Option<String>,
    },
    Frozen {
        region: String,
    },
    Links {
        before: Vec<LinkReport>,
    },
    Clock {
        region: String,
    },
    FullDisk {
        region: String,
    },
    Syncs {
        region: String,
        fails: bool,
    },
}

impl Poster {
    /// A key and text that nobody else has.
    pub(crate) fn fresh(&self) -> String {
        format!("x{}", self.session.next_id())
    }

    fn client(&self, region: &str) -> anyhow::Result<&whimbrel_client::Client> {
        let way = self.ways.iter().find(|(name, _)| name == region);
        let (_, client) = way.with_context(|| format!("there is no region `{region}`"))?;
        Ok(client)
    }

    /// Whether a region shows a message. This is no read of the session: it carries no cursors.
    pub(crate) async fn shows(&self, region: &str, message: &str) -> anyhow::Result<bool> {
        let client = self.client(region)?;
        Ok(client.message(&self.conversation, message).await.is_ok())
    }

    /// Posts once to a region.
    pub(crate) async fn post(&mut self, region: &str, key: &str) -> anyhow::Result<Outcome> {
        let client = self.client(region)?;
        let body = PostMessage {
            text: key.to_owned(),
            ..PostMessage::default()
        };
        let call = Call::Post {
            key: key.to_owned(),
            conversation: self.conversation.clone(),
            text: body.text.clone(),
            reply_to: None,
            regions: 1,
        };
        let post = client.post(&self.conversation, &body).key(key);
        let begun = self.session.begin(region, call);
        let outcome = match post.await {
            Ok(posted) => Outcome::Done(Answer::Message {
                seen: shown(&posted.message),
                replayed: posted.replayed,
            }),
            Err(error) => outcome_of(&error),
        };
        self.session.end(begun, outcome.clone());
        Ok(outcome)
    }
}

impl Injector {
    pub(crate) fn new(cluster: Cluster, clock: Clock, poster: Poster) -> Self {
        Self {
            cluster,
            clock,
            faults: Vec::new(),
            tails: Vec::new(),
            active: Vec::new(),
            poster,
        }
    }

    /// Seconds since the run began.
    pub(crate) fn now(&self) -> f64 {
        self.clock.now_us() as f64 / 1e6
    }

    /// Does it; what there is to say.
    pub(crate) async fn act(
        &mut self,
        action: &Action,
        span: impl Fn(&crate::experiment::Span) -> std::time::Duration,
    ) -> anyhow::Result<Value> {
        match action {
            Action::Kill { region } => {
                let pid = self.cluster.process(region)?.kill().await?;
                let away = |region| Kind::Away { region, life: None };
                let nth = self.begin(format!("{region} killed"), away, region);
                self.prove_away(nth, region, pid).await
            }
            Action::Destroy { region } => self.destroy(region).await,
            Action::Start { region } => {
                self.cluster.process(region)?.start()?;
                self.cluster.ready(region).await?;
                self.end(|kind| matches!(kind, Kind::Away { region: r, .. } if r == region))
                    .await?;
                Ok(json!("ready"))
            }
            Action::Freeze { region } => {
                let what = format!("{region} frozen");
                let nth = self.begin(what, |region| Kind::Frozen { region }, region);
                let pid = self.cluster.process(region)?.freeze().await?;
                self.prove_frozen(nth, region, pid).await
            }
            Action::Thaw { region } => {
                self.end(|kind| matches!(kind, Kind::Frozen { region: r } if r == region))
                    .await?;
                Ok(Value::Null)
            }
            Action::Link {
                from,
                to,
                one_way,
                faults,
            } => {
                let before = self.cluster.links().await?;
                let order = Order {
                    from: from.0.clone(),
                    to: to.0.clone(),
                    one_way: *one_way,
                    change: Change::Set(*faults),
                };
                let way = if *one_way { "to" } else { "and" };
                let links = match (&from.0, &to.0) {
                    (None, None) => "all links".to_owned(),
                    _ => format!("links {from} {way} {to}"),
                };
                let what = format!("{links}: {}", proof::words(faults));
                let nth = self.note(what);
                let kind = Kind::Links { before };
                self.active.push(Active { nth, kind });
                self.cluster.steer(order).await?;
                Ok(Value::Null)
            }
            Action::Heal {} => {
                self.end(|kind| matches!(kind, Kind::Links { .. })).await?;
                Ok(Value::Null)
            }
            Action::Clock { region, offset } => self.move_clock(region, *offset).await,
            Action::FillDisk { region } => {
                let process = self.cluster.process(region)?;
                let (filled, free) = (process.fill_disk()?, process.free_bytes()?);
                let what = format!("the disk of {region} full");
                let nth = self.begin(what, |region| Kind::FullDisk { region }, region);
                let evidence = format!("{filled} bytes took all room, {free} are free");
                self.faults[nth].evidence.push(evidence);
                Ok(json!(filled))
            }
            Action::FreeDisk { region } => {
                self.end(|kind| matches!(kind, Kind::FullDisk { region: r } if r == region))
                    .await?;
                Ok(Value::Null)
            }
            Action::Sync { region, syncs } => {
                let (tampering, what) = match syncs {
                    Syncs::Right => {
                        let is = |kind: &Kind| matches!(kind, Kind::Syncs { region: r, .. } if r == region);
                        self.end(is).await?;
                        return Ok(Value::Null);
                    }
                    Syncs::Stall(time) => {
                        let time = span(time);
                        let what = format!("syncs of {region} take {} ms more", time.as_millis());
                        (Tampering::Stall(time), what)
                    }
                    Syncs::Fail => (Tampering::Fail, format!("syncs of {region} fail")),
                };
                let fails = tampering == Tampering::Fail;
                self.begin(what, |region| Kind::Syncs { region, fails }, region);
                self.cluster.process(region)?.tamper(tampering).await?;
                Ok(Value::Null)
            }
            Action::PostTwice { regions, messages } => self.post_twice(regions, *messages).await,
        }
    }

    /// Ends all that still holds, the last first, and starts what is away. Goes on where one thing
    /// cannot be put right; the first of these is what is said.
    pub(crate) async fn restore(&mut self) -> anyhow::Result<()> {
        let mut first = Ok(());
        while let Some(active) = self.active.last().cloned() {
            let ended = self.end_one(active).await;
            self.active.pop();
            first = first.and(ended);
        }
        let names: Vec<String> = self.cluster.names().map(str::to_owned).collect();
        for name in names {
            if let Ok(process) = self.cluster.process(&name)
                && process.is_away()
            {
                let started = process.start();
                first = first.and(started);
            }
        }
        first
    }

    /// Waits until all regions are ready.
    pub(crate) async fn all_ready(&mut self) -> anyhow::Result<()> {
        self.cluster.all_ready().await
    }

    /// All that it posted.
    pub(crate) fn into_parts(self) -> (Cluster, Vec<Fault>, Vec<Tail>, Session) {
        (self.cluster, self.faults, self.tails, self.poster.session)
    }

    fn note(&mut self, what: String) -> usize {
        self.faults.push(Fault {
            what,
            start: self.now(),
            end: None,
            bit: None,
            evidence: Vec::new(),
        });
        self.faults.len() - 1
    }

    fn begin(&mut self, what: String, kind: impl FnOnce(String) -> Kind, region: &str) -> usize {
        let nth = self.note(what);
        let kind = kind(region.to_owned());
        self.active.push(Active { nth, kind });
        nth
    }

    /// Ends the faults that are meant, the oldest first. One that could not be ended, or was interrupted, still
    /// holds, for [`Self::restore`].
    async fn end(&mut self, is_meant: impl Fn(&Kind) -> bool) -> anyhow::Result<()> {
        while let Some(at) = self.active.iter().position(|active| is_meant(&active.kind)) {
            self.end_one(self.active[at].clone()).await?;
            self.active.remove(at);
        }
        Ok(())
    }

    async fn end_one(&mut self, Active { nth, kind }: Active) -> anyhow::Result<()> {
        match kind {
            Kind::Away { region, life } => {
                let process = self.cluster.process(&region)?;
                if process.is_away() {
                    process.start()?;
                    self.cluster.ready(&region).await?;
                }
                if let Some(old) = life {
                    self.prove_new_life(nth, &region, &old).await?;
                }
            }
            Kind::Frozen { region } => {
                let process = self.cluster.process(&region)?;
                let held = process.is_frozen();
                process.thaw()?;
                if !held {
                    self.settle(nth, false, format!("{region} was not frozen to the end"));
                }
            }
            Kind::Links { before } => {
                let after = self.cluster.links().await?;
                let heal = Order {
                    from: None,
                    to: None,
                    one_way: false,
                    change: Change::Heal,
                };
                self.cluster.steer(heal).await?;
                let (bit, evidence) = proof::of_links(&before, &after);
                self.settle(nth, bit, evidence);
            }
            Kind::Clock { region } => {
                let process = self.cluster.process(&region)?;
                process.move_clock(Offset { millis: 0 })?;
            }
            Kind::FullDisk { region } => {
                let process = self.cluster.process(&region)?;
                let (ended, error) = (process.ended(), process.last_error());
                process.free_disk()?;
                self.prove_ended(nth, &region, ended, error);
            }
            Kind::Syncs { region, fails } => {
                let process = self.cluster.process(&region)?;
                let ended = process.ended();
                let calls = process.leave_alone().await?;
                let error = process.last_error();
                let said = if fails { "failed" } else { "were stalled" };
                self.settle(
                    nth,
                    calls > 0,
                    format!("strace saw that {calls} syncs {said}"),
                );
                if fails {
                    self.prove_ended(nth, &region, ended, error);
                }
            }
        }
        self.faults[nth].end = Some(self.now());
        Ok(())
    }

    /// What is lost with the disk is what no peer had at the last report before.
    async fn destroy(&mut self, region: &str) -> anyhow::Result<Value> {
        let reported_us = self.clock.now_us();
        let url = self.cluster.region(region)?.admin_url.clone();
        let report = self.cluster.admin().replication(&url).await?;
        let unreplicated = report.unreplicated;
        anyhow::ensure!(
            unreplicated.complete,
            "the tail of {region} is too long to be counted"
        );
        let tail_us = proof::tail_us(&unreplicated);
        let process = self.cluster.process(region)?;
        let pid = process.kill().await?;
        let deleted = process.delete_data()?;
        let until_us = self.clock.now_us();
        self.tails.push(Tail {
            region: region.to_owned(),
            since_us: reported_us.saturating_sub(tail_us),
            reported_us,
            ops: unreplicated.ops,
            until_us,
        });
        let what = format!("{region} destroyed");
        let life = Some(report.origin.clone());
        let nth = self.begin(what, |region| Kind::Away { region, life }, region);
        let tail = format!(
            "{region} reported {} ops, {:.1} s old at most, that no other has; {} is deleted",
            unreplicated.ops,
            unreplicated.oldest_seconds,
            deleted.display()
        );
        self.faults[nth].evidence.push(tail);
        self.prove_away(nth, region, pid).await
    }

    async fn move_clock(&mut self, region: &str, offset: Offset) -> anyhow::Result<Value> {
        self.end(|kind| matches!(kind, Kind::Clock { region: r } if r == region))
            .await?;
        self.cluster.process(region)?.move_clock(offset)?;
        if offset.millis == 0 {
            return Ok(Value::Null);
        }
        let what = format!("the clock of {region} is {offset} off");
        let nth = self.begin(what, |region| Kind::Clock { region }, region);
        self.prove_clock(nth, region, offset).await
    }

    async fn post_twice(&mut self, regions: &[String; 2], messages: u32) -> anyhow::Result<Value> {
        let nth = self.note(format!("keys used in {} and {}", regions[0], regions[1]));
        let mut twice = 0;
        for _ in 0..messages {
            let key = self.poster.fresh();
            let mut fresh = 0;
            for region in regions {
                let outcome = self.poster.post(region, &key).await?;
                let is_new = matches!(
                    outcome,
                    Outcome::Done(Answer::Message {
                        replayed: false,
                        ..
                    })
                );
                fresh += usize::from(is_new);
            }
            twice += usize::from(fresh == 2);
        }
        let evidence = format!("{twice} of {messages} posts were taken as new by both regions");
        self.settle(nth, twice > 0, evidence);
        self.faults[nth].end = Some(self.now());
        Ok(json!(twice))
    }

    /// What is known of whether a fault did bite: all of it must say so.
    fn settle(&mut self, nth: usize, bit: bool, evidence: String) {
        let fault = &mut self.faults[nth];
        fault.bit = Some(fault.bit.unwrap_or(true) && bit);
        fault.evidence.push(evidence);
    }
}

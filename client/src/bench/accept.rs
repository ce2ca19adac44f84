//! How many messages a region accepts, and how long each acknowledgement takes.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;

use super::cast::Cast;
use super::load::{Tally, drive};
use super::{Control, Cpu, Load, Percentiles, Region, Target, TextsUsed};
use crate::Error;

/// What [`accept`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Accepted {
    /// The run's random name.
    pub run: String,
    /// The region that was written to.
    pub region: String,
    /// `closed` or `open`.
    pub load: &'static str,
    /// Messages a second that were intended, in an open loop.
    pub rate: Option<u32>,
    /// Connections.
    pub clients: usize,
    /// Users who took turns.
    pub users: usize,
    /// Conversations that took turns.
    pub conversations: usize,
    /// Where the texts came from.
    pub texts: TextsUsed,
    /// From the first message to the last answer.
    pub seconds: f64,
    /// Messages that were sent.
    pub sent: u64,
    /// Those that were acknowledged.
    pub accepted: u64,
    /// The others: HTTP status and code, or `connection`, to how many.
    pub refused: BTreeMap<String, u64>,
    /// What the region said with the first of each.
    pub reasons: BTreeMap<String, String>,
    /// Acknowledged messages a second.
    pub messages_per_second: f64,
    /// Of acknowledged messages; in an open loop from the intended time.
    pub latency: Option<Percentiles>,
    /// In an open loop: how late messages were sent. Where this is long, more clients are needed,
    /// or the region cannot keep up.
    pub send_lag: Option<Percentiles>,
    /// Processor time for each acknowledged message.
    pub cpu: Cpu,
}

/// Posts into the first region of `target`.
pub async fn accept(target: &Target, load: &Load, control: &Control) -> Result<Accepted, Error> {
    let region = target.written()?;
    load.check(region)?;
    control.stage("making users and conversations", None);
    let (users, conversations) = (load.users.get(), load.conversations.get());
    let cast = Rc::new(Cast::make(target, region, users, conversations).await?);
    let tally = drive(target, region, &cast, load, control, |_, _| Ok(())).await?;
    Ok(Accepted::new(&cast, region, load, tally))
}

impl Accepted {
    pub(super) fn new(cast: &Cast, region: &Region, load: &Load, tally: Tally) -> Self {
        Self {
            run: cast.run.clone(),
            region: region.name.clone(),
            load: load.rate.map_or("closed", |_| "open"),
            rate: load.rate.map(Into::into),
            clients: load.clients.get(),
            users: load.users.get(),
            conversations: load.conversations.get(),
            texts: TextsUsed::from(&load.texts),
            seconds: (tally.seconds * 1000.0).round() / 1000.0,
            sent: tally.sent,
            accepted: tally.accepted,
            messages_per_second: tally.per_second(),
            latency: tally.latency.percentiles(),
            send_lag: load.rate.and_then(|_| tally.send_lag.percentiles()),
            refused: tally.refused,
            reasons: tally.reasons,
            cpu: tally.cpu,
        }
    }
}

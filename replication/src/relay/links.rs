//! All relays of a cluster, by the names of its regions.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::faults::{Change, Faults, FaultsError};
use super::forward::{Counters, Relay, Way};

/// One region dials another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Who dials.
    pub from: String,
    /// Who is dialled.
    pub to: String,
    /// Where the relay listens; port 0 is any free one.
    pub listen: SocketAddr,
    /// Where the region that is dialled listens.
    pub target: SocketAddr,
}

/// A direction of travel with its faults, and what it has done so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkReport {
    /// Who sends.
    pub from: String,
    /// Who receives.
    pub to: String,
    /// What is wrong.
    pub faults: Faults,
    /// Over both relays of the pair.
    pub counters: Counters,
}

/// Change some links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Who sends; without it each region.
    pub from: Option<String>,
    /// Who receives; without it each region.
    pub to: Option<String>,
    /// Not also what is sent back.
    pub one_way: bool,
    /// What to do.
    pub change: Change,
}

/// What relays cannot do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinksError {
    /// No such region.
    #[error("there is no region `{name}`; there are {}", .regions.join(", "))]
    Region {
        /// As asked for.
        name: String,
        /// Those that there are.
        regions: Vec<String>,
    },
    /// A link from a region to itself.
    #[error("a link has two ends; `{0}` is named twice")]
    Itself(String),
    /// Faults that cannot be.
    #[error(transparent)]
    Faults(#[from] FaultsError),
    /// A relay cannot be started.
    #[error("the relay from {from} to {to} cannot listen on {listen}")]
    Start {
        /// Who would dial.
        from: String,
        /// Who would be dialled.
        to: String,
        /// Where.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// The relays of a cluster, one for each region that dials another. Dropped, all stop.
#[derive(Debug)]
pub struct Links {
    seed: u64,
    regions: Vec<String>,
    /// From who dials to who is dialled.
    relays: BTreeMap<(String, String), Relay>,
}

impl Links {
    /// Starts a relay for each of `dials`. All chance comes from `seed`.
    pub async fn start(
        seed: u64,
        dials: impl IntoIterator<Item = Dial>,
    ) -> Result<Self, LinksError> {
        let mut regions = Vec::new();
        let mut relays = BTreeMap::new();
        for dial in dials {
            let Dial {
                from,
                to,
                listen,
                target,
            } = dial;
            if from == to {
                return Err(LinksError::Itself(from));
            }
            let chance = |way| chance(seed, &from, &to, way);
            let relay = Relay::start(listen, target, chance(Way::Forth), chance(Way::Back)).await;
            let relay = match relay {
                Ok(relay) => relay,
                Err(source) => {
                    return Err(LinksError::Start {
                        from,
                        to,
                        listen,
                        source,
                    });
                }
            };
            for name in [&from, &to] {
                if !regions.contains(name) {
                    regions.push(name.clone());
                }
            }
            relays.insert((from, to), relay);
        }
        Ok(Self {
            seed,
            regions,
            relays,
        })
    }

    /// Of all chance.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Where `from` dials `to`, if it does.
    pub fn address(&self, from: &str, to: &str) -> Option<SocketAddr> {
        let relay = self.relays.get(&(from.to_owned(), to.to_owned()))?;
        Some(relay.address())
    }

    /// Sets the faults of what `from` sends to `to` after this.
    pub fn set(&self, from: &str, to: &str, faults: Faults) -> Result<(), LinksError> {
        self.change(from, to, Change::Set(faults))
    }

    /// Changes the faults of what `from` sends to `to` after this.
    pub fn change(&self, from: &str, to: &str, change: Change) -> Result<(), LinksError> {
        self.apply(&Order {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            one_way: true,
            change,
        })
    }

    /// Changes the faults of all links, both ways.
    pub fn change_all(&self, change: Change) -> Result<(), LinksError> {
        self.apply(&Order {
            from: None,
            to: None,
            one_way: false,
            change,
        })
    }

    /// Does as ordered. Where that errs, nothing has changed: a change that cannot be cannot be on
    /// any link.
    pub fn apply(&self, order: &Order) -> Result<(), LinksError> {
        for (from, to) in self.chosen(order)? {
            for (relay, way) in self.travel(from, to) {
                relay.change(way, &order.change)?;
            }
        }
        Ok(())
    }

    /// All directions of travel, in the order of the regions.
    pub fn report(&self) -> Vec<LinkReport> {
        let report = |(from, to): (&str, &str)| {
            let mut travel = self.travel(from, to).peekable();
            let faults = travel.peek().map(|(relay, way)| relay.faults(*way));
            let counters = travel.fold(Counters::default(), |sum, (relay, way)| {
                sum.plus(&relay.counters(way))
            });
            LinkReport {
                from: from.to_owned(),
                to: to.to_owned(),
                faults: faults.unwrap_or_default(),
                counters,
            }
        };
        self.pairs().map(report).collect()
    }

    /// Both relays through which travels what `from` sends to `to`: on the connection that it
    /// dialled, and on the one that it answers.
    fn travel(&self, from: &str, to: &str) -> impl Iterator<Item = (&Relay, Way)> {
        let dialled = self.relays.get(&(from.to_owned(), to.to_owned()));
        let answered = self.relays.get(&(to.to_owned(), from.to_owned()));
        let forth = dialled.map(|relay| (relay, Way::Forth));
        forth
            .into_iter()
            .chain(answered.map(|relay| (relay, Way::Back)))
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let names = || self.regions.iter().map(String::as_str);
        names()
            .flat_map(move |from| names().map(move |to| (from, to)))
            .filter(|(from, to)| self.travel(from, to).next().is_some())
    }

    fn chosen<'a>(&'a self, order: &'a Order) -> Result<Vec<(&'a str, &'a str)>, LinksError> {
        let (from, to) = (order.from.as_ref(), order.to.as_ref());
        if let Some(name) = from
            && Some(name) == to
        {
            return Err(LinksError::Itself(name.clone()));
        }
        if let Some(name) = from.iter().chain(&to).find(|n| !self.regions.contains(n)) {
            return Err(LinksError::Region {
                name: (*name).clone(),
                regions: self.regions.clone(),
            });
        }
        let is = |wanted: Option<&String>, name: &str| wanted.is_none_or(|wanted| wanted == name);
        let chosen = self.pairs().filter(|(a, b)| {
            (is(from, a) && is(to, b)) || (!order.one_way && is(from, b) && is(to, a))
        });
        Ok(chosen.collect())
    }
}

/// The chances of a way do not depend on how many others there are.
fn chance(seed: u64, from: &str, to: &str, way: Way) -> StdRng {
    let way = match way {
        Way::Forth => "forth",
        Way::Back => "back",
    };
    // No name has a slash.
    let mut hash = blake3::Hasher::new_derive_key("whimbrel 2026 chances of a relay");
    hash.update(format!("{seed}/{from}/{to}/{way}").as_bytes());
    StdRng::from_seed(*hash.finalize().as_bytes())
}

//! How much of everything a cluster needs: from what users do and what one operation takes to nodes,
//! FoundationDB processes, disks, traffic and money. Pure: [`plan`] takes [`Inputs`] and gives a [`Plan`].

mod bill;
mod costs;
mod inputs;
mod kind;
mod levers;
mod outage;
mod plan;
mod show;
mod spike;
mod tables;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use bill::Bill;
pub use costs::{Basis, Cost, CostName, Costs};
pub use inputs::{Inputs, Invalid, Load, Machines, Prices, Regions, Shares};
pub use levers::Lever;
pub use outage::{DrainLimit, Outage};
pub use plan::{Connections, Nodes, Rates, Store, Wan};
pub use spike::{Resource, Spike, Use};
pub use tables::{Table, tables};

use plan::Sizes;

/// What a cluster needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Calls a second.
    pub rates: Rates,
    /// Nodes.
    pub nodes: Nodes,
    /// FoundationDB and its disks.
    pub store: Store,
    /// Traffic between regions.
    pub wan: Wan,
    /// Open streams.
    pub connections: Connections,
    /// How full everything is, the fullest after the spike first.
    pub uses: Vec<Use>,
    /// Regions that were away, and come back.
    pub outages: Vec<Outage>,
    /// Many more users overnight; `None` where no machine is large enough for them.
    pub spike: Option<Spike>,
    /// What a month costs.
    pub bill: Bill,
    /// What would make it cheaper, the most first.
    pub levers: Vec<Lever>,
}

/// Makes a plan.
///
/// # Errors
///
/// Inputs that contradict each other, or that no plan can be made of.
pub fn plan(inputs: &Inputs) -> Result<Plan, Invalid> {
    inputs.check()?;
    let sizes = Sizes::planned(inputs)?;
    let wan = Wan::of(inputs, sizes.nodes.each_region);
    let bill = Bill::of(inputs, &sizes, &wan);
    let uses = spike::uses(inputs, &sizes);
    // Where there is one region only, nothing is written while it is away.
    let has_peers = inputs.regions.count > 1;
    let outages = inputs.load.outage_hours.iter().filter(|_| has_peers);
    Ok(Plan {
        rates: Rates::of(inputs),
        connections: Connections::of(inputs, &sizes.demand, &sizes.nodes),
        outages: outages
            .map(|hours| Outage::of(inputs, &sizes, *hours))
            .collect(),
        spike: Spike::of(inputs, &sizes, &uses),
        uses,
        levers: levers::levers(inputs, &bill),
        nodes: sizes.nodes,
        store: sizes.store,
        wan,
        bill,
    })
}

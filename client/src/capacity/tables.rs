//! A plan as tables for people. Each row says what it stands on.

mod given;
mod money;
mod sizes;
mod trouble;

use super::CostName::{
    self, AnswerClient, ApplyFdb, DiskOverhead, EventClient, EventFdb, EventNode, HaveBytes,
    LogsShare, MarkerApply, MarkerFdb, MarkerKept, MarkerLogged, MarkerNode, MarkerWan, NodeMemory,
    PageClient, PageFdb, PageNode, PostApply, PostFdb, PostKept, PostLogged, PostNode, PostWan,
    ProxyMemory, ReactionApply, ReactionFdb, ReactionKept, ReactionLogged, ReactionNode,
    ReactionWan, StatelessShare, StreamIdle, StreamKernel, StreamMemory, TailFdb, TailNode,
    TokenClient, TokenNode,
};
use super::{Basis, Inputs, Plan};

/// A table: a title, names of columns, rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Names the table in a document.
    pub id: &'static str,
    /// What it shows.
    pub title: &'static str,
    /// Names of its columns.
    pub head: &'static [&'static str],
    /// As many cells in each as there are columns.
    pub rows: Vec<Vec<String>>,
}

const PLAIN: &[&str] = &["what", "how much", "stands on"];

// Which unit costs say what.
const NODE: &[CostName] = &[
    PostNode,
    PostApply,
    MarkerNode,
    MarkerApply,
    ReactionNode,
    ReactionApply,
    TokenNode,
    PageNode,
    EventNode,
    StreamIdle,
    TailNode,
];
const STORE: &[CostName] = &[
    PostFdb,
    MarkerFdb,
    ReactionFdb,
    ApplyFdb,
    StatelessShare,
    LogsShare,
];
const STORAGE: &[CostName] = &[
    PostFdb,
    MarkerFdb,
    ReactionFdb,
    ApplyFdb,
    StatelessShare,
    LogsShare,
    PageFdb,
    EventFdb,
    TailFdb,
];
const KEPT: &[CostName] = &[PostKept, MarkerKept, ReactionKept];
const LOGGED: &[CostName] = &[PostLogged, MarkerLogged, ReactionLogged];
const DISK: &[CostName] = &[
    PostKept,
    MarkerKept,
    ReactionKept,
    PostLogged,
    MarkerLogged,
    ReactionLogged,
    DiskOverhead,
];
/// Memory of open streams.
const STREAMS: &[CostName] = &[StreamMemory, ProxyMemory, StreamKernel, NodeMemory];
const LOGS_WAN: &[CostName] = &[PostWan, MarkerWan, ReactionWan];
const ALL_WAN: &[CostName] = &[PostWan, MarkerWan, ReactionWan, HaveBytes];
const CLIENTS: &[CostName] = &[AnswerClient, PageClient, EventClient, TokenClient];
/// Said of nodes: above 100% each must be larger, or may open more files.
const OF_MOST: &str = "nodes, of the 64 that links allow";

/// All tables of a plan: inputs first, unit costs last.
pub fn tables(inputs: &Inputs, plan: &Plan) -> Vec<Table> {
    let it = Tables { inputs, plan };
    vec![
        it.given(),
        it.rates(),
        it.region(),
        it.storage(),
        it.wan(),
        it.connections(),
        it.limits(),
        it.outages(),
        it.spike(),
        it.bill(),
        it.levers(),
        it.costs(
            "measured",
            "Unit costs: measured",
            &[Basis::Given, Basis::Measured],
        ),
        it.costs(
            "extrapolated",
            "Unit costs: extrapolated",
            &[Basis::Extrapolated],
        ),
        it.costs("assumed", "Unit costs: assumed", &[Basis::Assumed]),
    ]
}

struct Tables<'a> {
    inputs: &'a Inputs,
    plan: &'a Plan,
}

impl Tables<'_> {
    /// The weakest of the figures that a row stands on.
    fn stands_on(&self, names: &[CostName]) -> String {
        let costs = names.iter().map(|name| self.inputs.costs.get(*name));
        let Some(weakest) = costs.clone().map(|cost| cost.basis).max() else {
            return "inputs".to_owned();
        };
        let which: Vec<_> = costs
            .filter(|cost| cost.basis == weakest)
            .map(|cost| cost.name)
            .collect();
        match weakest {
            Basis::Given => "given".to_owned(),
            Basis::Measured => "measured".to_owned(),
            Basis::Extrapolated | Basis::Assumed => {
                let (first, rest) = which.split_at(which.len().min(2));
                let first = first.join(", ");
                let more = match rest.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("{}: {first}{more}", word(weakest))
            }
        }
    }

    fn row(&self, what: impl Into<String>, value: String, names: &[CostName]) -> Vec<String> {
        vec![what.into(), value, self.stands_on(names)]
    }
}

fn word(basis: Basis) -> &'static str {
    match basis {
        Basis::Given => "given",
        Basis::Measured => "measured",
        Basis::Extrapolated => "extrapolated",
        Basis::Assumed => "assumed",
    }
}

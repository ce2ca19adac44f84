//! What would make it cheaper: the plan is made anew with one input changed.

use serde::Serialize;

use super::CostName::{
    BatchFdb, BatchNode, GzipShare, HaveBytes, MarkerWan, PageClient, PostWan, ReactionWan,
    ReservedDiscount, StreamMemory, ZstdShare,
};
use super::kind::Kind;
use super::plan::{Sizes, Wan, haves_a_second};
use super::{Bill, CostName, Inputs};

/// One input that is changed, and what that saves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lever {
    /// What is changed.
    pub what: String,
    /// What a million messages cost then.
    pub million_messages: f64,
    /// What that saves, in percent; negative where it costs more.
    pub saves_percent: f64,
    /// Unit costs that say how much it changes.
    #[serde(skip)]
    pub stands_on: &'static [CostName],
}

/// Changes one input and says in words how.
type Change = fn(&mut Inputs) -> String;

const CHANGES: [(&[CostName], Change); 13] = [
    (&[], |inputs| {
        let days = &mut inputs.load.history_days;
        *days /= 2.0;
        format!("messages stay in the stores for {days:.0} days")
    }),
    (&[], |inputs| {
        let copies = &mut inputs.machines.copies;
        *copies = (*copies - 1).max(1);
        format!("{copies} copies in each region")
    }),
    (&[ReservedDiscount], |inputs| {
        let off = inputs.costs.of(ReservedDiscount);
        let prices = &mut inputs.prices;
        for price in [
            &mut prices.node_hour,
            &mut prices.process_hour,
            &mut prices.disk_gb_month,
        ] {
            *price *= 1.0 - off;
        }
        format!("machines and disks reserved, {:.0}% off", off * 100.0)
    }),
    (&[], |inputs| {
        let percent = &mut inputs.machines.utilisation_percent;
        *percent = (*percent * 1.25).min(95.0);
        format!("processors, memory and disks filled to {percent:.0}%")
    }),
    (&[], |inputs| {
        let shares = &mut inputs.load.shares;
        let fewer = shares.markers / 2.0;
        shares.markers -= fewer;
        let left = 1.0 - fewer / 100.0;
        for share in [
            &mut shares.posts,
            &mut shares.pages,
            &mut shares.markers,
            &mut shares.reactions,
        ] {
            *share /= left;
        }
        inputs.load.actions_per_user *= left;
        "half as many read markers".to_owned()
    }),
    (&[], |inputs| {
        let bytes = &mut inputs.load.text_bytes;
        *bytes /= 2.0;
        format!("texts of {bytes:.0} bytes")
    }),
    (&[], |inputs| {
        let shards = &mut inputs.regions.shards;
        *shards = (*shards / 4).max(1);
        format!("{shards} shards: shorter tokens, less to tell")
    }),
    (&[BatchNode, BatchFdb], |inputs| {
        let costs = &mut inputs.costs;
        let (nodes, store) = (costs.of(BatchNode), costs.of(BatchFdb));
        for kind in Kind::ALL {
            costs.scale(kind.node(), nodes);
            costs.scale(kind.apply(), nodes);
            costs.scale(kind.fdb(), store);
        }
        "writes of a shard meet in one node: larger batches".to_owned()
    }),
    (&[], |inputs| {
        let snapshots = &mut inputs.machines.backup_snapshots;
        *snapshots = (*snapshots / 7).max(1).min(*snapshots);
        "a full snapshot a week instead of a day in the backup".to_owned()
    }),
    (&[ZstdShare], |inputs| {
        let share = inputs.costs.of(ZstdShare);
        for name in [PostWan, MarkerWan, ReactionWan] {
            inputs.costs.scale(name, share);
        }
        "logs go between regions with zstd".to_owned()
    }),
    (&[HaveBytes], |inputs| {
        let each = haves_a_second(inputs);
        inputs.costs.scale(HaveBytes, 1.0 / each);
        "nodes tell each other once a second what they hold".to_owned()
    }),
    (&[GzipShare], |inputs| {
        let share = inputs.costs.of(GzipShare);
        inputs.costs.scale(PageClient, share);
        "pages go to clients with gzip, by the proxy in front".to_owned()
    }),
    (&[StreamMemory], |inputs| {
        inputs.costs.scale(StreamMemory, 0.5);
        "streams take half the memory".to_owned()
    }),
];

/// In percent; nothing where all was free.
fn saved(before: f64, after: f64) -> f64 {
    if before > 0.0 {
        (1.0 - after / before) * 100.0
    } else {
        0.0
    }
}

/// All of them, the largest first.
pub(super) fn levers(inputs: &Inputs, bill: &Bill) -> Vec<Lever> {
    let mut levers: Vec<Lever> = CHANGES
        .into_iter()
        .filter_map(|(stands_on, change)| {
            let mut changed = inputs.clone();
            let what = change(&mut changed);
            let sizes = Sizes::of(&changed)?;
            let wan = Wan::of(&changed, sizes.nodes.each_region);
            let million_messages = Bill::of(&changed, &sizes, &wan).million_messages;
            Some(Lever {
                what,
                million_messages,
                saves_percent: saved(bill.million_messages, million_messages),
                stands_on,
            })
        })
        .collect();
    levers.sort_by(|a, b| b.saves_percent.total_cmp(&a.saves_percent));
    levers
}

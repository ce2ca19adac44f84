use std::collections::HashSet;

use super::plan::Demand;
use super::*;

fn planned(change: impl FnOnce(&mut Inputs)) -> Plan {
    let mut inputs = Inputs::default();
    change(&mut inputs);
    plan(&inputs).unwrap()
}

fn near(left: f64, right: f64) {
    assert!(
        (left - right).abs() <= right.abs() * 1e-9,
        "{left} is not {right}"
    );
}

/// By hand, with figures that are easy to multiply: 10,000 calls a second all day, all of them posts.
#[test]
fn sums_by_hand() {
    let mut inputs = Inputs::default();
    inputs.load.daily_users = 86.4e6;
    inputs.load.peak_factor = 1.0;
    inputs.load.listeners = 0.0;
    inputs.load.online_percent = 0.0;
    inputs.load.history_days = 10.0;
    inputs.load.shares = Shares {
        posts: 100.0,
        pages: 0.0,
        markers: 0.0,
        reactions: 0.0,
    };
    inputs.machines.utilisation_percent = 50.0;
    inputs.regions.shards = 10;
    for (name, value) in [
        ("post.node_us", 900.0),
        ("post.apply_us", 500.0),
        ("token.node_us", 100.0),
        ("tail.node_us", 100.0),
        ("post.fdb_us", 200.0),
        ("tail.fdb_us", 0.0),
        ("fdb.stateless_part", 0.25),
        ("fdb.logs_part", 0.25),
        ("fdb.disk_factor", 2.0),
        ("post.text_bytes", 140.0),
        ("post.kept_bytes", 500.0),
        ("post.logged_bytes", 100.0),
        ("post.wan_bytes", 300.0),
        ("have.log_bytes", 10.0),
        ("post.keys", 5.0),
    ] {
        inputs.costs.give(name, value).unwrap();
    }
    let plan = plan(&inputs).unwrap();
    near(plan.rates.peak, 10_000.0);
    near(plan.rates.peak_of_region, 5_000.0);

    // 5,000 accepted at 1,000 us and 5,000 applied at 500 us are 7.5 cores. Half of 8 cores is 4, of
    // which reading along takes 1: 6.5 / 3 = 2.2 nodes. Three read along twice: 2 cores.
    assert_eq!(plan.nodes.by_cpu, 3.0);
    assert_eq!(plan.nodes.each_region, 3.0);
    near(plan.nodes.busy_cores, 7.5 + 2.0);
    near(plan.nodes.tail_cores, 2.0);

    // 10,000 writes at 200 us are 2 cores: 0.5 stateless, 0.5 x 3 copies for logs, 1 x 3 for storage.
    let store = &plan.store;
    assert_eq!((store.stateless, store.logs), (3.0, 4.0));
    assert_eq!(store.storage_by_cpu, 6.0);
    near(store.keys_a_second, 50_000.0);
    // 864M messages a day of 500 bytes, three copies, on twice as many bytes of disk.
    near(store.kept_a_day, 432e9);
    near(store.disk_bytes_a_day, 2592e9);
    near(store.log_disk_bytes, 86.4e9 * 6.0);
    near(store.disk_bytes, 25_920e9 + 518.4e9);
    near(store.disk_size_bytes, 2.0 * 26_438.4e9);
    assert_eq!(store.storage_by_disk, 53.0);
    assert_eq!(store.processes, 3.0 + 4.0 + 53.0);

    // Each message goes to two other regions. Six pairs of 3 x 3 links, both ways, tell 20 times a second
    // of 10 shards with 3 logs each.
    near(plan.wan.logs_a_day, 864e6 * 300.0 * 2.0);
    near(
        plan.wan.told_a_day,
        2.0 * 54.0 * 30.0 * 10.0 * 20.0 * 86_400.0,
    );

    // An hour: 36M messages. Free are half of 3 nodes for 500 us each, and of 3 stateless processes for
    // 50 us, 4 logs for 150 us, 53 storage servers for 300 us: logs are the slowest.
    let hour = &plan.outages[0];
    near(hour.ops, 36e6);
    near(hour.wan_bytes, 36e6 * 300.0);
    near(hour.kept_bytes, 36e6 * 100.0);
    assert_eq!(hour.limit, DrainLimit::Logs);
    near(hour.ops_a_second, 4.0 * 0.5 * 1e6 / 150.0);
    near(hour.drain_seconds, 2700.0);

    let bill = &plan.bill;
    near(bill.nodes, 9.0 * 0.4 * 730.0);
    near(bill.processes, 180.0 * 0.07 * 730.0);
    near(bill.disks, 3.0 * 52_876.8 * 0.1);
    // One copy of ten days of messages and a day of logs, 28 times in three regions.
    near(store.backup_bytes, 4_320e9 + 86.4e9);
    near(bill.backups, 4_406.4 * 28.0 * 3.0 * 0.02);
    near(bill.nat, bill.wan);
    let parts = [
        bill.backups,
        bill.nat,
        bill.nodes,
        bill.processes,
        bill.disks,
        bill.wan,
        bill.zones,
        bill.clients,
    ];
    near(bill.total, parts.iter().sum());
    near(bill.million_messages, bill.total / (864.0 * 365.0 / 12.0));
}

/// The sums that `docs/capacity.md` makes by hand.
#[test]
fn the_yardstick() {
    let plan = planned(|_| {});
    let third = |value: f64| format!("{value:.3e}");
    let check = |value: f64, expected: f64| assert_eq!(third(value), third(expected));
    // 100M users, 10 calls each, three times the mean.
    check(plan.rates.mean, 1e9 / 86_400.0);
    check(plan.rates.peak, 3e9 / 86_400.0);
    // Two regions are left.
    check(plan.rates.peak_of_region, 3e9 / 86_400.0 / 2.0);
    check(plan.rates.posts_a_day, 400e6);
    check(plan.rates.writes_a_day, 700e6);
    // 400M messages of 562 bytes, and 19 bytes of text more, twice; 100M reactions.
    check(plan.store.kept_a_day, 400e6 * 600.0 + 100e6 * 91.0);
    // Three copies, half as much again on disk.
    check(plan.store.disk_bytes_a_day, plan.store.kept_a_day * 4.5);
    check(plan.connections.total, 10e6);
}

#[test]
fn those_that_are_left_carry_all() {
    let all_up = planned(|it| it.regions.down = 0);
    let one_down = planned(|_| {});
    near(
        one_down.rates.peak_of_region,
        all_up.rates.peak_of_region * 1.5,
    );
    assert!(one_down.nodes.each_region > all_up.nodes.each_region);
    near(
        one_down.connections.each_region,
        all_up.connections.each_region * 1.5,
    );
    // With all up, what was sized for fewer is emptier.
    for it in &one_down.uses {
        assert!(it.all_up <= it.planned || it.resource == Resource::Links);
    }
    for it in &one_down.uses {
        assert!(it.planned <= 0.6 + 1e-9, "{it:?}");
    }
}

/// Each region stores what all write: more regions spread calls, not writes.
#[test]
fn regions_are_no_shards() {
    let (three, four) = (planned(|_| {}), planned(|it| it.regions.count = 4));
    assert_eq!(three.store.disk_bytes, four.store.disk_bytes);
    assert!(four.rates.peak_of_region < three.rates.peak_of_region);
    assert!(four.bill.million_messages > three.bill.million_messages);
    let writes = |regions: u32| {
        let mut inputs = Inputs::default();
        inputs.regions.count = regions;
        Demand::at_peak(&inputs, f64::from(regions)).writes
    };
    near(writes(4), writes(3));
}

#[test]
fn one_region_alone() {
    let plan = planned(|it| {
        it.regions.count = 1;
        it.regions.down = 0;
    });
    assert_eq!(plan.wan.bytes_a_day, 0.0);
    assert!(plan.outages.is_empty());
    assert_eq!(plan.connections.reopened, 0.0);
    assert!(plan.bill.total.is_finite());
    assert!(plan.levers.iter().all(|it| it.saves_percent.is_finite()));
}

#[test]
fn a_day_has_no_more_than_a_days_writes() {
    let plan = planned(|it| it.load.outage_hours = vec![1.0, 8.0, 12.0, 24.0, 36.0, 1000.0]);
    let ops: Vec<f64> = plan.outages.iter().map(|it| it.ops).collect();
    near(ops[0], 700e6 * 3.0 / 24.0);
    near(ops[1], 700e6);
    near(ops[2], 700e6);
    near(ops[3], 700e6);
    near(ops[4], 1400e6);
    let by_log: Vec<bool> = plan.outages.iter().map(|it| it.by_log).collect();
    assert_eq!(by_log, [true, true, true, true, true, false]);
}

#[test]
fn a_spike_fills_what_is_fullest_first() {
    let plan = planned(|_| {});
    let spike = plan.spike.unwrap();
    let fullest = &plan.uses[0];
    assert_eq!(spike.first, fullest.resource);
    assert!(
        plan.uses
            .is_sorted_by(|a, b| a.after_spike >= b.after_spike)
    );
    near(spike.first_at, 1.0 / fullest.all_up);
    assert!(spike.answered_percent < 100.0 && spike.streams_percent < 100.0);
    // Ten times the writes are more than nodes of 8 cores can read along.
    assert!(spike.node_cores > 8.0, "{spike:?}");
    assert!(spike.nodes > plan.nodes.each_region);
    assert!(spike.logs > plan.store.logs && spike.storage > plan.store.storage_by_cpu);
    // No spike: nothing is shed, nothing has to be added.
    let calm = planned(|it| it.load.spike = 1.0);
    let spike = calm.spike.unwrap();
    assert_eq!(
        (spike.answered_percent, spike.streams_percent),
        (100.0, 100.0)
    );
    assert_eq!(spike.nodes, calm.nodes.each_region);
    assert_eq!(spike.node_cores, 8.0);
}

#[test]
fn levers_are_plans_with_one_change() {
    let mut inputs = Inputs::default();
    inputs.load.history_days = 100.0;
    let plan = plan(&inputs).unwrap();
    assert!(
        plan.levers
            .is_sorted_by(|a, b| a.saves_percent >= b.saves_percent)
    );
    let lever = |words: &str| {
        let mut levers = plan.levers.iter();
        levers.find(|it| it.what.contains(words)).unwrap()
    };
    let shorter = lever("50 days");
    let anew = planned(|it| it.load.history_days = 50.0);
    near(shorter.million_messages, anew.bill.million_messages);
    near(
        shorter.saves_percent,
        100.0 - anew.bill.million_messages / plan.bill.million_messages * 100.0,
    );
    // Of ten calls 4 are posts, 3 pages, 2 markers, 1 a reaction: one marker less leaves 9.
    let fewer = lever("read markers");
    let anew = planned(|it| {
        it.load.history_days = 100.0;
        it.load.actions_per_user = 9.0;
        it.load.shares = Shares {
            posts: 400.0 / 9.0,
            pages: 300.0 / 9.0,
            markers: 100.0 / 9.0,
            reactions: 100.0 / 9.0,
        };
    });
    near(fewer.million_messages, anew.bill.million_messages);
}

#[test]
fn what_is_wrong_is_named_with_its_limit() {
    let check = |change: fn(&mut Inputs), words: &[&str]| {
        let mut inputs = Inputs::default();
        change(&mut inputs);
        let said = plan(&inputs).unwrap_err().to_string();
        for word in words {
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
        assert!(!said.contains('\n'), "{said}");
    };
    check(
        |it| it.regions.down = 3,
        &["--regions-down is 3", "below --regions, which is 3"],
    );
    check(|it| it.regions.count = 0, &["--regions is 0", "1 to 16"]);
    check(
        |it| it.regions.count = 5,
        &["--shards 64 in 5 regions", "--shards 51"],
    );
    check(
        |it| it.load.shares.posts = 50.0,
        &["--posts", "are 110 together", "must be 100"],
    );
    check(
        |it| it.load.peak_factor = 0.5,
        &["--peak-factor is 0.5", "1 to 100"],
    );
    check(
        |it| it.load.daily_users = f64::NAN,
        &["--daily-users is NaN"],
    );
    check(
        |it| it.load.outage_hours = vec![0.0],
        &["--outage-hours is 0"],
    );
    check(
        |it| it.machines.utilisation_percent = 100.0,
        &["--utilisation is 100", "1 to 95"],
    );
    check(
        |it| it.machines.node_cores = 2.0,
        &["--node-cores 2", "give larger nodes"],
    );
    check(
        |it| it.load.daily_users = 300e6,
        &["nodes of --node-cores", "allow 64", "give larger nodes"],
    );
}

#[test]
fn unit_costs_have_names_of_their_own_and_are_replaced_by_them() {
    let mut costs = Costs::default();
    let names: HashSet<_> = costs.iter().map(|cost| cost.name).collect();
    assert_eq!(names.len(), costs.iter().count());
    assert_eq!(costs.get(CostName::PostNode).name, "post.node_us");
    assert_eq!(costs.get(CostName::ReservedDiscount).unit, "part");
    costs.give("post.node_us", 100.0).unwrap();
    assert_eq!(costs.of(CostName::PostNode), 100.0);
    assert_eq!(costs.get(CostName::PostNode).basis, Basis::Given);
    let said = costs.give("post.cpu", 1.0).unwrap_err();
    assert!(said.contains("`post.cpu`"), "{said}");
    for (name, value) in [
        ("post.node_us", -1.0),
        ("post.node_us", f64::INFINITY),
        ("zstd.log_part", 1.5),
    ] {
        let said = costs.give(name, value).unwrap_err();
        assert!(said.contains(name) && said.contains("must be 0"), "{said}");
    }
}

/// The weakest figure counts.
#[test]
fn rows_say_on_what_they_stand() {
    let mut inputs = Inputs::default();
    let on = |inputs: &Inputs, id: &str, what: &str| {
        let tables = tables(inputs, &plan(inputs).unwrap());
        let table = tables.into_iter().find(|table| table.id == id).unwrap();
        let mut rows = table.rows.into_iter();
        rows.find(|row| row[0].contains(what))
            .unwrap()
            .pop()
            .unwrap()
    };
    assert_eq!(on(&inputs, "rates", "messages a day"), "inputs");
    assert_eq!(on(&inputs, "storage", "messages, markers"), "measured");
    assert_eq!(
        on(&inputs, "storage", "disks to provide"),
        "assumed: fdb.disk_factor"
    );
    assert_eq!(
        on(&inputs, "wan", "telling"),
        "extrapolated: have.log_bytes"
    );
    // What is weakest names the row; what is given is no longer weak.
    inputs.costs.give("fdb.disk_factor", 1.2).unwrap();
    assert_eq!(on(&inputs, "storage", "disks to provide"), "measured");
    inputs.costs.give("have.log_bytes", 25.0).unwrap();
    assert_eq!(on(&inputs, "wan", "telling"), "given");
}

#[test]
fn all_tables_are_whole() {
    let inputs = Inputs::default();
    let tables = tables(&inputs, &plan(&inputs).unwrap());
    let ids: HashSet<_> = tables.iter().map(|table| table.id).collect();
    assert_eq!(ids.len(), tables.len());
    let mut costs = 0;
    for table in &tables {
        assert!(!table.rows.is_empty(), "{}", table.id);
        for row in &table.rows {
            assert_eq!(row.len(), table.head.len(), "{row:?}");
            for cell in row {
                let is_odd = ["NaN", "inf", "|", "\n"]
                    .iter()
                    .any(|odd| cell.contains(odd));
                assert!(!cell.is_empty() && !is_odd, "{row:?}");
            }
        }
        if matches!(table.id, "measured" | "extrapolated" | "assumed") {
            costs += table.rows.len();
        }
    }
    assert_eq!(
        costs,
        inputs.costs.iter().count(),
        "each unit cost is listed"
    );
}

//! Random transactions against the model: their commits, in stamp order, must explain every read.

use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use whimbrel_node::store::faulty::{Faults, Faulty};
use whimbrel_node::store::{Atomic, RangeOptions, RunOptions, Store, StoreError, Transaction};
use whimbrel_replication::id::Stamp;

use super::model::{State, Step, replay};

/// `WHIMBREL_SEED`, or a new one. The failing test's output shows it.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("WHIMBREL_SEED")
        .ok()
        .map_or_else(rand::random, |s| {
            s.parse().expect("WHIMBREL_SEED is a number")
        });
    println!("WHIMBREL_SEED={seed}");
    seed
}

pub(crate) const FAULTS: Faults = Faults {
    conflict: 0.1,
    too_old: 0.05,
    unknown_committed: 0.1,
    unknown_lost: 0.1,
};

#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) workers: u32,
    pub(crate) transactions: u32,
    /// Pads values, to make tables and compactions.
    pub(crate) pad: usize,
}

struct Done {
    marker: Vec<u8>,
    steps: Vec<Step>,
    /// Its view holds all that was acknowledged before: up to here.
    floor: Option<Stamp>,
    result: Result<Option<Stamp>, StoreError>,
}

fn key(random: &mut StdRng) -> Vec<u8> {
    vec![random.random_range(b'a'..=b'h'); random.random_range(1..=2)]
}

fn range(random: &mut StdRng) -> (Vec<u8>, Vec<u8>) {
    let (a, b) = (key(random), key(random));
    if a <= b { (a, b) } else { (b, a) }
}

fn value(random: &mut StdRng, pad: usize) -> Vec<u8> {
    let mut value = random.random::<u64>().to_le_bytes().to_vec();
    value.resize(8 + pad, random.random());
    value
}

async fn read_step(tx: &Transaction, random: &mut StdRng) -> Result<Step, StoreError> {
    let snapshot = random.random_bool(0.2);
    if random.random_bool(0.5) {
        let key = key(random);
        let got = tx.get(&key, snapshot).await?.map(|v| v.to_vec());
        return Ok(Step::Get { key, snapshot, got });
    }
    let (begin, end) = range(random);
    let (limit, reverse) = (random.random_range(1..6), random.random());
    let opts = RangeOptions {
        limit,
        reverse,
        snapshot,
        ..RangeOptions::default()
    };
    let got = tx.range(&begin, &end, opts).await?;
    Ok(Step::Range {
        begin,
        end,
        limit,
        reverse,
        snapshot,
        got,
    })
}

fn write_step(random: &mut StdRng, pad: usize) -> Step {
    match random.random_range(0..10) {
        0..4 => Step::Set(key(random), value(random, pad)),
        4..6 => Step::Clear(key(random)),
        6 => {
            let (begin, end) = range(random);
            Step::ClearRange(begin, end)
        }
        7 => Step::Atomic(Atomic::Add, key(random), value(random, 0)),
        8 => Step::Atomic(Atomic::ByteMax, key(random), value(random, pad)),
        _ => Step::Atomic(Atomic::ByteMin, key(random), value(random, pad)),
    }
}

fn write(tx: &Transaction, step: &Step) {
    match step {
        Step::Set(key, value) => tx.set(key, value),
        Step::Clear(key) => tx.clear(key),
        Step::ClearRange(begin, end) => tx.clear_range(begin, end),
        Step::Atomic(atomic, key, operand) => tx.atomic(*atomic, key, operand),
        Step::StampedKey(key, offset, value) => {
            tx.set_versionstamped_key(key.clone(), *offset, value);
        }
        Step::StampedValue(key, value, offset) => {
            tx.set_versionstamped_value(key, value.clone(), *offset);
        }
        Step::Get { .. } | Step::Range { .. } => unreachable!("not a write"),
    }
}

/// One transaction. Reads come between writes, stamps last: they cannot be read any more.
async fn one(
    store: &Store,
    random: &mut StdRng,
    marker: Vec<u8>,
    load: Load,
    acknowledged: &Mutex<Option<Stamp>>,
) -> Done {
    let floor = *acknowledged.lock().unwrap();
    let tx = store.begin().unwrap();
    let mut steps = Vec::new();
    let read_only = random.random_bool(0.2);
    for _ in 0..random.random_range(1..10) {
        if read_only || random.random_bool(0.5) {
            steps.push(read_step(&tx, random).await.unwrap());
        } else {
            let step = write_step(random, load.pad);
            write(&tx, &step);
            steps.push(step);
        }
        if random.random_bool(0.3) {
            tokio::task::yield_now().await;
        }
    }
    if steps.iter().any(Step::is_write) {
        let mut stamps = vec![Step::StampedValue(marker.clone(), vec![0; 10], 0)];
        if random.random_bool(0.3) {
            let key = [&key(random), &[b'.'; 10][..]].concat();
            stamps.push(Step::StampedKey(
                key.clone(),
                key.len() - 10,
                value(random, load.pad),
            ));
        }
        for step in stamps {
            write(&tx, &step);
            steps.push(step);
        }
    }
    let result = tx.commit().await;
    if let Ok(stamp) = result {
        let mut acknowledged = acknowledged.lock().unwrap();
        *acknowledged = stamp.max(*acknowledged);
    }
    Done {
        marker,
        steps,
        floor,
        result,
    }
}

/// Everything, page by page.
pub(crate) async fn scan(store: &Store) -> State {
    let tx = store.begin().unwrap();
    let mut state = State::new();
    let mut begin = Vec::new();
    loop {
        let opts = RangeOptions {
            bytes: 10_000,
            ..RangeOptions::default()
        };
        let page = tx.range(&begin, b"\xff", opts).await.unwrap();
        if let Some((last, _)) = page.rows.last() {
            begin = whimbrel_node::store::key_after(last);
        }
        state.extend(page.rows.into_iter().map(|(k, v)| (k.to_vec(), v.to_vec())));
        if !page.more {
            return state;
        }
    }
}

/// Runs the load on what stands in the store; gives what stands there then.
pub(crate) async fn serializable(store: &Store, load: Load, seed: u64) -> State {
    let mut state = scan(store).await;
    let acknowledged = Arc::new(Mutex::new(None));
    let workers: Vec<_> = (0..load.workers)
        .map(|worker| {
            let (store, acknowledged) = (store.clone(), acknowledged.clone());
            let mut random = StdRng::seed_from_u64(seed ^ (u64::from(worker) << 32));
            tokio::spawn(async move {
                let mut done = Vec::new();
                for n in 0..load.transactions {
                    let marker = format!("z/{seed}/{worker}/{n}").into_bytes();
                    done.push(one(&store, &mut random, marker, load, &acknowledged).await);
                }
                done
            })
        })
        .collect();
    let mut done = Vec::new();
    for worker in workers {
        done.extend(worker.await.unwrap());
    }

    // The marker tells what became of a transaction, whatever its commit has answered.
    let end = scan(store).await;
    let mut committed = Vec::new();
    let mut read_only = Vec::new();
    let mut conflicts = 0;
    for done in &done {
        let marked = end
            .get(&done.marker)
            .map(|m| Stamp::try_from(&m[..]).unwrap());
        match &done.result {
            Ok(Some(stamp)) => assert_eq!(marked, Some(*stamp)),
            Ok(None) => read_only.push(done),
            Err(StoreError::Unknown) => {}
            Err(StoreError::Conflict | StoreError::TooOld) => {
                conflicts += 1;
                assert_eq!(marked, None, "refused, yet committed");
            }
            Err(error) => panic!("{error}"),
        }
        if let Some(stamp) = marked {
            committed.push((stamp, done));
        }
    }
    committed.sort_by_key(|(stamp, _)| *stamp);
    assert!(
        committed.is_sorted_by(|a, b| a.0 < b.0),
        "a stamp was given twice"
    );

    // states[n]: before the nth commit.
    let mut states = vec![state.clone()];
    for (stamp, done) in &committed {
        if let Err(step) = replay(&mut state, &done.steps, Some(*stamp), false) {
            panic!("at {stamp} the serial order does not explain {step:?}");
        }
        states.push(state.clone());
    }
    assert_eq!(state, end, "the serial order does not explain the end");

    // All reads of a transaction, snapshot reads too, come from one view that is no older than what
    // was acknowledged before.
    let views = |done: &Done, last: usize| {
        let first = committed.partition_point(|(stamp, _)| Some(*stamp) <= done.floor);
        let explained =
            (first..=last).any(|n| replay(&mut states[n].clone(), &done.steps, None, true).is_ok());
        assert!(explained, "no view explains {:?}", done.steps);
    };
    for (n, (_, done)) in committed.iter().enumerate() {
        views(done, n);
    }
    for done in read_only {
        views(done, committed.len());
    }
    println!("{} committed, {conflicts} refused", committed.len());
    assert!(
        committed.len() > done.len() / 50,
        "hardly anything was tested"
    );
    end
}

/// Each increment lands once, though commits fail in all ways and are run again.
pub(crate) async fn exactly_once(store: &Store, seed: u64) {
    const WORKERS: u32 = 8;
    const INCREMENTS: u32 = 25;
    let store = Store::Faulty(Faulty::new(store.clone(), FAULTS, seed));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut stamps = Vec::new();
                for number in 0..INCREMENTS {
                    let done = store
                        .run(RunOptions::default(), move |tx| {
                            increment(tx, worker, number)
                        })
                        .await
                        .unwrap();
                    stamps.push(done.value.or(done.stamp).unwrap());
                }
                stamps
            })
        })
        .collect();
    let mut stamps = Vec::new();
    for worker in workers {
        stamps.extend(worker.await.unwrap());
    }
    let all = usize::try_from(WORKERS * INCREMENTS).unwrap();
    let state = scan(&store).await;
    assert_eq!(state[&b"n"[..]], (WORKERS * INCREMENTS).to_be_bytes());
    stamps.sort();
    let logged: Vec<_> = state
        .range(b"L".to_vec()..b"M".to_vec())
        .map(|(key, _)| Stamp::try_from(&key[1..]).unwrap())
        .collect();
    assert_eq!(logged.len(), all);
    assert_eq!(logged, stamps, "the answers are not the commits");
}

/// Gives the stamp of the attempt that landed, if it was an earlier one.
async fn increment(
    tx: Arc<Transaction>,
    worker: u32,
    number: u32,
) -> Result<Option<Stamp>, StoreError> {
    let row = format!("B/{worker}");
    if let Some(last) = tx.get(row.as_bytes(), false).await?
        && last[..4] == number.to_be_bytes()
    {
        return Ok(Some(Stamp::try_from(&last[4..]).unwrap()));
    }
    let n = tx.get(b"n", false).await?;
    let n = n.map_or(0, |n| u32::from_be_bytes((*n).try_into().unwrap()));
    tx.set(b"n", &(n + 1).to_be_bytes());
    let value = [&number.to_be_bytes()[..], &[0; 10]].concat();
    tx.set_versionstamped_value(row.as_bytes(), value, 4);
    tx.set_versionstamped_key(b"L..........".to_vec(), 1, b"");
    Ok(None)
}

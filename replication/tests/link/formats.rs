//! The feature level: what all regions read.

use whimbrel_replication::cursor::{Cursor, ShardCursor};
use whimbrel_replication::link::{
    Effect, Engine, EngineConfig, Event, Frame, HEARTBEAT, Have, Hello, LinkId, Role,
};
use whimbrel_replication::op::{Batch, FORMAT, FORMAT_MIN};

use crate::hand::{Hand, hello};
use crate::sim::{config, ms, origin, region, stamp};
use crate::store::batch;

fn says(engine: &mut Engine, link: u64, from: u16, format: u32) -> Vec<Effect> {
    let link = LinkId(link);
    let hello = Hello {
        region: region(from),
        region_name: format!("r{from}"),
        origin: origin(from),
        format,
        ..hello()
    };
    let up = Event::Up {
        link,
        peer: region(from),
        role: Role::Server,
    };
    let mut effects = engine.handle(up, ms(0));
    let frame = Frame::Hello(hello);
    effects.extend(engine.handle(Event::Frame { link, frame }, ms(0)));
    effects
}

/// G19: nothing newer than what every region has said to read is written.
#[test]
fn g19_the_level_is_what_every_region_was_heard_to_read() {
    let mut engine = Engine::new(config(1, 3), Cursor::new());
    assert_eq!(engine.level(), FORMAT_MIN, "nobody was heard");
    says(&mut engine, 1, 2, FORMAT + 1);
    assert_eq!(engine.level(), FORMAT_MIN, "one was not");
    says(&mut engine, 2, 3, FORMAT);
    assert_eq!(engine.level(), FORMAT);
    // A node of region 3 is still the older version, as in a rolling upgrade.
    says(&mut engine, 3, 3, FORMAT_MIN);
    assert_eq!(engine.level(), FORMAT_MIN);
    let _ = engine.handle(Event::Down { link: LinkId(3) }, ms(0));
    assert_eq!(engine.level(), FORMAT);
    // Who is away keeps what it said.
    let _ = engine.handle(Event::Down { link: LinkId(2) }, ms(0));
    let _ = engine.handle(Event::Down { link: LinkId(1) }, ms(0));
    assert_eq!(engine.level(), FORMAT);
    says(&mut engine, 4, 2, FORMAT_MIN);
    assert_eq!(engine.level(), FORMAT_MIN, "it came back older");
}

/// G19: what is told of a region holds for all its nodes, also for one whose own link is gone.
#[test]
fn g19_a_link_that_breaks_does_not_raise_the_level() {
    let mut engine = Engine::new(config(1, 2), Cursor::new());
    let have = |format| {
        Frame::Have(Have {
            format: Some(format),
            ..Have::default()
        })
    };
    let hear = |engine: &mut Engine, frame| {
        let link = LinkId(1);
        engine.handle(Event::Frame { link, frame }, ms(0))
    };
    says(&mut engine, 1, 2, FORMAT);
    says(&mut engine, 2, 2, FORMAT_MIN);
    assert_eq!(engine.level(), FORMAT_MIN);
    // The newer node knows of the older one.
    hear(&mut engine, have(FORMAT_MIN));
    let _ = engine.handle(Event::Down { link: LinkId(2) }, ms(0));
    assert_eq!(engine.level(), FORMAT_MIN);
    hear(&mut engine, have(FORMAT));
    assert_eq!(engine.level(), FORMAT, "the older one has ended");
    let effects = hear(&mut engine, have(0));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Close { .. })),
        "{effects:?}"
    );

    // And so do we tell of ours.
    let mut ours = Engine::new(config(1, 2), Cursor::new());
    says(&mut ours, 1, 2, FORMAT);
    ours.set_region_format(FORMAT_MIN);
    assert_eq!(ours.level(), FORMAT_MIN);
    let told = ours.handle(Event::Timer, HEARTBEAT);
    let told = told.iter().find_map(|effect| match effect {
        Effect::Send {
            frame: Frame::Have(have),
            ..
        } => have.format,
        _ => None,
    });
    assert_eq!(told, Some(FORMAT_MIN));
    ours.set_region_format(FORMAT + 1);
    assert_eq!(ours.level(), FORMAT, "what this node reads bounds it");
}

#[test]
fn g19_what_was_heard_is_remembered_and_what_is_held_back_is_told() {
    let older = EngineConfig {
        format: FORMAT_MIN,
        ..config(1, 3)
    };
    for (config, level) in [(config(1, 3), FORMAT), (older, FORMAT_MIN)] {
        let mut engine = Engine::new(config, Cursor::new());
        engine.remember_format(region(2), FORMAT);
        engine.remember_format(region(3), FORMAT);
        assert_eq!(engine.level(), level);
        let told = says(&mut engine, 1, 2, FORMAT)
            .into_iter()
            .find_map(|effect| match effect {
                Effect::Send {
                    frame: Frame::Welcome(hello),
                    ..
                } => Some(hello.format),
                _ => None,
            });
        assert_eq!(told, Some(level));
    }
    let mut alone = Engine::new(config(1, 1), Cursor::new());
    assert_eq!(alone.level(), FORMAT, "there is nobody to wait for");
    alone.remember_format(region(9), FORMAT_MIN);
    assert_eq!(alone.level(), FORMAT, "region 9 is not configured");
}

/// G19: a batch that is too new stops its log in words, and nothing else.
#[test]
fn g19_a_batch_of_a_newer_format_stops_its_log() {
    let mut hand = Hand::open(Role::Puller);
    let older = batch(origin(2), 1, ShardCursor::new(), 20);
    let newer = {
        let batch = Batch::decode(&older).expect("it was made here");
        batch.encode(FORMAT + 1)
    };
    let effects = hand.raw_batches(0, 2, vec![(stamp(1), older), (stamp(2), newer)]);
    let applies = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Apply { .. }));
    assert_eq!(applies.count(), 1, "what came before it");
    let stopped: Vec<_> = hand.engine.stopped().collect();
    assert_eq!(stopped.len(), 1);
    let (_, _, at, reason) = stopped[0];
    assert_eq!(at, stamp(2));
    assert_eq!(
        reason,
        format!(
            "it is of format {}, and this node reads formats up to {FORMAT}",
            FORMAT + 1
        )
    );
}

use std::path::PathBuf;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

use super::*;

/// Under which the validator finds the schema.
const AT: &str = "https://whimbrel.example/experiment.schema.json";

/// All that are shipped, with their names.
fn shipped() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let files = std::fs::read_dir(folder).unwrap();
    let read = |file: PathBuf| {
        let json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        (file.display().to_string(), json)
    };
    let all: Vec<_> = files.map(|file| read(file.unwrap().path())).collect();
    assert!(all.len() >= 12, "only {} experiments", all.len());
    all
}

struct Schema(Schemas, SchemaIndex);

impl Schema {
    fn new() -> Self {
        let mut compiler = Compiler::new();
        let schema = serde_json::from_str(SCHEMA).unwrap();
        compiler.add_resource(AT, schema).unwrap();
        let mut schemas = Schemas::new();
        let index = compiler.compile(AT, &mut schemas).unwrap();
        Self(schemas, index)
    }

    fn takes(&self, json: &Value) -> Result<(), String> {
        self.0.validate(json, self.1).map_err(|e| e.to_string())
    }
}

fn parse(json: &Value) -> Result<Experiment, (String, String)> {
    Experiment::parse(json.to_string().as_bytes())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "arguments are made where they are passed"
)]
fn step(kind: &str, func: &str, arguments: Value) -> Value {
    json!({
        "type": kind, "name": func,
        "provider": {"type": "whimbrel", "func": func, "arguments": arguments},
    })
}

fn all_equal() -> Value {
    let mut probe = step("probe", "converged", json!({}));
    probe["tolerance"] = json!(true);
    probe
}

fn small() -> Value {
    json!({
        "title": "t", "description": "d", "guarantees": ["G1"],
        "steady-state-hypothesis": {"title": "t", "probes": [all_equal()]},
        "method": [step("action", "kill", json!({"region": "eu"}))],
    })
}

#[test]
fn shipped_experiments_are_experiments() {
    let schema = Schema::new();
    for (file, json) in shipped() {
        parse(&json).unwrap_or_else(|(at, why)| panic!("{file}: at {at}: {why}"));
        schema
            .takes(&json)
            .unwrap_or_else(|why| panic!("{file}: {why}"));
    }
}

/// A mistyped tolerance is no broken promise of the cluster.
#[test]
fn a_tolerance_is_one_that_a_probe_can_meet() {
    let with = |func: &str, arguments: &Value, tolerance: Value| {
        let mut json = small();
        let mut probe = step("probe", func, arguments.clone());
        probe["tolerance"] = tolerance;
        json["method"] = json!([probe]);
        parse(&json).map(drop).map_err(|(_, why)| why)
    };
    let range = |from: u8, to: u8| json!({"type": "range", "range": [from, to]});
    let eu = json!({"region": "eu"});
    for (func, arguments, right, wrong) in [
        (
            "post",
            &eu,
            vec![json!("acked"), json!("no answer"), json!("forbidden")],
            vec![json!("purple"), json!(5), range(1, 2)],
        ),
        ("readiness", &eu, vec![json!("ready")], vec![json!(true)]),
        ("ended", &eu, vec![json!(true)], vec![json!("true")]),
        (
            "ack_millis",
            &eu,
            vec![json!(5), range(1, 5), range(5, 5)],
            vec![json!("fast"), range(5, 1)],
        ),
    ] {
        for tolerance in right {
            assert_eq!(with(func, arguments, tolerance), Ok(()), "{func}");
        }
        for tolerance in wrong {
            let why = with(func, arguments, tolerance.clone());
            assert!(why.is_err(), "{func} takes {tolerance}");
        }
    }
    let mut json = small();
    json["configuration"] = json!({"hold": {"long": "1s", "short": "2s"}});
    let (at, why) = parse(&json).unwrap_err();
    assert_eq!(
        (at.as_str(), why.contains("swap")),
        ("configuration.hold", true)
    );
}

/// Each step that the program knows, as it may be written.
fn all_steps() -> Vec<Value> {
    let eu = || json!({"region": "eu"});
    let faults = json!({
        "cut": false, "delay_ms": 300, "jitter_ms": 100, "loss": 0.05, "duplicate": 0.01,
        "reorder": 0.1, "bits_per_second": 1000,
    });
    let mut steps = vec![
        step(
            "action",
            "link",
            json!({"from": "all", "to": "us", "one_way": true, "faults": faults}),
        ),
        step("action", "heal", json!({})),
        step(
            "action",
            "clock",
            json!({"region": "eu", "offset": "-300ms"}),
        ),
        step(
            "action",
            "sync",
            json!({"region": "eu", "syncs": {"stall": "1s"}}),
        ),
        step("action", "sync", json!({"region": "eu", "syncs": "fail"})),
        step("action", "sync", json!({"region": "eu", "syncs": "right"})),
        step(
            "action",
            "post_twice",
            json!({"regions": ["eu", "us"], "messages": 3}),
        ),
        step("probe", "converged", json!({})),
        step("probe", "acks", json!({"over": "${hold}"})),
        step("probe", "lag", json!({"from": "eu", "to": "us"})),
        step("probe", "seen_millis", json!({"from": "eu", "to": "us"})),
    ];
    for action in [
        "kill",
        "destroy",
        "start",
        "freeze",
        "thaw",
        "fill_disk",
        "free_disk",
    ] {
        steps.push(step("action", action, eu()));
    }
    for probe in ["readiness", "ack_millis", "post", "ended"] {
        steps.push(step("probe", probe, eu()));
    }
    steps
}

/// The program and the schema take the same steps, and both know no others.
#[test]
fn the_schema_knows_what_the_program_knows() {
    let schema = Schema::new();
    let with = |step: &Value| {
        let mut json = small();
        json["configuration"] = json!({"hold": {"long": "60s", "short": "6s"}});
        json["load"] = json!({"writers": 1, "listeners": 1, "pause": "10ms", "ack": "regions:2"});
        json["method"] = json!([step]);
        json
    };
    for step in all_steps() {
        let json = with(&step);
        parse(&json).unwrap_or_else(|(at, why)| panic!("{step}: at {at}: {why}"));
        schema
            .takes(&json)
            .unwrap_or_else(|why| panic!("{step}: {why}"));
        let mut more = step.clone();
        more["provider"]["arguments"]["more"] = json!(1);
        assert!(parse(&with(&more)).is_err(), "{more}");
        assert!(schema.takes(&with(&more)).is_err(), "{more}");
        for (name, _) in step["provider"]["arguments"].as_object().unwrap() {
            if name == "one_way" {
                continue;
            }
            let mut less = step.clone();
            less["provider"]["arguments"]
                .as_object_mut()
                .unwrap()
                .remove(name);
            assert!(parse(&with(&less)).is_err(), "{less}");
            assert!(schema.takes(&with(&less)).is_err(), "{less}");
        }
    }
    let known = |kind: &str| {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let all = &schema["$defs"][kind]["properties"]["provider"]["oneOf"];
        let funcs = all.as_array().unwrap().iter().map(|one| {
            let func = &one["properties"]["func"]["const"];
            func.as_str().unwrap().to_owned()
        });
        funcs.collect::<BTreeSet<String>>()
    };
    let tried: BTreeSet<String> = all_steps()
        .iter()
        .map(|step| step["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(&known("action") | &known("probe"), tried);
}

#[test]
fn mistakes_are_named_with_their_place_and_remedy() {
    let check = |change: &dyn Fn(&mut Value), place: &str, words: &str| {
        let mut json = small();
        change(&mut json);
        let (at, why) = parse(&json).unwrap_err();
        assert!(at.contains(place) && why.contains(words), "{at}: {why}");
    };
    let method = |kind: &'static str, func: &'static str, arguments: Value| {
        move |json: &mut Value| json["method"] = json!([step(kind, func, arguments.clone())])
    };
    check(
        &|json| json["metod"] = json!([]),
        "metod",
        "unknown field `metod`",
    );
    check(
        &|json| json["guarantees"] = json!(["G20"]),
        "guarantees[0]",
        "there are G1 to G19",
    );
    check(
        &|json| json["guarantees"] = json!([]),
        "guarantees",
        "name at least one",
    );
    check(
        &|json| json["guarantees"] = json!(["G17"]),
        "guarantees",
        "nothing judges G17 here",
    );
    check(
        &|json| json["load"] = json!({"ack": "regions:4"}),
        "load.ack",
        "K from 1 to 3",
    );
    check(
        &|json| json["load"] = json!({"writers": 0}),
        "load.writers",
        "1 to 100",
    );
    check(
        &|json| json["load"] = json!({"pause": "60"}),
        "load.pause",
        "such as 60s",
    );
    check(
        &method("action", "kil", json!({"region": "eu"})),
        "method[0]",
        "unknown variant `kil`, expected one of `kill`",
    );
    check(
        &method("action", "kill", json!({"region": "xx"})),
        "method[0]",
        "there are eu, us, ap",
    );
    check(
        &method("action", "kill", json!({"regoin": "eu"})),
        "method[0]",
        "unknown field `regoin`",
    );
    check(
        &method("probe", "kill", json!({"region": "eu"})),
        "method[0]",
        "unknown variant `kill`",
    );
    check(
        &method(
            "action",
            "link",
            json!({"from": "eu", "to": "eu", "faults": {}}),
        ),
        "method[0]",
        "named twice",
    );
    check(
        &method(
            "action",
            "link",
            json!({"from": "eu", "to": "us", "faults": {"loss": 5}}),
        ),
        "method[0]",
        "a share from 0 to 1",
    );
    check(
        &method("probe", "acks", json!({"over": "${hold}"})),
        "method[0]",
        "`configuration` has no `hold`",
    );
    check(
        &|json| json["method"][0]["tolerance"] = json!(true),
        "method[0]",
        "`tolerance` is for probes",
    );
    check(
        &|json| {
            json["method"] = json!([step("probe", "converged", json!({}))]);
            json["method"][0]["shows"] = json!("G1");
        },
        "method[0]",
        "need a `tolerance`",
    );
    check(
        &|json| json["steady-state-hypothesis"]["probes"] = json!([]),
        "steady-state-hypothesis.probes",
        "give at least one",
    );
    check(
        &|json| {
            json["steady-state-hypothesis"]["probes"] =
                json!([step("probe", "converged", json!({}))]);
        },
        "steady-state-hypothesis.probes[0]",
        "needs a `tolerance`",
    );
}

#[test]
fn an_experiment_says_what_it_needs() {
    let mut json = small();
    json["method"] = json!(all_steps());
    json["configuration"] = json!({"hold": {"long": "60s", "short": "6s"}});
    let needs = parse(&json).unwrap().needs();
    let eu = BTreeSet::from(["eu".to_owned()]);
    let all = Needs {
        small_disks: eu.clone(),
        clocks: eu,
        strace: true,
        own_cluster: true,
    };
    assert_eq!(needs, all);
    json["method"] = json!([step("action", "heal", json!({}))]);
    assert_eq!(parse(&json).unwrap().needs(), Needs::default());
}

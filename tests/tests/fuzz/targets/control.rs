//! Lines of who steers relays.

use whimbrel_replication::relay::Faults;
use whimbrel_replication::relay::control::Request;

use super::memory::Bounds;

const BOUNDS: Bounds = Bounds {
    least: 16 * 1024,
    each: 8,
    work: 4,
};

pub(crate) fn run(input: &[u8]) {
    let Ok(request) = BOUNDS.hold(input.len(), || serde_json::from_slice::<Request>(input)) else {
        return;
    };
    let again = serde_json::to_vec(&request).expect("a request is JSON");
    assert_eq!(
        serde_json::from_slice::<Request>(&again).ok().as_ref(),
        Some(&request)
    );
    if let Request::Change(order) = &request
        && let Ok(faults) = Faults::default().changed(&order.change)
    {
        faults.check().expect("what a change allows is allowed");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let order = |change: &str| {
        format!(r#"{{"change":{{"from":"eu","to":null,"one_way":false,"change":{change}}}}}"#)
    };
    let mut seeds: Vec<Vec<u8>> = [
        r#""cut""#,
        r#""heal""#,
        r#"{"delay":{"ms":80,"jitter_ms":20}}"#,
        r#"{"delay":{"ms":4294967295,"jitter_ms":4294967295}}"#,
        r#"{"loss":0.5}"#,
        r#"{"loss":1e999}"#,
        r#"{"duplicate":-0.0}"#,
        r#"{"reorder":1}"#,
        r#"{"bandwidth":null}"#,
        r#"{"bandwidth":1000}"#,
        r#"{"set":{"cut":true,"loss":0.1,"bits_per_second":8000}}"#,
    ]
    .map(|change| order(change).into_bytes())
    .to_vec();
    seeds.extend([
        br#""show""#.to_vec(),
        vec![b'['; 100_000],
        br#"{"change":"#.repeat(20_000),
    ]);
    seeds
}

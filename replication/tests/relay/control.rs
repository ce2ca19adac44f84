use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use whimbrel_replication::relay::control::{Client, ControlError, Request, Server};
use whimbrel_replication::relay::{Change, Dial, Links, Order};

use crate::harness::ANY;

async fn links() -> Arc<Links> {
    let names = ["eu", "us", "ap"];
    let pairs = names.iter().flat_map(|from| names.map(|to| (*from, to)));
    let dials = pairs
        .filter(|(from, to)| from != to)
        .map(|(from, to)| Dial {
            from: from.to_owned(),
            to: to.to_owned(),
            listen: ANY,
            target: ANY,
        });
    Arc::new(Links::start(7, dials).await.unwrap())
}

fn order(from: Option<&str>, to: Option<&str>, one_way: bool, change: Change) -> Request {
    Request::Change(Order {
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
        one_way,
        change,
    })
}

/// The directions that are cut after an order to heal all and this one, such as `eu-us`.
async fn check(client: &mut Client, request: Request, expected: &[&str]) {
    let heal = order(None, None, false, Change::Heal);
    let healed = client.ask(&heal).await.unwrap();
    assert!(healed.links.iter().all(|link| link.faults.is_none()));
    let report = client.ask(&request).await.unwrap();
    assert_eq!((report.seed, report.links.len()), (7, 6));
    let cut = report.links.iter().filter(|link| link.faults.cut);
    let cut: Vec<String> = cut.map(|l| format!("{}-{}", l.from, l.to)).collect();
    assert_eq!(cut, expected);
    assert_eq!(client.ask(&Request::Show).await.unwrap(), report);
}

#[tokio::test]
async fn orders_reach_the_links_that_they_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.sock");
    let server = tokio::spawn(Server::bind(&path).unwrap().run(links().await));
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let client = &mut Client::connect(&path).await.unwrap();
    let cut = |from, to, one_way| order(from, to, one_way, Change::Cut);
    check(client, cut(Some("eu"), Some("us"), true), &["eu-us"]).await;
    check(
        client,
        cut(Some("eu"), Some("us"), false),
        &["eu-us", "us-eu"],
    )
    .await;
    check(client, cut(Some("ap"), None, true), &["ap-eu", "ap-us"]).await;
    check(client, cut(None, Some("ap"), true), &["eu-ap", "us-ap"]).await;
    let ap = ["eu-ap", "us-ap", "ap-eu", "ap-us"];
    check(client, cut(Some("ap"), None, false), &ap).await;
    let all = ["eu-us", "eu-ap", "us-eu", "us-ap", "ap-eu", "ap-us"];
    check(client, cut(None, None, true), &all).await;

    let refused = client.ask(&cut(Some("eu"), Some("xx"), true)).await;
    let Err(ControlError::Refused(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        reason.contains("no region `xx`; there are eu, us, ap"),
        "{reason}"
    );

    // Whoever serves the socket takes it away at the end.
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    let gone = Client::connect(&path).await;
    assert!(matches!(gone, Err(ControlError::Nobody(_))), "{gone:?}");
    assert!(!path.exists());
}

/// What is answered to a line as it is, or why nothing is.
async fn answer_to(path: &Path, line: &str) -> String {
    let mut stream = BufReader::new(UnixStream::connect(path).await.unwrap());
    let mut answer = String::new();
    let talk = async {
        stream.write_all(line.as_bytes()).await?;
        stream.read_line(&mut answer).await
    };
    match talk.await {
        Ok(_) => answer,
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn the_lines_are_as_documented_and_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.sock");
    let server = tokio::spawn(Server::bind(&path).unwrap().run(links().await));
    let check = async |line: &str, words: &str| {
        let answer = answer_to(&path, line).await;
        assert!(answer.contains(words), "{answer}");
        assert!(answer.ends_with('\n'));
    };
    let delay = r#"{"change":{"from":"eu","to":"us","one_way":true,"change":{"delay":{"ms":80,"jitter_ms":20}}}}"#;
    check(&format!("{delay}\n"), r#""delay_ms":80,"jitter_ms":20"#).await;
    check(
        "\"show\"\n",
        r#"{"report":{"seed":7,"links":[{"from":"eu","to":"us","#,
    )
    .await;
    check("{\"change\":1}\n", "not understood").await;
    let misspelt = delay.replace("one_way", "oneway");
    check(&format!("{misspelt}\n"), "unknown field `oneway`").await;
    let misspelt = delay.replace("jitter_ms", "jitter");
    check(&format!("{misspelt}\n"), "unknown field `jitter`").await;
    let unknown =
        r#"{"change":{"from":null,"to":null,"one_way":false,"change":{"set":{"delay":1}}}}"#;
    check(&format!("{unknown}\n"), "unknown field `delay`").await;
    // A line without end: hung up on, and others are served on.
    let reset = answer_to(&path, &"x".repeat(300_000)).await;
    assert!(!reset.contains("report"), "{reset}");
    check("\"show\"\n", "report").await;
    server.abort();
}

#[tokio::test]
async fn the_place_of_the_socket_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let check = |path: &Path, words: &str| {
        let error = Server::bind(path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let long = folder.path().join("x".repeat(100)).join("relay.sock");
    check(&long, "by a shorter path");
    let error = Client::connect(&long).await.unwrap_err().to_string();
    assert!(error.contains("by a shorter path"), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    check(&file, "no socket");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");

    let path = folder.path().join("relay.sock");
    let first = Server::bind(&path).unwrap();
    check(&path, "served by another process");
    drop(first);
    // Left by a process that was killed: it is there, and nobody answers.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let nobody = Client::connect(&path).await;
    assert!(matches!(nobody, Err(ControlError::Nobody(_))), "{nobody:?}");
    Server::bind(&path).unwrap();
}

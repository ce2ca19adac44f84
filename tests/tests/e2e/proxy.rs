//! The proxy that Terraform puts before a node: HAProxy with the template of the `node` module.

use std::fs;
use std::process::{Command, Stdio};

use crate::harness::{Cluster, http, make_pki};
use crate::wait::{ensure, until};
use whimbrel_chaos::cluster::free_port;

const TEMPLATE: &str = include_str!("../../../terraform/modules/node/templates/haproxy.cfg.tftpl");
const RULES: &str = include_str!("../../../terraform/modules/observability/rules/regions.yaml");

/// Where Debian's package puts it; root's path has that folder, others' need not.
const PROGRAM: &str = "/usr/sbin/haproxy";

/// What Terraform makes of the template, for ports of this machine and whoever runs this.
fn config(node: &str, (proxy, metrics, admin): (u16, u16, &str), secrets: &str) -> String {
    let (head, rest) = TEMPLATE
        .split_once("%{ for nth in range(2, 34) ~}\n")
        .unwrap();
    let (line, tail) = rest.split_once("%{ endfor ~}").unwrap();
    let servers: String = (2..34)
        .map(|nth| line.replace("${nth}", &nth.to_string()))
        .collect();
    let config = format!("{head}{servers}{tail}")
        .replace("${ports.proxy}", &proxy.to_string())
        .replace("${ports.proxy_metrics}", &metrics.to_string())
        .replace("127.0.0.1:${ports.admin}", admin)
        .replace("127.0.0.1:7100", node)
        .replace("/run/whimbrel-secrets", secrets)
        // Both take rights that a test need not have.
        .replace("  user haproxy\n  group haproxy\n", "")
        .replace("maxconn 600000", "maxconn 100")
        .replace("maxconn 599000", "maxconn 90");
    assert!(!config.contains("${"), "not filled in: {config}");
    config
}

/// The sum of all series of a metric whose labels have all of these.
fn sum(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let series = metrics.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('{'))
            && labels.iter().all(|label| line.contains(label))
    });
    series
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .reduce(|a, b| a + b)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_proxy_answers_itself_is_told_from_what_a_node_answers() {
    if Command::new(PROGRAM).arg("-v").output().is_err() {
        println!("skipped: the proxy before a node (the package haproxy is not installed)");
        return;
    }
    let mut cluster = Cluster::of(&["eu"]).await;
    let folder = cluster.folder().join("proxy");
    make_pki(&folder, &["proxy"]);
    let pem = ["proxy.pem", "proxy.key.pem"].map(|name| fs::read(folder.join(name)).unwrap());
    let secrets = cluster.folder().join("secrets");
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("proxy.pem"), pem.concat()).unwrap();
    let bare = |url: String| url.trim_start_matches("http://").to_owned();
    let node = bare(cluster.node("eu").url());
    let admin = bare(cluster.node("eu").admin_url());
    let (port, metrics_port) = (free_port(), free_port());
    let file = cluster.folder().join("haproxy.cfg");
    let ports = (port, metrics_port, admin.as_str());
    fs::write(&file, config(&node, ports, secrets.to_str().unwrap())).unwrap();
    let mut proxy = tokio::process::Command::new(PROGRAM)
        .arg("-db")
        .arg("-f")
        .arg(&file)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let clients = reqwest::Client::builder()
        .danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let call = async |path: &str| -> Result<u16, String> {
        let url = format!("https://127.0.0.1:{port}{path}");
        let answer = clients.get(url).send().await.map_err(|e| e.to_string())?;
        Ok(answer.status().as_u16())
    };
    let metrics = async || -> String {
        let url = format!("http://127.0.0.1:{metrics_port}/metrics");
        http().get(url).send().await.unwrap().text().await.unwrap()
    };
    until("a node behind its proxy", async || {
        let status = call("/readyz").await?;
        ensure(status == 200, status)
    })
    .await;
    assert_eq!(call("/v1/conversations").await, Ok(401), "without a token");
    assert_eq!(call("/metrics").await, Ok(404), "only readiness is public");

    let of_proxy = |metrics: &str| {
        let code = "code=\"5xx\"";
        let all = sum(
            metrics,
            "haproxy_frontend_http_responses_total",
            &["proxy=\"clients\"", code],
        );
        let of_node = sum(
            metrics,
            "haproxy_server_http_responses_total",
            &["proxy=\"node\"", code],
        );
        all.unwrap() - of_node.unwrap()
    };
    let before = of_proxy(&metrics().await);
    cluster.kill("eu").await;
    for _ in 0..3 {
        assert_eq!(call("/v1/conversations").await, Ok(503));
    }
    // It counts an answer a moment after it was sent.
    let shown = until("the proxy's count of its own answers", async || {
        let shown = metrics().await;
        let own = of_proxy(&shown) - before;
        ensure(own >= 3.0, own).map(|()| shown)
    })
    .await;
    assert_eq!(of_proxy(&shown) - before, 3.0);

    // Rules ask for what it shows.
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: Vec<_> = RULES
        .split(|c| !in_name(c))
        .filter(|name| name.starts_with("haproxy_"))
        .collect();
    assert!(!names.is_empty());
    for name in names {
        assert!(
            sum(&shown, name, &[]).is_some(),
            "the proxy shows no {name}"
        );
    }
    proxy.kill().await.unwrap();
}

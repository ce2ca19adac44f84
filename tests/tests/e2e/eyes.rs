//! Alert rules and dashboards against running nodes, and a real Prometheus that sees a region die.
//! What single rules do is tested by `promtool test rules`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use whimbrel_chaos::cluster::free_port;
use whimbrel_client::api::DevCluster;

use crate::dev::{described, interrupt, line_with, spawn, whimbrel};
use crate::foundationdb;
use crate::harness::{Cluster, group, http, say, text, turn};
use crate::programs::signal;
use crate::wait::{ensure, until, within};

const OBSERVABILITY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../terraform/modules/observability"
);
const OPERATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations");
const RUNBOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations/runbooks");

/// What only a node on FoundationDB has to say.
const OF_FOUNDATIONDB: &str = "whimbrel_store_cluster";

/// What only a node says that speaks TLS with FoundationDB; none does here.
const OF_FOUNDATIONDB_BY_TLS: &str = "whimbrel_store_certificate_days_left";

/// Files of a folder with that ending, and what is in them.
fn files(folder: &str, ending: &str) -> Vec<(PathBuf, String)> {
    // Joined, a whole path stands for itself.
    let folder = Path::new(OBSERVABILITY).join(folder);
    let paths = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|e| e == ending));
    let mut files: Vec<_> = paths
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "nothing in {}", folder.display());
    files
}

/// What stands behind a key, on each of its lines.
fn values<'a>(yaml: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    yaml.lines()
        .filter_map(move |line| line.trim_start_matches([' ', '-']).strip_prefix(key))
        .map(str::trim)
}

/// Names in a text: of metrics (`whimbrel_...`) and of what rules record (`whimbrel:...`).
fn names(text: &str) -> impl Iterator<Item = &str> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(move |c| !in_name(c))
        .filter(|word| word.starts_with("whimbrel_") || word.starts_with("whimbrel:"))
}

/// All `expr` and `query` below a value.
fn queries<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" || name == "query" => found.push(text),
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

/// All series that a node shows.
async fn shown(admin_url: &str) -> BTreeSet<String> {
    let answer = http().get(format!("{admin_url}/metrics")).send().await;
    let text = answer.unwrap().text().await.unwrap();
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let series = series.map(|line| line.split(['{', ' ']).next().unwrap().to_owned());
    series.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_dashboards_and_runbooks_ask_for_what_nodes_show() {
    let cluster = Cluster::of(&["eu", "us"]).await;
    // Some series are there once something has happened.
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &["ben"]).await;
    ana.post(&id, &text("Look")).await.unwrap();
    cluster.converged().await;
    let mut there = shown(&cluster.node("us").admin_url()).await;
    assert!(there.contains("whimbrel_replication_applied_batches_total"));
    there.append(&mut shown(&cluster.node("eu").admin_url()).await);

    let rules = files("rules", "yaml");
    for (_, yaml) in &rules {
        there.extend(values(yaml, "record:").map(str::to_owned));
    }
    let mut missing = BTreeSet::new();
    let mut asked = 0;
    let mut ask = |path: &Path, query: &str| {
        for name in names(query) {
            asked += 1;
            let elsewhere = name == OF_FOUNDATIONDB_BY_TLS
                || name == OF_FOUNDATIONDB && !foundationdb::is_asked_for();
            // A histogram is shown as its parts.
            let is_there = there.contains(name) || there.contains(&format!("{name}_count"));
            if !is_there && !elsewhere {
                missing.insert(format!("{name} in {}", path.display()));
            }
        }
    };
    for (path, yaml) in &rules {
        ask(path, yaml);
    }
    for (path, page) in files(OPERATIONS, "md")
        .into_iter()
        .chain(files(RUNBOOKS, "md"))
    {
        // One speaks of what only FoundationDB has, the other of names in Terraform.
        if !path.ends_with("foundationdb.md") && !path.ends_with("terraform.md") {
            // A directive of the log's filter looks like a metric.
            ask(&path, &page.replace("whimbrel_node=debug", ""));
        }
    }
    for (path, json) in files("dashboards", "json") {
        let dashboard: Value = serde_json::from_str(&json).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(dashboard["uid"], format!("whimbrel-{name}"));
        let mut found = Vec::new();
        queries(&dashboard, &mut found);
        found.iter().for_each(|query| ask(&path, query));
        for panel in dashboard["panels"].as_array().unwrap() {
            let source = &panel["datasource"]["uid"];
            assert!(
                panel["type"] == "row" || source == "${datasource}",
                "{name}: {} asks {source}",
                panel["title"]
            );
        }
    }
    assert!(asked > 100, "only {asked} names were found");
    assert!(missing.is_empty(), "no node shows {missing:#?}");
}

#[test]
fn each_alert_has_a_runbook() {
    let index = fs::read_to_string(format!("{RUNBOOKS}/README.md")).unwrap();
    let mut pages = BTreeSet::from(["README.md".to_owned()]);
    for (path, yaml) in files("rules", "yaml") {
        let alerts: Vec<_> = values(&yaml, "alert:").collect();
        let urls: Vec<_> = values(&yaml, "runbook_url:").collect();
        assert_eq!(alerts.len(), urls.len(), "{}", path.display());
        for (alert, url) in alerts.into_iter().zip(urls) {
            let (_, page) = url.split_once("/docs/operations/runbooks/").unwrap();
            let text = fs::read_to_string(format!("{RUNBOOKS}/{page}"));
            let text = text.unwrap_or_else(|error| panic!("{alert}: {page}: {error}"));
            assert!(text.starts_with(&format!("# {alert}\n")), "{page}");
            assert!(index.contains(&format!("[{alert}]({page})")), "{alert}");
            pages.insert(page.to_owned());
        }
    }
    let there = fs::read_dir(RUNBOOKS).unwrap();
    let there: BTreeSet<String> = there
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, pages, "a page for each alert, and no others");
}

/// Bounds that say how fast a machine is and how full its disk, and what stands for them where other
/// tests run beside.
const BOUNDS: [(&str, &str); 6] = [
    ("le=\"0.1\"", "le=\"10\""),
    ("lag_seconds > bool 5", "lag_seconds > bool 15"),
    ("[10m]))) > 0.25", "[10m]))) > 25"),
    ("[15m]))) > 250", "[15m]))) > 25000"),
    (
        "whimbrel_disk_size_bytes < 0.05",
        "whimbrel_disk_size_bytes < 0",
    ),
    (
        "whimbrel_disk_size_bytes < 0.5",
        "whimbrel_disk_size_bytes < 0",
    ),
];

/// Rules for a test that has no hours: what takes a minute takes two seconds.
fn hurried(yaml: &str) -> String {
    let mut hurried = String::new();
    for line in yaml.lines() {
        let eased = |line: String, (bound, other): &(&str, &str)| line.replace(bound, other);
        let line = BOUNDS.iter().fold(line.to_owned(), eased);
        match line.split_once("for: ") {
            Some((indent, span)) if indent.trim().is_empty() => {
                hurried += &format!("{indent}for: {}", shorter(span));
            }
            _ => {
                let mut parts = line.split('[');
                hurried += parts.next().unwrap();
                for part in parts {
                    match part.split_once(']') {
                        Some((span, rest)) => hurried += &format!("[{}]{rest}", shorter(span)),
                        None => hurried += &format!("[{part}"),
                    }
                }
            }
        }
        hurried.push('\n');
    }
    hurried
}

fn shorter(span: &str) -> String {
    // Of a subquery, with its step.
    if let Some((span, step)) = span.split_once(':') {
        return format!("{}:{}", shorter(span), shorter(step));
    }
    let (number, unit) = span.split_at(span.len() - 1);
    let minutes = match unit {
        "m" => 1,
        "h" => 60,
        "d" => 24 * 60,
        _ => panic!("{span} is neither minutes, hours nor days"),
    };
    format!("{}s", number.parse::<u32>().unwrap() * minutes * 2)
}

/// Prometheus takes the query of each panel, and those of embedded regions show something.
async fn panels_show(prometheus: &Prometheus, region: &str) {
    for (path, json) in files("dashboards", "json") {
        let dashboard: Value = serde_json::from_str(&json).unwrap();
        let mut found = Vec::new();
        queries(&dashboard["panels"], &mut found);
        let mut empty = BTreeSet::new();
        for query in &found {
            let query = query
                .replace("$__rate_interval", "20s")
                .replace("$region", region);
            let shown = prometheus.ask(&query).await;
            let shown = shown.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if shown.is_empty() && !query.contains(OF_FOUNDATIONDB) {
                empty.insert(query);
            }
        }
        println!(
            "{}: {} queries, empty: {empty:#?}",
            path.display(),
            found.len()
        );
        assert!(
            2 * empty.len() < found.len(),
            "{}: {empty:#?}",
            path.display()
        );
    }
}

/// Whether a region that runs something new is found well, in a short bake.
async fn bake(prometheus: &Prometheus, region: &str) -> bool {
    let mut bake = Command::new(Path::new(OPERATIONS).join("bake.sh"));
    bake.args([&prometheus.url, region, "0.05"])
        .env("BAKE_STEP_S", "1")
        .env("BAKE_GRACE_S", "1")
        .stdin(Stdio::null());
    let output = within("the bake", bake.output()).await.unwrap();
    println!(
        "bake of {region}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.status.success()
}

/// A Prometheus that looks at a cluster.
struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    /// With what a bake asks it by.
    fn is_installed() -> bool {
        ["prometheus", "curl", "jq"].iter().all(|program| {
            let mut asked = std::process::Command::new(program);
            asked.arg("--version").output().is_ok()
        })
    }

    fn start(folder: &Path, cluster: &DevCluster) -> Self {
        let rules = folder.join("rules");
        fs::create_dir_all(&rules).unwrap();
        let all = files("rules", "yaml");
        for (bound, _) in BOUNDS {
            let stands = all.iter().any(|(_, yaml)| yaml.contains(bound));
            assert!(stands, "no rule says {bound}");
        }
        for (path, yaml) in all {
            fs::write(rules.join(path.file_name().unwrap()), hurried(&yaml)).unwrap();
        }
        let mut config = format!(
            "global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}}\n\
             rule_files: ['{}/*.yaml']\n\
             scrape_configs:\n\
             - job_name: whimbrel\n  \
               honor_labels: true\n  \
               static_configs:\n",
            rules.display()
        );
        for region in &cluster.regions {
            let target = region.admin_url.trim_start_matches("http://");
            let name = &region.name;
            config += &format!("  - {{targets: ['{target}'], labels: {{region: {name}}}}}\n");
        }
        let file = folder.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let port = free_port();
        let log = File::create(folder.join("prometheus.log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}/tsdb", folder.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        Self {
            child: child.unwrap(),
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// Labels and values that it gives for a query.
    async fn ask(&self, query: &str) -> Result<Vec<(BTreeMap<String, String>, String)>, String> {
        let url = format!("{}/api/v1/query", self.url);
        let url = reqwest::Url::parse_with_params(&url, [("query", query)]).unwrap();
        let answer = http().get(url).send().await.map_err(|e| e.to_string())?;
        let answer: Value = answer.json().await.map_err(|e| e.to_string())?;
        let results = answer["data"]["result"].as_array();
        let results = results.ok_or_else(|| answer.to_string())?.iter();
        let results = results.map(|result| {
            let labels = serde_json::from_value(result["metric"].clone()).unwrap();
            (labels, result["value"][1].as_str().unwrap().to_owned())
        });
        Ok(results.collect())
    }

    /// Alerts that fire, or have fired within this span: their names and regions.
    async fn firing(&self, span: &str) -> Result<Vec<String>, String> {
        let query = format!("max_over_time(ALERTS{{alertstate=\"firing\"}}[{span}])");
        let alerts = self.ask(&query).await?.into_iter();
        let label =
            |labels: &BTreeMap<String, String>, name| labels.get(name).cloned().unwrap_or_default();
        let alerts =
            alerts.map(|(labels, _)| label(&labels, "alertname") + " " + &label(&labels, "region"));
        Ok(alerts.collect())
    }

    async fn stop(mut self) {
        signal(self.child.id().unwrap(), "TERM");
        within("Prometheus to end", self.child.wait())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_dies_has_one_alert_until_it_is_back() {
    // Longer than the `for` of all that must stay silent about links and nodes.
    const OUTAGE: Duration = Duration::from_secs(16);
    if !Prometheus::is_installed() {
        println!("skipped: alerts of a region that dies (prometheus, curl or jq is not installed)");
        return;
    }
    let _turn = turn().await;
    let temporary = TempDir::with_prefix("whimbrel-e2e-").unwrap();
    let data = temporary.path().join("cluster");
    let folder = data.to_str().unwrap();
    let (dev, mut told) = spawn("whimbrel-node", &["dev", "--data", folder]);
    let cluster = until("the cluster", async || described(&data)).await;
    let prometheus = Prometheus::start(temporary.path(), &cluster);

    let as_ana = async |args: &[&str]| whimbrel(folder, &[&["--user", "ana"], args].concat()).await;
    let id = as_ana(&[
        "--region", "us", "create", "--kind", "channel", "--title", "Birds",
    ])
    .await;
    // There is something that eu lacks, and writes that may fail.
    let goes_on = async || as_ana(&["--region", "us", "send", &id, "Still here"]).await;
    until("all regions to be seen", async || {
        goes_on().await;
        let serving = prometheus.ask("whimbrel:serving_nodes == 1").await?;
        let rates = prometheus.ask("whimbrel:writes:rate5m > 0").await?;
        ensure(
            serving.len() == 3 && !rates.is_empty(),
            format!("{serving:?} {rates:?}"),
        )
    })
    .await;

    let killed = Instant::now();
    signal(cluster.regions[0].pid, "KILL");
    line_with(&mut told, &["eu stopped"]).await;
    until("the alert, and time for others", async || {
        goes_on().await;
        let firing = prometheus.firing("1s").await?;
        ensure(
            killed.elapsed() > OUTAGE && firing == ["WhimbrelRegionDown eu"],
            format!("{firing:?}"),
        )
    })
    .await;
    assert!(!bake(&prometheus, "eu").await, "a dead region bakes well");
    assert!(!bake(&prometheus, "mars").await, "nobody knows mars");
    let lag = "whimbrel_replication_lag_seconds{region=\"us\", peer=\"eu\"} > 5";
    assert!(
        !prometheus.ask(lag).await.unwrap().is_empty(),
        "nothing that eu lacks, so nothing was silent"
    );

    let (only, mut only_told) = spawn("whimbrel-node", &["dev", "--data", folder, "--only", "eu"]);
    line_with(&mut only_told, &["eu is ready"]).await;
    until("the alert to end", async || {
        goes_on().await;
        let firing = prometheus.firing("1s").await?;
        let serving = prometheus.ask("whimbrel:serving_nodes == 1").await?;
        ensure(
            firing.is_empty() && serving.len() == 3,
            format!("{firing:?}"),
        )
    })
    .await;
    assert!(bake(&prometheus, "eu").await, "a region that is well");
    panels_show(&prometheus, "us").await;
    // Nothing else did fire, at any time.
    assert_eq!(
        prometheus.firing("10m").await.unwrap(),
        ["WhimbrelRegionDown eu"]
    );

    prometheus.stop().await;
    interrupt(only).await;
    interrupt(dev).await;
}

/// Of a counter that begins with its first failure no rule can tell that it rose: each call that is
/// counted has its failures shown from the start.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_have_not_failed_yet_are_shown() {
    let cluster = Cluster::of(&["eu"]).await;
    let ana = cluster.client("eu", "ana");
    let id = group(&ana, &[]).await;
    let message = say(&ana, &id, "hi").await.message;
    ana.react(&id, &message.id, "👍").await.unwrap();
    ana.redact(&id, &message.id).await.unwrap();
    let url = format!("{}/metrics", cluster.node("eu").admin_url());
    let text = http().get(url).send().await.unwrap().text().await.unwrap();
    let series = text
        .lines()
        .filter(|line| line.starts_with("whimbrel_http_requests_total{"));
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let call = |line: &str| (label(line, "method"), label(line, "route"));
    let (failed, done): (Vec<_>, Vec<_>) = series.partition(|line| line.contains("status=\"503\""));
    assert!(failed.iter().all(|line| line.ends_with(" 0")), "{failed:?}");
    let failed: BTreeSet<_> = failed.into_iter().map(call).collect();
    let done: Vec<_> = done
        .into_iter()
        .filter(|line| line.contains("status=\"20"))
        .collect();
    assert!(done.len() >= 4, "{done:?}");
    for line in done {
        assert!(failed.contains(&call(line)), "{line} in none of {failed:?}");
    }
}

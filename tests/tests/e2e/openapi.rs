//! A running node does what its OpenAPI document says of paths, methods, parameters and tokens.
//! What it answers is for schemathesis to check: `.ci/schemathesis`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use whimbrel_client::api::Problem;

use crate::harness::{Cluster, http};

/// A call as the document describes it.
struct Call<'a> {
    document: &'a Value,
    method: Method,
    path: &'a str,
    operation: &'a Value,
}

impl<'a> Call<'a> {
    fn all(document: &'a Value) -> Vec<Self> {
        let mut calls = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                calls.push(Self {
                    document,
                    method: method.to_uppercase().parse().unwrap(),
                    path,
                    operation,
                });
            }
        }
        calls
    }

    /// Where a value leads, if it is a reference.
    fn resolve(&self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference.trim_start_matches('#');
                self.document.pointer(pointer).unwrap()
            }
            None => value,
        }
    }

    /// The parameters of a place, `path`, `query` or `header`.
    fn parameters(&self, place: &str) -> Vec<&'a Value> {
        let all = self.operation["parameters"].as_array();
        let all = all.into_iter().flatten();
        let all = all.map(|parameter| self.resolve(parameter));
        all.filter(|parameter| parameter["in"] == place).collect()
    }

    fn takes_header(&self, name: &str) -> bool {
        let headers = self.parameters("header");
        headers.iter().any(|header| header["name"] == name)
    }

    fn takes_token(&self) -> bool {
        self.operation["security"].is_null()
    }

    /// With the examples of the document; `more` is put behind the path.
    fn request(&self, url: &str, more: &str) -> RequestBuilder {
        let mut path = self.path.to_owned();
        for parameter in self.parameters("path") {
            let schema = self.resolve(&parameter["schema"]);
            let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
            path = path.replace(&name, schema["examples"][0].as_str().unwrap());
        }
        let request = http().request(self.method.clone(), format!("{url}{path}{more}"));
        let body = &self.operation["requestBody"]["content"]["application/json"]["schema"];
        match self.resolve(body)["examples"].get(0) {
            Some(example) => request.json(example),
            None => request,
        }
    }
}

async fn document(url: &str) -> Value {
    let answer = http()
        .get(format!("{url}/v1/openapi.json"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_what_is_documented() {
    let cluster = Cluster::of(&["eu"]).await;
    let url = cluster.node("eu").url();
    let document = document(&url).await;
    let copy = include_str!("../../../docs/openapi.json");
    let copy: Value = serde_json::from_str(copy).unwrap();
    let mut wrong = methods(&url, &document).await;
    if document != copy {
        wrong += "it is not what docs/openapi.json says\n";
    }
    let token = cluster.token("ana", None);
    let calls = Call::all(&document);
    for call in &calls {
        let name = format!("{} {}", call.method, call.path);
        for what in [
            tokens(&url, call).await,
            query(&url, &token, call).await,
            headers(&url, &token, call).await,
        ] {
            if let Err(what) = what {
                let _ = writeln!(wrong, "{name}: {what}");
            }
        }
    }
    assert!(calls.len() > 20, "only {} calls", calls.len());
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Each path takes the documented methods, and no others.
async fn methods(url: &str, document: &Value) -> String {
    let mut wrong = String::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let mut documented: BTreeSet<String> = item
            .as_object()
            .unwrap()
            .keys()
            .map(|method| method.to_uppercase())
            .collect();
        if documented.contains("GET") {
            documented.insert("HEAD".to_owned());
        }
        let method = Method::from_bytes(b"BREW").unwrap();
        let path = path.replace(['{', '}'], "");
        let answer = http()
            .request(method, format!("{url}{path}"))
            .send()
            .await
            .unwrap();
        let allow = answer
            .headers()
            .get("allow")
            .map(|value| value.to_str().unwrap().to_owned());
        let allowed: BTreeSet<String> = allow
            .iter()
            .flat_map(|all| all.split(','))
            .map(|m| m.trim().to_owned())
            .collect();
        if answer.status() != 405 || allowed != documented {
            let _ = writeln!(
                wrong,
                "{path} takes {allowed:?}, documented are {documented:?}"
            );
        }
    }
    wrong
}

/// It asks for a token where the document says so.
async fn tokens(url: &str, call: &Call<'_>) -> Result<(), String> {
    let status = call.request(url, "").send().await.unwrap().status();
    if (status == 401) == call.takes_token() {
        Ok(())
    } else {
        Err(format!("without a token it answers {status}"))
    }
}

/// It takes the documented query parameters, and no others: a refusal names those that there are.
async fn query(url: &str, token: &str, call: &Call<'_>) -> Result<(), String> {
    let request = call.request(url, "?brew=1").bearer_auth(token);
    let problem = request.send().await.unwrap().json::<Problem>().await;
    let problem = problem.map_err(|_| "it takes a query parameter that there is not".to_owned())?;
    let known = match problem.detail.split_once("known: ") {
        Some((_, known)) => known.split(", ").map(str::to_owned).collect(),
        None if problem.detail.contains("takes none") => BTreeSet::new(),
        None => return Err(format!("it refuses something else: {problem:?}")),
    };
    let documented = call.parameters("query").into_iter();
    let documented: BTreeSet<String> = documented
        .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
        .collect();
    if known == documented {
        Ok(())
    } else {
        Err(format!("it takes {known:?}, documented are {documented:?}"))
    }
}

/// It reads the documented headers, and no others: a bad value is refused where it is read.
async fn headers(url: &str, token: &str, call: &Call<'_>) -> Result<(), String> {
    let long = "k".repeat(129);
    for (name, bad, status) in [
        ("Idempotency-Key", long.as_str(), 400),
        ("Whimbrel-After", "?", 400),
        ("Whimbrel-Act-As", "bob", 403),
    ] {
        let request = call.request(url, "").bearer_auth(token).header(name, bad);
        let answer = request.send().await.unwrap();
        let got = answer.status();
        let text = answer.text().await.unwrap();
        let is_read = got == status && text.contains(name);
        if is_read != call.takes_header(name) {
            return Err(format!("a bad {name} is answered with {got}: {text}"));
        }
    }
    Ok(())
}

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use boon::{Compiler, Schemas};
use serde_json::Value;
use whimbrel_node::http::document;
use whimbrel_replication::crdt::text::Revision;
use whimbrel_replication::cursor::Cursor;
use whimbrel_replication::id::{ChangeHash, ConversationId, MessageId, Position};
use whimbrel_replication::limits::{CURSOR_TEXT_BYTES_MAX, REVISION_HEADS_MAX};

const COPY: &str = "../docs/openapi.json";
/// Under which the validator finds the document.
const AT: &str = "https://whimbrel.example/openapi.json";
const JSON: [&str; 2] = ["application/json", "application/problem+json"];

/// The copy in `docs` shows reviewers what a change does to the contract.
#[test]
fn the_copy_in_docs_is_what_the_code_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(COPY);
    let made = document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("WHIMBREL_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let copy = std::fs::read_to_string(&path).unwrap();
    assert!(
        copy == made,
        "docs/openapi.json is not what the code makes; if the change is meant, write it anew:\n\n    \
         WHIMBREL_BLESS=1 cargo test -p whimbrel-node --test suite openapi\n"
    );
}

#[test]
fn all_that_is_referred_to_is_there_and_nothing_else() {
    let document = json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut named = BTreeSet::new();
    references(&document, &mut named);
    for reference in &named {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }
    for kind in ["schemas", "responses", "headers", "parameters"] {
        for (name, _) in fields(&document["components"][kind]) {
            let reference = format!("#/components/{kind}/{name}");
            assert!(named.contains(&reference), "{reference} is not used");
        }
    }
}

#[test]
fn every_call_says_what_it_takes_and_gives() {
    let document = json();
    let mut wrong = String::new();
    let mut ids = BTreeSet::new();
    let tags: Vec<&Value> = list(&document["tags"]).map(|tag| &tag["name"]).collect();
    let calls = calls(&document);
    assert!(calls.len() > 20, "only {} calls", calls.len());
    for (call, operation) in &calls {
        let mut check = |is_right: bool, what: &str| {
            if !is_right {
                let _ = writeln!(wrong, "{call}: {what}");
            }
        };
        check(
            ids.insert(operation["operationId"].to_string()),
            "its operationId is not its own",
        );
        check(operation["operationId"].is_string(), "has no operationId");
        check(operation["summary"].is_string(), "has no summary");
        check(
            list(&operation["tags"]).all(|tag| tags.contains(&tag)),
            "its tag is not explained",
        );
        for parameter in list(&operation["parameters"]).map(|p| resolve(&document, p)) {
            check(
                parameter["description"].is_string(),
                "a parameter has no description",
            );
        }
        let answers = &operation["responses"];
        check(
            fields(answers).any(|(status, _)| status.starts_with(['1', '2'])),
            "never succeeds",
        );
        let mut errors = vec!["400", "500", "503"];
        if operation["security"].is_null() {
            errors.extend(["401", "403"]);
        }
        for error in errors {
            let answer = resolve(&document, &answers[error]);
            let content = &answer["content"]["application/problem+json"];
            check(content.is_object(), &format!("{error} is not explained"));
        }
        for (status, answer) in fields(answers) {
            let answer = resolve(&document, answer);
            let has_region = answer["headers"]["Whimbrel-Region"].is_object();
            check(has_region, &format!("{status} does not name the region"));
        }
        for at in bodies(&document, call, operation) {
            let has_examples = !examples(&document, &at).is_empty();
            check(has_examples, &format!("{at} has no example"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn examples_are_what_the_schemas_say() {
    let document = json();
    let mut validator = Validator::new(&document);
    let mut places = BTreeSet::new();
    for (call, operation) in calls(&document) {
        places.extend(bodies(&document, &call, operation));
    }
    for (name, _) in fields(&document["components"]["schemas"]) {
        places.insert(format!("/components/schemas/{name}"));
    }
    let (mut checked, mut wrong) = (0, String::new());
    for place in places {
        let node = document.pointer(&place).unwrap();
        let schema = if node["schema"].is_object() {
            format!("{place}/schema")
        } else {
            place.clone()
        };
        for example in examples(&document, &place) {
            checked += 1;
            if let Err(error) = validator.check(&schema, &example) {
                let _ = writeln!(wrong, "{place}: {error}");
            }
        }
    }
    assert!(checked > 60, "only {checked} examples");
    assert!(wrong.is_empty(), "of {checked} examples:\n{wrong}");
}

/// Ids of all sorts have the forms that the document gives them, and the lengths to the letter.
#[test]
fn forms_are_those_of_the_ids() {
    let document = json();
    let mut validator = Validator::new(&document);
    let mut check = |form: &str, text: String| {
        let place = format!("/components/schemas/{form}");
        if let Err(error) = validator.check(&place, &Value::from(text)) {
            panic!("{error}");
        }
        let bound = |name| document.pointer(&format!("{place}/{name}"))?.as_u64();
        (bound("minLength").unwrap(), bound("maxLength").unwrap())
    };
    for number in 0..=255 {
        let conversation = ConversationId::from_bytes([number; 16]).to_string();
        assert_eq!(check("ConversationId", conversation), (26, 26));
        let message = MessageId::from_bytes([number; 16]).to_string();
        assert_eq!(check("MessageId", message), (26, 26));
        let position = Position::from_bytes([number; 14]).to_string();
        assert_eq!(check("Position", position), (23, 23));
        let heads = [[number; 32], [7; 32]].map(ChangeHash::from_bytes);
        check("Revision", Revision::new(heads.to_vec()).to_string());
    }
    let cursor = Cursor::new().to_string();
    let bounds = (cursor.len() as u64, CURSOR_TEXT_BYTES_MAX as u64);
    assert_eq!(check("Token", cursor.clone()), bounds);
    assert_eq!(check("Cursor", cursor), bounds);
    let heads = (0..REVISION_HEADS_MAX).map(|number| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        ChangeHash::from_bytes(bytes)
    });
    let original = Revision::default().to_string();
    let longest = Revision::new(heads.collect()).to_string();
    let bounds = (original.len() as u64, longest.len() as u64);
    assert_eq!(check("Revision", original), bounds);
    assert_eq!(check("Revision", longest), bounds);
}

/// Checks values against schemas of the document.
struct Validator {
    compiler: Compiler,
    schemas: Schemas,
}

impl Validator {
    fn new(document: &Value) -> Self {
        let mut compiler = Compiler::new();
        compiler.enable_format_assertions();
        compiler.add_resource(AT, document.clone()).unwrap();
        Self {
            compiler,
            schemas: Schemas::new(),
        }
    }

    fn check(&mut self, place: &str, value: &Value) -> Result<(), String> {
        let place = place.replace('{', "%7B").replace('}', "%7D");
        let schema = self
            .compiler
            .compile(&format!("{AT}#{place}"), &mut self.schemas);
        let checked = self.schemas.validate(value, schema.unwrap());
        checked.map_err(|error| format!("{error:#}\n{value}"))
    }
}

fn json() -> Value {
    serde_json::to_value(document()).unwrap()
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Where a value leads, if it is a reference.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

/// All references, also those of discriminators and security requirements.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.starts_with("#/") => {
            found.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(fields) => fields.values().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// All operations, by where they stand: `/paths/~1v1~1sync/get`.
fn calls(document: &Value) -> Vec<(String, &Value)> {
    let paths = fields(&document["paths"]).flat_map(|(path, item)| {
        let path = path.replace('/', "~1");
        fields(item).map(move |(method, operation)| (format!("/paths/{path}/{method}"), operation))
    });
    paths.collect()
}

/// Where the bodies of a call stand, those of requests and those of answers.
fn bodies(document: &Value, call: &str, operation: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |at: String, value: &Value| {
        let at = value["$ref"]
            .as_str()
            .map_or(at, |reference| reference.trim_start_matches('#').to_owned());
        for (media_type, _) in fields(&resolve(document, value)["content"]) {
            assert!(JSON.contains(&media_type.as_str()), "{at}: {media_type}");
            found.push(format!("{at}/content/{}", media_type.replace('/', "~1")));
        }
    };
    look(format!("{call}/requestBody"), &operation["requestBody"]);
    for (status, answer) in fields(&operation["responses"]) {
        look(format!("{call}/responses/{status}"), answer);
    }
    found
}

/// The examples of a body or a schema: its own, or those of the schema that it refers to.
fn examples(document: &Value, at: &str) -> Vec<Value> {
    let node = document.pointer(at).unwrap();
    let own = node
        .get("example")
        .into_iter()
        .chain(list(&node["examples"]));
    let own: Vec<Value> = own.cloned().collect();
    if own.is_empty() && node["schema"].is_object() {
        let schema = resolve(document, &node["schema"]);
        return list(&schema["examples"]).cloned().collect();
    }
    own
}

//! The document describes what there is, and all of it: routes, and every status that the tests of this crate see.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use redress_api::{OPENAPI, routes};
use serde_json::Value;

use crate::client::{Answer, Ask};
use crate::world::World;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(OPENAPI).unwrap());

/// Fails when the document does not describe this answer of a route.
pub fn check(method: &str, path: &str, answer: &Answer) {
    let method = if method == "HEAD" { "GET" } else { method };
    let path = path.split('?').next().unwrap();
    let known = routes().into_iter().find(|(m, template)| *m == method && fits(template, path));
    let Some((_, template)) = known else {
        assert!(matches!(answer.status, 404 | 405 | 503), "{method} {path} is no route: {answer:?}");
        return;
    };
    let operation = &DOCUMENT["paths"][template][method.to_ascii_lowercase()];
    let described = operation["responses"].get(answer.status.to_string());
    assert!(
        described.is_some(),
        "{method} {template} answered {}, which openapi.json does not describe",
        answer.status
    );
    if answer.status >= 400 && answer.body.contains("\"error\"") {
        let codes =
            &DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"];
        assert!(codes.as_array().unwrap().contains(&Value::from(answer.code())), "{answer:?}");
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
}

#[test]
fn every_route_is_described_and_everything_described_is_a_route() {
    let described: BTreeSet<(String, String)> = DOCUMENT["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(|method| (method.to_ascii_uppercase(), path.clone()))
        })
        .collect();
    let routed = routes().into_iter().map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(described, routed);
}

#[test]
fn every_reference_leads_somewhere() {
    fn visit(value: &Value, seen: &mut usize) {
        match value {
            Value::Object(fields) => {
                if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                    let found = DOCUMENT.pointer(target.strip_prefix('#').unwrap());
                    assert!(found.is_some(), "{target} leads nowhere");
                    *seen += 1;
                }
                fields.values().for_each(|field| visit(field, seen));
            }
            Value::Array(items) => items.iter().for_each(|item| visit(item, seen)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut seen = 0;
    visit(&DOCUMENT, &mut seen);
    assert!(seen > 20, "{seen} references");
}

/// Fails when `value` lacks what the schema requires, or has what it does not name.
pub fn has_the_fields_of(schema: &str, value: &Value) {
    let schema = &DOCUMENT["components"]["schemas"][schema];
    let named: BTreeSet<&String> = schema["properties"].as_object().unwrap().keys().collect();
    let found: BTreeSet<&String> = value.as_object().unwrap().keys().collect();
    let unnamed: Vec<_> = found.difference(&named).collect();
    assert!(unnamed.is_empty(), "the schema does not name {unnamed:?}");
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(required.as_str().unwrap()).is_some(), "{required} is missing in {value}");
    }
}

#[tokio::test]
async fn it_is_served() {
    let world = World::new().await;
    let answer = world.ask(Ask::get("/openapi.json")).await;
    assert_eq!((answer.status, answer.json()), (200, DOCUMENT.clone()));
}

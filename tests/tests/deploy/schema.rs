//! What a JSON schema has against documents. `compose.yaml` is what the Compose Specification calls a Compose file.

use std::{fs, path::Path, time::Duration};

use gateway_tests::{error::Result, kit::Kit, script};
use serde_json::{Value, json};

use crate::{compose::yaml, deploy};

/// Where the schemas are. See the README there.
const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas");

/// The schema has nothing against any of these documents. Of the first of them it sees what is wrong in each copy in which
/// one place is another value, or, by `None`, is gone: so it is seen that the schema is asked.
pub(crate) async fn tells(
    kit: &Kit,
    schema: &str,
    documents: &[Value],
    spoiled: &[(&str, Option<Value>)],
    dir: &Path,
) -> Result<()> {
    let first = documents.first().expect("a document");
    let copies = spoiled.iter().map(|(path, value)| {
        let mut document = first.clone();
        let (parent, key) = path.rsplit_once('/').expect("a path");
        let parent = document.pointer_mut(parent).and_then(Value::as_object_mut);
        let parent = parent.unwrap_or_else(|| panic!("{path} is nowhere"));
        match value {
            Some(value) => drop(parent.insert(key.to_owned(), value.clone())),
            None => drop(parent.remove(key).expect("it is there")),
        }
        document
    });
    let all: Vec<_> = documents.iter().cloned().chain(copies).collect();
    let found = wrong(kit, schema, &all, dir).await?;
    assert_eq!(found.len(), all.len());
    let (good, bad) = found.split_at(documents.len());
    for (found, document) in good.iter().zip(documents) {
        assert_eq!(*found, Vec::<String>::new(), "{document}");
    }
    for (found, (path, value)) in bad.iter().zip(spoiled) {
        assert!(
            !found.is_empty(),
            "{path}: {value:?} is not seen to be wrong"
        );
    }
    Ok(())
}

/// What the schema has against each of these.
async fn wrong(
    kit: &Kit,
    schema: &str,
    documents: &[Value],
    dir: &Path,
) -> Result<Vec<Vec<String>>> {
    let schema = format!("{SCHEMAS}/{schema}.json");
    let file = dir.join("documents.json");
    fs::write(&file, Value::from(documents).to_string()).expect("documents");
    let documents = file.display().to_string();
    let text = script::run(
        &kit.install,
        "schema",
        &[("SCHEMA", &schema), ("DOCUMENTS", &documents)],
        &dir.join("schema.log"),
        Duration::from_secs(60),
    )
    .await?;
    Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}")))
}

#[tokio::test]
async fn the_compose_file_is_one_by_the_schema_of_the_specification() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("compose.log");
    let shipped = yaml(&kit, &deploy("compose.yaml"), &log).await?;
    let spoiled = [
        ("/services/nginx/port", json!(["443:443"])),
        ("/services/nginx/ports", json!("443:443")),
        ("/services/postgres/healthcheck/every", json!("5s")),
        (
            "/services/gateway-1/depends_on/redis/condition",
            json!("healthy"),
        ),
        ("/services/gateway-1/networks/front/ip", json!("172.30.0.1")),
        ("/networks/store/internal", json!(3)),
        ("/secrets/tls_key/path", json!("secrets/tls_key")),
        ("/volume", json!({})),
    ]
    .map(|(path, value)| (path, Some(value)));
    tells(&kit, "compose-spec", &[shipped], &spoiled, dir.path()).await
}

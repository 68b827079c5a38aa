//! `compose.yaml` is what the Compose Specification calls a Compose file.

use std::{path::Path, time::Duration};

use gateway_tests::{error::Result, kit::Kit, script};
use serde_json::{Value, json};

use crate::{compose::yaml, deploy};

/// The schema of the specification. See `tests/schemas/README.md`.
const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/compose-spec.json");

/// What the schema has against each of these.
async fn wrong(kit: &Kit, documents: &[Value], log: &Path) -> Result<Vec<Vec<String>>> {
    let documents = Value::from(documents).to_string();
    let text = script::run(
        &kit.install,
        "schema",
        &[("SCHEMA", SCHEMA), ("DOCUMENTS", &documents)],
        log,
        Duration::from_secs(60),
    )
    .await?;
    Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}")))
}

#[tokio::test]
async fn the_compose_file_is_one_by_the_schema_of_the_specification() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = |name: &str| dir.path().join(name);
    let shipped = yaml(&kit, &deploy("compose.yaml"), &log("compose.log")).await?;
    // Each is wrong in one place, so that it is seen that the schema is asked.
    let mut documents = vec![shipped];
    for (path, value) in [
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
    ] {
        let mut document = documents[0].clone();
        let (parent, key) = path.rsplit_once('/').expect("a path");
        let parent = document.pointer_mut(parent).expect("it is there");
        parent[key] = value;
        documents.push(document);
    }
    let found = wrong(&kit, &documents, &log("schema.log")).await?;
    assert_eq!(found.len(), documents.len());
    assert_eq!(found[0], Vec::<String>::new());
    for (n, found) in found.iter().enumerate().skip(1) {
        assert!(!found.is_empty(), "{n} is not seen to be wrong");
    }
    Ok(())
}

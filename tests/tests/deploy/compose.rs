//! `compose.yaml`, as data: what it names exists, and nobody can reach what is not for them.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use gateway_tests::{error::Result, kit::Kit, script};
use serde_json::Value;

use crate::{configuration::make_secrets, dashboards, deploy, probes, shipped};

const PARTS: [&str; 10] = [
    "gateway-1",
    "gateway-2",
    "grafana",
    "nginx",
    "openclaw-1",
    "openclaw-2",
    "openclaw-3",
    "postgres",
    "prometheus",
    "redis",
];

/// Keys that are used, each at its place: what is new is looked at. What may stand there at all: see `schema`.
const OF_FILE: [&str; 5] = ["name", "networks", "secrets", "services", "volumes"];
const OF_SERVICE: [&str; 22] = [
    "build",
    "cap_drop",
    "command",
    "depends_on",
    "environment",
    "healthcheck",
    "image",
    "logging",
    "mem_limit",
    "networks",
    "pids_limit",
    "ports",
    "read_only",
    "restart",
    "secrets",
    "security_opt",
    "stop_grace_period",
    "sysctls",
    "tmpfs",
    "ulimits",
    "user",
    "volumes",
];

/// A YAML file, as data.
pub(crate) async fn yaml(kit: &Kit, path: &Path, log: &Path) -> Result<Value> {
    let file = path.display().to_string();
    let text = script::run(
        &kit.install,
        "yaml",
        &[("FILE", &file)],
        log,
        Duration::from_secs(30),
    )
    .await?;
    Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}")))
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect()
}

/// A list, or the keys of a mapping: Compose takes both in many places.
fn names(value: &Value) -> BTreeSet<&str> {
    let listed = value.as_array().into_iter().flatten();
    let listed = listed.filter_map(|item| item.as_str().or(item["source"].as_str()));
    keys(value).into_iter().chain(listed).collect()
}

#[tokio::test]
async fn what_the_compose_file_names_exists_and_only_nginx_can_be_reached() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let compose = yaml(
        &kit,
        &deploy("compose.yaml"),
        &dir.path().join("compose.log"),
    )
    .await?;
    make_secrets(dir.path()).await?;
    let file_keys = keys(&compose);
    let unknown: Vec<_> = file_keys
        .iter()
        .filter(|key| !OF_FILE.contains(key) && !key.starts_with("x-"))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert_eq!(keys(&compose["services"]), PARTS.into());

    let (mut networks, mut volumes, mut secrets) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for name in PARTS {
        let service = &compose["services"][name];
        let unknown: Vec<_> = keys(service)
            .into_iter()
            .filter(|key| !OF_SERVICE.contains(key))
            .collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
        assert_eq!(service.get("ports").is_some(), name == "nginx", "{name}");
        networks.extend(names(&service["networks"]));
        secrets.extend(names(&service["secrets"]));
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume
                .as_str()
                .and_then(|text| text.split(':').next())
                .expect("a source");
            match source.strip_prefix("./") {
                Some(path) => assert!(deploy(path).exists(), "{name}: {path}"),
                None => drop(volumes.insert(source)),
            }
        }
        for needed in keys(&service["depends_on"]) {
            let condition = &service["depends_on"][needed]["condition"];
            assert_eq!(condition, "service_healthy", "{name}: {needed}");
            assert!(
                compose["services"][needed]["healthcheck"].is_object(),
                "{name}: {needed}"
            );
        }
        let build = &service["build"];
        let context = deploy(build["context"].as_str().unwrap_or("."));
        match build.is_object() {
            true => assert!(
                context
                    .join(build["dockerfile"].as_str().unwrap_or("Dockerfile"))
                    .is_file(),
                "{name}"
            ),
            false => assert!(
                service["image"]
                    .as_str()
                    .is_some_and(|image| image.contains(':')),
                "{name}: a version"
            ),
        }
        let probe = match name.starts_with("openclaw-") {
            true => probes::of_openclaw(),
            false => service["healthcheck"]["test"].clone(),
        };
        assert!(probes::needs_an_answer(&probe), "{name}: {probe}");
        // These two change their user themselves when they start.
        if !["postgres", "redis"].contains(&name) {
            assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
            assert_eq!(service["read_only"], true, "{name}");
        }
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let of_secret = ["PASS", "SECRET", "KEY", "TOKEN"]
                .iter()
                .any(|word| variable.contains(word));
            let from_file = value
                .as_str()
                .is_some_and(|value| value.starts_with("/run/secrets/"));
            assert!(
                !of_secret || (from_file && variable.ends_with("_FILE")),
                "{name}: {variable}"
            );
        }
    }
    assert_eq!(networks, keys(&compose["networks"]));
    assert_eq!(volumes, keys(&compose["volumes"]));
    assert_eq!(secrets, keys(&compose["secrets"]));
    for secret in secrets {
        assert_eq!(
            compose["secrets"][secret]["file"],
            format!("secrets/{secret}")
        );
        assert!(
            dir.path().join("secrets").join(secret).is_file(),
            "make-secrets knows no {secret}"
        );
    }
    let made: Vec<_> = fs::read_dir(dir.path().join("secrets"))
        .expect("secrets")
        .collect();
    for secret in made {
        let path = secret.expect("a secret").path();
        let secret = fs::read_to_string(&path).expect("a secret");
        assert!(
            !shipped("compose.yaml").contains(secret.trim()) || secret.trim() == "own",
            "{}",
            path.display()
        );
    }
    each_instance_is_alone_with_the_gateways(&compose);
    gateways_are_where_others_look_for_them(&compose);
    Ok(())
}

#[test]
fn what_builds_an_image_is_not_in_it() {
    for (file, tools, made) in [
        (
            "gateway/Dockerfile",
            &["cargo", "rust", "clang", "cmake", "make"][..],
            "COPY --from=build /out/gateway /usr/local/bin/gateway",
        ),
        (
            "openclaw/Dockerfile",
            &["npm"],
            "COPY --from=build /usr/local/lib/node_modules/openclaw /usr/local/lib/node_modules/openclaw",
        ),
    ] {
        let text = shipped(file);
        let lines = text.lines().filter(|line| !line.trim().starts_with('#'));
        let text = lines.collect::<Vec<_>>().join("\n");
        let stages: Vec<_> = text.split("\nFROM ").skip(1).collect();
        let [build, .., image] = &*stages else {
            panic!("{file} has {} stages", stages.len());
        };
        let from = build.lines().next().unwrap_or_default();
        assert!(from.ends_with(" AS build"), "{file}: {from}");
        assert!(image.lines().any(|line| line == made), "{file}: {image}");
        let mut words = image.split_whitespace();
        let left = words.find(|word| tools.contains(word));
        assert_eq!(left, None, "{file}: {image}");
        let slim = image.lines().next().unwrap_or_default();
        assert!(slim.ends_with("-slim"), "{file}: {slim}");
    }
}

fn each_instance_is_alone_with_the_gateways(compose: &Value) {
    let service = |name: &str| &compose["services"][name];
    let workspaces = serde_json::json!("workspaces:/data/openclaw-users");
    for n in 1..=3 {
        let (instance, network) = (format!("openclaw-{n}"), format!("instance-{n}"));
        assert_eq!(
            names(&service(&instance)["networks"]),
            [network.as_str()].into()
        );
        assert_eq!(
            compose["networks"][&network]["internal"], true,
            "{network} leads nowhere"
        );
        let who = PARTS
            .into_iter()
            .filter(|name| names(&service(name)["networks"]).contains(network.as_str()));
        assert_eq!(
            who.collect::<Vec<_>>(),
            ["gateway-1", "gateway-2", instance.as_str()]
        );
        let secret = &service(&instance)["secrets"][0];
        assert_eq!(secret["source"], format!("openclaw_{n}_password"));
        assert_eq!(secret["target"], "openclaw_password");
    }
    for name in PARTS {
        let shares = service(name)["volumes"]
            .as_array()
            .is_some_and(|volumes| volumes.contains(&workspaces));
        assert_eq!(
            shares,
            name.starts_with("gateway-") || name.starts_with("openclaw-"),
            "{name}"
        );
    }
    for internal in ["store", "monitoring"] {
        assert_eq!(
            compose["networks"][internal]["internal"], true,
            "{internal}"
        );
    }
    let user = |file: &str| {
        let text = shipped(file);
        let line = text
            .lines()
            .find(|line| line.starts_with("ARG UID="))
            .map(str::to_owned);
        assert!(
            text.contains("\nUSER $UID:$UID\n") && line.is_some(),
            "{file}"
        );
        line
    };
    assert_eq!(
        user("gateway/Dockerfile"),
        user("openclaw/Dockerfile"),
        "whose files people's are"
    );
}

fn gateways_are_where_others_look_for_them(compose: &Value) {
    let toml = shipped("gateway/gateway.toml");
    let address = |name: &str| {
        let address = &compose["services"][name]["networks"]["front"]["ipv4_address"];
        address.as_str().expect("an address").to_owned()
    };
    assert!(toml.contains(&format!("trusted_proxies = [\"{}/32\"]", address("nginx"))));
    assert_ne!(address("gateway-1"), address("gateway-2"));
    let nginx = shipped("nginx/nginx.conf");
    for gateway in ["gateway-1", "gateway-2"] {
        assert!(
            nginx.contains(&format!("server {gateway}:3000 ")),
            "{gateway}"
        );
        assert!(
            shipped("prometheus/prometheus.yml").contains(&format!("{gateway}:3001")),
            "{gateway}"
        );
        for n in 1..=3 {
            let network = &compose["services"][gateway]["networks"][format!("instance-{n}")];
            assert_eq!(
                network["aliases"],
                serde_json::json!(["egress"]),
                "{gateway}"
            );
        }
        let volumes = compose["services"][gateway]["volumes"].to_string();
        assert!(
            volumes.contains(&format!("\"{gateway}:/var/lib/gateway\"")),
            "each has a ledger of its own: {volumes}"
        );
    }
    assert!(toml.contains("egress_url = \"http://egress:3002\""));
    assert!(
        !nginx.contains("3001") && !nginx.contains("3002"),
        "nginx leads neither to metrics nor to egress"
    );
}

#[tokio::test]
async fn grafana_finds_its_data_source_and_its_dashboards() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = |name: &str| dir.path().join(name);
    let source = yaml(
        &kit,
        &deploy("grafana/provisioning/datasources/prometheus.yml"),
        &log("source"),
    )
    .await?;
    assert_eq!(
        source["datasources"][0]["uid"], "prometheus",
        "as the dashboards have it"
    );
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let provider = yaml(
        &kit,
        &deploy("grafana/provisioning/dashboards/gateway.yml"),
        &log("provider"),
    )
    .await?;
    let path = provider["providers"][0]["options"]["path"]
        .as_str()
        .expect("a path");
    let mounted = format!("./grafana/dashboards:{path}:ro");
    assert!(shipped("compose.yaml").contains(&mounted), "{mounted}");
    let mut uids = BTreeSet::new();
    for dashboard in dashboards::shipped() {
        let uid = dashboard["uid"].as_str().expect("a uid").to_owned();
        assert!(uids.insert(uid), "each dashboard has a uid of its own");
    }
    assert_eq!(uids.len(), 6);
    Ok(())
}

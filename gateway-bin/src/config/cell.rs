//! What an instance says of whose it is.

use std::collections::BTreeMap;

use tower_workspace::DirectoryName;

use super::{ConfigError, Instance, InstanceMode, Secret};

/// Whether each cell has an owner, and each owner one cell.
pub(super) fn owners(instances: &[Instance]) -> Result<(), ConfigError> {
    let mut cells = BTreeMap::new();
    for instance in instances {
        let invalid = |problem: String| {
            let key = format!("instance.{}.user", instance.name);
            Err(ConfigError::invalid(key, problem))
        };
        let user = match (instance.mode, &instance.user) {
            (InstanceMode::Pool, None) => continue,
            (InstanceMode::Pool, Some(user)) => {
                return invalid(format!(
                    "is `{user}`, and a pool is nobody's own; with `mode = \"cell\"` it is"
                ));
            }
            (InstanceMode::Cell, None) => {
                return invalid("is missing; name the id of the user whose cell it is".to_owned());
            }
            (InstanceMode::Cell, Some(user)) => user,
        };
        if let Err(error) = DirectoryName::for_user(user) {
            return invalid(format!("is `{user}`, which can be nobody's id: {error}"));
        }
        if let Some(other) = cells.insert(&**user, &*instance.name) {
            return invalid(format!(
                "is `{user}`, whose cell is `{other}` already; somebody has one at most"
            ));
        }
    }
    Ok(())
}

/// Whether a cell has nothing that only pools have.
pub(super) fn of_pools(instance: &Instance) -> Result<(), ConfigError> {
    let is_cell = instance.mode == InstanceMode::Cell;
    let invalid = |field: &str, problem: &str| {
        let key = format!("instance.{}.{field}", instance.name);
        Err(ConfigError::invalid(key, problem))
    };
    match instance {
        Instance {
            sandbox_user: Some(_),
            ..
        } if is_cell => invalid(
            "sandbox_user",
            "is for pools, whose slots are users on the sandbox host; configure the sandbox in the cell itself",
        ),
        Instance {
            extended_chat_params: true,
            ..
        } if is_cell => invalid("extended_chat_params", "is for pools; remove it"),
        _ => Ok(()),
    }
}

/// Whether an instance can be reached with its password alone.
pub(super) fn password(
    instance: &Instance,
    is_loopback: bool,
    password: Option<&Secret>,
) -> Result<(), ConfigError> {
    let invalid = |field: &str, problem: &str| {
        let key = format!("instance.{}.{field}", instance.name);
        Err(ConfigError::invalid(key, problem))
    };
    if instance.mode == InstanceMode::Pool {
        return invalid(
            "auth.kind",
            "`password` is for cells; a shared instance must run in trusted-proxy mode",
        );
    }
    if password.is_none() {
        return invalid(
            "auth.password",
            "is missing; it is what the cell lets this gateway in by",
        );
    }
    if !is_loopback {
        return invalid(
            "auth.kind",
            "`password` is for a cell at a loopback address: to who comes from elsewhere OpenClaw allows nothing by it; \
             run the cell in trusted-proxy mode",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::is_loopback;

    const POOL: &str = r#"{ name = "pool", url = "http://127.0.0.1:1", auth = { kind = "trusted-proxy", password = "p" } }"#;
    const CELL: &str = r#"{ name = "cell", url = "http://127.0.0.1:2", mode = "cell", user = "alice", auth = { kind = "password", password = "p" } }"#;

    fn read(instances: &[&str]) -> Vec<Instance> {
        #[derive(serde::Deserialize)]
        struct Instances {
            instance: Vec<Instance>,
        }
        let text = format!("instance = [{}]", instances.join(", "));
        toml::from_str::<Instances>(&text).unwrap().instance
    }

    fn check(instances: &[&str]) -> Result<(), String> {
        let instances = read(instances);
        for instance in &instances {
            if let crate::config::InstanceAuth::Password { password: of, .. } = &instance.auth {
                let uri = instance.url.parse().unwrap();
                password(instance, is_loopback(&uri), of.as_ref())
                    .map_err(|error| error.to_string())?;
            }
        }
        owners(&instances).map_err(|error| error.to_string())
    }

    #[test]
    fn what_only_pools_have_is_refused() {
        for more in [
            "sandbox_user = \"sbx-{slot}\"",
            "extended_chat_params = true",
        ] {
            let with = |base: &str| read(&[&base.replacen("{ ", &format!("{{ {more}, "), 1)]);
            assert!(of_pools(&with(POOL)[0]).is_ok(), "{more}");
            let refused = of_pools(&with(CELL)[0]).unwrap_err().to_string();
            assert!(refused.contains("instance.cell."), "{refused}");
        }
    }

    #[test]
    fn a_cell_is_somebodys_and_a_pool_is_nobodys() {
        let proxied = CELL.replace("\"password\", password", "\"trusted-proxy\", password");
        assert_eq!(check(&[POOL, CELL]), Ok(()));
        assert_eq!(
            check(&[&proxied.replace("127.0.0.1", "100.64.0.7")]),
            Ok(())
        );
        let second = CELL.replace(
            "\"cell\", url = \"http://127.0.0.1:2",
            "\"other\", url = \"http://127.0.0.1:3",
        );
        let cell_of = |user: &str| CELL.replace("alice", user);
        for (instances, named) in [
            (
                vec![CELL.replace(", user = \"alice\"", "")],
                "`instance.cell.user`: is missing",
            ),
            (
                vec![CELL.replace("\"cell\", user", "\"pool\", user")],
                "for cells",
            ),
            (
                vec![POOL.replace(", auth", ", user = \"alice\", auth")],
                "`instance.pool.user`: is `alice`, and a pool",
            ),
            (
                vec![CELL.to_owned(), second],
                "`instance.other.user`: is `alice`, whose cell is `cell` already",
            ),
            (vec![cell_of("")], "can be nobody's id"),
            (
                vec![CELL.replace(", password = \"p\"", "")],
                "`instance.cell.auth.password`: is missing",
            ),
            (
                vec![CELL.replace("127.0.0.1", "100.64.0.7")],
                "`instance.cell.auth.kind`: `password` is for a cell at a loopback",
            ),
        ] {
            let instances: Vec<&str> = instances.iter().map(String::as_str).collect();
            let error = check(&instances).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_cell_has_one_place_whatever_its_capacity() {
        let instances = read(&[POOL, &CELL.replace(", auth", ", capacity = 7, auth")]);
        let places = instances.iter().map(|one| (one.places(), one.owner()));
        assert_eq!(
            places.collect::<Vec<_>>(),
            [(150, None), (1, Some("alice"))]
        );
    }
}

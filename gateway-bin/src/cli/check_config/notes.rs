//! What can be said of the file alone.

use crate::config::{Config, Instance, InstanceAuth, Metering, UnknownModel, is_loopback};

/// What somebody may expect of a configuration, and does not get.
pub(in crate::cli) fn notes(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    for instance in &config.instance {
        let name = &instance.name;
        let prices = &config.prices;
        let refuses = prices.unknown == UnknownModel::Refuse && prices.fallback.is_none();
        if refuses && instance.metering == Metering::Observed {
            notes.push(format!(
                "`prices.unknown = \"refuse\"`, the default, has no effect on instance {name}, which calls its models itself: one without a \
                 [[price]] is recorded without a cost, and limits of cost do not see it"
            ));
        }
    }
    notes.extend(forgeable(config));
    notes.extend(no_sandbox(config));
    notes
}

/// Where nobody gets a place, since everybody's tools are to run in a sandbox.
fn no_sandbox(config: &Config) -> Option<String> {
    if !config.workspace.require_sandbox {
        return None;
    }
    let without = config.instance.iter();
    let without = without.filter(|instance| instance.sandbox_user.is_none());
    let mut without: Vec<_> = without.map(|instance| &*instance.name).collect();
    without.extend(config.cells.as_ref().map(|_| "cells of [cells]"));
    (!without.is_empty()).then(|| {
        format!(
            "`workspace.require_sandbox` lets nobody work where there is no `sandbox_user`: {}",
            without.join(", ")
        )
    })
}

/// What the agent of a cell could do beside it, if it may run programs: whoever is on the host may name any user to an
/// instance that takes this gateway's word at a loopback address.
fn forgeable(config: &Config) -> Option<String> {
    let on_this_host = |instance: &&Instance| {
        let url: Option<http::Uri> = instance.url.parse().ok();
        url.is_some_and(|url| is_loopback(&url))
    };
    let proxied = |instance: &&Instance| matches!(instance.auth, InstanceAuth::TrustedProxy { .. });
    let mut here = config.instance.iter().filter(on_this_host);
    let cell = match here.find(|instance| instance.owner().is_some()) {
        Some(cell) => &*cell.name,
        None => config.cells.as_ref().map(|_| "of [cells]")?,
    };
    let mut here = config.instance.iter().filter(on_this_host);
    let other = here.find(|instance| proxied(instance))?;
    Some(format!(
        "cell {} is on this host, where {} believes whoever says who they are: unless the cell is in a network namespace of \
         its own, or its agent runs no programs, its person can pass for others there",
        cell, other.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBSERVED: &str = r#"
        server = { public = "127.0.0.1:8000", public_url = "http://127.0.0.1:8000" }
        workspace = { root = "/srv/workspaces" }
        [[instance]]
        name = "pool-1"
        url = "http://127.0.0.1:18789"
        metering = "observed"
        auth = { kind = "trusted-proxy", password = "secret" }
    "#;

    fn of(more: &str) -> Vec<String> {
        notes(&toml::from_str(&format!("{OBSERVED}{more}")).unwrap())
    }

    #[test]
    fn a_cell_beside_an_instance_that_believes_everybody_is_told_of() {
        let cell = |url: &str| {
            format!(
                "[[instance]]\nname = \"cell\"\nurl = \"{url}\"\nmode = \"cell\"\nuser = \"alice\"\n\
                 metering = \"observed\"\nauth = {{ kind = \"password\", password = \"p\" }}\n\
                 [prices]\nunknown = \"record\"\n"
            )
        };
        let notes = of(&cell("http://127.0.0.1:2"));
        assert!(notes.len() == 1 && notes[0].contains("pool-1"), "{notes:?}");
        assert_eq!(of(&cell("http://100.64.0.7:2")).len(), 0, "on another host");
    }

    #[test]
    fn where_everybody_needs_a_sandbox_those_that_have_none_are_named() {
        let table = |more: &str| format!("workspace = {{ root = \"/srv/workspaces\"{more} }}");
        let with = |file: &str| {
            let file = file.replace(&table(""), &table(", require_sandbox = true"));
            notes(&toml::from_str(&file).unwrap()).join("\n")
        };
        assert!(with(OBSERVED).contains("no `sandbox_user`: pool-1"));
        assert!(
            !notes(&toml::from_str(OBSERVED).unwrap())
                .join("")
                .contains("sandbox")
        );
        let has = OBSERVED.replace("metering", "sandbox_user = \"sbx-{slot}\"\nmetering");
        assert!(!with(&has).contains("sandbox"));
        let cells = format!("{has}[cells]\ncommand = \"openclaw\"\n");
        assert!(with(&cells).contains("no `sandbox_user`: cells of [cells]"));
    }

    #[test]
    fn refusing_models_without_a_price_is_said_to_mean_nothing_where_an_instance_calls_them_itself()
    {
        let notes = of("[prices]\nunknown = \"refuse\"\n");
        assert!(notes.len() == 1 && notes[0].contains("pool-1"), "{notes:?}");
        assert_eq!(of(""), notes, "it is the default");
        assert_eq!(of("[prices]\nunknown = \"record\"\n").len(), 0);
        assert_eq!(of("[prices]\nfallback = \"m-1\"\n").len(), 0);
    }
}

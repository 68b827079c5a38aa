//! Whether cells could be started.

use super::files::{Place, place_of_new, writable};
use super::report::Check;
use crate::cells::Settings;
use crate::config::Config;

/// Looks at program, rights, directory and ports, if the gateway starts cells at all.
pub(super) fn check(config: &Config) -> Vec<Check> {
    const KEY: &str = "cells";
    let settings = match Settings::new(config) {
        Ok(Some(settings)) => settings,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![Check::wrong(KEY, error.to_string())],
    };
    let mut checks = Vec::new();
    if let Err(error) = settings.check() {
        // The sentence begins with the key.
        let text = error.to_string();
        let (key, says) = text.split_once(": ").unwrap_or((KEY, &text));
        checks.push(Check::wrong(key, says));
    }
    let dir = &settings.dir;
    let place = match dir.is_dir() {
        true => writable(&dir.join("any")),
        false => place_of_new(dir),
    };
    if let Place::Bad(why) = place {
        let says = format!("{} cannot be used: {why}", dir.display());
        checks.push(Check::wrong("cells.dir", says));
    }
    if let Err(error) = crate::cells::find_free_port() {
        let says = format!("{error}; end what listens there (`ss -ltnp` says which)");
        checks.push(Check::wrong(KEY, says));
    }
    if checks.is_empty() {
        let command = settings.command.display();
        let says = format!(
            "{command} can be started, for {} people at the same time",
            settings.max
        );
        checks.push(Check::ok(KEY, says));
    }
    checks
}

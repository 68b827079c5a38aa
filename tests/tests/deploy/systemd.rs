//! systemd takes the unit, where there is a systemd to ask.

use std::{fs, io::ErrorKind, path::Path};

use tokio::process::Command;

use crate::shipped;

/// The name of the unit, which systemd puts before what it has to say.
const UNIT: &str = "gateway.service";

/// What `systemd-analyze verify` has to say of a unit; nothing where it is not installed.
async fn said_of(unit: &str, dir: &Path) -> Option<Vec<String>> {
    let file = dir.join(UNIT);
    fs::write(&file, unit).expect("a unit");
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).arg(&file);
    let output = match command.output().await {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => panic!("systemd-analyze: {error}"),
    };
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // Of what the unit needs it may say something as well, which is not ours. Its status is good for a key it does not know.
    let lines = said.lines().filter(|line| line.contains(UNIT));
    Some(lines.map(str::to_owned).collect())
}

#[tokio::test]
async fn systemd_has_nothing_to_say_against_the_unit() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let shipped = shipped("systemd/gateway.service");
    // It must be there, and is not installed where tests run.
    let program = "/usr/local/bin/gateway ";
    assert!(shipped.contains(program));
    let own = std::env::current_exe().expect("this test");
    let unit = shipped.replace(program, &format!("{} ", own.display()));
    let Some(said) = said_of(&unit, dir.path()).await else {
        println!("skipped: systemd-analyze is not here, the unit was not verified");
        return;
    };
    assert_eq!(said, Vec::<String>::new());
    for (old, new) in [
        ("UMask=0077", "UMask=0077\nProtectEverything=yes"),
        ("ProtectSystem=strict", "ProtectSystem=stricter"),
        ("TimeoutStopSec=90", "TimeoutStopSec=a while"),
        ("SystemCallFilter=@chown", "SystemCallFilter=@nonsense"),
        (program, "/usr/local/bin/nobody-has-this "),
    ] {
        let unit = if old == program { &shipped } else { &unit };
        assert!(unit.contains(old), "{old}");
        let said = said_of(&unit.replacen(old, new, 1), dir.path()).await;
        assert!(said.is_some_and(|said| !said.is_empty()), "{new}");
    }
}

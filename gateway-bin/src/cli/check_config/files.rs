//! Files that the configuration names: who may read the secrets in them, and whether others can be made.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::report::Check;
use crate::config::{Config, InstanceAuth};

/// Where container engines put the secrets of a container, which is alone with them whatever their mode.
const OF_CONTAINERS: &str = "/run/secrets";

/// Whether a file can be made somewhere.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Place {
    Good,
    /// Why not, and what to do.
    Bad(String),
}

/// Looks at the files that have secrets in them, the configuration itself among them.
pub(super) fn check(config: &Config, path: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut files = secret_files(config);
    if has_secrets_inside(config) {
        files.push(("the configuration file".to_owned(), path.to_owned()));
    }
    for (key, file) in files {
        if !file.starts_with(OF_CONTAINERS) && everybody_reads(&file) {
            let shown = file.display();
            checks.push(Check::note(
                key,
                format!("everybody on this host can read {shown}: `chmod o-r {shown}` changes it"),
            ));
        }
    }
    if let Some(lines) = &config.usage.json_lines {
        let shown = lines.display();
        checks.extend(match writable(lines) {
            Place::Good => None,
            Place::Bad(why) => Some(Check::wrong(
                "usage.json_lines",
                format!("{shown} cannot be written: {why}"),
            )),
        });
    }
    checks
}

/// Keys and files.
fn secret_files(config: &Config) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    let mut add = |key: String, file: &Option<PathBuf>| {
        files.extend(file.clone().map(|file| (key, file)));
    };
    for issuer in &config.issuer {
        let key = format!("issuer.{}.client_secret_file", issuer.alias);
        add(key, &issuer.client_secret_file);
    }
    let (store, session, alerts) = (&config.store, &config.session, &config.alerts);
    for (key, file) in [
        ("store.database_url_file", &store.database_url_file),
        ("store.redis_url_file", &store.redis_url_file),
        ("session.store_url_file", &session.store_url_file),
        ("session.key_file", &session.key_file),
        (
            "workspace.master_key_file",
            &config.workspace.master_key_file,
        ),
        ("alerts.webhook_url_file", &alerts.webhook_url_file),
        ("alerts.webhook_secret_file", &alerts.webhook_secret_file),
    ] {
        add(key.to_owned(), file);
    }
    if let Some(tls) = &config.server.tls {
        add("server.tls.key".to_owned(), &Some(tls.key.clone()));
    }
    for provider in &config.provider {
        add(
            format!("provider.{}.api_key_file", provider.name),
            &provider.api_key_file,
        );
    }
    for instance in &config.instance {
        let (InstanceAuth::TrustedProxy { password_file, .. }
        | InstanceAuth::Password { password_file, .. }) = &instance.auth;
        let key = format!("instance.{}.auth.password_file", instance.name);
        add(key, password_file);
    }
    files
}

/// Whether a secret stands in the configuration itself.
fn has_secrets_inside(config: &Config) -> bool {
    let (store, session, alerts) = (&config.store, &config.session, &config.alerts);
    let pairs = [
        (store.database_url.is_some(), &store.database_url_file),
        (store.redis_url.is_some(), &store.redis_url_file),
        (session.store_url.is_some(), &session.store_url_file),
        (session.key.is_some(), &session.key_file),
        (alerts.webhook_url.is_some(), &alerts.webhook_url_file),
        (alerts.webhook_secret.is_some(), &alerts.webhook_secret_file),
    ];
    let inside = |(there, file): &(bool, &Option<PathBuf>)| *there && file.is_none();
    let issuers = config.issuer.iter();
    let issuers = issuers.map(|one| (one.client_secret.is_some(), &one.client_secret_file));
    let providers = config.provider.iter();
    let providers = providers.map(|one| (one.api_key.is_some(), &one.api_key_file));
    let instances = config.instance.iter().map(|one| {
        let (InstanceAuth::TrustedProxy {
            password,
            password_file,
            ..
        }
        | InstanceAuth::Password {
            password,
            password_file,
        }) = &one.auth;
        (password.is_some(), password_file)
    });
    let mut all = pairs
        .into_iter()
        .chain(issuers)
        .chain(providers)
        .chain(instances);
    all.any(|pair| inside(&pair))
}

/// Whether everybody can read a file: by its mode, and by those of the directories above it.
fn everybody_reads(file: &Path) -> bool {
    const READ: u32 = 0o004;
    const ENTER: u32 = 0o001;

    let Ok(file) = file.canonicalize() else {
        return false;
    };
    let has = |path: &Path, bit: u32| path.metadata().is_ok_and(|is| is.mode() & bit != 0);
    has(&file, READ) && file.ancestors().skip(1).all(|dir| has(dir, ENTER))
}

/// Whether a file can be written, or made if it is not there.
pub(super) fn writable(file: &Path) -> Place {
    match file.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => place_of_new(file),
        Err(error) => Place::Bad(error.to_string()),
        Ok(is) if is.is_dir() => Place::Bad("it is a directory; name a file".to_owned()),
        Ok(_) => may(file, Access::READ_OK | Access::WRITE_OK, file),
    }
}

/// Whether there can be a new file, or a new directory.
pub(super) fn place_of_new(file: &Path) -> Place {
    let parent = match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    match parent.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let shown = parent.display();
            Place::Bad(format!(
                "there is no directory {shown}; `mkdir -p {shown}` makes it"
            ))
        }
        Err(error) => Place::Bad(format!("{}: {error}", parent.display())),
        Ok(is) if !is.is_dir() => Place::Bad(format!("{} is not a directory", parent.display())),
        Ok(_) => may(parent, Access::WRITE_OK | Access::EXEC_OK, parent),
    }
}

fn may(path: &Path, right: Access, named: &Path) -> Place {
    match access(path, right) {
        Ok(()) => Place::Good,
        Err(errno) => {
            let shown = named.display();
            Place::Bad(format!(
                "{shown}: {}; give it to whoever the gateway runs as (`chown`), or run this as them",
                io::Error::from(errno)
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_everybodys_only_where_everybody_gets_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        fs::write(&file, "x").unwrap();
        let mode =
            |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        mode(&file, 0o644);
        mode(dir.path(), 0o700);
        assert!(!everybody_reads(&file));
        mode(dir.path(), 0o711);
        assert!(everybody_reads(&file));
        mode(&file, 0o640);
        assert!(!everybody_reads(&file));
        assert!(!everybody_reads(&dir.path().join("none")));
    }

    #[test]
    fn where_nothing_can_be_made_it_is_said_why() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gateway.db");
        assert_eq!(writable(&file), Place::Good);
        assert!(matches!(writable(dir.path()), Place::Bad(_)));
        assert!(
            matches!(writable(&dir.path().join("a/b")), Place::Bad(why) if why.contains("mkdir -p"))
        );
        fs::write(&file, "").unwrap();
        assert_eq!(writable(&file), Place::Good);
        assert!(matches!(writable(&file.join("x")), Place::Bad(_)));
    }

    #[test]
    fn secrets_in_the_file_itself_are_seen() {
        let config = |key: &str| -> Config {
            toml::from_str(&format!(
                "server = {{ public = \"127.0.0.1:1\", public_url = \"http://127.0.0.1:1\" }}\nworkspace = {{ root = \"/srv\" }}\n\
                 [[provider]]\nname = \"p\"\nkind = \"openai\"\nbase_url = \"https://a.example\"\nmodels = []\n{key}\n"
            ))
            .unwrap()
        };
        assert!(has_secrets_inside(&config("api_key = \"x\"")));
        let named = config("api_key_file = \"/none\"");
        assert!(!has_secrets_inside(&named));
        assert_eq!(
            secret_files(&named),
            [("provider.p.api_key_file".to_owned(), PathBuf::from("/none"))]
        );
    }
}

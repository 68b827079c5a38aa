//! Where the gateway listens, and what it calls itself.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Uri;
use rustix::process::{Resource, getrlimit};

use super::files::{Place, place_of_new};
use super::report::Check;
use super::running::Running;
use crate::api::rfc3339;
use crate::clock;
use crate::config::{Config, Server, is_loopback};
use crate::server::Certificate;

const SOCKET: &str = "server.socket";

/// Fewer open files than this are fewer sockets than people expect: each takes two, one to the client and one to the
/// instance.
const FEW_FILES: u64 = 4_096;

/// Certificates are renewed a month before they end, or when a third of their life is left; later it should not be.
const SOON: Duration = Duration::from_secs(14 * 24 * 3_600);

/// What the file says of itself.
pub(super) fn sane(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    let server = &config.server;
    let uri: Option<Uri> = server.public_url.parse().ok();
    let is_https = uri
        .as_ref()
        .is_some_and(|uri| uri.scheme_str() == Some("https"));
    let is_local = uri.as_ref().is_some_and(is_loopback);
    let signs_in = config
        .issuer
        .iter()
        .any(|issuer| issuer.client_id.is_some());
    if !is_https && !is_local && signs_in {
        checks.push(Check::wrong(
            "server.public_url",
            "is http: browsers keep no sign-in there; put nginx with a certificate before the gateway, or name one in \
             `server.tls`, and write https://",
        ));
    }
    if is_https && server.tls.is_none() && server.trusted_proxies.is_empty() {
        checks.push(Check::note(
            "server.trusted_proxies",
            "is empty, although `public_url` is https and the listener is not, so that it is behind a proxy: name the proxy's address, or everybody seems to \
             come from there and shares one pace of signing in",
        ));
    }
    if let (Some(egress), None) = (server.egress, &server.egress_url)
        && egress.ip().is_unspecified()
    {
        checks.push(Check::wrong(
            "server.egress_url",
            format!(
                "is missing, so that instances would be told to call models at http://{egress}, which leads nowhere: name \
                 the URL by which they reach it"
            ),
        ));
    }
    if let Some(tls) = &server.tls
        && let Some(read) = &tls.certificate
    {
        checks.push(certificate(read, server, &tls.cert, clock::now()));
    }
    checks
}

/// Whether browsers take a certificate, as far as it says so itself.
fn certificate(certificate: &Certificate, server: &Server, file: &Path, now: SystemTime) -> Check {
    const ABOUT: &str = "server.tls.cert";
    let file = file.display();
    if let Some(problem) = certificate.problem(&server.public_url, now) {
        return Check::wrong(ABOUT, format!("{file} {problem}; browsers refuse it"));
    }
    let end = UNIX_EPOCH + certificate.not_after();
    let shown = rfc3339(end);
    match end.duration_since(now) {
        Ok(left) if left > SOON => Check::ok(
            ABOUT,
            format!("is for {}, until {shown}", server.public_url),
        ),
        _ => Check::note(
            ABOUT,
            format!(
                "{file} ends at {shown}: see to it that it is renewed, and that the gateway is reloaded then"
            ),
        ),
    }
}

/// Whether there is room for the listeners.
pub(super) fn free(config: &Config, running: Option<&Running>) -> Vec<Check> {
    let server = &config.server;
    let addresses = [
        ("server.public", Some(server.public)),
        ("server.egress", server.egress),
        ("server.admin", server.admin),
    ];
    let addresses = addresses
        .into_iter()
        .filter_map(|(key, address)| Some((key, address?)));
    let mut checks: Vec<Check> = addresses
        .map(|(key, address)| listener(key, address, running))
        .collect();
    match socket(&config.socket(), running) {
        Ok(check) => checks.push(check),
        // Else it is beside the SQLite file, of which the same is said.
        Err(why) if server.socket.is_some() => checks.push(Check::wrong(SOCKET, why)),
        Err(_) => {}
    }
    let files = getrlimit(Resource::Nofile).current;
    if let Some(limit) = files.filter(|limit| *limit < FEW_FILES) {
        checks.push(Check::note(
            "open files",
            format!(
                "{limit} are allowed here, room for about {} sockets: raise the limit where the gateway is started \
                 (`LimitNOFILE=` of systemd, `ulimits` of Compose, `ulimit -n`)",
                limit / 2
            ),
        ));
    }
    checks
}

fn listener(key: &str, address: SocketAddr, running: Option<&Running>) -> Check {
    if let Some(running) = running.filter(|running| running.listens_on(address)) {
        return Check::ok(
            key,
            format!(
                "the gateway that runs, process {}, listens on {address}",
                running.process
            ),
        );
    }
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(key, format!("{address} is free")),
        Err(error) => Check::wrong(key, taken(address, &error)),
    }
}

fn taken(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{address} is taken by another process: stop it (`ss -ltnp` says which), or name another port"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "this host has no address {}: name one that it has, or 0.0.0.0",
                address.ip()
            )
        }
        io::ErrorKind::PermissionDenied => format!(
            "port {} is for root alone: name one above 1023, and let nginx listen there",
            address.port()
        ),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

/// The operators' socket; an error says why there is no place for one.
fn socket(path: &Path, running: Option<&Running>) -> Result<Check, String> {
    let shown = path.display();
    if let Some(running) = running {
        let says = format!(
            "the gateway that runs, process {}, listens on {shown}",
            running.process
        );
        return Ok(Check::ok(SOCKET, says));
    }
    match path.symlink_metadata() {
        Ok(file) if !file.file_type().is_socket() => Ok(Check::wrong(
            SOCKET,
            format!("{shown} is there and is not a socket: move it away, or name another path"),
        )),
        // Left by one that was killed, or of somebody else whom we may not ask.
        Ok(_) => Ok(Check::ok(SOCKET, format!("no gateway answers at {shown}"))),
        Err(_) => match place_of_new(path) {
            Place::Good => Ok(Check::ok(SOCKET, format!("{shown} can be made"))),
            Place::Bad(why) => Err(format!("{shown} cannot be made: {why}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    fn of(server: &str) -> Vec<(State, String)> {
        let text = format!(
            "server = {{ {server} }}\nworkspace = {{ root = \"/srv\" }}\n\
             [[issuer]]\nalias = \"corp\"\nurl = \"https://a.example\"\nclient_id = \"c\"\n"
        );
        let checks = sane(&toml::from_str(&text).unwrap()).into_iter();
        checks.map(|check| (check.state, check.about)).collect()
    }

    #[test]
    fn what_the_gateway_calls_itself_must_be_of_use() {
        let said = |state, about: &str| vec![(state, about.to_owned())];
        let public = "public = \"127.0.0.1:1\", public_url =";
        assert_eq!(of(&format!("{public} \"http://127.0.0.1:1\"")), vec![]);
        assert_eq!(
            of(&format!("{public} \"http://a.example\"")),
            said(State::Wrong, "server.public_url")
        );
        assert_eq!(
            of(&format!("{public} \"https://a.example\"")),
            said(State::Note, "server.trusted_proxies")
        );
        let behind = format!("{public} \"https://a.example\", trusted_proxies = [\"10.0.0.1\"]");
        assert_eq!(of(&behind), vec![]);
        let anywhere = format!("{behind}, egress = \"0.0.0.0:2\"");
        assert_eq!(of(&anywhere), said(State::Wrong, "server.egress_url"));
        assert_eq!(
            of(&format!("{anywhere}, egress_url = \"http://egress:2\"")),
            vec![]
        );
    }

    #[test]
    fn a_port_is_free_taken_or_the_gateways_own() {
        let listener_there = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener_there.local_addr().unwrap();
        let check = listener("server.public", address, None);
        assert_eq!(check.state, State::Wrong);
        assert!(
            check.says.contains("taken by another process"),
            "{}",
            check.says
        );
        drop(listener_there);
        assert_eq!(listener("server.public", address, None).state, State::Ok);
        let nowhere = SocketAddr::from(([192, 0, 2, 1], 1));
        let check = listener("server.public", nowhere, None);
        assert!(
            check.says.contains("no address 192.0.2.1"),
            "{}",
            check.says
        );
    }

    #[test]
    fn a_socket_needs_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.sock");
        assert_eq!(socket(&path, None).unwrap().state, State::Ok);
        std::fs::write(&path, "").unwrap();
        assert_eq!(socket(&path, None).unwrap().state, State::Wrong);
        let nowhere = socket(&dir.path().join("none/gateway.sock"), None);
        assert!(nowhere.unwrap_err().contains("mkdir"));
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is made"
        );
    }
}

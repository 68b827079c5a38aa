//! The pages of the provider: no scripts, one button for each person.

use std::fmt::Write;

use super::{ACCOUNTS, Authorize};

/// What the pages may load and where their forms may go: the answer to a choice leads back to a client on loopback.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self' http://127.0.0.1:* http://localhost:*";

const STYLE: &str = "body{font:16px system-ui;max-width:34rem;margin:4rem auto;padding:0 1rem}button{font:inherit;\
padding:.6rem 1.2rem;margin:.2rem;cursor:pointer}code,pre{background:#8882;padding:.1rem .3rem}pre{overflow:auto;padding:.6rem}";

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{body}"
    )
}

/// Whoever comes here without a client.
pub(super) fn home(gateway: &str) -> String {
    let mut lines = String::new();
    for account in ACCOUNTS {
        // Writing to a String does not fail.
        let _ = writeln!(
            lines,
            "gateway chat --url {} --token-file {account}.token \"hello\"",
            escape(gateway)
        );
    }
    page(
        "Demo sign-in",
        &format!(
            "<p>This is the OpenID provider of <code>gateway dev</code>. It knows three people, alice, bob and admin, \
             asks nobody for a password, and is for this machine only.</p><p>Their tokens are in files beside the \
             configuration, as <code>gateway dev</code> has printed:</p><pre>{lines}</pre>"
        ),
    )
}

/// Somebody is to be chosen for a client.
pub(super) fn sign_in(request: &Authorize) -> String {
    let mut form = String::new();
    for (name, value) in [
        ("response_type", Some(&request.response_type)),
        ("client_id", Some(&request.client_id)),
        ("redirect_uri", Some(&request.redirect_uri)),
        ("state", request.state.as_ref()),
        ("nonce", request.nonce.as_ref()),
        ("code_challenge", Some(&request.code_challenge)),
        (
            "code_challenge_method",
            Some(&request.code_challenge_method),
        ),
    ] {
        if let Some(value) = value {
            let _ = write!(
                form,
                "<input type=hidden name={name} value=\"{}\">",
                escape(value)
            );
        }
    }
    for account in ACCOUNTS {
        let _ = write!(
            form,
            "<button name=account value={account}>{account}</button>"
        );
    }
    page(
        "Who are you?",
        &format!(
            "<p>A demo: choose anybody, there are no passwords.</p><form method=post action=/authorize>{form}</form>"
        ),
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
pub(super) fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

//! What a client says of itself by HTTP/2, where a header may hold what none of HTTP/1.1 can, ends at nginx.

use std::time::Duration;

use gateway_tests::{
    error::{Error, Result},
    nginx::Nginx,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::headers::{FORGED, Recorder};

const PATIENCE: Duration = Duration::from_secs(20);

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

type Field = (&'static str, &'static str);

/// Of any request.
const OWN: [Field; 4] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/api/user/info"),
];

/// Requests that are well-formed: they get through, without what names somebody.
const WELL_FORMED: [&[Field]; 6] = [
    &[],
    &[("x-user-id", "mallory")],
    &[("x-user-id", "mallory"), ("x-user-id", "mallory ")],
    &[
        ("x_user_id", "mallory"),
        ("x-user_id", "mallory"),
        ("x_forwarded_for", "203.0.113.66"),
    ],
    &[
        ("x-forwarded-for", "203.0.113.66"),
        ("x-forwarded-for", "203.0.113.66, 203.0.113.66"),
        ("x-real-ip", "203.0.113.66"),
        ("forwarded", "for=203.0.113.66"),
        ("x-forwarded-host", "mallory"),
        ("x-forwarded-proto", "mallory"),
    ],
    &[
        ("x-forwarded-user", "mallory"),
        ("x-auth-request-user", "mallory"),
        ("x-openclaw-session-key", "mallory"),
        ("remote-user", "mallory"),
    ],
];

/// Requests that are not (sections 8.2, 8.3): whatever becomes of them.
const ILL_FORMED: [&[Field]; 14] = [
    &[("X-User-Id", "mallory")],
    &[("X-USER-ID", "mallory")],
    &[("x-user-id ", "mallory")],
    &[(" x-user-id", "mallory")],
    &[("x-user-id\t", "mallory")],
    &[("x-user-id:", "mallory")],
    &[(":x-user-id", "mallory")],
    &[("a", "b\r\nx-user-id: mallory")],
    &[("a", "b\nx-user-id: mallory")],
    &[("a: b\r\nx-user-id", "mallory")],
    &[("", "mallory")],
    &[("connection", "x-forwarded-for"), ("x-user-id", "mallory")],
    &[("transfer-encoding", "chunked"), ("x-user-id", "mallory")],
    &[(":path", "/ws HTTP/1.1\r\nx-user-id: mallory\r\na: b")],
];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// RFC 7541, section 6.2.2: each field as it is, in no table.
fn block(fields: impl IntoIterator<Item = Field>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a length of one byte");
            block.push(u8::try_from(text.len()).expect("a short text"));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// Makes a request, and waits until something has become of it.
async fn ask(nginx: &Nginx, fields: impl IntoIterator<Item = Field>) -> Result<()> {
    let mut stream = nginx.tls(&["h2"])?.connect().await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut request = PREFACE.to_vec();
    request.extend(frame(SETTINGS, 0, 0, &[]));
    request.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields)));
    stream.write_all(&request).await.expect("it is sent");
    let answered = async {
        loop {
            let mut head = [0; 9];
            // Hung up on.
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            if stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            let is_last = matches!(head[3], DATA | HEADERS) && head[4] & END_STREAM != 0;
            if is_last || matches!(head[3], RST_STREAM | GOAWAY) {
                return;
            }
        }
    };
    let late = |_| Error::Late(PATIENCE, "an answer by HTTP/2".to_owned());
    timeout(PATIENCE, answered).await.map_err(late)
}

#[tokio::test]
async fn d2_21_d2_23_what_names_somebody_ends_at_nginx_by_http_2_as_well() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let recorder = Recorder::start().await;
    let nginx = Nginx::start(dir.path(), [recorder.address, recorder.address]).await?;
    for (forgeries, gets_through) in [(&WELL_FORMED[..], true), (&ILL_FORMED[..], false)] {
        for forgery in forgeries {
            let own = OWN.into_iter();
            // A field of theirs stands for ours, and pseudo-header fields are first.
            let own = own.filter(|(name, _)| !forgery.iter().any(|(theirs, _)| theirs == name));
            ask(&nginx, own.chain(forgery.iter().copied())).await?;
            let heads = recorder.take();
            assert!(heads.len() <= 1, "{forgery:?} became several: {heads:?}");
            if gets_through {
                assert_eq!(heads.len(), 1, "{forgery:?}");
            }
            for head in heads {
                for forged in FORGED {
                    assert!(!head.contains(forged), "{forgery:?}: {head}");
                }
                let mut lines = head.lines();
                let from = lines.find(|line| line.starts_with("x-forwarded-for:"));
                assert_eq!(
                    from,
                    Some("x-forwarded-for: 127.0.0.1"),
                    "{forgery:?}: {head}"
                );
            }
        }
    }
    Ok(())
}

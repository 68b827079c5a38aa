use http::header::UPGRADE;
use http::{Method, Request, Uri};

/// Sends the page's own socket, which it opens where it lies itself, to where sockets are.
#[must_use]
pub fn page_socket<B>(mut request: Request<B>) -> Request<B> {
    let upgrade = request.headers().get(UPGRADE);
    let is_socket = request.method() == Method::GET
        && request.uri().path() == "/"
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if is_socket {
        *request.uri_mut() = Uri::from_static("/ws");
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_upgrade_of_the_page_itself_is_its_socket() {
        let path = |method: &str, uri: &str, upgrade: &str| {
            let request = Request::builder().method(method).uri(uri);
            let request = request.header("upgrade", upgrade).body(()).unwrap();
            page_socket(request).uri().to_string()
        };
        assert_eq!(path("GET", "/", "websocket"), "/ws");
        assert_eq!(path("GET", "/?token=x", "WebSocket"), "/ws");
        for (method, uri, upgrade) in [
            ("POST", "/", "websocket"),
            ("GET", "/", "h2c"),
            ("GET", "/", "websocket, h2c"),
            ("GET", "/chat/x", "websocket"),
            ("GET", "//", "websocket"),
        ] {
            assert_eq!(path(method, uri, upgrade), uri);
        }
    }
}

use http::{
    HeaderMap,
    header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue},
};

/// Whether a browser asks for something to show, as opposed to a script, a socket or a program.
///
/// Browsers say so in `Sec-Fetch-Mode`, which scripts cannot set; where it is absent, `Accept` names
/// HTML. A request that brings a credential of its own in `Authorization` is a program's.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    if headers.contains_key(AUTHORIZATION) {
        return false;
    }
    match headers.get(FETCH_MODE) {
        Some(mode) => mode == HeaderValue::from_static("navigate"),
        None => accepts(headers, "text/html"),
    }
}

/// Whether JSON is wanted rather than a redirect that a script could not follow.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    match headers.get(FETCH_MODE) {
        Some(mode) => mode != HeaderValue::from_static("navigate"),
        None => accepts(headers, "application/json") && !accepts(headers, "text/html"),
    }
}

/// What a browser says of how far away the page is that a request comes from.
pub(super) const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case(media_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn d7_66_only_navigations_are_shown_pages() {
        for (pairs, page, json) in [
            (
                &[("sec-fetch-mode", "navigate"), ("accept", "*/*")][..],
                true,
                false,
            ),
            (
                &[("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")],
                true,
                false,
            ),
            (&[("accept", "TEXT/HTML;q=1")], true, false),
            (
                &[("sec-fetch-mode", "cors"), ("accept", "text/html")],
                false,
                true,
            ),
            (
                &[("sec-fetch-mode", "same-origin"), ("accept", "*/*")],
                false,
                true,
            ),
            (&[("sec-fetch-mode", "websocket")], false, true),
            (&[("accept", "*/*")], false, false),
            (&[("accept", "application/json")], false, true),
            (
                &[("accept", "application/json, text/plain, */*")],
                false,
                true,
            ),
            (&[("accept", "text/htmlx")], false, false),
            (
                &[("accept", "text/html"), ("authorization", "Bearer x")],
                false,
                false,
            ),
            (&[], false, false),
        ] {
            assert_eq!(wants_page(&headers(pairs)), page, "{pairs:?}");
            assert_eq!(wants_json(&headers(pairs)), json, "{pairs:?}");
        }
    }
}

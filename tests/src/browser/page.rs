//! The pages of the issuer, and how they are asked for.

use http::header;

/// What a browser says of a page that it opens in a tab.
pub(super) fn navigation(request: http::request::Builder, site: &str) -> http::request::Builder {
    request
        .header(header::ACCEPT, "text/html,*/*;q=0.8")
        .header("sec-fetch-site", site)
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .header("sec-fetch-user", "?1")
}

/// The issuer's pages are one form each, told apart by a hidden field.
pub(super) fn form(page: &str, account: &str) -> Option<(String, String)> {
    let (_, rest) = page.split_once("action=\"")?;
    let (action, rest) = rest.split_once('"')?;
    let hidden = |name: &str| {
        let (_, rest) = rest.split_once(&format!("name=\"{name}\" value=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let body = match (hidden("prompt"), hidden("xsrf")) {
        (Some("login"), _) => format!("prompt=login&login={account}&password=any"),
        (Some("consent"), _) => "prompt=consent".to_owned(),
        (None, Some(secret)) => format!("xsrf={secret}&logout=yes"),
        _ => return None,
    };
    Some((action.to_owned(), body))
}

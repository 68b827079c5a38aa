//! The browser of the kit, at real gateways: somebody signs in, and what that browser has is good at each of several.

#![expect(
    clippy::indexing_slicing,
    reason = "reading a JSON value by name answers null where there is nothing"
)]

use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    secret,
};
use http::{Method, StatusCode};

async fn who_at(browser: &mut Browser, gateway: &Gateway) -> Result<(StatusCode, String)> {
    let url = gateway.url("/api/user/info");
    let answer = browser.fetch(Method::GET, &url, "").await?;
    let user = answer.json()?["user_id"].as_str().map(str::to_owned);
    Ok((answer.status, user.unwrap_or_default()))
}

#[tokio::test]
async fn who_signs_in_at_one_gateway_is_known_at_another_with_the_same_sessions() -> Result<()> {
    let kit = Kit::from_env()?;
    for store in [kit.redis.clone(), kit.database().await?] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let other = tempfile::tempdir().expect("a temporary directory");
        let config = Config::new(&kit, dir.path())?.sharing_sessions(&store)?;
        let replica = config.replica(other.path())?;
        let (one, two) = tokio::try_join!(
            Gateway::start(config, dir.path()),
            Gateway::start(replica, other.path()),
        )?;

        let account = secret::mark()?;
        let mut browser = Browser::new();
        let refused = who_at(&mut browser, &one).await?;
        assert_eq!(refused.0, StatusCode::UNAUTHORIZED);
        let end = browser
            .sign_in_for(&one, &account, "/api/user/info?a=b")
            .await?;
        assert_eq!(end, one.url("/api/user/info?a=b"));
        assert!(browser.cookie(&one.url("/"), "__Host-session")?.is_some());
        let known = (StatusCode::OK, account);
        assert_eq!(who_at(&mut browser, &one).await?, known);

        browser.share_cookies(&one.url("/"), &two.url("/"))?;
        assert_eq!(who_at(&mut browser, &two).await?, known);
    }
    Ok(())
}

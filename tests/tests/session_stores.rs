//! The store of sessions changes, or loses everything: what must not be lost with it.

use ::http::{Method, StatusCode};
use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
};

#[tokio::test]
async fn who_is_disabled_stays_so_whatever_becomes_of_the_sessions() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::new(&kit, dir.path())?;
    let mut gateway = Gateway::start(config.clone(), dir.path()).await?;
    let mut rupert = Browser::new();
    rupert.sign_in_at(&gateway, "sign-in-rupert").await?;
    let mut admin = Browser::new();
    admin.sign_in_at(&gateway, "admin").await?;
    let answer = |path: &str| gateway.url(&format!("/api/admin/users/sign-in-rupert/{path}"));
    let (disable, enable) = (answer("disable"), answer("enable"));
    let disabled = admin.fetch(Method::POST, &disable, "").await?;
    assert_eq!(disabled.status, StatusCode::NO_CONTENT);
    gateway.kill().await?;

    // The same gateway with sessions elsewhere, where nobody knows of him.
    let moved = config.clone().sharing_sessions(&kit.database().await?)?;
    let mut gateway = Gateway::start(moved.clone(), dir.path()).await?;
    let token = kit.issuer().token("sign-in-rupert").await?;
    let info = gateway.url("/api/user/info");
    let refused = http::get(&info, Some(&token)).await?;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);

    // That he is enabled again is not forgotten either, also not by a gateway that was away.
    let mut admin = Browser::new();
    admin.sign_in_at(&gateway, "admin").await?;
    let replica_dir = tempfile::tempdir().expect("a temporary directory");
    let replica = moved.replica(replica_dir.path())?;
    let mut other = Gateway::start(replica, replica_dir.path()).await?;
    other.kill().await?;
    let enabled = admin.fetch(Method::POST, &enable, "").await?;
    assert_eq!(enabled.status, StatusCode::NO_CONTENT);
    other.start_again().await?;
    gateway.restart().await?;
    http::get(&info, Some(&token))
        .await?
        .expect_status(StatusCode::OK)?;
    Ok(())
}

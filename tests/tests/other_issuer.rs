//! The second issuer: that it says what it is told to say.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway_tests::{error::Result, http, kit::Kit, other_issuer::OtherIssuer};
use serde_json::{Value, json};

fn part(token: &Value, index: usize) -> Value {
    let part = token.as_str().unwrap_or_default().split('.').nth(index);
    let json = URL_SAFE_NO_PAD.decode(part.unwrap_or_default());
    serde_json::from_slice(&json.unwrap_or_default()).unwrap_or_default()
}

async fn redeem(issuer: &OtherIssuer, nonce: &str) -> Result<Value> {
    let start = format!(
        "{}/authorize?response_type=code&client_id=c&redirect_uri=http://127.0.0.1:1/auth/callback\
         &state=s&nonce={nonce}",
        issuer.url()
    );
    let back = http::get(&start, None).await?;
    let back = back.header("location").unwrap_or_default().to_owned();
    assert!(back.contains("state=s"), "{back}");
    let code = back.split_once("code=").map(|(_, rest)| rest);
    let code = code.and_then(|rest| rest.split('&').next());
    let form = format!(
        "grant_type=authorization_code&client_id=c&code={}",
        code.unwrap_or_default()
    );
    let request = ::http::Request::post(format!("{}/token", issuer.url()))
        .header("content-type", "application/x-www-form-urlencoded");
    http::send(request, form).await?.json()
}

#[tokio::test]
async fn it_says_what_it_is_told_to_say() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let issuer = OtherIssuer::start(&Kit::from_env()?.install, dir.path()).await?;
    let tokens = redeem(&issuer, "n-1").await?;
    let claims = part(&tokens["id_token"], 1);
    assert_eq!(
        (&claims["iss"], &claims["aud"], &claims["nonce"]),
        (&json!(issuer.url()), &json!("c"), &json!("n-1")),
        "{claims}"
    );

    issuer
        .change("id_token", &json!({"nonce": "other", "iat": null}))
        .await?;
    issuer.change("token", &json!({"expires_in": 2})).await?;
    let tokens = redeem(&issuer, "n-2").await?;
    let claims = part(&tokens["id_token"], 1);
    assert_eq!(claims["nonce"], "other");
    assert_eq!(claims.get("iat"), None);
    assert_eq!(tokens["expires_in"], 2);
    assert_eq!(part(&tokens["access_token"], 1)["sub"], "johndoe");

    issuer.fail("userinfo", 500, &json!({"sub": 7})).await?;
    let me = http::get(&format!("{}/userinfo", issuer.url()), Some("x")).await?;
    assert_eq!((me.status.as_u16(), me.json()?), (500, json!({"sub": 7})));
    let requests = issuer.requests().await?;
    assert_eq!(
        requests.iter().filter(|one| one.path == "/token").count(),
        2
    );
    Ok(())
}

#[tokio::test]
async fn it_signs_anything_by_any_algorithm_and_publishes_the_key() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let issuer = OtherIssuer::start(&Kit::from_env()?.install, dir.path()).await?;
    for alg in ["RS256", "PS256", "ES256", "EdDSA"] {
        let claims = json!({"iss": "somebody", "exp": "text"});
        let token = json!(issuer.mint(alg, &json!({"x": 1}), &claims).await?);
        assert_eq!(part(&token, 1), claims);
        let header = part(&token, 0);
        assert_eq!(
            (&header["alg"], &header["x"]),
            (&json!(alg), &json!(1)),
            "{header}"
        );
        let keys = http::get(&format!("{}/jwks", issuer.url()), None).await?;
        let keys = keys.json()?["keys"].clone();
        let known = keys.as_array().into_iter().flatten();
        assert_eq!(known.filter(|key| key["kid"] == header["kid"]).count(), 1);
        assert!(!keys.to_string().contains("\"d\""), "{keys}");
    }
    Ok(())
}

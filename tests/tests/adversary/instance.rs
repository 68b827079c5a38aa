//! The second wall: the instance's own, for the case that the first one has a hole.

use gateway_tests::{error::Result, openclaw::dial_as, secret};
use serde_json::json;

use crate::people::{Two, agent_of};

pub(crate) async fn tried(two: &Two) -> Result<()> {
    let (canary, agent, session) = (&two.hers.canary, &two.hers.agent, &two.hers.session);
    // As bob, and past the gateway.
    let (mut bob, hello) = dial_as(&two.kit.openclaw, &two.name).await?;
    assert_eq!(
        hello["auth"]["scopes"],
        json!(["operator.read", "operator.write"])
    );
    bob.call("sessions.subscribe", json!({})).await?;
    let key = secret::random()?;
    let never = &two.never;
    let send = json!({"sessionKey": session, "message": never, "idempotencyKey": key});
    let elsewhere = json!({"sessionKey": format!("agent:{agent}:bobs"), "message": never, "idempotencyKey": key});
    for (method, params) in [
        ("chat.send", send),
        ("chat.send", elsewhere),
        (
            "sessions.create",
            json!({"agentId": agent, "label": "stolen"}),
        ),
        ("sessions.patch", json!({"key": session, "label": "stolen"})),
        ("sessions.messages.subscribe", json!({"key": session})),
        ("chat.abort", json!({"sessionKey": session})),
        ("users.setRole", json!({"profileId": "x", "role": "nobody"})),
    ] {
        let refused = bob.request(method, params).await?;
        assert_eq!(refused["ok"], false, "{method}: {refused}");
    }
    for (method, params) in [
        ("chat.history", json!({"sessionKey": session})),
        ("sessions.describe", json!({"key": session})),
        ("sessions.list", json!({"agentId": agent})),
        ("sessions.list", json!({})),
    ] {
        let answer = bob.request(method, params).await?;
        assert!(
            !answer.to_string().contains(&format!("{canary} ")),
            "{method}: {answer}"
        );
        assert!(
            !answer.to_string().contains(&two.hers.session_id),
            "{method}: {answer}"
        );
    }
    // What happens to her now is not told him.
    let own = agent_of(&two.bob);
    let last = bob.start("models.list", json!({"agentId": own})).await?;
    let told = bob
        .collect_until(|frame| frame["id"] == last.as_str())
        .await?;
    let told: Vec<_> = told
        .iter()
        .filter(|frame| frame["event"] != "presence")
        .collect();
    assert!(!format!("{told:?}").contains(canary.as_str()), "{told:?}");

    // Somebody without a slot may nothing at all.
    let stranger = format!("stranger-{canary}");
    let (mut stranger, hello) = dial_as(&two.kit.openclaw, &stranger).await?;
    assert_eq!(hello["auth"]["scopes"], json!([]));
    let refused = stranger.request("sessions.list", json!({})).await?;
    assert_eq!(refused["ok"], false, "{refused}");
    Ok(())
}

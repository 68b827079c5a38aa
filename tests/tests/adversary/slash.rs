//! Every slash command, in every spelling, with what is hers behind it.

use gateway::protocol::slash::{COMMANDS, Verdict};
use gateway_tests::{error::Result, person::send_params};
use serde_json::json;

use crate::{
    frames::{Attempt, Expect, send},
    people::Two,
};

/// Commands that pass and begin no turn of the model, so that what they say is asked for one after the other.
const QUICK: [&str; 12] = [
    "status", "models", "model", "usage", "tools", "help", "commands", "whoami", "tasks", "name",
    "skill", "queue",
];

pub(crate) async fn tried(two: &mut Two) -> Result<()> {
    let never = two.never.clone();
    let session = two.hers.session.clone();
    let mut attempts = Vec::new();
    for command in COMMANDS {
        if !matches!(command.verdict, Verdict::Refuse(_)) {
            continue;
        }
        for name in command.names {
            let upper = name.to_uppercase();
            for message in [
                format!("/{name}"),
                format!("/{name} {never}"),
                format!(" \n/{upper}: {session} {never}"),
                format!("/{name}@bot {never}"),
                format!("[x] /{name} {session} {never}"),
                format!("\u{feff}/{name}\u{a0}{never}"),
                format!("\u{1}/{name}\n{never}"),
            ] {
                refused(&message, &mut attempts)?;
            }
        }
    }
    for message in [
        format!("{never} /exec security=full ask=off"),
        format!("{never}\n/elevated full"),
        format!("{never} /model status"),
        format!("/model {}-openai/test-small -g", two.hers.agent),
        format!("!cat {never}"),
        format!("/future {never}"),
    ] {
        refused(&message, &mut attempts)?;
    }
    two.say(&format!("{} frames with commands", attempts.len()));
    assert_eq!(send(two, &attempts).await?, attempts.len());
    // What passes tells and does what is his own.
    let agent = &two.hers.agent;
    let messages = [
        format!("/model {agent}-openai/test-small"),
        format!("/models {agent}-openai"),
        format!("/skill {agent}"),
        format!("/name {agent}"),
    ];
    for message in messages
        .into_iter()
        .chain(QUICK.map(|name| format!("/{name}")))
    {
        let turn = two.bob.turn(&message).await?;
        assert_eq!(turn.state, "final", "{message}: {}", turn.text);
    }
    let described = two.bob.ws.call("sessions.describe", json!({})).await?;
    let model = described["session"]["modelProvider"].to_string()
        + &described["session"]["model"].to_string();
    assert!(!model.contains(agent.as_str()), "{described}");
    two.nothing_was_heard();
    Ok(())
}

/// Wherever a message may be.
fn refused(message: &str, attempts: &mut Vec<Attempt>) -> Result<()> {
    let create = json!({"label": "stolen", "message": message});
    for (method, params) in [
        ("chat.send", send_params(message)?),
        ("sessions.create", create),
    ] {
        attempts.push(Attempt {
            method: method.to_owned(),
            params: params.to_string(),
            expect: Expect::Command,
        });
    }
    Ok(())
}

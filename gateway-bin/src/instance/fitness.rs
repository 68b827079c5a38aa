//! Whether an instance's own configuration is as it must be: one whose is not gets nobody.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::admin::{Admin, AdminError};
use super::requirements::{advice, unmet_requirements};
use super::sandbox::Sandbox;
use crate::config::Instance;

/// Pause before an instance that did not say how it is configured is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// Said of an instance whose `chat.send` is that of every OpenClaw.
const EXTENDED: &str = "its chat.send refuses workspaceDir and authProfileId, as that of every OpenClaw that was not patched: \
                        patch it, or remove `extended_chat_params` from this instance in gateway.toml";

/// What is known of an instance's configuration; clones share it.
#[derive(Clone, Debug)]
pub struct Fitness {
    /// `None`: it has not said yet how it is configured.
    looked: watch::Receiver<Option<Looked>>,
}

/// What was found in an instance's configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Looked {
    /// What must be changed, a sentence each.
    pub(crate) unmet: Vec<String>,
    /// What had better be.
    pub(crate) advice: Vec<String>,
    /// Where tools of those who require a sandbox run.
    pub(crate) sandbox: Option<Sandbox>,
}

// === impl Fitness ===

impl Fitness {
    /// Looks at the configuration whenever the administration channel was opened, in the returned task.
    pub(super) fn watch(
        admin: Admin,
        instance: Instance,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (known, looked) = watch::channel(None);
        let watch = async move {
            loop {
                admin.connected().await;
                let openings = admin.openings();
                let looked = ask(&admin, &instance).await;
                let Looked { unmet, advice, .. } = &looked;
                let name = &*instance.name;
                match unmet.is_empty() {
                    true => info!(instance = name, "instance is configured as it must be"),
                    false => error!(
                        instance = name,
                        "nobody is sent to this instance until its openclaw.json is changed: {}",
                        unmet.join("; ")
                    ),
                }
                for sentence in advice {
                    warn!(
                        instance = name,
                        "its openclaw.json had better be changed: {sentence}"
                    );
                }
                let _ = known.send(Some(looked));
                admin.opened_after(openings).await;
            }
        };
        (Self { looked }, watch)
    }

    /// Whether it is known to be as it must be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let looked = self.looked.borrow();
        looked
            .as_ref()
            .is_some_and(|looked| looked.unmet.is_empty())
    }

    /// What must be changed, a sentence each, as far as it is known.
    #[must_use]
    pub fn unmet(&self) -> Vec<String> {
        let looked = self.looked.borrow();
        looked
            .as_ref()
            .map(|looked| looked.unmet.clone())
            .unwrap_or_default()
    }

    /// Where tools of those who require a sandbox run, as far as it is known.
    #[must_use]
    pub fn sandbox(&self) -> Option<Sandbox> {
        self.looked.borrow().as_ref()?.sandbox.clone()
    }

    /// Whether it is known not to be as it must be.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        let looked = self.looked.borrow();
        looked
            .as_ref()
            .is_some_and(|looked| !looked.unmet.is_empty())
    }

    /// What must be changed, a sentence each, once it is known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does nothing.
    pub async fn known(&self) -> Vec<String> {
        let mut looked = self.looked.clone();
        let known = looked.wait_for(Option::is_some).await;
        let known = known.map(|known| known.clone().unwrap_or_default());
        match known {
            Ok(known) => known.unmet,
            // It is removed.
            Err(_) => std::future::pending().await,
        }
    }
}

/// What there is in the instance's configuration, once it answers.
pub(crate) async fn ask(admin: &Admin, instance: &Instance) -> Looked {
    loop {
        admin.connected().await;
        if let Ok(answer) = admin.call("config.get", json!({})).await {
            let actual = answer.get("config").unwrap_or(&Value::Null);
            let mut unmet = unmet_requirements(actual, instance);
            if instance.extended_chat_params && refuses_extended_chat_params(admin).await {
                unmet.push(EXTENDED.to_owned());
            }
            let mut advice = advice(actual, instance);
            let sandbox = Sandbox::of(actual, instance).unwrap_or_else(|missing| {
                advice.push(missing);
                None
            });
            return Looked {
                unmet,
                advice,
                sandbox,
            };
        }
        sleep(RETRY).await;
    }
}

/// Whether `chat.send` knows nothing of these parameters: asked by a message without a text, so that nothing begins whatever the
/// answer is.
async fn refuses_extended_chat_params(admin: &Admin) -> bool {
    let params = json!({
        "sessionKey": "agent:main:main", "agentId": "main", "workspaceDir": "", "authProfileId": "",
    });
    match admin.call("chat.send", params).await {
        Err(AdminError::Refused { message, .. } | AdminError::Invalid { message }) => {
            message.contains("unexpected property")
        }
        // It is asked again when it is there again.
        Ok(_) | Err(AdminError::Down) => false,
    }
}

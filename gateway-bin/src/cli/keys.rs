//! `gateway keys …`: the master keys under which people's own provider keys are sealed, on the gateway's own host.

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;

use super::operate::{OperateError, Reach, print, read};
use crate::operator::OperatorClient;

/// Looks after master keys, at a gateway that runs on this host.
#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Seal people's own provider keys anew, under the first master key.
    ///
    /// Put the new master key below the old ones at every gateway, and send them SIGHUP; move it to the top, and send
    /// SIGHUP again; then rotate. After that the old ones are not needed any more.
    #[command(after_help = "Example: kill -HUP $(pidof gateway) && gateway keys rotate")]
    Rotate,
}

#[derive(Debug, Deserialize)]
struct Rotated {
    resealed: u64,
    lost: u64,
}

// === impl Keys ===

impl Keys {
    /// Does it, and prints how many there were.
    pub(super) async fn run(self) -> Result<(), OperateError> {
        let client = OperatorClient::new(self.reach.socket()?);
        match self.what {
            What::Rotate => {
                let path = "/api/admin/provider-keys/reseal";
                let answer = client.request(Method::POST, path, None).await?;
                print(self.reach.json, answer, |answer| {
                    let Rotated { resealed, lost } = read(answer)?;
                    let mut shown = format!("{resealed} keys sealed anew\n");
                    if lost > 0 {
                        shown += &format!(
                            "{lost} cannot be opened, and are named in the log: their users have to put them again\n"
                        );
                    }
                    Ok(shown)
                })
            }
        }
    }
}

//! `gateway usage …`: what people have used, on the gateway's own host.

mod of_whom;
mod reconcile;
mod records;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;

use self::reconcile::Reconcile;
use self::records::{Export, Records};
use self::show::Show;
use super::operate::{OperateError, Reach, print, read};
use crate::operator::OperatorClient;

/// Shows what people have used, at a gateway that runs on this host.
#[derive(Debug, Args)]
pub(super) struct Usage {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What somebody has used, or everybody, added up.
    #[command(
        after_help = "Examples:\n  gateway usage show --by user --from 2026-11-01\n  gateway usage show alice --by model"
    )]
    Show(Show),
    /// The records of somebody, or of everybody, the latest first.
    #[command(after_help = "Example: gateway usage records alice --from 2026-11-01")]
    Records(Records),
    /// Write all records of somebody, or of everybody, to a file, the first ones first.
    #[command(
        after_help = "Example: gateway usage export --from 2026-11-01 --to 2026-11-30 --output november.csv"
    )]
    Export(Export),
    /// Price what this gateway has recorded without a price, by the prices that it has read last; what has a price keeps
    /// it. Each of several gateways has records of its own.
    #[command(after_help = "Example: kill -HUP $(pidof gateway) && gateway usage reprice")]
    Reprice,
    /// Compare the ledger with what the instance says itself, user by user; exit with 1 if they differ.
    #[command(after_help = reconcile::HELP)]
    Reconcile(Reconcile),
}

#[derive(Debug, serde::Deserialize)]
struct Repriced {
    records: u64,
    cost: String,
    unpriced: u64,
    unsettled: u64,
    uncounted: u64,
}

/// How long a ledger may take to be gone through.
const TIME: Duration = Duration::from_secs(600);

// === impl Usage ===

impl Usage {
    /// Does it, prints what is asked for, and says how the process ends.
    pub(super) async fn run(self) -> Result<ExitCode, OperateError> {
        let client = OperatorClient::new(self.reach.socket()?).within(TIME);
        match self.what {
            What::Show(show) => show.run(&client, self.reach.json).await?,
            What::Records(records) => records.run(&client, self.reach.json).await?,
            What::Export(export) => export.run(&client, self.reach.json).await?,
            What::Reconcile(reconcile) => return reconcile.run(&client, self.reach.json).await,
            What::Reprice => {
                let path = "/api/admin/usage/reprice";
                let answer = client.request(Method::POST, path, None).await?;
                print(self.reach.json, answer, |answer| {
                    read(answer).map(|repriced: Repriced| repriced.shown())
                })?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

// === impl Repriced ===

impl Repriced {
    fn shown(&self) -> String {
        let mut shown = format!("{} records priced, ${}\n", self.records, self.cost);
        for (count, what) in [
            (self.unpriced, "have no price still"),
            (self.unsettled, "are not settled yet; ask again"),
            (self.uncounted, "are priced, but quotas do not know"),
        ] {
            if count > 0 {
                shown += &format!("{count} {what}\n");
            }
        }
        shown
    }
}

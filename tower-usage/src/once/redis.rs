use std::time::Duration;

use fred::{
    clients::Client,
    error::Error,
    interfaces::ClientLike as _,
    types::{
        Builder,
        config::{Config, ReconnectPolicy},
        scripts::Script,
    },
};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{Claim, ClaimsError, MOST, WITHIN};
use crate::RecordId;

/// The answers that were paid for, in Redis: a hash for each id that a provider gave.
///
/// | field | what |
/// | --- | --- |
/// | `owner` | digest of the user and the request that it was given to, or `many` |
/// | `<name>` | the first record of the answer of that name |
/// | `<name>:claims` | how many claims of it there were |
pub(super) struct Answers {
    client: Client,
    claim: Script,
}

/// How long the first connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer is remembered, in milliseconds.
const REMEMBERED: &str = "604800000";

/// What `many` stands for stays small: an id with more names than these is none.
const CLAIM: &str = "
local key, owner, name, record = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local most, remembered = tonumber(ARGV[4]), ARGV[5]
local before = redis.call('HGET', key, 'owner')
if before == 'many' then return '' end
if before and before ~= owner or redis.call('HLEN', key) > 64 then
    redis.call('DEL', key)
    redis.call('HSET', key, 'owner', 'many')
    redis.call('PEXPIRE', key, remembered)
    return ''
end
redis.call('HSET', key, 'owner', owner)
redis.call('HSETNX', key, name, record)
redis.call('PEXPIRE', key, remembered)
if redis.call('HINCRBY', key, name .. ':claims', 1) > most then return '' end
return redis.call('HGET', key, name)";

// === impl Answers ===

impl Answers {
    pub(super) async fn connect(url: &str) -> Result<Self, ClaimsError> {
        // The URL may hold a password, so what is wrong with it is not said in its own words.
        let config =
            Config::from_url(url).map_err(|_| ClaimsError("the URL is not Redis's".to_owned()))?;
        let failed = |error: Error| ClaimsError(error.to_string());
        let client = Builder::from_config(config)
            .with_performance_config(|config| config.default_command_timeout = WITHIN)
            .with_connection_config(|config| config.connection_timeout = WITHIN)
            .set_policy(ReconnectPolicy::new_exponential(0, 50, 2_000, 2))
            .build()
            .map_err(failed)?;
        match timeout(CONNECT, client.init()).await {
            Ok(connected) => drop(connected.map_err(failed)?),
            Err(_) => return Err(ClaimsError("it did not answer within 5 s".to_owned())),
        }
        Ok(Self {
            client,
            claim: Script::from_lua(CLAIM),
        })
    }

    pub(super) async fn first(&self, claim: &Claim<'_>) -> Result<Option<RecordId>, ClaimsError> {
        let key = format!("usage:answer:{}", digest(claim.response_id));
        let owner = digest(&format!("{:?} {:?}", claim.user, claim.key));
        let arguments = [
            owner,
            digest(&claim.name),
            claim.record.to_string(),
            MOST.to_string(),
            REMEMBERED.to_owned(),
        ];
        let asked = self.claim.evalsha_with_reload::<String, _, _>(
            &self.client,
            vec![key],
            arguments.to_vec(),
        );
        let first = match timeout(WITHIN, asked).await {
            Ok(first) => first.map_err(|error| ClaimsError(error.to_string()))?,
            Err(_) => return Err(ClaimsError("it does not answer".to_owned())),
        };
        if first.is_empty() {
            return Ok(None);
        }
        let first = first.parse();
        first
            .map(Some)
            .map_err(|_| ClaimsError("it holds what is no record's id".to_owned()))
    }
}

/// Half of a SHA-256 in hexadecimal digits: what people named is nobody's to read there.
fn digest(text: &str) -> String {
    let digest = Sha256::digest(text);
    let half = digest.first_chunk().copied().unwrap_or_default();
    format!("{:032x}", u128::from_be_bytes(half))
}

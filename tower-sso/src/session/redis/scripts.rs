use fred::types::scripts::Script;

/// Each is for one key.
pub(super) struct Scripts {
    pub(super) insert: Script,
    pub(super) find: Script,
    pub(super) touch: Script,
    pub(super) replace: Script,
    pub(super) lease: Script,
    pub(super) release: Script,
    pub(super) remove: Script,
    pub(super) index: Script,
    pub(super) indexed: Script,
    pub(super) forget: Script,
    pub(super) tell: Script,
    pub(super) told: Script,
    pub(super) disable: Script,
    pub(super) disabled: Script,
    pub(super) claim: Script,
}

/// The members of a record, in the order in which scripts take and give them.
const FIELDS: &str =
    "'kind','user','provider','subject','sid','created','seen','expires','version','data'";

// === impl Scripts ===

impl Scripts {
    pub(super) fn new() -> Self {
        let now =
            "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000);";
        Self {
            // The client asks again if it loses the connection: what it has put there itself is no other's.
            insert: Script::from_lua(format!(
                "local is = redis.call('HMGET', KEYS[1], 'user', 'data');
                 if is[1] then return is[1] == ARGV[2] and is[2] == ARGV[10] and 1 or 0 end;
                 local fields = {{{FIELDS}}};
                 for i, field in ipairs(fields) do redis.call('HSET', KEYS[1], field, ARGV[i]) end;
                 redis.call('PEXPIREAT', KEYS[1], ARGV[8]);
                 return 1"
            )),
            find: Script::from_lua(format!("return redis.call('HMGET', KEYS[1], {FIELDS})")),
            touch: Script::from_lua(
                "local is = redis.call('HMGET', KEYS[1], 'seen', 'expires');
                 if not is[1] then return 0 end;
                 if tonumber(ARGV[1]) > tonumber(is[1]) then redis.call('HSET', KEYS[1], 'seen', ARGV[1]) end;
                 if tonumber(ARGV[2]) > tonumber(is[2]) then
                     redis.call('HSET', KEYS[1], 'expires', ARGV[2]);
                     redis.call('PEXPIREAT', KEYS[1], ARGV[2])
                 end;
                 return 1",
            ),
            replace: Script::from_lua(
                "if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end;
                 redis.call('HSET', KEYS[1], 'version', ARGV[2], 'data', ARGV[3]);
                 redis.call('HDEL', KEYS[1], 'lease', 'until');
                 return 1",
            ),
            lease: Script::from_lua(format!(
                "{now} if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end;
                 local is = redis.call('HMGET', KEYS[1], 'lease', 'until');
                 if is[1] and is[1] ~= ARGV[1] and tonumber(is[2]) > now then return 0 end;
                 redis.call('HSET', KEYS[1], 'lease', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]));
                 if is[1] and is[1] ~= ARGV[1] then return 2 end;
                 return 1"
            )),
            release: Script::from_lua(
                "if redis.call('HGET', KEYS[1], 'lease') == ARGV[1] then
                     redis.call('HDEL', KEYS[1], 'lease', 'until')
                 end;
                 return 1",
            ),
            // Only what is what it was listed as: pairs of member and value. Gives what names its indexes.
            remove: Script::from_lua(
                "local is = redis.call('HMGET', KEYS[1], 'user', 'provider', 'subject', 'sid', 'created');
                 if not is[1] then return {'gone'} end;
                 for i = 1, #ARGV, 2 do
                     if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then return {'other'} end
                 end;
                 redis.call('DEL', KEYS[1]);
                 return {'removed', is[1], is[2], is[3], is[4], is[5]}",
            ),
            index: Script::from_lua(format!(
                "{now} redis.call('ZADD', KEYS[1], 'GT', ARGV[1], ARGV[2]);
                 redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now);
                 local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES');
                 if last[2] then redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last[2])) end;
                 return 1"
            )),
            indexed: Script::from_lua(format!(
                "{now} return redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')"
            )),
            forget: Script::from_lua(
                "for _, entry in ipairs(ARGV) do redis.call('ZREM', KEYS[1], entry) end;
                 return 1",
            ),
            tell: Script::from_lua(format!(
                "{now} redis.call('ZADD', KEYS[1], now, ARGV[1]);
                 redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2]);
                 return 1"
            )),
            told: Script::from_lua(format!(
                "{now} return redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[1], '+inf')"
            )),
            disable: Script::from_lua("return redis.call(ARGV[1], KEYS[1], ARGV[2])"),
            disabled: Script::from_lua("return redis.call('SMEMBERS', KEYS[1])"),
            // The same of a claim.
            claim: Script::from_lua(
                "if redis.call('SET', KEYS[1], ARGV[2], 'NX', 'PXAT', ARGV[1]) then return 1 end;
                 if redis.call('GET', KEYS[1]) == ARGV[2] then return 1 end;
                 return 0",
            ),
        }
    }
}

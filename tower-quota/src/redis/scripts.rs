use fred::types::scripts::Script;

/// What the server is asked to do, each in one step.
pub(super) struct Scripts {
    pub(super) reserve: Script,
    pub(super) settle: Script,
    pub(super) release: Script,
    pub(super) renew: Script,
    pub(super) count: Script,
    pub(super) hold: Script,
    pub(super) standings: Script,
    pub(super) terms: Script,
    pub(super) set_terms: Script,
}

// === impl Scripts ===

impl Scripts {
    pub(super) fn new() -> Self {
        macro_rules! decision {
            ($name:literal) => {
                Script::from_lua(concat!(
                    include_str!("lua/common.lua"),
                    include_str!(concat!("lua/", $name, ".lua"))
                ))
            };
        }
        Self {
            reserve: decision!("reserve"),
            settle: decision!("settle"),
            release: decision!("release"),
            renew: decision!("renew"),
            count: decision!("count"),
            hold: decision!("hold"),
            standings: decision!("standings"),
            terms: decision!("terms"),
            set_terms: decision!("set_terms"),
        }
    }
}

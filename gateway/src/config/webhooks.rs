//! `[webhooks]`: where Kiln may send word of builds, how often it tries, and what it signs with.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use serde::Deserialize;

use super::time;

/// Word of builds to their owners' receivers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    /// Networks that receivers may be in beside the public ones.
    pub allow_networks: Vec<IpNet>,
    /// Permits receivers without TLS.
    pub plain_http: bool,
    /// The key for whoever brings none, `whsec_…`, or the new and the old one, a line each; read for every message.
    pub secret_file: Option<PathBuf>,
    /// The same for single users, before `secret_file`.
    pub user_secret_files: BTreeMap<String, PathBuf>,
    /// How often a message is tried.
    pub attempts: NonZeroU32,
    /// How long one attempt may take.
    #[serde(deserialize_with = "time::duration")]
    pub timeout: Duration,
    /// The pause after the first attempt; each further one is four times as long.
    #[serde(deserialize_with = "time::duration")]
    pub backoff: Duration,
    /// The longest pause.
    #[serde(deserialize_with = "time::duration")]
    pub backoff_at_most: Duration,
    /// Attempts at once.
    pub at_once: NonZeroUsize,
    /// Attempts at once for one owner.
    pub at_once_per_owner: NonZeroU32,
    /// A proxy for all of them; names are then resolved there, and it keeps the rule for their addresses.
    pub proxy: Option<String>,
}

impl Default for Webhooks {
    fn default() -> Self {
        const ATTEMPTS: NonZeroU32 = NonZeroU32::new(9).unwrap();
        const AT_ONCE: NonZeroUsize = NonZeroUsize::new(64).unwrap();
        const OF_ONE: NonZeroU32 = NonZeroU32::new(4).unwrap();
        Self {
            allow_networks: Vec::new(),
            plain_http: false,
            secret_file: None,
            user_secret_files: BTreeMap::new(),
            // Five seconds to an hour: about four hours in all, a receiver's bad morning.
            attempts: ATTEMPTS,
            timeout: Duration::from_secs(15),
            backoff: Duration::from_secs(5),
            backoff_at_most: Duration::from_secs(3600),
            at_once: AT_ONCE,
            at_once_per_owner: OF_ONE,
            proxy: None,
        }
    }
}

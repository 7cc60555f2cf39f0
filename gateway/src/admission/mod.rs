//! Who is let in how often, and how many at once: the bounds of `[limits]` that change while Kiln runs.

mod body;
mod linger;
mod pace;
mod unproved;

use std::{
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use kiln_auth::{Attempts, PerKey, Places, Questions, TrustedProxies, UserName};

use crate::config::Limits;

pub use body::{BodyDeadline, BodyLate};
pub use linger::Linger;
pub use pace::{TooSlow, paced};
pub use unproved::{TooMuch, Unproved, UnprovedBytes};

/// What a route costs; each class has a rate, a body and places of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// Asks for a build.
    Submit,
    /// A question, or a word about builds that are there.
    Read,
    /// An answer that goes on while a build does.
    Stream,
    /// An archive to be built, and the answer once it is.
    Archive,
}

/// The bounds, as they are now.
#[derive(Clone, Debug)]
pub struct Admission {
    proxies: Arc<RwLock<TrustedProxies>>,
    /// Whether it was said, since the bounds were read, that nobody's word about addresses is believed.
    said: Arc<AtomicBool>,
    /// Failed attempts to prove who calls, by address.
    pub attempts: Arc<Attempts>,
    /// Callers whom a provider is being asked about.
    pub lookups: Questions,
    /// Archives on their way to disk.
    pub archives: Places,
    /// Those of one address: whose they are isn't proved before their end.
    pub archives_of: Places<IpAddr>,
    /// Their bytes.
    pub unproved: UnprovedBytes,
    submits: Arc<PerKey<UserName>>,
    reads: Arc<PerKey<UserName>>,
    streams: Arc<PerKey<UserName>>,
    requests_at_once: InFlightBounds,
    streams_at_once: InFlightBounds,
}

/// How many at once: in all, and of one owner.
#[derive(Clone, Debug)]
pub struct InFlightBounds {
    /// In all.
    pub all: Places,
    /// Of one owner.
    pub owner: Places<UserName>,
}

impl Class {
    /// The longest body, in bytes. Of a door that takes requirements files: 10 million characters of
    /// base64 and what JSON adds around them. An archive's is its door's own setting.
    #[must_use]
    pub fn body_at_most(self) -> usize {
        match self {
            Self::Submit => 16 << 20,
            Self::Read | Self::Stream => 64 << 10,
            Self::Archive => usize::MAX,
        }
    }

    /// How long the body may take: the longest one takes 45 s at 3 Mbit/s, and an archive of 300 MB
    /// 15 minutes.
    #[must_use]
    pub fn body_within(self) -> Duration {
        match self {
            Self::Submit => Duration::from_secs(45),
            Self::Read | Self::Stream => Duration::from_secs(10),
            Self::Archive => Duration::from_secs(15 * 60),
        }
    }
}

impl Admission {
    /// The bounds that configuration names.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let rates = &limits.rates;
        let at_once = |all, owner| InFlightBounds { all: Places::new(all), owner: Places::new(owner) };
        Self {
            proxies: Arc::new(RwLock::new(limits.trusted_proxies.clone())),
            said: Arc::default(),
            attempts: Arc::new(Attempts::new(rates.failures)),
            lookups: Questions::new(limits.lookups, limits.lookups_per_address),
            archives: Places::new(limits.archives),
            archives_of: Places::new(limits.archives_per_address),
            unproved: UnprovedBytes::new(limits),
            submits: Arc::new(PerKey::new("submit", rates.submit)),
            reads: Arc::new(PerKey::new("read", rates.read)),
            streams: Arc::new(PerKey::new("stream", rates.stream)),
            requests_at_once: at_once(limits.requests, limits.requests_per_owner),
            streams_at_once: at_once(limits.streams, limits.streams_per_owner),
        }
    }

    /// Other bounds from now on; who is in stays in.
    pub fn apply(&self, limits: &Limits) {
        let rates = &limits.rates;
        *self.proxies.write().unwrap_or_else(PoisonError::into_inner) = limits.trusted_proxies.clone();
        self.said.store(false, Ordering::Relaxed);
        self.attempts.set(rates.failures);
        self.lookups.set(limits.lookups, limits.lookups_per_address);
        self.archives.set(limits.archives);
        self.archives_of.set(limits.archives_per_address);
        self.unproved.set(limits);
        self.submits.set(rates.submit);
        self.reads.set(rates.read);
        self.streams.set(rates.stream);
        self.requests_at_once.set(limits.requests, limits.requests_per_owner);
        self.streams_at_once.set(limits.streams, limits.streams_per_owner);
    }

    /// How often a user may call routes of this class.
    #[must_use]
    pub fn rates(&self, class: Class) -> Arc<PerKey<UserName>> {
        Arc::clone(match class {
            Class::Submit | Class::Archive => &self.submits,
            Class::Read => &self.reads,
            Class::Stream => &self.streams,
        })
    }

    /// How many requests of this class may be under way. Streams are counted apart: those who follow
    /// their builds for an hour, or wait for them, take no place from those who ask a question.
    #[must_use]
    pub fn at_once(&self, class: Class) -> &InFlightBounds {
        match class {
            Class::Submit | Class::Read => &self.requests_at_once,
            Class::Stream | Class::Archive => &self.streams_at_once,
        }
    }

    /// Who is counted for connections from this peer; nobody for a trusted proxy.
    #[must_use]
    pub fn crowd(&self, peer: IpAddr) -> Option<IpAddr> {
        self.proxies.read().unwrap_or_else(PoisonError::into_inner).crowd(peer)
    }

    /// The address that a request comes from.
    #[must_use]
    pub fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let proxies = self.proxies.read().unwrap_or_else(PoisonError::into_inner);
        let said = self.said.load(Ordering::Relaxed);
        if !said && proxies.disbelieve(headers) && !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %peer,
                "a request says for whom it was passed on, and nobody is believed; if {peer} is a proxy of yours, \
                 all who come through it are limited as one caller until limits.trusted_proxies names it"
            );
        }
        proxies.resolve(peer, headers)
    }
}

impl InFlightBounds {
    fn set(&self, all: usize, owner: usize) {
        self.all.set(all);
        self.owner.set(owner);
    }
}

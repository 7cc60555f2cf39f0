//! How many questions are put to identity providers at once: to each of them, and for callers of one address.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use crate::{
    Origin,
    address::network,
    in_flight::{Place, Places},
};

/// Places for questions that are under way. Each provider has its own, so that one that hangs takes
/// none from the others, and an address, IPv6 by /64, has a part of each provider's.
#[derive(Clone, Debug)]
pub struct Questions {
    providers: Places<Arc<str>>,
    addresses: Places<(Arc<str>, IpAddr)>,
}

/// On whose behalf a provider is asked.
#[derive(Clone, Debug)]
pub struct Asker(Option<(Questions, IpAddr)>);

/// A question that is under way; ends when dropped.
#[derive(Debug)]
pub(crate) struct Question {
    _of_address: Place<(Arc<str>, IpAddr)>,
    _of_provider: Place<Arc<str>>,
}

impl Questions {
    /// So many at once to each provider, and of those so many for one address.
    #[must_use]
    pub fn new(most: usize, most_of_address: usize) -> Self {
        Self { providers: Places::new(most), addresses: Places::new(most_of_address) }
    }

    /// Other numbers from now on; what is under way goes on.
    pub fn set(&self, most: usize, most_of_address: usize) {
        self.providers.set(most);
        self.addresses.set(most_of_address);
    }

    /// A caller at this place. Those of nowhere are one.
    pub(crate) fn of(&self, origin: Option<Origin>) -> Asker {
        let from = origin.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |origin| origin.from);
        Asker(Some((self.clone(), network(from))))
    }
}

impl Asker {
    /// The gateway itself, which has reasons of its own to ask, and bounds for them.
    pub const GATEWAY: Self = Self(None);

    /// A place for a question to this provider; `Err` where there is none.
    pub(crate) fn ask(&self, provider: &str) -> Result<Option<Question>, Full> {
        let Some((questions, from)) = &self.0 else { return Ok(None) };
        let provider: Arc<str> = provider.into();
        let of_address = questions.addresses.take((Arc::clone(&provider), *from)).ok_or(Full)?;
        let of_provider = questions.providers.take(provider).ok_or(Full)?;
        Ok(Some(Question { _of_address: of_address, _of_provider: of_provider }))
    }
}

/// There is no place.
#[derive(Debug)]
pub(crate) struct Full;

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(questions: &Questions, from: &str) -> Asker {
        questions.of(Some(Origin { from: from.parse().unwrap(), door: "test" }))
    }

    #[test]
    fn each_provider_has_its_places_and_an_address_a_part_of_them() {
        let questions = Questions::new(3, 2);
        let mut under_way = Vec::new();
        for (from, provider, has_place) in [
            ("192.0.2.1", "a", true),
            ("192.0.2.1", "a", true),
            ("192.0.2.1", "a", false),
            ("192.0.2.1", "b", true),
            ("2001:db8::1", "a", true),
            ("2001:db8::2", "a", false),
            ("192.0.2.2", "b", true),
            ("2001:db8::1", "b", true),
            ("2001:db8::2", "b", false),
        ] {
            let question = asker(&questions, from).ask(provider);
            assert_eq!(question.is_ok(), has_place, "{from} asks {provider}");
            under_way.extend(question);
        }
        assert!(Asker::GATEWAY.ask("a").is_ok());
        under_way.clear();
        assert!(asker(&questions, "192.0.2.1").ask("a").is_ok(), "places come back");
    }
}

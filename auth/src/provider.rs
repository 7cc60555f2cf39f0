//! Who can prove an identity: one provider, or several in order.

use std::{error::Error, sync::Arc};

use async_trait::async_trait;

use crate::{Asker, Credential, Identity, Operators, ScopeCheck};

/// Proves who shows a credential.
#[async_trait]
pub trait IdentityProvider: Send + Sync {
    /// A short name for logs and for [`Identity::provider`].
    fn name(&self) -> &str;

    /// Proves the identity behind a credential. Whoever asks somebody else minds how many questions the
    /// `asker` may have under way.
    ///
    /// # Errors
    /// Why it doesn't; see [`Refusal`].
    async fn identify(&self, credential: &Credential, asker: &Asker) -> Result<Identity, Refusal>;

    /// What [`identify`](Self::identify) would say, where that is known without asking anybody:
    /// out of this process's memory, at no cost to a database, a network or a signature check.
    ///
    /// `None` when somebody would have to be asked. A caller who is known already can so be let
    /// in before any limit on failed attempts is looked at, however many others fail meanwhile.
    async fn recall(&self, credential: &Credential) -> Option<Result<Identity, Refusal>>;
}

/// Why a provider proves no identity.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// The credential isn't one of this provider's; another may know it.
    #[error("no provider knows this credential")]
    NotMine,
    /// The provider knows it and doesn't let its owner in. The reason is for the log.
    #[error("{0}")]
    Rejected(&'static str),
    /// The provider can't say: nobody is let in on a guess.
    #[error("the identity provider is unavailable")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
    /// Too many questions are under way, of this caller's address or to this provider. Nobody was asked.
    #[error("too many callers wait to be proved")]
    Busy,
}

/// Providers that are asked in order: [`Refusal::NotMine`] passes on to the next, everything else
/// is the answer.
///
/// An unavailable provider ends it too: the one after it might know the same credential as
/// somebody else's.
pub struct Providers {
    providers: Vec<Arc<dyn IdentityProvider>>,
    scope_check: ScopeCheck,
    operators: Operators,
}

// === impl Refusal ===

impl Refusal {
    /// The provider can't say, because of `cause`.
    pub fn unavailable(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Arc::new(cause))
    }
}

// === impl Providers ===

impl Providers {
    /// Asks `providers` in this order, and gives their identities the scope that configuration
    /// decided on.
    #[must_use]
    pub fn new(providers: Vec<Arc<dyn IdentityProvider>>, scope_check: ScopeCheck) -> Self {
        Self { providers, scope_check, operators: Operators::default() }
    }

    /// Marks these identities as operators.
    #[must_use]
    pub fn operators(self, operators: Operators) -> Self {
        Self { operators, ..self }
    }

    /// The identity with what configuration decides about it.
    fn decided(&self, identity: Identity) -> Identity {
        let identity = if self.operators.include(&identity) { identity.into_operator() } else { identity };
        if self.scope_check == ScopeCheck::Off { identity.unbounded() } else { identity }
    }
}

#[async_trait]
impl IdentityProvider for Providers {
    fn name(&self) -> &str {
        "providers"
    }

    async fn identify(&self, credential: &Credential, asker: &Asker) -> Result<Identity, Refusal> {
        for provider in &self.providers {
            return match provider.identify(credential, asker).await {
                Err(Refusal::NotMine) => continue,
                answer => answer.map(|identity| self.decided(identity)),
            };
        }
        Err(Refusal::NotMine)
    }

    /// Goes through the providers in the same order; `None` as soon as one doesn't know, since it
    /// would be asked before those after it.
    async fn recall(&self, credential: &Credential) -> Option<Result<Identity, Refusal>> {
        for provider in &self.providers {
            match provider.recall(credential).await? {
                Err(Refusal::NotMine) => {}
                answer => return Some(answer.map(|identity| self.decided(identity))),
            }
        }
        Some(Err(Refusal::NotMine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Target, UserName};

    struct Fixed(Result<&'static str, Refusal>);

    #[async_trait]
    impl IdentityProvider for Fixed {
        fn name(&self) -> &str {
            "fixed"
        }

        async fn identify(&self, _: &Credential, _: &Asker) -> Result<Identity, Refusal> {
            self.0.clone().map(|user| Identity::new(UserName::parse(user).unwrap(), "fixed"))
        }

        async fn recall(&self, credential: &Credential) -> Option<Result<Identity, Refusal>> {
            if matches!(self.0, Ok("asked")) { None } else { Some(self.identify(credential, &Asker::GATEWAY).await) }
        }
    }

    fn providers(answers: Vec<Result<&'static str, Refusal>>, check: ScopeCheck) -> Providers {
        let providers = answers.into_iter().map(|answer| Arc::new(Fixed(answer)) as Arc<dyn IdentityProvider>);
        Providers::new(providers.collect(), check)
    }

    async fn ask(answers: Vec<Result<&'static str, Refusal>>, check: ScopeCheck) -> Result<Identity, Refusal> {
        providers(answers, check).identify(&Credential::parse(b"u:k").unwrap(), &Asker::GATEWAY).await
    }

    #[tokio::test]
    async fn what_one_would_have_to_ask_is_not_recalled_past_it() {
        for (answers, recalled) in [
            (vec![], Some(false)),
            (vec![Err(Refusal::NotMine)], Some(false)),
            (vec![Err(Refusal::NotMine), Ok("b")], Some(true)),
            (vec![Err(Refusal::Rejected("r")), Ok("b")], Some(false)),
            (vec![Ok("a"), Ok("asked")], Some(true)),
            (vec![Ok("asked"), Ok("b")], None),
            (vec![Err(Refusal::NotMine), Ok("asked"), Ok("b")], None),
        ] {
            let shown = format!("{answers:?}");
            let providers = providers(answers, ScopeCheck::Strict);
            let answer = providers.recall(&Credential::parse(b"u:k").unwrap()).await;
            assert_eq!(answer.map(|answer| answer.is_ok()), recalled, "{shown}");
        }
    }

    #[tokio::test]
    async fn only_not_mine_passes_on_to_the_next() {
        let strict = ScopeCheck::Strict;
        let down = || Err(Refusal::unavailable(std::io::Error::other("down")));
        let not_mine = || Err(Refusal::NotMine);
        assert!(matches!(ask(vec![], strict).await, Err(Refusal::NotMine)));
        assert!(matches!(ask(vec![not_mine()], strict).await, Err(Refusal::NotMine)));
        assert_eq!(ask(vec![not_mine(), Ok("b"), Ok("c")], strict).await.unwrap().user().as_str(), "b");
        assert!(matches!(ask(vec![Err(Refusal::Rejected("r")), Ok("b")], strict).await, Err(Refusal::Rejected("r"))));
        assert!(matches!(ask(vec![down(), Ok("b")], strict).await, Err(Refusal::Unavailable(_))));
    }

    #[tokio::test]
    async fn the_scope_is_what_configuration_decided() {
        let foreign = || Target::parse("other:t").unwrap();
        assert!(ask(vec![Ok("a")], ScopeCheck::Strict).await.unwrap().scope().admit(foreign()).is_err());
        assert!(ask(vec![Ok("a")], ScopeCheck::Off).await.unwrap().scope().admit(foreign()).is_ok());
    }
}

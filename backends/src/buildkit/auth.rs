//! Answers the daemon's questions about registries, through the build's own [`RegistryAuth`].

use std::sync::Arc;

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse, auth_server::Auth,
};
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};

use crate::{RegistryAuth, TokenRequest};

/// The credentials of one session.
///
/// The daemon keeps tokens for as long as they live, under the key of whoever fetched them, and
/// hands them to every session that proves to hold that key. A key for each session therefore keeps
/// one tenant's token out of another's build.
pub(super) struct Credentials {
    auth: Arc<dyn RegistryAuth>,
    seed: [u8; 32],
}

impl Credentials {
    pub(super) fn new(auth: Arc<dyn RegistryAuth>) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed)?;
        Ok(Self { auth, seed })
    }

    /// The session's key for a registry. The daemon's salt is in it, so that it changes when the
    /// daemon restarts.
    fn key(&self, host: &str, salt: &[u8]) -> Result<Ed25519KeyPair, Status> {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
        context.update(&self.seed);
        context.update(host.as_bytes());
        Ed25519KeyPair::from_seed_unchecked(context.sign().as_ref()).map_err(|_| Status::internal("no key"))
    }
}

#[tonic::async_trait]
impl Auth for Credentials {
    async fn credentials(&self, request: Request<CredentialsRequest>) -> Result<Response<CredentialsResponse>, Status> {
        let found = self.auth.basic(&request.into_inner().host).await;
        // Empty is anonymous.
        Ok(Response::new(found.map_or_else(CredentialsResponse::default, |basic| CredentialsResponse {
            username: basic.username,
            secret: basic.password.expose_secret().to_owned(),
        })))
    }

    async fn fetch_token(&self, request: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        let FetchTokenRequest { host, realm, service, scopes, .. } = request.into_inner();
        let token = self
            .auth
            .token(TokenRequest { host, realm, service, scopes })
            .await
            .map_err(|refused| Status::permission_denied(refused.to_string()))?;
        Ok(Response::new(FetchTokenResponse {
            token: token.token.expose_secret().to_owned(),
            expires_in: token.expires_in,
            issued_at: 0,
        }))
    }

    async fn get_token_authority(
        &self,
        request: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        let GetTokenAuthorityRequest { host, salt } = request.into_inner();
        let public_key = self.key(&host, &salt)?.public_key().as_ref().to_vec();
        Ok(Response::new(GetTokenAuthorityResponse { public_key }))
    }

    async fn verify_token_authority(
        &self,
        request: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        let VerifyTokenAuthorityRequest { host, payload, salt } = request.into_inner();
        // NaCl's `sign`: the signature, then what was signed.
        let mut signed = self.key(&host, &salt)?.sign(&payload).as_ref().to_vec();
        signed.extend_from_slice(&payload);
        Ok(Response::new(VerifyTokenAuthorityResponse { signed }))
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::{BasicCredential, RegistryToken, TokenRefused};

    struct Nobody;

    #[async_trait]
    impl RegistryAuth for Nobody {
        async fn basic(&self, _: &str) -> Option<BasicCredential> {
            None
        }
        async fn token(&self, request: TokenRequest) -> Result<RegistryToken, TokenRefused> {
            Err(TokenRefused { host: request.host, cause: "nobody".to_owned() })
        }
    }

    async fn public_key(of: &Credentials) -> Vec<u8> {
        let request = GetTokenAuthorityRequest { host: "r".to_owned(), salt: vec![7; 32] };
        of.get_token_authority(Request::new(request)).await.unwrap().into_inner().public_key
    }

    #[tokio::test]
    async fn a_session_proves_its_own_key_and_no_other_sessions() {
        let (one, two) = (Credentials::new(Arc::new(Nobody)).unwrap(), Credentials::new(Arc::new(Nobody)).unwrap());
        let request =
            VerifyTokenAuthorityRequest { host: "r".to_owned(), payload: b"challenge".to_vec(), salt: vec![7; 32] };
        let signed = one.verify_token_authority(Request::new(request)).await.unwrap().into_inner().signed;
        let (signature, payload) = signed.split_at(64);
        assert_eq!(payload, b"challenge");
        let verify = |key: Vec<u8>| UnparsedPublicKey::new(&ED25519, key).verify(payload, signature);
        assert!(verify(public_key(&one).await).is_ok());
        assert!(verify(public_key(&two).await).is_err());
    }

    #[tokio::test]
    async fn nobody_is_anonymous_and_a_refusal_says_why() {
        let nobody = Credentials::new(Arc::new(Nobody)).unwrap();
        let anonymous = nobody.credentials(Request::new(CredentialsRequest::default())).await.unwrap().into_inner();
        assert_eq!(anonymous, CredentialsResponse::default());
        let refused = nobody.fetch_token(Request::new(FetchTokenRequest::default())).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    }
}
